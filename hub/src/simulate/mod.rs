//! Gateways that do not exist, on a broker that does: load for measures, and something to look at.
//!
//! In      how many, how fast, with what troubles; a broker.
//! Out     the real protocol: channel lists, status with last will, live values, batches of records; a [`Report`].
//! Keeps   the unconfirmed records of each gateway, at most `log::LIMIT` bytes.
//! Imports `config`, `ingest` (its TLS), `wire`.
//!
//! ```text
//! road ──> senses ──> gateway ──> log ──> drive ──> line ──> broker ──> hub
//!                                  ^────────── confirmation ────────────┘
//! ```
//! `road`, `senses`, `gateway`, `log` and `window` are pure; `drive` hangs them on a connection.

mod drive;
mod gateway;
mod line;
mod log;
mod road;
mod senses;
mod tally;
mod window;

use std::{
    future::Future,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use speedwell_wire::topic::Topics;
use tokio::{sync::watch, task::JoinSet, time::sleep};

pub use tally::Tally;

use crate::{
    config,
    ingest::{mqtt::BrokerError, utc_ns},
};
use gateway::Gateway;
use line::Line;

/// Most gateways of a run: what a hub shows.
pub const MAX_GATEWAYS: u32 = 10_000;
/// Connections begun a second: all at once would overrun a broker's queue of those that wait to be let in.
const CONNECTS_A_SECOND: f64 = 200.0;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where; `client_id` is not used, each gateway has its own.
    pub broker: config::Broker,
    /// How many.
    pub gateways: u32,
    /// Of all chance.
    pub seed: u64,
    /// Samples a second of the fast channels.
    pub rate_hz: u32,
    /// With cut lines, duplicates, reboots, new cards and steps of clocks.
    pub outages: bool,
    /// How long records are made; until stopped without it.
    pub duration: Option<Duration>,
    /// Simulated seconds a second.
    pub speed: f64,
    /// How long the hub may take after that.
    pub patience: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Records that the hub has not confirmed.
    pub unconfirmed: u64,
    /// Gateways they are of.
    pub gateways_behind: u64,
    /// How long records were made.
    pub made_for: Duration,
    /// How long the hub took for the last of it.
    pub waited: Duration,
}

/// Simulates until the duration is over or `stop` is, then waits for what is not confirmed.
pub async fn run(options: Options, tally: Arc<Tally>, stop: impl Future<Output = ()>) -> Result<Report, BrokerError> {
    let line = Arc::new(Line::new(&options.broker)?);
    let manifest = Arc::new(senses::manifest(options.rate_hz));
    let began = Instant::now();
    let simulated = options.duration.map(|duration| (duration.as_secs_f64() * options.speed) as u64);
    // What is made faster than it happens ends now, rather than in times to come.
    let ahead = options.duration.unwrap_or_default().mul_f64((options.speed - 1.0).max(0.0));
    let start_utc_ns = utc_ns() - i64::try_from(ahead.as_nanos()).unwrap_or(0);
    let (stop_tx, stopped) = watch::channel(false);
    let mut gateways = JoinSet::new();
    for number in 0..options.gateways {
        let gateway = Gateway::new(number, options.seed, options.rate_hz, options.outages, &manifest, start_utc_ns);
        // Multiples of the golden ratio never bunch, however many there are.
        let phase = (f64::from(number) * 0.618_033_988_75).fract();
        let pace = drive::Pace { began, speed: options.speed, phase, until: simulated, patience: options.patience };
        let topics = Topics::new(options.broker.topic_prefix.as_str(), &gateway.id);
        let connect_at = began + Duration::from_secs_f64(f64::from(number) / CONNECTS_A_SECOND);
        let drive = drive::Drive { gateway, line: line.clone(), topics, tally: tally.clone(), pace, connect_at };
        gateways.spawn(drive::run(drive, stopped.clone()));
    }
    let over = async {
        match options.duration {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = over => {}
        () = stop => {}
    }
    let made_for = began.elapsed();
    stop_tx.send_replace(true);
    let (mut unconfirmed, mut gateways_behind) = (0, 0);
    while let Some(left) = gateways.join_next().await {
        // A task that panicked is a defect, and leaves what it had.
        let left = left.unwrap_or(1);
        unconfirmed += left;
        gateways_behind += u64::from(left > 0);
    }
    Ok(Report { unconfirmed, gateways_behind, made_for, waited: began.elapsed() - made_for })
}

/// A counter's number.
pub fn count(counter: &AtomicU64) -> u64 {
    Tally::get(counter)
}
