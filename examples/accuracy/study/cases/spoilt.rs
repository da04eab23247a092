//! S9: edges delivered twice, lost, invented and late, without a word from the kernel.

use speedwell::sensor::Sensor;
use speedwell_wire::Quantity;

use super::{
    super::{
        bound::Unknown,
        chance::Chance,
        faults::{Fault, spoilt},
        gear::{Gear, Passing, TOOTH_ERROR, delivered},
        options::Options,
        ours::{Feed, options as wheel_options, ticks},
        report::{Gate, Group, Row, mm_per_s},
        road::Road,
        score::{Score, Trial},
    },
    CRUISE, TEETH, cruise, drive,
};

const PERIOD: f64 = 0.1;
/// How much worse than without faults, at most.
const WORSE: f64 = 1.25;
/// Edges that count, in all.
const EDGES: f64 = 1e5;

/// A drive, and what one kind of fault does to it.
struct Kind {
    name: &'static str,
    fault: Fault,
    sigma: f64,
    manoeuvre: bool,
}

const KINDS: [Kind; 5] = [
    Kind { name: "1.5 % delivered twice", fault: Fault::Twice, sigma: 5e-6, manoeuvre: true },
    Kind { name: "0.2 % lost", fault: Fault::Lost, sigma: 5e-6, manoeuvre: true },
    Kind { name: "2 sparks a second", fault: Fault::Glitches, sigma: 5e-6, manoeuvre: true },
    Kind { name: "all three", fault: Fault::All, sigma: 5e-6, manoeuvre: true },
    Kind { name: "1 % late by 50 to 500 us", fault: Fault::Late, sigma: 1e-6, manoeuvre: false },
];

/// What came of a drive: the errors, the pitches that the odometer counted, and how far a plain count is off.
struct Outcome {
    score: Score,
    turned: f64,
    count_off: f64,
}

pub(super) fn run(options: &Options) -> Group {
    let title = "faults, 48 teeth +-1 %, 10 Hz: rms error / ours without the fault; pulses too many or too few";
    let mut group = Group::new("S9", title);
    for kind in &KINDS {
        if options.quick && kind.fault == Fault::All {
            continue;
        }
        let mut chance = Chance::of(options.seed, kind.name);
        let seconds = EDGES / 446.0 / if options.quick { 4.0 } else { 1.0 };
        let there = cruise().change_to(17.3, 1.0).keep(1.0);
        let from = there.length();
        let road = if kind.manoeuvre { there.swing(5.0, 0.2, seconds) } else { there.keep(seconds) };
        let (gear, passings) = drive(TEETH, TOOTH_ERROR, kind.sigma, &road, &mut chance);
        let whole = outcome(kind, &road, &gear, &passings, None, from, &mut chance);
        let faulty = outcome(kind, &road, &gear, &passings, Some(kind.fault), from, &mut chance);
        let clean = whole.score.error.get();
        let times = |error: Option<f64>| Some(error? / clean?);
        let ours = times(faulty.score.error.get()).unwrap_or(f64::NAN);
        let jitter = kind.sigma * 1e6;
        let text = format!("{}, {jitter:.0} us", kind.name);
        let row = Row::new(text, ours, Gate::AtMost(WORSE));
        let row = row.bound(mm_per_s(clean)).peers(faulty.score.peer_errors().map(times));
        group.rows.push(row.unless(faulty.score.spoke(false) && whole.score.spoke(false), "silent at times"));
        let text = format!("  pulses off after {:.0}", passings.len());
        let off = (faulty.turned - whole.turned).round().abs();
        let row = Row::new(text, off, Gate::AtMost(0.0));
        group.rows.push(row.peers([Some(faulty.count_off), None, None, None]));
    }
    group
}

fn outcome(
    kind: &Kind,
    road: &Road,
    gear: &Gear,
    passings: &[Passing],
    fault: Option<Fault>,
    from: f64,
    chance: &mut Chance,
) -> Outcome {
    // The first pulse is where the odometer starts: it is left whole.
    let edges = match fault {
        Some(fault) => spoilt(passings, Some(fault), 1.0, chance),
        None => delivered(passings.iter().map(|passing| passing.stamp), 1),
    };
    let mut feed =
        Feed::new(speedwell::estimator::WheelOptions { distance: true, ..wheel_options(gear, PERIOD) }, &edges);
    for now in ticks(0.0, CRUISE, PERIOD) {
        feed.tick(now);
    }
    let trial = Trial {
        road,
        gear,
        passings,
        edges: &edges,
        sigma: kind.sigma,
        period: PERIOD,
        from,
        to: road.length(),
        unknown: Unknown::Speed,
    };
    let mut score = Score::default();
    trial.run(&mut feed, &mut score);
    Outcome {
        score,
        turned: turned(&mut feed, gear, road.length()),
        count_off: edges.len() as f64 - passings.len() as f64,
    }
}

/// How many pitches the odometer has turned when all is over.
fn turned(feed: &mut Feed, gear: &Gear, end: f64) -> f64 {
    let channels = feed.wheel.channels();
    let Some(channel) = channels.iter().position(|channel| channel.quantity == Quantity::Distance) else {
        return f64::NAN;
    };
    let way = |now| {
        let said = feed.tick(now).iter().rev().find(|reading| reading.channel == channel).copied();
        said.and_then(|reading| reading.value.ok()).map(|value| value.value)
    };
    // The last edges are in, and so is the tick that tells of them.
    ticks(end, end + 2.0, PERIOD).filter_map(way).next().map_or(f64::NAN, |way| way / gear.pitch)
}
