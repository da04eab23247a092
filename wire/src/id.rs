//! Names: of a gateway, of its log, of a channel list.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A record's place in its gateway's log. The first record of a log has sequence number 1.
pub type Seq = u64;

/// A gateway's name: 1 to 64 of `a-z A-Z 0-9 . _ -`, so that it can stand in a topic and in a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayId(String);

/// A log's random name, made when the spool is created: a new SD card is a new log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u64);

/// The first 8 bytes of the SHA-256 of a manifest's postcard bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManifestHash(pub [u8; 8]);

/// A name that breaks the rule of [`GatewayId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gateway id {0:?}: allowed are 1 to 64 of a-z A-Z 0-9 . _ -")]
pub struct BadGatewayId(pub String);

impl GatewayId {
    /// Longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// Takes a name that keeps the rule.
    pub fn new(name: impl Into<String>) -> Result<Self, BadGatewayId> {
        let name = name.into();
        let ok = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if (1..=Self::MAX_LEN).contains(&name.len()) && name.bytes().all(ok) {
            Ok(Self(name))
        } else {
            Err(BadGatewayId(name))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

impl fmt::Display for ManifestHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ManifestHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManifestHash({self})")
    }
}

impl core::str::FromStr for LogId {
    type Err = core::num::ParseIntError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(s, 16).map(Self)
    }
}

impl core::str::FromStr for ManifestHash {
    type Err = core::num::ParseIntError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(s, 16).map(|n| Self(n.to_be_bytes()))
    }
}

impl Serialize for GatewayId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

impl<'de> Deserialize<'de> for GatewayId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(d)?).map_err(D::Error::custom)
    }
}

/// Ids of 8 bytes: raw in postcard (a random number is longer as a varint), 16 hex digits where people read.
macro_rules! eight_bytes {
    ($name:ident, $to:expr, $from:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { $to(self).serialize(s) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    String::deserialize(d)?.parse().map_err(D::Error::custom)
                } else {
                    <[u8; 8]>::deserialize(d).map($from)
                }
            }
        }
    };
}
eight_bytes!(LogId, |id: &LogId| id.0.to_be_bytes(), |b| LogId(u64::from_be_bytes(b)));
eight_bytes!(ManifestHash, |hash: &ManifestHash| hash.0, ManifestHash);
