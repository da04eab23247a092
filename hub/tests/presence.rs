//! Who is connected, on real parts: a real mosquitto, connections that really break, a hub that is restarted.

mod rig;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use rig::{
    http::{get, request},
    *,
};
use rumqttc::{AsyncClient, LastWill, MqttOptions, QoS};
use serde_json::{Value, json};
use speedwell_hub::{BrokerUrl, Config};
use speedwell_wire::{NoData, Quality, frame, topic::Topics};
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

/// Health of a gateway whose agent works, so that its goodbye can be told from its will.
fn health(gateway: &str, online: bool, trouble: Option<NoData>) -> Vec<u8> {
    let sensor = json!({"name": "front-wheel", "trouble": trouble, "detail": if trouble.is_some() { "no edges" } else { "" },
        "inputs": 1, "lost": 0, "rejected": 0});
    let health = json!({"uptime-s": 1, "boot": 1, "log": LOG, "last-seq": 0, "confirmed-seq": 0, "spool-bytes": 0,
        "lost-samples": 0, "clock": "ntp", "rss-bytes": 1, "sensors": [sensor]});
    json!({"gateway": gateway, "online": online, "version": "0.1.0", "health": health}).to_string().into_bytes()
}

/// A gateway with a last will, whose connection can be broken.
struct Willing {
    client: AsyncClient,
    topics: Topics,
    name: String,
    pump: JoinHandle<()>,
}

impl Willing {
    async fn connect(name: &str, port: u16) -> Self {
        let topics = Topics::new(PREFIX, &id(name));
        let mut options = MqttOptions::new(format!("gw-{name}"), "127.0.0.1", port);
        options.set_last_will(LastWill::new(topics.status(), status(name, false), QoS::AtLeastOnce, true));
        let (client, mut events) = AsyncClient::new(options, 100);
        let pump = tokio::spawn(async move { while events.poll().await.is_ok() {} });
        let new = Self { client, topics, name: name.into(), pump };
        new.says(true, None).await;
        new
    }

    async fn says(&self, online: bool, trouble: Option<NoData>) {
        let payload = health(&self.name, online, trouble);
        self.client.publish(self.topics.status(), QoS::AtLeastOnce, true, payload).await.unwrap();
    }

    /// The socket closes without a word, as it does when the process is killed.
    fn killed(self) {
        self.pump.abort();
    }
}

async fn watch(rig: &HubRig) -> WebSocketStream<TcpStream> {
    watch_only(rig, "").await
}

async fn watch_only(rig: &HubRig, query: &str) -> WebSocketStream<TcpStream> {
    let at = rig.hub().http;
    let stream = TcpStream::connect(at).await.unwrap();
    client_async(format!("ws://{at}/ws{query}"), stream).await.unwrap().0
}

/// The next change of this thing to this state that those who watch are told.
async fn pushed(socket: &mut WebSocketStream<TcpStream>, kind: &str, id: &str, state: &str) -> Value {
    loop {
        let said = timeout(LONG, socket.next()).await.unwrap_or_else(|_| panic!("{kind} {id} is not told {state}"));
        let Some(Ok(said)) = said else { panic!("the feed ended: {said:?}") };
        let Message::Text(text) = said else { continue };
        let message: Value = serde_json::from_str(&text).unwrap();
        if (&message["type"], &message["kind"], &message["id"]) == (&"presence".into(), &kind.into(), &id.into())
            && message["state"] == state
        {
            return message;
        }
    }
}

async fn now(rig: &HubRig, kind: &str, id: &str) -> Value {
    let all = get(rig.hub().http, &format!("/api/v1/presence?kind={kind}")).await;
    let found = all["presence"].as_array().unwrap().iter().find(|one| one["id"] == id).cloned();
    found.unwrap_or(Value::Null)
}

