//! What a driver gives of its tables, so that history and rollups are told alike by each.

use std::sync::Arc;

use speedwell_wire::{ClockFix, Event, GatewayId, Loss, Manifest, Quantity};

use super::{
    Latest, Point, StoreError,
    rollup::{Bucket, Level},
};

/// Clock fixes of one boot that are looked at: one an hour for ten years.
pub(super) const MAX_FIXES: usize = 100_000;
/// Records read at a time.
pub(super) const PAGE: usize = 256;
/// A day, ns.
pub(super) const DAY_NS: i64 = 24 * 3600 * 1_000_000_000;

/// The records of a boot that arrived on one day. By day of arrival, because that is known of every record, and never
/// changes as clocks are set right.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// The log's number in the database, and its name.
    pub(super) log: i64,
    pub(super) name: String,
    pub(super) boot: u32,
    /// Days since 1970.
    pub(super) day: i64,
    /// First and last boot time, and the longest record, ns.
    pub(super) t_min: i64,
    pub(super) t_max: i64,
    pub(super) widest: i64,
    /// First and last record. In one log what arrives later has the higher number.
    pub(super) seqs: (i64, i64),
}

/// A samples record.
pub(super) struct ChunkRow {
    pub(super) manifest: i64,
    pub(super) t_min: i64,
    pub(super) t_max: i64,
    pub(super) seq: i64,
    pub(super) block: Vec<u8>,
}

/// A quantity of a sensor of a gateway or device.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) id: i64,
    pub(super) sensor: String,
    pub(super) quantity: Quantity,
    /// Whether it has readings that came one by one.
    pub(super) read: bool,
}

/// The tables as they are at one moment.
pub(super) trait Rows {
    /// In order of log, boot and day.
    fn parts(&mut self, gateway: &GatewayId) -> Result<Vec<Part>, StoreError>;

    /// Of each of these boots of logs, in order of boot time and record, at most [`MAX_FIXES`].
    fn fixes(&mut self, boots: &[(i64, u32)]) -> Result<Vec<Vec<ClockFix>>, StoreError>;

    /// Those that reach into a range of boot time, in order of first time and record, after one, at most so many.
    fn chunks(
        &mut self,
        part: &Part,
        times: (i64, i64),
        after: Option<(i64, i64)>,
        most: usize,
    ) -> Result<Vec<ChunkRow>, StoreError>;

    /// By its number in the database.
    fn manifest(&mut self, id: i64) -> Result<Arc<Manifest>, StoreError>;

    /// Of one gateway or device.
    fn series(&mut self, gateway: &GatewayId) -> Result<Vec<Series>, StoreError>;

    /// Readings that came one by one, the earliest first, both ends inclusive.
    fn readings(&mut self, series: i64, range: (i64, i64), most: usize) -> Result<Vec<Point>, StoreError>;

    /// Where in a range rollups are behind: from, inclusive, to, exclusive; in order.
    fn marks(&mut self, gateway: &GatewayId, range: (i64, i64)) -> Result<Vec<(i64, i64)>, StoreError>;

    /// Buckets that begin in a range, the end exclusive, the earliest first.
    fn rollups(&mut self, series: i64, level: Level, range: (i64, i64), most: usize)
    -> Result<Vec<Bucket>, StoreError>;
}

/// What a log holds besides samples, what channels there are, and who told where he is. Of all but the logs and the newest
/// values at most so many as are asked for.
pub(super) trait Lists: Rows {
    /// Number and name of a gateway's logs, at most [`MAX_LOGS`], those that a batch came from last.
    fn logs(&mut self, gateway: &GatewayId) -> Result<Vec<(i64, String)>, StoreError>;

    /// First and last record of gaps that begin in a range of records, in order.
    fn gaps(&mut self, log: i64, seqs: Seqs, most: usize) -> Result<Vec<Seqs>, StoreError>;

    /// Losses in a range of records, in order: the first record, how many it stands for, and what is declared.
    fn losses(&mut self, log: i64, seqs: Seqs, most: usize) -> Result<Vec<(i64, i64, Loss)>, StoreError>;

    /// Events in a range of records, in order.
    fn events(&mut self, log: i64, seqs: Seqs, most: usize) -> Result<Vec<(i64, Event)>, StoreError>;

    /// Clock fixes of some boots in a range of records, in order of boot and boot time.
    fn clock_fixes(
        &mut self,
        log: i64,
        boots: (u32, u32),
        seqs: Seqs,
        most: usize,
    ) -> Result<Vec<(i64, ClockFix)>, StoreError>;

    /// The newest value of channels whose gateway, sensor and quantity come after these, of one gateway or of all, in the
    /// database's own order of them; of samples and readings of one channel, both.
    fn newest(&mut self, only: Option<&GatewayId>, after: &Key, most: usize) -> Result<Vec<Latest>, StoreError>;

    /// Where somebody told where he is, of one device or of all, those that told last.
    fn trackers(&mut self, device: Option<&GatewayId>, most: usize) -> Result<Vec<Tracker>, StoreError>;

    /// As [`Rows::readings`], but the latest, the latest first.
    fn readings_back(&mut self, series: i64, range: (i64, i64), most: usize) -> Result<Vec<Point>, StoreError>;

    /// The time of the latest reading of each series in a range.
    fn latest_times(&mut self, series: &[i64], range: (i64, i64)) -> Result<Vec<Option<i64>>, StoreError>;
}

/// First and last record, both inclusive.
pub(super) type Seqs = (i64, i64);

/// Gateway, sensor and quantity.
pub(super) type Key = (String, String, String);

/// Logs of one gateway that are looked at: a new card each week for twenty years.
pub(super) const MAX_LOGS: usize = 1_000;

/// A sensor whose places came one by one.
#[derive(Clone, Debug)]
pub(super) struct Tracker {
    pub(super) device: GatewayId,
    pub(super) sensor: String,
    /// Its series.
    pub(super) latitude: i64,
    pub(super) longitude: i64,
    pub(super) speed: Option<i64>,
    pub(super) newest_ns: i64,
}

/// The tables, to be written.
pub(super) trait RowsMut: Rows {
    /// The mark to be settled next, and nobody else's to settle until this transaction ends.
    fn due_mark(&mut self, now_ns: i64) -> Result<Option<Mark>, StoreError>;

    /// Settled up to here; all of it when this is its end.
    fn settled(&mut self, mark: &Mark, upto: i64) -> Result<(), StoreError>;

    /// As if it had been touched at this time.
    fn postponed(&mut self, mark: &Mark, touched_ns: i64) -> Result<(), StoreError>;

    /// The minutes of all series of a gateway that begin in a range, the end exclusive, the earliest first.
    fn minutes(
        &mut self,
        gateway: &GatewayId,
        range: (i64, i64),
        most: usize,
    ) -> Result<Vec<(i64, Bucket)>, StoreError>;

    /// The number of a series, made when there is none.
    fn series_id(&mut self, gateway: &GatewayId, sensor: &str, quantity: Quantity) -> Result<i64, StoreError>;

    /// Puts these in the place of all that a gateway has in a range.
    fn replace_rollups(
        &mut self,
        gateway: &GatewayId,
        level: Level,
        range: (i64, i64),
        buckets: &[(i64, Bucket)],
    ) -> Result<(), StoreError>;
}

/// A range of UTC in which rollups are behind.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark {
    pub(super) gateway: GatewayId,
    /// UTC ns, at a full minute.
    pub(super) from_ns: i64,
    /// Exclusive.
    pub(super) to_ns: i64,
}
