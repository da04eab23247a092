//! Exports as Parquet, of a hub built with the feature: what another reader finds in them is what the CSV has.
//! `SPEEDWELL_PYARROW` names a Python that has pyarrow; `scripts/parquet` makes one.

mod rig;

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use bytes::Bytes;
use parquet::{
    file::{
        reader::{FileReader, SerializedFileReader},
        statistics::Statistics,
    },
    record::Field,
};
use rig::{
    http::{download, download_bytes, send},
    postgres::Cluster,
    *,
};
use serde_json::json;
use speedwell_wire::{Batch, Channel, Manifest, Quality, Quantity, Record, Samples, block};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Ends before any test is run, so that all exports of a range are of the same.
const TO: &str = "to=2026-06-01T00:00:00Z";
const EXPORT: &str = "/api/v1/export?gateway=truck-7";
const HEADER: [&str; 10] = [
    "time_utc",
    "gateway",
    "sensor",
    "quantity",
    "value",
    "unit",
    "uncertainty",
    "quality",
    "clock",
    "utc_uncertainty_s",
];

/// Whole, and what it is called.
async fn parquet_of(at: SocketAddr, more: &str) -> Vec<u8> {
    let (status, head, body, whole) = download_bytes(at, &format!("{EXPORT}&format=parquet&{more}")).await;
    assert!(status == 200 && whole, "{head}{}", String::from_utf8_lossy(&body));
    assert!(head.contains("content-type: application/vnd.apache.parquet\r\n"), "{head}");
    assert!(head.contains("content-disposition: attachment; filename=\"truck-7_start_"), "{head}");
    assert!(head.contains(".parquet\""), "{head}");
    body
}

fn opened(bytes: &[u8]) -> SerializedFileReader<Bytes> {
    SerializedFileReader::new(Bytes::copy_from_slice(bytes)).unwrap()
}

/// Each row as the CSV would write it, an unknown as nothing.
fn rows(file: &SerializedFileReader<Bytes>) -> Vec<Vec<String>> {
    let text = |field: &Field| match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        Field::Double(number) => number.to_string(),
        other => panic!("{other}"),
    };
    let mut rows = Vec::new();
    // The reader of rows knows no ns: times are read as the integers that they are.
    for n in 0..file.num_row_groups() {
        let group = file.get_row_group(n).unwrap();
        let mut times = vec![];
        let mut column = parquet::column::reader::get_typed_column_reader::<parquet::data_type::Int64Type>(
            group.get_column_reader(0).unwrap(),
        );
        let count = group.metadata().num_rows() as usize;
        while times.len() < count {
            column.read_records(count, None, None, &mut times).unwrap();
        }
        for (row, ns) in group.get_row_iter(None).unwrap().zip(times) {
            let row = row.unwrap();
            let mut fields: Vec<String> = row.get_column_iter().skip(1).map(|(_, field)| text(field)).collect();
            fields.insert(0, jiff::Timestamp::from_nanosecond(ns.into()).unwrap().to_string());
            rows.push(fields);
        }
    }
    rows
}

/// RFC 4180, and without the `'` that keeps a spreadsheet from reckoning.
fn fields(csv: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut rest = csv.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => field.extend(rest.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            other => field.push(other),
        }
    }
    for field in rows.iter_mut().flatten() {
        if field.starts_with("'=") {
            field.remove(0);
        }
    }
    rows
}

