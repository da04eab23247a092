//! Sensors that cannot be opened or fall away: the others never notice, each is told, tried again, and found again.

mod agent;
mod broker;
mod pty;

use std::{os::unix::fs::symlink, path::Path};

use agent::{Home, output, text};
use broker::{Broker, Hub, HubState, installed};
use pty::{Adapter, receiver};
use speedwell_wire::{EventKind, NoData, Record, block, message::SensorHealth};

/// A wheel on a chip that is not there, a CAN interface that is not there, and a receiver at `port`.
fn sensors(port: &Path) -> String {
    let port = port.display();
    format!(
        r#"
[[sensor]]
name = "front-wheel"
kind = "hall"
pin = "no-such-chip:3"
pulses-per-metre = 24

[[sensor]]
name = "ecu-speed"
kind = "j1939"
interface = "can77"

[[sensor]]
name = "gnss"
kind = "nmea"
port = "{port}"
report = "5 Hz"
"#
    )
}

/// The newest state of a sensor that the hub was told.
fn of<'a>(state: &'a HubState, sensor: &str) -> Option<&'a SensorHealth> {
    let sensors = &state.statuses.last()?.health.as_ref()?.sensors;
    sensors.iter().find(|s| s.name == sensor)
}

fn faulty(state: &HubState, sensor: &str, words: &str) -> bool {
    of(state, sensor).is_some_and(|s| s.trouble == Some(NoData::Fault) && s.detail.contains(words))
}

/// Samples of the receiver's speed that the hub has: its channel comes after the wheel's speed and four counts, and the
/// control unit's speed and three counts.
fn speeds(state: &HubState) -> usize {
    let columns = state.stored.values().flat_map(|(_, record)| match record {
        Record::Samples(samples) => block::decode(&samples.block).unwrap(),
        _ => Vec::new(),
    });
    columns.filter(|column| column.channel == 9).map(|column| column.samples.len()).sum()
}

fn events(state: &HubState, sensor: &str, kind: EventKind) -> Vec<String> {
    let of = |record: &Record| match record {
        Record::Event(e) if e.kind == kind && e.sensor.as_deref() == Some(sensor) => Some(e.detail.clone()),
        _ => None,
    };
    state.stored.values().filter_map(|(_, record)| of(record)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_that_cannot_be_opened_or_falls_away_is_told_tried_again_and_never_stops_the_others() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    let adapter = Adapter::plug_in(receiver());
    let directory = tempfile::tempdir().unwrap();
    let port = directory.path().join("gnss");
    symlink(&adapter.device, &port).unwrap();
    let home = Home::new("generic-linux", &format!("mqtt://127.0.0.1:{}", broker.port), &sensors(&port));
    let mut agent = home.start();

    hub.until("speeds of the receiver", |s| speeds(s) >= 5).await;
    hub.until("the wheel told as faulty", |s| faulty(s, "front-wheel", "no-such-chip")).await;
    hub.until("the interface told as missing", |s| faulty(s, "ecu-speed", "can77")).await;
    assert_eq!(of(&hub.state(), "gnss").and_then(|s| s.trouble), None);
    let told = events(&hub.state(), "front-wheel", EventKind::SensorFault);
    assert!(told.len() == 1 && told[0].contains("no-such-chip"), "once, however often it is tried: {told:?}");
    let watched = {
        let mut watch = home.command("watch");
        tokio::task::spawn_blocking(move || output(watch.args(["--seconds", "0.5"]))).await.unwrap()
    };
    let lines = text(&watched.stdout);
    let wheel = lines.lines().find(|line| line.starts_with("front-wheel")).expect("a line for the wheel");
    assert!(wheel.contains("no value") && wheel.contains("fault"), "{lines}");
    agent.says_times("WARN there is no", 3).await;

    adapter.pull();
    // Status is sent once a second at most: by then the next try may have found that the port is gone altogether.
    let gone = |s: &_| ["hung up: adapter unplugged?", "there is no serial port"].iter().any(|w| faulty(s, "gnss", w));
    hub.until("the receiver told as gone", gone).await;
    let heard = of(&hub.state(), "gnss").unwrap().inputs;
    assert!(heard > 0);
    std::fs::remove_file(&port).unwrap();
    let adapter = Adapter::plug_in(receiver());
    symlink(&adapter.device, &port).unwrap();
    let before = speeds(&hub.state());
    hub.until("speeds again", |s| speeds(s) > before + 5).await;
    hub.until("told as well again", |s| of(s, "gnss").is_some_and(|s| s.trouble.is_none())).await;
    hub.until("the recovery in the log", |s| events(s, "gnss", EventKind::SensorRecovered).len() == 1).await;
    assert!(of(&hub.state(), "gnss").unwrap().inputs > heard, "what is counted since the start only grows");
    let told = events(&hub.state(), "gnss", EventKind::SensorFault);
    assert!(told.iter().any(|detail| detail.contains("hung up")), "{told:?}");
    agent.stop_well().await;
    adapter.pull();
}
