//! The newest values and who is connected, for people who watch.
//!
//! In      live messages, status messages, stored values.
//! Out     [`GatewayView`]s: all of them as a snapshot, and each again when something of it changed.
//! Keeps   one value a channel, in memory. At most [`MAX_GATEWAYS`] gateways of [`MAX_CHANNELS`] channels, and
//!         [`MAX_ALL_CHANNELS`] of all together.
//! Imports `store` (its [`Latest`], [`Standing`]), `wire`.
//!
//! A view is whole: who misses some catches up with the next. Time comes in as an argument.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;
use speedwell_wire::{GatewayId, Live, LogId, Manifest, NoData, Quality, Quantity, Status, message::Health};
use tokio::sync::broadcast;
use utoipa::ToSchema;

use crate::store::{Committed, Latest, Standing};

/// Gateways shown; one more is stored all the same, but not shown.
pub const MAX_GATEWAYS: usize = 10_000;
/// Channels shown a gateway.
pub const MAX_CHANNELS: usize = 1_000;
/// Channels shown of all gateways together: a snapshot of them is some 20 MB.
pub const MAX_ALL_CHANNELS: usize = 100_000;
/// Views a slow client may lag behind before it gets a snapshot instead.
pub const FAN_OUT: usize = 256;
/// The beat of status messages.
pub const HEARTBEAT: Duration = Duration::from_secs(60);
/// Two and a half beats: one may be lost and the next be late without a gateway flapping.
pub const SILENT_AFTER: Duration = Duration::from_secs(150);
/// While live messages come, stored values are not shown: they are older.
const LIVE_FRESH: Duration = Duration::from_secs(5);

/// The room. Cheap to share.
#[derive(Clone)]
pub struct Board {
    state: Arc<Mutex<State>>,
    views: broadcast::Sender<Arc<GatewayView>>,
}

#[derive(Default)]
struct State {
    gateways: BTreeMap<GatewayId, Gateway>,
    /// Of all of them together.
    channels: usize,
}

/// Whether a gateway can be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Connection {
    /// It says so, and has been heard within [`SILENT_AFTER`].
    Online,
    /// It said goodbye, or the broker says that its connection broke.
    Offline,
    /// It is connected by what was last said, but nothing has come for longer than [`SILENT_AFTER`].
    Silent,
    /// Only stored records are known of it.
    Unknown,
}

/// How gateways are, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// By [`Connection`], in its order.
    connections: [u64; 4],
    /// Records that they said they have and that are not stored.
    pub behind: u64,
}

impl Totals {
    /// How many are connected how.
    pub fn by_connection(&self) -> [(&'static str, u64); 4] {
        let [online, offline, silent, unknown] = self.connections;
        [("online", online), ("offline", offline), ("silent", silent), ("unknown", unknown)]
    }
}

/// All that is shown of a gateway.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct GatewayView {
    /// Its name.
    #[schema(value_type = String)]
    pub id: GatewayId,
    /// Whether it can be heard.
    pub connection: Connection,
    /// For how long it has been so, ms; absent when it was so before the hub started.
    pub connection_age_ms: Option<u64>,
    /// Since something of it was last heard, ms.
    pub heard_age_ms: Option<u64>,
    /// Version of its agent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// What it says of itself.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What is stored of it.
    #[schema(value_type = Object)]
    pub stored: Standing,
    /// Its channels, by sensor and quantity.
    pub channels: Vec<ChannelView>,
}

/// All that is shown of a channel: a value, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ChannelView {
    /// The sensor's name.
    pub sensor: String,
    /// What is measured.
    #[schema(value_type = String)]
    pub quantity: Quantity,
    /// Its unit.
    pub unit: &'static str,
    /// The value in that unit.
    pub value: Option<f64>,
    /// One standard uncertainty in that unit.
    pub uncertainty: Option<f64>,
    /// How far the value can be trusted.
    #[schema(value_type = Option<String>)]
    pub quality: Option<Quality>,
    /// Why there is no value.
    #[schema(value_type = Option<String>)]
    pub no_data: Option<NoData>,
    /// Since the value was measured, or since when there is none, ms; absent when no clock tells.
    pub age_ms: Option<u64>,
}

