//! Edges of a pulse sensor become pulses that can be believed, each with its number.
//!
//! What the kernel delivers is not what the wheel did: edges come twice a few microseconds apart, interrupts are merged,
//! queues overflow, wires pick up sparks. Four checks, each counted:
//!
//! 1. **The line's sequence number** has a hole: the kernel's queue overflowed, and exactly so many edges are lost.
//! 2. **The request's sequence number** ran further than events came, counted over 100 ms and not between neighbours,
//!    because two lines' events may swap places: interrupts were merged. Only suspected, because the kernel can also
//!    count one interrupt twice.
//! 3. **The phase**: a pulse far earlier than the wheel could have turned is refused; one that is two or more pitches
//!    late, when no brake could have done it, tells how many are missing, and they are put back.
//! 4. **The polarity**, when both edges are listened to: they alternate. With two lines, the order of the four edges.
//!
//! With both edges, the pulses are the edges of the polarity that was seen first: the other ones come at an unknown
//! place between them (the duty cycle), and serve the audit and the question whether the wheel moves at all. With two
//! lines a quarter of a period apart, the pulses are where the first line rises on the way forward.

mod audit;
mod gap;
mod history;
mod quadrature;

use std::time::Duration;

use super::{Counters, Edge, EdgeKind};
use crate::clock::BootNs;
use audit::Audit;
use gap::Gap;
use history::{Advance, History, Step};
use quadrature::Quadrature;

/// Which edges are listened to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Edges {
    /// Low to high.
    #[default]
    Rising,
    /// High to low.
    Falling,
    /// Both; pulses are those of the polarity seen first.
    Both,
    /// Both edges of two lines a quarter of a period apart, the second line's in the same capture as line 1. A pulse is
    /// a period; the first line leads on the way forward.
    Quadrature,
}

/// Two edges of one polarity closer than this are one edge delivered twice, as Raspberry Pis are known to do, 2 to 7 us
/// apart.
pub const REPEAT: Duration = Duration::from_micros(15);

/// Refusals in a row after which the gate must be wrong, not the wheel; and how much of one refusal an accepted pulse
/// makes up for: more than one in five refused leads to the same.
const MAX_PRESSURE: f64 = 3.0;
const RELIEF: f64 = 0.25;

/// What to believe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Which edges are listened to.
    pub edges: Edges,
    /// Highest pulse rate there can be, Hz; up to twice that is let through, so that a wrong limit is seen as such.
    pub max_rate: f64,
    /// Hardest change of the pulse rate there can be, Hz/s.
    pub max_rate_change: f64,
    /// How well edges are stamped at best: the floor of the jitter.
    pub stamp_floor: Duration,
    /// The request's sequence number counts this sensor's lines alone, any others in it being silent.
    pub request_audit: bool,
    /// Places for teeth a turn, and how many of them in a row have none; 0 for a wheel without a gap.
    pub gap: (u32, u32),
}

/// A pulse, numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// When.
    pub t: BootNs,
    /// The place the wheel passed, counted from the first pulse in pitches; lost pulses and left-out teeth are counted.
    /// On the way back it falls, and the place where the wheel turned comes twice.
    pub index: i64,
    /// 1 forward, which is all one line can tell, or -1.
    pub way: i8,
    /// The number of pitches since the pulse before is a guess, or the wheel turned round: nothing may be concluded
    /// across.
    pub cut: bool,
    /// Something was lost, put back or refused since the pulse before.
    pub doubtful: bool,
    /// Which place of the turn it is, when a gap in the teeth tells: 0 is the first tooth after it.
    pub place: Option<u64>,
}

/// What is known of a wheel beyond its last intervals, by whoever follows it.
pub trait Foresight {
    /// How many pitches it should have turned from the newest pulse to `t`.
    fn phase(&self, t: BootNs) -> Option<f64>;
    /// Whether that is worth more than the last intervals: not while pulse after pulse comes elsewhere.
    fn follows(&self) -> bool;
    /// How many pitches the tooth `ahead` of the newest one (0: that one) lies beyond its place.
    fn offset(&self, ahead: i64) -> f64;
}

/// Nothing is known.
impl Foresight for () {
    fn phase(&self, _: BootNs) -> Option<f64> {
        None
    }

    fn follows(&self) -> bool {
        false
    }

    fn offset(&self, _: i64) -> f64 {
        0.0
    }
}

