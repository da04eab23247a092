//! An uplink under test: a real spool in a temporary directory, a clock, and hands on everything that goes in.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]

use std::{
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use speedwell::{
    clock::{BootNs, Clock},
    spool::{self, Spool},
    uplink::{self, Fault, Observer, Options, Parts, Stats},
};
use speedwell_wire::{
    Channel, ClockSource, Event, EventKind, GatewayId, Live, LogId, Manifest, ManifestHash, NoData, Quantity, Record,
    Samples, Seq, Status, block,
    message::{Health, SensorHealth},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use super::broker::{HubState, PATIENCE, PREFIX};

struct Monotonic(Instant);

impl Clock for Monotonic {
    fn now(&self) -> BootNs {
        BootNs(self.0.elapsed().as_nanos() as u64)
    }
}

pub struct Gateway {
    pub options: Options,
    pub spool: Spool,
    pub live: watch::Sender<Option<Live>>,
    pub health: watch::Sender<Option<Health>>,
    parts: Parts,
    events: mpsc::Receiver<Event>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    appended: u64,
    _directory: tempfile::TempDir,
}

impl Gateway {
    /// The gateway `truck-7`, its waits short; not started.
    pub fn new(port: u16, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::new(GatewayId::new("truck-7").unwrap(), "127.0.0.1", port);
        options.topic_prefix = PREFIX.into();
        options.times.backoff_base = Duration::from_millis(20);
        options.times.backoff_cap = Duration::from_millis(100);
        change(&mut options);
        let directory = tempfile::tempdir().unwrap();
        let mut spool_options = spool::Options::new(directory.path().join("spool"));
        (spool_options.commit_every, spool_options.keep_free) = (Duration::from_millis(20), 0);
        let (spool, _) = Spool::open(spool_options).unwrap();
        let (live, live_rx) = watch::channel(None);
        let (health, health_rx) = watch::channel(None);
        let (events_tx, events) = mpsc::channel(16);
        let parts = Parts {
            clock: Arc::new(Monotonic(Instant::now())),
            boot: 3,
            live: live_rx,
            health: health_rx,
            events: events_tx,
            utc: Arc::new(|_, _| None),
            observer: Observer::default(),
        };
        Gateway { options, spool, live, health, parts, events, running: None, appended: 0, _directory: directory }
    }

    pub fn start(&mut self) {
        let (stop, stopped) = oneshot::channel();
        let run = uplink::run(self.options.clone(), self.spool.clone(), self.parts.clone(), async {
            let _ = stopped.await;
        });
        self.running = Some((stop, tokio::spawn(run)));
    }

    pub async fn stop(&mut self) {
        let (stop, task) = self.running.take().unwrap();
        let _ = stop.send(());
        tokio::time::timeout(PATIENCE, task).await.expect("stops").unwrap();
    }

    pub async fn abort(&mut self) {
        let (_stop, task) = self.running.take().unwrap();
        task.abort();
        let _ = task.await;
    }

    /// Appends that many numbered events and waits until they are durable.
    pub async fn append(&mut self, count: u64) {
        let mut left = count;
        while left > 0 {
            let some = left.min(100);
            let first = self.appended + 1;
            self.spool.append((first..first + some).map(numbered).collect()).await.unwrap();
            self.appended += some;
            left -= some;
        }
        self.spool.flush().await.unwrap();
    }

    pub async fn append_detail(&mut self, detail: &str) {
        let Record::Event(event) = numbered(0) else { unreachable!() };
        self.spool.append(vec![Record::Event(Event { detail: detail.into(), ..event })]).await.unwrap();
        self.appended += 1;
        self.spool.flush().await.unwrap();
    }

    /// Appends that many samples records of ten samples each, one tick apart.
    pub async fn append_samples(&mut self, count: u64) -> ManifestHash {
        let channel = Channel {
            id: 1,
            sensor: "front-wheel".into(),
            quantity: Quantity::Speed,
            resolution_nano: 1_000_000,
            tick_ns: 100_000,
            period_ns: 100_000,
            calibration: 0,
        };
        let manifest = Manifest { channels: vec![channel] };
        let hash = self.spool.keep_manifest(&manifest).await.unwrap();
        let record = |n: u64| {
            let samples = (n * 10..n * 10 + 10).map(sample).collect();
            let block = block::encode(&[block::Column { channel: 1, samples }], &manifest);
            Record::Samples(Samples { manifest: hash, boot: 3, block })
        };
        self.spool.append((0..count).map(record).collect()).await.unwrap();
        self.appended += count;
        self.spool.flush().await.unwrap();
        hash
    }

    /// What `append` appended under these numbers.
    pub fn numbered(&self, range: RangeInclusive<Seq>) -> Vec<(Seq, Record)> {
        range.map(|seq| (seq, numbered(seq))).collect()
    }

    pub fn stats(&self) -> Stats {
        self.parts.observer.stats()
    }

    pub async fn until(&self, what: &str, good: impl Fn(&Stats) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !good(&self.stats()) {
            assert!(Instant::now() < until, "not {what}: {:?}", self.stats());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The first fault there is.
    pub async fn fault(&self) -> Fault {
        self.until("a fault", |s| s.last_fault.is_some()).await;
        self.stats().last_fault.unwrap()
    }

    pub async fn event(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event").unwrap()
    }
}

fn sample(tick: u64) -> block::Sample {
    let quality = speedwell_wire::Quality::Good;
    block::Sample { tick, value: 1000 + tick as i64, uncertainty: Default::default(), quality }
}

fn numbered(n: u64) -> Record {
    Record::Event(Event {
        boot: 3,
        t_ns: n,
        sensor: None,
        kind: EventKind::Configuration,
        detail: format!("number {n}"),
    })
}

/// The ticks of all samples a hub has, in the order of its log.
pub fn ticks(state: &HubState) -> Vec<u64> {
    let columns = state.stored.values().flat_map(|(_, record)| match record {
        Record::Samples(samples) => block::decode(&samples.block).unwrap(),
        _ => Vec::new(),
    });
    columns.flat_map(|c| c.samples).map(|s| s.tick).collect()
}

pub fn live(now_ns: u64) -> Live {
    Live { manifest: ManifestHash([1; 8]), boot: 3, now_ns, values: Vec::new() }
}

pub fn health(trouble: Option<NoData>) -> Health {
    let name = "front-wheel".to_owned();
    let (inputs, lost, rejected) = (0, 0, 0);
    Health {
        uptime_s: 1,
        boot: 3,
        log: LogId(1),
        last_seq: 0,
        confirmed_seq: 0,
        spool_bytes: 0,
        lost_samples: 0,
        clock: ClockSource::Untrusted,
        rss_bytes: 0,
        sensors: vec![SensorHealth { name, trouble, detail: String::new(), inputs, lost, rejected }],
    }
}

pub fn troubled(status: &Status) -> bool {
    status.health.as_ref().is_some_and(|h| h.sensors.iter().any(|s| s.trouble.is_some()))
}
