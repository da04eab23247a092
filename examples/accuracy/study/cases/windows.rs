//! S1 to S4 and S7: speed in a window, said for the window's own time.

use std::io;

use super::{
    super::{
        bound::Unknown,
        gear::{Gear, TOOTH_ERROR, delivered, stamped},
        options::Options,
        ours::{Feed, options as wheel_options},
        plot::Point,
        report::{Gate, Group, Row, mm_per_s},
        road::Road,
        score::{Score, Trial},
    },
    CRUISE, Setting, cruise, drive, tooth_errors,
};

/// The drives after the cruise.
#[derive(Clone, Copy, Debug, PartialEq)]
enum After {
    /// 17.3 m/s.
    Steady,
    /// Between 10 and 34 m/s at 3 m/s2, both ways.
    Brisk,
    /// Between 5 and 65 m/s at 30 m/s2, both ways.
    Violent,
    /// 17.3 +- 5 m/s at 0.2 Hz: 6.3 m/s2, 7.9 m/s3.
    Manoeuvre,
}

impl After {
    fn road(self, seconds: f64) -> Road {
        let there = |speed| cruise().change_to(speed, 1.0);
        let legs = |mut road: Road, low, high, a: f64| {
            let end = road.length() + seconds;
            while road.length() < end {
                road = road.change_to(high, a).change_to(low, a);
            }
            road
        };
        match self {
            After::Steady => there(17.3).keep(1.0 + seconds),
            After::Brisk => legs(there(10.0).keep(1.0), 10.0, 34.0, 3.0),
            After::Violent => legs(there(5.0).keep(1.0), 5.0, 65.0, 30.0),
            After::Manoeuvre => there(17.3).keep(1.0).swing(5.0, 0.2, seconds),
        }
    }

    /// When what counts begins.
    fn from(self) -> f64 {
        let speed = match self {
            After::Steady | After::Manoeuvre => 17.3,
            After::Brisk => 10.0,
            After::Violent => 5.0,
        };
        cruise().change_to(speed, 1.0).length() + 1.0
    }

    fn unknown(self) -> Unknown {
        if self == After::Steady { Unknown::Speed } else { Unknown::Acceleration }
    }
}

/// How much of it: wheels, and seconds with each.
#[derive(Clone, Copy, Debug)]
struct Extent {
    wheels: usize,
    seconds: f64,
}

fn measure(setting: &Setting, after: After, extent: Extent, seed: u64) -> Score {
    let mut chance = setting.chance(seed, &format!("{after:?}"));
    let road = after.road(extent.seconds);
    let mut score = Score::default();
    for _ in 0..extent.wheels {
        let (gear, passings) = drive(setting.teeth, setting.error, setting.sigma, &road, &mut chance);
        let edges = delivered(passings.iter().map(|passing| passing.stamp), 1);
        let mut feed = Feed::new(wheel_options(&gear, setting.period()), &edges);
        feed.edges_until(CRUISE);
        let trial = Trial {
            road: &road,
            gear: &gear,
            passings: &passings,
            edges: &edges,
            sigma: setting.sigma,
            period: setting.period(),
            from: after.from(),
            to: road.length(),
            unknown: after.unknown(),
        };
        trial.run(&mut feed, &mut score);
    }
    score
}

/// Wheels of every case that is judged by a ratio: as many errors of teeth and tables are averaged over.
const WHEELS: usize = 20;
/// Windows a case, as if they did not overlap: the ratio is then known to 1/sqrt(2 * 1600) = 1.8 %.
const WINDOWS: f64 = 1600.0;
/// The same in the short form, which its seed makes repeatable.
const QUICK_WHEELS: usize = 2;
const QUICK_WINDOWS: f64 = 400.0;

/// As much as gives enough windows, each a report period long or four pulses at `pulse_rate`, Hz.
fn extent(setting: &Setting, pulse_rate: f64, quick: bool) -> Extent {
    let (wheels, windows) = if quick { (QUICK_WHEELS, QUICK_WINDOWS) } else { (WHEELS, WINDOWS) };
    let window = setting.period().max(4.0 / pulse_rate);
    Extent { wheels, seconds: (windows / wheels as f64 * window).max(4.0) }
}

/// Pulses a second at `speed`.
fn pulse_rate(setting: &Setting, speed: f64) -> f64 {
    speed * setting.teeth as f64 / super::super::gear::CIRCUMFERENCE
}

fn settings(teeth: &[usize], rates: &[u32], errors: impl Fn(usize) -> &'static [f64]) -> Vec<Setting> {
    let mut all = Vec::new();
    for &teeth in teeth {
        for &rate in rates {
            for &error in errors(teeth) {
                all.extend([5e-6, 50e-6].map(|sigma| Setting { teeth, rate, sigma, error }));
            }
        }
    }
    all
}

