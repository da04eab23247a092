//! The bound of age. It goes by the times in the log and by no clock: a record is as old as the newest one is later than
//! it. Between boots no such difference is known, so what an earlier boot left counts as old as this boot has lasted, at
//! least: nothing goes before its time because a clock was wrong, and after a restart it may stay longer.

use super::*;
use speedwell_wire::LossReason;

/// A generation spans at most this part of the greatest age, so that what goes whole goes at most so much too late.
const AGE_PART: u64 = 8;

impl DiskLog {
    fn max_age_ns(&self) -> Option<u64> {
        self.options.max_age.map(|age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX))
    }

    /// How much later the newest record is, at least.
    fn age_ns(&self, (boot, t_ns): When) -> u64 {
        match self.newest {
            Some((now_boot, now)) if now_boot == boot => now.saturating_sub(t_ns),
            Some((now_boot, now)) if now_boot > boot => now,
            _ => 0,
        }
    }

    /// Whether the write generation spans so much time that it is sealed for that alone.
    pub(super) fn spans_long(&self) -> bool {
        let span = self.write_from.map_or(0, |from| self.age_ns(from));
        self.max_age_ns().is_some_and(|age| span > age / AGE_PART)
    }

    /// The oldest generations go when the last record in them is too old.
    pub(super) fn give_up_aged(&mut self) -> Result<(), DiskError> {
        let Some(max) = self.max_age_ns() else { return Ok(()) };
        while !self.sealed.is_empty() {
            self.count_front();
            // What has no time of its own is older than what follows it.
            let times = self.sealed.iter().find_map(|sealed| sealed.tally.as_ref()?.until);
            match times.or(self.write_from) {
                Some(until) if self.age_ns(until) > max => self.drop_front(LossReason::TooOld)?,
                _ => break,
            }
        }
        Ok(())
    }

    /// Counts the oldest generation where an earlier process began it: some hundred milliseconds, once.
    fn count_front(&mut self) {
        let Some(first) = self.sealed.front().filter(|oldest| oldest.tally.is_none()).map(|oldest| oldest.first) else {
            return;
        };
        // What cannot be read has no times.
        let tally = self.count_from(first, first).unwrap_or_default();
        if let Some(oldest) = self.sealed.front_mut() {
            oldest.tally = Some(tally);
        }
    }

    /// When the first record of a generation was made.
    pub(super) fn first_time(&self, generation: &Generation) -> Option<When> {
        self.options.max_age?;
        let At::Chunk(whole) = generation.at(generation.first).ok()? else { return None };
        let mut tally = Tally::default();
        let records = whole.chunk().records().filter_map(|bytes| record::decode(bytes).ok());
        records.for_each(|record| tally.count(&record, self.manifests.known()));
        tally.from
    }
}
