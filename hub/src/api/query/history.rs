//! `GET /api/v1/history`: samples of a channel, or the few points to draw them by.

use axum::{extract::State, response::Response};
use serde::Serialize;
use speedwell_wire::{ClockSource, GatewayId, Quality, Quantity};
use utoipa::ToSchema;

use super::{Asked, Boot, Range, Utc, answer};
use crate::{
    api::{ApiError, Complaint, Context},
    store::{DrawQuery, Drawing, Level, MAX_DRAWN, MAX_POINTS, Made, Mark, Point, SamplesQuery},
};

/// What is told of a channel over a range.
#[derive(Serialize, ToSchema)]
struct History {
    #[schema(value_type = String)]
    gateway: GatewayId,
    sensor: String,
    #[schema(value_type = String)]
    quantity: Quantity,
    /// Of all values and uncertainties.
    unit: &'static str,
    /// As it was asked for; null: from the first on.
    from: Option<Utc>,
    to: Utc,
    /// Who vouches for the times; the least trusted of them.
    #[schema(value_type = Option<String>)]
    clock: Option<ClockSource>,
    /// Bound on the error of any of the times, s, as good as the word of who vouches; null where nobody does, and for
    /// readings that came one by one.
    utc_uncertainty_s: Option<f64>,
    /// Boots that may lie in the range and for whose time nobody ever vouched.
    undated: Vec<Boot>,
    /// There may be more in the range.
    truncated: bool,
    /// The `from` to go on with then.
    next: Option<Utc>,
    /// And the `skip`: so many samples of that instant are in this answer already. Only where one instant has more samples
    /// than `limit`.
    skip: usize,
    /// How the points were chosen, when `max-points` was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<Method>,
    points: Vec<Told>,
}

/// A sample, or a hole.
#[derive(Serialize, ToSchema)]
#[schema(as = HistoryPoint)]
struct Told {
    t: Utc,
    /// Null in a hole.
    value: Option<f64>,
    /// One standard uncertainty, when known.
    uncertainty: Option<f64>,
    #[schema(value_type = Option<String>)]
    quality: Option<Quality>,
    /// In a hole, the last sample before it and the first after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hole: Option<[Utc; 2]>,
}

/// How few points were made of many samples.
#[derive(Serialize, ToSchema)]
struct Method {
    /// `all`: every sample is there. `min-max-lttb`: of each stretch of the range the least and the greatest value and the
    /// one that Largest-Triangle-Three-Buckets chooses; `quality` is the worst of the stretch.
    name: &'static str,
    /// `samples`, or the sums by `1m` or `1h`: of these the times of least and greatest values are not known to the sample,
    /// and one that an end of the range lies in is there whole.
    made_of: &'static str,
    /// Samples that the points stand for.
    samples: u64,
    /// A silence longer than this is a hole, marked by a point without a value, s.
    hole_s: f64,
}

