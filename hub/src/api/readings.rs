//! `POST /api/v1/readings` and its alias `POST /tracking/data/`: one reading or an array of them.
//!
//! ```text
//! {"device":"truck-7","sensor":"front-wheel","quantity":"speed","unit":"km/h","value":36.5,"uncertainty":0.2,
//!  "quality":"good","at":"2026-05-04T10:00:00.123456Z"}
//! 200 {"accepted":1}
//! 400 {"error":"1 of 2 items cannot be used; none was stored","items":[{"index":1,"reason":"missing: value"}]}
//! ```
//! `unit` is the quantity's own when it is left out, and `at` the time of arrival. Accepted is what is on disk when the
//! answer comes. `?on-error=keep` has the good items of an array kept and the bad ones told beside them; `refuse`, which
//! is the rule, stores all or none.
//!
//! A request with an `Idempotency-Key` is stored once however often it is sent, for a day; without one, a reading whose
//! device, sensor, quantity and time are known is not stored again either. 503 with `Retry-After` says that nothing is
//! known to be stored: the same request may be sent again. 422 says that it would be in vain.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Query, Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::Complaint;
use crate::{
    config::{SpeedUnit, default_sensor},
    ingest::{
        Counters,
        gate::{Desk, Outcome, REFUSED, Room, Share},
        readings::{ArrivalClock, Bad, Shape, Taken, Unreadable},
    },
    store::{Readings, Work},
};

/// Largest body: a thousand items of one kilobyte.
pub const MAX_BODY: usize = 1024 * 1024;
/// Requests that are read or wait for the store, and the bytes of their bodies; decoded they are some ten times that.
pub const WAITING: (usize, usize) = (4096, 8 * 1024 * 1024);
/// How long a body that is not taken is read, for its sender to see the answer.
const DRAIN: Duration = Duration::from_secs(2);
/// Longest key; a UUID has 36.
const MAX_KEY: usize = 255;
/// When the hub has too much to do: this, and the next second it may be otherwise.
const COME_AGAIN_S: u32 = 1;
/// When the store does not work: somebody has to free a disk or a lock.
const STORE_DOWN_S: u32 = 10;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Who sends: the scope of an `Idempotency-Key`. Whoever lets requests in puts it among a request's extensions.
#[derive(Clone, Debug)]
pub struct Source(pub String);

/// What the routes work with.
pub struct Intake {
    /// To the store.
    pub desk: Desk,
    /// What may wait.
    pub share: Share,
    /// Times of arrival.
    pub clock: Arc<ArrivalClock>,
    /// What was done.
    pub counters: Arc<Counters>,
    /// Of speeds that come in the alias's shape.
    pub speed_unit: SpeedUnit,
    /// A body has to be there within this.
    pub body_within: Duration,
    /// And its commit within this.
    pub commit_within: Duration,
}

impl Intake {
    /// With the limits of a hub in service.
    pub fn new(desk: Desk, clock: Arc<ArrivalClock>, counters: Arc<Counters>, speed_unit: SpeedUnit) -> Self {
        let (share, ten) = (Share::new(WAITING.0, WAITING.1), Duration::from_secs(10));
        Self { desk, share, clock, counters, speed_unit, body_within: ten, commit_within: ten }
    }
}

/// The routes of ingest.
pub(super) fn routes(intake: Intake) -> OpenApiRouter {
    let tracking = Shape::Tracking { speed: intake.speed_unit, sensor: default_sensor() };
    let door = Door { intake, own: Shape::Own, tracking };
    OpenApiRouter::new().routes(routes!(readings)).routes(routes!(tracking_data)).with_state(Arc::new(door))
}

/// Takes one reading or an array of them.
///
/// Accepted is what is on disk when the answer comes. `on-error=refuse` stores all items of an array or none, `keep` the
/// good ones. A request with an `Idempotency-Key` is stored once however often it is sent, for a day; without one, a
/// reading whose device, sensor, quantity and time are known is not stored again either.
#[utoipa::path(
    post, path = "/api/v1/readings", tag = "ingest", request_body = OneOrMany<NewReading>,
    params(
        ("on-error" = inline(Option<OnError>), Query, description = "what becomes of good items beside bad ones; `refuse` when left out"),
        ("Idempotency-Key" = Option<String>, Header, pattern = r#"^("[!-~]{1,253}"|[!#-~][!-~]{0,253})$"#,
            description = "up to 255 visible ASCII characters, as a UUID: the same request is stored once"),
    ),
    responses(
        (status = 200, body = Told), (status = 400, body = ReadingsRefused), (status = 408, body = Complaint),
        (status = 413, body = Complaint), (status = 415, body = Complaint),
        (status = 422, body = Complaint, description = "the `Idempotency-Key` was used for another request, or the database refuses what is in this one"),
        (status = 503, body = Complaint),
    )
)]
async fn readings(State(door): State<Arc<Door>>, request: Request) -> Response {
    let told = door.take(&door.own, request).await;
    told.map_or_else(IntoResponse::into_response, |told| (StatusCode::OK, Json(told)).into_response())
}

