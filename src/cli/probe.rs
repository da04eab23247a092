//! Looks whether what a configuration names is there and may be used, without taking any of it.

use std::{
    fmt, fs, io,
    net::{TcpStream, ToSocketAddrs},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{Access, StatVfsMountFlags};
use speedwell::config::{Broker, Config, Secret, SensorKind};

use super::{Exit, summary::bytes};

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

/// Looks at CAN interfaces and serial ports.
pub(super) fn buses(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for sensor in &config.sensors {
        let finding = match &sensor.kind {
            SensorKind::J1939(j1939) => can(Path::new("/sys/class/net"), &j1939.interface),
            SensorKind::Nmea(nmea) => serial(&nmea.port),
            SensorKind::Hall(_) => continue,
        };
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

/// ARPHRD_CAN of linux/if_arp.h.
const KIND_CAN: &str = "280";

/// IFF_UP of linux/if.h.
const FLAG_UP: u32 = 1;

pub(super) fn can(net: &Path, name: &str) -> Finding {
    let interface = net.join(name);
    let read = |file: &str| fs::read_to_string(interface.join(file)).map(|t| t.trim().to_owned());
    let Ok(kind) = read("type") else {
        return Finding::bad(
            Exit::Unavailable,
            format!("CAN {name}: there is no interface {name}"),
            "`ip -brief link` lists those there are; an SPI controller needs its overlay in config.txt",
        );
    };
    if kind != KIND_CAN {
        return Finding::bad(
            Exit::Unavailable,
            format!("CAN {name}: the interface {name} is no CAN interface"),
            "`ip -brief link show type can` lists those that are",
        );
    }
    let flags = read("flags").ok().and_then(|f| u32::from_str_radix(f.trim_start_matches("0x"), 16).ok());
    if flags.is_some_and(|f| f & FLAG_UP == 0) {
        return Finding::bad(
            Exit::Unavailable,
            format!("CAN {name}: the interface {name} is down"),
            format!("ip link set {name} up type can bitrate 250000 listen-only on   (or the bus's own bit rate)"),
        );
    }
    Finding::good(format!("CAN {name} is up"))
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

fn access(path: &Path, how: Access) -> io::Result<()> {
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

/// Looks at the spool's and the state directory.
pub(super) fn directories(config: &Config) -> Vec<Finding> {
    let spool = directory("spool", &config.spool.directory);
    let state = directory("state directory", &config.gateway.state_directory);
    let space = match spool.mark {
        Mark::Bad(_) => None,
        _ => Some(space(&config.spool.directory, config.spool.keep_free, config.spool.max_size)),
    };
    [Some(spool), space, Some(state)].into_iter().flatten().collect()
}

/// The path itself or the nearest directory above it that is there.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("."))
}

pub(super) fn directory(what: &str, path: &Path) -> Finding {
    let there = existing(path);
    let shown = path.display();
    if !there.is_dir() {
        let text = format!("{what} {shown}: {} is no directory", there.display());
        return Finding::bad(Exit::Spool, text, "name another directory, or move the file away");
    }
    match access(there, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if there == path => Finding::good(format!("{what} {shown} can be written")),
        Ok(()) => Finding::good(format!("{what} {shown} will be created")),
        Err(error) => cannot_write(what, path, there, &error),
    }
}

pub(super) fn cannot_write(what: &str, path: &Path, there: &Path, error: &io::Error) -> Finding {
    let shown = path.display();
    let (text, advice) = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => (
            format!("{what} {shown}: its file system is read-only"),
            "mount it writable, or name a directory on another disk".to_owned(),
        ),
        io::ErrorKind::PermissionDenied if there == path => {
            (format!("{what} {shown}: permission denied"), format!("chown it to the user: chown USER {shown}"))
        }
        io::ErrorKind::PermissionDenied => (
            format!("{what} {shown} is not there, and {} may not be written to create it", there.display()),
            format!("install -d -o USER {shown}"),
        ),
        _ => (format!("{what} {shown}: {error}"), "`dmesg` may say more".to_owned()),
    };
    Finding::bad(Exit::Spool, text, advice)
}

/// TMPFS_MAGIC and RAMFS_MAGIC of linux/magic.h.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

fn space(path: &Path, keep_free: u64, max_size: u64) -> Finding {
    let there = existing(path);
    let what = format!("spool {}", path.display());
    let (Ok(volume), Ok(kind)) = (rustix::fs::statvfs(there), rustix::fs::statfs(there)) else {
        return Finding::doubt(format!("{what}: how much is free cannot be told"), "`df` may say more");
    };
    if volume.f_flag.contains(StatVfsMountFlags::RDONLY) {
        let error = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        return cannot_write("spool", path, there, &error);
    }
    let free = volume.f_bavail.saturating_mul(volume.f_frsize);
    if IN_MEMORY.contains(&(kind.f_type as u64)) {
        let text = format!("{what} is in memory: a power cut takes all of it");
        return Finding::doubt(text, "fine for a trial; name a directory on a disk otherwise");
    }
    free_space(&what, free, keep_free, max_size, used(path))
}

pub(super) fn free_space(what: &str, free: u64, keep_free: u64, max_size: u64, used: u64) -> Finding {
    if free <= keep_free {
        return Finding::bad(
            Exit::Spool,
            format!("{what}: {} free, and keep-free leaves {} of it to others", bytes(free), bytes(keep_free)),
            "free some of the disk, or lower keep-free",
        );
    }
    let can_be = (free - keep_free).saturating_add(used);
    if can_be < max_size {
        let text = format!(
            "{what}: {} free; the spool can grow to {}, not to {}",
            bytes(free),
            bytes(can_be),
            bytes(max_size)
        );
        return Finding::doubt(text, "free some of the disk, or lower max-size; records are dropped earlier otherwise");
    }
    Finding::good(format!("{what}: {} free", bytes(free)))
}

/// Bytes of the files in a directory, two levels deep: a spool is generations of files.
fn used(path: &Path) -> u64 {
    fn sum(path: &Path, depth: u32) -> u64 {
        let Ok(entries) = fs::read_dir(path) else { return 0 };
        let size = |entry: fs::DirEntry| match entry.metadata() {
            Ok(meta) if meta.is_dir() && depth > 0 => sum(&entry.path(), depth - 1),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        };
        entries.filter_map(Result::ok).map(size).sum()
    }
    sum(path, 3)
}

/// Looks at the files the broker's part names.
pub(super) fn files(broker: &Broker) -> Vec<Finding> {
    let mut findings = Vec::new();
    let named = [
        ("ca-file", &broker.ca_file),
        ("client-certificate", &broker.client_certificate),
        ("client-key", &broker.client_key),
    ];
    for (key, path) in named.into_iter().filter_map(|(key, path)| Some((key, path.as_ref()?))) {
        findings.push(readable(key, path));
    }
    findings.extend(broker.password.as_ref().map(password));
    findings
}

fn readable(key: &str, path: &Path) -> Finding {
    match fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(meta) if meta.is_file() => Finding::good(format!("{key} {} can be read", path.display())),
        Ok(_) => {
            Finding::bad(Exit::NoInput, format!("{key} {} is no file", path.display()), "name the PEM file itself")
        }
        Err(error) => unreadable(key, path, &error),
    }
}

fn unreadable(key: &str, path: &Path, error: &io::Error) -> Finding {
    let text = format!("{key} {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let advice = format!("let the user read it: chgrp GROUP {0}; chmod g+r {0}", path.display());
            Finding::bad(Exit::Permission, text, advice)
        }
        io::ErrorKind::NotFound => {
            Finding::bad(Exit::NoInput, text, "a path without a slash is taken from the configuration's directory")
        }
        _ => Finding::bad(Exit::Io, text, "`dmesg` may say more"),
    }
}

fn password(secret: &Secret) -> Finding {
    let path = match (secret, secret.path()) {
        (Secret::File(path), _) => path.clone(),
        (Secret::Credential(_), Some(path)) => path,
        (Secret::Credential(name), None) => {
            let text = format!("password-file: the credential {name} is only there when systemd starts the service");
            return Finding::doubt(text, format!("the unit needs LoadCredential={name}:/path/of/the/password"));
        }
    };
    match secret.read() {
        Ok(text) if text.is_empty() => Finding::bad(
            Exit::Config,
            format!("password-file {} is empty", path.display()),
            "write the password into it, alone on one line",
        ),
        Ok(_) if others_may_read(&path) => Finding::doubt(
            format!("password-file {} can be read by everybody on this machine", path.display()),
            format!("chmod o-r {}", path.display()),
        ),
        Ok(_) => Finding::good(format!("password-file {} can be read", path.display())),
        Err(error) => unreadable("password-file", &path, &error),
    }
}

fn others_may_read(path: &PathBuf) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0)
}

