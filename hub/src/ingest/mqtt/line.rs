//! One connection to a broker, packet by packet, in a task of its own.
//!
//! In      requests to acknowledge and to publish.
//! Out     [`Event`]s in the order they came.
//!
//! What waits to be written goes before what could be read: a message is only taken in when everything that was asked for
//! before has gone into the buffer of what is being written, and that is short. So a broker that always has more to say, or
//! that takes nothing, stops the reading, and the kernel stops the broker. (rumqttc's own loop reads up to ten packets for
//! each one it writes, and answers then pile up behind a broker that is faster than the hub; its packets are used, its loop
//! is not.) While nobody takes events, what is asked for is still written, and pings go on.

use std::{io, time::Duration};

use bytes::BytesMut;
use rumqttc::{
    ConnAck, Connect, ConnectReturnCode, Packet, PubAck, Publish, QoS, SubAck, Subscribe, SubscribeFilter,
    SubscribeReasonCode, mqttbytes::Error as Malformed,
};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc::{self, error::TrySendError},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout},
};
use tokio_rustls::TlsConnector;

use super::{Ack, Event, KEEP_ALIVE, MAX_PACKET, Message, Route};

/// Getting to the broker, TLS included. Its answer to the greeting has as long as any other: see [`WATCHDOG`].
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A healthy broker answers at least a ping a keep-alive and takes what it is sent; one that does neither is gone.
const WATCHDOG: Duration = Duration::from_secs(2 * KEEP_ALIVE.as_secs() + 5);
/// Bytes on their way out beyond which nothing more is taken, neither to write nor to read.
const ENOUGH: usize = 64 * 1024;
/// Bytes read at a time. A message that is kept keeps as many.
const READ: usize = 16 * 1024;
/// Requests put together for a write.
const TOGETHER: usize = 256;
/// Confirmations and acknowledgements are far below it.
const MAX_OUTGOING: usize = 64 * 1024;
/// Packet id of the subscription; publications take the others.
const SUBSCRIPTION: u16 = 1;

/// Something to be written.
pub(super) enum Request {
    Acknowledge(Ack),
    /// Retained, QoS 1. It is not sent again on another connection: a gateway that hears no confirmation asks.
    Publish {
        topic: String,
        payload: Vec<u8>,
    },
    Goodbye,
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("cannot connect within {CONNECT_WITHIN:?}")]
    NotInTime,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the broker closed the connection")]
    Closed,
    #[error("the broker refuses the connection: {0:?}")]
    Refused(ConnectReturnCode),
    #[error("the broker sent what is no MQTT: {0}")]
    Malformed(#[from] Malformed),
    #[error("nothing came for {WATCHDOG:?}, not even an answer to a ping")]
    Silent,
    #[error("the broker has taken nothing for {WATCHDOG:?}")]
    Stuck,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Until it is over, which is told last.
pub(super) async fn carry(route: Route, clean: bool, events: mpsc::Sender<Event>, requests: mpsc::Receiver<Request>) {
    if let Err(ended) = talk(&route, clean, &events, requests).await {
        let _ = events.send(Event::Lost(super::reason(&ended))).await;
    }
}

/// Returns without an error when nobody is there any more to be told.
async fn talk(
    route: &Route,
    clean: bool,
    events: &mpsc::Sender<Event>,
    mut requests: mpsc::Receiver<Request>,
) -> Result<(), Ended> {
    let stream = timeout(CONNECT_WITHIN, connect(route)).await.map_err(|_| Ended::NotInTime)??;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (mut input, mut output) = (BytesMut::new(), Output { bytes: BytesMut::new(), last_id: SUBSCRIPTION });
    output.write(&Packet::Connect(Connect { clean_session: clean, ..route.greeting.clone() }))?;
    let (mut next, mut batch) = (None, Vec::new());
    let (mut flushed, mut goodbye) = (true, false);
    let (mut heard, mut taken) = (Instant::now(), Instant::now());
    let mut ping = interval_at(heard + KEEP_ALIVE, KEEP_ALIVE);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        while next.is_none() {
            let packet = match Packet::read(&mut input, MAX_PACKET) {
                Err(Malformed::InsufficientBytes(_)) => break,
                packet => packet?,
            };
            let Some(event) = output.answer(packet, &route.filters)? else { continue };
            match events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => next = Some(event),
                Err(TrySendError::Closed(_)) => return Ok(()),
            }
        }
        let (reads, writes) = (next.is_none() && output.has_room(), !(flushed && output.bytes.is_empty()));
        // Neither side is to blame for what is not asked of it.
        let now = Instant::now();
        heard = if reads { heard } else { now };
        taken = if writes { taken } else { now };
        input.reserve(READ);
        // In this order: see the module. All arms are cancel-safe: what is read or written is in the buffers.
        tokio::select! {
            biased;
            n = requests.recv_many(&mut batch, TOGETHER), if output.has_room() && !goodbye => {
                if n == 0 {
                    return Ok(());
                }
                for request in batch.drain(..) {
                    goodbye |= matches!(request, Request::Goodbye);
                    output.request(request)?;
                }
            }
            done = send(&mut writer, &mut output.bytes), if writes => (flushed, taken) = (done?, Instant::now()),
            _ = ping.tick() => output.write(&Packet::PingReq)?,
            () = sleep_until(taken + WATCHDOG), if writes => return Err(Ended::Stuck),
            permit = events.reserve(), if next.is_some() => {
                let Ok(permit) = permit else { return Ok(()) };
                if let Some(event) = next.take() {
                    permit.send(event);
                }
            }
            read = reader.read_buf(&mut input), if reads => {
                if read? == 0 {
                    return Err(Ended::Closed);
                }
                heard = Instant::now();
            }
            () = sleep_until(heard + WATCHDOG), if reads => return Err(Ended::Silent),
        }
    }
}

