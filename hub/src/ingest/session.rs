//! The loop between the broker and the store.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use speedwell_wire::{Confirm, GatewayId, topic::Topics};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::{
    Counters,
    decode::{Decoder, Message},
    gate::{self, LOG_SHARE},
    mqtt::{Ack, Broker, Connection, Event},
};
use crate::{
    live::Board,
    presence::{Moment, Presence},
    store::{Committed, Done, Work, gateway_of},
};

/// Payload bytes that may wait for the store. Beyond it nothing is read, and the broker keeps the rest.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// Confirmations that are put together: many batches of one gateway need only the last one's.
const TOGETHER: usize = 256;
/// First and longest wait before another connection, before jitter.
pub(super) const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// A connection that lasted this long was a good one: the next wait is short again.
pub(super) const STABLE: Duration = Duration::from_secs(30);
/// How long the last commits may take when the hub is stopped.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Goes with each piece of work through the store.
#[derive(Default)]
pub struct Ticket {
    /// The connection it came on, and its place in the order of acknowledgements.
    epoch: u64,
    place: u64,
    bytes: usize,
}

/// What the loop works with.
pub struct Parts {
    /// Where messages come from.
    pub broker: Broker,
    /// The operator's topic prefix.
    pub prefix: String,
    /// Reads payloads.
    pub decoder: Decoder,
    /// Where values are shown.
    pub board: Board,
    /// Who is connected.
    pub presence: Presence,
    /// What was done.
    pub counters: Arc<Counters>,
    /// To the store.
    pub work: mpsc::Sender<(Work, gate::Ticket)>,
    /// From the store, through the gate.
    pub done: mpsc::Receiver<(Done, Ticket)>,
}

/// The store's thread has ended, so nothing can be taken any more.
#[derive(Debug, thiserror::Error)]
#[error("the store has ended")]
pub struct StoreEnded;

/// Acknowledgements in the order the messages came, as MQTT-4.6.0-2 wants them: each waits for those before it.
#[derive(Default)]
struct Order {
    first: u64,
    waiting: VecDeque<(Option<Ack>, bool)>,
}

struct Session {
    parts: Parts,
    epoch: u64,
    order: Order,
    /// Pieces of work in the store's hands, and their bytes.
    outstanding: usize,
    bytes: usize,
}

/// Takes messages until told to stop; connects again whenever the connection is lost.
pub async fn run(parts: Parts, mut stop: watch::Receiver<bool>) -> Result<(), StoreEnded> {
    let mut session = Session { parts, epoch: 0, order: Order::default(), outstanding: 0, bytes: 0 };
    let mut wait = BACKOFF.0;
    while !*stop.borrow() {
        let began = Instant::now();
        let ended = session.connection(&mut stop).await;
        session.parts.counters.connected.store(0, Ordering::Relaxed);
        let Err(why) = ended? else { return Ok(()) };
        session.parts.broker.lost(&why);
        Counters::add(&session.parts.counters.failures, 1);
        session.parts.counters.set_trouble(Some(why.clone()));
        wait = if began.elapsed() > STABLE { BACKOFF.0 } else { wait };
        // Full jitter: a thousand clients of one broker must not come back at once.
        let pause = wait.mul_f64(fastrand::f64());
        tracing::warn!(%why, "no connection to the broker, next try in {pause:?}");
        wait = (wait * 2).min(BACKOFF.1);
        session.pause(pause, &mut stop).await?;
    }
    session.finish(None).await
}

impl Session {
    /// One connection. The inner result says whether it ended because the hub is to stop.
    async fn connection(&mut self, stop: &mut watch::Receiver<bool>) -> Result<Result<(), String>, StoreEnded> {
        self.epoch += 1;
        self.order = Order::default();
        let mut connection = self.parts.broker.connect();
        loop {
            let room = self.outstanding < LOG_SHARE && self.bytes < MAX_WAITING_BYTES;
            // Each arm only takes from a channel, which loses nothing when another arm is chosen.
            let outcome = tokio::select! {
                _ = stop.changed() => {
                    self.finish(Some(&connection)).await?;
                    connection.close().await;
                    return Ok(Ok(()));
                }
                done = self.parts.done.recv() => self.answer(Some(&connection), done.ok_or(StoreEnded)?),
                event = connection.next(), if room => self.take(&connection, event)?,
            };
            if let Err(why) = outcome {
                return Ok(Err(why));
            }
        }
    }

