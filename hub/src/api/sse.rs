//! `GET /api/v1/live`: the feed as server-sent events (the HTML standard, 9.2), for whoever has no WebSocket; see `feed`
//! for its messages.
//!
//! ```text
//! retry: 2000
//!
//! id: EPOCH.N
//! data: {"n":…,"type":…}
//! ```
//! A browser comes again by itself with `Last-Event-ID`; `since` is the same for those who cannot set a header. Events
//! have no name, so `onmessage` gets them all; heartbeats are among them. Nobody answers here: a client that is gone without a
//! word is known when it takes nothing more.

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use http_body_util::channel::{Channel, Sender};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{
    ApiError, Complaint, Context,
    feed::{self, Asked, Feed, Gone, Next, Pairs},
    sent::{Paced, Sent},
};
use crate::{access::Who, live::Said};

/// Before a browser comes again. With what the page's own jitter is for a WebSocket, since a browser has none.
const RETRY_MS: std::ops::Range<u32> = 1000..3000;
const LAST_EVENT_ID: &str = "last-event-id";

/// Newest values as they come, as server-sent events.
#[utoipa::path(
    get, path = "/api/v1/live", tag = "live",
    params(
        ("gateway" = Option<Vec<String>>, Query, description = "only these gateways"),
        ("sensor" = Option<Vec<String>>, Query, description = "only channels of these sensors"),
        ("quantity" = Option<Vec<String>>, Query, description = "only channels of these quantities, as `speed`"),
        ("since" = Option<String>, Query, description = "as `Last-Event-ID`, which goes before it"),
        ("Last-Event-ID" = Option<String>, Header, description = "the id of the last event: only what changed after it"),
    ),
    responses(
        (status = 200, description = "events whose data are the messages of `/ws`", content_type = "text/event-stream"),
        (status = 400, body = Complaint), (status = 503, body = Complaint),
    )
)]
pub(super) async fn open(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    Extension(sent): Extension<Sent>,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Response, ApiError> {
    let Asked { filter, since } = feed::asked(pairs)?;
    // A browser sends what it was given. Of anybody's else nothing is known, and then there is the snapshot.
    let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.parse().ok());
    let permit = feed::place(&context)?;
    let (events, body) = Channel::<Bytes, Broken>::new(1);
    let feed = Feed::new(context, who, filter, last.or(since));
    tokio::spawn(Follower { events, feed, _permit: permit }.serve());
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/event-stream"),
        (header::CACHE_CONTROL.as_str(), "no-store"),
        // A proxy that gathers answers would hold back what is new.
        ("x-accel-buffering", "no"),
    ];
    Ok((headers, Body::new(Paced::new(body, sent))).into_response())
}

struct Follower {
    events: Sender<Bytes, Broken>,
    feed: Feed,
    _permit: OwnedSemaphorePermit,
}

/// The stream ends in the middle, since its client does not take it.
#[derive(Debug, thiserror::Error)]
#[error("the client does not take what it is sent")]
struct Broken;

/// Events, and what they hold for as long as they are under way.
struct Events {
    text: Vec<u8>,
    _under_way: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Events {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Follower {
    async fn serve(mut self) {
        if self.follow().await.is_err() {
            self.events.abort(Broken);
        }
    }

    async fn follow(&mut self) -> Result<(), Gone> {
        let retry = format!("retry: {}\n\n", fastrand::u32(RETRY_MS));
        self.send(retry.into_bytes(), None).await?;
        loop {
            match self.feed.next().await {
                Next::Say(said) => self.say(&said, None).await?,
                Next::Snapshot => {
                    let (said, under_way) = self.feed.snapshot().await?;
                    self.say(&said, Some(under_way)).await?;
                }
                Next::Beat(said) => self.say(&[said], None).await?,
                Next::Stop => return Ok(()),
            }
        }
    }

    async fn say(&mut self, said: &[Said], under_way: Option<OwnedSemaphorePermit>) -> Result<(), Gone> {
        let mut text = Vec::with_capacity(said.iter().map(|said| said.text.len() + 64).sum());
        for said in said {
            text.extend_from_slice(format!("id: {}\ndata: ", self.feed.since(said.n)).as_bytes());
            // JSON as it is made here has no line ends.
            text.extend_from_slice(&said.text);
            text.extend_from_slice(b"\n\n");
        }
        self.send(text, under_way).await
    }

    async fn send(&mut self, text: Vec<u8>, under_way: Option<OwnedSemaphorePermit>) -> Result<(), Gone> {
        let events = Bytes::from_owner(Events { text, _under_way: under_way });
        let sent = timeout(self.feed.patience().send_within, self.events.send_data(events)).await;
        matches!(sent, Ok(Ok(()))).then_some(()).ok_or(Gone)
    }
}
