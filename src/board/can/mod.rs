//! CAN frames with the kernel's stamps.
//!
//! The kernel filters, so that a busy bus wakes the reader only for what it wants. Its receive buffer is made large (a
//! flood lost a quarter of the frames with the default one) and what it still has to drop is counted. A frame's stamp is
//! CLOCK_REALTIME, which may be stepped; it is turned into boot time right after the frame was read.
//!
//! A port stays open while its bus is off: the socket lives on, and the first frame after it comes without a wait. How the
//! bus is, [`CanPort::bus_state`] and [`CanPort::trouble`] tell. `real.rs` alone knows socketcan.

mod bus;
mod link;
mod real;

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use embedded_can::Frame as _;

pub use bus::{BusState, ErrorFrame};
pub use link::{LinkFacts, facts};
pub use real::RealCan;

use super::{Vehicle, simulated::SimulatedCan};
use crate::{
    clock::BootNs,
    sensor::{Frame, TimedFrame},
};

/// Longest wait for room in the interface's send queue: a bus that takes nothing for so long has nobody on it.
pub const SEND_WITHIN: Duration = Duration::from_millis(100);

/// Filters a socket takes (CAN_RAW_FILTER_MAX); far fewer are ever wanted.
pub const FILTERS_MAX: usize = 512;

/// ARPHRD_CAN of linux/if_arp.h: the type of a CAN interface in sysfs.
const ARPHRD_CAN: &str = "280";

/// IFF_UP of linux/if.h.
const IFF_UP: u64 = 1;

/// Why frames cannot be had or stopped coming.
#[derive(Debug, thiserror::Error)]
pub enum CanError {
    /// No interface of that name, or it is no CAN interface.
    #[error("there is no CAN interface {name}; {}", those(present))]
    NoInterface {
        /// The name looked for.
        name: String,
        /// The CAN interfaces there are.
        present: Vec<String>,
    },
    /// The interface is down, or went down.
    #[error("CAN interface {name} is down: `{}`", remedy(name))]
    Down {
        /// The interface.
        name: String,
    },
    /// The interface was there and went: an adapter was unplugged.
    #[error("CAN interface {name} has gone: adapter unplugged, or its driver was removed")]
    Gone {
        /// The interface.
        name: String,
    },
    /// What is to be sent does not leave the interface.
    #[error(
        "CAN interface {name} sends nothing for {} ms: nobody acknowledges. Is the other end on, the bit rate right, \
         the bus terminated, and the interface not `listen-only`?",
        SEND_WITHIN.as_millis()
    )]
    NoRoom {
        /// The interface.
        name: String,
    },
    /// The user may not open CAN sockets.
    #[error("no permission to open CAN interface {name}: the unit's RestrictAddressFamilies= must have AF_CAN")]
    PermissionDenied {
        /// The interface.
        name: String,
    },
    /// The kernel has no CAN sockets.
    #[error("this kernel has no CAN sockets: `modprobe can-raw`")]
    NoSockets,
    /// More filters than the kernel takes.
    #[error("{0} filters on one CAN socket; the kernel takes {FILTERS_MAX}")]
    TooManyFilters(usize),
    /// Anything else the kernel said.
    #[error("CAN interface {name}: {doing}: {cause}")]
    Kernel {
        /// The interface.
        name: String,
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        cause: io::Error,
    },
}

fn those(present: &[String]) -> String {
    match present {
        [] => "there is none at all (is the driver loaded, the overlay set?)".into(),
        names => format!("there is {}", names.join(", ")),
    }
}

/// What brings an interface up; only real controllers have a bit rate.
fn remedy(name: &str) -> String {
    match name.starts_with("vcan") {
        true => format!("ip link set {name} up"),
        false => format!("ip link set {name} up type can bitrate 500000"),
    }
}

/// A frame is wanted when its identifier agrees with `id` in the bits of `mask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CanFilter {
    id: u32,
    mask: u32,
    extended: bool,
    fd: bool,
}

impl CanFilter {
    /// 29-bit identifiers.
    pub fn extended(id: u32, mask: u32) -> Self {
        Self { id: id & libc::CAN_EFF_MASK, mask: mask & libc::CAN_EFF_MASK, extended: true, fd: false }
    }

    /// 11-bit identifiers.
    pub fn standard(id: u32, mask: u32) -> Self {
        Self { id: id & libc::CAN_SFF_MASK, mask: mask & libc::CAN_SFF_MASK, extended: false, fd: false }
    }

