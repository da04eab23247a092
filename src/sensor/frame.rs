//! A CAN frame: what a bus, a simulation and a recording hand over alike.

use embedded_can::{ExtendedId, Id, StandardId};

use super::field::MAX_PAYLOAD;

/// Longest payload of a classic frame; a CAN FD frame has up to [`MAX_PAYLOAD`].
pub const MAX_DATA_BYTES: usize = 8;

/// A CAN frame of any origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    id: Id,
    remote: bool,
    fd: bool,
    len: u8,
    data: [u8; MAX_PAYLOAD],
}

impl embedded_can::Frame for Frame {
    fn new(id: impl Into<Id>, data: &[u8]) -> Option<Self> {
        let mut frame = Self::new_remote(id, data.len())?;
        frame.remote = false;
        frame.data[..data.len()].copy_from_slice(data);
        Some(frame)
    }

    fn new_remote(id: impl Into<Id>, dlc: usize) -> Option<Self> {
        let len = u8::try_from(dlc).ok().filter(|&len| usize::from(len) <= MAX_DATA_BYTES)?;
        Some(Self { id: id.into(), remote: true, fd: false, len, data: [0; MAX_PAYLOAD] })
    }

    fn is_extended(&self) -> bool {
        matches!(self.id, Id::Extended(_))
    }

    fn is_remote_frame(&self) -> bool {
        self.remote
    }

    fn id(&self) -> Id {
        self.id
    }

    fn dlc(&self) -> usize {
        usize::from(self.len)
    }

    /// Nothing for a remote frame: it asks for data and has none.
    fn data(&self) -> &[u8] {
        if self.remote { &[] } else { &self.data[..usize::from(self.len)] }
    }
}

impl Frame {
    /// A CAN FD frame, of 0 to 8, 12, 16, 20, 24, 32, 48 or 64 bytes (ISO 11898-1, 8.4.2.4): no other lengths are sent.
    pub fn new_fd(id: impl Into<Id>, data: &[u8]) -> Option<Self> {
        if !matches!(data.len(), 0..=8 | 12 | 16 | 20 | 24 | 32 | 48 | 64) {
            return None;
        }
        let mut frame = Self { id: id.into(), remote: false, fd: true, len: data.len() as u8, data: [0; MAX_PAYLOAD] };
        frame.data[..data.len()].copy_from_slice(data);
        Some(frame)
    }

    /// Whether it is a CAN FD frame.
    pub fn is_fd(&self) -> bool {
        self.fd
    }

    /// The identifier as a number: 11 or 29 bits.
    pub fn raw_id(&self) -> u32 {
        match self.id {
            Id::Standard(id) => u32::from(id.as_raw()),
            Id::Extended(id) => id.as_raw(),
        }
    }
}

/// An identifier out of its number; `None` when it has too many bits.
pub(crate) fn id_of(raw: u32, extended: bool) -> Option<Id> {
    if extended {
        ExtendedId::new(raw).map(Id::Extended)
    } else {
        u16::try_from(raw).ok().and_then(StandardId::new).map(Id::Standard)
    }
}

#[cfg(test)]
mod tests {
    use embedded_can::Frame as _;

    use super::*;

    #[test]
    fn a_frame_has_no_more_than_eight_bytes() {
        let id = id_of(0x18FE_F100, true).unwrap();
        assert_eq!(Frame::new(id, &[7; 8]).unwrap().data(), [7; 8]);
        assert!(Frame::new(id, &[7; 9]).is_none());
        assert!(Frame::new_remote(id, 9).is_none());
    }

    #[test]
    fn an_fd_frame_has_a_length_that_can_be_sent() {
        let id = id_of(0x18FE_F100, true).unwrap();
        for len in 0..=80usize {
            let frame = Frame::new_fd(id, &vec![7; len]);
            assert_eq!(frame.is_some(), len <= 8 || [12, 16, 20, 24, 32, 48, 64].contains(&len), "{len}");
            assert!(frame.is_none_or(|frame| frame.is_fd() && frame.data() == vec![7; len]));
        }
        assert!(!Frame::new(id, &[7; 8]).unwrap().is_fd());
    }

    #[test]
    fn a_remote_frame_has_a_length_and_no_data() {
        let frame = Frame::new_remote(id_of(0x123, false).unwrap(), 5).unwrap();
        assert!(frame.is_remote_frame() && !frame.is_extended());
        assert_eq!((frame.dlc(), frame.data().len()), (5, 0));
    }

    #[test]
    fn an_identifier_of_too_many_bits_is_none() {
        assert!(id_of(0x800, false).is_none());
        assert!(id_of(0x2000_0000, true).is_none());
        assert!(id_of(0x7FF, false).is_some() && id_of(0x1FFF_FFFF, true).is_some());
    }
}
