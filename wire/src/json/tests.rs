use alloc::{string::ToString, vec, vec::Vec};

use super::*;
use crate::{
    Channel, ClockFix, ClockSource, Event, EventKind, Loss, LossReason, Quality, Quantity, Record, Samples,
    block::{self, Column, Sample, Uncertainty},
};

fn manifest() -> Manifest {
    let channel = |id, quantity, resolution_nano| Channel {
        id,
        sensor: "front-wheel".to_string(),
        quantity,
        resolution_nano,
        tick_ns: 100_000,
        period_ns: 100_000_000,
        calibration: 0,
    };
    Manifest {
        channels: vec![
            channel(0, Quantity::Speed, 1_000_000),
            channel(1, Quantity::Latitude, 100),
            channel(4, Quantity::Count, 3),
        ],
    }
}

fn samples(columns: &[Column], manifest: &Manifest) -> Record {
    Record::Samples(Samples { manifest: manifest.hash(), boot: 3, block: block::encode(columns, manifest) })
}

fn batch(records: Vec<Record>) -> Batch {
    let entries = records.into_iter().map(|record| Entry { span: 1, record }).collect();
    let gateway = GatewayId::new("truck-7").expect("a good name");
    Batch { gateway, log: LogId(0x0123_4567_89ab_cdef), oldest_seq: 1, first_seq: 5, entries }
}

fn column(channel: u16, values: &[i64]) -> Column {
    let sample = |(i, &value): (usize, &i64)| Sample {
        tick: 601_000 + 1000 * i as u64,
        value,
        uncertainty: Uncertainty(42),
        quality: Quality::Good,
    };
    Column { channel, samples: values.iter().enumerate().map(sample).collect() }
}

#[track_caller]
fn comes_back(batch: &Batch, manifest: &Manifest) {
    for known in [Some(manifest), None] {
        let text = batch_to_json(batch, |_| known, |_, t| Some(t as i64)).expect("good blocks");
        let back = batch_from_json(&text, |_| known).expect("own text");
        assert_eq!(columns_of(&back), columns_of(batch), "{text}");
        if known.is_some() {
            assert_eq!(&back, batch, "{text}");
        }
    }
}

fn columns_of(batch: &Batch) -> Vec<Result<Vec<Column>, Record>> {
    let columns = batch.entries.iter().map(|entry| match &entry.record {
        Record::Samples(samples) => Ok(block::decode(&samples.block).expect("good block")),
        other => Err(other.clone()),
    });
    columns.collect()
}

#[test]
fn a_person_reads_names_units_and_times() {
    let manifest = manifest();
    let batch = batch(vec![samples(&[column(0, &[12_346, 12_000])], &manifest)]);
    let utc = |_, t: u64| Some(1_767_225_600_000_000_000 + t as i64);
    let text = batch_to_json(&batch, |_| Some(&manifest), utc).expect("good block");
    let hash = manifest.hash();
    let expected = alloc::format!(
        r#"{{"gateway":"truck-7","log":"0123456789abcdef","oldest_seq":1,"first_seq":5,"entries":[{{"span":1,"samples":{{"manifest":"{hash}","boot":3,"channels":[{{"channel":0,"sensor":"front-wheel","quantity":"speed","unit":"m/s","time":["2026-01-01T00:01:00.1Z","2026-01-01T00:01:00.2Z"],"boot_s":[60.1,60.2],"value":[12.346,12.0],"uncertainty":0.004756828460010884,"quality":"good"}}]}}}}]}}"#
    );
    assert_eq!(text, expected);
}

