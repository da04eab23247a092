//! One TOML file becomes the options of the rooms, or complaints a technician can act on.
//!
//! In      the text of a gateway's configuration, and the catalog of boards.
//! Out     a [`Config`], every quantity in SI and every pin resolved; or [`Complaints`], all of them at once, each
//!         with its place in the file, what was read, what is allowed and the nearest right spelling.
//! Keeps   nothing; of what the file names it opens DBC files alone, to find the signals in them.
//! Imports the catalog of `board`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use speedwell_wire::GatewayId;

use crate::board::{Board, Catalog};

mod calibration;
pub mod complaint;
mod fusion;
pub mod keys;
mod options;
mod quantity;
mod read;
mod sensors;
mod show;
mod url;
mod walk;

pub use crate::sensor::j1939::Signal as J1939Signal;
pub use complaint::{Complaint, Complaints, Place};
pub use quantity::{parse_bytes, parse_time};
pub use sensors::{
    Bias, CanOpenSensor, DbcSensor, Edges, EncoderSensor, HallSensor, J1939Sensor, LineSensor, MAX_SENSOR_NAME,
    MAX_SENSORS, ModbusSensor, NmeaSensor, Obd2Sensor, PulseSource, RadarSensor, UbxSensor, polled_limit_hz,
};
pub use show::significant;

/// A configuration file larger than this is something else: hundreds of sensors fit.
pub const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// A password file larger than this is something else.
pub const MAX_SECRET_BYTES: u64 = 4096;

/// All a gateway is told, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// Who this is.
    pub gateway: Gateway,
    /// Where records go.
    pub broker: Broker,
    /// Where they are kept until then.
    pub spool: Spool,
    /// What is told in the journal.
    pub log: Log,
    /// What is measured; at least one.
    pub sensors: Vec<Sensor>,
    /// One speed out of several sensors, where it is wanted.
    pub fusion: Option<Fusion>,
    /// What is allowed but doubtful; told at start and by `check`.
    pub warnings: Vec<Complaint>,
}

/// `[gateway]`: who this is.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// Its name, in topics and in the hub.
    pub id: GatewayId,
    /// What it is built on.
    pub board: Board,
    /// Boot counter, odometers, runtime files.
    pub state_directory: PathBuf,
}

/// `[broker]`: where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// With TLS: `mqtts://`.
    pub tls: bool,
    /// Name or address.
    pub host: String,
    /// 1883, or 8883 with TLS, when the URL names none.
    pub port: u16,
    /// User name.
    pub user: Option<String>,
    /// Where the password is.
    pub password: Option<Secret>,
    /// Certificates to trust instead of the built-in roots, PEM.
    pub ca_file: Option<PathBuf>,
    /// Own certificate, PEM; comes with `client_key`.
    pub client_certificate: Option<PathBuf>,
    /// Own key, PEM.
    pub client_key: Option<PathBuf>,
    /// The name the broker's certificate is checked against, when it is not `host`.
    pub server_name: Option<String>,
    /// Who says that a record is stored.
    pub confirm: Confirm,
    /// How batches are written.
    pub encoding: Encoding,
    /// Which version of MQTT is spoken.
    pub mqtt: MqttVersion,
    /// First levels of every topic, without a slash at either end.
    pub topic_prefix: String,
    /// Longest silence on the connection.
    pub keep_alive: Duration,
    /// Bytes sent and not yet confirmed, at most.
    pub window: u64,
    /// Publish the newest values once a second.
    pub live: bool,
}

/// Where a password is: never in the configuration itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// In a file.
    File(PathBuf),
    /// In the systemd credential of that name (`LoadCredential=`).
    Credential(String),
}

/// Who says that a record is stored, so that the spool may free it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// The hub, after it has committed.
    Hub,
    /// The broker, by PUBACK: for backends that are not our hub.
    Broker,
}

/// How batches are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Compact frames.
    Postcard,
    /// For people and foreign backends.
    Json,
}

/// Which version of MQTT is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MqttVersion {
    /// 3.1.1: every broker's.
    Three,
    /// 5: the broker tells its limits and says why it refuses.
    Five,
}

/// `[spool]`: where records are kept until they are confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    /// Its directory.
    pub directory: PathBuf,
    /// Bytes on disk, at most.
    pub max_size: u64,
    /// Bytes of the disk left to others.
    pub keep_free: u64,
    /// What a power cut can take, at most; see `lazy`.
    pub commit_every: Duration,
    /// How long a record may wait in memory for its confirmation before it is written; this is what a power cut can
    /// take then. `None`: everything is written.
    pub lazy: Option<Duration>,
    /// How old a record may become without being confirmed. `None`: as old as there is room for.
    pub max_age: Option<Duration>,
    /// What goes when it is full.
    pub when_full: WhenFull,
}

