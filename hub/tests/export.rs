//! How much a slow client of an export holds up. In a process of its own, since its memory is measured.

mod rig;

use std::time::Duration;

use rig::{
    http::{download, get, request},
    *,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const WHEEL: &str = "gateway=truck-7&sensor=front-wheel&quantity=speed";

fn time(s: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(BOOT_UTC_NS) + i128::from(s) * 1_000_000_000).unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_export_is_told_to_come_again_and_a_slow_client_holds_neither_memory_nor_the_hubs_end() {
    let batches = (0..40).map(|n| seconds("truck-7", n * 500 + 1..=n * 500 + 500));
    let (_broker, mut rig, gateway) = sent(&manifest(), batches).await;
    gateway.batch(&batch("truck-7", 20_001, [fix()])).await;
    gateway.confirmed(20_001).await;
    let at = rig.hub().http;
    let path = "/api/v1/export?format=jsonl&gateway=truck-7";
    let begin = || async {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {at}\r\n\r\n").as_bytes()).await.unwrap();
        let mut some = [0; 1024];
        stream.read_exact(&mut some).await.unwrap();
        assert!(some.starts_with(b"HTTP/1.1 200"));
        stream
    };
    // What is summed up meanwhile takes memory too, so that has to have ended.
    let db = rusqlite::Connection::open(rig.database()).unwrap();
    let marks = || db.query_row("SELECT count(*) FROM marks", [], |row| row.get::<_, i64>(0)).unwrap();
    until("sums are made", || marks() == 0).await;
    let before = resident_kib();
    let slow = [begin().await, begin().await];
    let (status, head, body) = request(at, "GET", path, None).await;
    assert!(status == 503 && head.contains("retry-after: 10") && body.contains("2 exports"), "{head} {body}");
    // What is asked otherwise is answered meanwhile.
    assert_eq!(get(at, &format!("/api/v1/history?{WHEEL}&limit=5")).await["points"].as_array().unwrap().len(), 5);
    // Time enough for one that does not wait for its client to write all of it.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let held = resident_kib().saturating_sub(before);
    assert!(held < 24 * 1024, "{held} KiB more while 60 MB wait to be taken");
    drop(slow);
    let mut tries = 0;
    while download(at, &format!("{path}&to={}", time(20))).await.0 == 503 {
        tries += 1;
        assert!(tries < 200, "a client that goes gives its place free");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (_, _, body, whole) = download(at, path).await;
    assert!(whole && body.ends_with("{\"complete\":true,\"rows\":200000}\n"));
    let _slow = begin().await;
    timeout(LONG, rig.stop()).await.expect("it stops while somebody downloads");
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