async fn becomes(rig: &HubRig, kind: &str, id: &str, state: &str) -> Value {
    let began = Instant::now();
    loop {
        let is = now(rig, kind, id).await;
        if is["state"] == state {
            return is;
        }
        assert!(began.elapsed() < LONG, "{kind} {id} is not {state} in time: {is}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// State and reason of each stretch, once the last of them is this state.
async fn history(rig: &HubRig, kind: &str, id: &str, last: &str) -> Vec<(String, String)> {
    let began = Instant::now();
    loop {
        let told = get(rig.hub().http, &format!("/api/v1/presence/history?kind={kind}&id={id}")).await;
        let all = told["changes"].as_array().unwrap().clone();
        let text = |one: &Value, field: &str| one[field].as_str().unwrap().to_owned();
        if all.last().is_some_and(|one| one["state"] == last) {
            for pair in all.windows(2) {
                assert_eq!(pair[0]["until"], pair[1]["from"], "one ends where the next begins: {told}");
            }
            assert_eq!(all.last().unwrap()["until"], Value::Null);
            return all.iter().map(|one| (text(one, "state"), text(one, "reason"))).collect();
        }
        assert!(began.elapsed() < LONG, "the history of {kind} {id} does not end {last}: {told}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn pair(state: &str, reason: &str) -> (String, String) {
    (state.into(), reason.into())
}

async fn post(rig: &HubRig, path: &str, body: Value) -> (u16, Value) {
    asked(rig, "POST", path, Some(body)).await
}

async fn asked(rig: &HubRig, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let (status, _, text) = request(rig.hub().http, method, path, body.as_ref()).await;
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// A vehicle of a customer, which carries this gateway.
async fn vehicle(rig: &HubRig, id: &str, registration: &str, gateway: &str) {
    let kalle = json!({"id": "kalle", "name": "Kalles Grustransporter", "address": "Cementvägen 8, Södertälje"});
    assert!([201, 409].contains(&post(rig, "/api/v1/customers", kalle).await.0));
    let one = json!({"id": id, "registration": registration, "customer": "kalle", "gateways": [gateway]});
    let told = post(rig, "/api/v1/vehicles", one).await;
    assert_eq!(told.0, 201, "{}", told.1);
}

fn heartbeat(seconds: u32) -> impl FnOnce(&mut Config) {
    move |config| config.presence.heartbeat_s = seconds.try_into().unwrap()
}

async fn hub(broker: &Mosquitto, change: impl FnOnce(&mut Config)) -> HubRig {
    let rig = HubRig::with(broker.url(), change).await;
    rig.reaches("connected", 1).await;
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_is_told_offline_at_once_and_stays_in_the_history_over_a_restart() {
    let broker = Mosquitto::start();
    let mut rig = hub(&broker, |_| {}).await;
    vehicle(&rig, "v1", "ABC 123", "truck-7").await;
    let mut socket = watch(&rig).await;
    let gateway = Willing::connect("truck-7", broker.port).await;
    let told = pushed(&mut socket, "gateway", "truck-7", "online").await;
    assert_eq!((&told["reason"], &told["vehicle"]), (&"connected".into(), &"v1".into()));
    pushed(&mut socket, "vehicle", "v1", "no-speed").await;
    assert_eq!(get(rig.hub().http, "/vehicles/").await[0]["up"], true);

    let killed = Instant::now();
    gateway.killed();
    let told = pushed(&mut socket, "gateway", "truck-7", "offline").await;
    // The broker sees the closed socket, the hub the will, the watcher the push: long before it could be missed.
    println!("told {:?} after the connection broke", killed.elapsed());
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    assert_eq!(told["reason"], "connection lost");
    let time = |field: &str| told[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time("since") >= time("last_seen"));
    let told = pushed(&mut socket, "vehicle", "v1", "disconnected").await;
    assert_eq!(told["reason"], "truck-7 is offline: connection lost");
    assert_eq!(get(rig.hub().http, "/vehicles/").await[0]["up"], false);

    let before = history(&rig, "gateway", "truck-7", "offline").await;
    let since = now(&rig, "gateway", "truck-7").await["since"].clone();
    rig.restart().await;
    rig.reaches("connected", 1).await;
    assert_eq!(history(&rig, "gateway", "truck-7", "offline").await, before);
    let expected = [pair("online", "connected"), pair("offline", "connection lost")];
    assert_eq!(before, expected);
    assert_eq!(
        becomes(&rig, "gateway", "truck-7", "offline").await["since"],
        since,
        "it is so since before the restart"
    );
    assert_eq!(now(&rig, "vehicle", "v1").await["state"], "disconnected");
    let hub = history(&rig, "hub", "speedwell-hub", "running").await;
    let states: Vec<&str> = hub.iter().map(|(state, _)| state.as_str()).collect();
    assert_eq!(states, ["running", "stopped", "running"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_is_told_from_a_lost_connection_and_a_sensor_s_trouble_by_its_name() {
    let broker = Mosquitto::start();
    let rig = hub(&broker, |_| {}).await;
    let gateway = Willing::connect("truck-7", broker.port).await;
    becomes(&rig, "gateway", "truck-7", "online").await;
    becomes(&rig, "sensor", "front-wheel", "ok").await;
    gateway.says(true, Some(NoData::Fault)).await;
    let sensor = becomes(&rig, "sensor", "front-wheel", "fault").await;
    assert_eq!((&sensor["gateway"], &sensor["reason"]), (&"truck-7".into(), &"fault: no edges".into()));
    gateway.says(false, None).await;
    assert_eq!(becomes(&rig, "gateway", "truck-7", "offline").await["reason"], "stopped");
    let sensor = becomes(&rig, "sensor", "front-wheel", "stale").await;
    assert_eq!(sensor["reason"], "its gateway is offline: stopped");
    let path = "/api/v1/presence/history?kind=sensor&gateway=truck-7&id=front-wheel";
    until_stored(&rig, path, 3).await;
    let told = get(rig.hub().http, path).await;
    let states: Vec<&Value> = told["changes"].as_array().unwrap().iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["ok", "fault", "stale"]);
}

async fn until_stored(rig: &HubRig, path: &str, changes: usize) {
    let began = Instant::now();
    while get(rig.hub().http, path).await["changes"].as_array().unwrap().len() < changes {
        assert!(began.elapsed() < LONG, "not stored in time: {path}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_falls_silent_is_told_so_after_two_and_a_half_beats_and_again_when_it_is_heard() {
    let broker = Mosquitto::start();
    let rig = hub(&broker, heartbeat(1)).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    let began = Instant::now();
    gateway.publish(gateway.topics.status(), true, health("truck-7", true, None)).await;
    becomes(&rig, "gateway", "truck-7", "online").await;
    let silent = becomes(&rig, "gateway", "truck-7", "silent").await;
    assert!(began.elapsed() >= Duration::from_millis(2500), "{:?}", began.elapsed());
    assert!(silent["reason"].as_str().unwrap().starts_with("nothing heard for"), "{silent}");
    gateway.manifest(&live_manifest()).await;
    let values = [(1, Ok((12.5, 0.02, Quality::Good)))];
    gateway.publish(gateway.topics.live(), false, frame::encode(&live(&values, 9_000_000_000))).await;
    assert_eq!(becomes(&rig, "gateway", "truck-7", "online").await["reason"], "heard again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vehicle_moves_and_stops_by_its_best_speed() {
    let broker = Mosquitto::start();
    let rig = hub(&broker, |_| {}).await;
    vehicle(&rig, "v1", "ABC 123", "truck-7").await;
    assert_eq!(now(&rig, "vehicle", "v1").await["state"], "unknown");
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.publish(gateway.topics.status(), true, health("truck-7", true, None)).await;
    gateway.manifest(&live_manifest()).await;
    becomes(&rig, "vehicle", "v1", "no-speed").await;
    // The satellites see 0.9 m/s of noise, a wheel that is sure of itself does not.
    let says = |wheel: f64| [(1, Ok((wheel, 0.02, Quality::Good))), (3, Ok((0.9, 1.5, Quality::Estimated)))];
    let mut boot_ns = 9_000_000_000;
    for (wheel, state) in [(12.5, "moving"), (0.0, "stopped")] {
        let began = Instant::now();
        while now(&rig, "vehicle", "v1").await["state"] != state {
            boot_ns += 200_000_000;
            gateway.publish(gateway.topics.live(), false, frame::encode(&live(&says(wheel), boot_ns))).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(began.elapsed() < LONG, "not {state}: {}", now(&rig, "vehicle", "v1").await);
        }
        assert_eq!(now(&rig, "vehicle", "v1").await["reason"], "by front-wheel of truck-7");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_still_there_after_the_hub_was_down_was_online_all_the_time() {
    let broker = Mosquitto::start();
    let mut rig = hub(&broker, |_| {}).await;
    let gateway = Willing::connect("truck-7", broker.port).await;
    let other = Willing::connect("truck-8", broker.port).await;
    let since = becomes(&rig, "gateway", "truck-7", "online").await["since"].clone();
    becomes(&rig, "gateway", "truck-8", "online").await;
    history(&rig, "gateway", "truck-8", "online").await;
    rig.stop().await;
    other.killed();
    tokio::time::sleep(Duration::from_millis(500)).await;
    rig.hub = Some(speedwell_hub::Hub::start(rig.config.clone()).await.unwrap());
    assert_eq!(now(&rig, "gateway", "truck-7").await["state"], "online", "before the broker has said anything");
    rig.reaches("connected", 1).await;
    let lost = becomes(&rig, "gateway", "truck-8", "offline").await;
    assert!(lost["reason"].as_str().unwrap().starts_with("connection lost"), "{lost}");
    gateway.says(true, None).await;
    until("the status is taken", || rig.counter("messages") >= 3).await;
    let is = now(&rig, "gateway", "truck-7").await;
    assert_eq!((&is["state"], &is["since"]), (&"online".into(), &since));
    assert_eq!(history(&rig, "gateway", "truck-7", "online").await, [pair("online", "connected")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_silent_since_the_hub_was_down_is_told_with_the_hub_s_share_in_it() {
    let broker = Mosquitto::start();
    let mut rig = hub(&broker, heartbeat(1)).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.publish(gateway.topics.status(), true, health("truck-7", true, None)).await;
    becomes(&rig, "gateway", "truck-7", "online").await;
    history(&rig, "gateway", "truck-7", "online").await;
    rig.restart().await;
    assert_eq!(now(&rig, "gateway", "truck-7").await["state"], "online");
    let silent = becomes(&rig, "gateway", "truck-7", "silent").await;
    let reason = silent["reason"].as_str().unwrap();
    assert!(reason.starts_with("nothing heard since the hub started again; it was down from 20"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_are_not_blamed_for_a_broker_that_is_gone() {
    let mut broker = Mosquitto::start();
    let rig = hub(&broker, heartbeat(1)).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.publish(gateway.topics.status(), true, health("truck-7", true, None)).await;
    becomes(&rig, "gateway", "truck-7", "online").await;
    broker.down(false);
    let is = becomes(&rig, "gateway", "truck-7", "unknown").await;
    assert_eq!(is["reason"], "the hub has no connection to the broker");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_device_over_http_is_online_then_silent_and_makes_no_vehicle() {
    // No broker at all: its absence is no excuse for who sends over HTTP.
    let nobody = BrokerUrl::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    let rig = HubRig::with(nobody, heartbeat(1)).await;
    let mut socket = watch(&rig).await;
    let reading = json!({"device": "stranger", "sensor": "tracker", "quantity": "speed", "value": 3.0});
    assert_eq!(post(&rig, "/api/v1/readings", reading).await.0, 200);
    let told = pushed(&mut socket, "gateway", "stranger", "online").await;
    assert_eq!(told["vehicle"], Value::Null, "it is on no vehicle");
    let unassigned = get(rig.hub().http, "/api/v1/presence?unassigned=true").await;
    assert_eq!(unassigned["presence"].as_array().unwrap().len(), 1);
    assert_eq!(get(rig.hub().http, "/vehicles/").await, json!([]));
    pushed(&mut socket, "gateway", "stranger", "silent").await;
    pushed(&mut socket, "sensor", "tracker", "stale").await;
    // It gets a vehicle, and what is known of it holds for that at once.
    vehicle(&rig, "v1", "ABC 123", "stranger").await;
    assert_eq!(now(&rig, "vehicle", "v1").await["state"], "disconnected");
    assert_eq!(get(rig.hub().http, "/api/v1/presence?unassigned=true").await["presence"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_asked_for_by_gateway_and_by_state() {
    let broker = Mosquitto::start();
    let rig = hub(&broker, |_| {}).await;
    vehicle(&rig, "v1", "ABC 123", "truck-7").await;
    let gateway = Willing::connect("truck-7", broker.port).await;
    let _other = Willing::connect("truck-70", broker.port).await;
    becomes(&rig, "sensor", "front-wheel", "ok").await;
    becomes(&rig, "gateway", "truck-70", "online").await;
    let listed = async |query: &str| {
        let (is, told) = asked(&rig, "GET", &format!("/api/v1/presence?{query}"), None).await;
        assert_eq!(is, 200, "{query}: {told}");
        let all = told["presence"].as_array().unwrap().clone();
        all.iter()
            .map(|one| format!("{} {}", one["kind"].as_str().unwrap(), one["id"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(listed("gateway=truck-7").await, ["gateway truck-7", "sensor front-wheel", "vehicle v1"]);
    assert_eq!(listed("gateway=truck-7&kind=vehicle").await, ["vehicle v1"]);
    assert_eq!(listed("gateway=truck").await, [""; 0], "a part of a name is not its name");
    assert_eq!(listed("state=online").await, ["gateway truck-7", "gateway truck-70"]);
    gateway.says(false, None).await;
    becomes(&rig, "gateway", "truck-7", "offline").await;
    assert_eq!(listed("state=offline").await, ["gateway truck-7"]);
    assert_eq!(listed("state=disconnected").await, ["vehicle v1"]);
    for (query, words) in [("gateway=a%2Fb", "1 to 64"), ("state=gone", "disconnected"), ("of=v1", "gateway")] {
        let (is, told) = asked(&rig, "GET", &format!("/api/v1/presence?{query}"), None).await;
        assert!(is == 400 && told["error"].as_str().unwrap().contains(words), "{query}: {told}");
    }
    let described = get(rig.hub().http, "/api/v1/openapi.json").await;
    let parameters = described["paths"]["/api/v1/presence"]["get"]["parameters"].as_array().unwrap().clone();
    let schema = |name: &str| parameters.iter().find(|one| one["name"] == name).unwrap()["schema"].to_string();
    assert!(schema("state").contains("\"disconnected\""), "{}", schema("state"));
    assert!(schema("gateway").contains("pattern"), "{}", schema("gateway"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_is_told_that_the_registry_changed_and_who_watches_a_gateway_what_is_of_it() {
    let broker = Mosquitto::start();
    let rig = hub(&broker, |_| {}).await;
    vehicle(&rig, "v1", "ABC 123", "truck-7").await;
    vehicle(&rig, "v2", "DEF 456", "truck-8").await;
    let registry = async |socket: &mut WebSocketStream<TcpStream>| loop {
        let said = timeout(LONG, socket.next()).await.expect("the registry is told").unwrap().unwrap();
        let Message::Text(text) = said else { continue };
        let message: Value = serde_json::from_str(&text).unwrap();
        if message["type"] == "registry" {
            return format!("{} {}", message["kind"].as_str().unwrap(), message["id"].as_str().unwrap());
        }
    };
    // What was registered before is no news to who comes later.
    let (mut all, mut seven) = (watch(&rig).await, watch_only(&rig, "?gateway=truck-7").await);
    for (path, change) in [
        ("/api/v1/vehicles/v2", json!({"name": "nothing of truck-7"})),
        ("/api/v1/vehicles/v1", json!({"registration": "NEW 1"})),
        ("/api/v1/vehicles/v1", json!({"gateways": []})),
        ("/api/v1/vehicles/v2", json!({"gateways": ["truck-7"]})),
        ("/api/v1/customers/kalle", json!({"name": "Kalle & Söner"})),
    ] {
        assert_eq!(asked(&rig, "PATCH", path, Some(change)).await.0, 200);
        assert!(path.ends_with(registry(&mut all).await.split(' ').nth(1).unwrap()), "{path}");
    }
    for wanted in ["vehicle v1", "vehicle v1", "vehicle v2"] {
        assert_eq!(registry(&mut seven).await, wanted);
    }
    assert_eq!(asked(&rig, "DELETE", "/api/v1/vehicles/v2", None).await.0, 204);
    assert_eq!(registry(&mut all).await, "vehicle v2");
    assert_eq!(registry(&mut seven).await, "vehicle v2");
    // What is of its vehicle is of the gateway.
    vehicle(&rig, "v3", "GHI 789", "truck-7").await;
    pushed(&mut seven, "vehicle", "v3", "unknown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_alias_lists_each_vehicle_once_with_its_owner_and_one_never_seen_is_not_up() {
    let broker = Mosquitto::start();
    let rig = hub(&broker, |_| {}).await;
    vehicle(&rig, "YS2R4X20005399401", "ABC123", "truck-7").await;
    vehicle(&rig, "VLUR4X20009093588", "DEF456", "truck-8").await;
    let _gateway = Willing::connect("truck-7", broker.port).await;
    let _stranger = Willing::connect("truck-99", broker.port).await;
    becomes(&rig, "gateway", "truck-7", "online").await;
    becomes(&rig, "gateway", "truck-99", "online").await;
    let (owner, address) = ("Kalles Grustransporter", "Cementvägen 8, Södertälje");
    let expected = json!([
        {"id": "VLUR4X20009093588", "reg_nr": "DEF456", "owner_name": owner, "owner_address": address, "up": false},
        {"id": "YS2R4X20005399401", "reg_nr": "ABC123", "owner_name": owner, "owner_address": address, "up": true},
    ]);
    assert_eq!(get(rig.hub().http, "/vehicles/").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_is_changed_over_http_and_says_what_is_wrong() {
    let nobody = BrokerUrl::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    let mut rig = HubRig::with(nobody, |_| {}).await;
    vehicle(&rig, "v1", "ABC 123", "truck-7").await;
    for (path, body, status, word) in [
        ("/api/v1/vehicles", json!({"id": "v1", "registration": "X 1"}), 409, "there is a vehicle \"v1\" already"),
        ("/api/v1/vehicles", json!({"registration": "abc-123"}), 409, "is that of vehicle \"v1\""),
        ("/api/v1/vehicles", json!({"registration": "X 1", "gateways": ["truck-7"]}), 409, "is on vehicle \"v1\""),
        ("/api/v1/vehicles", json!({"registration": "X 1", "customer": "nobody"}), 422, "\"nobody\" is not known"),
        ("/api/v1/vehicles", json!({"registration": "X 1", "gateways": ["a/b"]}), 422, "gateway id \"a/b\""),
        ("/api/v1/vehicles", json!({"registration": "X 1", "colour": "red"}), 400, "colour"),
        ("/api/v1/customers", json!({"id": "kalle", "name": "x"}), 409, "there is a customer \"kalle\" already"),
        ("/api/v1/customers", json!({"address": "x"}), 400, "missing field `name`"),
    ] {
        let (is, told) = post(&rig, path, body.clone()).await;
        assert_eq!(is, status, "{body}: {told}");
        assert!(told["error"].as_str().unwrap_or_default().contains(word), "{body}: {told}");
    }
    for (method, path, body, status) in [
        ("GET", "/api/v1/vehicles/v9", None, 404),
        ("PATCH", "/api/v1/vehicles/v9", Some(json!({})), 404),
        ("DELETE", "/api/v1/customers/nobody", None, 404),
        ("DELETE", "/api/v1/customers/kalle", None, 409),
        ("DELETE", "/api/v1/customers/kalle?vehicles-to=nobody", None, 422),
        ("GET", "/api/v1/presence?kind=cat", None, 400),
        ("GET", "/api/v1/presence/history?kind=sensor&id=x", None, 400),
        ("GET", "/api/v1/presence/history?kind=vehicle", None, 400),
        ("GET", "/api/v1/presence/history?after=x", None, 400),
    ] {
        let (is, told) = asked(&rig, method, path, body).await;
        assert_eq!(is, status, "{method} {path}: {told}");
        assert!(told["error"].is_string(), "{told}");
    }
    let moved = json!({"name": "tanker", "customer": null, "gateways": []});
    let (is, told) = asked(&rig, "PATCH", "/api/v1/vehicles/v1", Some(moved)).await;
    assert_eq!((is, &told["customer"], &told["version"]), (200, &Value::Null, &json!(2)));
    assert_eq!(told["registration"], "ABC 123", "what is left out stays");
    let at = rig.hub().http;
    let stale = "Content-Type: application/json\r\nIf-Match: \"1\"\r\n";
    assert_eq!(http::send(at, "PATCH", "/api/v1/vehicles/v1", stale, b"{}").await.0, 412);
    let fresh = "Content-Type: application/json\r\nIf-Match: \"2\"\r\n";
    let (is, head, _) = http::send(at, "PATCH", "/api/v1/vehicles/v1", fresh, b"{}").await;
    assert!(is == 200 && head.contains("etag: \"3\""), "{head}");
    assert_eq!(asked(&rig, "DELETE", "/api/v1/customers/kalle", None).await.0, 204);
    let (is, made) = post(&rig, "/api/v1/vehicles", json!({"registration": "NEW 1"})).await;
    assert_eq!((is, made["id"].as_str().unwrap().len()), (201, 10), "the hub makes an id");
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = get(rig.hub().http, &format!("/api/v1/vehicles?limit=1&after={after}")).await;
        all.extend(page["vehicles"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        after = next.to_owned();
    }
    assert_eq!(all.len(), 2);
    rig.restart().await;
    assert_eq!(asked(&rig, "DELETE", "/api/v1/vehicles/v1", None).await.0, 204);
    assert_eq!(now(&rig, "vehicle", "v1").await, Value::Null);
    assert_eq!(history(&rig, "vehicle", "v1", "removed").await.last().unwrap().1, "taken out of the registry");
}

/// A process that is killed, at the latest when its test ends.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_was_killed_says_so_and_from_when_it_was_down_and_blames_no_gateway() {
    let broker = Mosquitto::start();
    let _gateway = Willing::connect("truck-7", broker.port).await;
    let directory = tempfile::tempdir().unwrap();
    let (file, store) = (directory.path().join("hub.toml"), directory.path().join("hub.sqlite"));
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let text = format!(
        "[broker]\nurl = \"{}\"\n[store]\npath = \"{}\"\n[http]\nlisten = \"{at}\"\n",
        broker.url(),
        store.display()
    );
    std::fs::write(&file, text).unwrap();
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_speedwell-hub"))
        .args(["run", "--config"])
        .arg(&file)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let process = Killed(child);
    until("the hub listens", || std::net::TcpStream::connect(at).is_ok()).await;
    let path = "/api/v1/presence/history?kind=gateway&id=truck-7";
    let began = Instant::now();
    while get(at, path).await["changes"][0].is_null() {
        assert!(began.elapsed() < LONG, "not stored in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(process);

    let rig = hub(&broker, |config| config.store.path = store).await;
    let words = "it ended without a word: killed, or the power went";
    // It ends with "running" before this hub has written anything too.
    let (began, mut all) = (Instant::now(), Vec::new());
    while all.len() < 3 && began.elapsed() < LONG {
        all = history(&rig, "hub", "speedwell-hub", "running").await;
    }
    assert_eq!(all, [pair("running", "started"), pair("down", words), pair("running", "started")]);
    let all = history(&rig, "gateway", "truck-7", "online").await;
    assert_eq!(all.len(), 1, "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_describes_itself() {
    let nobody = BrokerUrl::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    let rig = HubRig::with(nobody, |_| {}).await;
    let told = get(rig.hub().http, "/api/v1/openapi.json").await;
    for (path, methods) in [
        ("/api/v1/customers", &["get", "post"][..]),
        ("/api/v1/customers/{id}", &["get", "patch", "delete"]),
        ("/api/v1/vehicles", &["get", "post"]),
        ("/api/v1/vehicles/{id}", &["get", "patch", "delete"]),
        ("/api/v1/presence", &["get"]),
        ("/api/v1/presence/history", &["get"]),
        ("/vehicles/", &["get"]),
    ] {
        for method in methods {
            assert!(told["paths"][path][method]["responses"].is_object(), "{method} {path}");
        }
    }
}
