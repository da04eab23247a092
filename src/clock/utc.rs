//! Which UTC a boot time is, and when that has to be said anew.
//!
//! The offset between real time and boot time is sampled every 16 s (every second while nobody vouches for it). Most
//! samples change nothing. A [`Fix`] is recorded when it is the first, when trust comes or goes, when the clock was
//! stepped, when the mapping in force has drifted off, when the clock is worse than was said, and every ten minutes so that
//! whoever reads a part of the log finds one near. On Linux a slewed clock takes boot time along, so that in practice only
//! steps and trust make fixes; the rule for drift stands for mappings that come from elsewhere.
//!
//! What is said of a mapping's error is a bound, as good as the word of who vouches: what it states, what it is still
//! slewing away, how the clocks were read, and 50 ppm of the distance from the fix, which an uncorrected crystal does not
//! exceed.

use std::{collections::VecDeque, time::Duration};

use super::BootNs;

/// Largest change between samples that is still a slew: reading jitter, and the most the kernel slews.
const STEP_NS: u64 = 5_000_000;
/// The most the kernel slews, in 1e-9: 500 ppm.
const MAX_SLEW_PPB: i64 = 500_000;
/// The mapping in force may be this far off before a new one is recorded, or three times what the clocks were read apart.
const DRIFT_NS: u64 = 1_000_000;
/// A fix is recorded at least this often: its bound has grown by 30 ms then.
const AT_LEAST_EVERY: Duration = Duration::from_secs(600);
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
/// What an uncorrected crystal may be off: how fast the bound grows with the distance from a fix, in 1e-9.
pub(super) const CRYSTAL_PPB: u64 = 50_000;
/// What the kernel adds to its bound as time passes, 500 ppm, to a tick: a bound that changed otherwise was set anew.
const KERNEL_PPB: u64 = 500_000;
const KERNEL_TICK_NS: u64 = 1_000_000;
/// Half of a slow round trip over a mobile network: what the time may be off by an answer that came a slower way than the
/// question went. It stands for clients that state no error of their own: systemd-timesyncd sets both of the kernel's to 0.
const UNSTATED_NS: u64 = 50_000_000;
/// Fixes an [`UtcMap`] holds: more than a day and a half of them.
const MAX_FIXES: usize = 240;

/// What the kernel says of its UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelSync {
    /// Somebody disciplines it.
    pub synchronised: bool,
    /// Bound on its error.
    pub max_error_ns: u64,
    /// Estimate of its error; 0 where whoever disciplines it states none.
    pub estimated_error_ns: u64,
    /// What is known to be wrong with it and is still being slewed away.
    pub slewing_ns: u64,
}

impl KernelSync {
    /// Nobody vouches.
    pub const NONE: KernelSync =
        KernelSync { synchronised: false, max_error_ns: u64::MAX, estimated_error_ns: u64::MAX, slewing_ns: 0 };
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

    /// Bound on the error of the clock as it stands.
    fn bound(&self) -> u64 {
        let KernelSync { max_error_ns, estimated_error_ns, slewing_ns, .. } = self.sync;
        let stated = if estimated_error_ns == 0 { UNSTATED_NS } else { estimated_error_ns };
        max_error_ns.max(stated).saturating_add(slewing_ns)
    }

    /// Whether nothing was said of the clock since an earlier sample, and its bound is only older.
    fn only_older(&self, earlier: &ClockSample) -> bool {
        let grown = earlier.sync.max_error_ns.saturating_add(grown(self.boot.since(earlier.boot), KERNEL_PPB));
        grown.abs_diff(self.sync.max_error_ns) <= KERNEL_TICK_NS && self.sync.slewing_ns <= earlier.sync.slewing_ns
    }
}

/// What `ppb` make of a time.
pub(super) fn grown(over: Duration, ppb: u64) -> u64 {
    (over.as_nanos() * u128::from(ppb) / 1_000_000_000).min(u128::from(u64::MAX)) as u64
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
    /// Bound on the error of `utc_ns`, ns; of other times see [`Fix::bound`].
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

    /// Bound on the error of [`Fix::at`], ns.
    pub fn bound(&self, t: BootNs) -> u64 {
        let apart = self.boot.since(t).max(t.since(self.boot));
        self.uncertainty_ns.saturating_add(grown(apart, CRYSTAL_PPB))
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
    /// The clock is worse than was said.
    Worse,
    /// Ten minutes have passed.
    Regular,
}

/// Turns samples of the clock into the few fixes worth recording.
#[derive(Debug)]
pub struct FixKeeper {
    /// Who vouches where a sample says that somebody does.
    vouches: TimeSource,
    in_force: Option<Fix>,
    previous: Option<ClockSample>,
    /// Bound on the error of the clock.
    bound: u64,
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
        Self { vouches, in_force: None, previous: None, bound: 0, history: VecDeque::new() }
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
        // The kernel lets its bound grow by the most that a crystal could be off.
        let older = self.previous.filter(|previous| step.is_none() && sample.only_older(previous));
        let aged = |from: ClockSample| self.bound.saturating_add(grown(sample.boot.since(from.boot), CRYSTAL_PPB));
        self.bound = older.map_or(u64::MAX, aged).min(sample.bound());
        self.previous = Some(sample);
        let source = self.judge(&sample.sync);
        let why = self.why(&sample, source, step)?;
        let fix = Fix {
            boot: sample.boot,
            utc_ns: sample.utc_ns,
            uncertainty_ns: self.bound.saturating_add(may_drift(&sample)),
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
        if off > may_drift(sample) {
            return Some(Why::Drift);
        }
        if source != TimeSource::Untrusted && self.bound > fix.bound(sample.boot) {
            return Some(Why::Worse);
        }
        (sample.boot.since(fix.boot) >= AT_LEAST_EVERY).then_some(Why::Regular)
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

/// How far off the mapping in force may be before a new one is recorded.
fn may_drift(sample: &ClockSample) -> u64 {
    DRIFT_NS.max(sample.bracket_ns.saturating_mul(3))
}

/// The step between two samples: a change of the offset beyond what slewing and reading explain.
fn step_between(before: &ClockSample, after: &ClockSample) -> Option<i64> {
    let by = after.offset().saturating_sub(before.offset());
    let elapsed = after.boot.since(before.boot).as_nanos();
    let slewed = (elapsed * MAX_SLEW_PPB as u128 / 1_000_000_000).min(u128::from(u64::MAX)) as u64;
    let reading = before.bracket_ns.saturating_add(after.bracket_ns);
    (by.unsigned_abs() > STEP_NS.saturating_add(slewed).saturating_add(reading)).then_some(by)
}

/// A time as UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    /// ns since 1970.
    pub ns: i64,
    /// Bound on its error, ns.
    pub uncertainty_ns: u64,
}

/// The fixes of one boot, in order.
#[derive(Debug, Default)]
pub struct UtcMap {
    trusted: VecDeque<Fix>,
    /// The oldest went: what was before those that are left is no longer known.
    forgotten: bool,
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
            self.forgotten = true;
        }
        self.trusted.push_back(fix);
    }

    /// UTC of `t`: by the newest fix not later than it, or backwards from the first one of the boot. `None` before there is
    /// any, and for what lies before the oldest that is still known.
    pub fn utc(&self, t: BootNs) -> Option<Utc> {
        let after = self.trusted.partition_point(|fix| fix.boot <= t);
        if after == 0 && self.forgotten {
            return None;
        }
        let fix = self.trusted.get(after.saturating_sub(1))?;
        Some(Utc { ns: fix.at(t), uncertainty_ns: fix.bound(t) })
    }
}
