//! Entering a spool's directory.

use std::time::Instant;

use speedwell_wire::Seq;

use super::{
    super::{
        error::OpenError,
        generation::Walked,
        home::Entered,
        marks::{Known, Marks},
        stats::Opened,
        syncing,
    },
    *,
};

impl DiskLog {
    /// Opens the spool in its directory, or makes it.
    pub(in crate::spool) fn open(options: &Options) -> Result<(Self, Opened), OpenError> {
        let began = Instant::now();
        if !syncing::active() {
            return Err(OpenError::NotSyncing);
        }
        let dir = &options.directory;
        let io = |error| OpenError::from_io(dir, error);
        let Entered { home, mut log, mut created, mut findings } = Home::enter(options)?;
        let (marks, known) = MarksFile::open(dir).map_err(io)?;
        if known == Known::Damaged && home.generations().map_err(io)?.is_empty() {
            (log, created) = (home.rename_log().map_err(io)?, true);
            findings.push("nothing of the log was left but its name: numbers begin anew, under a new name".into());
        } else if known == Known::Damaged {
            findings.push("the page of marks is damaged: records that were confirmed may be sent again".into());
        }
        let manifests = Manifests::open(dir, &mut findings).map_err(io)?;
        let mut log = Self::empty(options, home, log, marks, manifests);
        let marks_lost = known != Known::Read && !created;
        if let Err(error) = log.find(marks_lost, &mut findings) {
            log.find_with_room(error, marks_lost, &mut findings)?;
        }
        log.tend_ballast();
        log.other_bytes = log.home.other_bytes();
        let stats = log.stats();
        let opened = Opened {
            log: log.log,
            created,
            place: Place::Disk,
            oldest_seq: stats.oldest_seq,
            last_seq: stats.last_seq,
            confirmed_seq: stats.confirmed_seq,
            findings,
            took: began.elapsed(),
            left: log.marks.marks.left.clone(),
        };
        Ok((log, opened))
    }

