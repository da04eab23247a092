//! What five older systems do, row by row, and which test holds it; here is what no other file has.
//!
//! | a live speed feed | test |
//! |---|---|
//! | store: SQLite, or PostgreSQL by setting | `store_contract`, all of it on both; `store_postgres::a_hub_on_postgresql_…` |
//! | `/ws/speed-data/`, snapshot, speed 0, `?device=` | `watch::the_older_feed_tells_each_new_speed_zero_too_…`, `…has_a_device_chosen_…` |
//! | page: gauge, connection, time; reconnects | `page::gateway::a_person_reads_the_speed_…`, `…the_dial_points_…`, `page::line::a_page_that_was_cut_off_…` |
//!
//! | who is connected | test |
//! |---|---|
//! | a ping a minute; up while heard; `/vehicles/`; unknown ids make no vehicle | `presence::the_alias_lists_each_vehicle_once_…`, `…a_foreign_device_over_http_…` |
//! | vehicles belong to customers; no id twice | `presence::the_registry_is_changed_over_http_…`, `store_contract::fleet` |
//! | page: sort, filter, refresh | `page::fleet`, `page::registry` |
//! | simulator: vehicles that ping or not | `simulate::a_fleet_with_every_trouble_…` |
//! | each part more than once | `store_postgres::of_two_hubs_given_the_same_batches_…`, `trouble::two_hubs_…` |
//! | jitter does not flap: 2.5 intervals | `presence::link::a_gateway_is_silent_after_two_and_a_half_beats_…`, `presence::beat` |
//! | last seen, history, push | `presence::a_gateway_that_is_killed_…`, `…that_falls_silent_…` |
//!
//! | ingest over HTTP and TCP, query by range | test |
//! |---|---|
//! | `POST /tracking/data/`: one or many, 202, 400 with the item, the client's time | `ingest_http::the_alias_keeps_place_…`, `…bad_items_are_named_…` |
//! | TCP: more than 1,024 bytes, many messages a connection, an answer each | `ingest_tcp::messages_come_a_line_each_…`, `…what_is_wrong_with_a_message_…` |
//! | `…/list/`: 50 a page, newest first, either date alone, time of day | `query::a_list_…` (three of them) |
//! | `…/latest/{id}/`, 404 | `query::the_latest_of_a_device_…` |
//! | OpenAPI | `presence::what_is_served_describes_itself`, `query::a_wrong_question_…` |
//! | keys | `access::each_role_and_each_scope_…`, `access_ways::over_tcp_a_key_comes_first_…` |
//! | a retry is stored once | `ingest_http::a_request_whose_answer_was_lost_…` |
//! | what was accepted is never lost | [`what_was_accepted_outlives_a_hub_that_is_killed_over_http_and_over_tcp`], `…_on_postgresql` |
//! | a million records a day | [`a_million_records_a_day_come_one_by_one_with_room_to_spare`]; `benches/doors.rs` says how many more |

mod rig;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    os::fd::BorrowedFd,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use rig::{
    http::{get, request},
    postgres::Cluster,
    *,
};
use serde_json::{Value, json};
use speedwell_hub::{
    BrokerUrl,
    config::{Feed, FeedShape, SpeedUnit, Tcp, TopicFilter},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{client_async, tungstenite::Message};

/// A hub without a broker, with both doors for programs.
async fn hub(url: BrokerUrl) -> HubRig {
    let mut tcp = Tcp::default();
    tcp.listen.set_port(0);
    HubRig::with(url, |config| config.tcp = Some(tcp)).await
}

fn nobody() -> BrokerUrl {
    BrokerUrl::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)))
}

/// The program itself, to be killed.
struct Killed(Child);

