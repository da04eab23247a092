//! Learns where each tooth of a wheel lies.
//!
//! No wheel is cut evenly. Over two turns of a quiet drive the pulses, corrected by what is known so far, follow a
//! parabola; what a tooth lies off it, on both turns, is what is still wrong about that tooth. After `R` turns each tooth
//! is known to `sigma f/sqrt(R)` pitches.
//!
//! Which tooth is which nobody says after a start, so the table that was kept is laid beside a new one in each of its
//! rotations until one fits far better than all others. A gap in the teeth says it at once.

use super::block::{Fit, Sums};
use crate::clock::BootNs;

/// Largest wheel that is learned: the memory is 24 bytes a tooth, and finer encoders are more even than their stamps.
pub(super) const LARGEST: u32 = 512;
/// The newest turn moves the table by this much at least, so that it follows wear.
const LEAST_STEP: f64 = 0.002;
/// Nothing is learned while it accelerates harder, m/s2,
const QUIET: f64 = 1.0;
/// nor from a turn whose jerk leaks more than this into the residuals, in stamp jitters,
const LEAK: f64 = 0.3;
/// nor when it turns slower than this much of the speed it was learned at.
const SLOW: f64 = 0.2;
/// Turns after which the new table stands on its own when no rotation of the old one fits.
const GIVE_UP: u32 = 32;
/// A rotation fits when its squares are below this much of the next best's.
const CLEAR: f64 = 0.5;
/// The scatter has jumped when it is so many times its mean, and by more of its own standard deviations than chance ever
/// brings, over so many turns in a row: the table is a tooth off.
const JUMP: f64 = 3.0;
const CHANCE: f64 = 6.0;
const JUMPS: u32 = 2;
/// A tooth that strays on so many turns in a row lies there. Stamps that are late by chance hit one twice now and then.
/// It is also the mask of a [`Passing`]'s count.
const STUBBORN: u64 = 3;
/// Turns until the scatter has a mean to compare with, and the table is worth telling of a single tooth.
const LEARNED: u32 = 16;
/// A tooth is damaged when it lies so many times further off than the others do, and so far in pitches.
const DAMAGED: f64 = 5.0;
const DAMAGED_LEAST: f64 = 0.02;

/// A table in which the teeth are known, but not which of them is which.
#[derive(Debug, Default)]
struct Candidate {
    turns: u32,
    rate: f64,
    /// Rotations compared so far, and the best two.
    compared: usize,
    best: (f64, usize),
    second: f64,
}

/// A tooth's passing: its stamp, whose last two bits, 4 ns, say on how many turns in a row up to this the tooth strayed.
/// While that may be the stamp's fault, and where no tooth came, the stamp is 0.
#[derive(Clone, Copy, Debug, Default)]
struct Passing(u64);

impl Passing {
    /// The same tooth's, a turn later.
    fn next(self, t: BootNs, stray: bool) -> Self {
        let turns = if stray { ((self.0 & STUBBORN) + 1).min(STUBBORN) } else { 0 };
        let believed = !stray || turns == STUBBORN;
        Self(if believed { t.0 & !STUBBORN } else { 0 } | turns)
    }

    fn stamp(self) -> Option<u64> {
        Some(self.0 & !STUBBORN).filter(|&t| t != 0)
    }
}

/// The table and how it is learned.
#[derive(Debug)]
pub(super) struct Teeth {
    /// Pitches by which each tooth lies beyond its place.
    table: Vec<f32>,
    kept: Vec<f32>,
    candidate: Option<Candidate>,
    /// The passings of two turns.
    passings: Vec<Passing>,
    /// Added to a pulse's index it is the tooth's place in the table, but for whole turns.
    shift: i64,
    placed: bool,
    /// Index of the newest pulse, and pulses that came without a break up to it.
    newest: i64,
    run: u64,
    /// Turns learned.
    turns: u32,
    /// Rate it was learned at, Hz.
    rate: f64,
    /// Change of the rate at the turn before, while there is no break between.
    change: Option<f64>,
    /// Mean scatter about the parabola, s2, but for the worst tooth; the turns it was taken over, and those in a row far above it.
    scatter: f64,
    scatters: u32,
    jumps: u32,
    jump: f64,
    /// How much of the table is not its own noise, 0 to 1.
    trust: f64,
    /// Metres.
    pitch: f64,
}

