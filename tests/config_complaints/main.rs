//! The complaints about a configuration, as the text a technician reads. Where a text changes, read the new one aloud.

mod buses;

use std::{path::Path, sync::LazyLock};

use speedwell::{
    board::Catalog,
    config::{Config, SensorKind},
};

/// What goes before the sensors, where a test is about a sensor. Seven lines: sensors begin in line 8.
const HEAD: &str = "[gateway]\nid = \"t\"\nboard = \"rpi-4b\"\n\n[broker]\nurl = \"mqtt://localhost\"\n\n";

/// A sensor that is right, where a test is about something else.
const SENSOR: &str = "[[sensor]]\nname = \"a\"\nkind = \"j1939\"\ninterface = \"can0\"\n";

/// Reading all board files takes longer than reading a configuration.
static CATALOG: LazyLock<Catalog> = LazyLock::new(Catalog::built_in);

fn load(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("gateway.toml"), text, &CATALOG).map_err(|c| c.to_string())
}

#[track_caller]
fn complains(text: &str, wanted: &str) {
    let got = load(text).expect_err("this configuration is wrong");
    assert_eq!(got.trim_end(), wanted.trim(), "\n--- got:\n{got}");
}

#[track_caller]
fn hall(lines: &str, wanted: &str) {
    complains(&format!("{HEAD}[[sensor]]\nname = \"w\"\nkind = \"hall\"\n{lines}"), wanted);
}

fn warnings(text: &str) -> String {
    let config = load(text).expect("doubtful is not wrong");
    config.warnings.iter().map(|w| w.render(&config.file)).collect()
}

#[test]
fn every_mistake_of_a_file_is_told_at_once_in_its_order() {
    complains(include_str!("many-mistakes.toml"), include_str!("many-mistakes.txt"));
}

#[test]
fn an_unknown_board_is_told_with_the_nearest_and_all_there_are() {
    let text = format!("{HEAD}{SENSOR}").replace("rpi-4b", "rpi-4");
    complains(
        &text,
        r#"
gateway.toml:3:9: gateway.board: there is no board "rpi-4"
  |
3 | board = "rpi-4"
  |         ^^^^^^^
  = did you mean `rpi-4b`?
  = allowed: beaglebone-black, generic-linux, rpi-3b, rpi-4b, rpi-5, rpi-cm4, rpi-zero-2w, simulated
  = another board is a file of its own in /etc/speedwell/boards, or board = "generic-linux"

1 mistake in gateway.toml"#,
    );
}

#[test]
fn an_unknown_pin_is_told_with_the_nearest() {
    hall(
        "pin = \"GPIO71\"\npulses-per-metre = 24\n",
        r#"
gateway.toml:11:7: sensor.w.pin: the board rpi-4b has no pin "GPIO71"
   |
11 | pin = "GPIO71"
   |       ^^^^^^^^
   = did you mean `GPIO17`?
   = `speedwell boards rpi-4b` shows its pins

1 mistake in gateway.toml"#,
    );
}

#[test]
fn a_reserved_pin_is_told_with_the_reason() {
    hall(
        "pin = \"pin 27\"\npulses-per-metre = 24\n",
        r#"
gateway.toml:11:7: sensor.w.pin: "pin 27" (GPIO0) of the board rpi-4b is reserved: identification EEPROM of an add-on board: the firmware drives it at every start
   |
11 | pin = "pin 27"
   |       ^^^^^^^^
   = `speedwell boards rpi-4b` shows its pins

1 mistake in gateway.toml"#,
    );
}

#[test]
fn a_power_pin_is_no_line() {
    hall(
        "pin = \"P1\"\npulses-per-metre = 24\n",
        r#"
gateway.toml:11:7: sensor.w.pin: "P1" of the board rpi-4b is 3V3, no line
   |
11 | pin = "P1"
   |       ^^^^
   = `speedwell boards rpi-4b` shows its pins

1 mistake in gateway.toml"#,
    );
}

#[test]
fn two_sensors_on_one_pin_are_told_with_both_places_however_the_pin_is_written() {
    let one = "[[sensor]]\nname = \"a\"\nkind = \"hall\"\npin = \"GPIO17\"\npulses-per-metre = 24\n";
    let two = one.replace("\"a\"", "\"b\"").replace("GPIO17", "P11");
    complains(
        &format!("{HEAD}{one}{two}"),
        r#"
gateway.toml:16:7: sensor.b.pin: "P11" is pinctrl-bcm2711 line 17, which sensor.a.pin (line 11) has already
   |
16 | pin = "P11"
   |       ^^^^^

1 mistake in gateway.toml"#,
    );
}

