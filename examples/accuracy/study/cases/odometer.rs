//! S8: the means between reports, added up, are the way.

use super::{
    super::{
        chance::Chance,
        gear::{TOOTH_ERROR, delivered, drive_time},
        options::Options,
        ours::{Feed, known, options as wheel_options, seen, ticks},
        peers,
        report::{Gate, Group, Row},
    },
    TEETH, cruise, drive,
};

const SIGMA: f64 = 5e-6;
const PERIOD: f64 = 0.1;

pub(super) fn run(options: &Options) -> Group {
    let seconds = if options.quick { 100.0 } else { 2300.0 };
    let mut chance = Chance::of(options.seed, "odometer");
    let road = cruise().change_to(17.3, 1.0).swing(5.0, 0.2, seconds);
    let (gear, passings) = drive(TEETH, TOOTH_ERROR, SIGMA, &road, &mut chance);
    let edges = delivered(passings.iter().map(|passing| passing.stamp), 1);
    let stamps: Vec<_> = edges.iter().map(|edge| edge.t).collect();
    let mut feed = Feed::new(wheel_options(&gear, PERIOD), &edges);

    let (mut way, mut begun, mut worst, mut peers_way) = (0.0, None, 0.0_f64, [0.0; 4]);
    for now in ticks(1.0, road.length(), PERIOD) {
        feed.tick(now);
        let Some(mean) = feed.wheel.interval_mean() else { continue };
        let (from, to) = (drive_time(mean.from), drive_time(mean.to));
        let first = *begun.get_or_insert((known(&passings, from), now));
        way += mean.speed * (to - from) / gear.pitch;
        let passed = (known(&passings, to) - first.0) as f64;
        worst = worst.max((way - passed).abs());
        let window = &passings[known(&passings, now - PERIOD)..known(&passings, now)];
        let seen = seen(&stamps, window, now, PERIOD, gear.pitch);
        for (way, said) in peers_way.iter_mut().zip(peers::all(&seen)) {
            *way += said.map_or(0.0, |said| said.speed) * PERIOD / gear.pitch;
        }
    }
    let (first, since) = begun.unwrap_or((0, 0.0));
    let passed = (known(&passings, road.length()) - first) as f64;
    let from_the_start = known(&passings, since - PERIOD).saturating_sub(first) as f64;
    let off = |way: f64| Some((way - (passed - from_the_start)).abs());
    let title =
        "means between reports times their intervals, 48 teeth +-1 %, 5 us, against the pulses: most they are off";
    let mut group = Group::new("S8", title);
    let row = Row::new(format!("pulses, over {}", passings.len()), worst, Gate::AtMost(1.0)).bound("1 pulse");
    group.rows.push(row.peers(peers_way.map(off)));
    group
}
