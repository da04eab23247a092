//! What happens to edges between the tooth and the program, put in by chance and counted.

use speedwell::sensor::Edge;

use super::{
    chance::Chance,
    gear::{Passing, boot, delivered, drive_time, rising},
};

/// Share of interrupts that a Raspberry Pi delivers twice, and how far apart, s (raspberrypi/linux issue 5214).
const TWICE: f64 = 0.015;
const TWICE_AFTER: (f64, f64) = (2e-6, 7e-6);
/// Share of edges that never reach the kernel.
const LOST: f64 = 0.002;
/// Sparks a second, at any time.
const GLITCHES: f64 = 2.0;
/// Share of edges whose interrupt waits for others, and for how long, s.
const LATE: f64 = 0.01;
const LATE_BY: (f64, f64) = (50e-6, 500e-6);

/// Ways to spoil a stream without a word from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Twice,
    Lost,
    Glitches,
    Late,
    /// The first three at once.
    All,
}

/// The stream as it is delivered; from `from` on it is spoilt. Nothing in the sequence numbers gives it away.
pub(crate) fn spoilt(passings: &[Passing], fault: Option<Fault>, from: f64, chance: &mut Chance) -> Vec<Edge> {
    let has = |one| fault == Some(one) || (fault == Some(Fault::All) && one != Fault::Late);
    let start = boot(from);
    let mut stamps = Vec::with_capacity(passings.len() + passings.len() / 32);
    for passing in passings {
        let spoil = passing.stamp >= start;
        if spoil && has(Fault::Lost) && chance.happens(LOST) {
            continue;
        }
        let after = |by| boot(drive_time(passing.stamp) + by);
        let late = spoil && has(Fault::Late) && chance.happens(LATE);
        stamps.push(if late { after(chance.between(LATE_BY.0, LATE_BY.1)) } else { passing.stamp });
        if spoil && has(Fault::Twice) && chance.happens(TWICE) {
            stamps.push(after(chance.between(TWICE_AFTER.0, TWICE_AFTER.1)));
        }
    }
    if let Some(last) = passings.last().filter(|_| has(Fault::Glitches)) {
        let end = drive_time(last.stamp);
        let sparks = ((end - from) * GLITCHES) as usize;
        stamps.extend((0..sparks).map(|_| boot(chance.between(from, end))));
    }
    stamps.sort_unstable();
    delivered(stamps, 1)
}

/// What the kernel tells of by its sequence numbers, and how much of it was put in.
#[derive(Debug)]
pub(crate) struct Gaps {
    pub(crate) edges: Vec<Edge>,
    /// Edges discarded by full queues.
    pub(crate) overflown: u64,
    /// Interrupts merged into the next, and interrupts counted twice: either leaves a hole in the request's numbers alone.
    pub(crate) merged: u64,
    pub(crate) counted_twice: u64,
}

/// Queues overflow by 1 to `longest` edges, interrupts merge, and one in three times an interrupt is counted twice
/// although none is missing; on average one of these each `spacing` edges, none within the first and last 2000. The
/// numbers start at `seqno`.
pub(crate) fn with_gaps(passings: &[Passing], spacing: f64, longest: f64, seqno: u32, chance: &mut Chance) -> Gaps {
    let mut gaps = Gaps { edges: Vec::with_capacity(passings.len()), overflown: 0, merged: 0, counted_twice: 0 };
    let (mut request, mut line) = (seqno, seqno);
    let mut at = 0;
    while at < passings.len() {
        let inside = at >= 2000 && at + 2000 < passings.len();
        if inside && chance.happens(1.0 / spacing) {
            match (3.0 * chance.even()) as u32 {
                0 => {
                    let run = chance.between(1.0, longest + 1.0) as usize;
                    (request, line) = (request.wrapping_add(run as u32), line.wrapping_add(run as u32));
                    gaps.overflown += run as u64;
                    at += run;
                }
                // The interrupt is counted, its event is overwritten by the next one's.
                1 => {
                    request = request.wrapping_add(1);
                    gaps.merged += 1;
                    at += 1;
                }
                _ => {
                    request = request.wrapping_add(1);
                    gaps.counted_twice += 1;
                }
            }
        }
        gaps.edges.push(rising(passings[at].stamp, request, line));
        (request, line) = (request.wrapping_add(1), line.wrapping_add(1));
        at += 1;
    }
    gaps
}
