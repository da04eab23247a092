//! Finds our chunks in the raw file of a database that will not open.
//!
//! sled writes values as they are, several times over (first a change, later the page), so most chunks are found more
//! than once; and it does not wipe what it gave up, so some that are found do not count. What counts for a number is
//! the chunk of the highest epoch; and once an epoch has begun at some number, nothing of an earlier one counts behind
//! it, for a power cut had taken that before it was durable.

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt, path::Path};

use speedwell_wire::Seq;

use super::chunk::{Chunk, MAX_CHUNK, find_magic};

/// Bytes read at a time: what salvage takes of memory.
const WINDOW: usize = 1 << 20;
/// What is passed over when the device cannot read a window.
const BAD_BLOCK: u64 = 4096;

/// Where a chunk lies in the raw file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    epoch: u32,
    pub(super) offset: u64,
    pub(super) len: usize,
    /// Number of its last record.
    pub(super) last: Seq,
}

/// Calls `take` with every chunk that counts, in order.
pub(super) fn salvage<E: From<io::Error>>(
    raw: &Path,
    mut take: impl FnMut(Seq, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let file = match File::open(raw) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for (first, found) in chunks_of(&file)? {
        let mut bytes = vec![0; found.len];
        file.read_exact_at(&mut bytes, found.offset)?;
        take(first, &bytes)?;
    }
    Ok(())
}

/// Where the chunks are that count.
pub(super) fn chunks_of(file: &File) -> io::Result<BTreeMap<Seq, Found>> {
    Ok(what_counts(scan(file)?).collect())
}

fn scan(file: &File) -> io::Result<BTreeMap<Seq, Found>> {
    let length = file.metadata()?.len();
    let mut found = BTreeMap::new();
    let mut window = vec![0; WINDOW + MAX_CHUNK];
    let mut offset = 0;
    while offset < length {
        let read = match file.read_at(&mut window, offset) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => {
                offset += BAD_BLOCK;
                continue;
            }
        };
        scan_window(&window[..read], offset, &mut found);
        // The overlap lets a chunk that straddles two windows be found whole in the second.
        let at_end = offset + read as u64 >= length;
        offset += if at_end { read } else { read.saturating_sub(MAX_CHUNK).max(1) } as u64;
    }
    Ok(found)
}

fn scan_window(window: &[u8], offset: u64, found: &mut BTreeMap<Seq, Found>) {
    let mut at = 0;
    while let Some(next) = find_magic(&window[at..]) {
        at += next;
        let Some(chunk) = Chunk::parse(&window[at..]) else {
            at += 1;
            continue;
        };
        let (offset, last) = (offset + at as u64, chunk.last());
        let here = Found { epoch: chunk.epoch, offset, len: chunk.len(), last };
        at += chunk.len();
        let known = found.entry(chunk.first).or_insert(here);
        if known.epoch < here.epoch {
            *known = here;
        }
    }
}

fn what_counts(found: BTreeMap<Seq, Found>) -> impl Iterator<Item = (Seq, Found)> {
    let mut newest = 0;
    found.into_iter().filter(move |(_, found)| {
        let counts = found.epoch >= newest;
        newest = newest.max(found.epoch);
        counts
    })
}
