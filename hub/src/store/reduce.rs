//! A channel over a long range as few points, for drawing: no spike and no hole of it is hidden.
//!
//! The range is divided into as many bins as points are asked for; of each bin the least and the greatest value are kept,
//! which costs bounded memory whatever the range (MinMaxLTTB: Van der Donckt and others, 2023). Of each four bins the least
//! and the greatest are given, and the one that Largest-Triangle-Three-Buckets chooses (Steinarsson, 2013). So the answer
//! has the extremes of every stretch of three points' width, and at most one mark a stretch where it was silent.
//!
//! What it is made of is chosen by what it costs: samples while they are few, else the rows of minutes, else those of
//! hours. A row knows how much its least and greatest values are and not when they were; they are put where they may have
//! been.

use speedwell_wire::{ClockSource, GatewayId, Quality, Quantity};

use super::{
    Point, StoreError, Undated,
    clock::{bound, to_utc},
    rollup::{Bucket, Level, MAX_BRIDGE_NS, MAX_BUCKETS, RollupQuery, rank, rollup},
    rows::Lists,
    samples::{SamplesQuery, samples},
    scan::{Lies, stretches},
};

/// Most points of a drawing.
pub const MAX_DRAWN: usize = 20_000;
/// Records and samples that are read rather than rows of minutes: two hours of records, which are some 30 ms.
const FEW_RECORDS: i64 = 7_200;
const FEW_SAMPLES: u64 = 150_000;
/// Rows of minutes that are read rather than rows of hours: a fortnight.
const FEW_MINUTES: i64 = 14 * 24 * 60;
/// Samples read at a time.
const PIECE: usize = 50_000;
/// Bins of a bucket.
const BINS: usize = 4;
/// A silence so many usual intervals long is a hole.
const HOLE: f64 = 2.5;

/// A channel and a range of UTC, both ends inclusive.
#[derive(Clone, Debug, PartialEq)]
pub struct DrawQuery {
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
    /// At most this many points, and at most [`MAX_DRAWN`].
    pub points: usize,
}

/// What a drawing, or a list of silences, was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Made {
    /// The samples.
    #[default]
    Samples,
    /// Sums of minutes or hours.
    Rows(Level),
}

/// A channel as few points.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawing {
    /// In order of time.
    pub marks: Vec<Mark>,
    /// Out of what.
    pub made: Made,
    /// Whether every sample is among the points.
    pub whole: bool,
    /// Samples that these stand for.
    pub samples: u64,
    /// A silence longer than this is marked as a hole, ns.
    pub hole_ns: i64,
    /// Where to ask on from, when a limit was met, UTC ns.
    pub next_ns: Option<i64>,
    /// Who vouches for the times; the least trusted of them.
    pub clock: Option<ClockSource>,
    /// Bound on the error of any of the times, ns, as good as the word of who vouches.
    pub utc_uncertainty_ns: Option<u64>,
    /// Boots that may lie in the range, in order: nobody ever vouched for their time.
    pub undated: Vec<Undated>,
}

/// A thing to draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mark {
    /// A value. Its quality is the worst of the samples it stands for, unless an older hub's rows do not tell.
    Value {
        /// When, how much.
        point: Point,
        /// Whether the quality is known.
        quality: Option<Quality>,
    },
    /// Nothing was measured between these times, UTC ns.
    Hole(i64, i64),
}

/// What of a channel lies close together: a sample, or a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) count: u64,
    pub(super) first_ns: i64,
    pub(super) last_ns: i64,
    pub(super) min: Point,
    pub(super) max: Point,
    worst: Option<Quality>,
}

impl Span {
    fn sample(point: Point) -> Self {
        let (at, worst) = (point.utc_ns, Some(point.quality));
        Self { count: 1, first_ns: at, last_ns: at, min: point, max: point, worst }
    }

