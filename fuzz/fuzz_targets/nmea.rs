//! Any bytes of a serial line into the NMEA driver: the first byte says how the rest is cut into reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedwell::sensor::nmea::{Nmea, Options};

mod line;

fuzz_target!(|bytes: &[u8]| line::feed(&mut Nmea::new(Options { position: true, ..Options::default() }), bytes));