/// Takes one place with its speed, or an array of them, in the words of an older interface.
///
/// `speed` is in the unit of `[ingest] speed-unit`, which the answer names. `on-error` and `Idempotency-Key` are as in
/// `POST /api/v1/readings`.
#[utoipa::path(
    post, path = "/tracking/data/", tag = "aliases", request_body = OneOrMany<NewPlace>,
    params(
        ("on-error" = inline(Option<OnError>), Query, description = "what becomes of good items beside bad ones; `refuse` when left out"),
        ("Idempotency-Key" = Option<String>, Header, pattern = r#"^("[!-~]{1,253}"|[!#-~][!-~]{0,253})$"#,
            description = "up to 255 visible ASCII characters, as a UUID: the same request is stored once"),
    ),
    responses(
        (status = 202, body = Told), (status = 400, body = ReadingsRefused), (status = 408, body = Complaint),
        (status = 413, body = Complaint), (status = 415, body = Complaint),
        (status = 422, body = Complaint, description = "the `Idempotency-Key` was used for another request, or the database refuses what is in this one"),
        (status = 503, body = Complaint),
    )
)]
async fn tracking_data(State(door): State<Arc<Door>>, request: Request) -> Response {
    let told = door.take(&door.tracking, request).await.map(|told| Told {
        message: Some("Data received"),
        speed_unit: Some(door.intake.speed_unit.name()),
        ..told
    });
    told.map_or_else(IntoResponse::into_response, |told| (StatusCode::ACCEPTED, Json(told)).into_response())
}

struct Door {
    intake: Intake,
    own: Shape,
    tracking: Shape,
}

/// What becomes of good items beside bad ones.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum OnError {
    #[default]
    Refuse,
    Keep,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Asked {
    #[serde(default)]
    on_error: OnError,
}

/// What is answered when readings were stored.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = ReadingsTaken)]
struct Told {
    /// Only of the alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
    /// Items that are stored, now or from before.
    accepted: usize,
    /// The same request was answered before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    repeated: bool,
    /// That speeds were taken in; only of the alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    speed_unit: Option<&'static str>,
    /// Items that are not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    refused: Vec<Bad>,
}

// What follows is only described. What is read is in `ingest::readings`, which reads borrowed text and explains itself.

/// An item, or some of them: 1000 at most.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// A reading of a sensor.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct NewReading {
    /// The gateway or device.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$", example = "truck-7")]
    device: String,
    /// 1 to 64 bytes of text without control characters.
    #[schema(min_length = 1, max_length = 64, example = "front-wheel")]
    sensor: String,
    /// What is measured, as `speed`.
    #[schema(example = "speed")]
    quantity: String,
    /// Of value and uncertainty, as `km/h`; the quantity's own (m/s of a speed) when left out.
    #[schema(example = "km/h")]
    unit: Option<String>,
    /// In that unit.
    #[schema(example = 36.5)]
    value: f64,
    /// One standard uncertainty in that unit.
    #[schema(minimum = 0, example = 0.2)]
    uncertainty: Option<f64>,
    /// How far it can be trusted: `good` when left out, `estimated`, `degraded` or `stopped`.
    quality: Option<String>,
    /// RFC 3339 with a zone, at most a day ahead of the hub's clock; the time of arrival when left out.
    #[schema(format = DateTime)]
    at: Option<String>,
}

/// Where a device is and how fast. Other fields are passed over.
#[derive(ToSchema)]
#[allow(dead_code)]
struct NewPlace {
    /// Any name.
    #[schema(min_length = 1, example = "34 ABC 7")]
    device_id: String,
    /// Latitude and longitude, degrees.
    #[schema(example = "41.0082,28.9784")]
    location: String,
    /// In the unit of `[ingest] speed-unit`.
    #[schema(minimum = 0, example = 36.5)]
    speed: f64,
    /// RFC 3339 with a zone; the time of arrival when left out.
    #[schema(format = DateTime)]
    timestamp: Option<String>,
}

