//! The wheel against a simulation that shares no code with it: edges from the equations of motion, and the
//! Cramer-Rao bound worked out for the very edges a reading was made of.

use proptest::prelude::*;
use speedwell_wire::Quality;

use super::*;
use crate::{
    estimator::simulation::{SECOND, START, options, rising, run, stamped as stamp},
    sensor::EdgeKind,
};

/// True times of pulses at `v0 + a t`, from t = 0, first at a phase of its own; ends when it stands or at `length`.
fn drive(v0: f64, a: f64, pitch: f64, phase: f64, length: f64) -> Vec<f64> {
    let mut times = Vec::new();
    for k in 0.. {
        let way = (k as f64 + phase) * pitch;
        let root = v0 * v0 + 2.0 * a * way;
        if root < 0.0 {
            break;
        }
        let t = 2.0 * way / (v0 + root.sqrt());
        if t > length {
            break;
        }
        times.push(t);
    }
    times
}

fn stamped(times: &[f64], sigma: f64, rng: &mut fastrand::Rng) -> Vec<Edge> {
    stamp(times.iter().copied(), sigma, rng)
}

/// The bound on the standard deviation of a speed at `t`, of edges at true times `edges`, the acceleration unknown:
/// `var >= d2 g' (X' W X)^-1 g`, X = [1, tau, tau^2/2], W = 1/(f sigma)^2, g = (0, 1, 0) at tau = 0.
fn bound(edges: &[f64], t: f64, speed: impl Fn(f64) -> f64, pitch: f64, sigma: f64, bent: bool) -> f64 {
    let mut m = [[0.0; 3]; 3];
    for &edge in edges {
        let tau = edge - t;
        let row = [1.0, tau, 0.5 * tau * tau];
        let weight = (pitch / (speed(edge) * sigma)).powi(2);
        for (i, a) in row.iter().enumerate() {
            for (j, b) in row.iter().enumerate() {
                m[i][j] += weight * a * b;
            }
        }
    }
    let variance = if bent {
        let minor = m[0][0] * m[2][2] - m[0][2] * m[2][0];
        let det = m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
            + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
        minor / det
    } else {
        m[0][0] / (m[0][0] * m[1][1] - m[0][1] * m[1][0])
    };
    pitch * variance.sqrt()
}

/// Which of the newest true edges a reading stamped `t` was made of: the window whose own `mean + S3/(2 S2)` it is.
fn window_of(edges: &[f64], t: f64) -> &[f64] {
    let last = edges[edges.len() - 1];
    let (mut n, mut x1, mut x2, mut x3) = (0.0, 0.0, 0.0, 0.0);
    let mut best = (f64::INFINITY, 2);
    for (count, edge) in edges.iter().rev().take(250).enumerate() {
        let x = edge - last;
        (n, x1, x2, x3) = (n + 1.0, x1 + x, x2 + x * x, x3 + x * x * x);
        let mean = x1 / n;
        let central2 = x2 - n * mean * mean;
        let central3 = x3 - 3.0 * mean * x2 + 2.0 * n * mean.powi(3);
        let off = (last + mean + central3 / (2.0 * central2) - t).abs();
        if count > 0 && off < best.0 {
            best = (off, count + 1);
        }
    }
    &edges[edges.len() - best.1..]
}

struct Score {
    square: f64,
    bound: f64,
    covered: usize,
    count: usize,
}

impl Score {
    fn ratio(&self) -> f64 {
        (self.square / self.bound).sqrt()
    }

    fn coverage(&self) -> f64 {
        self.covered as f64 / self.count as f64
    }
}

/// Errors of all readings of a drive against the bound.
fn score(wheel: &mut Wheel, v0: f64, a: f64, length: f64, sigma: f64, rng: &mut fastrand::Rng, total: &mut Score) {
    let pitch = wheel.pitch;
    let period = wheel.options.report.as_secs_f64();
    let times = drive(v0, a, pitch, rng.f64(), length);
    let edges = stamped(&times, sigma, rng);
    let speed = |t: f64| v0 + a * t;
    run(wheel, &edges, START + 1.0, START + length, period, |_, _, fed, out| {
        for reading in out {
            let Ok(value) = reading.value else { continue };
            assert_eq!(value.quality, Quality::Good);
            let t = reading.t.0 as f64 / SECOND - START;
            let error = value.value - speed(t);
            let window = window_of(&times[..fed], t);
            assert!(window.len() >= 4, "a window of {}", window.len());
            total.square += error * error;
            total.bound += bound(window, t, speed, pitch, sigma, a != 0.0).powi(2);
            total.covered += usize::from(error.abs() <= 1.96 * value.uncertainty);
            total.count += 1;
        }
    });
}

