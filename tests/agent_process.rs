//! The agent as a process: what it tells the service manager, how it stops, and what killing it can take.

mod agent;
mod broker;

use std::{
    os::unix::net::{UnixDatagram, UnixStream},
    path::Path,
    time::{Duration, Instant},
};

use agent::{Agent, Home, output, text};
use broker::{Broker, Hub, PATIENCE, free_port, installed};
use speedwell::clock::{Clock, SystemClock};
use speedwell_wire::{EventKind, Record, block};

const SECOND: u64 = 1_000_000_000;

/// The notification socket of a service manager.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager(socket)
    }

    /// Waits for this word.
    fn hears(&self, word: &str) -> Instant {
        let (mut buffer, until) = ([0; 1024], Instant::now() + PATIENCE);
        loop {
            assert!(Instant::now() < until, "no {word} is heard");
            let n = self.0.recv(&mut buffer).unwrap_or_else(|error| panic!("no {word} is heard: {error}"));
            if String::from_utf8_lossy(&buffer[..n]).lines().any(|line| line == word) {
                return Instant::now();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_hears_that_it_is_ready_alive_and_stopping() {
    let home = Home::simulated(&format!("mqtt://127.0.0.1:{}", free_port()));
    let socket = home.path().join("notify");
    let manager = Manager::at(&socket);
    let mut run = home.command("run");
    run.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "900000").env_remove("WATCHDOG_PID");
    let mut agent = home.start_with(run);
    let ready = manager.hears("READY=1");
    println!("ready {} ms after the start", (ready - agent.started).as_millis());
    let first = manager.hears("WATCHDOG=1");
    manager.hears("WATCHDOG=1");
    let third = manager.hears("WATCHDOG=1");
    assert!(third - first < Duration::from_millis(900), "three in {:?}", third - first);
    let took = agent.stop_well().await;
    manager.hears("STOPPING=1");
    assert!(took < Duration::from_secs(3), "it took {took:?} to stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_takes_leave_and_leaves_nothing_behind() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    let home = Home::simulated(&format!("mqtt://127.0.0.1:{}", broker.port));
    let mut agent = home.start();
    hub.until("two seconds taken", |s| s.stored.values().filter(|(_, r)| matches!(r, Record::Samples(_))).count() > 1)
        .await;
    let took = agent.stop_well().await;
    assert!(took < Duration::from_secs(3), "it took {took:?} to stop");
    println!("stopped in {} ms", took.as_millis());
    hub.until("told goodbye", |s| s.statuses.last().is_some_and(|s| !s.online && s.health.is_some())).await;
    assert!(!home.path().join("state/live.sock").exists());
    let (last, record) = hub.state().records().pop().unwrap();
    assert!(matches!(&record, Record::Event(e) if e.kind == EventKind::Stopped), "{record:?}");
    assert!(home.spooled().await.is_empty(), "everything was confirmed, so nothing is kept");
    let thru = hub.state().thru;
    assert_eq!(last, thru);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_without_a_broker_keeps_everything_to_the_last_word() {
    let home = Home::simulated(&format!("mqtt://127.0.0.1:{}", free_port()));
    let mut agent = home.start();
    agent.says("running").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let asked = SystemClock.now().0;
    let took = agent.stop_well().await;
    assert!(took < Duration::from_secs(3), "it took {took:?} to stop");
    let records = home.spooled().await;
    assert!(matches!(&records.first().unwrap().1, Record::Event(e) if e.kind == EventKind::Started));
    let (_, last) = records.last().unwrap();
    assert!(matches!(last, Record::Event(e) if e.kind == EventKind::Stopped), "{last:?}");
    let ticks = wheel_ticks(records.iter().map(|(_, record)| record));
    let newest = ticks.last().unwrap() * TICK_NS;
    let missing_ms = asked.saturating_sub(newest) / 1_000_000;
    assert!(missing_ms < 350, "the last {missing_ms} ms before the stop are not kept");
}

/// The ways of the wheel in metres, in the order they are stored. It is the second channel.
fn wheel_ways<'a>(records: impl Iterator<Item = &'a Record>) -> Vec<f64> {
    let columns = records.flat_map(|record| match record {
        Record::Samples(samples) => block::decode(&samples.block).unwrap(),
        _ => Vec::new(),
    });
    let samples = columns.filter(|column| column.channel == 1).flat_map(|column| column.samples);
    samples.map(|sample| sample.value as f64 / 1000.0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_goes_on_over_a_restart_and_a_damaged_memory_is_set_aside_and_told() {
    let home = Home::simulated(&format!("mqtt://127.0.0.1:{}", free_port()));
    let url = format!("url = \"mqtt://127.0.0.1:{}\"", free_port());
    let sensors = agent::SIMULATED.replace(
        "report = \"10 Hz\"\n\n[[sensor]]\nname = \"ecu",
        "report = \"10 Hz\"\ndistance = true\n\n[[sensor]]\nname = \"ecu",
    );
    home.configure("simulated", &url, &sensors);
    let mut runs = Vec::new();
    for _ in 0..2 {
        let mut agent = home.start();
        agent.says("running").await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        agent.stop_well().await;
        let records = home.spooled().await;
        runs.push(wheel_ways(records.iter().map(|(_, record)| record)));
    }
    let (first, both) = (&runs[0], &runs[1]);
    let (last, next) = (first.last().unwrap(), both.get(first.len()).unwrap());
    assert!(*last > 2.0, "{first:?}");
    // The simulated vehicle begins its drive anew, the odometer does not.
    assert!(next >= last && next - last < 5.0, "{last} m, then {next} m");

    let memory = home.path().join("state/sensors/front-wheel.memory");
    std::fs::write(&memory, b"SpWh\x01 nothing that a wheel has said").unwrap();
    let mut agent = home.start();
    agent.says("what it had kept is damaged and was set aside").await;
    agent.stop_well().await;
    assert!(home.path().join("state/sensors/front-wheel.damaged").exists());
    let told = |record: &Record| matches!(record, Record::Event(e) if e.kind == EventKind::Calibration);
    assert!(home.spooled().await.iter().any(|(_, record)| told(record)));
}

/// Length of a tick of sample times.
const TICK_NS: u64 = 100_000;

/// The ticks of the wheel's speed, in the order they are stored. It is the first channel.
fn wheel_ticks<'a>(records: impl Iterator<Item = &'a Record>) -> Vec<u64> {
    let columns = records.flat_map(|record| match record {
        Record::Samples(samples) => block::decode(&samples.block).unwrap(),
        _ => Vec::new(),
    });
    columns.filter(|column| column.channel == 0).flat_map(|column| column.samples).map(|sample| sample.tick).collect()
}

/// Runs an agent for a while and kills it; the boot time of that, ns.
async fn killed_after(home: &Home, wait: Duration) -> u64 {
    let mut agent = home.start();
    agent.says("running").await;
    tokio::time::sleep(wait).await;
    let killed = SystemClock.now().0;
    agent.kill();
    killed
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_it_takes_at_most_the_commit_bound_and_nothing_comes_twice() {
    if !installed() {
        return;
    }
    let mut broker = Broker::start();
    broker.kill();
    let home = Home::simulated(&format!("mqtt://127.0.0.1:{}", broker.port));
    let mut kills = Vec::new();
    for _ in 0..4 {
        kills.push(killed_after(&home, Duration::from_millis(fastrand::u64(1800..3000))).await);
    }
    let mut agent = home.start();
    // The socket that a killed agent left does not stand in the way.
    serves(&home, &agent).await;
    broker.restart();
    let hub = Hub::start(broker.port).await;
    let (mut last, mut starts) = (0, 0);
    hub.until("all runs taken", |s| started(s.stored.values()) == 5 && s.thru > 10).await;
    agent.stop_well().await;
    hub.until("told goodbye", |s| s.statuses.last().is_some_and(|s| !s.online)).await;
    let state = hub.state();
    for (first, (span, record)) in &state.stored {
        assert_eq!(*first, last + 1, "a hole in the numbers");
        last = first + span - 1;
        starts += usize::from(matches!(record, Record::Event(e) if e.kind == EventKind::Started));
        assert!(!matches!(record, Record::Loss(_)), "{record:?}: nothing was to be declared lost");
    }
    assert_eq!((starts, state.gaps.as_slice()), (5, [].as_slice()));
    let ticks = wheel_ticks(state.stored.values().map(|(_, record)| record));
    assert!(ticks.windows(2).all(|pair| pair[0] < pair[1]), "a sample that came twice, or out of order");
    judge_holes(&ticks, &kills);
}

fn started<'a>(stored: impl Iterator<Item = &'a (u64, Record)>) -> usize {
    stored.filter(|(_, record)| matches!(record, Record::Event(e) if e.kind == EventKind::Started)).count()
}

/// Longest wait for the first speed of a wheel that turns: a block of the estimator, and a busy machine.
const FIRST_SPEED_NS: u64 = 3 * SECOND;

/// `commit-every` of the configuration; a speed is known a tenth of a second after its own time; a busy machine.
const MAY_BE_LOST_NS: u64 = SECOND + SECOND * 4 / 10;

/// What counts as a hole. A record that is missing makes one of a second; reports that a busy machine skips do not.
const HOLE_NS: u64 = SECOND * 6 / 10;

/// No hole but around a kill, and there none that begins earlier than the commit bound allows.
fn judge_holes(ticks: &[u64], kills: &[u64]) {
    let ms = |ns: u64| ns / 1_000_000;
    let times: Vec<u64> = ticks.iter().map(|tick| tick * TICK_NS).collect();
    for pair in times.windows(2).filter(|pair| pair[1] - pair[0] > HOLE_NS) {
        let killed = kills.iter().find(|&&killed| pair[0] < killed && killed < pair[1]);
        let killed =
            killed.unwrap_or_else(|| panic!("a hole of {} ms where nothing was killed", ms(pair[1] - pair[0])));
        assert!(pair[1] - killed < FIRST_SPEED_NS, "{} ms from a kill to the first speed", ms(pair[1] - killed));
    }
    let lost = |killed: &u64| killed - times.iter().copied().filter(|t| t < killed).max().unwrap_or(0);
    let lost: Vec<u64> = kills.iter().map(lost).collect();
    println!("lost before the kills: {:?} ms", lost.iter().copied().map(ms).collect::<Vec<_>>());
    assert!(lost.iter().all(|&lost| lost <= MAY_BE_LOST_NS), "more was lost before a kill than the commit bound");
}

/// Waits until the local door opens.
async fn serves(home: &Home, agent: &Agent) {
    let (door, until) = (home.path().join("state/live.sock"), Instant::now() + PATIENCE);
    while UnixStream::connect(&door).is_err() {
        assert!(Instant::now() < until, "no local socket:\n{}", agent.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_hears_the_running_agent_and_says_when_that_stops() {
    let home = Home::simulated(&format!("mqtt://127.0.0.1:{}", free_port()));
    let mut agent = home.start();
    serves(&home, &agent).await;
    let mut watch = home.command("watch");
    let watched = tokio::task::spawn_blocking(move || output(watch.args(["--seconds", "1.5", "front-wheel"])));
    let watched = watched.await.unwrap();
    let (lines, said) = (text(&watched.stdout), text(&watched.stderr));
    assert_eq!(watched.status.code(), Some(0), "{said}");
    assert!(said.contains("truck-7  live from the running agent"), "{said}");
    let last = lines.lines().next_back().unwrap_or_default();
    assert!(last.starts_with("front-wheel  speed ") && last.contains(" km/h  ±"), "{lines}");
    assert!(!lines.contains("gnss"), "{lines}");

    let mut watch = home.command("watch");
    let watched = tokio::task::spawn_blocking(move || output(&mut watch));
    tokio::time::sleep(Duration::from_millis(300)).await;
    agent.stop_well().await;
    let watched = watched.await.unwrap();
    assert_eq!(watched.status.code(), Some(74));
    assert!(text(&watched.stderr).contains("speedwell watch: the agent has stopped"), "{}", text(&watched.stderr));
}

#[test]
fn watch_without_an_agent_reads_the_sensors_themselves() {
    let home = Home::simulated("mqtt://127.0.0.1");
    let watched = home.output("watch", &["--seconds", "2.5"]);
    let (lines, said) = (text(&watched.stdout), text(&watched.stderr));
    assert_eq!(watched.status.code(), Some(0), "{said}");
    assert!(said.contains("truck-7  no agent runs: the sensors themselves"), "{said}");
    for sensor in ["front-wheel", "ecu-speed", "gnss"] {
        let of_sensor = |line: &&str| line.starts_with(sensor) && line.contains(" speed ");
        let last = lines.lines().rev().find(of_sensor).unwrap_or_else(|| panic!("{lines}"));
        assert!(last.contains(" km/h  ±"), "{lines}");
    }
    assert!(!home.spool().exists(), "nothing is kept");
    let unknown = home.output("watch", &["no-such"]);
    assert_eq!(unknown.status.code(), Some(64));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_samples_come_soon_after_the_start() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    let home = Home::simulated(&format!("mqtt://127.0.0.1:{}", broker.port));
    let before = SystemClock.now().0;
    let mut agent = home.start();
    hub.until("a first live value", |s| s.live > 0).await;
    println!("first live message {} ms after the start", agent.started.elapsed().as_millis());
    let samples = |s: &broker::HubState| s.stored.values().any(|(_, record)| matches!(record, Record::Samples(_)));
    hub.until("samples stored", samples).await;
    println!("first samples at the hub {} ms after the start", agent.started.elapsed().as_millis());
    let ticks = wheel_ticks(hub.state().stored.values().map(|(_, record)| record));
    println!("first speed {} ms after the start", (ticks[0] * TICK_NS).saturating_sub(before) / 1_000_000);
    agent.stop_well().await;
}
