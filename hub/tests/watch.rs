//! What programs see: the WebSocket feed, the queries, the headers.

mod rig;

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt;
use rig::*;
use serde_json::{Value, json};
use speedwell_wire::{Channel, LiveValue, Manifest, NoData, Quality, Quantity, frame, topic::Topics};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest, handshake::client::Response},
};

type Socket = WebSocketStream<TcpStream>;

async fn watch(rig: &HubRig, origin: Option<&str>) -> Result<(Socket, Response), String> {
    open(rig, "/ws", origin).await
}

async fn open(rig: &HubRig, path: &str, origin: Option<&str>) -> Result<(Socket, Response), String> {
    let at = rig.hub().http;
    let mut request = format!("ws://{at}{path}").into_client_request().unwrap();
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    client_async(request, TcpStream::connect(at).await.unwrap()).await.map_err(|e| e.to_string())
}

/// The next message.
async fn any(socket: &mut Socket) -> Value {
    let text = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => return text,
                Some(Ok(_)) => {}
                ended => panic!("the feed ended: {ended:?}"),
            }
        }
    };
    serde_json::from_str(&timeout(LONG, text).await.expect("a message in time")).unwrap()
}

/// The next message of this type.
async fn next(socket: &mut Socket, kind: &str) -> Value {
    let wanted = async {
        loop {
            let message = any(socket).await;
            if message["type"] == kind {
                return message;
            }
        }
    };
    timeout(LONG, wanted).await.unwrap_or_else(|_| panic!("no {kind} in time"))
}

/// What a client shows: the speed of the front wheel of each gateway, the number of the last message, and how many changes
/// it knows that it did not see.
#[derive(Default)]
struct Picture {
    speeds: BTreeMap<String, f64>,
    epoch: String,
    n: u64,
    skipped: u64,
}

impl Picture {
    fn take(&mut self, message: &Value) {
        let n = message["n"].as_u64().unwrap();
        let gateways = match message["type"].as_str().unwrap() {
            "snapshot" => message["gateways"].as_array().unwrap().as_slice(),
            "gateway" => std::slice::from_ref(&message["gateway"]),
            "skipped" => {
                self.skipped += message["changes"].as_u64().unwrap();
                &[]
            }
            _ => &[],
        };
        if let Some(epoch) = message["epoch"].as_str() {
            assert!(self.epoch.is_empty() || self.epoch == epoch);
            self.epoch = epoch.into();
        }
        assert!(n >= self.n, "{n} after {}", self.n);
        self.n = n;
        for (name, speed) in gateways.iter().filter_map(speed_of) {
            let before = self.speeds.insert(name, speed);
            assert!(before.is_none_or(|before| before <= speed), "{speed} after {before:?}: older than what was told");
        }
    }

    fn since(&self) -> String {
        format!("{}.{}", self.epoch, self.n)
    }
}

fn speed_of(gateway: &Value) -> Option<(String, f64)> {
    let front = |c: &&Value| c["sensor"] == "front-wheel" && c["quantity"] == "speed";
    let speed = gateway["channels"].as_array()?.iter().find(front)?["value"].as_f64()?;
    Some((gateway["id"].as_str()?.to_owned(), speed))
}

/// What the hub says when it is asked.
async fn speeds(rig: &HubRig) -> BTreeMap<String, f64> {
    let all = http::get(rig.hub().http, "/api/v1/gateways").await;
    all["gateways"].as_array().unwrap().iter().filter_map(speed_of).collect()
}

/// A fleet that speaks over one connection.
struct Fleet {
    gateway: TestGateway,
    said: u64,
}

impl Fleet {
    async fn of(rig: &HubRig, broker: &Mosquitto, n: u64) -> Self {
        let gateway = TestGateway::connect("fleet", broker.port).await;
        rig.reaches("connections", 1).await;
        for n in 0..n {
            let topic = Topics::new(PREFIX, &id(&format!("truck-{n}"))).manifest(live_manifest().hash());
            gateway.publish(topic, true, frame::encode(&live_manifest())).await;
        }
        rig.reaches("messages", n).await;
        Self { gateway, said: n }
    }

