//! Readings over HTTP: a real hub, real sockets, a real database.

mod rig;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use rig::{
    http::{answer, get, send},
    *,
};
use serde_json::{Value, json};
use speedwell_hub::{
    BrokerUrl,
    api::readings::{MAX_BODY, WAITING},
    store::{HistoryQuery, Point},
};
use speedwell_wire::Quantity;
use tokio::{io::AsyncWriteExt, net::TcpStream};

const OWN: &str = "/api/v1/readings";
const ALIAS: &str = "/tracking/data/";
const JSON: &str = "Content-Type: application/json\r\n";

/// A hub without a broker: its other doors are open all the same.
async fn hub() -> HubRig {
    HubRig::with(BrokerUrl::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 1))), |_| {}).await
}

async fn post(rig: &HubRig, path: &str, lines: &str, body: &str) -> (u16, Value) {
    let (status, _, body) = send(rig.hub().http, "POST", path, &format!("{JSON}{lines}"), body.as_bytes()).await;
    (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} {body}")))
}

/// Second `n` of a truck's speed, `n` m/s.
fn reading(n: i64) -> Value {
    let at = jiff::Timestamp::from_nanosecond(i128::from(BOOT_UTC_NS + n * 1_000_000_000)).unwrap().to_string();
    json!({"device": "truck-7", "sensor": "front-wheel", "quantity": "speed", "value": n, "at": at})
}

fn stored(rig: &HubRig, device: &str, sensor: &str, quantity: Quantity) -> Vec<Point> {
    let (gateway, sensor) = (id(device), sensor.to_owned());
    let query = HistoryQuery { gateway, sensor, quantity, from_ns: 0, to_ns: i64::MAX, limit: 10_000 };
    rig.hub().reader.history(&query).unwrap().points
}

