//! What is asked of a store besides a channel's history: pages of many channels, drawings, channels, what is missing, what
//! happened, places.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use speedwell_hub::store::{
    ChannelsQuery, DrawQuery, Lack, Level, Made, Mark, PlacesQuery, Read, Reading, Readings, RollupQuery, Samples,
    SamplesQuery, Store, ToldQuery, What, Work,
};
use speedwell_wire::{
    Batch, ClockFix, ClockSource, Event, EventKind, LogId, Loss, LossReason, Manifest, Quality, Quantity, Record, block,
};

use crate::{Database, commit, rig::*};

const S: i64 = 1_000_000_000;
/// Later than anything arrives here by more than what a mark waits.
const LATER_NS: i64 = 3600 * S;

fn at(s: i64) -> i64 {
    BOOT_UTC_NS + s * S
}

/// At the full second.
fn reading(device: &str, second: i64, value: f64) -> Reading {
    Reading { utc_ns: at(second), ..crate::reading(device, second, value) }
}

fn all(gateway: &str) -> SamplesQuery {
    let (sensors, quantities) = (Vec::new(), Vec::new());
    SamplesQuery {
        gateway: id(gateway),
        sensors,
        quantities,
        from_ns: i64::MIN,
        to_ns: i64::MAX,
        skip: 0,
        limit: 100_000,
    }
}

/// Time, sensor and value of all, a page at a time.
fn paged(reader: &dyn Read, mut query: SamplesQuery) -> Vec<(i64, String, u64)> {
    let mut found = Vec::new();
    loop {
        let page = reader.samples(&query).unwrap();
        assert!(page.samples.len() <= query.limit);
        found.extend(told(&page));
        let Some((from_ns, skip)) = page.next else { return found };
        assert!((from_ns, skip) > (query.from_ns, query.skip), "it gets on");
        (query.from_ns, query.skip) = (from_ns, skip);
    }
}

fn told(page: &Samples) -> Vec<(i64, String, u64)> {
    let one = |s: &speedwell_hub::store::Sample| {
        let (sensor, quantity) = &page.channels[s.channel as usize];
        (s.point.utc_ns, format!("{sensor}/{}", quantity.name()), s.point.value.to_bits())
    };
    page.samples.iter().map(one).collect()
}

fn give(store: &mut Box<dyn Store>, items: Vec<Reading>) {
    let given = Readings { source: "x".into(), key: None, digest: [0; 32], received_ns: 0, items };
    store.commit(&[Work::Readings(given)]).unwrap();
}

pub fn pages_of_many_channels_give_each_sample_once_even_where_an_instant_has_more_than_a_page(on: &Database) {
    let mut store = on.open();
    commit(&mut store, &batch("truck-7", 1, [fix(), second(2), second(3)]));
    // The same boot times again in another log, and a stranger's readings at the same instants.
    let card = Batch { log: LogId(7), ..batch("truck-7", 1, [fix(), second(2), second(2), second(3)]) };
    commit(&mut store, &card);
    let odd = |n: i64, sensor: &str| Reading { sensor: sensor.into(), ..reading("truck-7", n, n as f64) };
    give(&mut store, vec![odd(2, "b/=1"), odd(2, "front-wheel"), odd(3, "front-wheel"), odd(9, "front-wheel")]);
    let reader = store.reader();
    let whole = told(&reader.samples(&all("truck-7")).unwrap());
    assert_eq!(whole.len(), 20 + 30 + 4);
    assert!(whole.is_sorted(), "by time, sensor, value");
    assert_eq!(whole.iter().filter(|(t, ..)| *t == at(2)).count(), 1 + 2 + 2);
    for limit in [1, 2, 3, 4, 7, 53, 54] {
        assert_eq!(paged(&*reader, SamplesQuery { limit, ..all("truck-7") }), whole, "{limit} at a time");
    }
    let one = SamplesQuery { sensors: vec!["b/=1".into()], ..all("truck-7") };
    assert_eq!(told(&reader.samples(&one).unwrap()), [(at(2), "b/=1/speed".to_owned(), 2.0f64.to_bits())]);
    let none = SamplesQuery { quantities: vec![Quantity::Distance], ..all("truck-7") };
    assert_eq!(told(&reader.samples(&none).unwrap()), []);
}