#[test]
fn a_pin_that_a_serial_port_in_use_needs_is_taken() {
    let gnss = "[[sensor]]\nname = \"g\"\nkind = \"nmea\"\nuart = \"UART3\"\n";
    let hall = "[[sensor]]\nname = \"w\"\nkind = \"hall\"\npin = \"GPIO4\"\npulses-per-metre = 24\n";
    complains(
        &format!("{HEAD}{gnss}{hall}"),
        r#"
gateway.toml:15:7: sensor.w.pin: "GPIO4" is pinctrl-bcm2711 line 4, which sensor.g.uart (line 11) has already
   |
15 | pin = "GPIO4"
   |       ^^^^^^^

1 mistake in gateway.toml"#,
    );
}

#[test]
fn two_receivers_on_one_port_are_told() {
    let one = "[[sensor]]\nname = \"g\"\nkind = \"nmea\"\nport = \"/dev/serial0\"\n";
    let two = "[[sensor]]\nname = \"h\"\nkind = \"nmea\"\nuart = \"UART0\"\n";
    complains(
        &format!("{HEAD}{one}{two}"),
        r#"
gateway.toml:15:8: sensor.h.uart: /dev/serial0 is read by sensor.g.port (line 11) already
   |
15 | uart = "UART0"
   |        ^^^^^^^

1 mistake in gateway.toml"#,
    );
}

#[test]
fn a_circumference_in_millimetres_is_seen_through() {
    hall(
        "pin = \"GPIO17\"\npulses-per-turn = 48\ncircumference = \"1985 m\"\n",
        r#"
gateway.toml:13:17: sensor.w.circumference: "1985 m" is no wheel: it looks like millimetres
   |
13 | circumference = "1985 m"
   |                 ^^^^^^^^
   = did you mean circumference = "1985 mm"?
   = allowed: 1 mm to 20 m

1 mistake in gateway.toml"#,
    );
    hall(
        "pin = \"GPIO17\"\npulses-per-turn = 48\ncircumference = 1985\n",
        r#"
gateway.toml:13:17: sensor.w.circumference: 1985 is no wheel: it looks like millimetres
   |
13 | circumference = 1985
   |                 ^^^^
   = did you mean circumference = "1985 mm"?
   = allowed: 1 mm to 20 m

1 mistake in gateway.toml"#,
    );
}

#[test]
fn two_calibrations_that_disagree_are_told_with_both_numbers() {
    let lines = "pin = \"GPIO17\"\npulses-per-turn = 48\ncircumference = \"1.985 m\"\npulses-per-km = 20000\n";
    hall(
        lines,
        r#"
gateway.toml:13:17: sensor.w.circumference: pulses-per-turn with the circumference gives 24.18 pulses a metre, but pulses-per-km gives 20
   |
13 | circumference = "1.985 m"
   |                 ^^^^^^^^^
   = the other is in line 14; keep the one that was measured

1 mistake in gateway.toml"#,
    );
}

#[test]
fn half_a_calibration_names_the_other_half() {
    hall(
        "pin = \"GPIO17\"\npulses-per-turn = 48\n",
        r#"
gateway.toml:8:1: sensor.w: pulses-per-turn alone gives no speed: circumference is missing
  |
8 | [[sensor]]
  | ^^^^^^^^^^
  = give one of: pulses-per-turn with circumference (or tyre), and gear-ratio if the sensor is on a shaft;
  = pulses-per-metre; pulses-per-km; pulses-per-mile; frequency with at-speed

1 mistake in gateway.toml"#,
    );
    hall(
        "pin = \"GPIO17\"\nfrequency = \"16 Hz\"\n",
        r#"
gateway.toml:12:13: sensor.w.frequency: at which speed?
   |
12 | frequency = "16 Hz"
   |             ^^^^^^^
   = say it with at-speed = "100 km/h"

1 mistake in gateway.toml"#,
    );
}

