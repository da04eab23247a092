//! Gateways that speak JSON, through a real mosquitto: the hub tells by the first byte, and stores the same.

mod rig;

use rig::*;
use speedwell_hub::store::{History, HistoryQuery};
use speedwell_wire::{Manifest, Quality, Quantity, frame, json};

/// What is stored of a gateway's first ten seconds.
fn stored(rig: &HubRig, gateway: &str) -> History {
    let query = HistoryQuery {
        gateway: id(gateway),
        sensor: "front-wheel".into(),
        quantity: Quantity::Speed,
        from_ns: BOOT_UTC_NS,
        to_ns: BOOT_UTC_NS + 10_000_000_000,
        limit: 1000,
    };
    rig.hub().reader.history(&query).unwrap()
}

async fn json_manifest(gateway: &TestGateway, manifest: &Manifest) {
    let json = serde_json::to_vec(manifest).unwrap();
    gateway.publish(gateway.topics.manifest(manifest.hash()), true, json).await;
}

async fn json_batch(gateway: &TestGateway, batch: &speedwell_wire::Batch) {
    let known = manifest();
    let json = json::batch_to_json(batch, |hash| (hash == known.hash()).then_some(&known), |_, _| None).unwrap();
    assert!(json.contains("\"value\":[2.0,2.001"), "decimal numbers, as a person reads them: {json}");
    gateway.publish(gateway.topics.log(), false, json.into_bytes()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_speaks_json_leaves_the_same_in_the_store_as_one_that_speaks_frames() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let (plain, framed) =
        (TestGateway::connect("truck-j", broker.port).await, TestGateway::connect("truck-p", broker.port).await);
    json_manifest(&plain, &manifest()).await;
    let records = || [fix(), second(2), second(3), second(4)];
    json_batch(&plain, &batch("truck-j", 1, records())).await;
    plain.confirmed(4).await;
    framed.manifest(&manifest()).await;
    framed.batch(&batch("truck-p", 1, records())).await;
    framed.confirmed(4).await;
    let (one, other) = (stored(&rig, "truck-j"), stored(&rig, "truck-p"));
    assert_eq!(one.points.len(), 30);
    assert_eq!(one, other);
    let blocks = |gateway: &str| -> Vec<Vec<u8>> {
        let db = rusqlite::Connection::open(rig.database()).unwrap();
        let sql = "SELECT block FROM chunks JOIN ledger ON ledger.id = chunks.log WHERE gateway = ? ORDER BY seq";
        db.prepare(sql).unwrap().query_map([gateway], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(blocks("truck-j"), blocks("truck-p"), "to the byte");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_batch_whose_manifest_is_not_known_comes_again_and_is_not_set_aside() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    let batch = batch("truck-7", 1, [second(2), second(3)]);
    json_batch(&gateway, &batch).await;
    // The answer tells where the gateway stands, and confirms none of it.
    gateway.confirmed(0).await;
    assert_eq!((rig.counter("dropped"), rig.counter("rejected")), (1, 0));
    let counts = rig.hub().reader.counts().unwrap();
    assert_eq!((counts.chunks, counts.rejected), (0, 0));
    json_manifest(&gateway, &manifest()).await;
    json_batch(&gateway, &batch).await;
    gateway.confirmed(2).await;
    assert_eq!(rig.hub().reader.counts().unwrap().samples, 2 * PER_RECORD);
}

#[tokio::test(flavor = "multi_thread")]
async fn live_values_in_json_are_shown() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    rig.reaches("connections", 1).await;
    json_manifest(&gateway, &live_manifest()).await;
    let live = live(&[(1, Ok((12.5, 0.02, Quality::Good)))], 9_000_000_000);
    gateway.publish(gateway.topics.live(), false, serde_json::to_vec(&live).unwrap()).await;
    rig.reaches("messages", 2).await;
    let all = http::get(rig.hub().http, "/api/v1/gateways").await;
    assert_eq!(all["gateways"][0]["channels"][0]["value"].as_f64(), Some(12.5), "{all}");
    assert_eq!(rig.counter("live_unread"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn live_garbage_and_cleared_topics_are_passed_over_and_not_kept() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    rig.reaches("connections", 1).await;
    gateway.publish(gateway.topics.live(), false, b"\x07 of a later version".to_vec()).await;
    gateway.publish(gateway.topics.status(), true, Vec::new()).await;
    gateway.publish(gateway.topics.manifest(manifest().hash()), true, Vec::new()).await;
    gateway.publish(gateway.topics.log(), false, frame::encode(&"no batch")).await;
    rig.reaches("messages", 4).await;
    assert_eq!((rig.counter("live_unread"), rig.counter("rejected")), (3, 1));
}
