//! `/metrics`, read as strictly as Prometheus reads it, and whether its numbers move when something happens.

mod rig;

use std::collections::{BTreeMap, BTreeSet};

use rig::*;

/// Families with their kind, and samples by name and labels.
#[derive(Debug, Default)]
struct Page {
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

fn is_name(name: &str) -> bool {
    let ok = |(i, b): (usize, u8)| b.is_ascii_alphabetic() || b == b'_' || (i > 0 && b.is_ascii_digit());
    !name.is_empty() && name.bytes().enumerate().all(ok)
}

/// Text format 0.0.4. Panics on whatever a scraper would stumble over, or a person who holds to the conventions.
fn parse(text: &str) -> Page {
    assert!(text.ends_with('\n'), "the last line has an end too");
    let (mut page, mut family) = (Page::default(), String::new());
    let mut told = BTreeSet::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("help has words");
            assert!(is_name(name) && !words.is_empty() && told.insert(name.to_owned()), "{line}");
            family = name.into();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a kind");
            assert_eq!(name, family, "the type follows its help");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "counters end in _total: {name}");
            page.kinds.insert(name.into(), kind.into());
        } else {
            let (key, value) = line.rsplit_once(' ').expect("name and value");
            let value: f64 = value.parse().expect("a number");
            let (name, labels) = key.split_once('{').map_or((key, None), |(name, rest)| (name, Some(rest)));
            assert!(is_name(name), "{line}");
            if let Some(labels) = labels {
                for label in labels.strip_suffix('}').expect("a closing brace").split(',') {
                    let (label, value) = label.split_once("=\"").expect("a label");
                    let value = value.strip_suffix('"').expect("a closing quote");
                    assert!(is_name(label) && !value.contains(['"', '\\']), "{line}");
                }
            }
            let kind = page.kinds.get(&family).expect("a type before the sample");
            let more = if kind == "histogram" { &["_bucket", "_sum", "_count"][..] } else { &[""] };
            assert!(more.iter().any(|end| name == format!("{family}{end}")), "{line} stands under {family}");
            assert!(kind == "gauge" || value >= 0.0, "{line}");
            assert!(page.samples.insert(key.into(), value).is_none(), "{line} is there twice");
        }
    }
    for (name, kind) in &page.kinds {
        if kind == "histogram" {
            check_histogram(&page, name);
        }
    }
    page
}

fn check_histogram(page: &Page, name: &str) {
    let prefix = format!("{name}_bucket{{le=\"");
    let mut buckets: Vec<(f64, f64)> = page
        .samples
        .iter()
        .filter_map(|(key, n)| Some((key.strip_prefix(&prefix)?.strip_suffix("\"}")?, *n)))
        .map(|(bound, n)| (bound.parse().unwrap(), n))
        .collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "buckets of {name} are sums: {buckets:?}");
    let last = buckets.last().expect("buckets");
    assert_eq!((last.0, last.1), (f64::INFINITY, page.samples[&format!("{name}_count")]));
}

