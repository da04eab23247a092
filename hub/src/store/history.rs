//! A channel's samples over a range of UTC.

use speedwell_wire::{Channel, ClockSource};

use super::{
    History, HistoryQuery, MAX_CHUNKS, MAX_POINTS, Point, StoreError,
    clock::{Stretch, bound, to_utc},
    rows::{ChunkRow, Part, Rows},
    scan::{Manifests, Pages, each_column, stretches},
};

/// Who vouches for a time, and the bound on its error.
type Dated = (ClockSource, Option<u64>);

/// A question being answered. Boots and logs may overlap in UTC, so the earliest of all are kept as they are met.
struct Reading<'a> {
    query: &'a HistoryQuery,
    limit: usize,
    manifests: Manifests,
    /// The earliest so far, each with who vouches for its time and how well; one more than the limit tells that there are more.
    points: Vec<(Point, Option<Dated>)>,
    /// Records still to be looked at.
    chunks: usize,
    /// From here on the answer is not complete.
    next: Option<i64>,
}

pub(super) fn history(rows: &mut impl Rows, query: &HistoryQuery) -> Result<History, StoreError> {
    let (stretches, undated) = stretches(rows, &query.gateway, (query.from_ns, query.to_ns))?;
    let (limit, manifests) = (query.limit.min(MAX_POINTS), Manifests::default());
    let mut reading = Reading { query, limit, manifests, points: Vec::new(), chunks: MAX_CHUNKS, next: None };
    reading.readings(rows)?;
    for (begins, part, stretch) in &stretches {
        if reading.chunks == 0 {
            reading.cut(*begins);
            break;
        }
        reading.stretch(rows, part, stretch)?;
    }
    Ok(History { undated, ..reading.finish() })
}

impl Reading<'_> {
    /// The earliest that came one by one; one more than the limit tells that there are more.
    fn readings(&mut self, rows: &mut impl Rows) -> Result<(), StoreError> {
        let HistoryQuery { gateway, sensor, quantity, from_ns, to_ns, .. } = self.query;
        let series = rows.series(gateway)?;
        let named = series.iter().find(|s| s.read && s.sensor == *sensor && s.quantity == *quantity);
        if let Some(series) = named {
            let points = rows.readings(series.id, (*from_ns, *to_ns), self.limit + 1)?;
            self.points.extend(points.into_iter().map(|point| (point, None)));
            self.prune();
        }
        Ok(())
    }

    fn stretch(&mut self, rows: &mut impl Rows, part: &Part, stretch: &Stretch) -> Result<(), StoreError> {
        let mut pages = Pages::new(part, stretch.from, stretch.to);
        while let Some(page) = pages.next(rows, self.chunks + 1)? {
            for row in &page {
                let begins = to_utc(&stretch.fix, row.t_min.max(0) as u64);
                if self.chunks == 0 {
                    self.cut(begins);
                }
                // Chunks come in order of their first time: nothing after this one lies before what is kept.
                if self.next.is_some_and(|next| begins >= next) {
                    return Ok(());
                }
                self.chunks = self.chunks.saturating_sub(1);
                self.chunk(rows, row, stretch)?;
                self.prune();
            }
        }
        Ok(())
    }

    fn chunk(&mut self, rows: &mut impl Rows, row: &ChunkRow, stretch: &Stretch) -> Result<(), StoreError> {
        let list = self.manifests.get(rows, row.manifest)?;
        let HistoryQuery { sensor, quantity, from_ns, to_ns, .. } = self.query;
        let wanted = |c: &Channel| c.sensor == *sensor && c.quantity == *quantity;
        let range = (*from_ns, self.next.map_or(*to_ns, |next| next.min(*to_ns)));
        let points = &mut self.points;
        each_column(row, &list, stretch, range, wanted, |_, found| {
            let dated = |utc_ns| Some((stretch.fix.source, bound(&stretch.fix, utc_ns)));
            points.extend(found.map(|point| (point, dated(point.utc_ns))));
        })
    }

    /// Keeps the earliest, and one more.
    fn prune(&mut self) {
        if self.points.len() > self.limit {
            self.sort();
            self.points.truncate(self.limit + 1);
            if let Some((first_left_out, _)) = self.points.last() {
                self.cut(first_left_out.utc_ns);
            }
        }
    }

    /// By value too, so that samples of one time come in one order whatever order they were stored in.
    fn sort(&mut self) {
        self.points.sort_by(|(a, _), (b, _)| a.utc_ns.cmp(&b.utc_ns).then(a.value.total_cmp(&b.value)));
    }

    fn cut(&mut self, at: i64) {
        // Never before what was asked for, or asking on from there would not get on.
        let at = at.max(self.query.from_ns);
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    fn finish(mut self) -> History {
        self.sort();
        self.points.truncate(self.limit);
        if let Some(next) = self.next {
            // As many of the same instant as there is room for; asking on from there gives them again.
            self.points.retain(|(point, _)| point.utc_ns <= next);
        }
        // One that nobody vouches for makes the whole answer one that nobody vouches for.
        let dated = || self.points.iter().filter_map(|(_, dated)| *dated);
        let untrusted = dated().any(|(source, _)| source == ClockSource::Untrusted);
        let last = dated().next_back().map(|(source, _)| source);
        let clock = if untrusted { Some(ClockSource::Untrusted) } else { last };
        let utc_uncertainty_ns = if untrusted { None } else { dated().filter_map(|(_, bound)| bound).max() };
        let points = self.points.into_iter().map(|(point, _)| point).collect();
        History {
            points,
            truncated: self.next.is_some(),
            next_ns: self.next,
            clock,
            utc_uncertainty_ns,
            undated: Vec::new(),
        }
    }
}