/// Writes some, or when all is written sees to it that it leaves; whether it has. Cancel-safe.
async fn send(writer: &mut (impl AsyncWrite + Unpin), bytes: &mut BytesMut) -> Result<bool, Ended> {
    if bytes.is_empty() {
        writer.flush().await?;
        return Ok(true);
    }
    match writer.write_buf(bytes).await? {
        0 => Err(Ended::Closed),
        _ => Ok(false),
    }
}

/// What is being written.
struct Output {
    bytes: BytesMut,
    last_id: u16,
}

impl Output {
    fn has_room(&self) -> bool {
        self.bytes.len() < ENOUGH
    }

    /// What a packet says, and what is said to it.
    fn answer(&mut self, packet: Packet, filters: &[SubscribeFilter]) -> Result<Option<Event>, Ended> {
        Ok(match packet {
            // Subscribing again is harmless where the session was kept, and gives the retained messages again.
            Packet::ConnAck(ConnAck { code: ConnectReturnCode::Success, .. }) => {
                self.write(&Packet::Subscribe(Subscribe { pkid: SUBSCRIPTION, filters: filters.to_vec() }))?;
                None
            }
            Packet::ConnAck(ConnAck { code, .. }) => return Err(Ended::Refused(code)),
            // Only from here on nothing is missed that is published.
            Packet::SubAck(SubAck { return_codes, .. }) => {
                for (filter, code) in filters.iter().zip(return_codes) {
                    if code == SubscribeReasonCode::Failure {
                        tracing::error!(topic = filter.path, "the broker does not let the hub subscribe to this");
                    }
                }
                Some(Event::Connected)
            }
            Packet::Publish(publish) => Some(Event::Message(Message(publish))),
            _ => None,
        })
    }

    fn request(&mut self, request: Request) -> Result<(), Ended> {
        match request {
            Request::Acknowledge(Ack { pkid }) => self.write(&Packet::PubAck(PubAck { pkid })),
            Request::Publish { topic, payload } => {
                // The broker answers in order and at once, so an id is long free when all others were given.
                self.last_id = self.last_id.checked_add(1).unwrap_or(SUBSCRIPTION + 1);
                let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
                (publish.pkid, publish.retain) = (self.last_id, true);
                self.write(&Packet::Publish(publish))
            }
            // After it the broker closes the connection.
            Request::Goodbye => self.write(&Packet::Disconnect),
        }
    }

    fn write(&mut self, packet: &Packet) -> Result<(), Ended> {
        packet.write(&mut self.bytes, MAX_OUTGOING)?;
        Ok(())
    }
}

