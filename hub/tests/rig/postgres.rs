//! A private PostgreSQL on a free loopback port and a Unix socket, gone when the tests are, however they end.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use super::free_port;

pub struct Cluster {
    pub port: u16,
    pub directory: PathBuf,
    /// Stops the server and removes its files when our end of its pipe closes, which a killed process closes too.
    keeper: Option<Child>,
}

/// Where the server's programs are: Debian keeps them out of the path.
fn programs() -> PathBuf {
    let found = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = found.map(|entry| entry.path().join("bin")).collect();
    versions.extend(["/usr/local/bin", "/usr/bin", "/opt/homebrew/bin"].map(PathBuf::from));
    let there = versions.into_iter().find(|bin| bin.join("initdb").exists() && bin.join("pg_ctl").exists());
    there.expect("PostgreSQL is missing: install it (Debian: postgresql-15), see scripts/test")
}

/// A program of the server. It refuses root, so then it runs as the user that its package made.
fn program(name: &str) -> Command {
    let program = programs().join(name);
    // SAFETY: only asks who we are.
    if unsafe { libc::geteuid() } != 0 {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

fn run(command: &mut Command) {
    let out = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(out.status.success(), "{command:?}: {}{}", said(&out.stdout), said(&out.stderr));
}

impl Cluster {
    /// One for all tests of a program.
    pub fn shared() -> &'static Cluster {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Cluster::start(&[]))
    }

    /// With these lines in its configuration.
    pub fn start(lines: &[&str]) -> Cluster {
        let directory = tempfile::Builder::new().prefix("speedwell-pg").tempdir().unwrap().keep();
        // SAFETY: as above.
        if unsafe { libc::geteuid() } == 0 {
            run(Command::new("chown").arg("postgres").arg(&directory));
        }
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let data = directory.join("data");
        run(program("initdb")
            .args(["-A", "trust", "-U", "speedwell", "-E", "UTF8", "--locale=C", "-N", "-D"])
            .arg(&data));
        let mut new = Cluster { port: free_port(), directory, keeper: None };
        let conf = data.join("postgresql.conf");
        let mut text = fs::read_to_string(&conf).unwrap();
        text += &format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\nmax_connections = 200\n{}\n",
            new.port,
            new.directory.display(),
            lines.join("\n")
        );
        fs::write(conf, text).unwrap();
        let stop = format!(
            "read x; kill -INT $(head -n 1 '{0}/data/postmaster.pid') 2>/dev/null; sleep 1; rm -rf '{0}'",
            new.directory.display()
        );
        let keeper = Command::new("sh").args(["-c", &stop]).stdin(Stdio::piped()).spawn().unwrap();
        new.keeper = Some(keeper);
        new.up();
        new
    }

    pub fn up(&self) {
        let log = self.directory.join("log");
        run(program("pg_ctl").args(["start", "-w", "-t", "60", "-s", "-l"]).arg(log).arg("-D").arg(self.data()));
    }

    /// As after a power cut, when `cut`.
    pub fn down(&self, cut: bool) {
        let mode = if cut { "immediate" } else { "fast" };
        run(program("pg_ctl").args(["stop", "-w", "-s", "-m", mode, "-D"]).arg(self.data()));
    }

    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// A new database's address.
    pub fn database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("hub{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        format!("postgres://speedwell@127.0.0.1:{}/{name}", self.port)
    }

    /// What the server's own client says to it.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let database = database.rsplit('/').next().unwrap();
        let out = Command::new(programs().join("psql"))
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "speedwell"])
            .args(["-p", &self.port.to_string(), "-d", database, "-c", sql])
            .output()
            .unwrap();
        assert!(out.status.success(), "{sql}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().into()
    }

    /// Bytes of a database on disk.
    pub fn size(&self, database: &str) -> u64 {
        self.sql(database, "SELECT pg_database_size(current_database())").parse().unwrap()
    }

    pub fn path(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}
