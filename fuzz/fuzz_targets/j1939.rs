//! Any frames into the J1939 driver, of a wheel, which needs two parameters of one frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedwell::sensor::j1939::{J1939, Options, Signal, Wheel};

mod bus;

fuzz_target!(|bytes: &[u8]| {
    let options = Options { signal: Signal::Wheel(Wheel::Rear1Left), ..Options::default() };
    bus::feed(&mut J1939::new(options), &[0x18FE_BF0B, 0x0CFE_BF00], bytes);
});
