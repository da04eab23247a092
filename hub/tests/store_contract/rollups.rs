//! That both databases and a plain model answer alike, whatever comes in whatever order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use proptest::prelude::*;
use speedwell_hub::store::{
    Bucket, ClockMap, Done, HistoryQuery, Level, MAX_BRIDGE_NS, Read, Reading, Readings, RollupQuery, Store, Work,
};
use speedwell_wire::{
    Batch, ClockFix, ClockSource, GatewayId, LogId, Manifest, Quality, Quantity, Record, Samples, Seq, block,
};

use crate::{Database, rig::*, work};

const S: i64 = 1_000_000_000;
/// Later than anything arrives here by more than what a mark waits.
const LATER_NS: i64 = 3600 * S;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// Records of a gateway's log, beginning so far from where it should.
    Records { gateway: usize, log: u64, off: i64, records: Vec<Kind> },
    /// Readings of a device: when, and how much.
    Readings { gateway: usize, items: Vec<(i64, i16)> },
    /// So many bounded pieces of summing up.
    Tend(usize),
}

#[derive(Clone, Debug)]
enum Kind {
    /// Samples of a boot, from this second on, this far apart in ms.
    Samples { boot: u32, at_s: u64, apart_ms: u64, values: Vec<i16> },
    /// A boot's clock.
    Fix { boot: u32, at_s: u64, utc_s: i64, trusted: bool },
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => (1u32..3, 0u64..7300, 1u64..90_000, prop::collection::vec(any::<i16>(), 1..6))
            .prop_map(|(boot, at_s, apart_ms, values)| Kind::Samples { boot, at_s, apart_ms, values }),
        1 => (1u32..3, 0u64..7300, 0i64..9000, any::<bool>())
            .prop_map(|(boot, at_s, utc_s, trusted)| Kind::Fix { boot, at_s, utc_s, trusted }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..2, 0u64..2, -2i64..2, prop::collection::vec(kind(), 1..5))
            .prop_map(|(gateway, log, off, records)| Step::Records { gateway, log, off, records }),
        2 => (0usize..2, prop::collection::vec((0i64..9000 * 4, any::<i16>()), 1..6))
            .prop_map(|(gateway, items)| Step::Readings { gateway, items }),
        2 => (1usize..4).prop_map(Step::Tend),
    ]
}

/// Everything, in the plainest way there is.
#[derive(Default)]
struct Model {
    thru: BTreeMap<(GatewayId, u64), Seq>,
    fixes: BTreeMap<(GatewayId, u64, u32), Vec<ClockFix>>,
    /// Boot times in ns and values.
    samples: BTreeMap<(GatewayId, u64, u32), Vec<(u64, f64)>>,
    readings: BTreeMap<(GatewayId, i64), f64>,
}

