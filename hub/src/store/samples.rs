//! Samples of one channel or of many over a range of UTC, in order of time, a page at a time.
//!
//! The order is by time, and within one time by sensor, quantity, value, quality and uncertainty: samples that are alike in
//! all of it cannot be told apart, so a page begins where the one before ended whatever order they were stored in. A page
//! ends at the end of an instant where it can; where one instant has more samples than a page, `skip` says how many of it
//! were given.

use std::{cmp::Ordering, collections::HashMap};

use speedwell_wire::{Channel, ClockSource, GatewayId, Quantity};

use super::{
    MAX_CHUNKS, MAX_POINTS, Point, StoreError, Undated,
    clock::{Stretch, bound, to_utc},
    rollup::rank,
    rows::{ChunkRow, Part, Rows},
    scan::{Manifests, Name, Pages, each_column, stretches},
};

/// Channels of a gateway and a range of UTC, both ends inclusive.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplesQuery {
    /// Whose.
    pub gateway: GatewayId,
    /// Of these sensors; of all when there is none.
    pub sensors: Vec<String>,
    /// These quantities; all when there is none.
    pub quantities: Vec<Quantity>,
    /// UTC ns.
    pub from_ns: i64,
    /// UTC ns.
    pub to_ns: i64,
    /// So many samples of the instant `from_ns` were given before; at most [`MAX_POINTS`] of one instant are ever told.
    pub skip: usize,
    /// At most this many samples, the oldest first.
    pub limit: usize,
}

impl SamplesQuery {
    fn wants(&self, sensor: &str, quantity: Quantity) -> bool {
        (self.sensors.is_empty() || self.sensors.iter().any(|s| s == sensor))
            && (self.quantities.is_empty() || self.quantities.contains(&quantity))
    }
}

/// Samples in order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Sensor and quantity of the channels that samples name.
    pub channels: Vec<(String, Quantity)>,
    /// The samples.
    pub samples: Vec<Sample>,
    /// Where to ask on, when there may be more: `from_ns` and `skip`.
    pub next: Option<(i64, usize)>,
    /// Boots that may lie in the range, in order: nobody ever vouched for their time.
    pub undated: Vec<Undated>,
}

impl Samples {
    /// Who vouches for the times; the least trusted of them. Of those that came one by one nobody but their giver does, and
    /// they are not counted.
    pub fn clock(&self) -> Option<ClockSource> {
        // One that nobody vouches for makes the whole answer one that nobody vouches for.
        match self.samples.iter().any(|sample| sample.source == Some(ClockSource::Untrusted)) {
            true => Some(ClockSource::Untrusted),
            false => self.samples.iter().rev().find_map(|sample| sample.source),
        }
    }

    /// Bound on the error of any of the times, ns; none where nobody vouches for one, and of those that came one by one.
    pub fn utc_uncertainty_ns(&self) -> Option<u64> {
        let trusted = self.clock() != Some(ClockSource::Untrusted);
        self.samples.iter().filter(|_| trusted).filter_map(|sample| sample.utc_uncertainty_ns).max()
    }
}

/// A sample of a channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Which of [`Samples::channels`].
    pub channel: u32,
    /// When, and how much.
    pub point: Point,
    /// Who vouches for the time, unless it was told with the sample.
    pub source: Option<ClockSource>,
    /// Bound on the error of the time, ns, as good as the word of who vouches.
    pub utc_uncertainty_ns: Option<u64>,
}

/// A question being answered. Boots and logs may overlap in UTC, so the earliest of all are kept as they are met.
struct Reading<'a> {
    query: &'a SamplesQuery,
    /// The page, and what is skipped.
    most: usize,
    manifests: Manifests,
    channels: Vec<Name>,
    /// Places in `channels`, by channel list and channel.
    places: HashMap<(i64, u16), u32>,
    /// The earliest so far; one more than fits tells that there are more.
    samples: Vec<Sample>,
    /// Records still to be looked at.
    chunks: usize,
    /// From here on the answer is not complete.
    next: Option<i64>,
}

pub(super) fn samples(rows: &mut impl Rows, query: &SamplesQuery) -> Result<Samples, StoreError> {
    let (stretches, undated) = stretches(rows, &query.gateway, (query.from_ns, query.to_ns))?;
    let mut reading = Reading {
        query,
        most: query.limit.min(MAX_POINTS) + query.skip.min(MAX_POINTS),
        manifests: Manifests::default(),
        channels: Vec::new(),
        places: HashMap::new(),
        samples: Vec::new(),
        chunks: MAX_CHUNKS,
        next: None,
    };
    reading.readings(rows)?;
    for (begins, part, stretch) in &stretches {
        if reading.chunks == 0 {
            reading.give_up(*begins);
            break;
        }
        reading.stretch(rows, part, stretch)?;
    }
    Ok(Samples { undated, ..reading.finish() })
}