impl Killed {
    /// On SQLite, or on the PostgreSQL that an address names.
    async fn start(directory: &Path, url: Option<&str>, http: SocketAddr, tcp: SocketAddr) -> Self {
        let file = directory.join("hub.toml");
        let text = format!(
            "[broker]\nurl = \"mqtt://127.0.0.1:1\"\n[store]\npath = {:?}\n{}[http]\nlisten = \"{http}\"\n[tcp]\nlisten = \"{tcp}\"\n",
            directory.join("hub.sqlite"),
            url.map(|url| format!("url = {url:?}\n")).unwrap_or_default()
        );
        std::fs::write(&file, text).unwrap();
        let mut hub = Command::new(env!("CARGO_BIN_EXE_speedwell-hub"));
        let hub = hub.args(["run", "--config"]).arg(&file).stderr(Stdio::null()).spawn().unwrap();
        let new = Self(hub);
        until("the hub listens", || {
            std::net::TcpStream::connect(http).is_ok() && std::net::TcpStream::connect(tcp).is_ok()
        })
        .await;
        new
    }

    /// As the power going: nothing is put in order.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was accepted, and under which key and body something was sent to which no answer came.
struct Sent {
    accepted: Vec<String>,
    open: Option<(String, String)>,
}

fn item(device: &str) -> String {
    json!([{"device_id": device, "location": "41,29", "speed": 36}]).to_string()
}

/// One after the other on a connection that stays, each under a key of its own, until the hub is gone.
async fn send_over_http(at: SocketAddr, name: String) -> Sent {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let mut sent = Sent { accepted: Vec::new(), open: None };
    for n in 0.. {
        let device = format!("{name}-{n}");
        let body = item(&device);
        sent.open = Some((device.clone(), body.clone()));
        let head = format!(
            "POST /tracking/data/ HTTP/1.1\r\nHost: {at}\r\nContent-Type: application/json\r\n\
             Idempotency-Key: {device}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(head.as_bytes()).await.is_err() {
            break;
        }
        let (mut all, mut part) = (Vec::new(), [0; 1024]);
        while !all.ends_with(b"}") {
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => return sent,
                Ok(n) => all.extend_from_slice(&part[..n]),
            }
        }
        let text = String::from_utf8(all).unwrap();
        assert!(text.starts_with("HTTP/1.1 202") && text.contains("\"accepted\":1"), "{text}");
        sent.accepted.push(device);
    }
    sent
}

