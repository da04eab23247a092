//! ams AS5048A, a magnetic encoder on SPI, mode 1 (datasheet v1-10).
//!
//! ```text
//! command  bit 15 even parity, bit 14 read, bits 13..0 address
//! answer   bit 15 even parity, bit 14 error, bits 13..0 data: to the command of the frame before
//! 0001     clears the error flag when read
//! 3FFD     diagnostics: 11 field too weak, 10 field too strong, 9 CORDIC overflow, 8 offset compensation done, 7..0 gain
//! 3FFF     angle, 16384 a turn
//! ```

use embedded_hal::spi::SpiDevice;

use super::{ChipError, Health, ShaftChip};

const READ: u16 = 1 << 14;
const PARITY: u16 = 1 << 15;
const ERROR: u16 = 1 << 14;
const DATA: u16 = 0x3FFF;
/// Does nothing; asks for the answer to the command before.
const NOTHING: u16 = 0;
const CLEAR_ERROR: u16 = 0x0001;
const DIAGNOSTICS: u16 = 0x3FFD;
const ANGLE: u16 = 0x3FFF;
const TOO_WEAK: u16 = 1 << 11;
const TOO_STRONG: u16 = 1 << 10;
const OVERFLOW: u16 = 1 << 9;
const READY: u16 = 1 << 8;

/// An AS5048A on a bus.
#[derive(Debug)]
pub struct As5048a<S> {
    bus: S,
}

impl<S: SpiDevice> As5048a<S> {
    /// The one that `bus` selects.
    pub fn new(bus: S) -> Self {
        Self { bus }
    }

    fn frame(&mut self, command: u16) -> Result<u16, ChipError<S::Error>> {
        let mut words = with_parity(command).to_be_bytes();
        self.bus.transfer_in_place(&mut words).map_err(ChipError::Bus)?;
        Ok(u16::from_be_bytes(words))
    }

    fn read(&mut self, address: u16) -> Result<u16, ChipError<S::Error>> {
        self.frame(READ | address)?;
        let answer = self.frame(NOTHING)?;
        if !answer.count_ones().is_multiple_of(2) {
            return Err(ChipError::Damaged("an answer with the wrong parity"));
        }
        if answer & ERROR != 0 {
            self.frame(READ | CLEAR_ERROR)?;
            return Err(ChipError::Damaged("an answer with the chip's error flag"));
        }
        Ok(answer & DATA)
    }
}

fn with_parity(command: u16) -> u16 {
    if command.count_ones().is_multiple_of(2) { command } else { command | PARITY }
}

impl<S: SpiDevice> ShaftChip for As5048a<S> {
    type Bus = S::Error;

    /// SPI acknowledges nothing: where no chip is, the line reads as zeros or ones, and neither is a chip that is ready.
    fn set_up(&mut self) -> Result<(), ChipError<S::Error>> {
        // Whatever was left over of a transfer that was cut off.
        self.frame(READ | CLEAR_ERROR)?;
        match self.read(DIAGNOSTICS) {
            Ok(diagnostics) if diagnostics & READY != 0 => Ok(()),
            Ok(_) | Err(ChipError::Damaged(_)) => Err(ChipError::OtherChip("no AS5048A answers")),
            Err(error) => Err(error),
        }
    }

    fn count(&mut self) -> Result<u32, ChipError<S::Error>> {
        self.read(ANGLE).map(u32::from)
    }

    fn health(&mut self) -> Result<Health, ChipError<S::Error>> {
        Ok(match self.read(DIAGNOSTICS)? {
            d if d & READY == 0 || d & OVERFLOW != 0 => Health::Invalid,
            d if d & TOO_WEAK != 0 => Health::TooWeak,
            d if d & TOO_STRONG != 0 => Health::TooStrong,
            _ => Health::Good,
        })
    }
}

#[cfg(test)]
mod tests {
    use embedded_hal_mock::eh1::spi::{Mock, Transaction};

    use super::*;

    /// What goes over the wires, frame by frame: sent and answered.
    fn asked<T>(frames: &[(u16, u16)], ask: impl FnOnce(&mut As5048a<Mock<u8>>) -> T) -> T {
        let mut transactions = Vec::new();
        for (sent, answered) in frames {
            transactions.push(Transaction::transaction_start());
            let (sent, answered) = (sent.to_be_bytes().to_vec(), answered.to_be_bytes().to_vec());
            transactions.push(Transaction::transfer_in_place(sent, answered));
            transactions.push(Transaction::transaction_end());
        }
        let mut bus = Mock::new(&transactions);
        let told = ask(&mut As5048a::new(bus.clone()));
        bus.done();
        told
    }

    #[test]
    fn commands_carry_even_parity() {
        assert_eq!(with_parity(READ | ANGLE), 0xFFFF);
        assert_eq!(with_parity(READ | DIAGNOSTICS), 0x7FFD);
        assert_eq!(with_parity(READ | CLEAR_ERROR), 0x4001);
        assert_eq!(with_parity(NOTHING), 0);
    }

    #[test]
    fn the_angle_comes_with_the_frame_after() {
        // 0x1234 has five ones: the parity bit makes them six.
        assert_eq!(asked(&[(0xFFFF, 0x2222), (0x0000, 0x9234)], ShaftChip::count), Ok(0x1234));
    }

    #[test]
    fn a_wrong_parity_and_an_error_flag_give_no_angle() {
        assert!(matches!(asked(&[(0xFFFF, 0), (0, 0x1234)], ShaftChip::count), Err(ChipError::Damaged(_))));
        // The flag is cleared, or every answer after it would carry it.
        let refused = [(0xFFFF, 0), (0, 0xC000), (0x4001, 0)];
        assert!(matches!(asked(&refused, ShaftChip::count), Err(ChipError::Damaged(_))));
    }

    #[test]
    fn a_line_without_a_chip_is_told_whether_it_reads_as_zeros_or_ones() {
        let zeros = [(0x4001, 0), (0x7FFD, 0), (0, 0)];
        assert_eq!(asked(&zeros, ShaftChip::set_up), Err(ChipError::OtherChip("no AS5048A answers")));
        let ones = [(0x4001, 0xFFFF), (0x7FFD, 0xFFFF), (0, 0xFFFF), (0x4001, 0xFFFF)];
        assert_eq!(asked(&ones, ShaftChip::set_up), Err(ChipError::OtherChip("no AS5048A answers")));
        assert_eq!(asked(&[(0x4001, 0), (0x7FFD, 0), (0, 0x8180 ^ 0x8000)], ShaftChip::set_up), Ok(()));
    }

    #[test]
    fn each_state_of_the_magnet_has_its_name() {
        let states = [
            (0x0180, Health::Good),
            (0x0900, Health::TooWeak),
            (0x0500, Health::TooStrong),
            (0x0300, Health::Invalid),
            (0x0000, Health::Invalid),
        ];
        for (diagnostics, health) in states {
            assert_eq!(asked(&[(0x7FFD, 0), (0, diagnostics)], ShaftChip::health), Ok(health), "{diagnostics:04X}");
        }
    }
}
