//! The asynchronous handle, and the one thread that owns the store behind it.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
};

use speedwell_wire::{LogId, LossReason, Manifest, ManifestHash, Record, Seq, record};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::{
    disk_log::DiskLog,
    error::{Confirmed, OpenError, SpoolError},
    lazy::Lazy,
    memory::Memory,
    options::Options,
    stats::{Opened, Place, Stats},
    store::{Store, Stored},
    tally::Tally,
    writer::{Reopen, Writer},
};

/// Commands that may wait for the writer thread. Each append carries about a second of records: more than this many
/// waiting means that the disk is seconds behind, and then the callers have to wait.
const COMMANDS_MAX: usize = 32;
/// Notices kept for somebody to take; older ones go.
const NOTICES_MAX: usize = 32;

pub(super) type Reply<T> = oneshot::Sender<Result<T, SpoolError>>;

/// What the handle asks of the writer thread.
pub(super) enum Command {
    Append(Vec<(Record, Vec<u8>)>, Reply<Range<Seq>>),
    Flush(Reply<Seq>),
    Read(LogId, Seq, usize, Reply<Vec<Stored>>),
    Confirm(LogId, Seq, Reply<Confirmed>),
    KeepManifest(Manifest, Reply<ManifestHash>),
    Close(Reply<()>),
}

/// What the writer thread lets everybody see without asking.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) stats: Stats,
    pub(super) notices: VecDeque<String>,
    pub(super) manifests: BTreeMap<ManifestHash, Manifest>,
}

impl Shown {
    pub(super) fn notice(&mut self, notice: String) {
        self.notices.push_back(notice);
        while self.notices.len() > NOTICES_MAX {
            self.notices.pop_front();
        }
    }
}

/// Locks what is shown. A panic while it was held leaves plain numbers behind, good enough to show.
pub(super) fn look(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A durable log of records. Cheap to clone; the writer thread ends with the last clone, or with [`Spool::close`].
#[derive(Clone, Debug)]
pub struct Spool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// `None` once dropping has begun.
    commands: Option<mpsc::Sender<(Command, OwnedSemaphorePermit)>>,
    room: Arc<Semaphore>,
    shown: Arc<Mutex<Shown>>,
    durable: watch::Receiver<Seq>,
    log: watch::Receiver<LogId>,
    writer: Option<JoinHandle<()>>,
}

impl Spool {
    /// Opens the spool of `options`, or makes it. Damage is set aside and told in [`Opened::findings`]; it never keeps
    /// the agent from starting. Blocks for as long as the disk takes, up to a few hundred milliseconds after a crash.
    pub fn open(options: Options) -> Result<(Self, Opened), OpenError> {
        options.check()?;
        let (mut store, mut opened) = open_disk(&options)?;
        if let Some(left) = opened.left.take() {
            opened.findings.push(tell_what_memory_took(&mut *store, &left));
        }
        Self::start(options, store, opened, Some(open_disk))
    }

    /// The memory twin behind the same handle: for tests, and for a demonstration that must leave nothing behind.
    pub fn in_memory(options: Options) -> Result<(Self, Opened), OpenError> {
        let store = Memory::new(super::random_log_id(), options.memory_max);
        let opened = Opened::in_memory(store.log_id());
        Self::start(options, Box::new(store), opened, None)
    }