fn none() -> Score {
    Score { square: 0.0, bound: 0.0, covered: 0, count: 0 }
}

#[test]
fn a_steady_speed_is_measured_as_well_as_can_be_and_says_how_well() {
    for teeth in [1, 8, 48, 60] {
        for sigma in [5e-6, 50e-6] {
            let mut rng = fastrand::Rng::with_seed(u64::from(teeth));
            let mut total = none();
            // One tooth makes windows that overlap: more of them for the same certainty.
            let length = if teeth < 8 { 400.0 } else { 150.0 };
            score(&mut Wheel::new(options(teeth)), 17.3, 0.0, length, sigma, &mut rng, &mut total);
            let (ratio, coverage) = (total.ratio(), total.coverage());
            println!("{teeth:>2} teeth, {:>2.0} us: RMSE/CRLB {ratio:.3}, 95 % covers {coverage:.3}", sigma * 1e6);
            assert!(total.count > 1000, "{}", total.count);
            assert!((0.85..=1.10).contains(&ratio), "{teeth} {sigma}: {ratio}");
            assert!((0.92..=0.98).contains(&coverage), "{teeth} {sigma}: {coverage}");
        }
    }
}

#[test]
fn a_steady_acceleration_is_measured_as_well_as_can_be_at_the_readings_own_time() {
    for teeth in [8, 48, 60] {
        for sigma in [5e-6, 50e-6] {
            for (v0, a, length) in [(10.0, 3.0, 8.0), (5.0, 30.0, 2.6)] {
                let mut rng = fastrand::Rng::with_seed(u64::from(teeth) + 7);
                let mut total = none();
                for _ in 0..(if a > 10.0 { 60 } else { 15 }) {
                    score(&mut Wheel::new(options(teeth)), v0, a, length, sigma, &mut rng, &mut total);
                }
                let (ratio, coverage) = (total.ratio(), total.coverage());
                let us = sigma * 1e6;
                println!(
                    "{teeth:>2} teeth, {us:>2.0} us, {a:>2} m/s2: RMSE/CRLB {ratio:.3}, 95 % covers {coverage:.3}"
                );
                assert!((0.85..=1.10).contains(&ratio), "{teeth} {sigma} {a}: {ratio}");
            }
        }
    }
}

#[test]
fn a_stop_is_bounded_at_every_tick_and_confirmed_in_time() {
    for (teeth, limit) in [(60, 0.323), (48, 0.404), (8, 2.425), (1, 3.0)] {
        let mut wheel = Wheel::new(options(teeth));
        let pitch = wheel.pitch;
        let mut rng = fastrand::Rng::with_seed(3);
        let times = drive(10.0, -3.0, pitch, 0.4, 10.0);
        let edges = stamped(&times, 5e-6, &mut rng);
        let last_edge = *times.last().unwrap();
        let (mut stopped_at, mut newest, mut last_t) = (None, None, 0);
        run(&mut wheel, &edges, START + 0.5, START + 12.0, 0.1, |_, now, fed, out| {
            for reading in out.iter().filter(|reading| reading.channel == 0) {
                assert!(reading.t.0 > last_t && reading.t.0 as f64 <= now * SECOND);
                last_t = reading.t.0;
                newest = Some(reading.value.unwrap());
            }
            let (Some(newest), Some(last)) = (newest, fed.checked_sub(1).map(|k| edges[k].t.0 as f64 / SECOND)) else {
                return;
            };
            let age = now - 0.005 - last;
            assert!(age <= 0.0 || newest.value <= pitch / age * 1.0001, "{teeth}: {newest:?} after {age}");
            if newest.quality == Quality::Stopped {
                assert_eq!(newest.value, 0.0);
                assert!(age > limit * 0.999, "{teeth}: called standing after {age}");
                stopped_at.get_or_insert(now - START);
            }
        });
        let confirmed = stopped_at.unwrap() - last_edge;
        assert!(confirmed <= limit + 0.1 + 0.005, "{teeth}: {confirmed}");
    }
}