    /// Each speed is greater than all before it.
    async fn say(&mut self, n: u64) {
        self.said += 1;
        let values = [(1, Ok((self.said as f64, 0.02, Quality::Good))), (2, Ok((0.0, 0.0, Quality::Stopped)))];
        let topic = Topics::new(PREFIX, &id(&format!("truck-{n}"))).live();
        self.gateway.publish(topic, false, frame::encode(&live(&values, 9_000_000_000))).await;
    }

    async fn heard(&self, rig: &HubRig) {
        rig.reaches("messages", self.said).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_all_there_is_when_it_comes_and_then_each_change() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    rig.reaches("connections", 1).await;
    gateway.manifest(&live_manifest()).await;
    gateway.publish(gateway.topics.status(), true, status("truck-7", true)).await;
    let values = [(1, Ok((12.5, 0.02, Quality::Good))), (2, Ok((0.0, 0.0, Quality::Stopped))), (3, Err(NoData::NoFix))];
    gateway.publish(gateway.topics.live(), false, frame::encode(&live(&values, 9_000_000_000))).await;
    rig.reaches("messages", 3).await;

    let (mut socket, _) = watch(&rig, None).await.unwrap();
    let snapshot = next(&mut socket, "snapshot").await;
    assert!(snapshot["n"].as_u64() >= Some(2), "a status and a live message, and who is connected");
    let truck = &snapshot["gateways"][0];
    assert_eq!((&truck["id"], &truck["connection"]), (&"truck-7".into(), &"online".into()));
    let channel = |truck: &Value, sensor: &str| {
        let all = truck["channels"].as_array().unwrap();
        all.iter().find(|c| c["sensor"] == sensor && c["quantity"] == "speed").unwrap().clone()
    };
    let front = channel(truck, "front-wheel");
    assert_eq!(
        (front["value"].as_f64(), &front["unit"], &front["quality"]),
        (Some(12.5), &"m/s".into(), &"good".into())
    );
    assert!(front["age_ms"].as_u64().unwrap() < 10_000);
    assert_eq!(channel(truck, "ecu-speed")["value"].as_f64(), Some(0.0), "zero is a value");
    let gnss = channel(truck, "gnss");
    assert_eq!((&gnss["value"], &gnss["no_data"]), (&Value::Null, &"no-fix".into()), "silence is none");

    gateway.publish(gateway.topics.status(), true, status("truck-7", false)).await;
    assert_eq!(next(&mut socket, "gateway").await["gateway"]["connection"], "offline");
    next(&mut socket, "heartbeat").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_value_is_shown_where_no_live_one_comes_and_history_gives_it_with_its_unit() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    gateway.batch(&batch("truck-7", 1, [fix(), second(2), second(3)])).await;
    gateway.confirmed(3).await;
    let at = rig.hub().http;
    let all = http::get(at, "/api/v1/gateways").await;
    assert_eq!(all["gateways"][0]["channels"][0]["value"].as_f64(), Some(3.009));
    let path = "/api/v1/history?gateway=truck-7&sensor=front-wheel&quantity=speed\
                &from=2026-01-01T00:00:02Z&to=2026-01-01T01:00:02.45%2B01:00";
    let history = http::get(at, path).await;
    assert_eq!((&history["unit"], &history["clock"]), (&"m/s".into(), &"ntp".into()));
    let bound = history["utc_uncertainty_s"].as_f64().unwrap();
    assert!((0.001..0.01).contains(&bound), "the rig's fix is bounded by 1 ms, and lies within minutes: {bound}");
    let points = history["points"].as_array().unwrap();
    assert_eq!((points.len(), points[4]["value"].as_f64()), (5, Some(2.004)));
    assert_eq!(points[4]["t"], "2026-01-01T00:00:02.4Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_question_is_told_what_is_wrong_with_it() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let at = rig.hub().http;
    for (path, word) in [
        ("/api/v1/history", "missing field"),
        ("/api/v1/history?gateway=a&sensor=b&quantity=warmth", "warmth"),
        ("/api/v1/history?gateway=a%2Fb&sensor=b&quantity=speed", "gateway id"),
        ("/api/v1/history?gateway=a&sensor=b&quantity=speed&from=yesterday", "RFC 3339"),
    ] {
        let (status, _, body) = http::request(at, "GET", path, None).await;
        assert_eq!(status, 400, "{path}");
        assert!(body.contains(word), "{path}: {body}");
    }
    assert_eq!(http::request(at, "GET", "/assets/..%2fCargo.toml", None).await.0, 404);
    let (_, head, _) = http::request(at, "GET", "/", None).await;
    assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{head}");
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag");
    let (status, head, _) = http::send(at, "GET", "/", &format!("If-None-Match: {tag}\r\n"), b"").await;
    assert!(
        status == 304 && !head.contains("content-security-policy"),
        "a browser would take it for the page's: {head}"
    );
    assert_eq!(http::get(at, "/healthz").await["status"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_does_not_get_the_feed() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    assert!(watch(&rig, Some("http://evil.example")).await.err().unwrap().contains("403"));
    let own = format!("http://{}", rig.hub().http);
    assert!(watch(&rig, Some(&own)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_with_watchers_stops_when_it_is_told_to() {
    let broker = Mosquitto::start();
    let mut rig = HubRig::start(broker.url()).await;
    let _watcher = watch(&rig, None).await.unwrap();
    timeout(Duration::from_secs(10), rig.stop()).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_cut_off_time_and_again_misses_nothing_and_is_told_nothing_older() {
    const GATEWAYS: u64 = 6;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let mut fleet = Fleet::of(&rig, &broker, GATEWAYS).await;
    let (mut picture, mut said) = (Picture::default(), 0);
    for round in 0..30 {
        let since = if round == 0 { String::new() } else { format!("?since={}", picture.since()) };
        let (mut socket, _) = open(&rig, &format!("/ws{since}"), None).await.unwrap();
        let first = any(&mut socket).await;
        assert_eq!(first["type"], if round == 0 { "snapshot" } else { "resumed" });
        picture.take(&first);
        let (live, unseen) = (random.u64(0..20), random.u64(0..20));
        for _ in 0..live {
            fleet.say(random.u64(..GATEWAYS)).await;
        }
        // It reads some of them, or all, and is cut off in the middle of whatever is under way.
        for _ in 0..random.u64(0..=live) {
            if let Ok(message) = timeout(Duration::from_millis(100), any(&mut socket)).await {
                picture.take(&message);
            }
        }
        drop(socket);
        for _ in 0..unseen {
            fleet.say(random.u64(..GATEWAYS)).await;
        }
        said += live + unseen;
    }
    fleet.heard(&rig).await;
    let (mut socket, _) = open(&rig, &format!("/ws?since={}", picture.since()), None).await.unwrap();
    let all = speeds(&rig).await;
    while picture.speeds != all {
        picture.take(&any(&mut socket).await);
    }
    assert!(picture.n >= said, "each live message has a number, and so has what is told of who is connected");
    // Of the hub before it was started again nothing is known, and then there is the snapshot.
    let (mut socket, _) = open(&rig, &format!("/ws?since=00000000000000aa.{}", picture.n), None).await.unwrap();
    assert_eq!(any(&mut socket).await["type"], "snapshot");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_read_for_a_while_gets_the_newest_and_is_told_what_was_overtaken() {
    const CHANGES: u64 = 1500;
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    rig.reaches("connections", 1).await;
    let channels = (0..100).map(|n| Channel { sensor: format!("wheel-{n}"), ..channel(n, "", Quantity::Speed) });
    let manifest = Manifest { channels: channels.collect() };
    gateway.manifest(&manifest).await;
    let (mut socket, _) = watch(&rig, None).await.unwrap();
    next(&mut socket, "snapshot").await;
    // 20 MB of views: more than the kernel takes for one that does not read.
    for n in 1..=CHANGES {
        let value = |channel| LiveValue { channel, t_ns: 1, value: Ok((n as f64, 0.1, Quality::Good)) };
        let values = (0..100).map(value).collect();
        let live = speedwell_wire::Live { manifest: manifest.hash(), boot: 1, now_ns: 2, values };
        gateway.publish(gateway.topics.live(), false, frame::encode(&live)).await;
    }
    rig.reaches("messages", CHANGES + 1).await;
    let (mut views, mut skipped, mut newest) = (0, 0, 0);
    while newest < CHANGES {
        let message = any(&mut socket).await;
        if message["type"] == "skipped" {
            assert_eq!(message["gateways"], json!(["truck-7"]));
            skipped += message["changes"].as_u64().unwrap();
        } else if message["type"] == "gateway" {
            views += 1;
            let value = message["gateway"]["channels"][0]["value"].as_f64().unwrap() as u64;
            assert!(value > newest, "{value} after {newest}");
            newest = value;
        }
    }
    assert!(skipped > 0, "{views} views and nothing skipped");
    assert_eq!(views + skipped, CHANGES);
}

/// The next event, but for what is told of who is connected, which takes its time.
async fn event(events: &mut http::Events) -> http::Event {
    loop {
        let (id, message) = timeout(LONG, events.next()).await.unwrap().unwrap();
        if message["type"] != "presence" {
            return (id, message);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_the_same_and_go_on_after_the_last_event_id() {
    let broker = Mosquitto::start();
    let mut rig = HubRig::start(broker.url()).await;
    let mut fleet = Fleet::of(&rig, &broker, 3).await;
    fleet.say(0).await;
    fleet.heard(&rig).await;
    let at = rig.hub().http;
    let mut events = http::Events::open(at, "/api/v1/live", None).await;
    assert!(events.head.contains("content-type: text/event-stream"), "{}", events.head);
    let (first, snapshot) = event(&mut events).await;
    assert_eq!(
        (&snapshot["type"], speed_of(&snapshot["gateways"][0])),
        (&"snapshot".into(), Some(("truck-0".into(), 4.0)))
    );
    assert_eq!(first, format!("{}.{}", snapshot["epoch"].as_str().unwrap(), snapshot["n"]));
    assert_eq!(http::get(at, "/healthz").await["watchers"], 1);
    fleet.say(1).await;
    let (second, change) = event(&mut events).await;
    assert_eq!((&change["type"], &change["gateway"]["id"]), (&"gateway".into(), &"truck-1".into()));
    assert!(change["n"].as_u64() > snapshot["n"].as_u64(), "{change}");
    drop(events);
    for n in [0, 2, 2] {
        fleet.say(n).await;
    }
    fleet.heard(&rig).await;
    let mut events = http::Events::open(at, "/api/v1/live", Some(&second)).await;
    let (mut told, mut n) = (Vec::new(), change["n"].as_u64());
    while told.len() < 4 {
        let (id, message) = event(&mut events).await;
        assert!(id.ends_with(&format!(".{}", message["n"])) && message["n"].as_u64() >= n, "{id} after {n:?}");
        n = message["n"].as_u64();
        told.push(format!(
            "{} {}",
            message["type"].as_str().unwrap(),
            message["gateway"]["id"].as_str().unwrap_or("-")
        ));
    }
    assert_eq!(told, ["resumed -", "skipped -", "gateway truck-0", "gateway truck-2"]);
    let (id, beat) = event(&mut events).await;
    assert_eq!((&beat["type"], id.ends_with(&format!(".{}", beat["n"]))), (&"heartbeat".into(), true));
    // A query does what the header does, for those who cannot set one; and the same filters are there.
    let path = format!("/api/v1/live?gateway=truck-1&since={}", first);
    let mut some = http::Events::open(at, &path, None).await;
    let ((_, resumed), (_, change)) = (event(&mut some).await, event(&mut some).await);
    assert_eq!((&resumed["type"], &change["gateway"]["id"]), (&"resumed".into(), &"truck-1".into()));
    timeout(Duration::from_secs(10), rig.stop()).await.expect("in time");
    let ended = async { while events.next().await.is_some() {} };
    timeout(LONG, ended).await.expect("it ends with the hub, and in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_watches_some_is_told_of_these_only() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let mut fleet = Fleet::of(&rig, &broker, 3).await;
    for n in 0..3 {
        fleet.say(n).await;
    }
    fleet.heard(&rig).await;
    let path = "/ws?gateway=truck-0&gateway=truck-2&sensor=front-wheel&quantity=speed";
    let (mut socket, _) = open(&rig, path, None).await.unwrap();
    let snapshot = any(&mut socket).await;
    let ids = |m: &Value| m["gateways"].as_array().unwrap().iter().map(|g| g["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&snapshot), ["truck-0", "truck-2"]);
    assert_eq!(snapshot["gateways"][0]["channels"].as_array().unwrap().len(), 1, "one of its two channels");
    for n in [1, 1, 2] {
        fleet.say(n).await;
    }
    let change = next(&mut socket, "gateway").await;
    assert_eq!(change["gateway"]["id"], "truck-2");
    // What is not for it moves it on all the same.
    fleet.say(1).await;
    fleet.heard(&rig).await;
    loop {
        let beat = next(&mut socket, "heartbeat").await;
        if beat["n"].as_u64() > change["n"].as_u64() {
            break;
        }
    }
}

/// All that an alias client is told: one message after the other.
async fn speed(socket: &mut Socket) -> f64 {
    let said = any(socket).await;
    let fields: Vec<&str> = said.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["speed", "timestamp"], "{said}");
    said["speed"].as_f64().unwrap()
}

async fn read(rig: &HubRig, device: &str, sensor: &str, km_h: f64, at: &str) {
    let reading =
        json!({"device": device, "sensor": sensor, "quantity": "speed", "unit": "km/h", "value": km_h, "at": at});
    let (status, _, body) = http::request(rig.hub().http, "POST", "/api/v1/readings", Some(&reading)).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_feed_tells_each_new_speed_zero_too_and_the_newest_when_a_client_comes() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    // It comes before anything is known, and is told the first that comes.
    let (mut early, _) = open(&rig, "/ws/speed-data/", None).await.unwrap();
    read(&rig, "truck_207", "tracker", 42.0, "2024-04-10T13:10:42.123456Z").await;
    let said = any(&mut early).await;
    assert_eq!(said, json!({"speed": 42.0, "timestamp": "2024-04-10 13:10:42.123456+00:00"}));
    // One that comes later has the newest at once, and so has one that was cut off.
    for _ in 0..2 {
        let (mut late, _) = open(&rig, "/ws/speed-data/?device=truck%207", None).await.unwrap();
        assert_eq!(speed(&mut late).await, 42.0);
    }
    for km_h in [36.5, 0.0, 0.0, 5.0] {
        let at = format!("2024-04-10T13:10:4{}Z", [36.5, 0.0, 5.0].iter().position(|v| *v == km_h).unwrap() + 3);
        read(&rig, "truck_207", "tracker", km_h, &at).await;
        // Of another device nothing is told, nor is anything but a speed, nor the same reading again.
        if km_h != 0.0 {
            read(&rig, "other", "tracker", 99.0, &at).await;
        }
    }
    for km_h in [36.5, 0.0, 5.0] {
        assert_eq!(speed(&mut early).await, km_h);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_feed_has_a_device_chosen_and_says_which_there_are() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    for (device, sensor, km_h) in [("a", "front", 10.0), ("b", "front", 20.0), ("b", "rear", 30.0)] {
        read(&rig, device, sensor, km_h, "2024-04-10T13:10:42Z").await;
    }
    for (query, chosen) in [("?device=a", 10.0), ("?device=b&sensor=front", 20.0), ("?sensor=rear&device=b", 30.0)] {
        let (mut socket, _) = open(&rig, &format!("/ws/speed-data/{query}"), None).await.unwrap();
        assert_eq!(speed(&mut socket).await, chosen, "{query}");
    }
    for (path, words) in [
        ("/ws/speed-data/", "add device= with one of a, b"),
        ("/ws/speed-data/?device=b", "add sensor= with one of front, rear"),
        ("/ws/speed-data/?vehicle=b", "allowed are device and sensor"),
        ("/ws", "this is a WebSocket"),
        ("/ws?device=b", "allowed are gateway, sensor and quantity"),
        ("/ws?quantity=warmth", "`speed`"),
        ("/api/v1/live?since=yesterday", "EPOCH.N"),
    ] {
        let (status, _, body) = http::request(rig.hub().http, "GET", path, None).await;
        assert_eq!(status, 400, "{path}: {body}");
        assert!(serde_json::from_str::<Value>(&body).unwrap()["error"].as_str().unwrap().contains(words), "{body}");
    }
    let evil = open(&rig, "/ws/speed-data/?device=a", Some("http://evil.example")).await;
    assert!(evil.err().unwrap().contains("403"));
}

#[cfg(feature = "embedded-broker")]
#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_broker_carries_a_batch_and_its_confirmation() {
    let at = speedwell_hub::broker::start().unwrap();
    let rig = HubRig::start(speedwell_hub::BrokerUrl::plain(at)).await;
    let gateway = TestGateway::connect("truck-7", at.port()).await;
    gateway.manifest(&manifest()).await;
    gateway.batch(&seconds("truck-7", 1..=5)).await;
    gateway.confirmed(5).await;
    assert_eq!(rig.hub().reader.counts().unwrap().chunks, 5);
}
