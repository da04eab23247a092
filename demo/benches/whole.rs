//! The agent as it runs on a gateway, with a real mosquitto and a real hub: start, processor, memory, backlog.
//!
//! The agent is the release binary in a process of its own; its figures are that process's, as the kernel counts them.
//! Prints the lines of a table.

mod process;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use process::{Agent, MIB, PATIENCE, build, mosquitto, unused_port, wait};
use speedwell::spool::{Options, Spool};
use speedwell_hub::{BrokerUrl, Hub};
use speedwell_wire::{
    Channel, Manifest, Quality, Quantity, Record, Samples,
    block::{self, Column, Sample, Uncertainty},
};

const CHANNELS: u16 = 20;
const MILLION: u64 = 1_000_000;
const SAMPLES_PER_RECORD: u64 = CHANNELS as u64 * 10;
/// How long the agent is watched at its ordinary work.
const WATCHED: Duration = Duration::from_secs(20);
/// Starts measured; the median counts.
const STARTS: usize = 7;

fn main() {
    let Some(binary) = build() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("an event loop");
    println!("| what | figure | target |\n|---|---|---|");
    start(&binary);
    work(&binary);
    backlog(&binary, &runtime);
}

/// From the start of the process to the first sample in its local socket.
fn start(binary: &Path) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let config = configure(home.path(), 1, 48, unused_port());
    let mut times: Vec<Duration> = (0..STARTS).map(|_| first_sample(binary, &config, home.path())).collect();
    times.sort();
    let ms = times[STARTS / 2].as_secs_f64() * 1e3;
    println!("| start of the process to its first sample, median of {STARTS} | {ms:.0} ms | 100 ms |");
}

fn first_sample(binary: &Path, config: &Path, home: &Path) -> Duration {
    let socket = home.join("live.sock");
    let began = Instant::now();
    let agent = Agent::start(binary, config);
    let stream = wait(|| UnixStream::connect(&socket).ok());
    let mut lines = BufReader::new(stream).lines();
    let _manifest = lines.next();
    let measured = lines.map_while(Result::ok).any(|line| line.contains("\"quality\""));
    assert!(measured, "the agent ended without a sample");
    let took = began.elapsed();
    drop(agent);
    took
}

/// Twenty wheels of eight magnets at 10 Hz, some 1,600 edges a second in all, with nobody to send to.
fn work(binary: &Path) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let agent = Agent::start(binary, &configure(home.path(), CHANNELS, 8, unused_port()));
    sleep(Duration::from_secs(3));
    let (cpu, began, written) = (agent.cpu(), Instant::now(), agent.written());
    sleep(WATCHED);
    let took = began.elapsed().as_secs_f64();
    let share = (agent.cpu() - cpu) / took * 100.0;
    println!(
        "| processor, 20 simulated wheels x 10 Hz, offline (simulating the edges included) | {share:.1} % of a core | 1 % |"
    );
    println!("| memory idle (RSS) | {:.1} MiB | 12 MiB |", agent.rss_mib());
    let per_hour = (agent.written() - written) as f64 / took * 3600.0 / MIB;
    println!("| written to disk offline, commits each second | {per_hour:.0} MiB/h | |");
}

/// A million samples behind: memory with the broker away, then how fast they are confirmed.
fn backlog(binary: &Path, runtime: &tokio::runtime::Runtime) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let port = unused_port();
    runtime.block_on(fill(&home.path().join("spool")));
    let last = MILLION / SAMPLES_PER_RECORD;
    let agent = Agent::start(binary, &configure(home.path(), 1, 48, port));
    sleep(Duration::from_secs(5));
    println!("| memory with a million samples behind (RSS) | {:.1} MiB | 12 MiB |", agent.rss_mib());

    let mosquitto = mosquitto(home.path(), port);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait(|| TcpStream::connect(address).ok());
    let mut config = speedwell_hub::Config::new(BrokerUrl::plain(address), home.path().join("hub.sqlite"));
    config.http.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let hub = runtime.block_on(Hub::start(config)).expect("a hub");
    // The agent may be between two tries to connect: the clock starts with the first confirmation.
    let (_sub, mut confirmed) = confirmations(port);
    let begun_at = wait(|| confirmed().filter(|&seq| seq > 0));
    let (cpu, began) = (agent.cpu(), Instant::now());
    wait(|| confirmed().filter(|&seq| seq >= last));
    let (took, cpu) = (began.elapsed().as_secs_f64(), agent.cpu() - cpu);
    let samples = ((last - begun_at) * SAMPLES_PER_RECORD) as f64;
    println!(
        "| backlog confirmed by the hub, SQLite, over a real broker | {:.0} samples/s | 500,000 |",
        samples / took
    );
    println!("| processor of the agent for it | {:.3} s per million samples | 0.08 |", cpu / samples * 1e6);
    println!("| memory after it (RSS) | {:.1} MiB | |", agent.rss_mib());
    drop(agent);
    runtime.block_on(hub.stop()).expect("a graceful stop");
    drop(mosquitto);
}