    fn row(bucket: &Bucket) -> Self {
        let (first, last) = (bucket.first, bucket.last);
        // Where it may have been: at an end if it was there, else within, the least before the greatest.
        let third = last.0.saturating_sub(first.0) / 3;
        let place = |value: f64, within: i64| match value {
            v if v == first.1 => first.0,
            v if v == last.1 => last.0,
            _ => first.0.saturating_add(within),
        };
        let quality = bucket.worst.unwrap_or_default();
        let point = |value, within| Point { utc_ns: place(value, within), value, uncertainty: None, quality };
        let (min, max) = (point(bucket.min, third), point(bucket.max, third.saturating_mul(2)));
        Self { count: bucket.count, first_ns: first.0, last_ns: last.0, min, max, worst: bucket.worst }
    }

    fn append(&mut self, next: &Span) {
        self.count += next.count;
        (self.first_ns, self.last_ns) = (self.first_ns.min(next.first_ns), self.last_ns.max(next.last_ns));
        if next.min.value < self.min.value {
            self.min = next.min;
        }
        if next.max.value > self.max.value {
            self.max = next.max;
        }
        self.worst = self.worst.zip(next.worst).map(|(a, b)| if rank(a) < rank(b) { b } else { a });
    }
}

/// What is in a range of UTC, at what cost.
pub(super) struct Source {
    pub(super) made: Made,
    /// First and last time that anything may have, within what was asked for.
    pub(super) extent: Option<(i64, i64)>,
    pub(super) clock: Option<ClockSource>,
    pub(super) utc_uncertainty_ns: Option<u64>,
    pub(super) undated: Vec<Undated>,
}

/// Chooses what to read.
pub(super) fn choose(rows: &mut impl Lists, query: &DrawQuery) -> Result<Source, StoreError> {
    let DrawQuery { gateway, sensor, quantity, from_ns, to_ns, .. } = query;
    let (stretches, undated) = stretches(rows, gateway, (*from_ns, *to_ns))?;
    let records: i64 = stretches.iter().map(records_of).fold(0, i64::saturating_add);
    let ends = |(begins, part, stretch): &Lies| {
        let last = stretch.to.min(part.t_max.max(0) as u64);
        (*begins, to_utc(&stretch.fix, last))
    };
    let mut extents: Vec<(i64, i64)> = stretches.iter().map(ends).collect();
    let series = rows.series(gateway)?.into_iter().find(|s| s.sensor == *sensor && s.quantity == *quantity);
    let mut counted = 0;
    if let Some(series) = &series {
        let hour = Level::Hour.ns();
        let range = (super::rollup::floor(*from_ns, hour), to_ns.saturating_add(1));
        let hours = rows.rollups(series.id, Level::Hour, range, MAX_BUCKETS)?;
        counted = hours.iter().map(|hour| hour.count).sum();
        // Sums may be there of samples that are not any more.
        extents.extend(hours.first().zip(hours.last()).map(|(first, last)| (first.first.0, last.last.0)));
        if series.read {
            let first = rows.readings(series.id, (*from_ns, *to_ns), 1)?;
            let last = rows.readings_back(series.id, (*from_ns, *to_ns), 1)?;
            extents.extend(first.first().zip(last.first()).map(|(first, last)| (first.utc_ns, last.utc_ns)));
        }
    }
    let extent = extents.into_iter().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let extent = extent.map(|(first, last)| (first.max(*from_ns), last.min(*to_ns))).filter(|(a, b)| a <= b);
    let minutes = extent.map_or(0, |(first, last)| last.saturating_sub(first) / Level::Minute.ns());
    let made = match (records <= FEW_RECORDS && counted <= FEW_SAMPLES, minutes <= FEW_MINUTES) {
        (true, _) => Made::Samples,
        (false, true) => Made::Rows(Level::Minute),
        (false, false) => Made::Rows(Level::Hour),
    };
    let untrusted = stretches.iter().any(|(.., stretch)| stretch.fix.source == ClockSource::Untrusted);
    let last = stretches.last().map(|(.., stretch)| stretch.fix.source);
    let clock = if untrusted { Some(ClockSource::Untrusted) } else { last };
    // It grows with the distance from the fix, so an end of a stretch has the most of it.
    let worst = stretches.iter().flat_map(|lies| {
        let (_, _, stretch) = lies;
        let (first, last) = ends(lies);
        [first, last].map(|utc_ns| bound(&stretch.fix, utc_ns))
    });
    let utc_uncertainty_ns = if untrusted { None } else { worst.flatten().max() };
    Ok(Source { made, extent, clock, utc_uncertainty_ns, undated })
}

