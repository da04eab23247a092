//! The door to the broker. The only room of the service that knows `rumqttc`, of which it takes the packets.
//!
//! In      acknowledgements, confirmations to publish.
//! Out     [`Event`]s in the order they came.
//! Keeps   a session at the broker under a fixed client id, so that the broker keeps batches while the hub is away.
//!
//! Each connection is new, and its `line` a task of its own: nothing of one can be taken for another's.

mod line;

use std::{
    error::Error,
    fs, io, iter,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rumqttc::{Connect, ConnectReturnCode, Publish, QoS, SubscribeFilter, mqttbytes::Error as Malformed};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore, crypto::ring};

use self::line::{Ended, Request, carry};
use crate::config::{self, ConfigError};

/// Largest packet taken: a frame is at most 1 MiB, and its JSON twin some times that.
pub const MAX_PACKET: usize = 8 * 1024 * 1024;
/// A broken connection is noticed within two of these.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Messages read ahead of the loop that takes them.
const READ_AHEAD: usize = 16;
/// Acknowledgements and confirmations that may wait for the line: twice all that may be outstanding. The line reads only
/// when none waits, so there are never more.
const REQUESTS: usize = 4096;
/// How long a goodbye may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// How to reach the broker.
pub struct Broker {
    route: Route,
    /// The session holds a packet larger than [`MAX_PACKET`], which it would deliver for ever.
    poisoned: bool,
}

/// Where to, as whom, and what for.
#[derive(Clone)]
struct Route {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    greeting: Connect,
    filters: Vec<SubscribeFilter>,
}

/// One connection.
pub struct Connection {
    requests: mpsc::Sender<Request>,
    events: mpsc::Receiver<Event>,
    line: JoinHandle<()>,
}

/// What happens on a connection.
pub enum Event {
    /// The broker has accepted it, and what was subscribed to.
    Connected,
    /// A message.
    Message(Message),
    /// It is over, for this reason.
    Lost(String),
}

/// A message of a gateway.
pub struct Message(Publish);

/// The right to acknowledge a message, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub(super) pkid: u16,
}

/// The certificates of `ca-file` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file.
    #[error("{path}: cannot be read: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its content.
    #[error("{0}: no certificate in PEM form in it")]
    NoCertificate(PathBuf),
    /// TLS itself.
    #[error("TLS: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
}

impl Broker {
    /// Prepares; connects to nothing.
    pub fn new(config: &config::Broker) -> Result<Self, BrokerError> {
        Self::subscribing(config, filters(config.topic_prefix.as_str()))
    }

    /// One that is to give the messages of these topics.
    pub fn of_topics<'a>(config: &config::Broker, topics: impl Iterator<Item = &'a str>) -> Result<Self, BrokerError> {
        let filter = |topic: &str| SubscribeFilter::new(topic.to_owned(), QoS::AtLeastOnce);
        Self::subscribing(config, topics.map(filter).collect())
    }

    fn subscribing(config: &config::Broker, filters: Vec<SubscribeFilter>) -> Result<Self, BrokerError> {
        let mut greeting = Connect::new(&config.client_id);
        greeting.keep_alive = KEEP_ALIVE.as_secs() as u16;
        if let Some(user) = &config.user {
            greeting.set_login(user, config.password()?.unwrap_or_default());
        }
        let tls = if config.url.tls { Some(Arc::new(tls(config.ca_file.as_deref())?)) } else { None };
        let route = Route { host: config.url.host.clone(), port: config.url.port, tls, greeting, filters };
        Ok(Self { route, poisoned: false })
    }

    /// Begins a connection; whether it comes about is told by its events.
    pub fn connect(&mut self) -> Connection {
        // A clean session makes the broker throw the poison away. Nothing is lost: gateways send again what is not
        // confirmed. It lasts until this connection ends, and the next one keeps its session again.
        let clean = std::mem::take(&mut self.poisoned);
        let (told, events) = mpsc::channel(READ_AHEAD);
        let (requests, asked) = mpsc::channel(REQUESTS);
        let line = tokio::spawn(carry(self.route.clone(), clean, told, asked));
        Connection { requests, events, line }
    }

    /// To be told why a connection was lost.
    pub fn lost(&mut self, why: &str) {
        self.poisoned = why.starts_with(POISON);
    }
}

