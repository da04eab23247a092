//! The envelope of every postcard message, and of a batch put together from records that are already encoded.
//!
//! ```text
//! frame {
//!     version   u8          1
//!     body      [u8]        the message in postcard
//!     crc       u32 LE      CRC-32C (Castagnoli) over version and body
//! }
//! ```
//! The first byte tells a frame from JSON: no version will ever be 0x7B, `{`. Bytes of the body behind the part that a
//! reader knows are ignored, so that a later minor form may append fields to the outermost message. A batch with a kind
//! of record that the reader does not know is refused whole: what follows it cannot be found, and what is not stored
//! must not be confirmed. So hubs are brought up to date before gateways; until then the gateway keeps its log.
//!
//! A frame is at most [`MAX_FRAME`] bytes: an MQTT packet is held in memory whole by every broker and both ends.

use alloc::vec::Vec;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    batch,
    id::{GatewayId, LogId, Seq},
};

/// The version this code writes, and the newest it reads.
pub const VERSION: u8 = 1;

/// Longest frame, in bytes. Enough for minutes of a large gateway; small enough that a gateway with 64 MiB of memory
/// and a hub with a thousand gateways hold a few of them without thinking.
pub const MAX_FRAME: usize = 1 << 20;

/// Longest JSON message, in bytes: the JSON twin of a frame of one sample a bit would be larger, but no honest sender
/// gets near.
pub const MAX_JSON: usize = 32 << 20;

/// Bytes of a frame besides its body.
pub const OVERHEAD: usize = 1 + CRC_LEN;

const CRC_LEN: usize = 4;
const CASTAGNOLI: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than the smallest frame: cut off, or no frame at all.
    #[error("{0} bytes are too short for a frame")]
    TooShort(usize),
    /// Longer than [`MAX_FRAME`] (or [`MAX_JSON`]); not looked into.
    #[error("{len} bytes are too long, allowed are {max}")]
    TooLong {
        /// Length met.
        len: usize,
        /// Length allowed.
        max: usize,
    },
    /// Of a version this code does not know: the other end is newer, or this is no frame.
    #[error("frame version {0} is unknown, known is {VERSION}")]
    Version(u8),
    /// Damaged on its way or at rest.
    #[error("check sum is {found:08x}, the bytes give {computed:08x}")]
    Crc {
        /// What the frame says.
        found: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// Whole, but not the message that was looked for, or one with a kind of record that came after this code.
    #[error("frame is whole but its body is no message this version knows (is the sender newer?): {0}")]
    Body(postcard::Error),
    /// JSON, but not the message that was looked for.
    #[error("JSON is not the message: line {line}, column {column}")]
    Json {
        /// Line of the mistake, from 1.
        line: usize,
        /// Column of the mistake, from 1.
        column: usize,
    },
}

/// CRC-32C over `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    CASTAGNOLI.checksum(bytes)
}

/// The message in an envelope.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let mut bytes = alloc::vec![VERSION];
    bytes.extend(body(message));
    seal(bytes)
}

/// The message out of its envelope.
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, FrameError> {
    let body = open(frame)?;
    postcard::take_from_bytes(body).map(|(message, _rest)| message).map_err(FrameError::Body)
}

/// Whether the bytes are JSON (first byte `{`), not a frame.
pub fn is_json(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'{')
}

/// The message out of a frame or out of JSON, as the first byte tells. For manifests and live values; a batch in JSON
/// is another matter, see [`crate::json::batch_from_json`].
pub fn decode_any<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    if !is_json(bytes) {
        return decode(bytes);
    }
    if bytes.len() > MAX_JSON {
        return Err(FrameError::TooLong { len: bytes.len(), max: MAX_JSON });
    }
    serde_json::from_slice(bytes).map_err(|e| FrameError::Json { line: e.line(), column: e.column() })
}

/// Checks the envelope and gives the body.
pub(crate) fn open(frame: &[u8]) -> Result<&[u8], FrameError> {
    if frame.len() > MAX_FRAME {
        return Err(FrameError::TooLong { len: frame.len(), max: MAX_FRAME });
    }
    let Some((sealed, crc)) = frame.split_last_chunk::<CRC_LEN>() else {
        return Err(FrameError::TooShort(frame.len()));
    };
    let Some((&version, body)) = sealed.split_first() else {
        return Err(FrameError::TooShort(frame.len()));
    };
    // The version first: of another version not even the check sum's place is known.
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    let (found, computed) = (u32::from_le_bytes(*crc), crc32c(sealed));
    if found != computed {
        return Err(FrameError::Crc { found, computed });
    }
    Ok(body)
}

/// The postcard bytes of one of our messages.
pub(crate) fn body<T: Serialize>(message: &T) -> Vec<u8> {
    // None of our types has a sequence of unknown length or a custom failure, and a Vec grows as needed.
    postcard::to_allocvec(message).expect("postcard into a Vec fails only on types this crate does not have")
}

fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

/// Puts a batch frame together from encoded records, without decoding any. The result is byte for byte what
/// [`encode`] makes of the same [`crate::Batch`].
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    /// Version and what stands before the entries.
    head: Vec<u8>,
    entries: Vec<u8>,
    count: usize,
    span: u64,
}

impl BatchBuilder {
    /// An empty batch that begins at `first_seq`.
    pub fn new(gateway: &GatewayId, log: LogId, oldest_seq: Seq, first_seq: Seq) -> Self {
        let mut head = alloc::vec![VERSION];
        head.extend(body(&batch::head(gateway, log, oldest_seq, first_seq)));
        Self { head, entries: Vec::new(), count: 0, span: 0 }
    }

    /// Adds a record as [`crate::record::encode`] made it, which stands for `span` sequence numbers.
    pub fn push_encoded(&mut self, span: u64, record: &[u8]) {
        self.entries.extend(body(&span));
        self.entries.extend(record);
        self.count += 1;
        self.span += span;
    }

    /// Bytes the finished frame will have.
    pub fn len(&self) -> usize {
        self.head.len() + body(&self.count).len() + self.entries.len() + CRC_LEN
    }

    /// Whether nothing was pushed yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Records pushed.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Sequence numbers the pushed records stand for.
    pub fn span(&self) -> u64 {
        self.span
    }

    /// The frame.
    pub fn finish(self) -> Vec<u8> {
        let mut bytes = self.head;
        bytes.extend(body(&self.count));
        bytes.extend(self.entries);
        seal(bytes)
    }
}
