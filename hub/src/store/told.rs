//! What is missing of a gateway and why, and what happened, over a range of UTC.
//!
//! What a log says besides samples has a number in the log, and boots that may never be dated. So a range of UTC is made
//! into a range of records of each log: those between the samples that surely lie before and after it. What has no time of
//! its own is told between the samples on either side of it.

use std::collections::HashMap;

use speedwell_wire::{ClockFix, Event, GatewayId, Loss};

use super::{
    ClockMap, StoreError,
    reduce::{DrawQuery, Made, Source, Span, choose, each_span, hole, usual_interval},
    rollup::{Level, MAX_BRIDGE_NS},
    rows::{Lists, Part, Seqs},
    scan::{Clocks, clocks, undated},
};

/// Rows of each kind and log that one answer looks at.
const MAX_ROWS: usize = 10_000;
/// Gaps whose place within a boot is looked for to the record; others are told by the parts of the log around them.
const MAX_PLACED: usize = 100;

/// A gateway and a range of UTC, both ends inclusive.
#[derive(Clone, Debug, PartialEq)]
pub struct ToldQuery {
    /// Whose.
    pub gateway: GatewayId,
    /// UTC ns.
    pub from_ns: i64,
    /// UTC ns.
    pub to_ns: i64,
    /// At most so many, the earliest first.
    pub limit: usize,
    /// Of gaps, silences of this channel too: the quantity of a sensor, and how many usual intervals are one.
    pub channel: Option<(String, speedwell_wire::Quantity, f64)>,
}

/// What was found, in order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Told<T> {
    /// Those.
    pub items: Vec<T>,
    /// A limit was met.
    pub truncated: bool,
    /// Where to ask on from, UTC ns, if that would get on.
    pub next_ns: Option<i64>,
    /// From how long on a silence is told, ns, and what it was looked for in.
    pub silence: Option<(i64, Made)>,
}

/// Something that is not there.
#[derive(Clone, Debug, PartialEq)]
pub struct Missing {
    /// Not before this, UTC ns, where that is known.
    pub from_ns: Option<i64>,
    /// Not after this, UTC ns, where that is known.
    pub to_ns: Option<i64>,
    /// What is not.
    pub what: Lack,
    /// Its log, if it is of one.
    pub log: Option<String>,
}

/// What is missing.
#[derive(Clone, Debug, PartialEq)]
pub enum Lack {
    /// Records that the gateway no longer had when the hub asked for them: first and last.
    Gap(u64, u64),
    /// Declared by the gateway, at this record.
    Loss(u64, Loss),
    /// A boot that nobody dated: its samples are there, and their time is not. Its number, and where its clock put it.
    Undated(u32, Option<(i64, i64)>),
    /// Nothing of the channel came, and nobody says why.
    Silence,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    /// When, UTC ns; none in a boot that was never dated.
    pub at_ns: Option<i64>,
    /// After and before these, then.
    pub between: (Option<i64>, Option<i64>),
    /// Its log and its record there.
    pub log: String,
    /// See `log`.
    pub seq: u64,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The agent says so.
    Event(Event),
    /// The clock was set.
    Clock(ClockFix),
    /// Samples were lost.
    Loss(Loss),
}

/// A log and where its samples lie.
struct Log {
    id: i64,
    name: String,
    /// In order of record.
    parts: Vec<Part>,
}

impl Log {
    /// The parts that begin before this record, the nearest first.
    fn before(&self, seq: i64) -> impl Iterator<Item = &Part> {
        self.parts[..self.parts.partition_point(|part| part.seqs.0 < seq)].iter().rev()
    }

    /// The parts that end after this record, the nearest first.
    fn after(&self, seq: i64) -> impl Iterator<Item = &Part> {
        self.parts[self.parts.partition_point(|part| part.seqs.1 <= seq)..].iter()
    }
}

/// All logs of a gateway.
struct Logs {
    logs: Vec<Log>,
    clocks: Clocks,
    undated: Vec<super::Undated>,
    /// Gaps that may still be placed to the record.
    searches: usize,
}

impl Logs {
    fn read(rows: &mut impl Lists, gateway: &GatewayId, range: (i64, i64)) -> Result<Self, StoreError> {
        let parts = rows.parts(gateway)?;
        let clocks = clocks(rows, parts.iter().map(|part| (part.log, part.boot)).collect())?;
        let undated = undated(&parts, &clocks, range);
        let mut of: HashMap<i64, Vec<Part>> = HashMap::new();
        parts.into_iter().for_each(|part| of.entry(part.log).or_default().push(part));
        let mut logs = Vec::new();
        for (id, name) in rows.logs(gateway)? {
            let mut parts = of.remove(&id).unwrap_or_default();
            parts.sort_by_key(|part| part.seqs);
            logs.push(Log { id, name, parts });
        }
        Ok(Self { logs, clocks, undated, searches: MAX_PLACED })
    }