pub fn a_bucket_of_any_length_is_what_its_samples_give(on: &Database) {
    let mut store = on.open();
    commit(&mut store, &batch("truck-7", 1, std::iter::once(fix()).chain((2..=400).map(second))));
    let reader = store.reader();
    let ask = |bucket_s, limit| {
        let (gateway, sensor, quantity) = (id("truck-7"), "front-wheel".into(), Quantity::Speed);
        let (from_ns, to_ns) = (i64::MIN, at(7200));
        reader.rollup(&RollupQuery { gateway, sensor, quantity, bucket_s, from_ns, to_ns, limit }).unwrap()
    };
    for behind in [true, false] {
        for (bucket_s, count) in [(7, 58), (90, 5), (120, 4), (420, 1), (7200, 1), (86_400, 1)] {
            let found = ask(bucket_s, 1000).buckets;
            assert_eq!(found.len(), count, "{bucket_s} s, behind: {behind}");
            assert_eq!(found.iter().map(|b| b.count).sum::<u64>(), 3990);
            assert!(found.iter().all(|b| b.start_ns.rem_euclid(i64::from(bucket_s) * S) == 0));
            // Second n is n m/s and a bit more with each sample, so a mean is what the middle is.
            let (first, last) = (&found[0], &found[found.len() - 1]);
            assert_eq!((first.min, last.max), (2.0, 400.009));
            for b in &found {
                let (from, to) = (b.first.1.floor(), b.last.1.floor());
                assert!((b.mean() - ((from + to) / 2.0 + 0.0045)).abs() < 1e-6, "{b:?}");
                assert_eq!(b.bridged_ns, b.last.0 - b.first.0, "all of it is bridged");
                // Straight stretches of 0.9 s at n.0045 and of 0.1 s between: as much over the time as under it.
                assert!((b.weighted_mean() - b.mean()).abs() < 0.06, "{b:?}");
            }
        }
        let mut page = ask(90, 2);
        let mut paged = page.buckets.clone();
        while let Some(from_ns) = page.next_ns {
            let (gateway, sensor, quantity) = (id("truck-7"), "front-wheel".into(), Quantity::Speed);
            let next = RollupQuery { gateway, sensor, quantity, bucket_s: 90, from_ns, to_ns: at(7200), limit: 2 };
            page = reader.rollup(&next).unwrap();
            paged.extend(page.buckets.clone());
        }
        assert_eq!(paged, ask(90, 1000).buckets);
        while store.tend(LATER_NS).unwrap() {}
    }
}

pub fn the_worst_quality_is_kept_in_sums_and_one_of_an_older_hub_is_not_known(on: &Database) {
    let mut store = on.open();
    let of = |n, quality| Reading { quality, ..reading("bike", n, 1.0) };
    give(&mut store, vec![of(1, Quality::Good), of(2, Quality::Degraded), of(3, Quality::Estimated)]);
    give(&mut store, vec![of(61, Quality::Good), of(62, Quality::Stopped), of(3700, Quality::Good)]);
    let reader = store.reader();
    let ask = |bucket_s| {
        let (gateway, sensor, quantity) = (id("bike"), "front-wheel".into(), Quantity::Speed);
        let (from_ns, to_ns, limit) = (i64::MIN, i64::MAX, 100);
        let query = RollupQuery { gateway, sensor, quantity, bucket_s, from_ns, to_ns, limit };
        reader.rollup(&query).unwrap().buckets.iter().map(|b| b.worst).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        assert_eq!(ask(60), [Some(Quality::Degraded), Some(Quality::Stopped), Some(Quality::Good)]);
        assert_eq!(ask(3600), [Some(Quality::Degraded), Some(Quality::Good)]);
        while store.tend(LATER_NS).unwrap() {}
    }
    let older = format!("UPDATE rollups SET worst = NULL WHERE level = 60 AND start = {}", at(0) / S);
    on.sql(&older, &older);
    assert_eq!(ask(60), [None, Some(Quality::Stopped), Some(Quality::Good)]);
    assert_eq!(ask(120), [None, Some(Quality::Good)], "what is not known of a part is not known of the whole");
}

