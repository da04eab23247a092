//! Simulated gateways on a real broker, and what the hub then has: each record once, and each gateway as it was.

mod rig;

use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rig::*;
use speedwell_hub::{
    BrokerUrl, Config,
    simulate::{self, Options, Report, Tally, count},
};

fn options(url: BrokerUrl, gateways: u32, seconds: f64) -> Options {
    Options {
        broker: Config::new(url, "").broker,
        gateways,
        seed: 5,
        rate_hz: 10,
        outages: false,
        duration: Some(Duration::from_secs_f64(seconds)),
        speed: 1.0,
        patience: Duration::from_secs(120),
    }
}

async fn run(options: Options) -> (Arc<Tally>, Report) {
    let tally = Arc::new(Tally::default());
    let report = simulate::run(options, tally.clone(), std::future::pending()).await.unwrap();
    (tally, report)
}

/// What the hub has is what was made, each once, and no hole.
fn all_is_there_once(rig: &HubRig, tally: &Tally) {
    let counts = rig.hub().reader.counts().unwrap();
    assert_eq!((counts.chunks, counts.samples), (count(&tally.blocks), count(&tally.samples)));
    assert_eq!((counts.gaps, counts.rejected, rig.counter("live_unread")), (0, 0, 0));
    let records: u64 = rig.hub().reader.ledgers().unwrap().iter().map(|ledger| ledger.thru).sum();
    assert_eq!(records, count(&tally.made));
    assert_eq!(count(&tally.confirmed), count(&tally.made));
}

/// How many gateways are shown so with all channels and some values: a receiver without a fix has none.
async fn shown(rig: &HubRig, connection: &str) -> usize {
    let all = http::get(rig.hub().http, "/api/v1/gateways").await;
    let known = |view: &&serde_json::Value| {
        let values = view["channels"].as_array().unwrap().iter().filter(|c| c["value"].is_number()).count();
        view["connection"] == connection && view["channels"].as_array().unwrap().len() == 8 && values >= 2
    };
    all["gateways"].as_array().unwrap().iter().filter(known).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_fleet_is_online_while_it_drives_and_every_record_of_it_is_stored_once() {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let fleet = tokio::spawn(run(options(broker.url(), 20, 8.0)));
    let began = Instant::now();
    while shown(&rig, "online").await < 20 {
        assert!(began.elapsed() < LONG, "not all gateways are online with live values");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (tally, report) = fleet.await.unwrap();
    assert_eq!((report.unconfirmed, count(&tally.cuts), count(&tally.shed)), (0, 0, 0));
    assert!(count(&tally.blocks) >= 20 * 7 && count(&tally.connected) == 0);
    all_is_there_once(&rig, &tally);
    assert_eq!(shown(&rig, "offline").await, 20, "each said goodbye");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_with_every_trouble_on_a_broker_that_forgets_is_stored_once_all_the_same() {
    let mut broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    // Ten minutes of each in twelve seconds.
    let wild = Options { outages: true, speed: 50.0, ..options(broker.url(), 24, 12.0) };
    let fleet = tokio::spawn(run(wild));
    tokio::time::sleep(Duration::from_secs(5)).await;
    broker.down(false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    broker.up();
    let (tally, report) = fleet.await.unwrap();
    assert_eq!(report.unconfirmed, 0, "{tally:?}");
    let troubles = [&tally.cuts, &tally.failures, &tally.reboots, &tally.steps, &tally.doubled, &tally.resent];
    assert!(troubles.into_iter().all(|counter| count(counter) > 0), "{tally:?}");
    assert!(count(&tally.cards) > 0 && rig.hub().reader.ledgers().unwrap().len() > 24, "{tally:?}");
    assert!(rig.counter("duplicates") > 0, "what was sent twice was seen");
    all_is_there_once(&rig, &tally);
}

/// The program itself.
fn program(broker: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_speedwell-hub"));
    command.args(["simulate", "--gateways", "2", "--duration", "2", "--broker", broker]).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_prints_its_account_and_fails_when_nobody_confirms() {
    let broker = Mosquitto::start();
    let url = broker.url().to_string();
    let alone = program(&url, &["--patience", "1"]).output().unwrap();
    let (out, told) = (String::from_utf8(alone.stdout).unwrap(), String::from_utf8(alone.stderr).unwrap());
    assert_eq!(alone.status.code(), Some(69), "{out}{told}");
    assert!(
        told.contains("records of 2 gateways were not confirmed within 1 s: is a hub on mqtt://127.0.0.1"),
        "{told}"
    );
    assert!(out.contains("unconfirmed  ") && out.contains("confirmed    0"), "{out}");
    let rig = HubRig::start(broker.url()).await;
    // Another run of the same seed is another log: it must not be taken for what the broker may still have.
    let heard = program(&url, &[]).output().unwrap();
    let out = String::from_utf8(heard.stdout).unwrap();
    assert_eq!((heard.status.code(), heard.stderr.as_slice()), (Some(0), &b""[..]), "{out}");
    assert!(out.contains("unconfirmed  0\n") && out.contains("simulated    2 gateways for 2.0 s, seed 1"), "{out}");
    assert!(rig.counter("stored") > 0);
    for (wrong, says) in [
        (["--speed", "0"], "wanted a factor of 0.1 to 1000"),
        (["--rate", "101"], "101 is not in 1..=100"),
        (["--broker", "http://b"], "wanted mqtt://HOST"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_speedwell-hub"));
        command.args(["simulate", "--gateways", "2"]);
        if wrong[0] != "--broker" {
            command.args(["--broker", "mqtt://b"]);
        }
        let refused = command.args(wrong).output().unwrap();
        let told = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(64) && told.contains(says), "{told}");
    }
}
