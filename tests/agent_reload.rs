//! Another configuration while the agent runs: sensors come and go without loss, those that stay do not notice, and a
//! file that is wrong changes nothing.

mod agent;
mod broker;

use std::{
    os::unix::net::UnixDatagram,
    path::Path,
    time::{Duration, Instant},
};

use agent::{Agent, Home, SIMULATED};
use broker::{Broker, Hub, HubState, PATIENCE, free_port, installed};
use speedwell_wire::{EventKind, Quantity, Record, block};

/// A second wheel on the same vehicle.
const REAR_WHEEL: &str = r#"
[[sensor]]
name = "rear-wheel"
kind = "hall"
pin = "SIM1"
pulses-per-turn = 48
circumference = "1.985 m"
report = "10 Hz"
"#;

/// The simulated sensors, the wheel's way recorded too.
fn with_way() -> String {
    SIMULATED.replacen("report = \"10 Hz\"\n", "report = \"10 Hz\"\ndistance = true\n", 1)
}

/// The same with a second wheel, a slower bus and without the receiver.
fn others() -> String {
    let all = with_way();
    let (kept, _gnss) = all.rsplit_once("\n[[sensor]]").unwrap();
    format!("{}{REAR_WHEEL}", kept.replace("can0\"\nreport = \"10 Hz\"", "can0\"\nreport = \"5 Hz\""))
}

fn url(port: u16) -> String {
    format!("url = \"mqtt://127.0.0.1:{port}\"")
}

/// Time in ms and value of every sample of a channel that the hub has, in the order of the log.
fn samples(state: &HubState, sensor: &str, quantity: Quantity) -> Vec<(u64, i64)> {
    let mut all = Vec::new();
    for (_, record) in state.stored.values() {
        let Record::Samples(samples) = record else { continue };
        let manifest = state.channels.get(&samples.manifest).expect("the channels were told before");
        let is_it = |c: &&speedwell_wire::Channel| c.sensor == sensor && c.quantity == quantity;
        let Some(channel) = manifest.channels.iter().find(is_it) else { continue };
        let columns = block::decode(&samples.block).unwrap();
        let column = columns.into_iter().filter(|column| column.channel == channel.id);
        all.extend(column.flat_map(|column| column.samples).map(|sample| (sample.tick / 10, sample.value)));
    }
    all
}

fn told(state: &HubState, kind: EventKind) -> Vec<String> {
    let event = |record: &Record| match record {
        Record::Event(event) if event.kind == kind => Some(event.detail.clone()),
        _ => None,
    };
    state.stored.values().filter_map(|(_, record)| event(record)).collect()
}

/// No number is missing, none came twice, and nothing is said to be lost.
fn judge_whole(state: &HubState) {
    let mut last = 0;
    for (first, (span, record)) in &state.stored {
        assert_eq!(*first, last + 1, "a hole in the numbers");
        assert!(!matches!(record, Record::Loss(_)), "{record:?}");
        last = first + span - 1;
    }
    assert!(state.gaps.is_empty());
}

/// A report that came late, on a busy machine; a sensor that was closed and opened would be away for longer.
const HOLE_MS: u64 = 600;

/// The wheel went on throughout: no hole in its speed, and its way neither jumped nor began anew.
fn judge_wheel(state: &HubState) {
    let speeds = samples(state, "front-wheel", Quantity::Speed);
    for pair in speeds.windows(2) {
        let hole = pair[1].0.checked_sub(pair[0].0).filter(|ms| *ms > 0).expect("later than the one before");
        assert!(hole <= HOLE_MS, "a hole of {hole} ms");
    }
    let ways = samples(state, "front-wheel", Quantity::Distance);
    assert!(ways.len() > 20 && ways.windows(2).all(|pair| (0..30_000).contains(&(pair[1].1 - pair[0].1))), "{ways:?}");
}

/// The wheel was closed but once, when the agent stopped.
fn judge_closed(agent: &Agent) {
    assert_eq!(agent.log().matches("closed sensor=front-wheel").count(), 1);
}

