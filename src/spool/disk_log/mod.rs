//! The log on disk.
//!
//! Records gather in chunks in memory; a flush puts the chunks into the write generation, syncs, and only then are
//! they durable and handed out. What is not durable stays in memory until it is, so a flush that fails (a full disk, a
//! damaged database) is done again after the recovery, and nothing is lost by it.
//!
//! - `open`: entering the directory, and what is found there.
//! - `read`: handing out, with losses in the place of what is missing.
//! - `room`: the bounds, dropping, and getting along with a full disk.
//! - `age`: the bound of age.
//! - `lend`: numbers that are handed out before they are written, for [`super::lazy`].

mod age;
mod lend;
mod open;
mod read;
mod room;

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    ops::Range,
    time::{Duration, Instant},
};

use speedwell_wire::{LogId, Manifest, ManifestHash, Record, Seq, record};

use super::{
    chunk::{self, Builder, Chunk},
    disk::DiskError,
    error::Confirmed,
    files,
    generation::{At, Generation, Summary},
    home::Home,
    manifests::Manifests,
    marks::MarksFile,
    options::Options,
    stats::{Place, Stats},
    store::{Store, StoreError, Stored},
    tally::Tally,
};

/// Bytes that may wait for a flush. sled's threads can wait for each other for ever beyond seven outstanding log
/// writes; a flush at least this often has never hung.
pub(super) const FLUSH_BYTES: usize = 128 << 10;
/// How often the marks are written while things move and nothing is flushed: what a crash can make the hub see twice.
const MARKS_EVERY: Duration = Duration::from_secs(10);
/// A flush after so much time syncs the marks as well; one that comes sooner only notes them. It is the least that a
/// flush a second leaves between them.
const MARKS_WITH_FLUSH: Duration = Duration::from_millis(900);
/// Numbers reserved ahead of the durable ones, at least and at most: what damage at the end of the log can make it
/// pass over.
const RESERVE_MIN: u64 = 64;
const RESERVE_MAX: u64 = 1 << 20;
/// Numbers passed over when damage hides the end of the log and the marks that would tell of it are lost as well.
const RESERVE_BLIND: u64 = 1 << 16;
/// How often a flush is tried again after a recovery.
const FLUSH_TRIES: u32 = 8;
/// A generation that is confirmed to the end is replaced by an empty one when it takes more disk than this: an idle
/// spool shrinks, and a spool that is kept up with stays small.
const SHRINK_AT: u64 = 3 << 20;

/// A generation that takes no more records.
struct Sealed {
    first: Seq,
    last: Seq,
    /// `None` when its summary is missing: counted when it is needed.
    tally: Option<Tally>,
    disk_bytes: u64,
    /// Whether it was thinned, or could not be: thinning it again would free nothing.
    thinned: bool,
}

pub(super) struct DiskLog {
    options: Options,
    home: Home,
    log: LogId,
    marks: MarksFile,
    marks_saved: Instant,
    marks_dirty: bool,
    /// Last number when the ceiling was last set.
    marked: Seq,
    manifests: Manifests,
    sealed: VecDeque<Sealed>,
    /// `None` only while it is being replaced; a failure in between ends the store.
    write: Option<Generation>,
    /// First number of the write generation.
    write_first: Seq,
    /// Last number in it; one before its first while it is empty.
    write_end: Seq,
    /// When its first record was made, as boot and boot time, where that is known.
    write_from: Option<When>,
    /// The latest time in the log.
    newest: Option<When>,
    /// What is in the write generation, where that was counted.
    write_tally: Option<Tally>,
    write_bytes: u64,
    /// The sealed generation last read from.
    reading: Option<Generation>,
    builder: Builder,
    /// Full chunks that are not durable.
    waiting: Vec<(Seq, Vec<u8>)>,
    waiting_bytes: usize,
    /// What is in `waiting` and `builder`.
    waiting_tally: Tally,
    next: Seq,
    /// Samples refused for want of room and not told yet.
    refused: Tally,
    other_bytes: u64,
    /// Damage has been told up to here.
    holes_told: Seq,
    /// Last number that was handed out by this process.
    handed: Seq,
    /// Last number that may be handed out before it is written; see `lend`.
    lent: Seq,
    /// Why the flush in an append failed: that append was taken, the next call is refused.
    failed: Option<String>,
    /// A write or a sync of the write generation failed: nothing more is to be promised of its files.
    distrusted: bool,
    stats: Stats,
    notices: Vec<String>,
}

/// Boot and CLOCK_BOOTTIME ns in it.
type When = (u32, u64);

