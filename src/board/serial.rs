//! Bytes of a serial port with the time of the first one. This file alone knows tokio-serial.
//!
//! A read hands over what has come in since the last one. Its first byte began on the line the bits of each byte before the
//! last one ended (start, seven or eight data bits, parity, one or two stop bits: ten as a rule), which is as well as user
//! space can tell: `t_first = t_read - bits·n/baud`.

use std::{
    fs, io,
    os::fd::{AsRawFd, RawFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_serial::{ErrorKind, SerialPortBuilderExt, SerialStream};

use super::{Vehicle, simulated::SimulatedGnss};
use crate::clock::{BootNs, Clock, SystemClock};

/// Slowest and fastest line: from an old modem's to what a UART of a small board does.
pub const BAUD_RANGE: std::ops::RangeInclusive<u32> = 300..=4_000_000;

/// Longest wait for the kernel to take what is sent: a request of some bytes at 300 baud takes less.
pub const SEND_WITHIN: Duration = Duration::from_secs(1);

/// Where ports have names that stay when adapters are plugged elsewhere.
const BY_ID: &str = "/dev/serial/by-id";

/// Why a port cannot be had or stopped working.
#[derive(Debug, thiserror::Error)]
pub enum SerialError {
    /// There is no such device.
    #[error("there is no serial port {}; {}", path.display(), those(present))]
    NoPort {
        /// The device looked for.
        path: PathBuf,
        /// Ports with a stable name that are there.
        present: Vec<String>,
    },
    /// The user may not open it.
    #[error(
        "no permission to open {}: add the user to group dialout (`usermod -aG dialout USER`), then log in again",
        path.display()
    )]
    PermissionDenied {
        /// The device.
        path: PathBuf,
    },
    /// Another program has it open for itself.
    #[error("{} is in use by another program (a login console? `systemctl disable --now serial-getty@{}`)", path.display(), short(path))]
    Busy {
        /// The device.
        path: PathBuf,
    },
    /// The speed is beyond what any port does.
    #[error("{baud} baud for {}: from {} to {} are possible", path.display(), BAUD_RANGE.start(), BAUD_RANGE.end())]
    Baud {
        /// The device.
        path: PathBuf,
        /// The speed wanted.
        baud: u32,
    },
    /// The driver cannot switch an RS-485 transceiver.
    #[error(
        "{} has no RS-485 mode: leave `rs485` out where the adapter switches by itself, as most USB ones do",
        path.display()
    )]
    NoRs485 {
        /// The device.
        path: PathBuf,
    },
    /// The line hung up: adapter unplugged. Opening again finds it when it is back.
    #[error("serial port {} hung up: adapter unplugged?", path.display())]
    HungUp {
        /// The device.
        path: PathBuf,
    },
    /// Anything else the kernel said.
    #[error("serial port {}: {doing}: {cause}", path.display())]
    Io {
        /// The device.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        cause: String,
    },
}

fn those(present: &[String]) -> String {
    match present {
        [] => "no USB serial adapter is plugged in".into(),
        names => format!("there is {}", names.join(", ")),
    }
}

fn short(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// How a line is set: its speed and what surrounds the bits of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineSettings {
    /// Bits a second.
    pub baud: u32,
    /// Seven data bits in a byte instead of eight.
    pub seven_data_bits: bool,
    /// The bit that tells a wrong one.
    pub parity: Parity,
    /// Two stop bits instead of one.
    pub two_stop_bits: bool,
    /// Have the driver switch an RS-485 transceiver to sending and back (RTS).
    pub rs485: bool,
}

/// The bit that tells a wrong one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parity {
    /// There is none.
    #[default]
    None,
    /// It makes the number of ones even.
    Even,
    /// It makes it odd.
    Odd,
}

impl LineSettings {
    /// Bits of a byte on the line: start, data, parity, stop.
    pub fn bits_a_byte(&self) -> u8 {
        let data = if self.seven_data_bits { 7 } else { 8 };
        let parity = if self.parity == Parity::None { 0 } else { 1 };
        1 + data + parity + if self.two_stop_bits { 2 } else { 1 }
    }

    /// How long the line takes for so many bytes: `bits·n/baud`.
    pub fn line_time(&self, bytes: usize) -> Duration {
        let bits = u64::from(self.bits_a_byte()).saturating_mul(bytes as u64);
        Duration::from_nanos(bits.saturating_mul(1_000_000_000) / u64::from(self.baud.max(1)))
    }

    /// Eight bits, no parity, one stop bit: what receivers and most devices speak.
    pub fn at(baud: u32) -> Self {
        Self { baud, seven_data_bits: false, parity: Parity::None, two_stop_bits: false, rs485: false }
    }
}