fn real_teeth(teeth: usize) -> &'static [f64] {
    if teeth == 1 { &[0.0] } else { &[TOOTH_ERROR] }
}

/// A row of S1 to S3: multiples of the bound.
fn ratio_row(mut text: String, score: &Score, limit: f64, jumps: bool) -> Row {
    if score.bounds() >= 1.0 {
        text += &format!(", {:.0} % bounds", score.bounds());
    }
    if score.silence() >= 1.0 {
        text += &format!(", {:.0} % silent", score.silence());
    }
    let ours = score.ratio.get().unwrap_or(f64::NAN);
    let row = Row::new(text, ours, Gate::AtMost(limit)).bound(mm_per_s(score.bound.get())).peers(score.peer_ratios());
    row.unless(score.spoke(jumps), "silent at times")
}

/// S1 to S4 and S7, as wanted; gives the points of the picture.
pub(super) fn run(options: &Options, say: &mut dyn FnMut(&Group) -> io::Result<()>) -> io::Result<Vec<Point>> {
    let mut points = Vec::new();
    let (mut steady, mut swinging) = (Vec::new(), Vec::new());
    if options.wants(1) || options.wants(7) {
        steady = steady_scores(options);
        points.extend(steady.iter().map(|(setting, score)| point(setting, score)));
        if options.wants(1) {
            say(&constant_speed(&steady, options.quick))?;
        }
    }
    if options.wants(2) {
        let scores = accelerating_scores(options);
        points.extend(scores.iter().map(|(setting, _, score)| point(setting, score)));
        say(&constant_acceleration(&scores))?;
    }
    if options.wants(3) {
        say(&long_windows(options))?;
    }
    if options.wants(4) || options.wants(7) {
        swinging = swinging_scores(options);
        if options.wants(4) {
            say(&manoeuvre(&swinging))?;
        }
    }
    if options.wants(7) {
        say(&honesty(&steady, &swinging))?;
    }
    Ok(points)
}

fn point(setting: &Setting, score: &Score) -> Point {
    let [m, t, m_t, ls] = score.peer_ratios();
    Point { ratios: [m, t, m_t, ls, score.ratio.get()], real_teeth: setting.error > 0.0 }
}

fn steady_scores(options: &Options) -> Vec<(Setting, Score)> {
    let settings = if options.quick {
        let teeth = Setting { teeth: 48, rate: 10, sigma: 5e-6, error: TOOTH_ERROR };
        vec![
            Setting { teeth: 1, error: 0.0, ..teeth },
            Setting { teeth: 8, ..teeth },
            Setting { rate: 100, sigma: 50e-6, ..teeth },
            teeth,
        ]
    } else {
        settings(&[1, 8, 48, 60], &[1, 10, 100], tooth_errors)
    };
    let score = |setting: Setting| {
        // A window is never longer than 0.1 s but for four pulses; at 1 Hz one is taken a second all the same.
        let extent = extent(&setting, pulse_rate(&setting, 17.3), options.quick);
        (setting, measure(&setting, After::Steady, extent, options.seed))
    };
    settings.into_iter().map(score).collect()
}

fn constant_speed(scores: &[(Setting, Score)], quick: bool) -> Group {
    let mut group = Group::new("S1", "constant speed 17.3 m/s: rms error / Cramer-Rao bound of the same window");
    let mut ratios = Vec::new();
    for (setting, score) in scores {
        ratios.extend(score.ratio.get());
        group.rows.push(ratio_row(format!("{}, n {:.0}", setting.text(), score.edges()), score, 1.10, false));
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN);
    // Of the few cases of the short form the median is known half as well.
    let gate = if quick { Gate::Told } else { Gate::AtMost(1.02) };
    group.rows.push(Row::new(format!("median of {}", ratios.len()), median, gate));
    group
}

fn accelerating_scores(options: &Options) -> Vec<(Setting, After, Score)> {
    let settings = if options.quick {
        vec![Setting { teeth: 48, rate: 10, sigma: 5e-6, error: TOOTH_ERROR }]
    } else {
        settings(&[1, 8, 48, 60], &[10, 100], real_teeth)
    };
    let mut scores = Vec::new();
    for setting in settings {
        for (after, mean) in [(After::Brisk, 20.0), (After::Violent, 25.0)] {
            // A quarter of the windows reaches over a change of motion and does not count.
            let mut extent = extent(&setting, pulse_rate(&setting, mean), options.quick);
            extent.seconds *= 1.3;
            scores.push((setting, after, measure(&setting, after, extent, options.seed)));
        }
    }
    scores
}

