//! Pulses become speed.
