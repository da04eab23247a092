//! How a vehicle is, by its gateways and its best speed. Pure.

use std::time::Instant;

use speedwell_wire::{GatewayId, Quality};

use super::{
    Moment, Stand,
    link::{Link, LinkState},
    motion::{Motion, Moves},
};

/// How a vehicle is. The first three are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VehicleState {
    /// It moves.
    Moving,
    /// It stands.
    Stopped,
    /// It is connected, and nothing tells whether it moves.
    NoSpeed,
    /// None of its gateways is online.
    Disconnected,
    /// None of its gateways was heard yet.
    Unknown,
    /// It was taken out of the registry.
    Removed,
}

impl VehicleState {
    pub(super) fn word(self) -> &'static str {
        match self {
            VehicleState::Moving => "moving",
            VehicleState::Stopped => "stopped",
            VehicleState::NoSpeed => "no-speed",
            VehicleState::Disconnected => "disconnected",
            VehicleState::Unknown => "unknown",
            VehicleState::Removed => "removed",
        }
    }

    pub(super) fn of(word: &str) -> Self {
        use VehicleState as V;
        let all = [V::Moving, V::Stopped, V::NoSpeed, V::Disconnected, V::Removed];
        all.into_iter().find(|state| state.word() == word).unwrap_or(V::Unknown)
    }

    pub(super) fn connected(self) -> bool {
        matches!(self, VehicleState::Moving | VehicleState::Stopped | VehicleState::NoSpeed)
    }
}

/// A speed that a sensor gave.
#[derive(Clone, Debug)]
pub(super) struct Speed {
    /// m/s.
    pub(super) value: f64,
    pub(super) uncertainty: Option<f64>,
    pub(super) quality: Quality,
    /// It tells how fast the vehicle is until then.
    pub(super) until: Instant,
}

impl Speed {
    /// Which of two is to be believed: what was measured whole before what was not, then the more certain one.
    pub(super) fn rank(&self) -> (u8, f64) {
        let quality = match self.quality {
            Quality::Good | Quality::Stopped => 0,
            Quality::Degraded => 1,
            Quality::Estimated => 2,
        };
        (quality, self.uncertainty.unwrap_or(f64::INFINITY))
    }
}

/// What a vehicle's gateway tells of it.
pub(super) struct Told<'a> {
    pub(super) id: &'a GatewayId,
    pub(super) link: &'a Link,
    /// Its best speed now, and the sensor's name.
    pub(super) speed: Option<(&'a str, &'a Speed)>,
}

const NOT_HEARD: &str = "none of its gateways was heard yet";

/// The machine.
#[derive(Clone, Debug)]
pub(super) struct Carrier {
    pub(super) gateways: Vec<GatewayId>,
    /// Of what the registry has; nothing is known of it yet without.
    pub(super) version: Option<i64>,
    pub(super) stand: Stand<VehicleState>,
    moves: Moves,
    /// Before this, that there is no speed is the hub's own doing: it has just started, and has heard none yet.
    settled: Option<Instant>,
}

impl Carrier {
    /// One that is new, or as an earlier run of the hub left it; `settled` is when the grace after its start is over.
    pub(super) fn new(stand: Option<Stand<VehicleState>>, settled: Instant, now: Moment) -> Self {
        let settled = stand.as_ref().map(|_| settled);
        let stand = stand.unwrap_or_else(|| Stand::new(VehicleState::Unknown, NOT_HEARD, now));
        let motion = match stand.state {
            VehicleState::Moving => Motion::Moving,
            VehicleState::Stopped => Motion::Stopped,
            _ => Motion::NoSpeed,
        };
        Self { gateways: Vec::new(), version: None, stand, moves: Moves::new(motion, now.at), settled }
    }

    pub(super) fn judge(&mut self, told: &[Told<'_>], now: Moment) -> bool {
        let online = || told.iter().filter(|told| told.link.state() == LinkState::Online);
        if online().next().is_none() {
            self.moves = Moves::new(Motion::NoSpeed, now.at);
            return self.disconnected(told, now);
        }
        let speeds = online().filter_map(|told| Some((told.id, told.speed?)));
        let best = speeds.min_by(|(_, (_, a)), (_, (_, b))| {
            let (a, b) = (a.rank(), b.rank());
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        let speed = best.map(|(_, (_, speed))| speed.value);
        self.settled = self.settled.filter(|settled| speed.is_none() && now.at < *settled);
        if self.settled.is_some() && self.stand.state.connected() {
            return false;
        }
        let by = best.map(|(gateway, (sensor, _))| format!("by {sensor} of {gateway}"));
        match self.moves.see(speed, now.at) {
            Motion::Moving => self.stand.turn(VehicleState::Moving, by.unwrap_or_default(), now),
            Motion::Stopped => self.stand.turn(VehicleState::Stopped, by.unwrap_or_default(), now),
            Motion::NoSpeed => self.stand.turn(VehicleState::NoSpeed, "none of its sensors gives a speed", now),
        }
    }

    fn disconnected(&mut self, told: &[Told<'_>], now: Moment) -> bool {
        let heard = told.iter().filter(|told| told.link.seen_ns().is_some() || told.link.state() != LinkState::Unknown);
        let Some(latest) = heard.max_by_key(|told| told.link.seen_ns()) else {
            let why = if self.gateways.is_empty() { "it carries no gateway" } else { NOT_HEARD };
            return self.stand.put(VehicleState::Unknown, why.into(), now);
        };
        let link = latest.link.stand();
        let why = format!("{} is {}: {}", latest.id, link.state.word(), link.reason);
        self.stand.turn(VehicleState::Disconnected, why, now)
    }
}
