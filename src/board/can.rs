//! CAN frames with the kernel's stamps. This file alone knows socketcan.
//!
//! The kernel filters, so that a busy bus wakes the reader only for what it wants. Its receive buffer is made large (a
//! flood lost a quarter of the frames with the default one) and what it still has to drop is counted. A frame's stamp is
//! CLOCK_REALTIME, which may be stepped; it is turned into boot time right after the frame was read.

use std::{
    fs, io,
    os::fd::{AsRawFd, RawFd},
    path::Path,
    sync::Arc,
    time::Duration,
};

use embedded_can::Frame as _;
use socketcan::{
    CanErrorFrame, CanFrame, CanSocket, Socket, SocketOptions,
    errors::{CanError as CanFault, ControllerProblems, ErrorCause},
};
use tracing::{debug, info, warn};

use super::{Vehicle, simulated::SimulatedCan};
use crate::{
    clock::{Bracket, Clock, SystemClock},
    sensor::{Frame, TimedFrame, frame::id_of},
};

/// Receive buffer: some 8000 frames, several seconds of a full 500 kbit/s bus.
const RECEIVE_BUFFER_BYTES: libc::c_int = 4 * 1024 * 1024;

/// Longest wait for room in the interface's send queue: a bus that takes nothing for so long has nobody on it.
pub const SEND_WITHIN: Duration = Duration::from_millis(100);

/// Filters a socket takes (CAN_RAW_FILTER_MAX); far fewer are ever wanted.
pub const FILTERS_MAX: usize = 512;

/// Asks for stamps with 64-bit seconds on every architecture (asm-generic/socket.h); the older option has 32-bit seconds on
/// 32-bit ARM.
const SO_TIMESTAMPNS_NEW: libc::c_int = 64;

/// ARPHRD_CAN of linux/if_arp.h: the type of a CAN interface in sysfs.
const ARPHRD_CAN: &str = "280";

/// IFF_UP of linux/if.h.
const IFF_UP: u64 = 1;

/// What a bus says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BusState {
    /// Nothing is wrong that this node knows of.
    #[default]
    Active,
    /// Many errors: wiring, termination or a wrong bit rate.
    Warning,
    /// So many errors that this node no longer signals them.
    Passive,
    /// Nobody acknowledges what this node sends: it is alone, or the bit rate is wrong.
    NoAck,
    /// Cut off after too many errors.
    BusOff,
}

impl std::fmt::Display for BusState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BusState::Active => "active",
            BusState::Warning => "error warning",
            BusState::Passive => "error passive",
            BusState::NoAck => "no acknowledgement",
            BusState::BusOff => "bus off",
        })
    }
}

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
    /// The controller is cut off from the bus. It comes back by itself where `restart-ms` is set.
    #[error(
        "CAN interface {name} is bus off: check wiring, termination and bit rate; \
         `ip link set {name} type can restart-ms 100` lets it come back by itself"
    )]
    BusOff {
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
}

impl CanFilter {
    /// 29-bit identifiers.
    pub fn extended(id: u32, mask: u32) -> Self {
        Self { id: id & libc::CAN_EFF_MASK, mask: mask & libc::CAN_EFF_MASK, extended: true }
    }

    /// 11-bit identifiers.
    pub fn standard(id: u32, mask: u32) -> Self {
        Self { id: id & libc::CAN_SFF_MASK, mask: mask & libc::CAN_SFF_MASK, extended: false }
    }

    /// J1939: a parameter group, from any sender or one, of any priority (J1939-21, 5.2). A group with a PDU format
    /// below 240 is sent to a destination, which its number leaves out.
    pub fn pgn(pgn: u32, source: Option<u8>) -> Self {
        let group_mask = if (pgn >> 8) & 0xFF < 240 { 0x03FF_0000 } else { 0x03FF_FF00 };
        let (source, source_mask) = source.map_or((0, 0), |source| (u32::from(source), 0xFF));
        Self::extended(pgn << 8 & group_mask | source, group_mask | source_mask)
    }

