//! Reads a whole file: syntax first, then every table, then what only shows when all are known.

use std::path::{Path, PathBuf};

use speedwell_wire::GatewayId;
use toml::de::{DeTable, DeValue};

use crate::board::{Board, Catalog};

use super::{
    Broker, Complaints, Config, Confirm, Encoding, Gateway, Level, Log, MqttVersion, Spool, WhenFull,
    complaint::Complaint,
    keys, sensors, url,
    walk::{Section, Spot, Walk},
};

/// Syntax mistakes shown: the first explains the others more often than not.
const MAX_SYNTAX: usize = 5;

/// Longest topic prefix, bytes; a topic has at most 65535.
const MAX_TOPIC_PREFIX: usize = 128;

pub(super) fn config(file: &Path, text: &str, catalog: &Catalog) -> Result<Config, Complaints> {
    let mut walk = Walk::new(text);
    let fail = |complaints| Err(Complaints { file: file.into(), complaints, unreadable: None });
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return fail(syntax(&mut walk, &errors));
    }
    let config = tables(&mut walk, file, document.get_ref(), catalog);
    let Walk { mut complaints, mut warnings, .. } = walk;
    let position = |c: &Complaint| c.place.as_ref().map(|p| (p.line, p.column));
    complaints.sort_by_key(position);
    warnings.sort_by_key(position);
    match config {
        Some(config) if complaints.is_empty() => Ok(Config { warnings, ..config }),
        _ => fail(complaints),
    }
}

fn syntax(walk: &mut Walk<'_>, errors: &[toml::de::Error]) -> Vec<Complaint> {
    for error in errors.iter().take(MAX_SYNTAX) {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        walk.complain(&span, "", format!("this is not TOML: {message}"));
    }
    std::mem::take(&mut walk.complaints)
}

fn tables(walk: &mut Walk<'_>, file: &Path, document: &DeTable<'_>, catalog: &Catalog) -> Option<Config> {
    unknown_tables(walk, document);
    let paths = Paths { base: file.parent().unwrap_or(Path::new("")).into() };
    let sections = [
        section(walk, document, "gateway", keys::GATEWAY, true),
        section(walk, document, "broker", keys::BROKER, true),
        section(walk, document, "spool", keys::SPOOL, false),
        section(walk, document, "log", keys::LOG, false),
        section(walk, document, "fusion", keys::FUSION, false),
    ];
    let gateway = gateway(walk, &sections[0], catalog, &paths);
    let board = gateway.as_ref().and_then(|(_, board, _)| board.clone());
    let broker = broker(walk, &sections[1], &paths);
    let spool = spool(walk, &sections[2], &paths);
    let log = log(walk, &sections[3]);
    let mut sensors = sensors::read(walk, document, board.as_ref(), &paths.base);
    if let Some(board) = &board {
        sensors::give_audit_pins(&mut sensors, board);
    }
    let fusion = super::fusion::read(walk, &sections[4], &sensors);
    let (id, board, state_directory) = gateway?;
    Some(Config {
        file: file.into(),
        gateway: Gateway { id: id?, board: board?, state_directory },
        broker: broker?,
        spool,
        log,
        sensors,
        fusion,
        warnings: Vec::new(),
    })
}

fn unknown_tables(walk: &mut Walk<'_>, document: &DeTable<'_>) {
    for (key, value) in document {
        let name: &str = key.get_ref();
        if keys::TABLES.contains(&name) {
            continue;
        }
        let home = keys::ALL.iter().find(|(_, known)| known.contains(&name)).map(|(home, _)| *home);
        let is_table = value.get_ref().is_table() || value.get_ref().is_array();
        let message =
            if is_table { format!("there is no table [{name}]") } else { format!("there is no key `{name}` here") };
        let complaint = walk.complain(&key.span(), name, message);
        match home {
            Some(home) if !is_table => {
                let table = home.split(' ').next().unwrap_or(home);
                complaint.note(format!("`{name}` belongs to [{table}]; keys before the first [table] belong to none"));
            }
            _ => {
                complaint.meant(name, keys::TABLES.iter().copied());
            }
        }
        complaint.allowed("[gateway], [broker], [spool], [log], [fusion], [[sensor]]");
    }
}

