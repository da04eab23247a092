//! The sentences that say more of what an RMC said: VTG its speed, GGA the altitude of its place.
//!
//! `VTG: 1 2 course true, 3 4 magnetic, 5 6 knots, 7 8 km/h, 9 mode`
//! `GGA: 1 time, 2 3 latitude, 4 5 longitude, 6 quality, 7 satellites, 8 HDOP, 9 10 altitude above the sea in m, ...`

use super::rmc::{BadField, MAX_KNOTS, fields_of, number, within};

/// Speed over ground of a VTG, km/h; `None` inside when its field is empty or its mode says that it is none.
pub(super) fn vtg(text: &str) -> Option<Result<Option<f64>, BadField>> {
    let fields = fields_of(text, "VTG")?;
    let mut field = [""; 9];
    for (place, text) in field.iter_mut().zip(fields.split(',')) {
        *place = text;
    }
    let [.., kmh, unit, mode] = field;
    if matches!(mode, "N" | "E" | "M" | "S") || unit != "K" {
        return Some(Ok(None));
    }
    Some(number(kmh).and_then(|kmh| kmh.map(|kmh| within(kmh, MAX_KNOTS * 1.852)).transpose()))
}

/// Altitude of a GGA, m; `None` inside when it has none, or no fix.
pub(super) fn gga(text: &str) -> Option<Result<Option<f64>, BadField>> {
    let fields = fields_of(text, "GGA")?;
    let mut field = [""; 10];
    for (place, text) in field.iter_mut().zip(fields.split(',')) {
        *place = text;
    }
    let [_, _, _, _, _, quality, _, _, altitude, unit] = field;
    // 0 is no fix, 6 dead reckoning, 7 typed in by hand, 8 simulated.
    if !matches!(quality, "1" | "2" | "3" | "4" | "5" | "9") || unit != "M" {
        return Some(Ok(None));
    }
    let (sign, digits) = altitude.strip_prefix('-').map_or((1.0, altitude), |digits| (-1.0, digits));
    Some(number(digits).and_then(|m| m.map(|m| within(m, MAX_ALTITUDE).map(|m| sign * m)).transpose()))
}

/// Highest believed, m: civil receivers stop at 18 000 and a few at 80 000.
const MAX_ALTITUDE: f64 = 100_000.0;
