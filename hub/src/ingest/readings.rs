//! Single readings: JSON that programs and foreign gateways send becomes [`Reading`]s, or is told what is wrong with it.
//!
//! In      a document: one object or an array of them, in one of the [`Shape`]s.
//! Out     readings in the units of the store, and each bad item with its index and reason.
//! Keeps   nothing but the last time of arrival given out.
//!
//! Pure but for that clock. Memory is at most some ten times the document.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicI64, Ordering},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use speedwell_wire::{Channel, GatewayId, Quality, Quantity};

use super::{
    field::{Look, Number, short},
    foreign, utc_ns,
};
use crate::{config::SpeedUnit, store::Reading};

/// Items of one document: a commit of them stays short, and an answer that names each of them stays small.
pub const MAX_ITEMS: usize = 1_000;
/// A time so far ahead of this machine's clock is no time of a measurement: it would be the newest value until then.
const MAX_AHEAD_NS: i64 = 24 * 3600 * 1_000_000_000;
/// 1677-09-22, the first whole day of those that an i64 of ns since 1970 reaches.
const EARLIEST_NS: i64 = -106_751 * 24 * 3600 * 1_000_000_000;
/// No value of a measurement is as large; and some of those that are cannot be added any more.
const MAX_VALUE: f64 = 1e100;
/// Between the times of items that came together without any.
const APART_NS: i64 = 1_000;

/// How items are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Ours: `{"device","sensor","quantity","unit"?,"value","uncertainty"?,"quality"?,"at"?}`.
    Own,
    /// `{"device_id","location","speed","timestamp"?}`.
    Tracking {
        /// Of its speeds.
        speed: SpeedUnit,
        /// The sensor that its values are kept under.
        sensor: String,
    },
    /// `{"data":[{"plateNum","lng","lat","speed"}]}`.
    Positions {
        /// Of its speeds.
        speed: SpeedUnit,
        /// The sensor that its values are kept under.
        sensor: String,
    },
}

/// What a document brought.
#[derive(Debug, PartialEq)]
pub struct Taken {
    /// Items in it.
    pub items: usize,
    /// What the good ones say.
    pub readings: Vec<Reading>,
    /// The bad ones, in order.
    pub bad: Vec<Bad>,
    /// When it arrived, UTC ns.
    pub received_ns: i64,
}

/// An item that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = BadItem)]
pub struct Bad {
    /// Its place, from 0.
    pub index: usize,
    /// Why.
    pub reason: String,
}

/// A document that is no list of items at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Not JSON.
    #[error("{0}")]
    Json(String),
    /// JSON, but something else.
    #[error("wanted {0}")]
    NotItems(&'static str),
    /// More than are taken at once.
    #[error("{items} items, allowed are {most} at once: send them in parts")]
    TooMany {
        /// So many.
        items: usize,
        /// Of so many.
        most: usize,
    },
}

/// Gives times of arrival, UTC ns, and none twice: two readings of one channel that came at once are two.
#[derive(Debug, Default)]
pub struct ArrivalClock(AtomicI64);

impl ArrivalClock {
    /// The time of the first of `n` items, [`APART_NS`] between them. This machine's clock may be set back; these are not.
    pub(super) fn take(&self, n: usize) -> i64 {
        let (now, width) = (utc_ns(), APART_NS.saturating_mul(n as i64));
        let next = |last: i64| Some(last.max(now).saturating_add(width));
        let last = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        last.max(now)
    }
}