impl Model {
    /// Time, value, and whether nobody vouches for the time; in order.
    fn points(&self, gateway: &GatewayId) -> Vec<(i64, f64, bool)> {
        let mut all: Vec<_> = self
            .readings
            .iter()
            .filter(|((g, _), _)| g == gateway)
            .map(|((_, utc_ns), value)| (*utc_ns, *value, false))
            .collect();
        for (key, samples) in self.samples.iter().filter(|((g, ..), _)| g == gateway) {
            let clock = ClockMap::new(self.fixes.get(key).cloned().unwrap_or_default());
            for (t_ns, value) in samples {
                let utc = clock.utc(*t_ns);
                all.extend(utc.map(|(utc, source)| (utc, *value, source == ClockSource::Untrusted)));
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        all
    }

    fn buckets(&self, gateway: &GatewayId, level: Level) -> Vec<Bucket> {
        let mut all: BTreeMap<i64, Vec<(i64, f64, bool)>> = BTreeMap::new();
        for point in self.points(gateway) {
            all.entry(point.0.div_euclid(level.ns()) * level.ns()).or_default().push(point);
        }
        let bucket = |(start_ns, points): (i64, Vec<(i64, f64, bool)>)| {
            let values = || points.iter().map(|p| p.1);
            let lines = points.windows(2).filter(|w| w[1].0 - w[0].0 <= MAX_BRIDGE_NS);
            let area = |w: &[(i64, f64, bool)]| (w[0].1 + w[1].1) / 2.0 * ((w[1].0 - w[0].0) as f64 / 1e9);
            let at = |p: &(i64, f64, bool)| (p.0, p.1);
            Bucket {
                start_ns,
                count: points.len() as u64,
                untrusted: points.iter().filter(|p| p.2).count() as u64,
                min: values().fold(f64::INFINITY, f64::min),
                max: values().fold(f64::NEG_INFINITY, f64::max),
                sum: values().sum(),
                first: at(&points[0]),
                last: at(&points[points.len() - 1]),
                area: lines.clone().map(area).sum(),
                bridged_ns: lines.map(|w| w[1].0 - w[0].0).sum(),
                worst: Some(Quality::Good),
            }
        };
        all.into_iter().map(bucket).collect()
    }
}

/// The same but for the order in which numbers were added.
fn alike(a: &[Bucket], b: &[Bucket]) -> bool {
    let near = |x: f64, y: f64| (x - y).abs() <= 1e-9 * (1.0 + x.abs().max(y.abs())) * 1e3;
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| near(a.sum, b.sum) && near(a.area, b.area) && Bucket { sum: a.sum, area: a.area, ..*b } == *a)
}

fn everything(gateway: &GatewayId) -> HistoryQuery {
    HistoryQuery {
        gateway: gateway.clone(),
        sensor: "front-wheel".into(),
        quantity: Quantity::Speed,
        from_ns: BOOT_UTC_NS - 1_000_000 * S,
        to_ns: BOOT_UTC_NS + 1_000_000 * S,
        limit: 100_000,
    }
}

fn summed(reader: &dyn Read, gateway: &GatewayId, level: Level, limit: usize) -> Vec<Bucket> {
    let HistoryQuery { sensor, quantity, from_ns, to_ns, .. } = everything(gateway);
    let bucket_s = level.seconds();
    let mut query = RollupQuery { gateway: gateway.clone(), sensor, quantity, bucket_s, from_ns, to_ns, limit };
    let mut all = Vec::new();
    loop {
        let found = reader.rollup(&query).unwrap();
        assert!(found.buckets.len() <= limit && !found.circular);
        all.extend(found.buckets);
        let Some(next) = found.next_ns else { return all };
        assert!(next > query.from_ns);
        query.from_ns = next;
    }
}

fn record(kind: &Kind) -> Record {
    match kind {
        Kind::Fix { boot, at_s, utc_s, trusted } => Record::Clock(ClockFix {
            boot: *boot,
            boot_ns: at_s * S as u64,
            utc_ns: BOOT_UTC_NS + utc_s * S + 250,
            uncertainty_ns: 0,
            rate_ppb: 20_000,
            source: if *trusted { ClockSource::Ntp } else { ClockSource::Untrusted },
        }),
        Kind::Samples { boot, at_s, apart_ms, values } => {
            let sample = |(i, value): (usize, &i16)| block::Sample {
                tick: at_s * 10_000 + i as u64 * apart_ms * 10,
                value: (*value).into(),
                uncertainty: block::Uncertainty::of(0.02, 0.001),
                quality: Quality::Good,
            };
            let samples = values.iter().enumerate().map(sample).collect();
            let block = block::encode(&[block::Column { channel: 1, samples }], &manifest());
            Record::Samples(Samples { manifest: manifest().hash(), boot: *boot, block })
        }
    }
}

type Stores = [Box<dyn Store>; 2];

/// One of each kind, for all cases: each case has gateways of its own.
fn stores() -> &'static Mutex<Stores> {
    static STORES: OnceLock<Mutex<Stores>> = OnceLock::new();
    static PLACES: OnceLock<[Database; 2]> = OnceLock::new();
    STORES.get_or_init(|| {
        let places = PLACES.get_or_init(|| [Database::sqlite(), Database::postgres()]);
        Mutex::new([places[0].open(), places[1].open()])
    })
}

