//! `GET /ws`: the newest values as they come.
//!
//! ```text
//! {"n":0,"type":"snapshot","gateways":[…]}   on connect, and again for a client that fell behind
//! {"n":1,"type":"gateway","gateway":{…}}     when something of it changed; it is whole, see `live::GatewayView`
//! {"n":2,"type":"heartbeat"}                 every few seconds, so that silence of the hub can be told
//! ```
//! `n` counts the messages of a connection. What a client sends is not looked at, but that it answers pings is: browsers
//! do by themselves, and one that does not read what it is sent does not.

use std::time::{Duration, Instant};

use axum::{
    body::Bytes,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast::error::RecvError},
    time::{interval, timeout},
};

use super::Context;
use crate::live::GatewayView;

/// How patient the feed is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between heartbeats, each with a ping; a client that misses three of them may take the hub for gone.
    pub beat: Duration,
    /// A client that does not take a message for so long is let go.
    pub send_within: Duration,
    /// So is one from which nothing comes for so long, not even an answer to a ping.
    pub quiet: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self { beat: s(5), send_within: s(10), quiet: s(30) }
    }
}

/// Snapshots under way to clients, KiB: however many fall behind at once, and however slowly they read.
pub(super) const SNAPSHOTS_KIB: u32 = 64 * 1024;
/// Clients have nothing to say.
const MAX_INCOMING: usize = 4096;

pub(super) async fn open(State(context): State<Context>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    if !same_origin(&headers) {
        return (StatusCode::FORBIDDEN, "a page of another origin may not watch").into_response();
    }
    let Ok(permit) = context.watchers.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "30")], "too many watch").into_response();
    };
    upgrade.max_message_size(MAX_INCOMING).max_frame_size(MAX_INCOMING).on_upgrade(async move |socket| {
        Watcher { socket, n: 0, heard: Instant::now(), context, _permit: permit }.serve().await;
    })
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
    heard: Instant,
    context: Context,
    _permit: OwnedSemaphorePermit,
}

/// The client is gone, or is treated so.
struct Gone;

#[derive(Serialize)]
struct Said<'a> {
    n: u64,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateways: Option<&'a [GatewayView]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<&'a GatewayView>,
}

impl Watcher {
    async fn serve(mut self) {
        // An error means that the client is gone; nobody is left to be told.
        if self.watch().await.is_ok() {
            let _ = timeout(self.context.patience.send_within, self.socket.send(Message::Close(None))).await;
        }
    }

    async fn watch(&mut self) -> Result<(), Gone> {
        // Changes from before the snapshot is made are told twice, which does no harm; none is missed.
        let mut changes = self.context.board.changes();
        self.snapshot().await?;
        let mut beat = interval(self.context.patience.beat);
        beat.reset();
        loop {
            // All arms are cancel-safe: each takes one thing or nothing.
            tokio::select! {
                change = changes.recv() => match change {
                    Ok(view) => self.say("gateway", None, Some(&view)).await?,
                    // It was too slow for each change. The newest of everything is all it needs.
                    Err(RecvError::Lagged(_)) => {
                        changes = changes.resubscribe();
                        self.snapshot().await?;
                    }
                    Err(RecvError::Closed) => return Ok(()),
                },
                _ = beat.tick() => {
                    if self.heard.elapsed() > self.context.patience.quiet {
                        return Err(Gone);
                    }
                    self.say("heartbeat", None, None).await?;
                    self.send(Message::Ping(Bytes::new())).await?;
                }
                said = self.socket.recv() => match said {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
                    Some(Ok(_)) => self.heard = Instant::now(),
                },
                _ = self.context.stop.changed() => return Ok(()),
            }
        }
    }

    /// One at a time is made, and as many are under way as fit into [`SNAPSHOTS_KIB`].
    async fn snapshot(&mut self) -> Result<(), Gone> {
        let (snapshots, budget) = (self.context.snapshots.clone(), self.context.snapshots_kib.clone());
        let making = snapshots.lock().await;
        let all = self.context.board.snapshot(Instant::now());
        let text = self.text("snapshot", Some(&all), None)?;
        drop(all);
        let kib = u32::try_from(text.len() / 1024 + 1).unwrap_or(u32::MAX).min(SNAPSHOTS_KIB);
        let under_way = timeout(self.context.patience.send_within, budget.acquire_many(kib)).await;
        let _under_way = under_way.ok().and_then(Result::ok).ok_or(Gone)?;
        drop(making);
        self.send(Message::text(text)).await
    }

    async fn say(&mut self, kind: &str, all: Option<&[GatewayView]>, one: Option<&GatewayView>) -> Result<(), Gone> {
        let text = self.text(kind, all, one)?;
        self.send(Message::text(text)).await
    }

    fn text(
        &mut self,
        kind: &str,
        gateways: Option<&[GatewayView]>,
        gateway: Option<&GatewayView>,
    ) -> Result<String, Gone> {
        let said = Said { n: self.n, kind, gateways, gateway };
        self.n += 1;
        serde_json::to_string(&said).map_err(|_| Gone)
    }

