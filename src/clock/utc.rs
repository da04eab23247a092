//! Which UTC a boot time is, and when that has to be said anew.
//!
//! The offset between real time and boot time is sampled every 16 s (every second while nobody vouches for it). Most
//! samples change nothing. A [`Fix`] is recorded when it is the first, when trust comes or goes, when the clock was
//! stepped, when the mapping in force has drifted off, and once an hour so that whoever reads a part of the log finds
//! one. On Linux a slewed clock takes boot time along, so that in practice only steps and trust make fixes; the rule for
//! drift stands for mappings that come from elsewhere.

use std::{collections::VecDeque, time::Duration};

use super::BootNs;

/// Largest change between samples that is still a slew: reading jitter, and the most the kernel slews.
const STEP_NS: u64 = 5_000_000;
/// The most the kernel slews, in 1e-9: 500 ppm.
const MAX_SLEW_PPB: i64 = 500_000;
/// The mapping in force may be this far off before a new one is recorded.
const DRIFT_NS: u64 = 1_000_000;
/// A fix is recorded at least this often.
pub(super) const AT_LEAST_EVERY: Duration = Duration::from_secs(3600);
/// Errors above this are nobody's word.
const TRUST_BELOW_NS: u64 = 1_000_000_000;
/// Trust, once given, is kept up to this: the kernel lets its error bound grow by 500 ppm between polls, which takes
/// it just past a second at the longest poll of common clients (2048 s), and trust must not come and go with each.
const DISTRUST_ABOVE_NS: u64 = 2_000_000_000;
/// The rate is taken over at least this.
const RATE_OVER: Duration = Duration::from_secs(300);
/// Samples kept for it, and their least distance: together a little more than `RATE_OVER`.
const RATE_SAMPLES: usize = 32;
const RATE_SPACING: Duration = Duration::from_secs(10);
/// What an uncorrected crystal may be off: how fast the uncertainty of an extrapolation grows, in 1e-9.
const CRYSTAL_PPB: u64 = 50_000;
/// Fixes an [`UtcMap`] holds: ten days of hourly ones.
const MAX_FIXES: usize = 240;

/// What the kernel says of its UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelSync {
    /// Somebody disciplines it.
    pub synchronised: bool,
    /// Bound on its error.
    pub max_error_ns: u64,
    /// Estimate of its error.
    pub estimated_error_ns: u64,
}

impl KernelSync {
    /// Nobody vouches.
    pub const NONE: KernelSync =
        KernelSync { synchronised: false, max_error_ns: u64::MAX, estimated_error_ns: u64::MAX };
}

/// One look at both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSample {
    /// Boot time.
    pub boot: BootNs,
    /// Real time at that instant, ns since 1970.
    pub utc_ns: i64,
    /// How far apart the two may have been read.
    pub bracket_ns: u64,
    /// What the kernel says of its real time.
    pub sync: KernelSync,
}

impl ClockSample {
    fn offset(&self) -> i64 {
        self.utc_ns.saturating_sub_unsigned(self.boot.0)
    }
}

/// Who vouches for a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSource {
    /// Nobody: recorded, never used.
    Untrusted,
    /// The kernel says that it is synchronised.
    Ntp,
    /// A satellite receiver.
    Gnss,
}

/// A mapping of boot time to UTC: `utc(t) = utc_ns + (t - boot) * (1 + rate_ppb / 1e9)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fix {
    /// Boot time it was taken at.
    pub boot: BootNs,
    /// UTC then, ns since 1970.
    pub utc_ns: i64,
    /// One standard uncertainty of `utc_ns`, ns.
    pub uncertainty_ns: u64,
    /// How much faster UTC runs than boot time, in 1e-9.
    pub rate_ppb: i32,
    /// Who vouches for it.
    pub source: TimeSource,
}

impl Fix {
    /// UTC of `t`, ns since 1970, whoever vouches for it.
    pub fn at(&self, t: BootNs) -> i64 {
        let elapsed = i128::from(t.0) - i128::from(self.boot.0);
        let utc = i128::from(self.utc_ns) + elapsed + elapsed * i128::from(self.rate_ppb) / 1_000_000_000;
        utc.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }
}

/// Why a fix was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The first of this run.
    First,
    /// The clock was stepped, by so many ns.
    Step(i64),
    /// Trust came or went.
    Trust,
    /// The mapping had drifted off.
    Drift,
    /// An hour has passed.
    Hourly,
}

/// Turns samples of the clock into the few fixes worth recording.
#[derive(Debug)]
pub struct FixKeeper {
    /// Who vouches where a sample says that somebody does.
    vouches: TimeSource,
    in_force: Option<Fix>,
    previous: Option<ClockSample>,
    /// Boot time and offset, since the last step.
    history: VecDeque<(BootNs, i64)>,
}

impl Default for FixKeeper {
    fn default() -> Self {
        Self::new()
    }
}

impl FixKeeper {
    /// One that has seen nothing.
    pub fn new() -> Self {
        Self::of(TimeSource::Ntp)
    }

    /// The same for samples that somebody else vouches for.
    pub(super) fn of(vouches: TimeSource) -> Self {
        Self { vouches, in_force: None, previous: None, history: VecDeque::new() }
    }

    /// The newest fix.
    pub fn in_force(&self) -> Option<&Fix> {
        self.in_force.as_ref()
    }

    /// How long until the next sample is due.
    pub fn sample_after(&self) -> Duration {
        match self.in_force {
            Some(Fix { source: TimeSource::Untrusted, .. }) | None => Duration::from_secs(1),
            Some(_) => Duration::from_secs(16),
        }
    }

