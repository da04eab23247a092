//! The one thread that owns the store: takes commands, commits in groups, changes to memory when the disk fails, and back
//! to the disk when that works again.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use speedwell_wire::{LogId, Seq};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{
    error::{Confirmed, OpenError, SpoolError},
    files,
    handle::{Command, Shown, look},
    memory::Memory,
    options::Options,
    stats::Opened,
    store::{Store, StoreError},
};

/// How often the store is given a chance to tidy up when nobody asks anything.
const TICK: Duration = Duration::from_secs(5);

/// How long the disk is left alone after it failed, at first and at most.
const RETURN_AFTER: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// What the disk has to take, for real, before it is opened again: an open log that fills it at once is left again.
const ROOM_TO_RETURN: u64 = 4 << 20;
/// Bytes moved to the disk at once.
const PORTION: usize = 64 << 10;

/// Opens the log on disk.
pub(super) type Reopen = fn(&Options) -> Result<(Box<dyn Store>, Opened), OpenError>;

pub(super) struct Writer {
    options: Options,
    store: Box<dyn Store>,
    /// The log in memory, once the log goes on on disk again: what was read of it and is not confirmed belongs to it, since
    /// the far end may have it. Nothing else is read or confirmed until that is settled.
    rest: Option<Box<dyn Store>>,
    inbox: mpsc::Receiver<(Command, OwnedSemaphorePermit)>,
    shown: Arc<Mutex<Shown>>,
    durable: watch::Sender<Seq>,
    log: watch::Sender<LogId>,
    /// When the oldest record that is not durable has to be.
    commit_at: Option<Instant>,
    /// Set when the disk failed and there is nowhere else to go.
    failed: Option<String>,
    reopen: Option<Reopen>,
    /// Set while the log is in memory because the disk failed: when that is tried again, and how long after it next.
    back: Option<(Instant, Duration)>,
}

impl Writer {
    pub(super) fn new(
        options: Options,
        store: Box<dyn Store>,
        inbox: mpsc::Receiver<(Command, OwnedSemaphorePermit)>,
        shown: Arc<Mutex<Shown>>,
        durable: watch::Sender<Seq>,
        log: watch::Sender<LogId>,
        reopen: Option<Reopen>,
    ) -> Self {
        Self {
            options,
            store,
            rest: None,
            inbox,
            shown,
            durable,
            log,
            commit_at: None,
            failed: None,
            reopen,
            back: None,
        }
    }

