//! `[access]`, and what of `[http]` says who may come in and how.

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{Config, ConfigError, Http, secret, secret_path};

/// `[access]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Access {
    /// The file of users, keys and the audit; beside the store's when it is not there.
    pub path: Option<PathBuf>,
    /// Whether somebody has to be known even while there is neither a user nor a key.
    pub required: bool,
    /// A session not used for so many seconds has ended.
    pub session_idle_s: NonZeroU32,
    /// And so has one that was begun so many seconds ago.
    pub session_longest_s: NonZeroU32,
    /// Requests a second of each key and each session.
    pub requests_per_second: NonZeroU32,
    /// Requests a second of each address of those who have neither.
    pub stranger_requests_per_second: NonZeroU32,
}

/// A place that pages come from: `https://fleet.example`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Origin(String);

impl Default for Access {
    fn default() -> Self {
        let n = |n: u32| NonZeroU32::MIN.saturating_add(n - 1);
        Self {
            path: None,
            required: false,
            session_idle_s: n(12 * 3600),
            session_longest_s: n(7 * 24 * 3600),
            requests_per_second: n(10_000),
            stranger_requests_per_second: n(50),
        }
    }
}

impl Config {
    /// Where users, keys and the audit are kept.
    pub fn access_path(&self) -> PathBuf {
        self.access.path.clone().unwrap_or_else(|| self.store.path.with_file_name("access.sqlite"))
    }

    /// An address that others than this machine reach wants somebody who could log in.
    pub fn reachable(&self, anybody: bool) -> Result<(), ConfigError> {
        let tcp = self.tcp.as_ref().map(|tcp| ("tcp", tcp.listen));
        let beyond = |at: &SocketAddr| !at.ip().to_canonical().is_loopback();
        let open = [Some(("http", self.http.listen)), tcp].into_iter().flatten().find(|(_, at)| beyond(at));
        match open {
            Some((section, address)) if !anybody => Err(ConfigError::Reachable { section, address }),
            _ => Ok(()),
        }
    }
}

impl Http {
    /// The files of certificate and key, if the hub speaks TLS. One without the other is a mistake.
    pub fn tls(&self) -> Result<Option<(&Path, &str)>, ConfigError> {
        match (&self.certificate, &self.key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (one, _) => Err(ConfigError::Wrong {
                name: "[http]".into(),
                complaint: format!(
                    "{} is there and {} is not: TLS wants both",
                    if one.is_some() { "certificate" } else { "key" },
                    if one.is_some() { "key" } else { "certificate" }
                ),
            }),
        }
    }

    /// The page's address, when the hub listens there.
    pub fn page(&self, at: SocketAddr) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{at}")
    }

    /// The private key's text.
    pub fn private_key(&self) -> Result<Option<String>, ConfigError> {
        secret(self.key.as_deref())
    }

    /// Where it is.
    pub fn key_path(&self) -> Option<PathBuf> {
        self.key.as_deref().map(secret_path)
    }
}

impl Origin {
    /// As browsers say it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Origin {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let host_ok = |host: &str| {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.:[]".contains(c);
            !host.is_empty() && host.chars().all(plain)
        };
        match host.is_some_and(host_ok) {
            true => Ok(Self(text)),
            false => {
                Err(format!("allow-origins {text:?}: wanted https://HOST[:PORT] in small letters; * is not allowed"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(more: &str) -> Result<Config, String> {
        Config::parse(&format!("[broker]\nurl = \"mqtt://b\"\n{more}"), "t").map_err(|e| e.to_string())
    }

    #[test]
    fn users_and_keys_lie_beside_the_store_unless_told_otherwise() {
        let path = |more| parse(more).unwrap().access_path().display().to_string();
        assert_eq!(path(""), "/var/lib/speedwell-hub/access.sqlite");
        assert_eq!(path("[store]\npath = \"/data/hub.sqlite\"\n"), "/data/access.sqlite");
        assert_eq!(path("[access]\npath = \"/etc/a\"\n"), "/etc/a");
    }

    #[test]
    fn an_address_that_others_reach_wants_somebody_who_could_log_in() {
        for (more, fine) in [
            ("", true),
            ("[http]\nlisten = \"[::1]:80\"\n[tcp]\n", true),
            ("[http]\nlisten = \"0.0.0.0:80\"\n", false),
            ("[http]\nlisten = \"[::]:80\"\n", false),
            ("[tcp]\nlisten = \"192.0.2.1:9999\"\n", false),
        ] {
            let config = parse(more).unwrap();
            assert_eq!(config.reachable(false).is_ok(), fine, "{more}");
            assert!(config.reachable(true).is_ok(), "{more}");
        }
        let told = parse("[http]\nlisten = \"0.0.0.0:80\"\n").unwrap().reachable(false).unwrap_err().to_string();
        assert!(told.contains("0.0.0.0:80") && told.contains("speedwell-hub user add"), "{told}");
    }

    #[test]
    fn origins_networks_and_half_of_tls_are_told_with_what_is_wanted() {
        for (more, told) in [
            ("[http]\nallow-origins = [\"*\"]\n", "wanted https://HOST"),
            ("[http]\nallow-origins = [\"https://a/b\"]\n", "wanted https://HOST"),
            ("[http]\ntrusted-proxies = [\"proxy\"]\n", "10.0.0.0/8"),
            ("[access]\nsession-idle-s = 0\n", "line 4"),
        ] {
            let error = parse(more).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        let config = parse("[http]\ncertificate = \"/c.pem\"\n").unwrap();
        let told = config.http.tls().unwrap_err().to_string();
        assert!(told.contains("certificate is there and key is not"), "{told}");
        assert!(parse("[http]\nallow-origins = [\"https://fleet.example:8443\"]\n").is_ok());
    }
}
