//! What programs see: the WebSocket feed, the queries, the headers.

mod rig;

use std::time::Duration;

use futures_util::StreamExt;
use rig::*;
use serde_json::Value;
use speedwell_wire::{NoData, Quality, frame};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest, handshake::client::Response},
};

async fn watch(rig: &HubRig, origin: Option<&str>) -> Result<(WebSocketStream<TcpStream>, Response), String> {
    let at = rig.hub().http;
    let mut request = format!("ws://{at}/ws").into_client_request().unwrap();
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    client_async(request, TcpStream::connect(at).await.unwrap()).await.map_err(|e| e.to_string())
}

/// The next message of this type.
async fn next(socket: &mut WebSocketStream<TcpStream>, kind: &str) -> Value {
    loop {
        let said = timeout(LONG, socket.next()).await.expect("a message in time");
        let Some(Ok(said)) = said else { panic!("the feed ended: {said:?}") };
        let Message::Text(text) = said else { continue };
        let message: Value = serde_json::from_str(&text).unwrap();
        if message["type"] == kind {
            return message;
        }
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
    assert_eq!(snapshot["n"], 0);
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
