//! Foreign gateways' JSON through a real mosquitto into a real database.

mod rig;

use std::process::{Child, Command};

use rig::*;
use serde_json::{Value, json};
use speedwell_hub::{
    Config,
    config::{Feed, FeedShape, SpeedUnit, TopicFilter},
    store::{HistoryQuery, Read, Sqlite, Store},
};
use speedwell_wire::Quantity;

fn feed(topic: &str, shape: FeedShape, speed_unit: SpeedUnit) -> Feed {
    Feed { topic: TopicFilter::try_from(topic.to_owned()).unwrap(), shape, speed_unit, sensor: "gnss".into() }
}

fn feeds(config: &mut Config) {
    config.ingest.feed = vec![
        feed("fleet/+/positions", FeedShape::Positions, SpeedUnit::KmH),
        feed("trackers/#", FeedShape::Tracking, SpeedUnit::Kn),
    ];
}

/// A hub that hears its feeds: what is published before that is lost to it.
async fn hub(broker: &Mosquitto) -> (HubRig, TestGateway) {
    let rig = HubRig::with(broker.url(), feeds).await;
    let stranger = TestGateway::connect("stranger", broker.port).await;
    heard(&rig, &stranger).await;
    (rig, stranger)
}

async fn heard(rig: &HubRig, stranger: &TestGateway) {
    let began = std::time::Instant::now();
    let before = rig.hub().reader.counts().unwrap().readings;
    while rig.hub().reader.counts().unwrap().readings == before {
        assert!(began.elapsed() < LONG, "the hub never heard its feeds");
        say(stranger, "trackers/first", &json!({"device_id": "first", "location": "0,0", "speed": 0})).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

async fn say(stranger: &TestGateway, topic: &str, message: &Value) {
    stranger.publish(topic.into(), false, message.to_string().into_bytes()).await;
}

fn values(reader: &dyn Read, device: &str, quantity: Quantity) -> Vec<f64> {
    let (gateway, sensor) = (id(device), "gnss".to_owned());
    let query = HistoryQuery { gateway, sensor, quantity, from_ns: 0, to_ns: i64::MAX, limit: 10_000 };
    reader.history(&query).unwrap().points.iter().map(|p| p.value).collect()
}

async fn comes(rig: &HubRig, device: &str, speeds: usize) -> Vec<f64> {
    let count = || values(&*rig.hub().reader, device, Quantity::Speed);
    until(&format!("{speeds} speeds of {device}"), || count().len() >= speeds).await;
    count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_positions_is_stored_with_those_who_stand_and_a_bad_one_costs_only_itself() {
    let broker = Mosquitto::start();
    let (rig, stranger) = hub(&broker).await;
    let batch = json!({"data": [
        {"plateNum": "34ABC1", "lng": 28.9, "lat": 41.0, "speed": 36},
        {"plateNum": "34ABC2", "lng": 29.0, "lat": 95.0, "speed": 36},
        {"lng": 29.0},
        {"plateNum": "34 ABC 3", "lng": 29.5, "lat": 40.5, "speed": 0}]});
    say(&stranger, "fleet/north/positions", &batch).await;
    assert_eq!(comes(&rig, "34ABC1", 1).await, [10.0]);
    assert_eq!(comes(&rig, "34_20ABC_203", 1).await, [0.0]);
    assert_eq!(values(&*rig.hub().reader, "34ABC1", Quantity::Longitude), [28.9]);
    assert_eq!(values(&*rig.hub().reader, "34ABC1", Quantity::Latitude), [41.0]);
    rig.reaches("rejected", 1).await;
    let row = || {
        let db = rusqlite::Connection::open(rig.database()).unwrap();
        db.query_row("SELECT source, reason, bytes FROM rejected", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, Vec<u8>>(2)?))
        })
    };
    until("it is set aside", || row().is_ok()).await;
    let (source, reason, bytes) = row().unwrap();
    assert_eq!(source, "feed:fleet/north/positions");
    assert!(
        reason.starts_with("2 of 4 items; item 1: latitude 95") && reason.contains("item 2: missing: plateNum"),
        "{reason}"
    );
    assert!(String::from_utf8(bytes).unwrap().contains(r#"{"lng":29.0}"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_of_tracked_devices_keeps_their_time_in_the_unit_that_is_configured() {
    let broker = Mosquitto::start();
    let (rig, stranger) = hub(&broker).await;
    let at = "2026-05-04T12:00:00+02:00";
    let message = json!([{"device_id": "boat", "location": "41,28", "speed": 3600, "timestamp": at}]);
    say(&stranger, "trackers/sea/7", &message).await;
    say(&stranger, "trackers/sea/7", &message).await;
    say(&stranger, "trackers", &json!({"device_id": "other", "location": "41,28", "speed": 1})).await;
    comes(&rig, "other", 1).await;
    assert_eq!(comes(&rig, "boat", 1).await, [1852.0], "the second is known by its time");
    for garbage in [&b"\xff\x00"[..], b"{\"data\":", b"7", b""] {
        stranger.publish("trackers/garbage".into(), false, garbage.to_vec()).await;
    }
    rig.reaches("rejected", 4).await;
    say(&stranger, "trackers/x", &json!({"device_id": "last", "location": "41,28", "speed": 1})).await;
    comes(&rig, "last", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_acknowledged_only_after_its_commit_so_a_hub_that_is_killed_before_gets_it_again() {
    let broker = Mosquitto::start();
    let (mut rig, stranger) = hub(&broker).await;
    rig.stop().await;
    let mut hub = process(&rig.config);
    // It hears its feed, so what it does not take below it does not take because of the lock.
    let reader = Sqlite::open(&rig.database()).unwrap().reader();
    let began = std::time::Instant::now();
    while values(&*reader, "b", Quantity::Speed).is_empty() {
        assert!(began.elapsed() < LONG, "the hub never heard its feed");
        say(&stranger, "fleet/x/positions", &json!({"data": [{"plateNum": "b", "lng": 1, "lat": 2, "speed": 0}]}))
            .await;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let other = rusqlite::Connection::open(rig.database()).unwrap();
    other.busy_timeout(LONG).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let waiting = "fleet/x/positions";
    say(&stranger, waiting, &json!({"data": [{"plateNum": "a", "lng": 1, "lat": 2, "speed": 36}]})).await;
    // Long enough to have acknowledged it, if it did not wait for the lock.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    hub.kill().unwrap();
    hub.wait().unwrap();
    other.execute_batch("ROLLBACK").unwrap();
    assert!(values(&*reader, "a", Quantity::Speed).is_empty());
    rig.hub = Some(speedwell_hub::Hub::start(rig.config.clone()).await.unwrap());
    assert_eq!(comes(&rig, "a", 1).await, [10.0]);
}

/// A hub that can be killed.
fn process(config: &Config) -> Child {
    let path = config.store.path.with_extension("toml");
    let text = format!(
        "[broker]\nurl = \"{}\"\n[store]\npath = {:?}\n[http]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"off\"\n\
         [[ingest.feed]]\ntopic = \"fleet/+/positions\"\nshape = \"positions\"\nsensor = \"gnss\"\n",
        config.broker.url, config.store.path
    );
    std::fs::write(&path, text).unwrap();
    Command::new(env!("CARGO_BIN_EXE_speedwell-hub")).args(["run", "--config"]).arg(path).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_given_again_while_the_first_waits_for_the_store_is_stored_once() {
    let mut broker = Mosquitto::start();
    let (rig, stranger) = hub(&broker).await;
    let other = rusqlite::Connection::open(rig.database()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    // Standing still twice is two readings, though they look alike.
    let still = json!({"data": [{"plateNum": "a", "lng": 1, "lat": 2, "speed": 0}]});
    say(&stranger, "fleet/x/positions", &still).await;
    say(&stranger, "fleet/x/positions", &still).await;
    let readings = |rig: &HubRig| rig.counter("readings");
    let before = readings(&rig);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    broker.down(true);
    broker.up();
    // The hub has it twice now, once from each connection, and a last one tells that all were taken.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    say(&stranger, "fleet/x/positions", &json!({"data": [{"plateNum": "b", "lng": 1, "lat": 2, "speed": 0}]})).await;
    other.execute_batch("ROLLBACK").unwrap();
    comes(&rig, "b", 1).await;
    assert_eq!(comes(&rig, "a", 2).await.len(), 2);
    assert!(readings(&rig) - before >= 9, "three of each");
    assert!(rig.counter("readings_again") >= 6, "they were given again, or this has shown nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_retained_is_no_reading_of_now() {
    let broker = Mosquitto::start();
    let stranger = TestGateway::connect("stranger", broker.port).await;
    let old = json!({"data": [{"plateNum": "old", "lng": 1, "lat": 2, "speed": 0}]});
    stranger.publish("fleet/x/positions".into(), true, old.to_string().into_bytes()).await;
    let (rig, stranger) = hub(&broker).await;
    say(&stranger, "fleet/x/positions", &json!({"data": [{"plateNum": "new", "lng": 1, "lat": 2, "speed": 0}]})).await;
    comes(&rig, "new", 1).await;
    assert!(values(&*rig.hub().reader, "old", Quantity::Speed).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_brings_all_it_can_holds_no_gateway_up() {
    let broker = Mosquitto::start();
    let (rig, stranger) = hub(&broker).await;
    let many: Vec<Value> =
        (0..1000).map(|n| json!({"plateNum": format!("p-{n}"), "lng": 1, "lat": 2, "speed": 1})).collect();
    let message = json!({"data": many}).to_string().into_bytes();
    for _ in 0..100 {
        stranger.publish("fleet/x/positions".into(), false, message.clone()).await;
    }
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    gateway.batch(&seconds("truck-7", 1..=5)).await;
    gateway.confirmed(5).await;
    assert!(rig.counter("readings") < 300_000, "it was still at it");
}
