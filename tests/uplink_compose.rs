//! Records become batches: nothing lost, nothing too large, nothing twice.

use std::sync::Arc;

use speedwell::uplink::{
    Options, Stored,
    compose::{Composer, Origin, manifest_of},
};
use speedwell_wire::{
    Batch, Event, EventKind, GatewayId, LogId, Loss, LossReason, ManifestHash, Record, Samples, frame, record,
};

const HASH: ManifestHash = ManifestHash([9, 200, 1, 2, 3, 4, 5, 255]);

fn composer(max_packet: usize) -> Composer {
    let mut options = Options::new(GatewayId::new("truck-7").unwrap(), "localhost", 1883);
    options.max_packet = max_packet;
    Composer::new(&options, Arc::new(|_, _| None))
}

fn origin(from: u64) -> Origin {
    Origin { log: LogId(5), oldest: 1, from, merge: false }
}

fn event(detail: &str) -> Record {
    Record::Event(Event { boot: 1, t_ns: 2, sensor: None, kind: EventKind::Started, detail: detail.into() })
}

fn loss(records: u64) -> Record {
    Record::Loss(Loss { reason: LossReason::SpoolFullOldest, records, samples: 7, from: None, until: None })
}

fn stored(first: u64, span: u64, record: &Record) -> Stored {
    Stored { first, span, bytes: record::encode(record) }
}

#[test]
fn the_manifest_of_an_encoded_record_is_seen_without_decoding_it() {
    let samples = Record::Samples(Samples { manifest: HASH, boot: 300, block: vec![1, 2, 3] });
    assert_eq!(manifest_of(&record::encode(&samples)), Some(HASH));
    assert_eq!(manifest_of(&record::encode(&event("a longer text than a hash has bytes"))), None);
    assert_eq!(manifest_of(&record::encode(&loss(3))), None);
    assert_eq!(manifest_of(&[]), None);
    assert_eq!(manifest_of(&[0, 1, 2]), None);
}

#[test]
fn a_loss_that_begins_before_the_first_record_wanted_is_cut_so_that_the_hub_can_take_it() {
    let list = vec![stored(1, 100, &loss(100)), stored(101, 1, &event("x"))];
    let composed = composer(10_000).compose(origin(41), list, |_| None).unwrap();
    let batch: Batch = frame::decode(&composed.payload).unwrap();
    assert_eq!((batch.first_seq, batch.entries[0].span, batch.entries[1].span), (41, 60, 1));
    assert_eq!((composed.sent.first, composed.sent.next), (41, 102));
    assert_eq!(composed.sent.whole, [(41, 101)]);
}

#[test]
fn what_lies_wholly_before_the_first_record_wanted_is_not_sent() {
    let list = vec![stored(1, 1, &event("old")), stored(2, 1, &event("new"))];
    let composed = composer(10_000).compose(origin(2), list.clone(), |_| None).unwrap();
    assert_eq!((composed.sent.first, composed.sent.next), (2, 3));
    assert!(composer(10_000).compose(origin(3), list, |_| None).is_none());
}

#[test]
fn a_batch_never_exceeds_the_packet_and_the_rest_waits() {
    for max_packet in [200, 333, 1000, 4096] {
        let list: Vec<_> = (1..=100).map(|n| stored(n, 1, &event(&"y".repeat(n as usize % 50)))).collect();
        let composed = composer(max_packet).compose(origin(1), list, |_| None).unwrap();
        assert!(composed.payload.len() <= max_packet, "{} of {max_packet}", composed.payload.len());
        assert!(composed.sent.next > 1 && composed.set_aside.is_empty());
        let batch: Batch = frame::decode(&composed.payload).unwrap();
        assert_eq!(batch.entries.len() as u64, composed.sent.next - 1);
    }
}

#[test]
fn a_record_too_large_for_a_packet_is_a_loss_of_the_same_span() {
    let list = vec![stored(4, 1, &event(&"z".repeat(500))), stored(5, 1, &event("after"))];
    let composed = composer(300).compose(origin(4), list, |_| None).unwrap();
    let batch: Batch = frame::decode(&composed.payload).unwrap();
    let Record::Loss(loss) = &batch.entries[0].record else { panic!("{batch:?}") };
    assert_eq!((loss.reason, loss.records, batch.entries[0].span), (LossReason::TooLarge, 1, 1));
    assert_eq!(composed.set_aside, [(4, 4)]);
}

#[test]
fn records_of_different_boots_or_manifests_and_bytes_that_are_no_block_are_not_merged() {
    let samples = |boot, manifest| Record::Samples(Samples { manifest, boot, block: vec![255; 4] });
    let other = ManifestHash([1; 8]);
    let list = vec![
        stored(1, 1, &samples(1, HASH)),
        stored(2, 1, &samples(2, HASH)),
        stored(3, 1, &samples(2, other)),
        stored(4, 1, &samples(2, other)),
        stored(5, 1, &event("x")),
    ];
    let composed = composer(10_000).compose(Origin { merge: true, ..origin(1) }, list, |_| None).unwrap();
    let batch: Batch = frame::decode(&composed.payload).unwrap();
    assert!(batch.entries.iter().all(|e| e.span == 1), "{batch:?}");
    assert_eq!(composed.sent.next, 6);
}