#[derive(Default)]
struct Gateway {
    /// What it last said, and when; `None` before it said anything.
    said_online: Option<bool>,
    heard: Option<Instant>,
    live: Option<Instant>,
    shown: Option<(Connection, Option<Instant>)>,
    version: String,
    health: Option<Health>,
    stored: Standing,
    channels: BTreeMap<(String, Quantity), Newest>,
    /// Channels it may still add.
    room: usize,
}

struct Newest {
    /// The log the boot is one of; a live message does not tell.
    log: Option<LogId>,
    boot: u32,
    t_ns: u64,
    value: Result<(f64, Option<f64>, Quality), NoData>,
    /// When it was this old.
    aged: Option<(Instant, Duration)>,
}

impl Default for Board {
    fn default() -> Self {
        Self { state: Arc::default(), views: broadcast::channel(FAN_OUT).0 }
    }
}

impl Board {
    /// A live message.
    pub fn live(&self, id: &GatewayId, live: &Live, manifest: &Manifest, now: Instant) {
        self.change(id, now, |gateway| {
            (gateway.heard, gateway.live) = (Some(now), Some(now));
            let log = gateway.health.as_ref().map(|health| health.log);
            for value in &live.values {
                let Some(channel) = manifest.channel(value.channel) else { continue };
                let age = Duration::from_nanos(live.now_ns.saturating_sub(value.t_ns));
                gateway.keep(
                    (channel.sensor.clone(), channel.quantity),
                    Newest {
                        log,
                        boot: live.boot,
                        t_ns: value.t_ns,
                        value: value.value.and_then(|(v, u, q)| known(v, Some(f64::from(u)), q)),
                        aged: Some((now, age)),
                    },
                );
            }
        });
    }

    /// A status message. A retained one tells how things were, not that something was heard now.
    pub fn status(&self, status: Status, retained: bool, now: Instant) {
        self.change(&status.gateway, now, |gateway| {
            gateway.said_online = Some(status.online);
            // The will carries neither: what was known stays.
            if status.health.is_some() {
                (gateway.version, gateway.health) = (status.version.clone(), status.health.clone());
            }
            // A grace from now on for what was said before this hub listened; the will is said by the broker.
            if status.online || !retained {
                gateway.heard = Some(now);
            }
        });
    }

    /// Values that were stored. Shown only where no live message says more.
    pub fn stored(&self, id: &GatewayId, newest: &[Latest], heard: bool, now: Instant, utc_ns: i64) {
        self.change(id, now, |gateway| {
            if heard {
                gateway.heard = Some(now);
            }
            if gateway.live.is_some_and(|at| now.duration_since(at) < LIVE_FRESH) {
                return;
            }
            for Latest { log, boot, newest, utc_ns: measured, .. } in newest {
                let key = (newest.sensor.clone(), newest.quantity);
                let written = gateway.health.as_ref().map(|health| health.log);
                let newer = |old: &Newest| old.precedes(*log, *boot, newest.t_ns, written);
                if !gateway.channels.get(&key).is_none_or(newer) {
                    continue;
                }
                let age = measured.map(|at| Duration::from_nanos(utc_ns.saturating_sub(at).max(0) as u64));
                gateway.keep(
                    key,
                    Newest {
                        log: Some(*log),
                        boot: *boot,
                        t_ns: newest.t_ns,
                        value: known(newest.value, newest.uncertainty, newest.quality),
                        aged: age.map(|age| (now, age)),
                    },
                );
            }
        });
    }

    /// A batch was committed.
    pub fn committed(&self, committed: &Committed, now: Instant, utc_ns: i64) {
        self.change(&committed.gateway, now, |gateway| gateway.stored.add(committed));
        if !committed.newest.is_empty() {
            self.stored(&committed.gateway, &committed.newest, true, now, utc_ns);
        }
    }

