//! Keeps every record once, and finds it again.
//!
//! In      [`Work`]: prepared batches, manifests, payloads to set aside.
//! Out     [`Done`], in the same order, once it is on disk; and what [`Read`] answers.
//! Keeps   the ledger, samples as the columnar blocks they came in, events, clock fixes, losses, gaps, latest values;
//!         customers and vehicles (`fleet`), and who was connected when (`presence`).
//! Imports `ledger`, `config`, `wire`.
//!
//! One row a samples record, holding the block of all its channels: the bytes that came, byte for byte. A row a channel
//! was the other choice: a second of one channel at 10 Hz is some 20 bytes, and a row's key and header are as many
//! again, so the database would double to spare a query the decoding of neighbours that takes it microseconds.
//!
//! [`Store`] is the door for a driver; there are [`sqlite`] and [`postgres`]. What does not depend on the database is
//! shared: what of a batch is new (`judge`), history, rollups. They meet a driver's tables through `rows`.

use std::{ops::RangeInclusive, sync::Arc};

use serde::Serialize;
use speedwell_wire::{
    ClockFix, ClockSource, Event, GatewayId, LogId, Loss, Manifest, ManifestHash, Quality, Quantity, Seq,
};
use utoipa::ToSchema;

use crate::config;

mod channels;
pub mod clock;
mod error;
pub mod fleet;
mod history;
mod judge;
pub mod postgres;
pub mod presence;
mod reading;
mod reduce;
mod rollup;
mod rows;
mod samples;
mod scan;
pub mod sqlite;
mod told;
mod tracks;
mod words;
pub mod writer;

pub use channels::{Channels, ChannelsQuery, MAX_CHANNELS};
pub use clock::ClockMap;
pub use error::StoreError;
use fleet::{FleetChange, FleetRefused, FleetSaved, ReadFleet};
pub use postgres::Postgres;
use presence::{PresenceNotes, ReadPresence};
pub use reading::{Reading, Readings, ReadingsDone};
use reading::{latest_of, merge_latest};
pub use reduce::{DrawQuery, Drawing, MAX_DRAWN, Made, Mark};
pub use rollup::{Bucket, Level, MAX_BRIDGE_NS, MAX_BUCKET_S, MAX_BUCKETS, Rollup, RollupQuery, bucket_is_allowed};
pub use samples::{Sample, Samples, SamplesQuery};
pub use sqlite::Sqlite;
pub use told::{Happened, Lack, Missing, Told, ToldQuery, What};
pub use tracks::{MAX_PLACES, Place, PlacesQuery};
use words::{gateway, int, log_id, unword, word};

/// Most points one history answer has; more are cut off, and the answer says so.
pub const MAX_POINTS: usize = 100_000;
/// Most records one history answer looks at: half a day of one-second records. A channel that is seldom there would
/// otherwise cost a pass over years.
pub const MAX_CHUNKS: usize = 50_000;
/// Bytes of a set-aside payload that are kept: enough to see what it was.
pub const MAX_REJECTED_BYTES: usize = 4096;
/// Set-aside payloads kept; the oldest make room.
pub const MAX_REJECTED_ROWS: u32 = 10_000;

/// How long a request's key is known, ns: a day. Who asks again later gets its readings told as duplicates.
pub const KEEP_KEYS_NS: i64 = 24 * 3600 * 1_000_000_000;
/// Keys known; the oldest make room. Some 100 bytes each.
pub const MAX_KEYS: u32 = 1_000_000;

/// Opens the database that a configuration names.
pub fn open(config: &config::Store, password: Option<&str>) -> Result<Box<dyn Store>, StoreError> {
    let keep = config.keep_days.map(std::num::NonZeroU32::get);
    Ok(match &config.url {
        Some(url) => Box::new(Postgres::open(url.as_str(), password, config.ca_file.as_deref())?.keep_days(keep)),
        None => Box::new(Sqlite::open(&config.path)?.keep_days(keep)),
    })
}

/// From which form a database was brought to which. From 0 when there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Its form before.
    pub from: i64,
    /// Its form now.
    pub to: i64,
}

