//! GeoJSON and GPX: where a vehicle was, and how fast.
//!
//! A place is a latitude and a longitude of one sensor of the same instant, or as good as the same. Its speed, course and
//! altitude are the last that the sensor told, unless that was long before; the speed of a sensor that tells none is that of
//! the other sensor that was asked for beside it.

use std::{collections::BTreeSet, io::Write};

use serde::Serialize;
use speedwell_wire::{GatewayId, Quantity};

use super::{super::query::Utc, Cut, Out, each_page};
use crate::store::{ChannelsQuery, MAX_CHANNELS, Read, SamplesQuery};

/// Latitude and longitude so far apart are of one place: a receiver tells both at once.
const TOGETHER_NS: i64 = 50_000_000;
/// A speed, course or altitude is a place's for so long.
const HOLDS_NS: i64 = 2_000_000_000;
/// After a silence so long a track goes on in a segment of its own: nobody knows the way between.
const SEGMENT_NS: i64 = 30_000_000_000;

/// A place with what is known of it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    utc_ns: i64,
    latitude: f64,
    longitude: f64,
    speed: Option<f64>,
    course: Option<f64>,
    altitude: Option<f64>,
}

/// Puts places together out of samples in order of time.
#[derive(Default)]
struct Track {
    sensor: String,
    latitude: Option<(i64, f64)>,
    longitude: Option<(i64, f64)>,
    /// The sensor's own, and another's.
    speeds: [Option<(i64, f64)>; 2],
    course: Option<(i64, f64)>,
    altitude: Option<(i64, f64)>,
}

impl Track {
    fn take(&mut self, sensor: &str, quantity: Quantity, utc_ns: i64, value: f64) {
        let told = Some((utc_ns, value));
        match (quantity, sensor == self.sensor) {
            (Quantity::Latitude, true) => self.latitude = told,
            (Quantity::Longitude, true) => self.longitude = told,
            (Quantity::Course, true) => self.course = told,
            (Quantity::Altitude, true) => self.altitude = told,
            (Quantity::Speed, own) => self.speeds[usize::from(!own)] = told,
            _ => {}
        }
    }

    /// The place that is complete now, once.
    fn place(&mut self) -> Option<Place> {
        let ((a, latitude), (b, longitude)) = (self.latitude?, self.longitude?);
        if a.abs_diff(b) > TOGETHER_NS.unsigned_abs() {
            return None;
        }
        (self.latitude, self.longitude) = (None, None);
        let utc_ns = a.max(b);
        let holds = |told: Option<(i64, f64)>| told.filter(|(at, _)| utc_ns - at <= HOLDS_NS).map(|(_, value)| value);
        let speed = holds(self.speeds[0]).or(holds(self.speeds[1]));
        Some(Place { utc_ns, latitude, longitude, speed, course: holds(self.course), altitude: holds(self.altitude) })
    }
}

/// The sensors of a question that tell where they are.
fn sensors(reader: &dyn Read, query: &SamplesQuery) -> Result<Vec<String>, Cut> {
    let gateway: Option<GatewayId> = Some(query.gateway.clone());
    let mut asked = ChannelsQuery { gateway, limit: MAX_CHANNELS, ..ChannelsQuery::default() };
    let (mut found, mut both) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let page = reader.channels(&asked)?;
        for (latest, _) in page.channels {
            let (sensor, quantity) = (latest.newest.sensor, latest.newest.quantity);
            if matches!(quantity, Quantity::Latitude | Quantity::Longitude) && !found.insert(sensor.clone()) {
                both.insert(sensor);
            }
        }
        match page.next {
            Some(next) => asked.after = Some(next),
            None => break,
        }
    }
    both.retain(|sensor| query.sensors.is_empty() || query.sensors.contains(sensor));
    Ok(both.into_iter().collect())
}

/// The places of a sensor, in order of time.
fn each_place(
    reader: &dyn Read,
    query: &SamplesQuery,
    sensor: &str,
    others: &[String],
    mut take: impl FnMut(&Place) -> Result<(), Cut>,
) -> Result<(), Cut> {
    let mut sensors = vec![sensor.to_owned()];
    // Another that was asked for and is no track of its own may tell how fast it was.
    sensors.extend(query.sensors.iter().filter(|s| !others.contains(s)).cloned());
    let quantities =
        vec![Quantity::Latitude, Quantity::Longitude, Quantity::Speed, Quantity::Course, Quantity::Altitude];
    let mut track = Track { sensor: sensor.to_owned(), ..Track::default() };
    let mut at = i64::MIN;
    each_page(reader, SamplesQuery { sensors, quantities, ..query.clone() }, |page| {
        for sample in &page.samples {
            let Some((sensor, quantity)) = page.channels.get(sample.channel as usize) else { continue };
            // All of an instant belongs to its place, in whatever order it comes.
            if sample.point.utc_ns > at {
                if let Some(place) = track.place() {
                    take(&place)?;
                }
                at = sample.point.utc_ns;
            }
            track.take(sensor, *quantity, sample.point.utc_ns, sample.point.value);
        }
        Ok(())
    })?;
    track.place().map_or(Ok(()), |place| take(&place))
}

#[derive(Serialize)]
struct Feature<'a> {
    r#type: &'static str,
    geometry: Geometry,
    properties: Properties<'a>,
}

#[derive(Serialize)]
struct Geometry {
    r#type: &'static str,
    coordinates: Vec<f64>,
}

