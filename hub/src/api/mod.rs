//! What people and programs ask over HTTP.
//!
//! In      requests; the board of newest values, the store's reader, the counters.
//! Out     the page, JSON, the WebSocket feed.
//! Keeps   nothing. A request costs a bounded amount: [`MAX_QUERIES`] at once.
//! Imports `access`, `live`, `presence`, `store`, `ingest` (its counters, its way to the store).
//!
//! ```text
//! GET / /gateway/… /history /login   the pages      GET /healthz            200 once the hub runs
//! GET /docs               the API, to be tried   GET /api/v1/openapi.json   its description; see `openapi`
//! GET /api/v1/gateways    newest values             GET /api/v1/history     a channel over a range of time
//! GET /api/v1/…           what is stored, in other ways; see `query`
//! GET /api/v1/export      all of a range, streamed; see `export`
//! GET /metrics            numbers for Prometheus
//! GET /ws                 newest values as they come; see `feed`, and `sse` for GET /api/v1/live
//! POST /api/v1/readings   takes readings; see `readings`
//! GET /api/v1/presence    who is connected; see `presence`      /api/v1/customers, /api/v1/vehicles   see `fleet`
//! ```
//! Every number stands with its unit.

pub mod access;
mod assets;
mod bodies;
pub mod export;
mod feed;
mod fleet;
pub mod listen;
mod metrics;
mod openapi;
mod presence;
mod query;
pub mod readings;
mod sent;
mod sse;
pub mod tls;
mod ws;