pub fn a_drawing_is_made_of_what_it_costs_least_to_read_and_hides_no_spike_and_no_hole(on: &Database) {
    let mut store = on.open();
    // Three hours, a sample a second, a spike and a hole of ten minutes.
    let value = |n: i64| if n == 5_000 { 70.0 } else { (n % 10) as f64 };
    let items = (0..10_800).filter(|n| !(7_000..7_600).contains(n)).map(|n| reading("bike", n, value(n)));
    give(&mut store, items.collect());
    let reader = store.reader();
    let ask = |to_s, points| {
        let (gateway, sensor, quantity) = (id("bike"), "front-wheel".into(), Quantity::Speed);
        reader.draw(&DrawQuery { gateway, sensor, quantity, from_ns: i64::MIN, to_ns: at(to_s), points }).unwrap()
    };
    let has = |marks: &[Mark], value: f64| {
        marks.iter().any(|mark| matches!(mark, Mark::Value { point, .. } if point.value == value))
    };
    let drawing = ask(20_000, 300);
    assert_eq!((drawing.made, drawing.whole, drawing.samples), (Made::Samples, false, 10_200));
    assert!(drawing.marks.len() <= 400 && has(&drawing.marks, 70.0), "{}", drawing.marks.len());
    assert!(drawing.marks.contains(&Mark::Hole(at(6_999), at(7_600))));
    let few = ask(99, 300);
    assert_eq!((few.whole, few.marks.len(), few.next_ns), (true, 100, None));
    // Days of it are told by minutes: what is asked for is more than is read.
    for day in 1..10 {
        let items = (0..20_000).map(|n| reading("bike", day * 86_400 + n * 4, value(n)));
        give(&mut store, items.collect());
    }
    while store.tend(LATER_NS).unwrap() {}
    let drawing = ask(9 * 86_400, 500);
    assert_eq!((drawing.made, drawing.whole), (Made::Rows(Level::Minute), false));
    assert!(has(&drawing.marks, 70.0) && drawing.marks.iter().any(|mark| matches!(mark, Mark::Hole(..))));
    assert_eq!(drawing.samples, 10_200 + 8 * 20_000 + 15, "a minute that the range ends in is there whole");
    let drawing = ask(400 * 86_400, 500);
    assert_eq!(drawing.samples, 10_200 + 9 * 20_000, "where nothing is costs nothing: {:?}", drawing.made);
    let none = ask(-5, 500);
    assert_eq!((none.marks.len(), none.samples, none.next_ns), (0, 0, None));
}

