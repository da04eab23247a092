//! What the hub's tests stand on: records, a private mosquitto, a gateway that speaks the real wire.
#![allow(dead_code, unreachable_pub)] // a module of each test file, which uses a part of it

pub mod http;
pub mod postgres;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use speedwell_hub::{BrokerUrl, Config, Hub, Running};
use speedwell_wire::{
    Batch, Channel, ClockFix, ClockSource, Confirm, Entry, GatewayId, Live, LiveValue, LogId, Manifest, NoData,
    Quality, Quantity, Record, Samples, Seq, Status, block, frame, topic::Topics,
};
use tokio::{sync::watch, task::JoinHandle};

pub const PREFIX: &str = "speedwell/v1";
pub const LOG: LogId = LogId(0xA1);
/// Samples of one record, at 10 Hz.
pub const PER_RECORD: u64 = 10;
/// Longest wait for anything; a loaded machine is slow, a hang is longer.
pub const LONG: Duration = Duration::from_secs(20);

pub fn id(name: &str) -> GatewayId {
    GatewayId::new(name).unwrap()
}

pub fn channel(id: u16, sensor: &str, quantity: Quantity) -> Channel {
    let (resolution_nano, tick_ns, period_ns) = (1_000_000, 100_000, 100_000_000);
    Channel { id, sensor: sensor.into(), quantity, resolution_nano, tick_ns, period_ns, calibration: 0 }
}

pub fn manifest() -> Manifest {
    Manifest { channels: vec![channel(1, "front-wheel", Quantity::Speed)] }
}

/// The second of samples with this number: at boot second `seq`, speeds of `seq` m/s and a bit.
pub fn second(seq: Seq) -> Record {
    let sample = |i: u64| block::Sample {
        tick: seq * 10_000 + i * 1_000,
        value: (seq * 1000 + i) as i64,
        uncertainty: block::Uncertainty::of(0.02, 0.001),
        quality: Quality::Good,
    };
    let column = block::Column { channel: 1, samples: (0..PER_RECORD).map(sample).collect() };
    let manifest = manifest();
    Record::Samples(Samples { manifest: manifest.hash(), boot: 1, block: block::encode(&[column], &manifest) })
}

/// Maps boot second 0 to 2026-01-01T00:00:00Z.
pub const BOOT_UTC_NS: i64 = 1_767_225_600_000_000_000;

pub fn fix() -> Record {
    Record::Clock(ClockFix {
        boot: 1,
        boot_ns: 0,
        utc_ns: BOOT_UTC_NS,
        uncertainty_ns: 1_000_000,
        rate_ppb: 0,
        source: ClockSource::Ntp,
    })
}

pub fn batch(gateway: &str, first: Seq, records: impl IntoIterator<Item = Record>) -> Batch {
    let entries = records.into_iter().map(|record| Entry { span: 1, record }).collect();
    Batch { gateway: id(gateway), log: LOG, oldest_seq: 1, first_seq: first, entries }
}

pub fn seconds(gateway: &str, range: std::ops::RangeInclusive<Seq>) -> Batch {
    batch(gateway, *range.start(), range.map(second))
}

/// A mosquitto of our own on a free loopback port.
pub struct Mosquitto {
    pub port: u16,
    pub directory: tempfile::TempDir,
    lines: String,
    process: Option<Child>,
}

/// A port nobody listens on, below those the kernel hands to clients, and no two alike in a process: a port that was
/// only just free may be somebody else's by the time it is used.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 10_000 + (std::process::id() % 300) as u16 * 64;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 2048;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

impl Mosquitto {
    pub fn start() -> Self {
        Self::with("allow_anonymous true", |_| {})
    }

    /// With these lines in its configuration, where DIR is a directory that `prepare` may put files into.
    pub fn with(lines: &str, prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let lines = lines.replace("DIR", &directory.path().display().to_string());
        let mut new = Self { port: free_port(), directory, lines, process: None };
        new.up();
        new
    }

    pub fn url(&self) -> BrokerUrl {
        BrokerUrl::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
    }

    /// Ends it the way it writes its sessions to disk, or forgets them.
    pub fn down(&mut self, keep: bool) {
        if let Some(mut process) = self.process.take() {
            // SAFETY: a signal to a child that has not been waited for.
            unsafe { libc::kill(process.id() as i32, libc::SIGTERM) };
            process.wait().unwrap();
        }
        if !keep {
            let _ = fs::remove_file(self.directory.path().join("mosquitto.db"));
        }
    }

    pub fn up(&mut self) {
        let directory = self.directory.path().display();
        let config = format!(
            "listener {} 127.0.0.1\n{}\npersistence true\npersistence_location {directory}/\n\
             user root\nlog_dest none\n",
            self.port, self.lines
        );
        let file = self.directory.path().join("mosquitto.conf");
        fs::write(&file, config).unwrap();
        let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto"];
        let program = program.iter().find(|p| Path::new(p).exists()).expect("mosquitto: install it, see scripts/test");
        let process = Command::new(program).arg("-c").arg(file).stderr(Stdio::null()).spawn().unwrap();
        self.process = Some(process);
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(began.elapsed() < LONG, "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.down(true);
    }
}

/// A hub on a broker, with its database in a directory of its own.
pub struct HubRig {
    pub config: Config,
    pub hub: Option<Running>,
    _directory: tempfile::TempDir,
}

impl HubRig {
    /// A hub that has subscribed: before that, what is published is lost to it.
    pub async fn start(url: BrokerUrl) -> Self {
        let rig = Self::with(url, |_| {}).await;
        rig.reaches("connected", 1).await;
        rig
    }

