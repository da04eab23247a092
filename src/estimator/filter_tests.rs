//! The speed now, the way, and what late or lost stamps do to them.

use super::{Wheel, WheelOptions, simulation::*};
use crate::sensor::{Edge, Sensor};

#[test]
fn the_speed_now_follows_a_cruise_and_a_step() {
    for sigma in [5e-6, 50e-6] {
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut cruise, mut covered) = (Rms::default(), 0);
        for _ in 0..20 {
            let mut wheel = Wheel::new(options(48));
            let times = Cut::new(48, 0.0, &mut rng).pulses(&Motion::steady(17.3), 8.0);
            let edges = stamped(times.iter().map(|pulse| pulse.1), sigma, &mut rng);
            run(&mut wheel, &edges, START + 3.0, START + 8.0, 0.1, |wheel, now, _, _| {
                let live = wheel.live(crate::clock::BootNs((now * SECOND) as u64)).unwrap();
                cruise.add(live.value - 17.3);
                covered += usize::from((live.value - 17.3).abs() < 1.96 * live.uncertainty);
            });
        }
        let count = cruise.count;
        let mut steps: Vec<Rms> = (0..350).map(|_| Rms::default()).collect();
        let mut overall = Rms::default();
        for _ in 0..60 {
            let mut wheel = Wheel::new(options(48));
            let motion = Motion::step(10.0, 3.0, 3.0, 1.5);
            let times = Cut::new(48, 0.0, &mut rng).pulses(&motion, 6.5);
            let edges = stamped(times.iter().map(|pulse| pulse.1), sigma, &mut rng);
            wheel.on_edge(&edges[0]);
            let mut at = 0;
            run(&mut wheel, &edges[1..], START + 2.5, START + 5.99, 0.01, |wheel, now, _, _| {
                let live = wheel.live(crate::clock::BootNs((now * SECOND) as u64)).unwrap();
                let error = live.value - (motion.speed)(now - START);
                steps[at].add(error);
                overall.add(error);
                at += 1;
            });
        }
        let peak = steps.iter().filter(|rms| rms.count > 0).map(Rms::value).fold(0.0, f64::max);
        let (us, cruise, overall) = (sigma * 1e6, cruise.value(), overall.value());
        println!("{us:.0} us: cruise {cruise:.2e} m/s; step of 3 m/s2: peak {peak:.3}, overall {overall:.4}");
        assert!(cruise <= if sigma < 10e-6 { 1e-3 } else { 3e-3 }, "{cruise}");
        assert!(peak <= 0.1 && overall <= 0.02, "{peak} {overall}");
        // It says rather too much than too little.
        assert!(covered as f64 >= 0.92 * count as f64, "{covered} of {count}");
    }
}

#[test]
fn a_manoeuvre_is_measured_and_its_uncertainty_holds() {
    for teeth in [8, 48] {
        for report in [10, 100] {
            let mut rng = fastrand::Rng::with_seed(2);
            let motion = Motion::swinging(17.3, 5.0, 0.2);
            let (mut rms, mut covered) = (Rms::default(), 0);
            for _ in 0..8 {
                let mut wheel = Wheel::new(WheelOptions { report: millis(report), ..options(teeth) });
                let times = Cut::new(teeth, 0.0, &mut rng).pulses(&motion, 12.0);
                let edges = stamped(times.iter().map(|pulse| pulse.1), 5e-6, &mut rng);
                run(&mut wheel, &edges, START + 1.0, START + 12.0, report as f64 * 1e-3, |_, now, _, out| {
                    for reading in out.iter().filter(|_| now > START + 2.0) {
                        let value = reading.value.unwrap();
                        let error = value.value - (motion.speed)(seconds(reading.t));
                        rms.add(error);
                        covered += usize::from(error.abs() < 1.96 * value.uncertainty);
                    }
                });
            }
            let (error, coverage) = (rms.value(), covered as f64 / rms.count as f64);
            println!("{teeth} teeth, {report} ms: {error:.2e} m/s, 95 % covers {coverage:.3}");
            assert!(error < if report == 100 { 5e-3 } else { 12e-3 }, "{teeth} {report}: {error}");
            assert!(coverage >= 0.90, "{teeth} {report}: {coverage}");
        }
    }
}

#[test]
fn late_stamps_are_counted_and_not_believed() {
    let (mut clean, mut late) = (Rms::default(), Rms::default());
    for spoilt in [false, true] {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut wheel = Wheel::new(options(48));
        let times = Cut::new(48, 0.0, &mut rng).pulses(&Motion::steady(17.3), 120.0);
        let times = times.iter().map(|pulse| {
            let late = if rng.f64() < 0.01 && spoilt { 50e-6 + 450e-6 * rng.f64() } else { 0.0 };
            pulse.1 + late
        });
        let times: Vec<f64> = times.collect();
        let edges = stamped(times, 1e-6, &mut rng);
        run(&mut wheel, &edges, START + 1.0, START + 120.0, 0.1, |_, now, _, out| {
            for reading in out.iter().filter(|_| now > START + 5.0) {
                if spoilt { &mut late } else { &mut clean }.add(reading.value.unwrap().value / 17.3 - 1.0);
            }
        });
    }
    println!("clean {:.1e}, late {:.1e}", clean.value(), late.value());
    assert!(late.value() < 1.1 * clean.value(), "{} {}", late.value(), clean.value());
}

