//! What people and programs ask over HTTP.
//!
//! In      requests; the board of newest values, the store's reader, the counters.
//! Out     the page, JSON, the WebSocket feed.
//! Keeps   nothing. A request costs a bounded amount: [`MAX_POINTS`] points, [`MAX_QUERIES`] at once.
//! Imports `live`, `store`, `ingest` (its counters).
//!
//! ```text
//! GET /                   the page                  GET /healthz            200 once the hub runs
//! GET /api/v1/gateways    newest values             GET /api/v1/history     a channel over a range of time
//! GET /metrics            numbers for Prometheus
//! GET /ws                 newest values as they come; see `ws`
//! POST /api/v1/readings   takes readings; see `readings`
//! ```
//! Every number stands with its unit.

mod assets;
pub mod listen;
mod metrics;
mod query;
pub mod readings;
mod ws;

use std::{sync::Arc, time::Instant};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{Mutex, Semaphore, watch};
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use ws::Patience;

use crate::{
    ingest::Counters,
    live::{Board, GatewayView},
    metrics::Metrics,
    store::{MAX_POINTS, Read},
};

/// History queries at once; more wait. Each holds a thread and a database connection.
pub const MAX_QUERIES: usize = 4;
/// WebSocket clients at once; more are told to come later.
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
    /// What takes readings; without it the hub only shows.
    pub intake: Option<readings::Intake>,
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
    watchers: Arc<Semaphore>,
    snapshots: Arc<Mutex<()>>,
    snapshots_kib: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
    patience: Patience,
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
            ApiError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(json!({ "error": self.to_string() }))).into_response()
    }
}

/// All routes.
pub fn routes(parts: Parts) -> Router {
    let Parts { board, reader, counters, store, metrics: counted, stop, patience, intake } = parts;
    let semaphore = |n| Arc::new(Semaphore::new(n));
    let context = Context {
        board,
        reader,
        counters,
        store,
        metrics: counted.clone(),
        queries: semaphore(MAX_QUERIES),
        watchers: semaphore(MAX_WATCHERS),
        snapshots: Arc::default(),
        snapshots_kib: semaphore(ws::SNAPSHOTS_KIB as usize),
        stop,
        patience,
    };
    let (api, description) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(gateways))
        .routes(routes!(query::history))
        .routes(routes!(health))
        .routes(routes!(metrics::metrics))
        .route("/ws", get(ws::open))
        .with_state(context)
        .split_for_parts();
    let description: Bytes = serde_json::to_vec(&description).unwrap_or_default().into();
    let description = ([(header::CONTENT_TYPE, "application/json")], description);
    Router::new()
        .route("/", get(|| assets::serve("index.html")))
        .route("/assets/{name}", get(assets::by_name))
        .route("/api/v1/openapi.json", get(move || async move { description }))
        .merge(api)
        .layer(middleware::from_fn(secure))
        .layer(middleware::from_fn_with_state(counted, metrics::timed))
        // Their answers are a few words of JSON to programs, and sets no page's rules.
        .merge(intake.map(readings::routes).unwrap_or_default())
}

/// What the routes' own descriptions are put into.
#[derive(OpenApi)]
#[openapi(info(
    title = "Speedwell hub",
    description = "Newest and past speeds of vehicles and rigs. Every number stands with its unit; times are UTC, RFC 3339."
))]
struct Description;

/// An answer to a request that cannot be served.
#[derive(Serialize, ToSchema)]
struct Complaint {
    /// What is wrong, and what is allowed.
    error: String,
}

/// All gateways.
#[derive(Serialize, ToSchema)]
struct Gateways {
    /// By name.
    gateways: Vec<GatewayView>,
}

/// Newest values of every channel of every gateway.
#[utoipa::path(get, path = "/api/v1/gateways", tag = "live", responses((status = 200, body = Gateways)))]
async fn gateways(State(context): State<Context>) -> Json<Gateways> {
    Json(Gateways { gateways: context.board.snapshot(Instant::now()) })
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
    /// WebSocket clients connected.
    watchers: usize,
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
        watchers: MAX_WATCHERS - context.watchers.available_permits(),
        ingest,
    })
}

/// Nothing of another origin is loaded, and no other page may frame this one.
async fn secure(request: Request, next: Next) -> Response {
    const HEADERS: [(header::HeaderName, &str); 5] = [
        (
            header::CONTENT_SECURITY_POLICY,
            // uPlot sets sizes through the style attribute of its elements, by script, which needs no 'unsafe-inline'.
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
