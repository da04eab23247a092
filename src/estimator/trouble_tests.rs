//! Sensors that are not well, and what is said of them.

use speedwell_wire::{EventKind, Quality};

use super::{Ailment, Wheel, WheelOptions, simulation::*};
use crate::sensor::{Edge, EdgeKind, Notice, Sensor, hall::Edges};

fn notices(wheel: &mut Wheel) -> Vec<Notice> {
    std::iter::from_fn(|| wheel.notice()).collect()
}

fn steady(teeth: u32, length: f64, rng: &mut fastrand::Rng) -> Vec<f64> {
    Cut::new(teeth, 0.0, rng).pulses(&Motion::steady(17.3), length).iter().map(|pulse| pulse.1).collect()
}

#[test]
fn a_damaged_tooth_is_told_once_and_by_its_number() {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut cut = Cut::new(48, 0.002, &mut rng);
    cut.offsets[29] += 0.06;
    let edges = stamped(cut.pulses(&Motion::swinging(15.0, 2.0, 0.03), 40.0).iter().map(|p| p.1), 5e-6, &mut rng);
    let mut wheel = Wheel::new(options(48));
    run(&mut wheel, &edges, START, START + 40.0, 0.1, |_, _, _, _| {});
    let told = notices(&mut wheel);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].kind, EventKind::ToothDamaged);
    assert!(told[0].detail.starts_with("tooth 29 from the first pulse lies +"), "{told:?}");
}

#[test]
fn even_and_uneven_wheels_have_no_damaged_tooth() {
    for off in [0.0, 0.01] {
        let mut rng = fastrand::Rng::with_seed(2);
        let cut = Cut::new(48, off, &mut rng);
        let edges = stamped(cut.pulses(&Motion::swinging(15.0, 2.0, 0.03), 40.0).iter().map(|p| p.1), 50e-6, &mut rng);
        let mut wheel = Wheel::new(options(48));
        run(&mut wheel, &edges, START, START + 40.0, 0.1, |_, _, _, _| {});
        assert_eq!(notices(&mut wheel), []);
    }
}

#[test]
fn stamps_that_grow_rough_are_told_and_taken_back_when_they_are_well_again() {
    let mut rng = fastrand::Rng::with_seed(3);
    let times = steady(48, 90.0, &mut rng);
    let rough = |t: f64| if (40.0..60.0).contains(&t) { 60e-6 } else { 3e-6 };
    let edges: Vec<Edge> =
        times.iter().enumerate().map(|(k, &t)| rising(START + t + rough(t) * normal(&mut rng), k as u32 + 1)).collect();
    let mut wheel = Wheel::new(options(48));
    let mut told = Vec::new();
    let mut fed = 0;
    for tick in 1..895 {
        let now = START + 0.1 * f64::from(tick);
        while fed < edges.len() && edges[fed].t.0 as f64 <= now * SECOND {
            wheel.on_edge(&edges[fed]);
            fed += 1;
        }
        wheel.tick(crate::clock::BootNs((now * SECOND) as u64), &mut Vec::new());
        told.extend(notices(&mut wheel).into_iter().map(|notice| (now - START, notice)));
    }
    assert_eq!(told.len(), 2, "{told:?}");
    let [(worse, fault), (better, well)] = &told[..] else { unreachable!() };
    assert!((42.0..44.0).contains(worse) && fault.kind == EventKind::SensorFault, "{told:?}");
    assert!((70.0..72.0).contains(better) && well.kind == EventKind::SensorRecovered, "{told:?}");
    assert!(fault.detail.starts_with("irregular pulses"), "{told:?}");
}

#[test]
fn of_two_edges_one_that_never_comes_is_told() {
    let mut rng = fastrand::Rng::with_seed(4);
    let edges = stamped(steady(48, 10.0, &mut rng), 1e-6, &mut rng);
    let mut wheel = Wheel::new(WheelOptions { edges: Edges::Both, ..options(48) });
    run(&mut wheel, &edges, START, START + 10.0, 0.1, |_, _, _, _| {});
    assert_eq!(wheel.ailments().collect::<Vec<_>>(), [Ailment::OneEdgeOnly]);
}

#[test]
fn a_second_line_with_a_bad_contact_is_told() {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut edges = Vec::new();
    for t in steady(48, 20.0, &mut rng) {
        for (late, line, kind) in [
            (0.0, 0, EdgeKind::Rising),
            (0.5e-3, 1, EdgeKind::Rising),
            (1.0e-3, 0, EdgeKind::Falling),
            (1.5e-3, 1, EdgeKind::Falling),
        ] {
            if line == 0 || rng.f64() > 0.02 {
                edges.push(Edge { line, kind, ..rising(START + t + late, 0) });
            }
        }
    }
    let mut wheel = Wheel::new(WheelOptions { edges: Edges::Quadrature, ..options(48) });
    run(&mut wheel, &edges, START, START + 20.0, 0.1, |_, _, _, _| {});
    assert_eq!(wheel.ailments().collect::<Vec<_>>(), [Ailment::OutOfTurn]);
}