/// One item, or several.
enum Items<'a> {
    One(&'a str),
    Many(Vec<&'a RawValue>),
}

/// What is wrong with an item.
pub(super) enum Wrong {
    /// Nothing of it can be read; the parser's words.
    Json(serde_json::Error),
    /// It can be read, and is not what is wanted.
    Item(String),
}

impl Shape {
    /// Reads a document that arrives now.
    pub fn read(&self, document: &[u8], clock: &ArrivalClock) -> Result<Taken, Unreadable> {
        self.read_at(document, MAX_ITEMS, |items| clock.take(items))
    }

    /// Reads a document of so many items at most; `arrival` gives the time of its first.
    pub(super) fn read_at(
        &self,
        document: &[u8],
        most: usize,
        arrival: impl FnOnce(usize) -> i64,
    ) -> Result<Taken, Unreadable> {
        let text = str::from_utf8(document)
            .map_err(|e| Unreadable::Json(format!("not UTF-8 after byte {}", e.valid_up_to())))?;
        match self.items(text)? {
            Items::One(item) => {
                let mut taken = Taken::new(1, arrival(1));
                match self.item(item, &mut taken, 0) {
                    Err(Wrong::Json(error)) => Err(Unreadable::Json(error.to_string())),
                    wrong => Ok(taken.with(0, wrong)),
                }
            }
            Items::Many(items) if items.len() > most => Err(Unreadable::TooMany { items: items.len(), most }),
            Items::Many(items) => {
                let mut taken = Taken::new(items.len(), arrival(items.len()));
                for (index, item) in items.iter().enumerate() {
                    let wrong = self.item(item.get(), &mut taken, index);
                    taken = taken.with(index, wrong);
                }
                Ok(taken)
            }
        }
    }

    /// The items' own texts of a document that brought bad ones, to be set aside.
    pub(super) fn texts<'a>(&self, document: &'a [u8]) -> Vec<&'a str> {
        match str::from_utf8(document).ok().and_then(|text| self.items(text).ok()) {
            Some(Items::Many(items)) => items.into_iter().map(RawValue::get).collect(),
            Some(Items::One(item)) => vec![item],
            None => Vec::new(),
        }
    }

    fn items<'a>(&self, text: &'a str) -> Result<Items<'a>, Unreadable> {
        #[derive(Deserialize)]
        struct Envelope<'a> {
            #[serde(borrow)]
            data: Vec<&'a RawValue>,
        }
        // RFC 8259 section 8.1 lets a reader pass over a byte order mark, which some programs write and nobody sees.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let wanted = match self {
            Shape::Positions { .. } => "an object with an array \"data\"",
            Shape::Own | Shape::Tracking { .. } => "an object or an array of objects",
        };
        let read = |error: serde_json::Error| match error.is_data() {
            true => Unreadable::NotItems(wanted),
            false => Unreadable::Json(error.to_string()),
        };
        match (self, text.trim_ascii_start().as_bytes().first()) {
            (Shape::Positions { .. }, _) => {
                serde_json::from_str::<Envelope>(text).map(|e| Items::Many(e.data)).map_err(read)
            }
            (_, Some(b'[')) => serde_json::from_str(text).map(Items::Many).map_err(read),
            (_, Some(b'{')) => Ok(Items::One(text)),
            _ => match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                Ok(_) => Err(Unreadable::NotItems(wanted)),
                Err(error) => Err(Unreadable::Json(error.to_string())),
            },
        }
    }

    fn item(&self, text: &str, taken: &mut Taken, index: usize) -> Result<(), Wrong> {
        let arrived = taken.received_ns.saturating_add(APART_NS.saturating_mul(index as i64));
        // The parser would take an array for an item too, by the order of its fields.
        if text.trim_ascii_start().starts_with('[') {
            return Err(Wrong::Item("not an object".into()));
        }
        match self {
            Shape::Own => own(text, arrived).map(|reading| taken.readings.push(reading)),
            Shape::Tracking { speed, sensor } => foreign::tracking(text, *speed, sensor, arrived, &mut taken.readings),
            Shape::Positions { speed, sensor } => foreign::position(text, *speed, sensor, arrived, &mut taken.readings),
        }
    }
}

impl Taken {
    fn new(items: usize, received_ns: i64) -> Self {
        Self { items, readings: Vec::with_capacity(items), bad: Vec::new(), received_ns }
    }

    fn with(mut self, index: usize, item: Result<(), Wrong>) -> Self {
        let reason = match item {
            Ok(()) => return self,
            Err(Wrong::Item(reason)) => reason,
            Err(Wrong::Json(error)) => error.to_string(),
        };
        self.bad.push(Bad { index, reason: short(reason) });
        self
    }
}

/// The parser gave up on an item: looks at it field by field, for better words. It was right all the same.
pub(super) fn explain(text: &str, error: serde_json::Error, look: impl Fn(Look<'_>) -> Look<'_>) -> Wrong {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(map)) => Wrong::Item(look(Look::at(&map)).told().unwrap_or_else(|| error.to_string())),
        Ok(_) => Wrong::Item("not an object".into()),
        Err(error) => Wrong::Json(error),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own<'a> {
    #[serde(borrow)]
    device: Cow<'a, str>,
    #[serde(borrow)]
    sensor: Cow<'a, str>,
    quantity: Quantity,
    #[serde(borrow)]
    unit: Option<Cow<'a, str>>,
    value: Number,
    uncertainty: Option<Number>,
    quality: Option<Quality>,
    #[serde(borrow)]
    at: Option<Cow<'a, str>>,
}

