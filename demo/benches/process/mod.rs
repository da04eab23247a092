//! The agent as it is installed, in a process of its own, and the broker beside it.
#![allow(dead_code, unreachable_pub, reason = "each bench uses its own part of this")]

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// Nothing here takes longer than this.
pub const PATIENCE: Duration = Duration::from_secs(120);
pub const MIB: f64 = 1048576.0;

/// Builds the agent as it is installed; a bench of another package does not do that by itself.
pub fn build() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let built = Command::new("cargo").args(["build", "--release", "-q", "-p", "speedwell"]).current_dir(root).status();
    let target = std::env::current_exe().ok()?.parent()?.parent()?.join("speedwell");
    (built.ok()?.success() && target.exists()).then_some(target)
}

pub fn mosquitto(home: &Path, port: u16) -> impl Drop {
    let file = home.join("mosquitto.conf");
    fs::write(&file, format!("listener {port} 127.0.0.1\nallow_anonymous true\n")).expect("a file");
    let command = Command::new("mosquitto").arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Agent(command.expect("mosquitto is installed"))
}

pub fn unused_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound port").port()
}

/// Asks again and again until there is an answer.
pub fn wait<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited for {PATIENCE:?}");
        sleep(Duration::from_millis(2));
    }
}

/// A process that ends with its owner.
pub struct Agent(pub Child);

impl Agent {
    pub fn start(binary: &Path, config: &Path) -> Self {
        let command = Command::new(binary).args(["run", "--config"]).arg(config).spawn();
        Self(command.expect("the agent starts"))
    }

    /// Processor seconds so far: fields 14 and 15 of /proc/PID/stat, in ticks of 1/100 s.
    pub fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
        ticks.sum::<f64>() / 100.0
    }

    pub fn rss_mib(&self) -> f64 {
        self.of("status", "VmRSS:") as f64 / 1024.0
    }

    /// The most there ever was.
    pub fn peak_mib(&self) -> f64 {
        self.of("status", "VmHWM:") as f64 / 1024.0
    }

    pub fn written(&self) -> u64 {
        self.of("io", "write_bytes:")
    }

    pub fn of(&self, file: &str, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
