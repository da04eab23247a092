//! Looks whether what a configuration names is there and may be used, without taking any of it.

use std::{
    fmt, fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
    time::Duration,
};

use rustix::fs::Access;
use speedwell::{
    config::{Config, EncoderSensor, SensorKind},
    sensor::{canopen, shaft::Chip},
    uplink,
};

use super::{Exit, can};

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) mark: Mark,
    /// What was looked at and how it is.
    pub(super) text: String,
    /// What to do about it.
    pub(super) advice: Option<String>,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// As it should be.
    Good,
    /// Will run, but look at it.
    Doubt,
    /// Will not work, with the code to end with.
    Bad(Exit),
}

impl Finding {
    pub(super) fn good(text: impl Into<String>) -> Finding {
        Finding { mark: Mark::Good, text: text.into(), advice: None }
    }

    pub(super) fn doubt(text: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { mark: Mark::Doubt, text: text.into(), advice: Some(advice.into()) }
    }

    pub(super) fn bad(exit: Exit, text: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { mark: Mark::Bad(exit), text: text.into(), advice: Some(advice.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.mark {
            Mark::Good => "ok   ",
            Mark::Doubt => "look ",
            Mark::Bad(_) => "FAIL ",
        };
        writeln!(f, "{mark} {}", self.text)?;
        match &self.advice {
            Some(advice) => writeln!(f, "      {advice}"),
            None => Ok(()),
        }
    }
}

/// The code to end with: what has to be mended first.
pub(super) fn exit(findings: &[Finding]) -> Exit {
    let order = [Exit::Config, Exit::Permission, Exit::Spool, Exit::Unavailable, Exit::NoInput, Exit::Io];
    let bad = |exit: &Exit| findings.iter().any(|f| f.mark == Mark::Bad(*exit));
    order.into_iter().find(bad).unwrap_or(Exit::Fine)
}

/// Looks at CAN interfaces, serial ports and the devices of other buses.
pub(super) fn buses(config: &Config) -> Vec<Finding> {
    let mut findings: Vec<Finding> = interfaces(config).map(|(name, asks)| can::look(name, asks)).collect();
    for sensor in &config.sensors {
        let finding = match &sensor.kind {
            SensorKind::Modbus(modbus) => serial(&modbus.port),
            SensorKind::Radar(radar) => serial(&radar.port),
            SensorKind::Line(line) => serial(&line.port),
            SensorKind::Ubx(ubx) => serial(&ubx.port),
            SensorKind::Nmea(nmea) => serial(&nmea.port),
            SensorKind::Encoder(encoder) => bus(encoder),
            _ => continue,
        };
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

/// The CAN interfaces, each once, and whether a sensor on it has to ask.
fn interfaces(config: &Config) -> impl Iterator<Item = (&str, bool)> {
    let mut found: Vec<(&str, bool)> = Vec::new();
    for sensor in &config.sensors {
        let (name, asks) = match &sensor.kind {
            SensorKind::J1939(j1939) => (&j1939.interface, false),
            SensorKind::Obd2(obd2) => (&obd2.interface, true),
            SensorKind::Dbc(dbc) => (&dbc.interface, false),
            SensorKind::CanOpen(node) => (&node.interface, matches!(node.options.source, canopen::Source::Sdo { .. })),
            _ => continue,
        };
        match found.iter_mut().find(|(known, _)| known == name) {
            Some((_, also)) => *also |= asks,
            None => found.push((name, asks)),
        }
    }
    found.into_iter()
}

pub(super) fn serial(port: &Path) -> Finding {
    let what = format!("serial port {}", port.display());
    match fs::metadata(port) {
        Ok(meta) if !meta.file_type().is_char_device() => {
            Finding::bad(Exit::Unavailable, format!("{what} is no device"), "name the device itself, as /dev/ttyAMA0")
        }
        Ok(_) => match access(port, Access::READ_OK | Access::WRITE_OK) {
            Ok(()) => Finding::good(format!("{what} is there")),
            Err(error) => cannot_open(&what, port, &error, "dialout"),
        },
        Err(error) => cannot_open(&what, port, &error, "dialout"),
    }
}

/// The device of an I2C or SPI bus.
fn bus(encoder: &EncoderSensor) -> Finding {
    let (device, group) = match encoder.wish.chip {
        Chip::As5600 => (&encoder.wish.device, "i2c"),
        Chip::As5048a | Chip::Ls7366r => (&encoder.wish.device, "spi"),
    };
    let what = format!("bus {}", device.display());
    match access(device, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => Finding::good(format!("{what} is there")),
        Err(error) => cannot_open(&what, device, &error, group),
    }
}

pub(super) fn access(path: &Path, how: Access) -> io::Result<()> {
    // With the effective user, as an open would be: a service may have changed it.
    rustix::fs::accessat(rustix::fs::CWD, path, how, rustix::fs::AtFlags::EACCESS).map_err(io::Error::from)
}

/// A device that cannot be opened, with the group that may.
pub(super) fn cannot_open(what: &str, path: &Path, error: &io::Error, usual_group: &str) -> Finding {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let group = group_of(path);
            let advice = match group.as_deref() {
                // Without a rule of udev a device belongs to root alone, and no group helps.
                Some("root") => format!(
                    "only root may: give {} to the group {usual_group} with a rule of udev, and add the user to it",
                    path.display()
                ),
                group => {
                    let group = group.unwrap_or(usual_group);
                    format!("add the user to the group {group} (`usermod -aG {group} USER`), then log in again")
                }
            };
            Finding::bad(Exit::Permission, format!("{what}: permission denied"), advice)
        }
        io::ErrorKind::NotFound => Finding::bad(
            Exit::Unavailable,
            format!("{what} is not there"),
            "is it plugged in, and enabled on the board? `speedwell boards BOARD` says how",
        ),
        _ => Finding::bad(Exit::Io, format!("{what}: {error}"), "`dmesg` may say more"),
    }
}

/// Name of the group a file belongs to.
fn group_of(path: &Path) -> Option<String> {
    let gid = fs::metadata(path).ok()?.gid();
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id == gid.to_string()).then(|| name.to_owned())
    })
}

