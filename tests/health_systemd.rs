//! What the service manager hears, over a real notification socket. The speaking half runs in a child process, because
//! the socket is named by the environment.

use std::{
    os::unix::net::UnixDatagram,
    process::Command,
    time::{Duration, Instant},
};

use speedwell::health::{Systemd, Vitals};

const S: Duration = Duration::from_secs(1);

/// The child: only speaks when it is told to by the environment.
#[test]
fn speaks_when_told_to() {
    if std::env::var_os("SPEEDWELL_TEST_SPEAK").is_none() {
        return;
    }
    let systemd = Systemd::from_env();
    assert_eq!(systemd.period(), Some(10 * S));
    let start = Instant::now();
    let mut vitals = Vitals::default();
    let recorder = vitals.watch("recorder", 5 * S, start);
    systemd.ready();
    systemd.status("3 sensors, connected");
    assert!(systemd.feed(&mut vitals, start + S));
    assert!(!systemd.feed(&mut vitals, start + 6 * S), "a loop that hangs must starve the watchdog");
    recorder.bump();
    assert!(systemd.feed(&mut vitals, start + 7 * S));
    systemd.stopping();
}

#[test]
fn the_service_manager_hears_readiness_status_and_the_watchdog_only_while_every_loop_is_alive() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "speaks_when_told_to"])
        .env("SPEEDWELL_TEST_SPEAK", "1")
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "30000000")
        .env_remove("WATCHDOG_PID")
        .status()
        .unwrap();
    assert!(status.success());
    let mut heard = Vec::new();
    let mut buffer = [0; 256];
    while let Ok(n) = socket.recv(&mut buffer) {
        heard.push(String::from_utf8_lossy(&buffer[..n]).trim().to_owned());
    }
    assert_eq!(heard, ["READY=1", "STATUS=3 sensors, connected", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]);
}

#[test]
fn without_a_service_manager_nothing_is_said_and_nothing_fails() {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        return;
    }
    let systemd = Systemd::from_env();
    assert_eq!(systemd.period(), None);
    systemd.ready();
    assert!(systemd.feed(&mut Vitals::default(), Instant::now()));
}
