//! Where devices told one by one that they are, the newest first.

use std::collections::{BinaryHeap, HashMap};

use speedwell_wire::GatewayId;

use super::{
    Point, StoreError,
    rows::{Lists, Tracker},
};

/// Most places passed over and given together: what pages by number may cost.
pub const MAX_PLACES: usize = 100_000;
/// Sensors with places that are looked at, those that told last.
const MAX_TRACKERS: usize = 20_000;
/// Times read at once of one sensor.
const PIECE: usize = 500;

/// A device or all, and a range of UTC, both ends inclusive.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacesQuery {
    /// Whose; of all when none is told.
    pub device: Option<GatewayId>,
    /// UTC ns.
    pub from_ns: i64,
    /// UTC ns.
    pub to_ns: i64,
    /// So many are passed over.
    pub skip: usize,
    /// At most so many are given.
    pub limit: usize,
}

/// Where a device said that it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Which.
    pub device: GatewayId,
    /// By its own time, UTC ns.
    pub utc_ns: i64,
    /// Degrees, north positive.
    pub latitude: f64,
    /// Degrees, east positive.
    pub longitude: f64,
    /// m/s, if it was told with it.
    pub speed: Option<f64>,
}

/// The times of one sensor, read backwards as far as they are needed.
struct Cursor {
    tracker: Tracker,
    /// Times that were read, the latest at the end.
    read: Vec<i64>,
    /// Before this is more.
    before: Option<i64>,
}

pub(super) fn places(rows: &mut impl Lists, query: &PlacesQuery) -> Result<Vec<Place>, StoreError> {
    let skip = query.skip.min(MAX_PLACES);
    let limit = query.limit.min(MAX_PLACES - skip);
    let trackers = rows.trackers(query.device.as_ref(), MAX_TRACKERS)?;
    // The latest of each is known, unless the range ends before it.
    let late: Vec<i64> = trackers.iter().filter(|t| t.newest_ns > query.to_ns).map(|t| t.latitude).collect();
    let range = (query.from_ns, query.to_ns);
    let latest: HashMap<i64, Option<i64>> = late.iter().copied().zip(rows.latest_times(&late, range)?).collect();
    let mut cursors: Vec<Cursor> = Vec::new();
    // Always the sensor whose next time is the latest; of two with the same, the one whose name comes first.
    let mut heap = BinaryHeap::new();
    for tracker in trackers {
        let newest = latest.get(&tracker.latitude).copied().unwrap_or(Some(tracker.newest_ns));
        if let Some(newest) = newest.filter(|ns| *ns >= query.from_ns) {
            let name = std::cmp::Reverse((tracker.device.clone(), tracker.sensor.clone()));
            heap.push((newest, name, cursors.len()));
            cursors.push(Cursor { tracker, read: Vec::new(), before: Some(newest) });
        }
    }
    let (mut passed, mut found): (usize, Vec<(usize, i64)>) = (0, Vec::new());
    while found.len() < limit {
        let Some((at, name, which)) = heap.pop() else { break };
        let Some(cursor) = cursors.get_mut(which) else { break };
        let want = (skip - passed + limit - found.len()).clamp(2, PIECE);
        if cursor.read.is_empty() {
            cursor.fill(rows, query.from_ns, want)?;
        }
        // What it told was just read, or is known to be there.
        cursor.read.pop();
        if passed < skip {
            passed += 1;
        } else {
            found.push((which, at));
        }
        let next = match cursor.read.last() {
            Some(next) => Some(*next),
            None => {
                cursor.fill(rows, query.from_ns, want)?;
                cursor.read.last().copied()
            }
        };
        if let Some(next) = next {
            heap.push((next, name, which));
        }
    }
    fill_in(rows, &cursors, &found)
}

impl Cursor {
    fn fill(&mut self, rows: &mut impl Lists, from_ns: i64, most: usize) -> Result<(), StoreError> {
        let Some(before) = self.before.filter(|before| *before >= from_ns) else { return Ok(()) };
        let points = rows.readings_back(self.tracker.latitude, (from_ns, before), most)?;
        self.before = points.last().filter(|_| points.len() == most).and_then(|p| p.utc_ns.checked_sub(1));
        self.read = points.iter().rev().map(|point| point.utc_ns).collect();
        Ok(())
    }
}

/// The numbers of the places that are given.
fn fill_in(rows: &mut impl Lists, cursors: &[Cursor], found: &[(usize, i64)]) -> Result<Vec<Place>, StoreError> {
    let mut ranges: HashMap<usize, (i64, i64)> = HashMap::new();
    for (which, at) in found {
        let range = ranges.entry(*which).or_insert((*at, *at));
        *range = (range.0.min(*at), range.1.max(*at));
    }
    let mut numbers: HashMap<(usize, i64), [Option<f64>; 3]> = HashMap::new();
    for (which, range) in ranges {
        let Some(Cursor { tracker, .. }) = cursors.get(which) else { continue };
        // A series may have times that the others have not; of those that are given it has at most as many between.
        let series = [Some(tracker.latitude), Some(tracker.longitude), tracker.speed];
        for (column, series) in series.into_iter().enumerate() {
            let Some(series) = series else { continue };
            let points: Vec<Point> = rows.readings_back(series, range, found.len().saturating_mul(4) + 100)?;
            for point in points {
                numbers.entry((which, point.utc_ns)).or_default()[column] = Some(point.value);
            }
        }
    }
    let place = |(which, utc_ns): &(usize, i64)| {
        let [latitude, longitude, speed] = numbers.get(&(*which, *utc_ns)).copied().unwrap_or_default();
        let device = cursors.get(*which)?.tracker.device.clone();
        Some(Place { device, utc_ns: *utc_ns, latitude: latitude?, longitude: longitude?, speed })
    };
    Ok(found.iter().filter_map(place).collect())
}
