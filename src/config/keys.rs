//! Every key there is. A key that is read but not listed here fails in debug builds; one that is listed but not in
//! config/reference.toml fails a test.

/// The tables of the file.
pub(super) const TABLES: &[&str] = &["gateway", "broker", "spool", "log", "fusion", "sensor"];

pub(super) const GATEWAY: &[&str] = &["id", "board", "state-directory"];

pub(super) const BROKER: &[&str] = &[
    "url",
    "user",
    "password-file",
    "ca-file",
    "client-certificate",
    "client-key",
    "server-name",
    "confirm",
    "encoding",
    "mqtt",
    "topic-prefix",
    "keep-alive",
    "window",
    "live",
];

pub(super) const SPOOL: &[&str] =
    &["directory", "max-size", "keep-free", "commit-every", "lazy", "max-age", "when-full"];

pub(super) const FUSION: &[&str] = &["name", "sensors", "hold", "back-after"];

pub(super) const LOG: &[&str] = &["level"];

pub(super) const HALL: &[&str] = &[
    "name",
    "kind",
    "pin",
    "audit-pin",
    "source",
    "edges",
    "bias",
    "pulses-per-turn",
    "circumference",
    "tyre",
    "gear-ratio",
    "pulses-per-metre",
    "pulses-per-km",
    "pulses-per-mile",
    "frequency",
    "at-speed",
    "calibration-uncertainty",
    "max-speed",
    "max-acceleration",
    "report",
    "zero-below",
    "rotational-speed",
    "distance",
    "missing-teeth",
    "learn-teeth",
    "counters",
];

pub(super) const ENCODER: &[&str] = &[
    "name",
    "kind",
    "pin-a",
    "pin-b",
    "bias",
    "pulses-per-turn",
    "circumference",
    "tyre",
    "gear-ratio",
    "pulses-per-metre",
    "pulses-per-km",
    "pulses-per-mile",
    "frequency",
    "at-speed",
    "calibration-uncertainty",
    "max-speed",
    "max-acceleration",
    "report",
    "zero-below",
    "rotational-speed",
    "distance",
    "direction",
    "learn-teeth",
    "counters",
];

pub(super) const J1939: &[&str] = &[
    "name",
    "kind",
    "interface",
    "signal",
    "source-address",
    "pgn",
    "start-bit",
    "length",
    "scale",
    "offset",
    "unit",
    "report",
    "timeout",
];

pub(super) const OBD2: &[&str] = &[
    "name",
    "kind",
    "interface",
    "signals",
    "pid",
    "bytes",
    "scale",
    "offset",
    "unit",
    "identifiers",
    "ecu",
    "report",
    "answer-within",
    "timeout",
];

pub(super) const DBC: &[&str] =
    &["name", "kind", "interface", "file", "message", "signal", "counter", "unit", "any-sender", "report", "timeout"];

pub(super) const CANOPEN: &[&str] = &[
    "name",
    "kind",
    "interface",
    "node",
    "index",
    "sub-index",
    "cob-id",
    "start-bit",
    "length",
    "signed",
    "scale",
    "offset",
    "unit",
    "report",
    "answer-within",
    "timeout",
];

pub(super) const NMEA: &[&str] = &[
    "name",
    "kind",
    "port",
    "uart",
    "baud",
    "data-bits",
    "parity",
    "stop-bits",
    "report",
    "timeout",
    "latency",
    "position",
    "clock",
];

pub(super) const MODBUS: &[&str] = &[
    "name",
    "kind",
    "port",
    "uart",
    "baud",
    "parity",
    "stop-bits",
    "rs485",
    "slave",
    "table",
    "register",
    "format",
    "order",
    "invalid",
    "scale",
    "offset",
    "unit",
    "report",
    "answer-within",
    "timeout",
];

pub(super) const RADAR: &[&str] = &[
    "name",
    "kind",
    "port",
    "uart",
    "baud",
    "parity",
    "stop-bits",
    "angle",
    "angle-uncertainty",
    "unit",
    "zero",
    "direction",
    "report",
    "timeout",
];

pub(super) const LINE: &[&str] = &[
    "name",
    "kind",
    "port",
    "uart",
    "baud",
    "data-bits",
    "parity",
    "stop-bits",
    "rs485",
    "pattern",
    "decimal",
    "invalid",
    "scale",
    "offset",
    "unit",
    "report",
    "timeout",
];

pub(super) const UBX: &[&str] = &[
    "name",
    "kind",
    "port",
    "uart",
    "baud",
    "parity",
    "stop-bits",
    "report",
    "timeout",
    "latency",
    "accuracy-limit",
    "position",
    "clock",
];

pub(super) const AS5600: &[&str] = &[
    "name",
    "kind",
    "bus",
    "address",
    "circumference",
    "tyre",
    "gear-ratio",
    "calibration-uncertainty",
    "max-speed",
    "looks",
    "reversed",
    "report",
    "rotational-speed",
    "distance",
    "angle",
    "direction",
];

pub(super) const AS5048A: &[&str] = &[
    "name",
    "kind",
    "bus",
    "circumference",
    "tyre",
    "gear-ratio",
    "calibration-uncertainty",
    "max-speed",
    "looks",
    "reversed",
    "report",
    "rotational-speed",
    "distance",
    "angle",
    "direction",
];

pub(super) const LS7366R: &[&str] = &[
    "name",
    "kind",
    "bus",
    "pulses-per-turn",
    "circumference",
    "tyre",
    "gear-ratio",
    "calibration-uncertainty",
    "max-speed",
    "looks",
    "reversed",
    "report",
    "rotational-speed",
    "distance",
    "direction",
];

/// Of a sensor whose kind is missing or unknown.
pub(super) const ANY_SENSOR: &[&str] = &["name", "kind"];

/// Words of other programs and of daily speech, and the key they mean here.
pub(super) const OTHER_WORDS: &[(&str, &str)] = &[
    ("gpio", "pin"),
    ("line", "pin"),
    ("type", "kind"),
    ("host", "url"),
    ("address", "url"),
    ("username", "user"),
    ("client-id", "id"),
    ("ca", "ca-file"),
    ("cert", "client-certificate"),
    ("key", "client-key"),
    ("ppr", "pulses-per-turn"),
    ("teeth", "pulses-per-turn"),
    ("pulses-per-revolution", "pulses-per-turn"),
    ("diameter", "circumference"),
    ("pull", "bias"),
    ("rate", "report"),
    ("bus", "interface"),
    ("device", "port"),
    ("baudrate", "baud"),
    ("path", "directory"),
    ("size", "max-size"),
    ("qos", "confirm"),
];

/// All keys by table, for the reference and for documentation: `sensor` stands once for every kind.
pub const ALL: &[(&str, &[&str])] = &[
    ("gateway", GATEWAY),
    ("broker", BROKER),
    ("spool", SPOOL),
    ("log", LOG),
    ("fusion", FUSION),
    ("sensor hall", HALL),
    ("sensor encoder", ENCODER),
    ("sensor j1939", J1939),
    ("sensor obd2", OBD2),
    ("sensor dbc", DBC),
    ("sensor canopen", CANOPEN),
    ("sensor modbus", MODBUS),
    ("sensor radar", RADAR),
    ("sensor line", LINE),
    ("sensor ubx", UBX),
    ("sensor nmea", NMEA),
    ("sensor as5600", AS5600),
    ("sensor as5048a", AS5048A),
    ("sensor ls7366r", LS7366R),
];
