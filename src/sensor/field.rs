//! A number in the payload of a CAN frame: where its bits are, and what they mean.
//!
//! ```text
//! Intel      start is the lowest bit; bit i is bit i % 8 of byte i / 8, and the number goes on upwards
//! Motorola   start is the highest bit in the same numbering; the number goes on downwards in its byte and then at bit 7
//!            of the next
//! ```
//! A payload that ends before the number does has no such number: padding is never read.

/// Longest number, bits.
pub const MAX_BITS: u16 = 64;

/// Longest payload of a frame, bytes: that of CAN FD.
pub const MAX_PAYLOAD: usize = 64;

/// Which end comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Low byte first.
    Intel,
    /// High byte first.
    Motorola,
}

/// What the bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// A natural number.
    Unsigned,
    /// Two's complement.
    Signed,
    /// IEEE 754, of 32 or 64 bits.
    Float,
}

/// A number in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    start: u16,
    length: u16,
    order: Order,
    form: Form,
}

/// Why there can be no such field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadField {
    /// Of no bits, or of more than 64.
    #[error("{0} bits: 1 to 64 are possible")]
    Length(u16),
    /// It would begin or end outside the longest payload there is.
    #[error("bits {start} and {length} more reach beyond the 64 bytes of the longest frame")]
    Beyond {
        /// Start bit.
        start: u16,
        /// Bits.
        length: u16,
    },
    /// A floating-point number has 32 or 64 bits.
    #[error("a floating-point number of {0} bits: 32 or 64 are possible")]
    Float(u16),
}

impl Field {
    /// A field of `length` bits at `start`.
    pub fn new(start: u16, length: u16, order: Order, form: Form) -> Result<Self, BadField> {
        if length == 0 || length > MAX_BITS {
            return Err(BadField::Length(length));
        }
        if form == Form::Float && !matches!(length, 32 | 64) {
            return Err(BadField::Float(length));
        }
        let field = Self { start, length, order, form };
        let last = usize::from(field.first_bit()) + usize::from(length) - 1;
        if usize::from(start) / 8 >= MAX_PAYLOAD || last / 8 >= MAX_PAYLOAD {
            return Err(BadField::Beyond { start, length });
        }
        Ok(field)
    }

    /// A natural number, low byte first.
    pub(crate) const fn intel(start: u16, length: u16) -> Self {
        assert!(length > 0 && length <= MAX_BITS && start as usize + length as usize <= MAX_PAYLOAD * 8);
        Self { start, length, order: Order::Intel, form: Form::Unsigned }
    }

    /// The same bits, meaning something else.
    pub(crate) fn with_form(self, form: Form) -> Result<Self, BadField> {
        Self::new(self.start, self.length, self.order, form)
    }

    /// Bits of it.
    pub fn bits(&self) -> u16 {
        self.length
    }

    /// What the bits are.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Bytes a payload has to have for it.
    pub fn needs(&self) -> usize {
        usize::from(self.first_bit() + self.length - 1) / 8 + 1
    }

    /// Its first bit, counted along its order from the frame's beginning: from each byte's low end for Intel, from each
    /// byte's high end for Motorola.
    fn first_bit(&self) -> u16 {
        match self.order {
            Order::Intel => self.start,
            Order::Motorola => self.start / 8 * 8 + (7 - self.start % 8),
        }
    }

    /// Its bits as a natural number; `None` where the payload is too short.
    pub fn raw(&self, payload: &[u8]) -> Option<u64> {
        let first = usize::from(self.first_bit());
        let (from, to) = (first / 8, self.needs());
        let bytes = payload.get(from..to)?;
        // At most nine bytes: 64 bits that begin within a byte.
        let (shift, mask) = (first % 8, u64::MAX >> (MAX_BITS - self.length));
        let whole = match self.order {
            Order::Intel => bytes.iter().rev().fold(0u128, |sum, &byte| sum << 8 | u128::from(byte)) >> shift,
            Order::Motorola => {
                let sum = bytes.iter().fold(0u128, |sum, &byte| sum << 8 | u128::from(byte));
                sum >> (bytes.len() * 8 - shift - usize::from(self.length))
            }
        };
        Some(whole as u64 & mask)
    }