pub fn channels_come_a_page_at_a_time_the_newer_of_samples_and_readings_of_each(on: &Database) {
    let mut store = on.open();
    for name in ["truck-7", "truck-8", "a.b", "Truck_9"] {
        commit(&mut store, &batch(name, 1, [fix(), second(2), second(3)]));
    }
    let other = |device: &str, sensor: &str, n: i64| Reading { sensor: sensor.into(), ..reading(device, n, n as f64) };
    // Newer and older than the samples of the same channel, and channels of their own.
    give(&mut store, vec![other("truck-7", "front-wheel", 100), other("truck-8", "front-wheel", 1)]);
    give(&mut store, vec![other("truck-7", "a/b", 5), other("bike", "front-wheel", 7), other("bike", "Ü", 8)]);
    while store.tend(LATER_NS).unwrap() {}
    let reader = store.reader();
    let pages = |query: ChannelsQuery| {
        let (mut found, mut query) = (Vec::new(), query);
        loop {
            let page = reader.channels(&query).unwrap();
            assert!(page.channels.len() <= query.limit);
            found.extend(page.channels);
            let Some(next) = page.next else { return found };
            assert_ne!(query.after, Some(next.clone()), "it gets on");
            query.after = Some(next);
        }
    };
    let whole = pages(ChannelsQuery { limit: 1_000, firsts: true, ..ChannelsQuery::default() });
    let names: BTreeSet<(String, String)> =
        whole.iter().map(|(l, _)| (l.gateway.to_string(), l.newest.sensor.clone())).collect();
    assert_eq!((whole.len(), names.len()), (7, 7), "{names:?}");
    for limit in 1..8 {
        let query = ChannelsQuery { limit, firsts: true, ..ChannelsQuery::default() };
        assert_eq!(pages(query), whole, "{limit} at a time");
    }
    let of = |gateway: &str, sensor: &str| {
        let (gateway, sensor) = (Some(id(gateway)), Some(sensor.to_owned()));
        let found = pages(ChannelsQuery { gateway, sensor, limit: 1, firsts: true, ..ChannelsQuery::default() });
        assert_eq!(found.len(), 1);
        (found[0].0.newest.value, found[0].0.utc_ns, found[0].1)
    };
    assert_eq!(of("truck-7", "front-wheel"), (100.0, Some(at(100)), Some(at(2))));
    assert_eq!(of("truck-8", "front-wheel"), (3.009, Some(at(3) + 900_000_000), Some(at(1))));
    assert_eq!(of("bike", "Ü"), (8.0, Some(at(8)), Some(at(8))));
    let wheels = ChannelsQuery { sensor: Some("front-wheel".into()), limit: 2, ..ChannelsQuery::default() };
    assert_eq!(pages(wheels).len(), 5);
    let none = ChannelsQuery { quantity: Some(Quantity::Course), limit: 2, ..ChannelsQuery::default() };
    assert_eq!(pages(none).len(), 0);
}

fn asked(from_s: i64, to_s: i64) -> ToldQuery {
    ToldQuery { gateway: id("truck-7"), from_ns: at(from_s), to_ns: at(to_s), limit: 1_000, channel: None }
}

fn event(boot: u32, s: u64, kind: EventKind) -> Record {
    Record::Event(Event { boot, t_ns: s * S as u64, sensor: Some("front-wheel".into()), kind, detail: "why".into() })
}

fn loss(at: Option<(u64, u64)>) -> Record {
    let time = |s: u64| (1, s * S as u64);
    let (from, until) = at.map(|(from, until)| (time(from), time(until))).unzip();
    Record::Loss(Loss { reason: LossReason::Overrun, records: 0, samples: 17, from, until })
}

/// Samples of one boot with a gap and losses, a boot that nobody dated, and one that is dated.
fn troubled(store: &mut Box<dyn Store>) {
    let Record::Clock(good) = fix() else { unreachable!() };
    let of_boot = |boot, seq| match second(seq) {
        Record::Samples(samples) => Record::Samples(speedwell_wire::Samples { boot, ..samples }),
        other => other,
    };
    let first = [fix(), second(2), second(3), event(1, 4, EventKind::SensorFault), loss(Some((5, 6))), second(10)];
    commit(store, &batch("truck-7", 1, first));
    // Records 7 to 11 will never come.
    let later = [second(20), loss(None), second(30)];
    commit(store, &Batch { oldest_seq: 12, ..batch("truck-7", 12, later) });
    let dated = Record::Clock(ClockFix { boot: 3, utc_ns: at(1_000), ..good });
    let rest = [of_boot(2, 5), event(2, 6, EventKind::Stopped), dated, of_boot(3, 2), event(3, 3, EventKind::Started)];
    commit(store, &Batch { oldest_seq: 12, ..batch("truck-7", 15, rest) });
}