    fn clock(&self, log: i64, boot: u32) -> Option<&ClockMap> {
        self.clocks.get(&(log, boot))
    }

    fn utc(&self, log: i64, boot: u32, t_ns: u64) -> Option<i64> {
        self.clock(log, boot)?.utc(t_ns).map(|(utc, _)| utc)
    }

    /// First and last time of a part.
    fn extent(&self, part: &Part) -> Option<(i64, i64)> {
        let clock = self.clock(part.log, part.boot)?;
        let places = clock.places(part.t_min.max(0) as u64, part.t_max.max(0) as u64);
        places.into_iter().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// The records of a log that may lie in a range, and the boots they are of.
    fn window(&self, log: &Log, (from, to): (i64, i64)) -> (Seqs, (u32, u32)) {
        let extent = |part: &Part| self.extent(part);
        let parts = &log.parts;
        let first =
            parts.iter().position(|part| extent(part).is_none_or(|(_, last)| last >= from)).unwrap_or(parts.len());
        let last = parts.iter().rposition(|part| extent(part).is_none_or(|(first, _)| first <= to));
        let (before, after) = (first.checked_sub(1), last.map_or(0, |last| last + 1));
        let (before, after) = (before.and_then(|at| parts.get(at)), parts.get(after));
        let seqs = (before.map_or(0, |part| part.seqs.1), after.map_or(i64::MAX, |part| part.seqs.0));
        (seqs, (before.map_or(0, |part| part.boot), after.map_or(u32::MAX, |part| part.boot)))
    }

    /// The end of the samples before some records and the beginning of those after them, as near as is looked for.
    fn around(
        &mut self,
        rows: &mut impl Lists,
        log: &Log,
        (first, last): Seqs,
    ) -> Result<(Option<i64>, Option<i64>), StoreError> {
        let (mut before, mut after) = (None, None);
        let dated = |part: &&Part| self.clock(part.log, part.boot).is_some_and(ClockMap::is_trusted);
        let nearest = (log.before(first).find(dated), log.after(last).find(dated));
        if let Some(part) = nearest.0 {
            let mut t_ns = part.t_max;
            if part.seqs.1 > last && self.searches > 0 {
                self.searches -= 1;
                t_ns = find(rows, part, first)?.0;
            }
            before = self.utc(log.id, part.boot, t_ns.max(0) as u64);
        }
        if let Some(part) = nearest.1 {
            let mut t_ns = part.t_min;
            if part.seqs.0 < first && self.searches > 0 {
                self.searches -= 1;
                t_ns = find(rows, part, last + 1)?.1;
            }
            after = self.utc(log.id, part.boot, t_ns.max(0) as u64);
        }
        Ok((before, after))
    }
}

/// The last boot time of the records of a part before one, and the first of those from it on, by halving: times rise with
/// the records of a boot.
fn find(rows: &mut impl Lists, part: &Part, seq: i64) -> Result<(i64, i64), StoreError> {
    // The first record that reaches beyond `low` comes before `seq`, that beyond `high` does not.
    let (mut low, mut high) = (part.t_min, part.t_max.saturating_add(1));
    let (mut ends, mut begins) = (part.t_min, part.t_max);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match rows.chunks(part, (middle, i64::MAX), None, 1)?.first() {
            Some(row) if row.seq < seq => (low, ends) = (middle.max(row.t_max), ends.max(row.t_max)),
            Some(row) => (high, begins) = (middle, row.t_min),
            None => high = middle,
        }
    }
    Ok((ends, begins))
}

/// Puts what was found in order, and cuts it to the limit at a full instant.
fn in_order<T>(mut found: Vec<(i64, T)>, limit: usize, complete_to: i64, from_ns: i64) -> Told<T> {
    found.sort_by_key(|(at, _)| *at);
    let mut cut = (complete_to < i64::MAX).then_some(complete_to);
    if let Some((at, _)) = found.get(limit) {
        cut = Some(cut.map_or(*at, |cut| cut.min(*at)));
    }
    let mut next_ns = cut.filter(|cut| *cut > from_ns);
    match next_ns {
        Some(next) => found.retain(|(at, _)| *at < next),
        // As many of an instant as there is room for; nobody can ask on within it.
        None => found.truncate(limit),
    }
    if found.is_empty() && cut.is_some() {
        next_ns = next_ns.or(Some(from_ns.saturating_add(1)));
    }
    let items = found.into_iter().map(|(_, item)| item).collect();
    Told { items, truncated: cut.is_some(), next_ns, silence: None }
}

