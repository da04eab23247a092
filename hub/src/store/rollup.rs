//! Samples summed up by the second, the minute and the hour of UTC.
//!
//! Minutes and hours are kept as rows. Seconds are not: a record is about a second of all channels, and the rows of that
//! second would be seven times its size (see docs/decisions/chunks.md), so they are summed up when they are asked for.
//!
//! What is kept is always what the samples themselves would give, or is marked as behind: whoever stores samples, dates a
//! boot anew or drops what is old marks the minutes that this touches, in the same transaction. [`settle`] makes marked
//! minutes anew out of the samples, and takes the mark away in the transaction that writes them. A question answers
//! marked minutes from the samples. So late data, duplicates and crashes need no care of their own.

use std::collections::HashMap;

use serde::Serialize;
use speedwell_wire::{GatewayId, Quantity};

use super::{
    MAX_CHUNKS, StoreError,
    rows::{Mark, Rows, RowsMut, Series},
    scan::{Scan, Seen},
};

/// Most buckets one answer has: a day by the second.
pub const MAX_BUCKETS: usize = 100_000;
/// Silence longer than this is not bridged by the time-weighted mean: two and a half of the longest usual intervals, a
/// minute.
pub const MAX_BRIDGE_NS: i64 = 150 * SECOND_NS;
/// Records that one step of [`settle`] looks at, but for the last minutes it has begun.
const STEP_CHUNKS: usize = 2_000;
/// Stretches without samples that one step passes over.
const STEP_WINDOWS: usize = 64;
/// How much is settled at a time.
const WINDOW_NS: i64 = 10 * MINUTE_NS;
const SECOND_NS: i64 = 1_000_000_000;
const MINUTE_NS: i64 = 60 * SECOND_NS;
/// A mark that nothing was added to for so long is settled: the minute under way would else be made anew every second.
pub(super) const SETTLE_AFTER_NS: i64 = 5 * SECOND_NS;

/// How long a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// 1 s
    Second,
    /// 60 s
    Minute,
    /// 3600 s
    Hour,
}

impl Level {
    /// Its length, ns.
    pub fn ns(self) -> i64 {
        match self {
            Level::Second => SECOND_NS,
            Level::Minute => MINUTE_NS,
            Level::Hour => 60 * MINUTE_NS,
        }
    }

    /// Its number in the database: its length in seconds.
    pub(super) fn number(self) -> i16 {
        (self.ns() / SECOND_NS) as i16
    }
}

/// All samples of a channel within a second, a minute or an hour. One without samples is not there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// When it begins, UTC ns.
    pub start_ns: i64,
    /// Samples in it.
    pub count: u64,
    /// Those of them for whose time nobody vouches.
    pub untrusted: u64,
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
    /// All values added.
    pub sum: f64,
    /// Time and value of the first.
    pub first: (i64, f64),
    /// Time and value of the last.
    pub last: (i64, f64),
    /// The area under the values joined by straight lines, in the unit times seconds.
    pub area: f64,
    /// How long those lines are, ns: without silences longer than [`MAX_BRIDGE_NS`].
    pub bridged_ns: i64,
}

impl Bucket {
    fn new(start_ns: i64, point: &Sampled) -> Self {
        let Sampled { utc_ns, value, untrusted } = *point;
        let at = (utc_ns, value);
        let (untrusted, area) = (u64::from(untrusted), 0.0);
        Self {
            start_ns,
            count: 1,
            untrusted,
            min: value,
            max: value,
            sum: value,
            first: at,
            last: at,
            area,
            bridged_ns: 0,
        }
    }

    /// Takes in a bucket that lies after this one.
    fn append(&mut self, next: &Bucket) {
        let apart = next.first.0.saturating_sub(self.last.0);
        if (0..=MAX_BRIDGE_NS).contains(&apart) {
            // Trapezoid: (a + b) / 2 * dt
            self.area += (self.last.1 + next.first.1) / 2.0 * (apart as f64 / 1e9);
            self.bridged_ns += apart;
        }
        self.area += next.area;
        self.bridged_ns += next.bridged_ns;
        (self.min, self.max) = (self.min.min(next.min), self.max.max(next.max));
        self.sum += next.sum;
        self.count += next.count;
        self.untrusted += next.untrusted;
        self.last = next.last;
    }

    /// The mean of the values.
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// The mean over time: each value counts for as long as it lasted. Where only one time was measured, the mean.
    pub fn weighted_mean(&self) -> f64 {
        match self.bridged_ns {
            0 => self.mean(),
            ns => self.area / (ns as f64 / 1e9),
        }
    }
}

/// A channel and a range of UTC. A bucket that the range begins in is part of the answer, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct RollupQuery {
    /// Whose.
    pub gateway: GatewayId,
    /// The sensor's name.
    pub sensor: String,
    /// What is measured.
    pub quantity: Quantity,
    /// How long buckets are to be.
    pub level: Level,
    /// UTC ns.
    pub from_ns: i64,
    /// UTC ns, inclusive.
    pub to_ns: i64,
    /// At most this many buckets, the oldest first.
    pub limit: usize,
}

