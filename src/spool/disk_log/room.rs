//! The bounds: what may be taken of the disk, what goes when it is taken, and what to do when there is none.

use super::{
    super::{marks::Dropped, options::WhenFull},
    *,
};
use speedwell_wire::LossReason;

/// Disk that a flush may take beyond its own bytes: sled takes whole segments of 512 KiB, one for the change and one
/// for a page that it writes anew.
const HEADROOM: u64 = 1 << 20;

impl DiskLog {
    /// Bytes everything in the directory takes.
    pub(super) fn used(&self) -> u64 {
        let write = self.write.as_ref().map_or(0, |write| files::disk_bytes(&write.path));
        self.sealed.iter().map(|sealed| sealed.disk_bytes).sum::<u64>() + write + self.other_bytes
    }

    /// Whether `bytes` more fit the bounds.
    fn fits(&self, bytes: u64) -> bool {
        let need = 2 * bytes + HEADROOM;
        let used = self.used();
        // Sealing a generation takes its bytes once more, for a moment.
        if used + need + self.options.generation_bytes() > self.options.max_size {
            return false;
        }
        let free = files::free_bytes(&self.home.dir).unwrap_or(u64::MAX);
        let smallest_room = 4 * self.options.generation_bytes() + self.options.ballast_bytes();
        free >= need && (free >= self.options.keep_free.saturating_add(need) || used + need <= smallest_room)
    }

    /// Frees what has to go before `bytes` more are written. What cannot be freed is left to the file system to refuse.
    pub(super) fn make_room(&mut self, bytes: u64) -> Result<(), DiskError> {
        while !self.fits(bytes) {
            if self.home.drop_quarantined()? {
                self.other_bytes = self.home.other_bytes();
                continue;
            }
            // Newest records were refused when they came: what was taken in gets its place.
            if self.options.when_full == WhenFull::DropNewest {
                break;
            }
            if self.sealed.is_empty() && self.write_bytes > 0 {
                self.roll()?;
            }
            if self.sealed.is_empty() {
                break;
            }
            if self.options.when_full == WhenFull::Thin && self.thin_one()? {
                continue;
            }
            self.drop_oldest()?;
        }
        Ok(())
    }

    /// Thins the oldest sealed generation that is not; `false` when there is none.
    fn thin_one(&mut self) -> Result<bool, DiskError> {
        // What is on its way stays as it is, so that a hub that has some of it misses nothing of the rest.
        let from = self.confirmed().max(self.handed) + 1;
        let Some(at) = self.sealed.iter().position(|sealed| !sealed.thinned && sealed.last >= from) else {
            return Ok(false);
        };
        let first = self.sealed[at].first;
        let _sees_the_generation = self.open_for_reading(first)?;
        let Some(generation) = self.reading.take() else { return Ok(false) };
        self.sealed[at].thinned = true;
        match generation.thin(from, self.sealed[at].last, self.manifests.known()) {
            Ok(Some(thinned)) => {
                self.notices.push(format!(
                    "the spool is full: the records {first}..={} were thinned to one sample a second, {} samples went",
                    self.sealed[at].last, thinned.gone
                ));
                self.stats.thinned_samples += thinned.gone;
                self.sealed[at].tally = thinned.tally;
                self.sealed[at].disk_bytes = files::disk_bytes(&self.home.generation(first));
            }
            Ok(None) => {}
            // There was no room to write it, or it cannot be read: it stays as it is, and goes as a whole in its turn.
            Err(error) => self.notices.push(format!("the records from {first} on cannot be thinned: {error:?}")),
        }
        Ok(true)
    }

    /// With `drop-newest`, refuses what does not fit beside `outstanding` bytes. What was refused is told by a loss,
    /// to be appended first, once there is room again.
    pub(in crate::spool) fn admit(
        &mut self,
        records: &[(Record, Vec<u8>)],
        outstanding: usize,
    ) -> Result<Option<Record>, StoreError> {
        if self.options.when_full != WhenFull::DropNewest {
            return Ok(None);
        }
        let bytes: usize = records.iter().map(|(_, bytes)| bytes.len()).sum();
        if !self.fits((outstanding + bytes) as u64) {
            let known = self.manifests.known();
            records.iter().for_each(|(record, _)| self.refused.count(record, known));
            self.stats.lost_records += records.len() as u64;
            return Err(StoreError::Full { records: records.len() });
        }
        let refused = std::mem::take(&mut self.refused);
        Ok((refused.records > 0).then(|| refused.loss_without_numbers(LossReason::SpoolFullNewest)))
    }