impl Teeth {
    /// A wheel of `places`, pulses `pitch` metres apart; `None` where there is nothing to learn, or too much.
    pub(super) fn new(places: u32, pitch: f64) -> Option<Self> {
        (2..=LARGEST).contains(&places).then(|| {
            let places = places as usize;
            Self {
                table: vec![0.0; places],
                kept: vec![0.0; places],
                candidate: None,
                passings: vec![Passing::default(); 2 * places],
                shift: 0,
                placed: false,
                newest: 0,
                run: 0,
                turns: 0,
                rate: 0.0,
                change: None,
                scatter: 0.0,
                scatters: 0,
                jumps: 0,
                jump: jump(places),
                trust: 0.0,
                pitch,
            }
        })
    }

    /// Pitches by which the tooth passed at `index` lies beyond its place.
    pub(super) fn offset(&self, index: i64) -> f64 {
        if self.trust == 0.0 { 0.0 } else { self.trust * f64::from(self.table[self.tooth(index)]) }
    }

    fn tooth(&self, index: i64) -> usize {
        index.wrapping_add(self.shift).rem_euclid(self.table.len() as i64) as usize
    }

    /// Turns learned, and the table.
    pub(super) fn learned(&self) -> (u32, f64, &[f32]) {
        // A table that waits for its place is worth more than the one that was begun meanwhile.
        match &self.candidate {
            Some(candidate) if candidate.turns > self.turns => (candidate.turns, candidate.rate, &self.kept),
            _ => (self.turns, self.rate, &self.table),
        }
    }

    /// The table in use.
    pub(super) fn table(&self) -> Option<&[f32]> {
        (self.turns > 0).then_some(&self.table)
    }

    /// Takes over a table from before a restart, `turns` of it learned at `rate` Hz; false when it is another wheel's.
    pub(super) fn restore(&mut self, turns: u32, rate: f64, table: impl ExactSizeIterator<Item = f32>) -> bool {
        if table.len() != self.kept.len() || turns == 0 {
            return false;
        }
        self.kept.iter_mut().zip(table).for_each(|(to, from)| *to = from);
        self.candidate = Some(Candidate { turns, rate, ..Candidate::default() });
        true
    }

    /// What follows did not follow from what came before.
    pub(super) fn forget_run(&mut self) {
        (self.run, self.change) = (0, None);
    }

    /// A gap in the teeth says that `index` is `place`. True when the table moved by that.
    pub(super) fn align(&mut self, index: i64, place: u64) -> bool {
        let places = self.table.len() as i64;
        let shift = (place as i64).wrapping_sub(index).rem_euclid(places);
        let mut moved = shift != self.shift || !self.placed;
        if moved {
            (self.shift, self.placed) = (shift, true);
            self.forget_run();
        }
        if let Some(candidate) = self.candidate.take() {
            self.take_kept(candidate.turns, candidate.rate, 0);
            moved = true;
        }
        moved
    }

    /// The gap is not where it was: which tooth is which is not known until it is found.
    pub(super) fn lose_place(&mut self) {
        self.placed = false;
        self.forget_run();
    }

    /// Takes a pulse; `stray` when it came at a time that nothing explains, which is its stamp's fault unless it is the
    /// same tooth's each turn. `jitter` in seconds. True when the table was exchanged,
    /// so that pulses corrected before and after do not go together.
    pub(super) fn take(&mut self, t: BootNs, index: i64, stray: bool, jitter: f64) -> bool {
        let ring = self.passings.len() as i64;
        let step = index.wrapping_sub(self.newest);
        if self.run > 0 && !(1..ring).contains(&step) {
            self.forget_run();
        }
        let (before, places) = (self.run, self.table.len() as u64);
        if self.run > 0 {
            for missing in 1..step {
                self.passings[(self.newest + missing).rem_euclid(ring) as usize] = Passing::default();
            }
            self.run += step as u64;
        } else {
            self.run = 1;
        }
        let last_turn = self.passings[index.wrapping_sub(places as i64).rem_euclid(ring) as usize];
        self.passings[index.rem_euclid(ring) as usize] = last_turn.next(t, stray);
        self.newest = index;
        let exchanged = self.compare();
        let turned = self.run / places > before / places;
        (turned && self.run >= 2 * places && self.turn(jitter)) || exchanged
    }