/// Brings the database that a configuration names to the newest form.
pub fn migrate(config: &config::Store, password: Option<&str>) -> Result<Migrated, StoreError> {
    match &config.url {
        Some(url) => Postgres::migrate(url.as_str(), password, config.ca_file.as_deref()),
        None => Sqlite::migrate(&config.path),
    }
}

/// The place where everything is kept. One owner, one thread.
pub trait Store: Send + 'static {
    /// Does all of it in one transaction, which is on disk when this returns. On an error none of it was done.
    fn commit(&mut self, work: &[Work]) -> Result<Vec<Done>, StoreError>;

    /// Does a bounded piece of what can wait, and says whether there is more of it to do now: sums that are behind, what
    /// is older than it is to be kept. Nothing that was confirmed depends on it.
    fn tend(&mut self, now_ns: i64) -> Result<bool, StoreError> {
        let _ = now_ns;
        Ok(false)
    }

    /// A way to read, for many threads at once.
    fn reader(&self) -> Arc<dyn Read>;
}

impl Store for Box<dyn Store> {
    fn commit(&mut self, work: &[Work]) -> Result<Vec<Done>, StoreError> {
        (**self).commit(work)
    }

    fn tend(&mut self, now_ns: i64) -> Result<bool, StoreError> {
        (**self).tend(now_ns)
    }

    fn reader(&self) -> Arc<dyn Read> {
        (**self).reader()
    }
}

/// Reads what was committed. Calls block; each costs a bounded amount.
pub trait Read: ReadFleet + ReadPresence + Send + Sync + 'static {
    /// All channel lists.
    fn manifests(&self) -> Result<Vec<Manifest>, StoreError>;

    /// The newest stored value of every channel of every gateway.
    fn latest(&self) -> Result<Vec<Latest>, StoreError>;

    /// A channel's samples over a range of UTC.
    fn history(&self, query: &HistoryQuery) -> Result<History, StoreError>;

    /// Samples of many channels over a range of UTC, a page at a time.
    fn samples(&self, query: &SamplesQuery) -> Result<Samples, StoreError>;

    /// A channel's samples over a range of UTC, summed up by so many seconds.
    fn rollup(&self, query: &RollupQuery) -> Result<Rollup, StoreError>;

    /// A channel over a range of UTC as few points, for drawing.
    fn draw(&self, query: &DrawQuery) -> Result<Drawing, StoreError>;

    /// Channels with their newest values, a page at a time.
    fn channels(&self, query: &ChannelsQuery) -> Result<Channels, StoreError>;

    /// What is missing of a gateway over a range of UTC, and why.
    fn missing(&self, query: &ToldQuery) -> Result<Told<Missing>, StoreError>;

    /// What happened to a gateway over a range of UTC.
    fn happened(&self, query: &ToldQuery) -> Result<Told<Happened>, StoreError>;

    /// Where devices told one by one that they are, the newest first.
    fn places(&self, query: &PlacesQuery) -> Result<Vec<Place>, StoreError>;

    /// What is stored of each gateway, in numbers.
    fn standings(&self) -> Result<Vec<(GatewayId, Standing)>, StoreError>;

    /// Where each log stands.
    fn ledgers(&self) -> Result<Vec<LedgerRow>, StoreError>;

    /// What the database takes on its disk.
    fn bytes(&self) -> Result<u64, StoreError>;

    /// What the store holds, in numbers.
    fn counts(&self) -> Result<Counts, StoreError>;
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Records of one log.
    Batch(PreparedBatch),
    /// A channel list.
    Manifest(Arc<Manifest>),
    /// A payload that could not be used.
    Rejected(Rejected),
    /// Readings that came one by one, from those who are no gateways of ours.
    Readings(Readings),
    /// A change of customers or vehicles.
    Fleet(FleetChange),
    /// What is connected, and what is not.
    Presence(PresenceNotes),
}

/// A batch, decoded as far as the store needs.
#[derive(Clone, Debug, PartialEq)]
pub struct PreparedBatch {
    /// Whose.
    pub gateway: GatewayId,
    /// Of which log.
    pub log: LogId,
    /// The oldest record the gateway still has.
    pub oldest_seq: Seq,
    /// The sequence number of the first entry.
    pub first_seq: Seq,
    /// When it arrived, UTC ns.
    pub received_ns: i64,
    /// The entries, up to the first whose manifest is not known.
    pub entries: Vec<Prepared>,
}

