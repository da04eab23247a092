//! Any bytes as the answers of a Modbus line with three devices, every other one with a right check, and as a recording of
//! one. How long each takes is in the bytes, too: some come in time and some late.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use speedwell::{
    clock::BootNs,
    sensor::{
        Sensor,
        modbus::{Alone, Format, Line, Options, Order, Table},
        unit::Unit,
    },
};

mod line;

fn options(slave: u8) -> Options {
    Options {
        slave,
        table: Table::Holding,
        register: 0,
        format: Format::F32,
        order: Order::Cdab,
        invalid: Some(0x7FFF_FFFF),
        scale: 0.1,
        offset: -4.0,
        unit: Unit::default(),
        report: Duration::from_millis(100),
        answer_within: Duration::from_millis(50),
        timeout: Duration::from_millis(500),
    }
}

/// The bytes with their check behind them.
fn signed(bytes: &[u8]) -> Vec<u8> {
    let crc = bytes.iter().fold(0xFFFFu16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 })
    });
    [bytes, &crc.to_le_bytes()].concat()
}

fuzz_target!(|bytes: &[u8]| {
    line::feed(&mut Alone::new(options(1)), bytes);
    let mut several = Line::new(Duration::from_micros(573), (1..4).map(options));
    let (mut now, mut asked, mut out) = (BootNs(1_000_000_000), Vec::new(), Vec::new());
    for piece in bytes.chunks(8) {
        asked.clear();
        several.ask(now, &mut asked);
        now.0 += u64::from(piece[0] & 0x7E) * 2_000_000;
        let piece = if piece[0] & 1 == 1 { signed(&piece[1..]) } else { piece[1..].to_vec() };
        if several.on_bytes(now, &piece, &mut out).is_some_and(|slave| slave >= 3) {
            panic!("an answer of nobody");
        }
        several.slaves_mut().iter_mut().for_each(|slave| slave.tick(now, &mut out));
        assert!(
            out.drain(..).all(|reading| reading.value.is_ok_and(|v| v.value.is_finite()) || reading.value.is_err())
        );
        now.0 += 7_000_000;
    }
});
