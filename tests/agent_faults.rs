//! What can be wrong around an agent, from its first line of configuration to the broker: each has its own message and
//! exit code, and none loses what was already spooled.

mod agent;
mod broker;
mod spool_support;

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use agent::{Home, SIMULATED, output, text};
use broker::{Broker, Hub, free_port, installed};
use speedwell_wire::{EventKind, LossReason, Record, frame};

const PERMISSION: i32 = 77;
const CONFIG: i32 = 78;
const SPOOL: i32 = 73;
const UNAVAILABLE: i32 = 69;

/// The exit code and the complaint.
fn end(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), text(&output.stderr))
}

fn nowhere() -> String {
    format!("mqtt://127.0.0.1:{}", free_port())
}

#[test]
fn unknown_boards_pins_and_keys_and_a_pin_used_twice_end_with_78_and_touch_nothing() {
    let home = Home::new("rpi-9", &nowhere(), &SIMULATED.replace("report = \"5 Hz\"", "reprot = \"5 Hz\""));
    let (code, said) = end(&home.output("run", &[]));
    assert_eq!(code, Some(CONFIG), "{said}");
    assert!(said.contains("gateway.toml:4:9: gateway.board: there is no board \"rpi-9\""), "{said}");
    assert!(said.contains("sensor.gnss.reprot: there is no key `reprot` here"), "{said}");
    assert!(said.contains("did you mean `report`?") && said.contains("2 mistakes in "), "{said}");

    let twice = "\n[[sensor]]\nname = \"rear\"\nkind = \"hall\"\npin = \"SIM0\"\npulses-per-metre = 20\n";
    home.configure("simulated", "url = \"mqtt://127.0.0.1\"", &format!("{SIMULATED}{twice}"));
    let (code, said) = end(&home.output("run", &[]));
    assert_eq!(code, Some(CONFIG), "{said}");
    assert!(said.contains("SIM0") && said.contains("front-wheel") && said.contains("rear"), "{said}");

    home.configure("simulated", "url = \"mqtt://127.0.0.1\"", &SIMULATED.replace("SIM0", "SIM99"));
    let (code, said) = end(&home.output("run", &[]));
    assert_eq!(code, Some(CONFIG), "{said}");
    assert!(said.contains("SIM99") && said.contains("SIM9"), "{said}");
    assert!(!home.spool().exists() && !home.path().join("state").exists());
}

