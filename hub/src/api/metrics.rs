//! `GET /metrics`, and the time that queries take.

use std::time::Instant;

use axum::{
    extract::{Request, State},
    http::{Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::task::spawn_blocking;

use super::{Context, MAX_WATCHERS};
use crate::metrics::{CONTENT_TYPE, Metrics, Now};

/// What the hub does, in numbers, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "Prometheus text format 0.0.4", content_type = "text/plain", body = String))
)]
pub(super) async fn metrics(State(context): State<Context>) -> impl IntoResponse {
    let reader = context.reader.clone();
    // A database that cannot be asked is no reason to say nothing of the rest.
    let store_bytes = spawn_blocking(move || reader.bytes().ok()).await.ok().flatten();
    let now = Now {
        counters: &context.counters,
        totals: context.board.totals(Instant::now()),
        storing: context.store.borrow().is_none(),
        store_bytes,
        watchers: (MAX_WATCHERS - context.watchers.available_permits()) as u64,
    };
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], context.metrics.page(&now))
}

/// Times what asks for something. What watches is over when it was let in.
pub(super) async fn timed(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let asks = request.method() == Method::GET && request.uri().path().starts_with("/api/v1/");
    let _query = asks.then(|| metrics.query());
    next.run(request).await
}