/// Buckets in order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rollup {
    /// Those that have samples.
    pub buckets: Vec<Bucket>,
    /// Where to ask on from, UTC ns, when a limit was met: all before it is in this answer.
    pub next_ns: Option<i64>,
    /// The quantity goes round, as a course does: 359° and 1° have no mean that adding could give, so use none.
    pub circular: bool,
}

/// A sample as it goes into a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sampled {
    pub(super) utc_ns: i64,
    pub(super) value: f64,
    pub(super) untrusted: bool,
}

/// The multiple of `step` at or before a time.
pub(super) fn floor(ns: i64, step: i64) -> i64 {
    ns.div_euclid(step).saturating_mul(step)
}

/// Sums samples up; they may come in any order.
pub(super) fn sum_up(level: Level, mut samples: Vec<Sampled>) -> Vec<Bucket> {
    // By value too, so that two samples of one time always give the same first and last.
    samples.sort_unstable_by(|a, b| a.utc_ns.cmp(&b.utc_ns).then(a.value.total_cmp(&b.value)));
    join(level, samples.iter().map(|sample| Bucket::new(floor(sample.utc_ns, level.ns()), sample)))
}

/// Joins buckets in order of time into longer ones.
fn join(level: Level, parts: impl IntoIterator<Item = Bucket>) -> Vec<Bucket> {
    let mut all: Vec<Bucket> = Vec::new();
    for part in parts {
        let start_ns = floor(part.start_ns, level.ns());
        match all.last_mut() {
            Some(last) if last.start_ns == start_ns => last.append(&part),
            _ => all.push(Bucket { start_ns, ..part }),
        }
    }
    all
}

/// Answers from what is kept, and where that is behind, from the samples.
pub(super) fn rollup(rows: &mut impl Rows, query: &RollupQuery) -> Result<Rollup, StoreError> {
    let circular = matches!(query.quantity, Quantity::Course | Quantity::Angle);
    let known = rows.series(&query.gateway)?;
    let series = known.into_iter().find(|s| s.sensor == query.sensor && s.quantity == query.quantity);
    let step = query.level.ns();
    let range = (floor(query.from_ns, step), floor(query.to_ns, step).saturating_add(step));
    let limit = query.limit.min(MAX_BUCKETS);
    let mut asking = Asking { query, series, limit: limit + 1, chunks: MAX_CHUNKS, next: None };
    let mut buckets = asking.level(rows, query.level, range)?;
    let mut next_ns = asking.next;
    if buckets.len() > limit {
        next_ns = Some(buckets[limit].start_ns);
        buckets.truncate(limit);
    }
    Ok(Rollup { buckets, next_ns, circular })
}

/// A question being answered.
struct Asking<'a> {
    query: &'a RollupQuery,
    series: Option<Series>,
    limit: usize,
    /// Records that may still be looked at.
    chunks: usize,
    /// The answer is complete up to here only.
    next: Option<i64>,
}

impl Asking<'_> {
    fn level(&mut self, rows: &mut impl Rows, level: Level, range: (i64, i64)) -> Result<Vec<Bucket>, StoreError> {
        let mut all = Vec::new();
        if level == Level::Second {
            self.samples(rows, level, range, &mut all)?;
            return Ok(all);
        }
        let mut at = range.0;
        let mut marks = rows.marks(&self.query.gateway, range)?;
        // So that the last stretch without a mark is walked like any other.
        marks.push((range.1, range.1));
        for (from, to) in marks {
            let (from, to) = (floor(from, level.ns()).clamp(at, range.1), ceil(to, level.ns()).min(range.1));
            if let Some(series) = self.series.as_ref().filter(|_| from > at && self.goes_on(&all)) {
                all.extend(rows.rollups(series.id, level, (at, from), self.limit - all.len())?);
            }
            at = from;
            if to > at && self.goes_on(&all) {
                match level {
                    Level::Hour => self.hours(rows, (at, to), &mut all)?,
                    _ => self.samples(rows, level, (at, to), &mut all)?,
                }
            }
            at = at.max(to);
        }
        Ok(all)
    }

    fn goes_on(&self, all: &[Bucket]) -> bool {
        self.next.is_none() && all.len() < self.limit
    }

    /// Hours that are behind, by the minute: most minutes of them are not.
    fn hours(&mut self, rows: &mut impl Rows, range: (i64, i64), all: &mut Vec<Bucket>) -> Result<(), StoreError> {
        let (mut at, limit) = (range.0, self.limit);
        while at < range.1 && self.goes_on(all) {
            let to = range.1.min(at.saturating_add(24 * Level::Hour.ns()));
            // All minutes of a day, whatever the limit on hours is.
            self.limit = usize::MAX;
            let minutes = self.level(rows, Level::Minute, (at, to));
            self.limit = limit;
            all.extend(join(Level::Hour, minutes?));
            at = to;
        }
        if let Some(next) = self.next {
            let complete = floor(next, Level::Hour.ns());
            all.retain(|bucket| bucket.start_ns < complete);
            self.next = Some(complete);
        }
        Ok(())
    }

    /// Seconds or minutes that are behind, from the samples.
    fn samples(
        &mut self,
        rows: &mut impl Rows,
        level: Level,
        range: (i64, i64),
        all: &mut Vec<Bucket>,
    ) -> Result<(), StoreError> {
        let RollupQuery { gateway, sensor, quantity, .. } = self.query;
        let mut scan = Scan::new(rows, gateway, (range.0, range.1 - 1), Some((sensor, *quantity)))?;
        // Asking on has to get on, so the first bucket is seen to its end whatever it costs.
        let first = floor(self.query.from_ns, self.query.level.ns()).saturating_add(self.query.level.ns());
        let mut at = range.0;
        while at < range.1 && self.goes_on(all) {
            if self.chunks == 0 && at >= first {
                self.next = Some(at);
                return Ok(());
            }
            let end = range.1.min(floor(at, WINDOW_NS).saturating_add(WINDOW_NS));
            let Seen { samples, cost } = scan.samples(rows, (at, end - 1))?;
            self.chunks = self.chunks.saturating_sub(cost);
            at = if samples.is_empty() { floor(scan.next(rows, end)?, level.ns()).clamp(end, range.1) } else { end };
            // By way of seconds, as what is kept was made: so that both are the same to the last digit.
            all.extend(samples.into_values().flat_map(|samples| join(level, sum_up(Level::Second, samples))));
        }
        Ok(())
    }
}

