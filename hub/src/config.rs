//! One TOML file becomes the hub's options, or a complaint with line and column.
//!
//! In      the text of a configuration.
//! Out     a [`Config`], or a [`ConfigError`] that a person can act on.
//! Keeps   nothing; opens nothing that the file names, but for [`Broker::password`].
//! Imports `access` (what a network is).

use std::{
    fmt, fs, io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    num::NonZeroU32,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::access::Network;

mod access;
mod ingest;
mod presence;

pub use access::{Access, Origin};
pub use ingest::{Feed, FeedShape, Ingest, SpeedUnit, Tcp, TopicFilter, default_sensor};
pub use presence::Presence;

/// A configuration or secret file larger than this is something else.
pub const MAX_FILE_BYTES: u64 = 64 * 1024;

/// All a hub is told.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where batches come from.
    pub broker: Broker,
    /// Where they are kept.
    #[serde(default)]
    pub store: Store,
    /// Where people look.
    #[serde(default)]
    pub http: Http,
    /// Who may.
    #[serde(default)]
    pub access: Access,
    /// What comes in otherwise.
    #[serde(default)]
    pub ingest: Ingest,
    /// Where programs send over a plain connection; nowhere unless told.
    #[serde(default)]
    pub tcp: Option<Tcp>,
    /// Who counts as connected.
    #[serde(default)]
    pub presence: Presence,
    /// What is told in the journal.
    #[serde(default)]
    pub log: Log,
}

/// `[broker]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Broker {
    /// `mqtt://host[:port]` or `mqtts://host[:port]`.
    pub url: BrokerUrl,
    /// User name, when the broker wants one.
    #[serde(default)]
    pub user: Option<String>,
    /// A file that holds the password and nothing else, or `credential:NAME` for a systemd credential.
    #[serde(default)]
    pub password_file: Option<String>,
    /// Certificates (PEM) that vouch for the broker, instead of the public ones.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The MQTT client id. Fixed, because the broker keeps what arrives for it while the hub is away.
    #[serde(default = "default_client_id", deserialize_with = "client_id")]
    pub client_id: String,
    /// What stands before the gateway's id in every topic.
    #[serde(default)]
    pub topic_prefix: TopicPrefix,
}

/// `[store]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Store {
    /// The SQLite database; made when it is not there.
    #[serde(deserialize_with = "file")]
    pub path: PathBuf,
    /// A PostgreSQL database, instead: `postgres://USER@HOST[:PORT]/DATABASE`.
    pub url: Option<StoreUrl>,
    /// A file that holds its password and nothing else, or `credential:NAME` for a systemd credential.
    pub password_file: Option<String>,
    /// Certificates (PEM) that vouch for its server, instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// Days that samples are kept after they arrived; for ever when it is not there.
    pub keep_days: Option<NonZeroU32>,
}

/// The address of a PostgreSQL database, without a password: what is in a configuration is read by many.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct StoreUrl(String);

/// `[http]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Http {
    /// Address and port. Loopback unless told otherwise; anything else wants somebody who could log in.
    #[serde(deserialize_with = "listen")]
    pub listen: SocketAddr,
    /// The hub's certificate and those between it and the authority (PEM); with it the hub speaks TLS.
    pub certificate: Option<PathBuf>,
    /// The certificate's private key (PEM), or `credential:NAME` for a systemd credential.
    pub key: Option<String>,
    /// Places whose pages may ask this hub, with a key. None unless told.
    pub allow_origins: Vec<Origin>,
    /// Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed. None unless told.
    pub trusted_proxies: Vec<Network>,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Log {
    /// A `tracing` filter: `info`, `debug`, `speedwell_hub=trace`.
    pub level: String,
    /// Lines for people, or objects for programs.
    pub format: LogFormat,
}

/// How a line of the journal looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A broker's address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BrokerUrl {
    /// Name or address.
    pub host: String,
    /// Port: 1883, or 8883 with TLS, when the URL names none.
    pub port: u16,
    /// `mqtts`.
    pub tls: bool,
}

/// What stands before the gateway's id in every topic: levels joined by `/`, without wildcards.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TopicPrefix(String);

