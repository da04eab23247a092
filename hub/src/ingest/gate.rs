//! The way of all doors to the one thread that writes, and back.
//!
//! In      readings from HTTP, TCP and foreign feeds, each with the room it takes; what the store has done.
//! Out     work for the store; to each door what became of its piece, after the commit.
//! Keeps   what waits, and what is to be tried apart. Each door has a [`Share`] of its own, so none can take another's
//!         room.
//! Imports `store`, `live`, `presence`.
//!
//! The log session, which takes what gateways confirm by, does not queue here: it has half of the writer's channel to
//! itself ([`LOG_SHARE`]) and waits for at most one round of the doors, some thousand rows. What the doors bring while a
//! round is under way goes into the next one, as few pieces of work: a thousand single readings cost the store little more
//! than one request with a thousand. One round at a time, so that it is the larger the longer a commit takes: readings of
//! one series lie together in the database, and a commit writes each page once, however many of them go there.
//!
//! When the database refuses what was put together of many, each goes to it once more as a piece of its own, so that only
//! who brought what it does not take is told so.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use speedwell_wire::GatewayId;
use tokio::sync::{mpsc, oneshot, watch};

pub use super::share::{Room, Share};
use super::{Counters, session, utc_ns};
use crate::{
    live::Board,
    presence::{Moment, Presence},
    store::{
        Done, Latest, Reading, Readings, ReadingsDone, Refused, Work,
        fleet::{FleetRefused, FleetSaved},
        writer::QUEUE,
    },
};

/// Pieces of work that the log session may have in the writer's channel.
pub const LOG_SHARE: usize = QUEUE / 2;
/// Pieces of work in a round: it has the other half of the channel.
const ROUND_WORK: usize = QUEUE - LOG_SHARE;
/// Rows after which a round is full: bounds what the log session waits for.
const ROUND_ROWS: usize = 4096;
/// Pieces that may wait, all doors together. No door's share is so large that this could be met.
const PIECES: usize = 8192;

/// What is told of a piece that the database refused. What the database said of it is the operator's.
pub const REFUSED: &str = "the database refuses what is in it; nothing of this was stored, and sending it again is in vain: \
    ask the hub's operator, whose log says why";

/// What became of a piece.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is on disk, now or from before.
    Accepted,
    /// It was answered before, under the same key.
    Repeated,
    /// Its key was used for something else. Nothing of it is stored.
    Conflict,
    /// A change of the fleet was made, or refused.
    Fleet(Result<FleetSaved, FleetRefused>),
    /// The database does not take it, for what is in it; here it is back. Nothing of it is stored, and sending it again
    /// is in vain.
    Refused(Box<Refused>),
}

/// One piece of a door.
struct Piece {
    work: Work,
    room: Option<Room>,
    answer: oneshot::Sender<Outcome>,
}

/// Where doors hand in what they have. Cheap to share.
#[derive(Clone)]
pub struct Desk {
    pieces: mpsc::Sender<Piece>,
    /// Why nothing can be stored now, if nothing can.
    pub trouble: watch::Receiver<Option<String>>,
}

/// The hub is stopping; what was handed in is not taken.
#[derive(Debug, thiserror::Error)]
#[error("the hub is stopping")]
pub struct Closed;

/// Goes with each piece of work through the store.
pub enum Ticket {
    /// Of the log session.
    Log(session::Ticket),
    /// Of the doors.
    Door(Waiting),
}

/// Who waits for a piece of work.
pub struct Waiting {
    who: Vec<Waits>,
}

struct Waits {
    answer: oneshot::Sender<Outcome>,
    room: Option<Room>,
    /// Readings of the work that are its own: those after the ones of whoever comes before.
    items: usize,
}

/// What the gate works with.
pub struct Parts {
    /// To the store.
    pub work: mpsc::Sender<(Work, Ticket)>,
    /// From the store.
    pub done: mpsc::Receiver<(Done, Ticket)>,
    /// Where values are shown.
    pub board: Board,
    /// Who is connected.
    pub presence: Presence,
    /// What was done.
    pub counters: Arc<Counters>,
    /// Why nothing can be stored now.
    pub trouble: watch::Receiver<Option<String>>,
}

