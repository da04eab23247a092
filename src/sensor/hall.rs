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
//! 4. **The polarity**, when both edges are listened to: they alternate.
//!
//! With both edges, the pulses are the edges of the polarity that was seen first: the other ones come at an unknown
//! place between them (the duty cycle), and serve the audit and the question whether the wheel moves at all.

use std::time::Duration;

use super::{Counters, Edge, EdgeKind};
use crate::clock::BootNs;

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
}

/// Two edges of one polarity closer than this are one edge delivered twice, as Raspberry Pis are known to do, 2 to 7 us
/// apart.
pub const REPEAT: Duration = Duration::from_micros(15);

/// A pulse this much of a pitch early or late is what tooth errors and a steady hand explain.
const SLACK: f64 = 0.25;
/// An interval and the one before it differ by sqrt(6) sigma of jitter: this is 3.7 of that, and the shortest of three is
/// taken on top. Where it comes to a whole pitch the stamps are too rough to refuse anything.
const NOISE: f64 = 9.0;
/// Above this, in pitches, the wheel or the jitter could have done it: nothing is put back.
const AMBIGUOUS: f64 = 0.35;
/// Refusals in a row after which the gate must be wrong, not the wheel; and how much of one refusal an accepted pulse
/// makes up for: more than one in five refused leads to the same.
const MAX_PRESSURE: f64 = 3.0;
const RELIEF: f64 = 0.25;
/// Over which events are counted against the request's sequence number.
const AUDIT_NS: u64 = 100_000_000;
/// Bounds of the jitter that is believed, seconds: below, the kernel's stamps are not better; above, it is the wheel.
const JITTER_MIN: f64 = 0.3e-6;
const JITTER_MAX: f64 = 100e-6;
/// Jitter assumed until four pulses have come.
const JITTER_FIRST: f64 = 50e-6;
/// E|D3| of white jitter: sqrt(20) * sqrt(2/pi), D3 being the third difference of the stamps.
const THIRD_DIFFERENCE: f64 = 3.568;

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
    /// The request's sequence number counts this line alone, the others in it being silent.
    pub request_audit: bool,
}

/// A pulse, numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// When.
    pub t: BootNs,
    /// How many pitches the wheel has turned since the first pulse, lost pulses counted.
    pub index: u64,
    /// The number of pitches since the pulse before is a guess: nothing may be concluded across.
    pub cut: bool,
    /// Something was lost, put back or refused since the pulse before.
    pub doubtful: bool,
}

/// Lets pulses through. See the module.
#[derive(Debug)]
pub struct Conditioner {
    options: Options,
    audit: Audit,
    counted: Option<EdgeKind>,
    last_edge: Option<(EdgeKind, BootNs)>,
    last: Option<Pulse>,
    history: History,
    /// Edges of the counted polarity known lost since the last pulse, and whether that number is sure.
    lost: u64,
    unsure: bool,
    doubtful: bool,
    /// Refusals of late, as if in a row.
    pressure: f64,
    counters: Counters,
}