#[test]
fn a_tyre_that_is_no_tyre_is_told() {
    hall(
        "pin = \"GPIO17\"\npulses-per-turn = 48\ntyre = \"80/315\"\n",
        r#"
gateway.toml:13:8: sensor.w.tyre: "80/315" is no size of a radial tyre
   |
13 | tyre = "80/315"
   |        ^^^^^^^^
   = as it stands on the tyre: "315/80R22.5", "205/55 R16"

1 mistake in gateway.toml"#,
    );
}

#[test]
fn a_rate_too_high_for_the_board_is_told_before_anything_runs() {
    let lines = "pin = \"GPIO17\"\nedges = \"both\"\npulses-per-metre = 100\nmax-speed = \"250 km/h\"\n";
    hall(
        lines,
        r#"
gateway.toml:14:13: sensor.w.max-speed: 250 km/h makes 13889 edges a second; the board rpi-4b is good for 10000
   |
14 | max-speed = "250 km/h"
   |             ^^^^^^^^^^
   = lower max-speed, count one edge a pulse (edges = "rising"), or count in hardware

1 mistake in gateway.toml"#,
    );
}

#[test]
fn the_rates_of_all_sensors_of_a_chip_add_up() {
    let one =
        "[[sensor]]\nname = \"a\"\nkind = \"hall\"\npin = \"GPIO17\"\npulses-per-metre = 100\nmax-speed = \"65 m/s\"\n";
    let two = one.replace("\"a\"", "\"b\"").replace("GPIO17", "GPIO27");
    complains(
        &format!("{HEAD}{one}{two}"),
        r#"
gateway.toml:19:13: sensor.b.max-speed: 234 km/h makes 6500 edges a second, 13000 with the others on this chip; the board rpi-4b is good for 10000
   |
19 | max-speed = "65 m/s"
   |             ^^^^^^^^
   = lower max-speed, count one edge a pulse (edges = "rising"), or count in hardware

1 mistake in gateway.toml"#,
    );
}

#[test]
fn a_polled_pin_is_trusted_with_little() {
    let lines = "pin = \"GPIO17\"\nsource = \"polled\"\npulses-per-turn = 48\ncircumference = \"1.985 m\"\nmax-speed = \"130 km/h\"\n";
    hall(
        lines,
        r#"
gateway.toml:15:13: sensor.w.max-speed: 130 km/h makes 873.2 pulses a second; a polled pin is trusted with 250
   |
15 | max-speed = "130 km/h"
   |             ^^^^^^^^^^
   = source = "edges" lets the kernel see every one, or lower max-speed

1 mistake in gateway.toml"#,
    );
}

#[test]
fn what_a_kind_needs_is_named_by_kind() {
    for (kind, wanted) in [
        (
            "hall",
            r#"
gateway.toml:8:1: sensor.w.pin: is missing: where the sensor is connected, as pin = "GPIO17"
  |
8 | [[sensor]]
  | ^^^^^^^^^^

gateway.toml:8:1: sensor.w: how many pulses make a metre is not told
  |
8 | [[sensor]]
  | ^^^^^^^^^^
  = give one of: pulses-per-turn with circumference (or tyre), and gear-ratio if the sensor is on a shaft;
  = pulses-per-metre; pulses-per-km; pulses-per-mile; frequency with at-speed

2 mistakes in gateway.toml"#,
        ),
        (
            "j1939",
            r#"
gateway.toml:8:1: sensor.w.interface: is missing: which CAN interface, as interface = "can0"
  |
8 | [[sensor]]
  | ^^^^^^^^^^

1 mistake in gateway.toml"#,
        ),
        (
            "nmea",
            r#"
gateway.toml:8:1: sensor.w.port: is missing: where the device is, as port = "/dev/ttyACM0" or uart = "UART0"
  |
8 | [[sensor]]
  | ^^^^^^^^^^

1 mistake in gateway.toml"#,
        ),
    ] {
        complains(&format!("{HEAD}[[sensor]]\nname = \"w\"\nkind = \"{kind}\"\n"), wanted);
    }
}

#[test]
fn a_sensor_in_single_brackets_is_told_to_be_a_list() {
    complains(
        &format!("{HEAD}{}", SENSOR.replace("[[sensor]]", "[sensor]")),
        r#"
gateway.toml:8:1: sensor: there can be several sensors, so each is one of a list
  |
8 | [sensor]
  | ^^^^^^^^
  = write [[sensor]], with two brackets

1 mistake in gateway.toml"#,
    );
}