use std::{
    fmt,
    marker::PhantomData,
    sync::{Arc, OnceLock},
    time::Instant,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{FromRequestParts, Path, Request, State},
    http::{HeaderValue, StatusCode, header, request},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use tokio::{
    sync::{Mutex, Semaphore, watch},
    task::spawn_blocking,
};
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use feed::Patience;

use crate::{
    access::{Need, rules},
    config::SpeedUnit,
    ingest::{
        Counters,
        gate::{Desk, Share},
    },
    live::{Board, GatewayView},
    metrics::Metrics,
    presence::Presence,
    store::{Read, StoreError},
};

/// History queries at once; more wait. Each holds a thread and a database connection.
pub const MAX_QUERIES: usize = 4;
/// When something that takes a while is under way.
const COME_AGAIN_S: u32 = 10;
/// When there is no place to watch from.
const WATCH_AGAIN_S: u32 = 30;
/// Changes of customers and vehicles that wait for the store at once; one more is told to come again.
const MAX_CHANGES: usize = 64;
/// Clients of the live feed at once, of WebSockets and of events; more are told to come later.
pub const MAX_WATCHERS: usize = 2_000;

/// What is shown, and of what.
pub struct Parts {
    /// The newest values.
    pub board: Board,
    /// What is stored.
    pub reader: Arc<dyn Read>,
    /// What was taken.
    pub counters: Arc<Counters>,
    /// Why nothing can be stored now, if nothing can.
    pub store: watch::Receiver<Option<String>>,
    /// What is counted for monitoring.
    pub metrics: Metrics,
    /// Whether the hub stops.
    pub stop: watch::Receiver<bool>,
    /// With those who watch.
    pub patience: Patience,
    /// Who may do what.
    pub permissions: access::Permissions,
    /// What takes readings; without it the hub only shows.
    pub intake: Option<readings::Intake>,
    /// Who is connected.
    pub presence: Presence,
    /// To the store; without it nothing can be changed.
    pub desk: Option<Desk>,
}

/// What the handlers work with.
#[derive(Clone)]
struct Context {
    board: Board,
    reader: Arc<dyn Read>,
    counters: Arc<Counters>,
    store: watch::Receiver<Option<String>>,
    metrics: Metrics,
    queries: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    /// Of speeds in the aliases' shapes.
    speed_unit: SpeedUnit,
    watchers: Arc<Semaphore>,
    snapshots: Arc<Mutex<()>>,
    snapshots_kib: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
    patience: Patience,
    permissions: access::Gate,
    presence: Presence,
    desk: Option<Desk>,
    /// Changes that wait for the store.
    changes: Arc<Share>,
    /// Of all routes; it is there once they are.
    description: Arc<OnceLock<Bytes>>,
}

/// Something a client asked that it does not get.
#[derive(Debug, thiserror::Error)]
enum ApiError {
    /// The query is wrong.
    #[error("{0}")]
    BadQuery(String),
    /// The store could not answer.
    #[error("the store cannot answer now")]
    Store(#[from] crate::store::StoreError),
    /// Sums of a long bucket are yet to be made.
    #[error("sums of this range are being made: ask for shorter buckets, or again in a while")]
    Behind,
    /// As many exports as may be are under way.
    #[error("{} exports are under way, no more run at once: come again when one has ended", export::MAX_EXPORTS)]
    Exporting,
    /// There is no place for one more.
    #[error("{MAX_WATCHERS} clients watch, which is all this hub takes; come again later")]
    ManyWatch,
    /// The hub is stopping, or a task of it failed.
    #[error("the hub is stopping")]
    Stopping,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = match &self {
            ApiError::BadQuery(_) => StatusCode::BAD_REQUEST,
            ApiError::Store(error) => {
                tracing::error!(%error, "a query failed");
                StatusCode::SERVICE_UNAVAILABLE
            }
            ApiError::Behind | ApiError::Exporting | ApiError::ManyWatch | ApiError::Stopping => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        let again = match self {
            ApiError::Behind | ApiError::Exporting => Some(COME_AGAIN_S),
            ApiError::ManyWatch => Some(WATCH_AGAIN_S),
            ApiError::Store(_) | ApiError::Stopping => Some(COME_AGAIN_S),
            ApiError::BadQuery(_) => None,
        };
        let again = again.map(|seconds| [(header::RETRY_AFTER, HeaderValue::from(seconds))]);
        (status, again, Json(Complaint { error: self.to_string() })).into_response()
    }
}

impl Context {
    /// Clients of the live feed.
    fn watching(&self) -> u32 {
        (MAX_WATCHERS - self.watchers.available_permits()) as u32
    }
}

/// All routes.
pub fn routes(parts: Parts) -> Router {
    let Parts { board, reader, counters, store, metrics: counted, stop, patience, permissions, intake, presence, desk } =
        parts;
    let permissions: access::Gate = Arc::new(permissions);
    let semaphore = |n| Arc::new(Semaphore::new(n));
    let context = Context {
        board,
        reader,
        counters,
        store,
        metrics: counted.clone(),
        queries: semaphore(MAX_QUERIES),
        exports: semaphore(export::MAX_EXPORTS),
        speed_unit: intake.as_ref().map(|intake| intake.speed_unit).unwrap_or_default(),
        watchers: semaphore(MAX_WATCHERS),
        snapshots: Arc::default(),
        snapshots_kib: semaphore(feed::SNAPSHOTS_KIB as usize),
        stop,
        patience,
        permissions: permissions.clone(),
        presence,
        desk,
        changes: Arc::new(Share::new(MAX_CHANGES, MAX_CHANGES * 1024)),
        description: Arc::default(),
    };
    let description = context.description.clone();
    // Whatever is asked here is put in by `routes!` and so is described.
    let (api, mut described) = OpenApiRouter::with_openapi(openapi::Description::openapi())
        .routes(routes!(openapi::described))
        .routes(routes!(gateways))
        .routes(routes!(query::history::history))
        .routes(routes!(query::rollup::rollup))
        .routes(routes!(query::channels::latest))
        .routes(routes!(query::channels::channels))
        .routes(routes!(query::told::gaps))
        .routes(routes!(query::told::events))
        .routes(routes!(query::aliases::list))
        .routes(routes!(query::aliases::latest))
        .routes(routes!(export::export))
        .routes(routes!(health))
        .routes(routes!(metrics::metrics))
        .merge(access::routes())
        .routes(routes!(ws::open))
        .routes(routes!(sse::open))
        .routes(routes!(feed::speed::open))
        .routes(routes!(presence::presence))
        .routes(routes!(presence::history))
        .routes(routes!(fleet::customers, fleet::add_customer))
        .routes(routes!(fleet::customer, fleet::change_customer, fleet::drop_customer))
        .routes(routes!(fleet::vehicles, fleet::add_vehicle))
        .routes(routes!(fleet::vehicle, fleet::change_vehicle, fleet::drop_vehicle))
        .routes(routes!(fleet::monitored))
        .with_state(context)
        .split_for_parts();
    let (intake, takes) = intake.map(readings::routes).unwrap_or_default().split_for_parts();
    described.merge(takes);
    let _ = description.set(openapi::complete(&described));
    Router::new()
        .merge(assets::routes())
        .merge(api)
        .layer(middleware::from_fn_with_state(bodies::BODY_WITHIN, bodies::gathered))
        .layer(middleware::from_fn_with_state(semaphore(bodies::ANSWERS_KIB), bodies::counted))
        .layer(middleware::from_fn_with_state(counted, metrics::timed))
        .merge(intake)
        .fallback(nowhere)
        .method_not_allowed_fallback(not_so)
        // What is merged after these is not guarded.
        .layer(middleware::from_fn_with_state(permissions, guarded))
}

/// An answer to a request that cannot be served.
#[derive(Serialize, ToSchema)]
struct Complaint {
    /// What is wrong, and what is allowed.
    error: String,
}

/// What an address names. Letters that are no UTF-8 are a wrong question like any other.
struct Named(String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, ApiError> {
        let name = Path::<String>::from_request_parts(parts, state).await;
        name.map(|Path(name)| Self(name)).map_err(|e| ApiError::BadQuery(e.body_text()))
    }
}

/// A body that is an object. Read as it stands, a structure would be taken from an array too, by the order of its fields.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }
        from.deserialize_map(Fields(PhantomData))
    }
}