    /// Whether a frame passes.
    pub fn matches(&self, frame: &Frame) -> bool {
        frame.is_extended() == self.extended && (frame.raw_id() ^ self.id) & self.mask == 0
    }

    /// Whether a frame passes one of them; with none, every frame passes.
    pub fn any_matches(filters: &[CanFilter], frame: &Frame) -> bool {
        filters.is_empty() || filters.iter().any(|filter| filter.matches(frame))
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
            CanPort::Real(port) => port.dropped,
            CanPort::Simulated(_) => 0,
        }
    }

    /// What the bus last said about itself.
    pub fn bus_state(&self) -> BusState {
        match self {
            CanPort::Real(port) => port.state,
            CanPort::Simulated(_) => BusState::Active,
        }
    }
}

/// Frames of an interface of the kernel.
#[derive(Debug)]
pub struct RealCan {
    socket: CanSocket,
    name: String,
    dropped: u64,
    /// The kernel's drop counter as it came last; it wraps.
    kernel_drops: u32,
    state: BusState,
}

impl RealCan {
    fn open(name: &str, filters: &[CanFilter]) -> Result<Self, CanError> {
        if filters.len() > FILTERS_MAX {
            return Err(CanError::TooManyFilters(filters.len()));
        }
        verify_interface(Path::new("/sys/class/net"), name)?;
        let socket = CanSocket::open(name).map_err(|cause| told(name, "opening", cause))?;
        let port = Self { socket, name: name.into(), dropped: 0, kernel_drops: 0, state: BusState::Active };
        port.prepare(filters).map_err(|cause| told(name, "setting up the socket", cause))?;
        Ok(port)
    }

    fn prepare(&self, filters: &[CanFilter]) -> io::Result<()> {
        if !filters.is_empty() {
            let filters: Vec<(u32, u32)> = filters.iter().map(|filter| filter.kernel_form()).collect();
            self.socket.set_filters(&filters)?;
        }
        let states = libc::CAN_ERR_CRTL | libc::CAN_ERR_ACK | libc::CAN_ERR_BUSOFF | libc::CAN_ERR_RESTARTED;
        self.socket.set_error_filter(states)?;
        let fd = self.socket.as_raw_fd();
        // Beyond the system's limit only with CAP_NET_ADMIN; else as far as the limit goes.
        if set_option(fd, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES).is_err() {
            set_option(fd, libc::SO_RCVBUF, RECEIVE_BUFFER_BYTES)?;
        }
        set_option(fd, libc::SO_RXQ_OVFL, 1)?;
        set_option(fd, SO_TIMESTAMPNS_NEW, 1)
    }

    fn next(&mut self, timeout: Duration) -> Result<Option<TimedFrame<Frame>>, CanError> {
        let fd = self.socket.as_raw_fd();
        let received =
            match wait_for(fd, libc::POLLIN, timeout).and_then(|ready| if ready { receive(fd) } else { Ok(None) }) {
                Ok(Some(received)) => received,
                Ok(None) => return Ok(None),
                Err(cause) => return Err(told(&self.name, "reading", cause)),
            };
        if let Some(drops) = received.drops {
            self.dropped += u64::from(drops.wrapping_sub(self.kernel_drops));
            self.kernel_drops = drops;
        }
        if received.frame.can_id & libc::CAN_ERR_FLAG != 0 {
            return self.bus_said(received.frame).map(|()| None);
        }
        let t = match received.stamp_ns {
            // Where the clock was stepped in between, the time of reading is the best there is.
            Some(stamp_ns) => Bracket::read().boot_of(stamp_ns).unwrap_or_else(|read| read),
            None => SystemClock.now(),
        };
        Ok(frame_of(&received.frame).map(|frame| TimedFrame { t, frame }))
    }