fn both(stores: &mut Stores, work: &[Work]) -> Vec<Done> {
    let [sqlite, postgres] = stores;
    let (a, b) = (sqlite.commit(work).unwrap(), postgres.commit(work).unwrap());
    assert_eq!(a, b, "SQLite and PostgreSQL made something else of {work:?}");
    a
}

fn take(stores: &mut Stores, model: &mut Model, gateways: &[GatewayId], step: &Step) {
    match step {
        Step::Tend(pieces) => {
            for store in stores {
                (0..*pieces).for_each(|_| _ = store.tend(LATER_NS).unwrap());
            }
        }
        Step::Readings { gateway, items } => {
            let device = &gateways[*gateway];
            let reading = |(quarter, value): &(i64, i16)| Reading {
                device: device.clone(),
                sensor: "front-wheel".into(),
                quantity: Quantity::Speed,
                utc_ns: BOOT_UTC_NS + quarter * S / 4,
                value: (*value).into(),
                uncertainty: None,
                quality: Quality::Good,
            };
            let items: Vec<Reading> = items.iter().map(reading).collect();
            let mut stored = 0;
            for item in &items {
                model.readings.entry((device.clone(), item.utc_ns)).or_insert_with(|| {
                    stored += 1;
                    item.value
                });
            }
            let given = Readings { source: "x".into(), key: None, digest: [0; 32], received_ns: 1, items };
            let done = both(stores, &[Work::Readings(given)]);
            assert!(matches!(&done[..], [Done::Readings(done)] if done.stored == stored));
        }
        Step::Records { gateway, log, off, records } => {
            let gateway = &gateways[*gateway];
            let thru = model.thru.entry((gateway.clone(), *log)).or_default();
            let first = thru.saturating_add(1).saturating_add_signed(*off).max(1);
            let (entries, kinds): (Vec<Record>, &Vec<Kind>) = (records.iter().map(record).collect(), records);
            let all = Batch { log: LogId(*log + 1), ..batch(gateway.as_str(), first, entries) };
            for (seq, kind) in (first..).zip(kinds) {
                if seq != *thru + 1 {
                    continue;
                }
                *thru = seq;
                match (kind, record(kind)) {
                    (Kind::Fix { boot, .. }, Record::Clock(fix)) => {
                        model.fixes.entry((gateway.clone(), *log, *boot)).or_default().push(fix);
                    }
                    (Kind::Samples { boot, at_s, apart_ms, values }, _) => {
                        let samples = model.samples.entry((gateway.clone(), *log, *boot)).or_default();
                        let at = |i: usize| (at_s * 1000 + i as u64 * apart_ms) * 1_000_000;
                        let value = |v: &i16| manifest().channels[0].value((*v).into());
                        samples.extend(values.iter().enumerate().map(|(i, v)| (at(i), value(v))));
                    }
                    _ => unreachable!(),
                }
            }
            let done = both(stores, &[Work::Manifest(Arc::new(manifest())), work(&all)]);
            assert!(matches!(&done[1], Done::Batch(done) if done.thru == *thru));
        }
    }
}

