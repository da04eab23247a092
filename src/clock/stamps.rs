//! Stamps in real time, as socketcan gives them, carried over to boot time across whatever is done to the clock.
//!
//! A frame is stamped when it arrives and read later; in between real time may be stepped, and then the stamp is in the
//! time of before. Which one it is in is told by what is possible: nothing is stamped after it was read, and what was
//! stamped after the step cannot lie before the last look from before the step.

use super::{BootNs, Bracket};

/// Oldest a stamp can be of a frame that was just received.
const OLDEST_NS: u64 = 1_000_000_000;
/// A change of the offset that is no step: slewing takes both clocks along, so that nothing but reading changes it.
const NO_STEP_NS: u64 = 200_000;

/// Carries stamps over. One a socket, whose stamps come in order.
#[derive(Clone, Debug)]
pub struct StampClock {
    /// The last look at both clocks.
    last: Bracket,
    /// The step that frames from before of may still be waiting.
    step: Option<Step>,
    /// What was told last.
    told: BootNs,
    /// What comes now was stamped after this.
    after: u64,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    /// Real time less boot time before it, ns.
    offset: i64,
    /// It came between these two looks.
    between: (BootNs, BootNs),
}

impl StampClock {
    /// With a look at the clocks from before the first stamp.
    pub fn new(look: Bracket) -> Self {
        Self { last: look, step: None, told: BootNs(0), after: 0 }
    }

    /// Takes another look; often enough, when nothing comes, that a step is known to lie within a short time.
    pub fn look(&mut self, look: Bracket) {
        let reading = self.last.width_ns().saturating_add(look.width_ns());
        if look.offset().abs_diff(self.last.offset()) > NO_STEP_NS.saturating_add(reading) {
            self.step = Some(Step { offset: self.last.offset(), between: (self.last.before, look.after) });
        }
        self.last = look;
    }

    /// Boot time of what the kernel stamped with real time before this look; `awaited` when its reader had to wait for it.
    /// Where either side of a step is possible, what was awaited has just come, and of what had waited nobody knows: the
    /// middle of both. Where no time is possible, the time of the look. Never before what was told last: they come in
    /// order.
    pub fn boot_of(&mut self, look: Bracket, stamp_real_ns: i64, awaited: bool) -> BootNs {
        self.look(look);
        self.told = self.told.max(self.place(look, stamp_real_ns, awaited).unwrap_or(look.before));
        self.told
    }

