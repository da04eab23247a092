//! The configuration as the options of the rooms.

use std::time::Duration;

use super::{Bias, Config, Confirm, Edges, Encoding, HallSensor, J1939Sensor, NmeaSensor, PulseSource};
use super::{Secret, WhenFull};
use crate::{
    board::{self, EdgeSelect, EdgeSource, EdgeWish},
    estimator::WheelOptions,
    sensor::{self, hall},
    spool, uplink,
};

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
            topic_prefix: broker.topic_prefix.clone(),
            keep_alive: broker.keep_alive,
            window: usize::try_from(broker.window).unwrap_or(usize::MAX),
            live: broker.live,
            ..uplink::Options::new(self.gateway.id.clone(), broker.host.clone(), broker.port)
        }
    }
}

impl HallSensor {
    /// How its pulses become speed.
    pub fn options(&self) -> WheelOptions {
        let polled = self.source == PulseSource::Polled;
        let interval = board::polled::POLL_INTERVAL;
        let defaults = WheelOptions::default();
        WheelOptions {
            edges: match self.edges {
                Edges::Rising => hall::Edges::Rising,
                Edges::Falling => hall::Edges::Falling,
                Edges::Both => hall::Edges::Both,
            },
            pulses_per_metre: self.pulses_per_metre,
            pulses_per_turn: self.pulses_per_turn,
            max_speed: self.max_speed,
            report: self.report,
            zero_below: self.zero_below,
            // A look sees an edge up to an interval late, evenly: interval/sqrt(12).
            stamp_floor: if polled { interval.div_f64(12f64.sqrt()) } else { defaults.stamp_floor },
            delivery: if polled { interval * 2 } else { defaults.delivery },
            max_acceleration: self.max_acceleration,
            calibration_uncertainty: self.calibration_uncertainty,
            rotational_speed: self.rotational_speed,
            distance: self.distance,
            // Every request has a second line that stays still, so the request's numbers count this one alone.
            request_audit: true,
        }
    }

    /// What it wants of its pin.
    pub fn wish(&self, name: &str) -> EdgeWish {
        EdgeWish {
            pin: self.pin.clone(),
            audit_pin: self.audit_pin.clone(),
            source: match self.source {
                PulseSource::Edges => EdgeSource::Interrupt,
                PulseSource::Polled => EdgeSource::Polled,
            },
            edges: match self.edges {
                Edges::Rising => EdgeSelect::Rising,
                Edges::Falling => EdgeSelect::Falling,
                Edges::Both => EdgeSelect::Both,
            },
            bias: match self.bias {
                Bias::PullUp => board::Bias::PullUp,
                Bias::PullDown => board::Bias::PullDown,
                Bias::None => board::Bias::None,
                Bias::AsIs => board::Bias::AsIs,
            },
            sensor: name.to_owned(),
            pulses_per_metre: self.pulses_per_metre,
        }
    }
}

impl J1939Sensor {
    /// What to listen to.
    pub fn options(&self) -> sensor::j1939::Options {
        sensor::j1939::Options {
            signal: self.signal,
            source_address: self.source_address,
            report: self.report,
            timeout: self.timeout,
        }
    }
}

impl NmeaSensor {
    /// How to read the receiver.
    pub fn options(&self) -> sensor::nmea::Options {
        sensor::nmea::Options {
            report: self.report,
            timeout: self.timeout,
            latency: self.latency,
            position: self.position,
        }
    }
}