#[test]
fn nothing_slower_than_it_can_tell_is_called_standing_above_twice_the_limit() {
    for teeth in [8, 48] {
        let mut wheel = Wheel::new(options(teeth));
        let times = drive(0.21, 0.0, wheel.pitch, 0.3, 60.0);
        let edges = stamped(&times, 5e-6, &mut fastrand::Rng::with_seed(5));
        let mut said = 0;
        run(&mut wheel, &edges, START + 5.0, START + 60.0, 0.1, |_, _, _, out| {
            for value in out.iter().filter_map(|reading| reading.value.ok()) {
                assert_eq!(value.quality, Quality::Good, "{value:?}");
                assert!((value.value - 0.21).abs() < 0.001, "{value:?}");
                said += 1;
            }
        });
        assert!(said > 30, "{teeth}: {said}");
    }
}

#[test]
fn before_the_first_edge_it_is_silent_and_says_no_zero() {
    let mut wheel = Wheel::new(options(48));
    let mut out = Vec::new();
    for second in 1..100 {
        wheel.tick(BootNs(second * 1_000_000_000), &mut out);
    }
    assert_eq!(out.len(), 99);
    assert!(out.iter().all(|reading| reading.value == Err(NoData::Silent)));
}

#[test]
fn two_edges_are_a_speed_and_one_is_not() {
    let mut wheel = Wheel::new(options(48));
    let mut out = Vec::new();
    wheel.on_edge(&rising(START, 0));
    wheel.tick(BootNs(100_001_000_000), &mut out);
    assert_eq!(out, []);
    wheel.on_edge(&rising(START + 0.1, 0));
    wheel.tick(BootNs(100_101_000_000), &mut out);
    let value = out[0].value.unwrap();
    assert_eq!((out.len(), out[0].t), (1, BootNs(100_050_000_000)));
    assert!((value.value - wheel.pitch / 0.1).abs() < 1e-9, "{value:?}");
}

#[test]
fn after_a_standstill_the_edges_before_it_are_forgotten() {
    let mut wheel = Wheel::new(options(48));
    let mut times = drive(2.0, 0.0, wheel.pitch, 0.0, 2.0);
    let parked = times.len();
    times.extend(drive(0.0, 5.0, wheel.pitch, 0.5, 2.0).iter().map(|t| t + 30.0));
    let edges = stamped(&times, 1e-6, &mut fastrand::Rng::with_seed(1));
    run(&mut wheel, &edges, START + 1.0, START + 31.9, 0.1, |_, _, fed, out| {
        for reading in out {
            let (value, t) = (reading.value.unwrap(), reading.t.0 as f64 / SECOND - START);
            match value.quality {
                Quality::Good if fed <= parked => assert!((value.value - 2.0).abs() < 0.01, "{value:?}"),
                Quality::Good => assert!((value.value - 5.0 * (t - 30.0)).abs() < 0.05, "{t} {value:?}"),
                _ => assert!(fed == parked, "{value:?}"),
            }
        }
    });
}

#[test]
fn a_standstill_between_two_ticks_is_forgotten_too() {
    let mut wheel = Wheel::new(options(48));
    for t in drive(2.0, 0.0, wheel.pitch, 0.0, 1.0) {
        wheel.on_edge(&rising(START + t, 0));
    }
    wheel.on_edge(&rising(START + 2.0, 0));
    wheel.on_edge(&rising(START + 2.03, 0));
    let mut out = Vec::new();
    wheel.tick(BootNs(102_036_000_000), &mut out);
    assert_eq!(out[0].t, BootNs(102_015_000_000), "{out:?}");
}

