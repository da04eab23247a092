use std::time::Duration;

use speedwell_wire::{EventKind, NoData, Quality, Quantity, Record, block};

use super::{MAX_SAMPLES, Recorder, Source};
use crate::{
    clock::BootNs,
    sensor::{ChannelSpec, Reading, Value},
};

const SECOND: u64 = 1_000_000_000;

fn sources(n: usize) -> Vec<Source> {
    let spec =
        ChannelSpec { quantity: Quantity::Speed, resolution_nano: 1_000_000, period: Duration::from_millis(100) };
    (0..n).map(|i| Source { name: format!("wheel-{i}"), channels: vec![spec], calibration: 0 }).collect()
}

fn reading(t_ns: u64, value: f64) -> Reading {
    let value = Value { value, uncertainty: 0.002, quality: Quality::Good };
    Reading { channel: 0, t: BootNs(t_ns), value: Ok(value) }
}

fn silence(t_ns: u64, reason: NoData) -> Reading {
    Reading { channel: 0, t: BootNs(t_ns), value: Err(reason) }
}

fn columns(record: &Record) -> Vec<block::Column> {
    let Record::Samples(samples) = record else { panic!("{record:?} is not samples") };
    block::decode(&samples.block).expect("own block")
}

#[test]
fn a_second_of_readings_becomes_one_record_with_the_values_in_millimetres() {
    let mut recorder = Recorder::new(&sources(2), 7, BootNs(0));
    for i in 0..10 {
        let t = i * SECOND / 10;
        recorder.take(0, &reading(t, 12.3456), BootNs(t));
        recorder.take(1, &reading(t, 0.0), BootNs(t));
        assert!(recorder.due(BootNs(t), false).is_empty());
    }
    let records = recorder.due(BootNs(SECOND), false);
    assert_eq!(records.len(), 1);
    let columns = columns(&records[0]);
    assert_eq!(columns.len(), 2);
    assert_eq!(columns[0].samples.len(), 10);
    assert_eq!(columns[0].samples[3].value, 12_346);
    assert_eq!(columns[0].samples[3].tick, 3000);
    assert!(recorder.due(BootNs(5 * SECOND), true).is_empty(), "nothing is told twice");
}

#[test]
fn a_reading_that_is_not_later_than_the_last_is_dropped() {
    let mut recorder = Recorder::new(&sources(1), 1, BootNs(0));
    for t in [500, 500, 400] {
        recorder.take(0, &reading(t * 1_000_000, 1.0), BootNs(SECOND));
    }
    assert_eq!(columns(&recorder.due(BootNs(SECOND), true)[0])[0].samples.len(), 1);
}

