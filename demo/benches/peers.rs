//! The workload that other gateway agents were measured with: 20 speed sensors at 10 Hz, with 300 us of jitter in their
//! stamps. Bytes up and down the stack, processor, memory, start, draining over a long line, and wear of the disk.
//!
//! The last column is the best of a mosquitto bridge, a script of paho and SQLite, bytebeam's uplink and ThingsBoard's
//! gateway on two cores like these; "S" stands for single samples, "B" for batches of a second.

#[path = "../../wire/benches/trace/mod.rs"]
mod trace;

mod process;
mod relay;

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, atomic::Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use process::{Agent, MIB, PATIENCE, build, mosquitto, unused_port, wait};
use relay::Counted;
use speedwell::{
    clock::{BootNs, Clock, SystemClock},
    recorder::{Recorder, Source},
    sensor::{ChannelSpec, Reading, Value},
    spool::{Options, Spool},
    uplink,
};
use speedwell_hub::{BrokerUrl, Hub, Running};
use speedwell_wire::{ClockSource, GatewayId, Quality, Quantity, Record, message::Health};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot, watch},
};
use trace::{HZ, SECONDS, SENSORS, Trace};

const MILLION: u64 = 1_000_000;
const A_SECOND: u64 = (SENSORS * HZ) as u64;
/// How long samples are sent as they come.
const SENT_S: u64 = 60;
/// Starts measured; the median counts.
const STARTS: usize = 5;
/// How long the wear of a commit policy is watched; the slowest writes once a minute.
const WORN: Duration = Duration::from_secs(150);
const ROUND_TRIP: Duration = Duration::from_millis(100);

fn main() {
    let Some(binary) = build() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("an event loop");
    let trace = trace::made();
    println!("| what | figure | target | best of the others |\n|---|---|---|---|");
    // All of it, or the parts that are named: up, in, behind, wear.
    let named: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
    for live in [false, true].into_iter().filter(|_| wanted("up")) {
        runtime.block_on(up(&trace, live));
    }
    if wanted("in") {
        runtime.block_on(ingest(&trace));
    }
    for millions in [1, 10].into_iter().filter(|_| wanted("behind")) {
        backlog(&binary, &runtime, &trace, millions);
    }
    if wanted("wear") {
        wear(&binary);
    }
}

fn row(what: &str, figure: String, target: &str, best: &str) {
    println!("| {what} | {figure} | {target} | {best} |");
}

/// A recorder of the sensors of the trace, and the readings of its seconds, which come again and again.
struct Drive {
    recorder: Recorder,
    seconds: Vec<Vec<(usize, Reading)>>,
    gone: u64,
}

impl Drive {
    fn new(trace: &Trace, begins: BootNs) -> Self {
        let period = Duration::from_millis(100);
        let spec = ChannelSpec { quantity: Quantity::Speed, resolution_nano: 1_000_000, period };
        let source = |n| Source { name: format!("wheel-{n}"), channels: vec![spec], calibration: 0 };
        let sources: Vec<Source> = (0..SENSORS).map(source).collect();
        let reading = |&(t_us, mm): &(u64, i64)| {
            let value = Value { value: mm as f64 / 1e3, uncertainty: 0.005, quality: Quality::Good };
            Reading { channel: 0, t: BootNs((t_us - 3_600_000_000) * 1000 + begins.0), value: Ok(value) }
        };
        let second = |n: usize| {
            let of = |(sensor, samples): (usize, &Vec<(u64, i64)>)| {
                let some = samples[n * HZ..(n + 1) * HZ].iter();
                some.map(|sample| (sensor, reading(sample))).collect::<Vec<_>>()
            };
            trace.iter().enumerate().flat_map(of).collect()
        };
        Self { recorder: Recorder::new(&sources, 1, begins), seconds: (0..SECONDS).map(second).collect(), gone: 0 }
    }

    /// The records of the next second.
    fn next(&mut self) -> Vec<Record> {
        let (round, second) = (self.gone / SECONDS as u64, (self.gone % SECONDS as u64) as usize);
        self.gone += 1;
        let later = Duration::from_secs(round * SECONDS as u64);
        let mut now = BootNs(0);
        for (sensor, reading) in &self.seconds[second] {
            now = reading.t + later;
            self.recorder.take(*sensor, &Reading { t: now, ..*reading }, now);
        }
        self.recorder.due(now, true)
    }
}

fn spool_options(directory: &Path) -> Options {
    Options { keep_free: 0, ..Options::new(directory) }
}

