//! The door to the broker. Alone knows rumqttc.
//!
//! rumqttc must never own the queue: after an error it hands out stale events, drops what was in flight when the
//! session is clean, and can stay stuck on a packet id for ever. So each [`Connection`] is a fresh client and event
//! loop with a clean session, made for one TCP connection and thrown away with it; what was in flight is read from the
//! log again. A task of its own polls the event loop, because a poll that is cancelled half-way can lose a packet it
//! has already counted as sent, and because its flush time-out runs only while it is polled.
//!
//! rumqttc has a client of its own for each version of MQTT. `three` and `five` make of either what a [`Connection`]
//! needs; 3.1.1 is the default, because its client needs less memory and bounds how long a flush may take.

mod five;
mod three;

use std::{
    collections::{HashMap, VecDeque},
    error::Error as StdError,
    future::Future,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use tokio::{sync::mpsc, task::AbortHandle, time::timeout};
use tokio_rustls::rustls;

use super::{Options, Password, Version, fault::Fault, session, tls};

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
    client: Client,
    /// The largest payload the broker says it takes; MQTT 3.1.1 has no word for it.
    max_payload: Option<usize>,
    submitted: Submitted,
    happenings: mpsc::Receiver<Result<Happening, Fault>>,
    task: AbortHandle,
    aside: Arc<Mutex<usize>>,
}

impl Connection {
    /// Connects and waits until the broker accepts.
    pub async fn open(options: &Options, client_id: &str, will: Option<Will>) -> Result<Self, Fault> {
        match options.version {
            Version::Three => {
                let (client, events) = three::connect(options, client_id, will).await?;
                Ok(Self::over(Client::Three(client), events, None, options, client_id))
            }
            Version::Five => {
                let (client, events, max_packet) = five::connect(options, client_id, will).await?;
                let max_payload = max_packet.map(|bytes| bytes.saturating_sub(PACKET_OVERHEAD));
                Ok(Self::over(Client::Five(client), events, max_payload, options, client_id))
            }
        }
    }

    /// A connection that the broker has accepted.
    fn over(client: Client, events: impl Events, max_payload: Option<usize>, options: &Options, id: &str) -> Self {
        let submitted = Submitted::default();
        let aside = Arc::new(Mutex::new(0));
        let (tx, happenings) = mpsc::channel(HAPPENINGS);
        let poller = Poller {
            events,
            submitted: submitted.clone(),
            aside: aside.clone(),
            by_id: HashMap::new(),
            since: Instant::now(),
            stable: options.times.stable,
            // A healthy loop says something at least each keep-alive, if only that it pinged.
            watchdog: options.keep_alive.mul_f64(1.5) + options.times.connect,
            keep_alive: options.keep_alive,
            id: id.to_owned(),
        };
        let task = tokio::spawn(poller.run(tx)).abort_handle();
        Self { client, max_payload, submitted, happenings, task, aside }
    }

    /// The largest payload that fits a packet of this connection, where the broker has told a limit.
    pub fn max_payload(&self) -> Option<usize> {
        self.max_payload
    }