/// A configuration that cannot be used. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{path}: cannot be read: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The text is not a hub's configuration; the message has line, column and the line itself.
    #[error("{name}: {complaint}")]
    Wrong {
        /// The file's name.
        name: String,
        /// What is wrong, and where.
        complaint: String,
    },
    /// Others would reach the hub, and nobody could say who he is.
    #[error(
        "[{section}] listen = \"{address}\" is reached from other machines, but there is neither a user nor a key, so \
         anybody could read and write.\nMake the first administrator: speedwell-hub user add NAME --role admin\n\
         or listen on this machine only: 127.0.0.1:{}", .address.port()
    )]
    Reachable {
        /// Which section.
        section: &'static str,
        /// Where it listens.
        address: SocketAddr,
    },
}

impl Config {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = read_small(path).map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
        Config::parse(&text, &path.display().to_string())
    }

    /// Reads a text; `name` stands before complaints.
    pub fn parse(text: &str, name: &str) -> Result<Config, ConfigError> {
        let wrong = |complaint| ConfigError::Wrong { name: name.into(), complaint };
        let config: Config = toml::from_str(text).map_err(|e| wrong(covered(e.to_string().trim_end())))?;
        match config.store.url.is_none() && config.access_path() == config.store.path {
            true => Err(wrong(format!(
                "[store] path and [access] path are both {}: users and keys want a file of their own",
                config.store.path.display()
            ))),
            false => Ok(config),
        }
    }

    /// Files of secrets that anybody on this machine may read.
    pub fn open_secrets(&self) -> Vec<PathBuf> {
        let of_feeds = self.ingest.broker.as_ref().and_then(|broker| broker.password_file.as_deref());
        let named = [self.broker.password_file.as_deref(), self.store.password_file.as_deref(), of_feeds];
        let all = named.into_iter().chain([self.http.key.as_deref()]).flatten().map(secret_path);
        all.filter(|path| fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)).collect()
    }

    /// A hub on this broker that keeps its database at `store`, with all else as it is by default.
    pub fn new(url: BrokerUrl, store: impl Into<PathBuf>) -> Config {
        Config {
            broker: Broker {
                url,
                user: None,
                password_file: None,
                ca_file: None,
                client_id: default_client_id(),
                topic_prefix: TopicPrefix::default(),
            },
            store: Store { path: store.into(), ..Store::default() },
            http: Http::default(),
            access: Access::default(),
            ingest: Ingest::default(),
            tcp: None,
            presence: Presence::default(),
            log: Log::default(),
        }
    }
}

impl Broker {
    /// Reads the password, if a file of one is named. A trailing line end is not part of it.
    pub fn password(&self) -> Result<Option<String>, ConfigError> {
        secret(self.password_file.as_deref())
    }
}

impl Store {
    /// Reads the password, if a file of one is named. A trailing line end is not part of it.
    pub fn password(&self) -> Result<Option<String>, ConfigError> {
        secret(self.password_file.as_deref())
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        self.url.as_ref().map_or_else(|| self.path.display().to_string(), |url| url.0.clone())
    }
}

impl StoreUrl {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        // The text is not told: it may hold a password.
        let Some(rest) = rest else {
            return Err("store url: wanted postgres://USER@HOST[:PORT]/DATABASE".into());
        };
        let user = rest.split('/').next().unwrap_or_default().rsplit_once('@').map(|(user, _)| user);
        match user.is_some_and(|user| user.contains(':')) || rest.contains("password=") {
            true => {
                Err("store url: has a password in it; put that into a file and name the file in password-file".into())
            }
            false => Ok(Self(text)),
        }
    }
}