    fn empty(options: &Options, home: Home, log: LogId, marks: MarksFile, manifests: Manifests) -> Self {
        Self {
            options: options.clone(),
            home,
            log,
            marks,
            marks_saved: Instant::now(),
            marks_dirty: false,
            marked: 0,
            manifests,
            sealed: VecDeque::new(),
            write: None,
            write_first: 1,
            write_end: 0,
            write_from: None,
            newest: None,
            write_tally: Some(Tally::default()),
            write_bytes: 0,
            reading: None,
            builder: Builder::new(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            waiting_tally: Tally::default(),
            next: 1,
            refused: Tally::default(),
            other_bytes: 0,
            holes_told: 0,
            handed: 0,
            lent: 0,
            failed: None,
            distrusted: false,
            stats: Stats::default(),
            notices: Vec::new(),
        }
    }

    /// A full disk must not keep the agent from starting: the ballast goes, then what may be dropped.
    fn find_with_room(
        &mut self,
        mut error: DiskError,
        marks_lost: bool,
        findings: &mut Vec<String>,
    ) -> Result<(), OpenError> {
        for _ in 0..FLUSH_TRIES {
            match error {
                DiskError::NoSpace => {}
                DiskError::Io(source) => return Err(OpenError::from_io(&self.home.dir, source)),
                DiskError::Damaged(what) => return Err(OpenError::Damaged { path: self.home.dir.clone(), what }),
            }
            self.home.drop_ballast();
            if self.sealed.len() > 1 && self.options.when_full != super::super::WhenFull::DropNewest {
                let _full = self.drop_oldest();
            }
            match self.find(marks_lost, findings) {
                Ok(()) => {
                    findings.push("the disk was full: room was made to open the spool".into());
                    return Ok(());
                }
                Err(next) => error = next,
            }
        }
        Err(OpenError::Full { path: self.home.dir.clone() })
    }

    /// Looks at the generations and opens the last for writing.
    fn find(&mut self, marks_lost: bool, findings: &mut Vec<String>) -> Result<(), DiskError> {
        self.sealed.clear();
        Generation::close(&mut self.write);
        self.list_sealed()?;
        let (first, missing) = match self.sealed.pop_back() {
            // A sealed one at the end: the one that was being written is gone.
            Some(newest) if Generation::is_flat(&self.home, newest.first) => {
                let first = self.end_of(newest.first)? + 1;
                self.sealed.push_back(Sealed { last: first - 1, ..newest });
                (first, true)
            }
            Some(newest) => (newest.first, false),
            // The last generation is never removed: where there is none, but once was, it was lost with its end.
            None => (self.oldest_promised(), self.marks.marks.ceiling > 0),
        };
        let climbed = Generation::open(&self.home, first, self.promised())?;
        let damaged = climbed.finding.is_some() || missing;
        findings.extend(climbed.finding);
        let walked = climbed.walked;
        if damaged && marks_lost {
            self.marks.marks.ceiling = walked.last.unwrap_or(first - 1) + RESERVE_BLIND;
        }
        self.take_up(climbed.generation, walked, damaged, findings)
    }

    /// Last number of a sealed generation.
    fn end_of(&self, first: Seq) -> Result<Seq, DiskError> {
        if let Some(summary) = Generation::summary(&self.home, first) {
            return Ok(summary.last);
        }
        Ok(Generation::open(&self.home, first, 0)?.walked.last.unwrap_or(first))
    }

    /// Where the log begins when no generation is left.
    fn oldest_promised(&self) -> Seq {
        self.confirmed().max(self.marks.marks.gone_thru()) + 1
    }

    fn list_sealed(&mut self) -> Result<(), DiskError> {
        let firsts = self.home.generations()?;
        let gone = self.marks.marks.gone_thru();
        for (at, first) in firsts.iter().enumerate() {
            let next = firsts.get(at + 1);
            let summary =
                Generation::summary(&self.home, *first).filter(|summary| next.is_none_or(|next| summary.last < *next));
            let last = summary.as_ref().map_or_else(|| next.map_or(Seq::MAX, |next| next - 1), |summary| summary.last);
            let path = self.home.generation(*first);
            // Told as dropped, or confirmed, before a crash kept it from being removed.
            if next.is_some_and(|next| next - 1 <= gone.max(self.confirmed())) {
                files::remove_dir(&path)?;
                continue;
            }
            let disk_bytes = files::disk_bytes(&path);
            self.sealed.push_back(Sealed {
                first: *first,
                last,
                tally: summary.and_then(|summary| summary.tally),
                disk_bytes,
                thinned: Generation::is_thinned(&self.home, *first),
            });
        }
        Ok(())
    }

    /// Goes on behind what was found. Where the end of the log may be hidden by damage, numbers that may have been
    /// handed out are passed over, and the hole is told as a loss.
    fn take_up(
        &mut self,
        mut write: Generation,
        mut walked: Walked,
        damaged: bool,
        findings: &mut Vec<String>,
    ) -> Result<(), DiskError> {
        if self.marks.marks.left.is_some() && walked.last.is_some_and(|last| last > self.durable()) {
            (write, walked) = self.cut_back(write)?;
        }
        let found = walked.last.unwrap_or(write.first - 1);
        let Marks { durable: promised, ceiling, ref later, .. } = self.marks.marks;
        let lent = later.lent;
        let hidden = damaged || walked.holes || found < promised || lent;
        self.begin_generation(write.first);
        self.write_end = found;
        self.write_from = self.first_time(&write);
        self.write = Some(write);
        // Counting would decode everything: it is done only if this generation ever has to be dropped.
        self.write_tally = walked.last.is_none().then(Tally::default);
        self.write_bytes = walked.bytes;
        self.marks.marks.epoch += 1;
        self.marks.marks.durable = found;
        self.next = found + 1;
        if walked.holes {
            findings.push(format!("some of the records up to {found} cannot be read: losses stand in their place"));
        }
        // What is confirmed need not be here: with `lazy` it was never written.
        let missing = found.max(self.confirmed()) + 1;
        if hidden && missing <= ceiling {
            let why = if lent { " with the memory they were kept in" } else { "" };
            findings
                .push(format!("records {missing}..={ceiling} may have been lost{why}: a loss stands in their place"));
        }
        if hidden && (found < ceiling || walked.holes) {
            self.roll_past(ceiling.max(found))?;
        }
        self.marks.marks.later.lent = false;
        self.marks.marks.ceiling = self.marks.marks.ceiling.max(self.durable());
        self.marked = self.durable();
        self.marks.marks.confirmed = self.confirmed().min(self.durable());
        self.save_marks()?;
        while self.front_is_confirmed() {
            self.remove_front()?;
        }
        Ok(())
    }

    /// What a failing disk took after all, behind the last number that was flushed: it went on in memory when the log was
    /// left, under other numbers.
    fn cut_back(&mut self, write: Generation) -> Result<(Generation, Walked), DiskError> {
        self.begin_generation(write.first);
        write.shut();
        (self.write_end, self.write_tally) = (self.durable(), None);
        self.move_on()?;
        let climbed = Generation::open(&self.home, self.write_first, 0)?;
        Ok((climbed.generation, climbed.walked))
    }

    /// Seals the write generation and begins the next behind `ceiling`, leaving a hole.
    fn roll_past(&mut self, ceiling: Seq) -> Result<(), DiskError> {
        let last = self.durable();
        let summary = Summary { last, tally: self.write_tally.clone() };
        let climbed = Generation::open(&self.home, ceiling + 1, 0)?;
        if let Some(old) = self.write.replace(climbed.generation) {
            old.seal(&summary)?;
            self.push_sealed(old, summary);
        }
        self.begin_generation(ceiling + 1);
        self.marks.marks.durable = ceiling;
        self.next = ceiling + 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use speedwell_wire::{Event, EventKind};

    use super::*;

    fn event(n: u64) -> (Record, Vec<u8>) {
        let (kind, detail) = (EventKind::Spool, n.to_string());
        let record = Record::Event(Event { boot: 1, t_ns: n, sensor: None, kind, detail });
        let bytes = record::encode(&record);
        (record, bytes)
    }

    #[test]
    fn what_a_failing_disk_took_after_all_is_not_found_again_where_the_log_was_left_for_memory() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::new(directory.path());
        let (mut log, _) = DiskLog::open(&options).unwrap();
        log.append(&[event(1), event(2)]).unwrap();
        log.flush().unwrap();
        log.append(&[event(3)]).unwrap();
        log.close_chunk();
        let (first, bytes) = log.waiting[0].clone();
        log.leave();
        log.write().unwrap().insert(first, &bytes).unwrap();
        log.write().unwrap().flush().unwrap();
        drop(log);

        let (mut log, opened) = DiskLog::open(&options).unwrap();
        assert_eq!((opened.last_seq, opened.findings), (2, Vec::<String>::new()));
        assert_eq!(opened.left.map(|left| (left.records, left.from)), Some((1, Some((1, 3)))));
        log.settle().unwrap();
        log.append(&[event(4)]).unwrap();
        assert_eq!(log.flush().unwrap(), 3);
        let read = log.read_from(1, 1 << 20).unwrap();
        let bytes: Vec<_> = read.into_iter().map(|stored| stored.bytes).collect();
        assert_eq!(bytes, [event(1).1, event(2).1, event(4).1]);
        drop(log);
        assert_eq!(DiskLog::open(&options).unwrap().1.left, None);
    }
}