/// About how many records a stretch has: as much of its part's as of its part's time.
fn records_of((_, part, stretch): &Lies) -> i64 {
    let all = part.seqs.1.saturating_sub(part.seqs.0).saturating_add(1);
    let (from, to) = (super::scan::bound(stretch.from).max(part.t_min), super::scan::bound(stretch.to).min(part.t_max));
    let (whole, cut) = (part.t_max.saturating_sub(part.t_min).max(1), to.saturating_sub(from).max(0));
    // At least one: a stretch is only told when it has some.
    ((all as f64 * (cut as f64 / whole as f64)).ceil() as i64).clamp(1, all.max(1))
}

/// All of a range in order of time, to `take`. Where to ask on from, if a limit was met.
pub(super) fn each_span(
    rows: &mut impl Lists,
    query: &DrawQuery,
    made: Made,
    mut take: impl FnMut(Span),
) -> Result<Option<i64>, StoreError> {
    let DrawQuery { gateway, sensor, quantity, from_ns, to_ns, .. } = query.clone();
    match made {
        Made::Samples => {
            let (sensors, quantities) = (vec![sensor], vec![quantity]);
            let mut asked = SamplesQuery { gateway, sensors, quantities, from_ns, to_ns, skip: 0, limit: PIECE };
            let mut left = 2 * FEW_SAMPLES;
            loop {
                let found = samples(rows, &asked)?;
                left = left.saturating_sub(found.samples.len() as u64);
                found.samples.iter().for_each(|sample| take(Span::sample(sample.point)));
                match found.next {
                    Some((next, skip)) if left > 0 => (asked.from_ns, asked.skip) = (next, skip),
                    next => return Ok(next.map(|(next, _)| next)),
                }
            }
        }
        Made::Rows(level) => {
            let (bucket_s, limit) = (level.seconds(), MAX_BUCKETS);
            let found = rollup(rows, &RollupQuery { gateway, sensor, quantity, bucket_s, from_ns, to_ns, limit })?;
            found.buckets.iter().for_each(|bucket| take(Span::row(bucket)));
            Ok(found.next_ns)
        }
    }
}

pub(super) fn draw(rows: &mut impl Lists, query: &DrawQuery) -> Result<Drawing, StoreError> {
    let Source { made, extent, clock, utc_uncertainty_ns, undated } = choose(rows, query)?;
    let mut pen = Pen::new(query.points.clamp(BINS, MAX_DRAWN), extent.unwrap_or((query.from_ns, query.to_ns)));
    let next_ns = each_span(rows, query, made, |span| pen.take(&span))?;
    let drawn = pen.finish();
    Ok(Drawing {
        whole: drawn.whole && made == Made::Samples,
        made,
        next_ns,
        clock,
        utc_uncertainty_ns,
        undated,
        ..drawn
    })
}

/// Takes spans in order of time; keeps a bounded number of points.
struct Pen {
    points: usize,
    extent: (i64, i64),
    /// All of it, while it is little.
    few: Vec<Span>,
    bins: Vec<Option<Span>>,
    samples: u64,
}

impl Pen {
    fn new(points: usize, extent: (i64, i64)) -> Self {
        Self { points, extent, few: Vec::new(), bins: Vec::new(), samples: 0 }
    }

