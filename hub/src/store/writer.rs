//! The one thread that writes.
//!
//! In      [`Work`] with a ticket, over a bounded channel.
//! Out     [`Done`] with the ticket, in the same order, after the commit.
//! Keeps   nothing; on an error it tries the same again until it works, and meanwhile nothing is confirmed.
//!
//! Except when the error lies in what was handed in: it would come again for ever. Then the group is committed by halves,
//! down to the piece that the database does not take, which is told so and given back. All others are stored.
//!
//! Group commit: what has come in while the last commit was under way goes into the next one. So a lone batch waits for
//! nobody, and under load one fsync serves hundreds. Between commits the store tends to what can wait.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, watch},
    time::timeout,
};

use super::{Done, Refused, Store, StoreError, Work};
use crate::{ingest::utc_ns, metrics::Histogram};

/// Pieces of work that may wait. With [`GROUP`] the most that is in memory.
pub const QUEUE: usize = 512;
/// Most pieces in one transaction: bounds the time of a commit, and what a failed one does again.
pub const GROUP: usize = 256;
/// First and longest wait after an error.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often a piece alone is tried that the database refuses: of two hubs that make the same row at once the second is
/// refused, and finds it there when it tries again.
const TRIES: u32 = 3;
/// How often the store tends to what can wait, when nothing of it is due.
const TEND_EVERY: Duration = Duration::from_secs(1);
/// A database that has not answered for so long is in trouble. Whoever waits for it gives up by then, and the next are
/// told at once.
const SLOW: Duration = Duration::from_secs(10);
/// Once told to stop, how long a store that fails is still tried. What it then has not taken was never confirmed.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// The two ends of a writer.
pub struct Writer<T> {
    /// Work goes in here; dropping it ends the writer once all is done.
    pub work: mpsc::Sender<(Work, T)>,
    /// What was done comes out here.
    pub done: mpsc::Receiver<(Done, T)>,
    /// Why nothing can be stored now, if nothing can.
    pub trouble: watch::Receiver<Option<String>>,
    /// How long commits took.
    pub commits: Arc<Histogram>,
    /// The thread; gives the error when it had to give up.
    pub thread: thread::JoinHandle<Result<(), StoreError>>,
}

/// Starts the thread.
pub fn start<T: Send + 'static>(store: impl Store) -> std::io::Result<Writer<T>> {
    start_with(store, SLOW)
}

fn start_with<T: Send + 'static>(store: impl Store, slow: Duration) -> std::io::Result<Writer<T>> {
    let (work, work_rx) = mpsc::channel(QUEUE);
    // As wide as the queue: whoever takes from it also fills the other, and must not wait for itself.
    let (done_tx, done) = mpsc::channel(QUEUE + GROUP);
    let (told, trouble) = watch::channel(None);
    // Only to wait for work with a limit.
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let commits = Arc::new(Histogram::of_commits());
    let told = Arc::new(Told { trouble: told, took: commits.clone(), asked: Mutex::new(None) });
    let watched = Arc::downgrade(&told);
    let write = move || write(store, &runtime, work_rx, &done_tx, &told);
    let thread = thread::Builder::new().name("store".into()).spawn(write)?;
    thread::Builder::new().name("store-watch".into()).spawn(move || watch(&watched, slow))?;
    Ok(Writer { work, done, trouble, commits, thread })
}

/// What others are told of commits.
struct Told {
    trouble: watch::Sender<Option<String>>,
    took: Arc<Histogram>,
    /// Since when the database is owed an answer.
    asked: Mutex<Option<Instant>>,
}

impl Told {
    fn ask<R>(&self, act: impl FnOnce() -> R) -> R {
        let asked = |at| *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = at;
        asked(Some(Instant::now()));
        let answer = act();
        // From here on the watch says nothing more of it.
        asked(None);
        answer
    }
}

/// Tells of a database that does not answer, as long as the writer is there: the writer itself waits for it.
fn watch(told: &Weak<Told>, slow: Duration) {
    while let Some(told) = told.upgrade() {
        let asked = told.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_some_and(|at| at.elapsed() > slow) && told.trouble.borrow().is_none() {
            let why = "the database has not answered for some time: its server or its disk is slow or stands still; \
                       it goes on by itself when it answers";
            tracing::error!("{why}");
            told.trouble.send_replace(Some(why.into()));
        }
        drop(asked);
        drop(told);
        thread::sleep(slow / 10);
    }
}

