//! Holds the direction of imports: a room imports only rooms below it, and each foreign crate has one door.
//!
//! Test code inside the rooms is held to the same rule: a test that needs a room above it belongs up there.

use std::{
    fs,
    path::{Path, PathBuf},
};

mod paths;

/// The agent's rooms, top floor to cellar. `main` is the binary: `main.rs` and the command line under `cli`.
const FLOORS: &[&str] =
    &["main", "agent", "config", "health", "uplink", "spool", "recorder", "board", "estimator", "sensor", "clock"];

/// Rooms that compute and do nothing else, and what they therefore never name: time, disk and bus come in by the door.
const PURE: &[&str] = &["sensor", "estimator"];
const IMPURE: &[&str] = &["libc", "rustix", "tokio", "gpiocdev", "socketcan", "sled", "rumqttc", "std::fs", "std::net"];

/// A foreign crate and the files of a tree that may name it.
struct Door {
    tree: &'static str,
    foreign: &'static str,
    only: &'static [&'static str],
}

const DOORS: &[Door] = &[
    Door { tree: "src", foreign: "sled", only: &["src/spool/disk.rs"] },
    Door {
        tree: "src",
        foreign: "rumqttc",
        only: &["src/uplink/mqtt/mod.rs", "src/uplink/mqtt/three.rs", "src/uplink/mqtt/five.rs"],
    },
    Door { tree: "src", foreign: "gpiocdev", only: &["src/board/gpio.rs"] },
    Door { tree: "src", foreign: "socketcan", only: &["src/board/can/real.rs"] },
    Door { tree: "src", foreign: "tokio_serial", only: &["src/board/serial.rs"] },
    Door { tree: "src", foreign: "linux_embedded_hal", only: &["src/board/polled.rs", "src/board/i2c_spi.rs"] },
    Door { tree: "hub/src", foreign: "rumqttc", only: &["hub/src/ingest/mqtt/", "hub/src/simulate/line.rs"] },
    Door { tree: "hub/src", foreign: "rumqttd", only: &["hub/src/broker.rs"] },
    Door { tree: "hub/src", foreign: "rusqlite", only: &["hub/src/store/sqlite/", "hub/src/access/book/"] },
    Door { tree: "hub/src", foreign: "parquet", only: &["hub/src/api/export/columns.rs"] },
    Door { tree: "hub/src", foreign: "tokio_postgres", only: &["hub/src/store/postgres/"] },
];

/// Crates of ours that a tree may not name.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("wire/src", &["speedwell", "speedwell_hub", "speedwell_demo"]),
    ("hub/src", &["speedwell", "speedwell_demo"]),
    ("src", &["speedwell_hub", "speedwell_demo"]),
];

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file under `tree`, as a path from the top, with its text.
fn files(tree: &str) -> Vec<(String, String)> {
    let mut folders = vec![top().join(tree)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(top()).unwrap().display().to_string();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no source under {tree}: the test looks in the wrong place");
    found
}

/// Where a file of the agent stands: `src/spool/disk.rs` is `["spool", "disk"]`.
fn module_of(file: &str) -> Vec<String> {
    let inner = file.strip_prefix("src/").unwrap_or(file).trim_end_matches(".rs");
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    match inner {
        "lib" | "main" => Vec::new(),
        _ => inner.split('/').map(str::to_owned).collect(),
    }
}

/// The room a file belongs to; `lib.rs` only lists the rooms and counts as the binary's floor.
fn room_of(module: &[String]) -> &str {
    match module.first().map(String::as_str) {
        None | Some("cli") => "main",
        Some(room) => room,
    }
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|r| *r == room)
}

/// What is wrong with the imports of one file of the agent.
fn wrong_rooms(file: &str, source: &str) -> Vec<String> {
    let module = module_of(file);
    let room = room_of(&module);
    let Some(mine) = floor(room) else {
        return vec![format!("{file}: room `{room}` is not on the list of floors")];
    };
    let mut wrong = Vec::new();
    for paths::Named { line, path } in paths::named(source, &module) {
        let target = match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["crate" | "speedwell", room, ..] => room_of(&[(*room).to_owned()]).to_owned(),
            ["speedwell_wire", ..] if room == "clock" => {
                wrong.push(format!("{file}:{line}: `clock` imports nothing, but names the wire"));
                continue;
            }
            [first, second, ..] if PURE.contains(&room) => {
                let two = format!("{first}::{second}");
                if IMPURE.iter().any(|w| w == first || *w == two) {
                    wrong.push(format!("{file}:{line}: `{room}` is pure, but names `{two}`"));
                }
                continue;
            }
            _ => continue,
        };
        match floor(&target) {
            Some(theirs) if theirs >= mine => {}
            Some(_) => wrong.push(format!("{file}:{line}: `{room}` imports `{target}`, which lies above it")),
            None if room == "main" || target == "*" && module.is_empty() => {}
            None => wrong.push(format!("{file}:{line}: `{target}` is no room: name the room a thing lives in")),
        }
    }
    wrong
}

