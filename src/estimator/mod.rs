//! Pulses become speed.
//!
//! In      edges of a pulse sensor, in the order they were stamped; the time at each tick.
//! Out     speed at a time inside the window it was measured in, with its uncertainty; rotational speed and distance
//!         when asked for; a bound while no pulse comes; a confirmed standstill.
//! Keeps   sums over the last tenth of a second, a few kilobytes a sensor; allocates nothing after it was made.
//! Imports `sensor`, `clock`, the wire's words. Pure.
//!
//! The estimate is the least-squares slope of pulse number on time, which reaches the Cramer-Rao bound for white stamp
//! jitter. See `docs/measuring.md` for the formulas and for what the numbers promise.

mod block;
mod wheel;
mod window;

pub use wheel::{Wheel, WheelOptions};
