//! All samples of a gateway, or of one channel of it, over a range of UTC, from wherever they are stored.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use speedwell_wire::{Channel, ClockSource, GatewayId, Manifest, Quantity, block};

use super::{
    ClockMap, MAX_CHUNKS, Point, StoreError, Undated,
    clock::{Stretch, to_utc},
    rollup::Sampled,
    rows::{ChunkRow, PAGE, Part, Rows, Series},
};

/// A channel by the names of sensor and quantity.
pub(super) type Name = (String, Quantity);

/// Readings cost less to look at than records do.
const READINGS_A_CHUNK: usize = 100;

/// Of boots of logs.
pub(super) type Clocks = HashMap<(i64, u32), ClockMap>;

/// Where a stretch of a boot begins at the earliest, UTC ns; the part of the boot; the stretch.
pub(super) type Lies = (i64, Part, Stretch);

/// Where in the tables a range of UTC lies.
pub(super) struct Scan {
    only: Option<Name>,
    to_ns: i64,
    stretches: Vec<Lies>,
    series: Vec<Series>,
    manifests: Manifests,
}

/// What was found, and what it cost, in records.
pub(super) struct Seen {
    pub(super) samples: HashMap<Name, Vec<Sampled>>,
    pub(super) cost: usize,
}

/// Channel lists that were needed.
#[derive(Default)]
pub(super) struct Manifests(HashMap<i64, Arc<Manifest>>);

impl Manifests {
    pub(super) fn get(&mut self, rows: &mut impl Rows, id: i64) -> Result<Arc<Manifest>, StoreError> {
        Ok(match self.0.entry(id) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => new.insert(rows.manifest(id)?).clone(),
        })
    }
}

/// The parts of boots that reach into a range, each with when it may begin, the earliest first; and who is not dated.
pub(super) fn stretches(
    rows: &mut impl Rows,
    gateway: &GatewayId,
    (from_ns, to_ns): (i64, i64),
) -> Result<(Vec<Lies>, Vec<Undated>), StoreError> {
    let parts = rows.parts(gateway)?;
    let of = clocks(rows, parts.iter().map(|part| (part.log, part.boot)).collect())?;
    let mut found = Vec::new();
    for part in &parts {
        let Some(clock) = of.get(&(part.log, part.boot)) else { continue };
        for stretch in clock.stretches(from_ns, to_ns) {
            if bound(stretch.from) <= part.t_max && bound(stretch.to) >= part.t_min {
                let begins = stretch.from.max(part.t_min.max(0) as u64);
                found.push((to_utc(&stretch.fix, begins), part.clone(), stretch));
            }
        }
    }
    found.sort_by_key(|(begins, ..)| *begins);
    Ok((found, undated(&parts, &of, (from_ns, to_ns))))
}

/// The clocks of boots of logs; those that are asked for twice only once.
pub(super) fn clocks(rows: &mut impl Rows, mut boots: Vec<(i64, u32)>) -> Result<Clocks, StoreError> {
    boots.sort_unstable();
    boots.dedup();
    Ok(boots.iter().copied().zip(rows.fixes(&boots)?.into_iter().map(ClockMap::new)).collect())
}

/// The boots that nobody dated and that may lie in the range.
pub(super) fn undated(parts: &[Part], clocks: &Clocks, range: (i64, i64)) -> Vec<Undated> {
    // A part a boot, with the first and last time of all of it.
    let mut boots: Vec<Part> = Vec::new();
    for part in parts {
        match boots.last_mut() {
            Some(boot) if (boot.log, boot.boot) == (part.log, part.boot) => {
                (boot.t_min, boot.t_max) = (boot.t_min.min(part.t_min), boot.t_max.max(part.t_max));
            }
            _ => boots.push(part.clone()),
        }
    }
    let clock = |boot: &Part| clocks.get(&(boot.log, boot.boot));
    let trusted = |boot: &Part| clock(boot).is_some_and(ClockMap::is_trusted);
    let utc = |boot: &Part, t_ns: i64| clock(boot)?.utc(t_ns.max(0) as u64).map(|(utc, _)| utc);
    let of = |(at, boot): (usize, &Part)| {
        let same_log = |other: &&Part| other.log == boot.log && trusted(other);
        let before = boots[..at].iter().rev().find(same_log);
        let after = boots[at + 1..].iter().find(same_log);
        let found = Undated {
            log: boot.name.clone(),
            boot: boot.boot,
            after_ns: before.and_then(|before| utc(before, before.t_max)),
            // The boot itself began then: boot time counts from it.
            before_ns: after.and_then(|after| utc(after, 0)),
            told_ns: utc(boot, boot.t_min).zip(utc(boot, boot.t_max)),
        };
        let may = found.after_ns.is_none_or(|after| after <= range.1)
            && found.before_ns.is_none_or(|before| before >= range.0);
        (!trusted(boot) && may).then_some(found)
    };
    boots.iter().enumerate().filter_map(of).collect()
}

