//! Any bytes of a serial line into the radar driver: the first byte says how the rest is cut into reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedwell::sensor::radar::{Options, Radar};

mod line;

fuzz_target!(|bytes: &[u8]| {
    let options =
        Options { angle: 0.7, angle_uncertainty: 0.02, direction: true, zero_is_standing: false, ..Options::default() };
    line::feed(&mut Radar::new(options), bytes);
});
