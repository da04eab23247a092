//! What the WebSocket (`ws`) and the server-sent events (`sse`) have in common: what is told, and when.
//!
//! ```text
//! {"n":7,"epoch":"5f…","type":"snapshot","gateways":[…]}    on connect, and for a client that is too far behind
//! {"n":5,"epoch":"5f…","type":"resumed"}                    instead, when `since` could be honoured
//! {"n":8,"type":"gateway","gateway":{…}}                    when something of it changed; it is whole, see `GatewayView`
//! {"n":7,"type":"skipped","changes":3,"gateways":[…]}       so many changes were overtaken by newer ones, which follow
//! {"n":8,"type":"heartbeat"}                                every few seconds, so that silence of the hub can be told
//! {"n":9,"type":"presence",…}                               and whatever else other rooms have told, as `registry`
//! ```
//! `n` is the number of a change of the hub: whoever has got a message was told all up to its `n`. `epoch` says whose
//! numbers these are, for a hub that was started again counts anew. To come again at `EPOCH.N` is to be told what changed
//! after that and nothing else.

mod asked;
pub(super) mod speed;

use std::time::{Duration, Instant};

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Interval, interval, sleep_until, timeout},
};

pub(super) use asked::{Asked, Pairs, asked};

use super::{ApiError, Context};
use crate::{
    access::Who,
    ingest::told_to_stop,
    live::{Filter, Look, Said, Since, Watch},
};

/// How patient the feed is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between heartbeats, each with a ping; a client that misses three of them may take the hub for gone.
    pub beat: Duration,
    /// A client that does not take a message for so long is let go.
    pub send_within: Duration,
    /// So is a WebSocket client from which nothing comes for so long, not even an answer to a ping.
    pub quiet: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self { beat: s(5), send_within: s(10), quiet: s(30) }
    }
}

/// Snapshots under way to clients, KiB: however many fall behind at once, and however slowly they read.
pub(super) const SNAPSHOTS_KIB: u32 = 64 * 1024;
/// From one look of a client to its next, for each client there is: however much changes and however many watch, all of
/// them together look 50,000 times a second at most. What changes in between leaves together; a thousand clients then see
/// a fiftieth of a second at a time, and a single one everything at once.
const PACE_A_CLIENT: Duration = Duration::from_micros(20);

/// A client's place in the feed, and its clock.
pub(super) struct Feed {
    watch: Watch,
    context: Context,
    who: Who,
    beat: Interval,
    /// When it is looked again; at once while there is more to be told.
    next_look: tokio::time::Instant,
    more: bool,
}

/// What comes next.
pub(super) enum Next {
    /// These are to be sent.
    Say(Vec<Said>),
    /// A [`Feed::snapshot`] is.
    Snapshot,
    /// A heartbeat is.
    Beat(Said),
    /// Nothing more: the hub stops, or what the client came with has ended.
    Stop,
}

/// The client is gone, or is treated so.
pub(super) struct Gone;

impl Feed {
    pub(super) fn new(context: Context, who: Who, filter: Filter, since: Option<Since>) -> Self {
        let watch = context.board.watch(filter, since);
        let mut beat = interval(context.patience.beat);
        beat.reset();
        Self { watch, context, who, beat, next_look: tokio::time::Instant::now(), more: true }
    }

    /// Cancel-safe: nothing is taken that is not given at once.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            let Self { watch, context, who, beat, next_look, more } = self;
            let news = async {
                if !*more {
                    sleep_until(*next_look).await;
                    watch.news().await;
                }
            };
            // All arms are cancel-safe: each takes one thing or nothing, and news stay until they are looked at.
            tokio::select! {
                () = told_to_stop(&mut context.stop) => return Next::Stop,
                // Here every client passes every few seconds: the place to see whether it may still watch.
                _ = beat.tick() => return if who.valid() { Next::Beat(watch.heartbeat()) } else { Next::Stop },
                () = news => {}
            }
            self.next_look = tokio::time::Instant::now() + PACE_A_CLIENT * self.context.watching();
            let look = self.watch.look(Instant::now());
            self.more = matches!(look, Look::Some(_));
            match look {
                Look::Behind => return Next::Snapshot,
                Look::Some(said) | Look::All(said) if !said.is_empty() => return Next::Say(said),
                Look::Some(_) | Look::All(_) => {}
            }
        }
    }

    /// One at a time is made, and as many are under way as fit into [`SNAPSHOTS_KIB`]: for as long as the permit is held.
    pub(super) async fn snapshot(&mut self) -> Result<(Vec<Said>, OwnedSemaphorePermit), Gone> {
        let (snapshots, budget) = (self.context.snapshots.clone(), self.context.snapshots_kib.clone());
        let _making = snapshots.lock().await;
        let said = self.watch.snapshot(Instant::now).await;
        self.more = true;
        let bytes: usize = said.iter().map(|said| said.text.len()).sum();
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(SNAPSHOTS_KIB);
        let under_way = timeout(self.context.patience.send_within, budget.acquire_many_owned(kib)).await;
        Ok((said, under_way.ok().and_then(Result::ok).ok_or(Gone)?))
    }

    /// As if there had been a snapshot, for whoever looks for himself.
    pub(super) fn pass_over(&mut self) {
        self.watch.pass_over();
        self.more = true;
    }

    /// The place to come again at.
    pub(super) fn since(&self, n: u64) -> Since {
        self.watch.since(n)
    }

    pub(super) fn patience(&self) -> Patience {
        self.context.patience
    }
}

/// A place among those who watch.
pub(super) fn place(context: &Context) -> Result<OwnedSemaphorePermit, ApiError> {
    context.watchers.clone().try_acquire_owned().map_err(|_| ApiError::ManyWatch)
}
