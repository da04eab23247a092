//! A page that says how far things had come: what is confirmed, which numbers may be in use, what was dropped.
//!
//! Two slots of 4 KiB in one file, written in turn and in place, so that a power cut in the middle of one leaves the
//! other, and so that syncing needs no new block from the file system:
//! ```text
//! slot { length u16 LE, postcard of Marks, postcard of Later, postcard of what was left, check u32 LE (CRC-32C of all before) }
//! ```
//! The slot with the greater `turn` counts. A page from before there was a `Later` ends without it, and most pages end
//! behind it.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use serde::{Deserialize, Serialize};
use speedwell_wire::{LossReason, Seq, frame::crc32c};

use super::{files, tally::Tally};

const SLOT: usize = 4096;

/// How far things had come when the page was written. Losing some seconds of it only causes resends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marks {
    turn: u64,
    /// How often the spool has been opened.
    pub(super) epoch: u32,
    pub(super) confirmed: Seq,
    /// Everything up to here was durable.
    pub(super) durable: Seq,
    /// No number beyond this was handed out: where damage hides what was, numbers go on behind it.
    pub(super) ceiling: Seq,
    /// What was dropped unconfirmed.
    pub(super) dropped: Option<Dropped>,
    /// Written behind the rest.
    #[serde(skip)]
    pub(super) later: Later,
    /// The disk failed, and the log went on in memory: what lies behind `durable` is there, and this is what was known
    /// of it. Written behind `later`, where there is any.
    #[serde(skip)]
    pub(super) left: Option<Tally>,
}

/// What came to the page later. It only grows at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Later {
    /// What went unconfirmed because of its age; it lies before `dropped`, for what is before it is older still.
    pub(super) aged: Option<Dropped>,
    /// Numbers up to the ceiling may have been handed out of memory: they count as used, damage or not.
    pub(super) lent: bool,
}

impl Marks {
    /// What is told as lost at the front, oldest first.
    pub(super) fn gone(&self) -> impl Iterator<Item = (LossReason, &Dropped)> {
        let aged = self.later.aged.iter().map(|dropped| (LossReason::TooOld, dropped));
        aged.chain(self.dropped.iter().map(|dropped| (LossReason::SpoolFullOldest, dropped)))
    }

    /// Last number of those.
    pub(super) fn gone_thru(&self) -> Seq {
        self.gone().last().map_or(0, |(_, dropped)| dropped.last)
    }
}

/// A range of numbers whose records had to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dropped {
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) tally: Tally,
}

impl Dropped {
    /// The rest behind what is confirmed; the records left are counted in proportion.
    pub(super) fn behind(self, confirmed: Seq) -> Option<Self> {
        match self.last.checked_sub(confirmed.max(self.first - 1)) {
            None | Some(0) => None,
            Some(left) => Some(Self { first: self.last - left + 1, last: self.last, tally: self.tally.part(left) }),
        }
    }

    /// Both, of which `later` lies directly behind.
    pub(super) fn and(mut self, later: &Self) -> Self {
        self.last = later.last;
        self.tally.add(&later.tally);
        self
    }
}

/// What could be read of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It was never written: the very first start was cut short.
    Never,
    /// It was read.
    Read,
    /// Neither slot can be read.
    Damaged,
}

pub(super) struct MarksFile {
    file: File,
    pub(super) marks: Marks,
}