    /// J1939: a parameter group, from any sender or one, of any priority (J1939-21, 5.2). A group with a PDU format
    /// below 240 is sent to a destination, which its number leaves out.
    pub fn pgn(pgn: u32, source: Option<u8>) -> Self {
        let group_mask = if (pgn >> 8) & 0xFF < 240 { 0x03FF_0000 } else { 0x03FF_FF00 };
        let (source, source_mask) = source.map_or((0, 0), |source| (u32::from(source), 0xFF));
        Self::extended(pgn << 8 & group_mask | source, group_mask | source_mask)
    }

    /// The same, and CAN FD frames pass too.
    pub fn with_fd(self) -> Self {
        Self { fd: true, ..self }
    }

    /// Whether a frame passes.
    pub fn matches(&self, frame: &Frame) -> bool {
        (self.fd || !frame.is_fd())
            && frame.is_extended() == self.extended
            && (frame.raw_id() ^ self.id) & self.mask == 0
    }

    /// Whether a frame passes one of them; with none, every frame passes.
    pub fn any_matches(filters: &[CanFilter], frame: &Frame) -> bool {
        filters.is_empty() || filters.iter().any(|filter| filter.matches(frame))
    }

    /// Whether CAN FD frames are wanted at all.
    fn any_fd(filters: &[CanFilter]) -> bool {
        filters.is_empty() || filters.iter().any(|filter| filter.fd)
    }

    /// Identifier and mask as the kernel takes them: the flag of the format counts too, remote frames never pass.
    fn kernel_form(self) -> (u32, u32) {
        let format = if self.extended { libc::CAN_EFF_FLAG } else { 0 };
        (self.id | format, self.mask | libc::CAN_EFF_FLAG | libc::CAN_RTR_FLAG)
    }
}

/// Frames of an interface.
#[derive(Debug)]
pub enum CanPort {
    /// Of the kernel.
    Real(RealCan),
    /// Of the simulated vehicle.
    Simulated(SimulatedCan),
}

impl CanPort {
    /// Opens an interface; with no filters every frame comes.
    pub fn open(interface: &str, filters: &[CanFilter]) -> Result<Self, CanError> {
        RealCan::open(interface, filters).map(CanPort::Real)
    }

    /// Opens the bus of a simulated vehicle.
    pub fn simulated(vehicle: Arc<Vehicle>, filters: &[CanFilter]) -> Self {
        CanPort::Simulated(SimulatedCan::new(vehicle, filters))
    }

    /// Waits at most `timeout` for a frame; `None` when none came, or only word of the bus's state.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<TimedFrame<Frame>>, CanError> {
        match self {
            CanPort::Real(port) => port.next(timeout),
            CanPort::Simulated(port) => Ok(port.next(timeout)),
        }
    }

    /// Sends a frame; waits at most [`SEND_WITHIN`] for room in the kernel's queue.
    pub fn send(&mut self, frame: &Frame) -> Result<(), CanError> {
        match self {
            CanPort::Real(port) => port.send(frame),
            // Nobody on the simulated bus has to be asked.
            CanPort::Simulated(_) => Ok(()),
        }
    }

    /// Frames the kernel had to drop because they were not read in time. The kernel tells it with the next frame that it
    /// could keep, so the drops of a flood are known when the next frame after it is read.
    pub fn dropped(&self) -> u64 {
        match self {
            CanPort::Real(port) => port.dropped(),
            CanPort::Simulated(_) => 0,
        }
    }

    /// Times the controller had to throw frames away; how many each time it does not say.
    pub fn overflows(&self) -> u64 {
        match self {
            CanPort::Real(port) => port.bus().overflows(),
            CanPort::Simulated(_) => 0,
        }
    }

    /// Error frames so far.
    pub fn errors(&self) -> u64 {
        match self {
            CanPort::Real(port) => port.bus().errors(),
            CanPort::Simulated(_) => 0,
        }
    }

    /// The error frame that the last [`CanPort::next`] met, with its time; given once.
    pub fn take_error(&mut self) -> Option<(BootNs, ErrorFrame)> {
        match self {
            CanPort::Real(port) => port.take_error(),
            CanPort::Simulated(_) => None,
        }
    }

    /// How the bus is: by what it said, and by what its controller says where it can be asked.
    pub fn bus_state(&self) -> BusState {
        match self {
            CanPort::Real(port) => port.bus().state(),
            CanPort::Simulated(_) => BusState::Active,
        }
    }

    /// What is wrong with the bus, in words for who has to mend it.
    pub fn trouble(&self) -> Option<String> {
        match self {
            CanPort::Real(port) => port.trouble(),
            CanPort::Simulated(_) => None,
        }
    }
}

