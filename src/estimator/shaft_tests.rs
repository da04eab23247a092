use super::*;

const MS: u64 = 1_000_000;

fn options(chip: Chip) -> ShaftOptions {
    ShaftOptions {
        chip,
        counts_per_turn: if chip.is_absolute() { chip.wrap() as u32 } else { 4000 },
        metres_per_turn: Some(2.0),
        max_turns: 50.0,
        zero_below: 0.02,
        calibration_uncertainty: 0.0,
        reversed: false,
        report: Duration::from_millis(100),
        rotational_speed: true,
        distance: true,
        angle: true,
        direction: true,
    }
}

/// Looks every 2 ms at a shaft that is `turns(t)` turns on at `t` seconds; readings of ticks every 100 ms.
fn looked_at(shaft: &mut Shaft, seconds: f64, turns: impl Fn(f64) -> f64) -> Vec<Reading> {
    let mut out = Vec::new();
    for look in 0..(seconds * 500.0) as u64 {
        let t = look * 2 * MS;
        let wrap = shaft.options.chip.wrap() as i64;
        let count = (turns(t as f64 * 1e-9) * shaft.per_turn()).floor() as i64;
        let count = Some(count.rem_euclid(wrap) as u32);
        let health = (look % 50 == 0).then_some(Health::Good);
        shaft.on_look(&Look { from: BootNs(t), to: BootNs(t + 100_000), count, health }, &mut out);
        if look % 50 == 49 {
            shaft.tick(BootNs(t + MS), &mut out);
        }
    }
    out
}

fn values(readings: &[Reading], channel: usize) -> Vec<Value> {
    readings.iter().filter(|r| r.channel == channel).filter_map(|r| r.value.ok()).collect()
}

#[test]
fn a_steady_shaft_has_its_speed_over_many_wraps_of_the_count() {
    for chip in [Chip::As5600, Chip::As5048a, Chip::Ls7366r] {
        let mut shaft = Shaft::new(options(chip));
        let readings = looked_at(&mut shaft, 3.0, |t| 17.3 * t + 0.4);
        let speeds = values(&readings, 0);
        assert!(speeds.len() >= 25);
        for speed in &speeds {
            assert!((speed.value - 34.6).abs() < 0.02, "{chip:?} {speed:?}");
            assert_eq!(speed.quality, Quality::Good);
            assert!(speed.uncertainty < 0.4);
        }
        assert!(values(&readings, 1).iter().all(|rpm| (rpm.value - 17.3 * 60.0).abs() < 0.6));
        assert_eq!(shaft.counters().rejected, 0);
    }
}

#[test]
fn the_value_is_true_for_its_own_time_while_the_speed_changes() {
    let mut shaft = Shaft::new(options(Chip::As5048a));
    // 3 turns/s² from rest: v(t) = 2 m · 3 t.
    let readings = looked_at(&mut shaft, 4.0, |t| 1.5 * t * t);
    for reading in readings.iter().filter(|r| r.channel == 0).skip(5) {
        let truth = 6.0 * reading.t.0 as f64 * 1e-9 - 6.0 * 50e-6;
        let told = reading.value.unwrap();
        assert!((told.value - truth).abs() < 0.02, "{told:?}, {truth} true");
    }
}

#[test]
fn backwards_is_told_by_direction_and_the_speed_stays_positive() {
    let mut shaft = Shaft::new(options(Chip::As5600));
    let readings = looked_at(&mut shaft, 1.0, |t| -5.0 * t);
    assert!(values(&readings, 0).iter().all(|v| (v.value - 10.0).abs() < 0.02));
    assert_eq!(values(&readings, 4).last().unwrap().value, -1.0);
    let mut reversed = Shaft::new(ShaftOptions { reversed: true, ..options(Chip::As5600) });
    assert_eq!(values(&looked_at(&mut reversed, 1.0, |t| -5.0 * t), 4).last().unwrap().value, 1.0);
}

#[test]
fn a_shaft_that_stands_is_stopped_also_when_its_count_flickers() {
    let mut shaft = Shaft::new(options(Chip::As5600));
    let readings = looked_at(&mut shaft, 1.0, |t| (1000.5 + 0.6 * (t * 900.0).sin()) / 4096.0);
    let speeds = values(&readings, 0);
    assert!(speeds.iter().all(|v| v.value == 0.0 && v.quality == Quality::Stopped), "{speeds:?}");
}