/// One entry of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// Its first sequence number.
    pub seq: Seq,
    /// How many it stands for.
    pub span: u64,
    /// What is to be kept.
    pub item: Item,
}

/// What an entry is kept as.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// Samples.
    Chunk(Chunk),
    /// Something that happened.
    Event(Event),
    /// A mapping of boot time to UTC.
    Clock(ClockFix),
    /// A declared hole.
    Loss(Loss),
    /// Samples that cannot be read: set aside, since the log has to go on.
    Unreadable {
        /// Why.
        reason: String,
        /// The block.
        bytes: Vec<u8>,
    },
}

/// A block of samples with what is needed to find it.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// The channel list it is read with.
    pub manifest: ManifestHash,
    /// The boot its times belong to.
    pub boot: u32,
    /// First and last boot time in it, ns.
    pub time: RangeInclusive<u64>,
    /// Samples in it.
    pub samples: u32,
    /// The newest value of each of its channels.
    pub newest: Vec<Newest>,
    /// The bytes that came.
    pub block: Vec<u8>,
}

/// The newest value of a channel in a chunk.
#[derive(Clone, Debug, PartialEq)]
pub struct Newest {
    /// The sensor's name.
    pub sensor: String,
    /// What is measured.
    pub quantity: Quantity,
    /// When, boot time in ns.
    pub t_ns: u64,
    /// In the quantity's unit.
    pub value: f64,
    /// One standard uncertainty in that unit, when known.
    pub uncertainty: Option<f64>,
    /// How far it can be trusted.
    pub quality: Quality,
}

/// A payload that could not be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// The gateway whose topic it came on, or as much of the topic as there was.
    pub source: String,
    /// When, UTC ns.
    pub received_ns: i64,
    /// Why, in words.
    pub reason: String,
    /// Its first bytes, at most [`MAX_REJECTED_BYTES`].
    pub bytes: Vec<u8>,
}

/// The name in a [`Rejected::source`].
pub fn gateway_of(source: &str) -> &str {
    source.split('/').next().unwrap_or_default()
}

/// What became of a piece of [`Work`].
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// A batch was judged; `thru` may be said to the gateway.
    Batch(Committed),
    /// Kept.
    Kept,
    /// Readings were judged.
    Readings(ReadingsDone),
    /// A change of the fleet was made, or refused.
    Fleet(Result<FleetSaved, FleetRefused>),
    /// The database does not take it, for what is in it. Nothing of it was done, and the same again is in vain.
    Refused(Box<Refused>),
}

/// What the database does not take.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// The whole piece, given back.
    pub work: Work,
    /// What the database said. Words for the operator: there may be names of tables in it.
    pub why: String,
}

impl Work {
    /// What it is and whose, for a log.
    pub fn told(&self) -> (&'static str, &str) {
        match self {
            Work::Batch(batch) => ("batch", batch.gateway.as_str()),
            Work::Manifest(_) => ("manifest", ""),
            Work::Rejected(rejected) => ("payload to set aside", &rejected.source),
            Work::Readings(readings) => ("readings", &readings.source),
            Work::Fleet(_) => ("change of customers or vehicles", ""),
            Work::Presence(_) => ("notes of presence", ""),
        }
    }
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// Whose.
    pub gateway: GatewayId,
    /// Of which log.
    pub log: LogId,
    /// The last record stored, inclusive.
    pub thru: Seq,
    /// Entries stored.
    pub stored: u32,
    /// Entries that were stored before.
    pub duplicates: u32,
    /// Entries that left a hole or overlapped.
    pub dropped: u32,
    /// Records that will never come, passed over.
    pub gap: Option<RangeInclusive<Seq>>,
    /// Samples that the gateway declared lost in what was stored.
    pub lost_samples: u64,
    /// Blocks that could not be read and were set aside.
    pub rejected: u64,
    /// The newest values that this batch brought.
    pub newest: Vec<Latest>,
}

/// The newest stored value of a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Latest {
    /// Whose.
    pub gateway: GatewayId,
    /// The log it came in; each counts its boots anew. 0 for a reading that came one by one.
    pub log: LogId,
    /// The boot of its time; 0 for such a reading, whose boot time is its UTC.
    pub boot: u32,
    /// The value.
    pub newest: Newest,
    /// Its time in UTC ns, when the boot's clock is known.
    pub utc_ns: Option<i64>,
}

