//! `GET /ws`: the feed over a WebSocket; see `feed` for its messages.
//!
//! What a client sends is not looked at, but that it answers pings is: browsers do by themselves, and one that does not
//! read what it is sent does not.

use std::time::Instant;

use axum::{
    Extension,
    body::Bytes,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, Utf8Bytes, WebSocket, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use futures_util::SinkExt;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{
    ApiError, Complaint, Context,
    feed::{self, Asked, Feed, Gone, Next, Pairs, Patience},
};
use crate::{access::Who, live::Said};

/// Clients have nothing to say.
const MAX_INCOMING: usize = 4096;
/// What is read at a time, and what is gathered before it is written: of each there is one a client.
const BUFFERS: (usize, usize) = (1024, 16 * 1024);

/// Newest values as they come, over a WebSocket.
#[utoipa::path(
    get, path = "/ws", tag = "live",
    params(
        ("gateway" = Option<Vec<String>>, Query, description = "only these gateways"),
        ("sensor" = Option<Vec<String>>, Query, description = "only channels of these sensors"),
        ("quantity" = Option<Vec<String>>, Query, description = "only channels of these quantities, as `speed`"),
        ("since" = Option<String>, Query, description = "EPOCH.N of the last message: only what changed after it"),
    ),
    responses(
        (status = 101, description = "numbered messages, each a JSON object with `n` and `type`"),
        (status = 400, body = Complaint), (status = 403, body = Complaint), (status = 503, body = Complaint),
    )
)]
pub(super) async fn open(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    pairs: Pairs,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let Asked { filter, since } = feed::asked(pairs)?;
    let permit = feed::place(&context)?;
    Ok(of_clients(upgrade)?.on_upgrade(async move |socket| {
        let client = Client { socket, heard: Instant::now(), patience: context.patience, _permit: permit };
        Watcher { client, feed: Feed::new(context, who, filter, since) }.serve().await;
    }))
}

/// The upgrade, or that this is no place for anything else.
pub(super) fn of_clients(upgrade: Upgrade) -> Result<WebSocketUpgrade, ApiError> {
    let (read, write) = BUFFERS;
    let upgrade = upgrade.map_err(|e| {
        ApiError::BadQuery(format!("this is a WebSocket ({}); GET /api/v1/live has the feed as events", e.body_text()))
    })?;
    let upgrade = upgrade.max_message_size(MAX_INCOMING).max_frame_size(MAX_INCOMING);
    Ok(upgrade.read_buffer_size(read).write_buffer_size(write))
}

/// A request that should be one for a WebSocket. What else is wrong with it is told first.
pub(super) type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// One who is there as long as it takes what it is sent and answers pings.
pub(super) struct Client {
    pub(super) socket: WebSocket,
    pub(super) heard: Instant,
    pub(super) patience: Patience,
    pub(super) _permit: OwnedSemaphorePermit,
}

struct Watcher {
    client: Client,
    feed: Feed,
}

impl Watcher {
    async fn serve(mut self) {
        // An error means that the client is gone; nobody is left to be told.
        if self.watch().await.is_ok() {
            let _ = self.client.send([Message::Close(None)]).await;
        }
    }

    async fn watch(&mut self) -> Result<(), Gone> {
        let Self { client, feed } = self;
        loop {
            // Both arms are cancel-safe: each takes one thing or nothing.
            tokio::select! {
                next = feed.next() => match next {
                    Next::Say(said) => client.say(said).await?,
                    Next::Snapshot => {
                        let (said, _under_way) = feed.snapshot().await?;
                        client.say(said).await?;
                    }
                    Next::Beat(said) => {
                        client.say([said]).await?;
                        client.ping().await?;
                    }
                    Next::Stop => return Ok(()),
                },
                heard = client.hear() => heard?,
            }
        }
    }
}

impl Client {
    /// Whether it is still there. Cancel-safe.
    pub(super) async fn hear(&mut self) -> Result<(), Gone> {
        match self.socket.recv().await {
            Some(Ok(Message::Close(_))) => {
                // Its answer is written already and has to leave: without it a browser takes the end for a break (RFC 6455, 5.5.1).
                let _ = timeout(self.patience.send_within, self.socket.flush()).await;
                Err(Gone)
            }
            Some(Err(_)) | None => Err(Gone),
            Some(Ok(_)) => {
                self.heard = Instant::now();
                Ok(())
            }
        }
    }

