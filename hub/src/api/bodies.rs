//! What bodies may cost.
//!
//! **Of requests** that change something: they are small, and soon there. Whoever has not logged in may send one too, to log
//! in with. Without these limits a few machines that send a byte now and then would hold every connection the hub takes, and
//! what they sent in its memory. Readings are larger and look after themselves.
//!
//! **Of answers** that are made whole: each is in memory until its client has taken it, and a client may take its time. So
//! all that are under way together have a limit. Those without an end in sight are paced, see `sent`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Bytes, HttpBody},
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{COME_AGAIN_S, Complaint, openapi};
use crate::access::rules;

/// A customer whose every letter is escaped takes half of it.
pub(super) const MAX_BODY: usize = 16 * 1024;
/// A body has to be there within this.
pub(super) const BODY_WITHIN: Duration = Duration::from_secs(10);

/// Of answers under way, in all: some thirty of the largest.
pub(super) const ANSWERS_KIB: usize = 256 * 1024;
/// Shorter ones do not count: as many as there are connections are no more than that again.
const SHORT: u64 = 32 * 1024;

/// A long answer, until it has left.
struct UnderWay(Bytes, #[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl AsRef<[u8]> for UnderWay {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Counts long answers for as long as they are in memory. One that has no room is not given.
pub(super) async fn counted(State(room): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    // The description is there once for all who ask.
    let shared = request.uri().path() == openapi::PATH;
    let response = next.run(request).await;
    let long = response.body().size_hint().exact().filter(|size| *size > SHORT && !shared);
    let Some(size) = long else { return response };
    let kib = u32::try_from(size / 1024 + 1).unwrap_or(u32::MAX).min(ANSWERS_KIB as u32);
    let Ok(permit) = room.try_acquire_many_owned(kib) else {
        let error =
            "too many long answers are under way to clients that take their time; ask for less, or again in a while";
        let again = [(header::RETRY_AFTER, COME_AGAIN_S)];
        return (StatusCode::SERVICE_UNAVAILABLE, again, Json(Complaint { error: error.into() })).into_response();
    };
    let (head, body) = response.into_parts();
    match body.collect().await {
        Ok(body) => Response::from_parts(head, Bytes::from_owner(UnderWay(body.to_bytes(), permit)).into()),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Lets a request through with the whole of its body.
pub(super) async fn gathered(State(within): State<Duration>, request: Request, next: Next) -> Response {
    if rules::is_safe(request.method().as_str()) || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let gathered = timeout(within, Limited::new(body, MAX_BODY).collect()).await;
    let (status, error) = match gathered {
        Ok(Ok(body)) => return next.run(Request::from_parts(head, body.to_bytes().into())).await,
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is too large: at most {MAX_BODY} bytes are taken"))
        }
        Ok(Err(_)) => (StatusCode::BAD_REQUEST, "the body broke off".into()),
        Err(_) => (StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {} s", within.as_secs_f32())),
    };
    // What is left of it is not waited for.
    (status, [(header::CONNECTION, "close")], Json(Complaint { error })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    use axum::{
        Router,
        body::Body,
        middleware,
        routing::{get, post},
    };
    use futures_util::{StreamExt, stream};
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    #[tokio::test]
    async fn long_answers_that_nobody_takes_have_a_limit_together_and_short_ones_go_on() {
        let long = "a".repeat(100 * 1024 * 1024);
        let routes = Router::new()
            .route("/long", get(async move || long.clone()))
            .route("/short", get(async || "here"))
            .layer(middleware::from_fn_with_state(Arc::new(Semaphore::new(ANSWERS_KIB)), counted));
        let routes = TowerToHyperService::new(routes);
        let ask = async |path| routes.call(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let (first, second) = (ask("/long").await, ask("/long").await);
        assert_eq!(first.body().size_hint().exact(), Some(100 * 1024 * 1024), "its length is told");
        let third = ask("/long").await;
        assert_eq!(third.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(third.headers().contains_key(header::RETRY_AFTER));
        assert_eq!(ask("/short").await.status(), StatusCode::OK);
        drop(second);
        assert_eq!(ask("/long").await.status(), StatusCode::OK);
    }

    async fn sent(body: Body) -> (StatusCode, String) {
        let routes = Router::new().route("/", post(async |body: String| body));
        let routes = routes.layer(middleware::from_fn_with_state(Duration::from_millis(200), gathered));
        let answer = TowerToHyperService::new(routes).call(Request::post("/").body(body).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        (head.status, String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap())
    }

    #[tokio::test]
    async fn a_body_that_is_small_and_comes_at_once_is_let_through_and_others_are_told_why_not() {
        assert_eq!(sent(Body::from("a".repeat(MAX_BODY))).await, (StatusCode::OK, "a".repeat(MAX_BODY)));
        assert_eq!(sent(Body::empty()).await.0, StatusCode::OK);

        let (status, told) = sent(Body::from("a".repeat(MAX_BODY + 1))).await;
        assert!(status == StatusCode::PAYLOAD_TOO_LARGE && told.contains("16384 bytes"), "{told}");

        let drip = stream::repeat(()).then(async |()| {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok::<_, std::io::Error>(Bytes::from_static(b" "))
        });
        let (status, told) = sent(Body::from_stream(drip)).await;
        assert!(status == StatusCode::REQUEST_TIMEOUT && told.contains("did not come"), "{told}");
    }
}
