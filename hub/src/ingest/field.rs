//! Fields of JSON that strangers write: what they may look like, and words for what is wrong with them.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// Longest reason that is told, bytes: a stranger's own text stands in it.
const MAX_REASON: usize = 500;

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Number(pub f64);

/// A name, or a number that is used as one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Name<'a>(pub Cow<'a, str>);

/// Degrees, north and east positive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub latitude: f64,
    pub longitude: f64,
}

/// Collects all that is wrong with an item, so that its sender mends it in one go.
pub(super) struct Look<'a> {
    map: &'a Map<String, Value>,
    missing: Vec<&'static str>,
    wrong: Vec<String>,
}

impl<'a> Look<'a> {
    pub(super) fn at(map: &'a Map<String, Value>) -> Self {
        Self { map, missing: Vec::new(), wrong: Vec::new() }
    }

    pub(super) fn wants<T: DeserializeOwned>(self, name: &'static str) -> Self {
        self.field::<T>(name, true)
    }

    pub(super) fn may_have<T: DeserializeOwned>(self, name: &'static str) -> Self {
        self.field::<T>(name, false)
    }

    fn field<T: DeserializeOwned>(mut self, name: &'static str, required: bool) -> Self {
        match self.map.get(name) {
            None | Some(Value::Null) => self.missing.extend(required.then_some(name)),
            Some(value) => self.wrong.extend(T::deserialize(value).err().map(|e| format!("{name}: {e}"))),
        }
        self
    }

    /// Fields of another name are slips of the pen.
    pub(super) fn and_no_other(mut self, known: &[&str]) -> Self {
        let unknown: Vec<&str> = self.map.keys().map(String::as_str).filter(|name| !known.contains(name)).collect();
        if !unknown.is_empty() {
            self.wrong.push(format!("unknown: {}; allowed are {}", unknown.join(", "), known.join(", ")));
        }
        self
    }

    /// `missing: a, b; c: why`, or nothing when nothing is wrong.
    pub(super) fn told(self) -> Option<String> {
        let missing = (!self.missing.is_empty()).then(|| format!("missing: {}", self.missing.join(", ")));
        let all: Vec<String> = missing.into_iter().chain(self.wrong).collect();
        (!all.is_empty()).then(|| short(all.join("; ")))
    }
}

/// Cut to [`MAX_REASON`].
pub(super) fn short(mut reason: String) -> String {
    if let Some(at) = (0..=MAX_REASON).rev().find(|&at| reason.is_char_boundary(at)).filter(|&at| at < reason.len()) {
        reason.truncate(at);
        reason.push('…');
    }
    reason
}

struct AnyNumber;

impl Visitor<'_> for AnyNumber {
    type Value = Number;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }
    fn visit_f64<E: Error>(self, n: f64) -> Result<Number, E> {
        Ok(Number(n))
    }
    fn visit_u64<E: Error>(self, n: u64) -> Result<Number, E> {
        Ok(Number(n as f64))
    }
    fn visit_i64<E: Error>(self, n: i64) -> Result<Number, E> {
        Ok(Number(n as f64))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(AnyNumber)
    }
}

struct AnyName;

impl<'de> Visitor<'de> for AnyName {
    type Value = Name<'de>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a whole number")
    }
    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Name<'de>, E> {
        Ok(Name(name.into()))
    }
    fn visit_str<E: Error>(self, name: &str) -> Result<Name<'de>, E> {
        Ok(Name(name.to_owned().into()))
    }
    fn visit_u64<E: Error>(self, n: u64) -> Result<Name<'de>, E> {
        Ok(Name(n.to_string().into()))
    }
    fn visit_i64<E: Error>(self, n: i64) -> Result<Name<'de>, E> {
        Ok(Name(n.to_string().into()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(AnyName)
    }
}

/// `"lat,lng"`, `{"lat","lng"}` in the words that are in use, or a GeoJSON point (RFC 7946 section 3.1.2), whose first
/// number is the longitude. A bare pair does not tell which comes first, and guessing would put a truck into the sea.
struct AnyPlace;

const PLACE: &str = "a position as \"41.01,28.97\" (latitude first), {\"lat\":41.01,\"lng\":28.97} or a GeoJSON point";

impl<'de> Visitor<'de> for AnyPlace {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PLACE)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Place, E> {
        let pair = text.split_once(',').and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
        let (latitude, longitude) = pair.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))?;
        Place { latitude, longitude }.checked()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Place, A::Error> {
        let (mut latitude, mut longitude) = (None, None);
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "lat" | "latitude" => latitude = Some(map.next_value::<Number>()?.0),
                "lng" | "lon" | "long" | "longitude" => longitude = Some(map.next_value::<Number>()?.0),
                "coordinates" => {
                    let Point(lng, lat) = map.next_value()?;
                    (latitude, longitude) = (Some(lat), Some(lng));
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let whole = latitude.zip(longitude).map(|(latitude, longitude)| Place { latitude, longitude });
        whole.ok_or_else(|| A::Error::custom(format!("latitude or longitude is missing, expected {PLACE}")))?.checked()
    }
}

impl Place {
    /// On the globe.
    pub(super) fn checked<E: Error>(self) -> Result<Self, E> {
        let Place { latitude, longitude } = self;
        // A NaN, which "nan,nan" is to Rust, is in no range.
        match (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude) {
            true => Ok(self),
            false => Err(E::custom(format!(
                "latitude {latitude} or longitude {longitude} is out of range, allowed are -90 to 90 and -180 to 180 deg"
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(AnyPlace)
    }
}

/// Longitude and latitude, and perhaps a height that is passed over.
struct Point(f64, f64);

struct AnyPoint;

impl<'de> Visitor<'de> for AnyPoint {
    type Value = Point;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("longitude and latitude")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Point, A::Error> {
        let mut next = |n| numbers.next_element::<Number>()?.ok_or_else(|| A::Error::invalid_length(n, &self));
        let point = Point(next(0)?.0, next(1)?.0);
        while numbers.next_element::<IgnoredAny>()?.is_some() {}
        Ok(point)
    }
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_seq(AnyPoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(json: &str) -> Result<Place, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn a_position_is_read_in_the_ways_that_tell_latitude_from_longitude() {
        for json in [
            r#""41.5, -28.25""#,
            r#"{"lat":41.5,"lng":-28.25}"#,
            r#"{"longitude":-28.25,"latitude":41.5,"accuracy":{"m":3}}"#,
            r#"{"type":"Point","coordinates":[-28.25,41.5,120]}"#,
        ] {
            assert_eq!(place(json), Ok(Place { latitude: 41.5, longitude: -28.25 }), "{json}");
        }
    }

    #[test]
    fn a_place_name_a_bare_pair_and_what_lies_off_the_globe_are_told_what_is_allowed() {
        for json in [r#""Antalya""#, "[41.5, 28.25]", r#"{"lat":41.5}"#, "7", r#"{"coordinates":[1]}"#] {
            assert!(place(json).unwrap_err().contains("expected "), "{json}: {}", place(json).unwrap_err());
        }
        for json in [r#""91,0""#, r#""0,-180.5""#, r#""nan,nan""#, r#"{"lat":0,"lng":181}"#] {
            assert!(place(json).unwrap_err().contains("-90 to 90"), "{json}");
        }
    }

    #[test]
    fn a_reason_is_cut_between_letters() {
        let long = short("ü".repeat(MAX_REASON));
        assert_eq!((long.len(), long.ends_with('…')), (MAX_REASON + '…'.len_utf8(), true));
        assert_eq!(short("short".into()), "short");
    }
}
