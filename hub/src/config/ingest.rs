//! `[ingest]` and `[tcp]`: what comes in otherwise than as gateways' batches.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    num::NonZeroU16,
};

use serde::Deserialize;

use super::Broker;

/// `[ingest]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ingest {
    /// Unit of the speeds that come as `{"device_id","location","speed"}`, over HTTP and TCP, and that `/ws/speed-data/` tells.
    pub speed_unit: SpeedUnit,
    /// Foreign gateways' topics.
    pub feed: Vec<Feed>,
    /// Where they are published, when that is another broker; give it a client id of its own.
    pub broker: Option<Broker>,
}

/// `[[ingest.feed]]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Feed {
    /// The topic; may have the wildcards `+` and `#`.
    pub topic: TopicFilter,
    /// How its messages are written.
    pub shape: FeedShape,
    /// Unit of its speeds.
    #[serde(default)]
    pub speed_unit: SpeedUnit,
    /// The sensor that its values are kept under.
    #[serde(default = "default_sensor")]
    pub sensor: String,
}

/// How the messages of a feed are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeedShape {
    /// `{"data":[{"plateNum","lng","lat","speed"}]}`
    Positions,
    /// `{"device_id","location","speed","timestamp"?}`, or an array of these
    Tracking,
}

/// A unit of speed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum SpeedUnit {
    /// Kilometres an hour, as trackers of vehicles tell it.
    #[default]
    #[serde(rename = "km/h")]
    KmH,
    /// Metres a second.
    #[serde(rename = "m/s")]
    MS,
    /// Miles an hour.
    #[serde(rename = "mph")]
    Mph,
    /// Knots.
    #[serde(rename = "kn")]
    Kn,
}

/// `[tcp]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tcp {
    /// Address and port. Loopback unless told otherwise; anything else wants a key to be sent first.
    #[serde(deserialize_with = "super::listen")]
    pub listen: SocketAddr,
    /// Connections at once.
    pub max_connections: NonZeroU16,
    /// A connection over which no whole message comes for so many seconds is closed.
    pub idle_timeout_s: NonZeroU16,
}

/// A topic with or without wildcards.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TopicFilter(String);

/// What a value of a tracking device is kept under when it does not name its sensor.
pub fn default_sensor() -> String {
    "tracker".into()
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            listen: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9999)),
            max_connections: NonZeroU16::MIN.saturating_add(255),
            idle_timeout_s: NonZeroU16::MIN.saturating_add(59),
        }
    }
}

impl Ingest {
    /// The broker of the feeds: its own, or the gateways' under another client id, since the broker knows sessions by it.
    pub fn broker_of_feeds(&self, gateways: &Broker) -> Broker {
        let beside = || Broker { client_id: format!("{}-feeds", gateways.client_id), ..gateways.clone() };
        self.broker.clone().unwrap_or_else(beside)
    }
}

impl SpeedUnit {
    /// As it is written behind a number.
    pub fn name(self) -> &'static str {
        match self {
            SpeedUnit::KmH => "km/h",
            SpeedUnit::MS => "m/s",
            SpeedUnit::Mph => "mph",
            SpeedUnit::Kn => "kn",
        }
    }
}

impl TopicFilter {
    /// As it is subscribed to.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a message of this topic is meant (MQTT 3.1.1, section 4.7).
    pub fn matches(&self, topic: &str) -> bool {
        let (mut filter, mut levels) = (self.0.split('/'), topic.split('/'));
        loop {
            match (filter.next(), levels.next()) {
                (Some("#"), _) => return true,
                (Some(wanted), Some(level)) if wanted == "+" || wanted == level => {}
                (None, None) => return true,
                _ => return false,
            }
        }
    }
}

impl TryFrom<String> for TopicFilter {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let last = text.split('/').count() - 1;
        let bad = |(at, level): (usize, &str)| match level {
            "+" => false,
            "#" => at != last,
            _ => level.contains(['+', '#']) || level.contains(char::is_control),
        };
        match text.is_empty() || text.len() > 256 || text.split('/').enumerate().any(bad) {
            true => Err(format!(
                "topic {text:?}: wanted levels joined by \"/\", + for any one level, # at the end for all below"
            )),
            false => Ok(Self(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Config, *};

    #[test]
    fn feeds_and_the_tcp_door_are_off_until_they_are_named() {
        let parse = |more: &str| Config::parse(&format!("[broker]\nurl = \"mqtt://b\"\n{more}"), "t");
        let config = parse("").unwrap();
        assert_eq!((config.tcp, config.ingest), (None, Ingest::default()));
        let tcp = parse("[tcp]\n").unwrap().tcp.unwrap();
        assert_eq!((tcp.listen.to_string().as_str(), tcp.max_connections.get()), ("127.0.0.1:9999", 256));
        assert!(parse("[tcp]\nmax-connections = 0\n").unwrap_err().to_string().contains("line 4"));
        let config =
            parse("[[ingest.feed]]\ntopic = \"fleet/+/pos\"\nshape = \"positions\"\nspeed-unit = \"kn\"\n").unwrap();
        let feed = &config.ingest.feed[0];
        assert_eq!((feed.speed_unit, feed.sensor.as_str()), (SpeedUnit::Kn, "tracker"));
        assert_eq!(config.ingest.broker_of_feeds(&config.broker).client_id, "speedwell-hub-feeds");
    }

    #[test]
    fn a_topic_with_wildcards_matches_as_a_broker_does_it() {
        let filter = |text: &str| TopicFilter::try_from(text.to_owned());
        for (text, topic, matches) in [
            ("a/b", "a/b", true),
            ("a/b", "a", false),
            ("a", "a/b", false),
            ("a/+", "a/b", true),
            ("a/+", "a/b/c", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("+/b", "/b", true),
            ("#", "a/b", true),
        ] {
            assert_eq!(filter(text).unwrap().matches(topic), matches, "{text} {topic}");
        }
        for bad in ["", "a/#/b", "a+/b", "a/b#"] {
            assert!(filter(bad).unwrap_err().contains("wanted levels"), "{bad}");
        }
    }
}