    /// Takes a sample; gives the fix to record, if it is worth one. A sample not later than the last is ignored.
    pub fn take(&mut self, sample: ClockSample) -> Option<(Fix, Why)> {
        if self.previous.is_some_and(|previous| sample.boot <= previous.boot) {
            return None;
        }
        let step = self.previous.and_then(|previous| step_between(&previous, &sample));
        if step.is_some() {
            self.history.clear();
        }
        self.remember(&sample);
        self.previous = Some(sample);
        let source = self.judge(&sample.sync);
        let why = self.why(&sample, source, step)?;
        let fix = Fix {
            boot: sample.boot,
            utc_ns: sample.utc_ns,
            uncertainty_ns: uncertainty(&sample),
            rate_ppb: self.rate(&sample),
            source,
        };
        self.in_force = Some(fix);
        Some((fix, why))
    }

    fn judge(&self, sync: &KernelSync) -> TimeSource {
        let trusted = self.in_force.is_some_and(|fix| fix.source == self.vouches);
        let limit = if trusted { DISTRUST_ABOVE_NS } else { TRUST_BELOW_NS };
        if sync.synchronised && sync.max_error_ns < limit { self.vouches } else { TimeSource::Untrusted }
    }

    fn why(&self, sample: &ClockSample, source: TimeSource, step: Option<i64>) -> Option<Why> {
        let Some(fix) = self.in_force else { return Some(Why::First) };
        if let Some(by) = step {
            return Some(Why::Step(by));
        }
        if source != fix.source {
            return Some(Why::Trust);
        }
        let off = fix.at(sample.boot).abs_diff(sample.utc_ns);
        if off > DRIFT_NS.max(sample.bracket_ns.saturating_mul(3)) {
            return Some(Why::Drift);
        }
        (sample.boot.since(fix.boot) >= AT_LEAST_EVERY).then_some(Why::Hourly)
    }

    fn remember(&mut self, sample: &ClockSample) {
        if self.history.back().is_some_and(|&(last, _)| sample.boot.since(last) < RATE_SPACING) {
            return;
        }
        if self.history.len() == RATE_SAMPLES {
            self.history.pop_front();
        }
        self.history.push_back((sample.boot, sample.offset()));
    }

    fn rate(&self, sample: &ClockSample) -> i32 {
        let Some(&(since, offset)) = self.history.front() else { return 0 };
        let over = sample.boot.since(since);
        // What a receiver's words jitter by would be told as a rate.
        if over < RATE_OVER || self.vouches == TimeSource::Gnss {
            return 0;
        }
        let gained = i128::from(sample.offset()) - i128::from(offset);
        let ppb = gained * 1_000_000_000 / over.as_nanos() as i128;
        ppb.clamp((-MAX_SLEW_PPB).into(), MAX_SLEW_PPB.into()) as i32
    }
}

/// The step between two samples: a change of the offset beyond what slewing and reading explain.
fn step_between(before: &ClockSample, after: &ClockSample) -> Option<i64> {
    let by = after.offset().saturating_sub(before.offset());
    let elapsed = after.boot.since(before.boot).as_nanos();
    let slewed = (elapsed * MAX_SLEW_PPB as u128 / 1_000_000_000).min(u128::from(u64::MAX)) as u64;
    let reading = before.bracket_ns.saturating_add(after.bracket_ns);
    (by.unsigned_abs() > STEP_NS.saturating_add(slewed).saturating_add(reading)).then_some(by)
}

/// What the kernel vouches for (its bound as a uniform distribution, bound/sqrt(3), where that is the larger), how well
/// the clocks were read, and what the mapping may be off before it is made anew.
fn uncertainty(sample: &ClockSample) -> u64 {
    let bound = (sample.sync.max_error_ns as f64 / 3f64.sqrt()) as u64;
    sample.sync.estimated_error_ns.max(bound).saturating_add(sample.bracket_ns).saturating_add(DRIFT_NS)
}

/// A time as UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    /// ns since 1970.
    pub ns: i64,
    /// One standard uncertainty, ns.
    pub uncertainty_ns: u64,
}

/// The fixes of one boot, in order.
#[derive(Debug, Default)]
pub struct UtcMap {
    trusted: VecDeque<Fix>,
}

impl UtcMap {
    /// An empty one: nothing has a UTC.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a fix; one that nobody vouches for is left out. Past 240 the oldest goes.
    pub fn push(&mut self, fix: Fix) {
        if fix.source == TimeSource::Untrusted || self.trusted.back().is_some_and(|last| last.boot >= fix.boot) {
            return;
        }
        if self.trusted.len() == MAX_FIXES {
            self.trusted.pop_front();
        }
        self.trusted.push_back(fix);
    }

    /// UTC of `t`: by the newest fix not later than it, or backwards from the first one. `None` before there is any.
    pub fn utc(&self, t: BootNs) -> Option<Utc> {
        let after = self.trusted.partition_point(|fix| fix.boot <= t);
        let fix = self.trusted.get(after.saturating_sub(1))?;
        let beyond = if fix.boot > t { fix.boot.since(t) } else { t.since(fix.boot).saturating_sub(AT_LEAST_EVERY) };
        let grown = (beyond.as_nanos() * u128::from(CRYSTAL_PPB) / 1_000_000_000).min(u128::from(u64::MAX)) as u64;
        Some(Utc { ns: fix.at(t), uncertainty_ns: fix.uncertainty_ns.saturating_add(grown) })
    }
}
