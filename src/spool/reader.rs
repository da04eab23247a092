//! Reads a spool's directory and writes nothing: on a card in another machine, mounted read-only, damaged or not.
//!
//! A database is not opened, for that writes: the chunks in its raw file are looked for, as salvage does. What cannot be
//! read comes out as a loss in its place, as the agent would hand it out.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use speedwell_wire::{LogId, LossReason, Manifest, ManifestHash, Seq, record};

use super::{
    disk,
    error::OpenError,
    files,
    flat::Flat,
    generation::{At, FLAT, SALVAGED, Summary},
    home,
    manifests::Manifests,
    marks::{Known, Marks, MarksFile},
    store::Stored,
    tally::Tally,
    thin::THINNED,
};

/// A spool that is looked at.
pub struct Reader {
    dir: PathBuf,
    log: Option<LogId>,
    marks: Marks,
    manifests: BTreeMap<ManifestHash, Manifest>,
    generations: Vec<Seq>,
    problems: Vec<String>,
    in_use: Option<u32>,
    _lock: Option<File>,
}

/// What can be told of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationInfo {
    /// Number of its first record.
    pub first: Seq,
    /// Number of the last record that can be read; `None` when none can.
    pub last: Option<Seq>,
    /// Whether it is sealed in a plain file.
    pub sealed: bool,
    /// Whether it was put together out of a damaged one.
    pub salvaged: bool,
    /// Whether it was thinned.
    pub thinned: bool,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

