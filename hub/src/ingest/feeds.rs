//! Foreign gateways' JSON over MQTT.
//!
//! In      messages of the topics that the configuration names, each in its [`Shape`].
//! Out     readings to the store; acknowledgements after its commit, in order.
//! Keeps   what waits for the store, and when the last messages arrived.
//!
//! A connection of its own, under a client id of its own: what strangers send never stands before a gateway's batch.
//! Items that cannot be used, or that the database refuses, are set aside with their reason, the others are kept. A
//! message that is given again because its acknowledgement was lost keeps its first time of arrival, so that the store
//! knows its readings again; only a hub that was restarted in between takes it for new. What is retained is passed over: it
//! was said at no time that is known.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    Counters,
    gate::{Closed, Desk, FEEDS, Outcome, keyless, parts},
    mqtt::{Ack, Broker, Connection, Event, Message},
    readings::{ArrivalClock, Bad, Shape, Taken},
    session::{BACKOFF, STABLE},
    told_to_stop, utc_ns,
};
use crate::{
    config::TopicFilter,
    live::MAX_GATEWAYS,
    store::{MAX_REJECTED_BYTES, Reading, Readings, Refused, Rejected, Work, writer::GROUP},
};

/// Messages that may wait for the store, and their bytes. Beyond it nothing is read, and the broker keeps the rest.
const WAITING: (usize, usize) = (64, 16 * 1024 * 1024);
/// Messages whose time of arrival is remembered: more than can be unacknowledged.
const REMEMBERED: usize = 4 * WAITING.0;
/// Items of a message: one of each device that the hub shows. Nobody could tell its sender to send them in parts.
const MAX_ITEMS: usize = MAX_GATEWAYS;
/// Readings of a piece of work: a message of a whole fleet lets others in between.
const TOGETHER: usize = 3_000;
/// Items of what the database refused that are with the store at once, each as a piece of its own: as many as go into one
/// commit.
const APART: usize = GROUP;
/// Bad items of a message that are named in its reason; all are counted.
const NAMED: usize = 5;
/// How long the last commits may take when the hub is stopped.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// One topic.
pub struct Feed {
    /// Which.
    pub topic: TopicFilter,
    /// How its messages are written.
    pub shape: Shape,
}

/// What the loop works with.
pub struct Parts {
    /// Where messages come from.
    pub broker: Broker,
    /// The first that a topic matches is its.
    pub feeds: Vec<Feed>,
    /// To the store.
    pub desk: Desk,
    /// Times of arrival.
    pub clock: Arc<ArrivalClock>,
    /// What was done.
    pub counters: Arc<Counters>,
}

/// A message in the store's hands.
struct Waiting {
    ack: Option<Ack>,
    outcomes: Vec<oneshot::Receiver<Outcome>>,
    /// Items of what was refused, to be handed in one by one.
    apart: VecDeque<Work>,
    bytes: usize,
    /// Where it came from, as what is set aside says it.
    source: String,
}

struct Loop {
    parts: Parts,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    arrived: Arrived,
}

/// Packet id and digest of the last messages, and when they arrived.
#[derive(Default)]
struct Arrived(VecDeque<((u16, [u8; 32]), i64)>);

/// Takes messages until told to stop; connects again whenever the connection is lost.
pub async fn run(parts: Parts, mut stop: watch::Receiver<bool>) {
    let mut feeds = Loop { parts, waiting: VecDeque::new(), bytes: 0, arrived: Arrived::default() };
    let mut wait = BACKOFF.0;
    while !*stop.borrow() {
        let began = Instant::now();
        let Err(why) = feeds.connection(&mut stop).await else { return };
        feeds.parts.broker.lost(&why);
        wait = if began.elapsed() > STABLE { BACKOFF.0 } else { wait };
        let pause = wait.mul_f64(fastrand::f64());
        tracing::warn!(%why, "no connection to the broker of the feeds, next try in {pause:?}");
        wait = (wait * 2).min(BACKOFF.1);
        tokio::select! {
            () = sleep(pause) => {}
            () = told_to_stop(&mut stop) => {}
        }
    }
}

impl Loop {
    /// One connection; an error tells why it was lost.
    async fn connection(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), String> {
        // What waits from the connection before is stored all the same, and given again by the broker.
        self.waiting.clear();
        self.bytes = 0;
        let mut connection = self.parts.broker.connect();
        loop {
            let room = self.waiting.len() < WAITING.0 && self.bytes < WAITING.1;
            // Each arm only takes from a channel, which loses nothing when another arm is chosen.
            tokio::select! {
                () = told_to_stop(stop) => {
                    let all = async { while self.stored(&connection).await? {} Ok::<(), String>(()) };
                    // What does not get done in time is not acknowledged either.
                    let _ = timeout(STOP_WITHIN, all).await;
                    connection.close().await;
                    return Ok(());
                }
                stored = stored(&mut self.waiting, &self.parts) => {
                    let Waiting { ack, bytes, .. } = stored.map_err(|closed| closed.to_string())?;
                    self.bytes -= bytes;
                    ack.map_or(Ok(()), |ack| connection.acknowledge(ack))?;
                }
                event = connection.next(), if room => match event {
                    Event::Connected => tracing::info!("connected to the broker of the feeds"),
                    Event::Lost(why) => return Err(why),
                    Event::Message(message) => self.take(&message).map_err(|closed| closed.to_string())?,
                },
            }
        }
    }

