//! The disk log against its memory twin, action by action, crashes among them.

mod spool_support;

use proptest::prelude::*;
use speedwell::spool::{Confirmed, Options, Spool};
use speedwell_wire::Seq;
use spool_support::*;

#[derive(Clone, Debug)]
enum Action {
    Append {
        records: u64,
        size: usize,
    },
    Flush,
    /// The process is gone between two system calls; what it had written is in the page cache.
    Crash,
    /// Up to a part (of 255) of what is durable, or beyond its end.
    Confirm(u8),
    Read {
        from: u8,
        max_bytes: usize,
    },
    Reopen,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (1..120u64, 12..4000usize).prop_map(|(records, size)| Action::Append { records, size }),
        3 => Just(Action::Flush),
        2 => Just(Action::Crash),
        2 => any::<u8>().prop_map(Action::Confirm),
        2 => (any::<u8>(), 1..100_000usize).prop_map(|(from, max_bytes)| Action::Read { from, max_bytes }),
        1 => Just(Action::Reopen),
    ]
}

/// Both logs, and what a person would have written down about them.
struct Both {
    dir: tempfile::TempDir,
    disk: Spool,
    twin: Spool,
    /// Id and size of every record that is in the log.
    log: Vec<(u64, usize)>,
    next_id: u64,
}

fn small(dir: &std::path::Path) -> Options {
    Options { max_size: 24 << 20, memory_max: 1 << 30, ..options(dir) }
}

impl Both {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (disk, _) = Spool::open(small(dir.path())).unwrap();
        let (twin, _) = Spool::in_memory(small(dir.path())).unwrap();
        Self { dir, disk, twin, log: Vec::new(), next_id: 0 }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Append { records, size } => {
                let ids: Vec<_> = (self.next_id + 1..=self.next_id + records).collect();
                self.next_id += records;
                let records: Vec<_> = ids.iter().map(|id| record(*id, size)).collect();
                let appended = self.disk.append(records.clone()).await.unwrap();
                assert_eq!(appended, self.twin.append(records).await.unwrap());
                self.log.extend(ids.into_iter().map(|id| (id, size)));
            }
            Action::Flush => assert_eq!(self.disk.flush().await.unwrap(), self.twin.flush().await.unwrap()),
            Action::Crash => self.crash().await,
            Action::Confirm(part) => {
                let seq = self.disk.stats().durable_seq * u64::from(part) / 250;
                let confirmed = self.disk.confirm_thru(seq).await.unwrap();
                // The disk log flushes by itself at 128 KiB, so the twin has to be flushed to know as much.
                self.twin.flush().await.unwrap();
                if !matches!(confirmed, Confirmed::BeyondEnd { .. }) {
                    assert_eq!(confirmed, self.twin.confirm_thru(seq).await.unwrap());
                }
            }
            Action::Read { from, max_bytes } => {
                let stats = self.disk.stats();
                let from = stats.confirmed_seq + 1 + stats.last_seq * u64::from(from) / 255;
                let read = self.disk.read_from(from, max_bytes).await.unwrap();
                self.twin.flush().await.unwrap();
                let mut expected = self.twin.read_from(from, max_bytes).await.unwrap();
                expected.retain(|entry| entry.first <= stats.durable_seq);
                assert_eq!(read, expected);
            }
            Action::Reopen => {
                self.disk.close().await.unwrap();
                self.open_again(self.dir.path().to_owned()).await;
                assert_eq!(self.disk.stats().last_seq, self.log.len() as Seq, "a close loses nothing");
            }
        }
    }

    async fn crash(&mut self) {
        let durable = self.disk.stats().durable_seq;
        let dir = tempfile::tempdir().unwrap();
        copy_dir(self.dir.path(), dir.path());
        self.open_again(dir.path().to_owned()).await;
        self.dir = dir;
        let last = self.disk.stats().last_seq;
        assert!(
            durable <= last && last <= self.log.len() as Seq,
            "{durable} durable, {last} found, {}",
            self.log.len()
        );
        self.log.truncate(last as usize);
    }

    /// The twin is told again what survived.
    async fn open_again(&mut self, dir: std::path::PathBuf) {
        let confirmed = self.disk.stats().confirmed_seq;
        let (disk, opened) = Spool::open(small(&dir)).unwrap();
        assert_eq!(opened.findings, Vec::<String>::new());
        assert!(opened.confirmed_seq <= confirmed);
        assert_eq!(disk.stats().durable_seq, opened.last_seq, "what was found is durable");
        self.disk = disk;
        self.twin = Spool::in_memory(small(&dir)).unwrap().0;
        let survived = &self.log[..self.log.len().min(opened.last_seq as usize)];
        self.twin.append(survived.iter().map(|(id, size)| record(*id, *size)).collect()).await.unwrap();
        self.twin.flush().await.unwrap();
        self.twin.confirm_thru(opened.confirmed_seq).await.unwrap();
    }

    /// Everything from the first unconfirmed on is there once, in order.
    async fn check(&self) {
        let stats = self.disk.stats();
        let mut next = stats.confirmed_seq + 1;
        for entry in read_all(&self.disk, next).await {
            assert_eq!((entry.first, entry.span), (next, 1));
            assert_eq!(number(&entry), self.log[entry.first as usize - 1].0);
            next += 1;
        }
        assert_eq!(next, stats.durable_seq + 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_disk_log_does_what_its_memory_twin_does_through_crashes(actions in proptest::collection::vec(action(), 1..40)) {
        runtime().block_on(async {
            let mut both = Both::new();
            for action in actions {
                both.act(action).await;
            }
            both.disk.flush().await.unwrap();
            both.check().await;
        });
    }
}