/// A document of which nothing was stored.
#[derive(ToSchema)]
#[allow(dead_code)]
struct ReadingsRefused {
    /// What is wrong, and what is allowed.
    error: String,
    /// Where the JSON ends to be any.
    #[schema(nullable = false)]
    reason: Option<String>,
    /// The bad items of an array.
    #[schema(nullable = false)]
    items: Option<Vec<Bad>>,
}

/// Why a request is not taken.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("Content-Type has to be application/json, without a Content-Encoding")]
    Type,
    #[error("{0}")]
    Query(String),
    #[error("Idempotency-Key has to be 1 to {MAX_KEY} visible ASCII characters")]
    Key,
    #[error("the body is larger than {MAX_BODY} bytes: send it in parts")]
    Large,
    #[error("the body was not there within {} s", .0.as_secs())]
    Slow(Duration),
    #[error("the body broke off")]
    Cut,
    #[error("Invalid JSON format.")]
    Json(String),
    #[error("{0}")]
    TooMany(Unreadable),
    #[error("{} of {of} items cannot be used; none was stored", bad.len())]
    Items { bad: Vec<Bad>, of: usize },
    #[error("Idempotency-Key was used for another request; nothing was stored")]
    Conflict,
    #[error("{REFUSED}")]
    Refused,
    #[error("too much is waiting to be stored; nothing of this was taken")]
    Busy,
    #[error("nothing can be stored now: {0}; nothing of this was taken")]
    StoreDown(String),
    #[error("it is not known whether this was stored; send it again, with the same Idempotency-Key if it has one")]
    Unanswered,
}

