//! Any frames into the OBD-II driver.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedwell::sensor::obd2::{Obd2, Options, Pid};

mod bus;

fuzz_target!(|bytes: &[u8]| {
    let options = Options { pids: vec![Pid::SPEED, Pid::ENGINE_SPEED], ..Options::default() };
    bus::feed(&mut Obd2::new(options), &[0x7E8, 0x7E9, 0x7EF], bytes);
});