    pub(super) async fn ping(&mut self) -> Result<(), Gone> {
        match self.heard.elapsed() > self.patience.quiet {
            true => Err(Gone),
            false => self.send([Message::Ping(Bytes::new())]).await,
        }
    }

    async fn say(&mut self, said: impl IntoIterator<Item = Said>) -> Result<(), Gone> {
        let text = |said: Said| Utf8Bytes::try_from(said.text).ok().map(Message::Text);
        self.send(said.into_iter().filter_map(text)).await
    }

    /// All of them with as few writes as they fit into.
    pub(super) async fn send(&mut self, messages: impl IntoIterator<Item = Message>) -> Result<(), Gone> {
        let send = async {
            for message in messages {
                self.socket.feed(message).await?;
            }
            self.socket.flush().await
        };
        matches!(timeout(self.patience.send_within, send).await, Ok(Ok(()))).then_some(()).ok_or(Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::{net::SocketAddr, sync::Arc, time::Duration};

    use futures_util::StreamExt;
    use serde_json::Value;
    use speedwell_wire::{Channel, GatewayId, Live, LiveValue, Manifest, Quality, Quantity};
    use tokio::{
        net::{TcpListener, TcpStream},
        sync::watch,
    };
    use tokio_tungstenite::{WebSocketStream, client_async};

    use crate::{
        access::Access,
        api::{Parts, access::Permissions, routes},
        ingest::Counters,
        live::Board,
        presence::{Moment, Presence},
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
        let (presence, desk) = (Presence::new(Duration::from_secs(60), Moment::now()), None);
        let ((_stop, stop), (_store, store)) = (watch::channel(false), watch::channel(None));
        let access = Access::open(&directory.path().join("access.sqlite"), Default::default()).unwrap();
        let permissions = Permissions { access, allow_origins: Vec::new(), proxies: Vec::new() };
        let (shown, intake, metrics) = (board.clone(), None, Default::default());
        let routes = routes(Parts {
            board: shown,
            reader,
            counters,
            store,
            metrics,
            stop,
            patience,
            permissions,
            intake,
            presence,
            desk,
        });
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
    async fn a_client_that_reads_late_gets_the_newest_is_told_what_was_overtaken_and_costs_little_memory() {
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
        assert!(grown < 30_000, "{grown} KiB more");
        let (mut at, mut newest, mut views, mut skipped, began) = (0, 0.0, 0, 0, Instant::now());
        while newest < CHANGES.into() {
            let Some(Ok(tokio_tungstenite::tungstenite::Message::Text(text))) = socket.next().await else { continue };
            let said: Value = serde_json::from_str(&text).unwrap();
            assert!(began.elapsed() < Duration::from_secs(60), "only {newest} by now");
            let n = said["n"].as_u64().unwrap();
            assert!(n >= at, "{n} after {at}");
            at = n;
            let truck = match said["type"].as_str().unwrap() {
                "snapshot" => {
                    views += n;
                    &said["gateways"][0]
                }
                "gateway" => {
                    views += 1;
                    &said["gateway"]
                }
                "skipped" => {
                    assert_eq!(said["gateways"], serde_json::json!(["truck-7"]));
                    skipped += said["changes"].as_u64().unwrap();
                    continue;
                }
                _ => continue,
            };
            let value = truck["channels"][0]["value"].as_f64().unwrap();
            assert!(value >= newest, "{value} after {newest}");
            newest = value;
        }
        assert_eq!(views + skipped, u64::from(CHANGES) + 1, "what was not told was counted");
        assert!(skipped > u64::from(CHANGES) / 2, "{skipped}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_says_goodbye_is_answered() {
        let served = served(Patience::default()).await;
        let mut socket = served.watch().await;
        socket.close(None).await.unwrap();
        let ended = async {
            while let Some(said) = socket.next().await {
                if matches!(said, Ok(tokio_tungstenite::tungstenite::Message::Close(_))) {
                    return true;
                }
            }
            false
        };
        assert!(timeout(Duration::from_secs(10), ended).await.unwrap(), "the connection broke off");
        while served.watchers().await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
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
}
