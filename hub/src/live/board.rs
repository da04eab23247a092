//! What changes, and the number of each change.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::body::Bytes;
use serde::Serialize;
use speedwell_wire::{GatewayId, Live, LogId, Manifest, Quantity, Status};
use tokio::sync::watch;

use super::{
    Channels, Filter, GatewayView, Limits, MAX_ALL_CHANNELS, MAX_CHANNELS, MAX_GATEWAYS, MAX_TOLD_BYTES, Since, Totals,
    Watch,
    feed::{Journal, Slot},
    gateway::{Gateway, Newest, known},
};
use crate::store::{Committed, Latest};

/// While live messages come, stored values are not shown: they are older.
const LIVE_FRESH: Duration = Duration::from_secs(5);

/// The room. Cheap to share.
#[derive(Clone)]
pub struct Board {
    state: Arc<Mutex<State>>,
    /// Wakes who watches; what there is to tell they ask for themselves.
    news: watch::Sender<()>,
    epoch: u64,
}

pub(super) struct State {
    pub(super) names: BTreeMap<GatewayId, u32>,
    /// By the numbers that `names` has. None ever goes.
    pub(super) slots: Vec<Slot>,
    /// Of all of them together.
    channels: usize,
    pub(super) journal: Journal,
}

/// The newest speed of a sensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Speed {
    /// Whose.
    pub gateway: GatewayId,
    /// The sensor.
    pub sensor: String,
    /// m/s
    pub m_s: f64,
    /// How old it is; since it came, when no clock tells.
    pub age: Duration,
    /// When it was measured, when it came with a time.
    pub utc_ns: Option<i64>,
    /// Another one has another of these.
    pub stamp: (Option<LogId>, u32, u64),
}

impl Default for Board {
    fn default() -> Self {
        Self::keeping(Limits::default())
    }
}

