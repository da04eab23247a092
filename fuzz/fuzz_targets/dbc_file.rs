//! Any text as a DBC file; what it describes is read off any payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedwell::sensor::dbc::DbcFile;

fuzz_target!(|bytes: &[u8]| {
    let file = DbcFile::parse(bytes);
    for message in file.messages.iter().take(4) {
        for signal in 0..message.signals.len().min(8) {
            let value = message.value(signal, &bytes[..bytes.len().min(64)]);
            assert!(value.is_none_or(f64::is_finite));
        }
    }
});
