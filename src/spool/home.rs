//! The spool's directory: its lock, its name and format, its ballast.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use speedwell_wire::{LogId, Seq};

use super::{error::OpenError, files, options::Options};

/// The format written here. A directory with a greater one is refused.
const FORMAT: u32 = 1;
/// No file of names and formats is larger.
const META_MAX: u64 = 4096;
/// Damaged generations kept for somebody to look at; older ones go.
const QUARANTINED_MAX: usize = 2;

pub(super) struct Home {
    pub(super) dir: PathBuf,
    ballast_bytes: u64,
    _lock: File,
}

/// The directory, locked, and the log it holds.
pub(super) struct Entered {
    pub(super) home: Home,
    pub(super) log: LogId,
    pub(super) created: bool,
    pub(super) findings: Vec<String>,
}

impl Home {
    /// Creates the directory if need be, locks it, reads or makes the log's name.
    pub(super) fn enter(options: &Options) -> Result<Entered, OpenError> {
        let dir = options.directory.clone();
        make_dir(&dir)?;
        let lock = lock(&dir)?;
        let home = Self { dir, ballast_bytes: options.ballast_bytes(), _lock: lock };
        let io = |error| OpenError::from_io(&home.dir, error);
        let mut findings = Vec::new();
        // Before anything is touched: what a newer version left in the middle of its work is its own.
        let known = read_meta(&home.dir, &mut findings)?;
        home.clear_leftovers().map_err(io)?;
        let created = known.is_none();
        let log = known.unwrap_or_else(super::random_log_id);
        home.write_meta(log).map_err(io)?;
        Ok(Entered { home, log, created, findings })
    }

    /// Gives the log a new name, for one whose numbers are not known any more.
    pub(super) fn rename_log(&self) -> io::Result<LogId> {
        let log = super::random_log_id();
        self.write_meta(log).map(|()| log)
    }

    /// Where a generation that begins with `first` lies.
    pub(super) fn generation(&self, first: Seq) -> PathBuf {
        self.dir.join(format!("{first:016x}"))
    }

    /// First numbers of the generations that are there, ascending.
    pub(super) fn generations(&self) -> io::Result<Vec<Seq>> {
        generations(&self.dir)
    }

    /// Sets a damaged generation aside.
    pub(super) fn quarantine(&self, generation: &Path) -> io::Result<PathBuf> {
        let dir = self.dir.join("quarantine");
        fs::create_dir_all(&dir)?;
        let name = generation.file_name().unwrap_or_default().to_string_lossy();
        let aside = (0..)
            .map(|n: u32| dir.join(format!("{name}-{n}")))
            .find(|path| !path.exists())
            .ok_or_else(|| io::Error::other("quarantine is full"))?;
        while self.quarantined().len() >= QUARANTINED_MAX {
            self.drop_quarantined()?;
        }
        fs::rename(generation, &aside)?;
        files::sync_dir(&dir)?;
        files::sync_dir(&self.dir)?;
        Ok(aside)
    }

    /// Removes the oldest generation in quarantine; whether there was one.
    pub(super) fn drop_quarantined(&self) -> io::Result<bool> {
        let oldest = self.quarantined().into_iter().min_by_key(|path| modified(path));
        oldest.map_or(Ok(false), |path| fs::remove_dir_all(path).map(|()| true))
    }