/// Why a broker cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The password.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

const POISON: &str = "a packet larger than the hub takes";

/// Channel lists first, so that a broker that hands out what it has retained in this order lets no batch come before
/// the list it is read with.
fn filters(prefix: &str) -> Vec<SubscribeFilter> {
    let filter = |topic: &str, qos| SubscribeFilter::new(format!("{prefix}/+/{topic}"), qos);
    vec![
        filter("manifest/+", QoS::AtLeastOnce),
        filter("status", QoS::AtLeastOnce),
        filter("live", QoS::AtMostOnce),
        filter("log", QoS::AtLeastOnce),
    ]
}

fn reason(ended: &Ended) -> String {
    match ended {
        Ended::Malformed(Malformed::PayloadSizeLimitExceeded(size)) => {
            format!("{POISON}: {size} bytes, allowed are {MAX_PACKET}")
        }
        Ended::Refused(ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized) => {
            "the broker refuses the user or the password; see user and password-file in [broker]".into()
        }
        Ended::Io(error) => chain(error).find_map(|e| e.downcast_ref()).map_or_else(|| error.to_string(), certificate),
        other => other.to_string(),
    }
}

/// What is wrong with the broker's certificate, and where to look.
fn certificate(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(wrong) = error else { return format!("TLS: {error}") };
    let why = match wrong {
        CertificateError::UnknownIssuer => {
            "no authority that is trusted here has signed it; see ca-file in [broker]".into()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("it is not for {:?} but for {}; see url in [broker]", expected.to_str(), presented.join(", "))
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired, or the clock of this machine is wrong".into()
        }
        other => format!("{other:?}"),
    };
    format!("the certificate of the broker is not accepted: {why}")
}

/// An error and its causes. An `io::Error` hides what it wraps from `source`, so it is asked directly.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&e| match e.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner as &(dyn Error + 'static)),
        None => e.source(),
    })
}

impl Connection {
    /// The next event. After [`Event::Lost`] there is none but that. Cancel-safe.
    pub async fn next(&mut self) -> Event {
        self.events.recv().await.unwrap_or_else(|| Event::Lost("connection closed".into()))
    }

    /// Queues an acknowledgement.
    pub fn acknowledge(&self, ack: Ack) -> Result<(), String> {
        self.ask(Request::Acknowledge(ack))
    }

    /// Queues a retained message.
    pub fn publish_retained(&self, topic: String, payload: Vec<u8>) -> Result<(), String> {
        self.ask(Request::Publish { topic, payload })
    }

    fn ask(&self, request: Request) -> Result<(), String> {
        match self.requests.try_send(request) {
            Err(TrySendError::Full(_)) => Err("too much waits to be written".into()),
            // When the line has ended, why is the last of its events.
            Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// Writes what is queued, says goodbye.
    pub async fn close(mut self) {
        // A failure means that the connection is gone already.
        let _ = self.requests.try_send(Request::Goodbye);
        // The goodbye is the last in the queue; after it the broker closes, and the line ends.
        let over = async { while self.events.recv().await.is_some() {} };
        let _ = timeout(CLOSE_WITHIN, over).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.line.abort();
    }
}

impl Message {
    /// Where it was published.
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// What.
    pub fn payload(&self) -> &[u8] {
        &self.0.payload
    }

    /// Whether it was said before the hub listened.
    pub fn retained(&self) -> bool {
        self.0.retain
    }

    /// Whether it was given before, and perhaps taken.
    pub fn again(&self) -> bool {
        self.0.dup
    }

    /// The right to acknowledge it, if it wants to be.
    pub fn ack(&self) -> Option<Ack> {
        (self.0.qos == QoS::AtLeastOnce).then_some(Ack { pkid: self.0.pkid })
    }
}

pub(crate) fn tls(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let pem = fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_path_buf(), source })?;
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
            if roots.is_empty() {
                return Err(TlsError::NoCertificate(path.to_path_buf()));
            }
        }
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
