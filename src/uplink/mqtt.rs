//! The door to the broker. Alone knows rumqttc.
//!
//! rumqttc must never own the queue: after an error it hands out stale events, drops what was in flight when the
//! session is clean, and can stay stuck on a packet id for ever. So each [`Connection`] is a fresh client and event
//! loop with a clean session, made for one TCP connection and thrown away with it; what was in flight is read from the
//! log again. A task of its own polls the event loop, because a poll that is cancelled half-way can lose a packet it
//! has already counted as sent, and because its flush time-out runs only while it is polled.

use std::{
    collections::{HashMap, VecDeque},
    error::Error as StdError,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions, NetworkOptions, Outgoing,
    Packet, QoS, StateError, SubscribeReasonCode, TlsConfiguration, Transport,
};
use tokio::{sync::mpsc, task::AbortHandle, time::timeout};
use tokio_rustls::rustls;

use super::{
    Options, Password,
    fault::{Fault, Refusal},
    session, tls,
};

/// rumqttc's window of packet ids. Twice what the uplink ever has unacknowledged (batches, manifests, status), so that
/// an id that is still out is never used again: rumqttc stops for ever on such a collision.
pub const INFLIGHT: u16 = 128;

/// Publishes that may wait to be written. At least [`INFLIGHT`], so that `try_publish` finds room.
const QUEUE: usize = INFLIGHT as usize + 64;

/// Happenings that may wait to be taken. When full, polling waits: that pushes back on the broker, never loses.
const HAPPENINGS: usize = 64;

/// Other publishes than batches (manifests, status, live) that may be out at once; with the batches below INFLIGHT.
const MAX_ASIDE: usize = INFLIGHT as usize / 2 - session::MAX_UNACKED;

/// Bytes of a packet around its payload: fixed header, topic, packet id.
pub const PACKET_OVERHEAD: usize = 5 + 2 + 512 + 2;

/// The largest packet that is taken from the broker: a confirmation is a hundred bytes, a command may be longer.
const MAX_INCOMING: usize = 64 * 1024;

/// A message that is published when the gateway is gone without a word.
#[derive(Clone, Debug)]
pub struct Will {
    /// Where.
    pub topic: String,
    /// What. Retained, QoS 1.
    pub payload: Vec<u8>,
}

/// How a message is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// QoS 0: gone when it is gone.
    Once,
    /// QoS 1.
    Acknowledged,
    /// QoS 1, and the broker keeps it for those who come later.
    Retained,
}

/// What a connection says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A subscription stands.
    Subscribed,
    /// The publish with this number was acknowledged.
    Acked(u64),
    /// A message came in.
    Message {
        /// Where.
        topic: String,
        /// What.
        payload: Vec<u8>,
    },
}

/// Too much is waiting to be written: say it again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much is waiting to be written")]
pub struct Busy;

/// What a publish was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// A batch, by its number.
    Batch(u64),
    /// Anything else that is acknowledged.
    Aside,
    /// QoS 0.
    Unacknowledged,
}

/// Publishes in the order they were submitted: the k-th submitted is the k-th that rumqttc says it has sent.
type Submitted = Arc<Mutex<VecDeque<Mark>>>;

/// One connection, from CONNACK on.
#[derive(Debug)]
pub struct Connection {
    client: AsyncClient,
    submitted: Submitted,
    happenings: mpsc::Receiver<Result<Happening, Fault>>,
    task: AbortHandle,
    aside: Arc<Mutex<usize>>,
}

impl Connection {
    /// Connects and waits until the broker accepts.
    pub async fn open(options: &Options, client_id: &str, will: Option<Will>) -> Result<Self, Fault> {
        let (mqtt, network) = (mqtt_options(options, client_id, will)?, network_options(options));
        let (client, mut event_loop) = AsyncClient::new(mqtt, QUEUE);
        event_loop.set_network_options(network);
        let limit = options.times.connect;
        let timed_out = || Fault::TimedOut { host: options.host.clone(), port: options.port, after: limit };
        match timeout(limit, event_loop.poll()).await.map_err(|_| timed_out())? {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {}
            Ok(other) => return Err(Fault::Broken { cause: format!("{other:?} before CONNACK") }),
            Err(ConnectionError::NetworkTimeout) => return Err(timed_out()),
            Err(error) => return Err(explain_connect(&error, options)),
        }
        let submitted = Submitted::default();
        let aside = Arc::new(Mutex::new(0));
        let (tx, happenings) = mpsc::channel(HAPPENINGS);
        let poller = Poller {
            event_loop,
            submitted: submitted.clone(),
            aside: aside.clone(),
            by_id: HashMap::new(),
            since: Instant::now(),
            stable: options.times.stable,
            // A healthy loop says something at least each keep-alive, if only that it pinged.
            watchdog: options.keep_alive.mul_f64(1.5) + limit,
            id: client_id.to_owned(),
        };
        let task = tokio::spawn(poller.run(tx)).abort_handle();
        Ok(Self { client, submitted, happenings, task, aside })
    }

