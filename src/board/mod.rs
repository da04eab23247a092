//! Opens what a board has: GPIO lines, CAN interfaces, serial ports; a simulated vehicle and recordings look the same.
//!
//! In      a [`Board`] of the catalog and what a sensor wants of it: [`EdgeWish`], an interface with filters, a port.
//! Out     an [`EdgePort`], a [`CanPort`] or a [`SerialPort`] that hands over edges, frames and bytes with the boot time
//!         they came at; or a [`BoardError`] that says what to do about it.
//! Keeps   open files, and of what was lost on the way only the count.
//! Imports `sensor`, `clock`.
//!
//! One foreign crate a door: [`gpio`] alone knows gpiocdev, [`polled`] and [`i2c_spi`] linux-embedded-hal, [`can`] socketcan, [`serial`]
//! tokio-serial. A port that fails is closed by its owner and opened again after a while; no door retries by itself.

mod interrupts;
mod ports;

pub mod can;
pub mod catalog;
pub mod drive;
pub mod gpio;
pub mod i2c_spi;
pub mod polled;
pub mod recorded;
pub mod serial;
pub mod simulated;

pub use can::{BusState, CanError, CanFilter, CanPort, ErrorFrame};
pub use catalog::{Board, BoardKind, BoardPin, Bus, Catalog, CatalogError, Chip, NoPin, Pin, PinAt};
pub use gpio::{Bias, ChipInfo, EdgeSelect, GpioCapture, GpioError, LineInfo, LineRequest, chips, raise_priority};
pub use i2c_spi::{MAX_LOOKS_HZ, ShaftError, ShaftPort, ShaftWish};
pub use polled::{PolledCapture, PolledError};
pub use ports::{BoardError, Doors, EdgePort, EdgeSource, EdgeWish};
pub use serial::{Chunk, LineSettings, Parity, SerialError, SerialPort};
pub use simulated::Vehicle;
