//! A pair of pseudo terminals as a serial adapter: a receiver speaks at the far end until it is unplugged.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use speedwell::board::simulated::rmc;

/// See the module.
pub struct Adapter {
    pub device: PathBuf,
    far: Arc<Far>,
    receiver: Option<JoinHandle<()>>,
}

/// What the receiver does.
struct Far {
    pulled: AtomicBool,
    /// Bits of the speed it tells, m/s; it is silent while that is no number.
    speed: AtomicU64,
}

impl Adapter {
    /// Plugs one in; it tells 12.5 m/s, 5 times a second.
    pub fn plug_in() -> Self {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let line = OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/ptmx").unwrap();
        let (mut unlock, mut number): (libc::c_int, libc::c_int) = (0, 0);
        // SAFETY: both calls are given an open pty master and a place of the size they read or write.
        let done = unsafe {
            [
                libc::ioctl(line.as_raw_fd(), libc::TIOCSPTLCK, &raw mut unlock),
                libc::ioctl(line.as_raw_fd(), libc::TIOCGPTN, &raw mut number),
            ]
        };
        assert_eq!(done, [0, 0], "{}", io::Error::last_os_error());
        let far = Arc::new(Far { pulled: AtomicBool::new(false), speed: AtomicU64::new(12.5f64.to_bits()) });
        let receiver = std::thread::spawn({
            let far = far.clone();
            move || far.speak(line)
        });
        Adapter { device: format!("/dev/pts/{number}").into(), far, receiver: Some(receiver) }
    }

    /// What it tells from now on, m/s; it falls silent where there is none.
    pub fn tell(&self, speed: Option<f64>) {
        self.far.speed.store(speed.unwrap_or(f64::NAN).to_bits(), Ordering::Relaxed);
    }

    /// Pulls it out: the line hangs up.
    pub fn pull(mut self) {
        self.far.pulled.store(true, Ordering::Relaxed);
        self.receiver.take().unwrap().join().unwrap();
    }
}

impl Far {
    fn speak(&self, mut line: File) {
        let mut heard = [0; 256];
        while !self.pulled.load(Ordering::Relaxed) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i128;
            let speed = f64::from_bits(self.speed.load(Ordering::Relaxed));
            if speed.is_finite() {
                // Nobody may listen yet: then the line is full, or echoes.
                let _ = line.write(rmc(now, 52.5, 13.25, speed, 90.0).as_bytes());
            }
            let _ = io::Read::read(&mut line, &mut heard);
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
