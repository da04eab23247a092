//! A generation: a stretch of the log in a directory of its own, which is removed whole.
//!
//! Opening one climbs a ladder: open it; remove sled's snapshots and open it; find our chunks in its raw file, write
//! them into a fresh database, and set the damaged one aside. What is missing then is a hole, and reading a hole gives
//! a loss in its place.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use speedwell_wire::{Manifest, ManifestHash, Seq, record};

use super::{
    chunk::{Chunk, Whole},
    disk::{self, Disk, DiskError},
    files,
    flat::{Flat, FlatWriter},
    home::Home,
    salvage::salvage,
    tally::Tally,
};

/// Salvaged bytes after which the fresh database is flushed: see [`super::disk`].
const FLUSH_BYTES: usize = 128 << 10;
/// The file that a sealed generation's summary is in.
const SUMMARY: &str = "summary";
/// A summary has a handful of numbers.
const SUMMARY_MAX: u64 = 4096;
/// The file that a sealed generation's chunks are in.
pub(super) const FLAT: &str = "chunks";
/// A file that says that the generation was salvaged, and why.
pub(super) const SALVAGED: &str = "salvaged";

/// An open generation.
pub(super) struct Generation {
    pub(super) first: Seq,
    pub(super) path: PathBuf,
    body: Option<Body>,
}

/// How a generation is kept.
enum Body {
    /// As it is written.
    Sled(Disk),
    /// As it is once it is sealed.
    Flat(Flat),
}

/// A generation that has been opened, and what that took.
pub(super) struct Climbed {
    pub(super) generation: Generation,
    pub(super) walked: Walked,
    /// What was done about damage, in words.
    pub(super) finding: Option<String>,
}

/// What a sealed generation holds: written when it is sealed, so that it need not be opened to be dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Summary {
    pub(super) last: Seq,
    /// `None` when it was not counted: the generation was begun by an earlier process.
    pub(super) tally: Option<Tally>,
}

/// What a walk through a generation found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Last number in it; `None` when it is empty.
    pub(super) last: Option<Seq>,
    /// Whether there are holes.
    pub(super) holes: bool,
    pub(super) bytes: u64,
}

/// What lies at a number.
pub(super) enum At {
    /// A chunk that holds it.
    Chunk(Whole),
    /// Nothing up to the number given, exclusive; `None` when nothing comes behind.
    Hole(Option<Seq>),
}

impl Generation {
    /// Opens the generation that begins with `first`, or makes it. `promised` is the last number known to have been
    /// durable in it: where sled silently opens an older state, the raw file may still have what it forgot.
    pub(super) fn open(home: &Home, first: Seq, promised: Seq) -> Result<Climbed, DiskError> {
        let path = home.generation(first);
        if Self::is_flat(home, first) {
            let body = Some(Body::Flat(Flat::open(&path.join(FLAT))?));
            let generation = Self { first, path, body };
            let walked = generation.walk()?;
            return Ok(Climbed { generation, walked, finding: None });
        }
        let copy = RawCopy::of(&path);
        let mut opened = Self::open_whole(&path, first, promised);
        if matches!(opened, Err(DiskError::NoSpace)) {
            // The copy may have taken the last room.
            copy.remove();
            opened = Self::open_whole(&path, first, promised);
        }
        let why = match opened {
            Err(DiskError::Damaged(why)) => why,
            opened => return opened.map(|(generation, walked)| Climbed { generation, walked, finding: None }),
        };
        disk::remove_snapshots(&path)?;
        if let Ok((generation, walked)) = Self::open_whole(&path, first, promised) {
            let finding = format!("generation {first:016x} opened after its snapshot was removed ({why})");
            return Ok(Climbed { generation, walked, finding: Some(finding) });
        }
        Self::rebuild(home, first, &copy, &why)
    }

