//! Shapes of items that others have made: `{"device_id","location","speed","timestamp"?}` and
//! `{"plateNum","lng","lat","speed"}`. Fields that are not named here are passed over: they are another's.

use std::borrow::Cow;

use serde::Deserialize;
use speedwell_wire::{GatewayId, Quality, Quantity};

use super::{
    field::{Name, Number, Place},
    names,
    readings::{Wrong, explain, metres_a_second, time},
};
use crate::{config::SpeedUnit, store::Reading};

#[derive(Deserialize)]
struct Tracked<'a> {
    #[serde(borrow)]
    device_id: Name<'a>,
    location: Place,
    speed: Number,
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Position<'a> {
    #[serde(borrow, rename = "plateNum")]
    plate: Name<'a>,
    lng: Number,
    lat: Number,
    speed: Number,
}

/// A vehicle at a place with a speed.
struct Seen<'a> {
    name: (&'static str, Name<'a>),
    place: Place,
    speed: f64,
    utc_ns: i64,
}

/// `{"device_id","location","speed","timestamp"?}`.
pub(super) fn tracking(
    text: &str,
    unit: SpeedUnit,
    sensor: &str,
    arrived: i64,
    out: &mut Vec<Reading>,
) -> Result<(), Wrong> {
    let item: Tracked<'_> = serde_json::from_str(text).map_err(|error| {
        explain(text, error, |look| {
            look.wants::<OwnedName>("device_id")
                .wants::<Place>("location")
                .wants::<Number>("speed")
                .may_have::<String>("timestamp")
        })
    })?;
    let at = item.timestamp.map_or(Ok(arrived), |at| time("timestamp", &at, arrived)).map_err(Wrong::Item)?;
    let seen = Seen { name: ("device_id", item.device_id), place: item.location, speed: item.speed.0, utc_ns: at };
    seen.readings(unit, sensor, out).map_err(Wrong::Item)
}

/// `{"plateNum","lng","lat","speed"}`.
pub(super) fn position(
    text: &str,
    unit: SpeedUnit,
    sensor: &str,
    arrived: i64,
    out: &mut Vec<Reading>,
) -> Result<(), Wrong> {
    let item: Position<'_> = serde_json::from_str(text).map_err(|error| {
        explain(text, error, |look| {
            look.wants::<OwnedName>("plateNum").wants::<Number>("lng").wants::<Number>("lat").wants::<Number>("speed")
        })
    })?;
    let place = Place::checked::<serde_json::Error>(Place { latitude: item.lat.0, longitude: item.lng.0 })
        .map_err(|error| Wrong::Item(error.to_string()))?;
    let seen = Seen { name: ("plateNum", item.plate), place, speed: item.speed.0, utc_ns: arrived };
    seen.readings(unit, sensor, out).map_err(Wrong::Item)
}

impl Seen<'_> {
    fn readings(self, unit: SpeedUnit, sensor: &str, out: &mut Vec<Reading>) -> Result<(), String> {
        let (field, name) = self.name;
        let device: GatewayId = names::gateway_id(&name.0).map_err(|why| format!("{field}: {why}"))?;
        let speed = metres_a_second(self.speed, unit)?;
        let reading = |device, quantity, value| Reading {
            device,
            sensor: sensor.to_owned(),
            quantity,
            utc_ns: self.utc_ns,
            value,
            uncertainty: None,
            quality: Quality::Good,
        };
        out.push(reading(device.clone(), Quantity::Latitude, self.place.latitude));
        out.push(reading(device.clone(), Quantity::Longitude, self.place.longitude));
        out.push(reading(device, Quantity::Speed, speed));
        Ok(())
    }
}

/// A [`Name`] that borrows nothing.
struct OwnedName;

impl<'de> Deserialize<'de> for OwnedName {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Name::deserialize(d).map(|_| Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::readings::{ArrivalClock, Shape, Taken};
    use super::*;

    fn shapes() -> [Shape; 2] {
        let (speed, sensor) = (SpeedUnit::KmH, "gnss".to_owned());
        [Shape::Tracking { speed, sensor: sensor.clone() }, Shape::Positions { speed, sensor }]
    }

    fn read(shape: usize, json: &str) -> Taken {
        shapes()[shape].read(json.as_bytes(), &ArrivalClock::default()).unwrap()
    }

    fn values(taken: &Taken) -> Vec<(&str, Quantity, f64)> {
        taken.readings.iter().map(|r| (r.device.as_str(), r.quantity, r.value)).collect()
    }

    #[test]
    fn a_tracked_device_gives_its_place_and_its_speed_in_m_s_at_its_own_time() {
        let json = r#"{"device_id":123,"location":"36.9,30.7","speed":90,"timestamp":"2026-05-04T10:00:00.5Z","x":1}"#;
        let taken = read(0, json);
        let expected = [(Quantity::Latitude, 36.9), (Quantity::Longitude, 30.7), (Quantity::Speed, 25.0)];
        assert_eq!(values(&taken), expected.map(|(q, v)| ("123", q, v)));
        assert!(taken.readings.iter().all(|r| r.utc_ns == 1_777_888_800_500_000_000 && r.sensor == "gnss"));
    }

    #[test]
    fn a_batch_of_positions_keeps_its_good_ones_and_a_standing_vehicle_is_one() {
        let json = r#"{"data":[{"plateNum":"34 ABC","lng":28.9,"lat":41.0,"speed":0},{"plateNum":"x","lng":1,"lat":99,
            "speed":1},{"lng":"1"},{"plateNum":"y","lng":1,"lat":2,"speed":-3}],"more":true}"#;
        let taken = read(1, json);
        assert_eq!(taken.items, 4);
        assert_eq!(values(&taken)[2], ("34_20ABC", Quantity::Speed, 0.0));
        let told: Vec<(usize, &str)> = taken.bad.iter().map(|b| (b.index, b.reason.as_str())).collect();
        assert!(told[0].1.contains("latitude 99"), "{told:?}");
        assert_eq!(told[1], (2, "missing: plateNum, lat, speed; lng: invalid type: string \"1\", expected a number"));
        assert!(told[2].0 == 3 && told[2].1.contains("no speed"), "{told:?}");
    }

    #[test]
    fn a_missing_field_is_named_and_a_field_of_null_is_missing() {
        let taken = read(0, r#"[{"device_id":"1"},{"device_id":null,"location":"1,1","speed":1}]"#);
        assert_eq!(taken.bad[0].reason, "missing: location, speed");
        assert_eq!(taken.bad[1].reason, "missing: device_id");
        assert!(taken.readings.is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_make_them_panic_or_lose_count(bytes: Vec<u8>, inner in r#"[\[\]{}",:a-z0-9. \\-]{0,40}"#) {
            let known = [
                format!(r#"{{"device_id":{inner},"location":"1,1","speed":1}}"#),
                format!(r#"[{{"device_id":"1","location":{inner},"speed":1}}]"#),
                format!(r#"{{"data":[{{"plateNum":"1","lng":{inner},"lat":1,"speed":1}}]}}"#),
            ];
            for shape in shapes() {
                for document in known.iter().map(|k| k.as_bytes()).chain([&bytes[..]]) {
                    if let Ok(taken) = shape.read(document, &ArrivalClock::default()) {
                        prop_assert_eq!(taken.readings.len() / 3 + taken.bad.len(), taken.items);
                    }
                }
            }
        }
    }
}