/// The task; see [`Gate::run`].
pub struct Gate {
    work: Option<mpsc::Sender<(Work, Ticket)>>,
    done: mpsc::Receiver<(Done, Ticket)>,
    log: mpsc::Sender<(Done, session::Ticket)>,
    pieces: mpsc::Receiver<Piece>,
    board: Board,
    presence: Presence,
    counters: Arc<Counters>,
    /// Pieces of the round that is under way.
    under_way: usize,
    /// What was refused together and is to be tried apart, before anything new.
    apart: VecDeque<Piece>,
}

impl Desk {
    /// Hands a piece in; what comes back tells what became of it. It is stored all the same when nobody waits for that.
    pub fn hand_in(&self, work: Work, room: Option<Room>) -> Result<oneshot::Receiver<Outcome>, Closed> {
        let (answer, outcome) = oneshot::channel();
        self.pieces.try_send(Piece { work, room, answer }).map_err(|_| Closed)?;
        Ok(outcome)
    }
}

impl Gate {
    /// A gate, the desk before it, and what the log session gets from it.
    pub fn new(parts: Parts) -> (Self, Desk, mpsc::Receiver<(Done, session::Ticket)>) {
        let Parts { work, done, board, presence, counters, trouble } = parts;
        let (log, log_done) = mpsc::channel(LOG_SHARE);
        let (pieces_in, pieces) = mpsc::channel(PIECES);
        let gate = Self {
            work: Some(work),
            done,
            log,
            pieces,
            board,
            presence,
            counters,
            under_way: 0,
            apart: VecDeque::new(),
        };
        (gate, Desk { pieces: pieces_in, trouble }, log_done)
    }

    /// Works until the store's thread has ended. `close` is when the doors are shut: what then still waits was accepted
    /// by nobody, and its senders are told so.
    pub async fn run(mut self, mut close: oneshot::Receiver<()>) {
        loop {
            let open = self.work.is_some();
            // Each arm only takes from a channel, which loses nothing when another arm is chosen.
            tokio::select! {
                done = self.done.recv() => match done {
                    Some((done, ticket)) => self.answer(done, ticket),
                    None => return,
                },
                piece = self.pieces.recv(), if open && self.under_way == 0 => match piece {
                    Some(piece) => self.send_round(piece),
                    None => self.work = None,
                },
                _ = &mut close, if open => self.shut(),
            }
        }
    }

    fn shut(&mut self) {
        self.work = None;
        self.apart.clear();
        self.pieces.close();
        while self.pieces.try_recv().is_ok() {}
    }

    /// Sends what waits, as few pieces of work: all readings without a key of one source are one.
    fn send_round(&mut self, first: Piece) {
        let (mut round, mut rows) = (Vec::<(Work, Waiting)>::new(), 0);
        let mut next = Some(first);
        while let Some(Piece { work, room, answer }) = next {
            rows += rows_of(&work);
            let waits = Waits { answer, room, items: items_of(&work) };
            let place = round.iter().position(|(other, _)| together(other, &work));
            match place.and_then(|at| round.get_mut(at)) {
                Some((other, waiting)) => {
                    join(other, work);
                    waiting.who.push(waits);
                }
                None => round.push((work, Waiting { who: vec![waits] })),
            }
            next = (rows < ROUND_ROWS && round.len() < ROUND_WORK).then(|| self.pieces.try_recv().ok()).flatten();
        }
        self.send(round);
    }

    /// Sends what is to be tried apart, as much of it as a round may have.
    fn send_apart(&mut self) {
        let round = self.apart.drain(..self.apart.len().min(ROUND_WORK));
        let alone = round.map(|Piece { work, room, answer }| {
            let items = items_of(&work);
            (work, Waiting { who: vec![Waits { answer, room, items }] })
        });
        let round = alone.collect();
        self.send(round);
    }

    fn send(&mut self, round: Vec<(Work, Waiting)>) {
        let Some(to) = &self.work else { return };
        for (work, waiting) in round {
            // There is room: no other has this half of the channel. When the writer has ended, nobody gets an answer.
            self.under_way += usize::from(to.try_send((work, Ticket::Door(waiting))).is_ok());
        }
    }