    /// Every page has to be readable, for sled reads some of them only when they are asked for, and nothing missing.
    /// A generation that was salvaged is taken as it is: what is missing there stays missing.
    fn open_whole(path: &Path, first: Seq, promised: Seq) -> Result<(Self, Walked), DiskError> {
        let salvaged = path.join(SALVAGED).exists();
        let generation = Self { first, path: path.to_owned(), body: Some(Body::Sled(Disk::open(path)?)) };
        let whole = generation.walk().and_then(|walked| match walked.last.unwrap_or(first - 1) {
            _ if salvaged => Ok(walked),
            _ if walked.holes => Err(DiskError::Damaged("chunks are missing in it".into())),
            last if last < promised => {
                Err(DiskError::Damaged(format!("it ends at {last} and was promised to {promised}")))
            }
            _ => Ok(walked),
        });
        match whole {
            Ok(walked) => Ok((generation, walked)),
            Err(error) => {
                generation.shut();
                Err(error)
            }
        }
    }

    /// Salvages what can be read into a fresh generation and sets the damaged one aside. A crash anywhere in between
    /// leaves one of the two whole and in its place or on its way there (see `Home::clear_leftovers`).
    fn rebuild(home: &Home, first: Seq, copy: &RawCopy, why: &str) -> Result<Climbed, DiskError> {
        let path = home.generation(first);
        let new = path.with_extension("new");
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        let fresh = Disk::open(&new)?;
        let (mut chunks, mut waiting) = (0u64, 0);
        salvage(&copy.or_raw(&path), |key, bytes| {
            chunks += 1;
            waiting += bytes.len();
            fresh.insert(key, bytes)?;
            if waiting >= FLUSH_BYTES {
                waiting = 0;
                fresh.flush()?;
            }
            Ok::<(), DiskError>(())
        })?;
        fresh.flush()?;
        disk::close(fresh);
        files::write_whole(&new.join(SALVAGED), why.as_bytes())?;
        let summary = fs::read(path.join(SUMMARY));
        if let Ok(summary) = summary {
            fs::write(new.join(SUMMARY), summary)?;
        }
        copy.put_back(&path)?;
        let aside = home.quarantine(&path)?;
        fs::rename(&new, &path)?;
        files::sync_name(&path)?;
        let generation = Self { first, path: path.clone(), body: Some(Body::Sled(Disk::open(&path)?)) };
        let finding = format!(
            "generation {first:016x} was damaged ({}): {chunks} chunks salvaged, the damaged one set aside in {}",
            why.chars().take(120).collect::<String>(),
            aside.display()
        );
        let walked = generation.walk()?;
        Ok(Climbed { generation, walked, finding: Some(finding) })
    }

    fn disk(&self) -> Result<&Disk, DiskError> {
        match &self.body {
            Some(Body::Sled(disk)) => Ok(disk),
            _ => Err(DiskError::Io(io::Error::other("the generation is closed or sealed"))),
        }
    }

    pub(super) fn insert(&self, first: Seq, chunk: &[u8]) -> Result<(), DiskError> {
        self.disk()?.insert(first, chunk)
    }

    pub(super) fn flush(&self) -> Result<(), DiskError> {
        self.disk()?.flush()
    }

    /// Closes the database; the files stay.
    pub(super) fn shut(mut self) {
        if let Some(Body::Sled(disk)) = self.body.take() {
            disk::close(disk);
        }
    }

    /// Closes the one that is open, if one is.
    pub(super) fn close(open: &mut Option<Self>) {
        if let Some(generation) = open.take() {
            generation.shut();
        }
    }

    /// What lies at `seq`.
    pub(super) fn at(&self, seq: Seq) -> Result<At, DiskError> {
        if let Some(Body::Flat(flat)) = &self.body {
            return Ok(flat.at(seq));
        }
        if let Some((key, bytes)) = self.disk()?.at_or_before(seq)?
            && let Some(whole) = good(key, bytes)
            && seq <= whole.chunk().last()
        {
            return Ok(At::Chunk(whole));
        }
        let mut from = seq;
        while let Some((key, bytes)) = self.disk()?.after(from)? {
            if good(key, bytes).is_some() {
                return Ok(At::Hole(Some(key)));
            }
            from = key.max(from + 1);
        }
        Ok(At::Hole(None))
    }

