//! `GET /ws/speed-data/?device=`: one speed after the other, as an older live feed has it.
//!
//! ```text
//! {"speed":42.0,"timestamp":"2024-04-10 13:10:42.123456+00:00"}
//! ```
//! The newest known at once, then each new one; of those that come faster than the client takes them, the newest. `speed`
//! is in the unit of `[ingest] speed-unit`. `device` may be left out where there is one, and `sensor` where the device has
//! one that measures speed; where there is none yet, the first that comes is taken. Nothing else is ever sent, so a client
//! that knows only this message is not surprised; that the connection lives is told by pings.

use std::time::Instant;

use axum::{
    Extension,
    extract::{Query, State, ws::Message},
    response::Response,
};
use jiff::{SignedDuration, Timestamp, tz::Offset};
use serde::Serialize;
use speedwell_wire::{GatewayId, LogId};

use super::{
    super::{
        ApiError, Complaint, Context,
        ws::{Client, Upgrade, of_clients},
    },
    Feed, Gone, Next, Pairs, place,
};
use crate::{
    access::Who,
    config::SpeedUnit,
    ingest::{names, readings::in_unit, utc_ns},
    live::{Filter, Speed},
};

/// Names that a complaint lists.
const MAX_LISTED: usize = 20;

/// A device's speeds as they come, over a WebSocket, in the words of an older feed.
#[utoipa::path(
    get, path = "/ws/speed-data/", tag = "live",
    params(
        ("device" = Option<String>, Query, description = "whose; may be left out where there is one"),
        ("sensor" = Option<String>, Query, description = "which; may be left out where the device has one of speed"),
    ),
    responses(
        (status = 101, description = "`{\"speed\":42.0,\"timestamp\":\"2024-04-10 13:10:42.123456+00:00\"}` each"),
        (status = 400, body = Complaint), (status = 403, body = Complaint), (status = 503, body = Complaint),
    )
)]
pub(in crate::api) async fn open(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    pairs: Pairs,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let mut choice = choice(pairs)?;
    choice.settle(&context.board.speeds(choice.device.as_ref(), Instant::now())).map_err(ApiError::BadQuery)?;
    let permit = place(&context)?;
    Ok(of_clients(upgrade)?.on_upgrade(async move |socket| {
        let client = Client { socket, heard: Instant::now(), patience: context.patience, _permit: permit };
        let gateways = choice.device.iter().cloned().collect();
        let feed = Feed::new(context.clone(), who, Filter { gateways, ..Filter::default() }, None);
        Follower { client, feed, context, choice, last: None }.serve().await;
    }))
}

/// Whose speed is wanted.
#[derive(Debug, Default, PartialEq)]
struct Choice {
    device: Option<GatewayId>,
    sensor: Option<String>,
}

fn choice(pairs: Pairs) -> Result<Choice, ApiError> {
    let Query(pairs) = pairs.map_err(|e| ApiError::BadQuery(e.body_text()))?;
    let mut choice = Choice::default();
    for (name, value) in pairs {
        match name.as_str() {
            // A name may be one that is kept in other letters, as a plate with spaces is.
            "device" => {
                let id = GatewayId::new(value.as_str()).or_else(|_| names::gateway_id(&value));
                choice.device = Some(id.map_err(|e| ApiError::BadQuery(format!("device: {e}")))?);
            }
            "sensor" => choice.sensor = Some(value),
            _ => {
                let told = format!("unknown parameter {name:?}: allowed are device and sensor");
                return Err(ApiError::BadQuery(told));
            }
        }
    }
    Ok(choice)
}

impl Choice {
    /// Takes the only ones there are for those that were not named; where there are several, says which.
    fn settle(&mut self, speeds: &[Speed]) -> Result<(), String> {
        let mut devices: Vec<&GatewayId> = speeds.iter().map(|speed| &speed.gateway).collect();
        devices.dedup();
        self.device = match (self.device.take(), &devices[..]) {
            (None, []) => return Ok(()),
            (None, [only]) => Some((*only).clone()),
            (None, several) => return Err(which("device", several.iter().map(|id| id.as_str()).collect())),
            (named, _) => named,
        };
        let sensors: Vec<&str> = speeds.iter().map(|speed| speed.sensor.as_str()).collect();
        self.sensor = match (self.sensor.take(), &sensors[..]) {
            (None, []) => None,
            (None, [only]) => Some((*only).to_owned()),
            (None, several) => return Err(which("sensor", several.to_vec())),
            (named, _) => named,
        };
        Ok(())
    }
}

fn which(name: &str, mut several: Vec<&str>) -> String {
    several.sort_unstable();
    let more = if several.len() > MAX_LISTED { " and more" } else { "" };
    several.truncate(MAX_LISTED);
    format!("several have a speed: add {name}= with one of {}{more}", several.join(", "))
}

struct Follower {
    client: Client,
    feed: Feed,
    context: Context,
    choice: Choice,
    /// The one that was sent last.
    last: Option<(Option<LogId>, u32, u64)>,
}

