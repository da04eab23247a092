//! The one task that owns the recorder: hears the sensors, makes records, gives them to the spool.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use speedwell_wire::{Event, EventKind, Live, Manifest, Record, block};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::MissedTickBehavior,
};
use tracing::{debug, error, info, warn};

use super::{
    memories::{self, MemoryFile},
    running::Member,
    sources::{CHANNEL, Said, What},
};
use crate::{
    clock::{BootNs, Clock},
    health::Beat,
    recorder::{
        RECORD_SPAN, Recorder, Source, Trouble,
        fusion::{self, Fusion},
    },
    sensor::{Notice, Reading},
    spool::{Spool, SpoolError},
};

/// How often due records are looked for and live values shown; five times a second is what a person sees as moving.
pub(super) const TURN: Duration = Duration::from_millis(200);

/// How `commit-every` is spent, so that what a power cut can take is what is configured: samples that are being
/// gathered are as far from the disk as those that wait for a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// How often due records are looked for.
    pub(super) turn: Duration,
    /// How long a record gathers before it is due.
    pub(super) gather: Duration,
    /// How long it may wait in the spool after that.
    pub(super) commit: Duration,
}

impl Pace {
    pub(super) fn of(commit_every: Duration) -> Self {
        let both = commit_every.min(RECORD_SPAN);
        let turn = TURN.min(both);
        Self { turn, gather: both - turn, commit: commit_every - both }
    }
}

/// What is wrong with each sensor, by its name.
pub(super) type Troubles = Vec<(String, Option<Trouble>)>;

/// The fused speed's name where there is one, and in words who gives it while that is not the first.
pub(super) type Fused = Arc<Mutex<Option<(String, String)>>>;

/// The number by which the fused speed is spoken of.
const FUSED: usize = usize::MAX;

/// Who measures from now on.
pub(super) struct Change {
    pub(super) sources: Vec<Source>,
    /// In the order of the sources.
    pub(super) members: Vec<Member>,
    pub(super) fusion: Option<fusion::Options>,
    /// What changed, for the log.
    pub(super) words: String,
    /// Told once it is so.
    pub(super) done: oneshot::Sender<()>,
}

/// See the module.
pub(super) struct Recording {
    pub(super) recorder: Recorder,
    /// Where the recorder has a sensor, by its number.
    pub(super) places: BTreeMap<usize, usize>,
    /// One speed out of several.
    pub(super) fusion: Option<Fusion>,
    /// Where the status finds it.
    pub(super) fused: Fused,
    /// Where sensors keep their memories.
    pub(super) state_directory: PathBuf,
    pub(super) spool: Spool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) said: mpsc::Receiver<Said>,
    /// Records that others make: clock fixes, events of the uplink.
    pub(super) others: mpsc::Receiver<Record>,
    /// Other sensors.
    pub(super) changes: mpsc::Receiver<Change>,
    pub(super) shed: Arc<AtomicU64>,
    /// The channels of the live values.
    pub(super) manifest: watch::Sender<Manifest>,
    pub(super) live: watch::Sender<Option<Live>>,
    pub(super) troubles: watch::Sender<Troubles>,
    /// Samples lost and declared since start.
    pub(super) lost: Arc<AtomicU64>,
    pub(super) beat: Beat,
    /// Done when the sensors have closed. Their senders do not tell: one that hangs keeps its own open.
    pub(super) closed: oneshot::Receiver<()>,
    /// Why records cannot be kept, so that it is said once and not five times a second.
    pub(super) failing: Option<String>,
    pub(super) pace: Pace,
    /// Whether a value has been shown: the first is worth showing at once.
    pub(super) shown: bool,
    /// Of each sensor, by its number.
    pub(super) memories: BTreeMap<usize, Kept>,
    /// Memories could not be written the last time, so that it is said once.
    pub(super) forgetful: bool,
}

/// What these sensors keep over a restart.
pub(super) fn memories(state_directory: &Path, members: &[Member]) -> BTreeMap<usize, Kept> {
    let of = |member: &Member| (member.number, Kept::of(state_directory, member));
    members.iter().map(of).collect()
}

/// Where the recorder has these sensors; the fused speed stands behind them.
pub(super) fn places(members: &[Member]) -> BTreeMap<usize, usize> {
    members.iter().map(|member| member.number).chain([FUSED]).zip(0..).collect()
}

/// What a sensor keeps over a restart.
pub(super) struct Kept {
    file: MemoryFile,
    /// What was written last: the same is not written again.
    newest: Option<Vec<u8>>,
    /// What is to be written next.
    next: Option<Vec<u8>>,
}

impl Kept {
    fn of(state_directory: &Path, member: &Member) -> Self {
        Self { file: MemoryFile::of(state_directory, &member.sensor.name), newest: None, next: None }
    }
}

