//! Envelopes: frozen bytes, damage, any bytes, batches put together.

use proptest::prelude::*;
use speedwell_wire::{
    Batch, Channel, ClockFix, ClockSource, Entry, Event, EventKind, GatewayId, Live, LiveValue, LogId, Loss,
    LossReason, Manifest, NoData, Quality, Quantity, Record, Samples,
    frame::{self, BatchBuilder, FrameError},
    json,
    manifest::BadManifest,
    record, topic,
};

fn manifest() -> Manifest {
    let wheel = Channel {
        id: 0,
        sensor: "front-wheel".into(),
        quantity: Quantity::Speed,
        resolution_nano: 1_000_000,
        tick_ns: 100_000,
        period_ns: 100_000_000,
        calibration: 7,
    };
    Manifest { channels: vec![wheel.clone(), Channel { id: 1, quantity: Quantity::Distance, ..wheel }] }
}

fn records() -> Vec<Record> {
    vec![
        Record::Samples(Samples { manifest: manifest().hash(), boot: 3, block: vec![1, 0] }),
        Record::Event(Event {
            boot: 3,
            t_ns: 60_000_000_000,
            sensor: Some("gnss".into()),
            kind: EventKind::SensorFault,
            detail: "no fix".into(),
        }),
        Record::Clock(ClockFix {
            boot: 3,
            boot_ns: 61_000_000_000,
            utc_ns: 1_767_225_600_000_000_000,
            uncertainty_ns: 500_000,
            rate_ppb: -1200,
            source: ClockSource::Ntp,
        }),
        Record::Loss(Loss {
            reason: LossReason::SpoolFullOldest,
            records: 40,
            samples: 8000,
            from: Some((2, 5)),
            until: None,
        }),
    ]
}

fn batch() -> Batch {
    let entries = records().into_iter().zip([10, 1, 1, 40]).map(|(record, span)| Entry { span, record });
    Batch {
        gateway: GatewayId::new("truck-7").expect("a good name"),
        log: LogId(0x0123_4567_89ab_cdef),
        oldest_seq: 1,
        first_seq: 300,
        entries: entries.collect(),
    }
}