impl DiskLog {
    fn write(&self) -> Result<&Generation, DiskError> {
        self.write.as_ref().ok_or_else(|| DiskError::Damaged("no generation is open for writing".into()))
    }

    fn durable(&self) -> Seq {
        self.marks.marks.durable
    }

    fn confirmed(&self) -> Seq {
        self.marks.marks.confirmed
    }

    fn oldest(&self) -> Seq {
        if self.has_gap() {
            // What is before the gap was confirmed with it.
            return self.durable() + 1;
        }
        let dropped = self.marks.marks.gone().next().map(|(_, dropped)| dropped.first);
        dropped.unwrap_or_else(|| self.first_kept())
    }

    /// First number of the oldest generation.
    fn first_kept(&self) -> Seq {
        let sealed = self.sealed.front().map(|sealed| sealed.first);
        sealed.unwrap_or(self.write_first)
    }

    fn push(&mut self, bytes: &[u8]) {
        if !self.builder.push(bytes) {
            self.close_chunk();
            let _sizes_were_checked = self.builder.push(bytes);
        }
        self.next += 1;
        self.stats.payload_bytes += bytes.len() as u64;
    }

    /// Takes records whose sizes were checked and whose room was asked for.
    pub(super) fn take(&mut self, records: &[(Record, Vec<u8>)]) -> Result<Range<Seq>, StoreError> {
        if let Some(why) = self.failed.take() {
            return Err(StoreError::Failed(why));
        }
        let start = self.next;
        for (record, bytes) in records {
            self.take_in(record, bytes);
            if self.outstanding() >= FLUSH_BYTES
                && self.failed.is_none()
                && let Err(StoreError::Failed(why)) = self.flush_waiting()
            {
                // The records are taken: who did this append again elsewhere would have them twice.
                self.failed = Some(why);
            }
        }
        Ok(start..self.next)
    }

    fn take_in(&mut self, record: &Record, bytes: &[u8]) {
        self.push(bytes);
        let mut tally = Tally::default();
        tally.count(record, self.manifests.known());
        if !matches!(record, Record::Loss(_)) {
            self.newest = self.newest.max(tally.until);
        }
        self.waiting_tally.add(&tally);
    }

    fn close_chunk(&mut self) {
        if !self.builder.is_empty() {
            let first = self
                .waiting
                .last()
                .and_then(|(_, bytes)| Chunk::parse(bytes))
                .map_or(self.durable(), |chunk| chunk.last())
                + 1;
            let bytes = self.builder.finish(first, self.marks.marks.epoch);
            self.waiting_bytes += bytes.len();
            self.waiting.push((first, bytes));
        }
    }

    /// Puts what is waiting on disk; tries again after what can be recovered from.
    fn flush_waiting(&mut self) -> Result<(), StoreError> {
        self.close_chunk();
        if self.waiting.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        for _ in 0..FLUSH_TRIES {
            match self.try_flush() {
                Ok(()) => {
                    self.stats.flush_last = began.elapsed();
                    self.stats.flush_max = self.stats.flush_max.max(self.stats.flush_last);
                    self.stats.flushes += 1;
                    return self.roll_when_due();
                }
                Err(error) => self.recover(error)?,
            }
        }
        Err(StoreError::Failed(format!("no flush came through in {FLUSH_TRIES} tries")))
    }

    fn try_flush(&mut self) -> Result<(), DiskError> {
        self.close_gap()?;
        self.give_up_aged()?;
        self.make_room(self.waiting_bytes as u64)?;
        let last = self.next - 1;
        if last > self.marks.marks.ceiling {
            self.save_marks_ahead_of(last)?;
        }
        let write = self.write()?;
        let mut chunks = self.waiting.iter();
        let wrote = chunks.try_for_each(|(first, bytes)| write.insert(*first, bytes)).and_then(|()| write.flush());
        self.distrusted |= wrote.is_err();
        wrote?;
        self.marks.marks.durable = last;
        self.write_end = last;
        self.marks_dirty = true;
        self.tell_marks();
        self.write_bytes += self.waiting_bytes as u64;
        self.write_from = self.write_from.or(self.waiting_tally.from);
        let flushed = std::mem::take(&mut self.waiting_tally);
        if let Some(tally) = &mut self.write_tally {
            tally.add(&flushed);
        }
        self.waiting.clear();
        self.waiting_bytes = 0;
        Ok(())
    }

