//! Units that buses and devices speak in, and the quantity each of them is of.

use std::f64::consts::TAU;

use speedwell_wire::Quantity;

/// Metres a second in a kilometre an hour.
pub const KMH: f64 = 1.0 / 3.6;
/// Metres a second in a knot: 1852 m an hour.
pub const KNOT: f64 = 1852.0 / 3600.0;

/// A unit as it is written in a configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    /// As it is written.
    pub word: &'static str,
    /// What it measures.
    pub quantity: Quantity,
    /// One of it in the quantity's own unit.
    pub factor: f64,
}

/// Every unit there is. The factors are exact by definition.
pub const UNITS: &[Unit] = &[
    unit("m/s", Quantity::Speed, 1.0),
    unit("km/h", Quantity::Speed, KMH),
    unit("mph", Quantity::Speed, 0.447_04),
    unit("kn", Quantity::Speed, KNOT),
    unit("ft/s", Quantity::Speed, 0.304_8),
    unit("cm/s", Quantity::Speed, 0.01),
    unit("mm/s", Quantity::Speed, 0.001),
    unit("rpm", Quantity::RotationalSpeed, 1.0),
    unit("rev/s", Quantity::RotationalSpeed, 60.0),
    unit("rad/s", Quantity::RotationalSpeed, 60.0 / TAU),
    unit("m", Quantity::Distance, 1.0),
    unit("km", Quantity::Distance, 1000.0),
    unit("mm", Quantity::Distance, 0.001),
    unit("m/s2", Quantity::Acceleration, 1.0),
    unit("g", Quantity::Acceleration, 9.806_65),
    unit("deg", Quantity::Angle, 1.0),
    unit("rad", Quantity::Angle, 360.0 / TAU),
    unit("1", Quantity::Count, 1.0),
];

const fn unit(word: &'static str, quantity: Quantity, factor: f64) -> Unit {
    Unit { word, quantity, factor }
}

impl Unit {
    /// The unit of that word.
    pub fn named(word: &str) -> Option<Unit> {
        UNITS.iter().find(|unit| unit.word == word).copied()
    }

    /// A value in the quantity's own unit.
    pub fn si(self, value: f64) -> f64 {
        value * self.factor
    }

    /// Resolution of a channel for values `n * step + offset` of this unit, in 1e-9 of the quantity's unit: the step
    /// itself where every value is a whole number of steps, which costs the fewest bytes and rounds nothing; else the
    /// quantity's own, or a tenth of a step that is finer.
    pub fn resolution_nano(self, step: f64, offset: f64) -> u64 {
        let own: u64 = match self.quantity {
            Quantity::Speed | Quantity::Distance | Quantity::Acceleration => 1_000_000,
            Quantity::RotationalSpeed | Quantity::Angle => 10_000_000,
            _ => 1_000_000_000,
        };
        let nano = self.si(step).abs() * NANO;
        let steps = offset / step;
        let whole = nano >= 1.0 && nano.fract() == 0.0 && nano < MAX_STEP_NANO && (steps - steps.round()).abs() < 1e-9;
        match nano {
            nano if whole => nano as u64,
            nano if nano >= own as f64 => own,
            // `min` and `max` take the number where the other is none.
            nano => (nano / 10.0).min(own as f64).max(1.0) as u64,
        }
    }
}

const NANO: f64 = 1e9;
/// Steps beyond a thousand of the unit are told in the quantity's own resolution.
const MAX_STEP_NANO: f64 = 1e12;

impl Default for Unit {
    /// m/s.
    fn default() -> Self {
        UNITS[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_what_they_are_by_definition() {
        let si = |word: &str, value| Unit::named(word).expect("known").si(value);
        assert_eq!(si("km/h", 36.0), 10.0);
        assert_eq!(si("mph", 1.0), 0.44704);
        assert!((si("kn", 3.252) - 1.672_973_333).abs() < 1e-8);
        assert_eq!(si("rev/s", 2.0), 120.0);
        assert!((si("rad", std::f64::consts::PI) - 180.0).abs() < 1e-12);
        assert_eq!(Unit::named("furlong/fortnight"), None);
    }

    #[test]
    fn a_channel_resolves_its_quantity_and_finer_steps_where_they_come() {
        let of = |word: &str, step, offset| Unit::named(word).expect("known").resolution_nano(step, offset);
        assert_eq!(of("km/h", 1.0, 0.0), 1_000_000);
        assert_eq!(of("rpm", 0.125, 0.0), 125_000_000);
        assert_eq!(of("m/s", 0.01, 5.0), 10_000_000);
        assert_eq!(of("m/s", 0.25, 0.1), 1_000_000);
        assert_eq!(of("km/h", 1e-4, 0.0), 2777);
        assert_eq!(of("m/s", 0.0, 0.0), 1);
        assert_eq!(of("m/s", f64::NAN, f64::INFINITY), 1_000_000);
    }
}
