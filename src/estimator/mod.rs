//! Pulses become speed.
//!
//! In      edges of a pulse sensor, in the order they were stamped; the time at each tick.
//! Out     speed at a time inside the window it was measured in, with its uncertainty; rotational speed, distance and
//!         direction when asked for; an estimate below a bound while no pulse comes; a confirmed standstill. Aside from
//!         the readings, the speed now and the mean since the last tick.
//! Keeps   sums over the last tenth of a second, three Kalman filters, the place of each tooth: 4 kB a sensor and 24
//!         bytes a tooth. Allocates nothing after it was made. The way and the teeth survive a restart.
//! Imports `sensor`, `clock`, the wire's words. Pure.
//!
//! The estimate is the least-squares slope of pulse number on time, which reaches the Cramer-Rao bound for white stamp
//! jitter. See `docs/measuring.md` for the formulas and for what the numbers promise.

mod block;
mod diagnosis;
#[cfg(test)]
mod direction_tests;
#[cfg(test)]
mod filter_tests;
mod memory;
mod odometer;
mod options;
mod shaft;
#[cfg(test)]
mod simulation;
mod start;
mod teeth;
#[cfg(test)]
mod teeth_tests;
mod tracker;
#[cfg(test)]
mod trouble_tests;
mod wheel;
mod window;

pub use diagnosis::Ailment;
pub use odometer::Mean;
pub use options::WheelOptions;
pub use shaft::{Shaft, ShaftOptions};
pub use wheel::Wheel;