/// A cruise with a fault put in; gives the largest error of the readings, and how many were degraded.
fn with_fault(teeth: u32, spoil: impl Fn(Vec<Edge>) -> Vec<Edge>) -> (f64, usize, Wheel) {
    let mut wheel = Wheel::new(WheelOptions { distance: true, ..options(teeth) });
    let times = drive(17.3, 0.0, wheel.pitch, 0.2, 60.0);
    let edges = spoil(stamped(&times, 5e-6, &mut fastrand::Rng::with_seed(11)));
    let (mut worst, mut degraded) = (0f64, 0);
    run(&mut wheel, &edges, START + 1.0, START + 60.0, 0.1, |_, _, _, out| {
        for reading in out.iter().filter(|reading| reading.channel == 0) {
            let value = reading.value.unwrap();
            // A tick that falls into a long hole says what silence means; that is not the measurement's error.
            if value.quality != Quality::Estimated {
                worst = worst.max((value.value - 17.3).abs());
            }
            degraded += usize::from(value.quality == Quality::Degraded);
        }
    });
    (worst, degraded, wheel)
}

#[test]
fn edges_the_kernel_says_it_lost_are_put_back_and_the_window_says_so() {
    for run_of in [1, 3, 20] {
        let keep = |k: usize| k < 1000 || k % 2000 >= run_of;
        let (worst, degraded, wheel) = with_fault(48, |edges| {
            edges.into_iter().enumerate().filter(|&(k, _)| keep(k)).map(|(_, edge)| edge).collect()
        });
        let counters = wheel.counters();
        assert!(worst < 0.003, "{run_of}: {worst}");
        assert_eq!(counters.lost, 12 * run_of as u64, "{counters:?}");
        assert_eq!(counters.repaired, counters.lost);
        assert!((12..=36).contains(&degraded), "{degraded}");
        // Every pulse is accounted for: the way is right to the last pitch.
        let (t, index) = wheel.newest.map(|pulse| (pulse.t, pulse.index)).unwrap();
        let until = t.0 as f64 / SECOND - START + 0.001;
        let turned = drive(17.3, 0.0, wheel.pitch, 0.2, until).len() as u64;
        assert_eq!(index + 1, turned as i64);
    }
}

#[test]
fn edges_lost_without_a_word_are_seen_by_the_phase() {
    let (worst, degraded, wheel) = with_fault(48, |edges| {
        let kept = edges.into_iter().enumerate().filter(|(k, _)| k % 500 != 250);
        kept.map(|(_, edge)| Edge { seqno: 0, line_seqno: 0, ..edge }).collect()
    });
    assert!(worst < 0.003, "{worst}");
    assert_eq!((wheel.counters().lost, wheel.counters().repaired), (0, 51), "{:?}", wheel.counters());
    assert!(degraded >= 51);
}

#[test]
fn edges_delivered_twice_are_refused() {
    let (worst, _, wheel) = with_fault(48, |edges| {
        let mut rng = fastrand::Rng::with_seed(2);
        let mut all = Vec::new();
        for edge in edges {
            all.push(edge);
            if rng.f64() < 0.015 {
                all.push(Edge { t: edge.t + Duration::from_nanos(rng.u64(2000..7000)), ..edge });
            }
        }
        for (k, edge) in all.iter_mut().enumerate() {
            (edge.seqno, edge.line_seqno) = (k as u32 + 1, k as u32 + 1);
        }
        all
    });
    let doubled = wheel.counters().rejected;
    assert!((300..500).contains(&doubled), "{doubled}");
    assert!(worst < 0.003, "{worst}");
    assert_eq!((wheel.counters().lost, wheel.counters().repaired), (0, 0));
}

#[test]
fn sparks_between_the_teeth_are_refused() {
    let (worst, _, wheel) = with_fault(48, |edges| {
        let mut rng = fastrand::Rng::with_seed(4);
        let mut all = Vec::new();
        for pair in edges.windows(2) {
            all.push(pair[0]);
            if rng.f64() < 0.004 {
                // Not so late that it could be a tooth.
                let within = pair[1].t.since(pair[0].t).mul_f64(0.02 + 0.65 * rng.f64());
                all.push(Edge { t: pair[0].t + within, ..pair[0] });
            }
        }
        all.iter().map(|edge| Edge { seqno: 0, line_seqno: 0, ..*edge }).collect()
    });
    let sparks = wheel.counters().rejected;
    assert!((60..150).contains(&sparks), "{sparks}");
    assert!(worst < 0.003, "{worst}");
}