    /// What its bits mean; `None` where the payload is too short, or for a number that is none (NaN, infinite).
    pub fn value(&self, payload: &[u8]) -> Option<f64> {
        let raw = self.raw(payload)?;
        let value = match (self.form, self.length) {
            (Form::Unsigned, _) => raw as f64,
            (Form::Signed, length) => {
                let unused = u32::from(MAX_BITS - length);
                ((raw << unused) as i64 >> unused) as f64
            }
            (Form::Float, 32) => f64::from(f32::from_bits(raw as u32)),
            (Form::Float, _) => f64::from_bits(raw),
        };
        value.is_finite().then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(start: u16, length: u16, order: Order, form: Form) -> Field {
        Field::new(start, length, order, form).expect("possible")
    }

    /// The same, bit by bit, as the file format tells it.
    fn slow(field: &Field, payload: &[u8]) -> Option<u64> {
        let (mut at, mut raw) = (usize::from(field.start), 0);
        let bit = |at: usize| payload.get(at / 8).map(|byte| u64::from(byte >> (at % 8) & 1));
        for i in 0..field.length {
            match field.order {
                Order::Intel => raw |= bit(at + usize::from(i))? << i,
                Order::Motorola => {
                    raw = raw << 1 | bit(at)?;
                    at = if at % 8 == 0 { at + 15 } else { at - 1 };
                }
            }
        }
        Some(raw)
    }

    #[test]
    fn every_place_and_length_is_read_as_bit_by_bit() {
        let payload = [0x5A, 0xC3, 0x0F, 0x81, 0x7E, 0x12, 0xFE, 0x99];
        let mut read = 0;
        for order in [Order::Intel, Order::Motorola] {
            for start in 0..64 {
                for length in 1..=64 {
                    let field = field(start, length, order, Form::Unsigned);
                    assert_eq!(field.raw(&payload), slow(&field, &payload), "{field:?}");
                    read += u32::from(field.raw(&payload).is_some());
                }
            }
        }
        assert!(read > 4000);
    }

    #[test]
    fn a_negative_number_and_a_floating_one_are_what_they_are() {
        assert_eq!(field(32, 12, Order::Intel, Form::Signed).value(&[0, 0, 0, 0, 0x00, 0x08]), Some(-2048.0));
        assert_eq!(field(32, 12, Order::Intel, Form::Signed).value(&[0, 0, 0, 0, 0xFF, 0x0F]), Some(-1.0));
        assert_eq!(field(0, 64, Order::Intel, Form::Signed).value(&[0xFF; 8]), Some(-1.0));
        assert_eq!(field(7, 32, Order::Motorola, Form::Float).value(&29.5f32.to_be_bytes()), Some(29.5));
        assert_eq!(field(0, 64, Order::Intel, Form::Float).value(&1.25f64.to_le_bytes()), Some(1.25));
        assert_eq!(field(0, 32, Order::Intel, Form::Float).value(&f32::NAN.to_le_bytes()), None);
    }

    #[test]
    fn what_lies_beyond_the_payload_is_not_there() {
        assert_eq!(field(8, 16, Order::Intel, Form::Unsigned).raw(&[1, 2]), None);
        assert_eq!(field(8, 16, Order::Intel, Form::Unsigned).needs(), 3);
        assert_eq!(field(7, 15, Order::Motorola, Form::Unsigned).needs(), 2);
        assert_eq!(Field::new(0, 65, Order::Intel, Form::Unsigned), Err(BadField::Length(65)));
        assert_eq!(Field::new(0, 0, Order::Intel, Form::Unsigned), Err(BadField::Length(0)));
        assert_eq!(Field::new(0, 16, Order::Intel, Form::Float), Err(BadField::Float(16)));
        let beyond = BadField::Beyond { start: 505, length: 16 };
        assert_eq!(Field::new(505, 16, Order::Intel, Form::Unsigned), Err(beyond));
        assert!(Field::new(65_535, 1, Order::Motorola, Form::Unsigned).is_err());
    }
}