    fn answer(&mut self, done: Done, ticket: Ticket) {
        let waiting = match ticket {
            // There is room: the channel is as wide as the most that may be outstanding.
            Ticket::Log(ticket) => return drop(self.log.try_send((done, ticket))),
            Ticket::Door(waiting) => waiting,
        };
        self.under_way -= 1;
        match done {
            Done::Refused(refused) if waiting.who.len() > 1 => self.take_apart(*refused, waiting),
            done => self.tell_all(done, waiting),
        }
        if self.under_way == 0 && !self.apart.is_empty() {
            self.send_apart();
        }
    }

    /// To each the readings that it brought.
    fn take_apart(&mut self, Refused { work, .. }: Refused, waiting: Waiting) {
        let Work::Readings(Readings { source, received_ns, items, .. }) = work else { return };
        let mut rest = items.into_iter();
        for Waits { answer, room, items } in waiting.who {
            let work = keyless(&source, received_ns, rest.by_ref().take(items).collect());
            self.apart.push_back(Piece { work, room, answer });
        }
    }

    fn tell_all(&mut self, done: Done, waiting: Waiting) {
        let outcome = match &done {
            Done::Readings(ReadingsDone { conflict: true, .. }) => Outcome::Conflict,
            Done::Readings(ReadingsDone { repeated: true, .. }) => Outcome::Repeated,
            Done::Fleet(made) => Outcome::Fleet(made.clone()),
            Done::Refused(refused) => {
                if !comes_again_in_parts(&refused.work) {
                    self.counters.refused(refused);
                }
                Outcome::Refused(refused.clone())
            }
            Done::Batch(_) | Done::Kept | Done::Readings(_) => Outcome::Accepted,
        };
        for Waits { answer, room: _room, .. } in waiting.who {
            // Whoever does not wait any more has it stored all the same.
            let _ = answer.send(outcome.clone());
        }
        if let Done::Readings(done) = done {
            self.tell(done);
        }
    }

    fn tell(&self, done: ReadingsDone) {
        let add = |counter: &AtomicU64, n: u32| counter.fetch_add(n.into(), Ordering::Relaxed);
        // The answer to a request that came again has the numbers of the first.
        let stored = if done.repeated { 0 } else { done.stored };
        add(&self.counters.readings, stored);
        add(&self.counters.readings_again, done.duplicates + done.stored - stored);
        let mut devices: BTreeMap<GatewayId, (u32, Vec<Latest>)> =
            done.devices.into_iter().map(|(device, stored)| (device, (stored, Vec::new()))).collect();
        for latest in done.newest {
            devices.entry(latest.gateway.clone()).or_default().1.push(latest);
        }
        let (now, utc) = (Instant::now(), utc_ns());
        for (device, (stored, newest)) in devices {
            self.presence.readings(&device, &newest, Moment { at: now, utc_ns: utc });
            self.board.readings(&device, stored, &newest, now, utc);
        }
    }
}

/// The source of readings of feeds.
pub(super) const FEEDS: &str = "mqtt";

/// Whether who handed it in takes it apart when it is refused, and hands in its parts: nobody would send those again.
fn comes_again_in_parts(work: &Work) -> bool {
    match work {
        Work::Readings(readings) => readings.source == FEEDS && parts(&readings.items).nth(1).is_some(),
        Work::Presence(notes) => notes.changes.len() + notes.seen.len() > 1,
        _ => false,
    }
}

/// Readings of one device and one time, which came as one item.
pub(super) fn parts(items: &[Reading]) -> impl Iterator<Item = &[Reading]> {
    items.chunk_by(|a, b| (&a.device, a.utc_ns) == (&b.device, b.utc_ns))
}

fn items_of(work: &Work) -> usize {
    if let Work::Readings(readings) = work { readings.items.len() } else { 0 }
}

fn rows_of(work: &Work) -> usize {
    match work {
        Work::Readings(readings) => readings.items.len().max(1),
        Work::Presence(notes) => (notes.changes.len() + notes.seen.len()).max(1),
        _ => 1,
    }
}