    async fn send(&mut self, message: Message) -> Result<(), Gone> {
        let sent = timeout(self.context.patience.send_within, self.socket.send(message)).await;
        matches!(sent, Ok(Ok(()))).then_some(()).ok_or(Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::{net::SocketAddr, sync::Arc};

    use futures_util::StreamExt;
    use serde_json::Value;
    use speedwell_wire::{Channel, GatewayId, Live, LiveValue, Manifest, Quality, Quantity};
    use tokio::{
        net::{TcpListener, TcpStream},
        sync::watch,
    };
    use tokio_tungstenite::{WebSocketStream, client_async};

    use crate::{
        api::{Parts, routes},
        ingest::Counters,
        live::{Board, FAN_OUT},
        store::{Sqlite, Store},
    };

    struct Served {
        at: SocketAddr,
        board: Board,
        _stop: watch::Sender<bool>,
        _store: watch::Sender<Option<String>>,
        _directory: tempfile::TempDir,
    }

    async fn served(patience: Patience) -> Served {
        let directory = tempfile::tempdir().unwrap();
        let reader = Sqlite::open(&directory.path().join("hub.sqlite")).unwrap().reader();
        let (board, counters) = (Board::default(), Arc::new(Counters::default()));
        let ((_stop, stop), (_store, store)) = (watch::channel(false), watch::channel(None));
        let metrics = Default::default();
        let routes =
            routes(Parts { board: board.clone(), reader, counters, store, metrics, stop, patience, intake: None });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Served { at, board, _stop, _store, _directory: directory }
    }

    impl Served {
        async fn watch(&self) -> WebSocketStream<TcpStream> {
            let stream = TcpStream::connect(self.at).await.unwrap();
            client_async(format!("ws://{}/ws", self.at), stream).await.unwrap().0
        }

        /// Those who watch, by what `/healthz` says.
        async fn watchers(&self) -> u64 {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut stream = TcpStream::connect(self.at).await.unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            let body: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
            body["watchers"].as_u64().unwrap()
        }

        /// A live message of a gateway with 300 channels, each with this value.
        fn live(&self, value: f64) {
            let channel = |id| Channel {
                id,
                sensor: format!("sensor-{id}"),
                quantity: Quantity::Speed,
                resolution_nano: 1_000_000,
                tick_ns: 100_000,
                period_ns: 100_000_000,
                calibration: 0,
            };
            let manifest = Manifest { channels: (0..300).map(channel).collect() };
            let value = |channel| LiveValue { channel, t_ns: 1, value: Ok((value, 0.1, Quality::Good)) };
            let live = Live { manifest: manifest.hash(), boot: 1, now_ns: 2, values: (0..300).map(value).collect() };
            self.board.live(&GatewayId::new("truck-7").unwrap(), &live, &manifest, Instant::now());
        }
    }

    fn rss_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_falls_behind_gets_a_snapshot_and_costs_little_memory() {
        const CHANGES: u32 = 4000;
        let served = served(Patience::default()).await;
        served.live(0.0);
        let mut socket = served.watch().await;
        while served.watchers().await == 0 {}
        let before = rss_kib();
        // 180 MB of views, while it reads nothing.
        for n in 1..=CHANGES {
            served.live(n.into());
            tokio::task::yield_now().await;
        }
        let grown = rss_kib().saturating_sub(before);
        assert!(grown < 90_000, "{grown} KiB more");
        let (mut snapshots, mut newest, mut messages) = (0, 0.0, 0);
        while newest < CHANGES.into() {
            let Some(Ok(tokio_tungstenite::tungstenite::Message::Text(text))) = socket.next().await else { continue };
            let said: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(said["n"], messages);
            messages += 1;
            let truck = match said["type"].as_str().unwrap() {
                "snapshot" => {
                    snapshots += 1;
                    &said["gateways"][0]
                }
                "gateway" => &said["gateway"],
                _ => continue,
            };
            newest = truck["channels"][0]["value"].as_f64().unwrap();
        }
        assert!(snapshots >= 2, "one on connect, one for having fallen behind: {snapshots}");
        assert!(messages < CHANGES - FAN_OUT as u32, "{messages} messages");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_never_reads_is_let_go_and_one_that_reads_is_kept() {
        let s = Duration::from_millis;
        let served = served(Patience { beat: s(100), send_within: s(500), quiet: s(1000) }).await;
        served.live(1.0);
        let (_deaf, mut good) = (served.watch().await, served.watch().await);
        let reads = tokio::spawn(async move { while good.next().await.is_some() {} });
        while served.watchers().await < 2 {}
        let began = Instant::now();
        while served.watchers().await > 1 {
            assert!(began.elapsed() < Duration::from_secs(10), "still watched by both");
            tokio::time::sleep(s(20)).await;
        }
        tokio::time::sleep(s(1500)).await;
        assert_eq!(served.watchers().await, 1);
        assert!(!reads.is_finished());
        reads.abort();
    }

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