    /// Subscribes with QoS 1.
    pub fn subscribe(&self, topic: &str) -> Result<(), Busy> {
        self.client.try_subscribe(topic)
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

    /// Why it is over, if it is. Nothing more can be written to a connection that has ended, and that is seen before its
    /// last word is read; whoever needs the reason must not take the first for it.
    pub fn fault(&mut self) -> Option<Fault> {
        while let Ok(happening) = self.happenings.try_recv() {
            if let Err(fault) = happening {
                return Some(fault);
            }
        }
        None
    }

    /// Takes leave: what is submitted is written, then DISCONNECT, so that the broker does not publish the will.
    pub async fn close(mut self, within: Duration) {
        let leave = async {
            if self.client.disconnect().await {
                while self.next().await.is_ok() {}
            }
        };
        // Out of time or not, the connection is dropped here.
        let _ = timeout(within, leave).await;
    }

    fn submit(&self, topic: &str, how: How, payload: Vec<u8>, mark: Mark) -> Result<(), Busy> {
        // The lock is held over both, so that the order of marks is the order of publishes.
        let mut submitted = self.submitted.lock().unwrap_or_else(PoisonError::into_inner);
        self.client.try_publish(topic, how, payload)?;
        submitted.push_back(mark);
        Ok(())
    }
}

/// A client of either version.
#[derive(Debug)]
enum Client {
    Three(rumqttc::AsyncClient),
    Five(rumqttc::v5::AsyncClient),
}

impl Client {
    fn try_publish(&self, topic: &str, how: How, payload: Vec<u8>) -> Result<(), Busy> {
        let (acknowledged, retain) = (how != How::Once, how == How::Retained);
        match self {
            Client::Three(client) => {
                let qos = if acknowledged { rumqttc::QoS::AtLeastOnce } else { rumqttc::QoS::AtMostOnce };
                client.try_publish(topic, qos, retain, payload).map_err(|_| Busy)
            }
            Client::Five(client) => {
                let qos = if acknowledged { five::QoS::AtLeastOnce } else { five::QoS::AtMostOnce };
                client.try_publish(topic, qos, retain, payload).map_err(|_| Busy)
            }
        }
    }

    fn try_subscribe(&self, topic: &str) -> Result<(), Busy> {
        match self {
            Client::Three(client) => client.try_subscribe(topic, rumqttc::QoS::AtLeastOnce).map_err(|_| Busy),
            Client::Five(client) => client.try_subscribe(topic, five::QoS::AtLeastOnce).map_err(|_| Busy),
        }
    }

