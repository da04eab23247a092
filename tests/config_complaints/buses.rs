//! Encoders on I2C and SPI, and the fused speed.

use super::{HEAD, SENSOR, complains, load};

fn fusion(lines: &str, wanted: &str) {
    let rpm = "[[sensor]]\nname = \"engine\"\nkind = \"j1939\"\ninterface = \"can0\"\nsignal = \"engine-speed\"\n";
    let b = SENSOR.replace("\"a\"", "\"b\"");
    complains(&format!("{HEAD}{SENSOR}{b}{rpm}\n[fusion]\n{lines}"), wanted);
}

#[test]
fn a_fusion_of_a_sensor_that_is_not_there_or_has_no_speed_is_told() {
    fusion(
        "sensors = [\"a\", \"front-wheel\"]\n",
        r#"
gateway.toml:23:17: fusion.sensors: there is no sensor "front-wheel"
   |
23 | sensors = ["a", "front-wheel"]
   |                 ^^^^^^^^^^^^^
   = allowed: a, b, engine

1 mistake in gateway.toml"#,
    );
    fusion(
        "sensors = [\"a\", \"engine\"]\n",
        r#"
gateway.toml:23:17: fusion.sensors: "engine" tells no speed in m/s
   |
23 | sensors = ["a", "engine"]
   |                 ^^^^^^^^
   = give it a unit of speed, or leave it out of the list

1 mistake in gateway.toml"#,
    );
}

#[test]
fn a_fusion_of_one_twice_of_one_alone_and_of_none_is_told() {
    fusion(
        "sensors = [\"a\", \"b\", \"a\"]\n",
        r#"
gateway.toml:23:22: fusion.sensors: is named twice
   |
23 | sensors = ["a", "b", "a"]
   |                      ^^^

1 mistake in gateway.toml"#,
    );
    fusion(
        "sensors = [\"a\"]\n",
        r#"
gateway.toml:23:11: fusion.sensors: 1 of them: there is nothing to choose from
   |
23 | sensors = ["a"]
   |           ^^^^^
   = allowed: 2 to 8 names of sensors, the best first

1 mistake in gateway.toml"#,
    );
    fusion(
        "sensors = []\n",
        r#"
gateway.toml:23:11: fusion.sensors: 0 of them: there is nothing to choose from
   |
23 | sensors = []
   |           ^^
   = allowed: 2 to 8 names of sensors, the best first

1 mistake in gateway.toml"#,
    );
    fusion(
        "hold = \"1 s\"\n",
        r#"
gateway.toml:22:1: fusion.sensors: is missing: the best first, as sensors = ["front-wheel", "gnss"]
   |
22 | [fusion]
   | ^^^^^^^^

1 mistake in gateway.toml"#,
    );
}

#[test]
fn a_fusion_with_the_name_of_a_sensor_is_told() {
    fusion(
        "name = \"a\"\nsensors = [\"a\", \"b\"]\n",
        r#"
gateway.toml:23:8: fusion.name: "a" is the name of a sensor already
   |
23 | name = "a"
   |        ^^^

1 mistake in gateway.toml"#,
    );
}

fn encoder(kind: &str, lines: &str, wanted: &str) {
    complains(&format!("{HEAD}[[sensor]]\nname = \"w\"\nkind = \"{kind}\"\n{lines}"), wanted);
}

#[test]
fn an_encoder_without_its_bus_its_way_or_its_pulses_is_told_what_to_write() {
    encoder(
        "as5600",
        "",
        r#"
gateway.toml:8:1: sensor.w.bus: is missing: which I2C bus, as bus = "/dev/i2c-1"
  |
8 | [[sensor]]
  | ^^^^^^^^^^

gateway.toml:8:1: sensor.w.circumference: is missing: the way of a turn of the wheel or roller, as circumference = "1.985 m"; or its tyre
  |
8 | [[sensor]]
  | ^^^^^^^^^^

2 mistakes in gateway.toml"#,
    );
    encoder(
        "ls7366r",
        "bus = \"/dev/spidev0.0\"\ncircumference = \"1 m\"\n",
        r#"
gateway.toml:8:1: sensor.w.pulses-per-turn: is missing: periods of the encoder a turn; the chip counts four in each
  |
8 | [[sensor]]
  | ^^^^^^^^^^

1 mistake in gateway.toml"#,
    );
}