#[test]
fn no_value_becomes_an_event_once_and_the_recovery_another() {
    let mut recorder = Recorder::new(&sources(1), 1, BootNs(0));
    recorder.take(0, &reading(SECOND, 1.0), BootNs(SECOND));
    for i in 2..10 {
        recorder.take(0, &silence(i * SECOND, NoData::Stale), BootNs(i * SECOND));
    }
    recorder.take(0, &reading(10 * SECOND, 1.0), BootNs(10 * SECOND));
    let kinds: Vec<_> = recorder
        .due(BootNs(10 * SECOND), true)
        .into_iter()
        .filter_map(|record| match record {
            Record::Event(event) => Some((event.kind, event.t_ns)),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, [(EventKind::SensorFault, 2 * SECOND), (EventKind::SensorRecovered, 10 * SECOND)]);
}

#[test]
fn a_flapping_sensor_is_told_at_most_every_five_seconds() {
    let mut recorder = Recorder::new(&sources(1), 1, BootNs(0));
    for i in 0..600 {
        let t = i * SECOND / 10;
        let reading = if i % 2 == 0 { silence(t, NoData::NoFix) } else { reading(t, 1.0) };
        recorder.take(0, &reading, BootNs(t));
    }
    let events = recorder.due(BootNs(60 * SECOND), true).into_iter().filter(|r| matches!(r, Record::Event(_))).count();
    assert!(events <= 13, "{events} events in a minute");
}

#[test]
fn more_samples_than_a_record_takes_are_counted_as_lost() {
    let mut recorder = Recorder::new(&sources(1), 1, BootNs(0));
    for i in 0..MAX_SAMPLES as u64 + 5 {
        recorder.take(0, &reading(i * 200_000, 1.0), BootNs(0));
    }
    let losses: Vec<_> = recorder
        .due(BootNs(0), true)
        .into_iter()
        .filter_map(|record| match record {
            Record::Loss(loss) => Some(loss.samples),
            _ => None,
        })
        .collect();
    assert_eq!(losses, [5]);
}

#[test]
fn a_record_too_wild_for_one_block_is_split_and_loses_nothing() {
    let mut recorder = Recorder::new(&sources(3), 1, BootNs(0));
    let mut random = fastrand::Rng::with_seed(1);
    let mut t = 0;
    for _ in 0..600 {
        t += random.u64(1_000_000..1_000_000_000_000);
        for sensor in 0..3 {
            recorder.take(sensor, &reading(t, random.f64() * 1e15), BootNs(0));
        }
    }
    let before = recorder.gathered;
    let records = recorder.due(BootNs(0), true);
    assert!(records.len() > 1);
    let blocks = records.iter().filter(|record| matches!(record, Record::Samples(_)));
    let after: usize = blocks.map(|record| columns(record).iter().map(|c| c.samples.len()).sum::<usize>()).sum();
    assert_eq!(before, after);
}

#[test]
fn a_fault_shows_at_once_in_the_live_values() {
    let mut recorder = Recorder::new(&sources(2), 1, BootNs(0));
    recorder.take(0, &reading(SECOND, 3.0), BootNs(SECOND));
    recorder.fault(0, "no such pin", BootNs(2 * SECOND));
    let live = recorder.live(BootNs(2 * SECOND));
    assert_eq!(live.values[0].value, Err(NoData::Fault));
    assert_eq!(live.values[1].value, Err(NoData::Silent));
    let (name, trouble) = recorder.troubles().next().expect("two sensors");
    assert_eq!((name, trouble.expect("a fault").detail.as_str()), ("wheel-0", "no such pin"));
}

#[test]
fn what_a_sensor_says_of_its_own_trouble_stands_in_the_place_of_what_the_reason_means() {
    let mut recorder = Recorder::new(&sources(1), 7, BootNs(0));
    let detail = |recorder: &Recorder| recorder.troubles().next().unwrap().1.unwrap().detail.clone();
    recorder.explain(0, Some("the vehicle refuses PID 0D".into()));
    recorder.take(0, &silence(SECOND, NoData::NotAvailable), BootNs(SECOND));
    assert_eq!(detail(&recorder), "the vehicle refuses PID 0D");
    let records = recorder.due(BootNs(SECOND), true);
    assert!(matches!(&records[0], Record::Event(event) if event.detail == "the vehicle refuses PID 0D"), "{records:?}");
    recorder.explain(0, None);
    recorder.take(0, &silence(2 * SECOND, NoData::NotAvailable), BootNs(2 * SECOND));
    assert_eq!(detail(&recorder), "the sending unit says it has no value");
}

#[test]
fn other_sensors_take_nothing_of_what_has_gathered_and_those_that_stay_go_on_where_they_were() {
    let mut recorder = Recorder::new(&sources(2), 1, BootNs(0));
    let old = recorder.manifest().hash();
    recorder.take(0, &reading(SECOND, 3.0), BootNs(SECOND));
    recorder.take(1, &reading(SECOND, 4.0), BootNs(SECOND));
    recorder.fault(1, "unplugged", BootNs(SECOND));
    // The second stands first from now on, and a third comes.
    let mut changed = sources(3);
    changed.remove(0);
    let gathered = recorder.change(&changed, BootNs(SECOND));
    let Some(Record::Samples(samples)) = gathered.last() else { panic!("{gathered:?}") };
    assert_eq!((samples.manifest, columns(gathered.last().unwrap()).len()), (old, 2));
    let troubles: Vec<_> = recorder.troubles().map(|(name, trouble)| (name.to_owned(), trouble.is_some())).collect();
    assert_eq!(troubles, [("wheel-1".to_owned(), true), ("wheel-2".to_owned(), false)]);
    // What it has said before does not come twice, under whatever number.
    recorder.take(0, &reading(SECOND, 4.0), BootNs(2 * SECOND));
    recorder.take(0, &reading(SECOND * 11 / 10, 5.0), BootNs(2 * SECOND));
    let after = recorder.due(BootNs(2 * SECOND), true);
    let Some(Record::Samples(samples)) = after.last() else { panic!("{after:?}") };
    assert_ne!(samples.manifest, old);
    assert_eq!(columns(after.last().unwrap())[0].samples.iter().map(|s| s.value).collect::<Vec<_>>(), [5000]);
}