/// A channel and a range of UTC, both ends inclusive.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryQuery {
    /// Whose.
    pub gateway: GatewayId,
    /// The sensor's name.
    pub sensor: String,
    /// What is measured.
    pub quantity: Quantity,
    /// UTC ns.
    pub from_ns: i64,
    /// UTC ns.
    pub to_ns: i64,
    /// At most this many points, the oldest first.
    pub limit: usize,
}

/// Samples of a channel in order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The samples.
    pub points: Vec<Point>,
    /// There may be more in the range: the limit on points, or on records looked at, was met.
    pub truncated: bool,
    /// Where to ask on from then, UTC ns: all before it is in this answer.
    pub next_ns: Option<i64>,
    /// Who vouches for the times; the least trusted of them. The giver of readings that came one by one told their times
    /// himself, and is not counted.
    pub clock: Option<ClockSource>,
    /// Bound on the error of any of these times, ns, as good as the word of who vouches; absent where nobody does, and for
    /// readings that came one by one.
    pub utc_uncertainty_ns: Option<u64>,
    /// Boots that may lie in the range, in order: nobody ever vouched for their time.
    pub undated: Vec<Undated>,
}

/// A boot for whose time nobody vouched. Boots are numbered, so it lies between the dated ones before and after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Undated {
    /// Its log.
    pub log: String,
    /// Its number there.
    pub boot: u32,
    /// It began after this, UTC ns: the last that is known of the dated boot before it.
    pub after_ns: Option<i64>,
    /// It had ended by this, UTC ns: the beginning of the dated boot after it.
    pub before_ns: Option<i64>,
    /// Where its own clock places its samples, right or wrong, UTC ns: the range to ask for to see them.
    pub told_ns: Option<(i64, i64)>,
}

/// A sample with its time in UTC.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When, UTC ns.
    pub utc_ns: i64,
    /// In the quantity's unit.
    pub value: f64,
    /// One standard uncertainty in that unit, when known.
    pub uncertainty: Option<f64>,
    /// How far it can be trusted.
    pub quality: Quality,
}

/// Where a log stands.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerRow {
    /// Whose.
    pub gateway: GatewayId,
    /// Which.
    pub log: LogId,
    /// The last record stored.
    pub thru: Seq,
    /// When a batch of it last arrived, UTC ns.
    pub received_ns: i64,
}

/// What is stored of a gateway, in numbers, over all its logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Standing {
    /// The log that a batch last came from, 16 hexadecimal digits; null when none did.
    #[schema(value_type = Option<String>, required, pattern = "^[0-9a-f]{16}$")]
    pub log: Option<LogId>,
    /// The last record of it that is stored; 0 when none is.
    #[schema(value_type = u64)]
    pub thru: Seq,
    /// Ranges that the gateway no longer had when the hub came to know it.
    pub gaps: u64,
    /// Records in them.
    pub missing_records: u64,
    /// Samples that the gateway declared lost.
    pub lost_samples: u64,
    /// Payloads of it that were set aside.
    pub rejected: u64,
    /// Readings that came one by one.
    pub readings: u64,
}

impl Standing {
    /// Counts what a commit has brought.
    pub fn add(&mut self, committed: &Committed) {
        (self.log, self.thru) = (Some(committed.log), committed.thru);
        if let Some(gap) = &committed.gap {
            self.gaps += 1;
            self.missing_records = self.missing_records.saturating_add(gap.end() - gap.start() + 1);
        }
        self.lost_samples = self.lost_samples.saturating_add(committed.lost_samples);
        self.rejected += committed.rejected;
    }
}

/// What the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples records.
    pub chunks: u64,
    /// Samples in them.
    pub samples: u64,
    /// Events.
    pub events: u64,
    /// Clock fixes.
    pub clock_fixes: u64,
    /// Declared losses.
    pub losses: u64,
    /// Gaps passed over.
    pub gaps: u64,
    /// Payloads set aside.
    pub rejected: u64,
    /// Readings that came one by one.
    pub readings: u64,
}