    /// A payload of a gateway was set aside.
    pub fn rejected(&self, id: &GatewayId, now: Instant) {
        self.change(id, now, |gateway| {
            (gateway.heard, gateway.stored.rejected) = (Some(now), gateway.stored.rejected + 1)
        });
    }

    /// What was stored before the hub started.
    pub fn standing(&self, id: &GatewayId, standing: Standing, now: Instant) {
        self.change(id, now, |gateway| gateway.stored = standing);
    }

    /// Looks for gateways that have fallen silent; to be called every few seconds.
    pub fn tick(&self, now: Instant) {
        for (id, gateway) in self.lock().gateways.iter_mut() {
            if gateway.shown.is_none_or(|(shown, _)| shown != gateway.connection(now)) {
                let _ = self.views.send(Arc::new(gateway.view(id, now)));
            }
        }
    }

    /// What changes from now on.
    pub fn changes(&self) -> broadcast::Receiver<Arc<GatewayView>> {
        self.views.subscribe()
    }

    /// All gateways.
    pub fn snapshot(&self, now: Instant) -> Vec<GatewayView> {
        self.lock().gateways.iter_mut().map(|(id, gateway)| gateway.view(id, now)).collect()
    }

    /// How gateways are, in numbers.
    pub fn totals(&self, now: Instant) -> Totals {
        let mut totals = Totals::default();
        for gateway in self.lock().gateways.values() {
            totals.connections[gateway.connection(now) as usize] += 1;
            let Some(health) = &gateway.health else { continue };
            // What it says of confirmations may be a minute old; of another log nothing else is known.
            let own = gateway.stored.log == Some(health.log);
            let thru = if own { gateway.stored.thru } else { health.confirmed_seq };
            totals.behind = totals.behind.saturating_add(health.last_seq.saturating_sub(thru));
        }
        totals
    }