const FIELDS: [&str; 8] = ["device", "sensor", "quantity", "unit", "value", "uncertainty", "quality", "at"];

fn own(text: &str, arrived: i64) -> Result<Reading, Wrong> {
    let item: Own<'_> = serde_json::from_str(text).map_err(|error| {
        explain(text, error, |look| {
            look.wants::<String>("device")
                .wants::<String>("sensor")
                .wants::<Quantity>("quantity")
                .may_have::<String>("unit")
                .wants::<Number>("value")
                .may_have::<Number>("uncertainty")
                .may_have::<Quality>("quality")
                .may_have::<String>("at")
                .and_no_other(&FIELDS)
        })
    })?;
    checked(item, arrived).map_err(Wrong::Item)
}

fn checked(item: Own<'_>, arrived: i64) -> Result<Reading, String> {
    let device = GatewayId::new(item.device).map_err(|bad| format!("device: {bad}"))?;
    let sensor = item.sensor.into_owned();
    if !(1..=Channel::MAX_SENSOR).contains(&sensor.len()) || sensor.contains(char::is_control) {
        return Err(format!("sensor: {sensor:?}: allowed are 1 to {} bytes of text", Channel::MAX_SENSOR));
    }
    let quantity = item.quantity;
    let (times, by) = factor(quantity, item.unit.as_deref())?;
    let scaled = |name: &str, Number(n): Number| {
        let scaled = n * times / by;
        (scaled.abs() <= MAX_VALUE).then_some(scaled).ok_or_else(|| format!("{name}: {n:e} is too large"))
    };
    let value = in_range(quantity, scaled("value", item.value)?)?;
    let uncertainty = item.uncertainty.map(|u| scaled("uncertainty", u)).transpose()?;
    if let Some(u) = uncertainty.filter(|u| *u < 0.0) {
        return Err(format!("uncertainty: {u} is below 0"));
    }
    let utc_ns = item.at.map_or(Ok(arrived), |at| time("at", &at, arrived))?;
    Ok(Reading { device, sensor, quantity, utc_ns, value, uncertainty, quality: item.quality.unwrap_or_default() })
}

/// A time with a zone.
pub(super) fn time(field: &str, text: &str, now_ns: i64) -> Result<i64, String> {
    let bad = |_| {
        let text = text.get(..40).unwrap_or(text);
        format!(
            "{field}: {text:?} is no RFC 3339 time with a zone and at most nanoseconds, as 2026-05-04T10:00:00.123456Z"
        )
    };
    let ns = text.parse::<Timestamp>().map_err(bad)?.as_nanosecond();
    if ns > i128::from(now_ns.saturating_add(MAX_AHEAD_NS)) {
        return Err(format!("{field}: {text} is more than a day ahead of the hub's clock; set one of them right"));
    }
    let kept = i64::try_from(ns).ok().filter(|ns| *ns >= EARLIEST_NS);
    kept.ok_or_else(|| format!("{field}: {text} is before 1677-09-22, allowed are times since"))
}

/// Units that are taken beside the quantity's own, with what to multiply by and to divide by: a whole number of km/h
/// divided by 3.6 is exact where multiplied by 0.2777… it is not.
fn units(quantity: Quantity) -> &'static [(&'static str, f64, f64)] {
    use std::f64::consts::PI;
    match quantity {
        Quantity::Speed => &[("km/h", 1.0, 3.6), ("mph", 0.447_04, 1.0), ("kn", 1852.0, 3600.0)],
        Quantity::RotationalSpeed => &[("Hz", 60.0, 1.0), ("rad/s", 30.0, PI)],
        Quantity::Distance | Quantity::Altitude => {
            &[("mm", 1.0, 1000.0), ("km", 1000.0, 1.0), ("ft", 0.3048, 1.0), ("mi", 1609.344, 1.0)]
        }
        Quantity::Acceleration => &[("g", 9.806_65, 1.0)],
        Quantity::Latitude | Quantity::Longitude | Quantity::Course | Quantity::Angle => &[("rad", 180.0, PI)],
        Quantity::Count
        | Quantity::Direction
        | Quantity::Lost
        | Quantity::Suspected
        | Quantity::Repaired
        | Quantity::Rejected => &[],
    }
}