/// A complaint shows the line it is about, which goes into the journal: whatever is in the place of a password is covered.
fn covered(complaint: &str) -> String {
    let line = |line: &str| {
        let mut line = line.to_owned();
        let told = line.split_once("://").and_then(|(before, rest)| Some((before, rest.rsplit_once('@')?)));
        if let Some((before, (user, place))) = told
            && let Some((user, _)) = user.split_once(':')
        {
            line = format!("{before}://{user}:***@{place}");
        }
        if let Some((before, after)) = line.split_once("password=") {
            let rest = after.find(['&', '"', '\'']).map_or("", |end| &after[end..]);
            line = format!("{before}password=***{rest}");
        }
        line
    };
    complaint.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn secret(named: Option<&str>) -> Result<Option<String>, ConfigError> {
    let Some(named) = named else { return Ok(None) };
    let path = secret_path(named);
    let text = read_small(&path).map_err(|source| ConfigError::Unreadable { path, source })?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn secret_path(named: &str) -> PathBuf {
    match named.strip_prefix("credential:") {
        // systemd puts the credentials of a unit into this directory, see systemd.exec(5).
        Some(name) => PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY").unwrap_or_default()).join(name),
        None => PathBuf::from(named),
    }
}

fn read_small(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes, so it is something else")));
    }
    fs::read_to_string(path)
}

fn listen<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    let wanted = || format!("listen {text:?}: wanted ADDRESS:PORT in numbers, as 127.0.0.1:8080 or [::1]:8080");
    text.parse().map_err(|_| D::Error::custom(wanted()))
}

fn file<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(from)?;
    match path.file_name() {
        Some(_) => Ok(path),
        None => Err(D::Error::custom(format!("path {path:?}: wanted a file, as /var/lib/speedwell-hub/hub.sqlite"))),
    }
}

/// A broker keeps nothing for a client without a name, and refuses one that wants it to (MQTT 3.1.1, 3.1.3.1).
fn client_id<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    match (1..=128).contains(&text.len()) && !text.contains(char::is_control) {
        true => Ok(text),
        false => Err(D::Error::custom(format!("client-id {text:?}: wanted a name of 1 to 128 letters"))),
    }
}

fn default_client_id() -> String {
    "speedwell-hub".into()
}

impl Default for Store {
    fn default() -> Self {
        Self {
            path: "/var/lib/speedwell-hub/hub.sqlite".into(),
            url: None,
            password_file: None,
            ca_file: None,
            keep_days: None,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080)),
            certificate: None,
            key: None,
            allow_origins: Vec::new(),
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

impl Default for TopicPrefix {
    fn default() -> Self {
        Self("speedwell/v1".into())
    }
}

impl TopicPrefix {
    /// The prefix, without a `/` at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TopicPrefix {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let bad = |level: &str| level.is_empty() || level.contains(['+', '#', '$']) || level.contains(char::is_control);
        match text.len() > 128 || text.split('/').any(bad) {
            true => Err(format!("topic-prefix {text:?}: wanted levels joined by \"/\" without + # $, as speedwell/v1")),
            false => Ok(Self(text)),
        }
    }
}

impl BrokerUrl {
    /// A broker without TLS at this address.
    pub fn plain(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port(), tls: false }
    }
}