#[test]
fn a_count_of_losses_that_the_phase_denies_cuts_the_window_and_never_makes_a_wrong_speed() {
    let (worst, _, wheel) = with_fault(48, |edges| {
        let jump = |k: usize| if k > 9000 { 7 } else { 0 };
        edges.into_iter().enumerate().map(|(k, e)| Edge { line_seqno: e.line_seqno + jump(k), ..e }).collect()
    });
    assert!(worst < 0.01, "{worst}");
    assert_eq!((wheel.counters().lost, wheel.counters().repaired), (7, 0));
}

#[test]
fn both_edges_with_an_uneven_duty_measure_as_one_polarity_does() {
    let mut wheel = Wheel::new(WheelOptions { edges: Edges::Both, ..options(8) });
    let times = drive(17.3, 0.0, wheel.pitch, 0.2, 30.0);
    let mut edges = Vec::new();
    for (k, t) in times.iter().enumerate() {
        let falling = rising(START + t + 0.3 * wheel.pitch / 17.3, 2 * k as u32 + 2);
        edges.push(rising(START + t, 2 * k as u32 + 1));
        edges.push(Edge { kind: EdgeKind::Falling, ..falling });
    }
    run(&mut wheel, &edges, START + 1.0, START + 30.0, 0.1, |_, _, _, out| {
        for reading in out {
            let value = reading.value.unwrap();
            assert!((value.value - 17.3).abs() < 1e-4 && value.quality == Quality::Good, "{value:?}");
        }
    });
    assert_eq!(wheel.counters().inputs, wheel.newest.unwrap().index as u64 + 1);
}

#[test]
fn too_fast_is_out_of_range_and_not_a_standstill() {
    for factor in [1.2, 1.9, 4.0, 10.0] {
        let mut wheel = Wheel::new(WheelOptions { max_speed: 20.0, ..options(48) });
        let edges = stamped(&drive(20.0 * factor, 0.0, wheel.pitch, 0.2, 5.0), 1e-6, &mut fastrand::Rng::with_seed(1));
        let mut said = 0;
        run(&mut wheel, &edges, START + 1.0, START + 5.0, 0.1, |_, _, _, out| {
            for reading in out {
                assert_eq!(reading.value, Err(NoData::OutOfRange), "{factor}");
                said += 1;
            }
        });
        // From twice the limit on the gate refuses edges; what is left is still too fast, or makes no sense.
        assert!(said > 30, "{factor}: {said}");
    }
}

#[test]
fn late_and_missed_ticks_still_give_the_newest_window() {
    let mut wheel = Wheel::new(options(48));
    let edges = stamped(&drive(17.3, 0.0, wheel.pitch, 0.0, 20.0), 1e-6, &mut fastrand::Rng::with_seed(1));
    run(&mut wheel, &edges, START + 1.0, START + 20.0, 3.7, |_, now, _, out| {
        let age = now - out[0].t.0 as f64 / SECOND;
        assert!(out.len() == 1 && (0.04..0.07).contains(&age), "{age} {out:?}");
    });
}

#[test]
fn ticks_between_the_report_times_say_nothing() {
    let mut wheel = Wheel::new(options(48));
    let edges = stamped(&drive(17.3, 0.0, wheel.pitch, 0.0, 11.0), 1e-6, &mut fastrand::Rng::with_seed(1));
    let mut said = 0;
    run(&mut wheel, &edges, START + 1.0, START + 11.0, 0.007, |_, _, _, out| said += out.len());
    assert!((99..=101).contains(&said), "{said}");
}

