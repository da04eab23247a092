//! How the gateway is.
//!
//! In      [`Inputs`]: the stats of the rooms, gathered by the agent.
//! Out     [`wire Health`](speedwell_wire::message::Health) for the status message; systemd notifications.
//! Keeps   when it started, and the beats it saw last.
//! Imports `uplink`, `clock`, `wire`.

pub mod systemd;
pub mod vital;

use std::time::Duration;

use speedwell_wire::{ClockSource, LogId, Seq, message::Health, message::SensorHealth};

pub use systemd::Systemd;
pub use vital::{Beat, Vitals};

/// What the rooms say, as the agent gathers it.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Since the agent started.
    pub uptime: Duration,
    /// Number of the boot.
    pub boot: u32,
    /// The log now written.
    pub log: LogId,
    /// Last record kept.
    pub last_seq: Seq,
    /// Last record confirmed.
    pub confirmed_seq: Seq,
    /// Bytes the spool takes on disk.
    pub spool_bytes: u64,
    /// Samples lost since start, by declared loss.
    pub lost_samples: u64,
    /// Who vouches for the clock.
    pub clock: ClockSource,
    /// The state of each sensor.
    pub sensors: Vec<SensorHealth>,
}

/// Puts together what the status message says.
pub fn assemble(inputs: Inputs) -> Health {
    Health {
        uptime_s: inputs.uptime.as_secs(),
        boot: inputs.boot,
        log: inputs.log,
        last_seq: inputs.last_seq,
        confirmed_seq: inputs.confirmed_seq,
        spool_bytes: inputs.spool_bytes,
        lost_samples: inputs.lost_samples,
        clock: inputs.clock,
        rss_bytes: resident_bytes(),
        sensors: inputs.sensors,
    }
}

/// Resident memory of this process, bytes; 0 where the kernel does not tell.
pub fn resident_bytes() -> u64 {
    // proc(5): "VmRSS:     5432 kB". Not statm, which counts in pages of a size that differs between kernels.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    #[test]
    fn resident_memory_is_more_than_a_mebibyte_and_less_than_a_gibibyte() {
        let bytes = super::resident_bytes();
        assert!((1 << 20..1 << 30).contains(&bytes), "{bytes}");
    }
}