    /// Acknowledges the first that waits; whether there was one.
    async fn stored(&mut self, connection: &Connection) -> Result<bool, String> {
        if self.waiting.is_empty() {
            return Ok(false);
        }
        let Waiting { ack, .. } = stored(&mut self.waiting, &self.parts).await.map_err(|closed| closed.to_string())?;
        ack.map_or(Ok(()), |ack| connection.acknowledge(ack))?;
        Ok(true)
    }

    fn take(&mut self, message: &Message) -> Result<(), Closed> {
        let (topic, payload) = (message.topic(), message.payload());
        let feed = self.parts.feeds.iter().find(|feed| feed.topic.matches(topic));
        let mut outcomes = Vec::new();
        // A topic of a feed that is no longer configured comes out of the session that the broker has kept.
        if let Some(shape) = feed.map(|feed| feed.shape.clone()).filter(|_| !message.retained()) {
            for work in work(&shape, topic, payload, |items| self.arrival(message, items)) {
                outcomes.push(self.parts.hand_in(work)?);
            }
        }
        self.bytes += payload.len();
        let (ack, bytes, source) = (message.ack(), payload.len(), source(topic));
        self.waiting.push_back(Waiting { ack, outcomes, apart: VecDeque::new(), bytes, source });
        Ok(())
    }

    /// When a message arrived, or did so the first time.
    fn arrival(&mut self, message: &Message, items: usize) -> i64 {
        let now = self.parts.clock.take(items);
        let Some(Ack { pkid }) = message.ack() else { return now };
        self.arrived.of(pkid, message.payload(), message.again(), now)
    }
}

impl Parts {
    fn hand_in(&self, work: Work) -> Result<oneshot::Receiver<Outcome>, Closed> {
        if let Work::Rejected(rejected) = &work {
            self.counters.rejected.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(source = rejected.source, reason = rejected.reason, "payload set aside");
        }
        self.desk.hand_in(work, None)
    }
}

impl Waiting {
    /// Takes apart what was refused together, and sets aside what was refused alone. What is not even taken to be set
    /// aside is gone; the journal tells of it.
    fn refused(&mut self, Refused { work, why }: Refused) {
        let Work::Readings(Readings { items, received_ns, .. }) = work else { return };
        let parts: Vec<&[Reading]> = parts(&items).collect();
        match parts[..] {
            [alone] => self.apart.push_back(set_aside(&self.source, &why, alone)),
            _ => self.apart.extend(parts.into_iter().map(|part| keyless(FEEDS, received_ns, part.to_vec()))),
        }
    }
}

fn source(topic: &str) -> String {
    // The colon keeps it apart from a gateway's name.
    format!("feed:{topic}")
}

/// As it would have been stored: of its own text nothing is left by then.
fn set_aside(source: &str, why: &str, item: &[Reading]) -> Work {
    let told = |r: &Reading| {
        serde_json::json!({
            "device": r.device, "sensor": r.sensor, "quantity": r.quantity, "utc-ns": r.utc_ns, "value": r.value,
            "uncertainty": r.uncertainty, "quality": r.quality,
        })
    };
    let text = serde_json::Value::from_iter(item.iter().map(told)).to_string();
    let bytes = text.into_bytes().into_iter().take(MAX_REJECTED_BYTES).collect();
    Work::Rejected(Rejected { source: source.into(), received_ns: utc_ns(), reason: why.into(), bytes })
}

impl Arrived {
    /// When a message that comes now arrived the first time.
    fn of(&mut self, pkid: u16, payload: &[u8], again: bool, now: i64) -> i64 {
        let name = (pkid, Sha256::digest(payload).into());
        // MQTT-4.4.0-1: a message is given again under its packet id. That is soon another's, which may say the same: who
        // stands still always does. The last of that name is meant.
        let first = self.0.iter().rev().find(|(known, _)| again && *known == name);
        if let Some((_, at)) = first {
            return *at;
        }
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((name, now));
        now
    }
}

/// The first that waits, once all of it is stored or set aside. Cancel-safe: what is done is taken off before anything
/// else is waited for.
async fn stored(waiting: &mut VecDeque<Waiting>, parts: &Parts) -> Result<Waiting, Closed> {
    let Some(first) = waiting.front_mut() else { return std::future::pending().await };
    loop {
        while let Some(outcome) = first.outcomes.last_mut() {
            let outcome = outcome.await.map_err(|_| Closed)?;
            first.outcomes.pop();
            if let Outcome::Refused(refused) = outcome {
                first.refused(*refused);
            }
        }
        if first.apart.is_empty() {
            return waiting.pop_front().ok_or(Closed);
        }
        for work in first.apart.drain(..first.apart.len().min(APART)) {
            first.outcomes.push(parts.hand_in(work)?);
        }
    }
}