#[test]
fn ten_thousand_edges_a_second_are_measured() {
    let mut wheel = Wheel::new(WheelOptions { rotational_speed: true, distance: true, ..options(250) });
    let speed = 10_000.0 * wheel.pitch;
    let edges = stamped(&drive(speed, 0.0, wheel.pitch, 0.5, 3.0), 1e-6, &mut fastrand::Rng::with_seed(1));
    let mut last = None;
    run(&mut wheel, &edges, START + 1.0, START + 3.0, 0.1, |_, _, _, out| {
        let value = out[0].value.unwrap();
        assert!((value.value / speed - 1.0).abs() < 1e-5 && value.quality == Quality::Good, "{value:?}");
        let rpm = out[1].value.unwrap();
        assert_eq!(out[1].channel, 1);
        assert!((rpm.value / 2400.0 - 1.0).abs() < 1e-5, "{rpm:?}");
        last = out.iter().find(|reading| reading.channel == 2).copied().or(last);
    });
    let way = last.unwrap().value.unwrap().value;
    assert!((way - 2.9 * speed).abs() < speed, "{way}");
    assert_eq!(Sensor::channels(&wheel).len(), 3);
}

#[test]
fn a_calibration_is_never_better_than_its_own_uncertainty() {
    let mut wheel = Wheel::new(WheelOptions { calibration_uncertainty: 0.005, rotational_speed: true, ..options(48) });
    let edges = stamped(&drive(20.0, 0.0, wheel.pitch, 0.5, 3.0), 1e-6, &mut fastrand::Rng::with_seed(1));
    run(&mut wheel, &edges, START + 1.0, START + 3.0, 0.1, |_, _, _, out| {
        let (speed, turning) = (out[0].value.unwrap(), out[1].value.unwrap());
        assert!((speed.uncertainty - 0.1).abs() < 1e-4, "{speed:?}");
        assert!(turning.uncertainty / turning.value < 1e-4, "{turning:?}");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_edges_and_no_ticks_whatever_do_harm(
        steps in prop::collection::vec(
            (0u64..2_000_000_000, any::<bool>(), any::<u32>(), any::<u32>(), any::<bool>(), 0usize..3), 0..300),
        edges in prop_oneof![Just(Edges::Rising), Just(Edges::Falling), Just(Edges::Both), Just(Edges::Quadrature)],
        shift in 0u32..30,
        even in any::<bool>(),
        start in prop_oneof![Just(0u64), Just(u64::MAX - 5_000_000_000), Just(1u64 << 62)],
        (teeth, missing_teeth) in (1u32..20, 0u32..4),
    ) {
        let (distance, rotational_speed, direction) = (true, true, true);
        let mut wheel = Wheel::new(WheelOptions {
            edges, distance, rotational_speed, direction, missing_teeth, ..options(teeth)
        });
        let (mut now, mut out) = (start, Vec::new());
        for (step, high, seqno, line_seqno, back, line) in steps {
            // Also at a pace that looks like a wheel.
            let step = if even && step % 8 > 0 { 10_000_000 + step % 1000 } else { step >> shift };
            now = if back && !even { now.saturating_sub(step) } else { now.saturating_add(step) };
            let kind = if high { EdgeKind::Rising } else { EdgeKind::Falling };
            wheel.on_edge(&Edge { t: BootNs(now), line, kind, seqno, line_seqno });
            wheel.tick(BootNs(now), &mut out);
            if let Ok(value) = Wheel::live(&wheel, BootNs(now.saturating_add(step))) {
                prop_assert!(value.value >= 0.0 && value.uncertainty >= 0.0, "{value:?}");
            }
        }
        for pair in out.iter().filter(|r| r.channel == 0).collect::<Vec<_>>().windows(2) {
            prop_assert!(pair[0].t < pair[1].t);
        }
        for (channel, value) in out.iter().filter_map(|reading| reading.value.ok().map(|value| (reading.channel, value))) {
            prop_assert!(value.value.is_finite() && (value.value >= 0.0 || channel > 0), "{value:?}");
            prop_assert!(value.uncertainty.is_finite() && value.uncertainty >= 0.0, "{value:?}");
        }
        let kept = wheel.memory().unwrap();
        prop_assert!(Wheel::new(wheel.options).remember(&kept));
    }

    #[test]
    fn no_bytes_whatever_do_harm_as_a_memory(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..300) {
        let mut wheel = Wheel::new(options(48));
        prop_assert!(!wheel.remember(&bytes));
        let mut kept = wheel.memory().unwrap();
        let at = at % kept.len();
        kept[at] ^= 1 | bytes.first().copied().unwrap_or(1);
        prop_assert!(!wheel.remember(&kept));
        prop_assert_eq!(wheel.way(), None);
    }
}
