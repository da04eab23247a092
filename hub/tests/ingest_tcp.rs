//! Readings over plain TCP: a real hub, real sockets, a real database.

mod rig;

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use rig::*;
use serde_json::{Value, json};
use speedwell_hub::{BrokerUrl, config::Tcp, ingest::tcp::MAX_MESSAGE, store::HistoryQuery};
use speedwell_wire::Quantity;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

async fn hub(change: impl FnOnce(&mut Tcp)) -> HubRig {
    let mut tcp = Tcp::default();
    tcp.listen.set_port(0);
    change(&mut tcp);
    let nobody = BrokerUrl::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    HubRig::with(nobody, |config| config.tcp = Some(tcp)).await
}

struct Client {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
}

impl Client {
    async fn connect(rig: &HubRig) -> Self {
        let (from, to) = TcpStream::connect(rig.hub().tcp.unwrap()).await.unwrap().into_split();
        Self { from: BufReader::new(from), to }
    }

    async fn say(&mut self, text: &str) {
        self.to.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next answer; `Null` when the hub has closed.
    async fn hear(&mut self) -> Value {
        let mut line = String::new();
        timeout(LONG, self.from.read_line(&mut line)).await.expect("an answer in time").unwrap();
        if line.is_empty() { Value::Null } else { serde_json::from_str(&line).unwrap() }
    }
}

fn message(n: i64) -> Value {
    let at = jiff::Timestamp::from_nanosecond(i128::from(BOOT_UTC_NS + n * 1_000_000_000)).unwrap().to_string();
    json!({"device_id": "truck-7", "location": "41.0,28.9", "speed": n as f64 * 3.6, "timestamp": at})
}

fn speeds(rig: &HubRig) -> Vec<f64> {
    let (gateway, sensor, quantity) = (id("truck-7"), "tracker".to_owned(), Quantity::Speed);
    let query = HistoryQuery { gateway, sensor, quantity, from_ns: 0, to_ns: i64::MAX, limit: 100_000 };
    rig.hub().reader.history(&query).unwrap().points.iter().map(|p| p.value.round()).collect()
}

fn received(items: usize) -> Value {
    json!({"message": "Data received", "accepted": items})
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_a_line_each_over_many_lines_or_without_any_line_end_and_each_is_answered() {
    let rig = hub(|_| {}).await;
    let mut client = Client::connect(&rig).await;
    client.say(&format!("{}\n", message(1))).await;
    assert_eq!(client.hear().await, received(1));
    assert_eq!(speeds(&rig), [1.0], "stored before it was answered");
    client.say(&format!("{}\r\n{:#}\n", json!([message(2), message(3)]), message(4))).await;
    assert_eq!(client.hear().await, received(2));
    assert_eq!(client.hear().await, received(1));
    // No line end, and the client waits: the bracket is enough. And it is longer than 1,024 bytes.
    let long: Vec<Value> = (5..=40).map(message).collect();
    assert!(json!(long).to_string().len() > 3000);
    client.say(&format!("{:#}", json!(long))).await;
    assert_eq!(client.hear().await, received(36));
    assert_eq!(speeds(&rig), (1..=40).map(f64::from).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_messages_on_one_connection_are_answered_in_their_order() {
    let rig = hub(|_| {}).await;
    let mut client = Client::connect(&rig).await;
    let all: String =
        (1..=1000).map(|n| if n % 10 == 0 { format!("broken {n}\n") } else { format!("{}\n", message(n)) }).collect();
    // Cut anywhere, as a network does it.
    for part in all.as_bytes().chunks(777) {
        client.to.write_all(part).await.unwrap();
    }
    for n in 1..=1000 {
        let told = client.hear().await;
        match n % 10 == 0 {
            true => assert_eq!(told["error"], "Invalid JSON format.", "{n}"),
            false => assert_eq!(told, received(1), "{n}"),
        }
    }
    assert_eq!(speeds(&rig).len(), 900);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_message_is_told_and_the_next_is_taken() {
    let rig = hub(|_| {}).await;
    let mut client = Client::connect(&rig).await;
    client.say("hello\n").await;
    assert_eq!(client.hear().await["error"], "Invalid JSON format.");
    client.say("{\"device_id\":\"truck-7\",\"speed\":nul}\n").await;
    assert!(client.hear().await["reason"].as_str().unwrap().contains("line 1 column 35"));
    client.say("{\"device_id\":\"truck-7\"}\n").await;
    let told = client.hear().await;
    assert_eq!(told["items"], json!([{"index": 0, "reason": "missing: location, speed"}]));
    client.say(&format!("{}\n", json!([message(1), {"device_id": 7, "location": "x", "speed": 1}]))).await;
    let told = client.hear().await;
    assert_eq!(
        (&told["error"], &told["items"][0]["index"]),
        (&json!("1 of 2 items cannot be used; none was stored"), &json!(1))
    );
    // Cut short, and the next line is whole.
    client.say(&format!("{{\"device_id\":\"truck-7\",\"location\n{}\n", message(2))).await;
    assert_eq!(client.hear().await["error"], "Invalid JSON format.");
    assert_eq!(client.hear().await, received(1));
    assert_eq!(speeds(&rig), [2.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_message_is_not_stored_and_its_sender_is_told() {
    let rig = hub(|_| {}).await;
    let mut client = Client::connect(&rig).await;
    let text = message(1).to_string();
    client.say(&format!("{}\n{}", message(2), &text[..text.len() - 1])).await;
    client.to.shutdown().await.unwrap();
    assert_eq!(client.hear().await, received(1));
    let told = client.hear().await;
    assert_eq!(
        (&told["error"], &told["reason"]),
        (&json!("Invalid JSON format."), &json!("the connection ended within a message"))
    );
    assert_eq!(client.hear().await, Value::Null);
    assert_eq!(speeds(&rig), [2.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_too_long_ends_the_connection_and_says_why() {
    let rig = hub(|_| {}).await;
    let mut client = Client::connect(&rig).await;
    client.say(&format!("{}\n", message(1))).await;
    assert_eq!(client.hear().await, received(1));
    let _ = client.to.write_all(format!("[\"{}", "x".repeat(MAX_MESSAGE)).as_bytes()).await;
    assert_eq!(client.hear().await["error"], "Message too long.");
    assert_eq!(client.hear().await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_told_so_and_there_is_room_again_when_one_ends() {
    let rig = hub(|tcp| tcp.max_connections = NonZeroU16::new(2).unwrap()).await;
    let (mut one, mut two) = (Client::connect(&rig).await, Client::connect(&rig).await);
    for (n, client) in [(1, &mut one), (2, &mut two)] {
        client.say(&message(n).to_string()).await;
        assert_eq!(client.hear().await, received(1));
    }
    let mut three = Client::connect(&rig).await;
    assert_eq!(three.hear().await["error"], "Too many connections; try again later.");
    assert_eq!(three.hear().await, Value::Null);
    drop(one);
    let began = std::time::Instant::now();
    loop {
        let mut again = Client::connect(&rig).await;
        again.say(&message(3).to_string()).await;
        if again.hear().await == received(1) {
            break;
        }
        assert!(began.elapsed() < LONG, "no room came free");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_over_which_no_whole_message_comes_is_closed_however_it_trickles() {
    let rig = hub(|tcp| tcp.idle_timeout_s = NonZeroU16::new(1).unwrap()).await;
    let mut silent = Client::connect(&rig).await;
    assert_eq!(silent.hear().await, json!({"error": "Time-out.", "reason": "no whole message for 1 s"}));
    assert_eq!(silent.hear().await, Value::Null);
    let mut slow = Client::connect(&rig).await;
    let trickle = tokio::spawn(async move {
        while slow.to.write_all(b"[").await.is_ok() && slow.to.write_all(b"\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    timeout(LONG, trickle).await.expect("it was closed").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_locked_the_hub_stops_reading_and_then_takes_all_of_it() {
    const MESSAGES: i64 = 20_000;
    let rig = hub(|tcp| tcp.idle_timeout_s = NonZeroU16::new(1).unwrap()).await;
    let mut client = Client::connect(&rig).await;
    client.say(&format!("{}\n", message(0))).await;
    assert_eq!(client.hear().await, received(1));
    let other = rusqlite::Connection::open(rig.database()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut quiet = Client::connect(&rig).await;
    quiet.say(&message(MESSAGES + 1).to_string()).await;
    let Client { mut from, mut to } = client;
    // Some 20 MB: more than the sockets between hold.
    let sending = tokio::spawn(async move {
        let padding = " ".repeat(1000);
        for n in 1..=MESSAGES {
            to.write_all(format!("{}{padding}\n", message(n)).as_bytes()).await.unwrap();
        }
        to
    });
    // Longer than the time-out: who waits for an answer is not idle.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!sending.is_finished(), "the sender has to wait");
    let mut one = [0];
    assert!(timeout(Duration::from_millis(100), from.read(&mut one)).await.is_err(), "nothing is accepted");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(quiet.hear().await, received(1));
    quiet.say(&message(MESSAGES + 1).to_string()).await;
    assert_eq!(quiet.hear().await, received(1), "who waits for an answer is not taken for idle");
    for n in 1..=MESSAGES {
        let mut line = String::new();
        timeout(LONG * 3, from.read_line(&mut line)).await.expect("an answer in time").unwrap();
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), received(1), "{n}");
    }
    drop(sending.await.unwrap());
    assert_eq!(speeds(&rig).len() as i64, MESSAGES + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_bytes_come_the_next_client_is_served() {
    let rig = hub(|_| {}).await;
    let mut random = fastrand::Rng::with_seed(7);
    let good = format!("{}\n{:#}\n{}\n", message(1), message(2), json!([message(3)]));
    for _ in 0..200 {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..random.usize(1..8) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        let mut client = Client::connect(&rig).await;
        client.to.write_all(&bytes).await.unwrap();
        client.to.shutdown().await.unwrap();
        let mut text = String::new();
        timeout(LONG, client.from.read_to_string(&mut text)).await.expect("the hub closes").unwrap();
        for line in text.lines() {
            let told: Value = serde_json::from_str(line).unwrap();
            assert!(told["message"].is_string() || told["error"].is_string(), "{line}");
        }
    }
    let mut client = Client::connect(&rig).await;
    client.say(&message(9).to_string()).await;
    assert_eq!(client.hear().await, received(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_stops_answers_what_it_has_taken_and_closes() {
    let mut rig = hub(|_| {}).await;
    let mut clients = Vec::new();
    for n in 0..5 {
        let mut client = Client::connect(&rig).await;
        client.say(&format!("{}\n{{\"half\":", message(n))).await;
        assert_eq!(client.hear().await, received(1));
        clients.push(client);
    }
    rig.stop().await;
    for mut client in clients {
        let mut rest = String::new();
        // Unread bytes make it a reset, which is an end as well.
        let _ = timeout(LONG, client.from.read_to_string(&mut rest)).await.expect("closed");
        assert_eq!(rest, "");
    }
    rig.hub = Some(speedwell_hub::Hub::start(rig.config.clone()).await.unwrap());
    assert_eq!(speeds(&rig).len(), 5);
}
