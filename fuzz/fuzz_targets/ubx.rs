//! Any bytes of a serial line into the UBX driver: the first byte says how the rest is cut into reads. Then the same bytes
//! as payloads with a right head and checksum, so that what lies behind them is reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedwell::sensor::ubx::{Options, Ubx};

mod line;

fn every_channel() -> Ubx {
    Ubx::new(Options { position: true, ..Options::default() })
}

fuzz_target!(|bytes: &[u8]| {
    line::feed(&mut every_channel(), bytes);
    let mut signed = vec![63];
    for payload in bytes.chunks_exact(92) {
        let body = [&[0x01, 0x07, 92, 0], payload].concat();
        let (a, b) = body.iter().fold((0u8, 0u8), |(a, b), byte| {
            let a = a.wrapping_add(*byte);
            (a, b.wrapping_add(a))
        });
        signed.extend_from_slice(&[0xB5, 0x62]);
        signed.extend_from_slice(&body);
        signed.extend_from_slice(&[a, b]);
    }
    line::feed(&mut every_channel(), &signed);
});