/// What a message brings: readings, and what is to be set aside.
fn work(shape: &Shape, topic: &str, payload: &[u8], arrival: impl FnOnce(usize) -> i64) -> Vec<Work> {
    let rejected = |reason: String, bytes: &[u8]| {
        let bytes = bytes.get(..MAX_REJECTED_BYTES).unwrap_or(bytes).to_vec();
        Work::Rejected(Rejected { source: source(topic), received_ns: utc_ns(), reason, bytes })
    };
    match shape.read_at(payload, MAX_ITEMS, arrival) {
        Err(unreadable) => {
            vec![rejected(unreadable.to_string(), payload)]
        }
        Ok(Taken { items, readings, bad, received_ns }) => {
            let good = readings.chunks(TOGETHER).map(|some| keyless(FEEDS, received_ns, some.to_vec()));
            let set_aside = (!bad.is_empty()).then(|| {
                let texts = shape.texts(payload);
                let bytes: Vec<&str> = bad.iter().filter_map(|bad| texts.get(bad.index).copied()).collect();
                rejected(told(&bad, items), format!("[{}]", bytes.join(",")).as_bytes())
            });
            good.chain(set_aside).collect()
        }
    }
}

fn told(bad: &[Bad], items: usize) -> String {
    let named: Vec<String> =
        bad.iter().take(NAMED).map(|Bad { index, reason }| format!("item {index}: {reason}")).collect();
    format!("{} of {items} items; {}", bad.len(), named.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SpeedUnit;

    fn positions() -> Shape {
        Shape::Positions { speed: SpeedUnit::KmH, sensor: "gnss".into() }
    }

    #[test]
    fn bad_items_of_a_batch_are_set_aside_with_their_own_text_and_the_good_ones_kept() {
        let payload = br#"{"data":[{"plateNum":"a","lng":1,"lat":2,"speed":3.6},{"plateNum":"b"}]}"#;
        let [Work::Readings(good), Work::Rejected(bad)] = &work(&positions(), "pos/all", payload, |_| 7)[..] else {
            panic!("both")
        };
        assert_eq!((good.items.len(), good.items[2].value, good.items[0].utc_ns), (3, 1.0, 7));
        assert_eq!(bad.reason, "1 of 2 items; item 1: missing: lng, lat, speed");
        assert_eq!((bad.source.as_str(), &bad.bytes[..]), ("feed:pos/all", &br#"[{"plateNum":"b"}]"#[..]));
    }

    #[test]
    fn a_message_given_again_arrived_when_the_last_of_its_packet_id_and_text_did() {
        let mut arrived = Arrived::default();
        for (pkid, payload, again, now, at) in [
            (1, "stands", false, 10, 10),
            (2, "stands", false, 20, 20),
            (1, "stands", true, 30, 10),
            (1, "stands", false, 40, 40),
            (1, "stands", true, 50, 40),
            (1, "moves", true, 60, 60),
        ] {
            assert_eq!(arrived.of(pkid, payload.as_bytes(), again, now), at, "{pkid} {payload} at {now}");
        }
        (0..2 * REMEMBERED as u16).for_each(|n| _ = arrived.of(n, b"", false, 70));
        assert_eq!(arrived.0.len(), REMEMBERED);
    }

    #[test]
    fn a_whole_fleet_may_come_in_one_message() {
        let fleet = |n: usize| {
            let items: Vec<String> =
                (0..n).map(|n| format!(r#"{{"plateNum":{n},"lng":1,"lat":2,"speed":3}}"#)).collect();
            work(&positions(), "pos", format!("{{\"data\":[{}]}}", items.join(",")).as_bytes(), |_| 7)
        };
        let readings = |work: &Work| if let Work::Readings(some) = work { some.items.len() } else { 0 };
        let all = fleet(MAX_ITEMS);
        assert_eq!(all.iter().map(readings).sum::<usize>(), 3 * MAX_ITEMS);
        assert!(all.len() == 10 && all.iter().all(|work| readings(work) <= TOGETHER));
        let [Work::Rejected(bad)] = &fleet(MAX_ITEMS + 1)[..] else { panic!("one too many") };
        assert!(bad.reason.contains("10001 items, allowed are 10000"), "{}", bad.reason);
    }

    #[test]
    fn a_payload_that_is_no_batch_is_set_aside_whole() {
        for payload in [&b"\xff\x00"[..], b"{\"data\":7}", b"[]", b""] {
            let [Work::Rejected(bad)] = &work(&positions(), "pos", payload, |_| 7)[..] else { panic!("{payload:?}") };
            assert_eq!(bad.bytes, payload);
        }
    }
}