pub(super) fn bound(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The records of a part that reach into a range of boot time, a page after another.
pub(super) struct Pages {
    part: Part,
    times: (i64, i64),
    after: Option<(i64, i64)>,
    ended: bool,
}

impl Pages {
    pub(super) fn new(part: &Part, from: u64, to: u64) -> Self {
        Self { part: part.clone(), times: (bound(from), bound(to)), after: None, ended: false }
    }

    pub(super) fn next(&mut self, rows: &mut impl Rows, most: usize) -> Result<Option<Vec<ChunkRow>>, StoreError> {
        if self.ended || most == 0 {
            return Ok(None);
        }
        let most = most.min(PAGE);
        let page = rows.chunks(&self.part, self.times, self.after, most)?;
        self.ended = page.len() < most;
        self.after = page.last().map(|row| (row.t_min, row.seq));
        Ok(Some(page))
    }
}

/// The samples of a record that lie in a range of UTC, by channel, of the channels that are asked for.
pub(super) fn each_column(
    row: &ChunkRow,
    list: &Manifest,
    stretch: &Stretch,
    (from_ns, to_ns): (i64, i64),
    wanted: impl Fn(&Channel) -> bool,
    mut take: impl FnMut(&Channel, &mut dyn Iterator<Item = Point>),
) -> Result<(), StoreError> {
    if !list.channels.iter().any(&wanted) {
        return Ok(());
    }
    let columns = block::decode(&row.block).map_err(|e| StoreError::Content(format!("a block that is none: {e}")))?;
    for column in &columns {
        let Some(channel) = list.channel(column.channel).filter(|channel| wanted(channel)) else { continue };
        let place = |sample: &block::Sample| {
            let t_ns = channel.t_ns(sample.tick);
            let utc_ns = to_utc(&stretch.fix, t_ns);
            let asked = (from_ns..=to_ns).contains(&utc_ns) && (stretch.from..=stretch.to).contains(&t_ns);
            asked.then(|| Point {
                utc_ns,
                value: channel.value(sample.value),
                uncertainty: sample.uncertainty.in_unit(channel.resolution()),
                quality: sample.quality,
            })
        };
        take(channel, &mut column.samples.iter().filter_map(place));
    }
    Ok(())
}

impl Scan {
    /// Both ends inclusive.
    pub(super) fn new(
        rows: &mut impl Rows,
        gateway: &GatewayId,
        range: (i64, i64),
        only: Option<(&str, Quantity)>,
    ) -> Result<Self, StoreError> {
        let only = only.map(|(sensor, quantity)| (sensor.to_owned(), quantity));
        let (stretches, _) = stretches(rows, gateway, range)?;
        let mut series = rows.series(gateway)?;
        series.retain(|s| s.read && only.as_ref().is_none_or(|(sensor, q)| *sensor == s.sensor && *q == s.quantity));
        Ok(Self { only, to_ns: range.1, stretches, series, manifests: Manifests::default() })
    }

    /// All in a range. One that holds more than [`MAX_CHUNKS`] records is not taken for what a gateway measured: what is
    /// beyond them is left out, and the journal told.
    pub(super) fn samples(&mut self, rows: &mut impl Rows, range: (i64, i64)) -> Result<Seen, StoreError> {
        let mut seen = Seen { samples: HashMap::new(), cost: 0 };
        for series in &self.series {
            let points = rows.readings(series.id, range, MAX_CHUNKS * READINGS_A_CHUNK)?;
            seen.cost += points.len().div_ceil(READINGS_A_CHUNK);
            let sampled = |p: Point| Sampled::new(&p, false);
            if !points.is_empty() {
                let name = (series.sensor.clone(), series.quantity);
                seen.samples.entry(name).or_default().extend(points.into_iter().map(sampled));
            }
        }
        let only = &self.only;
        let wanted = |c: &Channel| only.as_ref().is_none_or(|(sensor, q)| *sensor == c.sensor && *q == c.quantity);
        for (begins, part, stretch) in &self.stretches {
            if *begins > range.1 {
                break;
            }
            let untrusted = stretch.fix.source == ClockSource::Untrusted;
            for cut in ClockMap::new(vec![stretch.fix]).stretches(range.0, range.1) {
                let (from, to) = (cut.from.max(stretch.from), cut.to.min(stretch.to));
                let mut pages = if from > to { continue } else { Pages::new(part, from, to) };
                while let Some(page) = pages.next(rows, MAX_CHUNKS.saturating_sub(seen.cost))? {
                    seen.cost += page.len();
                    for row in &page {
                        let list = self.manifests.get(rows, row.manifest)?;
                        each_column(row, &list, stretch, range, wanted, |channel, points| {
                            let sampled = points.map(|p| Sampled::new(&p, untrusted));
                            let name = (channel.sensor.clone(), channel.quantity);
                            let mut sampled = sampled.peekable();
                            if sampled.peek().is_some() {
                                seen.samples.entry(name).or_default().extend(sampled);
                            }
                        })?;
                    }
                }
            }
        }
        if seen.cost >= MAX_CHUNKS {
            tracing::warn!(
                ?range,
                "more than {MAX_CHUNKS} records in some minutes: sums leave out what is beyond them"
            );
        }
        Ok(seen)
    }

    /// Nothing lies between a time and this one. The end, exclusive, when nothing comes after it.
    pub(super) fn next(&mut self, rows: &mut impl Rows, from_ns: i64) -> Result<i64, StoreError> {
        let mut next = self.to_ns.saturating_add(1);
        for series in &self.series {
            let first = rows.readings(series.id, (from_ns, self.to_ns), 1)?;
            next = first.first().map_or(next, |point| next.min(point.utc_ns));
        }
        for (_, part, stretch) in &self.stretches {
            for cut in ClockMap::new(vec![stretch.fix]).stretches(from_ns, self.to_ns) {
                let (from, to) = (cut.from.max(stretch.from), cut.to.min(stretch.to));
                if from <= to {
                    let page = Pages::new(part, from, to).next(rows, 1)?.unwrap_or_default();
                    // It reaches into what is asked for, so it may hold a sample from its first time on.
                    let begins = page.first().map(|row| to_utc(&stretch.fix, from.max(row.t_min.max(0) as u64)));
                    next = begins.map_or(next, |begins| next.min(begins.max(from_ns)));
                }
            }
        }
        Ok(next)
    }
}