#[derive(Serialize)]
struct Said {
    speed: f64,
    timestamp: String,
}

impl Follower {
    async fn serve(mut self) {
        // An error means that the client is gone; nobody is left to be told.
        if self.follow().await.is_ok() {
            let _ = self.client.send([Message::Close(None)]).await;
        }
    }

    async fn follow(&mut self) -> Result<(), Gone> {
        loop {
            // Both arms are cancel-safe: each takes one thing or nothing.
            tokio::select! {
                next = self.feed.next() => match next {
                    // What the feed tells is not looked at: that there is something is why to look.
                    Next::Say(_) => self.newest().await?,
                    Next::Snapshot => {
                        self.feed.pass_over();
                        self.newest().await?;
                    }
                    Next::Beat(_) => self.client.ping().await?,
                    Next::Stop => return Ok(()),
                },
                heard = self.client.hear() => heard?,
            }
        }
    }

    async fn newest(&mut self) -> Result<(), Gone> {
        let speeds = self.context.board.speeds(self.choice.device.as_ref(), Instant::now());
        if (self.choice.device.is_none() || self.choice.sensor.is_none())
            && let Some(first) = speeds.first()
        {
            // Nothing was there when the client came.
            self.choice.device.get_or_insert_with(|| first.gateway.clone());
            self.choice.sensor.get_or_insert_with(|| first.sensor.clone());
        }
        let chosen = |speed: &&Speed| {
            Some(&speed.gateway) == self.choice.device.as_ref() && Some(&speed.sensor) == self.choice.sensor.as_ref()
        };
        let Some(speed) = speeds.iter().find(chosen).filter(|speed| self.last != Some(speed.stamp)) else {
            return Ok(());
        };
        self.last = Some(speed.stamp);
        let now = Timestamp::from_nanosecond(utc_ns().into()).map_err(|_| Gone)?;
        let said = said(speed, self.context.speed_unit, now);
        let text = serde_json::to_string(&said).map_err(|_| Gone)?;
        self.client.send([Message::text(text)]).await
    }
}

fn said(speed: &Speed, unit: SpeedUnit, now: Timestamp) -> Said {
    // A millionth is far below what any sensor knows, and far above what a float loses in between.
    let value = (in_unit(speed.m_s, unit) * 1e6).round() / 1e6;
    let age = SignedDuration::try_from(speed.age).unwrap_or(SignedDuration::ZERO);
    let exact = speed.utc_ns.and_then(|ns| Timestamp::from_nanosecond(ns.into()).ok());
    let at = Offset::UTC.to_datetime(exact.unwrap_or_else(|| now.saturating_sub(age).unwrap_or(now)));
    let (date, time) = (at.date(), at.time());
    let micros = time.subsec_nanosecond() / 1000;
    let (h, m, s) = (time.hour(), time.minute(), time.second());
    Said { speed: value, timestamp: format!("{date} {h:02}:{m:02}:{s:02}.{micros:06}+00:00") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn speed(device: &str, sensor: &str, m_s: f64) -> Speed {
        let (gateway, age) = (GatewayId::new(device).unwrap(), Duration::from_micros(1_500_001));
        Speed { gateway, sensor: sensor.into(), m_s, age, utc_ns: None, stamp: (None, 1, 2) }
    }

    #[test]
    fn a_speed_is_told_in_the_words_and_the_unit_of_the_older_feed_and_zero_as_zero() {
        let now: Timestamp = "2024-04-10T13:10:43.623457Z".parse().unwrap();
        let told = |m_s, unit| serde_json::to_string(&said(&speed("a", "s", m_s), unit, now)).unwrap();
        let line = |speed: &str| format!("{{\"speed\":{speed},\"timestamp\":\"2024-04-10 13:10:42.123456+00:00\"}}");
        assert_eq!(told(42.0 / 3.6, SpeedUnit::KmH), line("42.0"));
        assert_eq!(told(12.346, SpeedUnit::MS), line("12.346"));
        assert_eq!(told(0.0, SpeedUnit::KmH), line("0.0"));
    }

    #[test]
    fn the_only_one_need_not_be_named_and_of_several_one_must_be() {
        let settle = |mut choice: Choice, speeds: &[Speed]| choice.settle(speeds).map(|()| choice);
        let (a, b) = (speed("a", "front", 1.0), speed("b", "front", 1.0));
        let only = settle(Choice::default(), std::slice::from_ref(&a)).unwrap();
        assert_eq!((only.device.unwrap().as_str(), only.sensor.as_deref()), ("a", Some("front")));
        assert_eq!(settle(Choice::default(), &[]), Ok(Choice::default()), "the first that comes");
        let told = settle(Choice::default(), &[a.clone(), b]).unwrap_err();
        assert_eq!(told, "several have a speed: add device= with one of a, b");
        let told = settle(Choice::default(), &[a, speed("a", "rear", 1.0)]).unwrap_err();
        assert_eq!(told, "several have a speed: add sensor= with one of front, rear");
    }
}