pub fn what_is_missing_is_told_in_order_with_where_it_lies_and_why(on: &Database) {
    let mut store = on.open();
    troubled(&mut store);
    let reader = store.reader();
    let found = reader.missing(&asked(0, 2_000)).unwrap();
    assert!(!found.truncated && found.silence.is_none());
    let told: Vec<_> = found.items.iter().map(|m| (m.from_ns, m.to_ns, m.what.clone())).collect();
    let lost = |seq, from: Option<(u32, u64)>, until| {
        Lack::Loss(seq, Loss { reason: LossReason::Overrun, records: 0, samples: 17, from, until })
    };
    let ns = |s: u64| s * S as u64;
    let wanted = [
        (Some(at(5)), Some(at(6)), lost(5, Some((1, ns(5))), Some((1, ns(6))))),
        (Some(at(10) + 900_000_000), Some(at(20)), Lack::Gap(7, 11)),
        (Some(at(20) + 900_000_000), Some(at(30)), lost(13, None, None)),
        (Some(at(30) + 900_000_000), Some(at(1_000)), Lack::Undated(2, None)),
    ];
    assert_eq!(told, wanted);
    let within =
        |from, to| reader.missing(&asked(from, to)).unwrap().items.into_iter().map(|m| m.what).collect::<Vec<_>>();
    assert_eq!(within(12, 15), [Lack::Gap(7, 11)]);
    assert_eq!(within(21, 25), [lost(13, None, None)]);
    assert_eq!(within(500, 600), [Lack::Undated(2, None)]);
    assert_eq!(within(1_010, 2_000), []);
    // A page at a time.
    let (mut query, mut pages) = (ToldQuery { limit: 1, ..asked(0, 2_000) }, Vec::new());
    loop {
        let page = reader.missing(&query).unwrap();
        pages.extend(page.items.into_iter().map(|m| (m.from_ns, m.to_ns, m.what)));
        let Some(next) = page.next_ns else { break };
        assert!(next > query.from_ns);
        query.from_ns = next;
    }
    pages.dedup();
    assert_eq!(pages, wanted);
}

pub fn a_silence_of_a_channel_is_told_where_it_was_heard_before(on: &Database) {
    let mut store = on.open();
    troubled(&mut store);
    while store.tend(LATER_NS).unwrap() {}
    let channel = |intervals| Some(("front-wheel".to_owned(), Quantity::Speed, intervals));
    let reader = store.reader();
    let silences = |query: &ToldQuery| -> Vec<(Option<i64>, Option<i64>)> {
        let found = reader.missing(query).unwrap();
        assert!(found.silence.is_some());
        found.items.iter().filter(|m| m.what == Lack::Silence).map(|m| (m.from_ns, m.to_ns)).collect()
    };
    let last = at(1_002) + 900_000_000;
    let tenth = |s: i64| at(s) + 900_000_000;
    let every = silences(&ToldQuery { channel: channel(3.0), ..asked(0, 1_100) });
    let pairs =
        [(tenth(3), at(10)), (tenth(10), at(20)), (tenth(20), at(30)), (tenth(30), at(1_002)), (last, at(1_100))];
    assert_eq!(every, pairs.map(|(a, b)| (Some(a), Some(b))));
    // A hundred usual intervals of 0.1 s.
    let long = silences(&ToldQuery { channel: channel(100.0), ..asked(0, 1_100) });
    assert_eq!(long, [(Some(tenth(30)), Some(at(1_002))), (Some(last), Some(at(1_100)))]);
    assert_eq!(silences(&ToldQuery { channel: channel(3.0), ..asked(-100, 3) }), [], "it had not begun");
}

