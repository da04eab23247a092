//! Any bytes of a serial line into the UBX driver: the first byte says how the rest is cut into reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedwell::sensor::ubx::{Options, Ubx};

mod line;

fuzz_target!(|bytes: &[u8]| line::feed(&mut Ubx::new(Options { position: true, ..Options::default() }), bytes));
