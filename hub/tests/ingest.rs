//! Batches through a real mosquitto into a real database, and back the confirmation.

mod rig;

use rig::*;
use speedwell_wire::{Batch, Entry, Loss, LossReason, Manifest, Quantity, Record, frame};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_confirmed_is_stored_and_what_comes_twice_is_stored_once() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    gateway.batch(&seconds("truck-7", 1..=5)).await;
    gateway.confirmed(5).await;
    assert_eq!(rig.hub().reader.counts().unwrap().samples, 5 * PER_RECORD);
    gateway.batch(&seconds("truck-7", 1..=5)).await;
    gateway.batch(&seconds("truck-7", 4..=8)).await;
    gateway.confirmed(8).await;
    let counts = rig.hub().reader.counts().unwrap();
    assert_eq!((counts.chunks, counts.samples), (8, 8 * PER_RECORD));
    assert_eq!(rig.counter("duplicates"), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_is_not_stored_over_but_answered_with_where_to_go_on() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    gateway.batch(&seconds("truck-7", 1..=2)).await;
    gateway.batch(&seconds("truck-7", 5..=6)).await;
    rig.reaches("dropped", 2).await;
    gateway.confirmed(2).await;
    gateway.batch(&seconds("truck-7", 3..=6)).await;
    gateway.confirmed(6).await;
    assert_eq!(rig.hub().reader.counts().unwrap().chunks, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_freed_before_is_a_gap_and_what_it_shed_is_a_loss() {
    let broker = Mosquitto::start();
    let mut rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    gateway.batch(&Batch { oldest_seq: 100, ..seconds("truck-7", 100..=101) }).await;
    gateway.confirmed(101).await;
    let loss = Loss { reason: LossReason::SpoolFullOldest, records: 50, samples: 500, from: None, until: None };
    let entries = vec![Entry { span: 50, record: Record::Loss(loss) }, Entry { span: 1, record: second(152) }];
    gateway.batch(&Batch { oldest_seq: 102, first_seq: 102, entries, ..seconds("truck-7", 1..=1) }).await;
    gateway.confirmed(152).await;
    let counts = rig.hub().reader.counts().unwrap();
    assert_eq!((counts.gaps, counts.losses, counts.chunks), (1, 1, 3));
    gateway.publish(gateway.topics.log(), false, b"\x07garbage".to_vec()).await;
    rig.reaches("rejected", 1).await;
    let told = serde_json::json!({
        "log": LOG, "thru": 152, "gaps": 1, "missing_records": 99, "lost_samples": 500, "rejected": 1, "readings": 0
    });
    let stored =
        async |rig: &HubRig| http::get(rig.hub().http, "/api/v1/gateways").await["gateways"][0]["stored"].take();
    assert_eq!(stored(&rig).await, told);
    rig.restart().await;
    assert_eq!(stored(&rig).await, told, "it is still known after a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_whose_manifest_is_not_known_are_neither_stored_nor_confirmed_until_it_is() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.batch(&batch("truck-7", 1, [fix(), second(2), second(3)])).await;
    // The fix before the samples needs no manifest.
    gateway.confirmed(1).await;
    assert_eq!(rig.hub().reader.counts().unwrap().chunks, 0);
    gateway.manifest(&manifest()).await;
    gateway.batch(&batch("truck-7", 1, [fix(), second(2), second(3)])).await;
    gateway.confirmed(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_foreign_names_are_set_aside_and_block_nobody() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    let mut bent = frame::encode(&seconds("truck-7", 1..=1));
    *bent.last_mut().unwrap() ^= 1;
    for garbage in [b"\xff\x00garbage".to_vec(), b"{\"not\": \"a batch\"}".to_vec(), Vec::new(), bent] {
        gateway.publish(gateway.topics.log(), false, garbage).await;
    }
    gateway.batch(&seconds("somebody-else", 1..=3)).await;
    let other = Manifest { channels: vec![channel(9, "other", Quantity::Speed)] };
    gateway.publish(gateway.topics.manifest(other.hash()), true, frame::encode(&manifest())).await;
    gateway.batch(&seconds("truck-7", 1..=2)).await;
    gateway.confirmed(2).await;
    assert_eq!(rig.hub().reader.counts().unwrap().rejected, 6);
    assert_eq!(rig.hub().reader.ledgers().unwrap().len(), 1, "nothing was stored under another's name");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_larger_than_the_hub_takes_does_not_come_back_for_ever() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    rig.reaches("connections", 1).await;
    gateway.manifest(&manifest()).await;
    gateway.batch(&seconds("truck-7", 1..=1)).await;
    gateway.confirmed(1).await;
    gateway.publish(gateway.topics.log(), false, vec![0; 9 << 20]).await;
    rig.reaches("connections", 2).await;
    gateway.batch(&seconds("truck-7", 2..=2)).await;
    gateway.confirmed(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_was_away_finds_what_came_meanwhile_and_knows_what_it_had() {
    let broker = Mosquitto::start();
    let mut rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    gateway.batch(&seconds("truck-7", 1..=2)).await;
    gateway.confirmed(2).await;
    rig.stop().await;
    gateway.batch(&seconds("truck-7", 3..=4)).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    rig.hub = Some(speedwell_hub::Hub::start(rig.config.clone()).await.unwrap());
    gateway.confirmed(4).await;
    rig.restart().await;
    gateway.batch(&seconds("truck-7", 1..=6)).await;
    gateway.confirmed(6).await;
    assert_eq!(rig.hub().reader.counts().unwrap().chunks, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_comes_back_after_the_broker_was_away_with_its_session_and_without() {
    let mut broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    gateway.batch(&seconds("truck-7", 1..=2)).await;
    gateway.confirmed(2).await;
    for (keep, next) in [(true, 3), (false, 4)] {
        let before = rig.counter("connections");
        broker.down(keep);
        broker.up();
        rig.reaches("connections", before + 1).await;
        // A gateway sends again what is not confirmed; what was in flight when the broker fell may be lost.
        let began = std::time::Instant::now();
        while gateway.thru() != Some(next) {
            assert!(began.elapsed() < LONG, "no confirmation of {next}");
            gateway.batch(&seconds("truck-7", 1..=next)).await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }
    assert_eq!(rig.hub().reader.counts().unwrap().chunks, 4);
}