impl Recording {
    /// Runs until told that the sensors have closed, then hears what they said last, keeps what is left and says goodbye in the log.
    pub(super) async fn run(mut self) {
        self.recorder.gather_for(self.pace.gather);
        let mut turn = tokio::time::interval(self.pace.turn);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.keep_manifest().await;
        // The first words of the run stand before those of anybody else.
        self.turn().await;
        loop {
            // Cancel-safe: receiving from a channel and ticking take nothing when they lose the race.
            tokio::select! {
                _ = &mut self.closed => break,
                Some(said) = self.said.recv() => self.hear(said),
                Some(record) = self.others.recv() => self.keep(vec![record]).await,
                Some(change) = self.changes.recv() => self.change(change).await,
                _ = turn.tick() => self.turn().await,
            }
        }
        self.finish().await;
    }

    /// Goes on with other sensors. Those that are no more have closed; what they said last is still in the channel.
    async fn change(&mut self, change: Change) {
        for _ in 0..CHANNEL {
            let Ok(said) = self.said.try_recv() else { break };
            self.hear(said);
        }
        self.write_memories();
        let now = self.clock.now();
        self.note_losses(now);
        let gathered = self.recorder.change(&change.sources, now);
        self.keep(gathered).await;
        self.places = places(&change.members);
        self.memories.retain(|number, _| change.members.iter().any(|member| member.number == *number));
        for member in &change.members {
            self.memories.entry(member.number).or_insert_with(|| Kept::of(&self.state_directory, member));
        }
        if self.fusion.as_ref().map(Fusion::options) != change.fusion.as_ref() {
            self.fusion = change.fusion.map(Fusion::new);
        }
        self.keep_manifest().await;
        self.recorder.event(EventKind::Configuration, change.words, now);
        // One who no longer waits has been told to stop meanwhile.
        let _ = change.done.send(());
        self.turn().await;
    }

    /// Keeps the channels beside the log, before any record that is read with them, and shows them.
    async fn keep_manifest(&mut self) {
        if let Err(cause) = self.spool.keep_manifest(self.recorder.manifest()).await {
            warn!(%cause, "the channel list could not be kept beside the log");
        }
        self.manifest.send_replace(self.recorder.manifest().clone());
    }

    fn hear(&mut self, said: Said) {
        let now = self.clock.now();
        let Some(&place) = self.places.get(&said.sensor) else {
            // It was closed and hung in its driver until now. What it has measured is lost, and said to be.
            if let What::Readings(readings) = said.what {
                self.recorder.shed(readings.iter().filter(|reading| reading.value.is_ok()).count() as u64);
            }
            return;
        };
        match said.what {
            What::Readings(readings) => {
                readings.iter().for_each(|reading| self.recorder.take(place, reading, now));
                self.fuse(now, |fusion, out, notices| {
                    readings.iter().for_each(|reading| fusion.take(said.sensor, reading, now, out, notices));
                });
                if !self.shown && readings.iter().any(|reading| reading.value.is_ok()) {
                    self.shown = true;
                    self.live.send_replace(Some(self.recorder.live(now)));
                }
            }
            What::Live(t, value) => self.recorder.show(place, t, value),
            What::Notice(notice) => self.recorder.notice(place, notice.kind, notice.detail, now),
            What::Memory(bytes) => self.keep_memory(said.sensor, bytes),
            What::Words(words) => self.recorder.explain(place, words),
            What::Fault(detail) => {
                self.recorder.fault(place, &detail, now);
                self.fuse(now, |fusion, _, notices| fusion.fault(said.sensor, now, notices));
            }
        }
    }

    /// Takes what a sensor keeps over a restart. All speak at the same times, and are written together.
    fn keep_memory(&mut self, sensor: usize, bytes: Vec<u8>) {
        if let Some(memory) = self.memories.get_mut(&sensor).filter(|memory| memory.newest.as_ref() != Some(&bytes)) {
            memory.next = Some(bytes);
        }
    }

    /// Writes what sensors keep: a few kilobytes now and then, and while they are written what sensors say waits in its
    /// channel.
    fn write_memories(&mut self) {
        let waiting: Vec<(&MemoryFile, &[u8])> =
            self.memories.values().filter_map(|memory| Some((&memory.file, memory.next.as_deref()?))).collect();
        if waiting.is_empty() {
            return;
        }
        let kept = memories::keep(&waiting);
        for memory in self.memories.values_mut() {
            let written = memory.next.take();
            if kept.is_ok() && written.is_some() {
                memory.newest = written;
            }
        }
        match kept {
            Ok(()) => self.forgetful = false,
            Err(cause) if self.forgetful => debug!(%cause, "what sensors keep cannot be written"),
            Err(cause) => {
                self.forgetful = true;
                let folder = self.state_directory.join("sensors");
                warn!(folder = %folder.display(), %cause, "what sensors keep cannot be written: odometers will begin anew");
            }
        }
    }