/// Many on their way at once, as a sender that does not wait has them.
async fn send_over_tcp(at: SocketAddr, name: String) -> Sent {
    let (from, mut to) = TcpStream::connect(at).await.unwrap().into_split();
    let writer = name.clone();
    let writing = tokio::spawn(async move {
        for n in 0.. {
            if to.write_all(format!("{}\n", item(&format!("{writer}-{n}"))).as_bytes()).await.is_err() {
                return;
            }
        }
    });
    let (mut lines, mut accepted) = (BufReader::new(from).lines(), Vec::new());
    while let Ok(Some(line)) = lines.next_line().await {
        assert_eq!(line, r#"{"message":"Data received","accepted":1}"#);
        accepted.push(format!("{name}-{}", accepted.len()));
    }
    writing.abort();
    Sent { accepted, open: None }
}

/// How often each device is in the database.
fn rows(directory: &Path, url: Option<&str>) -> BTreeMap<String, u32> {
    let sql = "SELECT gateway, count(*) FROM series JOIN readings ON series = id WHERE quantity = 'speed' GROUP BY 1";
    if let Some(url) = url {
        let told = Cluster::shared().sql(url, sql);
        let row = |line: &str| line.split_once('|').map(|(device, n)| (device.to_owned(), n.parse().unwrap()));
        return told.lines().map(|line| row(line).unwrap()).collect();
    }
    let db = rusqlite::Connection::open(directory.join("hub.sqlite")).unwrap();
    let mut rows = db.prepare(sql).unwrap();
    rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_outlives_a_hub_that_is_killed_over_http_and_over_tcp() {
    kill_while_it_takes(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_outlives_a_hub_that_is_killed_on_postgresql() {
    kill_while_it_takes(Some(&Cluster::shared().database())).await;
}

async fn kill_while_it_takes(url: Option<&str>) {
    let directory = tempfile::tempdir().unwrap();
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (http, tcp) = (at(free_port()), at(free_port()));
    let mut all = Vec::new();
    for round in 0..3 {
        let hub = Killed::start(directory.path(), url, http, tcp).await;
        let senders: Vec<_> = (0..4)
            .map(|n| match n % 2 {
                0 => tokio::spawn(send_over_http(http, format!("h{round}-{n}"))),
                _ => tokio::spawn(send_over_tcp(tcp, format!("t{round}-{n}"))),
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(700 + 100 * round)).await;
        hub.kill();
        for sender in senders {
            all.push(timeout(LONG, sender).await.expect("the connection ended").unwrap());
        }
    }
    let hub = Killed::start(directory.path(), url, http, tcp).await;
    // Whoever got no answer does not know, and sends again under the same key: it is there once all the same.
    for (device, body) in all.iter().filter_map(|sent| sent.open.as_ref()) {
        let head = format!("Content-Type: application/json\r\nIdempotency-Key: {device}\r\n");
        let (status, _, told) = http::send(http, "POST", "/tracking/data/", &head, body.as_bytes()).await;
        assert_eq!(status, 202, "{told}");
    }
    hub.kill();
    let rows = rows(directory.path(), url);
    let again = all.iter().filter_map(|sent| sent.open.as_ref().map(|(device, _)| device));
    let accepted: Vec<&String> = all.iter().flat_map(|sent| &sent.accepted).chain(again).collect();
    assert!(accepted.len() > 100, "{} were accepted: too few to say anything", accepted.len());
    for device in accepted {
        assert_eq!(rows.get(device), Some(&1), "{device} was accepted");
    }
    assert!(rows.values().all(|n| *n == 1), "each is there once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_records_a_day_come_one_by_one_with_room_to_spare() {
    const RECORDS: u32 = 500;
    let rig = hub(nobody()).await;
    let at = rig.hub().http;
    let began = Instant::now();
    // The slowest way there is: a connection each, one record each, the next when the last is on disk.
    for n in 0..RECORDS {
        let body = json!({"device_id": n % 10, "location": "41,29", "speed": n});
        assert_eq!(request(at, "POST", "/tracking/data/", Some(&body)).await.0, 202);
    }
    let a_day = f64::from(RECORDS) / began.elapsed().as_secs_f64() * 86_400.0;
    println!("{a_day:.0} records a day by one sender");
    assert!(a_day > 1_000_000.0, "{a_day:.0} a day");
    assert_eq!(get(at, "/tracking/data/list/?page=10").await["results"].as_array().unwrap().len(), 50);
}

/// What `stored.readings` says of a device.
async fn told(at: SocketAddr, device: &str) -> u64 {
    let all = get(at, "/api/v1/gateways").await;
    let found = all["gateways"].as_array().unwrap().iter().find(|gateway| gateway["id"] == device).cloned();
    found.unwrap_or_else(|| panic!("{device} is not there: {all}"))["stored"]["readings"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_stored_are_counted_as_they_come_through_every_door_and_the_same_after_a_restart() {
    let broker = Mosquitto::start();
    let mut tcp = Tcp::default();
    tcp.listen.set_port(0);
    let mut rig = HubRig::with(broker.url(), |config| {
        config.tcp = Some(tcp);
        config.ingest.feed = vec![Feed {
            topic: TopicFilter::try_from("fleet/positions".to_owned()).unwrap(),
            shape: FeedShape::Positions,
            speed_unit: SpeedUnit::KmH,
            sensor: "gnss".into(),
        }];
    })
    .await;
    let at = rig.hub().http;
    let reading = |value: u32, at: &str| json!({"device": "bike", "sensor": "wheel", "quantity": "speed", "value": value, "at": at});
    let post = async |key: &str, body: Value| {
        let head = format!("Content-Type: application/json\r\n{key}");
        let (status, _, told) = http::send(at, "POST", "/api/v1/readings", &head, body.to_string().as_bytes()).await;
        assert_eq!(status, 200, "{told}");
    };
    post("", json!([reading(1, "2026-05-04T10:00:00Z"), reading(2, "2026-05-04T10:00:01Z")])).await;
    assert_eq!(told(at, "bike").await, 2);
    // Who watches is told, of one that is older than the newest too.
    let (mut socket, _) = client_async(format!("ws://{at}/ws"), TcpStream::connect(at).await.unwrap()).await.unwrap();
    post("", reading(3, "2026-05-04T09:00:00Z")).await;
    loop {
        let said = timeout(LONG, socket.next()).await.expect("told in time").unwrap().unwrap();
        let Message::Text(text) = said else { continue };
        let said: Value = serde_json::from_str(&text).unwrap();
        if said["type"] == "gateway" && said["gateway"]["stored"]["readings"] == 3 {
            break;
        }
    }
    // The same again, and the same request again, are not stored again and not counted again.
    post("", reading(3, "2026-05-04T09:00:00Z")).await;
    for _ in 0..3 {
        post("Idempotency-Key: k\r\n", reading(4, "2026-05-04T10:00:03Z")).await;
    }
    assert_eq!(told(at, "bike").await, 4);
    assert_eq!((rig.counter("readings"), rig.counter("readings_again")), (4, 3));

    let mut line = TcpStream::connect(rig.hub().tcp.unwrap()).await.unwrap();
    line.write_all(item("van").as_bytes()).await.unwrap();
    until("it is counted", || rig.counter("readings") == 7).await;
    let stranger = TestGateway::connect("stranger", broker.port).await;
    let positions = json!({"data": [{"plateNum": "lorry", "lng": 29, "lat": 41, "speed": 0}]}).to_string();
    // Until the hub hears the feed; each is stored, none has a time of its own.
    let began = Instant::now();
    while rig.counter("readings") == 7 {
        stranger.publish("fleet/positions".into(), false, positions.clone().into_bytes()).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(began.elapsed() < LONG, "the feed is not heard");
    }
    let mut before = Vec::new();
    for device in ["bike", "van", "lorry"] {
        before.push(told(at, device).await);
    }
    assert_eq!(before[..2], [4, 3], "place and speed are three");
    assert!(before[2] >= 3 && before[2] % 3 == 0, "{before:?}");
    drop(stranger);
    rig.restart().await;
    let at = rig.hub().http;
    for (device, before) in ["bike", "van", "lorry"].into_iter().zip(before) {
        assert_eq!(told(at, device).await, before, "{device}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_and_a_wrong_method_are_told_in_words() {
    let rig = hub(nobody()).await;
    for (method, path, status, words) in [
        ("GET", "/tracking/data/list", 404, "a slash at the end counts"),
        ("POST", "/api/v1/reading", 404, "there is no /api/v1/reading:"),
        ("GET", "/api/v1/readings", 405, "GET is not for this address"),
        ("DELETE", "/api/v1/gateways", 405, "DELETE is not for this address"),
    ] {
        let (is, head, body) = request(rig.hub().http, method, path, None).await;
        assert_eq!(is, status, "{method} {path}");
        let told: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body:?}"));
        assert!(told["error"].as_str().unwrap().contains(words), "{told}");
        assert_eq!(head.to_ascii_lowercase().contains("\r\nallow: "), status == 405, "{head}");
    }
}

/// Of the hub's end of this connection: the hub runs in this process.
#[cfg(target_os = "linux")]
fn given_up_after_ms(client: SocketAddr) -> Option<u32> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).find_map(|fd| {
        // SAFETY: the number is only asked for what it is; one that was closed meanwhile is an error.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let peer = SocketAddr::try_from(rustix::net::getpeername(fd).ok()??).ok()?;
        (peer == client).then(|| rustix::net::sockopt::tcp_user_timeout(fd).unwrap())
    })
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_without_a_word_is_not_held_for_a_quarter_of_an_hour() {
    let rig = hub(nobody()).await;
    let ask = b"GET /api/v1/live HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut events = TcpStream::connect(rig.hub().http).await.unwrap();
    events.write_all(ask).await.unwrap();
    let mut first = [0; 16];
    events.read_exact(&mut first).await.unwrap();
    assert_eq!(given_up_after_ms(events.local_addr().unwrap()), Some(75_000));
    let mut line = TcpStream::connect(rig.hub().tcp.unwrap()).await.unwrap();
    line.write_all(item("van").as_bytes()).await.unwrap();
    line.read_exact(&mut first).await.unwrap();
    assert_eq!(given_up_after_ms(line.local_addr().unwrap()), Some(30_000));
}
