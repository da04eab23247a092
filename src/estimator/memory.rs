//! What a wheel keeps over a restart, as bytes.
//!
//! ```text
//! magic     4     "SpWh"
//! version   u8    1
//! places    u32   places for teeth a turn, 0 when not known
//! missing   u32   how many of them have none
//! way       f64   m since the wheel was first measured
//! turns     u32   turns the table was learned over
//! rate      f64   Hz it was learned at
//! count     u32   teeth in the table: 0 or places
//! table     f32   count times: pitches by which each tooth lies beyond its place
//! check     u32   CRC-32C of all before
//! ```
//! Little-endian. The way is in metres, so that it holds when the calibration is changed or another wheel is put in.

use speedwell_wire::frame::crc32c;

const MAGIC: &[u8; 5] = b"SpWh\x01";
/// Without table and check.
const HEAD: usize = MAGIC.len() + 4 + 4 + 8 + 4 + 8 + 4;
const CHECK: usize = 4;
/// Further no vehicle goes, m.
const FARTHEST: f64 = 1e12;
/// Further off no tooth is: it would be its neighbour.
const FARTHEST_OFF: f32 = 0.5;

/// What was kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Memory<'a> {
    pub(super) places: u32,
    pub(super) missing: u32,
    pub(super) way: f64,
    pub(super) turns: u32,
    pub(super) rate: f64,
    table: &'a [u8],
}

impl<'a> Memory<'a> {
    /// Reads what [`write`] wrote; `None` for anything else.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(CHECK)?)?;
        if check != crc32c(body).to_le_bytes() {
            return None;
        }
        let mut rest = body.strip_prefix(MAGIC)?;
        let places = u32::from_le_bytes(*take(&mut rest)?);
        let missing = u32::from_le_bytes(*take(&mut rest)?);
        let way = f64::from_le_bytes(*take(&mut rest)?);
        let turns = u32::from_le_bytes(*take(&mut rest)?);
        let rate = f64::from_le_bytes(*take(&mut rest)?);
        let count = u32::from_le_bytes(*take(&mut rest)?);
        let memory = Self { places, missing, way, turns, rate, table: rest };
        let whole = rest.len() as u64 == 4 * u64::from(count) && (count == 0 || count == places);
        let sound = way.abs() <= FARTHEST && rate.is_finite() && rate >= 0.0;
        let even = memory.table().all(|offset| offset.abs() <= FARTHEST_OFF);
        (whole && sound && even).then_some(memory)
    }

    /// The offsets of the teeth, in pitches.
    pub(super) fn table(&self) -> impl ExactSizeIterator<Item = f32> + 'a {
        self.table.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (first, others) = rest.split_first_chunk()?;
    *rest = others;
    Some(first)
}

/// The bytes of a wheel; `learned` is turns, rate and table.
pub(super) fn write(places: u32, missing: u32, way: f64, learned: Option<(u32, f64, &[f32])>) -> Vec<u8> {
    let (turns, rate, table) = learned.unwrap_or_default();
    let mut bytes = Vec::with_capacity(HEAD + 4 * table.len() + CHECK);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&places.to_le_bytes());
    bytes.extend_from_slice(&missing.to_le_bytes());
    bytes.extend_from_slice(&way.to_le_bytes());
    bytes.extend_from_slice(&turns.to_le_bytes());
    bytes.extend_from_slice(&rate.to_le_bytes());
    bytes.extend_from_slice(&(table.len() as u32).to_le_bytes());
    table.iter().for_each(|offset| bytes.extend_from_slice(&offset.to_le_bytes()));
    bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else_is() {
        let table = [0.01, -0.02, 0.005, 0.005];
        let bytes = write(4, 0, 1234.5, Some((77, 430.0, &table)));
        let memory = Memory::read(&bytes).unwrap();
        assert_eq!((memory.places, memory.missing, memory.way), (4, 0, 1234.5));
        assert_eq!((memory.turns, memory.rate), (77, 430.0));
        assert_eq!(memory.table().collect::<Vec<_>>(), table);
        for cut in 0..bytes.len() {
            assert_eq!(Memory::read(&bytes[..cut]), None, "{cut}");
        }
        for bit in 0..8 * bytes.len() {
            let mut bent = bytes.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Memory::read(&bent), None, "{bit}");
        }
    }

    #[test]
    fn what_no_wheel_can_be_is_refused_however_well_it_is_sealed() {
        for bytes in [
            write(4, 0, f64::NAN, None),
            write(4, 0, 1e13, None),
            write(4, 0, 1.0, Some((1, f64::INFINITY, &[0.0; 4]))),
            write(4, 0, 1.0, Some((1, 1.0, &[0.0; 3]))),
            write(4, 0, 1.0, Some((1, 1.0, &[0.0, 0.0, 0.6, 0.0]))),
            write(4, 0, 1.0, Some((1, 1.0, &[0.0, 0.0, f32::NAN, 0.0]))),
        ] {
            assert_eq!(Memory::read(&bytes), None);
        }
        assert!(Memory::read(&write(4, 0, -1.0, None)).is_some());
    }
}
