//! What a configuration says, as a table a technician compares with the vehicle.

use std::{path::Path, time::Duration};

use speedwell::{
    board::{Board, LineSettings, Parity, Pin},
    config::{
        Config, Confirm, Encoding, HallSensor, J1939Signal, PulseSource, Sensor, SensorKind, WhenFull, polled_limit_hz,
        significant,
    },
    sensor::{canopen, modbus::Options, obd2::Target, shaft::Chip},
};

/// A speed everybody can drive, to compare a frequency at.
const COMPARE_AT_KMH: f64 = 50.0;

/// Gateway, broker, spool, then a line or more a sensor.
pub(super) fn summary(config: &Config) -> String {
    let Config { gateway, broker, spool, .. } = config;
    let scheme = if broker.tls { "mqtts" } else { "mqtt" };
    let confirmed = match broker.confirm {
        Confirm::Hub => "confirmed by the hub",
        Confirm::Broker => "confirmed by the broker",
    };
    let encoding = match broker.encoding {
        Encoding::Postcard => "postcard",
        Encoding::Json => "JSON",
    };
    let full = match spool.when_full {
        WhenFull::DropOldest => "then the oldest go",
        WhenFull::DropNewest => "then nothing more is taken",
        WhenFull::Thin => "then the oldest are thinned",
    };
    let mut text = format!("gateway  {} on {} ({})\n", gateway.id, gateway.board.title, gateway.board.name);
    let host = if broker.host.contains(':') { format!("[{}]", broker.host) } else { broker.host.clone() };
    text += &format!("broker   {scheme}://{host}:{}, {confirmed}, {encoding}\n", broker.port);
    text += &format!(
        "spool    {}, at most {}, {full}; {}{}\n\n",
        spool.directory.display(),
        bytes(spool.max_size),
        match spool.lazy {
            Some(lazy) => format!("written when not confirmed within {}", duration(lazy)),
            None => format!("safe on disk every {}", duration(spool.commit_every)),
        },
        spool.max_age.map_or_else(String::new, |age| format!("; given up at an age of {}", duration(age)))
    );
    let width = config.sensors.iter().map(|s| s.name.len()).max().unwrap_or(0);
    for sensor in &config.sensors {
        let mut name = sensor.name.as_str();
        for line in told(sensor, &gateway.board) {
            text += &format!("{name:width$}  {line}\n");
            name = "";
        }
    }
    if let Some(fusion) = &config.fusion {
        let (hold, back) = (duration(fusion.hold), duration(fusion.back_after));
        text += &format!("{:width$}  fused from {}\n", fusion.name, fusion.sensors.join(", else "));
        text += &format!("{:width$}  the next after {hold} without a value, back after {back}\n", "");
    }
    text
}

/// What is connected where, how often it reports, and what to expect of it.
fn told(sensor: &Sensor, board: &Board) -> Vec<String> {
    match &sensor.kind {
        SensorKind::Hall(hall) => {
            let mut lines = vec![format!("{}, reports {}", pin(hall, board), rate(hall.report))];
            lines.extend(expect_hall(hall, board));
            lines
        }
        SensorKind::J1939(j1939) => {
            let signal = signal(&j1939.signal);
            let from = j1939.source_address.map_or(String::new(), |a| format!(" from address {a}"));
            vec![
                format!("CAN {}, reports {}", j1939.interface, rate(j1939.report)),
                format!("{signal}{from}; no value after {} of silence", duration(j1939.timeout)),
            ]
        }
        SensorKind::Obd2(obd2) => {
            let asked: Vec<String> =
                obd2.pids.iter().map(|pid| format!("{:02X} ({})", pid.pid, pid.unit.word)).collect();
            let whom = match obd2.target {
                Target::All => "every control unit".to_owned(),
                Target::One(unit) => format!("control unit {unit}"),
            };
            vec![
                format!("CAN {}, asks {whom} at {}", obd2.interface, rate(obd2.report)),
                format!("PID {}; no value after {} of silence", asked.join(", "), duration(obd2.timeout)),
            ]
        }
        SensorKind::Dbc(dbc) => {
            let (options, message) = (&dbc.options, &dbc.options.message);
            let signal = message.signals.get(options.signal).map_or("", |signal| signal.name.as_str());
            vec![
                format!("CAN {}, reports {}", dbc.interface, rate(options.report)),
                format!(
                    "{signal} of {} ({:X}) in {}; no value after {} of silence",
                    message.name,
                    message.id,
                    options.unit.word,
                    duration(options.timeout)
                ),
            ]
        }
        SensorKind::CanOpen(canopen) => {
            let options = &canopen.options;
            let what = match options.source {
                canopen::Source::Sdo { index, sub, .. } => format!("asked for object {index:04X}:{sub:02X}"),
                canopen::Source::Tpdo { cob_id, .. } => format!("process data {cob_id:X}"),
            };
            vec![
                format!("CAN {}, node {}, reports {}", canopen.interface, options.node, rate(options.report)),
                format!("{what} in {}; no value after {} of silence", options.unit.word, duration(options.timeout)),
            ]
        }
        SensorKind::Modbus(modbus) => {
            let Options { slave, table, register, format, unit, report, timeout, .. } = modbus.options;
            let silence = duration(timeout);
            vec![
                format!("{}, slave {slave}, asked at {}", line(&modbus.port, &modbus.settings), rate(report)),
                format!(
                    "{table:?} register {register} ({format:?}) in {}; no value after {silence} of silence",
                    unit.word
                ),
            ]
        }
        SensorKind::Radar(radar) => vec![
            format!("{}, reports {}", line(&radar.port, &radar.settings), rate(radar.options.report)),
            format!(
                "radar at {} degrees; no value after {} of silence",
                significant(radar.options.angle.to_degrees()),
                duration(radar.options.timeout)
            ),
        ],
        SensorKind::Line(text) => vec![
            format!("{}, reports {}", line(&text.port, &text.settings), rate(text.options.report)),
            format!(
                "{} in {}; no value after {} of silence",
                text.options.pattern.as_str(),
                text.options.unit.word,
                duration(text.options.timeout)
            ),
        ],
        SensorKind::Ubx(ubx) => vec![
            format!("{}, reports {}", line(&ubx.port, &ubx.settings), rate(ubx.options.report)),
            format!("UBX-NAV-PVT; no value after {} of silence", duration(ubx.options.timeout)),
        ],
        SensorKind::Encoder(encoder) => {
            let (wish, options) = (&encoder.wish, &encoder.options);
            let looks = significant(1.0 / wish.every.as_secs_f64());
            let at = match wish.chip {
                Chip::As5600 => format!("{:#04x} of {}", wish.address, wish.device.display()),
                Chip::As5048a | Chip::Ls7366r => wish.device.display().to_string(),
            };
            vec![
                format!(
                    "{} at {at}, looked at {looks} times a second, reports {}",
                    wish.chip.word(),
                    rate(options.report)
                ),
                format!(
                    "{} counts a turn, at most {} turns/s",
                    options.counts_per_turn,
                    significant(options.max_turns)
                ),
            ]
        }
        SensorKind::Nmea(nmea) => vec![
            format!("{}, reports {}", line(&nmea.port, &nmea.settings), rate(nmea.report)),
            format!("RMC sentences; no value after {} of silence", duration(nmea.timeout)),
        ],
    }
}