    /// `reopen` opens the disk again once it has failed.
    fn start(
        options: Options,
        store: Box<dyn Store>,
        opened: Opened,
        reopen: Option<Reopen>,
    ) -> Result<(Self, Opened), OpenError> {
        let (commands, inbox) = mpsc::channel();
        let shown =
            Arc::new(Mutex::new(Shown { stats: store.stats(), manifests: store.manifests(), ..Shown::default() }));
        let (durable_tx, durable) = watch::channel(store.stats().durable_seq);
        let (log_tx, log) = watch::channel(store.log_id());
        let path = options.directory.clone();
        let writer = Writer::new(options, store, inbox, shown.clone(), durable_tx, log_tx, reopen);
        let writer = std::thread::Builder::new()
            .name("spool".into())
            .spawn(move || writer.run())
            .map_err(|error| OpenError::from_io(path, error))?;
        let room = Arc::new(Semaphore::new(COMMANDS_MAX));
        let inner = Inner { commands: Some(commands), room, shown, durable, log, writer: Some(writer) };
        Ok((Self { inner: Arc::new(inner) }, opened))
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, SpoolError> {
        let permit = self.inner.room.clone().acquire_owned().await.map_err(|_| SpoolError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let commands = self.inner.commands.as_ref().ok_or(SpoolError::Closed)?;
        commands.send((command(reply), permit)).map_err(|_| SpoolError::Closed)?;
        answer.await.map_err(|_| SpoolError::Closed)?
    }

    /// Appends records and says which numbers they got. They are durable within `commit-every`; [`Spool::durable`]
    /// tells. Each may have [`super::MAX_RECORD`] bytes encoded: a caller splits larger ones (by channels, or by time).
    ///
    /// Cancel-safe in that either all of them are appended or none.
    pub async fn append(&self, records: Vec<Record>) -> Result<Range<Seq>, SpoolError> {
        let encoded = records
            .into_iter()
            .map(|record| {
                let bytes = record::encode(&record);
                (record, bytes)
            })
            .collect();
        self.ask(|reply| Command::Append(encoded, reply)).await
    }

    /// Makes everything appended so far durable; the last durable number comes back.
    pub async fn flush(&self) -> Result<Seq, SpoolError> {
        self.ask(Command::Flush).await
    }

    /// Durable entries in order, from `seq` on, or from the oldest that is still there. At most `max_bytes` of record
    /// bytes, but at least one entry where there is one. Without holes: what was shed or cannot be read stands there
    /// as one loss with its span. Nothing, when the log goes on under a new name by the time it would be read.
    pub async fn read_from(&self, seq: Seq, max_bytes: usize) -> Result<Vec<Stored>, SpoolError> {
        let log = self.log_id();
        self.ask(|reply| Command::Read(log, seq, max_bytes, reply)).await
    }

    /// Frees everything up to `seq`, inclusive. Saying it twice, or naming an older one, does nothing; nor does it when
    /// the log goes on under a new name by then, in which the number is another record's.
    pub async fn confirm_thru(&self, seq: Seq) -> Result<Confirmed, SpoolError> {
        let log = self.log_id();
        self.ask(|reply| Command::Confirm(log, seq, reply)).await
    }

    /// Keeps a manifest beside the log, durably, before any record that is read with it is appended.
    pub async fn keep_manifest(&self, manifest: &Manifest) -> Result<ManifestHash, SpoolError> {
        let manifest = manifest.clone();
        self.ask(|reply| Command::KeepManifest(manifest, reply)).await
    }

    /// A manifest that was kept.
    pub fn manifest(&self, hash: ManifestHash) -> Option<Manifest> {
        look(&self.inner.shown).manifests.get(&hash).cloned()
    }

    /// The last durable sequence number, as it moves.
    pub fn durable(&self) -> watch::Receiver<Seq> {
        self.inner.durable.clone()
    }

    /// The log's name. It changes when the disk fails while running and the log goes on in memory, where numbers start
    /// again at 1, and when the disk works again. Ask before each read, or watch [`Spool::log`].
    pub fn log_id(&self) -> LogId {
        *self.inner.log.borrow()
    }

    /// The log's name, as it changes.
    pub fn log(&self) -> watch::Receiver<LogId> {
        self.inner.log.clone()
    }

    /// How the spool is, as of the last command.
    pub fn stats(&self) -> Stats {
        look(&self.inner.shown).stats.clone()
    }

    /// Whether records are only in memory.
    pub fn in_memory_only(&self) -> bool {
        self.stats().place == Place::Memory
    }

    /// Words for events that came up since the last call: damage met while reading, the change to memory, records
    /// dropped for want of room.
    pub fn take_notices(&self) -> Vec<String> {
        look(&self.inner.shown).notices.drain(..).collect()
    }

    /// Flushes and ends the writer thread. Further calls, on any clone, say [`SpoolError::Closed`].
    pub async fn close(&self) -> Result<(), SpoolError> {
        self.ask(Command::Close).await
    }
}

/// Opens the log on disk, in its form.
fn open_disk(options: &Options) -> Result<(Box<dyn Store>, Opened), OpenError> {
    let (disk, opened) = DiskLog::open(options)?;
    let store: Box<dyn Store> = if options.lazy.is_some() { Box::new(Lazy::new(disk)) } else { Box::new(disk) };
    Ok((store, opened))
}

/// An earlier process went on in memory when the disk failed, and ended there. Gives that in words.
fn tell_what_memory_took(store: &mut dyn Store, left: &Tally) -> String {
    let loss = left.loss_from_here_on(LossReason::DiskFailed);
    let bytes = record::encode(&loss);
    let told = store.append(&[(loss, bytes)]).and_then(|_| store.flush()).and_then(|_| store.settle());
    let words = "the disk had failed, and what was kept in memory from then on may be lost";
    match told {
        Ok(()) => format!("{words}: a loss stands for it"),
        Err(_) => format!("{words}: the loss cannot be written, and is told at the next start"),
    }
}

/// Waits until the writer has flushed: a few milliseconds, against losing up to `commit-every` of records.
impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(writer) = self.writer.take() {
            let _ended = writer.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use speedwell_wire::{Event, EventKind};

    use super::*;
    use crate::spool::store::StoreError;

    /// A disk that takes records and then fails to make them durable, as soon as it is let.
    struct FailingDisk {
        kept: Memory,
        waiting: Vec<(Record, Vec<u8>)>,
        /// A flush waits for a word from here.
        gate: Option<mpsc::Receiver<()>>,
        /// Whether everything else fails too.
        dead: bool,
    }

    impl FailingDisk {
        fn fail<T>(&self) -> Result<T, StoreError> {
            Err(StoreError::Failed("input/output error".into()))
        }
    }

    impl Store for FailingDisk {
        fn log_id(&self) -> LogId {
            self.kept.log_id()
        }
        fn append(&mut self, records: &[(Record, Vec<u8>)]) -> Result<Range<Seq>, StoreError> {
            self.waiting.extend_from_slice(records);
            Ok(1..1 + self.waiting.len() as u64)
        }
        fn flush(&mut self) -> Result<Seq, StoreError> {
            let _opened = self.gate.take().map(|gate| gate.recv());
            self.fail()
        }
        fn outstanding(&self) -> usize {
            self.waiting.len()
        }
        fn read_from(&mut self, seq: Seq, max_bytes: usize) -> Result<Vec<Stored>, StoreError> {
            if self.dead { self.fail() } else { self.kept.read_from(seq, max_bytes) }
        }
        fn confirm_thru(&mut self, seq: Seq) -> Result<Confirmed, StoreError> {
            if self.dead { self.fail() } else { self.kept.confirm_thru(seq) }
        }
        fn keep_manifest(&mut self, hash: ManifestHash, manifest: &Manifest) -> Result<(), StoreError> {
            self.kept.keep_manifest(hash, manifest)
        }
        fn manifests(&self) -> BTreeMap<ManifestHash, Manifest> {
            self.kept.manifests()
        }
        fn tick(&mut self) -> Result<(), StoreError> {
            Ok(())
        }
        fn stats(&self) -> Stats {
            self.kept.stats()
        }
        fn take_notices(&mut self) -> Vec<String> {
            Vec::new()
        }
        fn take_outstanding(&mut self) -> Vec<(Record, Vec<u8>)> {
            std::mem::take(&mut self.waiting)
        }
        fn close(&mut self) -> Result<(), StoreError> {
            Ok(())
        }
    }

    fn failing(fallback_to_memory: bool) -> (Spool, LogId) {
        on_disk(fallback_to_memory, None, false)
    }

    fn on_disk(fallback_to_memory: bool, gate: Option<mpsc::Receiver<()>>, dead: bool) -> (Spool, LogId) {
        let options = Options { fallback_to_memory, ..Options::new("unused") };
        let kept = Memory::new(LogId(7), options.memory_max);
        let disk = FailingDisk { kept, waiting: Vec::new(), gate, dead };
        let (spool, _) = Spool::start(options, Box::new(disk), Opened::in_memory(LogId(7)), None).unwrap();
        (spool, LogId(7))
    }

    fn event() -> Record {
        let (kind, detail) = (EventKind::Spool, String::new());
        Record::Event(Event { boot: 1, t_ns: 1, sensor: None, kind, detail })
    }

    #[tokio::test]
    async fn a_disk_that_fails_while_running_is_left_for_memory_with_what_was_not_durable_and_says_so() {
        let (spool, disk) = failing(true);
        let manifest = Manifest { channels: Vec::new() };
        let hash = spool.keep_manifest(&manifest).await.unwrap();
        spool.append(vec![event(), event()]).await.unwrap();
        assert_eq!(spool.flush().await.unwrap(), 2);
        assert_ne!(spool.log_id(), disk, "numbers start again, so it is another log");
        assert!(spool.in_memory_only());
        assert_eq!(spool.read_from(1, 10_000).await.unwrap().len(), 2);
        assert_eq!(spool.manifest(hash), Some(manifest));
        let notices = spool.take_notices();
        assert!(notices.iter().any(|notice| notice.contains("memory only")), "{notices:?}");
    }

    #[tokio::test]
    async fn a_disk_that_fails_with_nowhere_to_go_is_told_to_who_appends() {
        let (spool, _) = failing(false);
        spool.append(vec![event()]).await.unwrap();
        assert_eq!(spool.flush().await.unwrap_err(), SpoolError::Disk("input/output error".into()));
        assert_eq!(spool.append(vec![event()]).await.unwrap_err(), SpoolError::Disk("input/output error".into()));
    }

    #[tokio::test]
    async fn what_is_said_of_one_log_is_not_done_to_the_one_that_takes_its_place_meanwhile() {
        let (open_gate, gate) = mpsc::channel();
        let (spool, disk) = on_disk(true, Some(gate), false);
        spool.append(vec![event(), event()]).await.unwrap();
        // All three are asked while the log is still the one on disk, and come to their turn one after the other.
        let (flushed, confirmed, read, ()) =
            tokio::join!(spool.flush(), spool.confirm_thru(2), spool.read_from(1, 10_000), async {
                assert_eq!(spool.log_id(), disk);
                open_gate.send(()).unwrap();
            });
        assert_eq!(flushed.unwrap(), 2);
        assert_ne!(spool.log_id(), disk);
        assert_eq!(confirmed.unwrap(), Confirmed::Known, "of the other log");
        assert_eq!(read.unwrap(), [], "under the other log's name these would be other records");
        assert_eq!(spool.stats().confirmed_seq, 0);
        assert_eq!(spool.read_from(1, 10_000).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_confirmation_or_a_read_that_the_disk_fails_at_is_not_repeated_on_the_log_in_memory() {
        let (spool, disk) = on_disk(true, None, true);
        spool.append(vec![event(), event()]).await.unwrap();
        assert_eq!(spool.confirm_thru(2).await.unwrap(), Confirmed::Known);
        assert_ne!(spool.log_id(), disk);
        spool.flush().await.unwrap();
        assert_eq!((spool.stats().confirmed_seq, spool.stats().durable_seq), (0, 2));

        let (spool, disk) = on_disk(true, None, true);
        spool.append(vec![event()]).await.unwrap();
        assert_eq!(spool.read_from(1, 10_000).await.unwrap(), []);
        assert_ne!(spool.log_id(), disk);
    }
}
