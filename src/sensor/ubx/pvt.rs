//! The fields of NAV-PVT, by their offsets in the payload (u-blox interface description, UBX-NAV-PVT).

use super::{super::nmea::NmeaUtc, frame::PAYLOAD};

/// What a solution says, in its own units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pvt {
    /// The receiver vouches for a fix that has a speed.
    pub(super) fix: bool,
    /// The fix has a height.
    pub(super) has_height: bool,
    /// Speed over ground, mm/s.
    pub(super) speed_mm: i32,
    /// One standard deviation of it.
    pub(super) speed_accuracy_mm: u32,
    /// 1e-7 degrees.
    pub(super) latitude: i32,
    /// 1e-7 degrees.
    pub(super) longitude: i32,
    /// Above mean sea level.
    pub(super) altitude_mm: i32,
    pub(super) horizontal_accuracy_mm: u32,
    pub(super) vertical_accuracy_mm: u32,
    /// Heading of motion, 1e-5 degrees.
    pub(super) course: i32,
    /// Date and time, when the receiver holds them to be valid and fully resolved.
    pub(super) utc: Option<NmeaUtc>,
}

/// validDate, validTime and fullyResolved.
const UTC_VALID: u8 = 0b111;
/// gnssFixOK: within the receiver's limits of dilution and accuracy.
const FIX_OK: u8 = 1;

pub(super) fn read(payload: &[u8; PAYLOAD]) -> Pvt {
    let signed = |at: usize| i32::from_le_bytes(four(payload, at));
    let unsigned = |at: usize| u32::from_le_bytes(four(payload, at));
    let (fix_type, flags) = (payload[20], payload[21]);
    Pvt {
        // 2 is 2D, 3 is 3D, 4 is GNSS with dead reckoning; 1 is dead reckoning alone and 5 time alone.
        fix: flags & FIX_OK != 0 && (2..=4).contains(&fix_type),
        has_height: (3..=4).contains(&fix_type),
        longitude: signed(24),
        latitude: signed(28),
        altitude_mm: signed(36),
        horizontal_accuracy_mm: unsigned(40),
        vertical_accuracy_mm: unsigned(44),
        speed_mm: signed(60),
        course: signed(64),
        speed_accuracy_mm: unsigned(68),
        utc: utc(payload, signed(16)),
    }
}

fn four(payload: &[u8; PAYLOAD], at: usize) -> [u8; 4] {
    [payload[at], payload[at + 1], payload[at + 2], payload[at + 3]]
}

/// The whole second and a fraction of up to half a second to either side. The one solution in a day whose fraction reaches
/// back over midnight gives no time rather than a wrong date.
fn utc(payload: &[u8; PAYLOAD], nano: i32) -> Option<NmeaUtc> {
    let year = u16::from_le_bytes([payload[4], payload[5]]);
    let [month, day, hour, minute, second, valid] = [6, 7, 8, 9, 10, 11].map(|at| payload[at]);
    let real = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    if valid & UTC_VALID != UTC_VALID || !real || !(1980..=2200).contains(&year) || nano.unsigned_abs() >= 1_000_000_000
    {
        return None;
    }
    let whole = (u64::from(hour) * 60 + u64::from(minute)) * 60 + u64::from(second);
    let second_of_day_ns = (whole * 1_000_000_000).checked_add_signed(i64::from(nano))?;
    Some(NmeaUtc { year, month, day, second_of_day_ns })
}
