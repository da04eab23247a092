//! Numbers that are handed out before they are written, and numbers that never are: what [`super::super::lazy`] needs of
//! the log on disk.
//!
//! A number that was handed out belongs to its record for ever. So before one is lent the marks say, on disk, up to
//! where: after a cut the numbers go on behind that. What is confirmed before it is written leaves a gap in the
//! database; the generation before the gap is confirmed as a whole then, and the next flush begins a new one.

use super::*;

impl DiskLog {
    /// Whether numbers are handed out before they are written.
    pub(super) fn lends(&self) -> bool {
        self.options.lazy.is_some()
    }

    /// How often the marks are written. With `lazy` they are most of what is written at all.
    pub(super) fn marks_every(&self) -> Duration {
        self.options.lazy.map_or(MARKS_EVERY, |lazy| lazy.max(MARKS_EVERY))
    }

    /// What the write generation has to have: nothing, where everything durable is confirmed.
    pub(super) fn promised(&self) -> Seq {
        if self.confirmed() >= self.durable() { 0 } else { self.durable() }
    }

    /// Numbers up to `last` are about to be handed out.
    pub(in crate::spool) fn lend(&mut self, last: Seq) -> Result<(), StoreError> {
        self.lent = self.lent.max(last);
        let marks = &mut self.marks.marks;
        if marks.later.lent && last <= marks.ceiling {
            return Ok(());
        }
        marks.later.lent = true;
        self.save_marks_ahead_of(last).or_else(|error| self.recover(error))
    }

    /// Everything up to `seq`, beyond what is written, is confirmed and need not be written any more.
    pub(in crate::spool) fn pass(&mut self, seq: Seq) -> Result<(), StoreError> {
        let marks = &mut self.marks.marks;
        (marks.confirmed, marks.durable) = (seq, seq);
        self.next = seq + 1;
        self.marks_dirty = true;
        self.trim_dropped();
        self.free_confirmed().or_else(|error| self.recover(error))
    }

    /// Whether numbers were passed behind the last one written.
    pub(super) fn has_gap(&self) -> bool {
        self.write_end < self.durable()
    }

    /// Begins a new generation where what comes does not follow what is in the last one.
    pub(super) fn close_gap(&mut self) -> Result<(), DiskError> {
        if !self.has_gap() {
            return Ok(());
        }
        // On disk it must be known first that nothing is missing in the old one.
        self.save_marks()?;
        self.roll()?;
        self.free_confirmed()
    }
}