/// How long a broker may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Whether anything listens where the broker should be.
pub(super) fn online(broker: &Broker) -> Finding {
    let what = format!("broker {}:{}", broker.host, broker.port);
    let addresses = match (broker.host.as_str(), broker.port).to_socket_addrs() {
        Ok(addresses) => addresses.collect::<Vec<_>>(),
        Err(error) => {
            let text = format!("{what}: the name cannot be resolved: {error}");
            return Finding::bad(Exit::Unavailable, text, "is the network up, and the name right?");
        }
    };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect_timeout(&address, ANSWER_WITHIN) {
            Ok(_) => return Finding::good(format!("{what} answers")),
            Err(error) => last = error,
        }
    }
    let advice = match last.kind() {
        io::ErrorKind::ConnectionRefused => "the machine answers, but no broker listens there: is the port right?",
        _ => "is the network up, and is there a firewall between?",
    };
    Finding::bad(Exit::Unavailable, format!("{what}: {last}"), advice)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A /sys/class/net with one interface.
    fn net(kind: &str, flags: &str) -> tempfile::TempDir {
        let net = tempfile::tempdir().expect("a directory");
        let interface = net.path().join("can0");
        fs::create_dir(&interface).expect("made");
        fs::write(interface.join("type"), format!("{kind}\n")).expect("written");
        fs::write(interface.join("flags"), format!("{flags}\n")).expect("written");
        net
    }

    #[test]
    fn a_can_interface_is_there_down_no_can_or_missing() {
        let told = |net: &tempfile::TempDir, name| can(net.path(), name).to_string();
        assert_eq!(told(&net("280", "0x40081"), "can0"), "ok    CAN can0 is up\n");
        let wanted = "\
FAIL  CAN can0: the interface can0 is down
      ip link set can0 up type can bitrate 250000 listen-only on   (or the bus's own bit rate)
";
        assert_eq!(told(&net("280", "0x40080"), "can0"), wanted);
        assert!(
            told(&net("1", "0x1003"), "can0").starts_with("FAIL  CAN can0: the interface can0 is no CAN interface\n")
        );
        assert!(told(&net("280", "0x1"), "can1").starts_with("FAIL  CAN can1: there is no interface can1\n"));
    }

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
    fn a_directory_that_cannot_be_written_ends_with_the_code_of_the_spool() {
        let there = tempfile::tempdir().expect("a directory");
        assert!(directory("spool", there.path()).text.ends_with("can be written"));
        assert!(directory("spool", &there.path().join("a/b")).text.ends_with("will be created"));
        let file = there.path().join("file");
        fs::write(&file, "").expect("written");
        let finding = directory("spool", &file.join("spool"));
        assert_eq!(finding.mark, Mark::Bad(Exit::Spool));
        assert!(finding.text.ends_with("is no directory"), "{finding}");
        let told = |kind, there: &str| {
            cannot_write("spool", Path::new("/a/spool"), Path::new(there), &io::Error::from(kind)).to_string()
        };
        let wanted = "\
FAIL  spool /a/spool: permission denied
      chown it to the user: chown USER /a/spool
";
        assert_eq!(told(io::ErrorKind::PermissionDenied, "/a/spool"), wanted);
        let wanted = "\
FAIL  spool /a/spool is not there, and /a may not be written to create it
      install -d -o USER /a/spool
";
        assert_eq!(told(io::ErrorKind::PermissionDenied, "/a"), wanted);
        assert!(
            told(io::ErrorKind::ReadOnlyFilesystem, "/a")
                .starts_with("FAIL  spool /a/spool: its file system is read-only\n")
        );
    }

    #[test]
    fn a_disk_that_is_too_full_is_bad_and_one_that_is_too_small_doubtful() {
        const MIB: u64 = 1 << 20;
        let full = free_space("spool /s", 100 * MIB, 256 * MIB, 2048 * MIB, 0);
        let wanted = "\
FAIL  spool /s: 100 MiB free, and keep-free leaves 256 MiB of it to others
      free some of the disk, or lower keep-free
";
        assert_eq!(full.to_string(), wanted);
        let small = free_space("spool /s", 1256 * MIB, 256 * MIB, 2048 * MIB, 24 * MIB);
        assert_eq!(small.text, "spool /s: 1.227 GiB free; the spool can grow to 1 GiB, not to 2 GiB");
        assert_eq!(small.mark, Mark::Doubt);
        assert_eq!(free_space("spool /s", 4096 * MIB, 256 * MIB, 2048 * MIB, 0).mark, Mark::Good);
    }

    #[test]
    fn a_password_that_is_missing_empty_or_open_to_all_is_told_and_never_shown() {
        let there = tempfile::tempdir().expect("a directory");
        let file = there.path().join("password");
        let secret = Secret::File(file.clone());
        assert_eq!(password(&secret).mark, Mark::Bad(Exit::NoInput));
        fs::write(&file, "\n").expect("written");
        assert_eq!(password(&secret).mark, Mark::Bad(Exit::Config));
        fs::write(&file, "hunter2\n").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("set");
        assert_eq!(password(&secret).mark, Mark::Doubt);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("set");
        let finding = password(&secret);
        assert_eq!(finding.mark, Mark::Good);
        assert!(!finding.to_string().contains("hunter2"));
        assert_eq!(password(&Secret::Credential("no-such".into())).mark, Mark::Doubt);
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
    fn a_broker_that_listens_answers_and_one_that_does_not_is_unavailable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it has one").port();
        let text = include_str!("../../config/smallest.toml").replace("192.168.1.10", &format!("127.0.0.1:{port}"));
        let config = Config::parse(Path::new("g.toml"), &text, &speedwell::board::Catalog::built_in()).expect("right");
        assert_eq!(online(&config.broker).to_string(), format!("ok    broker 127.0.0.1:{port} answers\n"));
        drop(listener);
        let finding = online(&config.broker);
        assert!(finding.advice.as_ref().is_some_and(|a| a.contains("no broker listens there")), "{finding}");
        assert_eq!(finding.mark, Mark::Bad(Exit::Unavailable));
    }

    #[test]
    fn what_lies_in_the_spool_counts_as_its_own_space() {
        let there = tempfile::tempdir().expect("a directory");
        fs::create_dir(there.path().join("generation")).expect("made");
        fs::write(there.path().join("generation/db"), [0; 1000]).expect("written");
        fs::write(there.path().join("log"), [0; 24]).expect("written");
        symlink(there.path(), there.path().join("loop")).expect("linked");
        assert!(used(there.path()) >= 1024);
    }
}
