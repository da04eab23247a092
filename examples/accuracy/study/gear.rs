//! A toothed wheel as a workshop makes it, and the stamps a kernel puts on its edges.

use speedwell::{
    clock::BootNs,
    sensor::{Edge, EdgeKind},
};

use super::{chance::Chance, road::Road};

/// Circumference of the simulated wheel, m.
pub(crate) const CIRCUMFERENCE: f64 = 1.94;
/// Boot time at which every drive starts: nothing here happens in the first seconds of a boot.
const START_NS: u64 = 100_000_000_000;
/// Standard deviation of a tooth's place, in pitches, where teeth are not perfect.
pub(crate) const TOOTH_ERROR: f64 = 0.01;

/// The boot time of a time in the drive.
pub(crate) fn boot(t: f64) -> BootNs {
    BootNs(START_NS.saturating_add_signed((t * 1e9).round() as i64))
}

/// The time in the drive of a boot time.
pub(crate) fn drive_time(t: BootNs) -> f64 {
    t.0.wrapping_sub(START_NS) as i64 as f64 * 1e-9
}

/// A wheel: where its teeth are.
#[derive(Clone, Debug)]
pub(crate) struct Gear {
    /// Metres from one tooth to the next.
    pub(crate) pitch: f64,
    /// How far each tooth is from where it should be, in pitches.
    pub(crate) teeth: Vec<f64>,
    /// So many of the last teeth are cut away.
    pub(crate) missing: usize,
    /// Where the wheel stands at the start, in pitches.
    phase: f64,
}

impl Gear {
    /// A new wheel with teeth `error` pitches (one standard deviation) off; standing anyhow.
    pub(crate) fn new(teeth: usize, error: f64, chance: &mut Chance) -> Self {
        let mut off: Vec<f64> = (0..teeth).map(|_| error * chance.normal()).collect();
        let mean = off.iter().sum::<f64>() / teeth as f64;
        off.iter_mut().for_each(|tooth| *tooth -= mean);
        Self { pitch: CIRCUMFERENCE / teeth as f64, teeth: off, missing: 0, phase: chance.even() }
    }

    /// The same with teeth that are `pitch` metres apart on the road: another gear between.
    pub(crate) fn geared(self, pitch: f64) -> Self {
        Self { pitch, ..self }
    }

    /// The same with the last `missing` teeth cut away.
    pub(crate) fn without(self, missing: usize) -> Self {
        Self { missing, ..self }
    }

    fn tooth(&self, k: i64) -> usize {
        k.rem_euclid(self.teeth.len() as i64) as usize
    }

    /// Where tooth `k` passes, m.
    pub(crate) fn mark(&self, k: i64) -> f64 {
        (k as f64 + self.phase + self.teeth[self.tooth(k)]) * self.pitch
    }

    /// The passings of teeth that are there.
    pub(crate) fn passings(&self, road: &Road) -> Vec<(i64, f64)> {
        let mut passings = road.passings(self.pitch, |k| self.mark(k));
        passings.retain(|&(k, _)| self.tooth(k) + self.missing < self.teeth.len());
        passings
    }
}

/// An edge as it truly was, and as it was stamped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passing {
    /// When it truly was, s.
    pub(crate) t: f64,
    /// When the kernel says it was.
    pub(crate) stamp: BootNs,
}

/// Stamps passings with white jitter of `sigma` seconds, in order, as one interrupt line does.
pub(crate) fn stamped(passings: &[(i64, f64)], sigma: f64, chance: &mut Chance) -> Vec<Passing> {
    let mut edges: Vec<Passing> =
        passings.iter().map(|&(_, t)| Passing { t, stamp: boot(t + sigma * chance.normal()) }).collect();
    for k in 1..edges.len() {
        edges[k].stamp = edges[k].stamp.max(edges[k - 1].stamp);
    }
    edges
}

/// Edges as a kernel numbers them that loses none, from `seqno` on.
pub(crate) fn delivered(stamps: impl IntoIterator<Item = BootNs>, seqno: u32) -> Vec<Edge> {
    let numbered = stamps.into_iter().enumerate();
    numbered.map(|(k, t)| rising(t, seqno.wrapping_add(k as u32), seqno.wrapping_add(k as u32))).collect()
}

/// A rising edge.
pub(crate) fn rising(t: BootNs, seqno: u32, line_seqno: u32) -> Edge {
    Edge { t, line: 0, kind: EdgeKind::Rising, seqno, line_seqno }
}
