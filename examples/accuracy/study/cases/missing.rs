//! S13: a wheel with a gap in its teeth, as on crankshafts and gearboxes.

use speedwell::{clock::BootNs, estimator::WheelOptions};

use super::super::{
    chance::Chance,
    gear::{Gear, Passing, delivered, drive_time, stamped},
    options::Options,
    ours::{Feed, known, options as wheel_options, ticks},
    peers::{self, Seen},
    report::{Gate, Group, Row},
    road::Road,
    score::Rms,
};

const PLACES: usize = 60;
const MISSING: usize = 2;
const SIGMA: f64 = 5e-6;
const PERIOD: f64 = 0.1;
/// Metres from place to place: 3000 rpm are then 30 m/s.
const PITCH: f64 = 0.01;
const SPEED: f64 = 30.0;
/// How wrong a speed may be once the gap is found; one that takes it for teeth is wrong by several percent.
const FOUND: f64 = 1e-2;

pub(super) fn run(options: &Options) -> Group {
    let mut group = Group::new("S13", "60-2 at 3000 rpm, 10 Hz, 5 us: relative rms error");
    let wheels = if options.quick { 2 } else { 20 };
    for (name, a) in [("steady", 0.0), ("3000 teeth/s2", 30.0)] {
        let mut chance = Chance::of(options.seed, &format!("gap {name}"));
        let (mut ours, mut others) = (Rms::default(), [Rms::default(); 4]);
        for _ in 0..wheels {
            drive(a, &mut chance, &mut ours, &mut others);
        }
        let row = Row::new(name, ours.get().unwrap_or(f64::NAN), Gate::AtMost(2e-5));
        group.rows.push(row.peers(others.map(|rms| rms.get())));
    }
    let mut chance = Chance::of(options.seed, "gap found");
    let slowest = (0..3 * wheels).map(|_| found(&mut chance)).fold(0.0, longest);
    group.rows.push(Row::new("revolutions until the gap is found, the most", slowest, Gate::AtMost(2.0)));
    group
}

/// The longer; one that never came is longer than any.
fn longest(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn gap(chance: &mut Chance) -> Gear {
    Gear::new(PLACES, 0.0, chance).geared(PITCH).without(MISSING)
}

fn gap_options(gear: &Gear, period: f64) -> WheelOptions {
    WheelOptions { missing_teeth: MISSING as u32, ..wheel_options(gear, period) }
}

/// Up and down about 3000 rpm at `a` m/s2, or steadily.
fn drive(a: f64, chance: &mut Chance, ours: &mut Rms, others: &mut [Rms; 4]) {
    let mut road = Road::at(SPEED).keep(2.0);
    for _ in 0..4 {
        road = if a > 0.0 { road.change_to(45.0, a).change_to(15.0, a).change_to(SPEED, a) } else { road.keep(2.0) };
    }
    let gear = gap(chance);
    let passings = stamped(&gear.passings(&road), SIGMA, chance);
    let edges = delivered(passings.iter().map(|passing| passing.stamp), 1);
    let stamps: Vec<BootNs> = edges.iter().map(|edge| edge.t).collect();
    let mut feed = Feed::new(gap_options(&gear, PERIOD), &edges);
    for now in ticks(1.0, road.length(), PERIOD) {
        let readings = feed.tick(now).to_vec();
        let (from, to) = (known(&passings, now - PERIOD), known(&passings, now));
        // A window over a change of acceleration is another property's matter.
        let (early, late) = (road.piece(passings[from].t), road.piece(passings[to - 1].t));
        if early.from != late.from {
            continue;
        }
        let said = readings.iter().find(|reading| reading.channel == 0).and_then(|r| Some((r.t, r.value.ok()?)));
        let relative = |speed: f64, t: f64| speed / road.speed(t) - 1.0;
        // Silence counts as an error of the whole.
        ours.add(said.map_or(1.0, |(t, value)| relative(value.value, drive_time(t))));
        // The others know how many teeth there are, as their users would tell them.
        let pitch = gear.pitch * PLACES as f64 / (PLACES - MISSING) as f64;
        let seen = Seen { window: &stamps[from..to], in_gate: to - from, now, period: PERIOD, pitch };
        for (rms, said) in others.iter_mut().zip(peers::all(&seen)) {
            if let Some(said) = said {
                rms.add(relative(said.speed, said.t));
            }
        }
    }
}

/// Revolutions from the first edge until it speaks, and speaks right from then on.
fn found(chance: &mut Chance) -> f64 {
    let gear = gap(chance);
    let passings: Vec<Passing> = stamped(&gear.passings(&Road::at(SPEED).keep(0.3)), SIGMA, chance);
    let edges = delivered(passings.iter().map(|passing| passing.stamp), 1);
    let period = 0.005;
    let mut feed = Feed::new(gap_options(&gear, period), &edges);
    let mut right_since = None;
    for now in ticks(0.0, 0.3, period) {
        for value in feed.tick(now).iter().filter_map(|reading| reading.value.ok()) {
            let right = (value.value / SPEED - 1.0).abs() <= FOUND;
            right_since = if right { right_since.or(Some(now)) } else { None };
        }
    }
    right_since.map_or(f64::NAN, |since| (since - passings[0].t) * SPEED / gear.pitch / PLACES as f64)
}
