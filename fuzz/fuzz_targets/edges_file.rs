//! Any bytes as an edges file; half of them behind a right header, which chance does not find.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedwell::board::recorded::EdgesFile;

mod recording;

const HEADER: &[u8] = b"timestamp_ns,kind,seqno,line_seqno\n";

fuzz_target!(|bytes: &[u8]| {
    let head = if bytes.len() % 2 == 0 { HEADER } else { b"" };
    let file = [head, bytes].concat();
    recording::play(EdgesFile::new(&file[..]), file.len());
});
