//! One speed out of two receivers, in the real agent: the better one falls silent and comes back, and they contradict each
//! other.

mod agent;
mod broker;
mod pty;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use agent::Home;
use broker::{Broker, Hub, HubState, installed};
use pty::{Adapter, every};
use speedwell::board::simulated::rmc;
use speedwell_wire::{EventKind, Record, block, block::Sample, message::SensorHealth};

/// A receiver that tells what it is told to, 5 times a second.
struct Receiver {
    adapter: Adapter,
    /// Bits of the speed it tells, m/s; it is silent while that is no number.
    speed: Arc<AtomicU64>,
}

impl Receiver {
    fn plug_in() -> Self {
        let speed = Arc::new(AtomicU64::new(12.5f64.to_bits()));
        let told = speed.clone();
        let adapter = Adapter::plug_in(every(Duration::from_millis(200), move || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i128;
            let speed = f64::from_bits(told.load(Ordering::Relaxed));
            if speed.is_finite() { rmc(now, 52.5, 13.25, speed, 90.0).into_bytes() } else { Vec::new() }
        }));
        Self { adapter, speed }
    }

    /// What it tells from now on, m/s; it falls silent where there is none.
    fn tell(&self, speed: Option<f64>) {
        self.speed.store(speed.unwrap_or(f64::NAN).to_bits(), Ordering::Relaxed);
    }
}

fn sensors(front: &Receiver, rear: &Receiver) -> String {
    let sensor = |name: &str, receiver: &Receiver| {
        format!(
            "[[sensor]]\nname = \"{name}\"\nkind = \"nmea\"\nport = \"{}\"\nreport = \"5 Hz\"\n",
            receiver.adapter.device.display()
        )
    };
    let fusion = "[fusion]\nsensors = [\"front\", \"rear\"]\nhold = \"1 s\"\nback-after = \"2 s\"\n";
    format!("{}{}{fusion}", sensor("front", front), sensor("rear", rear))
}

/// The newest state of the fused speed that the hub was told.
fn fused(state: &HubState) -> Option<&SensorHealth> {
    state.statuses.last()?.health.as_ref()?.sensors.iter().find(|sensor| sensor.name == "speed")
}

/// Samples of the fused speed: its channel is the last.
fn samples(state: &HubState) -> Vec<Sample> {
    let columns = state.stored.values().flat_map(|(_, record)| match record {
        Record::Samples(samples) => block::decode(&samples.block).unwrap(),
        _ => Vec::new(),
    });
    columns.filter(|column| column.channel == LAST).flat_map(|column| column.samples).collect()
}

/// Each receiver has one channel.
const LAST: u16 = 2;

fn events(state: &HubState, kind: EventKind) -> Vec<String> {
    let of = |record: &Record| match record {
        Record::Event(e) if e.kind == kind && e.sensor.as_deref() == Some("speed") => Some(e.detail.clone()),
        _ => None,
    };
    state.stored.values().filter_map(|(_, record)| of(record)).collect()
}

fn told(state: &HubState, kind: EventKind, words: &str) -> bool {
    events(state, kind).iter().any(|detail| detail.contains(words))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_gives_the_speed_while_the_first_is_silent_and_who_disagrees_is_told() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    let (front, rear) = (Receiver::plug_in(), Receiver::plug_in());
    let home = Home::new("generic-linux", &format!("mqtt://127.0.0.1:{}", broker.port), &sensors(&front, &rear));
    let mut agent = home.start();
    hub.until("a fused speed", |s| samples(s).len() >= 10).await;
    hub.until("it stands among the sensors and is well", |s| fused(s).is_some_and(|f| f.trouble.is_none())).await;

    front.tell(None);
    hub.until("the fall back", |s| told(s, EventKind::SensorFault, "speed comes from rear: front is stale")).await;
    let so_far = samples(&hub.state()).len();
    hub.until("the speed goes on", |s| samples(s).len() > so_far + 10).await;
    hub.until("the status says who gives it", |s| fused(s).is_some_and(|f| f.detail.contains("rear"))).await;

    front.tell(Some(12.5));
    hub.until("the way back", |s| told(s, EventKind::SensorRecovered, "speed comes from front again")).await;

    // A wheel that slips or a calibration that is wrong look alike from here: the speed is told and not judged.
    rear.tell(Some(20.0));
    hub.until("the contradiction", |s| told(s, EventKind::Disagreement, "or is a calibration wrong?")).await;
    let which = events(&hub.state(), EventKind::Disagreement);
    assert!(which[0].starts_with("front says 12.5") && which[0].contains("rear 20.0"), "{which:?}");
    rear.tell(Some(12.5));
    hub.until("its end", |s| told(s, EventKind::Disagreement, "front and rear agree again")).await;

    let all = samples(&hub.state());
    assert!(all.windows(2).all(|pair| pair[0].tick < pair[1].tick), "times only grow from one sensor to the next");
    assert!(
        all.iter().all(|sample| (12_000..13_000).contains(&sample.value)),
        "never the speed of the one it did not take"
    );

    for silent in [&front, &rear] {
        silent.tell(None);
    }
    hub.until("no speed at all", |s| fused(s).is_some_and(|f| f.trouble.is_some())).await;
    agent.stop_well().await;
    front.adapter.pull();
    rear.adapter.pull();
}