#[test]
fn a_password_in_the_file_is_refused_without_showing_it() {
    let text = format!("{HEAD}{SENSOR}")
        .replace("mqtt://localhost\"", "mqtt://joe:hunter2@localhost\"\npassword = \"hunter2\"");
    complains(
        &text,
        r#"
gateway.toml:6:1: broker.url: a password does not belong in this file, which many can read
  |
6 | url = …
  | ^^^
  = put it into a file of its own: password-file = "/etc/speedwell/password"
  = or into a systemd credential: password-file = "credential:mqtt-password"

gateway.toml:7:1: broker.password: a password does not belong in this file, which many can read
  |
7 | password = …
  | ^^^^^^^^
  = put it into a file of its own: password-file = "/etc/speedwell/password"
  = or into a systemd credential: password-file = "credential:mqtt-password"

2 mistakes in gateway.toml"#,
    );
}

#[test]
fn no_mistake_shows_a_secret() {
    for wrong in [
        "password = hunter2",
        "password = \"hunter2",
        "url = mqtt://joe:hunter2@localhost",
        "url = \"mqtt://joe:hunter2@localhost",
        "pass = 1 \"hunter2\"",
        "[[hunter2]]\npassword = \"hunter2\"",
    ] {
        let text = format!("{HEAD}{SENSOR}").replace("url = ", &format!("{wrong}\nurl = "));
        let got = load(&text).expect_err("wrong");
        let told = got.replace("[hunter2]", "").replace("hunter2: there is no table", "");
        assert!(!told.contains("hunter2"), "{got}");
    }
    let got = load(&format!("{HEAD}{SENSOR}").replace("url = ", "password_file = \"/p\"\nurl = ")).expect_err("wrong");
    assert!(got.contains("did you mean `password-file`?"), "{got}");
}

#[test]
fn a_broker_url_that_is_none_is_told_with_what_is_one() {
    for (url, wanted) in [
        (
            "tcp://broker:1883",
            r#"
gateway.toml:6:7: broker.url: "tcp" is no way to reach a broker
  |
6 | url = "tcp://broker:1883"
  |       ^^^^^^^^^^^^^^^^^^^
  = did you mean `mqtt://broker:1883`?
  = allowed: mqtt://HOST[:PORT], or mqtts://HOST[:PORT] for TLS

1 mistake in gateway.toml"#,
        ),
        (
            "broker.example",
            r#"
gateway.toml:6:7: broker.url: "broker.example" does not begin with mqtt:// or mqtts://
  |
6 | url = "broker.example"
  |       ^^^^^^^^^^^^^^^^
  = allowed: mqtt://HOST[:PORT], or mqtts://HOST[:PORT] for TLS

1 mistake in gateway.toml"#,
        ),
        (
            "mqtt://broker:99999",
            r#"
gateway.toml:6:7: broker.url: "99999" is no port
  |
6 | url = "mqtt://broker:99999"
  |       ^^^^^^^^^^^^^^^^^^^^^
  = allowed: 1 to 65535

1 mistake in gateway.toml"#,
        ),
        (
            "mqtts://broker/speed",
            r#"
gateway.toml:6:7: broker.url: a broker has no path, but "/speed" was read
  |
6 | url = "mqtts://broker/speed"
  |       ^^^^^^^^^^^^^^^^^^^^^^
  = topics are set with topic-prefix
  = allowed: mqtt://HOST[:PORT], or mqtts://HOST[:PORT] for TLS

1 mistake in gateway.toml"#,
        ),
    ] {
        complains(&format!("{HEAD}{SENSOR}").replace("mqtt://localhost", url), wanted);
    }
}

#[test]
fn what_means_nothing_without_tls_is_told() {
    let text =
        format!("{HEAD}{SENSOR}").replace("localhost\"", "localhost\"\nca-file = \"ca.pem\"\nclient-key = \"k.pem\"");
    complains(
        &text,
        r#"
gateway.toml:5:1: broker.client-certificate: is missing: client-key needs its certificate
  |
5 | [broker]
  | ^^^^^^^^

gateway.toml:7:11: broker.ca-file: means nothing without TLS
  |
7 | ca-file = "ca.pem"
  |           ^^^^^^^^
  = the url begins with mqtt://; TLS is mqtts://

gateway.toml:8:14: broker.client-key: means nothing without TLS
  |
8 | client-key = "k.pem"
  |              ^^^^^^^
  = the url begins with mqtt://; TLS is mqtts://

3 mistakes in gateway.toml"#,
    );
}

