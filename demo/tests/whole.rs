//! The whole of Speedwell with a real broker: a simulated vehicle's speeds reach the hub once each and without a hole,
//! though the broker goes away and forgets everything, and the hub is stopped and started, on the way.

#[path = "../../tests/broker/mod.rs"]
mod broker;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use broker::{Broker, PATIENCE, installed};
use speedwell::{
    agent,
    board::Catalog,
    config::Config,
    spool::{Options, Spool},
};
use speedwell_hub::{
    BrokerUrl, Hub, Running,
    store::{HistoryQuery, Point, Read},
};
use speedwell_wire::{GatewayId, Quantity};
use tokio::sync::oneshot;

fn gateway(port: u16, home: &Path) -> Config {
    let home = home.display();
    let text = format!(
        r#"
[gateway]
id = "truck-7"
board = "simulated"
state-directory = "{home}/state"

[broker]
url = "mqtt://127.0.0.1:{port}"

[spool]
directory = "{home}/spool"
max-size = "32 MiB"
keep-free = "0 MiB"

[[sensor]]
name = "front-wheel"
kind = "hall"
pin = "SIM0"
pulses-per-turn = 48
circumference = "1.985 m"
report = "10 Hz"

[[sensor]]
name = "ecu-speed"
kind = "j1939"
interface = "can0"
report = "10 Hz"
"#
    );
    Config::parse(Path::new("gateway.toml"), &text, &Catalog::built_in()).unwrap_or_else(|e| panic!("{e}"))
}

async fn hub(port: u16, home: &Path) -> Running {
    let url = BrokerUrl { host: "127.0.0.1".into(), port, tls: false };
    let mut config = speedwell_hub::Config::new(url, home.join("hub.sqlite"));
    config.http.listen = "127.0.0.1:0".parse().unwrap();
    Hub::start(config).await.unwrap()
}

fn utc_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

/// All speeds of a sensor, in order of time.
fn speeds(reader: &Arc<dyn Read>, sensor: &str) -> Vec<Point> {
    let gateway = GatewayId::new("truck-7").unwrap();
    let (from_ns, to_ns) = (utc_ns() - 600_000_000_000, utc_ns());
    let sensor = sensor.into();
    let query = HistoryQuery { gateway, sensor, quantity: Quantity::Speed, from_ns, to_ns, limit: 100_000 };
    reader.history(&query).unwrap().points
}

/// Waits until the hub has a wheel speed measured after `utc_ns`.
async fn has_speeds_after(reader: &Arc<dyn Read>, utc_ns: i64) {
    let until = Instant::now() + PATIENCE;
    while speeds(reader, "front-wheel").last().is_none_or(|last| last.utc_ns <= utc_ns) {
        assert!(Instant::now() < until, "no new speeds reach the hub");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_speed_reaches_the_hub_once_through_a_broker_that_forgets_and_a_hub_that_restarts() {
    if !installed() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let mut broker = Broker::start();
    let first_hub = hub(broker.port, home.path()).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let started = utc_ns();
    let agent = tokio::spawn(agent::run(gateway(broker.port, home.path()), agent::Reloads::none(), async {
        let _ = stopped.await;
    }));
    has_speeds_after(&first_hub.reader, started + 1_000_000_000).await;
    broker.kill();
    tokio::time::sleep(Duration::from_secs(3)).await;
    broker.restart();
    let back = utc_ns();
    has_speeds_after(&first_hub.reader, back).await;
    first_hub.stop().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let hub = hub(broker.port, home.path()).await;
    let back = utc_ns();
    has_speeds_after(&hub.reader, back).await;
    let ended = utc_ns();
    stop.send(()).unwrap();
    agent.await.unwrap().unwrap();

    judge(&hub.reader, started, ended);
    hub.stop().await.unwrap();
    let spool = Options { max_size: 32 << 20, keep_free: 0, ..Options::new(home.path().join("spool")) };
    let (_, spool) = Spool::open(spool).unwrap();
    assert_eq!(spool.confirmed_seq, spool.last_seq, "the spool is not freed");
    println!("{} records, all confirmed", spool.last_seq);
}

/// What counts as a hole, ns. A record that is missing makes one of a second, reports that a busy machine skips do not;
/// on an idle one the widest step is 0.1 s.
const HOLE_NS: i64 = 600_000_000;

/// Holds what the hub has against what was driven.
fn judge(reader: &Arc<dyn Read>, started: i64, ended: i64) {
    let counts = reader.counts().unwrap();
    assert_eq!((counts.losses, counts.gaps), (0, 0));
    let (wheel, can) = (speeds(reader, "front-wheel"), speeds(reader, "ecu-speed"));
    let (first, last) = (wheel.first().unwrap().utc_ns, wheel.last().unwrap().utc_ns);
    assert!(first - started < 1_500_000_000, "the first speed {} ms after the start", (first - started) / 1_000_000);
    assert!(ended - last < HOLE_NS, "the last speed {} ms before the end", (ended - last) / 1_000_000);
    let widest = wheel.windows(2).map(|pair| pair[1].utc_ns - pair[0].utc_ns).max().unwrap();
    assert!(wheel.windows(2).all(|pair| pair[0].utc_ns < pair[1].utc_ns), "a speed that came twice");
    assert!(widest <= HOLE_NS, "a hole of {} ms", widest / 1_000_000);
    let worst =
        can.iter().filter_map(|point| Some((point.value - at(&wheel, point.utc_ns)?).abs())).fold(0.0, f64::max);
    println!(
        "{} wheel speeds, widest step {} ms; {} CAN speeds, at most {worst:.3} m/s apart",
        wheel.len(),
        widest / 1_000_000,
        can.len()
    );
    assert!(can.len() > 50 && worst < 0.1, "wheel and CAN are {worst} m/s apart");
}

/// A speed between the two measured next to a time.
fn at(points: &[Point], utc_ns: i64) -> Option<f64> {
    let pair = points.windows(2).find(|pair| (pair[0].utc_ns..=pair[1].utc_ns).contains(&utc_ns))?;
    let part = (utc_ns - pair[0].utc_ns) as f64 / (pair[1].utc_ns - pair[0].utc_ns) as f64;
    Some(pair[0].value + (pair[1].value - pair[0].value) * part)
}
