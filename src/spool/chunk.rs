//! Consecutive records in one value on disk, framed so that they can be found and trusted without the database.
//!
//! ```text
//! chunk {
//!     magic    4 bytes   "SpW\x01"
//!     length   u16 LE    bytes of the payload
//!     count    u16 LE    records in it
//!     flags    u16 LE    0; a reader that meets another value takes the chunk for damaged
//!     epoch    u32 LE    how often the spool had been opened when this was written
//!     first    u64 LE    sequence number of the first record
//!     payload  count times { length u16 LE, record bytes }
//!     check    u32 LE    CRC-32C of everything before
//! }
//! ```
//! A chunk has at most [`MAX_CHUNK`] bytes. sled puts up to 16 values into a leaf and spills a leaf that outgrows a
//! quarter of a segment into a blob file, which it never syncs and leaks when killed: so a value may have a 64th of
//! a segment and no more. The epoch tells what counts when a raw scan finds two chunks for one number: one that a
//! power cut had taken before it was durable, and the one that later got the same number.

use speedwell_wire::{Record, Seq, frame::crc32c};

use super::store::StoreError;

/// Most bytes of a chunk.
pub(super) const MAX_CHUNK: usize = 8 << 10;
/// Most bytes of an encoded record: one that has a chunk to itself.
pub const MAX_RECORD: usize = MAX_CHUNK - HEADER - LENGTH - CHECK;

const MAGIC: [u8; 4] = *b"SpW\x01";
const HEADER: usize = 22;
const LENGTH: usize = 2;
const CHECK: usize = 4;

/// Refuses records that do not fit a chunk.
pub(super) fn check_sizes(records: &[(Record, Vec<u8>)]) -> Result<(), StoreError> {
    match records.iter().enumerate().find(|(_, (_, bytes))| bytes.len() > MAX_RECORD) {
        Some((index, (_, bytes))) => Err(StoreError::TooLarge { index, bytes: bytes.len(), max: MAX_RECORD }),
        None => Ok(()),
    }
}

/// A chunk that is being filled.
#[derive(Debug)]
pub(super) struct Builder {
    bytes: Vec<u8>,
    count: u16,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; HEADER], count: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn len(&self) -> usize {
        if self.is_empty() { 0 } else { self.bytes.len() + CHECK }
    }

    /// Takes a record in; `false` when there is no room for it.
    pub(super) fn push(&mut self, record: &[u8]) -> bool {
        let Ok(length) = u16::try_from(record.len()) else { return false };
        if self.bytes.len() + LENGTH + record.len() + CHECK > MAX_CHUNK {
            return false;
        }
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(record);
        self.count += 1;
        true
    }

    /// The chunk; the builder is empty again.
    pub(super) fn finish(&mut self, first: Seq, epoch: u32) -> Vec<u8> {
        let mut bytes = std::mem::replace(&mut self.bytes, vec![0; HEADER]);
        let payload = u16::try_from(bytes.len() - HEADER).unwrap_or(u16::MAX);
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&payload.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.count.to_le_bytes());
        bytes[10..14].copy_from_slice(&epoch.to_le_bytes());
        bytes[14..22].copy_from_slice(&first.to_le_bytes());
        let check = crc32c(&bytes);
        bytes.extend_from_slice(&check.to_le_bytes());
        self.count = 0;
        bytes
    }
}

/// A chunk that has been read and found whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    pub(super) first: Seq,
    pub(super) count: u16,
    pub(super) epoch: u32,
    payload: &'a [u8],
}

/// Bytes that were found to begin with a whole chunk: they need not be checked again to be read.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    bytes: Vec<u8>,
    first: Seq,
    count: u16,
    epoch: u32,
    payload: std::ops::Range<usize>,
}

impl Whole {
    /// `None` when they do not.
    pub(super) fn of(bytes: Vec<u8>) -> Option<Self> {
        let Chunk { first, count, epoch, payload } = Chunk::parse(&bytes)?;
        let payload = HEADER..HEADER + payload.len();
        Some(Self { bytes, first, count, epoch, payload })
    }

