//! A database that cannot be written for a while, that is older than it was, or that two hubs write: what is not stored
//! is not confirmed, and nothing is lost or there twice.

mod rig;

use std::{
    fs,
    io::Write,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rig::*;
use speedwell_hub::Hub;
use speedwell_wire::Batch;

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

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_database_delays_each_confirmation_until_its_commit_and_loses_nothing() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    send(&gateway, 1..=1).await;
    gateway.confirmed(3).await;
    // Another program writes nearly all the time: a commit of the hub waits for it to let go.
    let (path, over) = (rig.database(), Arc::new(AtomicBool::new(false)));
    let (at, done) = (path.clone(), over.clone());
    let other = std::thread::spawn(move || {
        let db = rusqlite::Connection::open(at).unwrap();
        db.busy_timeout(LONG).unwrap();
        while !done.load(Ordering::Relaxed) {
            db.execute_batch("BEGIN IMMEDIATE").unwrap();
            std::thread::sleep(Duration::from_millis(300));
            db.execute_batch("ROLLBACK").unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    for n in 2..=100 {
        send(&gateway, n..=n).await;
        let confirmed = gateway.thru().unwrap();
        assert!(stored(&path) >= confirmed, "{confirmed} was confirmed and is not stored");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gateway.confirmed(300).await;
    over.store(true, Ordering::Relaxed);
    other.join().unwrap();
    let counts = rig.hub().reader.counts().unwrap();
    assert_eq!((counts.chunks, counts.samples, counts.gaps), (300, 300 * PER_RECORD, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_moved_away_under_the_hub_confirms_nothing_until_it_is_back() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    send(&gateway, 1..=1).await;
    gateway.confirmed(3).await;
    let away = rig.database().with_extension("away");
    fs::rename(rig.database(), &away).unwrap();
    send(&gateway, 2..=20).await;
    store_says(&rig, "the database is no longer at ").await;
    assert_eq!(gateway.thru(), Some(3), "what nobody would find again is not confirmed");
    fs::rename(&away, rig.database()).unwrap();
    gateway.confirmed(60).await;
    store_says(&rig, "ok").await;
    assert_eq!(rig.hub().reader.counts().unwrap().chunks, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_whose_database_is_down_at_its_start_says_so_and_takes_all_that_came_meanwhile_when_it_is_up() {
    let broker = Mosquitto::start();
    let mut rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    send(&gateway, 1..=1).await;
    gateway.confirmed(3).await;
    rig.stop().await;
    send(&gateway, 2..=20).await;
    // The disk is not mounted: a file is where the folder should be.
    let up = rig.config.store.path.clone();
    rig.config.store.path = up.join("on-a-disk-that-is-not-there.sqlite");
    let error = Hub::start(rig.config.clone()).await.err().expect("it cannot start").to_string();
    assert!(error.contains(&up.display().to_string()), "{error}");
    rig.config.store.path = up;
    rig.hub = Some(Hub::start(rig.config.clone()).await.unwrap());
    gateway.confirmed(60).await;
    let counts = rig.hub().reader.counts().unwrap();
    assert_eq!((counts.chunks, counts.gaps), (60, 0));
    rig.stop().await;
}

/// A disk of its own that its file system can be made to see as failing, as a worn card does.
struct FailingDisk(tempfile::TempDir);

impl FailingDisk {
    fn make() -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        let image = disk.0.path().join("image");
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        fs::create_dir(disk.at()).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(&image).output();
        (made.is_ok_and(|ran| ran.status.success()) && disk.mount()).then_some(disk)
    }

    fn at(&self) -> std::path::PathBuf {
        self.0.path().join("disk")
    }

    fn mount(&self) -> bool {
        let image = self.0.path().join("image");
        let mount = Command::new("mount").args(["-o", "loop,errors=remount-ro"]).arg(image).arg(self.at()).output();
        mount.is_ok_and(|ran| ran.status.success())
    }

    /// The kernel finds an error and lets nobody write any more.
    fn fail(&self) {
        let device = Command::new("findmnt").args(["-no", "SOURCE"]).arg(self.at()).output().unwrap().stdout;
        let device = String::from_utf8(device).unwrap();
        let name = Path::new(device.trim()).file_name().unwrap();
        fs::write(Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error"), "1").unwrap();
    }

    /// A person checks the disk and mounts it again.
    fn mend(&self) {
        assert!(Command::new("umount").arg(self.at()).status().unwrap().success());
        let _ = Command::new("fsck.ext4").arg("-fy").arg(self.0.path().join("image")).output();
        assert!(self.mount());
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.at()).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_has_become_read_only_delays_the_confirmation_until_a_person_has_mended_it() {
    let Some(disk) = FailingDisk::make() else { return println!("skipped: may not mount a small ext4") };
    let broker = Mosquitto::start();
    let path = disk.at().join("hub.sqlite");
    let mut rig = HubRig::with(broker.url(), |config| config.store.path = path.clone()).await;
    rig.reaches("connected", 1).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    send(&gateway, 1..=3).await;
    gateway.confirmed(9).await;
    disk.fail();
    send(&gateway, 4..=50).await;
    store_says(&rig, "database: ").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(gateway.thru(), Some(9), "what is not stored is not confirmed");
    let _ = rig.hub.take().unwrap().stop().await;
    disk.mend();
    rig.hub = Some(Hub::start(rig.config.clone()).await.unwrap());
    // What the hub did not acknowledge to the broker, the broker brings again.
    gateway.confirmed(150).await;
    let counts = rig.hub().reader.counts().unwrap();
    assert_eq!((counts.chunks, counts.samples, counts.gaps), (150, 150 * PER_RECORD, 0));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hubs_that_are_given_every_batch_at_once_store_each_record_once() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let second = HubRig::with(broker.url(), |config| {
        config.broker.client_id = "second".into();
        config.store.path = rig.database();
    })
    .await;
    second.reaches("connected", 1).await;
    let gateways =
        [TestGateway::connect("truck-7", broker.port).await, TestGateway::connect("truck-8", broker.port).await];
    for gateway in &gateways {
        gateway.manifest(&manifest()).await;
    }
    for n in 1..=60 {
        for gateway in &gateways {
            gateway.batch(&seconds(&gateway.name, n * 3 - 2..=n * 3)).await;
        }
    }
    for gateway in &gateways {
        gateway.confirmed(180).await;
    }
    // Both have seen everything, and each has stored what the other had not.
    for hub in [&rig, &second] {
        until("all batches are answered", || hub.counter("stored") + hub.counter("duplicates") >= 360).await;
    }
    assert_eq!(rig.counter("stored") + second.counter("stored"), 360);
    let counts = rig.hub().reader.counts().unwrap();
    assert_eq!((counts.chunks, counts.samples, counts.gaps), (360, 360 * PER_RECORD, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_restored_from_yesterdays_backup_confirms_less_and_takes_again_what_the_gateway_still_has() {
    let broker = Mosquitto::start();
    let mut rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    send(&gateway, 1..=2).await;
    gateway.confirmed(6).await;
    let backup = rig.database().with_extension("backup");
    let db = rusqlite::Connection::open(rig.database()).unwrap();
    db.execute("VACUUM INTO ?", [backup.display().to_string()]).unwrap();
    drop(db);
    send(&gateway, 3..=10).await;
    gateway.confirmed(30).await;
    rig.stop().await;
    for behind in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{behind}", rig.database().display()));
    }
    fs::copy(backup, rig.database()).unwrap();
    rig.hub = Some(Hub::start(rig.config.clone()).await.unwrap());
    rig.reaches("connected", 1).await;
    // The gateway goes on where it was, and hears that it has to go back: it still has all from record 20 on, and what
    // was between the backup and that is written down as a gap.
    let kept = |batch: Batch| Batch { oldest_seq: 20, ..batch };
    gateway.batch(&kept(seconds("truck-7", 31..=33))).await;
    gateway.confirmed(19).await;
    gateway.batch(&kept(seconds("truck-7", 20..=33))).await;
    gateway.confirmed(33).await;
    let counts = rig.hub().reader.counts().unwrap();
    assert_eq!((counts.chunks, counts.gaps), (6 + 14, 1));
    let standing = rig.hub().reader.standings().unwrap()[0].1;
    assert_eq!((standing.thru, standing.missing_records), (33, 13));
    rig.stop().await;
}
