//! The configurations of config/ and the boards of boards/: each one loads, and the reference leaves nothing out.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use speedwell::{
    board::{Catalog, NoPin, PinAt},
    config::{Broker, Config, HallSensor, SensorKind, keys},
};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn example(name: &str) -> Config {
    let path = directory("config").join(name);
    Config::load(&path, &Catalog::built_in()).unwrap_or_else(|complaints| panic!("{complaints}"))
}

fn hall<'c>(config: &'c Config, name: &str) -> &'c HallSensor {
    match &config.sensor(name).expect("the example has it").kind {
        SensorKind::Hall(hall) => hall,
        other => panic!("{other:?} is no hall sensor"),
    }
}

#[test]
fn every_example_loads_without_a_complaint_or_a_doubt() {
    let mut gateways = 0;
    for entry in fs::read_dir(directory("config")).expect("config/ is there") {
        let path = entry.expect("it can be listed").path();
        let name = path.file_name().and_then(|n| n.to_str()).expect("plain names").to_owned();
        // The hub has its own form and its own test.
        if !name.ends_with(".toml") || name == "hub.toml" {
            continue;
        }
        let config = example(&name);
        assert!(config.warnings.is_empty(), "{name}: {:?}", config.warnings);
        gateways += 1;
    }
    assert!(gateways >= 5, "smallest, truck, car, simulated and reference are {gateways}");
}

/// What stands between "```toml" and "```".
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next())
}

#[test]
fn every_sensor_in_the_documents_of_buses_loads() {
    let head = "[gateway]\nid = \"t\"\nboard = \"rpi-4b\"\n[broker]\nurl = \"mqtt://localhost\"\n";
    let mut loaded = 0;
    for name in ["buses.md", "can.md"] {
        let text = fs::read_to_string(directory("docs").join(name)).expect("it is there");
        // A block that goes on from the one before is no sensor of its own; the DBC file is that of the examples.
        for block in blocks(&text).filter(|block| block.starts_with("[[sensor]]")) {
            let block = block.replace("vehicle.dbc", "example.dbc");
            let place = directory("config").join(name);
            let config = Config::parse(&place, &format!("{head}{block}"), &Catalog::built_in());
            let config = config.unwrap_or_else(|complaints| panic!("{name}: {complaints}"));
            assert!(config.warnings.is_empty(), "{name}: {:?}", config.warnings);
            loaded += config.sensors.len();
        }
    }
    assert!(loaded >= 8, "{loaded} sensors");
}

#[test]
fn the_examples_of_the_serial_guide_load_without_a_complaint_or_a_doubt_one_of_each_kind() {
    let guide = fs::read_to_string(directory("docs/serial.md")).expect("it is there");
    let head = "[gateway]\nid = \"t\"\nboard = \"rpi-4b\"\n[broker]\nurl = \"mqtt://192.168.1.10\"\n";
    let mut kinds = Vec::new();
    for example in guide.split("```toml\n").skip(1) {
        let (example, _) = example.split_once("```").expect("it ends");
        let text = format!("{head}{example}");
        let config = Config::parse(Path::new("docs/serial.md"), &text, &Catalog::built_in());
        let config = config.unwrap_or_else(|complaints| panic!("{complaints}"));
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        kinds.extend(config.sensors.iter().map(|sensor| match sensor.kind {
            SensorKind::Nmea(_) => "nmea",
            SensorKind::Ubx(_) => "ubx",
            SensorKind::Modbus(_) => "modbus",
            SensorKind::Radar(_) => "radar",
            SensorKind::Line(_) => "line",
            _ => "another",
        }));
    }
    assert_eq!(kinds, ["nmea", "ubx", "modbus", "radar", "line"]);
}

#[test]
fn the_smallest_example_gets_every_default() {
    let config = example("smallest.toml");
    assert_eq!(config.gateway.id.as_str(), "bench-1");
    assert_eq!((config.broker.tls, config.broker.port), (false, 1883));
    assert_eq!(config.spool.max_size, 2 << 30);
    assert_eq!(config.spool.commit_every, Duration::from_secs(1));
    let wheel = hall(&config, "wheel");
    assert_eq!(wheel.pin.at, PinAt::Line { chip: "pinctrl-bcm2711".into(), offset: 17 });
    assert!((wheel.pulses_per_metre - 48.0 / 1.985).abs() < 1e-9);
    assert!((wheel.max_speed * 3.6 - 200.0).abs() < 1e-9);
    assert_eq!(wheel.report, Duration::from_millis(100));
}

