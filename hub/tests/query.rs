//! What is asked of a hub that listens: its data came over a real mosquitto and over HTTP.

mod rig;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use rig::{
    http::{download, get, request, send},
    *,
};
use serde_json::{Value, json};
use speedwell_hub::BrokerUrl;
use speedwell_wire::{
    Batch, Channel, ClockFix, Event, EventKind, Loss, LossReason, Manifest, Quality, Quantity, Record, Samples, block,
};
const WHEEL: &str = "gateway=truck-7&sensor=front-wheel&quantity=speed";

/// A hub without a broker: what comes comes over HTTP.
async fn alone() -> HubRig {
    HubRig::with(BrokerUrl::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 1))), |_| {}).await
}

async fn post(rig: &HubRig, path: &str, body: &Value) {
    let head = "Content-Type: application/json\r\n";
    let (status, _, told) = send(rig.hub().http, "POST", path, head, body.to_string().as_bytes()).await;
    assert!(status < 300, "{told}");
}

/// All points of a channel, so many at a time.
async fn pages(at: SocketAddr, limit: usize) -> Vec<Value> {
    let (mut all, mut more) = (Vec::new(), String::new());
    loop {
        let page = get(at, &format!("/api/v1/history?{WHEEL}&limit={limit}{more}")).await;
        let points = page["points"].as_array().unwrap();
        assert!(points.len() <= limit);
        all.extend(points.iter().cloned());
        assert_eq!(page["truncated"], page["next"].is_string());
        let Some(next) = page["next"].as_str() else { return all };
        more = format!("&from={next}&skip={}", page["skip"]);
    }
}

fn time(s: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(BOOT_UTC_NS) + i128::from(s) * 1_000_000_000).unwrap().to_string()
}