fn factor(quantity: Quantity, unit: Option<&str>) -> Result<(f64, f64), String> {
    let Some(unit) = unit.filter(|unit| *unit != quantity.unit()) else { return Ok((1.0, 1.0)) };
    let found = units(quantity).iter().find(|(name, ..)| *name == unit).map(|&(_, times, by)| (times, by));
    found.ok_or_else(|| {
        let others: String = units(quantity).iter().map(|(name, ..)| format!(", {name}")).collect();
        format!("unit: {unit:?} is none of {}, allowed are {}{others}", quantity.name(), quantity.unit())
    })
}

/// A speed in m/s.
pub(super) fn metres_a_second(speed: f64, unit: SpeedUnit) -> Result<f64, String> {
    let (times, by) = factor(Quantity::Speed, Some(unit.name()))?;
    let scaled = speed * times / by;
    let ok = (0.0..=MAX_VALUE).contains(&scaled);
    ok.then_some(scaled).ok_or_else(|| format!("speed: {speed:e} {} is no speed", unit.name()))
}

/// A speed in m/s in another unit, as it was before [`metres_a_second`]: what that lost in the last digit is rounded away.
pub(crate) fn in_unit(speed: f64, unit: SpeedUnit) -> f64 {
    let (times, by) = factor(Quantity::Speed, Some(unit.name())).unwrap_or((1.0, 1.0));
    (speed * by / times * 1e9).round() / 1e9
}

