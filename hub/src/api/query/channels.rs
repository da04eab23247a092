//! `GET /api/v1/latest` and `GET /api/v1/channels`: newest stored values, and which channels there are.

use axum::{extract::State, response::Response};
use serde::Serialize;
use speedwell_wire::{GatewayId, Quality, Quantity};
use utoipa::ToSchema;

use super::{Asked, Utc, answer, asked::wrong};
use crate::{
    api::{ApiError, Complaint, Context},
    store::{ChannelsQuery, MAX_CHANNELS},
};

/// Channels of a page when no limit is asked for.
const PAGE: usize = 1_000;

/// A page of newest values.
#[derive(Serialize, ToSchema)]
struct LatestPage {
    latest: Vec<Newest>,
    /// The `after` to go on with. A page may be short, or empty, and have one.
    next: Option<String>,
}

/// The newest stored value of a channel.
#[derive(Serialize, ToSchema)]
struct Newest {
    #[schema(value_type = String)]
    gateway: GatewayId,
    sensor: String,
    #[schema(value_type = String)]
    quantity: Quantity,
    /// Of value and uncertainty.
    unit: &'static str,
    value: f64,
    /// One standard uncertainty, when known.
    uncertainty: Option<f64>,
    #[schema(value_type = String)]
    quality: Quality,
    /// When; null in a boot whose clock nobody has told yet.
    t: Option<Utc>,
}

/// A page of channels.
#[derive(Serialize, ToSchema)]
struct ChannelsPage {
    channels: Vec<Channel>,
    /// The `after` to go on with. A page may be short, or empty, and have one.
    next: Option<String>,
}

/// A quantity of a sensor.
#[derive(Serialize, ToSchema)]
struct Channel {
    #[schema(value_type = String)]
    gateway: GatewayId,
    sensor: String,
    #[schema(value_type = String)]
    quantity: Quantity,
    unit: &'static str,
    /// Its first sample, as far as sums are made: null for some seconds after it began, and while nobody dates it.
    first: Option<Utc>,
    /// Its newest sample; null in a boot whose clock nobody has told yet.
    last: Option<Utc>,
}

/// Newest stored values, channel by channel in order of name, a page at a time.
#[utoipa::path(
    get, path = "/api/v1/latest", tag = "query",
    params(
        ("gateway" = Option<String>, Query, description = "of this gateway; of all when left out"),
        ("sensor" = Option<String>, Query, description = "of sensors of this name"),
        ("quantity" = Option<String>, Query, description = "of this quantity, as `speed`"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000, description = "at most this many, 1 to 1000"),
    ),
    responses((status = 200, body = LatestPage), (status = 400, body = Complaint), (status = 503, body = Complaint))
)]
pub(in super::super) async fn latest(State(context): State<Context>, asked: Asked) -> Result<Response, ApiError> {
    let query = checked(asked, false)?;
    answer(context, move |reader| {
        let found = reader.channels(&query)?;
        let newest = |(latest, _): (crate::store::Latest, _)| {
            let crate::store::Newest { sensor, quantity, value, uncertainty, quality, .. } = latest.newest;
            let (unit, t) = (quantity.unit(), latest.utc_ns.map(Utc));
            Newest { gateway: latest.gateway, sensor, quantity, unit, value, uncertainty, quality, t }
        };
        Ok(LatestPage { latest: found.channels.into_iter().map(newest).collect(), next: next(found.next) })
    })
    .await
}

/// Which channels there are, and since when, a page at a time.
#[utoipa::path(
    get, path = "/api/v1/channels", tag = "query",
    params(
        ("gateway" = Option<String>, Query, description = "of this gateway; of all when left out"),
        ("sensor" = Option<String>, Query, description = "of sensors of this name"),
        ("quantity" = Option<String>, Query, description = "of this quantity, as `speed`"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000, description = "at most this many, 1 to 1000"),
    ),
    responses((status = 200, body = ChannelsPage), (status = 400, body = Complaint), (status = 503, body = Complaint))
)]
pub(in super::super) async fn channels(State(context): State<Context>, asked: Asked) -> Result<Response, ApiError> {
    let query = checked(asked, true)?;
    answer(context, move |reader| {
        let found = reader.channels(&query)?;
        let channel = |(latest, first): (crate::store::Latest, Option<i64>)| {
            let (sensor, quantity) = (latest.newest.sensor, latest.newest.quantity);
            let (unit, first, last) = (quantity.unit(), first.map(Utc), latest.utc_ns.map(Utc));
            Channel { gateway: latest.gateway, sensor, quantity, unit, first, last }
        };
        Ok(ChannelsPage { channels: found.channels.into_iter().map(channel).collect(), next: next(found.next) })
    })
    .await
}

fn checked(asked: Asked, firsts: bool) -> Result<ChannelsQuery, ApiError> {
    let asked = asked.only(&["gateway", "sensor", "quantity", "after", "limit"], &[])?;
    Ok(ChannelsQuery {
        gateway: asked.gateway_if_any()?,
        sensor: asked.text("sensor").map(str::to_owned),
        quantity: asked.quantity_if_any()?,
        after: asked.text("after").map(after).transpose()?,
        limit: asked.number("limit", (1, MAX_CHANNELS))?.unwrap_or(PAGE),
        firsts,
    })
}

/// `GATEWAY/SENSOR/QUANTITY`. Of the three only a sensor's name may have a slash in it.
fn next(after: Option<(String, String, String)>) -> Option<String> {
    after.map(|(gateway, sensor, quantity)| format!("{gateway}/{sensor}/{quantity}"))
}

fn after(text: &str) -> Result<(String, String, String), ApiError> {
    let parts = text.split_once('/').and_then(|(gateway, rest)| Some((gateway, rest.rsplit_once('/')?)));
    let bad = || wrong("after", text, "wanted is the `next` of a page, as truck-7/front-wheel/speed");
    let (gateway, (sensor, quantity)) = parts.ok_or_else(bad)?;
    Ok((gateway.to_owned(), sensor.to_owned(), quantity.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_go_on_comes_back_whatever_the_sensor_is_called() {
        for sensor in ["front-wheel", "a/b", "/", "ü ", ""] {
            let key = ("truck-7".to_owned(), sensor.to_owned(), "speed".to_owned());
            assert_eq!(after(&next(Some(key.clone())).unwrap()).unwrap(), key);
        }
        assert!(after("truck-7").unwrap_err().to_string().contains("front-wheel"));
    }
}