pub fn what_happened_is_told_in_order_of_time_and_an_undated_boot_between_its_neighbours(on: &Database) {
    let mut store = on.open();
    troubled(&mut store);
    let reader = store.reader();
    let found = reader.happened(&asked(0, 2_000)).unwrap();
    let kind = |what: &What| match what {
        What::Event(event) => event.kind.name(),
        What::Clock(fix) => fix.source.name(),
        What::Loss(_) => "loss",
    };
    let told: Vec<_> = found.items.iter().map(|h| (h.at_ns, h.seq, kind(&h.what))).collect();
    let wanted = [
        (Some(at(0)), 1, "ntp"),
        (Some(at(4)), 4, "sensor-fault"),
        (Some(at(5)), 5, "loss"),
        (None, 13, "loss"),
        (None, 16, "stopped"),
        (Some(at(1_000)), 17, "ntp"),
        (Some(at(1_003)), 19, "started"),
    ];
    assert_eq!(told, wanted);
    let stopped = &found.items[4];
    assert_eq!((stopped.between, found.truncated), ((Some(at(30) + 900_000_000), Some(at(1_002))), false));
    let later = reader.happened(&asked(1_001, 2_000)).unwrap();
    assert_eq!(later.items.last().map(|h| h.seq), Some(19));
    assert!(later.items.iter().all(|h| h.seq >= 16), "{later:?}");
    let page = reader.happened(&ToldQuery { limit: 2, ..asked(0, 2_000) }).unwrap();
    assert_eq!((page.items.len(), page.next_ns, page.truncated), (2, Some(at(5)), true));
}

pub fn places_come_the_newest_first_of_one_device_or_of_all_page_after_page(on: &Database) {
    let mut store = on.open();
    let place = |device: &str, n: i64| {
        let of = |quantity, value| Reading { sensor: "tracker".into(), quantity, ..reading(device, n, value) };
        [of(Quantity::Latitude, 40.0 + n as f64 / 1e3), of(Quantity::Longitude, 29.0), of(Quantity::Speed, n as f64)]
    };
    give(&mut store, (0..700).flat_map(|n| place("a", 2 * n)).collect());
    give(&mut store, (0..300).flat_map(|n| place("b", 3 * n)).collect());
    give(&mut store, place("c", 9_999).into_iter().take(1).collect());
    let reader = store.reader();
    let ask = |device: Option<&str>, from_ns, to_ns, skip, limit| {
        let device = device.map(id);
        let found = reader.places(&PlacesQuery { device, from_ns, to_ns, skip, limit }).unwrap();
        found.into_iter().map(|p| (p.utc_ns, p.device.to_string(), p.speed.unwrap())).collect::<Vec<_>>()
    };
    let mut wanted: Vec<_> = (0..700).map(|n| (at(2 * n), "a".to_owned(), (2 * n) as f64)).collect();
    wanted.extend((0..300).map(|n| (at(3 * n), "b".to_owned(), (3 * n) as f64)));
    wanted.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    assert_eq!(ask(None, i64::MIN, i64::MAX, 0, 5_000), wanted, "a place without a longitude is none");
    let mut pages = Vec::new();
    for page in 0..21 {
        pages.extend(ask(None, i64::MIN, i64::MAX, page * 50, 50));
    }
    assert_eq!(pages, wanted);
    let within: Vec<_> = wanted.iter().filter(|(t, ..)| (at(300)..=at(600)).contains(t)).cloned().collect();
    assert_eq!(ask(None, at(300), at(600), 0, 5_000), within);
    let of_b: Vec<_> = within.iter().filter(|(_, device, _)| device == "b").skip(3).take(2).cloned().collect();
    assert_eq!(ask(Some("b"), at(300), at(600), 3, 2), of_b);
    assert_eq!(ask(Some("nobody"), i64::MIN, i64::MAX, 0, 1), []);
}

type ChannelValue = (u16, i16);