async fn connect(route: &Route) -> Result<Box<dyn Stream>, Ended> {
    let stream = TcpStream::connect((route.host.as_str(), route.port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = &route.tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(route.host.clone()).map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(tls.clone()).connect(name, stream).await?))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use tokio::{
        net::{
            TcpListener,
            tcp::{OwnedReadHalf, OwnedWriteHalf},
        },
        time::sleep,
    };

    use super::{
        super::{Broker, Connection},
        *,
    };
    use crate::{BrokerUrl, Config};

    const LONG: Duration = Duration::from_secs(60);

    /// What the broker hears.
    struct Heard {
        from: OwnedReadHalf,
        input: BytesMut,
    }

    impl Heard {
        async fn packet(&mut self) -> Packet {
            loop {
                match Packet::read(&mut self.input, MAX_PACKET) {
                    Ok(packet) => return packet,
                    Err(Malformed::InsufficientBytes(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                let read = timeout(LONG, self.from.read_buf(&mut self.input)).await;
                assert!(read.expect("something in time").unwrap() > 0, "the hub has closed");
            }
        }
    }

    /// A connection that has come about, and the broker's end of it.
    async fn connected() -> (Connection, Heard, OwnedWriteHalf) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = Config::new(BrokerUrl { host: "127.0.0.1".into(), port, tls: false }, "unused");
        let mut connection = Broker::new(&config.broker).unwrap().connect();
        let (from, mut to) = listener.accept().await.unwrap().0.into_split();
        let mut heard = Heard { from, input: BytesMut::new() };
        assert!(matches!(heard.packet().await, Packet::Connect(_)));
        to.write_all(&[0x20, 2, 0, 0]).await.unwrap();
        let Packet::Subscribe(Subscribe { pkid, filters }) = heard.packet().await else { panic!("no subscription") };
        assert_eq!((pkid, filters.len()), (1, 4));
        to.write_all(&[0x90, 6, 0, 1, 1, 1, 0, 1]).await.unwrap();
        assert!(matches!(connection.next().await, Event::Connected));
        (connection, heard, to)
    }

    /// A batch, and two live messages after it.
    fn said(n: u32) -> BytesMut {
        let mut bytes = BytesMut::new();
        let mut batch = Publish::new("speedwell/v1/truck-7/log", QoS::AtLeastOnce, vec![0; 500]);
        batch.pkid = pkid(n);
        batch.write(&mut bytes).unwrap();
        for _ in 0..2 {
            Publish::new("speedwell/v1/truck-7/live", QoS::AtMostOnce, vec![0; 100]).write(&mut bytes).unwrap();
        }
        bytes
    }

    fn pkid(n: u32) -> u16 {
        (n % 65_535) as u16 + 1
    }

    /// Says so many, as fast as it is let, and counts them.
    async fn flood(mut to: OwnedWriteHalf, messages: u32, written: Arc<AtomicU32>) -> OwnedWriteHalf {
        for n in 0..messages {
            to.write_all(&said(n)).await.unwrap();
            written.fetch_add(1, Ordering::Relaxed);
        }
        to
    }

    /// Does with each message what the hub does, without a store in between.
    async fn answer(mut connection: Connection, messages: u32) -> Connection {
        let mut left = messages;
        while left > 0 {
            let Event::Message(message) = connection.next().await else { panic!("the connection was lost") };
            let Some(ack) = message.ack() else { continue };
            // Longer than a real one, so that it fills what the kernel keeps.
            connection.publish_retained("speedwell/v1/truck-7/confirm".into(), vec![b' '; 500]).unwrap();
            connection.acknowledge(ack).unwrap();
            left -= 1;
        }
        connection
    }

    /// Each is confirmed and then acknowledged, in the order they were said.
    async fn all_answered(heard: &mut Heard, messages: u32) {
        for n in 0..messages {
            assert!(matches!(
                heard.packet().await,
                Packet::Publish(Publish { retain: true, qos: QoS::AtLeastOnce, .. })
            ));
            assert_eq!(heard.packet().await, Packet::PubAck(PubAck { pkid: pkid(n) }));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_broker_that_always_has_more_to_say_is_answered_each_message_in_order() {
        const MESSAGES: u32 = 50_000;
        let (connection, mut heard, to) = connected().await;
        let floods = tokio::spawn(flood(to, MESSAGES, Arc::default()));
        let answers = tokio::spawn(answer(connection, MESSAGES));
        all_answered(&mut heard, MESSAGES).await;
        let (connection, _to) = (answers.await.unwrap(), floods.await.unwrap());
        let closes = tokio::spawn(connection.close());
        assert_eq!(heard.packet().await, Packet::Disconnect);
        drop((heard, _to));
        closes.await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_broker_that_takes_nothing_is_read_no_more_until_it_does() {
        const MESSAGES: u32 = 100_000;
        let (connection, mut heard, to) = connected().await;
        let written = Arc::new(AtomicU32::new(0));
        let floods = tokio::spawn(flood(to, MESSAGES, written.clone()));
        let answers = tokio::spawn(answer(connection, MESSAGES));
        let (mut before, mut quiet) = (0, 0);
        while quiet < 10 {
            sleep(Duration::from_millis(100)).await;
            let now = written.load(Ordering::Relaxed);
            quiet = if now == before { quiet + 1 } else { 0 };
            before = now;
        }
        // The kernel's buffers take some megabytes of answers, and as much of what is said.
        assert!(before > 0 && before < MESSAGES, "{before} were read while no answer was taken");
        all_answered(&mut heard, MESSAGES).await;
        drop((answers.await.unwrap(), floods.await.unwrap()));
    }
}
