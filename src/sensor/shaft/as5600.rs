//! ams AS5600, a magnetic encoder on I2C (datasheet v1-06).
//!
//! ```text
//! 0B     STATUS      bit 5 MD magnet seen, bit 4 ML too weak, bit 3 MH too strong
//! 0C 0D  RAW ANGLE   bits 11..0, high byte first: 4096 a turn, not scaled by what ZPOS and MPOS were set to
//! ```

use embedded_hal::i2c::I2c;

use super::{ChipError, Health, ShaftChip};

const STATUS: u8 = 0x0B;
const RAW_ANGLE: u8 = 0x0C;
const MAGNET_SEEN: u8 = 1 << 5;
const TOO_WEAK: u8 = 1 << 4;
const TOO_STRONG: u8 = 1 << 3;

/// An AS5600 on a bus.
#[derive(Debug)]
pub struct As5600<I> {
    bus: I,
    address: u8,
}

/// The address every AS5600 has (an AS5600L has 40 and can be given another).
pub const AS5600_ADDRESS: u8 = 0x36;

impl<I> As5600<I> {
    /// The one at `address` of `bus`, in 7 bits: [`AS5600_ADDRESS`] unless it was given another.
    pub fn new(bus: I, address: u8) -> Self {
        Self { bus, address }
    }
}

impl<I: I2c> ShaftChip for As5600<I> {
    type Bus = I::Error;

    /// It needs no setting up; asking it once shows whether it is there.
    fn set_up(&mut self) -> Result<(), ChipError<I::Error>> {
        self.health().map(drop)
    }

    fn count(&mut self) -> Result<u32, ChipError<I::Error>> {
        let mut angle = [0; 2];
        self.bus.write_read(self.address, &[RAW_ANGLE], &mut angle).map_err(ChipError::Bus)?;
        let raw = u16::from_be_bytes(angle);
        // The four high bits read as zero: a line that is held high gives FFFF.
        if raw > 0x0FFF { Err(ChipError::Damaged("an angle of more than 12 bits")) } else { Ok(raw.into()) }
    }

    fn health(&mut self) -> Result<Health, ChipError<I::Error>> {
        let mut status = [0];
        self.bus.write_read(self.address, &[STATUS], &mut status).map_err(ChipError::Bus)?;
        let [status] = status;
        Ok(match status {
            s if s & MAGNET_SEEN == 0 => Health::NoMagnet,
            s if s & TOO_WEAK != 0 => Health::TooWeak,
            s if s & TOO_STRONG != 0 => Health::TooStrong,
            _ => Health::Good,
        })
    }
}

#[cfg(test)]
mod tests {
    use embedded_hal::i2c::{ErrorKind, NoAcknowledgeSource};
    use embedded_hal_mock::eh1::i2c::{Mock, Transaction};

    use super::*;

    fn asked<T>(transactions: &[Transaction], ask: impl FnOnce(&mut As5600<Mock>) -> T) -> T {
        let mut bus = Mock::new(transactions);
        let told = ask(&mut As5600::new(bus.clone(), AS5600_ADDRESS));
        bus.done();
        told
    }

    #[test]
    fn the_raw_angle_is_read_high_byte_first() {
        let reads = [Transaction::write_read(0x36, vec![0x0C], vec![0x0A, 0xBC])];
        assert_eq!(asked(&reads, ShaftChip::count), Ok(0xABC));
        let held_high = [Transaction::write_read(0x36, vec![0x0C], vec![0xFF, 0xFF])];
        assert!(matches!(asked(&held_high, ShaftChip::count), Err(ChipError::Damaged(_))));
    }

    #[test]
    fn each_state_of_the_magnet_has_its_name() {
        let states = [
            (0x20, Health::Good),
            (0x00, Health::NoMagnet),
            (0x10, Health::NoMagnet),
            (0x30, Health::TooWeak),
            (0x28, Health::TooStrong),
            (0x27, Health::Good),
        ];
        for (status, health) in states {
            let reads = [Transaction::write_read(0x36, vec![0x0B], vec![status])];
            assert_eq!(asked(&reads, ShaftChip::health), Ok(health), "{status:02X}");
        }
    }

    #[test]
    fn an_address_where_nobody_is_fails_with_what_the_bus_said() {
        let nobody = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address);
        let reads = [Transaction::write_read(0x36, vec![0x0B], vec![0]).with_error(nobody)];
        assert_eq!(asked(&reads, ShaftChip::set_up), Err(ChipError::Bus(nobody)));
    }
}
