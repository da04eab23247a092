//! How long a value takes from its stamp at the gateway to a WebSocket client, and what many clients cost.
//!
//! A hub process of its own behind a mosquitto. Simulated gateways each publish a live message of ten channels a second,
//! spread over the second; the first value of each is the boot clock at sending, which the client takes from the boot
//! clock at receipt. What an agent adds before it sends, up to a second of its live period, is not in it. Of many
//! clients, a few are measured and the others read and drop what they get, since they share the machine with the hub.
//! `cargo bench -p speedwell-hub --bench live -- SECONDS`; `SPEEDWELL_HUB=PATH` measures another hub.

#[path = "../tests/rig/mod.rs"]
mod rig;

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Command},
    time::Duration,
};

use futures_util::StreamExt;
use rumqttc::{AsyncClient, MqttOptions, NetworkOptions, QoS};
use serde_json::Value;
use speedwell_wire::{Quality, frame, topic::Topics};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, interval, sleep, timeout_at},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async, tungstenite::Message};

const SECONDS: u64 = 20;
/// Until everything is connected and warm.
const WARM: Duration = Duration::from_secs(4);
/// Clients whose latencies are taken.
const MEASURED: usize = 4;

fn main() {
    let seconds = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(SECONDS);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    for (gateways, clients) in [(1, 1), (100, 1), (1000, 1), (100, 100), (100, 1000)] {
        let found = runtime.block_on(measure(gateways, clients, Duration::from_secs(seconds)));
        let what = format!("{gateways} gateways, {clients} WebSocket clients");
        let (p50, p99, longest) = (found.p(0.5), found.p(0.99), found.p(1.0));
        let target = if (gateways, clients) == (100, 1) { "p99 250 ms" } else { "" };
        println!("| {what}: stamp to client | p50 {p50:.1} ms, p99 {p99:.1} ms, longest {longest:.0} ms | {target} |");
        let seen = 100.0 * found.ms.len() as f64 / found.sent.max(1) as f64;
        let cpu = found.cpu * 100.0;
        println!(
            "| {what}: values seen; hub | {seen:.1} %; {:.1} MiB at most, {cpu:.0} % of a core | |",
            found.rss_mib
        );
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        eprintln!("{what}: load of the machine {}", load.split(' ').next().unwrap_or_default());
    }
}

struct Found {
    /// Sorted.
    ms: Vec<f64>,
    /// Values that a client that misses none would have seen, of all measured clients.
    sent: u64,
    rss_mib: f64,
    cpu: f64,
}

