//! Any frames into the CANopen driver, asked for an object or telling process data.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use speedwell::sensor::{
    canopen::{CanOpen, Options, Source},
    field::{Field, Form, Order},
    unit::Unit,
};

mod bus;

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let source = match Field::new(u16::from(first >> 2), u16::from(first & 31) + 1, Order::Intel, Form::Signed) {
        Ok(field) if first & 1 == 0 => Source::Tpdo { cob_id: 0x185, field },
        _ => Source::Sdo { index: 0x606C, sub: 0, signed: true },
    };
    let options = Options {
        node: 5,
        source,
        scale: 0.1,
        offset: 0.0,
        unit: Unit::default(),
        report: Duration::from_millis(100),
        answer_within: Duration::from_millis(50),
        timeout: Duration::from_millis(500),
        ask: true,
    };
    bus::feed(&mut CanOpen::new(options), &[0x585, 0x185, 0x705], bytes);
});
