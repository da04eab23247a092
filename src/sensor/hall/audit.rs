//! Counts events against the kernel's sequence numbers.

use crate::{clock::BootNs, sensor::Edge};

/// Over which events are counted against the request's sequence number.
const AUDIT_NS: u64 = 100_000_000;
/// With two lines, neighbours may have changed places; of so many edges in a row one finds all before it come.
const LOOKS: u32 = 4;

/// The numbers of one request, whose lines are counted each for itself. 0 before any other number is "unknown": polled and
/// simulated edges are not audited.
#[derive(Debug, Default)]
pub(super) struct Audit {
    line_seqnos: [Option<u32>; 2],
    /// The second line speaks, too. Each has its own thread in the kernel, so that a number may come after a higher one.
    both: bool,
    window: Option<Window>,
}

/// What was counted since `since`.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: BootNs,
    base: u32,
    newest: u32,
    accounted: u64,
    /// Fewest that were missing at any of the looks taken since it was time for one.
    least: u64,
    looks: u32,
}

impl Window {
    fn new(since: BootNs, base: u32, newest: u32) -> Self {
        Self { since, base, newest, accounted: 0, least: u64::MAX, looks: 0 }
    }
}

/// What an edge revealed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// By the line's number: exactly so many of its edges.
    pub(super) lost: u64,
    /// By the request's number: interrupts that became no event.
    pub(super) suspected: u64,
}

impl Audit {
    /// Takes the numbers of an edge of the first line, or of the second.
    pub(super) fn take(&mut self, edge: &Edge, request: bool) -> Found {
        let mut found = Found::default();
        self.both |= edge.line > 0;
        let newest = &mut self.line_seqnos[edge.line.min(1)];
        // After 4 294 967 295 comes a 0 that is known.
        if (edge.line_seqno != 0 || newest.is_some())
            && let Some(before) = newest.replace(edge.line_seqno)
        {
            found.lost = ahead(edge.line_seqno, before).saturating_sub(1);
        }
        if request && (edge.seqno != 0 || self.window.is_some()) {
            found.suspected = self.count(edge, found.lost);
        }
        found
    }

    fn count(&mut self, edge: &Edge, lost: u64) -> u64 {
        let Some(window) = &mut self.window else {
            self.window = Some(Window::new(edge.t, edge.seqno, edge.seqno));
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
        window.least = window.least.min(missing);
        window.looks += 1;
        if window.looks < if self.both { LOOKS } else { 1 } {
            return 0;
        }
        // What is missing only now may still come, and belongs to the next window.
        let (least, late) = (window.least, (missing - window.least) as u32);
        *window = Window::new(edge.t, window.newest.wrapping_sub(late), window.newest);
        least
    }
}

/// How far `newer` is ahead on the circle of sequence numbers; 0 when it is behind, or so far ahead that the counter
/// was started anew.
fn ahead(newer: u32, older: u32) -> u64 {
    let steps = newer.wrapping_sub(older);
    if steps < 1 << 20 { steps.into() } else { 0 }
}
