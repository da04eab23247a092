//! The sentences that say more of what an RMC said: VTG its speed, GGA the altitude of its place.
//!
//! `VTG: 1 2 course true, 3 4 magnetic, 5 6 knots, 7 8 km/h, 9 mode`
//! `GGA: 1 time, 2 3 latitude, 4 5 longitude, 6 quality, 7 satellites, 8 HDOP, 9 10 altitude above the sea in m, ...`

use super::rmc::{BadField, MAX_KNOTS, fields_of, number, time_of_day, within};

/// What a VTG says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Vtg {
    /// Speed over ground, km/h; `None` when its field is empty or its mode says that it is none.
    pub(super) kmh: Option<f64>,
}

/// What a GGA says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Gga {
    /// ns since midnight.
    pub(super) time: Option<u64>,
    /// m; `None` when it has none, or no fix.
    pub(super) altitude: Option<f64>,
}

/// A VTG, if it is one.
pub(super) fn vtg(text: &str) -> Option<Result<Vtg, BadField>> {
    let fields = fields_of(text, "VTG")?;
    let mut field = [""; 9];
    for (place, text) in field.iter_mut().zip(fields.split(',')) {
        *place = text;
    }
    let [.., kmh, unit, mode] = field;
    if matches!(mode, "N" | "E" | "M" | "S") || unit != "K" {
        return Some(Ok(Vtg { kmh: None }));
    }
    let kmh = number(kmh).and_then(|kmh| kmh.map(|kmh| within(kmh, MAX_KNOTS * 1.852)).transpose());
    Some(kmh.map(|kmh| Vtg { kmh }))
}

/// A GGA, if it is one.
pub(super) fn gga(text: &str) -> Option<Result<Gga, BadField>> {
    let fields = fields_of(text, "GGA")?;
    let mut field = [""; 10];
    for (place, text) in field.iter_mut().zip(fields.split(',')) {
        *place = text;
    }
    let [time, _, _, _, _, quality, _, _, altitude, unit] = field;
    let time = time_of_day(time);
    // 0 is no fix, 6 dead reckoning, 7 typed in by hand, 8 simulated.
    if !matches!(quality, "1" | "2" | "3" | "4" | "5" | "9") || unit != "M" {
        return Some(Ok(Gga { time, altitude: None }));
    }
    let (sign, digits) = altitude.strip_prefix('-').map_or((1.0, altitude), |digits| (-1.0, digits));
    let altitude = number(digits).and_then(|m| m.map(|m| within(m, MAX_ALTITUDE).map(|m| sign * m)).transpose());
    Some(altitude.map(|altitude| Gga { time, altitude }))
}

/// Highest believed, m: civil receivers stop at 18 000 and a few at 80 000.
const MAX_ALTITUDE: f64 = 100_000.0;