    /// Waits, and meanwhile takes from the store what it has done.
    async fn pause(&mut self, pause: Duration, stop: &mut watch::Receiver<bool>) -> Result<(), StoreEnded> {
        let over = sleep(pause);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return Ok(()),
                _ = stop.changed() => return Ok(()),
                done = self.parts.done.recv() => { let _ = self.answer(None, done.ok_or(StoreEnded)?); }
            }
        }
    }

    /// Waits for what the store still has in hand.
    async fn finish(&mut self, connection: Option<&Connection>) -> Result<(), StoreEnded> {
        let all = async {
            while self.outstanding > 0 {
                let done = self.parts.done.recv().await.ok_or(StoreEnded)?;
                let _ = self.answer(connection, done);
            }
            Ok(())
        };
        // What does not get done in time was not confirmed either.
        timeout(STOP_WITHIN, all).await.unwrap_or(Ok(()))
    }

    fn take(&mut self, connection: &Connection, event: Event) -> Result<Result<(), String>, StoreEnded> {
        let message = match event {
            Event::Connected => {
                tracing::info!("connected to the broker");
                self.parts.counters.set_trouble(None);
                self.parts.counters.connected.store(1, Ordering::Relaxed);
                Counters::add(&self.parts.counters.connections, 1);
                return Ok(Ok(()));
            }
            Event::Lost(why) => return Ok(Err(why)),
            Event::Message(message) => message,
        };
        Counters::add(&self.parts.counters.messages, 1);
        let (now, utc) = (Instant::now(), utc_ns());
        let read = self.parts.decoder.read(message.topic(), message.payload(), utc);
        let stored = matches!(read, Message::Store { .. });
        let place = self.order.push(message.ack(), !stored);
        match read {
            Message::Store { work, unknown } => {
                self.note(&work, unknown);
                let bytes = message.payload().len();
                (self.outstanding, self.bytes) = (self.outstanding + 1, self.bytes + bytes);
                let ticket = Ticket { epoch: self.epoch, place, bytes };
                // There is room: this half of the channel is as wide as the most that may be outstanding.
                self.parts.work.try_send((work, gate::Ticket::Log(ticket))).map_err(|_| StoreEnded)?;
            }
            Message::Live(gateway, live, manifest) => {
                self.parts.presence.live(&gateway, &live, &manifest, Moment { at: now, utc_ns: utc });
                self.parts.board.live(&gateway, &live, &manifest, now);
            }
            Message::Status(status) => {
                self.parts.presence.status(&status, message.retained(), Moment { at: now, utc_ns: utc });
                self.parts.board.status(status, message.retained(), now);
            }
            Message::Ignore => Counters::add(&self.parts.counters.live_unread, 1),
        }
        Ok(self.acknowledge(connection))
    }

    fn note(&self, work: &Work, unknown: Option<speedwell_wire::ManifestHash>) {
        let counters = &self.parts.counters;
        if let Work::Rejected(rejected) = work {
            Counters::add(&counters.rejected, 1);
            tracing::warn!(source = rejected.source, reason = rejected.reason, "payload set aside");
            if let Ok(gateway) = GatewayId::new(gateway_of(&rejected.source)) {
                self.parts.board.rejected(&gateway, Instant::now());
            }
        }
        if let (Some(hash), Work::Batch(batch)) = (unknown, work) {
            Counters::add(&counters.dropped, 1);
            tracing::warn!(gateway = %batch.gateway, %hash, "manifest not known: what is read with it is not stored");
        }
    }

    /// The store has done something, and probably more.
    fn answer(&mut self, connection: Option<&Connection>, first: (Done, Ticket)) -> Result<(), String> {
        let mut confirms: Vec<Committed> = Vec::new();
        let mut next = Some(first);
        while let Some((done, ticket)) = next {
            (self.outstanding, self.bytes) = (self.outstanding - 1, self.bytes - ticket.bytes);
            if ticket.epoch == self.epoch {
                self.order.done(ticket.place);
            }
            match done {
                Done::Batch(committed) => {
                    self.tell(&committed);
                    confirms.retain(|c| (&c.gateway, c.log) != (&committed.gateway, committed.log));
                    confirms.push(committed);
                }
                // The broker is told that it was taken: acknowledgements are in order, and all others wait for this one.
                // Its gateway hears nothing, keeps it and sends it again, each time later and in smaller batches.
                Done::Refused(refused) => {
                    self.parts.counters.refused(&refused);
                    if let Work::Batch(batch) = &refused.work {
                        self.parts.board.refused(&batch.gateway, &refused.why, Instant::now());
                    }
                }
                _ => {}
            }
            next = (confirms.len() < TOGETHER).then(|| self.parts.done.try_recv().ok()).flatten();
        }
        let Some(connection) = connection else { return Ok(()) };
        // The confirmation goes first, on the same stream: when the broker has the acknowledgement, it has both.
        for Committed { gateway, log, thru, .. } in confirms {
            let topic = Topics::new(&self.parts.prefix, &gateway).confirm();
            connection.publish_retained(topic, confirm_json(Confirm { log, thru }))?;
        }
        self.acknowledge(connection)
    }

    fn tell(&self, committed: &Committed) {
        let counters = &self.parts.counters;
        Counters::add(&counters.stored, committed.stored.into());
        Counters::add(&counters.duplicates, committed.duplicates.into());
        Counters::add(&counters.dropped, committed.dropped.into());
        if let Some(gap) = &committed.gap {
            let (gateway, log) = (&committed.gateway, committed.log);
            tracing::warn!(%gateway, %log, ?gap, "records that the gateway had freed before this hub knew them");
        }
        self.parts.presence.records(&committed.gateway, &committed.newest, Moment::now());
        self.parts.board.committed(committed, Instant::now(), utc_ns());
    }

    fn acknowledge(&mut self, connection: &Connection) -> Result<(), String> {
        while let Some(ack) = self.order.ready() {
            if let Some(ack) = ack {
                connection.acknowledge(ack)?;
            }
        }
        Ok(())
    }
}

