//! Any bytes as each message of the wire: an error or a message, and a message encodes to what decodes to it again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedwell_wire::{Batch, Live, Manifest, frame, record};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(batch) = frame::decode_any::<Batch>(bytes) {
        assert_eq!(frame::decode::<Batch>(&frame::encode(&batch)).as_ref(), Ok(&batch));
    }
    let _ = frame::decode_any::<Manifest>(bytes);
    let _ = frame::decode_any::<Live>(bytes);
    if let Ok(record) = record::decode(bytes) {
        assert_eq!(record::decode(&record::encode(&record)).as_ref(), Ok(&record));
    }
});