/// `struct serial_rs485` of linux/serial.h.
#[repr(C)]
#[derive(Default)]
struct KernelRs485 {
    flags: u32,
    delay_before_ms: u32,
    delay_after_ms: u32,
    padding: [u32; 5],
}

/// SER_RS485_ENABLED and SER_RS485_RTS_ON_SEND of linux/serial.h.
const RS485_ENABLED: u32 = 1;
const RS485_RTS_ON_SEND: u32 = 2;
/// TIOCSRS485 of asm-generic/ioctls.h.
const TIOCSRS485: libc::Ioctl = 0x542F;

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// When the first byte came.
    pub t: BootNs,
    /// How many bytes.
    pub len: usize,
}

/// Bytes of a serial port.
#[derive(Debug)]
pub enum SerialPort {
    /// Of the kernel.
    Real(RealSerial),
    /// Of the simulated vehicle's GNSS receiver.
    Simulated(SimulatedSerial),
}

impl SerialPort {
    /// Opens a port for this program alone. Within a tokio runtime.
    pub fn open(path: &Path, settings: &LineSettings) -> Result<Self, SerialError> {
        RealSerial::open(path, settings).map(SerialPort::Real)
    }

    /// Opens the receiver of a simulated vehicle.
    pub fn simulated(vehicle: Arc<Vehicle>) -> Self {
        SerialPort::Simulated(SimulatedSerial { gnss: SimulatedGnss::new(vehicle), rest: Vec::new(), t: BootNs(0) })
    }

    /// Waits for bytes and puts them at the start of `buffer`. Dropping the wait loses nothing. An empty `buffer` brings
    /// nothing.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<Chunk, SerialError> {
        match self {
            SerialPort::Real(port) => port.read(buffer).await,
            SerialPort::Simulated(port) => Ok(port.read(buffer).await),
        }
    }

    /// Sends bytes; ends when the kernel has them all, after [`SEND_WITHIN`] at the latest.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), SerialError> {
        match self {
            SerialPort::Real(port) => port.write(bytes).await,
            // The simulated receiver listens to nobody.
            SerialPort::Simulated(_) => Ok(()),
        }
    }
}

/// A port of the kernel.
#[derive(Debug)]
pub struct RealSerial {
    stream: SerialStream,
    path: PathBuf,
    settings: LineSettings,
    /// When the last byte that was read had come, on a line of this speed.
    line_free: BootNs,
}

impl RealSerial {
    fn open(path: &Path, settings: &LineSettings) -> Result<Self, SerialError> {
        let baud = settings.baud;
        if !BAUD_RANGE.contains(&baud) {
            return Err(SerialError::Baud { path: path.into(), baud });
        }
        if let Err(cause) = fs::metadata(path) {
            return Err(told(path, "opening", &cause));
        }
        let parity = match settings.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
        };
        let stop = if settings.two_stop_bits { tokio_serial::StopBits::Two } else { tokio_serial::StopBits::One };
        let data = if settings.seven_data_bits { tokio_serial::DataBits::Seven } else { tokio_serial::DataBits::Eight };
        let port = tokio_serial::new(path.to_string_lossy(), baud).data_bits(data).parity(parity).stop_bits(stop);
        let stream = port.open_native_async().map_err(|error| {
            let kind = match error.kind {
                ErrorKind::Io(kind) => kind,
                ErrorKind::NoDevice => io::ErrorKind::ResourceBusy,
                _ => io::ErrorKind::Other,
            };
            told(path, "opening", &io::Error::new(kind, error.description))
        })?;
        if settings.rs485 {
            switch_rs485(stream.as_raw_fd()).map_err(|_| SerialError::NoRs485 { path: path.into() })?;
        }
        Ok(Self { stream, path: path.into(), settings: *settings, line_free: BootNs(0) })
    }

    async fn read(&mut self, buffer: &mut [u8]) -> Result<Chunk, SerialError> {
        if buffer.is_empty() {
            return Ok(Chunk { t: SystemClock.now(), len: 0 });
        }
        match self.stream.read(buffer).await {
            // A line that hung up answers every read at once with nothing: to go on would burn a core.
            Ok(0) => Err(SerialError::HungUp { path: self.path.clone() }),
            Ok(len) => Ok(Chunk { t: self.stamp(SystemClock.now(), len), len }),
            Err(cause) => Err(told(&self.path, "reading", &cause)),
        }
    }

    /// When the first of so many bytes came. A line carries one byte after the other: what is read right after something
    /// else, because the kernel was held up, came behind that, and not at the same time.
    fn stamp(&mut self, read: BootNs, len: usize) -> BootNs {
        let t = first_byte(read, self.settings.line_time(len)).max(self.line_free.min(read));
        self.line_free = t + self.settings.line_time(len);
        t
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), SerialError> {
        let sent = tokio::time::timeout(SEND_WITHIN, self.stream.write_all(bytes)).await;
        sent.unwrap_or_else(|_elapsed| Err(told_of_timeout())).map_err(|cause| told(&self.path, "sending", &cause))
    }
}