    pub(super) fn chunk(&self) -> Chunk<'_> {
        let Self { first, count, epoch, .. } = *self;
        Chunk { first, count, epoch, payload: &self.bytes[self.payload.clone()] }
    }
}

impl<'a> Chunk<'a> {
    /// Reads the chunk that `bytes` begin with; `None` when it is not whole. Any bytes will do.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.get(..4)? != MAGIC {
            return None;
        }
        let payload_len = usize::from(u16::from_le_bytes(array(bytes, 4)?));
        let end = HEADER + payload_len;
        let check = u32::from_le_bytes(array(bytes, end)?);
        let flags = u16::from_le_bytes(array(bytes, 8)?);
        if flags != 0 || end + CHECK > MAX_CHUNK || check != crc32c(bytes.get(..end)?) {
            return None;
        }
        let chunk = Self {
            first: Seq::from_le_bytes(array(bytes, 14)?),
            count: u16::from_le_bytes(array(bytes, 6)?),
            epoch: u32::from_le_bytes(array(bytes, 10)?),
            payload: &bytes[HEADER..end],
        };
        let whole = chunk.records().map(<[u8]>::len).fold((0, 0), |(n, len), record| (n + 1, len + LENGTH + record));
        let last_fits = chunk.first.checked_add(u64::from(chunk.count)).is_some();
        (chunk.count > 0 && last_fits && whole == (chunk.count, payload_len)).then_some(chunk)
    }

    /// Sequence number of the last record.
    pub(super) fn last(&self) -> Seq {
        self.first + u64::from(self.count) - 1
    }

    /// The bytes of each record.
    pub(super) fn records(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.payload;
        std::iter::from_fn(move || {
            let length = usize::from(u16::from_le_bytes(array(rest, 0)?));
            let record = rest.get(LENGTH..LENGTH + length)?;
            rest = &rest[LENGTH + length..];
            Some(record)
        })
    }

    /// How many bytes the whole chunk takes.
    pub(super) fn len(&self) -> usize {
        HEADER + self.payload.len() + CHECK
    }
}

/// Where the next chunk could begin in raw bytes.
pub(super) fn find_magic(bytes: &[u8]) -> Option<usize> {
    bytes.windows(MAGIC.len()).position(|window| window == MAGIC)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn build(records: &[Vec<u8>], first: Seq) -> Vec<u8> {
        let mut builder = Builder::new();
        assert!(records.iter().all(|record| builder.push(record)));
        builder.finish(first, 3)
    }

    /// If this fails, the code is wrong, not the test: these bytes are on cards in vehicles.
    #[test]
    fn the_bytes_of_format_1_are_frozen() {
        let bytes = build(&[b"ab".to_vec(), b"c".to_vec()], 0x0102);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, FROZEN);
    }
    const FROZEN: &str = "537057010700020000000300000002010000000000000200616201006321a3ec03";

    #[test]
    fn a_record_of_the_greatest_size_fits_and_one_byte_more_does_not() {
        let mut builder = Builder::new();
        assert!(!builder.push(&vec![0; MAX_RECORD + 1]));
        assert!(builder.push(&vec![0; MAX_RECORD]));
        assert_eq!(builder.finish(1, 0).len(), MAX_CHUNK);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..25)) {
            let bytes = build(&records, 77);
            let chunk = Chunk::parse(&bytes).expect("whole");
            prop_assert_eq!((chunk.first, chunk.last(), chunk.epoch), (77, 76 + records.len() as u64, 3));
            prop_assert_eq!(chunk.records().map(<[u8]>::to_vec).collect::<Vec<_>>(), records);
            prop_assert_eq!(chunk.len(), bytes.len());
        }

        #[test]
        fn any_bytes_are_a_chunk_or_none(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Chunk::parse(&bytes);
            bytes.splice(..0, MAGIC);
            let _ = Chunk::parse(&bytes);
        }

        #[test]
        fn one_wrong_byte_makes_it_none(at in 0..60usize, flip in 1..=255u8) {
            let mut bytes = build(&[vec![7; 32]], 9);
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert_eq!(Chunk::parse(&bytes), None);
        }
    }
}
