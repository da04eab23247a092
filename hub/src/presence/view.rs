//! What is told of a state.

use std::ops::Bound;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use speedwell_wire::GatewayId;
use utoipa::ToSchema;

use super::{
    link::{Link, LinkState},
    sensor::{Sensor, SensorState},
    state::{State, seen_of},
    vehicle::{Carrier, VehicleState},
};
use crate::store::presence::PresenceKind;

/// How a gateway, a sensor or a vehicle is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PresenceView {
    /// Of what.
    pub kind: PresenceKind,
    /// Its id, or the sensor's name.
    pub id: String,
    /// The gateway of a sensor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// The vehicle that a gateway is on; `null` when it is on none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub vehicle: Option<Option<String>>,
    /// Gateways: `online`, `offline`, `silent`, `unknown`. Sensors: `ok`, `no-value`, `silent`, `fault`, `stale`. Vehicles:
    /// `moving`, `stopped`, `no-speed`, `disconnected`, `unknown`; `removed` when it leaves the registry.
    pub state: &'static str,
    /// Since when, RFC 3339.
    pub since: String,
    /// When something was last heard, RFC 3339.
    pub last_seen: Option<String>,
    /// Why, in words; may be empty when all is well.
    pub reason: String,
}

/// A state of whatever has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StateWord {
    /// Of a gateway.
    Online,
    /// Of a gateway.
    Offline,
    /// Of a gateway or a sensor.
    Silent,
    /// Of a gateway or a vehicle.
    Unknown,
    /// Of a sensor.
    Ok,
    /// Of a sensor.
    NoValue,
    /// Of a sensor.
    Fault,
    /// Of a sensor.
    Stale,
    /// Of a vehicle.
    Moving,
    /// Of a vehicle.
    Stopped,
    /// Of a vehicle.
    NoSpeed,
    /// Of a vehicle.
    Disconnected,
}

impl StateWord {
    fn word(self) -> &'static str {
        match self {
            StateWord::Online => LinkState::Online.word(),
            StateWord::Offline => LinkState::Offline.word(),
            StateWord::Silent => LinkState::Silent.word(),
            StateWord::Unknown => LinkState::Unknown.word(),
            StateWord::Ok => SensorState::Ok.word(),
            StateWord::NoValue => SensorState::NoValue.word(),
            StateWord::Fault => SensorState::Fault.word(),
            StateWord::Stale => SensorState::Stale.word(),
            StateWord::Moving => VehicleState::Moving.word(),
            StateWord::Stopped => VehicleState::Stopped.word(),
            StateWord::NoSpeed => VehicleState::NoSpeed.word(),
            StateWord::Disconnected => VehicleState::Disconnected.word(),
        }
    }
}

/// Those of a kind, after one, at most so many.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// All kinds without it.
    pub kind: Option<PresenceKind>,
    /// Only this gateway, its sensors, and the vehicle it is on.
    pub gateway: Option<GatewayId>,
    /// Only what is in this state.
    pub state: Option<StateWord>,
    /// Only gateways that are on no vehicle.
    pub unassigned: bool,
    /// What an earlier answer gave as the place to go on.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// A time as it is told, to the millisecond.
pub fn time(utc_ns: i64) -> String {
    Timestamp::from_millisecond(utc_ns.div_euclid(1_000_000)).map(|t| t.to_string()).unwrap_or_default()
}

pub(super) fn gateway(id: &GatewayId, link: &Link, vehicle: Option<&String>) -> PresenceView {
    let stand = link.stand();
    PresenceView {
        kind: PresenceKind::Gateway,
        id: id.to_string(),
        gateway: None,
        vehicle: Some(vehicle.cloned()),
        state: stand.state.word(),
        since: time(stand.since_ns),
        last_seen: link.seen_ns().map(time),
        reason: stand.reason.clone(),
    }
}

pub(super) fn sensor(gateway: &GatewayId, name: &str, sensor: &Sensor) -> PresenceView {
    let stand = sensor.stand();
    PresenceView {
        kind: PresenceKind::Sensor,
        id: name.to_owned(),
        gateway: Some(gateway.to_string()),
        vehicle: None,
        state: stand.state.word(),
        since: time(stand.since_ns),
        last_seen: sensor.seen_ns().map(time),
        reason: stand.reason.clone(),
    }
}