    /// Calls `see` with every good chunk from `seq` on, and whether a hole lies before it.
    pub(super) fn each_chunk(&self, seq: Seq, mut see: impl FnMut(&Chunk<'_>, bool)) -> Result<(), DiskError> {
        let mut next = seq;
        loop {
            match self.at(next)? {
                At::Hole(None) => return Ok(()),
                At::Hole(Some(after)) => {
                    let At::Chunk(whole) = self.at(after)? else { return Ok(()) };
                    next = seen(&whole, true, &mut see);
                }
                At::Chunk(whole) => next = seen(&whole, false, &mut see),
            }
        }
    }

    /// Looks at every chunk.
    pub(super) fn walk(&self) -> Result<Walked, DiskError> {
        if let Some(Body::Flat(flat)) = &self.body {
            return Ok(flat.walk(self.first));
        }
        let mut walked = Walked::default();
        self.each_chunk(self.first, |chunk, hole| {
            walked.holes |= hole;
            walked.last = Some(chunk.last());
            walked.bytes += chunk.len() as u64;
        })?;
        if let Some(Body::Sled(disk)) = &self.body {
            // A key behind the last good chunk: a bad last chunk is a hole too.
            let last_key = disk.at_or_before(Seq::MAX)?.map(|(key, _)| key);
            walked.holes |= last_key.is_some_and(|key| walked.last.is_none_or(|last| key > last));
        }
        Ok(walked)
    }

    /// Counts what is there from `seq` on. Decodes every block: some hundred milliseconds for a full generation.
    pub(super) fn count(&self, seq: Seq, manifests: &BTreeMap<ManifestHash, Manifest>) -> Result<Tally, DiskError> {
        let mut tally = Tally::default();
        self.each_chunk(seq, |chunk, _| {
            let skipped = usize::try_from(seq.saturating_sub(chunk.first)).unwrap_or(usize::MAX);
            let records = chunk.records().skip(skipped).filter_map(|bytes| record::decode(bytes).ok());
            records.for_each(|record| tally.count(&record, manifests));
        })?;
        Ok(tally)
    }

    /// Whether the generation that begins with `first` is sealed in a plain file.
    pub(super) fn is_flat(home: &Home, first: Seq) -> bool {
        home.generation(first).join(FLAT).exists()
    }

    /// Closes a sealed generation and puts a plain file in the place of its database. Where that fails, for want of
    /// room mostly, the database stays.
    pub(super) fn flatten(self) -> Result<(), DiskError> {
        let new = self.path.with_extension("new");
        let written = self.write_flat(&new);
        let path = self.path.clone();
        self.shut();
        if let Err(error) = written {
            fs::remove_dir_all(&new)?;
            return Err(error);
        }
        files::replace_dir(&path, &new)?;
        Ok(())
    }

    /// Puts a plain file in the place of a database that is closed and that must not be opened any more, out of the
    /// chunks in its raw file; `false`, and nothing is done, where some of those up to the last are not found.
    pub(super) fn rescue(home: &Home, first: Seq, summary: &Summary) -> Result<bool, DiskError> {
        let path = home.generation(first);
        let raw = Flat::open(&disk::raw_file(&path))?;
        let new = path.with_extension("new");
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        fs::create_dir(&new)?;
        let mut writer = FlatWriter::create(&new.join(FLAT))?;
        let mut next = first;
        while next <= summary.last {
            let At::Chunk(whole) = raw.at(next) else { break };
            let chunk = whole.chunk();
            for (seq, record) in
                (chunk.first..).zip(chunk.records()).filter(|(seq, _)| (next..=summary.last).contains(seq))
            {
                writer.take_record(seq, chunk.epoch, record)?;
            }
            next = chunk.last() + 1;
        }
        if next <= summary.last {
            fs::remove_dir_all(&new)?;
            return Ok(false);
        }
        writer.finish()?;
        summary.write(&new)?;
        files::sync_dir(&new)?;
        files::replace_dir(&path, &new)?;
        Ok(true)
    }

    fn write_flat(&self, new: &Path) -> Result<(), DiskError> {
        if new.exists() {
            fs::remove_dir_all(new)?;
        }
        fs::create_dir(new)?;
        let mut writer = FlatWriter::create(&new.join(FLAT))?;
        let mut wrote = Ok(());
        self.each_chunk(self.first, |chunk, _| {
            if wrote.is_ok() {
                wrote = writer.take(chunk);
            }
        })?;
        wrote?;
        writer.finish()?;
        fs::copy(self.path.join(SUMMARY), new.join(SUMMARY))?;
        fs::File::open(new.join(SUMMARY))?.sync_all()?;
        files::sync_dir(new)?;
        Ok(())
    }

    /// Writes the summary beside the chunks.
    pub(super) fn seal(&self, summary: &Summary) -> io::Result<()> {
        summary.write(&self.path)
    }

    /// The summary of the generation that begins with `first`, where it can be read.
    pub(super) fn summary(home: &Home, first: Seq) -> Option<Summary> {
        Summary::read(&home.generation(first))
    }
}

impl Summary {
    /// Writes it into a generation's directory.
    pub(super) fn write(&self, generation: &Path) -> io::Result<()> {
        let content = postcard::to_allocvec(self).map_err(io::Error::other)?;
        files::write_whole(&generation.join(SUMMARY), &content)
    }

