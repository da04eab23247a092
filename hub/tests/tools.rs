//! The program as an operator uses it: copies and their way back while gateways drive, a stop under load, logs, forms.

mod rig;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixDatagram,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rig::*;
use speedwell_hub::{
    BrokerUrl, Config,
    simulate::{self, Options, Report, Tally, count},
    store::{Sqlite, Store, sqlite::backup},
};
use tokio::{sync::oneshot, task::JoinHandle};

/// A hub's directory: configuration, database.
struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    fn new(broker: &BrokerUrl, more: &str) -> Self {
        let home = Self { directory: tempfile::tempdir().unwrap() };
        let lines = format!(
            "[broker]\nurl = \"{broker}\"\n[store]\npath = {:?}\n[http]\nlisten = \"127.0.0.1:0\"\n{more}",
            home.database()
        );
        fs::write(home.path("hub.toml"), lines).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn database(&self) -> PathBuf {
        self.path("hub.sqlite")
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_speedwell-hub"));
        command.arg(what).arg("--config").arg(self.path("hub.toml")).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn ask(&self, what: &str, more: &[&str]) -> (Option<i32>, String) {
        let Output { status, stdout, stderr } = self.command(what).args(more).output().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
    }

    /// A hub that has said that it runs.
    fn hub(&self) -> HubProcess {
        let mut child = self.command("run").spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut told = String::new();
        while !told.contains("hub started") {
            assert!(lines.read_line(&mut told).unwrap() > 0, "it ended: {told}");
        }
        let rest = std::thread::spawn(move || {
            lines.read_to_string(&mut told).unwrap();
            told
        });
        HubProcess { child, told: Some(rest) }
    }

    fn counts(&self) -> speedwell_hub::store::Counts {
        Sqlite::open(&self.database()).unwrap().reader().counts().unwrap()
    }
}

struct HubProcess {
    child: Child,
    told: Option<std::thread::JoinHandle<String>>,
}

impl HubProcess {
    /// What it said, and how it ended, after this signal.
    fn end(mut self, signal: i32) -> (ExitStatus, String) {
        // SAFETY: a signal to a child that has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, signal) };
        let status = self.child.wait().unwrap();
        (status, self.told.take().unwrap().join().unwrap())
    }
}

impl Drop for HubProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Gateways that drive until they are told to stop.
struct Fleet {
    tally: Arc<Tally>,
    stop: oneshot::Sender<()>,
    run: JoinHandle<Report>,
}

impl Fleet {
    fn start(broker: &BrokerUrl, gateways: u32, speed: f64) -> Self {
        let tally = Arc::new(Tally::default());
        let (stop, stopped) = oneshot::channel();
        let options = Options {
            broker: Config::new(broker.clone(), "").broker,
            gateways,
            seed: 9,
            rate_hz: 10,
            outages: false,
            duration: None,
            speed,
            patience: Duration::from_secs(120),
        };
        let counted = tally.clone();
        let run =
            tokio::spawn(async move { simulate::run(options, counted, async { drop(stopped.await) }).await.unwrap() });
        Self { tally, stop, run }
    }

    async fn confirmed(&self, n: u64) {
        until(&format!("{n} confirmed"), || count(&self.tally.confirmed) >= n).await;
    }

    /// Ends it; everything has to be confirmed.
    async fn end(self) -> Arc<Tally> {
        self.stop.send(()).unwrap();
        let report = self.run.await.unwrap();
        assert_eq!(report.unconfirmed, 0, "{:?}", self.tally);
        self.tally
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_made_while_gateways_drive_has_all_that_was_confirmed_by_then_and_a_hub_on_it_goes_on_without_duplicates()
 {
    let broker = Mosquitto::start();
    let home = Home::new(&broker.url(), "");
    let hub = home.hub();
    let fleet = Fleet::start(&broker.url(), 10, 20.0);
    fleet.confirmed(1_000).await;
    let known = count(&fleet.tally.confirmed);
    let copies = home.path("copies/");
    let (code, told) = home.ask("backup", &["--to", &copies.display().to_string()]);
    assert!(code == Some(0) && told.contains("checked"), "{told}");
    fleet.confirmed(known + 500).await;
    let copy = fs::read_dir(&copies).unwrap().map(|entry| entry.unwrap().path());
    let copy: Vec<_> = copy.filter(|path| path.extension().is_some_and(|end| end == "sqlite")).collect();
    let [copy] = &copy[..] else { panic!("one database: {copy:?}") };
    let copy = copy.display().to_string();
    let in_copy: i64 = rusqlite::Connection::open(&copy)
        .unwrap()
        .query_row("SELECT sum(thru) FROM ledger", [], |row| row.get(0))
        .unwrap();
    assert!(in_copy as u64 >= known, "{in_copy} in the copy, {known} were confirmed before it was begun");

    // Over a hub that runs it is refused, and so is it over a database without a word.
    let (code, told) = home.ask("restore", &["--from", &copy, "--replace"]);
    assert!(code == Some(75) && told.contains("a hub uses it; stop it first"), "{told}");
    assert!(hub.end(libc::SIGTERM).0.success());
    let (code, told) = home.ask("restore", &["--from", &copy]);
    assert!(code == Some(73) && told.contains("--replace"), "{told}");
    let before = home.counts();
    let (code, told) = home.ask("restore", &["--from", &copy, "--replace"]);
    assert!(code == Some(0) && told.contains("what was there is kept as"), "{told}");
    let aside = fs::read_dir(home.directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let aside = aside.into_iter().find(|path| path.display().to_string().contains(".before-")).unwrap();
    assert_eq!(Sqlite::open(&aside).unwrap().reader().counts().unwrap(), before, "the old one is whole");

    // The hub knows less than before; what gateways have freed since the copy is a gap, all else goes on.
    let hub = home.hub();
    fleet.confirmed(count(&fleet.tally.confirmed) + 500).await;
    let tally = fleet.end().await;
    assert!(hub.end(libc::SIGTERM).0.success());
    let store = Sqlite::open(&home.database()).unwrap();
    let reader = store.reader();
    let missing: u64 = reader.standings().unwrap().iter().map(|(_, standing)| standing.missing_records).sum();
    let thru: u64 = reader.ledgers().unwrap().iter().map(|ledger| ledger.thru).sum();
    let db = rusqlite::Connection::open(home.database()).unwrap();
    let stored: i64 = db
        .query_row(
            "SELECT (SELECT count(*) FROM chunks) + (SELECT count(*) FROM events) + (SELECT count(*) FROM clock_fixes)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(thru, count(&tally.made));
    assert_eq!(stored as u64 + missing, count(&tally.made), "each is stored once or told as missing");
    assert!(missing > 0, "the copy was older than what was confirmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_told_to_stop_under_load_ends_soon_and_nothing_that_was_confirmed_is_missing() {
    let broker = Mosquitto::start();
    let home = Home::new(&broker.url(), "[log]\nformat = \"json\"\n");
    let fleet = Fleet::start(&broker.url(), 50, 20.0);
    for round in 1..=3 {
        let hub = home.hub();
        fleet.confirmed(round * 3_000).await;
        let began = Instant::now();
        let (status, told) = hub.end(libc::SIGTERM);
        assert!(status.success() && began.elapsed() < Duration::from_secs(15), "{status} after {:?}", began.elapsed());
        // What was confirmed is read after the hub has ended: confirmations on their way may still come.
        let db = rusqlite::Connection::open(home.database()).unwrap();
        let thru: i64 = db.query_row("SELECT sum(thru) FROM ledger", [], |row| row.get(0)).unwrap();
        assert!(thru as u64 >= count(&fleet.tally.confirmed), "more was confirmed than is stored");
        for line in told.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert!(
                line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(),
                "{line}"
            );
        }
        assert!(told.contains("\"broker\":\"mqtt://127.0.0.1"), "fields stand beside the message: {told}");
        assert!(told.lines().last().unwrap().contains("hub stopped"), "{told}");
    }
    let hub = home.hub();
    let tally = fleet.end().await;
    assert!(hub.end(libc::SIGINT).0.success());
    let counts = home.counts();
    assert_eq!((counts.chunks, counts.samples), (count(&tally.blocks), count(&tally.samples)));
    assert_eq!((counts.gaps, counts.losses, count(&tally.shed)), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_hears_that_it_is_ready_that_it_lives_and_that_it_stops() {
    let broker = Mosquitto::start();
    let home = Home::new(&broker.url(), "");
    let at = home.path("notify");
    let socket = UnixDatagram::bind(&at).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let mut command = home.command("run");
    let hub = command.env("NOTIFY_SOCKET", &at).env("WATCHDOG_USEC", "300000").stderr(Stdio::null()).spawn().unwrap();
    let hub = HubProcess { child: hub, told: Some(std::thread::spawn(String::new)) };
    let hears = |word: &str| {
        let began = Instant::now();
        loop {
            let mut bytes = [0; 512];
            let n = socket.recv(&mut bytes).unwrap_or_else(|e| panic!("never {word}: {e}"));
            if String::from_utf8_lossy(&bytes[..n]).contains(word) {
                return;
            }
            assert!(began.elapsed() < LONG, "never {word}");
        }
    };
    hears("READY=1");
    hears("WATCHDOG=1");
    hears("WATCHDOG=1");
    assert!(hub.end(libc::SIGTERM).0.success());
    hears("STOPPING=1");
}

fn form(path: &Path) -> i64 {
    rusqlite::Connection::open(path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

#[test]
fn migrate_says_from_where_to_where_and_refuses_what_a_newer_program_wrote() {
    let home = Home::new(&BrokerUrl::try_from("mqtt://127.0.0.1:1".to_owned()).unwrap(), "");
    let (code, told) = home.ask("migrate", &[]);
    let newest = form(&home.database());
    assert!(code == Some(0) && told.contains(&format!("made, in form {newest}")), "{told}");
    let (code, told) = home.ask("migrate", &[]);
    assert!(code == Some(0) && told.contains(&format!("has form {newest} already")), "{told}");
    let hub = Sqlite::open(&home.database()).unwrap();
    let (code, told) = home.ask("migrate", &[]);
    assert!(code == Some(75) && told.contains("in use by another of our programs"), "{told}");
    drop(hub);
    rusqlite::Connection::open(home.database()).unwrap().pragma_update(None, "user_version", newest + 1).unwrap();
    for what in ["migrate", "run"] {
        let (code, told) = home.ask(what, &[]);
        assert!(code == Some(65) && told.contains(&format!("form {}", newest + 1)), "{what}: {told}");
    }
    assert_eq!(form(&home.database()), newest + 1, "it is left as it was");
}

#[test]
fn what_an_operator_gets_wrong_is_told_with_what_to_do() {
    let nowhere = BrokerUrl::try_from("mqtt://127.0.0.1:1".to_owned()).unwrap();
    let home = Home::new(&nowhere, "");
    let missing = home.path("nothing").display().to_string();
    let (code, told) = home.ask("backup", &["--to", &missing]);
    assert!(code == Some(69) && told.contains("hub.sqlite: there is no such file"), "{told}");
    home.ask("migrate", &[]);
    let (code, told) = home.ask("backup", &["--to", "/proc/nowhere/at/all"]);
    assert!(code == Some(69) || code == Some(73), "{told}");
    let (code, told) = home.ask("restore", &["--from", &missing]);
    assert!(code == Some(69) && told.contains("nothing: there is no such file"), "{told}");
    let loud = Home::new(&nowhere, "[log]\nlevel = \"speedwell_hub=loud\"\n");
    let (code, told) = loud.ask("check", &[]);
    assert!(
        code == Some(78) && told.contains("[log] level \"speedwell_hub=loud\"") && told.contains("wanted"),
        "{told}"
    );
    // A path that leads to something else does not make a hub's database of it.
    let other = Home::new(&nowhere, "");
    for text in [false, true] {
        match text {
            true => fs::write(other.database(), "a letter to somebody, long enough to be a file of its own".repeat(9))
                .unwrap(),
            false => {
                let db = rusqlite::Connection::open(other.database()).unwrap();
                db.execute_batch("CREATE TABLE letters (to_whom)").unwrap();
            }
        }
        let before = fs::read(other.database()).unwrap();
        for what in ["migrate", "run"] {
            let (code, told) = other.ask(what, &[]);
            assert!(code == Some(65) && told.contains("no database of a hub: name another"), "{what}: {told}");
            assert_eq!(fs::read(other.database()).unwrap(), before, "{what}");
        }
    }
    let dull = Home::new(&nowhere, "[log]\nlevel = \"loud\"\n");
    let (code, told) = dull.ask("check", &[]);
    assert!(code == Some(78) && told.contains("\"loud\" is no level; wanted error, warn"), "{told}");
    let text = fs::read_to_string(home.path("hub.toml")).unwrap();
    let broker =
        text.replace("mqtt://127.0.0.1:1", "mqtts://127.0.0.1:1").replace("[store]", "ca-file = \"/nowhere\"\n[store]");
    fs::write(home.path("hub.toml"), broker).unwrap();
    let (code, told) = home.ask("check", &[]);
    assert!(code == Some(78) && told.contains("/nowhere"), "{told}");
    let url = text.replace("[store]", "[store]\nurl = \"postgres://hub@db.example/speedwell\"");
    fs::write(home.path("hub.toml"), url).unwrap();
    for (what, to) in [("backup", "--to"), ("restore", "--from")] {
        let (code, told) = home.ask(what, &[to, &missing]);
        let says = "pg_dump --format=custom --file=hub.dump 'postgres://hub@db.example/speedwell'";
        assert!(code == Some(78) && told.contains(says), "{told}");
    }
}

/// A command with its words, and what is said into it.
fn say(home: &Home, words: &str, said: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_speedwell-hub"));
    command.args(words.split(' ')).arg("--config").arg(home.path("hub.toml"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(said.as_bytes()).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

fn others_may(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o077
}

#[test]
fn users_and_keys_are_copied_beside_the_database_and_come_back_only_where_there_are_none() {
    let home = Home::new(&BrokerUrl::try_from("mqtt://127.0.0.1:1".to_owned()).unwrap(), "");
    home.ask("migrate", &[]);
    let password = "a password that is long\n";
    assert_eq!(say(&home, "user add anna --role admin", password).0, Some(0));
    assert_eq!(say(&home, "key add trackers --scope ingest", "").0, Some(0));
    let copy = home.path("copy.sqlite");
    let (copied, access) = (copy.display().to_string(), home.path("access.sqlite"));
    let (code, told) = home.ask("backup", &["--to", &copied]);
    assert!(code == Some(0) && told.contains("copy.sqlite.access: "), "{told}");
    let beside = home.path("copy.sqlite.access");
    assert_eq!(others_may(&beside), 0, "nobody else reads who the users are out of the copy");
    for file in ["hub.sqlite", "hub.sqlite.lock", "copy.sqlite"] {
        assert_eq!(others_may(&home.path(file)) & 0o007, 0, "nor where they drive out of {file}");
    }
    let (again, mut looked) = (home.path("again.access"), 0);
    let part = home.path("again.access.part");
    backup::backup(&access, &again, |_| {
        assert_eq!(others_may(&part), 0, "nor out of the beginning of one");
        looked += 1;
    })
    .unwrap();
    assert!(looked > 0);

    // Whoever was taken away since does not come back with a copy.
    assert_eq!(say(&home, "user add bob --role admin", password).0, Some(0));
    assert_eq!(say(&home, "user remove anna", "").0, Some(0));
    let (code, told) = home.ask("restore", &["--from", &copied, "--replace"]);
    let stay = format!("{}: users and keys stay as they are; the copy's are in {}", access.display(), beside.display());
    assert!(code == Some(0) && told.contains(&stay), "{told}");
    let (_, users) = say(&home, "user list", "");
    assert!(users.contains("bob") && !users.contains("anna"), "{users}");

    let aside = fs::read_dir(home.directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let aside: Vec<_> = aside.filter(|path| path.display().to_string().contains(".before-")).collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    fs::remove_file(&aside[0]).unwrap();

    // A machine that has lost everything gets both. A copy that is damaged changes nothing.
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(home.path(&format!("access.sqlite{end}")));
    }
    let whole = fs::read(&beside).unwrap();
    fs::write(&beside, &whole[..whole.len() / 2]).unwrap();
    let before = fs::metadata(home.database()).unwrap().ino();
    let (code, told) = home.ask("restore", &["--from", &copied, "--replace"]);
    assert!(code == Some(65) && told.contains("copy.sqlite.access: damaged"), "{told}");
    assert!(!access.exists() && fs::metadata(home.database()).unwrap().ino() == before, "{told}");
    fs::write(&beside, &whole).unwrap();
    let (code, told) = home.ask("restore", &["--from", &copied, "--replace"]);
    assert!(code == Some(0) && told.contains("access.sqlite: restored from"), "{told}");
    assert_eq!(others_may(&access), 0);
    assert!(say(&home, "user list", "").1.contains("anna"));
    assert!(say(&home, "key list", "").1.contains("trackers"));
    let (_, told) = say(&home, "user remove anna", "");
    assert!(!told.contains("asks nobody"), "there is a key: {told}");
    let (code, told) = say(&home, "key revoke trackers", "");
    assert!(code == Some(0) && told.contains("neither a user nor a key now") && told.contains("asks nobody"), "{told}");
}

#[test]
fn what_is_not_read_on_a_terminal_has_no_colours_and_names_a_file_once() {
    let home = Home::new(&BrokerUrl::try_from("mqtt://127.0.0.1:1".to_owned()).unwrap(), "");
    let (status, told) = home.hub().end(libc::SIGTERM);
    assert!(status.success() && told.contains("hub started") && !told.contains('\x1b'), "{told:?}");
    let _hub = Sqlite::open(&home.database()).unwrap();
    let (code, told) = home.ask("migrate", &[]);
    assert_eq!((code, told.matches("hub.sqlite").count()), (Some(75), 1), "{told}");
    for (words, word) in [("audit --last 0", "1..=1000"), ("key add x --scope ingest --days 0", "1..=36500")] {
        let (code, told) = say(&home, words, "");
        assert!(code == Some(64) && told.contains(word), "{told}");
    }
}
