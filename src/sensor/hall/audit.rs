//! Counts events against the kernel's sequence numbers.

use crate::{clock::BootNs, sensor::Edge};

/// Over which events are counted against the request's sequence number.
const AUDIT_NS: u64 = 100_000_000;

/// The numbers of one request, whose lines are counted each for itself. 0 is "unknown": polled and simulated edges are
/// not audited.
#[derive(Debug, Default)]
pub(super) struct Audit {
    line_seqnos: [u32; 2],
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
        let newest = &mut self.line_seqnos[edge.line.min(1)];
        // After 4 294 967 295 it is not unknown but has come round.
        if edge.line_seqno != 0 || *newest == u32::MAX {
            if *newest != 0 {
                found.lost = ahead(edge.line_seqno, *newest).saturating_sub(1);
            }
            *newest = edge.line_seqno;
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
