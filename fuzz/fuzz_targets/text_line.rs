//! Any bytes into the driver of text lines, and any text as its pattern.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use speedwell::sensor::{
    line::{Line, Options, Pattern},
    unit::Unit,
};

mod line;

fuzz_target!(|bytes: &[u8]| {
    let (pattern, bytes) = bytes.split_at(bytes.len().min(40));
    let any = std::str::from_utf8(pattern).ok().and_then(|text| Pattern::new(text).ok());
    let own = || Pattern::new("(?P<s>-?) *(?P<v>[0-9.]+|---) *(?P<u>m/s|km/h)?").ok();
    let Some(pattern) = any.or_else(own) else { return };
    let options = Options {
        pattern,
        unit: Unit::default(),
        scale: 0.5,
        offset: 1.0,
        decimal_comma: false,
        invalid: vec!["---".into()],
        report: Duration::from_millis(10),
        timeout: Duration::from_secs(1),
    };
    line::feed(&mut Line::new(options), bytes);
});
