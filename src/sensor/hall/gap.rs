//! Teeth that are left out on purpose, as a mark of where the wheel stands: 60-2, 36-1.

/// An interval is the gap when it is this much of what the gap should take; the wheel's speed may change meanwhile.
const SHORTEST: f64 = 0.6;
const LONGEST: f64 = 1.6;
/// Gaps that were not where they should be, after which the place is no longer believed.
const MISSES: u32 = 2;

/// Where on the turn the wheel stands, once the gap was seen twice a turn apart.
#[derive(Debug)]
pub(super) struct Gap {
    /// Places a turn, those without a tooth counted.
    places: u64,
    missing: u64,
    /// Place of the newest tooth; 0 is the first one after the gap. Counted from a gap that was seen only once, too.
    place: Option<u64>,
    locked: bool,
    misses: u32,
}

impl Gap {
    /// A wheel of `places`, of which the last `missing` have no tooth; `None` when there is no gap, or no tooth.
    pub(super) fn new(places: u32, missing: u32) -> Option<Self> {
        let possible = missing > 0 && places > missing.saturating_add(1);
        possible.then_some(Self {
            places: places.into(),
            missing: missing.into(),
            place: None,
            locked: false,
            misses: 0,
        })
    }

    /// Place of the newest tooth, when it is sure.
    pub(super) fn place(&self) -> Option<u64> {
        self.place.filter(|_| self.locked)
    }

    /// How many places the wheel turns until the tooth comes that is the `teeth`-th after the newest.
    pub(super) fn places_ahead(&self, teeth: u64) -> u64 {
        let Some(place) = self.place() else { return teeth };
        let toothed = self.places - self.missing;
        teeth + (place + teeth) / toothed * self.missing
    }

    /// Whether an interval that is `ratio` of a tooth's is the gap, as far as can be told before the place is known.
    pub(super) fn looks_like_gap(&self, ratio: f64) -> bool {
        let gap = (self.missing + 1) as f64;
        !self.locked && (SHORTEST * gap..=LONGEST * gap).contains(&ratio)
    }

    /// Places the gap takes.
    pub(super) fn width(&self) -> u64 {
        self.missing + 1
    }

    /// The wheel turned by so many places to the newest tooth.
    pub(super) fn turned(&mut self, by: u64, sure: bool) {
        let expected = self.places_ahead(1);
        let gap = by == self.width();
        match self.place {
            Some(place) if self.locked => {
                self.place = Some((place + by) % self.places);
                if by != expected && (gap || expected > 1) {
                    self.miss();
                } else if gap && sure {
                    self.misses = 0;
                }
            }
            Some(place) if gap => {
                // All teeth of a turn, and the gap again.
                self.locked = sure && place + by == self.places;
                (self.place, self.misses) = (Some(0), 0);
            }
            Some(place) => self.place = Some(place + by).filter(|&place| place < self.places),
            None => self.place = gap.then_some(0),
        }
    }

    /// A tooth came where none should be, or none where one should: not the gap, or not this place.
    pub(super) fn miss(&mut self) {
        self.misses += 1;
        if self.misses >= MISSES {
            self.forget();
        }
    }

    /// How far the wheel turned is not known.
    pub(super) fn forget(&mut self) {
        (self.place, self.locked, self.misses) = (None, false, 0);
    }
}