#[test]
fn bounds_of_the_spool_out_of_their_range_are_told_with_what_is_allowed() {
    complains(
        &format!("{HEAD}[spool]\nlazy = \"1 s\"\nmax-age = \"5 min\"\nwhen-full = \"thinn\"\n{SENSOR}"),
        r#"
gateway.toml:9:8: spool.lazy: "1 s" is out of range
  |
9 | lazy = "1 s"
  |        ^^^^^
  = allowed: 2 s to 10 min

gateway.toml:10:11: spool.max-age: "5 min" is out of range
   |
10 | max-age = "5 min"
   |           ^^^^^^^
   = allowed: 1 h to 87600 h

gateway.toml:11:13: spool.when-full: "thinn" is none of the choices
   |
11 | when-full = "thinn"
   |             ^^^^^^^
   = allowed: drop-oldest, drop-newest, thin
   = did you mean `thin`?

3 mistakes in gateway.toml"#,
    );
}

#[test]
fn a_quantity_without_its_unit_or_with_a_wrong_one_is_told() {
    for (line, wanted) in [
        (
            "max-speed = 130",
            r#"
gateway.toml:13:13: sensor.w.max-speed: a speed with its unit is wanted, the number 130 was read
   |
13 | max-speed = 130
   |             ^^^
   = write the unit too, in quotes, as in max-speed = "130 km/h"
   = units: km/h, m/s, mph, kn, ft/s

1 mistake in gateway.toml"#,
        ),
        (
            "max-speed = \"130 kph\"",
            r#"
gateway.toml:13:13: sensor.w.max-speed: "kph" is no unit of speed
   |
13 | max-speed = "130 kph"
   |             ^^^^^^^^^
   = did you mean `km/h`?
   = units: km/h, m/s, mph, kn, ft/s

1 mistake in gateway.toml"#,
        ),
        (
            "max-speed = \"130\"",
            r#"
gateway.toml:13:13: sensor.w.max-speed: "130" has no unit
   |
13 | max-speed = "130"
   |             ^^^^^
   = as in max-speed = "130 km/h"
   = units: km/h, m/s, mph, kn, ft/s

1 mistake in gateway.toml"#,
        ),
        (
            "report = \"1000 Hz\"",
            r#"
gateway.toml:13:10: sensor.w.report: "1000 Hz" is out of range
   |
13 | report = "1000 Hz"
   |          ^^^^^^^^^
   = allowed: 100 Hz to 60 s

1 mistake in gateway.toml"#,
        ),
    ] {
        hall(&format!("pin = \"GPIO17\"\npulses-per-metre = 2\n{line}\n"), wanted);
    }
}

#[test]
fn a_key_before_the_first_table_is_led_home() {
    complains(
        &format!("id = \"t\"\n{HEAD}{SENSOR}").replacen("[gateway]\nid = \"t\"", "[gateway]", 1),
        r#"
gateway.toml:1:1: id: there is no key `id` here
  |
1 | id = "t"
  | ^^
  = `id` belongs to [gateway]; keys before the first [table] belong to none
  = allowed: [gateway], [broker], [spool], [log], [fusion], [[sensor]]

gateway.toml:2:1: gateway.id: is missing: the gateway's name, as id = "truck-7"
  |
2 | [gateway]
  | ^^^^^^^^^

2 mistakes in gateway.toml"#,
    );
}

#[test]
fn broken_toml_is_told_with_its_place() {
    complains(
        "[gateway]\nid = \"t\nboard = rpi-4b\n",
        r#"
gateway.toml:2:8: this is not TOML: invalid basic string, expected `"`
  |
2 | id = "t
  |        ^

gateway.toml:3:9: this is not TOML: string values must be quoted, expected literal string
  |
3 | board = rpi-4b
  |         ^^^^^^

2 mistakes in gateway.toml"#,
    );
}