fn ceil(ns: i64, step: i64) -> i64 {
    floor(ns.saturating_add(step - 1), step)
}

/// Makes a bounded piece of what is behind anew: many marks in one transaction, as each is small. Says whether there is
/// more to do at once.
pub(super) fn settle(rows: &mut impl RowsMut, now_ns: i64) -> Result<bool, StoreError> {
    let mut spent = 0;
    while spent < STEP_CHUNKS {
        let Some(mark) = rows.due_mark(now_ns)? else { return Ok(false) };
        spent += settle_mark(rows, &mark)?;
    }
    Ok(true)
}

/// What it cost, in records.
fn settle_mark(rows: &mut impl RowsMut, mark: &Mark) -> Result<usize, StoreError> {
    let mut scan = Scan::new(rows, &mark.gateway, (mark.from_ns, mark.to_ns - 1), None)?;
    let (mut at, mut windows, mut spent) = (mark.from_ns, 0, 0);
    while at < mark.to_ns && windows < STEP_WINDOWS && spent < STEP_CHUNKS {
        let end = mark.to_ns.min(floor(at, WINDOW_NS).saturating_add(WINDOW_NS));
        let Seen { samples, cost } = scan.samples(rows, (at, end - 1))?;
        // Where there is nothing for years, one look passes over them.
        let end = if samples.is_empty() { floor(scan.next(rows, end)?, MINUTE_NS).clamp(end, mark.to_ns) } else { end };
        write(rows, mark, (at, end), samples)?;
        (at, windows, spent) = (end, windows + 1, spent + cost);
    }
    hours(rows, mark, at)?;
    rows.settled(mark, at)?;
    // A mark costs something even where nothing lies.
    Ok(spent + windows)
}

fn write(
    rows: &mut impl RowsMut,
    mark: &Mark,
    range: (i64, i64),
    samples: HashMap<(String, Quantity), Vec<Sampled>>,
) -> Result<(), StoreError> {
    let mut samples: Vec<_> = samples.into_iter().collect();
    // In one order, so that two hubs never wait for each other.
    samples.sort_by(|(a, _), (b, _)| (&a.0, a.1.name()).cmp(&(&b.0, b.1.name())));
    let mut all = Vec::new();
    for ((sensor, quantity), samples) in samples {
        let series = rows.series_id(&mark.gateway, &sensor, quantity)?;
        let minutes = join(Level::Minute, sum_up(Level::Second, samples));
        all.extend(minutes.into_iter().map(|bucket| (series, bucket)));
    }
    rows.replace_rollups(&mark.gateway, Level::Minute, range, &all)
}

/// The hours that a settled range touches, out of their minutes. A minute that is behind in them is marked, and so are
/// they.
fn hours(rows: &mut impl RowsMut, mark: &Mark, upto: i64) -> Result<(), StoreError> {
    let hour = Level::Hour.ns();
    let (mut at, end) = (floor(mark.from_ns, hour), ceil(upto, hour));
    let all = rows.series(&mark.gateway)?;
    let most = (STEP_WINDOWS + 1) * 60;
    while at < end {
        let mut hours = Vec::new();
        let mut to = end;
        for series in &all {
            let mut minutes = rows.rollups(series.id, Level::Minute, (at, to), most)?;
            if minutes.len() == most {
                // No further than all series are seen to a full hour.
                to = floor(minutes[most - 1].start_ns, hour);
                minutes.retain(|minute| minute.start_ns < to);
            }
            hours.extend(join(Level::Hour, minutes).into_iter().map(|bucket| (series.id, bucket)));
        }
        hours.retain(|(_, bucket)| bucket.start_ns < to);
        rows.replace_rollups(&mark.gateway, Level::Hour, (at, to), &hours)?;
        at = to;
    }
    Ok(())
}