impl Conditioner {
    /// One that has seen nothing.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            audit: Audit::default(),
            counted: match options.edges {
                Edges::Rising => Some(EdgeKind::Rising),
                Edges::Falling => Some(EdgeKind::Falling),
                Edges::Both => None,
            },
            last_edge: None,
            last: None,
            history: History::new(options.stamp_floor.as_secs_f64()),
            lost: 0,
            unsure: false,
            doubtful: false,
            pressure: 0.0,
            counters: Counters::default(),
        }
    }

    /// Takes an edge; gives the pulse it is, if it is one.
    pub fn on_edge(&mut self, edge: &Edge) -> Option<Pulse> {
        let before = self.last_edge;
        self.count_losses(edge, before.map(|(kind, _)| kind));
        let counted = *self.counted.get_or_insert(edge.kind);
        if before.is_some_and(|(_, t)| edge.t < t) {
            self.refuse();
            return None;
        }
        if let Some((kind, t)) = before {
            let repeated = kind == edge.kind && edge.t.since(t) < REPEAT;
            if repeated {
                self.refuse();
                return None;
            }
            if self.options.edges == Edges::Both && kind == edge.kind && self.lost == 0 && !self.unsure {
                // The edge between them is missing: one of the other polarity, so that no pulse is.
                self.counters.suspected += 1;
                self.doubtful = true;
            }
        }
        self.last_edge = Some((edge.kind, edge.t));
        if edge.kind != counted {
            return None;
        }
        self.admit(edge.t)
    }

    /// Time of the newest edge of whichever polarity: the newest sign of motion.
    pub fn last_edge(&self) -> Option<BootNs> {
        self.last_edge.map(|(_, t)| t)
    }

    /// Standard deviation of the stamps, seconds.
    pub fn jitter(&self) -> f64 {
        self.history.jitter
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
        if found.lost == 0 {
            return;
        }
        let (pulses, sure) = match (self.options.edges, before, self.counted) {
            (Edges::Both, Some(before), Some(counted)) => {
                // Edges alternate: of n after a counted one, the other polarity comes first.
                let pulses = if before == counted { found.lost / 2 } else { found.lost.div_ceil(2) };
                (pulses, (before == edge.kind) == (found.lost % 2 == 1))
            }
            _ => (found.lost, true),
        };
        self.lost += pulses;
        self.unsure |= !sure;
    }

    fn admit(&mut self, t: BootNs) -> Option<Pulse> {
        let Some(last) = self.last else { return Some(self.accept(t, 0, false)) };
        let interval = t.since(last.t).as_secs_f64();
        let advance = self.history.judge(interval, &self.options, self.lost);
        match advance {
            Advance::Early if self.pressure + 1.0 < MAX_PRESSURE => {
                self.pressure += 1.0;
                self.refuse();
                None
            }
            Advance::Early => {
                self.pressure = 0.0;
                self.history.forget();
                Some(self.accept(t, last.index + 1 + self.lost, true))
            }
            Advance::By(pitches) => {
                self.counters.repaired += pitches - 1;
                self.doubtful |= pitches > 1;
                let cut = std::mem::take(&mut self.unsure);
                self.history.push(interval, pitches);
                Some(self.accept(t, last.index + pitches, cut))
            }
            Advance::Unknown => {
                self.history.forget();
                Some(self.accept(t, last.index + 1 + self.lost, true))
            }
        }
    }

    fn accept(&mut self, t: BootNs, index: u64, cut: bool) -> Pulse {
        let pulse = Pulse { t, index, cut, doubtful: std::mem::take(&mut self.doubtful) || cut };
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

/// What an interval means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Advance {
    /// No wheel turns so fast.
    Early,
    /// So many pitches.
    By(u64),
    /// Pulses were lost, and the phase does not agree how many.
    Unknown,
}

/// The last three intervals a pitch, newest first, and what they say of the jitter.
#[derive(Debug)]
struct History {
    intervals: [f64; 3],
    known: usize,
    /// Whether all of them were single pitches.
    single: [bool; 3],
    floor: f64,
    jitter: f64,
    measured: u32,
}

impl History {
    fn new(floor: f64) -> Self {
        let floor = floor.max(JITTER_MIN);
        let jitter = JITTER_FIRST.max(floor);
        // As if eight had been measured: one small difference must not make the gate narrow.
        Self { intervals: [0.0; 3], known: 0, single: [false; 3], floor, jitter, measured: 8 }
    }

    fn forget(&mut self) {
        self.known = 0;
    }

    fn push(&mut self, interval: f64, pitches: u64) {
        self.intervals = [interval / pitches as f64, self.intervals[0], self.intervals[1]];
        self.single = [pitches == 1, self.single[0], self.single[1]];
        self.known = (self.known + 1).min(3);
        if self.known == 3 && self.single == [true; 3] {
            self.measure_jitter();
        }
    }

