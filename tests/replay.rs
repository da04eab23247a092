//! `speedwell replay` as it is typed: recordings of known speed in, rows out.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

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
report = "10 Hz"
[[sensor]]
name = "ecu-speed"
kind = "j1939"
interface = "can0"
signal = "wheel-based-speed"
report = "10 Hz"
[[sensor]]
name = "gnss"
kind = "nmea"
port = "/dev/simulated-gnss"
baud = 9600
report = "1 Hz"
"#;

const PULSES_PER_METRE: f64 = 48.0 / 1.985;

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("gateway.toml"), CONFIG).unwrap();
        Self { dir }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn replay(&self, arguments: &[String]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_speedwell"))
            .arg("replay")
            .arg("--config")
            .arg(self.dir.path().join("gateway.toml"))
            .args(arguments)
            .output()
            .unwrap()
    }
}

fn given(option: &str, name: &str, file: &Path) -> [String; 2] {
    [option.to_owned(), format!("{name}={}", file.display())]
}

struct Row {
    time: f64,
    sensor: String,
    value: Option<f64>,
    uncertainty: Option<f64>,
    quality: String,
}

fn rows(output: &Output) -> Vec<Row> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("time,sensor,quantity,value,unit,uncertainty,quality"), "{}", errors(output));
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            assert_eq!(fields.len(), 7, "{line}");
            assert_eq!((fields[2], fields[4]), ("speed", "m/s"), "{line}");
            Row {
                time: fields[0].parse().unwrap(),
                sensor: fields[1].into(),
                value: fields[3].parse().ok(),
                uncertainty: fields[5].parse().ok(),
                quality: fields[6].into(),
            }
        })
        .collect()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Edges of a wheel that goes at `speed(t)`, way `way(t)`, from `start_s` on, with 5 us of jitter.
fn edges(start_s: f64, seconds: f64, way: impl Fn(f64) -> f64) -> String {
    let mut dice = fastrand::Rng::with_seed(4);
    let mut text = "timestamp_ns,kind,seqno,line_seqno\n".to_owned();
    let (mut t, step) = (0.0, 1e-5);
    let mut index = 1u32;
    while t < seconds {
        let next = f64::from(index) / PULSES_PER_METRE;
        if way(t + step) >= next {
            let part = (next - way(t)) / (way(t + step) - way(t)).max(1e-12);
            let jitter: f64 = (0..4).map(|_| dice.f64() - 0.5).sum::<f64>() * 3f64.sqrt() * 5e-6;
            let t_ns = ((start_s + t + part * step + jitter) * 1e9) as u64;
            writeln!(text, "{t_ns},rising,{index},{index}").unwrap();
            index += 1;
        }
        t += step;
    }
    text
}

#[test]
fn edges_of_a_known_speed_give_that_speed_within_its_uncertainty() {
    let bench = Bench::new();
    // 10 m/s, then faster by 2 m/s².
    let file = bench.file("edges.csv", edges(500.0, 5.0, |t| 10.0 * t + t * t));
    let output = bench.replay(&given("--edges", "SIM0", &file));
    assert!(output.status.success(), "{}", errors(&output));
    let rows = rows(&output);
    assert!((45..=52).contains(&rows.len()), "{} rows", rows.len());
    let mut beyond = 0;
    for row in &rows {
        let truth = 10.0 + 2.0 * (row.time - 500.0);
        let (value, uncertainty) = (row.value.unwrap(), row.uncertainty.unwrap());
        assert!(
            (value - truth).abs() < 5.0 * uncertainty + 1e-5,
            "{value} ± {uncertainty}, true {truth} at {}",
            row.time
        );
        beyond += u32::from((value - truth).abs() > 2.0 * uncertainty);
        assert_eq!((row.sensor.as_str(), row.quality.as_str()), ("front-wheel", "good"));
    }
    assert!(beyond <= 6, "{beyond} of {} beyond two standard deviations", rows.len());
    assert!(rows.windows(2).all(|pair| pair[0].time < pair[1].time));
}

