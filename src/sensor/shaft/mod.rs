//! Chips that tell where a shaft is: magnetic encoders and counters, over embedded-hal's buses.
//!
//! A [`ShaftChip`] is asked for its count again and again; `board` puts a bracket of time round each question and makes a
//! [`Look`] of it, and `estimator::Shaft` makes speed of the looks. The chips here are generic in the bus, so that a mock
//! and a controller's own bus serve as well as Linux's.

mod as5048a;
mod as5600;
mod ls7366r;

pub use as5048a::As5048a;
pub use as5600::{AS5600_ADDRESS, As5600};
pub use ls7366r::Ls7366r;

use std::fmt;

use super::{Reading, Sensor};
use crate::clock::BootNs;

/// Which chip it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Chip {
    /// ams AS5600: an angle of 12 bits over I2C.
    As5600,
    /// ams AS5048A: an angle of 14 bits over SPI.
    As5048a,
    /// LSI/CSI LS7366R: a quadrature counter of 32 bits over SPI.
    Ls7366r,
}

impl Chip {
    /// As the configuration writes it.
    pub fn word(self) -> &'static str {
        match self {
            Chip::As5600 => "as5600",
            Chip::As5048a => "as5048a",
            Chip::Ls7366r => "ls7366r",
        }
    }

    /// Counts after which it begins again at 0.
    pub fn wrap(self) -> u64 {
        match self {
            Chip::As5600 => 1 << 12,
            Chip::As5048a => 1 << 14,
            Chip::Ls7366r => 1 << 32,
        }
    }

    /// Whether its count is the angle of the shaft, rather than a number of steps since it was switched on.
    pub fn is_absolute(self) -> bool {
        self != Chip::Ls7366r
    }
}

/// How well a chip sees what it measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// Well.
    #[default]
    Good,
    /// No magnet before it.
    NoMagnet,
    /// The magnet is too far away or too weak.
    TooWeak,
    /// The magnet is too near or too strong.
    TooStrong,
    /// The chip itself says that its angle is not valid, or has lost its settings with its supply.
    Invalid,
}

impl Health {
    /// Every one there is, for reading a recording.
    pub const ALL: [Health; 5] = [Health::Good, Health::NoMagnet, Health::TooWeak, Health::TooStrong, Health::Invalid];

    /// The word for it in a recording.
    pub fn name(self) -> &'static str {
        match self {
            Health::Good => "good",
            Health::NoMagnet => "no-magnet",
            Health::TooWeak => "too-weak",
            Health::TooStrong => "too-strong",
            Health::Invalid => "invalid",
        }
    }

    /// What is wrong and what to do; `None` when nothing is.
    pub fn remedy(self) -> Option<&'static str> {
        match self {
            Health::Good => None,
            Health::NoMagnet => Some("the encoder sees no magnet: is it still on the shaft, and in front of the chip?"),
            Health::TooWeak => {
                Some("the encoder's magnet is too weak: bring it nearer, 0.5 to 3 mm, or take a stronger one")
            }
            Health::TooStrong => Some("the encoder's magnet is too strong: move it away, up to 3 mm"),
            Health::Invalid => Some(
                "the chip says that what it measures is not valid: look at its supply, and whether the magnet is centred",
            ),
        }
    }
}

/// One look at a chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Before the bus was asked.
    pub from: BootNs,
    /// After it had answered; the count is of some time between.
    pub to: BootNs,
    /// The count; `None` where the answer was damaged.
    pub count: Option<u32>,
    /// How well the chip sees, where it was asked that too.
    pub health: Option<Health>,
}

/// Why a chip gave no count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChipError<E> {
    /// The bus failed.
    Bus(E),
    /// The answer came and is damaged or refused: wrong parity, the chip's error flag. The next one may be right.
    Damaged(&'static str),
    /// What answers is not this chip.
    OtherChip(&'static str),
}

impl<E: fmt::Debug> fmt::Display for ChipError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChipError::Bus(cause) => write!(f, "the bus failed: {cause:?}"),
            ChipError::Damaged(what) | ChipError::OtherChip(what) => f.write_str(what),
        }
    }
}

impl<E: fmt::Debug> std::error::Error for ChipError<E> {}

/// A chip that tells where a shaft is.
pub trait ShaftChip {
    /// What its bus fails with.
    type Bus;
    /// Sets the chip up and makes sure that it is the one it should be; called once, before anything else.
    fn set_up(&mut self) -> Result<(), ChipError<Self::Bus>>;
    /// Where the shaft is, in counts.
    fn count(&mut self) -> Result<u32, ChipError<Self::Bus>>;
    /// How well it sees.
    fn health(&mut self) -> Result<Health, ChipError<Self::Bus>>;
}

/// A sensor that is fed with looks at a chip.
pub trait LookSensor: Sensor {
    /// Takes a look; what it means is said at the next tick, a fault at once.
    fn on_look(&mut self, look: &Look, out: &mut Vec<Reading>);
}