    /// The one in a generation's directory, where it can be read.
    pub(super) fn read(generation: &Path) -> Option<Self> {
        let content = files::read_whole(&generation.join(SUMMARY), SUMMARY_MAX).ok().flatten()?;
        postcard::from_bytes(&content).ok()
    }
}

/// A copy of a generation's raw file from before sled opens it: sled takes an older state for the whole when it meets
/// damage, and wipes what lay behind. The copy is not synced and goes at once when all is well, so that it is made in
/// the page cache and hardly ever written.
struct RawCopy(PathBuf);

impl RawCopy {
    fn of(generation: &Path) -> Self {
        let copy = generation.with_extension("copy");
        let raw = disk::raw_file(generation);
        let room =
            fs::metadata(&raw).is_ok_and(|meta| files::free_bytes(generation).is_ok_and(|free| free > 2 * meta.len()));
        if room && fs::copy(&raw, &copy).is_err() {
            let _works_without = fs::remove_file(&copy);
        }
        Self(copy)
    }

    /// The copy, or the raw file itself where there was no room for one.
    fn or_raw(&self, generation: &Path) -> PathBuf {
        if self.0.exists() { self.0.clone() } else { disk::raw_file(generation) }
    }

    /// What is set aside is what was found, not what sled made of it.
    fn put_back(&self, generation: &Path) -> io::Result<()> {
        if self.0.exists() { fs::rename(&self.0, disk::raw_file(generation)) } else { Ok(()) }
    }

    fn remove(&self) {
        let _was_put_back = fs::remove_file(&self.0);
    }
}

impl Drop for RawCopy {
    fn drop(&mut self) {
        self.remove();
    }
}

fn seen(whole: &Whole, hole: bool, see: &mut impl FnMut(&Chunk<'_>, bool)) -> Seq {
    let chunk = whole.chunk();
    see(&chunk, hole);
    chunk.last() + 1
}

fn good(key: Seq, bytes: Vec<u8>) -> Option<Whole> {
    Whole::of(bytes).filter(|whole| whole.chunk().first == key)
}

impl From<io::Error> for DiskError {
    fn from(error: io::Error) -> Self {
        disk::sort_io(error)
    }
}