    /// `D3 = t0 - 3 t1 + 3 t2 - t3`, to which steady and evenly changing speeds contribute nothing; a mean over about
    /// 64 of them.
    fn measure_jitter(&mut self) {
        let [newest, middle, oldest] = self.intervals;
        let sigma = (newest - 2.0 * middle + oldest).abs() / THIRD_DIFFERENCE;
        self.measured = (self.measured + 1).min(64);
        let mean = self.jitter + (sigma - self.jitter) / f64::from(self.measured);
        self.jitter = mean.clamp(self.floor, JITTER_MAX.max(self.floor));
    }

    /// Predicts `p = interval * rate` pitches and says what came; `lost` are known lost.
    fn judge(&self, interval: f64, options: &Options, lost: u64) -> Advance {
        if (interval + NOISE * self.jitter) * options.max_rate * 2.0 < 1.0 {
            return Advance::Early;
        }
        if self.known == 0 {
            return if lost == 0 { Advance::By(1) } else { Advance::Unknown };
        }
        let newest = self.intervals[0];
        // The rate was measured over the interval before: from its middle to the end of this one the wheel may have
        // gained 1/2 g (old + new) in rate, and that times the interval in phase.
        let change = 0.5 * options.max_rate_change * interval * (newest + interval);
        let shortest = self.intervals[..self.known].iter().copied().fold(f64::INFINITY, f64::min);
        let noise = SLACK.max(NOISE * self.jitter / shortest);
        // By the shortest of three: after a gap in the teeth, or a glitch let through, the others are the longer.
        if interval / shortest + change < 1.0 - noise {
            return Advance::Early;
        }
        let phase = interval / newest;
        let slack = change.max(noise);
        if lost > 0 {
            let agrees = (phase - (lost + 1) as f64).abs() <= slack;
            return if agrees { Advance::By(lost + 1) } else { Advance::Unknown };
        }
        let pitches = phase.round();
        let braking = (1.0 / newest - 1.0 / interval) / (0.5 * (newest + interval));
        if pitches >= 2.0 && slack <= AMBIGUOUS && (phase - pitches).abs() <= slack && braking > options.max_rate_change
        {
            return Advance::By(pitches as u64);
        }
        Advance::By(1)
    }
}

/// Counts events against sequence numbers. 0 is "unknown": polled and simulated edges are not audited.
#[derive(Debug, Default)]
struct Audit {
    line_seqno: u32,
    window: Option<Window>,
}

/// What was counted since `since`.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: BootNs,
    base: u32,
    newest: u32,
    accounted: u64,
}

/// What an edge revealed.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    lost: u64,
    suspected: u64,
}

impl Audit {
    fn take(&mut self, edge: &Edge, request: bool) -> Found {
        let mut found = Found::default();
        // After 4 294 967 295 it is not unknown but has come round.
        if edge.line_seqno != 0 || self.line_seqno == u32::MAX {
            if self.line_seqno != 0 {
                found.lost = ahead(edge.line_seqno, self.line_seqno).saturating_sub(1);
            }
            self.line_seqno = edge.line_seqno;
        }
        if request && edge.seqno != 0 {
            found.suspected = self.count(edge, found.lost);
        }
        found
    }

    fn count(&mut self, edge: &Edge, lost: u64) -> u64 {
        let Some(window) = &mut self.window else {
            self.window = Some(Window { since: edge.t, base: edge.seqno, newest: edge.seqno, accounted: 0 });
            return 0;
        };
        if ahead(edge.seqno, window.newest) > 0 {
            window.newest = edge.seqno;
        }
        window.accounted += 1 + lost;
        if edge.t.since(window.since).as_nanos() < u128::from(AUDIT_NS) {
            return 0;
        }
        let missing = ahead(window.newest, window.base).saturating_sub(window.accounted);
        *window = Window { since: edge.t, base: window.newest, newest: window.newest, accounted: 0 };
        missing
    }
}

/// How far `newer` is ahead on the circle of sequence numbers; 0 when it is behind, or so far ahead that the counter
/// was started anew.
fn ahead(newer: u32, older: u32) -> u64 {
    let steps = newer.wrapping_sub(older);
    if steps < 1 << 20 { steps.into() } else { 0 }
}

#[cfg(test)]
#[path = "hall_tests.rs"]
mod tests;