/// Whether something between two times, open where they are not known, reaches into a range.
fn reaches(from: Option<i64>, to: Option<i64>, range: (i64, i64)) -> bool {
    from.is_none_or(|from| from <= range.1) && to.is_none_or(|to| to >= range.0)
}

/// Where something stands in the order, within the range asked for.
fn place(from: Option<i64>, to: Option<i64>, range: (i64, i64)) -> i64 {
    from.or(to).unwrap_or(range.0).clamp(range.0, range.1)
}

pub(super) fn missing(rows: &mut impl Lists, query: &ToldQuery) -> Result<Told<Missing>, StoreError> {
    let range = (query.from_ns, query.to_ns);
    let mut logs = Logs::read(rows, &query.gateway, range)?;
    let mut found: Vec<(i64, Missing)> = Vec::new();
    let mut complete_to = i64::MAX;
    let mut add = |from_ns: Option<i64>, to_ns: Option<i64>, what, log: Option<&str>| {
        if reaches(from_ns, to_ns, range) {
            let log = log.map(str::to_owned);
            found.push((place(from_ns, to_ns, range), Missing { from_ns, to_ns, what, log }));
        }
        place(from_ns, to_ns, range)
    };
    for log in std::mem::take(&mut logs.logs) {
        let (seqs, _) = logs.window(&log, range);
        let gaps = rows.gaps(log.id, seqs, MAX_ROWS)?;
        let full = gaps.len() == MAX_ROWS;
        let mut last = range.0;
        for (first, end) in gaps {
            let (from, to) = logs.around(rows, &log, (first, end))?;
            last = add(from, to, Lack::Gap(first.max(0) as u64, end.max(0) as u64), Some(&log.name));
        }
        complete_to = if full { complete_to.min(last) } else { complete_to };
        let losses = rows.losses(log.id, seqs, MAX_ROWS)?;
        let full = losses.len() == MAX_ROWS;
        let clocks = clocks_of(rows, log.id, losses.iter().flat_map(|(.., loss)| [loss.from, loss.until]))?;
        for (seq, span, loss) in losses {
            let told = |at: Option<(u32, u64)>| clocks.get(&(log.id, at?.0))?.utc(at?.1).map(|(utc, _)| utc);
            let (mut from, mut to) = (told(loss.from), told(loss.until));
            if from.is_none() || to.is_none() {
                let around = logs.around(rows, &log, (seq, seq.saturating_add(span.max(1) - 1)))?;
                (from, to) = (from.or(around.0), to.or(around.1));
            }
            last = add(from, to, Lack::Loss(seq.max(0) as u64, loss), Some(&log.name));
        }
        complete_to = if full { complete_to.min(last) } else { complete_to };
    }
    for boot in std::mem::take(&mut logs.undated) {
        add(boot.after_ns, boot.before_ns, Lack::Undated(boot.boot, boot.told_ns), Some(&boot.log));
    }
    let mut silence = None;
    if let Some((sensor, quantity, intervals)) = &query.channel {
        let (gateway, sensor, quantity, points) = (query.gateway.clone(), sensor.clone(), *quantity, 0);
        let channel = DrawQuery { gateway, sensor, quantity, from_ns: query.from_ns, to_ns: query.to_ns, points };
        let told = silences(rows, &channel, *intervals)?;
        for (from, to) in told.silences {
            add(Some(from), Some(to), Lack::Silence, None);
        }
        complete_to = complete_to.min(told.next_ns.unwrap_or(i64::MAX));
        silence = Some((told.longer_than, told.made));
    }
    Ok(Told { silence, ..in_order(found, query.limit, complete_to, query.from_ns) })
}

fn clocks_of(
    rows: &mut impl Lists,
    log: i64,
    times: impl Iterator<Item = Option<(u32, u64)>>,
) -> Result<Clocks, StoreError> {
    clocks(rows, times.flatten().map(|(boot, _)| (log, boot)).collect())
}

struct Silences {
    silences: Vec<(i64, i64)>,
    longer_than: i64,
    made: Made,
    next_ns: Option<i64>,
}

