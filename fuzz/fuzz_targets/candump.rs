//! Any text as a candump log.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedwell::board::recorded::Candump;

mod recording;

fuzz_target!(|bytes: &[u8]| recording::play(Candump::new(bytes, "can0"), bytes.len()));
