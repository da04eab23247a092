//! Sensors on serial lines, each on a pty of the kernel with a device of its own at the far end: what they say is stored,
//! an adapter that is pulled out is told and found again, and one wrong setting does not pass for silence.

mod agent;
mod broker;
mod pty;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use agent::Home;
use broker::{Broker, Hub, HubState, installed};
use pty::{
    Adapter,
    devices::{NAMES, VALUES, four, plug_in, slaves},
    every, receiver,
};
use speedwell_wire::{ClockFix, ClockSource, EventKind, NoData, Record, block, message::SensorHealth};

/// Values of a channel that the hub has, in steps of this size.
fn steps(state: &HubState, channel: u16, step: f64) -> Vec<f64> {
    let columns = state.stored.values().flat_map(|(_, record)| match record {
        Record::Samples(samples) => block::decode(&samples.block).unwrap(),
        _ => Vec::new(),
    });
    let of = columns.filter(|column| column.channel == channel);
    of.flat_map(|column| column.samples).map(|sample| sample.value as f64 * step).collect()
}

/// Whole turns a minute.
fn values(state: &HubState, channel: u16) -> Vec<f64> {
    steps(state, channel, 1.0)
}

fn of<'a>(state: &'a HubState, sensor: &str) -> Option<&'a SensorHealth> {
    let sensors = &state.statuses.last()?.health.as_ref()?.sensors;
    sensors.iter().find(|s| s.name == sensor)
}