#[test]
fn a_file_that_is_not_there_is_told_with_how_to_name_another() {
    let got = Config::load(Path::new("/no/such/gateway.toml"), &Catalog::built_in()).expect_err("there is none");
    let wanted = "\
/no/such/gateway.toml: the configuration cannot be read: No such file or directory (os error 2)
 = name another with --config FILE or SPEEDWELL_CONFIG

1 mistake in /no/such/gateway.toml
";
    assert_eq!(got.to_string(), wanted);
}

#[test]
fn what_is_only_doubtful_is_a_warning() {
    let fast = "[[sensor]]\nname = \"w\"\nkind = \"hall\"\npin = \"GPIO17\"\npulses-per-metre = 48\nmax-speed = \"200 km/h\"\n";
    let got = warnings(&format!("{HEAD}{fast}"));
    let wanted = r#"
gateway.toml:13:13: sensor.w.max-speed: 200 km/h makes 2667 edges a second; above 2000 the board rpi-4b may lose some
   |
13 | max-speed = "200 km/h"
   |             ^^^^^^^^^^
   = losses are found, repaired where the phase allows, and counted"#;
    assert_eq!(got.trim_end(), wanted.trim(), "\n--- got:\n{got}");
    let clear = HEAD.replace("mqtt://localhost\"", "mqtt://broker:8883\"\nuser = \"u\"\npassword-file = \"p\"");
    let got = warnings(&format!("{clear}{SENSOR}"));
    let wanted = r#"
gateway.toml:6:7: broker.url: port 8883 is usually for TLS
  |
6 | url = "mqtt://broker:8883"
  |       ^^^^^^^^^^^^^^^^^^^^
  = did you mean `mqtts://`?
gateway.toml:6:7: broker.url: the password crosses the network in the clear
  |
6 | url = "mqtt://broker:8883"
  |       ^^^^^^^^^^^^^^^^^^^^
  = mqtts:// encrypts it"#;
    assert_eq!(got.trim_end(), wanted.trim(), "\n--- got:\n{got}");
}

#[test]
fn more_complaints_than_anybody_reads_are_counted() {
    let many: String = (0..60).map(|i| format!("x{i} = 1\n")).collect();
    let got = load(&format!("{many}{HEAD}{SENSOR}")).expect_err("60 mistakes");
    assert!(got.ends_with("60 mistakes in gateway.toml; the first 50 are shown\n"), "{got}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,400}") {
        let _ = load(&text);
    }

    #[test]
    fn no_damage_to_the_reference_makes_it_panic(at in 0usize..9000, len in 0usize..40, put in "[\\x20-\\x7eäß€\n]{0,12}") {
        let text: Vec<char> = include_str!("../../config/reference.toml").chars().collect();
        let (start, end) = (at.min(text.len()), (at + len).min(text.len()));
        let damaged: String = text[..start].iter().copied().chain(put.chars()).chain(text[end..].iter().copied()).collect();
        let _ = load(&damaged);
    }
}

#[track_caller]
fn sensor(kind: &str, lines: &str, wanted: &str) {
    complains(&format!("{HEAD}[[sensor]]\nname = \"w\"\nkind = \"{kind}\"\ninterface = \"can0\"\n{lines}"), wanted);
}

#[test]
fn a_dbc_file_without_the_message_or_the_signal_is_told_with_the_nearest() {
    let file = "file = \"config/example.dbc\"\n";
    sensor(
        "dbc",
        &format!("{file}message = \"WheelSpeed\"\nsignal = \"RearLeft\"\n"),
        r#"
gateway.toml:13:11: sensor.w.message: config/example.dbc has no message "WheelSpeed"
   |
13 | message = "WheelSpeed"
   |           ^^^^^^^^^^^^
   = did you mean `WheelSpeeds`?
   = it has WheelSpeeds

1 mistake in gateway.toml"#,
    );
    sensor(
        "dbc",
        &format!("{file}message = \"WheelSpeeds\"\nsignal = \"RearLefft\"\n"),
        r#"
gateway.toml:14:10: sensor.w.signal: WheelSpeeds has no signal "RearLefft"
   |
14 | signal = "RearLefft"
   |          ^^^^^^^^^^^
   = did you mean `RearLeft`?
   = it has FrontLeft, FrontRight, RearLeft, RearRight, Counter

1 mistake in gateway.toml"#,
    );
    sensor(
        "dbc",
        "file = \"no-such.dbc\"\nmessage = \"A\"\nsignal = \"B\"\n",
        r#"
gateway.toml:12:8: sensor.w.file: no-such.dbc: No such file or directory (os error 2)
   |
12 | file = "no-such.dbc"
   |        ^^^^^^^^^^^^^

1 mistake in gateway.toml"#,
    );
}