fn live() -> Live {
    let value = |channel, value| LiveValue { channel, t_ns: 59_900_000_000, value };
    let values = vec![value(0, Ok((12.346, 0.005, Quality::Degraded))), value(1, Err(NoData::Stale))];
    Live { manifest: manifest().hash(), boot: 3, now_ns: 60_000_000_000, values }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// If this fails do not change the test: gateways and databases hold these bytes.
#[test]
fn the_bytes_of_version_1_are_written_for_ever() {
    let mut written: Vec<String> = records().iter().map(|record| hex(&record::encode(record))).collect();
    written.extend([hex(&frame::encode(&batch())), hex(&frame::encode(&manifest())), hex(&frame::encode(&live()))]);
    written.push(manifest().hash().to_string());
    assert_eq!(written, FROZEN);
}

const FROZEN: [&str; 8] = [
    "006919520bc2b02f5e03020100",
    "010380b09dc2df010104676e737302066e6f20666978",
    "020380c4889fe3018080d0dfbd94b98631a0c21edf1201",
    "030028c03e01020500",
    "0107747275636b2d370123456789abcdefac02ab02040a006919520bc2b02f5e0302010001010380b09dc2df010104676e737302066e6f2066697801020380c4889fe3018080d0dfbd94b98631a0c21edf120128030028c03e010205007c81c20b",
    "0102000b66726f6e742d776865656c00c0843da08d0680c2d72f07010b66726f6e742d776865656c02c0843da08d0680c2d72f072e6ceb8b",
    "016919520bc2b02f5e0380b09dc2df01020080eec592df0100fed478e926b128400ad7a33b020180eec592df0101012f2f9192",
    "6919520bc2b02f5e",
];

#[test]
fn every_message_comes_back() {
    assert_eq!(frame::decode::<Batch>(&frame::encode(&batch())), Ok(batch()));
    assert_eq!(frame::decode_any::<Manifest>(&frame::encode(&manifest())), Ok(manifest()));
    assert_eq!(frame::decode_any::<Live>(&frame::encode(&live())), Ok(live()));
    let text = |message: Result<String, _>| message.expect("JSON").into_bytes();
    assert_eq!(frame::decode_any::<Manifest>(&text(serde_json::to_string(&manifest()))), Ok(manifest()));
    assert_eq!(frame::decode_any::<Live>(&text(serde_json::to_string(&live()))), Ok(live()));
    for record in records() {
        assert_eq!(record::decode(&record::encode(&record)), Ok(record));
    }
}

#[test]
fn a_batch_put_together_is_byte_for_byte_the_batch_encoded() {
    let batch = batch();
    let mut builder = BatchBuilder::new(&batch.gateway, batch.log, batch.oldest_seq, batch.first_seq);
    for entry in &batch.entries {
        builder.push_encoded(entry.span, &record::encode(&entry.record));
    }
    let (len, frame) = (builder.len(), builder.finish());
    assert_eq!(len, frame.len());
    assert_eq!(frame, frame::encode(&batch));
}

#[test]
fn an_oldest_record_that_cannot_be_comes_back_too() {
    // The hub names it when it refuses the batch.
    for (oldest_seq, first_seq) in [(0, 0), (9, 1), (u64::MAX, 0), (0, u64::MAX), (5, 5)] {
        let batch = Batch { oldest_seq, first_seq, ..batch() };
        assert_eq!(frame::decode::<Batch>(&frame::encode(&batch)), Ok(batch));
    }
}

#[test]
fn the_check_sum_is_castagnoli() {
    // The check value of CRC-32C, RFC 3720 appendix B.4 and the catalogue of parametrised CRC algorithms.
    assert_eq!(frame::crc32c(b"123456789"), 0xE306_9283);
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let whole = frame::encode(&batch());
    for at in 0..whole.len() {
        assert!(frame::decode::<Batch>(&whole[..at]).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            assert!(frame::decode::<Batch>(&bytes).is_err(), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn a_frame_of_another_version_or_size_is_refused() {
    assert_eq!(frame::decode::<Batch>(&[2, 0, 0, 0, 0]), Err(FrameError::Version(2)));
    assert_eq!(frame::decode::<Batch>(&[]), Err(FrameError::TooShort(0)));
    let long = vec![1; frame::MAX_FRAME + 1];
    assert_eq!(
        frame::decode::<Batch>(&long),
        Err(FrameError::TooLong { len: frame::MAX_FRAME + 1, max: frame::MAX_FRAME })
    );
}

#[test]
fn topics_come_back_and_foreign_ones_are_none_of_ours() {
    let gateway = GatewayId::new("truck-7").expect("a good name");
    let hash = manifest().hash();
    let topics = topic::Topics::new("a/b", &gateway);
    for (text, kind) in [
        (topics.log(), topic::Kind::Log),
        (topics.manifest(hash), topic::Kind::Manifest(hash)),
        (topics.live(), topic::Kind::Live),
        (topics.status(), topic::Kind::Status),
        (topics.confirm(), topic::Kind::Confirm),
        (topics.command(), topic::Kind::Command),
        (topics.reply(), topic::Kind::Reply),
    ] {
        assert_eq!(topic::parse("a/b", &text), Some((gateway.clone(), kind)), "{text}");
    }
    for foreign in ["a/b/truck-7", "a/b/tr uck/log", "a/btruck/log", "a/b/t/manifest/1", "a/b/t/log/x", ""] {
        assert_eq!(topic::parse("a/b", foreign), None, "{foreign}");
    }
}

#[test]
fn what_a_later_version_appends_to_a_message_is_passed_over() {
    let longer = |frame: Vec<u8>| sealed(&[&frame[1..frame.len() - 4], b"more"].concat());
    assert_eq!(frame::decode::<Batch>(&longer(frame::encode(&batch()))), Ok(batch()));
    assert_eq!(frame::decode::<Manifest>(&longer(frame::encode(&manifest()))), Ok(manifest()));
    assert_eq!(frame::decode::<Live>(&longer(frame::encode(&live()))), Ok(live()));
}

#[test]
fn a_batch_with_a_kind_of_record_not_known_is_refused_whole() {
    let batch = batch();
    let mut builder = BatchBuilder::new(&batch.gateway, batch.log, batch.oldest_seq, batch.first_seq);
    builder.push_encoded(1, &record::encode(&batch.entries[1].record));
    // The first number that no kind of record has.
    builder.push_encoded(1, &[4, 0, 0, 0]);
    let refused = frame::decode::<Batch>(&builder.finish()).expect_err("record 4");
    assert!(matches!(refused, FrameError::Body(_)));
    assert!(refused.to_string().contains("is the sender newer?"), "{refused}");
    assert!(record::decode(&[4, 0, 0, 0]).is_err());
}

#[test]
fn a_manifest_that_cannot_be_is_refused_in_both_encodings() {
    let changed = |change: fn(&mut Manifest)| {
        let mut manifest = manifest();
        change(&mut manifest);
        manifest
    };
    let too_many = |m: &mut Manifest| {
        let wheel = m.channels[0].clone();
        m.channels = (0..=Manifest::MAX_CHANNELS as u16).map(|id| Channel { id, ..wheel.clone() }).collect();
    };
    for (bad, why) in [
        (changed(too_many), BadManifest::TooMany(4097)),
        (changed(|m| m.channels[1].id = 0), BadManifest::Order(0)),
        (changed(|m| m.channels.reverse()), BadManifest::Order(0)),
        (changed(|m| m.channels[0].tick_ns = 0), BadManifest::Zero(0)),
        (changed(|m| m.channels[1].resolution_nano = 0), BadManifest::Zero(1)),
        (changed(|m| m.channels[1].sensor = String::new()), BadManifest::Name(1, 0)),
        (changed(|m| m.channels[1].sensor = "x".repeat(65)), BadManifest::Name(1, 65)),
    ] {
        assert_eq!(bad.check(), Err(why));
        assert!(frame::decode::<Manifest>(&frame::encode(&bad)).is_err(), "{why}");
        let text = serde_json::to_vec(&bad).expect("JSON");
        assert!(frame::decode_any::<Manifest>(&text).is_err(), "{why}");
    }
    assert_eq!(manifest().check(), Ok(()));
}

#[test]
fn a_detail_too_long_is_cut_between_letters_and_the_event_kept() {
    let mut records = records();
    let Record::Event(event) = &mut records[1] else { panic!("an event") };
    // A letter of two bytes lies across the end.
    event.detail = format!("x{}", "ä".repeat(Event::MAX_DETAIL));
    let Ok(Record::Event(back)) = record::decode(&record::encode(&records[1])) else { panic!("an event") };
    assert_eq!(back.detail, format!("x{}", "ä".repeat(Event::MAX_DETAIL / 2 - 1)));
    let entries = vec![Entry { span: 1, record: records.remove(1) }];
    let text = json::batch_to_json(&Batch { entries, ..batch() }, |_| None, |_, _| None).expect("JSON");
    let cut = json::batch_from_json(&text, |_| None).expect("own text");
    assert_eq!(cut.entries[0].record, Record::Event(back));
}

#[test]
fn live_values_in_json_name_sensor_and_unit_and_are_read_with_or_without() {
    let named = json::live_to_json(&live(), Some(&manifest())).expect("JSON");
    assert_eq!(
        named,
        r#"{"manifest":"6919520bc2b02f5e","boot":3,"now_ns":60000000000,"values":[{"channel":0,"sensor":"front-wheel","#
            .to_owned()
            + r#""quantity":"speed","unit":"m/s","t_ns":59900000000,"age_s":0.1,"value":12.346,"uncertainty":0.005,"#
            + r#""quality":"degraded"},{"channel":1,"sensor":"front-wheel","quantity":"distance","unit":"m","#
            + r#""t_ns":59900000000,"age_s":0.1,"no_data":"stale"}]}"#
    );
    let unnamed = json::live_to_json(&live(), None).expect("JSON");
    assert!(!unnamed.contains("sensor"), "{unnamed}");
    for text in [named, unnamed] {
        assert_eq!(frame::decode_any::<Live>(text.as_bytes()), Ok(live()));
        let both = text.replace(r#""quality""#, r#""no_data":"stale","quality""#);
        assert!(frame::decode_any::<Live>(both.as_bytes()).is_err(), "{both}");
    }
}

#[test]
fn a_live_value_that_is_no_number_is_told_as_no_data() {
    let value = |value, u| LiveValue { channel: 0, t_ns: 1, value: Ok((value, u, Quality::Good)) };
    let values = vec![value(f64::NAN, 1.0), value(f64::INFINITY, 1.0), value(1.0, f32::NAN)];
    let text = json::live_to_json(&Live { values, ..live() }, None).expect("JSON");
    let back = frame::decode_any::<Live>(text.as_bytes()).expect("own text").values;
    assert_eq!([back[0].value, back[1].value], [Err(NoData::OutOfRange); 2]);
    assert!(matches!(back[2].value, Ok((1.0, u, Quality::Good)) if u.is_nan()));
}

fn sealed(body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![frame::VERSION];
    bytes.extend(body);
    bytes.extend(frame::crc32c(&bytes).to_le_bytes());
    bytes
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..300), text in ".{0,200}") {
        let sealed = sealed(&bytes);
        let _ = (frame::decode::<Batch>(&bytes), frame::decode::<Batch>(&sealed));
        let _ = (frame::decode::<Manifest>(&sealed), frame::decode::<Live>(&sealed), record::decode(&bytes));
        let _ = frame::decode_any::<Manifest>(text.as_bytes());
        let _ = speedwell_wire::json::batch_from_json(&text, |_| None);
        let _ = topic::parse("a", &text);
    }
}
