//! `GET /api/v1/history?gateway=&sensor=&quantity=&from=&to=&limit=`
//!
//! `from` and `to` are RFC 3339 with a zone, both inclusive; `to` is now and `from` a minute before `to` when they are
//! left out. The oldest points come first; `truncated` tells that there may be more, and then `next` is the `from` to go
//! on with. There may be no point before it, when the channel is seldom there.

use axum::{
    Json,
    extract::{Query, State},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use speedwell_wire::{GatewayId, Quantity};

use super::{ApiError, Context, MAX_POINTS};
use crate::{ingest::utc_ns, store::HistoryQuery};

/// What is shown when no range is asked for.
const DEFAULT_RANGE_NS: i64 = 60_000_000_000;

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Its name.
    gateway: String,
    /// Its name.
    sensor: String,
    /// What is measured, as `speed`.
    #[param(value_type = String)]
    quantity: Quantity,
    /// RFC 3339 with a zone, inclusive; a minute before `to` when left out.
    from: Option<String>,
    /// RFC 3339 with a zone, inclusive; now when left out.
    to: Option<String>,
    /// At most this many points.
    limit: Option<usize>,
}

/// Samples of a channel over a range of time, the oldest first.
#[utoipa::path(
    get, path = "/api/v1/history", tag = "query", params(Asked),
    responses((status = 200, description = "the samples"), (status = 400, body = super::Complaint), (status = 503, body = super::Complaint))
)]
pub(super) async fn history(
    State(context): State<Context>,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(asked) = asked.map_err(|e| ApiError::BadQuery(e.body_text()))?;
    let query = checked(asked)?;
    let permit = context.queries.acquire_owned().await.map_err(|_| ApiError::Stopping)?;
    let answer = tokio::task::spawn_blocking(move || {
        let answer = context.reader.history(&query).map(|found| to_json(&query, &found));
        drop(permit);
        answer
    });
    Ok(Json(answer.await.map_err(|_| ApiError::Stopping)??))
}

fn checked(asked: Asked) -> Result<HistoryQuery, ApiError> {
    let gateway = GatewayId::new(asked.gateway).map_err(|e| ApiError::BadQuery(e.to_string()))?;
    let ns = |text: String| {
        let bad = || ApiError::BadQuery(format!("{text:?} is no RFC 3339 time with a zone, as 2026-05-04T10:00:00Z"));
        i64::try_from(text.parse::<Timestamp>().map_err(|_| bad())?.as_nanosecond()).map_err(|_| bad())
    };
    let to_ns = asked.to.map_or(Ok(utc_ns()), ns)?;
    let from_ns = asked.from.map_or(Ok(to_ns.saturating_sub(DEFAULT_RANGE_NS)), ns)?;
    if from_ns > to_ns {
        return Err(ApiError::BadQuery("from lies after to".into()));
    }
    let limit = asked.limit.unwrap_or(MAX_POINTS).min(MAX_POINTS);
    Ok(HistoryQuery { gateway, sensor: asked.sensor, quantity: asked.quantity, from_ns, to_ns, limit })
}

fn to_json(query: &HistoryQuery, found: &crate::store::History) -> Value {
    let time = |ns: i64| Timestamp::from_nanosecond(ns.into()).map(|t| t.to_string()).unwrap_or_default();
    let points: Vec<Value> = found
        .points
        .iter()
        .map(|p| json!({ "t": time(p.utc_ns), "value": p.value, "uncertainty": p.uncertainty, "quality": p.quality }))
        .collect();
    let undated: Vec<Value> = found
        .undated
        .iter()
        .map(|boot| {
            json!({
                "log": boot.log,
                "boot": boot.boot,
                "after": boot.after_ns.map(time),
                "before": boot.before_ns.map(time),
                "told": boot.told_ns.map(|(from, to)| [time(from), time(to)]),
            })
        })
        .collect();
    json!({
        "gateway": query.gateway,
        "sensor": query.sensor,
        "quantity": query.quantity,
        "unit": query.quantity.unit(),
        "from": time(query.from_ns),
        "to": time(query.to_ns),
        "clock": found.clock,
        "utc_uncertainty_s": found.utc_uncertainty_ns.map(|ns| ns as f64 / 1e9),
        "undated": undated,
        "truncated": found.truncated,
        "next": found.next_ns.map(time),
        "points": points,
    })
}