fn compare(stores: &Stores, model: &Model, gateways: &[GatewayId]) {
    for (name, store) in ["SQLite", "PostgreSQL"].iter().zip(stores) {
        let reader = store.reader();
        for gateway in gateways {
            let told = reader.history(&everything(gateway)).unwrap();
            let told: Vec<(i64, f64)> = told.points.iter().map(|p| (p.utc_ns, p.value)).collect();
            let wanted: Vec<(i64, f64)> = model.points(gateway).iter().map(|p| (p.0, p.1)).collect();
            assert_eq!(told, wanted, "{name}: history");
            for level in [Level::Second, Level::Minute, Level::Hour] {
                let wanted = model.buckets(gateway, level);
                for limit in [100_000, 7] {
                    let told = summed(&*reader, gateway, level, limit);
                    assert!(
                        alike(&told, &wanted),
                        "{name}: {level:?}, {limit} at a time:\n{told:#?}\nwanted\n{wanted:#?}"
                    );
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    fn whatever_comes_in_whatever_order_both_databases_and_a_plain_model_give_the_same_answers(
        steps in prop::collection::vec(step(), 1..14)
    ) {
        static CASE: AtomicU32 = AtomicU32::new(0);
        let case = CASE.fetch_add(1, Ordering::Relaxed);
        let gateways = [id(&format!("a-{case}")), id(&format!("b-{case}"))];
        let mut stores = stores().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut model = Model::default();
        for step in &steps {
            take(&mut stores, &mut model, &gateways, step);
        }
        // Behind as it is, and when it has caught up.
        compare(&stores, &model, &gateways);
        for store in &mut *stores {
            while store.tend(LATER_NS).unwrap() {}
        }
        compare(&stores, &model, &gateways);
    }
}

pub fn a_day_by_the_minute_is_answered_from_what_is_kept_and_late_data_is_in_the_next_answer(on: &Database) {
    let mut store = on.open();
    crate::commit(&mut store, &batch("truck-7", 1, [fix(), second(2), second(3), second(70)]));
    while store.tend(LATER_NS).unwrap() {}
    let reader = store.reader();
    let before = summed(&*reader, &id("truck-7"), Level::Minute, 100);
    assert_eq!(before.iter().map(|b| b.count).collect::<Vec<_>>(), [20, 10]);
    assert_eq!((before[0].min, before[0].max, before[0].last.1), (2.0, 3.009, 3.009));
    assert!((before[0].mean() - 2.5045).abs() < 1e-9 && (before[0].weighted_mean() - 2.5045).abs() < 1e-9);
    // What is kept is what is told: changed behind the hub's back, it is told changed.
    on.sql("UPDATE rollups SET max = 99 WHERE level = 60", "UPDATE rollups SET max = 99 WHERE level = 60");
    assert_eq!(summed(&*reader, &id("truck-7"), Level::Minute, 100)[0].max, 99.0);
    crate::commit(&mut store, &batch("truck-7", 5, [second(4)]));
    let after = summed(&*reader, &id("truck-7"), Level::Minute, 100);
    assert_eq!((after[0].count, after[0].max, after[1].max), (30, 4.009, 99.0), "late data is told before it is kept");
    while store.tend(LATER_NS).unwrap() {}
    assert_eq!(summed(&*reader, &id("truck-7"), Level::Minute, 100)[0], after[0]);
    assert_eq!(summed(&*reader, &id("truck-7"), Level::Hour, 100)[0].count, 40);
}

pub fn what_is_older_than_it_is_to_be_kept_is_dropped_from_history_counts_and_rollups(on: &Database) {
    const DAY: i64 = 24 * 3600 * S;
    let mut store = on.keeping(3);
    let mut decoder = speedwell_hub::ingest::decode::Decoder::new(PREFIX, vec![manifest()]);
    let mut arrives = |batch: &Batch, at: i64| {
        let topic = format!("{PREFIX}/{}/log", batch.gateway);
        let speedwell_hub::ingest::decode::Message::Store { work, .. } =
            decoder.read(&topic, &speedwell_wire::frame::encode(batch), at)
        else {
            panic!()
        };
        store.commit(&[Work::Manifest(Arc::new(manifest())), work]).unwrap();
    };
    let today = BOOT_UTC_NS + 10 * DAY;
    arrives(&batch("truck-7", 1, [fix(), second(2), second(3)]), today - 5 * DAY);
    arrives(&batch("truck-7", 4, [second(4)]), today);
    let old = crate::reading("bike", 0, 1.5);
    let items = vec![Reading { utc_ns: today, ..old.clone() }, Reading { utc_ns: 5, ..old.clone() }, old];
    let given = Readings { source: "x".into(), key: None, digest: [0; 32], received_ns: today, items };
    store.commit(&[Work::Readings(given)]).unwrap();
    let reader = store.reader();
    let held = |reader: &dyn Read| {
        let counts = reader.counts().unwrap();
        (counts.chunks, counts.samples, counts.readings)
    };
    assert_eq!(held(&*reader), (3, 30, 3));
    while store.tend(today + 10 * S).unwrap() {}
    assert_eq!(held(&*reader), (1, 10, 1));
    let points = reader.history(&everything(&id("truck-7"))).unwrap().points;
    assert_eq!((points.len(), points[0].value), (10, 4.0));
    let summed = summed(&*reader, &id("truck-7"), Level::Minute, 100);
    assert_eq!((summed.len(), summed[0].count, summed[0].min), (1, 10, 4.0));
    assert_eq!(reader.ledgers().unwrap()[0].thru, 4, "what is dropped was stored, and is not asked for again");
    let left: BTreeSet<i64> = reader.latest().unwrap().iter().filter_map(|l| l.utc_ns).collect();
    assert!(left.contains(&today) && !left.contains(&5), "{left:?}");
}

pub fn values_that_cannot_be_added_any_more_hold_nobody_s_sums_up(on: &Database) {
    let mut store = on.open();
    let large = [1.7e308, 1.7e308, -1.7e308, -1.7e308];
    let items: Vec<Reading> = (0..).zip(large).map(|(s, value)| crate::reading("absurd", s, value)).collect();
    let other = crate::reading("bike", 0, 3.0);
    for items in [items, vec![other]] {
        let given = Readings { source: "x".into(), key: None, digest: [0; 32], received_ns: BOOT_UTC_NS, items };
        store.commit(&[Work::Readings(given)]).unwrap();
    }
    let reader = store.reader();
    let told = || ["absurd", "bike"].map(|name| summed(&*reader, &id(name), Level::Minute, 9));
    let before = told();
    while store.tend(LATER_NS).unwrap() {}
    assert_eq!(told(), before, "what is kept is what the samples give");
    let [absurd, bike] = before.map(|buckets| buckets[0]);
    assert!(absurd.mean().is_finite() && absurd.weighted_mean().is_finite(), "{absurd:?}");
    assert_eq!((absurd.count, absurd.min, absurd.max, bike.sum), (4, -1.7e308, 1.7e308, 3.0));
}

pub fn a_record_that_was_damaged_holds_nobody_else_s_sums_up(on: &Database) {
    let mut store = on.open();
    crate::commit(&mut store, &batch("truck-7", 1, [fix(), second(2)]));
    on.sql("UPDATE chunks SET block = x'ff'", "UPDATE chunks SET block = '\\xff'");
    crate::commit(&mut store, &batch("truck-8", 1, [fix(), second(3)]));
    while store.tend(LATER_NS).unwrap() {}
    let reader = store.reader();
    on.sql("UPDATE rollups SET max = 99", "UPDATE rollups SET max = 99");
    assert_eq!(summed(&*reader, &id("truck-8"), Level::Minute, 9)[0].max, 99.0, "these are kept");
    let history = HistoryQuery { limit: 9, ..everything(&id("truck-7")) };
    assert!(reader.history(&history).unwrap_err().to_string().contains("a block that is none"));
}

pub fn names_that_a_database_cannot_tell_apart_hold_nobody_s_sums_up(on: &Database) {
    let mut store = on.open();
    // To PostgreSQL, which has no zero byte, they are one.
    let names = ["a\0", "a\u{fffd}"];
    let channels = (1..).zip(names).map(|(n, name)| channel(n, name, Quantity::Speed)).collect();
    let manifest = Manifest { channels };
    let sample = block::Sample { tick: 5, value: 7, uncertainty: block::Uncertainty::UNKNOWN, quality: Quality::Good };
    let column = |n| block::Column { channel: n, samples: vec![sample] };
    let block = block::encode(&[column(1), column(2)], &manifest);
    let record = Record::Samples(Samples { manifest: manifest.hash(), boot: 1, block });
    let odd = crate::work_with(&batch("truck-7", 1, [fix(), record]), &manifest);
    store.commit(&[Work::Manifest(Arc::new(manifest)), odd]).unwrap();
    while store.tend(LATER_NS).unwrap() {}
    crate::commit(&mut store, &batch("truck-8", 1, [fix(), second(3)]));
    while store.tend(LATER_NS).unwrap() {}
    on.sql("UPDATE rollups SET max = 99", "UPDATE rollups SET max = 99");
    assert_eq!(summed(&*store.reader(), &id("truck-8"), Level::Minute, 9)[0].max, 99.0, "these are kept");
}
