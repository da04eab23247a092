//! Who is connected, and who was: `GET /api/v1/presence` and `GET /api/v1/presence/history`.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use speedwell_wire::GatewayId;
use utoipa::{IntoParams, ToSchema};

use super::{ApiError, Complaint, Context, within};
use crate::{
    presence::{self, PresenceView, StateWord},
    store::presence::{PresenceKey, PresenceKind, PresenceQuery, PresenceRow},
};

/// Rows on a page when none are asked for, and the most.
const PAGE: (usize, usize) = (1_000, 10_000);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Now {
    /// `gateway`, `sensor` or `vehicle`; all of them when left out.
    #[param(value_type = Option<PresenceKind>, inline)]
    kind: Option<PresenceKind>,
    /// Only this gateway, its sensors, and the vehicle it is on.
    gateway: Option<String>,
    /// Only what is in this state.
    #[param(value_type = Option<StateWord>, inline)]
    state: Option<StateWord>,
    /// Only gateways that are on no vehicle.
    #[serde(default)]
    #[param(required = false)]
    unassigned: bool,
    /// `next` of the page before.
    after: Option<String>,
    /// At most so many, 1 to 10000; 1000 when left out.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<usize>,
}

/// How things are.
#[derive(Serialize, ToSchema)]
pub(super) struct States {
    /// Gateways, then sensors, then vehicles; each by name.
    presence: Vec<PresenceView>,
    /// What to pass as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Gateways, sensors and vehicles: how they are, since when and why.
#[utoipa::path(get, path = "/api/v1/presence", tag = "presence", params(Now), responses(
    (status = 200, body = States), (status = 400, body = Complaint)))]
pub(super) async fn presence(
    State(context): State<Context>,
    asked: Result<Query<Now>, QueryRejection>,
) -> Result<Json<States>, ApiError> {
    let Query(Now { kind, gateway, state, unassigned, after, limit }) =
        asked.map_err(|e| ApiError::BadQuery(e.body_text()))?;
    let gateway = gateway.map(GatewayId::new).transpose().map_err(|e| ApiError::BadQuery(e.to_string()))?;
    if after.as_ref().is_some_and(|after| !after.contains('/')) {
        return Err(ApiError::BadQuery("after: wanted what an earlier answer gave as next".into()));
    }
    let limit = within("limit", limit, PAGE.0, PAGE.1)?;
    let (presence, next) = context.presence.list(&presence::Asked { kind, gateway, state, unassigned, after, limit });
    Ok(Json(States { presence, next }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Then {
    /// `gateway`, `sensor`, `vehicle` or `hub`; without it, the changes of all.
    #[param(value_type = Option<PresenceKind>, inline)]
    kind: Option<PresenceKind>,
    /// Of which; wanted with `kind`.
    id: Option<String>,
    /// Of which gateway the sensor is; wanted with `kind=sensor`.
    gateway: Option<String>,
    /// RFC 3339 with a zone, inclusive; a day before `to` when left out.
    from: Option<String>,
    /// RFC 3339 with a zone, inclusive; now when left out.
    to: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// At most so many, 1 to 10000; 1000 when left out.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<usize>,
}

/// A stretch of time in one state.
#[derive(Serialize, ToSchema)]
pub(super) struct Stretch {
    /// Of what.
    kind: PresenceKind,
    /// Its id, or the sensor's name.
    id: String,
    /// The gateway of a sensor.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    /// In a word, see `/api/v1/presence`; of a hub `running`, `stopped` or `down`.
    state: String,
    /// RFC 3339.
    from: String,
    /// RFC 3339; `null` while it lasts.
    until: Option<String>,
    /// Why, in words.
    reason: String,
}

/// How things were.
#[derive(Serialize, ToSchema)]
pub(super) struct PresenceHistory {
    /// The earliest first. Of one thing, those that reach into the range; of all, those that began in it.
    changes: Vec<Stretch>,
    /// What to pass as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// How gateways, sensors, vehicles and the hub were over a range of time, and why.
#[utoipa::path(get, path = "/api/v1/presence/history", tag = "presence", params(Then), responses(
    (status = 200, body = PresenceHistory), (status = 400, body = Complaint), (status = 503, body = Complaint)))]
pub(super) async fn history(
    State(context): State<Context>,
    asked: Result<Query<Then>, QueryRejection>,
) -> Result<Json<PresenceHistory>, ApiError> {
    let Query(asked) = asked.map_err(|e| ApiError::BadQuery(e.body_text()))?;
    let query = checked(asked)?;
    let rows = super::fleet::ask(&context, move |reader| {
        let rows = reader.presence_history(&query)?;
        let next = (rows.len() == query.limit).then(|| rows.last().map(place)).flatten();
        Ok((rows, next))
    });
    let (rows, next) = rows.await?;
    Ok(Json(PresenceHistory { changes: rows.into_iter().map(stretch).collect(), next }))
}

fn place(row: &PresenceRow) -> String {
    format!("{}.{}", row.began.since_ns, row.row)
}

fn stretch(row: PresenceRow) -> Stretch {
    let PresenceKey { kind, gateway, id } = row.began.key;
    Stretch {
        kind,
        id,
        gateway: Some(gateway).filter(|gateway| !gateway.is_empty()),
        state: row.began.state,
        from: presence::time(row.began.since_ns),
        until: row.until_ns.map(presence::time),
        reason: row.began.reason,
    }
}

/// What is shown when no range is asked for.
const DEFAULT_RANGE_NS: i64 = 24 * 3600 * 1_000_000_000;

fn checked(asked: Then) -> Result<PresenceQuery, ApiError> {
    let bad = |why: &str| ApiError::BadQuery(why.into());
    let of = match (asked.kind, asked.id, asked.gateway) {
        (None, None, None) => None,
        (Some(PresenceKind::Sensor), Some(id), Some(gateway)) => {
            Some(PresenceKey { kind: PresenceKind::Sensor, gateway, id })
        }
        (Some(PresenceKind::Sensor), ..) => return Err(bad("kind=sensor wants id, the sensor's name, and gateway")),
        (Some(kind), Some(id), None) => Some(PresenceKey { kind, gateway: String::new(), id }),
        (Some(_), Some(_), Some(_)) => return Err(bad("gateway is only wanted with kind=sensor")),
        _ => return Err(bad("wanted both kind and id, or neither of them")),
    };
    let ns = |text: String| {
        let bad = || ApiError::BadQuery(format!("{text:?} is no RFC 3339 time with a zone, as 2026-05-04T10:00:00Z"));
        i64::try_from(text.parse::<Timestamp>().map_err(|_| bad())?.as_nanosecond()).map_err(|_| bad())
    };
    let to_ns = asked.to.map_or(Ok(crate::ingest::utc_ns()), ns)?;
    let from_ns = asked.from.map_or(Ok(to_ns.saturating_sub(DEFAULT_RANGE_NS)), ns)?;
    if from_ns > to_ns {
        return Err(bad("from lies after to"));
    }
    let after = asked.after.map(|text| {
        let parts = text.split_once('.').and_then(|(since, row)| Some((since.parse().ok()?, row.parse().ok()?)));
        parts.ok_or_else(|| bad("after: wanted what an earlier answer gave as next"))
    });
    let limit = within("limit", asked.limit, PAGE.0, PAGE.1)?;
    Ok(PresenceQuery { of, from_ns, to_ns, after: after.transpose()?, limit })
}