/// A serial line as people write it: `/dev/ttyUSB0 at 19200 8E1`.
fn line(port: &Path, settings: &LineSettings) -> String {
    let parity = match settings.parity {
        Parity::None => 'N',
        Parity::Even => 'E',
        Parity::Odd => 'O',
    };
    let stop = if settings.two_stop_bits { 2 } else { 1 };
    let data = if settings.seven_data_bits { 7 } else { 8 };
    format!("{} at {} {data}{parity}{stop}", port.display(), settings.baud)
}

/// A signal of a truck's bus, with its number.
fn signal(signal: &J1939Signal) -> String {
    match signal {
        J1939Signal::WheelBasedSpeed => "wheel-based speed, SPN 84".into(),
        J1939Signal::TachographSpeed => "tachograph speed, SPN 1624".into(),
        J1939Signal::FrontAxleSpeed => "front axle speed, SPN 904".into(),
        // SPN 905 to 910, in the order of the wheels.
        J1939Signal::Wheel(wheel) => format!("speed of one wheel, SPN {}", 905 + *wheel as u16),
        J1939Signal::EngineSpeed => "engine speed, SPN 190".into(),
        J1939Signal::Parameter(parameter) => {
            format!("{} bits of PGN {} in {}", parameter.field.bits(), parameter.pgn, parameter.unit.word)
        }
    }
}

fn pin(hall: &HallSensor, board: &Board) -> String {
    let named = |pin: &Pin| {
        let known = board.pin_at(&pin.at);
        let line = known.and_then(|p| p.line.clone()).unwrap_or_else(|| pin.written.clone());
        let at = known.and_then(|p| p.at.clone()).filter(|at| *at != line);
        at.map_or(line.clone(), |at| format!("{line} ({at})"))
    };
    let beside = hall.audit_pin.as_ref().map_or(String::new(), |p| format!(" with {} beside it", p.written));
    match &hall.second {
        Some(second) => format!("{} and {}: {} and {}", named(&hall.pin), named(second), hall.pin.at, second.at),
        None => format!("{}: {}{beside}", named(&hall.pin), hall.pin.at),
    }
}

/// Pulses a metre in the other ways people know it, the frequency at a speed to compare with, and whether it will do.
fn expect_hall(hall: &HallSensor, board: &Board) -> Vec<String> {
    let k = hall.pulses_per_metre;
    let most = hall.max_edge_rate_hz();
    let verdict = if hall.source == PulseSource::Polled {
        format!("OK for a polled pin (up to {} pulses/s)", significant(polled_limit_hz()))
    } else if most <= board.supported_rate_hz {
        "OK for GPIO edges".to_owned()
    } else {
        "best effort for GPIO edges".to_owned()
    };
    let turn = match (hall.pulses_per_turn, hall.circumference) {
        (Some(pulses), Some(metres)) => format!(", {pulses} a turn of {} m", significant(metres)),
        (Some(pulses), None) => format!(", {pulses} a turn"),
        _ => String::new(),
    };
    vec![
        format!("{} pulses/m, {}/km{turn}", significant(k), significant(k * 1000.0)),
        format!("at {COMPARE_AT_KMH} km/h you should see {} Hz", significant(k * COMPARE_AT_KMH / 3.6)),
        format!("at most {} edges/s, at {} km/h: {verdict}", significant(most), significant(hall.max_speed * 3.6)),
    ]
}