fn reading(device: &str, sensor: &str, quantity: &str, n: i64, value: f64) -> Value {
    json!({"device": device, "sensor": sensor, "quantity": quantity, "value": value, "at": time(n)})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_open_at_the_end_that_is_not_told_and_pages_and_exports_give_the_same_samples() {
    let (_broker, rig, _) =
        sent(&manifest(), [batch("truck-7", 1, [fix()]), seconds("truck-7", 2..=40), seconds("truck-7", 41..=60)])
            .await;
    let at = rig.hub().http;
    let readings: Vec<Value> = [5, 30, 90].map(|n| reading("truck-7", "front-wheel", "speed", n, 7.5)).into();
    post(&rig, "/api/v1/readings", &json!(readings)).await;
    let whole = pages(at, 100_000).await;
    assert_eq!(whole.len(), 590 + 3);
    for limit in [1, 7, 100] {
        assert_eq!(pages(at, limit).await, whole, "{limit} at a time");
    }
    // Two seconds after a fix of 1 ms, and 60: 50 ppm more.
    let first = get(at, &format!("/api/v1/history?{WHEEL}&to={}", time(2))).await;
    assert_eq!(first["utc_uncertainty_s"].as_f64(), Some(0.0011));
    let drawn = get(at, &format!("/api/v1/history?{WHEEL}&max-points=9&to={}", time(60))).await;
    assert_eq!(drawn["utc_uncertainty_s"].as_f64(), Some(0.004));
    let after = get(at, &format!("/api/v1/history?{WHEEL}&from={}", time(60))).await;
    assert_eq!(after["points"].as_array().unwrap().len(), 11);
    assert!(after["from"].is_string() && after["to"].as_str().unwrap() > "2026-02");
    // To the ns, in another zone, and with a plus that nobody escaped.
    let until = get(at, &format!("/api/v1/history?{WHEEL}&to=2026-01-01T02:00:02.500000001+02:00")).await;
    assert_eq!((until["points"].as_array().unwrap().len(), &until["from"]), (6, &Value::Null));
    let until = get(at, &format!("/api/v1/history?{WHEEL}&to=2026-01-01T00:00:02.499999Z")).await;
    assert_eq!(until["points"].as_array().unwrap().len(), 5);

    let (status, head, csv, complete) = download(at, "/api/v1/export?format=csv&gateway=truck-7").await;
    assert!((status, complete) == (200, true) && head.contains("text/csv"), "{head}");
    assert!(head.contains("content-disposition: attachment; filename=\"truck-7_start_"), "{head}");
    let mut lines = csv.split("\r\n");
    assert_eq!(
        lines.next(),
        Some("time_utc,gateway,sensor,quantity,value,unit,uncertainty,quality,clock,utc_uncertainty_s")
    );
    let rows: Vec<Vec<&str>> = lines.filter(|line| !line.is_empty()).map(|line| line.split(',').collect()).collect();
    let of_csv: Vec<(String, f64)> = rows.iter().map(|row| (row[0].into(), row[4].parse().unwrap())).collect();
    let of_pages: Vec<(String, f64)> =
        whole.iter().map(|p| (p["t"].as_str().unwrap().into(), p["value"].as_f64().unwrap())).collect();
    assert_eq!(of_csv, of_pages);
    assert_eq!(rows[0][1..6], ["truck-7", "front-wheel", "speed", "2", "m/s"]);
    assert_eq!(rows[0][7..], ["good", "ntp", "0.0011"], "a fix of 1 ms, and 50 ppm for the two seconds since");

    let (_, _, lines, complete) = download(at, "/api/v1/export?format=jsonl&gateway=truck-7&sensor=front-wheel").await;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((complete, lines.last().unwrap()), (true, &json!({"complete": true, "rows": 593})));
    for (line, point) in lines.iter().zip(&whole) {
        for field in ["t", "value", "uncertainty", "quality"] {
            assert_eq!(line[field], point[field]);
        }
    }
    let none = "/api/v1/export?format=jsonl&gateway=truck-7&sensor=none&sensor=neither&quantity=speed&quantity=course";
    assert_eq!(download(at, none).await.2, "{\"complete\":true,\"rows\":0}\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_fails_midway_is_cut_and_does_not_end_like_a_whole_one() {
    let first = std::iter::once(fix()).chain((2..=3_000).map(second));
    let (_broker, rig, _) = sent(&manifest(), [batch("truck-7", 1, first)]).await;
    let db = rusqlite::Connection::open(rig.database()).unwrap();
    assert_eq!(db.execute("UPDATE chunks SET block = x'ff' WHERE seq = 2900", []).unwrap(), 1);
    for (format, end) in [("csv", ""), ("jsonl", "complete"), ("geojson", "complete"), ("gpx", "</gpx>")] {
        let path = format!("/api/v1/export?format={format}&gateway=truck-7");
        let (status, _, body, whole) = download(rig.hub().http, &path).await;
        let track = ["geojson", "gpx"].contains(&format);
        assert_eq!((status, whole), (200, track), "{format}: a truck without places has a track of none");
        if !track {
            assert!(body.len() > 100_000 && (end.is_empty() || !body.contains(end)), "{format}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_track_is_the_places_of_a_sensor_with_its_speed_and_a_silence_parts_it() {
    let channels = [
        channel(1, "gnss", Quantity::Speed),
        Channel { resolution_nano: 100, ..channel(2, "gnss", Quantity::Latitude) },
        Channel { resolution_nano: 100, ..channel(3, "gnss", Quantity::Longitude) },
        channel(4, "front-wheel", Quantity::Speed),
    ];
    let manifest = Manifest { channels: channels.to_vec() };
    let record = |s: u64| {
        let sample = |value| block::Sample {
            tick: s * 10_000,
            value,
            uncertainty: block::Uncertainty::of(0.02, 0.001),
            quality: Quality::Good,
        };
        let column = |channel, value| block::Column { channel, samples: vec![sample(value)] };
        let columns =
            [column(1, s as i64 * 1_000), column(2, 410_000_000 + s as i64), column(3, 290_000_000), column(4, 9_000)];
        let block = block::encode(&columns, &manifest);
        Record::Samples(Samples { manifest: manifest.hash(), boot: 1, block })
    };
    let records = std::iter::once(fix()).chain([2, 3, 4, 100, 101].map(record));
    let (_broker, rig, _) = sent(&manifest, [batch("truck-7", 1, records)]).await;
    let at = rig.hub().http;
    let (_, head, body, whole) = download(at, "/api/v1/export?format=geojson&gateway=truck-7").await;
    assert!(whole && head.contains("application/geo+json"));
    let track: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&track["type"], &track["complete"], &track["rows"]),
        (&"FeatureCollection".into(), &json!(true), &json!(5))
    );
    let first = &track["features"][0];
    assert_eq!(first["geometry"], json!({"type": "Point", "coordinates": [29.0, 41.0000002]}));
    assert_eq!((&first["properties"]["speed_m_s"], &first["properties"]["time"]), (&json!(2.0), &json!(time(2))));
    let (_, _, gpx, whole) = download(at, &format!("/api/v1/export?format=gpx&gateway=truck-7&from={}", time(3))).await;
    assert!(whole && gpx.ends_with("</gpx>\n") && gpx.contains("<trk><name>truck-7 gnss</name>"), "{gpx}");
    assert_eq!((gpx.matches("<trkpt ").count(), gpx.matches("<trkseg>").count()), (4, 2));
    assert!(gpx.contains(&format!("lat=\"41.0000003\" lon=\"29\"><time>{}</time>", time(3))), "{gpx}");
    assert!(gpx.contains("<gpxtpx:speed>3</gpxtpx:speed>"));
    let none = download(at, "/api/v1/export?format=geojson&gateway=truck-7&sensor=front-wheel").await.2;
    assert_eq!(serde_json::from_str::<Value>(&none).unwrap()["rows"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_range_is_told_by_few_points_with_its_holes_and_says_how_they_were_chosen() {
    let records = std::iter::once(fix()).chain((2..=900).filter(|s| !(400..=500).contains(s)).map(second));
    let (_broker, rig, _) = sent(&manifest(), [batch("truck-7", 1, records)]).await;
    let at = rig.hub().http;
    let drawn = get(at, &format!("/api/v1/history?{WHEEL}&max-points=200")).await;
    let points = drawn["points"].as_array().unwrap();
    let hole: Vec<&Value> = points.iter().filter(|p| p["value"].is_null()).collect();
    assert_eq!(hole.len(), 1);
    let edge = jiff::Timestamp::from_nanosecond(i128::from(BOOT_UTC_NS + 399_900_000_000)).unwrap().to_string();
    assert_eq!(hole[0]["hole"], json!([edge, time(501)]));
    assert!(points.len() <= 201 && points.len() > 100);
    let method = &drawn["method"];
    assert_eq!((&method["name"], &method["made_of"]), (&"min-max-lttb".into(), &"samples".into()));
    assert_eq!(method["samples"], 7_980);
    let least = |a: f64, p: &Value| p["value"].as_f64().map_or(a, |v| a.min(v));
    assert_eq!(points.iter().fold(99.0, least), 2.0);
    assert_eq!(points.iter().filter_map(|p| p["value"].as_f64()).fold(0.0, f64::max), 900.009);
    let few = get(at, &format!("/api/v1/history?{WHEEL}&max-points=200&to={}", time(4))).await;
    assert_eq!((few["method"]["name"].as_str(), few["points"].as_array().unwrap().len()), (Some("all"), 21));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_summed_up_by_any_number_of_seconds() {
    let records = std::iter::once(fix()).chain((2..=1_000).map(second));
    let (_broker, rig, _) = sent(&manifest(), [batch("truck-7", 1, records)]).await;
    let at = rig.hub().http;
    for (bucket, count) in [("1s", 999), ("7s", 143), ("1m", 17), ("90s", 12), ("15m", 2), ("1h", 1), ("7d", 1)] {
        let told = get(at, &format!("/api/v1/rollup?{WHEEL}&bucket={bucket}")).await;
        let buckets = told["buckets"].as_array().unwrap();
        assert_eq!((buckets.len(), &told["unit"], &told["next"]), (count, &"m/s".into(), &Value::Null), "{bucket}");
        let sum = |field: &str| buckets.iter().filter_map(|b| b[field].as_u64()).sum::<u64>();
        assert_eq!((sum("count"), sum("untrusted")), (9_990, 0));
        assert_eq!((buckets[0]["min"].as_f64(), buckets[count - 1]["max"].as_f64()), (Some(2.0), Some(1000.009)));
        assert_eq!((&buckets[0]["quality"], &buckets[0]["first_t"]), (&"good".into(), &json!(time(2))));
    }
    let page = get(at, &format!("/api/v1/rollup?{WHEEL}&bucket=90s&limit=5")).await;
    let (next, from) = (page["next"].as_str().unwrap(), page["buckets"][4]["t"].as_str().unwrap());
    assert!(next > from);
    let rest = get(at, &format!("/api/v1/rollup?{WHEEL}&bucket=90s&from={next}")).await;
    assert_eq!(rest["buckets"].as_array().unwrap().len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_values_and_channels_come_a_page_at_a_time() {
    let (_broker, rig, _) = sent(&manifest(), [batch("truck-7", 1, [fix(), second(2)])]).await;
    let at = rig.hub().http;
    let readings: Vec<Value> = (0..5).map(|n| reading(&format!("bike-{n}"), "a/b", "speed", n, n as f64)).collect();
    post(&rig, "/api/v1/readings", &json!(readings)).await;
    let (mut after, mut found) = (String::new(), Vec::new());
    loop {
        let page = get(at, &format!("/api/v1/latest?limit=2{after}")).await;
        found.extend(page["latest"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    let names: Vec<&str> = found.iter().map(|l| l["gateway"].as_str().unwrap()).collect();
    assert_eq!(names, ["bike-0", "bike-1", "bike-2", "bike-3", "bike-4", "truck-7"]);
    assert_eq!((&found[3]["value"], &found[3]["unit"], &found[3]["t"]), (&json!(3.0), &"m/s".into(), &json!(time(3))));
    let one = get(at, "/api/v1/latest?gateway=truck-7&sensor=front-wheel&quantity=speed").await;
    assert_eq!((one["latest"].as_array().unwrap().len(), &one["latest"][0]["value"]), (1, &json!(2.009)));
    let mut channels = Value::Null;
    for _ in 0..600 {
        channels = get(at, "/api/v1/channels?gateway=truck-7").await;
        if channels["channels"][0]["first"].is_string() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let one = &channels["channels"][0];
    assert_eq!((&one["first"], &one["sensor"]), (&json!(time(2)), &"front-wheel".into()), "{channels}");
    assert_eq!(get(at, "/api/v1/latest?gateway=nobody").await["latest"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_and_what_happened_is_told_in_order_with_its_reason() {
    let Record::Clock(good) = fix() else { unreachable!() };
    let loss = Record::Loss(Loss {
        reason: LossReason::SpoolFullOldest,
        records: 0,
        samples: 17,
        from: Some((1, 5_000_000_000)),
        until: Some((1, 6_000_000_000)),
    });
    let event = Record::Event(Event {
        boot: 1,
        t_ns: 7_000_000_000,
        sensor: Some("front-wheel".into()),
        kind: EventKind::SensorFault,
        detail: "silent".into(),
    });
    let first = batch("truck-7", 1, [fix(), second(2), loss, event, second(10)]);
    let Record::Samples(samples) = second(5) else { unreachable!() };
    let dated = Record::Clock(ClockFix { boot: 3, utc_ns: BOOT_UTC_NS + 1_000_000_000_000, ..good });
    let of_boot = |boot| Record::Samples(Samples { boot, ..samples.clone() });
    let later = Batch { oldest_seq: 9, ..batch("truck-7", 9, [second(20), of_boot(2), dated, of_boot(3)]) };
    let (_broker, rig, _) = sent(&manifest(), [first, later]).await;
    let at = rig.hub().http;
    let range = format!("from={}&to={}", time(0), time(1_010));
    let told = get(at, &format!("/api/v1/gaps?{WHEEL}&periods=50&{range}")).await;
    let kinds: Vec<(&str, &str, u64, u64)> = told["gaps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| {
            let word = |field: &str| g[field].as_str().unwrap();
            (word("kind"), word("reason"), g["records"].as_u64().unwrap(), g["samples"].as_u64().unwrap())
        })
        .collect();
    let wanted = [
        ("silence", "no-samples", 0, 0),
        ("loss", "spool-full-oldest", 0, 17),
        ("gap", "not-there-any-more", 3, 0),
        ("silence", "no-samples", 0, 0),
        ("undated", "clock-never-vouched-for", 0, 0),
        ("silence", "no-samples", 0, 0),
    ];
    assert_eq!(kinds, wanted, "{told:#}");
    assert_eq!((&told["gaps"][2]["seqs"], &told["gaps"][2]["to"]), (&json!([6, 8]), &json!(time(20))));
    assert_eq!((&told["silence_of"], told["silence_s"].as_f64()), (&"samples".into(), Some(5.0)));
    let events = get(at, &format!("/api/v1/events?gateway=truck-7&{range}")).await;
    let kinds: Vec<&str> = events["events"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["clock-fix", "loss", "sensor-fault", "clock-fix"]);
    let fault = &events["events"][2];
    assert_eq!(
        (&fault["t"], &fault["detail"], &fault["sensor"]),
        (&json!(time(7)), &"silent".into(), &"front-wheel".into())
    );
    assert_eq!((&events["events"][0]["source"], &events["events"][0]["uncertainty_s"]), (&"ntp".into(), &json!(0.001)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_question_names_the_parameter_what_came_and_what_is_allowed() {
    let rig = alone().await;
    let at = rig.hub().http;
    for (path, words) in [
        ("/api/v1/history?gateway=a&quantity=speed", &["sensor", "missing"][..]),
        ("/api/v1/history?gateway=a&sensor=b&quantity=warmth", &["quantity", "warmth", "rotational-speed"]),
        ("/api/v1/history?gateway=a&sensor=b&quantity=speed&form=2026", &["form", "from", "max-points"]),
        ("/api/v1/history?gateway=a&sensor=b&quantity=speed&from=2026-01-01T00:00:00", &["from", "RFC 3339", "zone"]),
        ("/api/v1/history?gateway=a&sensor=b&quantity=speed&limit=0", &["limit", "\"0\"", "1 to 100000"]),
        ("/api/v1/history?gateway=a&sensor=b&quantity=speed&max-points=3", &["max-points", "4 to 20000"]),
        ("/api/v1/history?gateway=a&sensor=b&quantity=speed&max-points=9&limit=9", &["max-points", "limit"]),
        ("/api/v1/history?gateway=a&gateway=b&sensor=b&quantity=speed", &["gateway", "second time"]),
        (
            "/api/v1/history?gateway=a&sensor=b&quantity=speed&from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
            &["from", "2026-01-02", "after", "2026-01-01"],
        ),
        ("/api/v1/rollup?gateway=a&sensor=b&quantity=speed&bucket=1w", &["bucket", "1w", "1d"]),
        ("/api/v1/latest?after=x", &["after", "\"x\"", "next"]),
        ("/api/v1/latest?limit=5000", &["limit", "5000", "1000"]),
        ("/api/v1/channels?gateway=a%2Fb", &["gateway", "a/b", "64"]),
        ("/api/v1/channels?sensor=a%00b", &["sensor", "zero byte"]),
        ("/api/v1/gaps?gateway=a&sensor=b", &["quantity", "missing"]),
        ("/api/v1/gaps?gateway=a&sensor=b&quantity=speed&periods=1", &["periods", "1.5 to 1000"]),
        ("/api/v1/events", &["gateway", "missing"]),
        ("/api/v1/export?gateway=a", &["format", "jsonl"]),
        ("/api/v1/export?gateway=a&format=xlsx", &["format", "xlsx", "geojson"]),
        ("/api/v1/export?gateway=a&format=gpx&quantity=speed", &["quantity", "csv"]),
        #[cfg(not(feature = "parquet"))]
        ("/api/v1/export?gateway=a&format=parquet", &["parquet", "built without", "--features parquet", "duckdb"]),
        ("/tracking/data/list/?start_date=yesterday", &["start_date", "yesterday", "2026-05-04"]),
        ("/tracking/data/list/?page=0", &["page", "from 1"]),
        ("/tracking/data/list/?device=1", &["device", "device_id"]),
    ] {
        let (status, _, body) = request(at, "GET", path, None).await;
        assert_eq!(status, 400, "{path}: {body}");
        let error: Value = serde_json::from_str(&body).unwrap();
        let error = error["error"].as_str().unwrap();
        assert!(words.iter().all(|word| error.contains(word)), "{path}: {error}");
    }
    let description = get(at, "/api/v1/openapi.json").await;
    let formats = &description["paths"]["/api/v1/export"]["get"]["parameters"][0]["schema"]["enum"];
    assert_eq!(formats.as_array().unwrap().contains(&json!("parquet")), cfg!(feature = "parquet"), "{formats}");
    for path in ["history", "rollup", "latest", "channels", "gaps", "events", "export"] {
        assert!(description["paths"][format!("/api/v1/{path}")]["get"]["responses"]["400"].is_object(), "{path}");
    }
}

/// Places of two vehicles: 34 ABC 7 each hour of a day, 12 at noon of the day before.
async fn tracked() -> HubRig {
    let rig = alone().await;
    let at = |day: u32, hour: i64| format!("2026-05-{day:02}T{hour:02}:00:00.25+02:00");
    let mut items: Vec<Value> = (0..24)
        .map(|n| json!({"device_id": "34 ABC 7", "location": "41.5,29.25", "speed": n, "timestamp": at(4, n)}))
        .collect();
    items.push(json!({"device_id": 12, "location": "36.9,30.7", "speed": 90.5, "timestamp": at(3, 14)}));
    post(&rig, "/tracking/data/", &json!(items)).await;
    rig
}

async fn listed(rig: &HubRig, asked: &str) -> Vec<String> {
    let told = get(rig.hub().http, &format!("/tracking/data/list/?{asked}")).await;
    let results = told["results"].as_array().unwrap();
    results.iter().map(|r| r["timestamp"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_gives_the_time_the_client_told_and_the_speed_in_its_unit() {
    let rig = tracked().await;
    let told = get(rig.hub().http, "/tracking/data/list/?device_id=12").await;
    let wanted = json!([{"device_id": "12", "location": "36.9,30.7", "speed": 90.5, "speed_unit": "km/h",
        "timestamp": "2026-05-03T12:00:00.25Z"}]);
    assert_eq!((&told["results"], &told["page_size"]), (&wanted, &json!(50)));
    assert_eq!(listed(&rig, "device_id=34%20ABC%207").await.len(), 24);
    assert_eq!(listed(&rig, "device_id=nobody").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_with_one_date_alone_keeps_to_it() {
    let rig = tracked().await;
    assert_eq!(listed(&rig, "").await.len(), 25);
    // The first two hours of the fourth of May at +02:00 are the third of it in UTC.
    assert_eq!(listed(&rig, "start_date=2026-05-04").await.len(), 22);
    assert_eq!(listed(&rig, "end_date=2026-05-03").await.len(), 3, "a day is part of the range to its end");
    assert_eq!(listed(&rig, "start_date=2026-05-03&end_date=2026-05-03").await.len(), 3);
    assert_eq!(listed(&rig, "start_date=2026-05-05").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_keeps_to_the_time_of_day_and_the_zone() {
    let rig = tracked().await;
    let from_ten = listed(&rig, "start_date=2026-05-04T10:00:00").await;
    assert_eq!((from_ten.len(), from_ten.last().unwrap().as_str()), (12, "2026-05-04T10:00:00.25Z"));
    assert_eq!(listed(&rig, "start_date=2026-05-04T10:00:00.250001").await.len(), 11);
    assert_eq!(listed(&rig, "start_date=2026-05-04T12:00:00%2B02:00").await, from_ten);
    assert_eq!(listed(&rig, "start_date=2026-05-04T12:00:00+02:00").await, from_ten);
    assert_eq!(listed(&rig, "start_date=2026-05-04%2010:00:00&end_date=2026-05-04%2012:00:01").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_comes_fifty_a_page_the_newest_first_each_place_once() {
    let rig = alone().await;
    let item = |n: i64| {
        json!({"device_id": n % 7, "location": "1,2", "speed": 1,
        "timestamp": time(n * 31 % 120)})
    };
    post(&rig, "/tracking/data/", &json!((0..120).map(item).collect::<Vec<_>>())).await;
    let mut all = Vec::new();
    let mut page = Some(1);
    while let Some(number) = page {
        let told = get(rig.hub().http, &format!("/tracking/data/list/?page={number}")).await;
        let results = told["results"].as_array().unwrap();
        assert_eq!(results.len(), if number == 3 { 20 } else { 50 });
        all.extend(results.iter().map(|r| r["timestamp"].as_str().unwrap().to_owned()));
        page = told["next"].as_u64();
    }
    let wanted: Vec<String> = (0..120).rev().map(time).collect();
    assert_eq!(all, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_of_a_device_is_its_newest_by_its_own_time_and_404_where_there_is_none() {
    let rig = tracked().await;
    let at = rig.hub().http;
    // One that comes later and is older changes nothing, and one that comes twice is there once.
    let old = json!({"device_id": "34 ABC 7", "location": "1,1", "speed": 1, "timestamp": "2026-05-01T00:00:00Z"});
    post(&rig, "/tracking/data/", &json!([old, old])).await;
    let told = get(at, "/tracking/data/latest/34%20ABC%207/").await;
    assert_eq!((&told["location"], &told["speed"]), (&"41.5,29.25".into(), &json!(23.0)));
    assert_eq!((&told["timestamp"], &told["device_id"]), (&"2026-05-04T21:00:00.25Z".into(), &"34 ABC 7".into()));
    assert_eq!(listed(&rig, "end_date=2026-05-02").await.len(), 1);
    let (status, _, body) = request(at, "GET", "/tracking/data/latest/nobody/", None).await;
    assert!(status == 404 && body.contains("nobody"), "{body}");
}
