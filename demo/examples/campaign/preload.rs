//! The clocks and the disk of a gateway, as its agent is made to see them; `preload.c` tells how.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Places in the page, each a 64-bit number; `struct page` in `preload.c`.
const REAL_NS: u64 = 0;
const BOOT_NS: u64 = 8;
const SYNCED: u64 = 16;
const SYNC_LIES: u64 = 24;
const IMAGE: u64 = 32;
const ACTIVE: u64 = 40;
const PAGE: u64 = 4096;

/// Builds the library that is loaded into agents.
pub(crate) fn build(folder: &Path) -> io::Result<PathBuf> {
    let (source, library) = (folder.join("preload.c"), folder.join("preload.so"));
    fs::write(&source, include_str!("preload.c"))?;
    let built = Command::new("cc")
        .args(["-O1", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .args(["-ldl", "-lpthread"])
        .output()?;
    match built.status.success() {
        true => Ok(library),
        false => Err(io::Error::other(String::from_utf8_lossy(&built.stderr).into_owned())),
    }
}

/// What is turned for one gateway. The agent maps the same page, so that a change is seen at once.
#[derive(Debug)]
pub(crate) struct Turned {
    page: File,
    folder: PathBuf,
    library: PathBuf,
    disk: PathBuf,
}

impl Turned {
    /// Clocks that are right and vouched for, in `folder`; `disk` is what a power cut strikes, and what it leaves is kept
    /// in `folder/images`.
    pub(crate) fn new(folder: &Path, library: &Path, disk: &Path) -> io::Result<Self> {
        let page = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(folder.join("page"))?;
        page.set_len(PAGE)?;
        let turned = Self { page, folder: folder.into(), library: library.into(), disk: disk.into() };
        turned.set(SYNCED, 1)?;
        turned.boot_id(1)?;
        Ok(turned)
    }

    /// Loads the library into a program that is about to start.
    pub(crate) fn load_into(&self, program: &mut Command) {
        program
            .env("LD_PRELOAD", &self.library)
            .env("CAMPAIGN_PAGE", self.folder.join("page"))
            .env("CAMPAIGN_BOOT_ID", self.folder.join("boot-id"))
            .env("CAMPAIGN_DISK", &self.disk)
            .env("CAMPAIGN_IMAGES", self.folder.join("images"));
    }

    /// Whether the last program it was loaded into has its clocks turned.
    pub(crate) fn active(&self) -> io::Result<bool> {
        Ok(self.get(ACTIVE)? == 1)
    }

    /// Puts real time off by so much; `synced` is whether somebody vouches for it.
    pub(crate) fn real_time(&self, off_ns: i64, synced: bool) -> io::Result<()> {
        self.set(SYNCED, i64::from(synced))?;
        self.set(REAL_NS, off_ns)
    }

    /// From the next program on, syncing does nothing and says that it did.
    pub(crate) fn let_sync_lie(&self) -> io::Result<()> {
        self.set(SYNC_LIES, 1)
    }

    /// The kernel starts again, `off_ns` from this machine's boot time.
    pub(crate) fn boot(&self, number: u64, off_ns: i64) -> io::Result<()> {
        self.set(BOOT_NS, off_ns)?;
        self.boot_id(number)
    }

    /// Puts on the disk what a power cut leaves there. No agent may run.
    pub(crate) fn cut_power(&self) -> io::Result<()> {
        let image = self.get(IMAGE)?;
        for entry in fs::read_dir(&self.disk)? {
            let path = entry?.path();
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        if image > 0 {
            copy_all(&self.folder.join("images").join(image.to_string()), &self.disk)?;
        }
        Ok(())
    }

    fn boot_id(&self, number: u64) -> io::Result<()> {
        fs::write(self.folder.join("boot-id"), format!("{number:08x}-c0de-4bad-8bad-0123456789ab\n"))
    }

    fn set(&self, place: u64, value: i64) -> io::Result<()> {
        self.page.write_all_at(&value.to_ne_bytes(), place)
    }

    fn get(&self, place: u64) -> io::Result<i64> {
        let mut value = [0; 8];
        self.page.read_exact_at(&mut value, place)?;
        Ok(i64::from_ne_bytes(value))
    }
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_all(&entry.path(), &target)?,
            false => fs::copy(entry.path(), target).map(|_| ())?,
        }
    }
    Ok(())
}