impl Door {
    async fn take(&self, shape: &Shape, request: Request) -> Result<Told, Refusal> {
        let taken = self.try_take(shape, request).await;
        if matches!(taken, Err(Refusal::Busy | Refusal::StoreDown(_) | Refusal::Unanswered)) {
            self.intake.counters.turned_away.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    async fn try_take(&self, shape: &Shape, request: Request) -> Result<Told, Refusal> {
        let intake = &self.intake;
        if let Some(why) = intake.desk.trouble.borrow().as_ref() {
            return Err(Refusal::StoreDown(why.clone()));
        }
        let (head, body) = request.into_parts();
        json_only(&head.headers)?;
        let asked = match head.uri.query() {
            None => Asked::default(),
            Some(_) => Query::try_from_uri(&head.uri).map_err(|e| Refusal::Query(e.body_text()))?.0,
        };
        let key = head.headers.get(IDEMPOTENCY_KEY).map(|key| checked_key(key.as_bytes())).transpose()?;
        let mut room = intake.share.try_room().ok_or(Refusal::Busy)?;
        let body = timeout(intake.body_within, read(body, &head.headers, &mut room));
        let body = body.await.map_err(|_| Refusal::Slow(intake.body_within))??;
        let Taken { items, readings, bad, received_ns } = shape.read(&body, &intake.clock).map_err(unreadable)?;
        let accepted = items - bad.len();
        if !bad.is_empty() && (asked.on_error == OnError::Refuse || accepted == 0) {
            return Err(Refusal::Items { bad, of: items });
        }
        let digest = key.as_ref().map_or([0; 32], |_| digest(shape, asked.on_error, &body));
        let source = head.extensions.get::<Source>().map_or_else(|| "http".to_owned(), |source| source.0.clone());
        let work = Work::Readings(Readings { source, key, digest, received_ns, items: readings });
        let outcome = intake.desk.hand_in(work, Some(room)).map_err(|_| Refusal::Unanswered)?;
        let outcome = timeout(intake.commit_within, outcome).await.map_err(|_| Refusal::Unanswered)?;
        match outcome.map_err(|_| Refusal::Unanswered)? {
            Outcome::Conflict => Err(Refusal::Conflict),
            Outcome::Refused(_) => Err(Refusal::Refused),
            outcome => Ok(Told { accepted, repeated: outcome == Outcome::Repeated, refused: bad, ..Told::default() }),
        }
    }
}

/// A page of another origin can send text without being asked, but not this type.
fn json_only(headers: &HeaderMap) -> Result<(), Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let json = kind.eq_ignore_ascii_case("application/json") && !headers.contains_key(header::CONTENT_ENCODING);
    json.then_some(()).ok_or(Refusal::Type)
}

/// The draft of the header has it as a quoted string; most send it bare.
fn checked_key(key: &[u8]) -> Result<String, Refusal> {
    let bare = key.strip_prefix(b"\"").and_then(|key| key.strip_suffix(b"\"")).unwrap_or(key);
    let ok = (1..=MAX_KEY).contains(&bare.len()) && bare.iter().all(u8::is_ascii_graphic);
    let text = ok.then(|| String::from_utf8_lossy(bare).into_owned());
    text.ok_or(Refusal::Key)
}

async fn read(mut body: Body, headers: &HeaderMap, room: &mut Room) -> Result<Bytes, Refusal> {
    let told = headers.get(header::CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse::<usize>().ok());
    let read = match told.is_some_and(|told| told > MAX_BODY) {
        true => Err(Refusal::Large),
        false => gather(&mut body, room).await,
    };
    if matches!(read, Err(Refusal::Large | Refusal::Busy)) {
        tokio::spawn(drain(body));
    }
    read
}

/// A connection that is closed while bytes come in is reset, and its client never sees the answer: so some more is read
/// and thrown away.
async fn drain(mut body: Body) {
    let rest = async {
        let mut size = 0;
        while let (true, Some(Ok(frame))) = (size < 4 * MAX_BODY, body.frame().await) {
            size += frame.data_ref().map_or(0, Bytes::len);
        }
        // What has been sent by now stops the sender; its answer is on the way to it.
        sleep(DRAIN).await;
    };
    let _ = timeout(DRAIN, rest).await;
}

async fn gather(body: &mut Body, room: &mut Room) -> Result<Bytes, Refusal> {
    let (mut first, mut all) = (Bytes::new(), Vec::new());
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::Cut)?.into_data() else { continue };
        size += data.len();
        if size > MAX_BODY {
            return Err(Refusal::Large);
        }
        // Room is taken for what has come, not for what is promised: promises cost nothing.
        if !room.grow(data.len()) {
            return Err(Refusal::Busy);
        }
        match (first.is_empty(), all.is_empty()) {
            (true, true) => first = data,
            (_, true) => all = [&first[..], &data[..]].concat(),
            (_, false) => all.extend_from_slice(&data),
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

fn unreadable(why: Unreadable) -> Refusal {
    match why {
        Unreadable::TooMany { .. } => Refusal::TooMany(why),
        Unreadable::Json(_) | Unreadable::NotItems(_) => Refusal::Json(why.to_string()),
    }
}

/// Of all that decides what is stored and answered.
fn digest(shape: &Shape, on_error: OnError, body: &[u8]) -> [u8; 32] {
    let how = [u8::from(*shape == Shape::Own), u8::from(on_error == OnError::Keep)];
    Sha256::new().chain_update(how).chain_update(body).finalize().into()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        use StatusCode as S;
        let (status, again) = match &self {
            Refusal::Type => (S::UNSUPPORTED_MEDIA_TYPE, None),
            Refusal::Query(_) | Refusal::Key | Refusal::Cut | Refusal::Json(_) | Refusal::Items { .. } => {
                (S::BAD_REQUEST, None)
            }
            Refusal::Large | Refusal::TooMany(_) => (S::PAYLOAD_TOO_LARGE, None),
            Refusal::Slow(_) => (S::REQUEST_TIMEOUT, None),
            Refusal::Conflict | Refusal::Refused => (S::UNPROCESSABLE_ENTITY, None),
            Refusal::Busy => (S::SERVICE_UNAVAILABLE, Some(COME_AGAIN_S)),
            Refusal::StoreDown(_) | Refusal::Unanswered => (S::SERVICE_UNAVAILABLE, Some(STORE_DOWN_S)),
        };
        let mut told = serde_json::json!({ "error": self.to_string() });
        match self {
            Refusal::Items { bad, .. } => told["items"] = serde_json::to_value(bad).unwrap_or_default(),
            Refusal::Json(reason) => told["reason"] = reason.into(),
            _ => {}
        }
        let mut response = (status, Json(told)).into_response();
        if let Some(seconds) = again {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_with_and_without_its_quotes_and_nothing_else_is_one() {
        assert_eq!(checked_key(b"\"8e03978e\"").unwrap(), "8e03978e");
        assert_eq!(checked_key(b"8e03978e").unwrap(), "8e03978e");
        for bad in [&b""[..], b"\"\"", b"a b", b"\xff", &[b'x'; 256]] {
            assert!(checked_key(bad).is_err());
        }
    }

    #[test]
    fn what_decides_what_is_stored_is_in_the_digest() {
        let tracking = Shape::Tracking { speed: SpeedUnit::KmH, sensor: "s".into() };
        let all = [
            digest(&Shape::Own, OnError::Keep, b"[]"),
            digest(&Shape::Own, OnError::Refuse, b"[]"),
            digest(&tracking, OnError::Keep, b"[]"),
            digest(&Shape::Own, OnError::Keep, b"[ ]"),
        ];
        assert!((0..4).all(|a| (0..a).all(|b| all[a] != all[b])));
    }
}