fn together(one: &Work, other: &Work) -> bool {
    match (one, other) {
        (Work::Readings(one), Work::Readings(other)) => {
            one.key.is_none() && other.key.is_none() && one.source == other.source
        }
        _ => false,
    }
}

fn join(one: &mut Work, other: Work) {
    if let (Work::Readings(one), Work::Readings(mut other)) = (one, other) {
        one.items.append(&mut other.items);
        one.received_ns = one.received_ns.max(other.received_ns);
    }
}

/// Readings without a key.
pub(super) fn keyless(source: &str, received_ns: i64, items: Vec<Reading>) -> Work {
    Work::Readings(Readings { source: source.into(), key: None, digest: [0; 32], received_ns, items })
}

#[cfg(test)]
mod tests {
    use speedwell_wire::{LogId, Quality, Quantity};

    use super::*;
    use crate::store::Committed;

    fn reading(n: usize) -> Reading {
        Reading {
            device: GatewayId::new("truck-7").unwrap(),
            sensor: "s".into(),
            quantity: Quantity::Speed,
            utc_ns: n as i64,
            value: 1.0,
            uncertainty: None,
            quality: Quality::Good,
        }
    }

    fn singles(source: &str, items: usize) -> Work {
        keyless(source, 0, (0..items).map(reading).collect())
    }

    fn keyed(key: &str) -> Work {
        let Work::Readings(readings) = singles("http", 1) else { unreachable!() };
        Work::Readings(Readings { key: Some(key.into()), ..readings })
    }

    struct Rig {
        desk: Desk,
        log: mpsc::Receiver<(Done, session::Ticket)>,
        to_store: mpsc::Receiver<(Work, Ticket)>,
        work: mpsc::Sender<(Work, Ticket)>,
        done: mpsc::Sender<(Done, Ticket)>,
        close: Option<oneshot::Sender<()>>,
        counters: Arc<Counters>,
    }

    /// A gate whose store is the test.
    fn rig() -> Rig {
        let (work, to_store) = mpsc::channel(QUEUE);
        let (done, from_store) = mpsc::channel(QUEUE);
        let (_, trouble) = watch::channel(None);
        let counters = Arc::new(Counters::default());
        let parts = Parts {
            work: work.clone(),
            done: from_store,
            board: Board::default(),
            presence: Presence::new(std::time::Duration::from_secs(60), Moment::now()),
            counters: counters.clone(),
            trouble,
        };
        let (gate, desk, log) = Gate::new(parts);
        let (close, closed) = oneshot::channel();
        tokio::spawn(gate.run(closed));
        Rig { desk, log, to_store, work, done, close: Some(close), counters }
    }

    fn stored(n: u32) -> ReadingsDone {
        ReadingsDone { stored: n, ..ReadingsDone::default() }
    }

    #[tokio::test]
    async fn what_comes_while_a_round_is_under_way_goes_to_the_store_as_one_and_everybody_is_answered() {
        let mut rig = rig();
        let first = rig.desk.hand_in(singles("http", 1), None).unwrap();
        let (work, ticket) = rig.to_store.recv().await.unwrap();
        assert_eq!(rows_of(&work), 1, "a lone one waits for nobody");
        let rest: Vec<_> = (0..1000).map(|_| rig.desk.hand_in(singles("http", 1), None).unwrap()).collect();
        let tcp = rig.desk.hand_in(singles("tcp", 2), None).unwrap();
        let key = [rig.desk.hand_in(keyed("a"), None).unwrap(), rig.desk.hand_in(keyed("b"), None).unwrap()];
        tokio::task::yield_now().await;
        assert!(rig.to_store.try_recv().is_err(), "one round at a time");
        rig.done.send((Done::Readings(stored(1)), ticket)).await.unwrap();
        let mut rows = Vec::new();
        while rows.iter().sum::<usize>() < 1004 {
            let (work, ticket) = rig.to_store.recv().await.unwrap();
            rows.push(rows_of(&work));
            rig.done.send((Done::Readings(stored(rows_of(&work) as u32)), ticket)).await.unwrap();
        }
        assert_eq!(rows, [1000, 2, 1, 1]);
        for waits in [first, tcp].into_iter().chain(rest).chain(key) {
            assert_eq!(waits.await, Ok(Outcome::Accepted));
        }
        assert_eq!(rig.counters.readings.load(Ordering::Relaxed), 1005);
    }