    /// A hub, as `change` would have it. Whether it connects remains to be seen.
    pub async fn with(url: BrokerUrl, change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::new(url, directory.path().join("hub.sqlite"));
        config.http.listen.set_port(0);
        change(&mut config);
        let hub = Some(Hub::start(config.clone()).await.unwrap());
        Self { config, hub, _directory: directory }
    }

    pub fn hub(&self) -> &Running {
        self.hub.as_ref().unwrap()
    }

    pub fn database(&self) -> PathBuf {
        self.config.store.path.clone()
    }

    pub async fn stop(&mut self) {
        self.hub.take().unwrap().stop().await.unwrap();
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.hub = Some(Hub::start(self.config.clone()).await.unwrap());
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.hub().counters.list().into_iter().find(|(n, _)| *n == name).unwrap().1
    }

    /// Waits until a counter has reached a number.
    pub async fn reaches(&self, name: &str, n: u64) {
        until(&format!("{name} reaches {n}"), || self.counter(name) >= n).await;
    }
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LONG, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A gateway that publishes what it is told and watches its confirmations.
pub struct TestGateway {
    pub name: String,
    pub topics: Topics,
    client: AsyncClient,
    confirm: watch::Receiver<Option<Confirm>>,
    pump: JoinHandle<()>,
}

impl TestGateway {
    pub async fn connect(name: &str, port: u16) -> Self {
        let topics = Topics::new(PREFIX, &id(name));
        let mut options = MqttOptions::new(format!("gw-{name}-{}", fastrand::u32(..)), "127.0.0.1", port);
        options.set_max_packet_size(64 << 20, 64 << 20).set_inflight(60_000);
        let (client, mut events) = AsyncClient::new(options, 60_000);
        let (tx, confirm) = watch::channel(None);
        let (again, topic) = (client.clone(), topics.confirm());
        let pump = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        again.try_subscribe(topic.clone(), QoS::AtLeastOnce).unwrap();
                    }
                    Ok(Event::Incoming(Packet::Publish(p))) => {
                        tx.send_replace(Some(serde_json::from_slice(&p.payload).unwrap()));
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        Self { name: name.into(), topics, client, confirm, pump }
    }

    pub async fn publish(&self, topic: String, retain: bool, payload: Vec<u8>) {
        self.client.publish(topic, QoS::AtLeastOnce, retain, payload).await.unwrap();
    }

    pub async fn manifest(&self, manifest: &Manifest) {
        self.publish(self.topics.manifest(manifest.hash()), true, frame::encode(manifest)).await;
    }

    pub async fn batch(&self, batch: &Batch) {
        self.publish(self.topics.log(), false, frame::encode(batch)).await;
    }

    pub fn thru(&self) -> Option<Seq> {
        self.confirm.borrow().map(|c| c.thru)
    }

    pub async fn confirmed(&self, thru: Seq) {
        until(&format!("confirmation of {thru}, have {:?}", self.thru()), || self.thru() == Some(thru)).await;
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// A hub, a gateway and what it sends, when all of it is confirmed.
pub async fn sent(manifest: &Manifest, batches: impl IntoIterator<Item = Batch>) -> (Mosquitto, HubRig, TestGateway) {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(manifest).await;
    for batch in batches {
        let thru = batch.first_seq + batch.entries.len() as u64 - 1;
        gateway.batch(&batch).await;
        gateway.confirmed(thru).await;
    }
    (broker, rig, gateway)
}

/// A channel's number and what it says.
pub type Said = (u16, Result<(f64, f32, Quality), NoData>);

/// What a gateway says once a second.
pub fn live(values: &[Said], now_ns: u64) -> Live {
    let values =
        values.iter().map(|&(channel, value)| LiveValue { channel, t_ns: now_ns - 1_000_000, value }).collect();
    Live { manifest: live_manifest().hash(), boot: 1, now_ns, values }
}

/// The channels of a truck.
pub fn live_manifest() -> Manifest {
    let channels = [
        ("front-wheel", Quantity::Speed),
        ("ecu-speed", Quantity::Speed),
        ("gnss", Quantity::Speed),
        ("rear-wheel", Quantity::Speed),
        ("gnss", Quantity::Latitude),
        ("gnss", Quantity::Course),
        ("front-wheel", Quantity::Distance),
        ("front-wheel", Quantity::Lost),
        ("front-wheel", Quantity::Repaired),
        ("front-wheel", Quantity::Rejected),
    ];
    Manifest { channels: (1..).zip(channels).map(|(id, (sensor, quantity))| channel(id, sensor, quantity)).collect() }
}

pub fn status(gateway: &str, online: bool) -> Vec<u8> {
    let status = Status { gateway: id(gateway), online, version: "0.1.0".into(), health: None };
    serde_json::to_vec(&status).unwrap()
}