    fn change(&self, id: &GatewayId, now: Instant, with: impl FnOnce(&mut Gateway)) {
        let mut state = self.lock();
        let State { gateways, channels } = &mut *state;
        if gateways.len() >= MAX_GATEWAYS && !gateways.contains_key(id) {
            return;
        }
        let gateway = gateways.entry(id.clone()).or_default();
        let before = gateway.channels.len();
        gateway.room = (MAX_ALL_CHANNELS - *channels).min(MAX_CHANNELS - before);
        with(gateway);
        *channels += gateway.channels.len() - before;
        gateway.settle(now);
        // Nobody watching is no error, and then a view is not worth making.
        if self.views.receiver_count() > 0 {
            let _ = self.views.send(Arc::new(gateway.view(id, now)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst one value old; the next message mends it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number that is none is no value.
fn known(value: f64, u: Option<f64>, quality: Quality) -> Result<(f64, Option<f64>, Quality), NoData> {
    match value.is_finite() {
        true => Ok((value, u.filter(|u| u.is_finite() && *u > 0.0), quality)),
        false => Err(NoData::OutOfRange),
    }
}

impl Gateway {
    fn keep(&mut self, key: (String, Quantity), newest: Newest) {
        if let Some(old) = self.channels.get_mut(&key) {
            *old = newest;
        } else if self.room > 0 {
            self.room -= 1;
            self.channels.insert(key, newest);
        }
    }

    fn connection(&self, now: Instant) -> Connection {
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

    /// Notes how it is connected, and since when. Gives both.
    fn settle(&mut self, now: Instant) -> (Connection, Option<Instant>) {
        let connection = self.connection(now);
        let since = match self.shown {
            Some((shown, since)) if shown == connection => since,
            // The first thing known of it was so before.
            None => None,
            Some(_) => Some(now),
        };
        *self.shown.insert((connection, since))
    }

    fn view(&mut self, id: &GatewayId, now: Instant) -> GatewayView {
        let (connection, since) = self.settle(now);
        let ms = |at: Instant| now.duration_since(at).as_millis() as u64;
        GatewayView {
            id: id.clone(),
            connection,
            connection_age_ms: since.map(ms),
            heard_age_ms: self.heard.map(ms),
            version: self.version.clone(),
            health: self.health.clone(),
            stored: self.stored,
            channels: self.channels.iter().map(|((s, q), newest)| newest.view(s, *q, now)).collect(),
        }
    }
}

impl Newest {
    /// Whether it is older than a stored value; `written` is the log that the gateway says it writes now. Boots can only
    /// be compared within a log, since a new card counts them anew.
    fn precedes(&self, log: LogId, boot: u32, t_ns: u64, written: Option<LogId>) -> bool {
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
        let age_ms = self.aged.map(|(at, age)| (now.duration_since(at) + age).as_millis() as u64);
        let (sensor, unit) = (sensor.to_owned(), quantity.unit());
        ChannelView { sensor, quantity, unit, value, uncertainty, quality, no_data, age_ms }
    }
}

#[cfg(test)]
mod tests {
    use speedwell_wire::{Channel, LiveValue};

    use super::*;

    fn id() -> GatewayId {
        GatewayId::new("truck-7").unwrap()
    }

    fn manifest() -> Manifest {
        let channel = |id, sensor: &str| Channel {
            id,
            sensor: sensor.into(),
            quantity: Quantity::Speed,
            resolution_nano: 1_000_000,
            tick_ns: 100_000,
            period_ns: 100_000_000,
            calibration: 0,
        };
        Manifest { channels: vec![channel(1, "front"), channel(2, "rear")] }
    }

    type Said = (u16, u64, Result<(f64, f32, Quality), NoData>);

    fn live(now_ns: u64, values: &[Said]) -> Live {
        let values = values.iter().map(|&(channel, t_ns, value)| LiveValue { channel, t_ns, value }).collect();
        Live { manifest: manifest().hash(), boot: 3, now_ns, values }
    }

    fn status(online: bool) -> Status {
        Status { gateway: id(), online, version: "1".into(), health: None }
    }

    #[test]
    fn zero_is_shown_as_zero_and_silence_as_its_reason() {
        let (board, now) = (Board::default(), Instant::now());
        let values = [(1, 900, Ok((0.0, 0.0, Quality::Stopped))), (2, 400, Err(NoData::Silent))];
        board.live(&id(), &live(1_000_000_900, &values), &manifest(), now);
        let view = board.snapshot(now + Duration::from_secs(2)).remove(0);
        let [front, rear] = &view.channels[..] else { panic!("two channels") };
        assert_eq!((front.value, front.quality, front.no_data), (Some(0.0), Some(Quality::Stopped), None));
        assert_eq!((rear.value, rear.no_data), (None, Some(NoData::Silent)));
        assert_eq!(front.age_ms, Some(3000));
    }

    #[test]
    fn a_gateway_goes_silent_after_two_and_a_half_beats_and_not_before() {
        let (board, now) = (Board::default(), Instant::now());
        board.status(status(true), false, now);
        let mut changes = board.changes();
        board.tick(now + SILENT_AFTER - Duration::from_millis(1));
        assert!(changes.try_recv().is_err());
        board.tick(now + SILENT_AFTER);
        assert_eq!(changes.try_recv().unwrap().connection, Connection::Silent);
        board.tick(now + SILENT_AFTER * 2);
        assert!(changes.try_recv().is_err(), "told once");
        board.status(status(true), false, now + SILENT_AFTER * 3);
        assert_eq!(changes.try_recv().unwrap().connection, Connection::Online);
    }

    #[test]
    fn the_last_will_turns_a_gateway_offline_at_once_and_keeps_its_values() {
        let (board, now) = (Board::default(), Instant::now());
        board.live(&id(), &live(9, &[(1, 9, Ok((5.0, 0.1, Quality::Good)))]), &manifest(), now);
        board.status(status(false), false, now);
        let view = board.snapshot(now).remove(0);
        assert_eq!((view.connection, view.channels[0].value), (Connection::Offline, Some(5.0)));
    }

    #[test]
    fn a_stored_value_never_replaces_a_newer_live_one() {
        let (board, now) = (Board::default(), Instant::now());
        board.live(&id(), &live(9_000, &[(1, 9_000, Ok((5.0, 0.1, Quality::Good)))]), &manifest(), now);
        let stored = |boot, t_ns, value| {
            let newest = crate::store::Newest {
                sensor: "front".into(),
                quantity: Quantity::Speed,
                t_ns,
                value,
                uncertainty: None,
                quality: Quality::Good,
            };
            Latest { gateway: id(), log: LogId(1), boot, newest, utc_ns: Some(0) }
        };
        let shown = |after| board.snapshot(now + after).remove(0).channels[0].value;
        board.stored(&id(), &[stored(3, 20_000, 1.0)], true, now, 0);
        assert_eq!(shown(Duration::ZERO), Some(5.0), "live messages come: they are the newest");
        let later = Duration::from_secs(60);
        board.stored(&id(), &[stored(3, 8_000, 2.0)], true, now + later, 0);
        assert_eq!(shown(later), Some(5.0), "older than what is shown");
        board.stored(&id(), &[stored(3, 20_000, 3.0)], true, now + later, 0);
        assert_eq!(shown(later), Some(3.0), "live is off, this is newer");
    }

    #[test]
    fn a_new_card_that_counts_its_boots_anew_is_not_taken_for_older() {
        let (board, now) = (Board::default(), Instant::now());
        let stored = |log, boot, value| {
            let (sensor, quantity) = ("front".into(), Quantity::Speed);
            let newest =
                crate::store::Newest { sensor, quantity, t_ns: 9, value, uncertainty: None, quality: Quality::Good };
            board.stored(&id(), &[Latest { gateway: id(), log: LogId(log), boot, newest, utc_ns: None }], true, now, 0);
            board.snapshot(now).remove(0).channels[0].value
        };
        assert_eq!(stored(1, 40, 1.0), Some(1.0));
        assert_eq!(stored(2, 1, 2.0), Some(2.0));
        let health = Health {
            uptime_s: 1,
            boot: 1,
            log: LogId(2),
            last_seq: 1,
            confirmed_seq: 0,
            spool_bytes: 0,
            lost_samples: 0,
            clock: speedwell_wire::ClockSource::Ntp,
            rss_bytes: 0,
            sensors: Vec::new(),
        };
        board.status(Status { health: Some(health), ..status(true) }, false, now);
        assert_eq!(stored(1, 41, 3.0), Some(2.0), "the backlog of the old card is not the newest");
    }

    #[test]
    fn more_channels_than_are_allowed_are_not_shown_and_those_known_still_change() {
        let (board, now) = (Board::default(), Instant::now());
        let channel = |id: u16| Channel { id, sensor: format!("s{id}"), ..manifest().channels[0].clone() };
        let many = Manifest { channels: (0..MAX_CHANNELS as u16 + 5).map(channel).collect() };
        let all =
            |value| -> Vec<Said> { many.channels.iter().map(|c| (c.id, 9, Ok((value, 0.1, Quality::Good)))).collect() };
        for value in [1.0, 2.0] {
            board.live(&id(), &live(9, &all(value)), &many, now);
        }
        for n in 0..MAX_ALL_CHANNELS / MAX_CHANNELS + 2 {
            let id = GatewayId::new(format!("g{n}")).unwrap();
            board.live(&id, &live(9, &all(2.0)), &many, now);
        }
        let snapshot = board.snapshot(now);
        assert_eq!(snapshot.iter().map(|g| g.channels.len()).sum::<usize>(), MAX_ALL_CHANNELS);
        assert!(snapshot.iter().all(|g| g.channels.len() <= MAX_CHANNELS));
        assert!(snapshot.iter().flat_map(|g| &g.channels).all(|c| c.value == Some(2.0)));
    }

    #[test]
    fn a_number_that_is_none_is_no_value() {
        let (board, now) = (Board::default(), Instant::now());
        board.live(&id(), &live(9, &[(1, 9, Ok((f64::NAN, 0.1, Quality::Good)))]), &manifest(), now);
        let channel = board.snapshot(now).remove(0).channels.remove(0);
        assert_eq!((channel.value, channel.no_data), (None, Some(NoData::OutOfRange)));
    }
}
