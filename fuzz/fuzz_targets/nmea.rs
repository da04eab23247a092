//! Any bytes of a serial line into the NMEA driver: the first byte says how the rest is cut into reads. Then the same lines
//! with a right checksum each, so that what lies behind it is reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedwell::sensor::nmea::{Nmea, Options};

mod line;

fn every_channel() -> Nmea {
    Nmea::new(Options { position: true, ..Options::default() })
}

fuzz_target!(|bytes: &[u8]| {
    line::feed(&mut every_channel(), bytes);
    let mut signed = vec![63];
    for body in bytes.split(|byte| *byte == b'\n') {
        let sum = body.iter().fold(0, |sum, byte| sum ^ byte);
        signed.extend_from_slice(b"$");
        signed.extend_from_slice(body);
        signed.extend_from_slice(format!("*{sum:02X}\r\n").as_bytes());
    }
    line::feed(&mut every_channel(), &signed);
});
