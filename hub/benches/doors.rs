//! Single readings/s through the HTTP and the TCP door of a hub process of its own into SQLite, each durable before its
//! answer, and the processor time that takes.
//!
//! A client sends the next request of a connection when the last was answered, or `DEPTH` at a time (pipelining). The
//! clients share the machine's cores with the hub; the processor time is the hub's alone.
//! `cargo bench -p speedwell-hub --bench doors -- [REQUESTS] [WORDS]`, only what has all these words in its name.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command},
    time::{Duration, Instant},
};

use speedwell_hub::access::{Book, By, NewKey, Scope};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

const REQUESTS: u64 = 500_000;
const DEVICES: u64 = 200;
/// 2026-01-01T00:00:00Z
const FROM_NS: i64 = 1_767_225_600_000_000_000;

#[derive(Clone, Copy)]
enum Door {
    Http,
    /// With a key of the hub's, which then asks everybody who he is.
    Known,
    Alias,
    Keyed,
    Tcp,
}

fn main() {
    let told: Vec<String> = std::env::args().skip(1).filter(|told| !told.starts_with("--")).collect();
    let requests = told.iter().find_map(|told| told.parse().ok()).unwrap_or(REQUESTS);
    let words = || told.iter().filter(|told| told.parse::<u64>().is_err());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    for (what, door, connections, depth) in [
        ("HTTP, 100 connections", Door::Http, 100, 1),
        ("HTTP with a key, 100 connections", Door::Known, 100, 1),
        ("HTTP, 2,000 connections", Door::Http, 2000, 1),
        ("HTTP with a key, 2,000 connections", Door::Known, 2000, 1),
        ("HTTP, 2,000 connections, 8 requests at a time each", Door::Http, 2000, 8),
        ("HTTP with Idempotency-Key, 2,000 connections", Door::Keyed, 2000, 1),
        ("HTTP alias (three readings each), 2,000 connections", Door::Alias, 2000, 1),
        ("TCP, 64 connections, 64 messages at a time each (three readings each)", Door::Tcp, 64, 64),
    ] {
        if !words().all(|word| what.contains(word.as_str())) {
            continue;
        }
        let (rate, cpu) = runtime.block_on(measure(door, requests, connections, depth));
        println!("| single items over {what}, durable in SQLite | {rate:.0} items/s | |");
        println!("| the hub's CPU a million | {cpu:.1} s | |");
    }
}

