//! S5 and S6: the speed now, by the filter over each pulse, for displays and alarms.

use super::{
    super::{
        chance::Chance,
        gear::{Gear, Passing, delivered, stamped},
        options::Options,
        ours::{Feed, known, options as wheel_options, seen, ticks},
        peers,
        report::{Gate, Group, Row},
        road::Road,
        score::Rms,
    },
    TEETH,
};

const PERIOD: f64 = 0.1;
/// Between two looks at a step, s.
const LOOK: f64 = 0.01;
/// The step: from 10 m/s, when it begins and how long it lasts, s.
const BEFORE: f64 = 10.0;
const BEGINS: f64 = 3.0;
const LASTS: f64 = 1.5;

pub(super) fn cruise(options: &Options) -> Group {
    let mut group = Group::new("S5", "live at a steady 17.3 m/s, 48 teeth: rms error, mm/s");
    let wheels = if options.quick { 4 } else { 40 };
    for (sigma, limit) in [(5e-6, 1.0), (50e-6, 3.0)] {
        let mut chance = Chance::of(options.seed, &format!("live {sigma}"));
        let mut score = Live::default();
        for _ in 0..wheels {
            score.drive(&Road::at(17.3).keep(12.0), sigma, 5.0, PERIOD, &mut chance);
        }
        let text = format!("{:>2.0} us", sigma * 1e6);
        let row = Row::new(text, mm(score.ours.get()).unwrap_or(f64::NAN), Gate::AtMost(limit));
        group.rows.push(row.peers(score.peers.map(|rms| mm(rms.get()))));
    }
    group
}

pub(super) fn step(options: &Options) -> Group {
    let mut group =
        Group::new("S6", "live through a step of acceleration for 1.5 s at 10 m/s, 48 teeth: rms error, m/s");
    let wheels = if options.quick { 20 } else { 200 };
    for (a, sigma, peak, overall) in [
        (3.0, 50e-6, Gate::AtMost(0.1), Gate::AtMost(0.02)),
        (3.0, 5e-6, Gate::Told, Gate::Told),
        (30.0, 50e-6, Gate::Told, Gate::Told),
        (30.0, 5e-6, Gate::Told, Gate::Told),
    ] {
        if options.quick && peak == Gate::Told {
            continue;
        }
        let mut chance = Chance::of(options.seed, &format!("step {a} {sigma}"));
        let road = Road::at(BEFORE).keep(BEGINS).change_to(BEFORE + a * LASTS, a).keep(LASTS);
        let mut score = Live::default();
        for _ in 0..wheels {
            score.drive(&road, sigma, BEGINS - 0.5, LOOK, &mut chance);
        }
        let worst = score.moments.iter().filter_map(Rms::get).fold(0.0, f64::max);
        let text = format!("{a:>2} m/s2, {:>2.0} us", sigma * 1e6);
        group.rows.push(Row::new(format!("{text}: worst moment"), worst, peak));
        let all = score.ours.get().unwrap_or(f64::NAN);
        group.rows.push(Row::new(format!("{text}: overall"), all, overall).peers(score.peers.map(|rms| rms.get())));
    }
    group
}

fn mm(speed: Option<f64>) -> Option<f64> {
    speed.map(|speed| speed * 1e3)
}

/// Errors of what is said to be the speed now.
#[derive(Default)]
struct Live {
    ours: Rms,
    /// What the peers said for a time of their own, taken as now.
    peers: [Rms; 4],
    /// Ours again, each look at the road for itself.
    moments: Vec<Rms>,
}

impl Live {
    fn drive(&mut self, road: &Road, sigma: f64, from: f64, every: f64, chance: &mut Chance) {
        let gear = Gear::new(TEETH, 0.0, chance);
        let passings = stamped(&gear.passings(road), sigma, chance);
        let edges = delivered(passings.iter().map(|passing| passing.stamp), 1);
        let stamps: Vec<_> = edges.iter().map(|edge| edge.t).collect();
        let mut feed = Feed::new(wheel_options(&gear, PERIOD), &edges);
        let (mut at, mut window) = (0, Vec::new());
        // Readings each tenth of a second, as on a gateway, whether or not anyone looks.
        for now in ticks(0.5, road.length(), every) {
            feed.tick(now);
            if now < from {
                continue;
            }
            let truth = road.speed(now);
            // Nothing said is an error of the whole speed: no gate can be passed by silence.
            let said = feed.wheel.live(super::super::gear::boot(now)).map_or(0.0, |value| value.value);
            self.ours.add(said - truth);
            if self.moments.len() <= at {
                self.moments.push(Rms::default());
            }
            self.moments[at].add(said - truth);
            at += 1;
            window.clear();
            window.extend_from_slice(newest(&passings, now));
            let seen = seen(&stamps, &window, now, PERIOD, gear.pitch);
            for (rms, said) in self.peers.iter_mut().zip(peers::all(&seen)) {
                rms.add(said.map_or(0.0, |said| said.speed) - truth);
            }
        }
    }
}

/// The passings stamped in the report period before `now`.
fn newest(passings: &[Passing], now: f64) -> &[Passing] {
    &passings[known(passings, now - PERIOD)..known(passings, now)]
}
