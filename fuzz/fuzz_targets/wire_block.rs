//! Any bytes as a block of samples.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedwell_wire::block;

fuzz_target!(|bytes: &[u8]| {
    let _ = block::decode(bytes);
});
