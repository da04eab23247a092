//! A database that refuses one piece of what comes, for what is in it: that piece alone is told so, and everything else
//! goes on. Each on SQLite and on a real PostgreSQL, which are made to refuse by a rule that somebody else gave them.

mod rig;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rig::{http::request, postgres::Cluster, *};
use serde_json::{Value, json};
use speedwell_hub::config::{Feed, FeedShape, SpeedUnit, Tcp, TopicFilter};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// What no database with a [`rule`] on its readings takes.
const BAD: f64 = 88.5;

/// Makes a test of each, for each kind of database.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { crate::$name(crate::On::start(None).await).await })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() {
                let url = crate::Cluster::shared().database();
                crate::$name(crate::On::start(Some(url)).await).await
            })*
        }
    };
}

on_both! {
    a_reading_that_the_database_refuses_hurts_none_that_came_with_it,
    a_record_that_the_database_refuses_holds_up_its_own_gateway_alone_and_is_not_lost,
    an_item_of_a_feed_that_the_database_refuses_is_set_aside_and_the_others_are_kept,
    a_change_of_the_registry_that_the_database_refuses_is_refused_in_words,
    what_is_to_be_set_aside_and_is_refused_too_is_dropped,
    a_note_of_presence_that_the_database_refuses_is_missing_alone,
}

/// A hub with all its doors, on one of the databases.
struct On {
    broker: Mosquitto,
    rig: HubRig,
    url: Option<String>,
}

impl On {
    async fn start(url: Option<String>) -> Self {
        let broker = Mosquitto::start();
        let mut tcp = Tcp::default();
        tcp.listen.set_port(0);
        let rig = HubRig::with(broker.url(), |config| {
            config.store.url = url.clone().map(|url| url.try_into().unwrap());
            config.tcp = Some(tcp);
            config.ingest.feed = vec![Feed {
                topic: TopicFilter::try_from("fleet/positions".to_owned()).unwrap(),
                shape: FeedShape::Positions,
                speed_unit: SpeedUnit::KmH,
                sensor: "gnss".into(),
            }];
        })
        .await;
        rig.reaches("connected", 1).await;
        Self { broker, rig, url }
    }

    /// Has the database refuse the rows of a table for which this holds; `~` stands before its columns.
    fn refuse(&self, table: &str, what: &str) {
        match &self.url {
            Some(url) => {
                let what = what.replace('~', "");
                Cluster::shared().sql(url, &format!("ALTER TABLE {table} ADD CONSTRAINT rule CHECK (NOT ({what}))"));
            }
            None => self.sqlite(&format!(
                "CREATE TRIGGER rule_{table} BEFORE INSERT ON {table} WHEN {} BEGIN
                    SELECT RAISE(ABORT, 'somebody does not want it'); END",
                what.replace('~', "NEW.")
            )),
        }
    }

    fn let_go(&self, table: &str) {
        match &self.url {
            Some(url) => drop(Cluster::shared().sql(url, &format!("ALTER TABLE {table} DROP CONSTRAINT rule"))),
            None => self.sqlite(&format!("DROP TRIGGER rule_{table}")),
        }
    }

    fn sqlite(&self, sql: &str) {
        let db = rusqlite::Connection::open(self.rig.database()).unwrap();
        db.busy_timeout(LONG).unwrap();
        db.execute_batch(sql).unwrap();
    }

    /// One number.
    fn count(&self, sql: &str) -> u64 {
        match &self.url {
            Some(url) => Cluster::shared().sql(url, sql).parse().unwrap(),
            None => {
                let db = rusqlite::Connection::open(self.rig.database()).unwrap();
                db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as u64
            }
        }
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, String) {
        let (status, _, told) = request(self.rig.hub().http, "POST", path, Some(body)).await;
        (status, told)
    }

    async fn reading(&self, device: &str, sensor: &str, value: f64) -> (u16, String) {
        reading(self.rig.hub().http, device, sensor, value).await
    }

    /// It is not in trouble, and stores.
    async fn goes_on(&self) {
        let (status, told) = self.reading("afterwards", "s", 1.0).await;
        assert_eq!(status, 200, "{told}");
        assert_eq!(http::get(self.rig.hub().http, "/healthz").await["store"], "ok");
    }
}