fn write<T>(
    mut store: impl Store,
    runtime: &Runtime,
    mut work: mpsc::Receiver<(Work, T)>,
    done: &mpsc::Sender<(Done, T)>,
    told: &Told,
) -> Result<(), StoreError> {
    let mut group = Vec::with_capacity(GROUP);
    let mut tending = Tending { next: Instant::now(), failed: None };
    loop {
        let until = tending.next.saturating_duration_since(Instant::now());
        match runtime.block_on(async { timeout(until, work.recv()).await }) {
            Ok(Some(first)) => group.push(first),
            Ok(None) => return Ok(()),
            Err(_) => {}
        }
        while let Some(more) = (group.len() < GROUP).then(|| work.try_recv().ok()).flatten() {
            group.push(more);
        }
        if !group.is_empty() {
            let (items, tickets): (Vec<Work>, Vec<T>) = group.drain(..).unzip();
            let mut tickets = tickets.into_iter();
            let mut answer = |results: Vec<Done>| {
                for result in results.into_iter().zip(tickets.by_ref()) {
                    // Nobody listens any more when the hub is stopping; the work is on disk all the same.
                    let _ = done.blocking_send(result);
                }
            };
            commit(&mut store, &items, told, &|| work.is_closed(), &mut answer)?;
        }
        // What waits for a commit goes before what can wait, but never starves it: one step a group.
        if tending.next <= Instant::now() && !work.is_closed() {
            // If it was told to be slow, it no longer is.
            if told.ask(|| tending.step(&mut store)) {
                told.trouble.send_if_modified(|why| why.take().is_some());
            }
        }
    }
}

/// When the store tends to what can wait.
struct Tending {
    next: Instant,
    /// Why it could not the last time, so that the journal is told once.
    failed: Option<String>,
}

impl Tending {
    /// Whether it could.
    fn step(&mut self, store: &mut impl Store) -> bool {
        let wait = match store.tend(utc_ns()) {
            Ok(more) => {
                self.failed = None;
                if more { Duration::ZERO } else { TEND_EVERY }
            }
            Err(error) => {
                let told = Some(error.to_string());
                if self.failed != told {
                    tracing::warn!(%error, "cannot sum up or drop what is old; trying again, nothing that is stored depends on it");
                    self.failed = told;
                }
                RETRY.1
            }
        };
        self.next = Instant::now() + wait;
        self.failed.is_none()
    }
}