async fn hub(home: &Path, broker: u16) -> Running {
    let address = SocketAddr::from(([127, 0, 0, 1], broker));
    let mut config = speedwell_hub::Config::new(BrokerUrl::plain(address), home.join("hub.sqlite"));
    config.http.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    Hub::start(config).await.expect("a hub")
}

/// Samples as they come, a record a second, over a real broker to a real hub; everything the gateway sends is counted.
async fn up(trace: &Trace, live: bool) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let port = unused_port();
    let _broker = mosquitto(home.path(), port);
    wait(|| TcpStream::connect(("127.0.0.1", port)).ok());
    let hub = hub(home.path(), port).await;
    let counted = Arc::new(Counted::default());
    let line = relay::start(port, Duration::ZERO, counted.clone());

    let (spool, _) = Spool::open(spool_options(&home.path().join("spool"))).expect("a spool");
    let mut drive = Drive::new(trace, SystemClock.now());
    spool.keep_manifest(drive.recorder.manifest()).await.expect("a manifest");
    let (newest, live_out) = watch::channel(None);
    let (_health, health) = watch::channel(Some(some_health(&spool)));
    let observer = uplink::Observer::default();
    let parts = uplink::Parts {
        clock: Arc::new(SystemClock),
        boot: 1,
        live: live_out,
        health,
        events: mpsc::channel(16).0,
        utc: Arc::new(|_, _| None),
        observer: observer.clone(),
    };
    let options = uplink::Options {
        live,
        ..uplink::Options::new(GatewayId::new("bench-gw").expect("a name"), "127.0.0.1", line)
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(uplink::run(options, spool.clone(), parts, async {
        let _ = stopped.await;
    }));
    let mut turn = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..SENT_S {
        turn.tick().await;
        spool.append(drive.next()).await.expect("room");
        newest.send_replace(Some(drive.recorder.live(SystemClock.now())));
    }
    let last = spool.stats().last_seq;
    while observer.stats().confirmed < last {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let samples = (SENT_S * A_SECOND) as f64;
    let stats = observer.stats();
    let _ = stop.send(());
    running.await.expect("it stops");
    let payload = counted.payload.load(Ordering::Relaxed) as f64 / samples;
    let ip = counted.ip_bytes() as f64 / samples;
    let with = if live { "with live values each second" } else { "without live values" };
    if !live {
        let figure = format!("{:.2} B/sample", stats.bytes as f64 / samples);
        row("payload up, 1 s batches", figure, "2.0", "59.2 B, 17.4 with lz4 and the fewest fields");
    }
    row(&format!("MQTT up, {with}, status and channel list included"), format!("{payload:.2} B/sample"), "", "");
    row(&format!("IP up, {with}"), format!("{ip:.2} B/sample"), "", "");
    hub.stop().await.expect("it stops");
    spool.close().await.expect("a flush");
}

fn some_health(spool: &Spool) -> Health {
    Health {
        uptime_s: 1,
        boot: 1,
        log: spool.log_id(),
        last_seq: 0,
        confirmed_seq: 0,
        spool_bytes: 0,
        lost_samples: 0,
        clock: ClockSource::Ntp,
        rss_bytes: 0,
        sensors: Vec::new(),
    }
}

/// Readings become samples, records, and durable; nobody to send to.
async fn ingest(trace: &Trace) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (spool, _) = Spool::open(spool_options(home.path())).expect("a spool");
    let mut drive = Drive::new(trace, BootNs(0));
    spool.keep_manifest(drive.recorder.manifest()).await.expect("a manifest");
    let millions = 8;
    let (began, cpu) = (Instant::now(), own_cpu());
    // At such a rate the recorder finds several records at each of its turns.
    for _ in 0..millions * MILLION / A_SECOND / 10 {
        let records = (0..10).flat_map(|_| drive.next()).collect();
        spool.append(records).await.expect("room");
    }
    spool.flush().await.expect("a flush");
    let (wall, cpu) = (began.elapsed().as_secs_f64(), own_cpu() - cpu);
    let figure = format!("{:.3} s, {:.1} M samples/s", cpu / millions as f64, millions as f64 / wall);
    row("processor a million in, offline, readings to durable records", figure, "0.2 s", "1.9 s");
    let disk = spool.stats().disk_bytes as f64 - 8.0 * MIB;
    row("disk, backlog", format!("{:.2} B/sample", disk / (millions * MILLION) as f64), "2 x the wire", "24 B (lz4)");
    spool.close().await.expect("a flush");
}

fn own_cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A gateway that so many million samples have been left on, by an agent that was killed.
struct Behind {
    home: tempfile::TempDir,
    records: u64,
    /// The broker's port; nobody listens there yet.
    port: u16,
    counted: Arc<Counted>,
    config: PathBuf,
}

