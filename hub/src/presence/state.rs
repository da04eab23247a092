//! One machine for everything there is.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use speedwell_wire::{GatewayId, Live, Manifest, Quality, Quantity, Status};

use super::{
    Moment, Stand,
    beat::grace,
    link::{Ears, Link, LinkState, Says},
    sensor::{By, Sensor, SensorState},
    vehicle::{Carrier, Speed, Told, VehicleState},
    view::{self, PresenceView},
};
use crate::store::{
    Latest,
    fleet::Vehicle,
    presence::{MAX_REASON, PresenceChange, PresenceKey, PresenceKind, PresenceRow, PresenceSeen},
};

/// Gateways and devices whose presence is known; of one more it is not, though all it sends is stored.
pub const MAX_GATEWAYS: usize = 10_000;
/// Sensors of one.
pub const MAX_SENSORS: usize = 1_000;
/// Sensors of all.
pub const MAX_ALL_SENSORS: usize = 100_000;
/// Changes that wait for the store; then the oldest are let go, and the history is the coarser for it.
pub const MAX_CHANGES: usize = 65_536;
/// A live value is the vehicle's speed for so long: ten beats of live messages.
const LIVE_SPEED: Duration = Duration::from_secs(10);
/// Who did not run for so long has heard nobody meanwhile: the process was stopped, or the machine stood still.
const STALL: Duration = Duration::from_secs(10);

const NO_BROKER: &str = "the hub has no connection to the broker";
const NO_STORE: &str = "the hub cannot store, and takes nothing";

pub(super) struct Gateway {
    pub(super) link: Link,
    pub(super) sensors: BTreeMap<String, Sensor>,
    speeds: BTreeMap<String, Speed>,
    /// It comes through the broker.
    by_broker: bool,
    /// The state that was told last, and its beginning.
    told: Option<(LinkState, i64)>,
    /// When it was last seen, as the store was told.
    noted: Option<i64>,
}

/// Changes on their way, with what those who watch are told.
#[derive(Default)]
pub(super) struct Changes {
    all: VecDeque<(PresenceChange, PresenceView)>,
    /// Let go because the store took none.
    dropped: u64,
}

impl Changes {
    fn add(
        &mut self,
        kind: PresenceKind,
        view: PresenceView,
        since_ns: i64,
        seen_ns: Option<i64>,
        beat: Option<Duration>,
    ) {
        let key = PresenceKey { kind, gateway: view.gateway.clone().unwrap_or_default(), id: view.id.clone() };
        let mut reason = view.reason.clone();
        while reason.len() > MAX_REASON {
            reason.pop();
        }
        let beat_ns = beat.and_then(|beat| i64::try_from(beat.as_nanos()).ok());
        let change = PresenceChange { key, state: view.state.into(), since_ns, reason, seen_ns, beat_ns };
        if self.all.len() >= MAX_CHANGES {
            self.all.pop_front();
            self.dropped += 1;
        }
        self.all.push_back((change, view));
    }
}

pub(super) struct State {
    heartbeat: Duration,
    started: Instant,
    /// Of the hub to its gateways, and to others.
    broker: Ears,
    doors: Ears,
    ticked: Instant,
    pub(super) gateways: BTreeMap<GatewayId, Gateway>,
    /// Of all of them.
    sensors: usize,
    pub(super) vehicles: BTreeMap<String, Carrier>,
    pub(super) on: HashMap<GatewayId, String>,
    /// As an earlier run of the hub left them, until the registry is read.
    left: HashMap<String, Stand<VehicleState>>,
    changes: Changes,
}

impl Gateway {
    fn new(link: Link) -> Self {
        let (sensors, speeds) = (BTreeMap::new(), BTreeMap::new());
        Self { link, sensors, speeds, by_broker: false, told: None, noted: None }
    }

    fn judge(
        &mut self,
        id: &GatewayId,
        vehicle: Option<&String>,
        ears: &Ears,
        heartbeat: Duration,
        now: Moment,
        to: &mut Changes,
    ) {
        self.link.judge(ears, heartbeat, now);
        let stand = self.link.stand();
        if self.told != Some((stand.state, stand.since_ns)) {
            self.told = Some((stand.state, stand.since_ns));
            self.noted = self.link.seen_ns();
            let view = view::gateway(id, &self.link, vehicle);
            to.add(PresenceKind::Gateway, view, stand.since_ns, self.link.seen_ns(), self.link.learned());
        }
        for (name, sensor) in &mut self.sensors {
            if sensor.judge(&self.link, ears, heartbeat, now) {
                let since_ns = sensor.stand().since_ns;
                let view = view::sensor(id, name, sensor);
                to.add(PresenceKind::Sensor, view, since_ns, sensor.seen_ns(), sensor.learned());
            }
        }
    }

