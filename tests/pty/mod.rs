//! A pair of pseudo terminals as a serial adapter, with a device at its far end until it is pulled out.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use speedwell::board::simulated::rmc;

pub mod devices;

/// How often the device is asked what it says.
const TURN: Duration = Duration::from_millis(5);

pub struct Adapter {
    /// The near end, as a program opens it.
    pub device: PathBuf,
    pulled: Arc<AtomicBool>,
    far: Option<JoinHandle<()>>,
}

impl Adapter {
    /// Plugs one in. `device` is asked again and again: it gets what it heard since, and gives what it says.
    pub fn plug_in(device: impl FnMut(&[u8]) -> Vec<u8> + Send + 'static) -> Self {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let far = OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/ptmx").unwrap();
        let (mut unlock, mut number): (libc::c_int, libc::c_int) = (0, 0);
        // SAFETY: both calls are given an open pty master and a place of the size they read or write.
        let done = unsafe {
            [
                libc::ioctl(far.as_raw_fd(), libc::TIOCSPTLCK, &raw mut unlock),
                libc::ioctl(far.as_raw_fd(), libc::TIOCGPTN, &raw mut number),
            ]
        };
        assert_eq!(done, [0, 0], "{}", io::Error::last_os_error());
        let pulled = Arc::new(AtomicBool::new(false));
        let far = std::thread::spawn({
            let pulled = pulled.clone();
            move || run(far, device, &pulled)
        });
        Adapter { device: format!("/dev/pts/{number}").into(), pulled, far: Some(far) }
    }

    /// Pulls it out: the line hangs up.
    pub fn pull(mut self) {
        self.pulled.store(true, Ordering::Relaxed);
        self.far.take().unwrap().join().unwrap();
    }
}

fn run(mut far: File, mut device: impl FnMut(&[u8]) -> Vec<u8>, pulled: &AtomicBool) {
    let mut heard = [0; 256];
    while !pulled.load(Ordering::Relaxed) {
        let len = far.read(&mut heard).unwrap_or(0);
        // Nobody may listen yet: then the line is full, or echoes.
        let _ = far.write(&device(&heard[..len]));
        std::thread::sleep(TURN);
    }
}

/// Something that is said so often, whatever is heard.
pub fn every(period: Duration, mut say: impl FnMut() -> Vec<u8>) -> impl FnMut(&[u8]) -> Vec<u8> {
    let mut next = Instant::now();
    move |_| {
        if Instant::now() < next {
            return Vec::new();
        }
        next = Instant::now() + period;
        say()
    }
}

/// A receiver of NMEA sentences at 5 Hz and 12.5 m/s.
pub fn receiver() -> impl FnMut(&[u8]) -> Vec<u8> {
    every(Duration::from_millis(200), || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i128;
        rmc(now, 52.5, 13.25, 12.5, 90.0).into_bytes()
    })
}