#[test]
fn two_that_ask_on_one_interface_are_told_to_be_one() {
    let two = "[[sensor]]\nname = \"a\"\nkind = \"obd2\"\ninterface = \"can0\"\n";
    complains(
        &format!("{HEAD}{two}{}signals = [\"engine-sped\"]\n", two.replace("\"a\"", "\"b\"")),
        r#"
gateway.toml:15:13: sensor.b.interface: can0 is asked by sensor.a.interface (line 11) already: give that sensor both signals, signals = ["speed", "engine-speed"]
   |
15 | interface = "can0"
   |             ^^^^^^

gateway.toml:16:12: sensor.b.signals: "engine-sped" is none of the choices
   |
16 | signals = ["engine-sped"]
   |            ^^^^^^^^^^^^^
   = allowed: speed, engine-speed
   = did you mean `engine-speed`?
   = any other value goes by its number: pid, bytes, scale, offset, unit

2 mistakes in gateway.toml"#,
    );
}

#[test]
fn a_place_that_no_frame_has_and_half_of_one_are_told() {
    sensor(
        "j1939",
        "signal = \"parameter\"\npgn = 129026\nstart-bit = 60\nlength = 16\n",
        r#"
gateway.toml:8:1: sensor.w.unit: is missing: what the value is told in, as unit = "km/h"
  |
8 | [[sensor]]
  | ^^^^^^^^^^

1 mistake in gateway.toml"#,
    );
    sensor(
        "j1939",
        "signal = \"parameter\"\npgn = 129026\nstart-bit = 60\nlength = 16\nunit = \"m/s\"\n",
        r#"
gateway.toml:15:10: sensor.w.length: it would end behind the 8 bytes of a frame
   |
15 | length = 16
   |          ^^
   = allowed: 1 to 4

1 mistake in gateway.toml"#,
    );
    sensor(
        "canopen",
        "node = 200\nunit = \"rpm\"\n",
        r#"
gateway.toml:8:1: sensor.w.index: is missing: which object to ask for, as index = 0x606C; or cob-id = 0x181 for process data
  |
8 | [[sensor]]
  | ^^^^^^^^^^

gateway.toml:12:8: sensor.w.node: 200 is out of range
   |
12 | node = 200
   |        ^^^
   = allowed: 1 to 127

2 mistakes in gateway.toml"#,
    );
}

#[test]
fn what_cannot_be_on_a_serial_line_is_told() {
    let serial = |kind: &str, lines: &str, wanted: &str| {
        let head = format!("{HEAD}[[sensor]]\nname = \"w\"\nkind = \"{kind}\"\nport = \"/dev/ttyUSB0\"\n");
        complains(&format!("{head}{lines}"), wanted);
    };
    serial(
        "line",
        "pattern = 'SPD=([0-9.]+)'\nunit = \"km/h\"\n",
        r#"
gateway.toml:12:11: sensor.w.pattern: cannot be used: it has no group named v around the number, as in (?P<v>[0-9.]+)
   |
12 | pattern = 'SPD=([0-9.]+)'
   |           ^^^^^^^^^^^^^^^

1 mistake in gateway.toml"#,
    );
    let other = "\n[[sensor]]\nname = \"v\"\nkind = \"modbus\"\nport = \"/dev/ttyUSB0\"\nbaud = 9600\nslave = 2\n\
                 register = 1\nunit = \"rpm\"\n";
    serial(
        "modbus",
        &format!("slave = 1\nregister = 0\nunit = \"rpm\"\n{other}"),
        r#"
gateway.toml:19:8: sensor.v.port: /dev/ttyUSB0 has other settings in sensor.w
   |
19 | port = "/dev/ttyUSB0"
   |        ^^^^^^^^^^^^^^
   = all devices of a line share its baud, parity, stop-bits and rs485

1 mistake in gateway.toml"#,
    );
}