    /// The oldest generation goes for want of room; what was not confirmed of it becomes a loss.
    pub(super) fn drop_oldest(&mut self) -> Result<(), DiskError> {
        self.drop_front(LossReason::SpoolFullOldest)
    }

    /// The oldest generation goes; what was not confirmed of it becomes a loss.
    pub(super) fn drop_front(&mut self, reason: LossReason) -> Result<(), DiskError> {
        let Some(oldest) = self.sealed.front() else { return Ok(()) };
        let (first, last) = (oldest.first, oldest.last);
        let next = self.sealed.get(1).map_or(self.write_first, |next| next.first);
        let from = first.max(self.confirmed() + 1);
        if from < next {
            let mut tally = match &oldest.tally {
                Some(tally) if from == first => tally.clone(),
                _ if from > last => Tally::default(),
                // A generation that cannot be read any more goes all the same; its samples are not known then.
                _ => self.count_from(first, from).unwrap_or_default(),
            };
            tally.records = next - from;
            self.stats.lost_records += tally.records;
            let dropped = Dropped { first: from, last: next - 1, tally };
            let marks = &mut self.marks.marks;
            if reason == LossReason::TooOld {
                self.notices.push(format!("the records {from}..={} were too old and were given up", next - 1));
                // What had to go for want of room before is older than these, so it is too old by now as well.
                let before = [marks.later.aged.take(), marks.dropped.take()].into_iter().flatten();
                marks.later.aged = before.chain([dropped]).reduce(|older, newer| older.and(&newer));
            } else {
                self.notices.push(format!("the spool is full: the oldest records {from}..={} were dropped", next - 1));
                marks.dropped =
                    marks.dropped.take().into_iter().chain([dropped]).reduce(|older, newer| older.and(&newer));
            }
        }
        self.save_marks()?;
        self.remove_front()
    }

    pub(super) fn remove_front(&mut self) -> Result<(), DiskError> {
        let Some(oldest) = self.sealed.front() else { return Ok(()) };
        let path = self.home.generation(oldest.first);
        if self
            .reading
            .as_ref()
            .is_some_and(|reading| Some(reading.first) == self.sealed.front().map(|oldest| oldest.first))
        {
            Generation::close(&mut self.reading);
        }
        files::remove_dir(&path)?;
        self.sealed.pop_front();
        Ok(())
    }

    /// Removes what is confirmed, whole generations at a time.
    pub(super) fn free_confirmed(&mut self) -> Result<(), DiskError> {
        let all = self.confirmed() == self.durable() && self.outstanding() == 0;
        if all && self.write_bytes > 0 && files::disk_bytes(&self.write()?.path) > SHRINK_AT {
            self.roll()?;
        }
        if self.front_is_confirmed() {
            self.save_marks()?;
        }
        while self.front_is_confirmed() {
            self.remove_front()?;
        }
        Ok(())
    }

    /// Whether everything up to the second generation is confirmed: a hole behind the first belongs to it.
    pub(super) fn front_is_confirmed(&self) -> bool {
        let next = self.sealed.get(1).map_or(self.write_first, |next| next.first);
        !self.sealed.is_empty() && next - 1 <= self.confirmed()
    }

    /// A confirmation takes the front of a loss with it. The rest is counted in proportion.
    pub(super) fn trim_dropped(&mut self) {
        let confirmed = self.confirmed();
        let marks = &mut self.marks.marks;
        marks.later.aged = marks.later.aged.take().and_then(|dropped| dropped.behind(confirmed));
        marks.dropped = marks.dropped.take().and_then(|dropped| dropped.behind(confirmed));
    }

    /// The file system refused. sled answers nothing any more after that, so the write generation is opened again,
    /// with the ballast's room the first time, and with the oldest generation's when that may go.
    pub(super) fn recover_from_full(&mut self) -> Result<(), DiskError> {
        self.notices.push("the disk is full: room is made by the ballast and by what may be dropped".into());
        Generation::close(&mut self.write);
        let mut drop_one = !self.home.drop_ballast();
        self.other_bytes = self.home.other_bytes();
        loop {
            let may_drop = self.options.when_full != WhenFull::DropNewest;
            if drop_one && may_drop {
                self.drop_oldest()?;
            }
            let had_more = !self.sealed.is_empty() && may_drop;
            match self.open_write() {
                Ok(()) => return self.make_room(self.waiting_bytes as u64),
                Err(DiskError::NoSpace) if had_more => drop_one = true,
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the ballast back when there is plenty of room for it.
    pub(super) fn tend_ballast(&mut self) {
        let bytes = self.options.ballast_bytes();
        if files::free_bytes(&self.home.dir).is_ok_and(|free| free > 2 * bytes) {
            let _works_without = self.home.load_ballast();
        }
    }
}