async fn reading(at: SocketAddr, device: &str, sensor: &str, value: f64) -> (u16, String) {
    let body = json!({"device": device, "sensor": sensor, "quantity": "speed", "value": value});
    let (status, _, told) = request(at, "POST", "/api/v1/readings", Some(&body)).await;
    (status, told)
}

async fn a_reading_that_the_database_refuses_hurts_none_that_came_with_it(on: On) {
    on.refuse("readings", &format!("~value = {BAD}"));
    for round in 0..5 {
        // At once, so that the hub has many of them in one commit, and as one piece of work.
        let at = on.rig.hub().http;
        let all: Vec<_> = (0..40)
            .map(|n| {
                let value = if n % 13 == 6 { BAD } else { 1.0 };
                tokio::spawn(async move { reading(at, &format!("d{round}-{n}"), "s", value).await })
            })
            .collect();
        for (n, answer) in all.into_iter().enumerate() {
            let (status, told) = answer.await.unwrap();
            match n % 13 == 6 {
                false => assert_eq!(status, 200, "{n}: {told}"),
                true => {
                    assert_eq!(status, 422, "{n}: {told}");
                    assert!(told.contains("nothing of this was stored") && !told.contains("88.5"), "{told}");
                }
            }
        }
    }
    assert_eq!(on.count("SELECT count(*) FROM readings"), 5 * 37);
    // Of one request all or nothing, as with items that cannot be read.
    let item = |value| json!({"device": "d", "sensor": "s", "quantity": "speed", "value": value});
    assert_eq!(on.post("/api/v1/readings", &json!([item(1.0), item(BAD)])).await.0, 422);
    assert_eq!(on.count("SELECT count(*) FROM readings"), 5 * 37);
    let place = |lat: f64| json!({"device_id": "t", "location": format!("{lat},29"), "speed": 36});
    assert_eq!(on.post("/tracking/data/", &place(BAD)).await.0, 422);

    let (from, mut to) = TcpStream::connect(on.rig.hub().tcp.unwrap()).await.unwrap().into_split();
    let lines: String = [41.0, BAD, 42.0].map(|lat| format!("{}\n", place(lat))).concat();
    to.write_all(lines.as_bytes()).await.unwrap();
    let mut told = BufReader::new(from).lines();
    for good in [true, false, true] {
        let line = told.next_line().await.unwrap().unwrap();
        assert_eq!(line == r#"{"message":"Data received","accepted":1}"#, good, "{line}");
        assert!(good || line.contains("\"error\":\"Not stored.\""), "{line}");
    }
    assert_eq!(on.count("SELECT count(*) FROM readings"), 5 * 37 + 6);
    assert_eq!(on.rig.counter("refused_by_store"), 5 * 3 + 3);
    on.goes_on().await;
}

async fn a_record_that_the_database_refuses_holds_up_its_own_gateway_alone_and_is_not_lost(on: On) {
    let [bad, good] = ["truck-7", "truck-8"].map(|name| TestGateway::connect(name, on.broker.port));
    let (bad, good) = (bad.await, good.await);
    bad.manifest(&manifest()).await;
    bad.batch(&seconds("truck-7", 1..=3)).await;
    bad.confirmed(3).await;
    on.refuse("chunks", "~log = 1 AND ~seq = 5");
    bad.batch(&seconds("truck-7", 4..=6)).await;
    on.rig.reaches("messages", 3).await;
    // More than a broker gives before the first is acknowledged, each with the same batch sent again.
    for n in 1..=60 {
        bad.batch(&seconds("truck-7", 4..=6)).await;
        good.batch(&seconds("truck-8", n..=n)).await;
    }
    good.confirmed(60).await;
    until("each was tried", || on.rig.counter("refused_by_store") == 61).await;
    assert_eq!(bad.thru(), Some(3), "what is not stored is not confirmed");
    assert_eq!(on.count("SELECT count(*) FROM chunks"), 63);
    let told = async |name: &str| {
        let all = http::get(on.rig.hub().http, "/api/v1/gateways").await;
        all["gateways"].as_array().unwrap().iter().find(|gateway| gateway["id"] == name).unwrap()["refused"].clone()
    };
    assert!(told("truck-7").await.as_str().unwrap().contains("the database refuses"));
    assert_eq!(told("truck-8").await, Value::Null);
    on.goes_on().await;
    // A part of it that is taken is confirmed, and no more.
    bad.batch(&seconds("truck-7", 4..=4)).await;
    bad.confirmed(4).await;
    on.let_go("chunks");
    bad.batch(&seconds("truck-7", 4..=6)).await;
    bad.confirmed(6).await;
    assert_eq!(told("truck-7").await, Value::Null);
    let counts = on.rig.hub().reader.counts().unwrap();
    assert_eq!((counts.chunks, counts.samples, counts.gaps), (66, 66 * PER_RECORD, 0));
}

async fn an_item_of_a_feed_that_the_database_refuses_is_set_aside_and_the_others_are_kept(on: On) {
    on.refuse("readings", &format!("~value = {BAD}"));
    let stranger = TestGateway::connect("stranger", on.broker.port).await;
    let item = |n: usize| {
        let lat = if n % 100 == 50 { BAD } else { 41.0 };
        json!({"plateNum": format!("p{n}"), "lng": 29, "lat": lat, "speed": 36})
    };
    let message = json!({"data": (0..1500).map(item).collect::<Vec<_>>()}).to_string();
    // Until the hub hears the feed.
    let began = Instant::now();
    while on.count("SELECT count(*) FROM rejected") < 15 {
        if on.count("SELECT count(*) FROM readings") == 0 {
            stranger.publish("fleet/positions".into(), false, message.clone().into_bytes()).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(began.elapsed() < 3 * LONG, "they are not set aside");
    }
    until("the others are there", || on.count("SELECT count(DISTINCT series) FROM readings") == 3 * 1485).await;
    let of = "FROM rejected WHERE source = 'feed:fleet/positions' AND reason LIKE '%refuses%'";
    let told = on.count(&format!("SELECT count(*) {of}"));
    assert!(told >= 15 && told.is_multiple_of(15), "{told}");
    on.goes_on().await;
}

async fn a_change_of_the_registry_that_the_database_refuses_is_refused_in_words(on: On) {
    on.refuse("customers", "~name = 'nobody'");
    let (status, told) = on.post("/api/v1/customers", &json!({"id": "a", "name": "nobody"})).await;
    assert_eq!(status, 422, "{told}");
    assert!(told.contains("nothing of this was stored"), "{told}");
    let (status, told) = on.post("/api/v1/customers", &json!({"id": "a", "name": "somebody"})).await;
    assert_eq!(status, 201, "{told}");
    on.goes_on().await;
}

async fn what_is_to_be_set_aside_and_is_refused_too_is_dropped(on: On) {
    on.refuse("rejected", "~source = 'truck-7/log'");
    let [bad, good] = ["truck-7", "truck-8"].map(|name| TestGateway::connect(name, on.broker.port));
    let gateways = [bad.await, good.await];
    for gateway in &gateways {
        gateway.publish(gateway.topics.log(), false, b"no frame".to_vec()).await;
    }
    on.rig.reaches("rejected", 2).await;
    on.rig.reaches("refused_by_store", 1).await;
    until("the other is set aside", || on.count("SELECT count(*) FROM rejected") == 1).await;
    on.goes_on().await;
}

async fn a_note_of_presence_that_the_database_refuses_is_missing_alone(on: On) {
    on.refuse("presence", "~name = 'bad-one'");
    // All in one request, so that they are noted together.
    let item = |sensor| json!({"device": "bike", "sensor": sensor, "quantity": "speed", "value": 1.0});
    let body = json!(["good-one", "bad-one", "good-two"].map(item));
    assert_eq!(on.post("/api/v1/readings", &body).await.0, 200);
    let noted = "SELECT count(*) FROM presence WHERE kind = 'sensor' AND gateway = 'bike'";
    until("the others are noted", || on.count(noted) == 2).await;
    on.rig.reaches("refused_by_store", 1).await;
    on.goes_on().await;
}