#[test]
fn more_tokens_for_no_value_than_are_taken_and_seven_bits_for_binary_data_are_told() {
    let head = format!("{HEAD}[[sensor]]\nname = \"w\"\nport = \"/dev/ttyUSB0\"\n");
    let tokens: Vec<String> = (0..17).map(|token| format!("\"{token}\"")).collect();
    let tokens = tokens.join(", ");
    let wanted = format!(
        r#"
gateway.toml:14:98: sensor.w.invalid: 17 tokens; at most 16 are taken
   |
14 | invalid = [{tokens}]
   | {:97}^^^^
   = more are better told apart by the pattern: what it does not match is passed over

1 mistake in gateway.toml"#,
        ""
    );
    let line = format!("kind = \"line\"\npattern = '(?P<v>[0-9]+)'\nunit = \"km/h\"\ninvalid = [{tokens}]\n");
    complains(&format!("{head}{line}"), &wanted);
    let ubx =
        load(&format!("{head}kind = \"ubx\"\ndata-bits = 7\n")).expect_err("its messages are bytes of eight bits");
    assert!(ubx.contains("there is no key `data-bits` here\n"), "{ubx}");
    let modbus = "kind = \"modbus\"\ndata-bits = 7\nslave = 1\nregister = 0\nunit = \"rpm\"\n";
    assert!(load(&format!("{head}{modbus}")).expect_err("as well").contains("there is no key `data-bits` here\n"));
    let nine = load(&format!("{head}kind = \"nmea\"\ndata-bits = 9\n")).expect_err("there are 7 or 8");
    assert!(nine.contains("data-bits: 9 is out of range") && nine.contains("allowed: 7 to 8"), "{nine}");
}

#[test]
fn two_receivers_cannot_both_vouch_for_the_time() {
    let receiver = |name: &str| {
        format!("[[sensor]]\nname = \"{name}\"\nkind = \"nmea\"\nport = \"/dev/tty{name}\"\nclock = true\n")
    };
    complains(
        &format!("{HEAD}{}{}", receiver("a"), receiver("b")),
        r#"
gateway.toml:17:9: sensor.b.clock: sensor.a.clock (line 12) vouches for the time already: one may
   |
17 | clock = true
   |         ^^^^

1 mistake in gateway.toml"#,
    );
    assert!(load(&format!("{HEAD}{}", receiver("a"))).is_ok());
}

#[test]
fn every_serial_sensor_may_be_slow_with_parity_and_two_stop_bits() {
    let more = [
        ("nmea", "data-bits = 7\n", "7E2"),
        ("ubx", "", "8E2"),
        ("radar", "", "8E2"),
        ("modbus", "slave = 1\nregister = 0\nunit = \"rpm\"\n", "8E2"),
        ("line", "data-bits = 7\npattern = '(?P<v>[0-9]+)'\nunit = \"km/h\"\n", "7E2"),
    ];
    for (kind, more, wanted) in more {
        for baud in [300, 600, 1200, 2400, 4800, 1_500_000] {
            let text = format!(
                "{HEAD}[[sensor]]\nname = \"w\"\nkind = \"{kind}\"\nport = \"/dev/ttyUSB0\"\nbaud = {baud}\n\
                 parity = \"even\"\nstop-bits = 2\n{more}"
            );
            let config = load(&text).unwrap_or_else(|complaints| panic!("{complaints}"));
            let settings = match &config.sensors[0].kind {
                SensorKind::Nmea(sensor) => sensor.settings,
                SensorKind::Ubx(sensor) => sensor.settings,
                SensorKind::Radar(sensor) => sensor.settings,
                SensorKind::Modbus(sensor) => sensor.settings,
                SensorKind::Line(sensor) => sensor.settings,
                other => panic!("{other:?}"),
            };
            assert_eq!(
                (settings.baud, settings.bits_a_byte()),
                (baud, if wanted == "7E2" { 11 } else { 12 }),
                "{kind}"
            );
        }
    }
}

#[test]
fn several_modbus_devices_share_a_line() {
    let device = |name: &str, slave: u8| {
        format!(
            "[[sensor]]\nname = \"{name}\"\nkind = \"modbus\"\nport = \"/dev/ttyUSB0\"\nslave = {slave}\nregister = 40001\n\
             unit = \"rpm\"\n"
        )
    };
    let text = format!("{HEAD}{}{}", device("a", 1), device("b", 2));
    assert_eq!(load(&text).expect("right").sensors.len(), 2);
    assert!(warnings(&text).contains("40001 is counted from 0; a manual's 40001 is register 0"), "{}", warnings(&text));
}