fn speeds(rig: &HubRig) -> Vec<f64> {
    stored(rig, "truck-7", "front-wheel", Quantity::Speed).iter().map(|p| p.value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_is_stored_before_it_is_accepted_in_m_s_at_its_own_microsecond_and_shown() {
    let rig = hub().await;
    let one = json!({"device": "truck-7", "sensor": "front-wheel", "quantity": "speed", "unit": "km/h", "value": 36,
        "uncertainty": 1.8, "at": "2026-05-04T12:00:00.123456+02:00"});
    assert_eq!(post(&rig, OWN, "", &one.to_string()).await, (200, json!({"accepted": 1})));
    let points = stored(&rig, "truck-7", "front-wheel", Quantity::Speed);
    assert_eq!((points[0].value, points[0].uncertainty), (10.0, Some(0.5)));
    assert_eq!(points[0].utc_ns, 1_777_888_800_123_456_000);
    let shown = get(rig.hub().http, "/api/v1/gateways").await;
    let channel = &shown["gateways"][0]["channels"][0];
    assert_eq!(
        (&channel["value"], &channel["unit"], &channel["quantity"]),
        (&json!(10.0), &json!("m/s"), &json!("speed"))
    );

    let many: Vec<Value> = (1..=1000).map(reading).collect();
    assert_eq!(post(&rig, OWN, "", &json!(many).to_string()).await, (200, json!({"accepted": 1000})));
    assert_eq!(speeds(&rig).len(), 1001);
    assert_eq!(post(&rig, OWN, "", "[]").await, (200, json!({"accepted": 0})));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_alias_keeps_place_speed_and_the_clients_time_and_names_the_unit() {
    let rig = hub().await;
    let at = "2024-11-12T10:00:00.5+03:00";
    let body = json!([{"device_id": 123, "location": "36.9,30.7", "speed": 90, "timestamp": at},
        {"device_id": "34 ABC", "location": {"lat": 41.0, "lng": 28.9}, "speed": 0}]);
    let told = post(&rig, ALIAS, "", &body.to_string()).await;
    assert_eq!(told, (202, json!({"message": "Data received", "accepted": 2, "speed_unit": "km/h"})));
    for (quantity, value) in [(Quantity::Latitude, 36.9), (Quantity::Longitude, 30.7), (Quantity::Speed, 25.0)] {
        let points = stored(&rig, "123", "tracker", quantity);
        assert_eq!((points.len(), points[0].value), (1, value));
        assert_eq!(points[0].utc_ns, 1_731_394_800_500_000_000, "not the time of arrival");
    }
    let standing = stored(&rig, "34_20ABC", "tracker", Quantity::Speed);
    assert_eq!((standing.len(), standing[0].value), (1, 0.0), "a vehicle that stands is one");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_items_are_named_and_the_good_ones_kept_only_where_the_caller_says_so() {
    let rig = hub().await;
    let body = json!([reading(1), {"device": "truck-7"}, reading(3), reading(4), 5]).to_string();
    let (status, told) = post(&rig, OWN, "", &body).await;
    assert_eq!((status, &told["error"]), (400, &json!("2 of 5 items cannot be used; none was stored")));
    assert_eq!(told["items"][0], json!({"index": 1, "reason": "missing: sensor, quantity, value"}));
    assert_eq!(told["items"][1], json!({"index": 4, "reason": "not an object"}));
    assert_eq!(speeds(&rig), [0.0; 0]);

    let (status, told) = post(&rig, &format!("{OWN}?on-error=keep"), "", &body).await;
    assert_eq!((status, &told["accepted"], &told["refused"][1]["index"]), (200, &json!(3), &json!(4)));
    assert_eq!(speeds(&rig), [1.0, 3.0, 4.0]);
    assert_eq!(post(&rig, &format!("{OWN}?on-error=keep"), "", "[1]").await.0, 400, "nothing good to keep");
    let (status, told) =
        post(&rig, ALIAS, "", r#"[{"device_id":"1","location":"1,1","speed":1},{"device_id":"1"}]"#).await;
    assert_eq!((status, &told["items"][0]), (400, &json!({"index": 1, "reason": "missing: location, speed"})));
    assert!(
        post(&rig, &format!("{OWN}?on-eror=keep"), "", &body).await.1["error"].as_str().unwrap().contains("on-error")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_list_of_readings_is_told_what_is_wrong_with_it() {
    let rig = hub().await;
    let (status, told) = post(&rig, ALIAS, "", "{\"device_id\": 1,\n\"speed\" 2}").await;
    assert_eq!((status, &told["error"]), (400, &json!("Invalid JSON format.")));
    assert!(told["reason"].as_str().unwrap().contains("line 2 column 9"), "{told}");
    assert_eq!(post(&rig, OWN, "", "7").await.1["reason"], "wanted an object or an array of objects");
    let many = format!("[{}0]", "0,".repeat(1000));
    assert_eq!(post(&rig, OWN, "", &many).await.0, 413);
    let text = send(rig.hub().http, "POST", OWN, "Content-Type: text/plain\r\n", b"{}").await;
    assert_eq!(text.0, 415, "what a page of another origin may send without being asked is not taken");
    let packed = format!("{JSON}Content-Encoding: gzip\r\n");
    assert_eq!(send(rig.hub().http, "POST", OWN, &packed, b"{}").await.0, 415);
    assert_eq!(send(rig.hub().http, "GET", OWN, "", b"").await.0, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_answer_was_lost_is_sent_again_and_stored_once() {
    let rig = hub().await;
    // Without a time of its own, a second storing would be seen.
    let body = r#"{"device":"truck-7","sensor":"front-wheel","quantity":"speed","value":1}"#;
    let head = format!(
        "POST {OWN} HTTP/1.1\r\nHost: x\r\n{JSON}Idempotency-Key: \"a-1\"\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut cut = TcpStream::connect(rig.hub().http).await.unwrap();
    cut.write_all(head.as_bytes()).await.unwrap();
    rig.reaches("readings", 1).await;
    drop(cut);
    for _ in 0..3 {
        let told = post(&rig, OWN, "Idempotency-Key: a-1\r\n", body).await;
        assert_eq!(told, (200, json!({"accepted": 1, "repeated": true})));
    }
    assert_eq!(speeds(&rig), [1.0]);
    // At once, and all of them told so.
    let both = [post(&rig, OWN, "Idempotency-Key: b\r\n", body), post(&rig, OWN, "Idempotency-Key: b\r\n", body)];
    for told in futures_util::future::join_all(both).await {
        assert_eq!((told.0, &told.1["accepted"]), (200, &json!(1)));
    }
    assert_eq!(speeds(&rig).len(), 2);
    // Without a key, the reading's own time tells it again.
    for _ in 0..2 {
        assert_eq!(post(&rig, OWN, "", &reading(7).to_string()).await.0, 200);
    }
    assert_eq!(speeds(&rig).len(), 3);
    // Three times and once more under a key, and once without.
    assert_eq!((rig.counter("readings"), rig.counter("readings_again")), (3, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_two_requests_is_a_conflict_and_nothing_of_the_second_is_stored() {
    let rig = hub().await;
    assert_eq!(post(&rig, OWN, "Idempotency-Key: a\r\n", &reading(1).to_string()).await.0, 200);
    let (status, told) = post(&rig, OWN, "Idempotency-Key: a\r\n", &reading(2).to_string()).await;
    assert_eq!((status, told["error"].as_str().unwrap().contains("another request")), (422, true));
    assert_eq!(speeds(&rig), [1.0]);
    // A request that was refused has not used its key up.
    assert_eq!(post(&rig, OWN, "Idempotency-Key: b\r\n", "[7]").await.0, 400);
    assert_eq!(post(&rig, OWN, "Idempotency-Key: b\r\n", &reading(2).to_string()).await.0, 200);
    assert_eq!(post(&rig, OWN, "Idempotency-Key: a b\r\n", &reading(3).to_string()).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_comes_is_given_up_and_holds_nobody_up() {
    let rig = hub().await;
    let mut slow = TcpStream::connect(rig.hub().http).await.unwrap();
    let head = format!("POST {OWN} HTTP/1.1\r\nHost: x\r\n{JSON}Content-Length: 500\r\n\r\n{{\"device\":");
    slow.write_all(head.as_bytes()).await.unwrap();
    for n in 1..=50 {
        assert_eq!(post(&rig, OWN, "", &reading(n).to_string()).await.0, 200);
    }
    let (status, _, told) = answer(&mut slow).await;
    assert!(status == 408 && told.contains("within 10 s"), "{status} {told}");
    assert_eq!(speeds(&rig).len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_too_large_is_refused_by_what_it_promises_or_as_soon_as_it_is_too_large() {
    let rig = hub().await;
    let mut huge = TcpStream::connect(rig.hub().http).await.unwrap();
    let head = format!("POST {OWN} HTTP/1.1\r\nHost: x\r\n{JSON}Content-Length: 999999999999\r\n\r\n[");
    huge.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut huge).await.0, 413);

    let stream = TcpStream::connect(rig.hub().http).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let endless = tokio::spawn(async move {
        let head = format!("POST {OWN} HTTP/1.1\r\nHost: x\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n");
        to.write_all(head.as_bytes()).await.unwrap();
        let chunk = [b"10000\r\n", &[b' '; 65536][..], b"\r\n"].concat();
        let mut sent = 0;
        while to.write_all(&chunk).await.is_ok() {
            sent += 65536;
        }
        sent
    });
    let mut told = vec![0; 15];
    tokio::io::AsyncReadExt::read_exact(&mut from, &mut told).await.unwrap();
    assert_eq!(told, b"HTTP/1.1 413 Pa");
    drop(from);
    let sent = endless.await.unwrap();
    assert!(sent < MAX_BODY + (32 << 20), "the rest stayed with the sender: {sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_locked_nothing_is_accepted_everybody_is_told_and_nothing_is_lost_or_there_twice() {
    let rig = hub().await;
    assert_eq!(post(&rig, OWN, "", &reading(0).to_string()).await.0, 200);
    let other = rusqlite::Connection::open(rig.database()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let body = |n: i64| reading(n).to_string();
    let mut waiting = Vec::new();
    for n in 1..=20 {
        let (at, body) = (rig.hub().http, body(n));
        let lines = format!("{JSON}Idempotency-Key: {n}\r\n");
        waiting.push(tokio::spawn(async move { send(at, "POST", OWN, &lines, body.as_bytes()).await }));
    }
    for waits in waiting {
        let (status, head, told) = waits.await.unwrap();
        assert_eq!(status, 503, "{told}");
        assert!(head.to_ascii_lowercase().contains("retry-after: "), "{head}");
    }
    // By now the hub knows, and says so at once.
    until("the store is in trouble", || rig.hub().counters.list().iter().any(|(n, v)| *n == "turned_away" && *v >= 20))
        .await;
    let began = Instant::now();
    let (status, told) = post(&rig, OWN, "Idempotency-Key: 21\r\n", &body(21)).await;
    assert!(status == 503 && began.elapsed() < Duration::from_secs(4), "{status} {told}");
    assert!(told["error"].as_str().unwrap().contains("locked by another program"), "{told}");
    other.execute_batch("ROLLBACK").unwrap();
    for n in 1..=21 {
        let began = Instant::now();
        while post(&rig, OWN, &format!("Idempotency-Key: {n}\r\n"), &body(n)).await.0 != 200 {
            assert!(began.elapsed() < LONG, "never stored: {n}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let expected: Vec<f64> = (0..=21).map(f64::from).collect();
    assert_eq!(speeds(&rig), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_may_wait_is_told_at_once_to_come_again() {
    let rig = hub().await;
    let other = rusqlite::Connection::open(rig.database()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    // Each waits for the store with nearly all a body may have; two more than there is room for.
    let body = format!("[{}{}]", reading(1), " ".repeat(MAX_BODY - 200));
    let fit = WAITING.1 / MAX_BODY;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..fit + 2 {
        let (at, body) = (rig.hub().http, body.clone());
        waiting.spawn(async move { send(at, "POST", OWN, JSON, body.as_bytes()).await });
    }
    for _ in 0..2 {
        let (status, head, told) = waiting.join_next().await.unwrap().unwrap();
        assert!(status == 503 && told.contains("too much is waiting"), "{status} {told}");
        assert!(head.to_ascii_lowercase().contains("retry-after: 1"), "{head}");
    }
    other.execute_batch("ROLLBACK").unwrap();
    let mut accepted = 0;
    while let Some(told) = waiting.join_next().await {
        accepted += usize::from(told.unwrap().0 == 200);
    }
    assert!((1..=fit).contains(&accepted), "{accepted}");
    assert_eq!(speeds(&rig), [1.0]);
    assert_eq!(post(&rig, OWN, "", &reading(2).to_string()).await.0, 200, "the room is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_are_confirmed_while_programs_bring_all_they_can() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let at = rig.hub().http;
    let mut flood = tokio::task::JoinSet::new();
    for client in 0..8 {
        flood.spawn(async move {
            for n in 0..1_000_000 {
                let many: Vec<Value> = (0..500)
                    .map(|i| {
                        json!({"device": format!("p-{client}"), "sensor": "s", "quantity": "speed", "value": i,
                        "at": format!("2026-01-01T{:02}:{:02}:{:02}.{i:03}Z", n / 3600 % 24, n / 60 % 60, n % 60)})
                    })
                    .collect();
                let told = send(at, "POST", OWN, JSON, json!(many).to_string().as_bytes()).await;
                assert!([200, 503].contains(&told.0), "{told:?}");
            }
        });
    }
    rig.reaches("readings", 1000).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    for n in 1..=20 {
        gateway.batch(&seconds("truck-7", n * 5 - 4..=n * 5)).await;
        gateway.confirmed(n * 5).await;
    }
    flood.abort_all();
    assert_eq!(rig.hub().reader.counts().unwrap().chunks, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_bytes_come_are_answered_and_the_next_is_served() {
    let rig = hub().await;
    let mut random = fastrand::Rng::with_seed(5);
    let good = json!([reading(1), {"device_id": 1, "location": "1,1", "speed": 1}]).to_string();
    for n in 0..400 {
        let mut body = good.clone().into_bytes();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..body.len());
            match random.u8(..3) {
                0 => body[at] = random.u8(..),
                1 => body.truncate(at.max(1)),
                _ => body.extend_from_within(at..),
            }
        }
        let path = if n % 2 == 0 { OWN } else { ALIAS };
        let (status, _, told) = send(rig.hub().http, "POST", path, JSON, &body).await;
        assert!([200, 202, 400].contains(&status), "{status} {told}");
    }
    assert_eq!(post(&rig, OWN, "", &reading(9).to_string()).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_stops_has_stored_all_it_has_accepted_and_knows_it_afterwards() {
    let mut rig = hub().await;
    let at = rig.hub().http;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..10i64 {
        clients.spawn(async move {
            let mut accepted = Vec::new();
            for n in 0.. {
                let n = client * 10_000 + n;
                let Ok(mut stream) = TcpStream::connect(at).await else { break };
                let body = reading(n).to_string();
                let head = format!(
                    "POST {OWN} HTTP/1.1\r\nHost: x\r\n{JSON}Connection: close\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                let mut text = String::new();
                let _ = stream.write_all((head + &body).as_bytes()).await;
                let _ = tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text).await;
                match text.starts_with("HTTP/1.1 200") {
                    true => accepted.push(n as f64),
                    false => break,
                }
            }
            accepted
        });
    }
    rig.reaches("readings", 200).await;
    rig.stop().await;
    let mut accepted = Vec::new();
    while let Some(told) = clients.join_next().await {
        accepted.extend(told.unwrap());
    }
    rig.hub = Some(speedwell_hub::Hub::start(rig.config.clone()).await.unwrap());
    let stored = speeds(&rig);
    assert!(accepted.len() >= 200 && accepted.iter().all(|n| stored.contains(n)), "{} accepted", accepted.len());
    assert_eq!(get(rig.hub().http, "/api/v1/gateways").await["gateways"][0]["id"], "truck-7");
}