    /// Lets the fusion hear something, and records what it makes of it.
    fn fuse(&mut self, now: BootNs, hear: impl FnOnce(&mut Fusion, &mut Vec<Reading>, &mut Vec<Notice>)) {
        let (Some(fusion), Some(&place)) = (&mut self.fusion, self.places.get(&FUSED)) else { return };
        let (mut out, mut notices) = (Vec::new(), Vec::new());
        hear(fusion, &mut out, &mut notices);
        out.iter().for_each(|reading| self.recorder.take(place, reading, now));
        notices.into_iter().for_each(|notice| self.recorder.notice(place, notice.kind, notice.detail, now));
    }

    async fn turn(&mut self) {
        self.beat.bump();
        let now = self.clock.now();
        self.note_losses(now);
        self.fuse(now, |fusion, out, notices| fusion.tick(now, out, notices));
        if let Ok(mut fused) = self.fused.lock() {
            let words = |fusion: &Fusion| fusion.stands_in().map(|name| format!("comes from {name}"));
            *fused = self.fusion.as_ref().map(|of| (of.options().name.clone(), words(of).unwrap_or_default()));
        }
        let records = self.recorder.due(now, false);
        self.keep(records).await;
        self.write_memories();
        self.live.send_replace(Some(self.recorder.live(now)));
        let troubles: Troubles =
            self.recorder.troubles().map(|(name, trouble)| (name.to_owned(), trouble.cloned())).collect();
        self.troubles.send_if_modified(|old| {
            let changed = *old != troubles;
            *old = troubles;
            changed
        });
    }

    /// Makes the losses and notices of others part of the log.
    fn note_losses(&mut self, now: BootNs) {
        let shed = self.shed.swap(0, Ordering::Relaxed);
        if shed > 0 {
            self.recorder.shed(shed);
        }
        for notice in self.spool.take_notices() {
            warn!("{notice}");
            self.recorder.event(EventKind::Spool, notice, now);
        }
    }

    async fn keep(&mut self, records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        for record in &records {
            if let Record::Event(event) = record {
                tell(event);
            }
        }
        let (samples, declared) = (count(&records), declared(&records));
        match self.spool.append(records).await {
            Ok(_) => {
                self.failing = None;
                self.lost.fetch_add(declared, Ordering::Relaxed);
            }
            // The spool counts what it refuses and declares it once there is room.
            Err(SpoolError::Full { .. }) => drop(self.lost.fetch_add(declared, Ordering::Relaxed)),
            Err(cause) => {
                let cause = cause.to_string();
                if self.failing.as_ref() != Some(&cause) {
                    error!("records cannot be kept: {cause}");
                    self.failing = Some(cause);
                }
                self.recorder.shed(samples);
            }
        }
    }

    async fn finish(&mut self) {
        while let Ok(said) = self.said.try_recv() {
            self.hear(said);
        }
        self.write_memories();
        while let Ok(record) = self.others.try_recv() {
            self.keep(vec![record]).await;
        }
        let now = self.clock.now();
        self.note_losses(now);
        let detail = "on request".to_owned();
        self.recorder.event(EventKind::Stopped, detail, now);
        let mut records = self.recorder.due(now, true);
        // Samples first: the goodbye is the last word.
        records.sort_by_key(|record| matches!(record, Record::Event(Event { kind: EventKind::Stopped, .. })));
        self.keep(records).await;
        if let Err(cause) = self.spool.flush().await {
            error!(%cause, "the last records could not be flushed");
        }
    }
}

/// Samples that these records say are lost.
fn declared(records: &[Record]) -> u64 {
    let of = |record: &Record| if let Record::Loss(loss) = record { loss.samples } else { 0 };
    records.iter().map(of).sum()
}

/// Samples that are lost when these records are, those they say are lost included.
fn count(records: &[Record]) -> u64 {
    let of = |record: &Record| match record {
        Record::Samples(samples) => {
            let columns = block::decode(&samples.block).unwrap_or_default();
            columns.iter().map(|column| column.samples.len() as u64).sum()
        }
        _ => 0,
    };
    declared(records) + records.iter().map(of).sum::<u64>()
}

/// An event in the journal, for whoever looks there.
fn tell(event: &Event) {
    let kind = event.kind.name();
    match &event.sensor {
        Some(sensor) => info!(sensor, kind, "{}", event.detail),
        None => info!(kind, "{}", event.detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathering_and_committing_together_take_what_is_configured() {
        let ms = Duration::from_millis;
        let pace = |turn, gather, commit| Pace { turn: ms(turn), gather: ms(gather), commit: ms(commit) };
        assert_eq!(Pace::of(ms(1000)), pace(200, 800, 0));
        assert_eq!(Pace::of(ms(60_000)), pace(200, 800, 59_000));
        assert_eq!(Pace::of(ms(500)), pace(200, 300, 0));
        assert_eq!(Pace::of(ms(50)), pace(50, 0, 0));
    }
}