/// Looks in sysfs (`root` is /sys/class/net) whether the interface is there, is CAN and is up: the kernel opens a socket
/// on an interface that is down without a word.
fn verify_interface(root: &Path, name: &str) -> Result<(), CanError> {
    let asked = root.join(name);
    let plain = !name.is_empty() && !name.contains(['/', '.']);
    if !plain || !is_can(&asked) {
        return Err(CanError::NoInterface { name: name.into(), present: can_interfaces(root) });
    }
    let flags = fs::read_to_string(asked.join("flags")).unwrap_or_default();
    let flags = u64::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or(IFF_UP);
    if flags & IFF_UP == 0 { Err(CanError::Down { name: name.into() }) } else { Ok(()) }
}

fn is_can(interface: &Path) -> bool {
    fs::read_to_string(interface.join("type")).is_ok_and(|kind| kind.trim() == ARPHRD_CAN)
}

/// The CAN interfaces there are, by name.
pub fn interfaces() -> Vec<String> {
    can_interfaces(Path::new("/sys/class/net"))
}

fn can_interfaces(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok())
        .filter(|entry| is_can(&entry.path()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use embedded_can::Frame as _;

    use super::*;
    use crate::sensor::frame::id_of;

    fn frame(id: u32) -> Frame {
        Frame::new(id_of(id, true).unwrap(), &[0; 8]).unwrap()
    }

    #[test]
    fn a_filter_of_a_parameter_group_lets_any_priority_and_sender_pass() {
        let ccvs1 = CanFilter::pgn(65265, None);
        for id in [0x18FE_F100, 0x0CFE_F100, 0x18FE_F147] {
            assert!(ccvs1.matches(&frame(id)), "{id:X}");
        }
        for id in [0x18FE_F000, 0x19FE_F100, 0x1AFE_F100, 0x18FE_F200] {
            assert!(!ccvs1.matches(&frame(id)), "{id:X}");
        }
        let standard = Frame::new(id_of(0x100, false).unwrap(), &[]).unwrap();
        assert!(!CanFilter::extended(0x100, 0x7FF).matches(&standard));
    }

    #[test]
    fn a_filter_of_a_sender_lets_only_that_one_pass() {
        let filter = CanFilter::pgn(65265, Some(0x47));
        assert!(filter.matches(&frame(0x18FE_F147)) && !filter.matches(&frame(0x18FE_F100)));
    }

    #[test]
    fn a_group_sent_to_a_destination_passes_whatever_the_destination() {
        let torque = CanFilter::pgn(0, None);
        assert!(torque.matches(&frame(0x0C00_0003)) && torque.matches(&frame(0x0C00_FF03)));
    }

    #[test]
    fn a_filter_lets_fd_frames_pass_only_where_they_are_wanted() {
        let fd = Frame::new_fd(id_of(0x18FE_F100, true).unwrap(), &[0; 12]).unwrap();
        let filter = CanFilter::extended(0x18FE_F100, 0x1FFF_FFFF);
        assert!(!filter.matches(&fd) && filter.with_fd().matches(&fd));
        assert!(filter.with_fd().matches(&frame(0x18FE_F100)), "and classic ones as before");
    }

    fn interface(root: &Path, name: &str, kind: &str, flags: &str) {
        let directory = root.join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("type"), format!("{kind}\n")).unwrap();
        fs::write(directory.join("flags"), format!("{flags}\n")).unwrap();
    }

    #[test]
    fn a_missing_interface_names_those_that_are_there() {
        let root = tempfile::tempdir().unwrap();
        interface(root.path(), "can0", "280", "0x40080");
        interface(root.path(), "eth0", "1", "0x1003");
        let text = verify_interface(root.path(), "can1").unwrap_err().to_string();
        assert_eq!(text, "there is no CAN interface can1; there is can0");
        assert!(matches!(verify_interface(root.path(), "eth0"), Err(CanError::NoInterface { .. })));
        assert!(matches!(verify_interface(root.path(), "../can0"), Err(CanError::NoInterface { .. })));
    }

    #[test]
    fn an_interface_that_is_down_says_how_to_bring_it_up() {
        let root = tempfile::tempdir().unwrap();
        interface(root.path(), "can0", "280", "0x40080");
        interface(root.path(), "can1", "280", "0x40081");
        let text = verify_interface(root.path(), "can0").unwrap_err().to_string();
        assert_eq!(text, "CAN interface can0 is down: `ip link set can0 up type can bitrate 500000`");
        assert!(verify_interface(root.path(), "can1").is_ok());
    }
}
