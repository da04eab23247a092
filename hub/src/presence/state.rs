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
/// Changes that wait for the store; then the oldest are let go, and the history is the coarser for it. One of everything
/// there may be has room, as when the broker goes.
pub const MAX_CHANGES: usize = 131_072;
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
    /// Vehicles that the registry has otherwise than before, and the gateways that they carried or carry.
    registered: BTreeMap<String, Vec<GatewayId>>,
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
            registered: BTreeMap::new(),
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
        for Vehicle { id, gateways, version, .. } in all {
            let left = self.left.remove(&id).filter(|stand| stand.state != VehicleState::Removed);
            let restored = left.is_some();
            let known = before.remove(&id);
            let new = known.is_none() && !restored;
            let mut vehicle = known.unwrap_or_else(|| Carrier::new(left, settled, now));
            self.on.extend(gateways.iter().map(|gateway| (gateway.clone(), id.clone())));
            if vehicle.version != Some(version) {
                vehicle.version = Some(version);
                let of = self.registered.entry(id.clone()).or_default();
                of.extend(vehicle.gateways.drain(..).chain(gateways.iter().cloned()));
            }
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
            self.registered.entry(id).or_default().append(&mut vehicle.gateways);
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
        !self.changes.all.is_empty() || !self.registered.is_empty()
    }

    /// All changes since the last call, and how many were let go.
    pub(super) fn take_changes(&mut self) -> (Vec<(PresenceChange, PresenceView)>, u64) {
        (self.changes.all.drain(..).collect(), std::mem::take(&mut self.changes.dropped))
    }

    /// Vehicles that were registered, changed or removed since the last call, and the gateways they carried or carry.
    pub(super) fn take_registered(&mut self) -> BTreeMap<String, Vec<GatewayId>> {
        std::mem::take(&mut self.registered)
    }

    pub(super) fn gateways_of(&self, vehicle: &str) -> Vec<GatewayId> {
        self.vehicles.get(vehicle).map(|vehicle| vehicle.gateways.clone()).unwrap_or_default()
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
mod tests;
