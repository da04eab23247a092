//! The broker's address and its password's place.

use std::path::Path;

use toml::de::DeValue;

use super::{
    Secret,
    walk::{Section, Spot, Walk},
};

/// Where to connect.
pub(super) struct Target {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

/// Schemes of other programs and the one that means the same here.
const OTHER_SCHEMES: &[(&str, &str)] =
    &[("tcp", "mqtt"), ("ssl", "mqtts"), ("tls", "mqtts"), ("http", "mqtt"), ("https", "mqtts")];

const ALLOWED: &str = "mqtt://HOST[:PORT], or mqtts://HOST[:PORT] for TLS";

pub(super) fn read(walk: &mut Walk<'_>, spot: &Spot<String>) -> Option<Target> {
    let Some((scheme, rest)) = spot.value.split_once("://") else {
        let message = format!("{:?} does not begin with mqtt:// or mqtts://", spot.value);
        walk.wrong(spot, message).allowed(ALLOWED);
        return None;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        walk.refuse_secret(&spot.span, &spot.path);
        return None;
    }
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "mqtt" => false,
        "mqtts" => true,
        other => {
            let same = OTHER_SCHEMES.iter().find(|(word, _)| *word == other).map(|(_, scheme)| *scheme);
            let complaint = walk.wrong(spot, format!("{scheme:?} is no way to reach a broker"));
            match same {
                Some(same) => complaint.note(format!("did you mean `{same}://{rest}`?")),
                None => complaint.meant(other, ["mqtt", "mqtts"]),
            };
            complaint.allowed(ALLOWED);
            return None;
        }
    };
    if rest.len() > authority.len() && rest != format!("{authority}/") {
        walk.wrong(spot, format!("a broker has no path, but {:?} was read", &rest[authority.len()..]))
            .note("topics are set with topic-prefix")
            .allowed(ALLOWED);
        return None;
    }
    host_and_port(walk, spot, authority, tls)
}

fn host_and_port(walk: &mut Walk<'_>, spot: &Spot<String>, authority: &str, tls: bool) -> Option<Target> {
    let default = if tls { 8883 } else { 1883 };
    let (host, port) = match authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let ok = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
    if host.is_empty() || !host.chars().all(ok) {
        walk.wrong(spot, format!("{host:?} is no host")).allowed(ALLOWED);
        return None;
    }
    let port = match port {
        None => default,
        Some(text) => match text.parse() {
            Ok(port) if port != 0 => port,
            _ => {
                walk.wrong(spot, format!("{text:?} is no port")).allowed("1 to 65535");
                return None;
            }
        },
    };
    if (port == 8883 && !tls) || (port == 1883 && tls) {
        let (usual, scheme) = if tls { ("plain MQTT", "mqtt") } else { ("TLS", "mqtts") };
        walk.doubt(spot, format!("port {port} is usually for {usual}")).note(format!("did you mean `{scheme}://`?"));
    }
    Some(Target { tls, host: host.to_owned(), port })
}

/// `password-file`.
pub(super) fn secret(walk: &mut Walk<'_>, section: &Section<'_>, base: &Path) -> Option<Secret> {
    let spot = walk.text(section, "password-file")?;
    match spot.value.strip_prefix("credential:") {
        Some(name) if name.is_empty() || name.contains('/') => {
            let message = format!("{name:?} cannot be a credential's name");
            walk.wrong(&spot, message).allowed("credential:NAME, as LoadCredential= of the unit has it");
            None
        }
        Some(name) => Some(Secret::Credential(name.to_owned())),
        None if spot.value.trim().is_empty() => {
            walk.wrong(&spot, "is empty: a path is wanted");
            None
        }
        None => Some(Secret::File(base.join(&spot.value))),
    }
}

/// What only makes sense with TLS, and a password in the clear.
pub(super) fn plain_connection(walk: &mut Walk<'_>, section: &Section<'_>, target: &Target, url: &Spot<String>) {
    if target.tls {
        return;
    }
    for key in ["ca-file", "client-certificate", "client-key", "server-name"] {
        if let Some(spot) = section.value(key)
            && matches!(spot.value, DeValue::String(_))
        {
            walk.wrong(&spot, "means nothing without TLS").note("the url begins with mqtt://; TLS is mqtts://");
        }
    }
    let local = ["localhost", "127.0.0.1", "::1"].contains(&target.host.as_str());
    if section.has("password-file") && !local {
        walk.doubt(url, "the password crosses the network in the clear").note("mqtts:// encrypts it");
    }
}