impl Reader {
    /// Looks at the spool in `dir`. A format from the future is refused, a directory without a spool too; whatever else
    /// is wrong is among the [`Reader::problems`].
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let io = |error| OpenError::from_io(dir, error);
        let (lock, in_use) = match home::lock_to_read(dir) {
            Ok(lock) => (lock, None),
            Err(pid) => (None, Some(pid)),
        };
        let generations = home::generations(dir).map_err(io)?;
        let mut problems = Vec::new();
        let log = home::read_meta(dir, &mut Vec::new())?;
        let (marks, known) = MarksFile::look(dir).map_err(io)?;
        if log.is_none() && generations.is_empty() && known == Known::Never {
            return Err(OpenError::NoSpool { path: dir.into() });
        }
        for name in ["meta", "meta-copy"] {
            // Before the first mark is made, the very first start may have been cut short between the two.
            let begun = known != Known::Never || dir.join(name).exists();
            if begun && !matches!(files::read_whole(&dir.join(name), 4096), Ok(Some(_))) {
                problems.push(format!("{name}, the log's name, cannot be read"));
            }
        }
        if known == Known::Damaged {
            problems.push("the page of marks cannot be read: what is confirmed is not known".into());
        }
        let (manifests, bad) = Manifests::look(dir);
        problems.extend(bad.iter().map(|name| format!("manifest {name} cannot be read")));
        Ok(Self { dir: dir.into(), log, marks, manifests, generations, problems, in_use, _lock: lock })
    }

    /// The log's name, where it can be read.
    pub fn log(&self) -> Option<LogId> {
        self.log
    }

    /// What is wrong beside the generations, each a line.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The process that has the spool open for writing; 0 when it does not say which.
    pub fn in_use(&self) -> Option<u32> {
        self.in_use
    }

    /// Up to here the far end has stored everything, as far as the marks know: they may be seconds old.
    pub fn confirmed(&self) -> Seq {
        self.marks.confirmed
    }

    /// What was dropped unconfirmed and is told as lost: why, first and last number.
    pub fn dropped(&self) -> Vec<(LossReason, Seq, Seq)> {
        self.marks.gone().map(|(reason, dropped)| (reason, dropped.first, dropped.last)).collect()
    }

    /// The manifests kept.
    pub fn manifests(&self) -> &BTreeMap<ManifestHash, Manifest> {
        &self.manifests
    }

    /// Damaged generations that were set aside.
    pub fn quarantined(&self) -> usize {
        std::fs::read_dir(self.dir.join("quarantine")).map_or(0, |entries| entries.flatten().count())
    }

    /// Bytes of everything on disk.
    pub fn disk_bytes(&self) -> u64 {
        files::disk_bytes(&self.dir)
    }

    /// The generations, oldest first.
    pub fn generations(&self) -> Vec<GenerationInfo> {
        self.generations.iter().map(|first| self.generation(*first)).collect()
    }

    fn generation(&self, first: Seq) -> GenerationInfo {
        let path = self.path(first);
        GenerationInfo {
            first,
            last: self.look(first).ok().and_then(|chunks| chunks.last()),
            sealed: path.join(FLAT).exists(),
            salvaged: path.join(SALVAGED).exists(),
            thinned: path.join(THINNED).exists(),
            disk_bytes: files::disk_bytes(&path),
        }
    }

    fn path(&self, first: Seq) -> PathBuf {
        self.dir.join(format!("{first:016x}"))
    }

    fn look(&self, first: Seq) -> io::Result<Flat> {
        let path = self.path(first);
        let flat = path.join(FLAT);
        Flat::open(&if flat.exists() { flat } else { disk::raw_file(&path) })
    }

    /// Gives every entry from `from` on to `see`, in order and without holes, until it breaks off. One generation's
    /// index and one chunk are in memory at a time. A file that cannot be opened is a hole.
    pub fn each(&self, from: Seq, mut see: impl FnMut(Stored) -> ControlFlow<()>) {
        let _ended = self.walk(from, &mut see);
    }

    fn walk(&self, from: Seq, see: &mut impl FnMut(Stored) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut next = from.max(1);
        for (reason, dropped) in self.marks.gone() {
            let first = next.max(dropped.first);
            if first <= dropped.last {
                let span = dropped.last - first + 1;
                see(Stored { first, span, bytes: record::encode(&dropped.tally.loss(reason, span)) })?;
                next = dropped.last + 1;
            }
        }
        for (at, first) in self.generations.iter().enumerate() {
            let until = self.generations.get(at + 1).copied();
            if until.is_some_and(|until| until <= next) {
                continue;
            }
            if next < *first {
                self.hole(next, *first, see)?;
                next = *first;
            }
            let end = until.or_else(|| Summary::read(&self.path(*first)).map(|summary| summary.last + 1));
            next = self.walk_generation(*first, next, end, see)?;
        }
        ControlFlow::Continue(())
    }

    /// Gives what a generation has from `next` on and says what comes after.
    fn walk_generation(
        &self,
        first: Seq,
        mut next: Seq,
        end: Option<Seq>,
        see: &mut impl FnMut(Stored) -> ControlFlow<()>,
    ) -> ControlFlow<(), Seq> {
        let Ok(chunks) = self.look(first) else {
            let end = end.unwrap_or(self.marks.durable + 1).max(next);
            self.hole(next, end, see)?;
            return ControlFlow::Continue(end);
        };
        while end.is_none_or(|end| next < end) {
            match chunks.at(next) {
                At::Chunk(whole) => {
                    let chunk = whole.chunk();
                    let skipped = usize::try_from(next - chunk.first).unwrap_or(usize::MAX);
                    for record in chunk.records().skip(skipped) {
                        see(Stored { first: next, span: 1, bytes: record.to_vec() })?;
                        next += 1;
                    }
                }
                At::Hole(Some(behind)) if end.is_none_or(|end| behind < end) => {
                    self.hole(next, behind, see)?;
                    next = behind;
                }
                At::Hole(_) => {
                    let until = end.unwrap_or(self.marks.durable + 1).max(next);
                    self.hole(next, until, see)?;
                    return ControlFlow::Continue(until);
                }
            }
        }
        ControlFlow::Continue(next)
    }

    /// A loss in the place of what is not there; what is confirmed need not be.
    fn hole(&self, from: Seq, until: Seq, see: &mut impl FnMut(Stored) -> ControlFlow<()>) -> ControlFlow<()> {
        let from = from.max(self.marks.confirmed + 1);
        if from >= until {
            return ControlFlow::Continue(());
        }
        let span = until - from;
        let loss = Tally { records: span, ..Tally::default() }.loss(LossReason::Damaged, span);
        see(Stored { first: from, span, bytes: record::encode(&loss) })
    }
}
