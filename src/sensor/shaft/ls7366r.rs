//! LSI/CSI LS7366R, a quadrature counter on SPI, mode 0 (datasheet of 2015).
//!
//! ```text
//! instruction  bits 7..6 operation (0 clear, 1 read, 2 write, 3 load), bits 5..3 register
//! MDR0 (1)     bits 1..0 = 3: four counts a period; the rest 0: free running, index not used
//! MDR1 (2)     0: four bytes, counting enabled
//! CNTR (4)     the count, high byte first; reading latches all four bytes at once
//! STR (6)      bit 2 PLS: the supply failed since it was cleared
//! ```

use embedded_hal::spi::{Operation, SpiDevice};

use super::{ChipError, Health, ShaftChip};

const WRITE_MDR0: u8 = 0x88;
const READ_MDR0: u8 = 0x48;
const WRITE_MDR1: u8 = 0x90;
const READ_CNTR: u8 = 0x60;
const READ_STR: u8 = 0x70;
const CLEAR_STR: u8 = 0x30;
const FOUR_COUNTS: u8 = 0x03;
const FOUR_BYTES: u8 = 0x00;
const SUPPLY_FAILED: u8 = 1 << 2;

/// An LS7366R on a bus.
#[derive(Debug)]
pub struct Ls7366r<S> {
    bus: S,
}

impl<S: SpiDevice> Ls7366r<S> {
    /// The one that `bus` selects.
    pub fn new(bus: S) -> Self {
        Self { bus }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ChipError<S::Error>> {
        self.bus.write(bytes).map_err(ChipError::Bus)
    }

    fn read<const N: usize>(&mut self, instruction: u8) -> Result<[u8; N], ChipError<S::Error>> {
        let mut bytes = [0; N];
        let operations = &mut [Operation::Write(&[instruction]), Operation::Read(&mut bytes)];
        self.bus.transaction(operations).map_err(ChipError::Bus)?;
        Ok(bytes)
    }
}

impl<S: SpiDevice> ShaftChip for Ls7366r<S> {
    type Bus = S::Error;

    /// The count is left as it is: it goes on from there.
    fn set_up(&mut self) -> Result<(), ChipError<S::Error>> {
        self.write(&[WRITE_MDR0, FOUR_COUNTS])?;
        self.write(&[WRITE_MDR1, FOUR_BYTES])?;
        self.write(&[CLEAR_STR])?;
        let [mode] = self.read(READ_MDR0)?;
        if mode == FOUR_COUNTS { Ok(()) } else { Err(ChipError::OtherChip("no LS7366R answers")) }
    }

    fn count(&mut self) -> Result<u32, ChipError<S::Error>> {
        self.read(READ_CNTR).map(u32::from_be_bytes)
    }

    /// A line that nothing drives reads as ones, which is what a failed supply looks like too: either way it has to be
    /// set up again.
    fn health(&mut self) -> Result<Health, ChipError<S::Error>> {
        let [status] = self.read(READ_STR)?;
        Ok(if status & SUPPLY_FAILED == 0 { Health::Good } else { Health::Invalid })
    }
}

#[cfg(test)]
mod tests {
    use embedded_hal_mock::eh1::spi::{Mock, Transaction};

    use super::*;

    fn asked<T>(transactions: &[Transaction<u8>], ask: impl FnOnce(&mut Ls7366r<Mock<u8>>) -> T) -> T {
        let mut bus = Mock::new(transactions);
        let told = ask(&mut Ls7366r::new(bus.clone()));
        bus.done();
        told
    }

    fn framed(inner: impl IntoIterator<Item = Transaction<u8>>) -> Vec<Transaction<u8>> {
        [Transaction::transaction_start()].into_iter().chain(inner).chain([Transaction::transaction_end()]).collect()
    }

    fn read(instruction: u8, answer: &[u8]) -> Vec<Transaction<u8>> {
        framed([Transaction::write(instruction), Transaction::read_vec(answer.to_vec())])
    }

    #[test]
    fn the_count_is_four_bytes_high_byte_first() {
        assert_eq!(asked(&read(0x60, &[0x01, 0x02, 0x03, 0x04]), ShaftChip::count), Ok(0x0102_0304));
    }

    #[test]
    fn set_up_counts_four_a_period_and_sees_whether_it_was_heard() {
        let told = |mode: u8| {
            let writes = [vec![0x88, 0x03], vec![0x90, 0x00], vec![0x30]];
            let mut all: Vec<_> = writes.into_iter().flat_map(|w| framed([Transaction::write_vec(w)])).collect();
            all.extend(read(0x48, &[mode]));
            asked(&all, ShaftChip::set_up)
        };
        assert_eq!(told(0x03), Ok(()));
        assert_eq!(told(0xFF), Err(ChipError::OtherChip("no LS7366R answers")));
        assert_eq!(told(0x00), Err(ChipError::OtherChip("no LS7366R answers")));
    }

    #[test]
    fn a_supply_that_failed_makes_the_count_invalid() {
        assert_eq!(asked(&read(0x70, &[0x0A]), ShaftChip::health), Ok(Health::Good));
        assert_eq!(asked(&read(0x70, &[0x04]), ShaftChip::health), Ok(Health::Invalid));
    }
}
