//! Samples summed up by the second, the minute and the hour of UTC.
//!
//! Minutes and hours are kept as rows. Seconds are not: a record is about a second of all channels, and the rows of that
//! second would be seven times its size (see docs/decisions/chunks.md), so they are summed up when they are asked for.
//!
//! What is kept is always what the samples themselves would give, or is marked as behind: whoever stores samples, dates a
//! boot anew or drops what is old marks the minutes that this touches, in the same transaction. [`settle`] makes marked
//! minutes anew out of the samples, and takes the mark away in the transaction that writes them. A question answers
//! marked minutes from the samples. So late data, duplicates and crashes need no care of their own.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use speedwell_wire::{GatewayId, Quality, Quantity};

use super::{
    MAX_CHUNKS, Point, StoreError,
    rows::{Mark, Rows, RowsMut, Series},
    scan::{Name, Scan, Seen},
};

/// Most buckets one answer has: a day by the second.
pub const MAX_BUCKETS: usize = 100_000;
/// Silence longer than this is not bridged by the time-weighted mean: two and a half of the longest usual intervals, a
/// minute.
pub const MAX_BRIDGE_NS: i64 = 150 * SECOND_NS;
/// Records that one step of [`settle`] looks at, but for the last minutes it has begun.
const STEP_CHUNKS: usize = 2_000;
/// Rows of minutes out of which hours are made at a time.
const STEP_MINUTES: usize = 100_000;
/// Stretches without samples that one step passes over.
const STEP_WINDOWS: usize = 64;
/// How much is settled at a time.
const WINDOW_NS: i64 = 10 * MINUTE_NS;
const SECOND_NS: i64 = 1_000_000_000;
const MINUTE_NS: i64 = 60 * SECOND_NS;
/// A mark that nothing was added to for so long is settled: the minute under way would else be made anew every second.
pub(super) const SETTLE_AFTER_NS: i64 = 5 * SECOND_NS;

/// When something stored cannot be read, its sums are tried again after this.
const UNREADABLE_AGAIN_NS: i64 = 60 * MINUTE_NS;

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

    /// Its length in seconds, which is its number in the database.
    pub fn seconds(self) -> u32 {
        (self.ns() / SECOND_NS) as u32
    }

    /// What buckets of this length are made out of: the longest that fits into them without a rest.
    pub fn below(bucket_s: u32) -> Self {
        let fits = |level: &Level| bucket_s.is_multiple_of(level.seconds());
        [Level::Hour, Level::Minute].into_iter().find(fits).unwrap_or(Level::Second)
    }

    pub(super) fn number(self) -> i16 {
        self.seconds() as i16
    }
}

/// How bad a quality is. What stands still is as well measured as what moves.
pub(super) fn rank(quality: Quality) -> i16 {
    match quality {
        Quality::Good => 0,
        Quality::Stopped => 1,
        Quality::Estimated => 2,
        Quality::Degraded => 3,
    }
}

/// The quality of a rank; none where none is kept.
pub(super) fn worst_of(rank: Option<i16>) -> Option<Quality> {
    Some(match rank? {
        0 => Quality::Good,
        1 => Quality::Stopped,
        2 => Quality::Estimated,
        _ => Quality::Degraded,
    })
}

/// All samples of a channel within a while. One without samples is not there.
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
    /// The worst quality of them, where it is known: rows of an older hub do not tell.
    pub worst: Option<Quality>,
}