/// Where a channel that had begun had no sample for longer than so many usual intervals.
fn silences(rows: &mut impl Lists, query: &DrawQuery, intervals: f64) -> Result<Silences, StoreError> {
    let Source { made, .. } = choose(rows, query)?;
    // Only what lies apart is kept: the spans that a gap of a second or more parts, and the intervals of some.
    let (mut some, mut apart, mut last): (Vec<Span>, Vec<(i64, i64)>, Option<i64>) = (Vec::new(), Vec::new(), None);
    let mut first = None;
    let next_ns = each_span(rows, query, made, |span| {
        if some.len() < MAX_ROWS {
            some.push(span);
        }
        if let Some(last) = last.filter(|last| span.first_ns > *last) {
            keep_longest(&mut apart, (last, span.first_ns));
        }
        first = first.or(Some(span.first_ns));
        last = last.max(Some(span.last_ns));
    })?;
    let usual = usual_interval(&some).map_or(MAX_BRIDGE_NS as f64, |usual| usual * intervals);
    let shortest = match made {
        Made::Samples => 0,
        Made::Rows(level) => level.ns(),
    };
    let longer_than = (usual.min(i64::MAX as f64) as i64).max(shortest);
    apart.retain(|(from, to)| to.saturating_sub(*from) > longer_than);
    // The ends: the range may begin or end in a silence.
    let series = rows.series(&query.gateway)?;
    let series = series.iter().find(|s| s.sensor == query.sensor && s.quantity == query.quantity);
    let had_begun = match (series, query.from_ns > i64::MIN) {
        (Some(series), true) => !rows.rollups(series.id, Level::Hour, (i64::MIN, query.from_ns), 1)?.is_empty(),
        _ => false,
    };
    let open_end = if next_ns.is_none() { last.or(Some(query.from_ns).filter(|_| had_begun)) } else { None };
    let begin = Some(query.from_ns).filter(|_| had_begun && first.is_some());
    let ends = [begin.zip(first), open_end.map(|last| (last, query.to_ns))];
    apart.extend(ends.into_iter().flatten().filter_map(|(from, to)| hole(Some(from), to, longer_than)));
    apart.sort_unstable();
    Ok(Silences { silences: apart, longer_than, made, next_ns })
}

/// Keeps the longest, at most twice [`MAX_ROWS`].
fn keep_longest(all: &mut Vec<(i64, i64)>, new: (i64, i64)) {
    all.push(new);
    if all.len() >= 2 * MAX_ROWS {
        all.sort_unstable_by_key(|(from, to)| std::cmp::Reverse(to.saturating_sub(*from)));
        all.truncate(MAX_ROWS);
    }
}

pub(super) fn happened(rows: &mut impl Lists, query: &ToldQuery) -> Result<Told<Happened>, StoreError> {
    let range = (query.from_ns, query.to_ns);
    let mut logs = Logs::read(rows, &query.gateway, range)?;
    let mut found: Vec<(i64, Happened)> = Vec::new();
    let mut complete_to = i64::MAX;
    for log in std::mem::take(&mut logs.logs) {
        let (seqs, boots) = logs.window(&log, range);
        let events = rows.events(log.id, seqs, MAX_ROWS)?;
        let fixes = rows.clock_fixes(log.id, boots, seqs, MAX_ROWS)?;
        let losses = rows.losses(log.id, seqs, MAX_ROWS)?;
        let full = [events.len(), fixes.len(), losses.len()].map(|n| n == MAX_ROWS);
        let times = events.iter().map(|(_, event)| Some((event.boot, event.t_ns)));
        let clocks = clocks_of(rows, log.id, times.chain(losses.iter().map(|(.., loss)| loss.from)))?;
        let utc = |boot: u32, t_ns: u64| clocks.get(&(log.id, boot))?.utc(t_ns).map(|(utc, _)| utc);
        let events = events.into_iter().map(|(seq, event)| (seq, utc(event.boot, event.t_ns), What::Event(event)));
        let fixes = fixes.into_iter().map(|(seq, fix)| (seq, Some(fix.utc_ns), What::Clock(fix)));
        let losses = losses.into_iter().map(|(seq, _, loss)| {
            let at = loss.from.and_then(|(boot, t_ns)| utc(boot, t_ns));
            (seq, at, What::Loss(loss))
        });
        let kinds: [Vec<(i64, Option<i64>, What)>; 3] = [events.collect(), fixes.collect(), losses.collect()];
        for (kind, full) in kinds.into_iter().zip(full) {
            let mut last = range.0;
            for (seq, at_ns, what) in kind {
                let between = match at_ns {
                    Some(_) => (None, None),
                    None => logs.around(rows, &log, (seq, seq))?,
                };
                let (from, to) = (at_ns.or(between.0), at_ns.or(between.1));
                last = place(from, to, range);
                if reaches(from, to, range) {
                    let (log, seq) = (log.name.clone(), seq.max(0) as u64);
                    found.push((last, Happened { at_ns, between, log, seq, what }));
                }
            }
            complete_to = if full { complete_to.min(last) } else { complete_to };
        }
    }
    Ok(in_order(found, query.limit, complete_to, query.from_ns))
}
