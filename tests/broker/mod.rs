//! A private mosquitto for a test, and a hub that keeps the rules of the replication and can be told not to.
//!
//! The broker listens on a free port of the loopback, in a directory of its own, and ends with the value.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]

use std::{
    collections::BTreeMap,
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use speedwell_wire::{Batch, Confirm, LogId, Manifest, ManifestHash, Record, Seq, Status, frame, topic};

/// How long anything may take before a test gives up: far beyond what it takes, for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Topic prefix of the tests.
pub const PREFIX: &str = "test/v1";

/// Whether there is a mosquitto to test with; says so when there is none.
pub fn installed() -> bool {
    let found = mosquitto().is_some();
    if !found {
        eprintln!("skipped: no mosquitto on this machine");
    }
    found
}

fn mosquitto() -> Option<PathBuf> {
    ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"]
        .iter()
        .map(PathBuf::from)
        .find(|p| p.exists())
}

/// A running mosquitto.
pub struct Broker {
    pub port: u16,
    pub directory: tempfile::TempDir,
    child: Option<Child>,
}

impl Broker {
    /// One that lets everybody in.
    pub fn start() -> Self {
        Self::with("allow_anonymous true\n", |_| {})
    }

    /// One with these lines in its configuration; `DIR` in them becomes its directory, which `prepare` may fill.
    pub fn with(lines: &str, prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let port = free_port();
        let dir = directory.path().display().to_string();
        let mut config = format!("listener {port} 127.0.0.1\n{}", lines.replace("DIR", &dir));
        // Without this it would drop to a user that cannot read the directory.
        config += "user root\nlog_dest stderr\nlog_type all\n";
        fs::write(directory.path().join("mosquitto.conf"), config).unwrap();
        let mut broker = Broker { port, directory, child: None };
        broker.restart();
        broker
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again on the same port. Nothing was persisted, so it has forgotten everything.
    pub fn restart(&mut self) {
        self.kill();
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let child = Command::new(mosquitto().expect("asked for before"))
            // Where a test has put one: what the broker's TLS library is told.
            .env("OPENSSL_CONF", self.openssl_config())
            .arg("-c")
            .arg(self.directory.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "mosquitto does not listen:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn openssl_config(&self) -> PathBuf {
        let own = self.directory.path().join("openssl.cnf");
        if own.exists() { own } else { "/etc/ssl/openssl.cnf".into() }
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("mosquitto.log")
    }

    /// What it has written.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("mosquitto said:\n{}", self.log());
        }
    }
}

/// A port nobody listens on, below those the kernel hands to clients, and no two alike in a process: a port that was
/// only just free may be somebody else's by the time it is used.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 10_000 + (std::process::id() % 300) as u16 * 64;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 2048;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// What the hub has and how it behaves.
#[derive(Debug, Default)]
pub struct HubState {
    pub log: Option<LogId>,
    pub thru: Seq,
    /// First number of each entry, how many it stands for, and the record.
    pub stored: BTreeMap<Seq, (u64, Record)>,
    pub gaps: Vec<(Seq, Seq)>,
    pub duplicates: u64,
    pub dropped: u64,
    pub batches: u64,
    pub merged: u64,
    pub json: u64,
    pub manifests: Vec<String>,
    /// The channels they tell, where they are frames.
    pub channels: BTreeMap<ManifestHash, Manifest>,
    pub live: u64,
    pub statuses: Vec<Status>,
    /// The hub is deaf: it neither stores nor confirms.
    pub deaf: bool,
    /// It keeps its confirmations to itself.
    pub mute: bool,
}

impl HubState {
    /// Every record with its number, in order.
    pub fn records(&self) -> Vec<(Seq, Record)> {
        self.stored.iter().map(|(seq, (_, record))| (*seq, record.clone())).collect()
    }

    /// Rule 3: a contiguous prefix, each record once.
    fn take(&mut self, batch: Batch) {
        self.log = Some(batch.log);
        let mut first = batch.first_seq;
        for entry in batch.entries {
            let next = first + entry.span;
            if first > self.thru + 1 && batch.oldest_seq > self.thru + 1 {
                self.gaps.push((self.thru + 1, batch.oldest_seq - 1));
                self.thru = batch.oldest_seq - 1;
            }
            if first == self.thru + 1 {
                self.merged += u64::from(entry.span > 1);
                let before = self.stored.insert(first, (entry.span, entry.record));
                assert!(before.is_none(), "record {first} stored twice");
                self.thru = next - 1;
            } else if next <= self.thru + 1 {
                self.duplicates += entry.span;
                if let Some((span, stored)) = self.stored.get(&first) {
                    let same = *span != entry.span || *stored == entry.record;
                    assert!(same, "record {first} came twice with different content");
                }
            } else {
                self.dropped += entry.span;
            }
            first = next;
        }
    }
}

/// A hub for tests, connected by rumqttc and coming back by itself.
pub struct Hub {
    state: Arc<Mutex<HubState>>,
    client: AsyncClient,
    task: tokio::task::JoinHandle<()>,
}

impl Hub {
    /// Starts it and waits until it listens.
    pub async fn start(port: u16) -> Self {
        let state = Arc::new(Mutex::new(HubState::default()));
        let mut options = MqttOptions::new("test-hub", "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20).set_inflight(1000);
        let (client, mut events) = AsyncClient::new(options, 1000);
        let (ready_tx, ready) = tokio::sync::watch::channel(false);
        let (inner, publisher) = (state.clone(), client.clone());
        let task = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        publisher.try_subscribe(format!("{PREFIX}/#"), QoS::AtLeastOnce).unwrap();
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => drop(ready_tx.send(true)),
                    Ok(Event::Incoming(Packet::Publish(message))) => {
                        hear(&inner, &publisher, &message.topic, &message.payload);
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        let mut ready = ready;
        tokio::time::timeout(PATIENCE, ready.wait_for(|r| *r)).await.expect("the hub listens").unwrap();
        Hub { state, client, task }
    }

    pub fn state(&self) -> MutexGuard<'_, HubState> {
        self.state.lock().unwrap()
    }

    /// Waits until `good` holds; fails with what the hub has otherwise.
    pub async fn until(&self, what: &str, good: impl Fn(&HubState) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !good(&self.state()) {
            if Instant::now() >= until {
                let s = self.state();
                panic!(
                    "not {what}: thru {} of {:?}, {} entries, gaps {:?}, {} batches, {} dropped, {} duplicates, {} live, statuses {:?}",
                    s.thru,
                    s.log,
                    s.stored.len(),
                    s.gaps,
                    s.batches,
                    s.dropped,
                    s.duplicates,
                    s.live,
                    s.statuses
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Publishes anything.
    pub async fn publish(&self, topic: String, retain: bool, payload: Vec<u8>) {
        self.client.publish(topic, QoS::AtLeastOnce, retain, payload).await.unwrap();
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn hear(state: &Mutex<HubState>, client: &AsyncClient, topic: &str, payload: &[u8]) {
    let Some((gateway, kind)) = topic::parse(PREFIX, topic) else { return };
    let mut state = state.lock().unwrap();
    match kind {
        topic::Kind::Status => state.statuses.push(serde_json::from_slice(payload).unwrap()),
        topic::Kind::Live => state.live += 1,
        topic::Kind::Manifest(hash) => {
            state.manifests.push(hash.to_string());
            if let Ok(manifest) = frame::decode(payload) {
                state.channels.insert(hash, manifest);
            }
        }
        topic::Kind::Log if !state.deaf => {
            state.batches += 1;
            let batch: Batch = match payload.first() {
                Some(b'{') => {
                    state.json += 1;
                    serde_json::from_slice::<serde_json::Value>(payload).unwrap();
                    return;
                }
                _ => frame::decode(payload).unwrap(),
            };
            let log = batch.log;
            state.take(batch);
            if !state.mute {
                let confirm = serde_json::to_vec(&Confirm { log, thru: state.thru }).unwrap();
                let topic = topic::Topics::new(PREFIX, &gateway).confirm();
                client.try_publish(topic, QoS::AtLeastOnce, true, confirm).unwrap();
            }
        }
        _ => {}
    }
}