/// A period as the rate people say, or as a time when it is slower than once a second.
fn rate(period: Duration) -> String {
    let seconds = period.as_secs_f64();
    if seconds <= 1.0 { format!("{} Hz", significant(1.0 / seconds)) } else { format!("every {}", duration(period)) }
}

fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 1.0 => format!("{} ms", significant(s * 1000.0)),
        s => format!("{} s", significant(s)),
    }
}

/// Bytes in the largest unit that leaves a readable number.
pub(super) fn bytes(n: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, size)| n >= *size) {
        Some((unit, size)) => format!("{} {unit}", significant(n as f64 / *size as f64)),
        None => format!("{n} B"),
    }
}

/// Columns side by side, the last one as long as it likes.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths: [usize; N] = head.map(|h| h.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let mut text = String::new();
        for (i, cell) in cells.iter().enumerate() {
            let pad = if i + 1 == N { 0 } else { widths[i] - cell.chars().count() + 2 };
            text += cell;
            text += &" ".repeat(pad);
        }
        text.trim_end().to_owned() + "\n"
    };
    let mut text = line(head.to_vec());
    for row in rows {
        text += &line(row.iter().map(String::as_str).collect());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use speedwell::board::Catalog;

    use super::*;

    #[test]
    fn the_summary_tells_what_to_expect_of_each_sensor() {
        let text = include_str!("../../config/reference.toml").replace("200 km/h", "130 km/h");
        let config =
            Config::parse(Path::new("config/g.toml"), &text, &Catalog::built_in()).expect("the reference is right");
        let wanted = "\
gateway  truck-7 on Raspberry Pi 4 Model B (rpi-4b)
broker   mqtts://broker.example:8883, confirmed by the hub, postcard
spool    /var/lib/speedwell/spool, at most 2 GiB, then the oldest go; safe on disk every 1 s

front-wheel  GPIO17 (P11): pinctrl-bcm2711 line 17 with GPIO26 beside it, reports 10 Hz
             24.18 pulses/m, 24181/km, 48 a turn of 1.985 m
             at 50 km/h you should see 335.9 Hz
             at most 873.2 edges/s, at 130 km/h: OK for GPIO edges
drum         GPIO23 (P16) and GPIO24 (P18): pinctrl-bcm2711 line 23 and pinctrl-bcm2711 line 24, reports 10 Hz
             2.5 pulses/m, 2500/km, 5 a turn of 2 m
             at 50 km/h you should see 34.72 Hz
             at most 361.1 edges/s, at 130 km/h: OK for GPIO edges
ecu-speed    CAN can0, reports 10 Hz
             wheel-based speed, SPN 84; no value after 500 ms of silence
car-speed    CAN can1, asks every control unit at 2 Hz
             PID 0D (km/h); no value after 2 s of silence
rear-left    CAN can0, reports 10 Hz
             RearLeft of WheelSpeeds (190) in km/h; no value after 60 ms of silence
spindle      CAN can1, node 5, reports 10 Hz
             asked for object 606C:00 in rpm; no value after 500 ms of silence
gnss         /dev/ttyACM0 at 9600 8N1, reports 10 Hz
             RMC sentences; no value after 3 s of silence
gnss-2       /dev/ttyACM1 at 38400 8N1, reports 10 Hz
             UBX-NAV-PVT; no value after 3 s of silence
feed-roll    /dev/ttyUSB0 at 19200 8E1, slave 3, asked at 2 Hz
             Holding register 0 (U16) in rpm; no value after 2 s of silence
over-ground  /dev/ttyACM2 at 19200 8N1, reports 10 Hz
             radar at 0 degrees; no value after 1 s of silence
display      /dev/ttyUSB1 at 9600 8N1, reports 10 Hz
             SPD=(?P<v>[-0-9.]+) in km/h; no value after 2 s of silence
roller       as5600 at 0x36 of /dev/i2c-1, looked at 920 times a second, reports 10 Hz
             4096 counts a turn, at most 115 turns/s
arm          as5048a at /dev/spidev0.0, looked at 240.7 times a second, reports 10 Hz
             16384 counts a turn, at most 30.09 turns/s
belt         ls7366r at /dev/spidev0.1, looked at 100 times a second, reports 10 Hz
             4096 counts a turn, at most 72.22 turns/s
speed        fused from front-wheel, else ecu-speed, else gnss
             the next after 1 s without a value, back after 5 s
";
        let got = summary(&config);
        assert_eq!(got, wanted, "\n{got}");
    }

    #[test]
    fn bytes_are_shown_in_the_unit_that_fits() {
        assert_eq!(bytes(2 << 30), "2 GiB");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(12), "12 B");
    }
}