impl Bucket {
    fn new(start_ns: i64, point: &Sampled) -> Self {
        let Sampled { utc_ns, value, untrusted, quality } = *point;
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
            worst: Some(quality),
        }
    }

    /// Takes in a bucket that lies after this one.
    fn append(&mut self, next: &Bucket) {
        let apart = next.first.0.saturating_sub(self.last.0);
        if (0..=MAX_BRIDGE_NS).contains(&apart) {
            // Trapezoid: (a + b) / 2 * dt
            self.area = added(self.area, (self.last.1 / 2.0 + next.first.1 / 2.0) * (apart as f64 / 1e9));
            self.bridged_ns += apart;
        }
        self.area = added(self.area, next.area);
        self.bridged_ns += next.bridged_ns;
        (self.min, self.max) = (self.min.min(next.min), self.max.max(next.max));
        self.sum = added(self.sum, next.sum);
        self.count += next.count;
        self.untrusted += next.untrusted;
        self.last = next.last;
        self.worst = self.worst.zip(next.worst).map(|(a, b)| if rank(a) < rank(b) { b } else { a });
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

/// The sum, or the number nearest to it: what is beyond all numbers leads to what is none, which no database keeps and
/// which would hold up the sums of everybody else.
fn added(a: f64, b: f64) -> f64 {
    (a + b).clamp(f64::MIN, f64::MAX)
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
    /// How long buckets are to be, in seconds; they begin at multiples of it since 1970. See [`bucket_is_allowed`].
    pub bucket_s: u32,
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
    /// Nothing of the answer could be told: sums of a long bucket are yet to be made, and that is under way.
    pub behind: bool,
}

/// Longest bucket: a leap year.
pub const MAX_BUCKET_S: u32 = 366 * 86_400;

/// Whether buckets may be so long: what one is made out of is at most some 10,000 rows, and at most an hour of samples.
pub fn bucket_is_allowed(bucket_s: u32) -> bool {
    let most = match Level::below(bucket_s) {
        Level::Second => 3_600,
        Level::Minute => 7 * 86_400,
        Level::Hour => MAX_BUCKET_S,
    };
    (1..=most).contains(&bucket_s)
}

/// A sample as it goes into a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sampled {
    pub(super) utc_ns: i64,
    pub(super) value: f64,
    pub(super) untrusted: bool,
    pub(super) quality: Quality,
}

impl Sampled {
    pub(super) fn new(point: &Point, untrusted: bool) -> Self {
        Self { utc_ns: point.utc_ns, value: point.value, untrusted, quality: point.quality }
    }
}

/// The multiple of `step` at or before a time.
pub(super) fn floor(ns: i64, step: i64) -> i64 {
    ns.div_euclid(step).saturating_mul(step)
}

/// Sums samples up; they may come in any order.
pub(super) fn sum_up(level: Level, mut samples: Vec<Sampled>) -> Vec<Bucket> {
    // By value too, so that two samples of one time always give the same first and last.
    samples.sort_unstable_by(|a, b| a.utc_ns.cmp(&b.utc_ns).then(a.value.total_cmp(&b.value)));
    join(level.ns(), samples.iter().map(|sample| Bucket::new(floor(sample.utc_ns, level.ns()), sample)))
}

