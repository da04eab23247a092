//! What is known of a wheel beforehand.

use std::time::Duration;

use crate::sensor::hall::{self, Edges};

/// Widest window, unless it is said otherwise: longer ones are more precise at a steady speed and blind to a change of
/// acceleration, which costs jerk * W^2 / 40: 2.5 mm/s at 0.1 s and 10 m/s3, 0.25 m/s at 1 s.
const WINDOW: Duration = Duration::from_millis(100);

/// What is known of the wheel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WheelOptions {
    /// Which edges are listened to; pulses are those of one polarity, or the periods of two lines.
    pub edges: Edges,
    /// Pulses of one polarity a metre of way; teeth that are left out count as if they were there.
    pub pulses_per_metre: f64,
    /// Pulses a turn of the part the teeth are on, left-out ones counted: 60 for 60-2. Gives rotational speed when asked
    /// for, and is what learning the teeth needs.
    pub pulses_per_turn: Option<u32>,
    /// How many teeth in a row are left out once a turn: 2 for 60-2, 0 for an even wheel. Needs `pulses_per_turn`.
    pub missing_teeth: u32,
    /// Learn where each tooth lies; needs `pulses_per_turn` of 2 to 512.
    pub learn_teeth: bool,
    /// Fastest there can be, m/s; anything above is told as out of range.
    pub max_speed: f64,
    /// Hardest acceleration or braking there can be, m/s2: the bound by which pulses are refused or put back. It is
    /// what the wheel does that counts, which may spin or lock.
    pub max_acceleration: f64,
    /// Report period.
    pub report: Duration,
    /// Widest window a speed is measured in; it is not wider than the report period either.
    pub window: Duration,
    /// Slower than this is standstill, m/s.
    pub zero_below: f64,
    /// Relative standard uncertainty of `pulses_per_metre`.
    pub calibration_uncertainty: f64,
    /// How well edges are stamped at best: a third of a microsecond by the kernel, some milliseconds when polled.
    pub stamp_floor: Duration,
    /// Highest pulse rate, Hz, at which whoever stamps the edges can be trusted; `None` when it sets no such limit.
    pub trusted_rate: Option<f64>,
    /// Edges younger than this may not have been delivered yet: what is said because no edge came is said for so long
    /// ago.
    pub delivery: Duration,
    /// The request's sequence number counts this sensor's lines alone.
    pub request_audit: bool,
    /// Also report rotational speed; needs `pulses_per_turn`.
    pub rotational_speed: bool,
    /// Also report the way, at each report time; it goes on from what [`Sensor::remember`](crate::sensor::Sensor) was
    /// given.
    pub distance: bool,
    /// Also report the direction; needs [`Edges::Quadrature`].
    pub direction: bool,
}

impl Default for WheelOptions {
    /// A car's wheel: 48 teeth on 1.985 m.
    fn default() -> Self {
        Self {
            edges: Edges::Rising,
            pulses_per_metre: 48.0 / 1.985,
            pulses_per_turn: Some(48),
            missing_teeth: 0,
            learn_teeth: true,
            max_speed: 70.0,
            max_acceleration: 40.0,
            report: Duration::from_millis(100),
            window: WINDOW,
            zero_below: 0.1,
            calibration_uncertainty: 0.0,
            stamp_floor: Duration::from_nanos(300),
            trusted_rate: None,
            delivery: Duration::from_millis(5),
            request_audit: true,
            rotational_speed: false,
            distance: false,
            direction: false,
        }
    }
}

impl WheelOptions {
    /// What the edges are judged by.
    pub(super) fn judging(&self) -> hall::Options {
        hall::Options {
            edges: self.edges,
            max_rate: self.max_speed * self.pulses_per_metre,
            max_rate_change: self.max_acceleration * self.pulses_per_metre,
            stamp_floor: self.stamp_floor,
            request_audit: self.request_audit,
            gap: self.gap(),
        }
    }

    /// Places a turn, and those without a tooth; none of the latter where that makes no wheel.
    pub(super) fn gap(&self) -> (u32, u32) {
        let places = self.pulses_per_turn.unwrap_or(0);
        (places, if self.missing_teeth.saturating_add(1) < places { self.missing_teeth } else { 0 })
    }
}