#[test]
fn pulses_faster_than_they_can_be_stamped_are_degraded() {
    let mut rng = fastrand::Rng::with_seed(6);
    let edges = stamped(steady(48, 10.0, &mut rng), 1e-6, &mut rng);
    let mut wheel = Wheel::new(WheelOptions { trusted_rate: Some(400.0), ..options(48) });
    run(&mut wheel, &edges, START + 1.0, START + 10.0, 0.1, |_, _, _, out| {
        assert!(out.iter().all(|reading| reading.value.unwrap().quality == Quality::Degraded));
    });
    assert_eq!(wheel.ailments().collect::<Vec<_>>(), [Ailment::TooFast]);
}

#[test]
fn a_tooth_that_trembles_before_the_sensor_is_held_at_zero() {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut times: Vec<f64> = steady(48, 1.0, &mut rng);
    let moved = times.len() as i64;
    // A stop too hard to be true, two seconds of rest, two of an engine's idling, and off.
    times.extend((0..200).map(|k| 3.0 + 0.01 * f64::from(k)));
    let start = Motion::step(0.05, 3.0, 0.0, 3.0);
    let off: Vec<f64> = Cut::new(48, 0.0, &mut rng).pulses(&start, 3.0).iter().map(|pulse| pulse.1 + 6.0).collect();
    times.extend(&off);
    let edges = stamped(times, 0.0, &mut rng);
    let mut wheel = Wheel::new(WheelOptions { distance: true, ..options(48) });
    run(&mut wheel, &edges, START + 0.5, START + 9.1, 0.1, |wheel, now, _, out| {
        let t = now - START;
        let speed = out.iter().find(|reading| reading.channel == 0).and_then(|reading| reading.value.ok());
        if (1.6..6.0).contains(&t)
            && let Some(value) = speed
        {
            assert_eq!((value.value, value.quality), (0.0, Quality::Stopped), "{t}");
            assert_eq!(wheel.live(crate::clock::BootNs((now * SECOND) as u64)).unwrap().value, 0.0);
        }
        if (7.0..9.0).contains(&t) {
            let value = speed.unwrap();
            assert!((value.value - 3.0 * (t - 6.06)).abs() < 0.2 && value.quality == Quality::Good, "{t} {value:?}");
        }
    });
    // The first trembling pulse may have been a tooth; the rest were none.
    let index = wheel.newest().unwrap().index;
    assert!((moved + off.len() as i64 - index).abs() <= 3, "{index}");
}

/// A steady drive, learned; then what `spoil` makes of the pulses after 10 s. Gives the most any speed was off after
/// that, and by how many pitches the count is off.
fn spoilt(spoil: impl Fn(usize, f64, &mut Vec<f64>)) -> (f64, i64) {
    let mut rng = fastrand::Rng::with_seed(8);
    let whole = Cut::new(48, 0.01, &mut rng).pulses(&Motion::steady(17.3), 20.0);
    let mut times = Vec::new();
    let mut after = 0;
    for &(_, t) in &whole {
        if t < 10.0 {
            times.push(t);
        } else {
            spoil(after, t, &mut times);
            after += 1;
        }
    }
    let edges = stamped(times, 1e-6, &mut rng);
    let mut wheel = Wheel::new(options(48));
    let mut worst = 0.0_f64;
    run(&mut wheel, &edges, START + 9.0, START + 20.0, 0.1, |_, _, _, out| {
        for reading in out {
            worst = worst.max((reading.value.unwrap().value - 17.3).abs());
        }
    });
    (worst, wheel.newest().unwrap().index - whole.last().unwrap().0 as i64)
}

/// Seconds from one pulse to the next, in these drives.
const PITCH_S: f64 = CIRCUMFERENCE / 48.0 / 17.3;

#[test]
fn sparks_in_neighbouring_pitches_do_not_double_the_speed() {
    let (worst, off) = spoilt(|k, t, times| {
        match k {
            100 => times.push(t - 0.22 * PITCH_S),
            101 => times.push(t - 0.59 * PITCH_S),
            _ => {}
        }
        times.push(t);
    });
    assert!(worst < 0.02 && off == 0, "{worst} m/s, {off}");
}

#[test]
fn a_pulse_lost_right_after_a_spark_is_put_back() {
    let (worst, off) = spoilt(|k, t, times| {
        if k == 100 {
            times.push(t - 0.22 * PITCH_S);
        }
        if k != 101 {
            times.push(t);
        }
    });
    assert!(worst < 0.02 && off == 0, "{worst} m/s, {off}");
}

#[test]
fn a_tooth_whose_stamp_is_late_on_two_turns_costs_no_table() {
    // Where in the turns it lies decides whether the turns count as quiet.
    for tooth in 100..148 {
        let late = |k| if k == tooth || k == tooth + 48 { 80e-6 } else { 0.0 };
        let (worst, off) = spoilt(|k, t, times| times.push(t + late(k)));
        assert!(worst < 0.001 && off == 0, "{tooth}: {worst} m/s, {off}");
    }
}

#[test]
fn three_late_stamps_in_a_row_are_no_other_motion() {
    let late = [60e-6, 450e-6, 140e-6];
    let (worst, off) = spoilt(|k, t, times| {
        times.push(t + k.checked_sub(100).and_then(|k| late.get(k)).copied().unwrap_or(0.0));
    });
    assert!(worst < 0.005 && off == 0, "{worst} m/s, {off}");
}
