//! The properties S1 to S14, a file a kind of drive.

mod cost;
mod gaps;
mod live;
mod missing;
mod odometer;
mod spoilt;
mod standstill;
mod table;
mod windows;

use std::io;

use super::{
    chance::Chance,
    gear::{Gear, Passing, TOOTH_ERROR, stamped},
    options::Options,
    plot::Point,
    report::Group,
    road::Road,
};

/// What is not judged here.
pub(crate) const NEED_HARDWARE: [&str; 2] = [
    "S15  latency from edge to published sample: not judged here, needs a gateway",
    "S16  2,000 edges a second for an hour under full load: not judged here, needs a gateway and a signal generator",
];

/// Looks at what is wanted, in order; gives the points of the picture.
pub(crate) fn run(options: &Options, say: &mut dyn FnMut(&Group) -> io::Result<()>) -> io::Result<Vec<Point>> {
    let points = windows::run(options, say)?;
    type Part = fn(&Options) -> Group;
    let parts: [(u8, Part); 9] = [
        (5, live::cruise),
        (6, live::step),
        (8, odometer::run),
        (9, spoilt::run),
        (10, gaps::run),
        (11, standstill::run),
        (12, table::run),
        (13, missing::run),
        (14, cost::run),
    ];
    for (_, part) in parts.into_iter().filter(|(number, _)| options.wants(*number)) {
        say(&part(options))?;
    }
    Ok(points)
}

/// A sensor and how it is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Setting {
    pub(crate) teeth: usize,
    /// Reports a second.
    pub(crate) rate: u32,
    /// Standard deviation of the stamps, s.
    pub(crate) sigma: f64,
    /// Standard deviation of a tooth's place, pitches.
    pub(crate) error: f64,
}

impl Setting {
    fn period(&self) -> f64 {
        1.0 / f64::from(self.rate)
    }

    /// For the table, in columns of its own.
    fn text(&self) -> String {
        let Setting { teeth, rate, .. } = self;
        let noun = if *teeth == 1 { "tooth" } else { "teeth" };
        let (jitter, error) = (self.sigma * 1e6, self.error * 100.0);
        format!("{teeth:>2} {noun} +-{error:.0} %, {rate:>3} Hz, {jitter:>2.0} us")
    }

    /// The case's own chance.
    fn chance(&self, seed: u64, part: &str) -> Chance {
        Chance::of(seed, &format!("{part} {self:?}"))
    }
}

/// The teeth of a car's wheel, where one wheel is as good as another.
const TEETH: usize = 48;
/// How long a new wheel is driven before anything counts, as any wheel is before its first day is over, s.
const CRUISE: f64 = 100.0;

/// An ordinary cruise on which the teeth can be learned: 15 +- 2 m/s, three slow waves; ends at 15 m/s.
fn cruise() -> Road {
    Road::at(15.0).swing(2.0, 3.0 / CRUISE, CRUISE)
}

/// A new wheel on a road: its teeth, and its edges as they were and as they were stamped.
fn drive(teeth: usize, error: f64, sigma: f64, road: &Road, chance: &mut Chance) -> (Gear, Vec<Passing>) {
    let gear = Gear::new(teeth, error, chance);
    let passings = stamped(&gear.passings(road), sigma, chance);
    (gear, passings)
}

/// Ways to spoil teeth: none for a single one, whose place is where it is.
fn tooth_errors(teeth: usize) -> &'static [f64] {
    if teeth == 1 { &[0.0] } else { &[0.0, TOOTH_ERROR] }
}