    fn take(&mut self, span: &Span) {
        self.samples += span.count;
        if !self.bins.is_empty() {
            return self.put(span);
        }
        self.few.push(*span);
        let drawn: usize = if self.few.len() > self.points / 2 { self.few.iter().map(values_of).sum() } else { 0 };
        if drawn > self.points {
            // Three values a bucket.
            self.bins = vec![None; (self.points / 3).max(1) * BINS];
            for span in std::mem::take(&mut self.few) {
                self.put(&span);
            }
        }
    }

    fn put(&mut self, span: &Span) {
        let width = self.width();
        let at = (i128::from(span.first_ns) - i128::from(self.extent.0)) / width;
        let at = usize::try_from(at).unwrap_or(0).min(self.bins.len() - 1);
        match &mut self.bins[at] {
            Some(bin) => bin.append(span),
            empty => *empty = Some(*span),
        }
    }

    /// Of a bin, ns.
    fn width(&self) -> i128 {
        let (from, to) = (i128::from(self.extent.0), i128::from(self.extent.1));
        (to - from) / self.bins.len().max(1) as i128 + 1
    }

    fn finish(self) -> Drawing {
        let whole = self.bins.is_empty();
        let width = if whole { 0 } else { i64::try_from(self.width()).unwrap_or(i64::MAX) };
        let spans: Vec<Span> = if whole { self.few.clone() } else { self.bins.iter().flatten().copied().collect() };
        let hole_ns = usual_interval(&spans).map_or(MAX_BRIDGE_NS, |usual| (HOLE * usual) as i64).max(width);
        let mut marks = Vec::new();
        if whole {
            let mut last: Option<i64> = None;
            for span in &spans {
                marks.extend(hole(last, span.first_ns, hole_ns).map(|(a, b)| Mark::Hole(a, b)));
                marks.extend(ends(span).into_iter().map(|point| Mark::Value { point, quality: span.worst }));
                last = Some(span.last_ns);
            }
        } else {
            marks = buckets(&self.bins, hole_ns);
        }
        Drawing { marks, whole, samples: self.samples, hole_ns, ..Drawing::default() }
    }
}

/// The values that a span is drawn by.
fn values_of(span: &Span) -> usize {
    if span.count == 1 { 1 } else { 2 }
}

/// The least and the greatest in order of time; once where they are one.
fn ends(span: &Span) -> Vec<Point> {
    let mut both = vec![span.min, span.max];
    both.sort_by_key(|point| point.utc_ns);
    both.dedup_by(|a, b| a.utc_ns == b.utc_ns && a.value == b.value);
    both
}

/// A silence between two times that is one.
pub(super) fn hole(last: Option<i64>, next: i64, hole_ns: i64) -> Option<(i64, i64)> {
    last.map(|last| (last, next)).filter(|(last, next)| next.saturating_sub(*last) > hole_ns)
}

/// How far samples usually are apart, ns: the median over spans, within and between them. Within one, all intervals count
/// as their mean. Between them counts too: spans as short as an interval hold two samples only where these are close.
pub(super) fn usual_interval(spans: &[Span]) -> Option<f64> {
    let within = spans.iter().filter(|s| s.count > 1);
    let within = within.map(|s| ((s.last_ns - s.first_ns) as f64 / (s.count - 1) as f64, s.count - 1));
    let between = spans.windows(2).map(|w| ((w[1].first_ns - w[0].last_ns) as f64, 1));
    let mut all: Vec<(f64, u64)> = within.chain(between).filter(|(ns, _)| *ns > 0.0).collect();
    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut left = all.iter().map(|(_, n)| n).sum::<u64>() / 2;
    let middle = all.iter().find(|(_, n)| {
        let here = left < *n;
        left = left.saturating_sub(*n);
        here
    });
    middle.map(|(ns, _)| *ns)
}