/// Has the driver raise RTS while it sends.
fn switch_rs485(fd: RawFd) -> io::Result<()> {
    let wanted = KernelRs485 { flags: RS485_ENABLED | RS485_RTS_ON_SEND, ..KernelRs485::default() };
    // SAFETY: the kernel reads one such struct, which lives over the call.
    match unsafe { libc::ioctl(fd, TIOCSRS485, &raw const wanted) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn told_of_timeout() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the line takes nothing for {} ms", SEND_WITHIN.as_millis()))
}

/// When what took so long on the line and was read then began.
fn first_byte(read: BootNs, on_the_line: Duration) -> BootNs {
    BootNs(read.0.saturating_sub(u64::try_from(on_the_line.as_nanos()).unwrap_or(u64::MAX)))
}

fn told(path: &Path, doing: &'static str, cause: &io::Error) -> SerialError {
    let path = path.to_owned();
    match cause.raw_os_error() {
        // What a pty and an unplugged adapter answer.
        Some(libc::EIO | libc::ENODEV | libc::ENXIO) => return SerialError::HungUp { path },
        Some(libc::EBUSY) => return SerialError::Busy { path },
        _ => {}
    }
    match cause.kind() {
        io::ErrorKind::NotFound => SerialError::NoPort { path, present: by_id() },
        io::ErrorKind::PermissionDenied => SerialError::PermissionDenied { path },
        io::ErrorKind::ResourceBusy => SerialError::Busy { path },
        _ => SerialError::Io { path, doing, cause: cause.to_string() },
    }
}

/// Ports with a stable name: better named in a configuration than `/dev/ttyUSB0`, which changes with the socket.
pub fn by_id() -> Vec<String> {
    let Ok(entries) = fs::read_dir(BY_ID) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.path().to_string_lossy().into_owned())).collect();
    names.sort();
    names
}

/// The simulated receiver as a port.
#[derive(Debug)]
pub struct SimulatedSerial {
    gnss: SimulatedGnss,
    /// What of a sentence the reader's buffer had no room for, and when it came.
    rest: Vec<u8>,
    t: BootNs,
}

impl SimulatedSerial {
    async fn read(&mut self, buffer: &mut [u8]) -> Chunk {
        if self.rest.is_empty() {
            tokio::time::sleep(self.gnss.due().since(SystemClock.now()).min(Duration::from_secs(1))).await;
            let (t, sentence) = self.gnss.sentence();
            (self.t, self.rest) = (t, sentence.into_bytes());
        }
        let len = self.rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&self.rest[..len]);
        self.rest.drain(..len);
        Chunk { t: self.t, len }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio_serial::SerialPort as _;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn the_first_byte_came_its_bits_before_the_read() {
        let line = LineSettings::at(9600);
        assert_eq!(first_byte(BootNs(1_000_000_000), line.line_time(96)), BootNs(900_000_000));
        assert_eq!(first_byte(BootNs(5), line.line_time(96)), BootNs(0));
        assert_eq!(line.line_time(usize::MAX) + line.line_time(0), line.line_time(usize::MAX), "no overflow");
    }

    #[test]
    fn a_byte_takes_the_bits_it_has() {
        let bits = |seven_data_bits, parity, two_stop_bits| {
            LineSettings { seven_data_bits, parity, two_stop_bits, ..LineSettings::at(1200) }.bits_a_byte()
        };
        assert_eq!(bits(false, Parity::None, false), 10, "8N1");
        assert_eq!(bits(false, Parity::Even, false), 11, "8E1");
        assert_eq!(bits(false, Parity::None, true), 11, "8N2");
        assert_eq!(bits(true, Parity::Odd, false), 10, "7O1");
        assert_eq!(bits(true, Parity::None, false), 9, "7N1");
        assert_eq!(bits(false, Parity::Even, true), 12, "8E2");
        let slow = LineSettings { parity: Parity::Even, ..LineSettings::at(1200) };
        assert_eq!(slow.line_time(12), Duration::from_millis(110));
    }