impl Reading<'_> {
    /// The earliest that came one by one; one more than fits tells that there are more.
    fn readings(&mut self, rows: &mut impl Rows) -> Result<(), StoreError> {
        let series = rows.series(&self.query.gateway)?;
        for series in series.into_iter().filter(|s| s.read && self.query.wants(&s.sensor, s.quantity)) {
            let to_ns = self.next.map_or(self.query.to_ns, |next| next.min(self.query.to_ns));
            let points = rows.readings(series.id, (self.query.from_ns, to_ns), self.most + 1)?;
            let channel = self.place((series.sensor, series.quantity));
            self.samples.extend(points.into_iter().map(|point| Sample {
                channel,
                point,
                source: None,
                utc_uncertainty_ns: None,
            }));
            self.prune();
        }
        Ok(())
    }

    fn place(&mut self, name: Name) -> u32 {
        let known = self.channels.iter().position(|known| *known == name);
        known.unwrap_or_else(|| {
            self.channels.push(name);
            self.channels.len() - 1
        }) as u32
    }

    fn stretch(&mut self, rows: &mut impl Rows, part: &Part, stretch: &Stretch) -> Result<(), StoreError> {
        let mut pages = Pages::new(part, stretch.from, stretch.to);
        while let Some(page) = pages.next(rows, self.chunks + 1)? {
            for row in &page {
                let begins = to_utc(&stretch.fix, row.t_min.max(0) as u64);
                if self.chunks == 0 {
                    self.give_up(begins);
                }
                // Chunks come in order of their first time: nothing after this one lies before what is kept.
                if self.next.is_some_and(|next| begins > next) || self.chunks == 0 {
                    return Ok(());
                }
                self.chunks -= 1;
                self.chunk(rows, row, stretch)?;
                self.prune();
            }
        }
        Ok(())
    }

    fn chunk(&mut self, rows: &mut impl Rows, row: &ChunkRow, stretch: &Stretch) -> Result<(), StoreError> {
        let (list, query) = (self.manifests.get(rows, row.manifest)?, self.query);
        let range = (query.from_ns, self.next.map_or(query.to_ns, |next| next.min(query.to_ns)));
        let wanted = |c: &Channel| query.wants(&c.sensor, c.quantity);
        let source = Some(stretch.fix.source);
        each_column(row, &list, stretch, range, wanted, |column, found| {
            let key = (row.manifest, column.id);
            let channel = match self.places.get(&key) {
                Some(known) => *known,
                None => {
                    let new = self.place((column.sensor.clone(), column.quantity));
                    self.places.insert(key, new);
                    new
                }
            };
            self.samples.extend(found.map(|point| {
                let utc_uncertainty_ns = bound(&stretch.fix, point.utc_ns);
                Sample { channel, point, source, utc_uncertainty_ns }
            }));
        })
    }

    /// Keeps the earliest, and one more.
    fn prune(&mut self) {
        if self.samples.len() > self.most {
            self.sort();
            self.samples.truncate(self.most + 1);
            if let Some(first_left_out) = self.samples.last() {
                self.cut(first_left_out.point.utc_ns);
            }
        }
    }

    fn sort(&mut self) {
        let Self { samples, channels, .. } = self;
        let name = |sample: &Sample| channels.get(sample.channel as usize);
        let order = |a: &Sample, b: &Sample| -> Ordering {
            let (p, q) = (&a.point, &b.point);
            p.utc_ns.cmp(&q.utc_ns).then_with(|| {
                name(a)
                    .cmp(&name(b))
                    .then(p.value.total_cmp(&q.value))
                    .then(rank(p.quality).cmp(&rank(q.quality)))
                    .then(p.uncertainty.unwrap_or(-1.0).total_cmp(&q.uncertainty.unwrap_or(-1.0)))
            })
        };
        // Mostly in order already: records come so.
        samples.sort_by(order);
    }

    fn cut(&mut self, at: i64) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// No more records are looked at. Never before what was asked for, or asking on from there would not get on.
    fn give_up(&mut self, at: i64) {
        self.cut(at.max(self.query.from_ns.saturating_add(1)));
    }

    fn finish(mut self) -> Samples {
        self.sort();
        let (from, skip) = (self.query.from_ns, self.query.skip.min(MAX_POINTS));
        let at = |samples: &[Sample], ns: i64| samples.partition_point(|sample| sample.point.utc_ns < ns);
        let mut next = None;
        if let Some(cut) = self.next {
            // Whole instants, if that is any; what lies at the cut is given with the next page.
            let whole = at(&self.samples, cut);
            if whole > 0 || cut > from {
                self.samples.truncate(whole);
                next = Some((cut, 0));
            } else {
                let upto = self.samples.len().min(self.most);
                self.samples.truncate(upto);
                let told = self.samples.len();
                // Beyond what is ever told of an instant, it is passed over.
                next = Some(if told <= MAX_POINTS && told > skip { (cut, told) } else { (cut.saturating_add(1), 0) });
            }
        }
        let skipped = at(&self.samples, from.saturating_add(1)).min(skip);
        self.samples.drain(..skipped);
        Samples { channels: self.channels, samples: self.samples, next, undated: Vec::new() }
    }
}