/// A spool as an agent that was offline for 5000 s leaves it.
async fn fill(directory: &Path) {
    let channel = |id| Channel {
        id,
        sensor: format!("wheel-{id}"),
        quantity: Quantity::Speed,
        resolution_nano: 1_000_000,
        tick_ns: 100_000,
        period_ns: 100_000_000,
        calibration: 0,
    };
    let manifest = Manifest { channels: (0..CHANNELS).map(channel).collect() };
    let (spool, _) = Spool::open(Options::new(directory)).expect("a spool");
    spool.keep_manifest(&manifest).await.expect("a manifest");
    let mut random = fastrand::Rng::with_seed(1);
    let mut value = vec![15_000i64; usize::from(CHANNELS)];
    for second in 0..MILLION / SAMPLES_PER_RECORD {
        let mut column = |channel: u16| {
            let samples = (0..10).map(|n| {
                value[usize::from(channel)] = (value[usize::from(channel)] + random.i64(-12..=12)).max(0);
                let tick = second * 10_000 + n * 1000 + random.u64(0..7);
                let value = value[usize::from(channel)];
                Sample { tick, value, uncertainty: Uncertainty(30), quality: Quality::Good }
            });
            Column { channel, samples: samples.collect() }
        };
        let columns: Vec<Column> = (0..CHANNELS).map(&mut column).collect();
        let block = block::encode(&columns, &manifest);
        let record = Record::Samples(Samples { manifest: manifest.hash(), boot: 1, block });
        spool.append(vec![record]).await.expect("room");
    }
    spool.close().await.expect("a flush");
}

/// What the hub confirms, as it confirms it.
fn confirmations(port: u16) -> (impl Drop, impl FnMut() -> Option<u64>) {
    let port = port.to_string();
    let topic = ["-p", &port, "-t", "speedwell/v1/bench-gw/confirm"];
    let mut sub = Command::new("mosquitto_sub").args(topic).stdout(Stdio::piped()).spawn().expect("mosquitto-clients");
    let lines = BufReader::new(sub.stdout.take().expect("a pipe")).lines();
    let (said, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let thru = serde_json::from_str::<serde_json::Value>(&line).ok().and_then(|c| c["thru"].as_u64());
            let _ = said.send(thru.unwrap_or(0));
        }
    });
    (Agent(sub), move || heard.recv_timeout(PATIENCE).ok())
}

fn configure(home: &Path, wheels: u16, teeth: u16, port: u16) -> PathBuf {
    let mut text = format!(
        "[gateway]\nid = \"bench-gw\"\nboard = \"simulated\"\nstate-directory = {home:?}\n\
         [broker]\nurl = \"mqtt://127.0.0.1:{port}\"\n[spool]\ndirectory = {:?}\n[log]\nlevel = \"error\"\n",
        home.join("spool")
    );
    for wheel in 0..wheels {
        text += &format!(
            "[[sensor]]\nname = \"wheel-{wheel}\"\nkind = \"hall\"\npin = \"SIM{wheel}\"\npulses-per-turn = {teeth}\n\
             circumference = \"1.985 m\"\nmax-speed = \"130 km/h\"\n"
        );
    }
    let file = home.join("gateway.toml");
    fs::write(&file, text).expect("a file");
    file
}
