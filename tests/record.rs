//! `speedwell record` on the simulated board and on serial lines, and what `replay` makes of its files.

mod pty;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use pty::{
    Adapter,
    devices::{NAMES, VALUES, four, plug_in},
};
use speedwell::{
    agent::{
        record::{Ended, Options, RecordError, record},
        replay::{Audience, Row, Source, SourceKind, replay},
    },
    board::{
        Catalog, Doors, Vehicle,
        recorded::BadLine,
        simulated::{Faults, SEED},
    },
    config::Config,
};
use speedwell_wire::{Quality, Quantity};

const CONFIG: &str = r#"
[gateway]
id = "bench"
board = "simulated"
[broker]
url = "mqtt://127.0.0.1"
[[sensor]]
name = "front-wheel"
kind = "hall"
pin = "SIM0"
pulses-per-turn = 48
circumference = "1.985 m"
max-speed = "200 km/h"
[[sensor]]
name = "ecu-speed"
kind = "j1939"
interface = "can0"
[[sensor]]
name = "gnss"
kind = "nmea"
port = "/dev/simulated-gnss"
[[sensor]]
name = "roller"
kind = "as5600"
bus = "I2C1"
circumference = "1.985 m"
"#;

fn config() -> Config {
    Config::parse(Path::new("gateway.toml"), CONFIG, &Catalog::built_in()).unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn options(out: PathBuf) -> Options {
    Options { out, span: Some(Duration::from_millis(2500)), max_size: 1 << 30, keep_free: 0, sensors: Vec::new() }
}

/// Rows as they come; a bad line or a remark is a failure.
#[derive(Default)]
struct Rows(Vec<(u64, String, Quantity, f64, f64, Quality)>);

impl Audience for Rows {
    fn row(&mut self, row: &Row<'_>) -> std::io::Result<()> {
        if let Ok(value) = row.value {
            let Row { t, sensor, quantity, .. } = *row;
            self.0.push((t.0, sensor.to_owned(), quantity, value.value, value.uncertainty, value.quality));
        }
        Ok(())
    }
    fn bad_line(&mut self, file: &Path, bad: &BadLine) {
        panic!("{}:{bad}", file.display());
    }
    fn note(&mut self, file: &Path, note: &str) {
        panic!("{}: {note}", file.display());
    }
}

#[tokio::test]
async fn what_was_recorded_tells_the_speed_that_was_driven_for_every_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config();
    let vehicle = Vehicle::new(SEED, Faults::default());
    let doors = Doors::with_vehicle(&config.gateway.board, vehicle.clone());
    let out = folder.path().join("drive");
    let summary = record(&config, &doors, &options(out.clone()), Arc::new(AtomicBool::new(false)), |_| {})
        .await
        .expect("recorded");
    assert_eq!(summary.ended, Ended::Asked);
    for file in &summary.files {
        assert_eq!(file.failed, None, "{file:?}");
        let on_disk = fs::metadata(out.join(&file.file)).expect("it is there").len();
        assert!(file.items > 5 && file.bytes == on_disk, "{file:?} has {on_disk} bytes on disk");
    }

    let source = |kind, name: &str, file: &str| Source { kind, name: name.into(), file: out.join(file) };
    let sources = [
        source(SourceKind::Edges, "front-wheel", "edges-front-wheel.csv"),
        source(SourceKind::Can, "can0", "can-can0.log"),
        source(SourceKind::Serial, "gnss", "serial-gnss.csv"),
        source(SourceKind::Bus, "roller", "bus-roller.csv"),
    ];
    let mut rows = Rows::default();
    replay(&config, &sources, &mut rows).expect("played");
    for sensor in ["front-wheel", "ecu-speed", "gnss", "roller"] {
        let of: Vec<_> = rows.0.iter().filter(|row| row.1 == sensor && row.5 == Quality::Good).collect();
        assert!(of.len() >= 5, "{sensor}: {of:?}");
        for (t, _, quantity, value, uncertainty, _) in of {
            let truth = vehicle.speed(speedwell::clock::BootNs(*t));
            // The receiver rounds its time to a hundredth of a second, the bus its speed to 1/256 km/h.
            let allowed = 4.0 * uncertainty + 0.03;
            assert_eq!(*quantity, Quantity::Speed);
            assert!((value - truth).abs() < allowed, "{sensor} at {t}: {value} of {truth} m/s");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_of_serial_devices_is_read_again_as_it_was_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let ports: Vec<PathBuf> = NAMES.iter().map(|name| folder.path().join(name)).collect();
    let adapters = plug_in(&ports);
    let head = "[gateway]\nid = \"t\"\nboard = \"generic-linux\"\n[broker]\nurl = \"mqtt://localhost\"\n";
    let text = format!("{head}{}", four(&ports));
    let config = Config::parse(Path::new("gateway.toml"), &text, &Catalog::built_in()).expect("right");
    let (doors, out) = (Doors::of(&config.gateway.board), folder.path().join("drive"));
    let stop = Arc::new(AtomicBool::new(false));
    let summary = record(&config, &doors, &options(out.clone()), stop, |_| {}).await.expect("recorded");
    assert!(summary.files.iter().all(|file| file.failed.is_none() && file.items > 5), "{summary:?}");
    adapters.into_iter().for_each(Adapter::pull);
    let source = |name: &&str| Source {
        kind: SourceKind::Serial,
        name: (*name).into(),
        file: out.join(format!("serial-{name}.csv")),
    };
    let mut rows = Rows::default();
    replay(&config, &NAMES.iter().map(source).collect::<Vec<_>>(), &mut rows).expect("played");
    for (name, wanted) in NAMES.iter().zip(VALUES) {
        let of: Vec<f64> = rows.0.iter().filter(|row| row.1 == *name).map(|row| row.3).collect();
        assert!(of.len() >= 5 && of.iter().all(|value| (value - wanted).abs() < 1e-6), "{name}: {of:?}");
    }
}

#[tokio::test]
async fn the_files_grow_no_larger_than_allowed_and_are_never_written_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config();
    let doors = Doors::of(&config.gateway.board);
    let never = || Arc::new(AtomicBool::new(false));
    let small = Options {
        span: None,
        max_size: 10_000,
        sensors: vec!["roller".into()],
        ..options(folder.path().join("small"))
    };
    let summary = record(&config, &doors, &small, never(), |_| {}).await.expect("recorded");
    assert_eq!((summary.ended, summary.files.len()), (Ended::Size, 1));
    assert!(summary.files[0].bytes < 20_000, "{summary:?}");

    let again = record(&config, &doors, &small, never(), |_| {}).await.expect_err("it is there already");
    assert!(again.to_string().ends_with("a recording is never written over: take another folder"), "{again}");
    let full = Options { keep_free: u64::MAX, ..options(folder.path().join("full")) };
    assert!(matches!(record(&config, &doors, &full, never(), |_| {}).await, Err(RecordError::Full { .. })));
    let other = Options { sensors: vec!["rear-wheel".into()], ..full };
    let text = record(&config, &doors, &other, never(), |_| {}).await.expect_err("there is none").to_string();
    let wanted = "the configuration has no sensor \"rear-wheel\"; it has front-wheel, ecu-speed, gnss, roller";
    assert_eq!(text, wanted);
}

fn speedwell(folder: &Path, arguments: &[&str]) -> Command {
    let config = folder.join("gateway.toml");
    fs::write(&config, CONFIG).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_speedwell"));
    command.args(arguments).arg("--config").arg(config).current_dir(folder);
    command
}

fn recording(folder: &Path) -> Child {
    let mut command = speedwell(folder, &["record", "--out", "drive"]);
    let child = command.stderr(Stdio::piped()).spawn().expect("it starts");
    // At least one flush, however busy the machine is.
    let until = Instant::now() + Duration::from_secs(30);
    let grown = || fs::metadata(folder.join("drive/edges-front-wheel.csv")).is_ok_and(|file| file.len() > 4000);
    while !grown() && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
    }
    child
}