/// Joins buckets in order of time into longer ones.
fn join(length: i64, parts: impl IntoIterator<Item = Bucket>) -> Vec<Bucket> {
    let mut all: Vec<Bucket> = Vec::new();
    for part in parts {
        let start_ns = floor(part.start_ns, length);
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
    let (level, step) = (Level::below(query.bucket_s), i64::from(query.bucket_s.max(1)).saturating_mul(SECOND_NS));
    let range = (floor(query.from_ns, step), floor(query.to_ns, step).saturating_add(step));
    let limit = query.limit.min(MAX_BUCKETS);
    let each = (step / level.ns()) as usize;
    // Of a bucket that is longer than its level, every part has to be there; beside the ones asked for, one more tells that
    // there are more.
    let most = limit.saturating_mul(each).min(MAX_BUCKETS) + each;
    // Asking on has to get on, so the first bucket is seen to its end, if that is not a look at days of samples.
    let first = if step <= Level::Hour.ns() { range.0.saturating_add(step) } else { i64::MIN };
    let mut asking = Asking { query, series, limit: most, chunks: MAX_CHUNKS, first, next: None };
    let parts = asking.level(rows, level, range)?;
    let mut next_ns = asking.next.map(|next| floor(next, step));
    if parts.len() >= most {
        let last = parts.last().map(|part| floor(part.start_ns, step));
        next_ns = next_ns.into_iter().chain(last).min();
    }
    let mut buckets = join(step, parts);
    if let Some(next) = next_ns {
        buckets.retain(|bucket| bucket.start_ns < next);
    }
    if buckets.len() > limit {
        next_ns = Some(buckets[limit].start_ns);
        buckets.truncate(limit);
    }
    let behind = next_ns.is_some_and(|next| next <= range.0) && limit > 0;
    Ok(Rollup { buckets, next_ns: next_ns.filter(|_| !behind), circular, behind })
}

/// A question being answered.
struct Asking<'a> {
    query: &'a RollupQuery,
    series: Option<Series>,
    limit: usize,
    /// Records that may still be looked at.
    chunks: usize,
    /// Up to here all is seen, whatever it costs.
    first: i64,
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
            all.extend(join(Level::Hour.ns(), minutes?));
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
        let mut at = range.0;
        while at < range.1 && self.goes_on(all) {
            if self.chunks == 0 && at >= self.first {
                self.next = Some(at);
                return Ok(());
            }
            let end = range.1.min(floor(at, WINDOW_NS).saturating_add(WINDOW_NS));
            let Seen { samples, cost } = scan.samples(rows, (at, end - 1))?;
            self.chunks = self.chunks.saturating_sub(cost);
            at = if samples.is_empty() { floor(scan.next(rows, end)?, level.ns()).clamp(end, range.1) } else { end };
            // By way of seconds, as what is kept was made: so that both are the same to the last digit.
            all.extend(samples.into_values().flat_map(|samples| join(level.ns(), sum_up(Level::Second, samples))));
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
        spent += match settle_mark(rows, &mark) {
            // One damaged record is no reason for nobody to have sums. Questions about it say what is wrong.
            Err(StoreError::Content(why)) => {
                let gateway = &mark.gateway;
                tracing::warn!(%gateway, why, "the database is damaged: this cannot be summed up, trying again in an hour");
                rows.postponed(&mark, now_ns.saturating_add(UNREADABLE_AGAIN_NS))?;
                1
            }
            spent => spent?,
        };
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
    samples: HashMap<Name, Vec<Sampled>>,
) -> Result<(), StoreError> {
    let mut samples: Vec<_> = samples.into_iter().collect();
    // In one order, so that two hubs never wait for each other.
    samples.sort_by(|(a, _), (b, _)| (&a.0, a.1.name()).cmp(&(&b.0, b.1.name())));
    let known: HashMap<Name, i64> =
        rows.series(&mark.gateway)?.into_iter().map(|s| ((s.sensor, s.quantity), s.id)).collect();
    let mut by_series: BTreeMap<i64, Vec<Sampled>> = BTreeMap::new();
    for (name, samples) in samples {
        let series = match known.get(&name) {
            Some(known) => *known,
            None => rows.series_id(&mark.gateway, &name.0, name.1)?,
        };
        // Two names may be one to a database.
        by_series.entry(series).or_default().extend(samples);
    }
    let minutes = |(series, samples)| {
        join(MINUTE_NS, sum_up(Level::Second, samples)).into_iter().map(move |minute| (series, minute))
    };
    let all: Vec<(i64, Bucket)> = by_series.into_iter().flat_map(minutes).collect();
    rows.replace_rollups(&mark.gateway, Level::Minute, range, &all)
}

/// The hours that a settled range touches, out of their minutes. A minute that is behind in them is marked, and so are
/// they.
fn hours(rows: &mut impl RowsMut, mark: &Mark, upto: i64) -> Result<(), StoreError> {
    let hour = Level::Hour.ns();
    let (mut at, end) = (floor(mark.from_ns, hour), ceil(upto, hour));
    while at < end {
        let mut to = end;
        let mut minutes = rows.minutes(&mark.gateway, (at, to), STEP_MINUTES)?;
        if let Some((_, last)) = minutes.get(STEP_MINUTES - 1) {
            // No further than what was seen to a full hour; and if that is not one, it is had as a whole.
            to = floor(last.start_ns, hour);
            if to <= at {
                to = at.saturating_add(hour);
                minutes = rows.minutes(&mark.gateway, (at, to), usize::MAX)?;
            }
            minutes.retain(|(_, minute)| minute.start_ns < to);
        }
        let mut by_series: BTreeMap<i64, Vec<Bucket>> = BTreeMap::new();
        minutes.into_iter().for_each(|(series, minute)| by_series.entry(series).or_default().push(minute));
        let joined = |(series, minutes)| join(Level::Hour.ns(), minutes).into_iter().map(move |hour| (series, hour));
        let hours: Vec<(i64, Bucket)> = by_series.into_iter().flat_map(joined).collect();
        rows.replace_rollups(&mark.gateway, Level::Hour, (at, to), &hours)?;
        at = to;
    }
    Ok(())
}
