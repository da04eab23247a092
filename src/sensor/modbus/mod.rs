//! Registers of devices on a Modbus RTU line.
//!
//! ```text
//! question   slave 03|04 register(2) count(2) crc(2)     03 holding, 04 input registers; numbers high byte first
//! answer     slave 03|04 bytes data crc(2)               crc low byte first
//! refusal    slave 83|84 code crc(2)
//! ```
//! One [`Line`] owns a port and asks all its slaves in turn. One that does not answer costs the others its time once, and
//! then less and less often: it is asked again after twice as long each time, half a minute at most. An answer names its
//! device and not the register: a device whose time is up is left alone for a while, and an answer that comes then is late
//! and no value. What an RS-485 adapter echoes of a question is passed over. A register is counted from 0, as on the line:
//! what manuals call 40001 is holding register 0.

mod frame;
mod line;
mod slave;

pub use line::{Alone, Line};
pub use slave::{Format, Options, Order, Slave, Table};

#[cfg(test)]
mod tests;
