//! What can be wrong with a connection, in words a technician can act on.

use std::{path::PathBuf, time::Duration};

/// Why there is no connection, or no longer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The name has no address.
    #[error("the name {host:?} of the broker does not resolve: {cause}")]
    Unresolved {
        /// The name asked for.
        host: String,
        /// What the resolver said.
        cause: String,
    },
    /// Nobody answers there, or the way is barred.
    #[error("the broker {host}:{port} is unreachable: {cause}")]
    Unreachable {
        /// The host dialled.
        host: String,
        /// Its port.
        port: u16,
        /// What the kernel said.
        cause: String,
    },
    /// No complete handshake in time.
    #[error("the broker {host}:{port} did not finish the handshake within {} s", after.as_secs_f32())]
    TimedOut {
        /// The host dialled.
        host: String,
        /// Its port.
        port: u16,
        /// The time it had.
        after: Duration,
    },
    /// The broker answered CONNECT with a refusal.
    #[error("the broker {host}:{port} refuses: {refusal}")]
    Refused {
        /// The host dialled.
        host: String,
        /// Its port.
        port: u16,
        /// Its code in words.
        refusal: Refusal,
    },
    /// The broker's certificate does not prove that it is who it should be.
    #[error("the certificate of {host}:{port} is not accepted: {trouble}")]
    Certificate {
        /// The host dialled.
        host: String,
        /// Its port.
        port: u16,
        /// What is wrong with it.
        trouble: CertificateTrouble,
    },
    /// The broker does not accept the gateway's own certificate, or wants one.
    #[error("the broker {host}:{port} does not accept this gateway's certificate: {alert}")]
    ClientCertificate {
        /// The host dialled.
        host: String,
        /// Its port.
        port: u16,
        /// The TLS alert it sent.
        alert: String,
    },
    /// TLS failed in another way.
    #[error("no TLS with {host}:{port}: {cause}")]
    Tls {
        /// The host dialled.
        host: String,
        /// Its port.
        port: u16,
        /// What the TLS library said.
        cause: String,
    },
    /// A certificate, key or password file cannot be used.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Something in the options that no connection can be made with.
    #[error("{0}")]
    Options(String),
    /// The broker closed the connection soon after accepting it.
    #[error("the broker closed the connection {} ms after accepting it", after.as_millis())]
    Kicked {
        /// The client id in use.
        id: String,
        /// How long the connection held.
        after: Duration,
    },
    /// The broker says that another client with this id has come (MQTT 5).
    #[error("another client has connected with the id {id:?} and takes this gateway's place")]
    TakenOver {
        /// The client id in use.
        id: String,
    },
    /// The broker ended the connection, or refused it, and says why (MQTT 5).
    #[error("the broker ends the connection: {why}")]
    Dismissed {
        /// Its reason in words, with the code.
        why: String,
    },
    /// The broker answered a publish with a refusal (MQTT 5).
    #[error("the broker does not take {what}: {why}")]
    NotTaken {
        /// What was published.
        what: &'static str,
        /// Its reason in words, with the code.
        why: &'static str,
    },
    /// What has to be sent whole is larger than the broker takes (MQTT 5).
    #[error("a packet of {bytes} bytes is larger than the {limit} the broker takes")]
    TooLarge {
        /// The packet's size.
        bytes: u32,
        /// The broker's limit.
        limit: u32,
    },
    /// A connection that held broke.
    #[error("the connection to the broker broke: {cause}")]
    Broken {
        /// What the kernel or the protocol said.
        cause: String,
    },
    /// The broker no longer answers.
    #[error("the broker has been silent for {} s", after.as_secs_f32())]
    Silent {
        /// How long.
        after: Duration,
    },
    /// The broker answers pings but does not acknowledge what it is sent.
    #[error("the broker did not acknowledge a batch within {} s", after.as_secs_f32())]
    Unacknowledged {
        /// How long it had.
        after: Duration,
    },
    /// The broker refused the subscription to the confirmations.
    #[error("the broker does not let this gateway subscribe to its confirmations")]
    NoSubscription,
}