    /// Whether the wish to leave was taken.
    async fn disconnect(&self) -> bool {
        match self {
            Client::Three(client) => client.disconnect().await.is_ok(),
            Client::Five(client) => client.disconnect().await.is_ok(),
        }
    }
}

/// What an event loop says, whatever the version.
enum Heard {
    /// A publish was written under this packet id.
    Sent(u16),
    /// The broker has the publish with this packet id.
    Acked(u16),
    /// The broker answered the publish with this packet id with a refusal, in words.
    Refused(u16, &'static str),
    /// A subscription stands, or was refused.
    Subscribed(bool),
    /// A message came in.
    Message { topic: String, payload: Vec<u8> },
    /// What matters to nobody here.
    Nothing,
}

/// How a connection that stood came to its end.
enum Ended {
    /// What was to be written did not leave in time.
    Stuck,
    /// A ping stayed unanswered.
    Unanswered,
    /// The far end closed it without a word.
    Closed { cause: String },
    /// The broker says that another client with the same id has come.
    TakenOver,
    /// The broker says why it ends it.
    Dismissed { why: String },
    /// A packet is larger than the broker takes.
    TooLarge { bytes: u32, limit: u32 },
    /// Anything else.
    Broken { cause: String },
}

/// The event loop of one connection.
trait Events: Send + 'static {
    /// Waits for the next event.
    fn next(&mut self) -> impl Future<Output = Result<Heard, Ended>> + Send;
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Polls the event loop and tells what matters.
struct Poller<E> {
    events: E,
    submitted: Submitted,
    aside: Arc<Mutex<usize>>,
    by_id: HashMap<u16, Mark>,
    since: Instant,
    stable: Duration,
    watchdog: Duration,
    keep_alive: Duration,
    id: String,
}

impl<E: Events> Poller<E> {
    async fn run(mut self, tx: mpsc::Sender<Result<Happening, Fault>>) {
        loop {
            let happening = match timeout(self.watchdog, self.events.next()).await {
                Ok(Ok(heard)) => self.understand(heard).transpose(),
                Ok(Err(ended)) => Some(Err(self.explain(ended))),
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

    fn understand(&mut self, heard: Heard) -> Result<Option<Happening>, Fault> {
        match heard {
            Heard::Sent(id) => {
                let mark = self.submitted.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                if let Some(mark) = mark.filter(|mark| *mark != Mark::Unacknowledged) {
                    self.by_id.insert(id, mark);
                }
                Ok(None)
            }
            Heard::Acked(id) => Ok(self.acked(id)),
            // It is no use to go on: what is behind it would be refused too, and the log is in order.
            Heard::Refused(id, why) => match self.by_id.remove(&id) {
                Some(Mark::Batch(_)) => Err(Fault::NotTaken { what: "a batch", why }),
                _ => Err(Fault::NotTaken { what: "a status or a list of channels", why }),
            },
            Heard::Subscribed(true) => Ok(Some(Happening::Subscribed)),
            Heard::Subscribed(false) => Err(Fault::NoSubscription),
            Heard::Message { topic, payload } => Ok(Some(Happening::Message { topic, payload })),
            Heard::Nothing => Ok(None),
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

    fn explain(&self, ended: Ended) -> Fault {
        let held = self.since.elapsed();
        match ended {
            Ended::Stuck => Fault::Broken { cause: "the broker takes no more data".into() },
            Ended::Unanswered => Fault::Silent { after: self.keep_alive },
            Ended::Closed { .. } if held < self.stable => Fault::Kicked { id: self.id.clone(), after: held },
            Ended::TakenOver => Fault::TakenOver { id: self.id.clone() },
            Ended::Dismissed { why } => Fault::Dismissed { why },
            Ended::TooLarge { bytes, limit } => Fault::TooLarge { bytes, limit },
            Ended::Closed { cause } | Ended::Broken { cause } => Fault::Broken { cause },
        }
    }
}

/// How the broker is dialled.
fn transport(options: &Options) -> Result<Option<Transport>, Fault> {
    let Some(tls) = &options.tls else { return Ok(None) };
    if options.host.starts_with('[') {
        let told = "a bare IPv6 address cannot be dialled with TLS: give it a name in DNS or /etc/hosts";
        return Err(Fault::Options(told.into()));
    }
    Ok(Some(Transport::tls_with_config(TlsConfiguration::Rustls(tls::client_config(tls)?))))
}

/// Whole seconds, which is what the broker counts, and no fewer than the client takes.
fn keep_alive(options: &Options, least_s: u64) -> Duration {
    Duration::from_secs(options.keep_alive.as_secs().clamp(least_s, u64::from(u16::MAX)))
}

fn timed_out(options: &Options) -> Fault {
    Fault::TimedOut { host: options.host.clone(), port: options.port, after: options.times.connect }
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

/// Why there is no connection, by the error of either version's client. Its own refusals are told before.
fn unreachable(error: &(dyn StdError + 'static), closed: bool, options: &Options) -> Fault {
    let (host, port) = (options.host.clone(), options.port);
    if let (Some(error), Some(tls)) = (rustls_error(error), &options.tls) {
        return tls::explain(error, &host, port, tls);
    }
    if let Some(cause) = chain(error).find_map(|e| e.downcast_ref::<io::Error>()).filter(|cause| is_resolver(cause)) {
        return Fault::Unresolved { host, cause: cause.to_string() };
    }
    if closed || closed_by_peer(error) {
        let speaks = if options.tls.is_some() { "does it speak TLS?" } else { "does it want TLS (mqtts://)?" };
        let cause = format!("it closed the connection before accepting it; {speaks}");
        return Fault::Unreachable { host, port, cause };
    }
    Fault::Unreachable { host, port, cause: innermost(error) }
}

/// getaddrinfo's errors have no kernel number and no kind of their own; the standard library words them so.
fn is_resolver(error: &io::Error) -> bool {
    error.raw_os_error().is_none() && error.to_string().contains("lookup")
}

fn closed_by_peer(error: &(dyn StdError + 'static)) -> bool {
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