fn events(state: &HubState, sensor: &str, kind: EventKind) -> Vec<String> {
    let of = |record: &Record| match record {
        Record::Event(e) if e.kind == kind && e.sensor.as_deref() == Some(sensor) => Some(e.detail.clone()),
        _ => None,
    };
    state.stored.values().filter_map(|(_, record)| of(record)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_speaks_is_told_as_gone_when_its_adapter_is_pulled_and_speaks_again() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    let directory = tempfile::tempdir().unwrap();
    let ports: Vec<PathBuf> = NAMES.iter().map(|name| directory.path().join(name)).collect();
    let adapters = plug_in(&ports);
    let home = Home::new("generic-linux", &format!("mqtt://127.0.0.1:{}", broker.port), &four(&ports));
    let mut agent = home.start();
    for (channel, name) in NAMES.iter().enumerate() {
        hub.until(&format!("values of {name}"), |s| values(s, channel as u16).len() >= 5).await;
    }

    adapters.into_iter().for_each(Adapter::pull);
    for name in NAMES {
        let gone = ["hung up: adapter unplugged?", "there is no serial port"];
        let gone = |s: &SensorHealth| s.trouble == Some(NoData::Fault) && gone.iter().any(|w| s.detail.contains(w));
        hub.until(&format!("{name} told as gone"), |s| of(s, name).is_some_and(gone)).await;
    }
    ports.iter().for_each(|port| std::fs::remove_file(port).unwrap());
    let before: Vec<usize> = (0..4).map(|channel| values(&hub.state(), channel).len()).collect();
    let adapters = plug_in(&ports);
    for (channel, name) in NAMES.iter().enumerate() {
        hub.until(&format!("{name} again"), |s| values(s, channel as u16).len() > before[channel] + 5).await;
        hub.until(&format!("{name} well"), |s| of(s, name).is_some_and(|s| s.trouble.is_none())).await;
        hub.until(&format!("{name} back in the log"), |s| !events(s, name, EventKind::SensorRecovered).is_empty())
            .await;
        // Speeds are told in millimetres a second.
        let all = steps(&hub.state(), channel as u16, if channel < 3 { 1e-3 } else { 1.0 });
        assert!(all.iter().all(|value| (value - VALUES[channel]).abs() < 1e-6), "{name}: {all:?}");
    }
    agent.stop_well().await;
    adapters.into_iter().for_each(Adapter::pull);
}

/// A register of a slave at `port`.
fn register(port: &Path, name: &str, slave: u8, register: u16) -> String {
    format!(
        "[[sensor]]\nname = \"{name}\"\nkind = \"modbus\"\nport = \"{}\"\nbaud = 115200\nslave = {slave}\n\
         register = {register}\nunit = \"rpm\"\nreport = \"10 Hz\"\nanswer-within = \"1 s\"\n",
        port.display()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_slave_is_told_and_holds_up_none_of_the_others_on_its_line_until_it_is_back() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    let (dead, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let alive = vec![(1, Arc::new(AtomicBool::new(true))), (2, dead.clone()), (3, Arc::new(AtomicBool::new(true)))];
    let line = Adapter::plug_in(slaves(alive, asked.clone()));
    let sensors = [
        register(&line.device, "one", 1, 7),
        register(&line.device, "two", 2, 7),
        register(&line.device, "three", 3, 7),
        register(&line.device, "one-more", 1, 8),
        register(&line.device, "refused", 3, 100),
    ];
    let home = Home::new("generic-linux", &format!("mqtt://127.0.0.1:{}", broker.port), &sensors.concat());
    let mut agent = home.start();
    hub.until("values of those that live", |s| [0, 2, 3].iter().all(|channel| values(s, *channel).len() >= 100)).await;
    let times = asked.load(Ordering::Relaxed);
    assert!((1..=15).contains(&times), "asked less and less often: {times}");
    let told = |name: &'static str, words: &'static str| {
        move |s: &HubState| of(s, name).is_some_and(|s| s.trouble.is_some() && s.detail.contains(words))
    };
    hub.until("the dead one", told("two", "slave 2 does not answer")).await;
    hub.until("the refusal", told("refused", "slave 3 refuses register 100: it has no such register")).await;
    assert_eq!(values(&hub.state(), 1), [0.0; 0]);
    dead.store(true, Ordering::Relaxed);
    hub.until("it is back", |s| values(s, 1).len() >= 5).await;
    for (channel, value) in [(0, 107.0), (1, 207.0), (2, 307.0), (3, 108.0)] {
        let all = values(&hub.state(), channel);
        assert!(all.iter().all(|got| *got == value), "{channel}: {all:?}");
    }
    agent.stop_well().await;
    line.pull();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_baud_rate_is_told_with_sensor_cause_and_remedy_and_not_as_silence() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    // 9600 baud read at another speed looks like this: never a whole byte right.
    let noise = || every(Duration::from_millis(50), || [0xF8, 0x80, 0x1E, 0x66, 0x00, 0xFE].repeat(20));
    let adapters: Vec<Adapter> = (0..4).map(|_| Adapter::plug_in(noise())).collect();
    let ports: Vec<PathBuf> = adapters.iter().map(|adapter| adapter.device.clone()).collect();
    let home = Home::new("generic-linux", &format!("mqtt://127.0.0.1:{}", broker.port), &four(&ports));
    let mut agent = home.start();
    for (name, words) in NAMES.iter().zip(["UBX-NAV-PVT", "a radar's report", "a line that matches", "slave 1"]) {
        let told = |s: &SensorHealth| s.trouble.is_some() && s.detail.contains(words) && s.detail.contains("`baud`");
        hub.until(&format!("{name} told"), |s| of(s, name).is_some_and(told)).await;
        agent.says(&format!("sensor={name}")).await;
    }
    let log = agent.log();
    assert!(log.contains("bytes come and none of them make a radar's report: is `baud` right"), "{log}");
    agent.stop_well().await;
    adapters.into_iter().for_each(Adapter::pull);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_dates_the_measurements_where_the_kernel_is_not_synchronised() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    let adapter = Adapter::plug_in(receiver());
    let sensor = format!(
        "[[sensor]]\nname = \"gnss\"\nkind = \"nmea\"\nport = \"{}\"\nclock = true\n",
        adapter.device.display()
    );
    let home = Home::new("generic-linux", &format!("mqtt://127.0.0.1:{}", broker.port), &sensor);
    let mut agent = home.start();
    let fixes = |s: &HubState| -> Vec<ClockFix> {
        let of = |record: &Record| if let Record::Clock(fix) = record { Some(*fix) } else { None };
        s.stored.values().filter_map(|(_, record)| of(record)).collect()
    };
    hub.until("the first fix", |s| !fixes(s).is_empty()).await;
    if fixes(&hub.state())[0].source == ClockSource::Ntp {
        eprintln!("skipped: the kernel's clock is synchronised here, and goes before any receiver's");
    } else {
        hub.until("the receiver's", |s| fixes(s).iter().any(|fix| fix.source == ClockSource::Gnss)).await;
        let fix = fixes(&hub.state()).into_iter().find(|fix| fix.source == ClockSource::Gnss).unwrap();
        // The receiver tells the time of this machine; how late its sentences come is what is uncertain.
        let boot_ns = i64::try_from(now_boot_ns()).unwrap();
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
        let wrong = (fix.utc_ns - fix.boot_ns as i64).abs_diff(real - boot_ns);
        assert!(wrong < 4 * fix.uncertainty_ns, "{wrong} ns, {fix:?}");
    }
    agent.stop_well().await;
    adapter.pull();
}

/// Lines said while the agent is held up: some seconds of a receiver, and less than the kernel keeps.
const HELD_LINES: u64 = 32;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_a_stop_or_a_reload_is_kept_by_an_agent_that_was_held_up() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    // It numbers its lines, which are long, and says as many as are wanted by then.
    let wanted = Arc::new(AtomicU64::new(0));
    let mut said = 0;
    let numbered = every(Duration::from_millis(20), {
        let wanted = wanted.clone();
        move || {
            if said == wanted.load(Ordering::Relaxed) {
                return Vec::new();
            }
            said += 1;
            format!("N={said}{:90}\r\n", "").into_bytes()
        }
    });
    let adapter = Adapter::plug_in(numbered);
    // At either rate a line takes longer than a report period, so that none is left out as too many.
    let sensor = |baud: u32| {
        format!(
            "[[sensor]]\nname = \"shaft\"\nkind = \"line\"\nport = \"{}\"\npattern = 'N=(?P<v>[0-9]+)'\nunit = \"rpm\"\nreport = \"100 Hz\"\nbaud = {baud}\n",
            adapter.device.display()
        )
    };
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    let home = Home::new("generic-linux", &url, &sensor(57_600));
    let mut agent = home.start();
    let times =
        |s: &HubState, line: u64| steps(s, 0, 0.01).iter().filter(|value| (**value - line as f64).abs() < 0.01).count();
    for round in 0..6 {
        // It listens once it hears a line: those said before it had opened the port are nobody's.
        loop {
            let line = wanted.fetch_add(1, Ordering::Relaxed) + 1;
            tokio::time::sleep(Duration::from_millis(500)).await;
            if (line.saturating_sub(3)..=line).any(|line| times(&hub.state(), line) == 1) {
                break;
            }
        }
        agent.hold();
        let heard = wanted.fetch_add(HELD_LINES, Ordering::Relaxed);
        // They lie in the kernel until the agent is let go.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        if round % 2 == 0 {
            let broker = format!("url = \"{url}\"");
            home.configure("generic-linux", &broker, &sensor(if round % 4 == 0 { 38_400 } else { 57_600 }));
            agent.hang_up();
            agent.let_go();
        } else {
            agent.ask_to_stop();
            agent.let_go();
            assert_eq!(agent.ended().await.code(), Some(0), "{}", agent.log());
            agent = home.start();
        }
        let kept = |s: &HubState| (1..=HELD_LINES).all(|n| times(s, heard + n) == 1);
        hub.until("the lines said while it was held up", kept).await;
    }
    agent.says("running").await;
    agent.stop_well().await;
    adapter.pull();
}

fn now_boot_ns() -> u64 {
    use speedwell::clock::{Clock, SystemClock};
    SystemClock.now().0
}