async fn page(rig: &HubRig) -> Page {
    let (status, head, text) = http::request(rig.hub().http, "GET", "/metrics", None).await;
    assert_eq!(status, 200);
    assert!(head.to_ascii_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
    parse(&text)
}

impl Page {
    fn get(&self, sample: &str) -> f64 {
        *self.samples.get(sample).unwrap_or_else(|| panic!("no {sample} in {:#?}", self.samples))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_number_moves_with_what_it_is_of() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let before = page(&rig).await;
    assert_eq!(before.get("speedwell_hub_records_total{outcome=\"stored\"}"), 0.0);
    assert_eq!(before.get("speedwell_hub_broker_up"), 1.0);
    assert_eq!(before.get(&format!("speedwell_hub_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))), 1.0);

    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    gateway.batch(&seconds("truck-7", 1..=50)).await;
    gateway.batch(&seconds("truck-7", 41..=50)).await;
    gateway.batch(&seconds("truck-7", 60..=63)).await;
    gateway.publish(gateway.topics.log(), false, b"no frame".to_vec()).await;
    let health = serde_json::json!({
        "uptime-s": 1, "boot": 1, "log": LOG.to_string(), "last-seq": 80, "confirmed-seq": 0, "spool-bytes": 0,
        "lost-samples": 0, "clock": "ntp", "rss-bytes": 0, "sensors": [],
    });
    let status = serde_json::json!({"gateway": "truck-7", "online": true, "version": "1", "health": health});
    gateway.publish(gateway.topics.status(), true, status.to_string().into_bytes()).await;
    rig.reaches("dropped", 4).await;
    rig.reaches("rejected", 1).await;
    rig.reaches("messages", 6).await;
    let history = "/api/v1/history?gateway=truck-7&sensor=front-wheel&quantity=speed";
    for _ in 0..3 {
        http::get(rig.hub().http, history).await;
    }
    let readings = serde_json::json!({"device": "d", "sensor": "s", "quantity": "speed", "value": 1.0});
    assert_eq!(http::request(rig.hub().http, "POST", "/api/v1/readings", Some(&readings)).await.0, 200);
    rig.reaches("readings", 1).await;

    let now = page(&rig).await;
    for (sample, value) in [
        ("speedwell_hub_records_total{outcome=\"stored\"}", 50.0),
        ("speedwell_hub_records_total{outcome=\"duplicate\"}", 10.0),
        ("speedwell_hub_records_total{outcome=\"dropped\"}", 4.0),
        ("speedwell_hub_payloads_rejected_total", 1.0),
        ("speedwell_hub_readings_total{outcome=\"stored\"}", 1.0),
        ("speedwell_hub_gateways{state=\"online\"}", 2.0),
        ("speedwell_hub_gateways{state=\"offline\"}", 0.0),
        ("speedwell_hub_unconfirmed_records", 30.0),
        ("speedwell_hub_query_duration_seconds_count", 3.0),
        ("speedwell_hub_queries_in_flight", 0.0),
        ("speedwell_hub_store_up", 1.0),
        ("speedwell_hub_watchers", 0.0),
    ] {
        assert_eq!(now.get(sample), value, "{sample}");
    }
    // What is noted of who is connected may be on its way.
    let (queue, limit) = (now.get("speedwell_hub_store_queue_length"), now.get("speedwell_hub_store_queue_limit"));
    assert!((0.0..=2.0).contains(&queue) && limit > 2.0, "{queue} of {limit}");
    assert!(now.get("speedwell_hub_commit_duration_seconds_count") >= 2.0);
    assert!(now.get("speedwell_hub_commit_duration_seconds_sum") > 0.0);
    assert!(now.get("speedwell_hub_store_size_bytes") > 4096.0);
    for (name, kind) in &now.kinds {
        let falls = |(key, value): (&String, &f64)| before.samples.get(key).is_some_and(|old| value < old);
        let own = |(key, _): &(&String, &f64)| key.split('{').next() == Some(name.as_str());
        assert!(kind != "counter" || !now.samples.iter().filter(own).any(falls), "{name} fell");
    }
    let megabytes = 1024.0 * 1024.0..4096.0 * 1024.0 * 1024.0;
    assert!(megabytes.contains(&now.get("process_resident_memory_bytes")));
    assert!(now.get("process_cpu_seconds_total") > 0.0 && now.get("process_open_fds") > 3.0);
    let utc = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let started = now.get("process_start_time_seconds");
    assert!(started <= utc && started > utc - 3600.0, "{started} of {utc}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_work_and_a_broker_that_is_gone_are_seen() {
    let mut broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    gateway.batch(&seconds("truck-7", 1..=5)).await;
    gateway.confirmed(5).await;
    let other = rusqlite::Connection::open(rig.database()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let began = std::time::Instant::now();
    let mut sent = 5;
    loop {
        // What came before the writer began to wait may all be with it, and nothing in the queue.
        gateway.batch(&seconds("truck-7", sent + 1..=sent + 5)).await;
        sent += 5;
        let now = page(&rig).await;
        if now.get("speedwell_hub_store_up") == 0.0 && now.get("speedwell_hub_store_queue_length") > 0.0 {
            break;
        }
        assert!(began.elapsed() < LONG, "{:#?}", now.samples);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    other.execute_batch("ROLLBACK").unwrap();
    gateway.confirmed(sent).await;
    broker.down(true);
    until("the broker is gone", || rig.counter("connected") == 0).await;
    let now = page(&rig).await;
    assert_eq!((now.get("speedwell_hub_broker_up"), now.get("speedwell_hub_store_up")), (0.0, 1.0));
    assert!(now.get("speedwell_hub_broker_failures_total") >= 1.0);
}