    fn send(&self, frame: &Frame) -> Result<(), CanError> {
        let told = |cause| told(&self.name, "sending", cause);
        let sent = match frame.is_remote_frame() {
            true => CanFrame::new_remote(frame.id(), frame.dlc()),
            false => CanFrame::new(frame.id(), frame.data()),
        };
        // A frame of ours is a classic one, which is all that is asked for.
        let Some(sent) = sent else { return Ok(()) };
        match wait_for(self.socket.as_raw_fd(), libc::POLLOUT, SEND_WITHIN).map_err(told)? {
            true => self.socket.write_frame(&sent).map_err(told),
            false => Err(CanError::NoRoom { name: self.name.clone() }),
        }
    }

    fn bus_said(&mut self, frame: libc::can_frame) -> Result<(), CanError> {
        let Ok(frame) = CanErrorFrame::try_from(frame) else { return Ok(()) };
        let fault = CanFault::from(frame);
        debug!(interface = %self.name, %fault, "error frame");
        let Some(state) = fault.causes().filter_map(state_of).max_by_key(|&state| state as u8) else { return Ok(()) };
        if state != self.state {
            match state {
                BusState::Active => info!(interface = %self.name, "the CAN bus is active again"),
                _ => warn!(interface = %self.name, %state, "CAN bus"),
            }
        }
        self.state = state;
        match state {
            BusState::BusOff => Err(CanError::BusOff { name: self.name.clone() }),
            _ => Ok(()),
        }
    }
}

/// The state an error frame's cause means; `None` for what says nothing about the state.
fn state_of(cause: &ErrorCause) -> Option<BusState> {
    match cause {
        ErrorCause::BusOff => Some(BusState::BusOff),
        ErrorCause::NoAck => Some(BusState::NoAck),
        ErrorCause::Restarted => Some(BusState::Active),
        ErrorCause::Controller(problems) => {
            let any = |of: ControllerProblems| problems.intersects(of);
            if any(ControllerProblems::RX_PASSIVE | ControllerProblems::TX_PASSIVE) {
                Some(BusState::Passive)
            } else if any(ControllerProblems::RX_WARNING | ControllerProblems::TX_WARNING) {
                Some(BusState::Warning)
            } else {
                any(ControllerProblems::ACTIVE).then_some(BusState::Active)
            }
        }
        _ => None,
    }
}