#[derive(Serialize)]
struct Properties<'a> {
    time: Utc,
    gateway: &'a str,
    sensor: &'a str,
    speed_m_s: Option<f64>,
    course_deg: Option<f64>,
}

/// A feature a place: RFC 7946. That it is whole is a member of the collection.
pub(super) fn geo_json(reader: &dyn Read, query: SamplesQuery, out: &mut Out) -> Result<(), Cut> {
    out.piece.extend_from_slice(b"{\"type\":\"FeatureCollection\",\"features\":[");
    let (tracks, mut rows) = (sensors(reader, &query)?, 0u64);
    for sensor in &tracks {
        each_place(reader, &query, sensor, &tracks, |place| {
            let coordinates = [place.longitude, place.latitude].into_iter().chain(place.altitude).collect();
            let feature = Feature {
                r#type: "Feature",
                geometry: Geometry { r#type: "Point", coordinates },
                properties: Properties {
                    time: Utc(place.utc_ns),
                    gateway: query.gateway.as_str(),
                    sensor,
                    speed_m_s: place.speed,
                    course_deg: place.course,
                },
            };
            out.piece.extend_from_slice(if rows == 0 { b"\n" } else { b",\n" });
            // Writing into memory does not fail.
            let _ = serde_json::to_writer(&mut out.piece, &feature);
            rows += 1;
            out.pass()
        })?;
    }
    let _ = write!(out.piece, "\n],\"complete\":true,\"rows\":{rows}}}\n");
    Ok(())
}

/// GPX 1.1, a track a sensor; speed and course as Garmin's track point extension, which programs know.
pub(super) fn gpx(reader: &dyn Read, query: SamplesQuery, out: &mut Out) -> Result<(), Cut> {
    out.piece.extend_from_slice(
        b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<gpx version=\"1.1\" creator=\"Speedwell\" \
          xmlns=\"http://www.topografix.com/GPX/1/1\" \
          xmlns:gpxtpx=\"http://www.garmin.com/xmlschemas/TrackPointExtension/v2\">\n",
    );
    let tracks = sensors(reader, &query)?;
    for sensor in &tracks {
        let name = xml(&format!("{} {sensor}", query.gateway));
        let _ = writeln!(out.piece, "<trk><name>{name}</name><trkseg>");
        let mut last: Option<i64> = None;
        each_place(reader, &query, sensor, &tracks, |place| {
            let to = &mut out.piece;
            if last.is_some_and(|last| place.utc_ns - last > SEGMENT_NS) {
                to.extend_from_slice(b"</trkseg><trkseg>\n");
            }
            last = Some(place.utc_ns);
            let _ = write!(to, "<trkpt lat=\"{}\" lon=\"{}\">", place.latitude, place.longitude);
            if let Some(altitude) = place.altitude {
                let _ = write!(to, "<ele>{altitude}</ele>");
            }
            let _ = write!(to, "<time>{}</time>", Utc(place.utc_ns));
            if place.speed.or(place.course).is_some() {
                let _ = write!(to, "<extensions><gpxtpx:TrackPointExtension>");
                if let Some(speed) = place.speed {
                    let _ = write!(to, "<gpxtpx:speed>{speed}</gpxtpx:speed>");
                }
                if let Some(course) = place.course {
                    let _ = write!(to, "<gpxtpx:course>{course}</gpxtpx:course>");
                }
                let _ = write!(to, "</gpxtpx:TrackPointExtension></extensions>");
            }
            let _ = writeln!(to, "</trkpt>");
            out.pass()
        })?;
        out.piece.extend_from_slice(b"</trkseg></trk>\n");
    }
    out.piece.extend_from_slice(b"</gpx>\n");
    Ok(())
}

/// Text of XML 1.0: what it may not hold is left out.
fn xml(text: &str) -> String {
    let allowed = |c: &char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    let escaped = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        other => other.to_string(),
    };
    text.chars().filter(allowed).map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_the_speed_of_its_instant_or_the_last_before_and_none_that_is_long_past() {
        const S: i64 = 1_000_000_000;
        let mut track = Track { sensor: "gnss".into(), ..Track::default() };
        let mut at = |utc_ns, told: &[(&str, Quantity, f64)]| {
            told.iter().for_each(|(sensor, quantity, value)| track.take(sensor, *quantity, utc_ns, *value));
            track.place()
        };
        let (lat, lon) = (("gnss", Quantity::Latitude, 41.0), ("gnss", Quantity::Longitude, 29.0));
        assert_eq!(at(0, &[lat]), None, "half a place is none");
        let place = at(0, &[lon, ("gnss", Quantity::Speed, 3.0), ("wheel", Quantity::Speed, 4.0)]).unwrap();
        assert_eq!((place.latitude, place.longitude, place.speed), (41.0, 29.0, Some(3.0)));
        assert_eq!(at(S, &[]), None, "a place is told once");
        assert_eq!(at(S, &[lat, lon]).unwrap().speed, Some(3.0));
        assert_eq!(at(3 * S, &[lat, lon, ("wheel", Quantity::Speed, 5.0)]).unwrap().speed, Some(5.0));
        assert_eq!(at(9 * S, &[lat, lon]).unwrap().speed, None);
        at(10 * S, &[lat]);
        assert_eq!(at(11 * S, &[lon]), None, "a second apart is not together");
    }

    #[test]
    fn whatever_a_sensor_is_called_it_is_text() {
        assert_eq!(xml("<a&b>\u{1}\u{fffe}"), "&lt;a&amp;b&gt;");
    }
}
