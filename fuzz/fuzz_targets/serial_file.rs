//! Any bytes as the bytes of a serial port: raw, and behind a right header as text with times.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedwell::board::recorded::{SerialFile, TimedBytes};

mod recording;

const HEADER: &[u8] = b"timestamp_ns,bytes\n";

fuzz_target!(|bytes: &[u8]| {
    recording::play(SerialFile::new(bytes), bytes.len());
    let file = [HEADER, bytes].concat();
    recording::play(TimedBytes::new(&file[..]), file.len());
});