impl MarksFile {
    /// Opens the page.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, Known)> {
        let path = dir.join("marks");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        if file.metadata()?.len() < 2 * SLOT as u64 {
            file.write_all_at(&[0; SLOT], SLOT as u64)?;
            file.sync_all()?;
            files::sync_name(&path)?;
        }
        let (marks, known) = read(&file);
        // What was only noted is on disk before the other slot, which is, is written over.
        file.sync_data()?;
        Ok((Self { file, marks }, known))
    }

    /// Reads the page and writes nothing.
    pub(super) fn look(dir: &Path) -> io::Result<(Marks, Known)> {
        match File::open(dir.join("marks")) {
            Ok(file) => Ok(read(&file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((Marks::default(), Known::Never)),
            Err(error) => Err(error),
        }
    }

    /// Writes the page and waits until it is on disk.
    pub(super) fn save(&mut self) -> io::Result<()> {
        self.note()?;
        self.file.sync_data()?;
        // Only now: where syncing failed, the other slot is the one that is on disk, and must not be the next.
        self.marks.turn += 1;
        Ok(())
    }

    /// Writes the page and does not wait: after a crash that left the system running it is there, after a power cut it
    /// may be. The slot that is on disk stays as it is; the next page to be saved takes this one's place.
    pub(super) fn note(&self) -> io::Result<()> {
        let turn = self.marks.turn + 1;
        let mut content = postcard::to_allocvec(&Marks { turn, ..self.marks.clone() }).map_err(io::Error::other)?;
        content.extend(postcard::to_allocvec(&self.marks.later).map_err(io::Error::other)?);
        if let Some(left) = &self.marks.left {
            content.extend(postcard::to_allocvec(left).map_err(io::Error::other)?);
        }
        let length = u16::try_from(content.len()).map_err(io::Error::other)?;
        let mut slot = length.to_le_bytes().to_vec();
        slot.extend_from_slice(&content);
        slot.extend_from_slice(&crc32c(&slot).to_le_bytes());
        slot.resize(SLOT, 0);
        self.file.write_all_at(&slot, (turn % 2) * SLOT as u64)
    }
}

fn read(file: &File) -> (Marks, Known) {
    match (0..2).filter_map(|slot| read_slot(file, slot)).max_by_key(|marks| marks.turn) {
        Some(marks) => (marks, Known::Read),
        None if is_blank(file) => (Marks::default(), Known::Never),
        None => (Marks::default(), Known::Damaged),
    }
}

fn is_blank(file: &File) -> bool {
    let mut bytes = [0; 2 * SLOT];
    file.read_exact_at(&mut bytes, 0).is_ok() && bytes.iter().all(|byte| *byte == 0)
}

fn read_slot(file: &File, slot: u64) -> Option<Marks> {
    let mut bytes = [0; SLOT];
    file.read_exact_at(&mut bytes, slot * SLOT as u64).ok()?;
    let end = 2 + usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let check = bytes.get(end..end + 4)?;
    if end == 2 || check != crc32c(&bytes[..end]).to_le_bytes() {
        return None;
    }
    let (marks, rest): (Marks, _) = postcard::take_from_bytes(&bytes[2..end]).ok()?;
    // A page that ends here was written before there was more to it.
    let (later, rest) = if rest.is_empty() { Default::default() } else { postcard::take_from_bytes(rest).ok()? };
    let left = if rest.is_empty() { None } else { Some(postcard::from_bytes(rest).ok()?) };
    Some(Marks { later, left, ..marks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_whose_sync_failed_is_not_trusted_and_the_one_on_disk_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let (mut page, _) = MarksFile::open(dir.path()).unwrap();
        page.marks.confirmed = 7;
        page.save().unwrap();
        for confirmed in 8..12 {
            page.marks.confirmed = confirmed;
            // It takes every byte and syncs none.
            let unsound = OpenOptions::new().write(true).open("/dev/null").unwrap();
            let sound = std::mem::replace(&mut page.file, unsound);
            assert!(page.save().is_err());
            page.file = sound;
            page.note().unwrap();
            let on_disk = (0..2).filter_map(|slot| read_slot(&page.file, slot)).any(|marks| marks.confirmed == 7);
            assert!(on_disk, "the page that is on disk was written over before another was");
        }
        page.save().unwrap();
        assert_eq!(MarksFile::look(dir.path()).unwrap().0.confirmed, 11);
    }
}
