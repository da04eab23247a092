//! Programs that are started, hurt and watched, and the small disks they write to.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::{Ipv4Addr, TcpListener},
    os::unix::{fs::FileExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Exit codes that tell of a defect: a panic's, and the one that the agent uses for what cannot be.
const DEFECTS: [i32; 2] = [101, 70];

/// A program of a world.
#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    child: Option<Child>,
    log: PathBuf,
}

impl Program {
    /// One that is not started yet; what it says goes behind what it said before.
    pub(crate) fn new(name: &'static str, folder: &Path) -> Self {
        Self { name, child: None, log: folder.join(format!("{name}.log")) }
    }

    /// Starts it; gives its process.
    pub(crate) fn start(&mut self, command: &mut Command) -> io::Result<u32> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        for name in ["RUST_LOG", "JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_USEC", "SPEEDWELL_CONFIG"] {
            command.env_remove(name);
        }
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let id = child.id();
        self.child = Some(child);
        Ok(id)
    }

    /// Whether it was started and not ended by the campaign.
    pub(crate) fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// SIGKILL, and its end.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    /// A signal.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let Some(child) = &self.child else { return Ok(()) };
        Ok(kill_process(Pid::from_child(child), signal)?)
    }

    /// SIGTERM, and its end; what is wrong when it does not end well within `patience`.
    pub(crate) fn stop(&mut self, patience: Duration) -> io::Result<Result<(), String>> {
        self.signal(Signal::TERM)?;
        let Some(mut child) = self.child.take() else { return Ok(Ok(())) };
        let until = Instant::now() + patience;
        loop {
            match child.try_wait()? {
                Some(status) if status.success() => return Ok(Ok(())),
                Some(status) => return Ok(Err(format!("the {} stopped with {status}", self.name))),
                None if Instant::now() > until => {
                    child.kill()?;
                    child.wait()?;
                    return Ok(Err(format!("the {} did not stop within {} s", self.name, patience.as_secs())));
                }
                None => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// How it ended, if it ended by itself.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let ended = child.try_wait()?;
        if ended.is_some() {
            self.child = None;
        }
        Ok(ended)
    }

    /// How often its log says this.
    pub(crate) fn said(&self, words: &str) -> usize {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).matches(words).count()
    }

    /// Waits until it catches this signal, which would end it before that; whether it does.
    pub(crate) fn catches(&self, signal: Signal, patience: Duration) -> bool {
        let Some(id) = self.child.as_ref().map(Child::id) else { return false };
        // proc(5): a bit a signal, the first is bit 0.
        let mask = || {
            let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim().to_owned();
            u64::from_str_radix(&mask, 16).ok()
        };
        let until = Instant::now() + patience;
        loop {
            if mask().is_some_and(|mask| mask & (1 << (signal.as_raw() - 1)) != 0) {
                return true;
            }
            if Instant::now() > until {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its last words.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log[log.len().saturating_sub(400)..]).into_owned();
        text.lines().last().unwrap_or_default().to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Whether an end was a defect, rather than a refusal that a service manager would try again.
pub(crate) fn is_defect(status: ExitStatus) -> bool {
    status.signal().is_some() || status.code().is_some_and(|code| DEFECTS.contains(&code))
}

/// A port that nobody listens on, below those that the kernel hands to clients; no two alike in a campaign.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 12_000 + (std::process::id() % 64) as u16 * 256;
    loop {
        let port = base.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed) % 4096);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A small disk that can be filled: a file system in memory, where one may be mounted.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    mounted: bool,
}

impl Disk {
    /// An empty one of so many MiB. Where none may be mounted it is a folder, which cannot be filled.
    pub(crate) fn new(path: PathBuf, mib: u32) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        let size = format!("size={mib}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).output();
        Ok(Self { path, mounted: mount.is_ok_and(|ran| ran.status.success()) })
    }

    pub(crate) fn can_be_filled(&self) -> bool {
        self.mounted
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// Takes all the room there is.
    pub(crate) fn fill(&self) -> io::Result<()> {
        if !self.mounted {
            return Ok(());
        }
        let mut filler = File::create(self.filler())?;
        // Large pieces as long as they fit, then the rest.
        for piece in [1 << 20, 1 << 12, 1] {
            while filler.write_all(&vec![0; piece]).is_ok() {}
        }
        Ok(())
    }

    /// Gives it back.
    pub(crate) fn free(&self) {
        let _ = fs::remove_file(self.filler());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.path).output();
        }
    }
}

/// Files below a folder, in order of their names.
fn files(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<io::Result<_>>()?;
    entries.sort();
    for path in entries {
        match path.is_dir() {
            true => files(&path, found)?,
            false if path.metadata()?.len() > 0 => found.push(path),
            false => {}
        }
    }
    Ok(())
}

/// Flips up to eight bits of a file of the spool, or cuts it short.
pub(crate) fn damage(spool: &Path, cut: bool, dice: &mut fastrand::Rng) -> io::Result<()> {
    let mut found = Vec::new();
    files(spool, &mut found)?;
    // Damage to what holds no data shows nothing.
    found.retain(|path| !path.ends_with("lock") && !path.ends_with("ballast"));
    if found.is_empty() {
        return Ok(());
    }
    let path = &found[dice.usize(..found.len())];
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    if cut {
        return file.set_len(dice.u64(..length));
    }
    for _ in 0..dice.u8(1..=8) {
        let (place, mut byte) = (dice.u64(..length), [0]);
        file.read_exact_at(&mut byte, place)?;
        byte[0] ^= 1 << dice.u8(..8);
        file.write_all_at(&byte, place)?;
    }
    Ok(())
}