fn in_range(quantity: Quantity, value: f64) -> Result<f64, String> {
    let (least, most) = match quantity {
        Quantity::Latitude => (-90.0, 90.0),
        Quantity::Longitude => (-180.0, 180.0),
        Quantity::Course | Quantity::Angle => (0.0, 360.0),
        Quantity::Direction => (-1.0, 1.0),
        Quantity::RotationalSpeed | Quantity::Count => (0.0, f64::MAX),
        _ => return Ok(value),
    };
    match (least..=most).contains(&value) {
        true => Ok(value),
        false => Err(format!("value: {value} {} is no {}", quantity.unit(), quantity.name())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Map;

    use super::*;

    fn read(json: &str) -> Result<Taken, Unreadable> {
        Shape::Own.read(json.as_bytes(), &ArrivalClock::default())
    }

    fn reason(json: &str) -> String {
        let taken = read(json).unwrap();
        assert!(taken.readings.is_empty(), "{json}");
        taken.bad.into_iter().next().unwrap().reason
    }

    const GOOD: &str = r#"{"device":"truck-7","sensor":"front","quantity":"speed","unit":"km/h","value":36,
        "uncertainty":1.8,"quality":"degraded","at":"2026-05-04T12:00:00.123456+02:00"}"#;

    #[test]
    fn a_reading_is_kept_in_the_quantitys_unit_and_at_the_time_it_tells() {
        let taken = read(GOOD).unwrap();
        let Reading { device, sensor, quantity, utc_ns, value, uncertainty, quality } = taken.readings[0].clone();
        assert_eq!((device.as_str(), sensor.as_str(), quantity), ("truck-7", "front", Quantity::Speed));
        assert_eq!((value, uncertainty, quality), (10.0, Some(0.5), Quality::Degraded));
        assert_eq!(utc_ns, 1_777_888_800_123_456_000);
        assert_eq!((taken.items, taken.bad.len()), (1, 0));
    }

    proptest! {
        #[test]
        fn a_value_is_kept_to_the_last_bit(value in -1e4f64..1e4) {
            let json = format!(r#"{{"device":"a","sensor":"s","quantity":"speed","value":{value}}}"#);
            prop_assert_eq!(read(&json).unwrap().readings[0].value.to_bits(), value.to_bits(), "{}", json);
        }
    }

    #[test]
    fn readings_without_a_time_get_that_of_their_arrival_and_no_two_the_same() {
        let one = r#"{"device":"a","sensor":"s","quantity":"count","value":1}"#;
        let clock = ArrivalClock::default();
        let (before, many) = (utc_ns(), format!("[{one},{one},{one}]"));
        let mut times: Vec<i64> = Vec::new();
        for _ in 0..100 {
            let taken = Shape::Own.read(many.as_bytes(), &clock).unwrap();
            times.extend(taken.readings.iter().map(|r| r.utc_ns));
        }
        assert!(times[0] >= before && times.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn a_bad_item_is_named_with_its_index_and_all_that_is_wrong_with_it_and_the_others_are_read() {
        let bad = r#"{"device":7,"sensor":"s","quantity":"sped","valu":1}"#;
        let taken = read(&format!("[{GOOD},{bad},3,{GOOD}]")).unwrap();
        assert_eq!((taken.items, taken.readings.len()), (4, 2));
        assert_eq!(taken.bad.iter().map(|b| b.index).collect::<Vec<_>>(), [1, 2]);
        for part in ["missing: value", "device: ", "quantity: unknown variant `sped`", "unknown: valu; allowed are"] {
            assert!(taken.bad[0].reason.contains(part), "{part}: {}", taken.bad[0].reason);
        }
        assert_eq!(taken.bad[1].reason, "not an object");
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_is_allowed() {
        let with = |field: &str, value: &str| {
            let mut item: Map<String, Value> = serde_json::from_str(GOOD).unwrap();
            item.insert(field.into(), serde_json::from_str(value).unwrap());
            reason(&Value::Object(item).to_string())
        };
        assert!(with("device", "\"a b\"").contains("allowed are 1 to 64"));
        assert!(with("sensor", "\"\"").contains("1 to 64 bytes"));
        assert!(with("unit", "\"rpm\"").contains("allowed are m/s, km/h, mph, kn"));
        assert!(with("quantity", "\"latitude\"").contains("unit: \"km/h\""));
        let far = r#"{"device":"a","sensor":"s","quantity":"distance","unit":"km","value":1e308}"#;
        assert_eq!(reason(far), "value: 1e308 is too large");
        assert!(with("value", "-1e101").contains("too large"));
        assert!(with("uncertainty", "-1").contains("below 0"));
        assert!(with("at", "\"2026-05-04T12:00:00\"").contains("with a zone"), "{}", with("at", "\"x\""));
        assert!(with("at", "\"2026-05-04T12:00:00.1234567891Z\"").contains("at most nanoseconds"));
        for late in ["\"2200-05-04T12:00:00Z\"", "\"9998-05-04T12:00:00Z\""] {
            assert!(with("at", late).contains("more than a day ahead"), "{late}");
        }
        for early in ["\"0001-01-01T00:00:00Z\"", "\"1677-09-21T23:59:59Z\""] {
            assert!(with("at", early).contains("allowed are times since"), "{early}");
        }
        assert!(with("at", "17").contains("at: "));
        let latitude = r#"{"device":"a","sensor":"s","quantity":"latitude","value":91}"#;
        assert_eq!(reason(latitude), "value: 91 deg is no latitude");
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        for json in [GOOD.to_owned(), format!("[{GOOD}]")] {
            assert_eq!(read(&format!("\u{feff}{json}")).unwrap().readings.len(), 1);
        }
    }

    #[test]
    fn a_document_that_is_no_list_of_items_is_told_where_it_breaks() {
        for (json, told) in [
            ("", "EOF"),
            ("{\"device\":", "EOF"),
            ("[1,\n2", "line 2"),
            ("{\"device\":1} x", "trailing"),
            ("nonsense", "expected ident at line 1"),
        ] {
            let Err(Unreadable::Json(why)) = read(json) else { panic!("{json}: {:?}", read(json)) };
            assert!(why.contains(told), "{json}: {why}");
        }
        assert_eq!(read("7"), Err(Unreadable::NotItems("an object or an array of objects")));
        let many = format!("[{}0]", "0,".repeat(MAX_ITEMS));
        assert_eq!(read(&many), Err(Unreadable::TooMany { items: MAX_ITEMS + 1, most: MAX_ITEMS }));
        let Err(Unreadable::Json(why)) = Shape::Own.read(b"{\"\xff\"", &ArrivalClock::default()) else { panic!() };
        assert_eq!(why, "not UTF-8 after byte 2");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_lose_count(bytes: Vec<u8>, json in r#"[\[\]{}",:a-e0-9. \\u-]{0,60}"#) {
            for document in [&bytes[..], json.as_bytes()] {
                if let Ok(taken) = Shape::Own.read(document, &ArrivalClock::default()) {
                    prop_assert_eq!(taken.readings.len() + taken.bad.len(), taken.items);
                }
            }
        }

        #[test]
        fn a_good_item_with_any_bytes_changed_is_read_or_named(at in 0..GOOD.len(), byte: u8) {
            let mut bent = GOOD.as_bytes().to_vec();
            bent[at] = byte;
            if let Ok(taken) = Shape::Own.read(&bent, &ArrivalClock::default()) {
                prop_assert_eq!(taken.readings.len() + taken.bad.len(), 1);
            }
        }
    }
}
