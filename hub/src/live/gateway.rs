//! All that is known of one gateway now.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use speedwell_wire::{GatewayId, LogId, NoData, Quality, Quantity, message::Health};

use super::{ChannelView, Channels, Connection, GatewayView, SILENT_AFTER};
use crate::store::Standing;

#[derive(Default)]
pub(super) struct Gateway {
    /// What it last said, and when; `None` before it said anything.
    pub(super) said_online: Option<bool>,
    pub(super) heard: Option<Instant>,
    pub(super) live: Option<Instant>,
    shown: Option<(Connection, Option<Instant>)>,
    pub(super) version: String,
    pub(super) health: Option<Health>,
    pub(super) stored: Standing,
    /// Why its last batch was refused, until one is taken.
    pub(super) refused: Option<String>,
    pub(super) channels: BTreeMap<(String, Quantity), Newest>,
    /// Channels it may still add.
    pub(super) room: usize,
}

pub(super) struct Newest {
    /// The log the boot is one of; a live message does not tell.
    pub(super) log: Option<LogId>,
    pub(super) boot: u32,
    pub(super) t_ns: u64,
    pub(super) value: Result<(f64, Option<f64>, Quality), NoData>,
    /// When the hub got it.
    pub(super) came: Instant,
    /// How old it was then, when a clock tells.
    pub(super) age: Option<Duration>,
    /// When it was measured, when it came with a time.
    pub(super) utc_ns: Option<i64>,
}

/// A number that is none is no value.
pub(super) fn known(value: f64, u: Option<f64>, quality: Quality) -> Result<(f64, Option<f64>, Quality), NoData> {
    match value.is_finite() {
        true => Ok((value, u.filter(|u| u.is_finite() && *u > 0.0), quality)),
        false => Err(NoData::OutOfRange),
    }
}

impl Gateway {
    pub(super) fn keep(&mut self, key: (String, Quantity), newest: Newest) {
        if let Some(old) = self.channels.get_mut(&key) {
            *old = newest;
        } else if self.room > 0 {
            self.room -= 1;
            self.channels.insert(key, newest);
        }
    }

    pub(super) fn connection(&self, now: Instant) -> Connection {
        let fresh = self.heard.is_some_and(|at| now.duration_since(at) < SILENT_AFTER);
        match self.said_online {
            Some(false) => Connection::Offline,
            Some(true) if fresh => Connection::Online,
            // Live or stored messages without a status: a foreign gateway, or one whose status is on its way.
            None if fresh => Connection::Online,
            Some(true) => Connection::Silent,
            None if self.heard.is_some() => Connection::Silent,
            None => Connection::Unknown,
        }
    }

    /// Notes how it is connected, and since when. True when that is news.
    pub(super) fn settle(&mut self, now: Instant) -> bool {
        let connection = self.connection(now);
        let since = match self.shown {
            Some((shown, _)) if shown == connection => return false,
            // The first thing known of it was so before.
            None => None,
            Some(_) => Some(now),
        };
        self.shown = Some((connection, since));
        true
    }

    /// As it was last settled, so that all who ask are told the same; with the channels that are wanted.
    pub(super) fn view(&self, id: &GatewayId, wanted: &Channels, now: Instant) -> GatewayView {
        let (connection, since) = self.shown.unwrap_or((Connection::Unknown, None));
        let ms = |at: Instant| now.duration_since(at).as_millis() as u64;
        let channels = self.channels.iter().filter(|((sensor, quantity), _)| wanted.has(sensor, *quantity));
        GatewayView {
            id: id.clone(),
            connection,
            connection_age_ms: since.map(ms),
            heard_age_ms: self.heard.map(ms),
            version: self.version.clone(),
            health: self.health.clone(),
            stored: self.stored,
            refused: self.refused.clone(),
            channels: channels.map(|((s, q), newest)| newest.view(s, *q, now)).collect(),
        }
    }
}

impl Newest {
    /// Whether it is older than a stored value; `written` is the log that the gateway says it writes now. Boots can only
    /// be compared within a log, since a new card counts them anew.
    pub(super) fn precedes(&self, log: LogId, boot: u32, t_ns: u64, written: Option<LogId>) -> bool {
        match self.log {
            Some(own) if own != log && written == Some(own) => false,
            // The store has told that it is the newest it has.
            Some(own) if own != log => true,
            _ => (self.boot, self.t_ns) < (boot, t_ns),
        }
    }

    fn view(&self, sensor: &str, quantity: Quantity, now: Instant) -> ChannelView {
        let (value, uncertainty, quality, no_data) = match self.value {
            Ok((value, uncertainty, quality)) => (Some(value), uncertainty, Some(quality), None),
            Err(reason) => (None, None, None, Some(reason)),
        };
        let age_ms = self.age.map(|age| (now.duration_since(self.came) + age).as_millis() as u64);
        let (sensor, unit) = (sensor.to_owned(), quantity.unit());
        ChannelView { sensor, quantity, unit, value, uncertainty, quality, no_data, age_ms }
    }
}
