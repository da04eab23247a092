//! The newest pulses, as a ring of blocks.

use std::time::Duration;

use super::block::{Fit, Sums};
use crate::{clock::BootNs, sensor::hall::Pulse};

/// Blocks kept. A window takes ten, or one a pulse when the wheel is slow; more are needed only above 60 pulses a
/// block, where fewer would do as well.
const BLOCKS: usize = 32;
/// Pulses after which a block is closed.
const BLOCK_PULSES: f64 = 64.0;
/// Fewest pulses a rate is taken from, when there are so many.
const LEAST: f64 = 4.0;
/// A window is never stretched further than this to reach [`LEAST`]: what a wheel did before is another story.
const LONGEST: Duration = Duration::from_secs(3);

/// Pulses that came one after the other.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    first: BootNs,
    index: u64,
    sums: Sums,
    doubtful: bool,
}

/// The newest pulses.
#[derive(Debug)]
pub(super) struct Window {
    ring: [Block; BLOCKS],
    /// Blocks in use; the newest is at `(start + len - 1) % BLOCKS`.
    len: usize,
    start: usize,
    newest: BootNs,
    width: Duration,
    block: Duration,
}

/// A rate, placed in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// When it is true.
    pub(super) t: BootNs,
    /// The slope and its scatter.
    pub(super) fit: Fit,
    /// Something was lost, put back or refused inside.
    pub(super) doubtful: bool,
}

impl Window {
    /// A window of `width`, in blocks of a tenth of it.
    pub(super) fn new(width: Duration) -> Self {
        Self { ring: [Block::default(); BLOCKS], len: 0, start: 0, newest: BootNs(0), width, block: width / 10 }
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn push(&mut self, pulse: &Pulse) {
        let full = match self.len {
            0 => true,
            _ => {
                let open = self.block(self.len - 1);
                open.sums.n >= BLOCK_PULSES || pulse.t.since(open.first) >= self.block
            }
        };
        if full {
            self.open(pulse);
        }
        self.newest = pulse.t;
        let slot = self.slot(self.len - 1);
        let block = &mut self.ring[slot];
        block.sums.add(seconds(pulse.t, block.first), pulse.index.wrapping_sub(block.index) as f64);
        block.doubtful |= pulse.doubtful;
    }

    fn open(&mut self, pulse: &Pulse) {
        if self.len == BLOCKS {
            self.start = (self.start + 1) % BLOCKS;
        } else {
            self.len += 1;
        }
        let slot = self.slot(self.len - 1);
        self.ring[slot] = Block { first: pulse.t, index: pulse.index, ..Block::default() };
    }

    fn slot(&self, at: usize) -> usize {
        (self.start + at) % BLOCKS
    }

    fn block(&self, at: usize) -> &Block {
        &self.ring[self.slot(at)]
    }

    /// The rate over the newest blocks that reach back over the width, and older ones until there are four pulses.
    pub(super) fn rate(&self) -> Option<Rate> {
        let mut count = 0.0;
        let mut from = self.len;
        let mut reach = Duration::ZERO;
        while from > 0 && (reach < self.width || count < LEAST) {
            let block = self.block(from - 1);
            reach = self.newest.since(block.first);
            if reach > LONGEST {
                break;
            }
            count += block.sums.n;
            from -= 1;
        }
        if from == self.len { None } else { self.merge(from) }
    }

    /// Puts the blocks from `from` on together about an origin in their middle, where the sums are smallest.
    fn merge(&self, from: usize) -> Option<Rate> {
        let first = self.block(from);
        let origin = first.first + self.newest.since(first.first) / 2;
        let index = first.index + (self.block(self.len - 1).index - first.index) / 2;
        let mut sums = Sums::default();
        let mut doubtful = false;
        for at in from..self.len {
            let block = self.block(at);
            sums.merge(&block.sums.shifted(seconds(block.first, origin), signed(block.index, index)));
            doubtful |= block.doubtful;
        }
        let fit = sums.fit()?;
        let t = BootNs(origin.0.saturating_add_signed((fit.at * 1e9).round() as i64));
        Some(Rate { t, fit, doubtful })
    }
}

fn seconds(t: BootNs, origin: BootNs) -> f64 {
    signed(t.0, origin.0) * 1e-9
}

fn signed(value: u64, origin: u64) -> f64 {
    value.wrapping_sub(origin) as i64 as f64
}
