//! The configuration as the options of the rooms.

use std::time::Duration;

use super::{Config, Confirm, Encoding, MqttVersion, Secret, WhenFull};
use crate::{spool, uplink};

impl Config {
    /// How the spool is to be kept. When the disk fails while running, the agent goes on in memory and says so.
    pub fn spool_options(&self) -> spool::Options {
        spool::Options {
            max_size: self.spool.max_size,
            keep_free: self.spool.keep_free,
            commit_every: self.spool.commit_every,
            when_full: match self.spool.when_full {
                WhenFull::DropOldest => spool::WhenFull::DropOldest,
                WhenFull::DropNewest => spool::WhenFull::DropNewest,
                WhenFull::Thin => spool::WhenFull::Thin,
            },
            // A record that still gathers, for a second at most, is in memory too.
            lazy: self.spool.lazy.map(|lazy| lazy.saturating_sub(self.spool.commit_every.min(Duration::from_secs(1)))),
            max_age: self.spool.max_age,
            fallback_to_memory: true,
            ..spool::Options::new(&self.spool.directory)
        }
    }

    /// How the log is to be brought to the hub.
    pub fn uplink_options(&self) -> uplink::Options {
        let broker = &self.broker;
        let password = broker.password.as_ref().map(|secret| match (secret, secret.path()) {
            (_, Some(path)) => uplink::Password::File(path),
            // No credentials directory: the name is told when the file is not found.
            (Secret::File(path), None) => uplink::Password::File(path.clone()),
            (Secret::Credential(name), None) => uplink::Password::File(name.into()),
        });
        let tls = broker.tls.then(|| uplink::Tls {
            ca_file: broker.ca_file.clone(),
            client_certificate: broker.client_certificate.clone(),
            client_key: broker.client_key.clone(),
            server_name: broker.server_name.clone(),
        });
        uplink::Options {
            tls,
            user: broker.user.clone(),
            password,
            confirm: match broker.confirm {
                Confirm::Hub => uplink::Confirmation::Hub,
                Confirm::Broker => uplink::Confirmation::Broker,
            },
            encoding: match broker.encoding {
                Encoding::Postcard => uplink::Encoding::Postcard,
                Encoding::Json => uplink::Encoding::Json,
            },
            version: match broker.mqtt {
                MqttVersion::Three => uplink::Version::Three,
                MqttVersion::Five => uplink::Version::Five,
            },
            topic_prefix: broker.topic_prefix.clone(),
            keep_alive: broker.keep_alive,
            window: usize::try_from(broker.window).unwrap_or(usize::MAX),
            live: broker.live,
            ..uplink::Options::new(self.gateway.id.clone(), broker.host.clone(), broker.port)
        }
    }
}