/// The table of that name; told if it has to be there and is not, or is no table.
fn section<'d>(
    walk: &mut Walk<'_>,
    document: &'d DeTable<'d>,
    name: &str,
    known: &'static [&'static str],
    required: bool,
) -> Section<'d> {
    let Some(value) = document.get(name) else {
        if required {
            walk.complain_of_file(name, format!("the table [{name}] is missing"));
        }
        return Section::new(name, 0..0, None, known);
    };
    match value.get_ref() {
        DeValue::Table(table) => Section::new(name, value.span(), Some(table), known),
        other => {
            let message = format!("a table is wanted, {} was read", super::walk::described(other));
            walk.complain(&value.span(), name, message).note(format!("begin it with a line [{name}]"));
            Section::new(name, value.span(), None, known)
        }
    }
}

/// Relative paths are relative to the configuration's own directory: a service's working directory is `/`.
struct Paths {
    base: PathBuf,
}

impl Paths {
    fn path(&self, walk: &mut Walk<'_>, section: &Section<'_>, key: &str) -> Option<PathBuf> {
        let spot = walk.text(section, key)?;
        if spot.value.trim().is_empty() {
            walk.wrong(&spot, "is empty: a path is wanted");
            return None;
        }
        Some(self.base.join(spot.value))
    }
}

type GatewayParts = (Option<GatewayId>, Option<Board>, PathBuf);

fn gateway(walk: &mut Walk<'_>, section: &Section<'_>, catalog: &Catalog, paths: &Paths) -> Option<GatewayParts> {
    if !section.exists() {
        return None;
    }
    walk.unknown_keys(section, &[]);
    let id = walk.required_text(section, "id", "the gateway's name, as id = \"truck-7\"");
    let id = id.and_then(|spot| match GatewayId::new(spot.value.clone()) {
        Ok(id) => Some(id),
        Err(_) => {
            let message = format!("{:?} cannot be a gateway's name", spot.value);
            walk.wrong(&spot, message).allowed("1 to 64 of a-z A-Z 0-9 . _ -");
            None
        }
    });
    let board = walk.required_text(section, "board", "what the gateway is built on, as board = \"rpi-4b\"");
    let board = board.and_then(|spot| known_board(walk, &spot, catalog));
    let state = paths.path(walk, section, "state-directory").unwrap_or_else(|| "/var/lib/speedwell".into());
    Some((id, board, state))
}

fn known_board(walk: &mut Walk<'_>, spot: &Spot<String>, catalog: &Catalog) -> Option<Board> {
    if let Some(board) = catalog.board(&spot.value) {
        return Some(board.clone());
    }
    let message = format!("there is no board {:?}", spot.value);
    walk.wrong(spot, message)
        .meant(&spot.value, catalog.names())
        .allowed(catalog.names().join(", "))
        .note("another board is a file of its own in /etc/speedwell/boards, or board = \"generic-linux\"");
    None
}