/// The codes of CONNACK (MQTT 3.1.1, table 3.1; those of MQTT 5 mean the same where they are told alike).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 1
    #[error("it does not speak MQTT 3.1.1 (code 1)")]
    Protocol,
    /// 2
    #[error("it does not allow this client id (code 2)")]
    ClientId,
    /// 3
    #[error("its MQTT service is unavailable (code 3)")]
    Unavailable,
    /// 4
    #[error("user name or password are malformed or wrong (code 4)")]
    Credentials,
    /// 5
    #[error("this client is not authorised (code 5)")]
    NotAuthorised,
    /// MQTT 5 is asked for: 0x84, or 1 by a broker that only knows 3.1.1.
    #[error("it does not speak MQTT 5")]
    NotFive,
    /// MQTT 5: 0x97.
    #[error("a quota is exceeded (0x97)")]
    Quota,
}

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateTrouble {
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time has not come.
    #[error("it is not valid yet")]
    NotYetValid,
    /// Nobody we trust has signed it.
    #[error("it is signed by an authority that is not trusted here")]
    UnknownAuthority,
    /// It is somebody else's.
    #[error("it is not for the name {expected:?}{}", if presented.is_empty() { String::new() } else { format!(", but for {}", presented.join(", ")) })]
    WrongName {
        /// The name that was dialled or told.
        expected: String,
        /// The names it carries.
        presented: Vec<String>,
    },
    /// It was taken back.
    #[error("it has been revoked")]
    Revoked,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Fault {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Fault::Unresolved { .. } => "check the host in broker.url and the DNS of this machine",
            Fault::Unreachable { .. } => {
                "check host and port in broker.url, the network and firewalls, and that the broker runs"
            }
            Fault::TimedOut { .. } => {
                "check that the port speaks MQTT (with mqtts:// TLS, with mqtt:// none) and that the network lets it through"
            }
            Fault::Refused { refusal, .. } => refusal.remedy(),
            Fault::Certificate { trouble, .. } => trouble.remedy(),
            Fault::ClientCertificate { .. } => {
                "check broker.client-certificate and broker.client-key, and that the broker trusts their authority"
            }
            Fault::Tls { .. } => {
                "check that the port speaks TLS 1.2 or 1.3; a port without TLS wants mqtt:// in broker.url"
            }
            Fault::File { .. } => "check that the file exists, can be read by this user and holds what it should",
            Fault::Options(_) => "correct the broker section of the configuration",
            Fault::Kicked { .. } => {
                "another client that uses this gateway's id takes its place: give each gateway its own gateway.id; \
                 or the broker's access list or packet limit forbids what is sent: see the broker's log"
            }
            Fault::TakenOver { .. } => "give each gateway its own gateway.id; is this one started twice?",
            Fault::Dismissed { .. } => "see the broker's log; the gateway goes on trying",
            Fault::NotTaken { .. } => {
                "allow the gateway to publish below its topics in the broker's access list, or raise its quota"
            }
            Fault::TooLarge { .. } => "raise the broker's limit for packets: a list of channels has to fit one",
            Fault::Broken { .. } | Fault::Silent { .. } => "nothing to do if it comes back: records wait on the disk",
            Fault::Unacknowledged { .. } => "see the broker's log: it takes data and does not say that it has it",
            Fault::NoSubscription => "allow the gateway to read its confirm topic in the broker's access list",
        }
    }
}

impl Refusal {
    fn remedy(self) -> &'static str {
        match self {
            Refusal::Protocol => "use a broker that speaks MQTT 3.1.1",
            Refusal::NotFive => "set broker.mqtt = \"3.1.1\", or use a broker that speaks MQTT 5",
            Refusal::Quota => "see the broker's log; the gateway goes on trying",
            Refusal::ClientId => "use another gateway.id or allow it at the broker",
            Refusal::Unavailable => "see the broker's log; the gateway goes on trying",
            Refusal::Credentials => "check broker.user and broker.password-file",
            Refusal::NotAuthorised => "check broker.user and broker.password-file, and that the broker knows this user",
        }
    }
}

impl CertificateTrouble {
    fn remedy(&self) -> &'static str {
        match self {
            CertificateTrouble::Expired => {
                "renew the broker's certificate; if it is good, this machine's clock is wrong"
            }
            CertificateTrouble::NotYetValid => {
                "set this machine's clock; a gateway without a clock battery starts in the past"
            }
            CertificateTrouble::UnknownAuthority => "set broker.ca-file to the authority that signed it",
            CertificateTrouble::WrongName { .. } => {
                "dial one of the names it carries, or set broker.server-name to one of them"
            }
            CertificateTrouble::Revoked | CertificateTrouble::Other(_) => "have the broker's certificate replaced",
        }
    }
}