#[test]
fn without_utc_the_time_is_null_and_without_manifest_there_are_integers() {
    let manifest = manifest();
    let batch = batch(vec![samples(&[column(0, &[12_346])], &manifest)]);
    let text = batch_to_json(&batch, |_| Some(&manifest), |_, _| None).expect("good block");
    assert!(text.contains(r#""time":null,"boot_s":[60.1],"value":[12.346]"#), "{text}");
    let text = batch_to_json(&batch, |_| None, |_, _| None).expect("good block");
    assert!(text.contains(r#""channel":0,"time":null,"ticks":[601000],"steps":[12346]"#), "{text}");
}

#[test]
fn samples_come_back_whatever_their_size() {
    let manifest = manifest();
    let mut mixed = column(1, &[i64::MIN, -1, 0, i64::MAX]);
    mixed.samples[1].tick = u64::MAX;
    mixed.samples[2].quality = Quality::Stopped;
    mixed.samples[3].uncertainty = Uncertainty::UNKNOWN;
    let large = column(4, &[(1 << 50) - 1, -(1 << 50) + 1, 7, 333_333_333_333]);
    let beyond = column(0, &[(1 << 53) + 1, -(1 << 53) - 1, (1 << 61) + 3]);
    comes_back(&batch(vec![samples(&[column(0, &[1, -2, 3]), mixed, large, beyond], &manifest)]), &manifest);
}

#[test]
fn every_uncertainty_comes_back() {
    let manifest = manifest();
    let mut column = column(1, &[0; 256]);
    for (code, sample) in column.samples.iter_mut().enumerate() {
        sample.uncertainty = Uncertainty(code as u8);
    }
    comes_back(&batch(vec![samples(&[column], &manifest)]), &manifest);
}

#[test]
fn events_clocks_and_losses_come_back() {
    let event = Event {
        boot: 1,
        t_ns: u64::MAX,
        sensor: Some("gnss".to_string()),
        kind: EventKind::SensorFault,
        detail: "quote \" and \u{0} and ü".to_string(),
    };
    let fix = ClockFix {
        boot: 2,
        boot_ns: 9_007_199_254_740_993,
        utc_ns: i64::MIN,
        uncertainty_ns: u64::MAX,
        rate_ppb: i32::MIN,
        source: ClockSource::Gnss,
    };
    let loss =
        Loss { reason: LossReason::Damaged, records: 3, samples: 600, from: Some((1, 2)), until: Some((3, u64::MAX)) };
    let unknown = Loss { from: None, until: None, ..loss.clone() };
    let plain = Event { sensor: None, ..event.clone() };
    let records =
        vec![Record::Event(event), Record::Event(plain), Record::Clock(fix), Record::Loss(loss), Record::Loss(unknown)];
    comes_back(&batch(records), &manifest());
}

#[test]
fn json_that_is_no_batch_is_refused_with_its_place() {
    let none = |_| None;
    assert_eq!(batch_from_json("{\n\"gateway\": 1}", none), Err(JsonError::Syntax { line: 2, column: 12 }));
    let head = r#"{"gateway":"a","log":"00","oldest_seq":1,"first_seq":1,"entries":"#;
    let parse = |rest: &str| batch_from_json(&alloc::format!("{head}{rest}}}"), none);
    assert_eq!(parse(r#"[{"span":1}]"#), Err(JsonError::Entry(0)));
    let column = |fields: &str| {
        parse(&alloc::format!(
            r#"[{{"span":1,"samples":{{"manifest":"01","boot":1,"channels":[{{"channel":5,{fields}}}]}}}}]"#
        ))
    };
    let rest = r#""uncertainty":null,"quality":"good""#;
    assert_eq!(column(&alloc::format!(r#""ticks":[1],"steps":[1,2],{rest}"#)), Err(JsonError::Lengths(5)));
    assert_eq!(column(&alloc::format!(r#""ticks":[1],{rest}"#)), Err(JsonError::Lengths(5)));
    assert_eq!(
        column(&alloc::format!(r#""ticks":[1],"value":[1.5],{rest}"#)),
        Err(JsonError::Manifest(ManifestHash([0, 0, 0, 0, 0, 0, 0, 1])))
    );
}