/// A whole number within bounds, or the usual one.
fn within(name: &str, came: Option<usize>, usual: usize, most: usize) -> Result<usize, ApiError> {
    match came {
        None => Ok(usual),
        Some(n) if (1..=most).contains(&n) => Ok(n),
        Some(n) => Err(ApiError::BadQuery(format!("{name}: {n} came, wanted is a whole number from 1 to {most}"))),
    }
}

/// All gateways.
#[derive(Serialize, ToSchema)]
struct Gateways {
    /// By name.
    gateways: Vec<GatewayView>,
}

/// Newest values of every channel of every gateway.
#[utoipa::path(get, path = "/api/v1/gateways", tag = "live", responses((status = 200, body = Gateways), (status = 503, body = Complaint)))]
async fn gateways(State(context): State<Context>) -> Result<Response, ApiError> {
    // One at a time is made, as snapshots for those who watch are: of ten thousand gateways it takes a while.
    let _making = context.snapshots.clone().lock_owned().await;
    let made =
        spawn_blocking(move || serde_json::to_vec(&Gateways { gateways: context.board.snapshot(Instant::now()) }));
    let made = made.await.map_err(|_| ApiError::Stopping)?;
    let made = made.map_err(|e| StoreError::Content(format!("what is no JSON: {e}")))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], made).into_response())
}

/// How the hub is.
#[derive(Serialize, ToSchema)]
struct Health {
    /// `ok`, or `trouble` when the broker or the store is not.
    status: &'static str,
    /// Of the hub.
    version: &'static str,
    /// `ok`, or what is wrong with the connection to the broker.
    broker: String,
    /// `ok`, or why nothing can be stored.
    store: String,
    /// Clients of the live feed.
    watchers: u32,
    /// What was taken since start, in numbers.
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    ingest: serde_json::Map<String, serde_json::Value>,
}

/// Whether the hub runs, and whether anything is wrong.
#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = 200, body = Health)))]
async fn health(State(context): State<Context>) -> Json<Health> {
    let ingest = context.counters.list().into_iter().map(|(name, n)| (name.to_owned(), n.into())).collect();
    let (broker, store) = (context.counters.trouble(), context.store.borrow().clone());
    Json(Health {
        status: if broker.is_none() && store.is_none() { "ok" } else { "trouble" },
        version: env!("CARGO_PKG_VERSION"),
        broker: broker.unwrap_or_else(|| "ok".into()),
        store: store.unwrap_or_else(|| "ok".into()),
        watchers: context.watching(),
        ingest,
    })
}

async fn nowhere(request: Request) -> Response {
    let path = request.uri().path().get(..100).unwrap_or(request.uri().path());
    let error =
        format!("there is no {path}: /api/v1/openapi.json has all that there is, and a slash at the end counts");
    (StatusCode::NOT_FOUND, Json(Complaint { error })).into_response()
}

/// The router adds which methods are allowed.
async fn not_so(request: Request) -> Response {
    let error = format!("{} is not for this address: Allow says what is", request.method());
    (StatusCode::METHOD_NOT_ALLOWED, Json(Complaint { error })).into_response()
}

/// Before every route, and after it. One layer does both: each costs a request three pieces of memory, and most requests
/// bring a single reading.
async fn guarded(State(gate): State<access::Gate>, request: Request, next: Next) -> Response {
    let need = rules::need(request.method().as_str(), request.uri().path());
    let tls = request.extensions().get::<access::Peer>().is_some_and(|peer| peer.tls);
    secure(tls, need, access::guard(&gate, need, request, next).await)
}

/// Nothing of another origin is loaded, and no other page may frame this one.
fn secure(tls: bool, need: Need, mut response: Response) -> Response {
    // uPlot sets sizes through the style attribute of its elements, by script, which needs no 'unsafe-inline'.
    const PAGE: HeaderValue = HeaderValue::from_static(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    );
    /// What is no page loads nothing at all.
    const OTHER: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    const HEADERS: [(header::HeaderName, HeaderValue); 3] = [
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    ];
    // What not everybody may see is not left on the disk of a machine that others use too.
    let kept = HeaderValue::from_static(if need == Need::Nothing { "no-cache" } else { "no-store" });
    let same = response.status() == StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    if tls {
        // A year. A browser that was here once does not come unencrypted again.
        let always = HeaderValue::from_static("max-age=31536000");
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(always);
    }
    // What has not changed keeps its own: a browser would put this one in the place of a page's.
    if !same {
        let page = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(if page { PAGE } else { OTHER });
    }
    headers.entry(header::CACHE_CONTROL).or_insert(kept);
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(value);
    }
    response
}