/// Of each bucket the least, the greatest and the one that makes the largest triangle, and its longest hole.
fn buckets(bins: &[Option<Span>], hole_ns: i64) -> Vec<Mark> {
    let full: Vec<(usize, Vec<Span>)> = bins
        .chunks(BINS)
        .enumerate()
        .map(|(at, bins)| (at, bins.iter().flatten().copied().collect::<Vec<_>>()))
        .filter(|(_, spans)| !spans.is_empty())
        .collect();
    let mut marks = Vec::new();
    let mut before: Option<Point> = None;
    for (i, (_, spans)) in full.iter().enumerate() {
        let next = full.get(i + 1).map(|(_, spans)| spans);
        let mut all: Vec<Point> = spans.iter().flat_map(ends).collect();
        all.sort_by_key(|point| point.utc_ns);
        let mut chosen: Vec<Point> = Vec::new();
        chosen.extend(all.iter().copied().min_by(|a, b| a.value.total_cmp(&b.value)));
        chosen.extend(all.iter().copied().max_by(|a, b| a.value.total_cmp(&b.value)));
        chosen.extend(largest_triangle(before, &all, next.map(|spans| mean(spans))));
        chosen.sort_by(|a, b| a.utc_ns.cmp(&b.utc_ns).then(a.value.total_cmp(&b.value)));
        chosen.dedup_by(|a, b| a.utc_ns == b.utc_ns && a.value == b.value);
        before = chosen.last().copied();
        let worst = spans.iter().copied().reduce(|mut a, b| {
            a.append(&b);
            a
        });
        let quality = worst.and_then(|all| all.worst);
        let pairs = spans.windows(2).map(|w| (w[0].last_ns, w[1].first_ns));
        let after = spans.last().zip(next.and_then(|next| next.first())).map(|(a, b)| (a.last_ns, b.first_ns));
        let holes = pairs.chain(after).filter_map(|(a, b)| hole(Some(a), b, hole_ns));
        let longest = holes.max_by_key(|(a, b)| b - a);
        let begins = longest.map_or(i64::MAX, |(a, _)| a);
        let value = |point: &Point| Mark::Value { point: *point, quality };
        marks.extend(chosen.iter().filter(|point| point.utc_ns <= begins).map(value));
        marks.extend(longest.map(|(a, b)| Mark::Hole(a, b)));
        marks.extend(chosen.iter().filter(|point| point.utc_ns > begins).map(value));
    }
    marks
}

/// The middle of the points of a bucket, as seconds and value.
fn mean(spans: &[Span]) -> (f64, f64) {
    let points: Vec<Point> = spans.iter().flat_map(ends).collect();
    let n = points.len().max(1) as f64;
    (points.iter().map(|p| p.utc_ns as f64 / 1e9).sum::<f64>() / n, points.iter().map(|p| p.value).sum::<f64>() / n)
}