    fn place(&mut self, look: Bracket, stamp_real_ns: i64, awaited: bool) -> Option<BootNs> {
        let now = look.middle().0;
        // The middle of the look is when real time was read to half its width.
        let latest = now.saturating_add(look.width_ns());
        let possible = |offset: i64| {
            let t = u64::try_from(stamp_real_ns.checked_sub(offset)?).ok()?;
            (t <= latest && now.saturating_sub(t) <= OLDEST_NS).then_some(t.min(now))
        };
        let as_now = possible(look.offset());
        let Some(step) = self.step else {
            self.after = as_now.unwrap_or(self.after).max(self.after);
            return as_now.map(BootNs);
        };
        let (earliest, latest) = (step.between.0.0, step.between.1.0);
        // They come in order, but for what the looks were read apart.
        let in_order = |t: &u64| t.saturating_add(NO_STEP_NS) >= self.after;
        let after = as_now.filter(|t| *t >= earliest).filter(in_order);
        let before = possible(step.offset).filter(|t| *t <= latest).filter(in_order);
        // From the first that is certainly of after the step, all are.
        if before.is_none() && after.is_some_and(|t| t > latest) {
            self.step = None;
        }
        match (before, after) {
            (Some(before), Some(after)) if awaited => Some(BootNs(before.max(after))),
            (Some(before), Some(after)) => Some(BootNs(before.midpoint(after))),
            (t, None) | (None, t) => {
                self.after = t.unwrap_or(self.after).max(self.after);
                t.map(BootNs)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const EPOCH: i64 = 1_700_000_000_000_000_000;

    /// A look at boot time `t` when real time is ahead by `EPOCH` and what it was stepped by.
    fn look(t: u64, stepped: i64) -> Bracket {
        Bracket { before: BootNs(t), real_ns: EPOCH + stepped + t as i64 + 200, after: BootNs(t + 400) }
    }

    /// Frames of every 10 ms whose reader is held up from 5,050 to 5,450 ms, and a step at 5,200 ms. True and told time, ms.
    fn held_up(by: i64) -> Vec<(f64, f64)> {
        let mut clock = StampClock::new(look(4_990 * MS, 0));
        let stepped = |t: u64| if t >= 5_200 { by } else { 0 };
        let told = |ms: u64| {
            let read = if (5_050..5_450).contains(&ms) { 5_450 * MS + ms * 1000 } else { ms * MS + 50_000 };
            let t = clock.boot_of(
                look(read, stepped(read / MS)),
                EPOCH + stepped(ms) + (ms * MS) as i64,
                read < ms * MS + MS,
            );
            (ms as f64, t.0 as f64 / MS as f64)
        };
        (5_000..6_000).step_by(10).map(told).collect()
    }

    #[test]
    fn a_stamp_is_carried_over_by_its_age() {
        let clock = || StampClock::new(look(4_000 * MS, 0));
        let told = |age: i64| clock().boot_of(look(5_000 * MS, 0), EPOCH + (5_000 * MS) as i64 + 200 - age, true).0;
        assert_eq!(told(0), 5_000 * MS + 200);
        assert_eq!(told(2 * MS as i64), 4_998 * MS + 200);
        assert_eq!(told(1000 * MS as i64), 4_000 * MS + 200);
    }

    #[test]
    fn frames_that_waited_while_the_clock_was_stepped_are_placed_in_the_time_they_were_stamped_in() {
        let s = 1_000_000_000;
        for by in [s / 2, -s / 2, s / 20, -s / 20, 3 * 86_400 * s, -3600 * s, -s] {
            let told = held_up(by);
            for (truly, told) in &told {
                // Between the two looks around the step it may be unclear which side a frame is of.
                let unclear = (5_040.0..=5_500.0).contains(truly) && by.abs() < s / 2;
                let off = if unclear { by.unsigned_abs() as f64 / 2e6 } else { 0.0 };
                assert!((told - truly).abs() <= off + 0.6, "{by}: {truly} told {told}");
            }
            assert!(told.is_sorted_by(|a, b| a.1 <= b.1), "{by}");
        }
    }

    #[test]
    fn a_step_of_three_days_costs_no_frame_its_time() {
        for by in [3 * 86_400_000_000_000, -3_600_000_000_000] {
            assert!(held_up(by).iter().all(|(truly, told)| (told - truly).abs() < 0.001), "{by}");
        }
    }

    #[test]
    fn a_reader_that_keeps_up_is_told_every_time_exactly_however_short_the_step() {
        for by in [-50_000_000, -5_000_000, 5_000_000, 50_000_000] {
            let mut clock = StampClock::new(look(4_990 * MS, 0));
            for ms in (5_000..6_000).step_by(100) {
                let stepped = |t: u64| if t >= 5_450 { by } else { 0 };
                let told =
                    clock.boot_of(look(ms * MS + 50_000, stepped(ms)), EPOCH + stepped(ms) + (ms * MS) as i64, true);
                assert!(told.0.abs_diff(ms * MS) < 1000, "{by}: {ms} told {told:?}");
            }
        }
    }

    #[test]
    fn a_stamp_of_no_possible_time_gets_the_time_of_reading() {
        let three_days = 3 * 86_400_000_000_000;
        for stamp in [EPOCH - three_days, EPOCH + three_days, 0, i64::MIN, i64::MAX] {
            let mut clock = StampClock::new(look(4_999 * MS, 0));
            assert_eq!(clock.boot_of(look(5_000 * MS, 0), stamp, true), BootNs(5_000 * MS), "{stamp}");
        }
    }

    #[test]
    fn the_clock_is_looked_at_as_often_as_one_likes_without_a_step_being_seen() {
        let mut clock = StampClock::new(look(MS, 0));
        for t in 2..10_000 {
            clock.look(look(t * MS, (t % 3) as i64 * 60_000));
            assert!(clock.step.is_none());
        }
    }
}