impl Found {
    fn p(&self, part: f64) -> f64 {
        let at = (self.ms.len() as f64 * part) as usize;
        self.ms.get(at.min(self.ms.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

struct HubProcess(Child);

impl Drop for HubProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn measure(gateways: usize, clients: usize, lasts: Duration) -> Found {
    let broker = rig::Mosquitto::start();
    let (directory, at) = (broker.directory.path(), SocketAddr::from(([127, 0, 0, 1], rig::free_port())));
    let config = directory.join("hub.toml");
    let lines = format!(
        "[broker]\nurl = \"{}\"\n[store]\npath = \"{}\"\n[http]\nlisten = \"{at}\"\n[log]\nlevel = \"off\"\n",
        broker.url(),
        directory.join("live.sqlite").display()
    );
    fs::write(&config, lines).expect("a configuration");
    let program = std::env::var("SPEEDWELL_HUB").unwrap_or_else(|_| env!("CARGO_BIN_EXE_speedwell-hub").into());
    let hub = Command::new(program).args(["run", "--config"]).arg(&config).spawn().expect("the hub starts");
    let hub = HubProcess(hub);
    while TcpStream::connect(at).await.is_err() {
        sleep(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_secs(1)).await;

    let mut tasks = JoinSet::new();
    for first in (0..gateways).step_by(100) {
        tasks.spawn(publish(broker.port, first..(first + 100).min(gateways)));
    }
    let measured = clients.min(MEASURED);
    for _ in measured..clients {
        let socket = watch(at).await;
        tasks.spawn(drop_all(socket));
    }
    let (from, to) = (Instant::now() + WARM, Instant::now() + WARM + lasts);
    let mut seen = JoinSet::new();
    for _ in 0..measured {
        let socket = watch(at).await;
        seen.spawn(latencies(socket, from, to));
    }
    tokio::time::sleep_until(from).await;
    let (cpu, mut rss_mib) = (cpu_seconds(hub.0.id()), 0.0_f64);
    while Instant::now() < to {
        rss_mib = rss_mib.max(resident_mib(hub.0.id()));
        sleep(Duration::from_millis(200)).await;
    }
    let cpu = (cpu_seconds(hub.0.id()) - cpu) / lasts.as_secs_f64();
    let mut ms: Vec<f64> = seen.join_all().await.into_iter().flatten().collect();
    ms.sort_by(f64::total_cmp);
    Found { ms, sent: gateways as u64 * lasts.as_secs() * measured as u64, rss_mib, cpu }
}

/// Says something of each gateway once a second, at its own place in the second.
async fn publish(port: u16, gateways: std::ops::Range<usize>) {
    let mut options = MqttOptions::new(format!("fleet-{}", gateways.start), "127.0.0.1", port);
    options.set_inflight(1000);
    let (client, mut events) = AsyncClient::new(options, 4096);
    // As the agent does.
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    events.set_network_options(network);
    tokio::spawn(async move { while events.poll().await.is_ok() {} });
    let manifest = rig::live_manifest();
    let topics: Vec<Topics> =
        gateways.clone().map(|n| Topics::new(rig::PREFIX, &rig::id(&format!("truck-{n:04}")))).collect();
    for topics in &topics {
        let topic = topics.manifest(manifest.hash());
        client.publish(topic, QoS::AtLeastOnce, true, frame::encode(&manifest)).await.expect("published");
    }
    // Different connections at different times of the step.
    sleep(Duration::from_micros(gateways.start as u64 * 97 % 10_000)).await;
    let mut step = interval(Duration::from_secs(1) / topics.len() as u32);
    for topics in topics.iter().cycle() {
        step.tick().await;
        let now_ns = boot_ns();
        let speeds = (2..=10).map(|channel| (channel, Ok((20.0, 0.02, Quality::Good))));
        let values: Vec<rig::Said> = [(1, Ok((now_ns as f64, 0.0, Quality::Good)))].into_iter().chain(speeds).collect();
        let live = frame::encode(&rig::live(&values, now_ns));
        client.publish(topics.live(), QoS::AtMostOnce, false, live).await.expect("published");
    }
}

async fn watch(at: SocketAddr) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
    let stream = MaybeTlsStream::Plain(TcpStream::connect(at).await.expect("the hub listens"));
    client_async(format!("ws://{at}/ws"), stream).await.expect("the hub takes watchers").0
}

/// Reads as fast as it can and looks at nothing. It answers no ping either: short of what the hub's patience is.
async fn drop_all(socket: WebSocketStream<MaybeTlsStream<TcpStream>>) {
    let MaybeTlsStream::Plain(mut stream) = socket.into_inner() else { return };
    let mut part = vec![0; 32 * 1024];
    while stream.read(&mut part).await.is_ok_and(|n| n > 0) {}
}

/// Of each value that is newer than the last of its gateway, within a time.
async fn latencies(mut socket: WebSocketStream<MaybeTlsStream<TcpStream>>, from: Instant, to: Instant) -> Vec<f64> {
    let (mut newest, mut ms) = (std::collections::HashMap::<String, f64>::new(), Vec::new());
    while let Ok(Some(Ok(said))) = timeout_at(to, socket.next()).await {
        let got = boot_ns() as f64;
        let Message::Text(text) = said else { continue };
        let said: Value = serde_json::from_str(&text).expect("JSON");
        let gateway = &said["gateway"];
        let speed = |c: &&Value| c["sensor"] == "front-wheel" && c["quantity"] == "speed";
        let stamp = gateway["channels"].as_array().and_then(|all| all.iter().find(speed)?["value"].as_f64());
        let (Some(stamp), Some(id)) = (stamp, gateway["id"].as_str()) else { continue };
        if newest.insert(id.to_owned(), stamp).is_none_or(|before| before < stamp) && Instant::now() >= from {
            ms.push((got - stamp) / 1e6);
        }
    }
    ms
}

/// CLOCK_BOOTTIME, which all processes share.
fn boot_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn resident_mib(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the hub runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}

/// User and system time of a process.
fn cpu_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the hub runs");
    // proc(5): the 12th and 13th field after the name in brackets, in ticks of 1/100 s.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
