//! The one thread that owns the store: takes commands, commits in groups, and changes to memory when the disk fails.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use speedwell_wire::{LogId, Seq};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{
    error::{Confirmed, SpoolError},
    handle::{Command, Shown, look},
    memory::Memory,
    options::Options,
    store::{Store, StoreError},
};

/// How often the store is given a chance to tidy up when nobody asks anything.
const TICK: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    options: Options,
    store: Box<dyn Store>,
    inbox: mpsc::Receiver<(Command, OwnedSemaphorePermit)>,
    shown: Arc<Mutex<Shown>>,
    durable: watch::Sender<Seq>,
    log: watch::Sender<LogId>,
    /// When the oldest record that is not durable has to be.
    commit_at: Option<Instant>,
    /// Set when the disk failed and there is nowhere else to go.
    failed: Option<String>,
}

impl Writer {
    pub(super) fn new(
        options: Options,
        store: Box<dyn Store>,
        inbox: mpsc::Receiver<(Command, OwnedSemaphorePermit)>,
        shown: Arc<Mutex<Shown>>,
        durable: watch::Sender<Seq>,
        log: watch::Sender<LogId>,
    ) -> Self {
        Self { options, store, inbox, shown, durable, log, commit_at: None, failed: None }
    }

    pub(super) fn run(mut self) {
        let mut tick_at = Instant::now() + TICK;
        loop {
            let wake = self.commit_at.map_or(tick_at, |at| at.min(tick_at));
            match self.inbox.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Ok((Command::Close(reply), _)) => {
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
                let read = self.attempt(|store| match store.log_id() == log {
                    true => store.read_from(seq, max_bytes),
                    false => Ok(Vec::new()),
                });
                let _gone = reply.send(read);
            }
            Command::Confirm(log, seq, reply) => {
                let confirmed = self.attempt(|store| match store.log_id() == log {
                    true => store.confirm_thru(seq),
                    false => Ok(Confirmed::Known),
                });
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
        let outstanding = catch_unwind(AssertUnwindSafe(|| self.store.take_outstanding())).unwrap_or_default();
        let _fits = memory.append(&outstanding);
        let notice = format!(
            "the spool's disk failed ({why}): records are kept in memory only, in a log of their own ({}); what was durable stays on disk for the next start",
            memory.log_id()
        );
        look(&self.shown).notice(notice);
        let broken = std::mem::replace(&mut self.store, Box::new(memory));
        let _panicked = catch_unwind(AssertUnwindSafe(|| drop(broken)));
        let _nobody_listens = self.log.send(self.store.log_id());
        self.set_commit_time();
    }

    /// The stats first: who waits for a record to be durable finds them up to date.
    fn show(&mut self) {
        let stats = self.store.stats();
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