/// Commits all of it, in order, and answers what was done after each commit. As one, unless something in it is refused.
fn commit(
    store: &mut impl Store,
    items: &[Work],
    told: &Told,
    stopping: &dyn Fn() -> bool,
    answer: &mut dyn FnMut(Vec<Done>),
) -> Result<(), StoreError> {
    let Told { trouble, took, .. } = told;
    let works = || {
        if trouble.send_if_modified(|why| why.take().is_some()) {
            tracing::info!("storing again; nothing was lost");
        }
    };
    let mut wait = RETRY.0;
    let (mut stop_by, mut raced, mut tries) = (None, false, 0);
    loop {
        let began = Instant::now();
        let error = match told.ask(|| store.commit(items)) {
            Ok(done) => {
                took.observe(began.elapsed());
                works();
                answer(done);
                return Ok(());
            }
            Err(error) => error,
        };
        if error.is_of_the_data() {
            if let (first, rest @ [_, ..]) = items.split_at(items.len().div_ceil(2)) {
                commit(store, first, told, stopping, answer)?;
                return commit(store, rest, told, stopping, answer);
            }
            tries += 1;
            if tries >= TRIES {
                works();
                let refused = |work: &Work| Refused { work: work.clone(), why: error.to_string() };
                answer(items.iter().map(|work| Done::Refused(Box::new(refused(work)))).collect());
                return Ok(());
            }
            continue;
        }
        // Of two hubs that make the same row at once the second is told so at once, and finds it there when it tries again.
        if matches!(error, StoreError::Locked) && began.elapsed() < RETRY.0 && !std::mem::replace(&mut raced, true) {
            continue;
        }
        tracing::error!(%error, "cannot store; nothing is confirmed until it works, trying again in {wait:?}");
        trouble.send_replace(Some(error.to_string()));
        if stopping() && *stop_by.get_or_insert_with(|| Instant::now() + STOP_WITHIN) < Instant::now() {
            return Err(error);
        }
        thread::sleep(wait);
        wait = (wait * 2).min(RETRY.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Read, Rejected};

    /// A store whose disk is full for a while.
    struct FullFor(u32);

    impl Store for FullFor {
        fn commit(&mut self, work: &[Work]) -> Result<Vec<Done>, StoreError> {
            if self.0 > 0 {
                self.0 -= 1;
                return Err(StoreError::Full);
            }
            Ok(work.iter().map(|_| Done::Kept).collect())
        }

        fn reader(&self) -> Arc<dyn Read> {
            unreachable!("the writer does not read")
        }
    }

    fn some_work() -> Work {
        of("x")
    }

    fn of(source: &str) -> Work {
        Work::Rejected(Rejected { source: source.into(), received_ns: 0, reason: "x".into(), bytes: Vec::new() })
    }

    /// A store that does not take what is "bad"; its disk is full now and then.
    struct Refuses {
        commits: Arc<Mutex<Vec<usize>>>,
        calls: usize,
        let_go: std::sync::mpsc::Receiver<()>,
    }

    impl Store for Refuses {
        fn commit(&mut self, work: &[Work]) -> Result<Vec<Done>, StoreError> {
            self.calls += 1;
            if self.calls == 1 {
                self.let_go.recv().unwrap();
            }
            if self.calls.is_multiple_of(7) {
                return Err(StoreError::Full);
            }
            if work.contains(&of("bad")) {
                return Err(StoreError::Refused("it is bad".into()));
            }
            self.commits.lock().unwrap().push(work.len());
            Ok(work.iter().map(|_| Done::Kept).collect())
        }

        fn reader(&self) -> Arc<dyn Read> {
            unreachable!("the writer does not read")
        }
    }

    #[test]
    fn what_the_database_refuses_is_given_back_and_the_others_are_stored_in_their_order() {
        let bad = |ticket: usize| [37, 38, 200].contains(&ticket);
        let (go, let_go) = std::sync::mpsc::channel();
        let commits = Arc::new(Mutex::new(Vec::new()));
        let store = Refuses { commits: commits.clone(), calls: 0, let_go };
        let Writer { work, mut done, trouble, thread, .. } = start(store).unwrap();
        // The first goes alone; what comes while it does is one group.
        for ticket in 0..GROUP {
            work.blocking_send((of(if bad(ticket) { "bad" } else { "good" }), ticket)).unwrap();
        }
        go.send(()).unwrap();
        for ticket in 0..GROUP {
            let refused = Refused { work: of("bad"), why: "the database refuses what is in it: it is bad".into() };
            let wanted = if bad(ticket) { Done::Refused(Box::new(refused)) } else { Done::Kept };
            assert_eq!(done.blocking_recv(), Some((wanted, ticket)));
        }
        drop(work);
        thread.join().unwrap().unwrap();
        let commits = commits.lock().unwrap();
        assert_eq!(commits.iter().sum::<usize>(), GROUP - 3, "each that is good was stored once");
        assert!(commits.len() <= 1 + 3 * 8, "by halves: {commits:?}");
        assert_eq!(*trouble.borrow(), None);
    }

    #[test]
    fn an_error_delays_what_was_to_be_stored_and_loses_none_of_it() {
        let Writer { work, mut done, thread, .. } = start(FullFor(2)).unwrap();
        for ticket in 0..100 {
            work.blocking_send((some_work(), ticket)).unwrap();
        }
        for ticket in 0..100 {
            assert_eq!(done.blocking_recv(), Some((Done::Kept, ticket)));
        }
        drop(work);
        thread.join().unwrap().unwrap();
    }

    /// A store whose work another hub has done first.
    struct Raced(bool);

    impl Store for Raced {
        fn commit(&mut self, work: &[Work]) -> Result<Vec<Done>, StoreError> {
            match std::mem::replace(&mut self.0, true) {
                false => Err(StoreError::Locked),
                true => Ok(work.iter().map(|_| Done::Kept).collect()),
            }
        }

        fn reader(&self) -> Arc<dyn Read> {
            unreachable!("the writer does not read")
        }
    }

    #[test]
    fn a_race_with_another_hub_is_no_trouble() {
        let Writer { work, mut done, trouble, .. } = start(Raced(false)).unwrap();
        work.blocking_send((some_work(), ())).unwrap();
        assert_eq!(done.blocking_recv(), Some((Done::Kept, ())));
        assert!(!trouble.has_changed().unwrap(), "nobody was told to come again");
    }

    /// A store that answers when it is let.
    struct Stands(std::sync::mpsc::Receiver<()>);

    impl Store for Stands {
        fn commit(&mut self, work: &[Work]) -> Result<Vec<Done>, StoreError> {
            self.0.recv().unwrap();
            Ok(work.iter().map(|_| Done::Kept).collect())
        }

        fn reader(&self) -> Arc<dyn Read> {
            unreachable!("the writer does not read")
        }
    }

    #[test]
    fn a_store_that_stands_still_is_told_of_while_it_does() {
        let (go, stands) = std::sync::mpsc::channel();
        let Writer { work, mut done, mut trouble, .. } = start_with(Stands(stands), Duration::from_millis(50)).unwrap();
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        for ticket in 0..2 {
            work.blocking_send((some_work(), ticket)).unwrap();
            let told =
                runtime.block_on(async { timeout(Duration::from_secs(60), trouble.wait_for(Option::is_some)).await });
            assert!(told.unwrap().unwrap().as_ref().unwrap().contains("not answered"));
            go.send(()).unwrap();
            assert_eq!(done.blocking_recv(), Some((Done::Kept, ticket)));
            assert_eq!(*trouble.borrow_and_update(), None);
        }
    }

    #[test]
    fn a_writer_told_to_stop_gives_up_on_a_store_that_never_recovers() {
        let Writer { work, done, thread, .. } = start(FullFor(u32::MAX)).unwrap();
        work.blocking_send((some_work(), ())).unwrap();
        drop((work, done));
        assert!(thread.join().unwrap().is_err());
    }
}