impl Behind {
    fn new(runtime: &Runtime, trace: &Trace, millions: u64, max_size_mib: u64) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let records = millions * MILLION / A_SECOND;
        runtime.block_on(async {
            let options = Options { max_size: max_size_mib << 20, ..spool_options(&home.path().join("spool")) };
            let (spool, _) = Spool::open(options).expect("a spool");
            let mut drive = Drive::new(trace, BootNs(0));
            spool.keep_manifest(drive.recorder.manifest()).await.expect("a manifest");
            for _ in 0..records {
                spool.append(drive.next()).await.expect("room");
            }
            spool.close().await.expect("a flush");
        });
        let (port, counted) = (unused_port(), Arc::new(Counted::default()));
        let line = relay::start(port, ROUND_TRIP, counted.clone());
        let config = configure(home.path(), 1, line, &format!("max-size = \"{max_size_mib} MiB\""));
        Self { home, records, port, counted, config }
    }

    /// How soon an agent is ready that finds all this, and what it takes; it goes on running.
    fn stands(&self, binary: &Path, what: &str, targets: [&str; 2], bests: [&str; 2]) -> Agent {
        let mut starts: Vec<f64> = (0..STARTS).map(|_| ready_ms(binary, &self.config, self.home.path()).0).collect();
        starts.sort_by(f64::total_cmp);
        let figure = format!("{:.0} ms", starts[STARTS / 2]);
        row(&format!("start to ready, {what}, median of {STARTS}"), figure, targets[0], bests[0]);
        let (_, agent) = ready_ms(binary, &self.config, self.home.path());
        sleep(Duration::from_secs(3));
        row(&format!("memory (RSS), {what}"), format!("{:.1} MiB", agent.rss_mib()), targets[1], bests[1]);
        agent
    }
}

/// So many million samples behind: how soon it is ready, what it takes, and how fast they go over a long line.
fn backlog(binary: &Path, runtime: &Runtime, trace: &Trace, millions: u64) {
    let what = format!("{millions} M behind");
    let bests = if millions == 1 { ["11 ms", "12.6 MiB"] } else { ["", ""] };
    let targets = ["20 ms", if millions == 1 { "12 MiB" } else { "14 MiB" }];
    if millions > 1 {
        let small = Behind::new(runtime, trace, millions, 32);
        drop(small.stands(binary, &format!("{what}, max-size = 32 MiB"), targets, bests));
    }
    let behind = Behind::new(runtime, trace, millions, 2048);
    let agent = behind.stands(binary, &what, targets, bests);
    let Behind { home, records, port, counted, .. } = behind;
    let _broker = mosquitto(home.path(), port);
    wait(|| TcpStream::connect(("127.0.0.1", port)).ok());
    let hub = runtime.block_on(hub(home.path(), port));
    let thru = || hub.reader.ledgers().ok().and_then(|all| all.iter().map(|ledger| ledger.thru).max()).unwrap_or(0);
    // The agent may be between two tries to connect: the clock starts with the first byte.
    wait(|| (counted.payload.load(Ordering::Relaxed) > 0).then_some(()));
    let (began, cpu) = (Instant::now(), agent.cpu());
    wait(|| (thru() >= records).then_some(()));
    let (took, cpu) = (began.elapsed().as_secs_f64(), agent.cpu() - cpu);
    let samples = (millions * MILLION) as f64;
    let best = if millions == 1 { "0.08 s (lz4)" } else { "" };
    row(&format!("processor a million out, {what}"), format!("{:.3} s", cpu / millions as f64), "0.08 s", best);
    let payload = counted.payload.load(Ordering::Relaxed) as f64 / samples;
    row(&format!("MQTT up, {what}"), format!("{payload:.2} B/sample"), "1.4", "59.2 B, 17.4 with lz4");
    let ip = counted.ip_bytes() as f64 / samples;
    row(&format!("IP up, {what}, packets of 1500 bytes"), format!("{ip:.2} B/sample"), "", "");
    let figure = format!("{took:.1} s, {:.2} M samples/s", millions as f64 / took);
    row(&format!("drained and confirmed at 100 ms round trip, {millions} M"), figure, "", "");
    row(&format!("memory (RSS) at most, {millions} M drained"), format!("{:.1} MiB", agent.peak_mib()), "", "");
    drop(agent);
    runtime.block_on(hub.stop()).expect("it stops");
}

