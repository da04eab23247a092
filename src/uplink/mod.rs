//! Replicates the log to the hub over MQTT.
//!
//! In      durable records from a [`Log`] (the spool), live values and health from watches.
//! Out     batches, manifests, live values and status to the broker; [`Log::confirm_thru`] to the log;
//!         [`Event`]s when no confirmation comes; [`Stats`] to whoever watches.
//! Keeps   nothing but a window of places in the log: what was sent and is not yet confirmed. The log is the queue.
//! Imports `clock`, `spool`, `wire`.
//!
//! The rules both ends keep are told in `docs/replication.md`. The parts:
//!
//! - [`session`]: the rules as a pure state machine. No socket, no clock of its own.
//! - [`compose`]: records become batches, in postcard or JSON.
//! - [`mqtt`]: the door to the broker; alone knows rumqttc. One fresh client a connection, nothing carried over.
//! - [`tls`]: certificates and keys, read at each connect.
//! - [`fault`]: what can be wrong with a connection, in words a technician can act on.
//! - [`backoff`]: how long to wait before the next try.
//! - [`link`]: the loop that hangs these together.

pub mod backoff;
pub mod compose;
pub mod fault;
pub mod link;
pub mod log;
pub mod mqtt;
pub mod session;
pub mod stats;
pub mod tls;

use std::{path::PathBuf, sync::Arc, time::Duration};

use speedwell_wire::{Event, GatewayId, Live, message::Health};
use tokio::sync::{mpsc, watch};

pub use fault::Fault;
pub use link::{probe, run};
pub use log::{Log, LogError, Stored};
pub use stats::{Link, Observer, Stats};

use crate::clock::Clock;

/// Who says that a record is safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Confirmation {
    /// The hub, once it has committed it. Survives a broker that loses everything.
    #[default]
    Hub,
    /// The broker's PUBACK, for backends that are not our hub. What the broker loses after that is lost.
    Broker,
}

/// Which version of MQTT is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1.
    #[default]
    Three,
    /// 5: the broker can refuse a publish, tell its limits and say why it ends a connection.
    Five,
}

/// How batches, manifests and live values are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Compact frames.
    #[default]
    Postcard,
    /// The same for people and foreign backends.
    Json,
}

/// What proves who is who on an `mqtts` connection. The files are read at each connect, so that a renewed
/// certificate is taken without a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file of the authorities to trust; without one the public authorities (Mozilla's list) are trusted.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the gateway's own certificate and chain.
    pub client_certificate: Option<PathBuf>,
    /// PEM file of its key (PKCS#8, PKCS#1 or SEC1).
    pub client_key: Option<PathBuf>,
    /// The name the broker's certificate must carry, when that is not the host that is dialled.
    /// The name sent in the handshake (SNI) stays the host's.
    pub server_name: Option<String>,
}

/// Where the password is.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// Already read.
    Text(String),
    /// In a file, read at each connect; one trailing line break is cut off.
    File(PathBuf),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Password::Text(_) => f.write_str("Text(..)"),
            Password::File(path) => write!(f, "File({path:?})"),
        }
    }
}

/// What the uplink is told. [`Options::new`] gives the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The gateway's name: client id and part of every topic.
    pub gateway: GatewayId,
    /// Host name or address of the broker.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// TLS, when it is spoken.
    pub tls: Option<Tls>,
    /// User name, when the broker wants one.
    pub user: Option<String>,
    /// Password of the user.
    pub password: Option<Password>,
    /// Who says that a record is safe.
    pub confirm: Confirmation,
    /// How batches are written.
    pub encoding: Encoding,
    /// Which version of MQTT is spoken.
    pub version: Version,
    /// First part of every topic.
    pub topic_prefix: String,
    /// How often the broker is asked whether it is there; whole seconds, at least 1.
    pub keep_alive: Duration,
    /// Bytes of sent but unconfirmed batches.
    pub window: usize,
    /// Bytes of a batch before its frame; a larger one is not composed unless it is a single record.
    pub max_batch: usize,
    /// Bytes of a packet that the broker and the hub take. A record that cannot fit is replaced by a loss record.
    pub max_packet: usize,
    /// Bytes a second while behind; without one only the window paces.
    pub backlog_pace: Option<u32>,
    /// Whether live values are published.
    pub live: bool,
    /// Times that tests shrink.
    pub times: Times,
}

/// Every time the uplink waits for. The defaults are for the field; tests shrink them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// How long a batch may stay unconfirmed after the broker acknowledged it, at first; doubles each time.
    pub confirm: Duration,
    /// Where the doubling ends.
    pub confirm_max: Duration,
    /// How long the broker may take to acknowledge a batch before the connection is given up.
    pub acknowledge: Duration,
    /// For the name to resolve, the connection, the TLS handshake and CONNACK together; also for one flush.
    pub connect: Duration,
    /// Between two status messages.
    pub heartbeat: Duration,
    /// Shortest time between two live messages, and between two status messages sent for a change.
    pub live: Duration,
    /// First and largest mean of the wait between connections.
    pub backoff_base: Duration,
    /// The longest wait between connections.
    pub backoff_cap: Duration,
    /// A connection that held this long makes the next wait short again.
    pub stable: Duration,
    /// For the goodbye on a graceful stop.
    pub goodbye: Duration,
}

impl Default for Times {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            confirm: s(30),
            confirm_max: s(300),
            acknowledge: s(120),
            connect: s(10),
            heartbeat: s(60),
            live: s(1),
            backoff_base: s(1),
            backoff_cap: s(60),
            stable: s(30),
            goodbye: s(2),
        }
    }
}

impl Options {
    /// The defaults for a gateway and a broker.
    pub fn new(gateway: GatewayId, host: impl Into<String>, port: u16) -> Self {
        Self {
            gateway,
            host: host.into(),
            port,
            tls: None,
            user: None,
            password: None,
            confirm: Confirmation::Hub,
            encoding: Encoding::Postcard,
            version: Version::Three,
            topic_prefix: "speedwell/v1".into(),
            keep_alive: Duration::from_secs(20),
            window: 256 * 1024,
            max_batch: 64 * 1024,
            max_packet: 256 * 1024,
            backlog_pace: None,
            live: true,
            times: Times::default(),
        }
    }
}

/// Boot number and boot time (ns) to UTC (ns since 1970), where a clock fix says so.
pub type UtcOf = Arc<dyn Fn(u32, u64) -> Option<i64> + Send + Sync>;

/// What comes in by the door beside the log.
#[derive(Clone)]
pub struct Parts {
    /// The clock that events are stamped with and waits are measured by.
    pub clock: Arc<dyn Clock>,
    /// Number of this boot.
    pub boot: u32,
    /// The newest values; sent on change when [`Options::live`] is set.
    pub live: watch::Receiver<Option<Live>>,
    /// How the gateway is; sent at birth, each heartbeat, and when the trouble of a sensor changes.
    pub health: watch::Receiver<Option<Health>>,
    /// Events for the log. When full, an event is only logged.
    pub events: mpsc::Sender<Event>,
    /// Times of day for the JSON twin.
    pub utc: UtcOf,
    /// Where the uplink tells how it is.
    pub observer: Observer,
}