    fn speed(&self, now: Instant) -> Option<(&str, &Speed)> {
        let fresh = self.speeds.iter().filter(|(_, speed)| speed.until > now);
        let best = fresh.min_by(|(_, a), (_, b)| {
            let (a, b) = (a.rank(), b.rank());
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        best.map(|(name, speed)| (name.as_str(), speed))
    }

    fn gives(&mut self, sensor: &str, value: Option<(f64, Option<f64>, Quality)>, until: Instant) {
        let Some((value, uncertainty, quality)) = value.filter(|(value, ..)| value.is_finite()) else {
            self.speeds.remove(sensor);
            return;
        };
        let speed = Speed { value, uncertainty: uncertainty.filter(|u| *u > 0.0), quality, until };
        if let Some(known) = self.speeds.get_mut(sensor) {
            *known = speed;
        } else if self.speeds.len() < MAX_SENSORS {
            self.speeds.insert(sensor.to_owned(), speed);
        }
    }
}

impl State {
    pub(super) fn new(heartbeat: Duration, now: Moment) -> Self {
        let ears = |deaf| Ears { since: now.at, deaf, down: None };
        Self {
            heartbeat,
            started: now.at,
            broker: ears(Some(NO_BROKER)),
            doors: ears(None),
            ticked: now.at,
            gateways: BTreeMap::new(),
            sensors: 0,
            vehicles: BTreeMap::new(),
            on: HashMap::new(),
            left: HashMap::new(),
            changes: Changes::default(),
        }
    }

    /// What is known of a gateway, made when there is room.
    fn gateway(&mut self, id: &GatewayId, now: Moment) -> Option<&mut Gateway> {
        if !self.gateways.contains_key(id) {
            if self.gateways.len() >= MAX_GATEWAYS {
                return None;
            }
            self.gateways.insert(id.clone(), Gateway::new(Link::new(now)));
        }
        self.gateways.get_mut(id)
    }

    pub(super) fn live(&mut self, id: &GatewayId, live: &Live, manifest: &Manifest, now: Moment) {
        let Some(gateway) = self.gateway(id, now) else { return };
        gateway.by_broker = true;
        gateway.link.heard(now);
        // A sensor with several channels is well when one of them gives a value.
        let mut said: BTreeMap<&str, Option<speedwell_wire::NoData>> = BTreeMap::new();
        for value in &live.values {
            let Some(channel) = manifest.channel(value.channel) else { continue };
            let trouble = value.value.err();
            said.entry(&channel.sensor).and_modify(|t| *t = t.and(trouble)).or_insert(trouble);
            if channel.quantity == Quantity::Speed {
                let age = Duration::from_nanos(live.now_ns.saturating_sub(value.t_ns));
                let until = now.at + LIVE_SPEED.saturating_sub(age);
                let given = value.value.ok().map(|(v, u, q)| (v, Some(f64::from(u)), q));
                gateway.gives(&channel.sensor, given, until);
            }
        }
        for (name, trouble) in said {
            self.sensor(id, name, By::Values, trouble, "", now);
        }
        self.settle(id, now);
    }

    pub(super) fn status(&mut self, status: &Status, says: Says, retained: bool, now: Moment) {
        let id = &status.gateway;
        let ears = self.broker.clone();
        let Some(gateway) = self.gateway(id, now) else { return };
        gateway.by_broker = true;
        gateway.link.says(says, retained, &ears, now);
        for sensor in status.health.iter().filter(|_| status.online).flat_map(|health| &health.sensors) {
            self.sensor(id, &sensor.name, By::Health, sensor.trouble, &sensor.detail, now);
        }
        self.settle(id, now);
    }

    pub(super) fn stored(&mut self, id: &GatewayId, newest: &[Latest], by_broker: bool, now: Moment) {
        let heartbeat = self.heartbeat;
        let Some(gateway) = self.gateway(id, now) else { return };
        gateway.by_broker |= by_broker;
        gateway.link.heard(now);
        let lasts = gateway.link.grace(heartbeat);
        for Latest { newest, utc_ns, .. } in newest.iter().filter(|latest| latest.newest.quantity == Quantity::Speed) {
            // A backlog tells how fast it was, not how fast it is.
            let age =
                utc_ns.map_or(Duration::MAX, |at| Duration::from_nanos(now.utc_ns.saturating_sub(at).max(0) as u64));
            let until = now.at + lasts.saturating_sub(age);
            let older = gateway.speeds.get(&newest.sensor).is_none_or(|known| known.until < until);
            if older {
                gateway.gives(&newest.sensor, Some((newest.value, newest.uncertainty, newest.quality)), until);
            }
        }
        let names: HashSet<&str> = newest.iter().map(|latest| latest.newest.sensor.as_str()).collect();
        for name in names {
            self.sensor(id, name, By::Values, None, "", now);
        }
        self.settle(id, now);
    }

    fn sensor(
        &mut self,
        id: &GatewayId,
        name: &str,
        by: By,
        trouble: Option<speedwell_wire::NoData>,
        detail: &str,
        now: Moment,
    ) {
        let Some(gateway) = self.gateways.get_mut(id) else { return };
        if let Some(sensor) = gateway.sensors.get_mut(name) {
            return sensor.said(by, trouble, detail, now);
        }
        if self.sensors < MAX_ALL_SENSORS && gateway.sensors.len() < MAX_SENSORS {
            self.sensors += 1;
            let mut sensor = Sensor::new(now);
            sensor.said(by, trouble, detail, now);
            gateway.sensors.insert(name.to_owned(), sensor);
        }
    }

    pub(super) fn hears(&mut self, broker: bool, store: bool, now: Moment) {
        let shut = (!store).then_some(NO_STORE);
        self.broker.set(if broker { shut } else { Some(NO_BROKER) }, now.at);
        self.doors.set(shut, now.at);
    }

    pub(super) fn tick(&mut self, now: Moment) {
        if now.at.saturating_duration_since(self.ticked) > STALL {
            (self.broker.since, self.doors.since) = (now.at, now.at);
        }
        self.ticked = now.at;
        for (id, gateway) in &mut self.gateways {
            let ears = if gateway.by_broker { &self.broker } else { &self.doors };
            gateway.judge(id, self.on.get(id), ears, self.heartbeat, now, &mut self.changes);
        }
        for (id, vehicle) in &mut self.vehicles {
            judge_vehicle(id, vehicle, &self.gateways, now, &mut self.changes);
        }
    }

    /// Judges a gateway and the vehicle it is on.
    fn settle(&mut self, id: &GatewayId, now: Moment) {
        let vehicle = self.on.get(id);
        if let Some(gateway) = self.gateways.get_mut(id) {
            let ears = if gateway.by_broker { &self.broker } else { &self.doors };
            gateway.judge(id, vehicle, ears, self.heartbeat, now, &mut self.changes);
        }
        if let Some((id, vehicle)) = vehicle.and_then(|id| Some((id, self.vehicles.get_mut(id)?))) {
            judge_vehicle(id, vehicle, &self.gateways, now, &mut self.changes);
        }
    }

    /// The registry, whole.
    pub(super) fn vehicles(&mut self, all: Vec<Vehicle>, now: Moment) {
        let settled = self.started + grace(self.heartbeat);
        let mut before = std::mem::take(&mut self.vehicles);
        self.on.clear();
        for Vehicle { id, gateways, .. } in all {
            let left = self.left.remove(&id).filter(|stand| stand.state != VehicleState::Removed);
            let restored = left.is_some();
            let known = before.remove(&id);
            let new = known.is_none() && !restored;
            let mut vehicle = known.unwrap_or_else(|| Carrier::new(left, settled, now));
            self.on.extend(gateways.iter().map(|gateway| (gateway.clone(), id.clone())));
            vehicle.gateways = gateways;
            if !judge_vehicle(&id, &mut vehicle, &self.gateways, now, &mut self.changes) && new {
                tell_vehicle(&id, &vehicle, &self.gateways, &mut self.changes);
            }
            self.vehicles.insert(id, vehicle);
        }
        // What an earlier run knew and this one does not is gone as well.
        let left = std::mem::take(&mut self.left).into_iter().filter(|(_, stand)| stand.state != VehicleState::Removed);
        let gone = left.map(|(id, stand)| (id, Carrier::new(Some(stand), settled, now)));
        for (id, mut vehicle) in before.into_iter().chain(gone) {
            vehicle.stand.turn(VehicleState::Removed, "taken out of the registry", now);
            tell_vehicle(&id, &vehicle, &self.gateways, &mut self.changes);
        }
    }

    pub(super) fn restore(
        &mut self,
        rows: Vec<PresenceRow>,
        down: Option<String>,
        others: Vec<(GatewayId, Option<i64>)>,
        now: Moment,
    ) {
        (self.broker.down, self.doors.down) = (down.clone(), down);
        for PresenceRow { began, .. } in rows {
            let PresenceChange { key, state, since_ns, reason, seen_ns, beat_ns } = began;
            let learned = beat_ns.and_then(|ns| u64::try_from(ns).ok()).map(Duration::from_nanos);
            match key.kind {
                PresenceKind::Gateway => {
                    let Ok(id) = GatewayId::new(key.id) else { continue };
                    let stand = Stand { state: LinkState::of(&state), since_ns, reason };
                    if let Some(gateway) = self.gateway(&id, now) {
                        gateway.told = Some((stand.state, since_ns));
                        gateway.by_broker = stand.state == LinkState::Offline;
                        gateway.link = Link::restored(stand, seen_ns, learned);
                    }
                }
                PresenceKind::Sensor => {
                    let Ok(id) = GatewayId::new(key.gateway) else { continue };
                    let stand = Stand { state: SensorState::of(&state), since_ns, reason };
                    let all = self.sensors;
                    if let Some(gateway) = self.gateway(&id, now).filter(|_| all < MAX_ALL_SENSORS) {
                        gateway.sensors.insert(key.id, Sensor::restored(stand, seen_ns, learned));
                        self.sensors += 1;
                    }
                }
                PresenceKind::Vehicle => {
                    self.left.insert(key.id, Stand { state: VehicleState::of(&state), since_ns, reason });
                }
                PresenceKind::Hub => {}
            }
        }
        for (id, seen_ns) in others {
            let Some(gateway) = self.gateway(&id, now) else { continue };
            // Only what comes through the broker has records in a log.
            gateway.by_broker |= seen_ns.is_some();
            if gateway.link.seen_ns().is_none() {
                gateway.link = Link::restored(gateway.link.stand().clone(), seen_ns, gateway.link.learned());
            }
        }
    }

    pub(super) fn connected_vehicles(&self) -> HashSet<String> {
        let connected = self.vehicles.iter().filter(|(_, vehicle)| vehicle.stand.state.connected());
        connected.map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.changes.all.is_empty()
    }

    /// All changes since the last call, and how many were let go.
    pub(super) fn take_changes(&mut self) -> (Vec<(PresenceChange, PresenceView)>, u64) {
        (self.changes.all.drain(..).collect(), std::mem::take(&mut self.changes.dropped))
    }

    /// Gateways that were seen since the store was told so.
    pub(super) fn take_seen(&mut self) -> Vec<PresenceSeen> {
        let seen = |(id, gateway): (&GatewayId, &mut Gateway)| {
            let seen_ns = gateway.link.seen_ns().filter(|seen| gateway.noted != Some(*seen))?;
            gateway.noted = Some(seen_ns);
            let key = PresenceKey { kind: PresenceKind::Gateway, gateway: String::new(), id: id.to_string() };
            let beat_ns = gateway.link.learned().and_then(|beat| i64::try_from(beat.as_nanos()).ok());
            Some(PresenceSeen { key, seen_ns, beat_ns })
        };
        self.gateways.iter_mut().filter_map(seen).collect()
    }
}

/// When a gateway of a vehicle was last heard, UTC ns.
pub(super) fn seen_of(vehicle: &Carrier, gateways: &BTreeMap<GatewayId, Gateway>) -> Option<i64> {
    vehicle.gateways.iter().filter_map(|id| gateways.get(id)?.link.seen_ns()).max()
}

fn judge_vehicle(
    id: &str,
    vehicle: &mut Carrier,
    gateways: &BTreeMap<GatewayId, Gateway>,
    now: Moment,
    to: &mut Changes,
) -> bool {
    let ids = vehicle.gateways.clone();
    let told: Vec<Told<'_>> = ids
        .iter()
        .filter_map(|id| gateways.get(id).map(|gateway| (id, gateway)))
        .map(|(id, gateway)| Told { id, link: &gateway.link, speed: gateway.speed(now.at) })
        .collect();
    let turned = vehicle.judge(&told, now);
    if turned {
        tell_vehicle(id, vehicle, gateways, to);
    }
    turned
}

fn tell_vehicle(id: &str, vehicle: &Carrier, gateways: &BTreeMap<GatewayId, Gateway>, to: &mut Changes) {
    let seen_ns = seen_of(vehicle, gateways);
    to.add(PresenceKind::Vehicle, view::vehicle(id, vehicle, seen_ns), vehicle.stand.since_ns, seen_ns, None);
}

#[cfg(test)]
mod tests {
    use speedwell_wire::{Channel, LiveValue, NoData};

    use super::{super::Asked, *};

    const HEARTBEAT: Duration = Duration::from_secs(60);

    struct Rig {
        state: State,
        start: Instant,
    }

    impl Rig {
        /// A hub that has its broker.
        fn new() -> Self {
            let start = Instant::now();
            let mut state = State::new(HEARTBEAT, Moment { at: start, utc_ns: 0 });
            state.hears(true, true, Moment { at: start, utc_ns: 0 });
            Self { state, start }
        }

        fn at(&self, s: f64) -> Moment {
            Moment { at: self.start + Duration::from_secs_f64(s), utc_ns: (s * 1e9) as i64 }
        }

        fn says(&mut self, id: &str, says: Says, s: f64) {
            let online = says == Says::Online;
            let status = Status { gateway: name(id), online, version: String::new(), health: None };
            self.state.status(&status, says, false, self.at(s));
        }

        /// Each sensor's speed, or why there is none.
        fn live(&mut self, id: &str, speeds: &[(&str, Result<f64, NoData>)], s: f64) {
            let channels = (0..).zip(speeds).map(|(n, (sensor, _))| Channel {
                id: n,
                sensor: (*sensor).into(),
                quantity: Quantity::Speed,
                resolution_nano: 1,
                tick_ns: 1,
                period_ns: 1,
                calibration: 0,
            });
            let manifest = Manifest { channels: channels.collect() };
            let value = |(n, (_, v)): (u16, &(&str, Result<f64, NoData>))| {
                let value = v.map(|v| (v, if n == 0 { 0.1 } else { 1.0 }, Quality::Good));
                LiveValue { channel: n, t_ns: 0, value }
            };
            let values = (0..).zip(speeds).map(value).collect();
            let live = Live { manifest: manifest.hash(), boot: 1, now_ns: 0, values };
            self.state.live(&name(id), &live, &manifest, self.at(s));
        }

        fn vehicle(&mut self, id: &str, gateways: &[&str], s: f64) {
            let gateways = gateways.iter().map(|id| name(id)).collect();
            let (registration, words) = (id.into(), String::new());
            let new = Vehicle { id: id.into(), registration, name: words, customer: None, gateways, version: 1 };
            self.state.vehicles(vec![new], self.at(s));
        }

        fn told(&mut self, kind: PresenceKind) -> Vec<(String, &'static str)> {
            let all = self.state.take_changes().0.into_iter().filter(|(change, _)| change.key.kind == kind);
            all.map(|(_, view)| (view.id, view.state)).collect()
        }

        fn ticks(&mut self, range: std::ops::Range<u32>) {
            range.for_each(|s| self.state.tick(self.at(s.into())));
        }
    }

    fn name(id: &str) -> GatewayId {
        GatewayId::new(id).unwrap()
    }

    #[test]
    fn a_vehicle_is_connected_while_any_of_its_gateways_is() {
        let mut rig = Rig::new();
        rig.vehicle("v1", &["tractor", "trailer"], 0.0);
        assert_eq!(rig.told(PresenceKind::Vehicle), [("v1".into(), "unknown")]);
        rig.says("tractor", Says::Online, 1.0);
        rig.says("trailer", Says::Online, 2.0);
        rig.says("tractor", Says::Will, 3.0);
        assert_eq!(rig.told(PresenceKind::Vehicle), [("v1".into(), "no-speed")]);
        rig.live("trailer", &[("axle", Ok(0.0))], 4.0);
        rig.says("trailer", Says::Goodbye, 5.0);
        assert_eq!(rig.told(PresenceKind::Vehicle), [("v1".into(), "stopped"), ("v1".into(), "disconnected")]);
        assert!(rig.state.vehicles["v1"].stand.reason.starts_with("trailer is offline: stopped"));
        rig.vehicle("v1", &[], 6.0);
        assert_eq!(rig.state.vehicles["v1"].stand.reason, "it carries no gateway");
    }

    #[test]
    fn a_vehicle_s_speed_is_that_of_the_sensor_that_is_most_certain_of_it_and_an_old_one_is_none() {
        let mut rig = Rig::new();
        rig.vehicle("v1", &["truck"], 0.0);
        rig.live("truck", &[("wheel", Ok(0.0)), ("gnss", Ok(1.5))], 1.0);
        assert_eq!(rig.state.vehicles["v1"].stand.state, VehicleState::Stopped);
        // The wheel fails, and the satellites have it.
        for s in 2..6 {
            rig.live("truck", &[("wheel", Err(NoData::Fault)), ("gnss", Ok(1.5))], s.into());
        }
        assert_eq!(rig.state.vehicles["v1"].stand.state, VehicleState::Moving);
        assert_eq!(rig.state.vehicles["v1"].stand.reason, "by gnss of truck");
        rig.ticks(6..30);
        assert_eq!(rig.state.vehicles["v1"].stand.state, VehicleState::NoSpeed, "what was said at 5 s tells no more");
        assert_eq!(rig.state.gateways[&name("truck")].link.state(), LinkState::Online);
    }

    #[test]
    fn a_hub_that_stood_still_has_heard_nobody_meanwhile_and_blames_nobody() {
        let mut rig = Rig::new();
        rig.says("truck", Says::Online, 0.0);
        rig.ticks(1..20);
        rig.told(PresenceKind::Gateway);
        // The process was stopped for an hour; the time of the next tick comes before what waits is read.
        rig.state.tick(rig.at(3600.0));
        assert_eq!(rig.told(PresenceKind::Gateway), []);
        rig.ticks(3601..3751);
        assert_eq!(rig.told(PresenceKind::Gateway), [("truck".into(), "silent")]);
    }

    #[test]
    fn however_many_come_only_so_many_are_kept_and_pages_give_each_of_them_once() {
        let mut rig = Rig::new();
        let many: Vec<String> = (0..MAX_SENSORS + 9).map(|n| format!("s/{n}")).collect();
        let speeds: Vec<(&str, Result<f64, NoData>)> = many.iter().map(|name| (name.as_str(), Ok(1.0))).collect();
        rig.live("g0", &speeds, 0.0);
        for n in 0..MAX_GATEWAYS + 9 {
            rig.says(&format!("g{n}"), Says::Online, 1.0);
        }
        rig.vehicle("v1", &["g0"], 2.0);
        assert_eq!((rig.state.gateways.len(), rig.state.sensors), (MAX_GATEWAYS, MAX_SENSORS));
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = view::list(&rig.state, &Asked { after, limit: 999, ..Asked::default() });
            assert!(page.len() <= 999);
            all.extend(page.into_iter().map(|one| (one.kind, one.gateway, one.id)));
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(all.len(), MAX_GATEWAYS + MAX_SENSORS + 1);
        let each: HashSet<_> = all.iter().collect();
        assert_eq!(each.len(), all.len());
        let lone = Asked { unassigned: true, limit: usize::MAX - 1, ..Asked::default() };
        assert_eq!(view::list(&rig.state, &lone).0.len(), MAX_GATEWAYS - 1);
    }

    #[test]
    fn changes_that_nobody_takes_are_let_go_from_the_oldest_and_counted() {
        let mut rig = Rig::new();
        for n in 0..MAX_CHANGES + 10 {
            rig.says("truck", if n % 2 == 0 { Says::Online } else { Says::Will }, n as f64);
        }
        let (kept, dropped) = rig.state.take_changes();
        assert_eq!((kept.len(), dropped), (MAX_CHANGES, 10));
        assert_eq!(kept[0].0.since_ns, 10_000_000_000);
    }
}