    /// Index and stamp of each pulse of the last two turns, oldest first.
    fn pulses(&self) -> impl Iterator<Item = (i64, u64)> + '_ {
        let ring = self.passings.len() as i64;
        (1 - ring..=0).filter_map(move |back| {
            let index = self.newest + back;
            Some((index, self.passings[index.rem_euclid(ring) as usize].stamp()?))
        })
    }

    /// Two turns are complete.
    fn turn(&mut self, jitter: f64) -> bool {
        let Some((first, start)) = self.pulses().next() else { return false };
        let Some((_, end)) = self.pulses().last() else { return false };
        let origin = start + end.saturating_sub(start) / 2;
        let middle = first + self.table.len() as i64;
        let point = |teeth: &Self, index: i64, t: u64| {
            let x = t.wrapping_sub(origin) as i64 as f64 * 1e-9;
            (x, (index - middle) as f64 + f64::from(teeth.table[teeth.tooth(index)]))
        };
        let mut sums = Sums::default();
        for (index, t) in self.pulses() {
            let (x, y) = point(self, index, t);
            sums.add(x, y);
        }
        let Some(fit) = sums.fit() else { return false };
        let turn = end.saturating_sub(start) as f64 * 0.5e-9;
        if !self.is_quiet(&fit, turn, jitter) {
            return false;
        }
        let places = self.table.len() as i64;
        let residuals = |teeth: &Self, index: i64| {
            [index - places, index].map(|index| {
                let t = teeth.passings[index.rem_euclid(2 * places) as usize].stamp()?;
                let (x, y) = point(teeth, index, t);
                Some(fit.residual(sums.n, x, y))
            })
        };
        let newest_turn = self.newest + 1 - places..=self.newest;
        let (mut squares, mut worst) = (0.0, 0.0_f64);
        for index in newest_turn.clone() {
            let own = residuals(self, index).iter().flatten().map(|residual| residual * residual).sum::<f64>();
            (squares, worst) = (squares + own, worst.max(own));
        }
        if self.has_jumped((squares - worst) / (fit.rate * fit.rate)) {
            self.begin_anew();
            return true;
        }
        self.turns = self.turns.saturating_add(1);
        self.rate += (fit.rate - self.rate) / f64::from(self.turns.min(100));
        let step = (1.0 / f64::from(self.turns)).max(LEAST_STEP);
        for index in newest_turn {
            let passes = residuals(self, index);
            let known = passes.iter().flatten().count();
            if known > 0 {
                let residual = passes.iter().flatten().sum::<f64>() / known as f64;
                let tooth = self.tooth(index);
                self.table[tooth] -= (step * residual) as f32;
            }
        }
        self.weigh(&fit, jitter);
        if let Some(candidate) = &mut self.candidate {
            candidate.compared = 0;
        }
        false
    }

    /// `|dg| L2/15 <= 0.3 sigma f`: the cubic's peak in the residuals of a parabola over two turns of `L` each.
    fn is_quiet(&mut self, fit: &Fit, turn: f64, jitter: f64) -> bool {
        let change = 2.0 * fit.curve;
        let before = self.change.replace(change);
        let leak = before.map(|before| (change - before).abs() * turn * turn / 15.0);
        leak.is_some_and(|leak| leak <= LEAK * jitter * fit.rate)
            && change.abs() * self.pitch <= QUIET
            && fit.rate >= SLOW * self.rate
    }

    /// Takes the `scatter` of two turns, s2. The worst tooth is left out of it: one may be damaged, or its stamps late,
    /// while a table that is a tooth off is off everywhere.
    fn has_jumped(&mut self, scatter: f64) -> bool {
        if self.scatters >= LEARNED && !self.placed && scatter > self.jump * self.scatter {
            self.jumps += 1;
            return self.jumps >= JUMPS;
        }
        self.jumps = 0;
        self.scatters = (self.scatters + 1).min(LEARNED);
        self.scatter += (scatter - self.scatter) / f64::from(self.scatters);
        false
    }

    /// The table is put aside until it is known how far it is off, and a new one is begun.
    fn begin_anew(&mut self) {
        std::mem::swap(&mut self.table, &mut self.kept);
        self.candidate = Some(Candidate { turns: self.turns, rate: self.rate, ..Candidate::default() });
        self.table.fill(0.0);
        (self.turns, self.trust, self.scatters, self.jumps) = (0, 0.0, 0, 0);
    }

    /// The mean is no tooth's fault. What the table's own noise, `sigma f/sqrt(R)`, explains is not believed.
    fn weigh(&mut self, fit: &Fit, jitter: f64) {
        let places = self.table.len() as f64;
        let mean = self.table.iter().copied().map(f64::from).sum::<f64>() / places;
        self.table.iter_mut().for_each(|offset| *offset -= mean as f32);
        let square = self.table.iter().map(|&offset| f64::from(offset).powi(2)).sum::<f64>() / places;
        let turns = f64::from(self.turns).min(2.0 / LEAST_STEP);
        let noise = (jitter * fit.rate).powi(2) / turns;
        self.trust = if square > noise { 1.0 - noise / square } else { 0.0 };
    }

    /// Lays the kept table beside the new one, one rotation a pulse; true when one was found to fit.
    fn compare(&mut self) -> bool {
        let places = self.table.len();
        if self.turns == 0 {
            return false;
        }
        let Some(candidate) = self.candidate.as_mut().filter(|candidate| candidate.compared < places) else {
            return false;
        };
        let rotation = candidate.compared;
        let turned = self.kept[rotation..].iter().chain(&self.kept[..rotation]);
        let squares = self.table.iter().zip(turned).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        if rotation == 0 {
            (candidate.best, candidate.second) = ((squares, 0), f64::INFINITY);
        } else if squares < candidate.best.0 {
            (candidate.second, candidate.best) = (candidate.best.0, (squares, rotation));
        } else {
            candidate.second = candidate.second.min(squares);
        }
        candidate.compared += 1;
        if candidate.compared < places {
            return false;
        }
        if candidate.best.0 < CLEAR * candidate.second {
            let (turns, rate, rotation) = (candidate.turns, candidate.rate, candidate.best.1);
            self.take_kept(turns, rate, rotation);
            return true;
        }
        if self.turns >= GIVE_UP {
            self.candidate = None;
        }
        false
    }

    fn take_kept(&mut self, turns: u32, rate: f64, rotation: usize) {
        self.kept.rotate_left(rotation);
        std::mem::swap(&mut self.table, &mut self.kept);
        self.candidate = None;
        (self.turns, self.rate, self.scatters, self.jumps) = (turns, rate, 0, 0);
        self.trust = 1.0;
    }

    /// A tooth that lies far off while the others do not: its number, counted from the gap where there is one, and by
    /// how many pitches.
    pub(super) fn damaged(&self) -> Option<(usize, f64)> {
        let size = |offset: f32| f64::from(offset.abs());
        let (tooth, &worst) = self.table.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))?;
        let others = self.table.len() as f64 - 1.0;
        let squares = self.table.iter().map(|&offset| size(offset).powi(2)).sum::<f64>() - size(worst).powi(2);
        let usual = (squares.max(0.0) / others).sqrt();
        let damaged = self.turns >= LEARNED && size(worst) > (DAMAGED * usual).max(DAMAGED_LEAST);
        damaged.then_some((tooth, worst.into()))
    }
}

/// By how much the scatter about a parabola of two turns of so many teeth, but for the worst, has to rise. A mean of `n`
/// squares exceeds `(1 - 2/(9n) + z sqrt(2/(9n)))^3` of itself as seldom as a normal number exceeds `z` (Wilson and
/// Hilferty, 1931).
fn jump(places: usize) -> f64 {
    let ninth = 2.0 / (9.0 * (2.0 * places as f64 - 5.0).max(1.0));
    JUMP.max((1.0 - ninth + CHANCE * ninth.sqrt()).powi(3))
}