/// Starts the agent; how long until it says to its service manager that it is ready.
fn ready_ms(binary: &Path, config: &Path, home: &Path) -> (f64, Agent) {
    let socket = home.join("notify");
    let _ = fs::remove_file(&socket);
    let manager = UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("it can be told");
    let mut command = Command::new(binary);
    command.args(["run", "--config"]).arg(config).env("NOTIFY_SOCKET", &socket).stdin(Stdio::null());
    let began = Instant::now();
    let agent = Agent(command.spawn().expect("the agent starts"));
    let mut said = [0; 512];
    while !manager.recv(&mut said).is_ok_and(|n| said[..n].starts_with(b"READY=1")) {}
    (began.elapsed().as_secs_f64() * 1e3, agent)
}

/// Twenty simulated wheels with each commit policy: what the disk is made to do in an hour.
fn wear(binary: &Path) {
    let policies = [
        ("commit-every = \"1 s\", offline", "commit-every = \"1 s\"", false),
        ("commit-every = \"10 s\", offline", "commit-every = \"10 s\"", false),
        ("commit-every = \"60 s\", offline", "commit-every = \"60 s\"", false),
        ("commit-every = \"1 s\", online", "commit-every = \"1 s\"", true),
        ("lazy = \"60 s\", online", "lazy = \"60 s\"", true),
    ];
    let (home, port) = (tempfile::tempdir().expect("a temporary directory"), unused_port());
    let _broker = mosquitto(home.path(), port);
    wait(|| TcpStream::connect(("127.0.0.1", port)).ok());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("an event loop");
    let hub = runtime.block_on(hub(home.path(), port));
    let worn = std::thread::scope(|all| {
        let watch = |number: usize, policy: &str, online: bool| {
            let own = home.path().join(format!("gateway-{number}"));
            fs::create_dir(&own).expect("a folder");
            watch_wear(binary, &configure(&own, SENSORS, if online { port } else { unused_port() }, policy), &own)
        };
        let watched = policies.iter().enumerate();
        let threads: Vec<_> =
            watched.map(|(n, (_, policy, online))| all.spawn(move || watch(n, policy, *online))).collect();
        threads.into_iter().map(|thread| thread.join().expect("watched")).collect::<Vec<_>>()
    });
    for ((name, ..), (mib, syncs)) in policies.iter().zip(worn) {
        let syncs = syncs.map_or("fsyncs not counted (no strace)".to_owned(), |syncs| format!("{syncs:.0} fsyncs/h"));
        row(&format!("wear, {name}"), format!("{mib:.1} MiB/h, {syncs}"), "", "");
    }
    runtime.block_on(hub.stop()).expect("it stops");
}

/// MiB written and syncs asked for in an hour, the first seconds left out.
fn watch_wear(binary: &Path, config: &Path, home: &Path) -> (f64, Option<f64>) {
    let agent = Agent::start(binary, config);
    sleep(Duration::from_secs(5));
    let log = home.join("syncs");
    let id = agent.0.id().to_string();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "trace=fsync,fdatasync,sync_file_range", "-p", &id, "-o"]).arg(&log);
    let counting = strace.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok().map(Agent);
    let (began, before) = (Instant::now(), agent.written());
    sleep(WORN);
    let hours = began.elapsed().as_secs_f64() / 3600.0;
    let mib = (agent.written() - before) as f64 / MIB / hours;
    let text = counting.is_some().then(|| fs::read_to_string(&log).unwrap_or_default());
    let begun = |line: &&str| line.contains("sync(") || line.contains("sync_file_range(");
    (mib, text.map(|text| text.lines().filter(begun).count() as f64 / hours))
}

fn configure(home: &Path, wheels: usize, port: u16, spool: &str) -> PathBuf {
    let id = home.file_name().and_then(|name| name.to_str()).unwrap_or_default().trim_start_matches('.');
    let mut text = format!(
        "[gateway]\nid = \"{id}\"\nboard = \"simulated\"\nstate-directory = {home:?}\n\
         [broker]\nurl = \"mqtt://127.0.0.1:{port}\"\n[log]\nlevel = \"error\"\n\
         [spool]\ndirectory = {:?}\nkeep-free = \"0 MiB\"\n{spool}\n",
        home.join("spool")
    );
    for wheel in 0..wheels {
        text += &format!(
            "[[sensor]]\nname = \"wheel-{wheel}\"\nkind = \"hall\"\npin = \"SIM{wheel}\"\npulses-per-turn = 8\n\
             circumference = \"1.985 m\"\nmax-speed = \"130 km/h\"\n"
        );
    }
    let file = home.join("gateway.toml");
    fs::write(&file, text).expect("a file");
    file
}