impl Order {
    /// What wants no acknowledgement and has no work outstanding takes no place: while the store does not work, live
    /// values come for hours, and would queue behind the batch that waits.
    fn push(&mut self, ack: Option<Ack>, done: bool) -> u64 {
        if ack.is_none() && done {
            return self.first;
        }
        self.waiting.push_back((ack, done));
        self.first + self.waiting.len() as u64 - 1
    }

    fn done(&mut self, place: u64) {
        let at = place.checked_sub(self.first).and_then(|at| self.waiting.get_mut(at as usize));
        if let Some((_, done)) = at {
            *done = true;
        }
    }

    fn ready(&mut self) -> Option<Option<Ack>> {
        let ready = self.waiting.front().is_some_and(|(_, done)| *done);
        let (ack, _) = ready.then(|| self.waiting.pop_front()).flatten()?;
        self.first += 1;
        Some(ack)
    }
}

/// By hand, as it is three words: `{"log":"…","thru":…}`.
fn confirm_json(confirm: Confirm) -> Vec<u8> {
    format!("{{\"log\":\"{}\",\"thru\":{}}}", confirm.log, confirm.thru).into_bytes()
}

/// UTC by this machine's clock, ns. Used for times of arrival and ages, never for a sample.
pub(crate) fn utc_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use speedwell_wire::LogId;

    use super::*;

    #[test]
    fn acknowledgements_go_out_in_the_order_the_messages_came() {
        let mut order = Order::default();
        let ack = |pkid| Some(Ack { pkid });
        let places = [order.push(ack(1), false), order.push(ack(2), true), order.push(ack(3), false)];
        assert!(order.ready().is_none(), "2 waits for 1");
        order.done(places[0]);
        assert_eq!(order.ready(), Some(ack(1)));
        assert_eq!(order.ready(), Some(ack(2)));
        assert_eq!(order.ready(), None);
        order.done(places[2]);
        order.done(places[2]);
        assert_eq!(order.ready(), Some(ack(3)));
    }

    #[test]
    fn live_values_do_not_queue_up_behind_a_batch_that_waits_for_the_store() {
        let mut order = Order::default();
        let batch = order.push(Some(Ack { pkid: 1 }), false);
        (0..100_000).for_each(|_| _ = order.push(None, true));
        assert_eq!(order.waiting.len(), 1);
        order.done(batch);
        assert_eq!(order.ready(), Some(Some(Ack { pkid: 1 })));
        assert_eq!(order.ready(), None);
    }

    #[test]
    fn a_confirmation_is_the_json_that_a_gateway_reads() {
        let confirm = Confirm { log: LogId(0xfeed), thru: 42 };
        assert_eq!(serde_json::from_slice::<Confirm>(&confirm_json(confirm)).unwrap(), confirm);
    }
}