    /// Writes the marks with the ceiling so far ahead that at the present rate it need not be moved before they are
    /// written anyway.
    fn save_marks_ahead_of(&mut self, last: Seq) -> Result<(), DiskError> {
        let since = last.saturating_sub(self.marked);
        // What lies between is lost to the log's reader when the power goes while numbers are lent: no more than needed.
        let ahead = if self.lends() { since } else { 4 * since };
        self.marks.marks.ceiling = last.max(self.lent) + ahead.clamp(RESERVE_MIN, RESERVE_MAX);
        self.marked = last;
        self.save_marks()
    }

    /// Writes down what has just become durable, before anybody hears of it. Where the end of the database is damaged,
    /// sled takes an older state for the whole: only this tells that there was more, and which numbers were given away.
    /// A sync each second is what that is worth; more often the page cache has to do, which a crash leaves alone.
    fn tell_marks(&mut self) {
        let told = match self.marks_saved.elapsed() >= MARKS_WITH_FLUSH {
            true => self.save_marks(),
            false => self.marks.note().map_err(DiskError::from),
        };
        // What was flushed is durable all the same, and the next tick tries again.
        let _damage_may_then_hide_more = told;
    }

    fn save_marks(&mut self) -> Result<(), DiskError> {
        self.marks.save()?;
        self.marks_saved = Instant::now();
        self.marks_dirty = false;
        Ok(())
    }

    fn roll_when_due(&mut self) -> Result<(), StoreError> {
        if self.write_bytes < self.options.generation_bytes() && !self.spans_long() {
            return Ok(());
        }
        self.roll().or_else(|error| self.recover(error))
    }

    /// Seals the write generation and begins the next. Everything in it is durable.
    fn roll(&mut self) -> Result<(), DiskError> {
        let first = self.durable() + 1;
        let summary = Summary { last: self.durable(), tally: self.write_tally.clone() };
        self.write()?.seal(&summary)?;
        // What a failure leaves of a generation that has no records yet takes room that is needed now.
        let begun = Generation::open(&self.home, first, 0);
        let climbed = begun.inspect_err(|_| drop(fs::remove_dir_all(self.home.generation(first))))?;
        self.notices.extend(climbed.finding);
        if let Some(old) = self.write.replace(climbed.generation) {
            self.push_sealed(old, summary);
        }
        self.begin_generation(first);
        Ok(())
    }

    /// Nothing is in the write generation yet.
    fn begin_generation(&mut self, first: Seq) {
        self.write_first = first;
        self.write_end = first - 1;
        self.write_from = None;
        self.write_tally = Some(Tally::default());
        self.write_bytes = 0;
    }

    /// Takes a generation to the sealed ones. It stays a database where there is no room to make a plain file of it,
    /// and where it is about to be removed.
    fn push_sealed(&mut self, old: Generation, summary: Summary) {
        let (first, path) = (old.first, old.path.clone());
        if summary.last <= self.confirmed() {
            old.shut();
        } else if let Err(DiskError::Damaged(why)) = old.flatten() {
            self.notices.push(format!("generation {first:016x} cannot be read as a whole: {why}"));
        }
        let disk_bytes = files::disk_bytes(&path);
        self.sealed.push_back(Sealed { first, last: summary.last, tally: summary.tally, disk_bytes, thinned: false });
    }

    /// Does something about an error so that the work can be tried again, or gives up.
    fn recover(&mut self, error: DiskError) -> Result<(), StoreError> {
        let recovered = match error {
            DiskError::NoSpace => self.recover_from_full(),
            DiskError::Damaged(why) => self.reopen_write(&why),
            DiskError::Io(error) => Err(DiskError::Io(error)),
        };
        recovered.map_err(failed)
    }

    /// Climbs the ladder with the write generation. What is waiting is still in memory.
    fn reopen_write(&mut self, why: &str) -> Result<(), DiskError> {
        self.notices.push(format!("the write generation is opened again: {why}"));
        Generation::close(&mut self.write);
        self.open_write()
    }

    /// Opens the write generation, which is closed; or the next, where this one is not to be trusted.
    fn open_write(&mut self) -> Result<(), DiskError> {
        if self.distrusted {
            self.move_on()?;
        }
        let climbed = Generation::open(&self.home, self.write_first, self.promised())?;
        self.notices.extend(climbed.finding);
        self.write = Some(climbed.generation);
        self.distrusted = false;
        self.other_bytes = self.home.other_bytes();
        Ok(())
    }