#[test]
fn a_pin_may_be_called_by_any_of_its_names_or_by_its_sensor() {
    let bench = Bench::new();
    let file = bench.file("edges.csv", edges(1.0, 0.5, |t| 10.0 * t));
    let first = bench.replay(&given("--edges", "SIM0", &file)).stdout;
    for name in ["P1", "simulated:0", "front-wheel"] {
        assert_eq!(bench.replay(&given("--edges", name, &file)).stdout, first, "{name}");
    }
    let unknown = bench.replay(&given("--edges", "SIM5", &file));
    assert_eq!(unknown.status.code(), Some(64));
    assert_eq!(errors(&unknown), "no sensor is connected to pin SIM5; the configuration has SIM0\n");
}

#[test]
fn frames_of_a_candump_log_give_the_speed_they_carry() {
    let bench = Bench::new();
    let log = "(100.000100) can0 18FEF100#F3003C0000FF1FFF\n\
               (100.000200) can0 0CF00400#607D84481400F084\n\
               (100.100100) can0 18FEF100#FF0080FFFFFFFFFF\n\
               (100.200100) can0 18FEF100#FFFFFFFFFFFFFFFF\n\
               (100.300100) can0 18FEF100#FFFFFFFFFFFFFFFF\n\
               (100.400100) can0 18FEF100#FFFFFAFFFFFFFFFF\n";
    let output = bench.replay(&given("--can", "can0", &bench.file("can.log", log)));
    assert!(output.status.success(), "{}", errors(&output));
    let told: Vec<(f64, Option<f64>, String)> =
        rows(&output).into_iter().map(|row| (row.time, row.value, row.quality)).collect();
    assert_eq!(
        told,
        [
            (100.0001, Some(16.666667), "good".into()),
            (100.1001, Some(35.555556), "good".into()),
            (100.2001, None, "not-available".into()),
            (100.4001, Some(69.721137), "good".into()),
        ]
    );
}

#[test]
fn a_silence_in_a_log_makes_the_value_stale_once() {
    let bench = Bench::new();
    let log = "(100.0) can0 18FEF100#FF0080FFFFFFFFFF\n(103.0) can0 18FEF100#FF0080FFFFFFFFFF\n";
    let rows = rows(&bench.replay(&given("--can", "can0", &bench.file("can.log", log))));
    let qualities: Vec<&str> = rows.iter().map(|row| row.quality.as_str()).collect();
    assert_eq!(qualities, ["good", "stale", "good"]);
    assert!((100.5..100.8).contains(&rows[1].time), "{}", rows[1].time);
}

#[test]
fn serial_bytes_give_rows_at_the_time_of_their_sentences() {
    let bench = Bench::new();
    let bytes = "$GPRMC,221320.00,A,5230.00000,N,01315.00000,W,19.438,90.0,141123,,,A*44\r\n\
                 \u{1}noise\r\n\
                 $GPRMC,221321.00,A,5230.00000,N,01315.00000,W,38.877,90.0,141123,,,A*41\r\n";
    let output = bench.replay(&given("--serial", "/dev/simulated-gnss", &bench.file("gnss.raw", bytes)));
    let rows = rows(&output);
    let told: Vec<(f64, f64)> = rows.iter().filter_map(|row| Some((row.time, row.value?))).collect();
    assert_eq!(told, [(1_700_000_000.0, 9.999771), (1_700_000_001.0, 20.000057)], "{}", errors(&output));
}

#[test]
fn bad_lines_are_told_with_file_and_line_and_the_good_ones_are_kept() {
    let bench = Bench::new();
    let mut text = edges(1.0, 1.0, |t| 10.0 * t);
    text.insert_str(text.find('\n').unwrap() + 1, "1,sideways,1,1\n");
    text.push_str("not,a,line\n");
    let file = bench.file("edges.csv", text);
    let output = bench.replay(&given("--edges", "SIM0", &file));
    assert!(output.status.success());
    assert!(rows(&output).len() >= 9);
    let told = errors(&output);
    assert!(told.contains(&format!("{}:2: kind is \"sideways\"", file.display())), "{told}");
    assert!(told.contains("2 bad lines"), "{told}");
}