fn broker(walk: &mut Walk<'_>, section: &Section<'_>, paths: &Paths) -> Option<Broker> {
    if !section.exists() {
        return None;
    }
    walk.unknown_keys(section, &[]);
    let spot = walk.required_text(section, "url", "where the broker is, as url = \"mqtts://broker.example:8883\"");
    let target = spot.as_ref().and_then(|spot| url::read(walk, spot));
    let user = walk.text(section, "user").map(|s| s.value);
    let password = url::secret(walk, section, &paths.base);
    if let (None, true) = (&user, section.has("password-file")) {
        walk.missing(section, "user", "a password without a user is refused by every broker");
    }
    let (ca_file, client_certificate, client_key, server_name) = (
        paths.path(walk, section, "ca-file"),
        paths.path(walk, section, "client-certificate"),
        paths.path(walk, section, "client-key"),
        walk.text(section, "server-name").map(|s| s.value),
    );
    match (section.has("client-certificate"), section.has("client-key")) {
        (true, false) => drop(walk.missing(section, "client-key", "client-certificate needs its key")),
        (false, true) => drop(walk.missing(section, "client-certificate", "client-key needs its certificate")),
        _ => {}
    }
    if let (Some(target), Some(spot)) = (&target, &spot) {
        url::plain_connection(walk, section, target, spot);
    }
    let confirm = walk.choice(section, "confirm", &[("hub", Confirm::Hub), ("broker", Confirm::Broker)]);
    let encodings = [("postcard", Encoding::Postcard), ("json", Encoding::Json)];
    let encoding = walk.choice(section, "encoding", &encodings);
    let versions = [("3.1.1", MqttVersion::Three), ("5", MqttVersion::Five)];
    let mqtt = walk.choice(section, "mqtt", &versions).unwrap_or(MqttVersion::Three);
    let topic_prefix = topic_prefix(walk, section);
    let keep_alive = walk.time(section, "keep-alive", ("5 s", "1 h"));
    let window = walk.bytes(section, "window", ("16 KiB", "64 MiB"));
    let live = walk.flag(section, "live");
    let url::Target { tls, host, port } = target?;
    Some(Broker {
        tls,
        host,
        port,
        user,
        password,
        ca_file,
        client_certificate,
        client_key,
        server_name,
        confirm: confirm.unwrap_or(Confirm::Hub),
        encoding: encoding.unwrap_or(Encoding::Postcard),
        mqtt,
        topic_prefix: topic_prefix.unwrap_or_else(|| "speedwell/v1".into()),
        keep_alive: keep_alive.unwrap_or(std::time::Duration::from_secs(20)),
        window: window.unwrap_or(256 * 1024),
        live: live.unwrap_or(true),
    })
}

fn topic_prefix(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<String> {
    let spot = walk.text(section, "topic-prefix")?;
    let prefix = &spot.value;
    let wrong = if prefix.is_empty() {
        "is empty"
    } else if prefix.contains(['+', '#', '\0']) {
        "holds + or #, which only subscribers may use"
    } else if prefix.starts_with('/') || prefix.ends_with('/') {
        "begins or ends with a slash, which makes an empty level"
    } else if prefix.starts_with('$') {
        "begins with $, which belongs to the broker"
    } else if prefix.len() > MAX_TOPIC_PREFIX {
        "is too long"
    } else {
        return Some(spot.value);
    };
    let message = format!("{prefix:?} {wrong}");
    walk.wrong(&spot, message).allowed("levels with a slash between them, as \"speedwell/v1\"");
    None
}

fn spool(walk: &mut Walk<'_>, section: &Section<'_>, paths: &Paths) -> Spool {
    walk.unknown_keys(section, &[]);
    const MIB: u64 = 1024 * 1024;
    let choices =
        [("drop-oldest", WhenFull::DropOldest), ("drop-newest", WhenFull::DropNewest), ("thin", WhenFull::Thin)];
    Spool {
        directory: paths.path(walk, section, "directory").unwrap_or_else(|| "/var/lib/speedwell/spool".into()),
        max_size: walk.bytes(section, "max-size", ("32 MiB", "1024 GiB")).unwrap_or(2048 * MIB),
        keep_free: walk.bytes(section, "keep-free", ("0 B", "1024 GiB")).unwrap_or(256 * MIB),
        commit_every: walk
            .time(section, "commit-every", ("50 ms", "60 s"))
            .unwrap_or(std::time::Duration::from_secs(1)),
        lazy: lazy(walk, section),
        max_age: walk.time(section, "max-age", ("1 h", "87600 h")),
        when_full: walk.choice(section, "when-full", &choices).unwrap_or(WhenFull::DropOldest),
    }
}

/// The bound of `lazy`, or "off".
fn lazy(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<std::time::Duration> {
    let off = section.value("lazy").is_some_and(|spot| spot.value.as_str() == Some("off"));
    if off { None } else { walk.time(section, "lazy", ("2 s", "10 min")) }
}

fn log(walk: &mut Walk<'_>, section: &Section<'_>) -> Log {
    walk.unknown_keys(section, &[]);
    let levels = [
        ("error", Level::Error),
        ("warn", Level::Warn),
        ("info", Level::Info),
        ("debug", Level::Debug),
        ("trace", Level::Trace),
    ];
    Log { level: walk.choice(section, "level", &levels).unwrap_or(Level::Info) }
}
