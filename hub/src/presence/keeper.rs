//! Lets time pass, and carries changes to those who watch and to the store.
//!
//! One piece of work is with the store at a time, among what the doors bring, so batches never wait for it. While the
//! store does not work, changes wait; they are told to those who watch all the same.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde::Serialize;
use speedwell_wire::GatewayId;
use tokio::{
    sync::{oneshot, watch},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{MAX_CHANGES, Moment, Presence, view::time};
use crate::{
    ingest::{
        Counters,
        gate::{Desk, Outcome},
        told_to_stop,
    },
    live::Board,
    store::{
        Read, StoreError, Work,
        presence::{PresenceChange, PresenceKey, PresenceKind, PresenceNotes, PresenceRow, PresenceSeen},
    },
};

/// How often things are looked at for having fallen silent.
const TICK: Duration = Duration::from_secs(1);
/// How often the store is told who was seen, and the registry is read, which another hub of the database may have
/// changed.
const NOTE: Duration = Duration::from_secs(60);
/// Changes, and things seen, in one piece of work: some milliseconds of the store's time.
const TOGETHER: usize = 500;
/// How long the store may take when the hub is stopped.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// What the task works with.
pub struct Parts {
    /// The room.
    pub presence: Presence,
    /// Those who watch.
    pub board: Board,
    /// To the store.
    pub desk: Desk,
    /// The registry.
    pub reader: Arc<dyn Read>,
    /// Whether there is a broker.
    pub counters: Arc<Counters>,
    /// The hub's own name, which is its client id at the broker.
    pub hub: String,
}

/// How the hub itself was, until now.
struct Before {
    state: String,
    since_ns: i64,
    seen_ns: Option<i64>,
}

/// Brings the room to where it stood when the hub was stopped. Gives what is to be written of the time since.
pub fn restore(
    presence: &Presence,
    reader: &dyn Read,
    hub: &str,
    now: Moment,
) -> Result<Vec<PresenceChange>, StoreError> {
    let mut rows: Vec<PresenceRow> = Vec::new();
    loop {
        let after = rows.last().map(|row| row.began.key.clone());
        let page = reader.presence_now(after.as_ref(), 10_000)?;
        let last = page.is_empty();
        rows.extend(page);
        if last {
            break;
        }
    }
    let own = rows.iter().find(|row| row.began.key == key(hub)).map(|row| Before {
        state: row.began.state.clone(),
        since_ns: row.began.since_ns,
        seen_ns: row.began.seen_ns,
    });
    let mut changes = Vec::new();
    let change = |state: &str, since_ns, reason: &str| PresenceChange {
        key: key(hub),
        state: state.into(),
        since_ns,
        reason: reason.into(),
        seen_ns: Some(since_ns),
        beat_ns: None,
    };
    let mut down = None;
    if let Some(own) = own {
        let mut from = own.since_ns;
        if own.state == "running" {
            from = own.seen_ns.unwrap_or(own.since_ns);
            changes.push(change("down", from, "it ended without a word: killed, or the power went"));
        }
        down = Some(format!("it was down from {} to {}", time(from), time(now.utc_ns)));
    }
    changes.push(change("running", now.utc_ns, "started"));
    // Records that were stored before there was any presence.
    let mut others: Vec<(GatewayId, Option<i64>)> = Vec::new();
    for row in reader.ledgers()? {
        others.push((row.gateway, Some(row.received_ns)));
    }
    others.extend(reader.standings()?.into_iter().map(|(gateway, _)| (gateway, None)));
    presence.restore(rows, down, others, now);
    presence.vehicles(reader.vehicles("", crate::store::fleet::MAX_REGISTERED as usize)?, now);
    // What was there before the hub started is no news.
    presence.lock().take_registered();
    Ok(changes)
}

fn key(hub: &str) -> PresenceKey {
    PresenceKey { kind: PresenceKind::Hub, gateway: String::new(), id: hub.into() }
}

struct Keeper {
    parts: Parts,
    waiting: VecDeque<PresenceChange>,
    seen: VecDeque<PresenceSeen>,
    /// With the store.
    under_way: Option<oneshot::Receiver<Outcome>>,
    /// What remains of a piece that the store refused, the next last. At most one for each time that it can be halved.
    apart: Vec<PresenceNotes>,
}

/// The vehicle was registered, changed or removed: whoever shows it asks again.
#[derive(Serialize)]
struct Registered {
    kind: PresenceKind,
    id: String,
}

/// Works until told to stop, beginning with what [`restore`] gave.
pub async fn run(parts: Parts, first: Vec<PresenceChange>, mut stop: watch::Receiver<bool>) {
    let mut keeper = Keeper { parts, waiting: first.into(), seen: VecDeque::new(), under_way: None, apart: Vec::new() };
    let changed = keeper.parts.presence.changed.clone();
    let (mut tick, mut note) = (interval(TICK), interval(NOTE));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    note.set_missed_tick_behavior(MissedTickBehavior::Delay);
    note.reset();
    loop {
        // Each arm waits for something that is not lost when another is chosen.
        tokio::select! {
            () = changed.notified() => {}
            _ = tick.tick() => keeper.tick(),
            _ = note.tick() => keeper.note().await,
            outcome = keeper.stored() => keeper.done(outcome),
            () = told_to_stop(&mut stop) => break,
        }
        keeper.carry();
    }
    keeper.end().await;
}

impl Keeper {
    fn tick(&self) {
        let (presence, now) = (&self.parts.presence, Moment::now());
        let broker = self.parts.counters.connected.load(Ordering::Relaxed) == 1;
        presence.hears(broker, self.parts.desk.trouble.borrow().is_none(), now);
        presence.tick(now);
    }

    async fn note(&mut self) {
        self.see();
        if let Err(error) = self.parts.presence.reload(self.parts.reader.clone()).await {
            tracing::warn!(%error, "the registry of vehicles cannot be read; it stays as it was last known");
        }
    }

    fn see(&mut self) {
        self.seen.extend(self.parts.presence.lock().take_seen());
        // While the store does not work, what is older makes room.
        let over = self.seen.len().saturating_sub(super::MAX_GATEWAYS);
        self.seen.drain(..over);
        let seen_ns = Moment::now().utc_ns;
        self.seen.push_front(PresenceSeen { key: key(&self.parts.hub), seen_ns, beat_ns: None });
    }

    /// Until the store has done what it has in hand.
    async fn stored(&mut self) -> Option<Outcome> {
        match &mut self.under_way {
            Some(outcome) => outcome.await.ok(),
            None => std::future::pending().await,
        }
    }

    /// Whether it was kept or the hub stops, there is nothing more to do about it. What was refused is tried by halves, so
    /// that only the note is missing that the database does not take.
    fn done(&mut self, outcome: Option<Outcome>) {
        self.under_way = None;
        let Some(Outcome::Refused(refused)) = outcome else { return };
        let Work::Presence(PresenceNotes { mut changes, mut seen }) = refused.work else { return };
        let half = (changes.len() + seen.len()).div_ceil(2);
        let late = PresenceNotes {
            seen: seen.split_off(half.saturating_sub(changes.len())),
            changes: changes.split_off(half.min(changes.len())),
        };
        if !(late.changes.is_empty() && late.seen.is_empty()) {
            self.apart.extend([late, PresenceNotes { changes, seen }]);
        }
    }

    fn carry(&mut self) {
        let (changes, dropped, registered) = {
            let mut state = self.parts.presence.lock();
            let (changes, dropped) = state.take_changes();
            (changes, dropped, state.take_registered())
        };
        for (change, view) in changes {
            let of = match view.kind {
                PresenceKind::Gateway => GatewayId::new(view.id.as_str()).into_iter().collect(),
                PresenceKind::Sensor => view.gateway.iter().filter_map(|id| GatewayId::new(id.as_str()).ok()).collect(),
                PresenceKind::Vehicle => self.parts.presence.lock().gateways_of(&view.id),
                PresenceKind::Hub => Vec::new(),
            };
            self.parts.board.tell("presence", &of, &view);
            self.waiting.push_back(change);
        }
        for (id, of) in registered {
            self.parts.board.tell("registry", &of, &Registered { kind: PresenceKind::Vehicle, id });
        }
        let over = self.waiting.len().saturating_sub(MAX_CHANGES);
        self.waiting.drain(..over);
        if dropped + over as u64 > 0 {
            tracing::warn!("{} changes of who is connected are not in the history", dropped + over as u64);
        }
        if self.under_way.is_some() {
            return;
        }
        if let Some(notes) = self.apart.pop() {
            self.under_way = self.parts.desk.hand_in(Work::Presence(notes), None).ok();
        } else if !(self.waiting.is_empty() && self.seen.is_empty()) {
            let changes: Vec<PresenceChange> = self.waiting.drain(..self.waiting.len().min(TOGETHER)).collect();
            let room = TOGETHER - changes.len();
            let seen = self.seen.drain(..self.seen.len().min(room)).collect();
            // When the desk is closed the hub stops.
            self.under_way = self.parts.desk.hand_in(Work::Presence(PresenceNotes { changes, seen }), None).ok();
        }
    }

    /// What still waits, and that the hub was told to stop.
    async fn end(mut self) {
        let since_ns = Moment::now().utc_ns;
        self.see();
        self.seen.pop_front();
        self.waiting.push_back(PresenceChange {
            key: key(&self.parts.hub),
            state: "stopped".into(),
            since_ns,
            reason: "it was told to stop".into(),
            seen_ns: Some(since_ns),
            beat_ns: None,
        });
        let all = async {
            loop {
                self.carry();
                if self.under_way.is_none() {
                    break;
                }
                let outcome = self.stored().await;
                self.done(outcome);
            }
        };
        let _ = timeout(STOP_WITHIN, all).await;
    }
}
