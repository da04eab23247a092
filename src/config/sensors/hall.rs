//! `kind = "hall"`: a hall-effect sensor, reed switch or any other that gives pulses on a pin.

use std::time::Duration;

use super::{Claims, DEFAULT_REPORT, REPORT, pins, polled_limit_hz};
use crate::{
    board::{self, Board, EdgeSelect, EdgeSource, EdgeWish, Pin},
    config::{
        calibration,
        quantity::Dimension,
        show::significant,
        walk::{Section, Spot, Walk},
    },
    estimator::WheelOptions,
    sensor::hall,
};

/// `kind = "hall"`: pulses on a pin.
#[derive(Clone, Debug, PartialEq)]
pub struct HallSensor {
    /// Which line.
    pub pin: Pin,
    /// A free line to request beside `pin`, so that the kernel counts interrupts of both and a coalesced one shows: the
    /// configured one, or a plain one the board has left; `None` when it has none.
    pub audit_pin: Option<Pin>,
    /// Who sees the edges.
    pub source: PulseSource,
    /// Which edges are pulses.
    pub edges: Edges,
    /// What holds the line while the sensor does not.
    pub bias: Bias,
    /// Pulses a metre: what everything reduces to. Edges a metre when `edges` is `Both` are twice that.
    pub pulses_per_metre: f64,
    /// Pulses a turn of the part the teeth are on, for the tooth table; `None` when not known.
    pub pulses_per_turn: Option<u32>,
    /// Teeth in a row that are left out once a turn.
    pub missing_teeth: u32,
    /// Learn where each tooth lies.
    pub learn_teeth: bool,
    /// Metres a turn of the wheel; `None` when not known.
    pub circumference: Option<f64>,
    /// Relative standard uncertainty of `pulses_per_metre`; 0 when not told.
    pub calibration_uncertainty: f64,
    /// Fastest that can be, m/s.
    pub max_speed: f64,
    /// Hardest the wheel can speed up or slow down, m/s²: by it pulses are refused or put back.
    pub max_acceleration: f64,
    /// Between two readings.
    pub report: Duration,
    /// Slower than this is told as standing, m/s.
    pub zero_below: f64,
    /// Report turns a minute too.
    pub rotational_speed: bool,
    /// Report the way too.
    pub distance: bool,
    /// The second line of an encoder.
    pub second: Option<Pin>,
    /// Report the direction too; needs a second line.
    pub direction: bool,
    /// Report what was lost, put back and refused, when it changes.
    pub counters: bool,
}

/// Who sees the edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PulseSource {
    /// The kernel, in the interrupt.
    Edges,
    /// This program reads the level again and again: slow signals only.
    Polled,
}

/// Which edges are pulses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edges {
    /// Low to high.
    Rising,
    /// High to low.
    Falling,
    /// Both: twice as many edges a pulse.
    Both,
}

/// What holds a line while nothing drives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// The chip's pull-up.
    PullUp,
    /// The chip's pull-down.
    PullDown,
    /// Nothing.
    None,
    /// Whatever it was.
    AsIs,
}

impl HallSensor {
    /// Edges a pulse.
    pub fn edges_per_pulse(&self) -> u32 {
        match (&self.second, self.edges) {
            (Some(_), _) => 4,
            (None, Edges::Both) => 2,
            (None, _) => 1,
        }
    }

    /// Edges a second at the highest speed.
    pub fn max_edge_rate_hz(&self) -> f64 {
        self.max_speed * self.pulses_per_metre * f64::from(self.edges_per_pulse())
    }
}

impl HallSensor {
    /// How its pulses become speed.
    pub fn options(&self) -> WheelOptions {
        let polled = self.source == PulseSource::Polled;
        let interval = board::polled::POLL_INTERVAL;
        let defaults = WheelOptions::default();
        WheelOptions {
            edges: match (&self.second, self.edges) {
                (Some(_), _) => hall::Edges::Quadrature,
                (None, Edges::Rising) => hall::Edges::Rising,
                (None, Edges::Falling) => hall::Edges::Falling,
                (None, Edges::Both) => hall::Edges::Both,
            },
            pulses_per_metre: self.pulses_per_metre,
            missing_teeth: self.missing_teeth,
            learn_teeth: self.learn_teeth,
            direction: self.direction,
            trusted_rate: polled.then(polled_limit_hz),
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
            // Every request has this sensor's lines and one that stays still, so its numbers count this sensor alone.
            request_audit: true,
            ..defaults
        }
    }