fn constant_acceleration(scores: &[(Setting, After, Score)]) -> Group {
    let title = "constant acceleration: rms error / Cramer-Rao bound, acceleration unknown";
    let mut group = Group::new("S2", title);
    for (setting, after, score) in scores {
        let a = if *after == After::Brisk { 3 } else { 30 };
        group.rows.push(ratio_row(format!("{}, {a:>2} m/s2", setting.text()), score, 1.10, *after == After::Violent));
    }
    group
}

/// S3: reported once a second. Where four pulses take about a second, that is how long the window is; it is never
/// stretched for another reason, so that a wheel of many teeth keeps to 0.1 s.
fn long_windows(options: &Options) -> Group {
    let mut group = Group::new("S3", "constant acceleration, reported once a second: rms error / Cramer-Rao bound");
    let Extent { wheels, seconds } =
        if options.quick { Extent { wheels: 1, seconds: 400.0 } } else { Extent { wheels: 10, seconds: 1000.0 } };
    for (pitch, low, high, a) in [(1.94, 4.0, 16.0, 3.0), (8.0, 5.0, 65.0, 30.0), (1.94 / 48.0, 10.0, 34.0, 3.0)] {
        for sigma in [5e-6, 50e-6] {
            let teeth = if pitch < 1.0 { 48 } else { 1 };
            let setting = Setting { teeth, rate: 1, sigma, error: 0.0 };
            let mut chance = setting.chance(options.seed, &format!("long {pitch} {a}"));
            let mut road = Road::at(low).keep(30.0);
            while road.length() < seconds {
                road = road.change_to(high, a).change_to(low, a);
            }
            let mut score = Score::default();
            for _ in 0..wheels {
                let gear = Gear::new(teeth, 0.0, &mut chance).geared(pitch);
                let passings = stamped(&gear.passings(&road), sigma, &mut chance);
                let edges = delivered(passings.iter().map(|passing| passing.stamp), 1);
                let mut feed = Feed::new(wheel_options(&gear, 1.0), &edges);
                let (from, to, unknown) = (30.0, road.length(), Unknown::Acceleration);
                let trial = Trial {
                    road: &road,
                    gear: &gear,
                    passings: &passings,
                    edges: &edges,
                    sigma,
                    period: 1.0,
                    from,
                    to,
                    unknown,
                };
                trial.run(&mut feed, &mut score);
            }
            let (us, window) = (sigma * 1e6, score.seconds());
            let text = format!("pulse each {pitch:.2} m, {us:>2.0} us, {a:>2.0} m/s2, W {window:.2} s");
            group.rows.push(ratio_row(text, &score, 1.4, a > 20.0));
        }
    }
    group
}

fn swinging_scores(options: &Options) -> Vec<(Setting, Score)> {
    let teeth: &[usize] = if options.quick { &[48] } else { &[8, 48, 60] };
    let extent =
        if options.quick { Extent { wheels: 1, seconds: 20.0 } } else { Extent { wheels: WHEELS, seconds: 40.0 } };
    let score = |&teeth: &usize| {
        let setting = Setting { teeth, rate: 10, sigma: 5e-6, error: TOOTH_ERROR };
        (setting, measure(&setting, After::Manoeuvre, extent, options.seed))
    };
    teeth.iter().map(score).collect()
}

fn manoeuvre(scores: &[(Setting, Score)]) -> Group {
    let mut group = Group::new("S4", "manoeuvre 17.3 +- 5 m/s at 0.2 Hz (6.3 m/s2, 7.9 m/s3): rms error, mm/s");
    for (setting, score) in scores {
        let ours = score.error.get().map_or(f64::NAN, |error| error * 1e3);
        let row = Row::new(setting.text(), ours, Gate::AtMost(5.0)).bound(mm_per_s(score.bound.get()));
        let peers = score.peer_errors().map(|error| error.map(|error| error * 1e3));
        group.rows.push(row.peers(peers).unless(score.spoke(false), "silent at times"));
    }
    group
}

/// S7: stated 95 % intervals against the truth.
fn honesty(steady: &[(Setting, Score)], swinging: &[(Setting, Score)]) -> Group {
    let mut group = Group::new("S7", "how often the truth lies in the stated 95 % interval, percent");
    let order = |a: &&(Setting, Score), b: &&(Setting, Score)| a.1.coverage().total_cmp(&b.1.coverage());
    for (which, found) in [("lowest", steady.iter().min_by(order)), ("highest", steady.iter().max_by(order))] {
        if let Some((setting, score)) = found {
            let text = format!("S1 {which}: {}", setting.text());
            group.rows.push(Row::new(text, score.coverage(), Gate::Between(92.0, 98.0)).bound("95 %"));
        }
    }
    for (setting, score) in swinging {
        let text = format!("S4 {}", setting.text());
        group.rows.push(Row::new(text, score.coverage(), Gate::AtLeast(90.0)).bound("95 %"));
    }
    group
}
