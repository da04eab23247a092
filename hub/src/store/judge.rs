//! What of a batch is new, what it changes in UTC, and what its newest values are. Pure.

use std::collections::{BTreeMap, HashMap};

use speedwell_wire::{ClockFix, GatewayId, Seq};

use super::{
    Chunk, ClockMap, Committed, Item, Newest, Prepared, PreparedBatch,
    rollup::{Level, floor},
};
use crate::ledger::{Ledger, Verdict};

/// Logs whose clocks are remembered. Each has a boot or two that it is about.
const MAX_LOGS: usize = 20_000;

/// A batch that was held against its ledger.
pub(super) struct Judged<'a> {
    /// But for the newest values.
    pub(super) committed: Committed,
    /// The entries to be stored.
    pub(super) taken: Vec<&'a Prepared>,
    /// The newest value of each channel with its boot.
    pub(super) newest: Vec<(u32, Newest)>,
    /// By boot: the fixes that came, and what samples came.
    pub(super) boots: BTreeMap<u32, Arrived>,
}

/// What came of one boot.
#[derive(Default)]
pub(super) struct Arrived {
    pub(super) fixes: Vec<ClockFix>,
    pub(super) chunks: Option<Chunks>,
}

/// Samples records of one boot, together.
#[derive(Clone, Copy)]
pub(super) struct Chunks {
    /// First and last boot time, and the longest record, ns.
    pub(super) times: (u64, u64),
    pub(super) widest: u64,
    /// First and last record.
    pub(super) seqs: (Seq, Seq),
    pub(super) chunks: u64,
    pub(super) samples: u64,
}

impl Chunks {
    /// Takes in those that came after.
    pub(super) fn add(&mut self, new: &Chunks) {
        self.times = (self.times.0.min(new.times.0), self.times.1.max(new.times.1));
        self.widest = self.widest.max(new.widest);
        self.seqs.1 = new.seqs.1;
        self.chunks += new.chunks;
        self.samples += new.samples;
    }
}

impl Arrived {
    fn chunk(&mut self, seq: Seq, chunk: &Chunk) {
        let (from, to) = (*chunk.time.start(), *chunk.time.end());
        let none = Chunks { times: (from, to), widest: 0, seqs: (seq, seq), chunks: 0, samples: 0 };
        let all = self.chunks.get_or_insert(none);
        all.times = (all.times.0.min(from), all.times.1.max(to));
        all.widest = all.widest.max(to - from);
        all.seqs.1 = seq;
        all.chunks += 1;
        all.samples += u64::from(chunk.samples);
    }
}

pub(super) fn judge(batch: &PreparedBatch, thru: Seq) -> Judged<'_> {
    let mut ledger = Ledger { thru };
    let gap = ledger.pass_over(batch.first_seq, batch.oldest_seq);
    let (mut duplicates, mut dropped, mut lost_samples, mut rejected) = (0, 0, 0u64, 0);
    let (mut taken, mut newest, mut boots) = (Vec::new(), Vec::new(), BTreeMap::<u32, Arrived>::new());
    for entry in &batch.entries {
        match ledger.judge(entry.seq, entry.span) {
            Verdict::Duplicate => duplicates += 1,
            Verdict::Drop => dropped += 1,
            Verdict::Take => {
                taken.push(entry);
                match &entry.item {
                    Item::Chunk(chunk) => {
                        keep_newest(&mut newest, chunk);
                        boots.entry(chunk.boot).or_default().chunk(entry.seq, chunk);
                    }
                    Item::Clock(fix) => boots.entry(fix.boot).or_default().fixes.push(*fix),
                    Item::Loss(loss) => lost_samples = lost_samples.saturating_add(loss.samples),
                    Item::Unreadable { .. } => rejected += 1,
                    Item::Event(_) => {}
                }
            }
        }
    }
    let (gateway, log, thru, stored) = (batch.gateway.clone(), batch.log, ledger.thru, taken.len() as u32);
    let newest_kept = Vec::new();
    let committed =
        Committed { gateway, log, thru, stored, duplicates, dropped, gap, lost_samples, rejected, newest: newest_kept };
    Judged { committed, taken, newest, boots }
}