/// What goes when the spool is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest records.
    DropOldest,
    /// What is measured from now on.
    DropNewest,
    /// All but one sample a second of each channel of the oldest; then the oldest records.
    Thin,
}

/// `[log]`: what is told in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least important that is told.
    pub level: Level,
}

/// How important a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What goes on.
    Info,
    /// Why.
    Debug,
    /// Everything.
    Trace,
}

/// A `[[sensor]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensor {
    /// Its name, unique.
    pub name: String,
    /// What it is, with all that is particular to it.
    pub kind: SensorKind,
}

/// `[fusion]`: one speed out of several sensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fusion {
    /// What the fused speed is called.
    pub name: String,
    /// Names of its sensors, the best first; at least two.
    pub sensors: Vec<String>,
    /// How old the newest value of the sensor that gives it may become.
    pub hold: Duration,
    /// How long a better one has to have spoken to give it again.
    pub back_after: Duration,
}

/// What a sensor is.
#[derive(Clone, Debug, PartialEq)]
pub enum SensorKind {
    /// Pulses on a pin.
    Hall(HallSensor),
    /// A signal of a truck's CAN bus.
    J1939(J1939Sensor),
    /// Values a car's control units give when they are asked.
    Obd2(Obd2Sensor),
    /// A signal that a DBC file describes.
    Dbc(DbcSensor),
    /// A drive or an encoder on a CANopen bus.
    CanOpen(CanOpenSensor),
    /// A register of a device on a Modbus RTU line.
    Modbus(ModbusSensor),
    /// A Doppler radar.
    Radar(RadarSensor),
    /// A number out of lines of text.
    Line(LineSensor),
    /// A GNSS receiver, by its binary protocol.
    Ubx(UbxSensor),
    /// A GNSS receiver.
    Nmea(NmeaSensor),
    /// A shaft with an encoder on I2C or SPI.
    Encoder(EncoderSensor),
}

impl SensorKind {
    /// Between two readings.
    pub fn report(&self) -> Duration {
        match self {
            SensorKind::Hall(sensor) => sensor.report,
            SensorKind::J1939(sensor) => sensor.report,
            SensorKind::Obd2(sensor) => sensor.report,
            SensorKind::Dbc(sensor) => sensor.options.report,
            SensorKind::CanOpen(sensor) => sensor.options.report,
            SensorKind::Modbus(sensor) => sensor.options.report,
            SensorKind::Radar(sensor) => sensor.options.report,
            SensorKind::Line(sensor) => sensor.options.report,
            SensorKind::Ubx(sensor) => sensor.options.report,
            SensorKind::Nmea(sensor) => sensor.report,
            SensorKind::Encoder(sensor) => sensor.options.report,
        }
    }
}

impl Config {
    /// Reads the file.
    pub fn load(path: &Path, catalog: &Catalog) -> Result<Config, Complaints> {
        match read_bounded(path, MAX_CONFIG_BYTES) {
            Ok(text) => Config::parse(path, &text, catalog),
            Err(error) => Err(Complaints::unreadable(path, &error)),
        }
    }

    /// Takes the text of a file; `path` is what complaints call it.
    pub fn parse(path: &Path, text: &str, catalog: &Catalog) -> Result<Config, Complaints> {
        read::config(path, text, catalog)
    }

    /// The sensor of that name.
    pub fn sensor(&self, name: &str) -> Option<&Sensor> {
        self.sensors.iter().find(|s| s.name == name)
    }
}

impl Secret {
    /// The file it is in; `None` when it is a credential and systemd gave none.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Secret::File(path) => Some(path.clone()),
            Secret::Credential(name) => std::env::var_os("CREDENTIALS_DIRECTORY").map(|d| Path::new(&d).join(name)),
        }
    }

    /// Reads it, without the line end an editor leaves.
    pub fn read(&self) -> io::Result<String> {
        let path = self.path().ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "no CREDENTIALS_DIRECTORY: not started by systemd")
        })?;
        let text = read_bounded(&path, MAX_SECRET_BYTES)?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

fn read_bounded(path: &Path, limit: u64) -> io::Result<String> {
    let size = fs::metadata(path)?.len();
    if size > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{size} bytes, at most {limit} are taken")));
    }
    fs::read_to_string(path)
}
