//! Addresses that others have programs for.
//!
//! ```text
//! GET /tracking/data/list/?start_date=&end_date=&device_id=&page=     50 a page, the newest first
//! GET /tracking/data/latest/{device_id}/                              404 when there is none
//! ```
//! A date is a day, or a time of one, or RFC 3339; without a zone it is UTC. A day as `end_date` is part of the range to
//! its end. Either alone works. Times are those the devices told.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::{
    Timestamp, ToSpan,
    civil::{Date, DateTime},
    tz::TimeZone,
};
use serde::Serialize;
use serde_json::json;
use speedwell_wire::GatewayId;
use utoipa::ToSchema;

use super::{
    Asked, Utc, answer,
    asked::{plus, wrong},
};
use crate::{
    api::{ApiError, Complaint, Context, Named},
    config::SpeedUnit,
    ingest::{names, readings::in_unit},
    store::{MAX_PLACES, Place, PlacesQuery},
};

/// Places of a page.
const PAGE: usize = 50;

/// A page of places.
#[derive(Serialize, ToSchema)]
struct Places {
    page: usize,
    page_size: usize,
    /// The next page, if there is one.
    next: Option<usize>,
    /// The page before, if there is one.
    previous: Option<usize>,
    /// The newest first.
    results: Vec<Told>,
}

/// Where a device said that it was.
#[derive(Serialize, ToSchema)]
#[schema(as = DevicePlace)]
struct Told {
    /// As it was given.
    device_id: String,
    /// Latitude, longitude.
    location: String,
    speed: Option<f64>,
    /// Of `speed`.
    speed_unit: &'static str,
    /// The device's own time.
    timestamp: Utc,
}

/// Where devices said that they were, the newest first.
#[utoipa::path(
    get, path = "/tracking/data/list/", tag = "aliases",
    params(
        ("start_date" = Option<String>, Query, description = "2026-05-04, 2026-05-04T10:00:00, with or without a zone; UTC without"),
        ("end_date" = Option<String>, Query, description = "as `start_date`; a day is part of the range to its end"),
        ("device_id" = Option<String>, Query, description = "of this device; of all when left out"),
        ("page" = Option<usize>, Query, minimum = 1, maximum = 2000, description = "from 1 on"),
    ),
    responses((status = 200, body = Places), (status = 400, body = Complaint), (status = 503, body = Complaint))
)]
pub(in super::super) async fn list(State(context): State<Context>, asked: Asked) -> Result<Response, ApiError> {
    let asked = asked.only(&["start_date", "end_date", "device_id", "page"], &[])?;
    let range = asked.range_of("start_date", "end_date", date)?;
    // A device whose clock is ahead is told too.
    let to_ns = if asked.text("end_date").is_some() { range.to_ns } else { i64::MAX };
    let device = asked.text("device_id").map(device).transpose()?;
    let page = asked.number("page", (1, MAX_PLACES / PAGE))?.unwrap_or(1);
    let unit = context.speed_unit;
    answer(context, move |reader| {
        let (from_ns, skip) = (range.from_ns, (page - 1) * PAGE);
        let mut found = reader.places(&PlacesQuery { device, from_ns, to_ns, skip, limit: PAGE + 1 })?;
        let more = found.len() > PAGE && page < MAX_PLACES / PAGE;
        found.truncate(PAGE);
        let results = found.iter().map(|place| told(place, unit)).collect();
        let (next, previous) = (more.then_some(page + 1), page.checked_sub(1).filter(|page| *page > 0));
        Ok(Places { page, page_size: PAGE, next, previous, results })
    })
    .await
}

/// Where a device said last that it was.
#[utoipa::path(
    get, path = "/tracking/data/latest/{device_id}/", tag = "aliases",
    params(("device_id" = String, Path, description = "as it was given")),
    responses(
        (status = 200, body = Told), (status = 400, body = Complaint), (status = 404, body = Complaint),
        (status = 503, body = Complaint)
    )
)]
pub(in super::super) async fn latest(State(context): State<Context>, Named(name): Named) -> Result<Response, ApiError> {
    let (id, unit) = (device(&name)?, context.speed_unit);
    let query = PlacesQuery { device: Some(id), from_ns: i64::MIN, to_ns: i64::MAX, skip: 0, limit: 1 };
    let asked = context.clone();
    let permit = asked.queries.acquire_owned().await.map_err(|_| ApiError::Stopping)?;
    let found = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        asked.reader.places(&query)
    });
    let found = found.await.map_err(|_| ApiError::Stopping)??;
    Ok(match found.first() {
        Some(place) => Json(told(place, unit)).into_response(),
        None => (StatusCode::NOT_FOUND, Json(json!({ "error": format!("nothing is known of device {name:?}") })))
            .into_response(),
    })
}

fn device(name: &str) -> Result<GatewayId, ApiError> {
    names::gateway_id(name).map_err(|why| ApiError::BadQuery(format!("device_id: {why}")))
}

fn told(place: &Place, unit: SpeedUnit) -> Told {
    Told {
        device_id: names::plain(&place.device),
        location: format!("{},{}", place.latitude, place.longitude),
        speed: place.speed.map(|speed| in_unit(speed, unit)),
        speed_unit: unit.name(),
        timestamp: Utc(place.utc_ns),
    }
}

/// First and last ns of a day, or of a time.
fn date(name: &str, text: &str) -> Result<(i64, i64), ApiError> {
    let bad =
        || wrong(name, text, "wanted is a day as 2026-05-04, or a time as 2026-05-04T10:00:00 or 2026-05-04T10:00:00Z");
    let ns = |time: Timestamp| i64::try_from(time.as_nanosecond()).ok();
    let utc = |time: DateTime| time.to_zoned(TimeZone::UTC).ok().and_then(|time| ns(time.timestamp()));
    let text = plus(text);
    if let Ok(time) = text.parse::<Timestamp>() {
        return ns(time).map(|ns| (ns, ns)).ok_or_else(bad);
    }
    // A day is ten characters; a longer text that a day could be read out of is not one.
    if text.len() <= "2026-05-04".len() {
        let day: Date = text.parse().map_err(|_| bad())?;
        let next = day.checked_add(1.day()).map_err(|_| bad())?;
        let (first, after) = (utc(day.at(0, 0, 0, 0)), utc(next.at(0, 0, 0, 0)));
        return first.zip(after).map(|(first, after)| (first, after - 1)).ok_or_else(bad);
    }
    let time: DateTime = text.parse().map_err(|_| bad())?;
    utc(time).map(|ns| (ns, ns)).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_day_and_a_time_is_a_time_in_utc_unless_a_zone_is_told() {
        const DAY: i64 = 86_400_000_000_000;
        let midnight = 1_777_852_800_000_000_000;
        assert_eq!(date("start_date", "2026-05-04").unwrap(), (midnight, midnight + DAY - 1));
        let ten = midnight + 10 * 3_600_000_000_000;
        for text in ["2026-05-04T10:00:00", "2026-05-04 10:00:00", "2026-05-04T10:00:00Z", "2026-05-04T13:00:00 03:00"]
        {
            assert_eq!(date("end_date", text).unwrap(), (ten, ten), "{text}");
        }
        for bad in ["", "today", "2026-13-01", "2026-05-04T25:00:00", "04.05.2026"] {
            assert!(date("end_date", bad).unwrap_err().to_string().starts_with("end_date: "), "{bad}");
        }
    }
}