#[test]
fn a_file_of_which_nothing_can_be_used_exits_with_65_and_a_missing_one_with_66() {
    let bench = Bench::new();
    for (option, name, content) in
        [("--edges", "SIM0", "hello\n"), ("--edges", "SIM0", ""), ("--can", "can0", "hello\n"), ("--can", "can0", "")]
    {
        let output = bench.replay(&given(option, name, &bench.file("bad", content)));
        assert_eq!(output.status.code(), Some(65), "{option} {content:?}: {}", errors(&output));
    }
    let output = bench.replay(&given("--can", "can0", Path::new("/nowhere.log")));
    assert_eq!(output.status.code(), Some(66), "{}", errors(&output));
    assert_eq!(bench.replay(&[]).status.code(), Some(64));
}

#[test]
fn recordings_of_different_clocks_are_played_together() {
    let bench = Bench::new();
    let can = bench.file("can.log", "(1700000000.0) can0 18FEF100#FF0080FFFFFFFFFF\n");
    let pin = bench.file("edges.csv", edges(5.0, 1.0, |t| 10.0 * t));
    let arguments = [given("--can", "can0", &can), given("--edges", "SIM0", &pin)].concat();
    let output = bench.replay(&arguments);
    let rows = rows(&output);
    assert_eq!(rows.iter().filter(|row| row.sensor == "ecu-speed").count(), 1);
    assert!(rows.iter().filter(|row| row.sensor == "front-wheel").count() >= 9);
}

#[test]
fn one_wrong_time_years_ahead_does_not_keep_it_busy() {
    let bench = Bench::new();
    let text =
        edges(1.0, 1.0, |t| 10.0 * t) + "4000000000000000000,rising,900,900\n18446744073709551615,rising,901,901\n";
    let started = std::time::Instant::now();
    let output = bench.replay(&given("--edges", "SIM0", &bench.file("edges.csv", text)));
    assert!(output.status.success(), "{}", errors(&output));
    assert!(started.elapsed().as_secs() < 20);
}

#[test]
fn json_lines_say_the_same_as_csv() {
    let bench = Bench::new();
    let log = "(100.0) can0 18FEF100#FF0080FFFFFFFFFF\n(100.1) can0 18FEF100#FFFFFFFFFFFFFFFF\n";
    let file = bench.file("can.log", log);
    let output = bench.replay(&[&given("--can", "can0", &file)[..], &["--format".into(), "json".into()]].concat());
    let lines: Vec<serde_json::Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["value"], 35.555556);
    assert_eq!(lines[0]["unit"], "m/s");
    assert_eq!(lines[1]["value"], serde_json::Value::Null);
    assert_eq!(lines[1]["quality"], "not-available");
}

/// Recorded truck logs: every CCVS1 value of the expected list comes out. Runs where SPEEDWELL_DATA is set.
#[test]
fn recorded_truck_logs_give_the_expected_values() {
    let Some(data) = std::env::var_os("SPEEDWELL_DATA").map(PathBuf::from) else {
        println!("skipped: SPEEDWELL_DATA is not set");
        return;
    };
    let bench = Bench::new();
    for name in ["j1939_truck_standing_60s", "j1939_engine_idle_60s"] {
        let output = bench.replay(&given("--can", "can0", &data.join("can").join(format!("{name}.log"))));
        assert!(output.status.success(), "{}", errors(&output));
        let expected = fs::read_to_string(data.join("can").join(format!("{name}.expected.csv"))).unwrap();
        let expected =
            expected.lines().filter(|l| l.contains(",wheel_based_vehicle_speed,") && l.ends_with(",ok")).count();
        let rows = rows(&output);
        let values: Vec<&Row> = rows.iter().filter(|row| row.value.is_some()).collect();
        assert!(values.len() * 100 >= expected * 99, "{name}: {} of {expected}", values.len());
        assert!(values.iter().all(|row| row.value == Some(0.0)));
        assert!(rows.windows(2).all(|pair| pair[0].time < pair[1].time));
    }
}