    fn quarantined(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.join("quarantine"));
        entries.map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
    }

    /// Takes the ballast's room, unless it is there. Without it the spool works as well, until the disk is full.
    pub(super) fn load_ballast(&self) -> io::Result<()> {
        let path = self.dir.join("ballast");
        if fs::metadata(&path).is_ok_and(|meta| meta.len() == self.ballast_bytes) {
            return Ok(());
        }
        files::reserve(&path, self.ballast_bytes).inspect_err(|_| drop(fs::remove_file(&path)))
    }

    /// Gives the ballast's room to the file system; whether there was any.
    pub(super) fn drop_ballast(&self) -> bool {
        fs::remove_file(self.dir.join("ballast")).is_ok()
    }

    /// Bytes of all that is in the directory but the generations.
    pub(super) fn other_bytes(&self) -> u64 {
        let names = ["ballast", "quarantine", "manifests", "meta", "meta-copy", "marks", "lock"];
        names.iter().map(|name| files::disk_bytes(&self.dir.join(name))).sum()
    }

    /// What a crash in the middle of something left: renamed for removal, or not yet renamed into place.
    fn clear_leftovers(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            match path.extension().and_then(|end| end.to_str()) {
                Some("gone") => fs::remove_dir_all(&path)?,
                Some("tmp" | "copy") => fs::remove_file(&path)?,
                // A salvaged generation is complete once the damaged one has been moved out of its way.
                Some("new") if path.with_extension("").exists() => fs::remove_dir_all(&path)?,
                Some("new") => fs::rename(&path, path.with_extension(""))?,
                _ => {}
            }
        }
        files::sync_dir(&self.dir)
    }

    fn write_meta(&self, log: LogId) -> io::Result<()> {
        let content = format!("speedwell-spool {FORMAT}\nlog {log}\n");
        for name in ["meta", "meta-copy"] {
            let path = self.dir.join(name);
            if files::read_whole(&path, META_MAX)?.as_deref() != Some(content.as_bytes()) {
                files::write_whole(&path, content.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// First numbers of the generations in a spool's directory, ascending.
pub(super) fn generations(dir: &Path) -> io::Result<Vec<Seq>> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.len() == 16
            && let Ok(first) = Seq::from_str_radix(&name, 16)
            && first > 0
        {
            firsts.push(first);
        }
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// The log's name. It is kept twice: a name that is lost would send every record again. Both are looked at, for a newer
/// version may have been cut short between the two.
pub(super) fn read_meta(dir: &Path, findings: &mut Vec<String>) -> Result<Option<LogId>, OpenError> {
    let (mut known, mut damaged) = (None, 0);
    for name in ["meta", "meta-copy"] {
        let path = dir.join(name);
        let read = files::read_whole(&path, META_MAX).map_err(|error| OpenError::from_io(&path, error))?;
        match read.as_deref().and_then(parse_meta) {
            Some((format, _)) if format > FORMAT => {
                return Err(OpenError::FutureVersion { path: dir.into(), found: format, known: FORMAT });
            }
            Some((_, log)) => known = known.or(Some(log)),
            None if path.exists() => damaged += 1,
            None => {}
        }
    }
    if damaged > 0 && known.is_none() {
        findings.push("both copies of the log's name are damaged: the log has a new name, and the hub gets what was not confirmed once more".into());
    }
    Ok(known)
}

/// Takes the lock as one of many readers. Never writes, so that it works on a card that is mounted read-only; `None`
/// where there is no lock to take. The process that writes, if one does, is the error.
pub(super) fn lock_to_read(dir: &Path) -> Result<Option<File>, u32> {
    let Ok(file) = File::open(dir.join("lock")) else { return Ok(None) };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(holder(&file)),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// The process that holds the lock: by the kernel's list, for a reader leaves no number in the file; 0 when nobody says.
fn holder(mut file: &File) -> u32 {
    let inode = file.metadata().map_or(0, |meta| meta.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    // 1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF
    let held = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|words| {
        words.get(1) == Some(&"FLOCK") && words.get(5).and_then(|at| at.rsplit(':').next()?.parse().ok()) == Some(inode)
    });
    if let Some(pid) = held.and_then(|words| words.get(4)?.parse().ok()) {
        return pid;
    }
    let mut said = String::new();
    let _may_be_empty = Read::take(&mut file, 32).read_to_string(&mut said);
    said.trim().parse().unwrap_or(0)
}

fn parse_meta(bytes: &[u8]) -> Option<(u32, LogId)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    let format = lines.next()?.strip_prefix("speedwell-spool ")?.parse().ok()?;
    // A future format may say the rest in another way: its number is all that counts then.
    let log = lines.next().and_then(|line| line.strip_prefix("log ")).and_then(|log| log.parse().ok());
    if format > FORMAT { Some((format, log.unwrap_or(LogId(0)))) } else { Some((format, log?)) }
}

fn modified(path: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

fn make_dir(dir: &Path) -> Result<(), OpenError> {
    match fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => return Err(OpenError::NotADirectory { path: dir.into() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(OpenError::from_io(dir, error)),
    }
    let made = fs::create_dir_all(dir).and_then(|()| files::sync_name(dir));
    made.map_err(|source| match OpenError::from_io(dir, source) {
        OpenError::Io { path, source } => OpenError::Create { path, source },
        other => other,
    })
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let io = |error| OpenError::from_io(dir, error);
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: dir.into(), pid: holder(&file) }),
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    // The number is for the message only: a full disk must not keep the spool from opening.
    let _full = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    Ok(file)
}