    /// What it wants of its pin.
    pub fn wish(&self, name: &str) -> EdgeWish {
        EdgeWish {
            pin: self.pin.clone(),
            second: self.second.clone(),
            audit_pin: self.audit_pin.clone(),
            source: match self.source {
                PulseSource::Edges => EdgeSource::Interrupt,
                PulseSource::Polled => EdgeSource::Polled,
            },
            edges: match self.edges {
                _ if self.second.is_some() => EdgeSelect::Both,
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

pub(super) fn read(
    walk: &mut Walk<'_>,
    section: &Section<'_>,
    board: Option<&Board>,
    claims: &mut Claims,
) -> Option<HallSensor> {
    let pin_spot = match pins::bare(walk, section, "pin") {
        true => None,
        false => walk.required_text(section, "pin", "where the sensor is connected, as pin = \"GPIO17\""),
    };
    let pin = pin_spot.as_ref().and_then(|spot| pins::pin(walk, spot, board, claims));
    let audit_pin = walk.text(section, "audit-pin").and_then(|spot| pins::pin(walk, &spot, board, claims));
    let sources = [("edges", PulseSource::Edges), ("polled", PulseSource::Polled)];
    let source = walk.choice(section, "source", &sources).unwrap_or(PulseSource::Edges);
    let edges = [("rising", Edges::Rising), ("falling", Edges::Falling), ("both", Edges::Both)];
    let edges = walk.choice(section, "edges", &edges).unwrap_or(Edges::Rising);
    let common = common(walk, section, pin);
    let missing_teeth = missing_teeth(walk, section);
    let sensor = HallSensor { audit_pin, source, edges, missing_teeth: missing_teeth?, ..common? };
    rate(walk, section, &sensor, board, claims);
    Some(sensor)
}

/// `kind = "encoder"`: two lines a quarter of a period apart, from which the direction comes.
pub(super) fn read_encoder(
    walk: &mut Walk<'_>,
    section: &Section<'_>,
    board: Option<&Board>,
    claims: &mut Claims,
) -> Option<HallSensor> {
    let mut line = |walk: &mut Walk<'_>, key: &str, what: &str| {
        let spot = if pins::bare(walk, section, key) { None } else { walk.required_text(section, key, what) };
        spot.and_then(|spot| pins::pin(walk, &spot, board, claims).map(|pin| (spot, pin)))
    };
    let first = line(walk, "pin-a", "where line A is connected, as pin-a = \"GPIO17\"");
    let second = line(walk, "pin-b", "where line B is connected, as pin-b = \"GPIO27\"");
    let common = common(walk, section, first.map(|(_, pin)| pin));
    let direction = walk.flag(section, "direction").unwrap_or(true);
    let (common, (spot, second)) = (common?, second?);
    if let Some(board) = board
        && board.chip_label(&common.pin.at) != board.chip_label(&second.at)
    {
        // Only within one request does the kernel keep the order of their edges.
        walk.wrong(&spot, format!("{:?} is on another chip than pin-a: both lines have to be on one", spot.value));
        return None;
    }
    let sensor = HallSensor { second: Some(second), direction, ..common };
    rate(walk, section, &sensor, board, claims);
    Some(sensor)
}

/// What a hall sensor and an encoder have in common.
fn common(walk: &mut Walk<'_>, section: &Section<'_>, pin: Option<Pin>) -> Option<HallSensor> {
    let biases =
        [("pull-up", Bias::PullUp), ("pull-down", Bias::PullDown), ("none", Bias::None), ("as-is", Bias::AsIs)];
    let bias = walk.choice(section, "bias", &biases).unwrap_or(Bias::AsIs);
    let calibration = calibration::read(walk, section);
    let max = walk.quantity(section, "max-speed", Dimension::Speed, ("0.1 m/s", "1000 km/h"));
    let report = walk.period(section, "report", REPORT).unwrap_or(DEFAULT_REPORT);
    let zero_below =
        walk.quantity(section, "zero-below", Dimension::Speed, ("0.001 m/s", "5 m/s")).map_or(0.1, |s| s.value);
    let bounds = ("1 m/s2", "100 g");
    let max_acceleration = walk.quantity(section, "max-acceleration", Dimension::Acceleration, bounds);
    let rotational_speed = walk.flag(section, "rotational-speed").unwrap_or(false);
    if rotational_speed && !section.has("pulses-per-turn") {
        walk.missing(section, "pulses-per-turn", "rotational-speed cannot be told without it");
    }
    let learn_teeth = walk.flag(section, "learn-teeth").unwrap_or(true);
    let distance = walk.flag(section, "distance").unwrap_or(false);
    let counters = walk.flag(section, "counters").unwrap_or(true);
    let calibration = calibration?;
    Some(HallSensor {
        calibration_uncertainty: calibration.uncertainty,
        max_acceleration: max_acceleration.map_or(DEFAULT_MAX_ACCELERATION, |spot| spot.value),
        rotational_speed,
        distance,
        counters,
        learn_teeth,
        missing_teeth: 0,
        pin: pin?,
        second: None,
        direction: false,
        audit_pin: None,
        source: PulseSource::Edges,
        edges: Edges::Rising,
        bias,
        pulses_per_metre: calibration.pulses_per_metre,
        pulses_per_turn: calibration.pulses_per_turn,
        circumference: calibration.circumference,
        max_speed: max.map_or(DEFAULT_MAX_SPEED, |spot| spot.value),
        report,
        zero_below,
    })
}

/// Teeth in a row that are left out; fewer than there are places for.
fn missing_teeth(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<u32> {
    let Some(spot) = walk.whole(section, "missing-teeth", 0..MISSING_END) else {
        return if section.has("missing-teeth") { None } else { Some(0) };
    };
    let places = walk.whole(section, "pulses-per-turn", 1..100_001).map(|places| places.value);
    match places {
        _ if spot.value == 0 => Some(0),
        None => {
            walk.missing(section, "pulses-per-turn", "with missing-teeth it counts every place of a turn: 60 for 60-2");
            None
        }
        Some(places) if spot.value + 1 >= places => {
            walk.wrong(&spot, format!("{} of {places} places left out leave no wheel", spot.value));
            None
        }
        Some(_) => Some(spot.value as u32),
    }
}

/// More teeth in a row than any pattern leaves out.
const MISSING_END: u64 = 33;

/// 200 km/h: faster than what most sensors are on, slow enough for every board with an ordinary wheel.
pub(super) const DEFAULT_MAX_SPEED: f64 = 200.0 / 3.6;

/// A wheel that locks or spins changes faster than any vehicle.
const DEFAULT_MAX_ACCELERATION: f64 = 40.0;

/// Is the highest edge rate one that arrives whole?
fn rate(walk: &mut Walk<'_>, section: &Section<'_>, sensor: &HallSensor, board: Option<&Board>, claims: &mut Claims) {
    let Some(board) = board else { return };
    let (spot, default) = match section.value("max-speed") {
        Some(spot) => (Spot { value: (), span: spot.span, path: spot.path }, ""),
        None => (Spot { value: (), span: section.span.clone(), path: section.key("max-speed") }, " (default)"),
    };
    let hz = sensor.max_edge_rate_hz();
    let at = format!("{} km/h{default} makes {} edges a second", significant(sensor.max_speed * 3.6), significant(hz));
    if sensor.source == PulseSource::Polled {
        let (pulses, limit) = (sensor.max_speed * sensor.pulses_per_metre, polled_limit_hz());
        if pulses > limit {
            let speed = significant(sensor.max_speed * 3.6);
            let message = format!(
                "{speed} km/h{default} makes {} pulses a second; a polled pin is trusted with {}",
                significant(pulses),
                significant(limit)
            );
            walk.wrong(&spot, message).note("source = \"edges\" lets the kernel see every one, or lower max-speed");
        }
        return;
    }
    let chip = board.chip_label(&sensor.pin.at).unwrap_or_default();
    let together = add_rate(&mut claims.rates, chip, hz);
    let sum =
        if together > hz { format!(", {} with the others on this chip", significant(together)) } else { String::new() };
    if together > board.best_effort_rate_hz {
        let most = significant(board.best_effort_rate_hz);
        walk.wrong(&spot, format!("{at}{sum}; the board {} is good for {most}", board.name))
            .note("lower max-speed, count one edge a pulse (edges = \"rising\"), or count in hardware");
    } else if together > board.supported_rate_hz {
        let supported = significant(board.supported_rate_hz);
        walk.doubt(&spot, format!("{at}{sum}; above {supported} the board {} may lose some", board.name))
            .note("losses are found, repaired where the phase allows, and counted");
    }
}

fn add_rate(rates: &mut Vec<(String, f64)>, chip: String, hz: f64) -> f64 {
    match rates.iter_mut().find(|(c, _)| *c == chip) {
        Some((_, sum)) => {
            *sum += hz;
            *sum
        }
        None => {
            rates.push((chip, hz));
            hz
        }
    }
}