    /// A write that failed is forgotten by the kernel: what was to be written can be read as long as it is in the page
    /// cache, and the next sync says that all is well. sled would build on it, and wipe what it stands for. So what was
    /// durable before is taken out of the raw file, and what comes now goes into files of its own. What has holes is
    /// left to the ladder.
    fn move_on(&mut self) -> Result<(), DiskError> {
        let (first, last) = (self.write_first, self.write_end);
        let path = self.home.generation(first);
        if last < first {
            return if path.exists() { Ok(files::remove_dir(&path)?) } else { Ok(()) };
        }
        let summary = Summary { last, tally: self.write_tally.clone() };
        if Generation::rescue(&self.home, first, &summary)? {
            let (disk_bytes, tally) = (files::disk_bytes(&path), summary.tally);
            self.sealed.push_back(Sealed { first, last, tally, disk_bytes, thinned: false });
            self.begin_generation(last + 1);
        }
        Ok(())
    }
}

fn failed(error: DiskError) -> StoreError {
    StoreError::Failed(match error {
        DiskError::NoSpace => "no space left on the device, and nothing more to give up".into(),
        DiskError::Io(error) => error.to_string(),
        DiskError::Damaged(why) => why,
    })
}

impl Store for DiskLog {
    fn log_id(&self) -> LogId {
        self.log
    }

    fn append(&mut self, records: &[(Record, Vec<u8>)]) -> Result<Range<Seq>, StoreError> {
        chunk::check_sizes(records)?;
        if let Some(told) = self.admit(records, self.outstanding())? {
            self.take_in(&told, &record::encode(&told));
        }
        self.take(records)
    }

    fn flush(&mut self) -> Result<Seq, StoreError> {
        self.flush_waiting()?;
        Ok(self.durable())
    }

    fn outstanding(&self) -> usize {
        self.waiting_bytes + self.builder.len()
    }

    fn read_from(&mut self, seq: Seq, max_bytes: usize) -> Result<Vec<Stored>, StoreError> {
        self.read(seq, max_bytes).map_err(failed)
    }

    fn confirm_thru(&mut self, seq: Seq) -> Result<Confirmed, StoreError> {
        if seq > self.durable() {
            return Ok(Confirmed::BeyondEnd { last: self.durable() });
        }
        if seq <= self.confirmed() {
            return Ok(Confirmed::Known);
        }
        self.marks.marks.confirmed = seq;
        self.marks_dirty = true;
        self.trim_dropped();
        self.free_confirmed().or_else(|error| self.recover(error))?;
        Ok(Confirmed::Moved)
    }

    fn keep_manifest(&mut self, hash: ManifestHash, manifest: &Manifest) -> Result<(), StoreError> {
        if self.manifests.keep(hash, manifest).is_err() {
            self.home.drop_ballast();
            self.manifests.keep(hash, manifest).map_err(|error| failed(error.into()))?;
        }
        self.other_bytes = self.home.other_bytes();
        Ok(())
    }

    fn manifests(&self) -> BTreeMap<ManifestHash, Manifest> {
        self.manifests.known().clone()
    }

    fn tick(&mut self) -> Result<(), StoreError> {
        if self.marks_dirty && self.marks_saved.elapsed() >= self.marks_every() {
            self.save_marks_ahead_of(self.durable()).or_else(|error| self.recover(error))?;
        }
        self.tend_ballast();
        self.other_bytes = self.home.other_bytes();
        Ok(())
    }

    fn stats(&self) -> Stats {
        Stats {
            place: Place::Disk,
            last_seq: self.next - 1,
            durable_seq: self.durable(),
            confirmed_seq: self.confirmed(),
            oldest_seq: self.oldest(),
            disk_bytes: self.used(),
            generations: u32::try_from(self.sealed.len() + 1).unwrap_or(u32::MAX),
            ..self.stats.clone()
        }
    }

    fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    fn leave(&mut self) {
        self.marks.marks.left = Some(self.waiting_tally.clone());
        // In place, so that a full disk takes it; one that takes nothing leaves it untold.
        let _told_as_far_as_can_be = self.marks.save();
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.marks.marks.left = None;
        self.save_marks().map_err(failed)
    }

    fn take_outstanding(&mut self) -> Vec<(Record, Vec<u8>)> {
        self.close_chunk();
        let chunks = std::mem::take(&mut self.waiting);
        let chunks = chunks.iter().filter_map(|(_, bytes)| Chunk::parse(bytes));
        chunks
            .flat_map(|chunk| {
                chunk
                    .records()
                    .filter_map(|bytes| Some((record::decode(bytes).ok()?, bytes.to_vec())))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.flush_waiting()?;
        // The end is known exactly, so damage found at the next start passes over nothing that never was.
        self.marks.marks.ceiling = self.durable();
        (self.lent, self.marks.marks.later.lent) = (0, false);
        self.save_marks().or_else(|error| self.recover(error))?;
        Generation::close(&mut self.reading);
        Generation::close(&mut self.write);
        Ok(())
    }
}
