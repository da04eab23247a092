//! Any frames into a signal of a DBC file with multiplexing and a counter.
#![no_main]

use std::{sync::Arc, time::Duration};

use libfuzzer_sys::fuzz_target;
use speedwell::sensor::{
    dbc::{Dbc, DbcFile, Options},
    unit::Unit,
};

mod bus;

const FILE: &str = "BO_ 100 Muxed: 8 X
 SG_ Outer M : 0|8@1+ (1,0) [0|0] \"\" X
 SG_ Inner m3M : 8|8@1+ (1,0) [0|0] \"\" X
 SG_ Deep m1 : 23|16@0- (0.01,5) [0|0] \"\" X
 SG_ Counter : 60|4@1+ (1,0) [0|0] \"\" X
SG_MUL_VAL_ 100 Deep Inner 1-1, 5-6;
";

fuzz_target!(|bytes: &[u8]| {
    let file = DbcFile::parse(FILE.as_bytes());
    let Some(message) = file.message("Muxed") else { return };
    let options = Options {
        signal: message.signal("Deep").unwrap_or(0),
        counter: message.signal("Counter"),
        message: Arc::new(message.clone()),
        unit: Unit::default(),
        any_sender: false,
        report: Duration::from_millis(10),
        timeout: Duration::from_millis(300),
    };
    bus::feed(&mut Dbc::new(options), &[100, 100, 100], bytes);
});