fn played(folder: &Path) -> Output {
    speedwell(folder, &["replay", "--from", "drive"]).output().expect("it runs")
}

fn send(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill is there");
    assert!(sent.success());
}

#[test]
fn ctrl_c_ends_a_recording_with_all_its_lines_and_a_summary() {
    let folder = tempfile::tempdir().expect("a folder");
    let child = recording(folder.path());
    send(&child, "-INT");
    let output = child.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("edges-front-wheel.csv: ") && told.contains(" recorded, "), "{told}");
    let replayed = played(folder.path());
    let told = String::from_utf8_lossy(&replayed.stderr).into_owned();
    assert_eq!(replayed.status.code(), Some(0), "{told}");
    assert_eq!(told.matches(", 0 bad lines").count(), 4, "{told}");
}

#[test]
fn a_recording_that_is_killed_is_there_up_to_its_last_flush() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = recording(folder.path());
    send(&child, "-KILL");
    child.wait().expect("it ends");
    let replayed = played(folder.path());
    let told = String::from_utf8_lossy(&replayed.stderr).into_owned();
    let rows = String::from_utf8_lossy(&replayed.stdout).into_owned();
    assert!(rows.lines().filter(|row| row.contains("front-wheel,speed")).count() >= 3, "{rows}\n{told}");
    // A buffer that ran full between two flushes may have cut the last line of a file.
    assert!(!told.contains(", 2 bad lines"), "{told}");
}