/// The newest of each channel of all chunks of a batch, so that it is written once a channel.
fn keep_newest(all: &mut Vec<(u32, Newest)>, chunk: &Chunk) {
    for new in &chunk.newest {
        match all.iter_mut().find(|(_, old)| old.sensor == new.sensor && old.quantity == new.quantity) {
            Some((boot, old)) if (*boot, old.t_ns) <= (chunk.boot, new.t_ns) => {
                (*boot, *old) = (chunk.boot, new.clone())
            }
            Some(_) => {}
            None => all.push((chunk.boot, new.clone())),
        }
    }
}

/// The clocks of the boots that batches are about, so that they are read once and not with every batch. What is
/// remembered of a log holds as long as its ledger stands where it stood then: another hub may have moved it.
#[derive(Default)]
pub(super) struct Clocks(HashMap<i64, (Seq, HashMap<u32, ClockMap>)>);

impl Clocks {
    /// What is known of a log whose ledger stands at `thru`.
    pub(super) fn of(&mut self, log: i64, thru: Seq) -> &mut HashMap<u32, ClockMap> {
        if self.0.len() >= MAX_LOGS && !self.0.contains_key(&log) {
            self.0.clear();
        }
        let (at, known) = self.0.entry(log).or_default();
        if *at != thru {
            (*at, *known) = (thru, HashMap::new());
        }
        known
    }

    /// The clock of a boot, if it is known of a log that was asked about.
    pub(super) fn known(&self, log: i64, boot: u32) -> Option<&ClockMap> {
        self.0.get(&log)?.1.get(&boot)
    }

    /// The clock of a boot as it is where the log stands now.
    pub(super) fn remember(&mut self, log: i64, boot: u32, clock: ClockMap) {
        if let Some((_, known)) = self.0.get_mut(&log) {
            known.insert(boot, clock);
        }
    }

    /// The ledger has moved on with all that came; only these boots matter from now on.
    pub(super) fn moved(&mut self, log: i64, thru: Seq, newest_boots: &BTreeMap<u32, Arrived>) {
        if let Some((at, known)) = self.0.get_mut(&log) {
            *at = thru;
            if !newest_boots.is_empty() {
                known.retain(|boot, _| newest_boots.contains_key(boot));
            }
        }
    }

    /// A transaction failed: what was remembered may not have come to be.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

/// Where rollups fall behind: full minutes of UTC, each range with its end, exclusive, by gateway and beginning.
#[derive(Default)]
pub(super) struct Marks(pub(super) BTreeMap<(GatewayId, i64), i64>);

impl Marks {
    /// Both ends inclusive.
    pub(super) fn add(&mut self, gateway: &GatewayId, from_ns: i64, to_ns: i64) {
        let minute = Level::Minute.ns();
        let (from, to) = (floor(from_ns, minute), floor(to_ns, minute).saturating_add(minute));
        let end = self.0.entry((gateway.clone(), from)).or_insert(to);
        *end = to.max(*end);
    }

    /// Some of a boot's samples came, or its clock was set. `before` are first and last time of what was stored already;
    /// it is only needed when there are fixes. Moves the clock on.
    pub(super) fn arrived(
        &mut self,
        gateway: &GatewayId,
        clock: &mut ClockMap,
        arrived: &Arrived,
        before: Option<(u64, u64)>,
    ) {
        if !arrived.fixes.is_empty() {
            let new = clock.with(&arrived.fixes);
            if let Some((from, to)) = before {
                clock.moved(&new, from, to).into_iter().for_each(|(from, to)| self.add(gateway, from, to));
            }
            *clock = new;
        }
        if let Some((from, to)) = arrived.chunks.map(|chunks| chunks.times) {
            clock.places(from, to).into_iter().for_each(|(from, to)| self.add(gateway, from, to));
        }
    }
}