    pub(super) fn run(mut self) {
        let mut tick_at = Instant::now() + TICK;
        loop {
            let wake = self.commit_at.map_or(tick_at, |at| at.min(tick_at));
            match self.inbox.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Ok((Command::Close(reply), _)) => {
                    self.back = self.back.map(|(_, wait)| (Instant::now(), wait));
                    self.return_when_due();
                    let closed = self.attempt(|store| store.close());
                    self.show();
                    // The lock goes with the store: whoever waits for the reply may open the directory again.
                    drop(self.store);
                    let _gone = reply.send(closed);
                    return;
                }
                Ok((command, _permit)) => self.obey(command),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let _nobody_listens = self.attempt(|store| store.close());
                    return;
                }
            }
            self.commit_when_due();
            if Instant::now() >= tick_at {
                let _told_by_notice = self.attempt(|store| store.tick());
                tick_at = Instant::now() + TICK;
            }
            self.return_when_due();
            self.show();
        }
    }

    /// Replies go out after the new state is shown, so that a caller finds its own work in the stats. A caller that has
    /// gone away is not an error.
    fn obey(&mut self, command: Command) {
        match command {
            Command::Append(records, reply) => {
                let appended = self.attempt(|store| store.append(&records));
                self.set_commit_time();
                self.show();
                let _gone = reply.send(appended);
            }
            Command::Flush(reply) => {
                let flushed = self.attempt(|store| store.flush());
                self.set_commit_time();
                self.show();
                let _gone = reply.send(flushed);
            }
            Command::Read(log, seq, max_bytes, reply) => {
                let read = self.attempt_shown(|store| match store.log_id() == log {
                    true => store.read_from(seq, max_bytes),
                    false => Ok(Vec::new()),
                });
                let _gone = reply.send(read);
            }
            Command::Confirm(log, seq, reply) => {
                let confirmed = self.attempt_shown(|store| match store.log_id() == log {
                    true => store.confirm_thru(seq),
                    false => Ok(Confirmed::Known),
                });
                self.settle_rest();
                self.set_commit_time();
                self.show();
                let _gone = reply.send(confirmed);
            }
            Command::KeepManifest(manifest, reply) => {
                let hash = manifest.hash();
                let kept = self.attempt(|store| store.keep_manifest(hash, &manifest));
                look(&self.shown).manifests = self.store.manifests();
                let _gone = reply.send(kept.map(|()| hash));
            }
            Command::Close(_) => {}
        }
    }

    fn set_commit_time(&mut self) {
        if self.store.outstanding() == 0 {
            self.commit_at = None;
        } else if let (Some(since), Some(lazy)) = (self.store.waiting_since(), self.options.lazy) {
            self.commit_at = Some(since + lazy);
        } else {
            self.commit_at.get_or_insert_with(|| Instant::now() + self.options.commit_every);
        }
    }

    fn commit_when_due(&mut self) {
        if self.commit_at.is_some_and(|at| Instant::now() >= at) {
            self.commit_at = None;
            let _told_by_notice = self.attempt(|store| store.flush());
            self.set_commit_time();
        }
    }

    /// Runs `work` on the log that is read and confirmed.
    fn attempt_shown<T>(
        &mut self,
        mut work: impl FnMut(&mut dyn Store) -> Result<T, StoreError>,
    ) -> Result<T, SpoolError> {
        match &mut self.rest {
            Some(rest) => work(rest.as_mut()).map_err(|error| SpoolError::Disk(format!("{error:?}"))),
            None => self.attempt(work),
        }
    }

    /// Runs `work` on the store. When the store cannot go on, the log moves to memory if that is wished for, and the
    /// work is done there.
    fn attempt<T>(&mut self, mut work: impl FnMut(&mut dyn Store) -> Result<T, StoreError>) -> Result<T, SpoolError> {
        if let Some(why) = &self.failed {
            return Err(SpoolError::Disk(why.clone()));
        }
        // SAFETY of the unwinding kind: sled panics on damage; a store that panicked is not used again.
        let worked = catch_unwind(AssertUnwindSafe(|| work(self.store.as_mut())))
            .unwrap_or_else(|panic| Err(StoreError::Failed(super::words_of(&*panic))));
        match worked {
            Ok(done) => Ok(done),
            Err(StoreError::TooLarge { index, bytes, max }) => Err(SpoolError::TooLarge { index, bytes, max }),
            Err(StoreError::Full { records }) => Err(SpoolError::Full { records }),
            Err(StoreError::Failed(why)) if self.options.fallback_to_memory => {
                self.move_to_memory(&why);
                work(self.store.as_mut()).map_err(|error| SpoolError::Disk(format!("{error:?}")))
            }
            Err(StoreError::Failed(why)) => {
                look(&self.shown).notice(format!("the spool's disk failed and nothing more can be kept: {why}"));
                self.failed = Some(why.clone());
                Err(SpoolError::Disk(why))
            }
        }
    }

    fn move_to_memory(&mut self, why: &str) {
        let mut memory = Memory::new(super::random_log_id(), self.options.memory_max);
        memory.adopt(self.store.manifests());
        let _panicked = catch_unwind(AssertUnwindSafe(|| self.store.leave()));
        let outstanding = catch_unwind(AssertUnwindSafe(|| self.store.take_outstanding())).unwrap_or_default();
        let _fits = memory.append(&outstanding);
        let notice = format!(
            "the spool's disk failed ({why}): records are kept in memory only, in a log of their own ({}), until it works again; what was durable stays on disk",
            memory.log_id()
        );
        look(&self.shown).notice(notice);
        let broken = std::mem::replace(&mut self.store, Box::new(memory));
        let _panicked = catch_unwind(AssertUnwindSafe(|| drop(broken)));
        self.back = self.reopen.map(|_| (Instant::now() + RETURN_AFTER.0, RETURN_AFTER.0));
        if self.rest.is_none() {
            let _nobody_listens = self.log.send(self.store.log_id());
        }
        self.set_commit_time();
    }

    /// Goes back to the disk when it works again.
    fn return_when_due(&mut self) {
        let (Some(reopen), Some((at, wait))) = (self.reopen, self.back) else { return };
        if Instant::now() < at {
            return;
        }
        let wait = (2 * wait).min(RETURN_AFTER.1);
        self.back = Some((Instant::now() + wait, wait));
        let trial = self.options.directory.join("trial.tmp");
        let takes = files::reserve(&trial, ROOM_TO_RETURN);
        let _never_made = std::fs::remove_file(&trial);
        if takes.is_err() {
            return;
        }
        let Ok(Ok((disk, opened))) = catch_unwind(|| reopen(&self.options)) else { return };
        self.move_back(disk, opened);
    }

    fn move_back(&mut self, mut disk: Box<dyn Store>, opened: Opened) {
        let manifests = self.store.manifests();
        let waiting = self.store.take_outstanding();
        let mut moved = 0;
        let went = catch_unwind(AssertUnwindSafe(|| {
            manifests.iter().try_for_each(|(hash, manifest)| disk.keep_manifest(*hash, manifest))?;
            while moved < waiting.len() {
                let mut bytes = 0;
                let rest = &waiting[moved..];
                let fits = rest.iter().take_while(|(_, record)| {
                    bytes += record.len();
                    bytes <= PORTION
                });
                let portion = fits.count().max(1);
                disk.append(&rest[..portion])?;
                disk.flush()?;
                moved += portion;
            }
            Ok::<(), StoreError>(())
        }));
        if let Ok(Ok(())) = went {
            self.back = None;
            self.leave_to_settle(disk);
            let mut shown = look(&self.shown);
            opened.findings.into_iter().for_each(|finding| shown.notice(finding));
            shown.notice(format!(
                "the spool's disk works again: the log goes on there, with {moved} records from memory"
            ));
            shown.manifests = self.store.manifests();
        } else {
            // What was flushed is the disk's; for the rest the log in memory begins anew, since it has nothing any more.
            let _panicked = catch_unwind(AssertUnwindSafe(|| disk.leave()));
            let _panicked = catch_unwind(AssertUnwindSafe(|| drop(disk)));
            let mut memory = Memory::new(super::random_log_id(), self.options.memory_max);
            memory.adopt(manifests);
            let _fits = memory.append(&waiting[moved..]);
            self.leave_to_settle(Box::new(memory));
        }
        self.settle_rest();
        self.set_commit_time();
    }

    /// Another store goes on; what is in doubt in the old one is settled first. Where something was left to settle already,
    /// nothing of the old one was read.
    fn leave_to_settle(&mut self, store: Box<dyn Store>) {
        let old = std::mem::replace(&mut self.store, store);
        self.rest.get_or_insert(old);
    }

    /// The log on disk is read again once nothing of the one in memory is in doubt any more.
    fn settle_rest(&mut self) {
        if self.rest.as_ref().is_some_and(|rest| !rest.in_doubt()) {
            self.rest = None;
            let _told_by_notice = self.attempt(|store| store.settle());
            let _nobody_listens = self.log.send(self.store.log_id());
        }
    }

    /// The stats first: who waits for a record to be durable finds them up to date.
    fn show(&mut self) {
        let stats = self.rest.as_ref().unwrap_or(&self.store).stats();
        let durable = stats.durable_seq;
        let mut shown = look(&self.shown);
        shown.stats = stats;
        for notice in self.store.take_notices() {
            shown.notice(notice);
        }
        drop(shown);
        self.durable.send_if_modified(|seq| std::mem::replace(seq, durable) != durable);
    }
}