/// Items a second, and processor seconds a million.
async fn measure(door: Door, requests: u64, connections: u64, depth: u64) -> (f64, f64) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (http, tcp) = (free_port(), free_port());
    let config = directory.path().join("hub.toml");
    // Nobody is the broker: that door is not what is measured.
    let lines = format!(
        "[broker]\nurl = \"mqtt://127.0.0.1:1\"\n[store]\npath = \"{}\"\n[http]\nlisten = \"{http}\"\n\
         [access]\nrequests-per-second = 10000000\n[tcp]\nlisten = \"{tcp}\"\n[log]\nlevel = \"off\"\n",
        directory.path().join("hub.sqlite").display()
    );
    fs::write(&config, lines).expect("a configuration");
    let known = matches!(door, Door::Known).then(|| key(&directory.path().join("access.sqlite")));
    let hub = Hub(Command::new(env!("CARGO_BIN_EXE_speedwell-hub"))
        .args(["run", "--config"])
        .arg(&config)
        .spawn()
        .expect("the hub starts"));
    let at = if matches!(door, Door::Tcp) { tcp } else { http };
    let mut clients = JoinSet::new();
    let each = requests / connections / depth;
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(connect(at).await);
    }
    let (cpu, began) = (cpu_seconds(hub.0.id()), Instant::now());
    for (client, stream) in (0u64..).zip(streams) {
        let bearer = known.as_ref().map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
        clients.spawn(async move {
            let mut client = Client { stream, client, n: 0, bearer, answer: Vec::new() };
            for _ in 0..each {
                client.round(door, depth).await;
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client that got all its answers");
    }
    let (took, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds(hub.0.id()) - cpu);
    let items = (each * connections * depth) as f64;
    let rows = rusqlite::Connection::open(directory.path().join("hub.sqlite"))
        .and_then(|db| db.query_row("SELECT count(*) FROM readings", [], |row| row.get::<_, i64>(0)))
        .expect("the database");
    let per_item = if matches!(door, Door::Http | Door::Known | Door::Keyed) { 1.0 } else { 3.0 };
    assert_eq!(rows as f64, items * per_item, "what was accepted is there, once");
    (items / took, cpu / items * 1e6)
}

struct Client {
    stream: TcpStream,
    client: u64,
    n: u64,
    bearer: String,
    answer: Vec<u8>,
}

impl Client {
    /// Sends so many, and waits for all answers.
    async fn round(&mut self, door: Door, depth: u64) {
        let mut text = String::new();
        for _ in 0..depth {
            self.n += 1;
            self.write(door, &mut text);
        }
        self.stream.write_all(text.as_bytes()).await.expect("a connection");
        let (wanted, mut seen) = (depth as usize, 0);
        self.answer.clear();
        let mark: &[u8] = b"\"accepted\":1";
        let mut looked = 0;
        while seen < wanted {
            let n = self.stream.read_buf(&mut self.answer).await.expect("a connection");
            assert!(n > 0, "closed: {}", String::from_utf8_lossy(&self.answer));
            while let Some(at) = find(&self.answer, looked, mark) {
                (looked, seen) = (at + mark.len(), seen + 1);
            }
            // An answer of another kind is never counted, so it shows as a wait without end.
            if seen < wanted && find(&self.answer, 0, b"\"error\"").is_some() {
                panic!("{}", String::from_utf8_lossy(&self.answer));
            }
        }
        // The rest of the last answer, a bracket or a line end, belongs to it and is read with the next.
    }

    fn write(&self, door: Door, text: &mut String) {
        use std::fmt::Write;
        let Client { client, n, bearer, .. } = self;
        let device = client % DEVICES;
        // Clients of one device differ by a microsecond.
        let ns = FROM_NS + (*n as i64) * 100_000_000 + (*client as i64) * 1000;
        let at = jiff::Timestamp::from_nanosecond(ns.into()).expect("a time");
        let speed = n % 30;
        let body = match door {
            Door::Http | Door::Known | Door::Keyed => format!(
                r#"{{"device":"truck-{device}","sensor":"front-wheel","quantity":"speed","unit":"km/h","value":{speed}.5,"at":"{at}"}}"#
            ),
            Door::Alias | Door::Tcp => format!(
                r#"{{"device_id":"truck-{device}","location":"41.{n},28.{n}","speed":{speed},"timestamp":"{at}"}}"#
            ),
        };
        let key =
            if matches!(door, Door::Keyed) { format!("Idempotency-Key: {client}-{n}\r\n") } else { String::new() };
        let path = if matches!(door, Door::Alias) { "/tracking/data/" } else { "/api/v1/readings" };
        let written = match door {
            Door::Tcp => writeln!(text, "{body}"),
            _ => write!(
                text,
                "POST {path} HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\n{bearer}{key}Content-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        };
        written.expect("room for text");
    }
}

/// A key that may send, made as the command line makes one.
fn key(path: &Path) -> String {
    let new = NewKey { name: "bench".into(), scopes: [Scope::Ingest].into_iter().collect(), until_s: None };
    Book::open(path).and_then(|mut book| book.add_key(&By::command_line(), &new)).expect("a key").1
}

fn find(text: &[u8], from: usize, mark: &[u8]) -> Option<usize> {
    text.get(from..)?.windows(mark.len()).position(|w| w == mark).map(|at| at + from)
}

struct Hub(Child);

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("a free port")
}

async fn connect(at: SocketAddr) -> TcpStream {
    let began = Instant::now();
    loop {
        match TcpStream::connect(at).await {
            Ok(stream) => {
                stream.set_nodelay(true).expect("a socket");
                return stream;
            }
            Err(error) => assert!(began.elapsed() < Duration::from_secs(20), "the hub does not listen: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// User and system time of a process.
fn cpu_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the hub runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime");
    // SAFETY: takes no pointer.
    ticks / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
}
