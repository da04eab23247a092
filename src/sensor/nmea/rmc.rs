//! The fields of RMC: `1 time, 2 status, 3 4 latitude, 5 6 longitude, 7 knots, 8 course, 9 date, 10 11 variation,
//! 12 mode, 13 navigational status`.

/// What an RMC sentence says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rmc {
    /// The receiver vouches for it.
    pub valid: bool,
    /// Speed over ground, knots; `None` when the field is empty.
    pub speed_knots: Option<f64>,
    /// Latitude and longitude in degrees, north and east positive.
    pub position: Option<(f64, f64)>,
    /// Course over ground, degrees from true north.
    pub course: Option<f64>,
    /// Time of day, ns since midnight: what the sentences of one solution share.
    pub time: Option<u64>,
    /// Date and time.
    pub utc: Option<NmeaUtc>,
}

/// Date and time as a receiver tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NmeaUtc {
    /// Four digits: the sentence has two, which count from 1980, the year GPS time begins.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// Since midnight; a leap second reaches past 86 400 s.
    pub second_of_day_ns: u64,
}

impl NmeaUtc {
    /// ns since 1970; `None` for a day that its month does not have and within a leap second, which has no such number.
    pub fn unix_ns(self) -> Option<i64> {
        let leap_year =
            self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let days = match self.month {
            4 | 6 | 9 | 11 => 30,
            2 if leap_year => 29,
            2 => 28,
            1..=12 => 31,
            _ => 0,
        };
        if !(1..=days).contains(&self.day) || self.second_of_day_ns >= 86_400_000_000_000 {
            return None;
        }
        // Years that begin in March have their leap day at their end; 153 days are five months from there on.
        let (year, month) = match self.month {
            month @ 3.. => (i64::from(self.year), i64::from(month) - 3),
            month => (i64::from(self.year) - 1, i64::from(month) + 9),
        };
        let leap_days = year / 4 - year / 100 + year / 400;
        let days = 365 * year + leap_days + (153 * month + 2) / 5 + i64::from(self.day) - 1 - 719_468;
        days.checked_mul(86_400_000_000_000)?.checked_add_unsigned(self.second_of_day_ns)
    }
}

/// A field that is neither empty nor what it should be, under a right checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadField;

/// Fastest believed, knots: civil receivers stop at 1000.
pub(super) const MAX_KNOTS: f64 = 2000.0;

/// The fields of a sentence; `None` when it is not an RMC of a two-letter talker.
pub(super) fn parse(text: &str) -> Option<Result<Rmc, BadField>> {
    fields_of(text, "RMC").map(parse_fields)
}

/// What follows the name of a sentence of this kind, whoever talks.
pub(super) fn fields_of<'a>(text: &'a str, kind: &str) -> Option<&'a str> {
    let (name, fields) = text.split_once(',')?;
    // Names that begin with P are makers' own sentences.
    (name.len() == 5 && name.ends_with(kind) && !name.starts_with('P')).then_some(fields)
}

fn parse_fields(fields: &str) -> Result<Rmc, BadField> {
    let mut field = [""; 13];
    for (place, text) in field.iter_mut().zip(fields.split(',')) {
        *place = text;
    }
    let [time, status, lat, ns, lon, ew, knots, course, date, _, _, mode, _] = field;
    let believed = !matches!(mode, "N" | "E" | "M" | "S");
    Ok(Rmc {
        valid: status == "A" && believed,
        speed_knots: number(knots)?.map(|knots| within(knots, MAX_KNOTS)).transpose()?,
        position: position(angle(lat, 2, 90.0)?, ns, angle(lon, 3, 180.0)?, ew)?,
        course: number(course)?.map(|course| within(course, 360.0)).transpose()?,
        time: time_of_day(time),
        utc: utc(time, date),
    })
}

/// Digits with at most one point. `f64`'s own parser would also take `inf`, `NaN`, signs and exponents.
pub(super) fn number(text: &str) -> Result<Option<f64>, BadField> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let points = text.bytes().filter(|&b| b == b'.').count();
    if digits == 0 || points > 1 || digits + points != text.len() {
        return Err(BadField);
    }
    text.parse().map(Some).map_err(|_| BadField)
}

pub(super) fn within(value: f64, limit: f64) -> Result<f64, BadField> {
    if value <= limit { Ok(value) } else { Err(BadField) }
}

/// `ddmm.mmm`: degrees in `digits` digits, then minutes.
pub(super) fn angle(text: &str, digits: usize, limit: f64) -> Result<Option<f64>, BadField> {
    if text.is_empty() {
        return Ok(None);
    }
    let (degrees, minutes) = text.split_at_checked(digits).ok_or(BadField)?;
    let (Some(degrees), Some(minutes)) = (number(degrees)?, number(minutes)?) else { return Err(BadField) };
    if minutes >= 60.0 {
        return Err(BadField);
    }
    within(degrees + minutes / 60.0, limit).map(Some)
}

pub(super) fn position(lat: Option<f64>, ns: &str, lon: Option<f64>, ew: &str) -> Result<Option<(f64, f64)>, BadField> {
    let (Some(lat), Some(lon)) = (lat, lon) else { return Ok(None) };
    let sign = |text, plus, minus| match text {
        _ if text == plus => Ok(1.0),
        _ if text == minus => Ok(-1.0),
        _ => Err(BadField),
    };
    Ok(Some((lat * sign(ns, "N", "S")?, lon * sign(ew, "E", "W")?)))
}

fn two(text: &str, at: usize) -> Option<u64> {
    number(text.get(at..at + 2)?).ok()?.map(|value| value as u64)
}

/// `hhmmss[.s]`, ns since midnight. A receiver without a fix sends it empty or wrong, so that it never makes a sentence bad.
pub(super) fn time_of_day(time: &str) -> Option<u64> {
    let (hour, minute) = (two(time, 0)?, two(time, 2)?);
    let second = number(time.get(4..)?).ok()??;
    let real = hour < 24 && minute < 60 && second < 61.0;
    real.then(|| (hour * 3600 + minute * 60) * 1_000_000_000 + (second * 1e9).round() as u64)
}

/// The same with `ddmmyy`, which may be empty or wrong, too.
fn utc(time: &str, date: &str) -> Option<NmeaUtc> {
    let second_of_day_ns = time_of_day(time)?;
    let (day, month, year) = (two(date, 0)?, two(date, 2)?, two(date, 4)?);
    if date.len() != 6 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if year < 80 { 2000 + year } else { 1900 + year } as u16;
    Some(NmeaUtc { year, month: month as u8, day: day as u8, second_of_day_ns })
}