/// Whether this test may act as another user.
fn may_be_nobody() -> bool {
    let tried = Command::new("setpriv").args(["--reuid=65534", "--clear-groups", "true"]).output();
    let may = tried.is_ok_and(|tried| tried.status.success());
    if !may {
        eprintln!("skipped: acting as another user needs root and setpriv");
    }
    may
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_of_another_user_ends_with_77_and_keeps_what_is_in_it() {
    if !may_be_nobody() {
        return;
    }
    let home = Home::simulated(&nowhere());
    spool(&home, 100).await;
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(home.spool(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = home.path().join("speedwell");
    fs::copy(env!("CARGO_BIN_EXE_speedwell"), &program).unwrap();
    let mut run = Command::new("setpriv");
    run.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    let (code, said) = end(&output(run.args(["run", "--config"]).arg(home.config())));
    assert_eq!(code, Some(PERMISSION), "{said}");
    let path = home.spool().display();
    assert!(said.contains(&format!("speedwell run: spool directory {path}: permission denied")), "{said}");
    assert!(said.contains("chown it, or set spool.directory to a place it owns"), "{said}");
    assert_eq!(home.spooled().await.len(), 100);
}

/// Puts so many records into the spool of a home.
async fn spool(home: &Home, records: u64) {
    let (spool, _) = spool_support::open(home.spool());
    spool_support::fill(&spool, records, 200).await;
    spool.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_where_the_spool_or_the_state_should_be_ends_with_73() {
    let home = Home::simulated(&nowhere());
    fs::write(home.spool(), "").unwrap();
    let (code, said) = end(&home.output("run", &[]));
    assert_eq!(code, Some(SPOOL), "{said}");
    assert!(said.contains("is not a directory. Correct spool.directory, or move that file away"), "{said}");
    fs::remove_file(home.spool()).unwrap();
    spool(&home, 10).await;
    fs::write(home.path().join("state"), "").unwrap();
    let (code, said) = end(&home.output("run", &[]));
    assert_eq!(code, Some(SPOOL), "{said}");
    assert!(said.contains("speedwell run: cannot keep the boot number in "), "{said}");
    assert_eq!(home.spooled().await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_ends_with_73_and_the_first_goes_on() {
    let home = Home::simulated(&nowhere());
    let mut first = home.start();
    first.says("running").await;
    let (code, said) = end(&home.output("run", &[]));
    assert_eq!(code, Some(SPOOL), "{said}");
    assert!(said.contains(&format!("in use by process {}. Stop that one first", first.id())), "{said}");
    assert!(home.path().join("state/live.sock").exists(), "the second took the first one's socket away");
    first.stop_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_of_a_future_version_is_refused_and_left_as_it_is() {
    let home = Home::simulated(&nowhere());
    spool(&home, 10).await;
    let now: Vec<_> = ["meta", "meta-copy"].iter().map(|name| home.spool().join(name)).collect();
    let written = fs::read(&now[0]).unwrap();
    let mut future = b"speedwell-spool 9\nname 0123\n".to_vec();
    future.extend_from_slice(&frame::crc32c(&future).to_le_bytes());
    now.iter().for_each(|path| fs::write(path, &future).unwrap());
    let (code, said) = end(&home.output("run", &[]));
    assert_eq!(code, Some(SPOOL), "{said}");
    assert!(said.contains("format 9, this speedwell knows up to 1. Install the newer speedwell again"), "{said}");
    for path in &now {
        assert_eq!(fs::read(path).unwrap(), future);
        fs::write(path, &written).unwrap();
    }
    assert_eq!(home.spooled().await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_spool_starts_all_the_same_says_so_and_delivers_what_is_whole() {
    if !installed() {
        return;
    }
    const BEFORE: u64 = 6_000;
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    let home = Home::simulated(&format!("mqtt://127.0.0.1:{}", broker.port));
    spool(&home, BEFORE).await;
    flip_behind(&spool_support::generations(home.spool())[0].join("db"), "000000003000xxxx");
    let mut agent = home.start();
    hub.until("everything taken", |s| s.thru > BEFORE + 2).await;
    agent.stop_well().await;
    let records = hub.state().records();
    let told = |kind| records.iter().filter(move |(_, r)| matches!(r, Record::Event(e) if e.kind == kind));
    let whole = records.iter().filter(|(seq, _)| *seq <= BEFORE);
    let whole = whole.filter(|(_, record)| matches!(record, Record::Event(_))).count() as u64;
    let findings: Vec<_> = told(EventKind::Spool).collect();
    println!("{whole} of {BEFORE} records delivered; {findings:?}");
    let met_at_start = |r: &Record| matches!(r, Record::Event(e) if e.detail.contains("set aside in "));
    assert!(findings.iter().any(|(_, record)| met_at_start(record)), "nobody was told of the damage");
    assert!((BEFORE - 300..BEFORE).contains(&whole), "{whole} of {BEFORE} records are whole");
    let damaged = |record: &Record| matches!(record, Record::Loss(loss) if loss.reason == LossReason::Damaged);
    assert!(records.iter().any(|(_, record)| damaged(record)), "the loss is part of the log");
}

/// Flips a bit behind these words wherever they stand in a file: sled keeps pages it has written anew.
fn flip_behind(path: &Path, words: &str) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let bytes = fs::read(path).unwrap();
    let found = bytes.windows(words.len()).enumerate().filter(|(_, window)| *window == words.as_bytes());
    let ends: Vec<usize> = found.map(|(at, _)| at + words.len()).collect();
    assert!(!ends.is_empty());
    ends.iter().for_each(|&at| file.write_all_at(&[bytes[at] ^ 0x10], at as u64).unwrap());
}

/// A small file system of its own, gone with the value.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(directory.path()).output();
        if !mount.is_ok_and(|mount| mount.status.success()) {
            eprintln!("skipped: mounting a small file system needs root");
            return None;
        }
        Some(SmallDisk(directory))
    }

    /// Leaves no byte free.
    fn fill(&self) {
        let full = fs::write(self.0.path().join("others"), vec![0; 64 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_with_73_when_new_and_delivers_what_was_spooled_when_not() {
    let Some(disk) = SmallDisk::mount() else { return };
    disk.fill();
    let home = Home::simulated(&nowhere()).with_spool(&disk.0.path().join("spool"));
    let (code, said) = end(&home.output("run", &[]));
    assert_eq!(code, Some(SPOOL), "{said}");
    assert!(said.contains("no space left on the device. Free some space"), "{said}");
    if !installed() {
        return;
    }
    fs::remove_file(disk.0.path().join("others")).unwrap();
    let broker = Broker::start();
    let home = Home::simulated(&format!("mqtt://127.0.0.1:{}", broker.port)).with_spool(&disk.0.path().join("spool"));
    spool(&home, 1_000).await;
    disk.fill();
    let hub = Hub::start(broker.port).await;
    let mut agent = home.start();
    hub.until("what was spooled is delivered", |s| s.thru >= 1_000).await;
    assert!(hub.state().records().iter().take(1_000).all(|(_, record)| matches!(record, Record::Event(_))));
    agent.stop_well().await;
}

/// Starts an agent that cannot reach its broker as it is, waits for these words, mends that, and sees everything
/// delivered from the first record on.
async fn delivers_once_mended(home: &Home, words: &[&str], mend: impl AsyncFnOnce() -> Hub) {
    let mut agent = home.start();
    for words in words {
        agent.says(words).await;
    }
    let hub = mend().await;
    hub.until("delivered", |s| s.stored.values().any(|(_, r)| matches!(r, Record::Samples(_)))).await;
    let (_, first) = hub.state().records().remove(0);
    assert!(matches!(&first, Record::Event(e) if e.kind == EventKind::Started), "{first:?}");
    agent.stop_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_is_told_and_everything_comes_when_it_is() {
    if !installed() {
        return;
    }
    let mut broker = Broker::start();
    broker.kill();
    let home = Home::simulated(&format!("mqtt://127.0.0.1:{}", broker.port));
    let told = format!("the broker 127.0.0.1:{} is unreachable: Connection refused", broker.port);
    let remedy = "check host and port in broker.url, the network and firewalls, and that the broker runs";
    let checked = home.output("check", &["--online"]);
    assert_eq!(checked.status.code(), Some(UNAVAILABLE));
    let shown = text(&checked.stdout);
    assert!(shown.contains(&format!("FAIL  {told}")) && shown.contains(&format!("\n      {remedy}\n")), "{shown}");
    delivers_once_mended(&home, &[&told, &format!("remedy=\"{remedy}\"")], async || {
        broker.restart();
        Hub::start(broker.port).await
    })
    .await;
    let checked = home.output("check", &["--online"]);
    let accepts = format!("ok    broker 127.0.0.1:{} accepts this gateway\n", broker.port);
    assert!(text(&checked.stdout).contains(&accepts), "{}", text(&checked.stdout));
    assert_eq!(checked.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_refuses_is_told_and_everything_comes_when_it_does_not() {
    if !installed() {
        return;
    }
    let mut broker = Broker::with("allow_anonymous false\n", |_| {});
    let home = Home::simulated(&format!("mqtt://127.0.0.1:{}", broker.port));
    let told = format!("the broker 127.0.0.1:{} refuses: this client is not authorised (code 5)", broker.port);
    let remedy = "check broker.user and broker.password-file";
    let checked = home.output("check", &["--online"]);
    let shown = text(&checked.stdout);
    assert!(shown.contains(&format!("FAIL  {told}\n      {remedy}")), "{shown}");
    assert_eq!(checked.status.code(), Some(UNAVAILABLE));
    delivers_once_mended(&home, &[&told, remedy], async || {
        let file = broker.directory.path().join("mosquitto.conf");
        fs::write(&file, fs::read_to_string(&file).unwrap().replace("anonymous false", "anonymous true")).unwrap();
        broker.restart();
        Hub::start(broker.port).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_systemd_hands_over_is_taken_and_one_that_it_does_not_is_told_by_its_name() {
    if !installed() {
        return;
    }
    for version in ["3.1.1", "5"] {
        let broker = Broker::with("allow_anonymous false\npassword_file DIR/users\n", |dir| {
            let mut made = Command::new("mosquitto_passwd");
            made.args(["-c", "-b", "users", "truck", "geheim"]).current_dir(dir);
            assert!(made.output().expect("mosquitto_passwd runs").status.success());
        });
        let home = Home::simulated("mqtt://nowhere");
        let lines = format!(
            "url = \"mqtt://127.0.0.1:{}\"\nmqtt = \"{version}\"\nconfirm = \"broker\"\nuser = \"truck\"\n\
             password-file = \"credential:broker-password\"",
            broker.port
        );
        home.configure("simulated", &lines, agent::SIMULATED);
        let mut without = home.command("run");
        without.env_remove("CREDENTIALS_DIRECTORY");
        let mut agent = home.start_with(without);
        agent.says("broker-password").await;
        agent.stop_well().await;

        let handed = home.path().join("credentials");
        fs::create_dir(&handed).unwrap();
        fs::write(handed.join("broker-password"), "geheim\n").unwrap();
        let mut with = home.command("run");
        with.env("CREDENTIALS_DIRECTORY", &handed);
        let mut agent = home.start_with(with);
        agent.says("connected to the broker").await;
        agent.stop_well().await;
        assert!(!agent.log().contains("geheim") && home.spooled().await.is_empty(), "{}", agent.log());
    }
}

/// Runs openssl in `dir`.
fn openssl(dir: &Path, args: &str) {
    let ran = Command::new("openssl").args(args.split_whitespace()).current_dir(dir).output().expect("openssl runs");
    assert!(ran.status.success(), "openssl {args}: {}", text(&ran.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_nobody_trusts_is_told_and_everything_comes_when_its_authority_is_named() {
    if !installed() {
        return;
    }
    let plain = free_port();
    let lines =
        format!("allow_anonymous true\ncertfile DIR/own.pem\nkeyfile DIR/own.key\nlistener {plain} 127.0.0.1\n");
    let broker = Broker::with(&lines, |dir| {
        for name in ["own", "other"] {
            let key = format!("-newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem");
            openssl(
                dir,
                &format!(
                    "req -x509 {key} -days 30 -subj /CN={name} -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE"
                ),
            );
        }
    });
    let dir = broker.directory.path();
    fs::copy(dir.join("other.pem"), dir.join("trusted.pem")).unwrap();
    let home = Home::simulated("mqtt://127.0.0.1");
    let lines = format!("url = \"mqtts://localhost:{}\"\nca-file = \"{}/trusted.pem\"", broker.port, dir.display());
    home.configure("simulated", &lines, SIMULATED);
    let told = format!("the certificate of localhost:{} is not accepted: ", broker.port);
    let checked = home.output("check", &["--online"]);
    let shown = text(&checked.stdout);
    assert!(shown.contains(&format!("FAIL  {told}")), "{shown}");
    assert_eq!(checked.status.code(), Some(UNAVAILABLE));
    delivers_once_mended(
        &home,
        &[&told, "remedy=\"set broker.ca-file to the authority that signed it\""],
        async || {
            fs::copy(dir.join("own.pem"), dir.join("trusted.pem")).unwrap();
            Hub::start(plain).await
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_does_not_resolve_is_told_and_does_not_hold_up_a_stop() {
    let home = Home::simulated("mqtt://no-such-broker.invalid");
    let mut agent = home.start();
    agent.says("running").await;
    agent.says("the name \"no-such-broker.invalid\" of the broker does not resolve: ").await;
    agent.says("remedy=\"check the host in broker.url and the DNS of this machine\"").await;
    let took = agent.stop_well().await;
    assert!(took < Duration::from_secs(3), "it took {took:?} to stop");
}
