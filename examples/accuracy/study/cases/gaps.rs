//! S10: what the kernel tells of by its sequence numbers is told on.

use speedwell::sensor::Sensor;

use super::{
    super::{
        chance::Chance,
        faults::with_gaps,
        gear::{TOOTH_ERROR, delivered},
        options::Options,
        ours::{Feed, options as wheel_options},
        report::{Gate, Group, Row},
    },
    cruise, drive,
};

const SIGMA: f64 = 5e-6;
/// Edges from one gap to the next, on average, and edges a full queue discards at most.
const SPACING: f64 = 400.0;
const LONGEST: f64 = 64.0;
/// Wrong gaps an edge, at most.
const FALSE_GAPS: f64 = 1e-6;
/// Before the sequence numbers come round: every study sees it happen.
const NEARLY_ROUND: u32 = u32::MAX - 20_000;

pub(super) fn run(options: &Options) -> Group {
    let mut group =
        Group::new("S10", "gaps in the kernel's sequence numbers: share of what was put in that is reported, percent");
    let seconds = if options.quick { 100.0 } else { 2300.0 };
    let mut chance = Chance::of(options.seed, "gaps");
    let road = cruise().change_to(17.3, 1.0).swing(5.0, 0.2, seconds);
    let (gear, passings) = drive(48, TOOTH_ERROR, SIGMA, &road, &mut chance);

    let gaps = with_gaps(&passings, SPACING, LONGEST, NEARLY_ROUND, &mut chance);
    let mut feed = Feed::new(wheel_options(&gear, 0.1), &gaps.edges);
    feed.edges_until(road.length());
    let told = feed.wheel.counters();
    let share = |told: u64, truth: u64| 100.0 * told as f64 / truth as f64;
    let all = Gate::Between(100.0, 100.0);
    let row = |text: String, told, truth| Row::new(text, share(told, truth), all);
    group.rows.push(row(format!("{} edges discarded by full queues", gaps.overflown), told.lost, gaps.overflown));
    let held = gaps.merged + gaps.counted_twice;
    let text = format!("{} interrupts merged, {} counted twice", gaps.merged, gaps.counted_twice);
    group.rows.push(row(text, told.suspected, held));

    let whole = delivered(passings.iter().map(|passing| passing.stamp), NEARLY_ROUND);
    let mut feed = Feed::new(wheel_options(&gear, 0.1), &whole);
    feed.edges_until(road.length());
    let told = feed.wheel.counters();
    let wrong = (told.lost + told.suspected) as f64 / passings.len() as f64;
    group.rows.push(Row::new(
        format!("false gaps an edge, of {} whole ones", passings.len()),
        wrong,
        Gate::AtMost(FALSE_GAPS),
    ));
    group
}
