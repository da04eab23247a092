//! Handing out what is durable, without holes.

use speedwell_wire::LossReason;

use super::*;

/// Entries being gathered.
struct Gathering {
    found: Vec<Stored>,
    size: usize,
    max_bytes: usize,
    next: Seq,
    durable: Seq,
}

impl Gathering {
    /// Takes an entry in; `false` when there is no room for it.
    fn take(&mut self, span: u64, bytes: &[u8]) -> bool {
        if !self.found.is_empty() && self.size + bytes.len() > self.max_bytes {
            return false;
        }
        self.size += bytes.len();
        self.found.push(Stored { first: self.next, span, bytes: bytes.to_vec() });
        self.next += span;
        true
    }

    /// Takes in the records of a chunk from the next one on; `false` when there is no room for one.
    fn take_chunk(&mut self, chunk: &Chunk<'_>) -> bool {
        let skipped = usize::try_from(self.next - chunk.first).unwrap_or(usize::MAX);
        chunk.records().skip(skipped).all(|record| self.next <= self.durable && self.take(1, record))
    }
}

impl DiskLog {
    pub(super) fn read(&mut self, seq: Seq, max_bytes: usize) -> Result<Vec<Stored>, DiskError> {
        let next = seq.max(self.oldest());
        let mut gathering = Gathering { found: Vec::new(), size: 0, max_bytes, next, durable: self.durable() };
        while gathering.next <= gathering.durable {
            if !self.read_on(&mut gathering)? {
                break;
            }
        }
        self.handed = self.handed.max(gathering.next - 1);
        Ok(gathering.found)
    }

    /// Reads one chunk, or one hole; `false` when there is no room for more.
    fn read_on(&mut self, gathering: &mut Gathering) -> Result<bool, DiskError> {
        let seq = gathering.next;
        if let Some((reason, dropped)) = self.marks.marks.gone().find(|(_, dropped)| seq <= dropped.last) {
            let span = dropped.last - seq + 1;
            let loss = dropped.tally.loss(reason, span);
            return Ok(gathering.take(span, &record::encode(&loss)));
        }
        let place = self.sealed.partition_point(|sealed| sealed.last < seq);
        let write_first = self.write_first;
        let (first, end) = match self.sealed.get(place) {
            Some(sealed) if sealed.first <= seq => (sealed.first, sealed.last + 1),
            Some(sealed) => return Ok(self.take_hole(gathering, sealed.first)),
            None if write_first <= seq => (write_first, gathering.durable + 1),
            None => return Ok(self.take_hole(gathering, write_first)),
        };
        match self.look(first, seq)? {
            At::Chunk(whole) => Ok(gathering.take_chunk(&whole.chunk())),
            At::Hole(until) => Ok(self.take_hole(gathering, until.map_or(end, |until| until.min(end)))),
        }
    }

    /// Puts a loss in the place of everything before `until`.
    fn take_hole(&mut self, gathering: &mut Gathering, until: Seq) -> bool {
        let span = until - gathering.next;
        let loss = Tally { records: span, ..Tally::default() }.loss(LossReason::Damaged, span);
        if until > self.holes_told {
            self.notices.push(format!(
                "records {}..={} cannot be read: a loss stands in their place",
                gathering.next,
                until - 1
            ));
            self.stats.lost_records += span;
            self.holes_told = until;
        }
        gathering.take(span, &record::encode(&loss))
    }

    /// What lies at `seq` in the generation that begins with `first`. One that turns out damaged is recovered.
    fn look(&mut self, first: Seq, seq: Seq) -> Result<At, DiskError> {
        match self.open_for_reading(first)?.at(seq) {
            Err(DiskError::Damaged(why)) if self.write_first == first => {
                self.reopen_write(&why)?;
                self.write()?.at(seq)
            }
            Err(DiskError::Damaged(_)) => {
                Generation::close(&mut self.reading);
                self.open_for_reading(first)?.at(seq)
            }
            looked => looked,
        }
    }

    pub(super) fn open_for_reading(&mut self, first: Seq) -> Result<&Generation, DiskError> {
        if self.write.as_ref().is_some_and(|write| write.first == first) {
            return self.write();
        }
        if self.reading.as_ref().is_none_or(|reading| reading.first != first) {
            Generation::close(&mut self.reading);
            let promised = self.sealed.iter().find(|sealed| sealed.first == first).map_or(0, |sealed| sealed.last);
            let climbed = Generation::open(&self.home, first, promised)?;
            if let Some(finding) = climbed.finding {
                self.notices.push(finding);
                self.other_bytes = self.home.other_bytes();
            }
            self.reading = Some(climbed.generation);
        }
        self.reading.as_ref().ok_or_else(|| DiskError::Damaged("no generation is open for reading".into()))
    }

    /// Counts what a sealed generation holds from `seq` on.
    pub(super) fn count_from(&mut self, first: Seq, seq: Seq) -> Result<Tally, DiskError> {
        let manifests = self.manifests.known().clone();
        self.open_for_reading(first)?.count(seq, &manifests)
    }
}
