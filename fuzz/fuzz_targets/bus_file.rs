//! Any bytes as a file of looks at a chip; half of them behind a right header, which chance does not find.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedwell::board::recorded::BusFile;

mod recording;

const HEADER: &[u8] = b"from_ns,to_ns,count,health\n";

fuzz_target!(|bytes: &[u8]| {
    let head = if bytes.len() % 2 == 0 { HEADER } else { b"" };
    let file = [head, bytes].concat();
    recording::play(BusFile::new(&file[..]), file.len());
});