async fn reloaded(agent: &mut Agent, times: usize) {
    agent.hang_up();
    agent.says_times("configuration reloaded", times).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sensors_are_taken_and_those_that_stay_do_not_notice() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    let home = Home::new("simulated", &format!("mqtt://127.0.0.1:{}", broker.port), &with_way());
    let mut agent = home.start();
    hub.until("the receiver is heard", |s| samples(s, "gnss", Quantity::Speed).len() > 4).await;

    home.configure("simulated", &url(broker.port), &others());
    reloaded(&mut agent, 1).await;
    hub.until("the second wheel is heard", |s| samples(s, "rear-wheel", Quantity::Speed).len() > 10).await;
    let gone = samples(&hub.state(), "gnss", Quantity::Speed).len();

    // And back again, with what they had kept.
    home.configure("simulated", &url(broker.port), &with_way());
    reloaded(&mut agent, 2).await;
    hub.until("the receiver is heard again", |s| samples(s, "gnss", Quantity::Speed).len() > gone + 4).await;
    agent.stop_well().await;
    hub.until("told goodbye", |s| s.statuses.last().is_some_and(|s| !s.online && s.health.is_some())).await;

    let state = hub.state();
    judge_whole(&state);
    judge_wheel(&state);
    judge_closed(&agent);
    assert_eq!(state.channels.len(), 2, "the same sensors have the same channels again");
    let words = told(&state, EventKind::Configuration);
    let first = "configuration reloaded; sensors added: rear-wheel; sensors altered: ecu-speed; sensors removed: gnss";
    let second = "configuration reloaded; sensors added: gnss; sensors altered: ecu-speed; sensors removed: rear-wheel";
    assert_eq!(words, [first, second]);
    assert_eq!(agent.log().matches("connected to the broker").count(), 1, "the connection was none of it");
    let named = state.statuses.last().unwrap().health.as_ref().unwrap();
    let names: Vec<_> = named.sensors.iter().map(|sensor| sensor.name.as_str()).collect();
    assert_eq!(names, ["front-wheel", "ecu-speed", "gnss"]);
    // A sensor that was closed has said its last word before the records of the others go on.
    let slow = samples(&state, "ecu-speed", Quantity::Speed);
    assert!(slow.windows(2).all(|pair| pair[0].0 < pair[1].0), "{slow:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_mid_backlog_what_was_measured_before_keeps_its_channels() {
    if !installed() {
        return;
    }
    let mut broker = Broker::start();
    broker.kill();
    let home = Home::new("simulated", &format!("mqtt://127.0.0.1:{}", broker.port), &with_way());
    let mut agent = home.start();
    agent.says("running").await;
    for times in 1..=4 {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(300..1800))).await;
        let sensors = if times % 2 == 1 { others() } else { with_way() };
        home.configure("simulated", &url(broker.port), &sensors);
        reloaded(&mut agent, times).await;
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    broker.restart();
    let hub = Hub::start(broker.port).await;
    hub.until("all four were told", |s| told(s, EventKind::Configuration).len() == 4).await;
    agent.stop_well().await;
    hub.until("told goodbye", |s| s.statuses.last().is_some_and(|s| !s.online && s.health.is_some())).await;
    let state = hub.state();
    judge_whole(&state);
    judge_wheel(&state);
    judge_closed(&agent);
    assert_eq!(state.channels.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_wheel_begins_anew_and_its_way_goes_on() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    let home = Home::new("simulated", &format!("mqtt://127.0.0.1:{}", broker.port), &with_way());
    let mut agent = home.start();
    let ways = |state: &HubState| samples(state, "front-wheel", Quantity::Distance);
    hub.until("a way", |s| ways(s).len() > 20).await;
    home.configure("simulated", &url(broker.port), &with_way().replace("1.985 m", "2.010 m"));
    reloaded(&mut agent, 1).await;
    let before = ways(&hub.state()).len();
    hub.until("more way", |s| ways(s).len() > before + 20).await;
    agent.stop_well().await;
    hub.until("told goodbye", |s| s.statuses.last().is_some_and(|s| !s.online && s.health.is_some())).await;
    let state = hub.state();
    judge_whole(&state);
    let ways = ways(&state);
    // At 100 km/h, 30 m a second: so much is driven while it is closed and until it knows its speed again.
    assert!(ways.windows(2).all(|pair| pair[1].1 >= pair[0].1 && pair[1].1 - pair[0].1 < 90_000), "{ways:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_broker_is_a_new_connection_and_nothing_is_lost_between_the_two() {
    if !installed() {
        return;
    }
    let (old, new) = (Broker::start(), Broker::start());
    let (old_hub, new_hub) = (Hub::start(old.port).await, Hub::start(new.port).await);
    let home = Home::new("simulated", &format!("mqtt://127.0.0.1:{}", old.port), &with_way());
    let mut agent = home.start();
    let some = |s: &HubState| samples(s, "front-wheel", Quantity::Speed).len() > 10;
    old_hub.until("speeds at the old hub", some).await;
    home.configure("simulated", &url(new.port), &with_way());
    reloaded(&mut agent, 1).await;
    new_hub.until("speeds at the new hub", some).await;
    agent.stop_well().await;
    new_hub.until("told goodbye", |s| s.statuses.last().is_some_and(|s| !s.online && s.health.is_some())).await;
    let (old, new) = (old_hub.state(), new_hub.state());
    assert!(!old.statuses.last().unwrap().online, "the old broker was told goodbye");
    // The new hub learns that what the old one has will not come; from there on it has all.
    let first = *new.stored.keys().next().unwrap();
    assert!(first <= old.thru + 1, "what neither has: {}..{first}", old.thru + 1);
    assert_eq!(told(&new, EventKind::Configuration), ["configuration reloaded; a new connection to the broker"]);
    let mut last = first - 1;
    for (first, (span, _)) in &new.stored {
        assert_eq!(*first, last + 1);
        last += span;
    }
}

/// The notification socket of a service manager.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager(socket)
    }

    /// What it hears until this word, but how it is and that it lives.
    fn hears(&self, word: &str) -> Vec<String> {
        let (mut buffer, mut heard, until) = ([0; 1024], Vec::new(), Instant::now() + PATIENCE);
        while !heard.iter().any(|line| line == word) {
            assert!(Instant::now() < until, "no {word} is heard");
            let n = self.0.recv(&mut buffer).unwrap_or_else(|error| panic!("no {word} is heard: {error}"));
            let said = String::from_utf8_lossy(&buffer[..n]).into_owned();
            let news = |line: &&str| !line.starts_with("STATUS=") && *line != "WATCHDOG=1";
            heard.extend(said.lines().filter(news).map(str::to_owned));
        }
        heard
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_wrong_changes_nothing_and_is_told_with_line_and_column() {
    let home = Home::new("simulated", &format!("mqtt://127.0.0.1:{}", free_port()), &with_way());
    let socket = home.path().join("notify");
    let manager = Manager::at(&socket);
    let mut run = home.command("run");
    run.env("NOTIFY_SOCKET", &socket);
    let mut agent = home.start_with(run);
    manager.hears("READY=1");

    home.configure("simulated", &url(free_port()), &with_way().replace("pin = \"SIM0\"", "pin = \"SIM99\""));
    agent.hang_up();
    agent.says("the new configuration was refused, the old one stays in force").await;
    let said = agent.log();
    assert!(said.contains("sensor.front-wheel.pin: the board simulated has no pin \"SIM99\""), "{said}");
    let heard = manager.hears("READY=1");
    assert!(heard[0] == "RELOADING=1" && heard[1].starts_with("MONOTONIC_USEC="), "{heard:?}");

    let text = std::fs::read_to_string(home.config()).unwrap();
    let elsewhere = text.replace("SIM99", "SIM0").replace("/spool\"", "/other\"").replace("truck-7", "truck-8");
    std::fs::write(home.config(), elsewhere).unwrap();
    agent.hang_up();
    agent.says("spool.directory is ").await;
    agent.says("gateway.id is truck-7 and cannot become truck-8 without a restart").await;
    manager.hears("READY=1");

    std::fs::remove_file(home.config()).unwrap();
    agent.hang_up();
    agent.says_times("was refused", 3).await;
    manager.hears("READY=1");

    home.configure("simulated", &url(free_port()), &with_way());
    tokio::time::sleep(Duration::from_millis(500)).await;
    agent.stop_well().await;
    assert!(!agent.log().contains("configuration reloaded"));
    judge_closed(&agent);
    let records = home.spooled().await;
    let refused = |record: &Record| matches!(record, Record::Event(e) if e.kind == EventKind::Configuration && e.detail.contains("refused"));
    assert_eq!(records.iter().filter(|(_, record)| refused(record)).count(), 3, "and whoever is at the hub hears it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_file_again_changes_nothing_and_another_level_is_heard_at_once() {
    let port = free_port();
    let home = Home::new("simulated", &format!("mqtt://127.0.0.1:{port}"), &with_way());
    let mut agent = home.start();
    agent.says("running").await;
    agent.hang_up();
    agent.says("it says what it said before").await;
    home.configure("simulated", &url(port), &format!("[log]\nlevel = \"debug\"\n{}", with_way()));
    agent.hang_up();
    agent.says("configuration reloaded; log level changed").await;
    agent.says("DEBUG").await;
    agent.stop_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_is_told_the_new_channels() {
    let port = free_port();
    let home = Home::new("simulated", &format!("mqtt://127.0.0.1:{port}"), &with_way());
    let mut agent = home.start();
    agent.says("running").await;
    let mut watch = home.command("watch");
    let watched = tokio::task::spawn_blocking(move || agent::output(watch.args(["--seconds", "6"])));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    home.configure("simulated", &url(port), &others());
    reloaded(&mut agent, 1).await;
    let lines = agent::text(&watched.await.unwrap().stdout);
    agent.stop_well().await;
    let first = |sensor: &str| lines.lines().position(|line| line.starts_with(sensor));
    let last = |sensor: &str| lines.lines().count() - lines.lines().rev().position(|l| l.starts_with(sensor)).unwrap();
    assert!(last("gnss") <= first("rear-wheel").expect("the second wheel is shown"), "{lines}");
    assert!(last("front-wheel") > first("rear-wheel").unwrap(), "{lines}");
}