#[test]
fn without_its_magnet_a_count_is_no_value_and_the_reason_is_told() {
    let mut shaft = Shaft::new(options(Chip::As5600));
    let mut out = Vec::new();
    shaft.tick(BootNs(MS), &mut out);
    assert_eq!(out[0].value, Err(NoData::Silent));
    looked_at(&mut shaft, 0.5, |t| t);
    let (from, to) = (BootNs(500 * MS), BootNs(501 * MS));
    let mut out = Vec::new();
    shaft.on_look(&Look { from, to, count: Some(7), health: Some(Health::TooWeak) }, &mut out);
    shaft.tick(BootNs(510 * MS), &mut out);
    assert!(out.iter().all(|r| r.value == Err(NoData::SensorError)));
    assert!(shaft.trouble().unwrap().contains("too weak"));
    out.clear();
    shaft.tick(BootNs(2000 * MS), &mut out);
    assert_eq!(out[0].value, Err(NoData::Stale));
}

#[test]
fn a_damaged_count_is_refused_and_the_speed_holds() {
    let mut shaft = Shaft::new(options(Chip::As5048a));
    let readings = looked_at(&mut shaft, 2.0, |t| if (t - 1.05).abs() < 1e-4 { 3.5 } else { 3.0 * t });
    assert_eq!(shaft.counters().rejected, 1);
    assert!(values(&readings, 0).iter().all(|v| (v.value - 6.0).abs() < 0.02));
}

#[test]
fn a_pause_in_which_half_a_turn_could_hide_begins_anew() {
    let mut shaft = Shaft::new(options(Chip::As5600));
    let mut out = Vec::new();
    let look = |t: u64, count| Look { from: BootNs(t), to: BootNs(t), count: Some(count), health: None };
    shaft.on_look(&look(0, 0), &mut out);
    shaft.on_look(&look(30 * MS, 2000), &mut out);
    shaft.tick(BootNs(31 * MS), &mut out);
    assert_eq!(shaft.counters().suspected, 1);
    assert!(values(&out, 0).is_empty(), "one look is no speed: {out:?}");
}

#[test]
fn the_way_is_the_sum_of_all_steps_over_wraps_and_back_again() {
    for chip in [Chip::As5600, Chip::As5048a, Chip::Ls7366r] {
        let mut shaft = Shaft::new(options(chip));
        // 20 turns on, 8 back: 12 turns of 2 m.
        let readings = looked_at(&mut shaft, 3.0, |t| if t < 2.0 { 10.0 * t } else { 20.0 - 8.0 * (t - 2.0) });
        let ways: Vec<f64> = values(&readings, 2).iter().map(|value| value.value).collect();
        let farthest = ways.iter().copied().fold(0.0, f64::max);
        assert!((farthest - 40.0).abs() < 0.7, "{chip:?}: {farthest}");
        assert!((ways.last().unwrap() - 24.0).abs() < 0.1, "{chip:?}: {ways:?}");
        assert!(values(&readings, 2).iter().all(|value| value.quality == Quality::Good && value.uncertainty < 0.005));
    }
}

#[test]
fn the_way_goes_on_after_a_restart_and_from_nothing_that_is_damaged() {
    let mut before = Shaft::new(options(Chip::As5600));
    looked_at(&mut before, 2.0, |t| 5.0 * t);
    let kept = before.memory().unwrap();
    // Another angle to begin with: the shaft was turned while nobody looked.
    let mut after = Shaft::new(options(Chip::As5600));
    assert!(!after.remember(&kept[1..]) && !after.remember(b""));
    assert!(after.remember(&kept));
    let readings = looked_at(&mut after, 1.0, |t| 0.7 + 5.0 * t);
    let ways = values(&readings, 2);
    assert!((ways[0].value - 20.0).abs() < 1.1 && (ways.last().unwrap().value - 30.0).abs() < 0.1, "{ways:?}");
    assert!(!after.remember(&kept), "not in the middle of measuring");
}

#[test]
fn a_hole_adds_no_way_and_is_told() {
    let mut shaft = Shaft::new(options(Chip::As5600));
    looked_at(&mut shaft, 1.0, |t| 5.0 * t);
    let look = |t, count, health| Look { from: BootNs(t), to: BootNs(t), count: Some(count), health };
    let mut out = Vec::new();
    shaft.on_look(&look(1010 * MS, 0, Some(Health::NoMagnet)), &mut out);
    shaft.on_look(&look(1020 * MS, 3000, Some(Health::Good)), &mut out);
    shaft.on_look(&look(1022 * MS, 3004, None), &mut out);
    shaft.tick(BootNs(1023 * MS), &mut out);
    let way = values(&out, 2)[0];
    assert!((way.value - 10.0).abs() < 0.05 && way.quality == Quality::Degraded, "{way:?}");
    assert_eq!(shaft.counters().suspected, 1);
}