#[test]
fn a_tyre_and_both_edges_make_the_rate_of_the_truck() {
    let config = example("truck.toml");
    let wheel = hall(&config, "trailer-wheel");
    // 385/65R22.5: D = 22.5·25.4 + 2·0.65·385 = 1072 mm, C = 3.05·D = 3.2696 m.
    assert!((wheel.circumference.expect("from the tyre") - 3.2696).abs() < 1e-3);
    let wanted = 2.0 * 8.0 / 3.2696 * 110.0 / 3.6;
    assert!((wheel.max_edge_rate_hz() - wanted).abs() < 0.1, "{}", wheel.max_edge_rate_hz());
}

/// The lines of the reference, `#` of commented-out keys taken off, by the table or kind of sensor they are in.
fn reference_keys() -> Vec<(String, String)> {
    let text = fs::read_to_string(directory("config/reference.toml")).expect("it is there");
    let mut table = String::new();
    let mut keys = Vec::new();
    for line in text.lines() {
        let line = line.trim_start_matches("# ").trim();
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_matches(['[', ']']).to_owned();
        }
        let Some((key, value)) = line.split_once(" = ") else { continue };
        if key == "kind" {
            // The name stands before the kind.
            let name = keys.pop().expect("the name");
            table = format!("sensor {}", value.trim_matches('"'));
            let (_, name): (String, String) = name;
            keys.push((table.clone(), name));
        }
        keys.push((table.clone(), key.to_owned()));
    }
    keys
}

#[test]
fn the_reference_explains_every_key_there_is() {
    let explained = reference_keys();
    for (table, known) in keys::ALL {
        for key in *known {
            let there = explained.iter().any(|(t, k)| t == table && k == key);
            assert!(there, "config/reference.toml does not explain `{key}` of {table}");
        }
    }
}

/// Takes every line with a key out of a table that has a default.
fn without_defaults(text: &str) -> String {
    let required = [
        "id",
        "board",
        "url",
        "name",
        "kind",
        "pin",
        "pin-a",
        "pin-b",
        "pulses-per-turn",
        "circumference",
        "interface",
        "port",
        "bus",
        "sensors",
        "file",
        "message",
        "signal",
        "node",
        "index",
        "unit",
        "slave",
        "register",
        "pattern",
    ];
    let keep = |line: &&str| {
        let key = line.split(" = ").next().unwrap_or_default();
        line.starts_with('[') || required.contains(&key)
    };
    text.lines().filter(keep).map(|line| format!("{line}\n")).collect()
}

#[test]
fn what_the_reference_shows_as_defaults_are_the_defaults() {
    let path = directory("config/reference.toml");
    let text = fs::read_to_string(&path).expect("it is there");
    let short = without_defaults(&text);
    assert!(short.len() < 2600, "only what has no default is left:\n{short}");
    let bare = Config::parse(&path, &short, &Catalog::built_in()).unwrap_or_else(|c| panic!("{c}"));
    assert_eq!(bare, example("reference.toml"));
}

#[test]
fn relative_paths_are_taken_from_the_directory_of_the_file() {
    let text = fs::read_to_string(directory("config/smallest.toml")).expect("it is there");
    let text = text
        .replace("[[sensor]]", "password-file = \"secret\"\nuser = \"u\"\n[spool]\ndirectory = \"spool\"\n[[sensor]]");
    let config = Config::parse(Path::new("/etc/speedwell/g.toml"), &text, &Catalog::built_in()).expect("right");
    assert_eq!(config.spool.directory, Path::new("/etc/speedwell/spool"));
    let Broker { password: Some(secret), .. } = config.broker else { panic!("there is a password") };
    assert_eq!(secret.path(), Some("/etc/speedwell/secret".into()));
}

#[test]
fn every_board_file_is_a_board_and_its_name_is_the_files() {
    let catalog = Catalog::built_in();
    let mut files: Vec<String> = fs::read_dir(directory("boards"))
        .expect("boards/ is there")
        .map(|e| e.expect("listed").path().file_stem().and_then(|s| s.to_str()).expect("plain").to_owned())
        .collect();
    files.sort();
    assert_eq!(catalog.names(), files);
    for name in
        ["rpi-zero-2w", "rpi-3b", "rpi-4b", "rpi-5", "rpi-cm4", "beaglebone-black", "generic-linux", "simulated"]
    {
        assert!(catalog.board(name).is_some(), "{name}");
    }
}