    /// Subscribes with QoS 1.
    pub fn subscribe(&self, topic: &str) -> Result<(), Busy> {
        self.client.try_subscribe(topic, QoS::AtLeastOnce).map_err(|_| Busy)
    }

    /// Publishes a batch; [`Happening::Acked`] tells when the broker has it.
    pub fn publish_batch(&self, topic: &str, payload: Vec<u8>, no: u64) -> Result<(), Busy> {
        self.submit(topic, How::Acknowledged, payload, Mark::Batch(no))
    }

    /// Publishes anything else.
    pub fn publish(&self, topic: &str, how: How, payload: Vec<u8>) -> Result<(), Busy> {
        if how == How::Once {
            return self.submit(topic, how, payload, Mark::Unacknowledged);
        }
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        if *aside >= MAX_ASIDE {
            return Err(Busy);
        }
        self.submit(topic, how, payload, Mark::Aside)?;
        *aside += 1;
        Ok(())
    }

    /// The next happening, or why the connection is over. Cancel-safe: it only takes from a channel.
    pub async fn next(&mut self) -> Result<Happening, Fault> {
        let gone = || Err(Fault::Broken { cause: "the connection's task ended".into() });
        self.happenings.recv().await.unwrap_or_else(gone)
    }

    /// Takes leave: what is submitted is written, then DISCONNECT, so that the broker does not publish the will.
    pub async fn close(mut self, within: Duration) {
        let leave = async {
            if self.client.disconnect().await.is_ok() {
                while self.next().await.is_ok() {}
            }
        };
        // Out of time or not, the connection is dropped here.
        let _ = timeout(within, leave).await;
    }

    fn submit(&self, topic: &str, how: How, payload: Vec<u8>, mark: Mark) -> Result<(), Busy> {
        let qos = if how == How::Once { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        // The lock is held over both, so that the order of marks is the order of publishes.
        let mut submitted = self.submitted.lock().unwrap_or_else(PoisonError::into_inner);
        self.client.try_publish(topic, qos, how == How::Retained, payload).map_err(|_| Busy)?;
        submitted.push_back(mark);
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Polls the event loop and tells what matters.
struct Poller {
    event_loop: EventLoop,
    submitted: Submitted,
    aside: Arc<Mutex<usize>>,
    by_id: HashMap<u16, Mark>,
    since: Instant,
    stable: Duration,
    watchdog: Duration,
    id: String,
}

impl Poller {
    async fn run(mut self, tx: mpsc::Sender<Result<Happening, Fault>>) {
        loop {
            let happening = match timeout(self.watchdog, self.event_loop.poll()).await {
                Ok(Ok(event)) => self.understand(event).transpose(),
                Ok(Err(error)) => Some(Err(self.explain(&error))),
                Err(_) => Some(Err(Fault::Silent { after: self.watchdog })),
            };
            let Some(happening) = happening else { continue };
            let over = happening.is_err();
            // Sending fails only when the connection was dropped.
            if tx.send(happening).await.is_err() || over {
                return;
            }
        }
    }

    fn understand(&mut self, event: Event) -> Result<Option<Happening>, Fault> {
        match event {
            Event::Outgoing(Outgoing::Publish(id)) => {
                let mark = self.submitted.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                if let Some(mark) = mark.filter(|mark| *mark != Mark::Unacknowledged) {
                    self.by_id.insert(id, mark);
                }
                Ok(None)
            }
            Event::Incoming(Packet::PubAck(ack)) => Ok(self.acked(ack.pkid)),
            Event::Incoming(Packet::SubAck(ack)) if ack.return_codes.contains(&SubscribeReasonCode::Failure) => {
                Err(Fault::NoSubscription)
            }
            Event::Incoming(Packet::SubAck(_)) => Ok(Some(Happening::Subscribed)),
            Event::Incoming(Packet::Publish(message)) => {
                Ok(Some(Happening::Message { topic: message.topic, payload: message.payload.to_vec() }))
            }
            _ => Ok(None),
        }
    }

    fn acked(&mut self, id: u16) -> Option<Happening> {
        match self.by_id.remove(&id)? {
            Mark::Batch(no) => Some(Happening::Acked(no)),
            Mark::Aside => {
                let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
                *aside = aside.saturating_sub(1);
                None
            }
            Mark::Unacknowledged => None,
        }
    }

    fn explain(&self, error: &ConnectionError) -> Fault {
        let held = self.since.elapsed();
        match error {
            ConnectionError::FlushTimeout => Fault::Broken { cause: "the broker takes no more data".into() },
            ConnectionError::MqttState(StateError::AwaitPingResp) => {
                Fault::Silent { after: self.event_loop.mqtt_options.keep_alive() }
            }
            error if closed_by_peer(error) && held < self.stable => Fault::Kicked { id: self.id.clone(), after: held },
            error => Fault::Broken { cause: innermost(error) },
        }
    }
}

fn mqtt_options(options: &Options, client_id: &str, will: Option<Will>) -> Result<MqttOptions, Fault> {
    let mut mqtt = MqttOptions::new(client_id, &options.host, options.port);
    // rumqttc panics below one second; the broker counts whole seconds.
    mqtt.set_keep_alive(Duration::from_secs(options.keep_alive.as_secs().clamp(1, u64::from(u16::MAX))));
    mqtt.set_clean_session(true);
    mqtt.set_inflight(INFLIGHT);
    mqtt.set_max_packet_size(MAX_INCOMING, options.max_packet + PACKET_OVERHEAD);
    if let Some(user) = &options.user {
        mqtt.set_credentials(user, password(options.password.as_ref())?);
    }
    if let Some(will) = will {
        mqtt.set_last_will(LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, true));
    }
    if let Some(tls) = &options.tls {
        if options.host.starts_with('[') {
            let told = "a bare IPv6 address cannot be dialled with TLS: give it a name in DNS or /etc/hosts";
            return Err(Fault::Options(told.into()));
        }
        mqtt.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls::client_config(tls)?)));
    }
    Ok(mqtt)
}

