//! Record bytes and check sums, until the wire has them.
use speedwell_wire::{Manifest, ManifestHash, Record};
pub(super) fn encode(record: &Record) -> Vec<u8> {
    postcard::to_allocvec(record).unwrap_or_default()
}
pub(super) fn decode(bytes: &[u8]) -> Option<Record> {
    postcard::from_bytes(bytes).ok()
}
pub(super) fn hash(_: &Manifest) -> ManifestHash {
    ManifestHash([0; 8])
}
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 })
    }) ^ !0
}