/// What the other reader says, unless it is not here.
fn pyarrow(arguments: &[&Path]) -> Option<Output> {
    let Some(python) = std::env::var_os("SPEEDWELL_PYARROW") else {
        eprintln!("skipped: SPEEDWELL_PYARROW names no Python that has pyarrow (see scripts/parquet)");
        return None;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/parquet.py");
    Some(Command::new(python).arg(script).args(arguments).output().unwrap())
}

/// Both readers find in it what the CSV has.
async fn alike(at: SocketAddr, more: &str) -> Vec<Vec<String>> {
    let file = parquet_of(at, more).await;
    let (status, _, csv, whole) = download(at, &format!("{EXPORT}&format=csv&{more}")).await;
    assert!(status == 200 && whole);
    let opened = opened(&file);
    let columns: Vec<&str> =
        opened.metadata().file_metadata().schema_descr().columns().iter().map(|c| c.name()).collect();
    assert_eq!(columns, HEADER);
    let (found, mut wanted) = (rows(&opened), fields(&csv));
    assert_eq!(wanted.remove(0), HEADER);
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(&wanted) {
        assert_eq!(found, wanted);
    }
    let directory = tempfile::tempdir().unwrap();
    let names = ["export.parquet", "export.csv"].map(|name| directory.path().join(name));
    std::fs::write(&names[0], &file).unwrap();
    std::fs::write(&names[1], &csv).unwrap();
    if let Some(out) = pyarrow(&[&names[0], &names[1]]) {
        let said = String::from_utf8_lossy(&out.stdout);
        assert_eq!(said, format!("{} rows alike\n", found.len()), "{}", String::from_utf8_lossy(&out.stderr));
    }
    found
}

async fn what_csv_has(change: impl FnOnce(&mut speedwell_hub::Config)) {
    let broker = Mosquitto::start();
    let rig = HubRig::with(broker.url(), change).await;
    rig.reaches("connected", 1).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    gateway.batch(&batch("truck-7", 1, std::iter::once(fix()).chain((2..=40).map(second)))).await;
    gateway.confirmed(40).await;
    let at = rig.hub().http;
    // Nobody vouches for their times, and not of all is it known how sure they are.
    let reading = |sensor: &str, quantity: &str, value: f64, more: serde_json::Value| {
        let mut all = json!({"device": "truck-7", "sensor": sensor, "quantity": quantity, "value": value,
            "at": "2026-01-01T00:00:05.000000007Z"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let items = json!([
        reading("Vorderrad, \"links\" ⚙", "speed", 0.1 + 0.2, json!({"uncertainty": 0.05, "quality": "estimated"})),
        reading("前輪", "course", 359.999, json!({"quality": "degraded"})),
        reading("=1+1", "speed", -0.0, json!({"quality": "stopped"})),
        reading("front-wheel", "distance", 1e99, json!({"uncertainty": 5e-324})),
    ]);
    let head = "Content-Type: application/json\r\n";
    let (status, _, told) = send(at, "POST", "/api/v1/readings", head, items.to_string().as_bytes()).await;
    assert_eq!(status, 200, "{told}");
    let all = alike(at, TO).await;
    assert_eq!(all.len(), 390 + 4);
    let of = |sensor: &str| all.iter().find(|row| row[2] == sensor).unwrap();
    assert_eq!(
        of("前輪")[..],
        ["2026-01-01T00:00:05.000000007Z", "truck-7", "前輪", "course", "359.999", "deg", "", "degraded", "", ""]
    );
    assert_eq!(of("Vorderrad, \"links\" ⚙")[4], "0.30000000000000004");
    assert_eq!(all[0][7..], ["good", "ntp", "0.0011"]);
    assert_eq!(alike(at, &format!("{TO}&sensor=%E5%89%8D%E8%BC%AA&quantity=course")).await.len(), 1);
    assert_eq!(alike(at, &format!("{TO}&sensor=none")).await.len(), 0, "a range of nothing is a file of no rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_csv_is_in_the_parquet_with_what_is_unknown_as_null() {
    what_csv_has(|_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_postgresql_too() {
    let url = Cluster::shared().database();
    what_csv_has(|config| config.store.url = Some(url.try_into().unwrap())).await;
}

const RECORDS: u64 = 8_000;
const SAMPLES: u64 = 50;

/// Values that nothing can pack, of 53 bits.
fn value(record: u64, n: u64) -> i64 {
    fastrand::Rng::with_seed(record * SAMPLES + n).i64(0..1 << 53)
}

fn random_manifest() -> Manifest {
    Manifest { channels: vec![Channel { resolution_nano: 1, ..channel(1, "front-wheel", Quantity::Distance) }] }
}

/// A second of fifty samples.
fn random(record: u64) -> Record {
    let sample = |n| block::Sample {
        tick: record * 10_000 + n * 200,
        value: value(record, n),
        uncertainty: block::Uncertainty(20),
        quality: Quality::Good,
    };
    let manifest = random_manifest();
    let column = block::Column { channel: 1, samples: (0..SAMPLES).map(sample).collect() };
    Record::Samples(Samples { manifest: manifest.hash(), boot: 1, block: block::encode(&[column], &manifest) })
}

/// A hub with more than sockets hold.
async fn many() -> (Mosquitto, HubRig, TestGateway) {
    let fixed = batch("truck-7", 1, [fix()]);
    let batches = (0..RECORDS / 250).map(|n| -> Batch {
        let first = n * 250 + 1;
        batch("truck-7", first + 1, (first..first + 250).map(random))
    });
    sent(&random_manifest(), std::iter::once(fixed).chain(batches)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn many_row_groups_have_all_rows_in_order_and_one_that_breaks_off_is_no_parquet() {
    let (_broker, rig, _gateway) = many().await;
    let at = rig.hub().http;
    let bytes = parquet_of(at, TO).await;
    let file = opened(&bytes);
    let groups = file.metadata().row_groups();
    let counts: Vec<i64> = groups.iter().map(|group| group.num_rows()).collect();
    assert_eq!(
        counts,
        [60_000, 60_000, 60_000, 60_000, 60_000, 60_000, 40_000],
        "as many rows as a group may have, and no more"
    );
    let of_record = |sample: u64| sample / SAMPLES + 1;
    let mut sample = 0;
    let mut last = i64::MIN;
    for (n, told) in groups.iter().enumerate() {
        let group = file.get_row_group(n).unwrap();
        let Some(Statistics::Int64(times)) = told.column(0).statistics() else { panic!("no statistics") };
        assert!(times.min_opt().unwrap() > &last, "a reader may pass over groups by their times");
        last = *times.max_opt().unwrap();
        let mut values = vec![];
        let mut column = parquet::column::reader::get_typed_column_reader::<parquet::data_type::DoubleType>(
            group.get_column_reader(4).unwrap(),
        );
        while column.read_records(60_000, None, None, &mut values).unwrap().0 > 0 {}
        for found in values {
            let wanted = value(of_record(sample), sample % SAMPLES) as f64 / 1e9;
            assert!((found - wanted).abs() <= wanted * f64::EPSILON, "{sample}: {found} {wanted}");
            sample += 1;
        }
    }
    assert_eq!(sample, RECORDS * SAMPLES);
    // A record near the end cannot be read any more: six groups have gone out by then.
    let db = rusqlite::Connection::open(rig.database()).unwrap();
    assert_eq!(db.execute("UPDATE chunks SET block = x'ff' WHERE seq = 7900", []).unwrap(), 1);
    let (status, _, part, whole) = download_bytes(at, &format!("{EXPORT}&format=parquet&{TO}")).await;
    assert!(status == 200 && !whole && part.len() > bytes.len() / 2, "{} of {}", part.len(), bytes.len());
    assert_eq!(part[..], bytes[..part.len()], "it goes out as it is written");
    assert!(SerializedFileReader::new(Bytes::from(part.clone())).is_err());
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().join("broken.parquet");
    std::fs::write(&name, part).unwrap();
    if let Some(out) = pyarrow(&[Path::new("--broken"), &name]) {
        let (said, error) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success() && said.contains("magic bytes not found in footer"), "{said}{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_gives_its_place_free_and_one_that_takes_nothing_does_not_keep_the_hub_from_stopping() {
    let (_broker, mut rig, _gateway) = many().await;
    let at = rig.hub().http;
    let begin = || async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let mut stream = socket.connect(at).await.unwrap();
        let ask = format!("GET {EXPORT}&format=parquet HTTP/1.1\r\nHost: {at}\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut some = [0; 1024];
        stream.read_exact(&mut some).await.unwrap();
        assert!(some.starts_with(b"HTTP/1.1 200"));
        stream
    };
    let slow: [TcpStream; 2] = [begin().await, begin().await];
    tokio::time::sleep(Duration::from_secs(1)).await;
    let short = format!("{EXPORT}&format=parquet&to=2026-01-01T00:00:10Z");
    assert_eq!(download_bytes(at, &short).await.0, 503, "both are under way, however long nobody takes anything");
    drop(slow);
    let mut tries = 0;
    while download_bytes(at, &short).await.0 == 503 {
        tries += 1;
        assert!(tries < 200, "a client that goes gives its place free");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let _slow = begin().await;
    timeout(LONG, rig.stop()).await.expect("it stops while somebody downloads");
}
