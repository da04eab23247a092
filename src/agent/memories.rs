//! What sensors keep over a restart: a file each in the state directory, `sensors/NAME.memory`.
//!
//! Only the sensor understands the bytes. A file is written beside the old one, synced and renamed, so that a cut leaves
//! the old one or the new one. One that its sensor does not understand is set aside and told, never a reason not to
//! measure.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

/// Largest memory: a table of 512 teeth has 2 KiB.
const MEMORY_MAX: u64 = 64 * 1024;

/// How often a memory that has changed is written. A kill takes so much of the odometer at most; an SD card is spared.
pub(super) const KEEP_EVERY: Duration = Duration::from_secs(30);

/// Where a sensor's memory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MemoryFile {
    path: PathBuf,
}

impl MemoryFile {
    /// Of this sensor; its name has only letters, digits and hyphens.
    pub(super) fn of(state_directory: &Path, sensor: &str) -> Self {
        Self { path: state_directory.join("sensors").join(format!("{sensor}.memory")) }
    }

    /// Where it is written before it takes the old one's place.
    fn fresh(&self) -> PathBuf {
        self.path.with_extension("new")
    }

    /// The bytes; `None` when nothing was kept.
    pub(super) fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        // One byte more than there may be, so that a larger one is seen to be damaged.
        file.take(MEMORY_MAX + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Sets aside what its sensor does not understand; says where it is now.
    pub(super) fn set_aside(&self) -> io::Result<PathBuf> {
        let aside = self.path.with_extension("damaged");
        fs::rename(&self.path, &aside)?;
        Ok(aside)
    }
}

/// Keeps the bytes of each: all of them are written, then synced together, then put in the place of the old ones. A sync for
/// each would be two for every sensor, and on a memory card most of all there are.
pub(super) fn keep(all: &[(&MemoryFile, &[u8])]) -> io::Result<()> {
    let Some(folder) = all.first().and_then(|(file, _)| file.path.parent()) else { return Ok(()) };
    fs::create_dir_all(folder)?;
    for (file, bytes) in all {
        File::create(file.fresh())?.write_all(bytes)?;
    }
    let folder = File::open(folder)?;
    rustix::fs::syncfs(&folder)?;
    for (file, _) in all {
        fs::rename(file.fresh(), &file.path)?;
    }
    folder.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back_and_what_is_set_aside_is_gone() {
        let there = tempfile::tempdir().unwrap();
        let memory = MemoryFile::of(there.path(), "front-wheel");
        assert_eq!(memory.read().unwrap(), None);
        let other = MemoryFile::of(there.path(), "rear-wheel");
        keep(&[(&memory, b"first")]).unwrap();
        keep(&[(&memory, b"second"), (&other, b"other")]).unwrap();
        assert_eq!(memory.read().unwrap().as_deref(), Some(&b"second"[..]));
        assert_eq!(other.read().unwrap().as_deref(), Some(&b"other"[..]));
        keep(&[]).unwrap();
        assert!(memory.set_aside().unwrap().ends_with("sensors/front-wheel.damaged"));
        assert_eq!(memory.read().unwrap(), None);
    }

    #[test]
    fn a_file_without_an_end_is_not_read_to_its_end() {
        let there = tempfile::tempdir().unwrap();
        let memory = MemoryFile::of(there.path(), "w");
        keep(&[(&memory, &vec![0; 200_000])]).unwrap();
        assert_eq!(memory.read().unwrap().map(|bytes| bytes.len() as u64), Some(MEMORY_MAX + 1));
    }
}
