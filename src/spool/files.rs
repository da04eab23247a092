//! Files and directories, done so that a power cut leaves the old or the new and nothing between.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use speedwell_wire::frame::crc32c;

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes the name of `path` durable.
pub(super) fn sync_name(path: &Path) -> io::Result<()> {
    sync_dir(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

/// Writes a file whole or not at all, with a CRC-32C behind its content.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("tmp");
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.write_all(&crc32c(content).to_le_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_name(path)
}

/// Reads what [`write_whole`] wrote; `None` when it is not there or not whole. Reads no more than `max` bytes.
pub(super) fn read_whole(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(max).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(length) = bytes.len().checked_sub(4) else { return Ok(None) };
    let check = bytes.split_off(length);
    Ok((check == crc32c(&bytes).to_le_bytes()).then_some(bytes))
}

/// Bytes a file or a directory with everything in it takes on disk. What vanishes meanwhile takes none.
pub(super) fn disk_bytes(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    let own = meta.blocks() * 512;
    if !meta.is_dir() {
        return own;
    }
    let Ok(entries) = fs::read_dir(path) else { return own };
    own + entries.flatten().map(|entry| disk_bytes(&entry.path())).sum::<u64>()
}

/// Bytes the file system has left for us.
pub(super) fn free_bytes(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Removes a directory so that no half of it is ever taken for a whole one: it is renamed first.
pub(super) fn remove_dir(dir: &Path) -> io::Result<()> {
    let gone = dir.with_extension("gone");
    if gone.exists() {
        fs::remove_dir_all(&gone)?;
    }
    fs::rename(dir, &gone)?;
    sync_name(dir)?;
    fs::remove_dir_all(&gone)?;
    sync_name(dir)
}

/// Puts `new`, whose content is synced, in the place of `dir`. A crash in between leaves `new` without `dir`, and the next
/// start ends the work. Not every file system keeps names in order: before `dir` goes, the name of `new` has to be on
/// disk, or a power cut leaves neither.
pub(super) fn replace_dir(dir: &Path, new: &Path) -> io::Result<()> {
    sync_name(new)?;
    let gone = dir.with_extension("gone");
    if gone.exists() {
        fs::remove_dir_all(&gone)?;
    }
    fs::rename(dir, &gone)?;
    fs::rename(new, dir)?;
    sync_name(dir)?;
    fs::remove_dir_all(&gone)
}

/// Takes `bytes` of disk, for real.
pub(super) fn reserve(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::create(path)?;
    if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).is_err() {
        let block = [0x5A; 1 << 16];
        for at in (0..bytes).step_by(block.len()) {
            file.write_all_at(&block, at)?;
        }
    }
    file.sync_all()
}
