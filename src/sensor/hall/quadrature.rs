//! Two lines a quarter of a period apart tell which way a wheel turns.

use crate::{
    clock::BootNs,
    sensor::{Edge, EdgeKind},
};

/// Steps in a row that make a direction.
const SETTLED: u32 = 2;

/// Follows the four edges of a period by their kind alone, because the level is read late and the kind is not:
///
/// ```text
/// code            0    1    2    3    0        forward: +1 an edge
/// first line   ___/‾‾‾‾‾‾‾‾‾\_________/‾‾      backward: -1
/// second line  ________/‾‾‾‾‾‾‾‾‾\_______      the same line to and fro: +2
/// ```
///
/// A step of 2 is either a turn or a lost edge; the next edge tells. It goes on the old way: one was lost. It goes the
/// other way: a turn, at the edge that was held. The first line again: it only trembled there, and nothing moved.
#[derive(Debug, Default)]
pub(super) struct Quadrature {
    newest: Option<u8>,
    /// A step of 2 whose meaning the next edge will tell.
    held: Option<(u8, BootNs)>,
    /// 1 forward, -1 backward, 0 not known.
    way: i8,
    steps: u32,
    settled: i8,
    illegal: u64,
    /// When it last moved on from the place it was at.
    moved: Option<BootNs>,
}

/// The wheel passed the one place of a period that counts: where the first line rises on the way forward, which is
/// where it falls on the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crossing {
    pub(super) t: BootNs,
    pub(super) way: i8,
}

impl Quadrature {
    /// Takes an edge of the first line (0) or the second (any other).
    pub(super) fn take(&mut self, edge: &Edge) -> Option<Crossing> {
        let code = code(edge);
        match self.held.take() {
            None => self.step(code, edge.t),
            // Each line has its own thread in the kernel: neighbours may have changed places on the way.
            Some((held, t)) if edge.t < t => {
                let first = self.step(code, edge.t);
                self.step(held, t).or(first)
            }
            Some(held) => self.resolve(held, code, edge.t),
        }
    }

    /// 1 forward, -1 backward; 0 until two steps agreed.
    pub(super) fn direction(&self) -> i8 {
        self.settled
    }

    /// The kind of edge of the first line that counts.
    pub(super) fn counted(&self) -> EdgeKind {
        if self.way < 0 { EdgeKind::Falling } else { EdgeKind::Rising }
    }

    /// Steps that no wheel makes: edges were lost or came from elsewhere.
    pub(super) fn illegal(&self) -> u64 {
        self.illegal
    }

    /// Time of the newest edge that was a motion, and not the same line's to and fro.
    pub(super) fn moved(&self) -> Option<BootNs> {
        self.moved
    }

    fn step(&mut self, code: u8, t: BootNs) -> Option<Crossing> {
        if let Some(newest) = self.newest {
            match difference(code, newest) {
                2 => {
                    self.held = Some((code, t));
                    return None;
                }
                step @ (1 | -1) if self.way == 0 || step == self.way => self.agree(step),
                // Back without passing the newest edge again, or the same edge twice: others are missing between.
                _ => self.disagree(),
            }
        }
        self.newest = Some(code);
        self.moved = Some(t);
        self.pass(code, t)
    }

    fn resolve(&mut self, (held, held_t): (u8, BootNs), code: u8, t: BootNs) -> Option<Crossing> {
        self.newest = Some(code);
        let step = difference(code, held);
        if step == 2 {
            // To and fro at one edge: the wheel trembles there, and did not pass.
            return None;
        }
        self.moved = Some(t);
        match step {
            step @ (1 | -1) if self.way == 0 => {
                self.agree(step);
                self.pass(code, t)
            }
            step @ (1 | -1) if step == self.way => {
                self.disagree();
                self.pass(held, held_t).or(self.pass(code, t))
            }
            step @ (1 | -1) => {
                (self.way, self.steps) = (step, 1);
                self.agree(step);
                self.pass(held, held_t).or(self.pass(code, t))
            }
            _ => {
                self.disagree();
                self.pass(code, t)
            }
        }
    }

    fn agree(&mut self, step: i8) {
        self.way = step;
        self.steps = self.steps.saturating_add(1);
        if self.steps >= SETTLED {
            self.settled = step;
        }
    }

    fn disagree(&mut self) {
        self.illegal += 1;
        self.steps = 0;
    }

    fn pass(&self, code: u8, t: BootNs) -> Option<Crossing> {
        let passes = matches!((self.way, code), (1, 0) | (-1, 2));
        passes.then_some(Crossing { t, way: self.way })
    }
}

/// The place of an edge in a period, on the way forward.
fn code(edge: &Edge) -> u8 {
    match (edge.line, edge.kind) {
        (0, EdgeKind::Rising) => 0,
        (_, EdgeKind::Rising) => 1,
        (0, EdgeKind::Falling) => 2,
        (_, EdgeKind::Falling) => 3,
    }
}

/// Steps from `older` to `newer`: -1, 0, 1 or 2.
fn difference(newer: u8, older: u8) -> i8 {
    match newer.wrapping_sub(older) & 3 {
        3 => -1,
        steps => steps as i8,
    }
}