/// Lets pulses through. See the module.
#[derive(Debug)]
pub struct Conditioner {
    options: Options,
    audit: Audit,
    counted: Option<EdgeKind>,
    quadrature: Quadrature,
    gap: Option<Gap>,
    /// The newest edge of each line.
    last_edges: [Option<(EdgeKind, BootNs)>; 2],
    last: Option<Pulse>,
    history: History,
    /// Edges of the counted polarity known lost since the last pulse, and whether that number is sure.
    lost: u64,
    unsure: bool,
    doubtful: bool,
    /// Refusals of late, as if in a row.
    pressure: f64,
    /// Edges whose like came before, with none of the other polarity between.
    unpaired: u64,
    counters: Counters,
}

impl Conditioner {
    /// One that has seen nothing.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            audit: Audit::default(),
            counted: match options.edges {
                Edges::Rising | Edges::Quadrature => Some(EdgeKind::Rising),
                Edges::Falling => Some(EdgeKind::Falling),
                Edges::Both => None,
            },
            quadrature: Quadrature::default(),
            gap: Gap::new(options.gap.0, options.gap.1),
            last_edges: [None; 2],
            last: None,
            history: History::new(options.stamp_floor.as_secs_f64()),
            lost: 0,
            unsure: false,
            doubtful: false,
            pressure: 0.0,
            unpaired: 0,
            counters: Counters::default(),
        }
    }

    /// Takes an edge; gives the pulse it is, if it is one. With two lines it may be the pulse an edge before was.
    pub fn on_edge(&mut self, edge: &Edge, wheel: &impl Foresight) -> Option<Pulse> {
        // Only of two lines does it matter which; the capture may number a single one as it likes.
        let line = if self.options.edges == Edges::Quadrature { edge.line.min(1) } else { 0 };
        let edge = &Edge { line, ..*edge };
        let before = self.last_edges[line];
        self.count_losses(edge, before.map(|(kind, _)| kind));
        if self.options.edges != Edges::Quadrature {
            self.counted.get_or_insert(edge.kind);
        }
        if let Some((kind, t)) = before {
            let repeated = kind == edge.kind && edge.t.since(t) < REPEAT;
            if edge.t < t || repeated {
                self.refuse();
                return None;
            }
            if self.options.edges == Edges::Both && kind == edge.kind && self.lost == 0 && !self.unsure {
                // The edge between them is missing: one of the other polarity, so that no pulse is.
                self.counters.suspected += 1;
                self.unpaired += 1;
                self.doubtful = true;
            }
        }
        self.last_edges[line] = Some((edge.kind, edge.t));
        if self.options.edges == Edges::Quadrature {
            return self.on_quadrature(edge, wheel);
        }
        if Some(edge.kind) != self.counted { None } else { self.admit(edge.t, 1, wheel) }
    }

    fn on_quadrature(&mut self, edge: &Edge, wheel: &impl Foresight) -> Option<Pulse> {
        let illegal = self.quadrature.illegal();
        let crossing = self.quadrature.take(edge);
        self.doubtful |= self.quadrature.illegal() > illegal;
        let crossing = crossing?;
        match self.last {
            // Round and past the same place again.
            Some(last) if last.way != crossing.way => {
                self.history.forget();
                Some(self.accept(crossing.t, last.index, crossing.way, true))
            }
            Some(last) if crossing.t <= last.t => None,
            _ => self.admit(crossing.t, crossing.way, wheel),
        }
    }

    /// Time of the newest sign of motion: the newest edge of whichever polarity; with two lines, the newest that was
    /// not the same line's to and fro.
    pub fn last_motion(&self) -> Option<BootNs> {
        match self.options.edges {
            Edges::Quadrature => self.quadrature.moved(),
            _ => self.last_edges[0].map(|(_, t)| t),
        }
    }

    /// How many pitches lie between the newest pulse and the next tooth: 1, or more at a gap.
    pub fn places_to_next(&self) -> u64 {
        self.gap.as_ref().map_or(1, |gap| gap.places_ahead(1))
    }

    /// Standard deviation of the stamps, seconds.
    pub fn jitter(&self) -> f64 {
        self.history.jitter()
    }

    /// 1 forward, -1 backward; 0 when it is not known, as always with one line.
    pub fn direction(&self) -> i8 {
        self.quadrature.direction()
    }

    /// With both edges, or two lines: edges that came out of turn, because others are missing.
    pub fn out_of_turn(&self) -> u64 {
        self.unpaired + self.quadrature.illegal()
    }

    /// What was taken, lost and refused so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn count_losses(&mut self, edge: &Edge, before: Option<EdgeKind>) {
        let found = self.audit.take(edge, self.options.request_audit);
        self.counters.lost += found.lost;
        self.counters.suspected += found.suspected;
        self.doubtful |= found.lost + found.suspected > 0;
        let quadrature = self.options.edges == Edges::Quadrature;
        if found.lost == 0 || (quadrature && edge.line != 0) {
            return;
        }
        let counted = if quadrature { Some(self.quadrature.counted()) } else { self.counted };
        let (pulses, sure) = match (self.options.edges, before, counted) {
            (Edges::Both | Edges::Quadrature, Some(before), Some(counted)) => {
                // Edges alternate: of n after a counted one, the other polarity comes first.
                let pulses = if before == counted { found.lost / 2 } else { found.lost.div_ceil(2) };
                (pulses, (before == edge.kind) == (found.lost % 2 == 1))
            }
            _ => (found.lost, true),
        };
        self.lost += pulses;
        self.unsure |= !sure;
    }

    fn admit(&mut self, t: BootNs, way: i8, wheel: &impl Foresight) -> Option<Pulse> {
        let Some(last) = self.last else { return Some(self.accept(t, 0, way, false)) };
        let interval = t.since(last.t).as_secs_f64();
        let step = self.step(t, interval, wheel);
        match self.history.judge(&step, &self.options) {
            Advance::Early if self.pressure + 1.0 < MAX_PRESSURE => {
                self.pressure += 1.0;
                self.refuse();
                if let Some(gap) = self.gap.as_mut().filter(|_| step.next > 1) {
                    gap.miss();
                }
                None
            }
            Advance::Early => {
                self.pressure = 0.0;
                Some(self.cut(t, last, way))
            }
            Advance::By { places, sure } => {
                let missing = if self.lost > 0 { self.lost } else { places.saturating_sub(step.next) };
                self.counters.repaired += missing;
                self.doubtful |= !sure;
                let cut = std::mem::take(&mut self.unsure);
                if let Some(gap) = &mut self.gap {
                    gap.turned(places, !self.doubtful && !cut);
                }
                // Where the teeth should be, not where they are.
                let ahead = i64::from(way) * places as i64;
                let moved = (wheel.offset(ahead) - wheel.offset(0)) * f64::from(way);
                let pitch = self.history.newest().unwrap_or(0.0);
                let early = self.history.is_spark(&step, places, &self.options);
                self.history.push((interval - moved * pitch).max(0.5 * interval), places, early);
                Some(self.accept(t, last.index + ahead, way, cut))
            }
            Advance::Unknown => Some(self.cut(t, last, way)),
        }
    }

    fn step(&self, t: BootNs, interval: f64, wheel: &impl Foresight) -> Step {
        let ahead = |teeth| self.gap.as_ref().map_or(teeth, |gap| gap.places_ahead(teeth));
        let ratio = self.history.newest().map(|pitch| interval / pitch);
        let next = match (&self.gap, ratio) {
            (Some(gap), Some(ratio)) if gap.looks_like_gap(ratio) => gap.width(),
            _ => ahead(1),
        };
        let told = (self.lost > 0).then(|| ahead(self.lost + 1));
        Step { interval, next, told, foreseen: wheel.phase(t), follows: wheel.follows() }
    }

    /// A pulse after a stretch of which nobody knows how many there were.
    fn cut(&mut self, t: BootNs, last: Pulse, way: i8) -> Pulse {
        self.history.forget();
        if let Some(gap) = &mut self.gap {
            gap.forget();
        }
        let lost = i64::try_from(self.lost).unwrap_or(0);
        self.accept(t, last.index + i64::from(way) * (1 + lost), way, true)
    }

    fn accept(&mut self, t: BootNs, index: i64, way: i8, cut: bool) -> Pulse {
        let doubtful = std::mem::take(&mut self.doubtful) || cut;
        let place = self.gap.as_ref().and_then(Gap::place);
        let pulse = Pulse { t, index, way, cut, doubtful, place };
        self.counters.inputs += 1;
        self.pressure = (self.pressure - RELIEF).max(0.0);
        self.lost = 0;
        self.unsure = false;
        self.last = Some(pulse);
        pulse
    }

    fn refuse(&mut self) {
        self.counters.rejected += 1;
        self.doubtful = true;
    }
}

#[cfg(test)]
#[path = "hall_tests.rs"]
mod tests;
