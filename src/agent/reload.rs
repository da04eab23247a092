//! Another configuration in the place of the running one: what may change while it runs, and what is changed.
//!
//! All or nothing: a configuration that cannot be had without a restart is refused as a whole, so that what runs is
//! always what some file said.

use std::fmt::Write;

use tokio::sync::mpsc;

use crate::config::{Complaints, Config, WhenFull};

/// Configurations that take the place of the running one.
pub struct Reloads {
    /// Each as it was read, or what is wrong with it.
    pub configs: mpsc::Receiver<Result<Config, Complaints>>,
    /// Called with each that was taken.
    pub taken: Box<dyn FnMut(&Config) + Send>,
}

impl Reloads {
    /// There will be none.
    pub fn none() -> Self {
        Self { configs: mpsc::channel(1).1, taken: Box::new(|_| {}) }
    }
}

/// What would need a restart, a line each.
pub(super) fn fixed(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    let mut compare = |key: &str, old: &dyn std::fmt::Display, new: &dyn std::fmt::Display| {
        let (old, new) = (old.to_string(), new.to_string());
        if old != new {
            lines.push(format!("{key} is {old} and cannot become {new} without a restart"));
        }
    };
    compare("gateway.id", &old.gateway.id, &new.gateway.id);
    compare("gateway.board", &old.gateway.board.name, &new.gateway.board.name);
    compare("gateway.state-directory", &old.gateway.state_directory.display(), &new.gateway.state_directory.display());
    compare("spool.directory", &old.spool.directory.display(), &new.spool.directory.display());
    compare("spool.max-size", &bytes(old.spool.max_size), &bytes(new.spool.max_size));
    compare("spool.keep-free", &bytes(old.spool.keep_free), &bytes(new.spool.keep_free));
    let duration = |wait: Option<std::time::Duration>| wait.map_or("not set".to_owned(), |wait| format!("{wait:?}"));
    compare("spool.commit-every", &duration(Some(old.spool.commit_every)), &duration(Some(new.spool.commit_every)));
    compare("spool.lazy", &duration(old.spool.lazy), &duration(new.spool.lazy));
    compare("spool.max-age", &duration(old.spool.max_age), &duration(new.spool.max_age));
    compare("spool.when-full", &policy(old.spool.when_full), &policy(new.spool.when_full));
    if lines.is_empty() && old.gateway.board != new.gateway.board {
        lines
            .push(format!("the description of the board {} has changed: that needs a restart", new.gateway.board.name));
    }
    lines
}

fn policy(when_full: WhenFull) -> &'static str {
    match when_full {
        WhenFull::DropOldest => "drop-oldest",
        WhenFull::DropNewest => "drop-newest",
        WhenFull::Thin => "thin",
    }
}

fn bytes(bytes: u64) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ => format!("{bytes} bytes"),
    }
}

/// What is another, in a sentence for the log; `None` when nothing is.
pub(super) fn differences(old: &Config, new: &Config) -> Option<String> {
    let was = |name: &str| old.sensors.iter().find(|sensor| sensor.name == name);
    let added = new.sensors.iter().filter(|sensor| was(&sensor.name).is_none()).map(|sensor| &sensor.name);
    let altered = new.sensors.iter().filter(|sensor| was(&sensor.name).is_some_and(|old| old != *sensor));
    let gone = old.sensors.iter().filter(|sensor| new.sensor(&sensor.name).is_none()).map(|sensor| &sensor.name);
    let lists: [(&str, Vec<&str>); 3] = [
        ("added", added.map(String::as_str).collect()),
        ("altered", altered.map(|sensor| sensor.name.as_str()).collect()),
        ("removed", gone.map(String::as_str).collect()),
    ];
    let mut words = String::new();
    for (what, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
        // Writing to a string cannot fail.
        let _ = write!(words, "; sensors {what}: {}", names.join(", "));
    }
    let order = |config: &Config| config.sensors.iter().map(|sensor| sensor.name.clone()).collect::<Vec<_>>();
    for (changed, what) in [
        (words.is_empty() && order(old) != order(new), "sensors in another order"),
        (old.fusion != new.fusion, "fusion changed"),
        (old.uplink_options() != new.uplink_options(), "a new connection to the broker"),
        (old.log != new.log, "log level changed"),
    ] {
        if changed {
            let _ = write!(words, "; {what}");
        }
    }
    (!words.is_empty()).then(|| format!("configuration reloaded{words}"))
}
