//! The newest pulses, as a ring of blocks.

use std::time::Duration;

use super::block::{Fit, Sums};
use crate::{clock::BootNs, sensor::hall::Pulse};

/// Blocks kept. A window takes ten, or one a pulse when the wheel is slow, and the window before it as many. More would
/// be needed only above 250 pulses a block, where fewer do as well.
const BLOCKS: usize = 22;
/// Pulses after which a block is closed.
const BLOCK_PULSES: f64 = 256.0;
/// Fewest pulses a rate is taken from, when there are so many.
const LEAST: f64 = 4.0;
/// A window is never stretched further than this to reach [`LEAST`]: what a wheel did before is another story.
const LONGEST: Duration = Duration::from_secs(3);

/// Pulses that came one after the other.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    first: BootNs,
    index: i64,
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
    /// What the slope is off when the acceleration changes on as it did, Hz.
    pub(super) bias: f64,
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

    /// Takes a pulse whose tooth lies `offset` pitches beyond its place, in the direction of travel.
    pub(super) fn push(&mut self, pulse: &Pulse, offset: f64) {
        let index = onward(pulse);
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
        block.sums.add(seconds(pulse.t, block.first), (index - block.index) as f64 + offset);
        block.doubtful |= pulse.doubtful;
    }

    fn open(&mut self, pulse: &Pulse) {
        if self.len == BLOCKS {
            self.start = (self.start + 1) % BLOCKS;
        } else {
            self.len += 1;
        }
        let slot = self.slot(self.len - 1);
        self.ring[slot] = Block { first: pulse.t, index: onward(pulse), ..Block::default() };
    }

    fn slot(&self, at: usize) -> usize {
        (self.start + at) % BLOCKS
    }

    fn block(&self, at: usize) -> &Block {
        &self.ring[self.slot(at)]
    }

    /// The rate over the newest blocks that reach back over the width, and older ones until there are four pulses.
    pub(super) fn rate(&self) -> Option<Rate> {
        let (from, count) = self.reach(self.len, self.newest);
        let (mut rate, width) = self.merge(from, self.len, self.newest)?;
        // The window before tells how the acceleration changes: `j = (g - g')/(t - t')`.
        if count > LEAST && from > 0 {
            let end = self.block(from).first;
            let (earlier, count) = self.reach(from, end);
            if let Some((before, _)) = self.merge(earlier, from, end).filter(|_| count > LEAST) {
                let apart = seconds(rate.t, before.t);
                let jerk = 2.0 * (rate.fit.curve - before.fit.curve) / apart;
                rate.bias = if apart > 0.0 { jerk * width * width / 40.0 } else { 0.0 };
            }
        }
        Some(rate)
    }

    /// The oldest block of a window that ends before block `to`, at `end`; and the pulses in it.
    fn reach(&self, to: usize, end: BootNs) -> (usize, f64) {
        let (mut from, mut count, mut reach) = (to, 0.0, Duration::ZERO);
        while from > 0 && (reach < self.width || count < LEAST) {
            let block = self.block(from - 1);
            reach = end.since(block.first);
            if reach > LONGEST {
                break;
            }
            count += block.sums.n;
            from -= 1;
        }
        (from, count)
    }

    /// Puts the blocks of a window together about an origin in its middle, where the sums are smallest; gives its width
    /// in seconds, too.
    fn merge(&self, from: usize, to: usize, end: BootNs) -> Option<(Rate, f64)> {
        if from == to {
            return None;
        }
        let first = self.block(from);
        let width = end.since(first.first);
        let origin = first.first + width / 2;
        let index = first.index + (self.block(to - 1).index - first.index) / 2;
        let mut sums = Sums::default();
        let mut doubtful = false;
        for at in from..to {
            let block = self.block(at);
            sums.merge(&block.sums.shifted(seconds(block.first, origin), (block.index - index) as f64));
            doubtful |= block.doubtful;
        }
        let fit = sums.fit()?;
        let t = BootNs(origin.0.saturating_add_signed((fit.at * 1e9).round() as i64));
        Some((Rate { t, fit, bias: 0.0, doubtful }, width.as_secs_f64()))
    }
}

/// From `origin` to `t`, which may be before it, s.
pub(super) fn seconds(t: BootNs, origin: BootNs) -> f64 {
    t.0.wrapping_sub(origin.0) as i64 as f64 * 1e-9
}

/// The pulse's number in the direction of travel, so that a rate is never negative.
fn onward(pulse: &Pulse) -> i64 {
    pulse.index * i64::from(pulse.way)
}
