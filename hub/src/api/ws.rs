//! `GET /ws`: the newest values as they come.
//!
//! ```text
//! {"n":0,"type":"snapshot","gateways":[…]}   on connect, and again for a client that fell behind
//! {"n":1,"type":"gateway","gateway":{…}}     when something of it changed; it is whole, see `live::GatewayView`
//! {"n":2,"type":"heartbeat"}                 every few seconds, so that silence of the hub can be told
//! ```
//! `n` counts the messages of a connection. What a client sends is not looked at.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast::error::RecvError},
    time::{interval, timeout},
};

use super::Context;
use crate::live::GatewayView;

/// Between heartbeats; a client that misses three of them may take the hub for gone.
const BEAT: Duration = Duration::from_secs(5);
/// A client that does not take a message for so long is let go.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// Clients have nothing to say.
const MAX_INCOMING: usize = 4096;

pub(super) async fn open(State(context): State<Context>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    if !same_origin(&headers) {
        return (StatusCode::FORBIDDEN, "a page of another origin may not watch").into_response();
    }
    let Ok(permit) = context.watchers.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "30")], "too many watch").into_response();
    };
    upgrade
        .max_message_size(MAX_INCOMING)
        .max_frame_size(MAX_INCOMING)
        .on_upgrade(move |socket| async move { Watcher { socket, n: 0, _permit: permit }.serve(context).await })
}

/// Browsers let any page open a WebSocket to anywhere, and say of which origin the page is. Programs say none.
fn same_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    match text(header::ORIGIN) {
        None => true,
        Some(origin) => origin.split_once("://").map(|(_, host)| host) == text(header::HOST),
    }
}

struct Watcher {
    socket: WebSocket,
    n: u64,
    _permit: OwnedSemaphorePermit,
}

/// The client is gone.
struct Gone;

impl Watcher {
    async fn serve(mut self, mut context: Context) {
        // An error means that the client is gone; nobody is left to be told.
        let _ = self.watch(&mut context).await;
        let _ = timeout(SEND_WITHIN, self.socket.send(Message::Close(None))).await;
    }

    async fn watch(&mut self, context: &mut Context) -> Result<(), Gone> {
        let (all, mut changes) = context.board.watch(Instant::now());
        self.snapshot(all).await?;
        let mut beat = interval(BEAT);
        beat.reset();
        loop {
            // All arms are cancel-safe: each takes one thing or nothing.
            tokio::select! {
                change = changes.recv() => match change {
                    Ok(view) => self.gateway(&view).await?,
                    // It was too slow for each change. The newest of everything is all it needs.
                    Err(RecvError::Lagged(_)) => self.snapshot(context.board.snapshot(Instant::now())).await?,
                    Err(RecvError::Closed) => return Ok(()),
                },
                _ = beat.tick() => self.send("heartbeat", None).await?,
                said = self.socket.recv() => match said {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
                    Some(Ok(_)) => {}
                },
                _ = context.stop.changed() => return Ok(()),
            }
        }
    }

    async fn snapshot(&mut self, all: Vec<GatewayView>) -> Result<(), Gone> {
        self.send("snapshot", Some(("gateways", json!(all)))).await
    }

    async fn gateway(&mut self, view: &Arc<GatewayView>) -> Result<(), Gone> {
        self.send("gateway", Some(("gateway", json!(**view)))).await
    }

    async fn send(&mut self, kind: &str, with: Option<(&str, Value)>) -> Result<(), Gone> {
        let mut message = json!({ "n": self.n, "type": kind });
        if let Some((name, value)) = with {
            message[name] = value;
        }
        self.n += 1;
        let sent = timeout(SEND_WITHIN, self.socket.send(Message::text(message.to_string()))).await;
        matches!(sent, Ok(Ok(()))).then_some(()).ok_or(Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_another_origin_may_not_watch() {
        let headers = |origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "127.0.0.1:8080".parse().unwrap());
            origin.map(|origin| headers.insert(header::ORIGIN, origin.parse().unwrap()));
            headers
        };
        assert!(same_origin(&headers(None)));
        assert!(same_origin(&headers(Some("http://127.0.0.1:8080"))));
        assert!(!same_origin(&headers(Some("http://evil.example"))));
        assert!(!same_origin(&headers(Some("null"))));
    }
}