/// What is wrong with the foreign crates a file names.
fn wrong_doors(tree: &str, file: &str, source: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for paths::Named { line, path } in paths::named(source, &module_of(file)) {
        let Some(first) = path.first() else { continue };
        for door in DOORS.iter().filter(|d| d.tree == tree && d.foreign == first) {
            // A name with a `/` at its end is a folder.
            if !door.only.iter().any(|only| *only == file || only.ends_with('/') && file.starts_with(only)) {
                wrong.push(format!("{file}:{line}: `{first}` is named outside its door {}", door.only.join(", ")));
            }
        }
        for (_, crates) in FORBIDDEN.iter().filter(|(t, _)| *t == tree) {
            if crates.contains(&first.as_str()) {
                wrong.push(format!("{file}:{line}: {tree} may not name `{first}`"));
            }
        }
    }
    wrong
}

/// The dependencies of ours that a crate's manifest declares.
fn ours_in_manifest(manifest: &Path) -> Vec<String> {
    let text = fs::read_to_string(top().join(manifest)).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let mut names = Vec::new();
    for section in ["dependencies", "build-dependencies"] {
        let Some(toml::Value::Table(dependencies)) = table.get(section) else { continue };
        names.extend(dependencies.keys().filter(|k| k.starts_with("speedwell")).cloned());
    }
    names
}

#[test]
fn a_room_imports_only_rooms_below_it() {
    let wrong: Vec<String> = files("src").iter().flat_map(|(file, source)| wrong_rooms(file, source)).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_floor_on_the_list_is_a_room_of_the_house() {
    for room in &FLOORS[1..] {
        assert!(top().join("src").join(room).join("mod.rs").exists(), "src/{room}/mod.rs is missing");
    }
}

#[test]
fn every_room_opens_with_its_front_page() {
    for room in &FLOORS[1..] {
        let source = fs::read_to_string(top().join("src").join(room).join("mod.rs")).unwrap();
        for part in ["//! In ", "//! Out ", "//! Keeps ", "//! Imports "] {
            assert!(source.contains(part), "src/{room}/mod.rs has no `{part}` on its front page");
        }
    }
}

#[test]
fn each_foreign_crate_has_one_door() {
    let mut wrong = Vec::new();
    for tree in ["src", "hub/src", "wire/src"] {
        for (file, source) in files(tree) {
            wrong.extend(wrong_doors(tree, &file, &source));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn the_wire_depends_on_nothing_of_ours_and_the_hub_on_the_wire_alone() {
    assert_eq!(ours_in_manifest(Path::new("wire/Cargo.toml")), Vec::<String>::new());
    assert_eq!(ours_in_manifest(Path::new("hub/Cargo.toml")), ["speedwell-wire"]);
    assert_eq!(ours_in_manifest(Path::new("Cargo.toml")), ["speedwell-wire"]);
}

#[test]
fn a_planted_import_upwards_is_found_however_it_is_written() {
    let planted = [
        "use crate::uplink::Options;",
        "use crate::{clock::BootNs, uplink::{Options, Parts}};",
        "use super::uplink;",
        "fn f() { crate::agent::run() }",
        "use speedwell::config::Config;",
        "mod tests { use super::super::super::health; }",
        "macro_rules! m { () => { $crate::config::load() } }",
    ];
    for source in planted {
        // In a file below the room's root, `super` is the room; plant there and at the root.
        let file = if source.contains("super::super") { "src/spool/disk.rs" } else { "src/spool/mod.rs" };
        assert!(!wrong_rooms(file, source).is_empty(), "not found: {source}");
    }
    assert_eq!(wrong_rooms("src/attic/mod.rs", "").len(), 1, "a room that is not on the list");
    assert_eq!(wrong_rooms("src/clock/mod.rs", "use speedwell_wire::Seq;").len(), 1);
    assert_eq!(wrong_rooms("src/sensor/hall.rs", "use std::{fs, time::Duration};").len(), 1);
}

#[test]
fn what_is_allowed_is_left_alone() {
    let fine = [
        "//! See [`crate::uplink`].\nuse crate::clock::BootNs;",
        "/* crate::uplink /* nested */ crate::agent */ use self::disk::Disk;",
        r####"const S: &str = "crate::agent::x"; const R: &str = r#"crate::"agent"::x"#;"####,
        "fn f<'a>(c: &'a char) -> bool { *c == '\"' && *c != '\\'' } use super::spool::Seq;",
        "mod tests { use super::*; } pub(crate) struct S; use speedwell_wire::{Record, Seq};",
        "use crate::recorder::Sample; use crate::spool as log;",
    ];
    for source in fine {
        assert_eq!(wrong_rooms("src/spool/mod.rs", source), Vec::<String>::new(), "{source}");
    }
}

#[test]
fn a_planted_foreign_crate_outside_its_door_is_found() {
    assert_eq!(wrong_doors("src", "src/spool/writer.rs", "use sled::Db;").len(), 1);
    assert_eq!(wrong_doors("src", "src/agent/mod.rs", "fn f(c: rumqttc::AsyncClient) {}").len(), 1);
    assert_eq!(wrong_doors("hub/src", "hub/src/lib.rs", "use speedwell::spool;").len(), 1);
    assert_eq!(wrong_doors("wire/src", "wire/src/lib.rs", "extern crate alloc; use speedwell::x;").len(), 1);
    assert_eq!(wrong_doors("src", "src/spool/disk.rs", "use sled::Db;"), Vec::<String>::new());
    assert_eq!(wrong_doors("hub/src", "hub/src/store/sqlite/rows.rs", "use rusqlite::params;"), Vec::<String>::new());
    assert_eq!(wrong_doors("src", "src/spool/disk.rs", "use super::sled::Db;"), Vec::<String>::new());
}
