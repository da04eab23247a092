//! What the gateway of a world is told, as far as it changes.

use std::path::Path;

use crate::{
    receiver::BAUD,
    world::{GATEWAY, PREFIX, RECEIVERS},
};

/// What the gateway's configuration says, as far as it changes.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) receivers: Vec<usize>,
    /// How often each may report, Hz. An agent that is held up reads several sentences at once and takes them for as far
    /// apart as the line needs for one, 15 ms: it must not thin those out.
    pub(crate) report_hz: [u32; RECEIVERS.len()],
    pub(crate) commit_every_ms: u64,
    /// Memory first, the disk after so long; 0 is off.
    pub(crate) lazy_s: u64,
    pub(crate) window_kib: u64,
    pub(crate) encoding: &'static str,
    pub(crate) confirm: &'static str,
    pub(crate) live: bool,
}

impl Settings {
    pub(crate) fn drawn(dice: &mut fastrand::Rng) -> Self {
        let mut receivers: Vec<usize> = (0..RECEIVERS.len()).collect();
        dice.shuffle(&mut receivers);
        receivers.truncate(dice.usize(1..=RECEIVERS.len()));
        Self {
            receivers,
            report_hz: std::array::from_fn(|_| [80, 100][dice.usize(..2)]),
            commit_every_ms: [200, 500, 1000, 1000, 3000][dice.usize(..5)],
            lazy_s: if dice.u8(..4) == 0 { 2 } else { 0 },
            window_kib: [16, 64, 256][dice.usize(..3)],
            // JSON is many times larger and sent unmerged: another way through the uplink and the hub.
            encoding: if dice.u8(..4) == 0 { "json" } else { "postcard" },
            confirm: "hub",
            live: dice.bool(),
        }
    }

    /// Other sensors and another way to the broker; what needs a restart stays.
    pub(crate) fn redrawn(&self, dice: &mut fastrand::Rng) -> Self {
        let Self { commit_every_ms, lazy_s, confirm, .. } = *self;
        Self { commit_every_ms, lazy_s, confirm, ..Self::drawn(dice) }
    }

    /// The receivers that are as they are in `other`.
    pub(crate) fn same_as_in(&self, other: &Self) -> Vec<usize> {
        let same = |at: &usize| other.receivers.contains(at) && self.report_hz[*at] == other.report_hz[*at];
        self.receivers.iter().copied().filter(same).collect()
    }

    /// The file, for a gateway with its state on `disk` and its broker at `broker`; `port` gives a receiver's.
    pub(crate) fn text(&self, disk: &Path, broker: u16, port: impl Fn(usize) -> String) -> String {
        let Self { receivers, report_hz, commit_every_ms, lazy_s, window_kib, encoding, confirm, live } = self;
        let disk = disk.display();
        let mut config = format!(
            "[gateway]\nid = \"{GATEWAY}\"\nboard = \"generic-linux\"\nstate-directory = \"{disk}/state\"\n\
             [broker]\nurl = \"mqtt://127.0.0.1:{broker}\"\ntopic-prefix = \"{PREFIX}\"\nwindow = \"{window_kib} KiB\"\n\
             encoding = \"{encoding}\"\nconfirm = \"{confirm}\"\nlive = {live}\nkeep-alive = \"5 s\"\n\
             [spool]\ndirectory = \"{disk}/spool\"\nmax-size = \"32 MiB\"\nkeep-free = \"0 MiB\"\n\
             commit-every = \"{commit_every_ms} ms\"\n"
        );
        if *lazy_s > 0 {
            config += &format!("lazy = \"{lazy_s} s\"\n");
        }
        for receiver in receivers {
            let (name, port, report) = (RECEIVERS[*receiver], port(*receiver), report_hz[*receiver]);
            config += &format!(
                "[[sensor]]\nname = \"{name}\"\nkind = \"nmea\"\nport = \"{port}\"\nbaud = {BAUD}\n\
                 report = \"{report} Hz\"\nlatency = \"0 s\"\nposition = true\n"
            );
        }
        config
    }
}
