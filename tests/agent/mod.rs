//! The real program for a test: a home with its configuration, state and spool, and the agent started in it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use speedwell::spool::{Options, Spool};
use speedwell_wire::{Record, Seq, record};

use super::broker::PATIENCE;

/// The sensors of the simulated board: a wheel at 10 Hz, a CAN speed and a GNSS.
pub const SIMULATED: &str = r#"
[[sensor]]
name = "front-wheel"
kind = "hall"
pin = "SIM0"
pulses-per-turn = 48
circumference = "1.985 m"
report = "10 Hz"

[[sensor]]
name = "ecu-speed"
kind = "j1939"
interface = "can0"
report = "10 Hz"

[[sensor]]
name = "gnss"
kind = "nmea"
uart = "GNSS"
report = "5 Hz"
"#;

/// A directory with the configuration of a gateway, its state and its spool.
pub struct Home {
    directory: tempfile::TempDir,
    spool: PathBuf,
    agents: AtomicU32,
}

impl Home {
    /// A gateway on the simulated board that reports to `url`.
    pub fn simulated(url: &str) -> Self {
        Self::new("simulated", url, SIMULATED)
    }

    /// A gateway on this board with these sensors.
    pub fn new(board: &str, url: &str, sensors: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let spool = directory.path().join("spool");
        let home = Home { directory, spool, agents: AtomicU32::new(0) };
        home.configure(board, &format!("url = \"{url}\""), sensors);
        home
    }

    /// Writes the configuration anew, with these lines in `[broker]`.
    pub fn configure(&self, board: &str, broker: &str, sensors: &str) {
        let (home, spool) = (self.path().display(), self.spool.display());
        let text = format!(
            r#"
[gateway]
id = "truck-7"
board = "{board}"
state-directory = "{home}/state"

[broker]
{broker}
topic-prefix = "test/v1"

[spool]
directory = "{spool}"
max-size = "32 MiB"
keep-free = "0 MiB"
{sensors}"#
        );
        fs::write(self.config(), text).unwrap();
    }

    /// The same with its spool elsewhere.
    pub fn with_spool(mut self, spool: &Path) -> Self {
        let text = fs::read_to_string(self.config()).unwrap();
        let text = text.replace(&self.spool.display().to_string(), &spool.display().to_string());
        fs::write(self.config(), text).unwrap();
        self.spool = spool.into();
        self
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn spool(&self) -> &Path {
        &self.spool
    }

    pub fn config(&self) -> PathBuf {
        self.path().join("gateway.toml")
    }

    /// `speedwell COMMAND --config ...`, not yet started.
    pub fn command(&self, command: &str) -> Command {
        let mut speedwell = Command::new(env!("CARGO_BIN_EXE_speedwell"));
        speedwell.args([command, "--config"]).arg(self.config());
        for name in ["SPEEDWELL_CONFIG", "RUST_LOG", "JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_USEC"] {
            speedwell.env_remove(name);
        }
        speedwell
    }

    /// Runs a command that ends by itself.
    pub fn output(&self, command: &str, more: &[&str]) -> Output {
        output(self.command(command).args(more))
    }

    /// Starts the agent.
    pub fn start(&self) -> Agent {
        self.start_with(self.command("run"))
    }

    /// Starts the agent by this command.
    pub fn start_with(&self, mut run: Command) -> Agent {
        let n = self.agents.fetch_add(1, Ordering::Relaxed);
        let log = self.path().join(format!("agent-{n}.log"));
        let child = run.stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        Agent { child: Some(child), log, started: Instant::now() }
    }

    /// What lies in the spool and is not confirmed, oldest first; no agent may run.
    pub async fn spooled(&self) -> Vec<(Seq, Record)> {
        let (spool, opened) =
            Spool::open(Options { max_size: 32 << 20, keep_free: 0, ..Options::new(&self.spool) }).unwrap();
        let (mut all, mut seq) = (Vec::new(), opened.confirmed_seq + 1);
        loop {
            let some = spool.read_from(seq, 64 << 10).await.unwrap();
            let Some(last) = some.last() else { break };
            seq = last.first + last.span;
            all.extend(some.iter().map(|stored| (stored.first, record::decode(&stored.bytes).unwrap())));
        }
        spool.close().await.unwrap();
        all
    }
}

/// Runs a command to its end, with patience.
pub fn output(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let (done, ended) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let output = child.wait_with_output();
        let _ = done.send(());
        output
    });
    if ended.recv_timeout(PATIENCE).is_err() {
        signal(id, libc::SIGKILL);
        let output = waiter.join().unwrap().unwrap();
        panic!("it does not end: {}", String::from_utf8_lossy(&output.stderr));
    }
    waiter.join().unwrap().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn signal(process: u32, signal: i32) {
    // SAFETY: kill(2) touches no memory; the process is a child that was not yet waited for.
    unsafe { libc::kill(process as i32, signal) };
}

/// A running agent; ends with the value.
pub struct Agent {
    child: Option<Child>,
    log: PathBuf,
    pub started: Instant,
}

impl Agent {
    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// What it has written.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its log says this, so many times.
    pub async fn says_times(&mut self, words: &str, times: usize) {
        let until = Instant::now() + PATIENCE;
        while self.log().matches(words).count() < times {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            // What it said last may have come since.
            let said = || self.log().matches(words).count() >= times;
            assert!((ended.is_none() && Instant::now() < until) || said(), "not said {times} times: {words:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until its log says this.
    pub async fn says(&mut self, words: &str) {
        self.says_times(words, 1).await;
    }

    /// Holds it up: it runs no further until it is let go.
    pub fn hold(&self) {
        signal(self.id(), libc::SIGSTOP);
    }

    /// Lets it go on.
    pub fn let_go(&self) {
        signal(self.id(), libc::SIGCONT);
    }

    /// Asks it to stop, and does not wait for it.
    pub fn ask_to_stop(&self) {
        signal(self.id(), libc::SIGTERM);
    }

    /// Asks it to stop; how it ended, and how long that took.
    pub async fn stop(&mut self) -> (ExitStatus, Duration) {
        let asked = Instant::now();
        self.ask_to_stop();
        (self.ended().await, asked.elapsed())
    }

    /// Asks it to read its configuration again.
    pub fn hang_up(&self) {
        signal(self.id(), libc::SIGHUP);
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                return status;
            }
            assert!(Instant::now() < until, "it does not end:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops it, and it must have been well.
    pub async fn stop_well(&mut self) -> Duration {
        let (status, took) = self.stop().await;
        assert_eq!((status.code(), status.signal()), (Some(0), None), "{}", self.log());
        took
    }

    /// Ends it as a power cut would, but for the disk's own memory.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the agent said:\n{}", self.log());
        }
    }
}