fn told(name: &str, doing: &'static str, cause: io::Error) -> CanError {
    let name = name.to_owned();
    match cause.raw_os_error() {
        Some(libc::ENETDOWN) => CanError::Down { name },
        Some(libc::ENODEV | libc::ENXIO) => CanError::Gone { name },
        Some(libc::EACCES | libc::EPERM) => CanError::PermissionDenied { name },
        Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT) => CanError::NoSockets,
        _ => CanError::Kernel { name, doing, cause },
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

fn frame_of(raw: &libc::can_frame) -> Option<Frame> {
    let extended = raw.can_id & libc::CAN_EFF_FLAG != 0;
    let id = id_of(raw.can_id & if extended { libc::CAN_EFF_MASK } else { libc::CAN_SFF_MASK }, extended)?;
    let len = usize::from(raw.can_dlc).min(raw.data.len());
    if raw.can_id & libc::CAN_RTR_FLAG != 0 { Frame::new_remote(id, len) } else { Frame::new(id, &raw.data[..len]) }
}

fn set_option(fd: RawFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads one c_int at the address of `value`, which lives over the call.
    let done = unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, option, (&raw const value).cast(), size_of::<libc::c_int>() as u32)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn wait_for(fd: RawFd, events: libc::c_short, timeout: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    // Rounded up: rounded down, a wait of less than a millisecond would spin.
    let timeout_ms = timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as libc::c_int;
    // SAFETY: one pollfd is passed and lives over the call.
    match unsafe { libc::poll(&mut poll, 1, timeout_ms) } {
        0 => Ok(false),
        n if n > 0 => Ok(true),
        _ => match io::Error::last_os_error() {
            interrupted if interrupted.kind() == io::ErrorKind::Interrupted => Ok(false),
            error => Err(error),
        },
    }
}

/// What one recvmsg brings.
struct Received {
    frame: libc::can_frame,
    stamp_ns: Option<i64>,
    /// The kernel's count of frames dropped on this socket, once there were any.
    drops: Option<u32>,
}

/// Room for the control messages of a frame, aligned as the kernel's headers are: a stamp and a drop count take 56 bytes.
#[repr(C, align(8))]
struct Control([u8; 128]);

fn receive(fd: RawFd) -> io::Result<Option<Received>> {
    // SAFETY: can_frame and msghdr are plain data for which all zeroes is a value.
    let (mut frame, mut message) =
        unsafe { (std::mem::zeroed::<libc::can_frame>(), std::mem::zeroed::<libc::msghdr>()) };
    let mut control = Control([0; 128]);
    let mut vector = libc::iovec { iov_base: (&raw mut frame).cast(), iov_len: size_of::<libc::can_frame>() };
    message.msg_iov = &mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: `message` points at `frame` and `control` with their true sizes; both live over the call and any bytes the
    // kernel writes are a valid can_frame.
    let n = unsafe { libc::recvmsg(fd, &mut message, libc::MSG_DONTWAIT) };
    if n < 0 {
        return match io::Error::last_os_error() {
            error if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            error => Err(error),
        };
    }
    if (n as usize) < size_of::<libc::can_frame>() {
        return Ok(None);
    }
    let (stamp_ns, drops) = control_messages(&message);
    Ok(Some(Received { frame, stamp_ns, drops }))
}

#[allow(clippy::unnecessary_cast, reason = "cmsg_len is narrower with musl")]
fn control_messages(message: &libc::msghdr) -> (Option<i64>, Option<u32>) {
    let (mut stamp_ns, mut drops) = (None, None);
    // SAFETY: the kernel filled `message`; the CMSG macros stay within msg_controllen, and each payload is read, unaligned,
    // only when its header says that it is long enough.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(h) = header.as_ref() {
            let data = libc::CMSG_DATA(header);
            let holds = |bytes: usize| h.cmsg_len as usize >= libc::CMSG_LEN(bytes as u32) as usize;
            match (h.cmsg_level, h.cmsg_type) {
                (libc::SOL_SOCKET, SO_TIMESTAMPNS_NEW) if holds(16) => {
                    let [seconds, nanoseconds] = data.cast::<[i64; 2]>().read_unaligned();
                    stamp_ns = Some(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds));
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) if holds(4) => drops = Some(data.cast::<u32>().read_unaligned()),
                _ => {}
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    (stamp_ns, drops)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn the_worst_of_what_an_error_frame_says_is_the_state() {
        let said = |id: u32, controller: u8| {
            // SAFETY: can_frame is plain data for which all zeroes is a value.
            let mut raw: libc::can_frame = unsafe { std::mem::zeroed() };
            raw.can_id = id | libc::CAN_ERR_FLAG;
            raw.can_dlc = 8;
            raw.data[1] = controller;
            let fault = CanFault::from(CanErrorFrame::try_from(raw).unwrap());
            fault.causes().filter_map(state_of).max_by_key(|&state| state as u8)
        };
        assert_eq!(said(libc::CAN_ERR_BUSOFF, 0), Some(BusState::BusOff));
        assert_eq!(said(libc::CAN_ERR_CRTL, 0x10), Some(BusState::Passive));
        assert_eq!(said(libc::CAN_ERR_CRTL, 0x04), Some(BusState::Warning));
        assert_eq!(said(libc::CAN_ERR_ACK, 0), Some(BusState::NoAck));
        assert_eq!(said(libc::CAN_ERR_RESTARTED, 0), Some(BusState::Active));
        assert_eq!(said(libc::CAN_ERR_CRTL | libc::CAN_ERR_BUSOFF, 0x10), Some(BusState::BusOff));
    }
}
