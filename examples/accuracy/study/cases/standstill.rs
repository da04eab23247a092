//! S11: what is said when the pulses stop coming.

use speedwell::{clock::BootNs, sensor::Reading};
use speedwell_wire::Quality;

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

const SIGMA: f64 = 5e-6;
const PERIOD: f64 = 0.05;
/// The slowest speed that is not standstill, m/s, and the longest wait before standstill is called: the wheel's defaults.
const ZERO_BELOW: f64 = 0.1;
const LONGEST_WAIT: f64 = 3.0;
/// Edges younger than this may be on their way: the wheel's default, s.
const DELIVERY: f64 = 0.005;
/// Others hold the last period for so long, s.
const HOLD: f64 = 2.0;
/// Rounding of a stamp against the bound, percent.
const ROUNDING_PERCENT: f64 = 1e-4;

/// What came of the stops of one kind of wheel.
#[derive(Default)]
struct Stops {
    /// From the last edge to the confirmed zero, the longest, s; NaN when it never came.
    confirmed: f64,
    /// Error of the value shown, within 1.5 s of the standstill.
    shown: Rms,
    held: Rms,
    /// Largest excess over d/age, in d/age.
    above: f64,
}

pub(super) fn run(options: &Options) -> Group {
    let mut group = Group::new("S11", "stop from 10 m/s at 3 m/s2, 20 Hz, 5 us");
    let teeth: &[usize] = if options.quick { &[8, 48] } else { &[1, 4, 8, 48, 60] };
    for &teeth in teeth {
        let mut chance = Chance::of(options.seed, &format!("stop {teeth}"));
        let stops = stop(teeth, if options.quick { 3 } else { 100 }, &mut chance);
        let pitch = super::super::gear::CIRCUMFERENCE / teeth as f64;
        let limit = (pitch / ZERO_BELOW).min(LONGEST_WAIT) + PERIOD + DELIVERY;
        let text = format!("{teeth:>2} teeth: zero confirmed after the last edge, s");
        group.rows.push(
            Row::new(text, stops.confirmed, Gate::AtMost((limit * 1e3).ceil() / 1e3))
                .bound(format!("{:.3} s", limit - PERIOD - DELIVERY)),
        );
        let text = format!("{teeth:>2} teeth: most above d/age, percent");
        group.rows.push(Row::new(text, 100.0 * stops.above, Gate::AtMost(ROUNDING_PERCENT)));
        let text = format!("{teeth:>2} teeth: rms error +-1.5 s about standstill, m/s");
        let held = [None, stops.held.get(), None, None];
        group.rows.push(Row::new(text, stops.shown.get().unwrap_or(f64::NAN), Gate::Told).peers(held));
    }
    for &teeth in teeth.iter().filter(|&&teeth| teeth > 1) {
        let mut chance = Chance::of(options.seed, &format!("creep {teeth}"));
        let zeros = false_zeros(teeth, if options.quick { 20.0 } else { 600.0 }, &mut chance);
        group.rows.push(Row::new(format!("{teeth:>2} teeth at 0.21 m/s: false zeros"), zeros, Gate::AtMost(0.0)));
    }
    group
}

/// The newest reading of speed among those said.
fn newest(said: &[Reading]) -> Option<Reading> {
    said.iter().rev().find(|reading| reading.channel == 0).copied()
}

fn stop(teeth: usize, count: usize, chance: &mut Chance) -> Stops {
    let mut stops = Stops::default();
    for _ in 0..count {
        let gear = Gear::new(teeth, 0.0, chance);
        let road = Road::at(10.0).keep(6.0 + chance.even()).change_to(0.0, 3.0);
        let standing = road.length();
        let road = road.keep(25.0);
        let passings = stamped(&gear.passings(&road), SIGMA, chance);
        one_stop(&gear, &road, standing, &passings, &mut stops);
    }
    stops
}

fn one_stop(gear: &Gear, road: &Road, standing: f64, passings: &[Passing], stops: &mut Stops) {
    let edges = delivered(passings.iter().map(|passing| passing.stamp), 1);
    let stamps: Vec<BootNs> = edges.iter().map(|edge| edge.t).collect();
    let mut feed = Feed::new(wheel_options(gear, PERIOD), &edges);
    let (mut shown, mut zero_at) = (None, f64::NAN);
    for now in ticks(3.0, road.length(), PERIOD) {
        shown = newest(feed.tick(now)).or(shown);
        let Some((reading, value)) = shown.and_then(|reading| Some((reading, reading.value.ok()?))) else { continue };
        let heard = known(passings, now);
        let last = drive_time(passings[heard - 1].stamp);
        // What is said for a time after the last edge heard is bounded by it.
        let age = drive_time(reading.t) - last;
        if age > 0.0 {
            stops.above = stops.above.max(value.value * age / gear.pitch - 1.0);
        }
        if value.quality == Quality::Stopped && now > standing - 1.0 && zero_at.is_nan() {
            zero_at = now - last;
        }
        if (now - standing).abs() < 1.5 {
            let truth = road.speed(now).max(0.0);
            stops.shown.add(value.value - truth);
            let window = &stamps[heard.saturating_sub(2)..heard];
            let seen = Seen { window, in_gate: 0, now, period: PERIOD, pitch: gear.pitch };
            let held = peers::all(&seen)[1].filter(|_| now - last < HOLD).map_or(0.0, |said| said.speed);
            stops.held.add(held - truth);
        }
    }
    // Once NaN, always NaN: a zero that never came is not made up for by others.
    stops.confirmed =
        if zero_at.is_nan() || stops.confirmed.is_nan() { f64::NAN } else { stops.confirmed.max(zero_at) };
}

/// How often standstill is said at a little more than twice the speed that is still standstill.
fn false_zeros(teeth: usize, seconds: f64, chance: &mut Chance) -> f64 {
    let gear = Gear::new(teeth, 0.0, chance);
    let road = Road::at(0.21).keep(seconds);
    let passings = stamped(&gear.passings(&road), SIGMA, chance);
    let edges = delivered(passings.iter().map(|passing| passing.stamp), 1);
    let mut feed = Feed::new(wheel_options(&gear, PERIOD), &edges);
    let mut zeros = 0;
    // From the second edge on there is a speed.
    for now in ticks(passings[1].t + 0.01, passings[passings.len() - 1].t, PERIOD) {
        let said = feed.tick(now).iter().filter(|reading| reading.channel == 0);
        zeros += said.filter(|reading| reading.value.is_ok_and(|value| value.value == 0.0)).count();
    }
    f64::from(u32::try_from(zeros).unwrap_or(u32::MAX))
}