/// The point that spans the largest triangle with the point given before and the middle of the next bucket.
fn largest_triangle(before: Option<Point>, points: &[Point], next: Option<(f64, f64)>) -> Option<Point> {
    // The ends of the line are themselves.
    let Some(a) = before else { return points.first().copied() };
    let Some(c) = next else { return points.last().copied() };
    let a = (a.utc_ns as f64 / 1e9, a.value);
    // Twice the area: |(ax - cx)(by - ay) - (ax - bx)(cy - ay)|
    let area = |b: &Point| {
        let b = (b.utc_ns as f64 / 1e9, b.value);
        ((a.0 - c.0) * (b.1 - a.1) - (a.0 - b.0) * (c.1 - a.1)).abs()
    };
    points.iter().copied().max_by(|p, q| area(p).total_cmp(&area(q)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(utc_ns: i64, value: f64) -> Point {
        Point { utc_ns, value, uncertainty: None, quality: Quality::Good }
    }

    fn drawn(points: &[Point], most: usize) -> Drawing {
        let extent = (points[0].utc_ns, points[points.len() - 1].utc_ns);
        let mut pen = Pen::new(most, extent);
        points.iter().for_each(|point| pen.take(&Span::sample(*point)));
        pen.finish()
    }

    fn values(drawing: &Drawing) -> Vec<Point> {
        let value = |mark: &Mark| match mark {
            Mark::Value { point, .. } => Some(*point),
            Mark::Hole(..) => None,
        };
        drawing.marks.iter().filter_map(value).collect()
    }

    #[test]
    fn a_spike_of_one_sample_in_a_day_is_drawn_with_its_own_time_and_the_worst_quality_of_its_stretch() {
        let mut points: Vec<Point> = (0..864_000).map(|i| point(i * 100_000_000, (i as f64 / 5e3).sin())).collect();
        points[431_234].value = 99.0;
        points[431_240].quality = Quality::Degraded;
        let drawing = drawn(&points, 500);
        let found = values(&drawing);
        assert!(found.len() <= 500 && found.len() > 300 && !drawing.whole, "{}", found.len());
        assert!(found.contains(&points[431_234]));
        assert_eq!(drawing.samples, 864_000);
        let spike = drawing.marks.iter().find_map(|mark| match mark {
            Mark::Value { point, quality } if point.value == 99.0 => *quality,
            _ => None,
        });
        assert_eq!(spike, Some(Quality::Degraded));
        assert!(drawing.marks.iter().all(|mark| matches!(mark, Mark::Value { .. })), "no hole where none is");
    }

    #[test]
    fn a_hole_is_marked_between_the_samples_around_it_whether_all_samples_are_given_or_not() {
        let mut points: Vec<Point> = (0..10_000).map(|i| point(i * 100_000_000, i as f64)).collect();
        points.drain(3_000..4_000);
        for most in [20_000, 600, 50] {
            let drawing = drawn(&points, most);
            let at = drawing.marks.iter().position(|m| *m == Mark::Hole(299_900_000_000, 400_000_000_000)).unwrap();
            let around = |mark: &Mark| matches!(mark, Mark::Value { .. });
            assert!(around(&drawing.marks[at - 1]) && around(&drawing.marks[at + 1]));
            assert_eq!(drawing.marks.iter().filter(|mark| !around(mark)).count(), 1, "{most}");
            assert_eq!(drawing.whole, most == 20_000);
        }
    }

    #[test]
    fn what_is_usual_is_no_hole_though_the_few_samples_that_are_close_share_a_bin() {
        // A receiver that now and then says the same twice, a microsecond apart.
        let mut at = 0;
        let steps = (0..700).map(|i| if i % 5 == 0 { 1_000 } else { 1_000_000_000 });
        let points: Vec<Point> = steps
            .map(|step| {
                at += step;
                point(at, at as f64)
            })
            .collect();
        for most in [699, 400, 100, 5_000] {
            let drawing = drawn(&points, most);
            let holes = drawing.marks.iter().filter(|mark| matches!(mark, Mark::Hole(..))).count();
            assert_eq!((holes, drawing.hole_ns >= 2_000_000_000), (0, true), "{most}: {} ns", drawing.hole_ns);
        }
    }

    proptest! {
        #[test]
        fn the_points_are_samples_in_order_no_more_than_asked_for_with_the_least_and_the_greatest(
            steps in prop::collection::vec((1i64..1_000, -100.0f64..100.0), 1..400), most in 4usize..100
        ) {
            let mut at = 0;
            let points: Vec<Point> = steps.iter().map(|(step, value)| { at += step; point(at, *value) }).collect();
            let drawing = drawn(&points, most);
            let found = values(&drawing);
            prop_assert!(found.len() <= most.max(4) && found.iter().all(|p| points.contains(p)));
            prop_assert!(found.is_sorted_by_key(|p| p.utc_ns));
            let least = |points: &[Point]| points.iter().map(|p| p.value).fold(f64::INFINITY, f64::min);
            let greatest = |points: &[Point]| points.iter().map(|p| p.value).fold(f64::NEG_INFINITY, f64::max);
            prop_assert_eq!((least(&found), greatest(&found)), (least(&points), greatest(&points)));
            if points.len() <= most {
                prop_assert_eq!(found, points);
            }
        }
    }
}
