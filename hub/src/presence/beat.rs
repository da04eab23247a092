//! How often something usually speaks, and how long it may be quiet before it counts as silent. Pure.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Quiet for so many intervals is silent: a beat may be late by up to 1.4 intervals, or one may be lost, without a change.
pub const GRACE: f64 = 2.5;
/// Beats nearer to each other are one: many devices speak in bursts.
pub const LEAST: Duration = Duration::from_secs(10);
/// What speaks more seldom is looked at as if it spoke so often.
pub const MOST: Duration = Duration::from_secs(3600);
/// How late a beat may be, in intervals.
const JITTER: f64 = 1.4;
/// Gaps remembered. Some 250 bytes a device.
const GAPS: usize = 15;
/// With fewer, nothing is learned yet.
const FEW: usize = 3;

/// When something spoke.
#[derive(Clone, Debug, Default)]
pub struct Beat {
    /// Gaps between beats, ms, and whether it counted as silent in it. The latest last.
    gaps: VecDeque<(u32, bool)>,
    /// When the last beat began.
    began: Option<Instant>,
    heard: Option<Instant>,
    /// What an earlier run of the hub had learned.
    before: Option<Duration>,
}

impl Beat {
    /// One of which is known how often it used to speak.
    pub fn known(before: Option<Duration>) -> Self {
        Self { before: before.map(|interval| interval.clamp(LEAST, MOST)), ..Self::default() }
    }

    /// It spoke. `silent` is whether it counted as silent until now; before anything is known of it that says nothing.
    pub fn heard(&mut self, silent: bool, now: Instant) {
        let silent = silent && self.learned().is_some();
        self.heard = Some(now);
        let gap = self.began.map(|began| now.saturating_duration_since(began));
        if gap.is_some_and(|gap| gap < LEAST) {
            return;
        }
        self.began = Some(now);
        if let Some(gap) = gap {
            if self.gaps.len() == GAPS {
                self.gaps.pop_front();
            }
            self.gaps.push_back((u32::try_from(gap.min(grace(MOST)).as_millis()).unwrap_or(u32::MAX), silent));
        }
    }

    /// When it last spoke.
    pub fn last(&self) -> Option<Instant> {
        self.heard
    }

    /// How often it usually speaks, if that was learned, by this run of the hub or the one before.
    pub fn learned(&self) -> Option<Duration> {
        if self.gaps.len() < FEW {
            return self.before;
        }
        let mut all: Vec<u32> = self.gaps.iter().map(|(gap, _)| *gap).collect();
        all.sort_unstable();
        let median = f64::from(all.get(all.len() / 2).copied().unwrap_or_default());
        Some(Duration::from_secs_f64(median.max(self.steady()) / 1000.0).clamp(LEAST, MOST))
    }

    /// Longest interval that fits beats which are up to [`JITTER`] intervals late each, ms.
    ///
    /// n gaps in m stretches without a silence take at least (n - 1.4 m) intervals together, so
    ///     interval <= sum / (n - 1.4 m).
    /// The median alone is too short for a device that is late by chance: half of its gaps are short ones.
    fn steady(&self) -> f64 {
        let (mut sum, mut n, mut stretches, mut apart) = (0.0, 0.0, 0.0, true);
        for (gap, silent) in &self.gaps {
            if *silent {
                apart = true;
                continue;
            }
            stretches += if apart { 1.0 } else { 0.0 };
            (sum, n, apart) = (sum + f64::from(*gap), n + 1.0, false);
        }
        let whole = n - JITTER * stretches;
        if whole >= 1.0 { sum / whole } else { 0.0 }
    }
}

/// How long something that speaks so often may be quiet.
pub fn grace(interval: Duration) -> Duration {
    interval.mul_f64(GRACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beats at these times, in s.
    fn beats(times: impl IntoIterator<Item = u64>) -> Beat {
        let (mut beat, start) = (Beat::default(), Instant::now());
        times.into_iter().for_each(|s| beat.heard(false, start + Duration::from_secs(s)));
        beat
    }

    #[test]
    fn a_steady_device_is_known_by_its_interval_and_a_new_one_is_not_known() {
        let learned = beats((0..20).map(|n| n * 300)).learned().unwrap().as_secs();
        assert!((300..350).contains(&learned), "{learned} s");
        assert_eq!(beats([0, 300, 600]).learned(), None, "two gaps tell nothing");
        let known = Beat::known(Some(Duration::from_secs(600)));
        assert_eq!(known.learned().unwrap().as_secs(), 600, "an earlier run of the hub knew it");
    }

    #[test]
    fn a_burst_is_one_beat() {
        let bursts = (0..20u64).flat_map(|n| [n * 60, n * 60 + 1, n * 60 + 2, n * 60 + 9]);
        let learned = beats(bursts).learned().unwrap().as_secs();
        assert!((60..75).contains(&learned), "{learned} s");
        let fast = beats(0..300).learned().unwrap();
        assert!((LEAST..LEAST * 2).contains(&fast), "{fast:?}");
    }

    #[test]
    fn a_device_that_turns_slow_is_learned_anew_and_an_outage_teaches_nothing() {
        let (mut beat, start) = (beats([]), Instant::now());
        let mut at = start;
        for _ in 0..20 {
            at += Duration::from_secs(10);
            beat.heard(false, at);
        }
        // Each is longer than the grace so far, so it counted as silent.
        for _ in 0..9 {
            at += Duration::from_secs(300);
            beat.heard(true, at);
        }
        assert_eq!(beat.learned().unwrap().as_secs(), 300);
        let mut beat = beats((0..16).map(|n| n * 60));
        let last = beat.last().unwrap();
        let before = beat.learned().unwrap();
        beat.heard(true, last + Duration::from_secs(50_000));
        assert!(beat.learned().unwrap() < before.mul_f64(1.2), "{:?}", beat.learned());
    }

    #[test]
    fn nothing_is_learned_beyond_its_bounds() {
        assert_eq!(beats((0..9).map(|n| n * 100_000)).learned(), Some(MOST));
        let mut back = beats([100]);
        back.heard(false, Instant::now());
        assert!(back.last().is_some(), "time that goes back does no harm");
    }
}