/// Samples of a channel over a range of time, the oldest first. Both ends are part of it; either may be left out: from the
/// first on, up to now. Pages are asked for with `from` = `next` and `skip`. With `max-points` the whole range is told by as
/// many points at most, and a point without a value where there is a hole.
#[utoipa::path(
    get, path = "/api/v1/history", tag = "query",
    params(
        ("gateway" = String, Query, description = "its id"),
        ("sensor" = String, Query, description = "its name"),
        ("quantity" = String, Query, description = "what is measured, as `speed`"),
        ("from" = Option<String>, Query, description = "RFC 3339 with a zone, up to ns; from the first on when left out"),
        ("to" = Option<String>, Query, description = "RFC 3339 with a zone, up to ns; now when left out"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 100000, description = "at most this many samples, 1 to 100000"),
        ("skip" = Option<usize>, Query, minimum = 0, maximum = 100000, description = "so many of the instant `from` were given before"),
        ("max-points" = Option<usize>, Query, minimum = 4, maximum = 20000, description = "4 to 20000: few points, for drawing; not with `limit`"),
    ),
    responses((status = 200, body = History), (status = 400, body = Complaint), (status = 503, body = Complaint))
)]
pub(in super::super) async fn history(State(context): State<Context>, asked: Asked) -> Result<Response, ApiError> {
    let names = ["gateway", "sensor", "quantity", "from", "to", "limit", "skip", "max-points"];
    let asked = asked.only(&names, &[])?;
    let (gateway, sensor, quantity, range) = (asked.gateway()?, asked.sensor()?, asked.quantity()?, asked.range()?);
    let limit = asked.number("limit", (1, MAX_POINTS))?;
    let skip = asked.number("skip", (0, MAX_POINTS))?;
    let max_points = asked.number("max-points", (4, MAX_DRAWN))?;
    if max_points.is_some() && (limit.is_some() || skip.is_some()) {
        return Err(ApiError::BadQuery("max-points: it tells the whole range; leave limit and skip out".into()));
    }
    answer(context, move |reader| {
        let Range { from_ns, to_ns } = range;
        let channel = (gateway.clone(), sensor.clone(), quantity);
        if let Some(points) = max_points {
            let drawing = reader.draw(&DrawQuery { gateway, sensor, quantity, from_ns, to_ns, points })?;
            return Ok(drawn(channel, range, drawing));
        }
        let (sensors, quantities, limit) = (vec![sensor], vec![quantity], limit.unwrap_or(MAX_POINTS));
        let skip = skip.unwrap_or_default();
        let found = reader.samples(&SamplesQuery { gateway, sensors, quantities, from_ns, to_ns, skip, limit })?;
        let (clock, next) = (found.clock(), found.next);
        let utc_uncertainty_s = found.utc_uncertainty_ns().map(seconds);
        let points = found.samples.iter().map(|sample| value(&sample.point, Some(sample.point.quality))).collect();
        let undated = found.undated.into_iter().map(Boot::from).collect();
        let new = empty(channel, range);
        let (next, skip) = next.map_or((None, 0), |(at, skip)| (Some(Utc(at)), skip));
        Ok(History { clock, utc_uncertainty_s, undated, truncated: next.is_some(), next, skip, points, ..new })
    })
    .await
}

fn empty((gateway, sensor, quantity): (GatewayId, String, Quantity), range: Range) -> History {
    History {
        gateway,
        sensor,
        quantity,
        unit: quantity.unit(),
        from: range.from(),
        to: range.to(),
        clock: None,
        utc_uncertainty_s: None,
        undated: Vec::new(),
        truncated: false,
        next: None,
        skip: 0,
        method: None,
        points: Vec::new(),
    }
}

fn value(point: &Point, quality: Option<Quality>) -> Told {
    let Point { utc_ns, value, uncertainty, .. } = *point;
    Told { t: Utc(utc_ns), value: Some(value), uncertainty, quality, hole: None }
}

fn drawn(channel: (GatewayId, String, Quantity), range: Range, drawing: Drawing) -> History {
    let points = drawing.marks.iter().map(|mark| match mark {
        Mark::Value { point, quality } => value(point, *quality),
        Mark::Hole(from, to) => {
            // Between the two, so that it is drawn between them.
            let middle = from + (to - from) / 2;
            Told { t: Utc(middle), value: None, uncertainty: None, quality: None, hole: Some([Utc(*from), Utc(*to)]) }
        }
    });
    let method = Method {
        name: if drawing.whole { "all" } else { "min-max-lttb" },
        made_of: made_of(drawing.made),
        samples: drawing.samples,
        hole_s: drawing.hole_ns as f64 / 1e9,
    };
    History {
        clock: drawing.clock,
        utc_uncertainty_s: drawing.utc_uncertainty_ns.map(seconds),
        truncated: drawing.next_ns.is_some(),
        next: drawing.next_ns.map(Utc),
        method: Some(method),
        points: points.collect(),
        undated: drawing.undated.into_iter().map(Boot::from).collect(),
        ..empty(channel, range)
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// The word for what an answer is made of.
pub(super) fn made_of(made: Made) -> &'static str {
    match made {
        Made::Samples => "samples",
        Made::Rows(Level::Second) => "1s",
        Made::Rows(Level::Minute) => "1m",
        Made::Rows(Level::Hour) => "1h",
    }
}