#[test]
fn a_bus_the_board_does_not_have_is_told_with_those_it_has() {
    encoder(
        "as5600",
        "bus = \"i2c-9\"\ncircumference = \"1 m\"\nmax-speed = \"20 km/h\"\n",
        r#"
gateway.toml:11:7: sensor.w.bus: the board rpi-4b has no I2C bus "i2c-9"
   |
11 | bus = "i2c-9"
   |       ^^^^^^^
   = allowed: I2C1

1 mistake in gateway.toml"#,
    );
}

#[test]
fn a_shaft_too_fast_to_be_looked_at_and_looks_that_are_too_few_are_told() {
    encoder(
        "as5600",
        "bus = \"/dev/i2c-1\"\ncircumference = \"0.1 m\"\nmax-speed = \"200 km/h\"\n",
        r#"
gateway.toml:13:13: sensor.w.max-speed: the shaft turns 555.6 times a second at its fastest and would have to be looked at 4444 times; 2000 are possible
   |
13 | max-speed = "200 km/h"
   |             ^^^^^^^^^^
   = lower max-speed, put the encoder on a slower shaft, or count in hardware (kind = "ls7366r")

1 mistake in gateway.toml"#,
    );
    encoder(
        "as5048a",
        "bus = \"/dev/spidev0.0\"\ncircumference = \"1 m\"\nmax-speed = \"36 km/h\"\nlooks = \"50 Hz\"\n",
        r#"
gateway.toml:14:9: sensor.w.looks: 50 looks a second are too few: 8 a turn are
   |
14 | looks = "50 Hz"
   |         ^^^^^^^
   = allowed: 80 Hz to 2 kHz

1 mistake in gateway.toml"#,
    );
}

#[test]
fn one_chip_for_two_sensors_and_keys_of_another_chip_are_told() {
    let lines = "bus = \"/dev/i2c-1\"\ncircumference = \"1 m\"\nmax-speed = \"20 km/h\"\n";
    encoder(
        "as5600",
        &format!("{lines}\n[[sensor]]\nname = \"v\"\nkind = \"as5600\"\n{lines}"),
        r#"
gateway.toml:18:7: sensor.v.bus: the chip on /dev/i2c-1 is read by sensor.w.bus (line 11) already
   |
18 | bus = "/dev/i2c-1"
   |       ^^^^^^^^^^^^

1 mistake in gateway.toml"#,
    );
    encoder(
        "ls7366r",
        "bus = \"/dev/spidev0.0\"\npulses-per-turn = 100\ncircumference = \"1 m\"\nangle = true\n",
        r#"
gateway.toml:14:1: sensor.w.angle: there is no key `angle` here
   |
14 | angle = true
   | ^^^^^
   = `angle` belongs to sensors of kind = "radar", "as5600" or "as5048a"
   = allowed: name, kind, bus, pulses-per-turn, circumference, tyre, gear-ratio, calibration-uncertainty, max-speed, looks, reversed, report, rotational-speed, distance, direction

1 mistake in gateway.toml"#,
    );
    encoder(
        "as5600",
        &format!("{lines}address = 200\n"),
        r#"
gateway.toml:14:11: sensor.w.address: 200 is out of range
   |
14 | address = 200
   |           ^^^
   = allowed: 8 to 119

1 mistake in gateway.toml"#,
    );
}

#[test]
fn two_chips_of_one_bus_with_addresses_of_their_own_are_right() {
    let one = |name: &str, address: u8| {
        format!(
            "[[sensor]]\nname = \"{name}\"\nkind = \"as5600\"\nbus = \"/dev/i2c-1\"\naddress = {address}\n\
             circumference = \"1 m\"\nmax-speed = \"20 km/h\"\ndistance = true\n"
        )
    };
    assert_eq!(load(&format!("{HEAD}{}{}", one("w", 0x36), one("v", 0x40))).expect("right").sensors.len(), 2);
}
