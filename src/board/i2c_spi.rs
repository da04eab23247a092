//! Encoders and counters on I2C and SPI: any embedded-hal bus, and on Linux linux-embedded-hal's. With `polled`, this file
//! alone knows that crate.
//!
//! A transfer blocks in the kernel and is interrupted by whatever the machine does meanwhile, so the boot time is read
//! before and after it: the count is of some time between ([`Look`]).

use std::{
    fmt::Debug,
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use linux_embedded_hal::{
    I2cdev, SpidevDevice,
    i2cdev::linux::LinuxI2CError,
    spidev::{SpiModeFlags, SpidevOptions},
};

use super::BoardError;
use crate::{
    clock::{BootNs, Clock, SystemClock},
    sensor::shaft::{As5048a, As5600, Chip, ChipError, Health, Look, Ls7366r, ShaftChip},
};

/// How often a chip is asked how well it sees.
const HEALTH_EVERY: Duration = Duration::from_millis(100);

/// Failures of the bus in a row after which it is closed and opened again; one alone is a disturbed line.
const MAX_FAILURES: u32 = 5;

/// Clock of SPI: the slower of the two chips takes 8 MHz, and long wires take less.
const SPI_HZ: u32 = 1_000_000;

/// Looks a second at most: a look over I2C at 100 kHz takes half a millisecond.
pub const MAX_LOOKS_HZ: f64 = 2000.0;

/// What an encoder is looked at for and how.
#[derive(Clone, Debug, PartialEq)]
pub struct ShaftWish {
    /// Which chip.
    pub chip: Chip,
    /// The bus's device: `/dev/i2c-1`, `/dev/spidev0.0`.
    pub device: PathBuf,
    /// Address on an I2C bus, 7 bits.
    pub address: u8,
    /// Time between two looks.
    pub every: Duration,
    /// Counts a metre of way, which the shaft of a simulated board turns its way into.
    pub counts_per_metre: f64,
}

/// Why an encoder cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ShaftError {
    /// The bus's device could not be opened.
    #[error("{}: {cause}; {remedy}", device.display())]
    Open {
        /// Which.
        device: PathBuf,
        /// What the kernel said.
        cause: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// No chip answers, or another than was named.
    #[error("no {chip} at {at}: {cause}; {remedy}")]
    Absent {
        /// Which chip was looked for.
        chip: &'static str,
        /// Device, and address on an I2C bus.
        at: String,
        /// What the bus said.
        cause: String,
        /// What to do.
        remedy: &'static str,
    },
    /// It answered once and does no more.
    #[error("the {chip} at {at} does not answer any more: {cause}; check its wires and supply")]
    Failed {
        /// Which chip.
        chip: &'static str,
        /// Device, and address on an I2C bus.
        at: String,
        /// What the bus said.
        cause: String,
    },
}

impl ShaftError {
    /// Whether the user lacks a right.
    pub fn is_permission(&self) -> bool {
        matches!(self, ShaftError::Open { cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// An encoder that is looked at.
pub trait ShaftPort: Send {
    /// Waits for the next look, `timeout` at most, and takes it; `None` when it was not due yet.
    fn next(&mut self, timeout: Duration) -> Result<Option<Look>, BoardError>;
}

/// Looks at a chip at even times.
#[derive(Debug)]
pub struct Watched<C> {
    chip: C,
    name: &'static str,
    at: String,
    pace: Pace,
    health_due: Option<BootNs>,
    failures: u32,
}

impl<C: ShaftChip> Watched<C>
where
    C::Bus: Debug,
{
    /// Sets `chip` up, which messages call `name` and have `at` this place, and looks `every` so often from now on.
    pub fn new(mut chip: C, name: &'static str, at: &str, every: Duration) -> Result<Self, ShaftError> {
        match chip.set_up() {
            Ok(()) | Err(ChipError::Damaged(_)) => {}
            Err(cause) => {
                let remedy = "check its wires, its supply and the address (`i2cdetect -y` lists those that answer)";
                return Err(ShaftError::Absent { chip: name, at: at.into(), cause: cause.to_string(), remedy });
            }
        }
        Ok(Self { chip, name, at: at.into(), pace: Pace::new(every), health_due: None, failures: 0 })
    }

    /// Looks now, by `clock`.
    pub fn look(&mut self, clock: &dyn Clock) -> Result<Look, ShaftError> {
        let from = clock.now();
        let count = self.chip.count();
        let to = clock.now();
        let count = self.judge(count)?;
        let health = if self.health_due.is_none_or(|due| to >= due) {
            self.health_due = Some(to + HEALTH_EVERY);
            let health = self.chip.health();
            self.judge(health)?
        } else {
            None
        };
        // One whose supply failed counts nothing until it is set up again, which opening it does.
        if health == Some(Health::Invalid) && self.name == Chip::Ls7366r.word() {
            return Err(self.failed("it lost its settings with its supply".into()));
        }
        Ok(Look { from, to, count, health })
    }

    /// A bus that fails again and again is given up.
    fn judge<T>(&mut self, answer: Result<T, ChipError<C::Bus>>) -> Result<Option<T>, ShaftError> {
        match answer {
            Ok(answer) => {
                self.failures = 0;
                Ok(Some(answer))
            }
            Err(ChipError::Damaged(_)) => Ok(None),
            Err(cause) => {
                self.failures += 1;
                if self.failures < MAX_FAILURES { Ok(None) } else { Err(self.failed(cause.to_string())) }
            }
        }
    }

    fn failed(&self, cause: String) -> ShaftError {
        ShaftError::Failed { chip: self.name, at: self.at.clone(), cause }
    }
}

impl<C: ShaftChip + Send> ShaftPort for Watched<C>
where
    C::Bus: Debug,
{
    fn next(&mut self, timeout: Duration) -> Result<Option<Look>, BoardError> {
        if self.pace.wait(timeout) { Ok(Some(self.look(&SystemClock)?)) } else { Ok(None) }
    }
}

/// Even times: after an oversleep they start anew instead of being hurried after.
#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    next: Instant,
}

impl Pace {
    pub(super) fn new(every: Duration) -> Self {
        Self { every: every.max(Duration::from_secs_f64(1.0 / MAX_LOOKS_HZ)), next: Instant::now() }
    }

    /// Sleeps until the next time or for `timeout`, whichever is shorter; whether the time has come.
    pub(super) fn wait(&mut self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        thread::sleep(self.next.min(until).saturating_duration_since(Instant::now()));
        let now = Instant::now();
        if now < self.next {
            return false;
        }
        self.next += self.every;
        if self.next < now {
            self.next = now + self.every;
        }
        true
    }
}

/// Opens a chip on one of Linux's buses.
pub(super) fn open(wish: &ShaftWish) -> Result<Box<dyn ShaftPort>, BoardError> {
    let name = wish.chip.word();
    Ok(match wish.chip {
        Chip::As5600 => {
            let bus = I2cdev::new(&wish.device).map_err(|cause| refused_i2c(&wish.device, cause))?;
            let at = format!("address {:#04x} of {}", wish.address, wish.device.display());
            Box::new(Watched::new(As5600::new(bus, wish.address), name, &at, wish.every)?)
        }
        Chip::As5048a => {
            let chip = As5048a::new(spi(&wish.device, SpiModeFlags::SPI_MODE_1)?);
            Box::new(Watched::new(chip, name, &wish.device.display().to_string(), wish.every)?)
        }
        Chip::Ls7366r => {
            let chip = Ls7366r::new(spi(&wish.device, SpiModeFlags::SPI_MODE_0)?);
            Box::new(Watched::new(chip, name, &wish.device.display().to_string(), wish.every)?)
        }
    })
}

fn spi(device: &Path, mode: SpiModeFlags) -> Result<SpidevDevice, ShaftError> {
    let settings = SpidevOptions::new().bits_per_word(8).max_speed_hz(SPI_HZ).mode(mode).build();
    let failed = |cause| refused(device, cause, "enable SPI on the board, as `speedwell boards` says");
    let mut bus = SpidevDevice::open(device).map_err(|error| failed(io::Error::other(error.to_string())))?;
    bus.configure(&settings).map_err(failed)?;
    Ok(bus)
}

fn refused_i2c(device: &Path, cause: LinuxI2CError) -> ShaftError {
    let cause = match cause {
        LinuxI2CError::Errno(code) => io::Error::from_raw_os_error(code),
        LinuxI2CError::Io(cause) => cause,
    };
    refused(device, cause, "enable I2C on the board, as `speedwell boards` says")
}

fn refused(device: &Path, cause: io::Error, absent: &'static str) -> ShaftError {
    let remedy = match cause.kind() {
        io::ErrorKind::PermissionDenied => "add the user to the group i2c or spi, then log in again",
        _ => absent,
    };
    ShaftError::Open { device: device.into(), cause, remedy }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use embedded_hal::i2c::{ErrorKind, NoAcknowledgeSource};
    use embedded_hal_mock::eh1::i2c::{Mock, Transaction};

    use super::*;

    const NOBODY: ErrorKind = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address);

    /// Each read takes it 1 ms further.
    struct Ticking(AtomicU64);

    impl Clock for Ticking {
        fn now(&self) -> BootNs {
            BootNs(self.0.fetch_add(1_000_000, Ordering::Relaxed))
        }
    }

    fn angle() -> Transaction {
        Transaction::write_read(0x36, vec![0x0C], vec![0x01, 0x00])
    }

    fn status(value: u8) -> Transaction {
        Transaction::write_read(0x36, vec![0x0B], vec![value])
    }

    fn watched(bus: &Mock) -> Result<Watched<As5600<Mock>>, ShaftError> {
        Watched::new(As5600::new(bus.clone(), 0x36), "as5600", "address 0x36 of /dev/i2c-1", Duration::from_millis(10))
    }

    #[test]
    fn a_look_has_the_time_before_and_after_and_health_every_tenth_of_a_second() {
        let mut reads = vec![status(0x20), angle(), status(0x20)];
        reads.extend((0..49).map(|_| angle()));
        reads.extend([angle(), status(0x00)]);
        let mut bus = Mock::new(&reads);
        let mut port = watched(&bus).expect("it answers");
        let clock = Ticking(AtomicU64::new(0));
        let first = port.look(&clock).expect("a look");
        assert_eq!(
            first,
            Look { from: BootNs(0), to: BootNs(1_000_000), count: Some(256), health: Some(Health::Good) }
        );
        let later: Vec<_> = (0..50).map(|_| port.look(&clock).expect("a look").health).collect();
        assert!(later[..49].iter().all(Option::is_none));
        assert_eq!(later[49], Some(Health::NoMagnet));
        bus.done();
    }

    #[test]
    fn an_address_where_nobody_is_says_what_to_do() {
        let mut bus = Mock::new(&[status(0).with_error(NOBODY)]);
        let text = watched(&bus).expect_err("nobody").to_string();
        let wanted = "no as5600 at address 0x36 of /dev/i2c-1: the bus failed: NoAcknowledge(Address); check its wires, \
                      its supply and the address (`i2cdetect -y` lists those that answer)";
        assert_eq!(text, wanted);
        bus.done();
    }

    #[test]
    fn one_disturbed_answer_is_a_look_without_a_count_and_five_close_the_bus() {
        let bad = || angle().with_error(ErrorKind::Bus);
        let mut bus = Mock::new(&[status(0x20), bad(), status(0x20), bad(), bad(), bad(), bad(), bad()]);
        let mut port = watched(&bus).expect("it answers");
        let clock = Ticking(AtomicU64::new(0));
        assert_eq!(port.look(&clock).expect("a look").count, None);
        for _ in 0..4 {
            assert_eq!(port.look(&clock).expect("a look").count, None);
        }
        let text = port.look(&clock).expect_err("given up").to_string();
        assert!(text.contains("does not answer any more") && text.contains("check its wires"), "{text}");
        bus.done();
    }
}