impl Board {
    /// A board with another memory of what changed.
    pub fn keeping(limits: Limits) -> Self {
        let (names, slots) = (BTreeMap::new(), Vec::new());
        let state = State { names, slots, channels: 0, journal: Journal::new(limits) };
        Self { state: Arc::new(Mutex::new(state)), news: watch::Sender::new(()), epoch: fastrand::u64(..) }
    }

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
                        came: now,
                        age: Some(age),
                        utc_ns: None,
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
        self.change(id, now, |gateway| take_stored(gateway, newest, heard, now, utc_ns));
    }

    /// So many readings that came one by one were committed; these are the newest of them.
    pub fn readings(&self, id: &GatewayId, stored: u32, newest: &[Latest], now: Instant, utc_ns: i64) {
        self.change(id, now, |gateway| {
            gateway.stored.readings = gateway.stored.readings.saturating_add(stored.into());
            take_stored(gateway, newest, true, now, utc_ns);
        });
    }

    /// A batch was committed.
    pub fn committed(&self, committed: &Committed, now: Instant, utc_ns: i64) {
        self.change(&committed.gateway, now, |gateway| {
            gateway.stored.add(committed);
            // What is sent again behind a refused batch is dropped, and no sign that the log goes on.
            if committed.stored > 0 {
                gateway.refused = None;
            }
            if !committed.newest.is_empty() {
                take_stored(gateway, &committed.newest, true, now, utc_ns);
            }
        });
    }

    /// A payload of a gateway was set aside.
    pub fn rejected(&self, id: &GatewayId, now: Instant) {
        self.change(id, now, |gateway| {
            (gateway.heard, gateway.stored.rejected) = (Some(now), gateway.stored.rejected + 1)
        });
    }

    /// The database refused a batch of a gateway.
    pub fn refused(&self, id: &GatewayId, why: &str, now: Instant) {
        self.change(id, now, |gateway| (gateway.heard, gateway.refused) = (Some(now), Some(why.to_owned())));
    }

    /// What was stored before the hub started.
    pub fn standing(&self, id: &GatewayId, standing: crate::store::Standing, now: Instant) {
        self.change(id, now, |gateway| gateway.stored = standing);
    }

    /// Looks for gateways that have fallen silent; to be called every few seconds.
    pub fn tick(&self, now: Instant) {
        let mut state = self.lock();
        let State { slots, journal, .. } = &mut *state;
        for (at, slot) in (0..).zip(slots) {
            slot.forget_old_texts(now);
            if slot.gateway.settle(now) {
                slot.changed(journal.change(at));
            }
        }
        drop(state);
        self.news.send_replace(());
    }

    /// Has those who watch told something that is no gateway's view: `{"n":…,"type":kind,…}` with the fields of `body`,
    /// which must become a JSON object without `n` and `type` of [`MAX_TOLD_BYTES`] at most. Who watches some gateways
    /// only is told what is `of` any of these. Like any change it has a number and is told to who comes again; unlike a
    /// view it is not overtaken by the next.
    pub fn tell(&self, kind: &'static str, of: &[GatewayId], body: &impl Serialize) {
        let fields = match serde_json::to_string(body) {
            Ok(text) if text.len() > MAX_TOLD_BYTES => {
                return tracing::error!(kind, bytes = text.len(), "a message to watchers is too long and is not told");
            }
            Ok(text) if text.starts_with('{') => text,
            _ => return tracing::error!(kind, "a message to watchers is no JSON object and is not told"),
        };
        let comma = if fields == "{}" { "" } else { "," };
        self.lock().journal.tell(of.into(), |n| {
            Bytes::from(format!("{{\"n\":{n},\"type\":\"{kind}\"{comma}{}", fields.get(1..).unwrap_or("}")))
        });
        self.news.send_replace(());
    }

    /// What changes, of what the filter lets through: all of it, or what came after `since` when that is still known.
    pub fn watch(&self, filter: Filter, since: Option<Since>) -> Watch {
        Watch::new(self.clone(), self.news.subscribe(), filter, since)
    }

    /// Of the numbers of this board: a hub that was started again counts anew.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// All gateways.
    pub fn snapshot(&self, now: Instant) -> Vec<GatewayView> {
        let (state, all) = (self.lock(), Channels::default());
        let slots = state.names.values().filter_map(|&at| state.slots.get(at as usize));
        slots.map(|slot| slot.gateway.view(&slot.id, &all, now)).collect()
    }

    /// How gateways are, in numbers.
    pub fn totals(&self, now: Instant) -> Totals {
        let mut totals = Totals::default();
        for Slot { gateway, .. } in &self.lock().slots {
            totals.connections[gateway.connection(now) as usize] += 1;
            let Some(health) = &gateway.health else { continue };
            // What it says of confirmations may be a minute old; of another log nothing else is known.
            let own = gateway.stored.log == Some(health.log);
            let thru = if own { gateway.stored.thru } else { health.confirmed_seq };
            totals.behind = totals.behind.saturating_add(health.last_seq.saturating_sub(thru));
        }
        totals
    }

    /// The newest speeds of a gateway, by sensor; of all of them when none is named.
    pub fn speeds(&self, of: Option<&GatewayId>, now: Instant) -> Vec<Speed> {
        let state = self.lock();
        let slots = state.slots.iter().filter(|slot| of.is_none_or(|id| *id == slot.id));
        let speeds = slots.flat_map(|slot| {
            slot.gateway.channels.iter().filter_map(|((sensor, quantity), newest)| {
                let (m_s, _, _) = newest.value.as_ref().ok().filter(|_| *quantity == Quantity::Speed)?;
                Some(Speed {
                    gateway: slot.id.clone(),
                    sensor: sensor.clone(),
                    m_s: *m_s,
                    age: now.duration_since(newest.came) + newest.age.unwrap_or_default(),
                    utc_ns: newest.utc_ns,
                    stamp: (newest.log, newest.boot, newest.t_ns),
                })
            })
        });
        speeds.collect()
    }

    fn change(&self, id: &GatewayId, now: Instant, with: impl FnOnce(&mut Gateway)) {
        let mut state = self.lock();
        let State { names, slots, channels, journal } = &mut *state;
        let at = match names.get(id) {
            Some(&at) => at,
            None if slots.len() >= MAX_GATEWAYS => return,
            None => {
                let at = slots.len() as u32;
                names.insert(id.clone(), at);
                slots.push(Slot::new(id.clone()));
                at
            }
        };
        let Some(slot) = slots.get_mut(at as usize) else { return };
        let before = slot.gateway.channels.len();
        slot.gateway.room = (MAX_ALL_CHANNELS - *channels).min(MAX_CHANNELS - before);
        with(&mut slot.gateway);
        *channels += slot.gateway.channels.len() - before;
        slot.gateway.settle(now);
        slot.changed(journal.change(at));
        drop(state);
        // Nobody watching is no error.
        self.news.send_replace(());
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst one value old; the next message mends it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_stored(gateway: &mut Gateway, newest: &[Latest], heard: bool, now: Instant, utc_ns: i64) {
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
                came: now,
                age,
                utc_ns: *measured,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use speedwell_wire::{Channel, LiveValue, NoData, Quality, Quantity, message::Health};

    use super::{
        super::{Connection, Look, SILENT_AFTER},
        *,
    };

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
        let mut watch = board.watch(Filter::default(), Some(Since { epoch: board.epoch(), n: 1 }));
        let mut told = |at| {
            let Look::All(said) = watch.look(at) else { panic!("all of it") };
            let text = |said: &super::super::Said| String::from_utf8(said.text.to_vec()).unwrap();
            said.iter().map(text).filter(|text| text.contains("\"gateway\":{")).collect::<Vec<_>>().join("")
        };
        let tick = |at| {
            board.tick(at);
            at
        };
        assert_eq!(told(tick(now + SILENT_AFTER - Duration::from_millis(1))), "");
        assert_eq!(
            board.snapshot(now + SILENT_AFTER)[0].connection,
            Connection::Online,
            "nobody is told before the others"
        );
        assert!(told(tick(now + SILENT_AFTER)).contains("\"connection\":\"silent\""));
        assert_eq!(told(tick(now + SILENT_AFTER * 2)), "", "told once");
        board.status(status(true), false, now + SILENT_AFTER * 3);
        assert!(told(now + SILENT_AFTER * 3).contains("\"connection\":\"online\""));
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