/// A truck's channels in one record, out of order of time and overlapping.
fn mixed(records: &[(u8, u16, Vec<ChannelValue>)]) -> (Manifest, Vec<(LogId, Batch)>) {
    let manifest = Manifest {
        channels: vec![
            channel(1, "front-wheel", Quantity::Speed),
            channel(2, "front-wheel", Quantity::Distance),
            channel(3, "gnss", Quantity::Speed),
        ],
    };
    let mut seqs = [1u64; 2];
    let mut batches = Vec::new();
    for (log, from, samples) in records {
        let which = usize::from(*log % 2);
        let mut columns: Vec<block::Column> = Vec::new();
        for (i, (channel, value)) in samples.iter().enumerate() {
            let (channel, tick) = (channel % 3 + 1, u64::from(*from) * 1_000 + (i as u64 / 3) * 500);
            let (uncertainty, quality) = (block::Uncertainty::of(0.02, 0.001), Quality::Good);
            let sample = block::Sample { tick, value: (*value).into(), uncertainty, quality };
            match columns.iter_mut().find(|c| c.channel == channel) {
                Some(column) => column.samples.push(sample),
                None => columns.push(block::Column { channel, samples: vec![sample] }),
            }
        }
        columns.sort_by_key(|column| column.channel);
        let block = block::encode(&columns, &manifest);
        let samples = Record::Samples(speedwell_wire::Samples { manifest: manifest.hash(), boot: 1, block });
        let first = seqs[which];
        let records = if first == 1 { vec![fix(), samples] } else { vec![samples] };
        seqs[which] += records.len() as u64;
        let log = LogId(which as u64 + 1);
        batches.push((log, Batch { log, ..batch("truck-7", first, records) }));
    }
    (manifest, batches)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn pages_give_every_sample_once_whatever_their_size_and_the_order_of_arrival(
        records in prop::collection::vec((0u8..2, 0u16..20, prop::collection::vec((0u16..3, any::<i16>()), 1..12)), 1..10),
        readings in prop::collection::vec((0i64..20, 0u8..2, any::<i8>()), 0..10),
        limit in 1usize..9,
    ) {
        let database = Database::sqlite();
        let mut store = database.open();
        let (manifest, batches) = mixed(&records);
        let mut wanted: Vec<(i64, String, u64)> = Vec::new();
        for (_, batch) in &batches {
            let work = crate::work_with(batch, &manifest);
            store.commit(&[Work::Manifest(Arc::new(manifest.clone())), work]).unwrap();
            for entry in &batch.entries {
                let Record::Samples(samples) = &entry.record else { continue };
                for column in block::decode(&samples.block).unwrap() {
                    let channel = manifest.channel(column.channel).unwrap();
                    wanted.extend(column.samples.iter().map(|s| {
                        let utc_ns = BOOT_UTC_NS + channel.t_ns(s.tick) as i64;
                        let name = format!("{}/{}", channel.sensor, channel.quantity.name());
                        (utc_ns, name, channel.value(s.value).to_bits())
                    }));
                }
            }
        }
        let items: Vec<Reading> = readings.iter().map(|(n, which, value)| Reading {
            sensor: ["gnss", "other"][usize::from(*which)].into(), ..reading("truck-7", *n, f64::from(*value))
        }).collect();
        let mut known = BTreeSet::new();
        for item in &items {
            if known.insert((item.utc_ns, item.sensor.clone())) {
                wanted.push((item.utc_ns, format!("{}/speed", item.sensor), item.value.to_bits()));
            }
        }
        give(&mut store, items);
        let mut found = paged(&*store.reader(), SamplesQuery { limit, ..all("truck-7") });
        let times: Vec<i64> = found.iter().map(|(t, ..)| *t).collect();
        prop_assert!(times.is_sorted());
        found.sort();
        wanted.sort();
        prop_assert_eq!(found, wanted);
    }
}

/// Of what a clock that nobody vouches for gives, the answer says so.
pub fn a_drawing_says_who_vouches_for_its_times(on: &Database) {
    let mut store = on.open();
    let Record::Clock(good) = fix() else { unreachable!() };
    let untrusted = Record::Clock(ClockFix { source: ClockSource::Untrusted, ..good });
    commit(&mut store, &batch("truck-7", 1, [untrusted, second(2)]));
    let (gateway, sensor, quantity) = (id("truck-7"), "front-wheel".into(), Quantity::Speed);
    let query = DrawQuery { gateway, sensor, quantity, from_ns: i64::MIN, to_ns: i64::MAX, points: 100 };
    let drawing = store.reader().draw(&query).unwrap();
    assert_eq!((drawing.clock, drawing.marks.len(), drawing.undated.len()), (Some(ClockSource::Untrusted), 10, 1));
}