fn network_options(options: &Options) -> NetworkOptions {
    let mut network = NetworkOptions::new();
    // Whole seconds; also the limit of one flush, which is what finds a peer that takes no more data.
    network.set_connection_timeout(options.times.connect.as_secs().max(1));
    network.set_tcp_nodelay(true);
    network
}

fn password(password: Option<&Password>) -> Result<String, Fault> {
    match password {
        None => Ok(String::new()),
        Some(Password::Text(text)) => Ok(text.clone()),
        Some(Password::File(path)) => {
            let mut text = std::fs::read_to_string(path)
                .map_err(|cause| Fault::File { path: path.clone(), cause: cause.to_string() })?;
            // Editors end a file with a line break that is no part of the password.
            let kept = text.strip_suffix('\n').map_or(text.len(), |t| t.strip_suffix('\r').unwrap_or(t).len());
            text.truncate(kept);
            Ok(text)
        }
    }
}

fn explain_connect(error: &ConnectionError, options: &Options) -> Fault {
    let (host, port) = (options.host.clone(), options.port);
    if let (Some(error), Some(tls)) = (rustls_error(error), &options.tls) {
        return tls::explain(error, &host, port, tls);
    }
    match error {
        ConnectionError::ConnectionRefused(code) => match refusal(*code) {
            Some(refusal) => Fault::Refused { host, port, refusal },
            None => Fault::Broken { cause: "refused with the code of success".into() },
        },
        ConnectionError::Io(cause) if is_resolver(cause) => Fault::Unresolved { host, cause: cause.to_string() },
        error if closed_by_peer(error) => {
            let speaks = if options.tls.is_some() { "does it speak TLS?" } else { "does it want TLS (mqtts://)?" };
            let cause = format!("it closed the connection before accepting it; {speaks}");
            Fault::Unreachable { host, port, cause }
        }
        error => Fault::Unreachable { host, port, cause: innermost(error) },
    }
}

fn refusal(code: ConnectReturnCode) -> Option<Refusal> {
    match code {
        ConnectReturnCode::Success => None,
        ConnectReturnCode::RefusedProtocolVersion => Some(Refusal::Protocol),
        ConnectReturnCode::BadClientId => Some(Refusal::ClientId),
        ConnectReturnCode::ServiceUnavailable => Some(Refusal::Unavailable),
        ConnectReturnCode::BadUserNamePassword => Some(Refusal::Credentials),
        ConnectReturnCode::NotAuthorized => Some(Refusal::NotAuthorised),
    }
}

/// getaddrinfo's errors have no kernel number and no kind of their own; the standard library words them so.
fn is_resolver(error: &io::Error) -> bool {
    error.raw_os_error().is_none() && error.to_string().contains("lookup")
}

fn closed_by_peer(error: &ConnectionError) -> bool {
    if matches!(error, ConnectionError::MqttState(StateError::ConnectionAborted)) {
        return true;
    }
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let kind = chain(error).find_map(|e| e.downcast_ref::<io::Error>()).map(io::Error::kind);
    matches!(kind, Some(BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof))
}

fn rustls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    chain(error).find_map(|e| e.downcast_ref::<rustls::Error>())
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().map_or_else(String::new, ToString::to_string)
}

/// An error and its causes. An `io::Error` hides what it wraps from `source`, so it is asked directly.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&e| match e.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner as &(dyn StdError + 'static)),
        None => e.source(),
    })
}
