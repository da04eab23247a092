//! Sensors on recordings of real vehicles and receivers, row by row against what was expected of them.
//!
//! The recordings lie in the directory SPEEDWELL_DATA names; without it these tests print so and pass.

use std::{fs, path::PathBuf, time::Duration};

use embedded_can::{ExtendedId, Frame, Id, StandardId};
use speedwell::{
    clock::BootNs,
    sensor::{
        Frame as CanFrame, FrameSensor, Reading, Sensor, TimedFrame,
        dbc::DbcFile,
        field::{Field, Form, Order},
        j1939::{self, J1939, Parameter, Signal, Wheel},
        nmea::{self, Nmea},
        obd2::{self, Obd2, Pid},
        ubx::{self, Ubx},
        unit::Unit,
    },
};
use speedwell_wire::NoData;

fn data(path: &str) -> Option<Vec<u8>> {
    let Some(root) = std::env::var_os("SPEEDWELL_DATA") else {
        println!("skipped: SPEEDWELL_DATA does not name a directory of recordings");
        return None;
    };
    let path = PathBuf::from(root).join(path);
    Some(fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

fn rows(path: &str) -> Option<Vec<Vec<String>>> {
    let text = String::from_utf8(data(path)?).unwrap();
    Some(text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect())
}

#[derive(Clone, Debug)]
struct Raw {
    id: Id,
    data: Vec<u8>,
}

impl Frame for Raw {
    fn new(id: impl Into<Id>, data: &[u8]) -> Option<Self> {
        Some(Raw { id: id.into(), data: data.to_vec() })
    }
    fn new_remote(_: impl Into<Id>, _: usize) -> Option<Self> {
        None
    }
    fn is_extended(&self) -> bool {
        matches!(self.id, Id::Extended(_))
    }
    fn is_remote_frame(&self) -> bool {
        false
    }
    fn id(&self) -> Id {
        self.id
    }
    fn dlc(&self) -> usize {
        self.data.len()
    }
    fn data(&self) -> &[u8] {
        &self.data
    }
}

fn raw(id: &str, data: &str) -> Raw {
    let number = u32::from_str_radix(id, 16).unwrap();
    let id = match id.len() {
        3 => StandardId::new(number as u16).unwrap().into(),
        _ => Id::from(ExtendedId::new(number).unwrap()),
    };
    let data = (0..data.len()).step_by(2).map(|i| u8::from_str_radix(&data[i..i + 2], 16).unwrap()).collect();
    Raw { id, data }
}

/// `(seconds.micros) iface ID#DATA`, the time as its own text and in ns of the recording.
fn candump(path: &str) -> Option<Vec<(String, BootNs, Raw)>> {
    let text = String::from_utf8(data(path)?).unwrap();
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let time = words.next()?.trim_matches(['(', ')']).to_owned();
        let (seconds, micros) = time.split_once('.')?;
        let t = BootNs(seconds.parse::<u64>().ok()? * 1_000_000_000 + micros.parse::<u64>().ok()? * 1000);
        let (id, data) = words.nth(1)?.split_once('#')?;
        Some((time, t, raw(id, data)))
    };
    Some(text.lines().map(|line| parse(line).unwrap_or_else(|| panic!("{line}"))).collect())
}

fn signals() -> [(&'static str, Signal); 10] {
    [
        ("wheel_based_vehicle_speed", Signal::WheelBasedSpeed),
        ("tachograph_vehicle_speed", Signal::TachographSpeed),
        ("front_axle_speed", Signal::FrontAxleSpeed),
        ("engine_speed", Signal::EngineSpeed),
        ("rel_front_left", relative(2)),
        ("rel_front_right", relative(3)),
        ("rel_rear1_left", relative(4)),
        ("rel_rear1_right", relative(5)),
        ("rel_rear2_left", relative(6)),
        ("rel_rear2_right", relative(7)),
    ]
}

/// A wheel's speed relative to the axle, alone, as the expectations tell it.
fn relative(byte: u16) -> Signal {
    let field = Field::new(byte * 8, 8, Order::Intel, Form::Unsigned).unwrap();
    let unit = Unit::named("km/h").unwrap();
    Signal::Parameter(Parameter { pgn: 0xFEBF, field, scale: 1.0 / 16.0, offset: -7.8125, unit })
}

/// A value in the unit the expectations are in.
fn raw_unit(signal: Signal, value: f64) -> f64 {
    if signal == Signal::EngineSpeed { value } else { value * 3.6 }
}

fn every_frame(signal: Signal) -> J1939 {
    J1939::new(j1939::Options { signal, report: Duration::from_micros(1), ..j1939::Options::default() })
}

#[test]
fn every_j1939_vector_is_read_as_expected() {
    let Some(rows) = rows("dbc/j1939_vectors.csv") else { return };
    let mut checked = 0;
    for row in &rows {
        let [id, data, name, expected, status, ..] = &row[..] else { panic!("{row:?}") };
        let Some((_, signal)) = signals().into_iter().find(|(known, _)| known == name) else { continue };
        let mut out = Vec::new();
        every_frame(signal).on_frame(&TimedFrame { t: BootNs(1), frame: raw(id, data) }, &mut out);
        let got = out.first().map(|reading| reading.value.map(|value| raw_unit(signal, value.value)));
        let wanted = match status.as_str() {
            "ok" => {
                let value = got.and_then(Result::ok).unwrap_or_else(|| panic!("{row:?}: {got:?}"));
                assert!((value - expected.parse::<f64>().unwrap()).abs() < 1e-9, "{row:?}: {value}");
                got
            }
            "error" => Some(Err(NoData::SensorError)),
            "not_available" => Some(Err(NoData::NotAvailable)),
            "reserved" => Some(Err(NoData::OutOfRange)),
            "no_match" => None,
            other => panic!("{other}"),
        };
        assert_eq!(got, wanted, "{row:?}");
        checked += 1;
    }
    assert!(checked > 100, "{checked}");
}

#[test]
fn two_trucks_are_read_frame_by_frame() {
    for name in ["j1939_truck_standing_60s", "j1939_engine_idle_60s"] {
        let Some(frames) = candump(&format!("can/{name}.log")) else { return };
        let expected = rows(&format!("can/{name}.expected.csv")).unwrap();
        for (label, signal) in signals() {
            let mut sensor = every_frame(signal);
            let mut got = Vec::new();
            for (time, t, frame) in &frames {
                let mut out = Vec::new();
                sensor.on_frame(&TimedFrame { t: *t, frame: frame.clone() }, &mut out);
                assert!(out.iter().all(|reading| reading.t == *t));
                got.extend(out.iter().map(|r| (time.clone(), r.value.map(|value| raw_unit(signal, value.value)))));
            }
            let wanted: Vec<&Vec<String>> = expected.iter().filter(|row| row[1] == label).collect();
            assert_eq!(got.len(), wanted.len(), "{name} {label}");
            for ((time, value), row) in got.iter().zip(wanted) {
                assert_eq!(time, &row[0], "{name} {label}");
                match row[6].as_str() {
                    "ok" => {
                        let value = value.unwrap_or_else(|reason| panic!("{name} {label} {row:?}: {reason:?}"));
                        assert!(
                            (value - row[2].parse::<f64>().unwrap()).abs() < 1e-9,
                            "{name} {label} {row:?}: {value}"
                        );
                    }
                    "not_available" => assert_eq!(*value, Err(NoData::NotAvailable), "{name} {label} {row:?}"),
                    other => panic!("{other}"),
                }
            }
        }
    }
}

/// A frame of a log as the agent has it.
fn frame(raw: &Raw) -> CanFrame {
    CanFrame::new(raw.id, &raw.data).unwrap()
}

#[test]
fn a_wheel_turns_as_fast_as_its_axle_and_what_it_is_told_to_differ() {
    let Some(frames) = candump("can/j1939_truck_standing_60s.log") else { return };
    let mut wheel = every_frame(Signal::Wheel(Wheel::Rear1Right));
    let mut absent = every_frame(Signal::Wheel(Wheel::Rear2Left));
    let (mut out, mut none) = (Vec::new(), Vec::new());
    for (_, t, frame) in frames {
        wheel.on_frame(&TimedFrame { t, frame: frame.clone() }, &mut out);
        absent.on_frame(&TimedFrame { t, frame }, &mut none);
    }
    assert_eq!((out.len(), none.len()), (219, 219));
    assert!(out.iter().all(|r| r.value.unwrap().value == 0.0));
    assert!(none.iter().all(|r| r.value == Err(NoData::NotAvailable)));
}

#[test]
fn the_speed_over_ground_of_a_boat_is_read_of_one_source_at_a_time() {
    let Some(frames) = candump("can/nmea2000_60s.log") else { return };
    let expected = rows("can/nmea2000_60s.expected.csv").unwrap();
    let field = |start| Field::new(start, 16, Order::Intel, Form::Unsigned).unwrap();
    let cases = [("sog", 32, "m/s", 0.01), ("cog", 16, "rad", 1e-4)];
    for (label, start, unit, scale) in cases {
        let unit = Unit::named(unit).unwrap();
        let signal = Signal::Parameter(Parameter { pgn: 129_026, field: field(start), scale, offset: 0.0, unit });
        for (source, count) in [(None, 600), (Some(0x03), 2)] {
            let report = Duration::from_micros(1);
            let mut sensor =
                J1939::new(j1939::Options { signal, source_address: source, report, ..Default::default() });
            let mut out = Vec::new();
            for (_, t, frame) in &frames {
                sensor.on_frame(&TimedFrame { t: *t, frame: frame.clone() }, &mut out);
            }
            let id = if source.is_none() { "09F80296" } else { "09F80203" };
            let wanted: Vec<&Vec<String>> = expected.iter().filter(|row| row[1] == label && row[5] == id).collect();
            assert_eq!((out.len(), wanted.len()), (count, count), "{label} {source:?}");
            for (reading, row) in out.iter().zip(wanted) {
                let value = reading.value.unwrap().value / unit.factor;
                assert!((value - row[2].parse::<f64>().unwrap()).abs() < 1e-9, "{label} {row:?}: {value}");
            }
        }
    }
}

#[test]
fn every_answer_of_a_driven_car_is_read_as_expected() {
    let Some(frames) = candump("can/obd2_drive_545s.log") else { return };
    let expected = rows("can/obd2_drive_545s.expected.csv").unwrap();
    let options = obd2::Options { pids: vec![Pid::SPEED, Pid::ENGINE_SPEED], ask: false, ..Default::default() };
    let mut sensor = Obd2::new(options);
    let mut got = Vec::new();
    for (time, t, raw) in &frames {
        let mut out = Vec::new();
        sensor.on_frame(&TimedFrame { t: *t, frame: frame(raw) }, &mut out);
        got.extend(out.iter().map(|r| (time.clone(), r.channel, r.value.unwrap().value)));
    }
    let wanted: Vec<&Vec<String>> = expected.iter().filter(|row| row[1] != "gnss_speed").collect();
    assert_eq!((got.len(), wanted.len()), (2185, 2185));
    for ((time, channel, value), row) in got.iter().zip(wanted) {
        let (label, value) = if *channel == 0 { ("vehicle_speed", value * 3.6) } else { ("engine_speed", *value) };
        assert_eq!((time.as_str(), label), (row[0].as_str(), row[1].as_str()));
        assert!((value - row[2].parse::<f64>().unwrap()).abs() < 1e-9, "{row:?}: {value}");
    }
}

#[test]
fn every_signal_of_two_dozen_dbc_files_is_read_as_expected() {
    let Some(vectors) = rows("dbc/vectors.csv") else { return };
    let mut files: std::collections::BTreeMap<String, DbcFile> = Default::default();
    let (mut present, mut absent) = (0, 0);
    for row in &vectors {
        let [name, id, payload, signal, expected] = &row[..] else { panic!("{row:?}") };
        let file = files.entry(name.clone()).or_insert_with(|| {
            let bytes = ["css", "opendbc", "cantools"].iter().find_map(|folder| {
                let root = std::env::var_os("SPEEDWELL_DATA")?;
                fs::read(PathBuf::from(root).join("dbc").join(folder).join(name)).ok()
            });
            DbcFile::parse(&bytes.unwrap_or_else(|| panic!("{name}")))
        });
        let number = u32::from_str_radix(id, 16).unwrap();
        let of = file.messages.iter().filter(|m| m.id == number && m.extended == (id.len() == 8));
        let (message, at) = of.filter_map(|m| Some((m, m.signal(signal)?))).next().unwrap_or_else(|| panic!("{row:?}"));
        let bytes: Vec<u8> =
            (0..payload.len()).step_by(2).map(|i| u8::from_str_radix(&payload[i..i + 2], 16).unwrap()).collect();
        match (message.value(at, &bytes), expected.as_str()) {
            (None, "") => absent += 1,
            (Some(value), wanted) if !wanted.is_empty() => {
                let wanted: f64 = wanted.parse().unwrap();
                assert!((value - wanted).abs() <= 1e-9 * wanted.abs() + 1e-12, "{row:?}: {value}");
                present += 1;
            }
            (got, _) => panic!("{row:?}: {got:?}"),
        }
    }
    assert_eq!((present, absent), (2114, 75));
    for (name, file) in files {
        println!(
            "{name}: {} messages, {} lines left out {:?}",
            file.messages.len(),
            file.bad_lines,
            file.complaints.first()
        );
    }
}

#[test]
fn a_truck_that_falls_silent_for_two_seconds_goes_stale_and_comes_back() {
    let Some(frames) = candump("can/j1939_truck_standing_60s.log") else { return };
    let mut sensor = J1939::new(j1939::Options::default());
    let mut out: Vec<Reading> = Vec::new();
    let mut tick = frames[0].1;
    for (_, t, frame) in frames {
        while tick <= t {
            sensor.tick(tick, &mut out);
            tick = tick + Duration::from_millis(100);
        }
        sensor.on_frame(&TimedFrame { t, frame }, &mut out);
    }
    let stale: Vec<f64> =
        out.iter().filter(|r| r.value == Err(NoData::Stale)).map(|r| r.t.0 as f64 / 1e9 - 1_701_364_111.0).collect();
    assert!((14..=17).contains(&stale.len()), "{stale:?}");
    assert!(stale.iter().all(|t| (0.97..2.54).contains(t)), "{stale:?}");
    assert!(out.last().unwrap().value.is_ok());
    // 580 groups at 10 Hz on a 10 Hz report: none is lost to the beat of the two.
    assert!(out.iter().filter(|r| r.value.is_ok()).count() >= 578);
    assert!(out.windows(2).all(|pair| pair[0].t < pair[1].t));
}

#[test]
fn every_rmc_of_eight_receivers_is_read_as_expected() {
    let logs = [
        "bt451",
        "bundg_zeus_9",
        "gp-320fw-2019-04-07-coldboot",
        "haicom-305N",
        "nl2008u",
        "nmea-fuzzy-cases",
        "quectel-eg25-g",
        "skytraq",
    ];
    for log in logs {
        let Some(bytes) = data(&format!("nmea/{log}.log")) else { return };
        let expected = rows(&format!("nmea/{log}.expected.csv")).unwrap();
        // Time is the place in the file: a byte a microsecond, so that a reading names the `$` it came from.
        let latency = Duration::ZERO;
        let options = nmea::Options { report: Duration::from_nanos(1), latency, ..nmea::Options::default() };
        let mut sensor = Nmea::new(options);
        let mut out = Vec::new();
        for (place, byte) in bytes.iter().enumerate() {
            sensor.on_bytes(BootNs(place as u64 * 1000), &[*byte], &mut out);
        }
        let wanted: Vec<&Vec<String>> =
            expected.iter().filter(|row| row[1].ends_with("RMC") && !row[7].ends_with("checksum")).collect();
        assert_eq!(out.len(), wanted.len(), "{log}");
        for (reading, row) in out.iter().zip(wanted) {
            assert_eq!(reading.t.0 / 1000, row[0].parse::<u64>().unwrap(), "{log}");
            match (row[7].as_str(), reading.value) {
                ("ok", Ok(value)) => {
                    let speed: f64 = row[6].parse().unwrap();
                    assert!((value.value - speed).abs() < 1e-6, "{log} {row:?}: {value:?}");
                }
                ("void", Err(NoData::NoFix)) | ("empty", Err(NoData::NotAvailable)) => {}
                _ => panic!("{log} {row:?}: {reading:?}"),
            }
        }
    }
}

#[test]
fn every_solution_of_two_u_blox_receivers_is_read_as_expected() {
    for (log, solutions, good) in [("ublox-neo-m8l", 19, 19), ("navisys-gr8013", 35, 1)] {
        let Some(bytes) = data(&format!("ubx/{log}.log")) else { return };
        let expected = rows(&format!("ubx/{log}.expected.csv")).unwrap();
        // Time is the place in the file, so that a reading names the sync byte it came from.
        let latency = Duration::ZERO;
        let options = ubx::Options { report: Duration::from_nanos(1), latency, ..ubx::Options::default() };
        let mut sensor = Ubx::new(options);
        let mut out = Vec::new();
        for (place, byte) in bytes.iter().enumerate() {
            sensor.on_bytes(BootNs(place as u64 * 1000), &[*byte], &mut out);
        }
        assert_eq!(
            (out.len(), expected.len(), sensor.counters().inputs),
            (solutions, solutions, solutions as u64),
            "{log}"
        );
        for (reading, row) in out.iter().zip(&expected) {
            assert_eq!(reading.t.0 / 1000, row[0].parse::<u64>().unwrap(), "{log}");
            match (row[11].as_str(), reading.value) {
                ("ok", Ok(value)) => {
                    assert!((value.value - row[10].parse::<f64>().unwrap()).abs() < 1e-9, "{log} {row:?}: {value:?}");
                    let accuracy = row[9].parse::<f64>().unwrap() / 1000.0;
                    assert!((value.uncertainty - accuracy).abs() < 1e-9, "{log} {row:?}: {value:?}");
                }
                ("invalid", Err(NoData::NoFix)) => {}
                _ => panic!("{log} {row:?}: {reading:?}"),
            }
        }
        assert_eq!(out.iter().filter(|reading| reading.value.is_ok()).count(), good, "{log}");
    }
}