#[test]
fn pins_of_the_40_pin_header_are_the_same_lines_on_every_raspberry_pi() {
    let catalog = Catalog::built_in();
    let labels = [
        ("rpi-zero-2w", "pinctrl-bcm2835"),
        ("rpi-3b", "pinctrl-bcm2835"),
        ("rpi-4b", "pinctrl-bcm2711"),
        ("rpi-cm4", "pinctrl-bcm2711"),
        ("rpi-5", "pinctrl-rp1"),
    ];
    for (name, label) in labels {
        let board = catalog.board(name).expect(name);
        let header: Vec<_> = board.pins.iter().filter(|p| p.at.is_some()).collect();
        assert_eq!(header.len(), 40, "{name}");
        assert_eq!(header.iter().filter(|p| p.line.is_some()).count(), 28, "{name}");
        for written in ["P11", "pin 11", "GPIO17", "gpio17", &format!("{label}:17")] {
            let at = PinAt::Line { chip: label.into(), offset: 17 };
            assert_eq!(board.resolve(written).map(|p| p.at), Ok(at), "{name} {written}");
        }
        assert!(matches!(board.resolve("GPIO1"), Err(NoPin::Reserved { .. })), "{name}");
        assert!(matches!(board.resolve("GPIO50"), Err(NoPin::Reserved { .. })), "{name}");
        assert_eq!(board.resolve("GPIO99"), Err(NoPin::Unknown), "{name}");
    }
}

#[test]
fn pins_of_the_beaglebone_are_found_by_the_names_the_kernel_gives_them() {
    let catalog = Catalog::built_in();
    let board = catalog.board("beaglebone-black").expect("built in");
    for written in ["P9_12", "GPIO1_28"] {
        assert_eq!(board.resolve(written).map(|p| p.at), Ok(PinAt::Named("P9_12".into())), "{written}");
    }
    assert!(matches!(board.resolve("P8_3"), Err(NoPin::Reserved { .. })), "eMMC");
    assert!(matches!(board.resolve("P8_45"), Err(NoPin::Reserved { .. })), "HDMI");
    assert!(matches!(board.resolve("P9_1"), Err(NoPin::Power(_))));
    assert_eq!(board.chip_label(&PinAt::Named("P9_12".into())).as_deref(), Some("gpio-32-63"));
}

#[test]
fn any_line_of_a_generic_board_can_be_named_and_wrong_offsets_of_known_chips_are_told() {
    let catalog = Catalog::built_in();
    let generic = catalog.board("generic-linux").expect("built in");
    let at = PinAt::Line { chip: "gpio-sim.0-node0".into(), offset: 3 };
    assert_eq!(generic.resolve("gpio-sim.0-node0:3").map(|p| p.at), Ok(at));
    assert_eq!(generic.resolve("WHEEL_A").map(|p| p.at), Ok(PinAt::Named("WHEEL_A".into())));
    let pi = catalog.board("rpi-4b").expect("built in");
    let wanted = NoPin::NoSuchOffset { chip: "pinctrl-bcm2711".into(), lines: 58 };
    assert_eq!(pi.resolve("pinctrl-bcm2711:58"), Err(wanted));
}

#[test]
fn a_spare_pin_is_plain_free_and_on_the_same_chip() {
    let text = fs::read_to_string(directory("config/smallest.toml")).expect("it is there");
    let second = "[[sensor]]\nname = \"b\"\nkind = \"hall\"\npin = \"GPIO26\"\npulses-per-metre = 5\n";
    let path = Path::new("g.toml");
    let config = Config::parse(path, &format!("{text}\n{second}"), &Catalog::built_in()).expect("right");
    let spare = |name| hall(&config, name).audit_pin.as_ref().map(|p| p.written.clone());
    // GPIO26 is a sensor's, and what is left is not given twice.
    assert_eq!(spare("wheel").as_deref(), Some("GPIO6"));
    assert_eq!(spare("b").as_deref(), Some("GPIO5"));
    let polled = text.replace("GPIO17\"", "GPIO17\"\nsource = \"polled\"\nmax-speed = \"5 km/h\"");
    let config = Config::parse(path, &polled, &Catalog::built_in()).unwrap_or_else(|c| panic!("{c}"));
    assert_eq!(hall(&config, "wheel").audit_pin, None);
}

#[test]
fn a_board_file_in_a_directory_makes_a_board_and_replaces_one_of_its_name() {
    let there = tempfile::tempdir().expect("a directory");
    let board = "title = \"Ours\"\nsupported-rate-hz = 10\nbest-effort-rate-hz = 20\n";
    fs::write(there.path().join("ours.toml"), board).expect("written");
    fs::write(there.path().join("rpi-4b.toml"), board).expect("written");
    fs::write(there.path().join("broken.toml"), "title = 1\n").expect("written");
    let (catalog, problems) = Catalog::search(&[there.path().to_owned()]);
    assert_eq!(catalog.board("ours").map(|b| b.title.as_str()), Some("Ours"));
    assert_eq!(catalog.board("rpi-4b").map(|b| b.title.as_str()), Some("Ours"));
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert!(problem.to_string().contains("broken.toml: TOML parse error at line 1"), "{problem}");
}