    #[test]
    fn what_is_read_at_once_behind_something_else_came_behind_it_and_never_after_it_was_read() {
        runtime().block_on(async {
            let (_far, near) = SerialStream::pair().unwrap();
            let mut port =
                RealSerial { stream: near, path: "pty".into(), settings: LineSettings::at(9600), line_free: BootNs(0) };
            let read = |ms: u64| BootNs(ms * 1_000_000);
            assert_eq!(port.stamp(read(1000), 96), read(900));
            assert_eq!(port.stamp(read(1001), 96), read(1000), "the line was busy until then");
            assert_eq!(port.stamp(read(1002), 96), read(1002), "it was read by then");
            assert_eq!(port.stamp(read(2000), 96), read(1900), "and has long been free again");
        });
    }

    #[test]
    fn bytes_come_through_a_pair_and_the_hang_up_is_an_error() {
        runtime().block_on(async {
            let (mut far, near) = SerialStream::pair().unwrap();
            let settings = LineSettings::at(115_200);
            let mut port =
                SerialPort::Real(RealSerial { stream: near, path: "pty".into(), settings, line_free: BootNs(0) });
            let before = SystemClock.now();
            far.write_all(b"$GPRMC").await.unwrap();
            let mut buffer = [0; 64];
            let chunk = port.read(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..chunk.len], b"$GPRMC");
            assert!(chunk.t.0 + 1_000_000 > before.0, "stamped {:?} before it was sent", before.since(chunk.t));
            drop(far);
            let error = port.read(&mut buffer).await.unwrap_err();
            assert_eq!(error.to_string(), "serial port pty hung up: adapter unplugged?");
        });
    }

    #[test]
    fn a_port_that_is_not_there_says_which_are() {
        runtime().block_on(async {
            let error = SerialPort::open(Path::new("/dev/ttyNONE9"), &LineSettings::at(9600)).unwrap_err().to_string();
            assert!(error.starts_with("there is no serial port /dev/ttyNONE9; "), "{error}");
        });
    }

    #[test]
    fn the_kernel_is_given_the_speed_that_is_asked_for_slow_ones_and_odd_ones_too() {
        runtime().block_on(async {
            // SAFETY: the calls take a flag and an open descriptor, and write a name into a buffer of the length told.
            let (far, name) = unsafe {
                let far = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY);
                let mut name = [0; 64];
                let done = [libc::unlockpt(far), libc::ptsname_r(far, name.as_mut_ptr(), name.len())];
                assert_eq!((far >= 0, done), (true, [0, 0]), "{}", io::Error::last_os_error());
                (far, std::ffi::CStr::from_ptr(name.as_ptr()).to_str().unwrap().to_owned())
            };
            for baud in [300, 600, 1200, 2400, 76_800, 250_000, 4_000_000] {
                let settings = LineSettings { parity: Parity::Even, two_stop_bits: true, ..LineSettings::at(baud) };
                let port = SerialPort::open(Path::new(&name), &settings).unwrap();
                let SerialPort::Real(port) = port else { panic!("it is no simulated one") };
                assert_eq!(port.stream.baud_rate().unwrap(), baud);
                assert_eq!(port.stream.stop_bits().unwrap(), tokio_serial::StopBits::Two, "{baud}");
            }
            // SAFETY: it was opened above and is used no more.
            unsafe { libc::close(far) };
        });
    }

    #[test]
    fn a_speed_no_port_does_is_refused() {
        let error = SerialPort::open(Path::new("/dev/ttyS0"), &LineSettings::at(200)).unwrap_err().to_string();
        assert_eq!(error, "200 baud for /dev/ttyS0: from 300 to 4000000 are possible");
    }

    #[test]
    fn a_denied_port_names_the_group() {
        let denied = io::Error::from_raw_os_error(libc::EACCES);
        let text = told(Path::new("/dev/ttyAMA0"), "opening", &denied).to_string();
        assert!(text.contains("group dialout") && text.contains("/dev/ttyAMA0"), "{text}");
    }

    #[test]
    fn the_simulated_receiver_hands_a_sentence_over_in_any_pieces() {
        runtime().block_on(async {
            let vehicle = Vehicle::new(1, Default::default());
            let mut port = SerialPort::simulated(vehicle);
            let (mut text, mut small) = (Vec::new(), [0; 7]);
            while !text.ends_with(b"\n") {
                let chunk = port.read(&mut small).await.unwrap();
                text.extend_from_slice(&small[..chunk.len]);
            }
            assert!(text.starts_with(b"$GPRMC,"), "{}", String::from_utf8_lossy(&text));
        });
    }
}