pub(super) fn vehicle(id: &str, vehicle: &Carrier, seen_ns: Option<i64>) -> PresenceView {
    PresenceView {
        kind: PresenceKind::Vehicle,
        id: id.to_owned(),
        gateway: None,
        vehicle: None,
        state: vehicle.stand.state.word(),
        since: time(vehicle.stand.since_ns),
        last_seen: seen_ns.map(time),
        reason: vehicle.stand.reason.clone(),
    }
}

/// Where a page ends. A gateway's id has no `/` in it, whatever a sensor's name has.
fn place(view: &PresenceView) -> String {
    let kind = match view.kind {
        PresenceKind::Gateway => "gateway",
        PresenceKind::Hub => "hub",
        PresenceKind::Sensor => "sensor",
        PresenceKind::Vehicle => "vehicle",
    };
    match &view.gateway {
        Some(gateway) => format!("{kind}/{gateway}/{}", view.id),
        None => format!("{kind}/{}", view.id),
    }
}

/// Gateways, then sensors, then vehicles; each by name.
pub(super) fn list(state: &State, asked: &Asked) -> (Vec<PresenceView>, Option<String>) {
    let (kind, rest) = asked.after.as_deref().and_then(|after| after.split_once('/')).unwrap_or_default();
    let wants = |wanted: PresenceKind| asked.kind.is_none_or(|kind| kind == wanted);
    // A place of a kind that comes later leaves nothing of this one.
    let from = |name: &'static str| match kind {
        "" => Some(""),
        kind if kind == name => Some(rest),
        kind if kind < name => Some(""),
        _ => None,
    };
    let after = |from: &str| match GatewayId::new(from) {
        Ok(id) => Bound::Excluded(id),
        Err(_) => Bound::Unbounded,
    };
    let word = asked.state.map(StateWord::word);
    let is = |state: &str| word.is_none_or(|word| word == state);
    let of = |id: &GatewayId| asked.gateway.as_ref().is_none_or(|of| of == id);
    let gateways = from("gateway").filter(|_| wants(PresenceKind::Gateway)).into_iter().flat_map(|from| {
        let range = state.gateways.range((after(from), Bound::Unbounded));
        let asked_for = range.filter(|(id, known)| of(id) && is(known.link.state().word()));
        let views = asked_for.map(|(id, known)| gateway(id, &known.link, state.on.get(id)));
        views.filter(|view| !asked.unassigned || view.vehicle == Some(None))
    });
    let all = !asked.unassigned;
    let sensors = from("sensor").filter(|_| wants(PresenceKind::Sensor) && all).into_iter().flat_map(|from| {
        let (first, name) = from.split_once('/').unwrap_or_default();
        let start = GatewayId::new(first).map_or(Bound::Unbounded, Bound::Included);
        let range = state.gateways.range((start, Bound::Unbounded)).filter(|(id, _)| of(id));
        range.flat_map(move |(id, known)| {
            let names = known.sensors.iter().filter(move |(other, _)| id.as_str() != first || other.as_str() > name);
            let asked_for = names.filter(move |(_, known)| is(known.state().word()));
            asked_for.map(move |(name, known)| sensor(id, name, known))
        })
    });
    let vehicles = from("vehicle").filter(|_| wants(PresenceKind::Vehicle) && all).into_iter().flat_map(|from| {
        let start = if from.is_empty() { Bound::Unbounded } else { Bound::Excluded(from) };
        let range = state.vehicles.range::<str, _>((start, Bound::Unbounded));
        let carries = |known: &Carrier| asked.gateway.as_ref().is_none_or(|of| known.gateways.contains(of));
        let asked_for = range.filter(move |(_, known)| carries(known) && is(known.stand.state.word()));
        asked_for.map(|(id, known)| vehicle(id, known, seen_of(known, &state.gateways)))
    });
    let mut views: Vec<PresenceView> = gateways.chain(sensors).chain(vehicles).take(asked.limit + 1).collect();
    let more = views.len() > asked.limit;
    views.truncate(asked.limit);
    let next = views.last().filter(|_| more).map(place);
    (views, next)
}