impl TryFrom<String> for BrokerUrl {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wanted = || format!("broker url {text:?}: wanted mqtt://HOST[:PORT] or mqtts://HOST[:PORT]");
        let (tls, rest) = match text.split_once("://") {
            Some(("mqtt", rest)) => (false, rest),
            Some(("mqtts", rest)) => (true, rest),
            _ => return Err(wanted()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // The colons of an IPv6 address stand inside brackets.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| wanted())?),
            _ => (rest, if tls { 8883 } else { 1883 }),
        };
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        match host.is_empty() || host.contains(['/', '@', '?', ' ']) || port == 0 {
            true => Err(wanted()),
            false => Ok(Self { host: host.into(), port, tls }),
        }
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_configuration_names_only_the_broker() {
        let config = Config::parse("[broker]\nurl = \"mqtt://broker.example\"\n", "hub.toml").unwrap();
        assert_eq!(config.broker.url, BrokerUrl { host: "broker.example".into(), port: 1883, tls: false });
        assert_eq!(config.broker.topic_prefix.as_str(), "speedwell/v1");
        assert!(config.http.listen.ip().is_loopback());
    }

    #[test]
    fn the_example_configuration_loads() {
        Config::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/hub.toml")).unwrap();
    }

    #[test]
    fn an_unknown_key_is_told_with_line_and_column() {
        let text = "[broker]\nurl = \"mqtt://b\"\npasswort = \"x\"\n";
        let told = Config::parse(text, "hub.toml").unwrap_err().to_string();
        assert!(told.starts_with("hub.toml: TOML parse error at line 3, column 1"), "{told}");
        assert!(told.contains("unknown field `passwort`"), "{told}");
    }

    #[test]
    fn a_url_of_another_kind_is_told_with_what_is_wanted() {
        for bad in ["http://b", "mqtt://", "mqtt://b:99999", "mqtt://u@b", "b:1883", "mqtt://b:0"] {
            let told = Config::parse(&format!("[broker]\nurl = {bad:?}\n"), "hub.toml").unwrap_err().to_string();
            assert!(told.contains("line 2, column 7") && told.contains("wanted mqtt://HOST"), "{told}");
        }
        let six = BrokerUrl::try_from("mqtts://[::1]".to_owned()).unwrap();
        assert_eq!((six.host.as_str(), six.port, six.to_string().as_str()), ("::1", 8883, "mqtts://[::1]:8883"));
    }

    #[test]
    fn what_could_not_be_used_later_is_told_now_with_what_is_wanted() {
        for (line, more, wanted) in [
            (3, "client-id = \"\"\n", "wanted a name of 1 to 128 letters"),
            (4, "[http]\nlisten = \"localhost:80\"\n", "wanted ADDRESS:PORT in numbers, as 127.0.0.1:8080"),
            (4, "[tcp]\nlisten = \"9999\"\n", "wanted ADDRESS:PORT in numbers"),
            (4, "[store]\npath = \"\"\n", "wanted a file"),
            (4, "[store]\npath = \"/\"\n", "wanted a file"),
        ] {
            let told = Config::parse(&format!("[broker]\nurl = \"mqtt://b\"\n{more}"), "t").unwrap_err().to_string();
            assert!(told.contains(&format!("line {line}")) && told.contains(wanted), "{told}");
        }
    }

    #[test]
    fn users_and_keys_are_not_kept_in_the_file_of_the_store() {
        let with = |more: &str| Config::parse(&format!("[broker]\nurl = \"mqtt://b\"\n{more}"), "t");
        for more in ["[store]\npath = \"/d/access.sqlite\"\n", "[store]\npath = \"/d/a\"\n[access]\npath = \"/d/a\"\n"]
        {
            let told = with(more).unwrap_err().to_string();
            assert!(told.contains("[store] path and [access] path are both /d/a"), "{told}");
        }
        assert!(with("[store]\npath = \"/d/access.sqlite\"\nurl = \"postgres://hub@db/hub\"\n").is_ok());
    }

    #[test]
    fn a_secret_that_anybody_may_read_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut config = Config::new(BrokerUrl { host: "b".into(), port: 1, tls: false }, "x");
        config.http.key = Some(file.path().display().to_string());
        let open = |mode| {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            config.open_secrets()
        };
        assert_eq!((open(0o600), open(0o640)), (vec![], vec![]));
        assert_eq!(open(0o644), [file.path()]);
    }

    #[test]
    fn a_prefix_with_a_wildcard_is_refused() {
        let text = "[broker]\nurl = \"mqtt://b\"\ntopic-prefix = \"a/+/b\"\n";
        assert!(Config::parse(text, "t").unwrap_err().to_string().contains("line 3"));
    }

    #[test]
    fn a_password_file_is_read_without_its_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "secret\n").unwrap();
        let mut config = Config::new(BrokerUrl { host: "b".into(), port: 1, tls: false }, "x");
        config.broker.password_file = Some(file.path().display().to_string());
        assert_eq!(config.broker.password().unwrap().as_deref(), Some("secret"));
    }

    #[test]
    fn a_password_in_the_address_of_the_database_is_refused_and_not_told() {
        let with = |url: &str| Config::parse(&format!("[broker]\nurl = \"mqtt://b\"\n[store]\nurl = \"{url}\"\n"), "t");
        for bad in ["postgres://hub:s3cret@db/hub", "postgres://db/hub?user=hub&password=s3cret"] {
            let told = with(bad).unwrap_err().to_string();
            assert!(told.contains("line 4") && told.contains("password-file") && !told.contains("s3cret"), "{told}");
        }
        assert!(with("mysql://db/hub").unwrap_err().to_string().contains("wanted postgres://USER@HOST"));
        assert_eq!(with("postgres://hub@db/hub").unwrap().store.place(), "postgres://hub@db/hub");
    }
}