fn spoil(edges: Vec<Edge>, fault: usize, rng: &mut fastrand::Rng) -> Vec<Edge> {
    let mut all = Vec::new();
    for pair in edges.windows(2) {
        match fault {
            1 if rng.f64() < 0.015 => {
                let twin = Edge { t: pair[0].t + std::time::Duration::from_nanos(rng.u64(2000..7000)), ..pair[0] };
                all.extend([pair[0], twin]);
            }
            2 if rng.f64() < 0.002 => {}
            3 if rng.f64() < 2.0 * pair[1].t.since(pair[0].t).as_secs_f64() => {
                let spark = Edge { t: pair[0].t + pair[1].t.since(pair[0].t).mul_f64(rng.f64()), ..pair[0] };
                all.extend([pair[0], spark]);
            }
            _ => all.push(pair[0]),
        }
    }
    all.iter_mut().for_each(|edge| (edge.seqno, edge.line_seqno) = (0, 0));
    all
}

#[test]
fn faults_cost_next_to_nothing_and_no_pulse_is_miscounted() {
    let motion = Motion::swinging(17.3, 5.0, 0.2);
    let mut rng = fastrand::Rng::with_seed(4);
    let cut = Cut::new(48, 0.0, &mut rng);
    let times = cut.pulses(&motion, 100_000.0 / 430.0);
    let edges = stamped(times.iter().map(|pulse| pulse.1), 5e-6, &mut rng);
    let mut clean = 0.0;
    for fault in 0..4 {
        let spoilt = spoil(edges.clone(), fault, &mut rng);
        let mut wheel = Wheel::new(WheelOptions { distance: true, ..options(48) });
        let (mut rms, mut worst) = (Rms::default(), 0f64);
        run(&mut wheel, &spoilt, START + 1.0, START + 232.0, 0.1, |_, now, _, out| {
            for reading in out.iter().filter(|r| r.channel == 0 && now > START + 2.0) {
                let error = reading.value.unwrap().value - (motion.speed)(seconds(reading.t));
                rms.add(error);
                worst = worst.max(error.abs());
            }
        });
        let (t, way) = wheel.way().unwrap();
        // The way begins at the first pulse.
        let truth = (motion.way)(seconds(t)) - cut.phase * CIRCUMFERENCE / 48.0;
        let off = (way - truth) * 48.0 / CIRCUMFERENCE;
        println!("fault {fault}: {:.2e} m/s, at most {worst:.3}, off by {off:.3} pitches", rms.value());
        clean = if fault == 0 { rms.value() } else { clean };
        assert!(rms.value() <= 1.25 * clean && off.abs() < 0.1, "{fault}: {} {off}", rms.value());
        let counted = wheel.counters();
        let faults = [0, counted.rejected, counted.repaired, counted.rejected][fault];
        assert_eq!(faults > 100, fault > 0, "{fault}: {counted:?}");
    }
}

#[test]
fn the_means_add_up_to_the_way_for_ever() {
    let motion = Motion::swinging(17.3, 5.0, 0.2);
    let mut rng = fastrand::Rng::with_seed(5);
    for (teeth, sigma) in [(8, 5e-6), (48, 50e-6)] {
        let cut = Cut::new(teeth, 0.0, &mut rng);
        let times = cut.pulses(&motion, 100.0);
        let edges = stamped(times.iter().map(|pulse| pulse.1), sigma, &mut rng);
        let mut wheel = Wheel::new(WheelOptions { distance: true, ..options(teeth) });
        let (mut sum, mut mean_error, mut first, mut last) = (0.0, Rms::default(), None, 0.0);
        run(&mut wheel, &edges, START + 1.0, START + 100.0, 0.1, |wheel, _, _, out| {
            if let Some(mean) = wheel.interval_mean() {
                let (from, to) = (seconds(mean.from), seconds(mean.to));
                sum += mean.speed * (to - from);
                mean_error.add(mean.speed - ((motion.way)(to) - (motion.way)(from)) / (to - from));
                let way = wheel.way().unwrap().1;
                let begin = *first.get_or_insert(way - sum);
                assert!((way - begin - sum).abs() < 1e-9 && way >= last, "{way} {sum}");
                last = way;
            }
            let told = out.iter().find(|reading| reading.channel == 1).unwrap();
            assert_eq!(told.value.unwrap().value, wheel.way().unwrap().1);
        });
        let error = mean_error.value();
        println!("{teeth} teeth, {:.0} us: the mean over 0.1 s is off by {error:.2e} m/s", sigma * 1e6);
        assert!(error < 0.006, "{error}");
    }
}

#[test]
fn at_every_report_rate_the_stated_uncertainty_covers_what_it_should() {
    for teeth in [1, 8, 48, 60] {
        let motion = Motion::steady(17.3);
        for report in [10, 100, 1000] {
            let (mut count, mut covered) = (0, 0);
            for seed in 0..3 {
                let mut rng = fastrand::Rng::with_seed(seed);
                let cut = Cut::new(teeth, 0.01, &mut rng);
                let edges = stamped(cut.pulses(&motion, 160.0).iter().map(|pulse| pulse.1), 5e-6, &mut rng);
                let mut wheel = Wheel::new(WheelOptions { report: millis(report), ..options(teeth) });
                let (mut last, period) = (0, report as f64 * 1e-3);
                run(&mut wheel, &edges, START + 1.0, START + 159.0, period, |_, now, fed, out| {
                    // Readings of one window count once, and the teeth have a minute to be learned.
                    if fed - last < 4 {
                        return;
                    }
                    last = fed;
                    for reading in out.iter().filter(|_| now > START + 60.0) {
                        let value = reading.value.unwrap();
                        count += 1;
                        covered += usize::from((value.value - 17.3).abs() < 1.96 * value.uncertainty);
                    }
                });
            }
            let coverage = covered as f64 / count as f64;
            println!("{teeth} teeth, {report} ms: 95 % covers {coverage:.3} of {count}");
            assert!((0.92..=0.98).contains(&coverage), "{teeth} {report}: {coverage}");
        }
    }
}