/// How long a broker may take to accept.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Whether the broker accepts this gateway: name, way, TLS, certificate, login, all as the agent would do it, under a
/// client id of its own so that a running agent is not thrown off.
pub(super) fn online(config: &Config) -> Finding {
    let mut options = config.uplink_options();
    options.times.connect = ANSWER_WITHIN;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Finding::bad(Exit::Io, format!("the system gives no event loop: {error}"), "try again"),
    };
    let tried = runtime.block_on(uplink::probe(&options));
    // A name that is still being looked up holds a thread for half a minute: nobody waits for that.
    runtime.shutdown_background();
    match tried {
        Ok(()) => Finding::good(format!("broker {}:{} accepts this gateway", options.host, options.port)),
        Err(fault) => Finding::bad(Exit::Unavailable, fault.to_string(), fault.remedy()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_port_that_may_not_be_opened_names_the_group() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let finding = cannot_open("serial port /no/ttyACM0", Path::new("/no/ttyACM0"), &denied, "dialout");
        let wanted = "\
FAIL  serial port /no/ttyACM0: permission denied
      add the user to the group dialout (`usermod -aG dialout USER`), then log in again
";
        assert_eq!(finding.to_string(), wanted);
        assert_eq!(finding.mark, Mark::Bad(Exit::Permission));
    }

    #[test]
    fn a_device_that_only_root_may_open_asks_for_a_rule() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let finding = cannot_open("GPIO chip", Path::new("/proc/version"), &denied, "gpio");
        let wanted = "only root may: give /proc/version to the group gpio with a rule of udev, and add the user to it";
        assert_eq!(finding.advice.as_deref(), Some(wanted));
    }

    #[test]
    fn a_serial_port_is_there_missing_or_a_file() {
        assert_eq!(serial(Path::new("/dev/null")).mark, Mark::Good);
        let missing = serial(Path::new("/dev/no-such-port"));
        assert!(missing.to_string().starts_with("FAIL  serial port /dev/no-such-port is not there\n"), "{missing}");
        assert_eq!(serial(Path::new("/etc/hostname")).mark, Mark::Bad(Exit::Unavailable));
    }

    #[test]
    fn what_has_to_be_mended_first_gives_the_exit_code() {
        let bad = |exit| Finding::bad(exit, "", "");
        let all = [bad(Exit::Unavailable), bad(Exit::Spool), bad(Exit::Permission), Finding::good("")];
        assert_eq!(exit(&all), Exit::Permission);
        assert_eq!(exit(&all[..2]), Exit::Spool);
        assert_eq!(exit(&[Finding::good(""), Finding::doubt("", "")]), Exit::Fine);
    }

    #[test]
    fn a_broker_that_is_not_there_is_told_with_its_remedy() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it has one").port();
        drop(listener);
        let text = include_str!("../../config/smallest.toml").replace("192.168.1.10", &format!("127.0.0.1:{port}"));
        let config = Config::parse(Path::new("g.toml"), &text, &speedwell::board::Catalog::built_in()).expect("right");
        let finding = online(&config);
        let wanted = format!(
            "\
FAIL  the broker 127.0.0.1:{port} is unreachable: Connection refused (os error 111)
      check host and port in broker.url, the network and firewalls, and that the broker runs
"
        );
        assert_eq!(finding.to_string(), wanted);
        assert_eq!(finding.mark, Mark::Bad(Exit::Unavailable));
    }
}
