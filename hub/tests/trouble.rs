//! A database that cannot be written for a while: what is not stored is not confirmed, and nothing is lost.

mod rig;

use std::{fs, io::Write, path::Path, process::Command, time::Duration};

use rig::*;

async fn store_says(rig: &HubRig, word: &str) {
    let began = std::time::Instant::now();
    loop {
        let health = http::get(rig.hub().http, "/healthz").await;
        if health["store"].as_str().unwrap().contains(word) {
            return;
        }
        assert!(began.elapsed() < LONG, "never {word}: {health}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A small disk of its own.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let at = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(at.path()).output();
        mount.is_ok_and(|ran| ran.status.success()).then(|| Self(at))
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.0.path().join("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Batches of three records.
async fn send(gateway: &TestGateway, batches: std::ops::RangeInclusive<u64>) {
    for n in batches {
        gateway.batch(&seconds("truck-7", n * 3 - 2..=n * 3)).await;
    }
}

fn stored(path: &Path) -> u64 {
    let db = rusqlite::Connection::open(path).unwrap();
    db.query_row("SELECT thru FROM ledger", [], |row| row.get::<_, i64>(0)).unwrap() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_delays_the_confirmation_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else { return println!("skipped: may not mount a small tmpfs") };
    let broker = Mosquitto::start();
    let path = disk.0.path().join("hub.sqlite");
    let mut rig = HubRig::with(broker.url(), |config| config.store.path = path.clone()).await;
    rig.reaches("connected", 1).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    send(&gateway, 1..=1).await;
    gateway.confirmed(3).await;
    disk.fill();
    send(&gateway, 2..=200).await;
    store_says(&rig, "disk of the database is full").await;
    let before = gateway.thru().unwrap();
    assert!(before < 600, "some of it did not fit");
    assert!(stored(&path) >= before, "only what is stored is confirmed");
    disk.free();
    gateway.confirmed(600).await;
    store_says(&rig, "ok").await;
    let counts = rig.hub().reader.counts().unwrap();
    assert_eq!((counts.chunks, counts.samples, counts.gaps), (600, 600 * PER_RECORD, 0));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_another_program_has_locked_delays_the_confirmation_and_loses_nothing() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    send(&gateway, 1..=1).await;
    gateway.confirmed(3).await;
    let other = rusqlite::Connection::open(rig.database()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    send(&gateway, 2..=50).await;
    store_says(&rig, "locked by another program").await;
    assert_eq!(gateway.thru(), Some(3));
    other.execute_batch("ROLLBACK").unwrap();
    gateway.confirmed(150).await;
    store_says(&rig, "ok").await;
    assert_eq!(rig.hub().reader.counts().unwrap().chunks, 150);
}