    #[tokio::test]
    async fn what_is_refused_together_is_tried_apart_and_only_the_guilty_one_is_told_so() {
        let mut rig = rig();
        let first = rig.desk.hand_in(singles("http", 1), None).unwrap();
        let (_, ticket) = rig.to_store.recv().await.unwrap();
        let waits: Vec<_> = [1, 2, 3].map(|n| rig.desk.hand_in(singles("http", n), None).unwrap()).into();
        rig.done.send((Done::Readings(stored(1)), ticket)).await.unwrap();
        let refuse = |work: Work| Done::Refused(Box::new(Refused { work, why: "it is bad".into() }));
        let (together, ticket) = rig.to_store.recv().await.unwrap();
        assert_eq!(rows_of(&together), 6);
        rig.done.send((refuse(together), ticket)).await.unwrap();
        // What comes meanwhile waits for its turn.
        let late = rig.desk.hand_in(singles("http", 4), None).unwrap();
        for n in [1, 2, 3, 4] {
            let (work, ticket) = rig.to_store.recv().await.unwrap();
            assert_eq!(work, singles("http", n), "each as it came");
            let done = if n == 2 { refuse(work) } else { Done::Readings(stored(n as u32)) };
            rig.done.send((done, ticket)).await.unwrap();
        }
        assert_eq!((first.await, late.await), (Ok(Outcome::Accepted), Ok(Outcome::Accepted)));
        for (n, waits) in (1..).zip(waits) {
            assert_eq!(matches!(waits.await, Ok(Outcome::Refused(_))), n == 2, "{n}");
        }
        assert_eq!(rig.counters.refused_by_store.load(Ordering::Relaxed), 1, "not the whole of them");
    }

    #[tokio::test]
    async fn the_log_session_keeps_its_half_of_the_channel_however_much_the_doors_bring() {
        let mut rig = rig();
        let _waits: Vec<_> = (0..PIECES).map(|n| rig.desk.hand_in(keyed(&n.to_string()), None).unwrap()).collect();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(rig.work.capacity(), LOG_SHARE, "the doors have their half");
        for _ in 0..LOG_SHARE {
            rig.work
                .try_send((
                    Work::Readings(Readings {
                        source: String::new(),
                        key: None,
                        digest: [0; 32],
                        received_ns: 0,
                        items: Vec::new(),
                    }),
                    Ticket::Log(session::Ticket::default()),
                ))
                .unwrap();
        }
        let committed = Committed {
            gateway: GatewayId::new("a").unwrap(),
            log: LogId(1),
            thru: 7,
            stored: 0,
            duplicates: 0,
            dropped: 0,
            gap: None,
            lost_samples: 0,
            rejected: 0,
            newest: Vec::new(),
        };
        while let Ok((_, ticket)) = rig.to_store.try_recv() {
            if matches!(ticket, Ticket::Log(_)) {
                rig.done.send((Done::Batch(committed.clone()), ticket)).await.unwrap();
            }
        }
        for _ in 0..LOG_SHARE {
            assert_eq!(rig.log.recv().await.unwrap().0, Done::Batch(committed.clone()));
        }
    }

    #[tokio::test]
    async fn a_shut_gate_lets_go_of_the_writer_and_tells_those_who_still_wait() {
        let mut rig = rig();
        let waits: Vec<_> = (0..1000).map(|n| rig.desk.hand_in(keyed(&n.to_string()), None).unwrap()).collect();
        let (work, _) = rig.to_store.recv().await.unwrap();
        assert_eq!(rows_of(&work), 1);
        rig.close.take().unwrap().send(()).unwrap();
        drop((rig.work, rig.done));
        while rig.to_store.recv().await.is_some() {}
        for waits in waits {
            assert!(waits.await.is_err());
        }
        let after = rig.desk.hand_in(keyed("late"), None);
        assert!(after.is_err() || after.unwrap().await.is_err());
    }
}
