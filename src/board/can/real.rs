//! Frames of an interface of the kernel. This file alone knows socketcan.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
    path::Path,
    time::Duration,
};

use embedded_can::Frame as _;
use socketcan::{CanFrame, CanSocket, Socket, SocketOptions};
use tracing::debug;

use super::{
    BusState, CanError, CanFilter, FILTERS_MAX, SEND_WITHIN,
    bus::{Bus, ErrorFrame, error_frame},
    link, verify_interface,
};
use crate::{
    clock::{BootNs, Bracket, Clock, StampClock, SystemClock},
    sensor::{Frame, TimedFrame, frame::id_of},
};

/// Receive buffer: some 8000 frames, several seconds of a full 500 kbit/s bus.
const RECEIVE_BUFFER_BYTES: libc::c_int = 4 * 1024 * 1024;

/// Asks for stamps with 64-bit seconds on every architecture (asm-generic/socket.h); the older option has 32-bit seconds on
/// 32-bit ARM.
const SO_TIMESTAMPNS_NEW: libc::c_int = 64;

/// The options of raw CAN sockets, and the one that lets CAN FD frames in (linux/can/raw.h).
const SOL_CAN_RAW: libc::c_int = 101;
const CAN_RAW_FD_FRAMES: libc::c_int = 5;

/// Size of a CAN FD frame's structure and of a classic one's, by which they are told apart (linux/can.h).
const FD_MTU: usize = size_of::<libc::canfd_frame>();
const CLASSIC_MTU: usize = size_of::<libc::can_frame>();

/// Error frames wanted: what tells of the bus's state, of frames the controller lost, of errors on the bus.
const ERRORS: u32 = libc::CAN_ERR_MASK & !libc::CAN_ERR_LOSTARB;

/// How often a controller that is not well is asked how it is: not every driver tells when it is well again.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Frames of an interface of the kernel.
#[derive(Debug)]
pub struct RealCan {
    socket: CanSocket,
    name: String,
    dropped: u64,
    /// The kernel's drop counter as it came last; it wraps.
    kernel_drops: u32,
    /// The kernel stamps with real time.
    stamps: StampClock,
    bus: Bus,
    asked: BootNs,
    /// The error frame that came last, until somebody takes it.
    error: Option<(BootNs, ErrorFrame)>,
}

impl RealCan {
    pub(super) fn open(name: &str, filters: &[CanFilter]) -> Result<Self, CanError> {
        if filters.len() > FILTERS_MAX {
            return Err(CanError::TooManyFilters(filters.len()));
        }
        verify_interface(Path::new("/sys/class/net"), name)?;
        let socket = CanSocket::open(name).map_err(|cause| told(name, "opening", cause))?;
        // Where the kernel does not answer, what the bus says has to do.
        let facts = link::facts(name).unwrap_or_default();
        let now = SystemClock.now();
        let bus = Bus::new(facts, now);
        let stamps = StampClock::new(Bracket::narrow());
        let port =
            Self { socket, name: name.into(), dropped: 0, kernel_drops: 0, stamps, bus, asked: now, error: None };
        port.prepare(filters).map_err(|cause| told(name, "setting up the socket", cause))?;
        Ok(port)
    }

    fn prepare(&self, filters: &[CanFilter]) -> io::Result<()> {
        if !filters.is_empty() {
            let filters: Vec<(u32, u32)> = filters.iter().map(|filter| filter.kernel_form()).collect();
            self.socket.set_filters(&filters)?;
        }
        self.socket.set_error_filter(ERRORS)?;
        let fd = self.socket.as_raw_fd();
        // Beyond the system's limit only with CAP_NET_ADMIN; else as far as the limit goes.
        if set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES).is_err() {
            set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER_BYTES)?;
        }
        if CanFilter::any_fd(filters) {
            set_option(fd, SOL_CAN_RAW, CAN_RAW_FD_FRAMES, 1)?;
        }
        set_option(fd, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
        set_option(fd, libc::SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1)
    }

    pub(super) fn next(&mut self, timeout: Duration) -> Result<Option<TimedFrame<Frame>>, CanError> {
        self.error = None;
        self.look_after_bus();
        let fd = self.socket.as_raw_fd();
        let mut waited = false;
        let received = match receive(fd) {
            Ok(None) => {
                waited = true;
                wait_for(fd, libc::POLLIN, timeout).and_then(|ready| if ready { receive(fd) } else { Ok(None) })
            }
            received => received,
        };
        let received = match received {
            Ok(Some(received)) => received,
            Ok(None) => {
                self.stamps.look(Bracket::narrow());
                return Ok(None);
            }
            Err(cause) => return Err(told(&self.name, "reading", cause)),
        };
        if let Some(drops) = received.drops {
            self.dropped += u64::from(drops.wrapping_sub(self.kernel_drops));
            self.kernel_drops = drops;
        }
        let t = match received.stamp_ns {
            Some(stamp_ns) => self.stamps.boot_of(Bracket::narrow(), stamp_ns, waited),
            None => SystemClock.now(),
        };
        if received.frame.can_id & libc::CAN_ERR_FLAG != 0 {
            self.bus_said(t, &received.frame);
            return Ok(None);
        }
        self.bus.frame(t);
        Ok(received.frame().map(|frame| TimedFrame { t, frame }))
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn bus(&self) -> &Bus {
        &self.bus
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.bus.trouble(&self.name)
    }

    pub(super) fn take_error(&mut self) -> Option<(BootNs, ErrorFrame)> {
        self.error.take()
    }

    /// A controller that is not well is asked once a second whether it still is not.
    fn look_after_bus(&mut self) {
        let now = SystemClock.now();
        if self.bus.state() != BusState::Active && now.since(self.asked) >= ASK_EVERY {
            self.asked = now;
            self.bus.look(link::facts(&self.name).ok(), now);
        }
    }

    pub(super) fn send(&self, frame: &Frame) -> Result<(), CanError> {
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

    fn bus_said(&mut self, t: BootNs, frame: &libc::canfd_frame) {
        let said = error_frame(frame.can_id, &frame.data);
        debug!(interface = %self.name, class = format!("{:03X}", said.class), data = ?said.data, "error frame");
        let before = self.bus.state();
        self.bus.hear(&said, t);
        if self.bus.state() != before {
            // What the controller knows besides: its error counters, and whether it comes back by itself.
            self.asked = t;
            self.bus.look(link::facts(&self.name).ok(), t);
        }
        self.error = Some((t, said));
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
fn set_option(fd: RawFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads one c_int at the address of `value`, which lives over the call.
    let done =
        unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), size_of::<libc::c_int>() as u32) };
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
    frame: libc::canfd_frame,
    is_fd: bool,
    stamp_ns: Option<i64>,
    /// The kernel's count of frames dropped on this socket, once there were any.
    drops: Option<u32>,
}

impl Received {
    fn frame(&self) -> Option<Frame> {
        let raw = &self.frame;
        let extended = raw.can_id & libc::CAN_EFF_FLAG != 0;
        let id = id_of(raw.can_id & if extended { libc::CAN_EFF_MASK } else { libc::CAN_SFF_MASK }, extended)?;
        let data = raw.data.get(..usize::from(raw.len))?;
        match (self.is_fd, raw.can_id & libc::CAN_RTR_FLAG != 0) {
            (true, _) => Frame::new_fd(id, data),
            (false, true) => Frame::new_remote(id, data.len()),
            (false, false) => Frame::new(id, data),
        }
    }
}

/// Room for the control messages of a frame, aligned as the kernel's headers are: a stamp and a drop count take 56 bytes.
#[repr(C, align(8))]
struct Control([u8; 128]);

fn receive(fd: RawFd) -> io::Result<Option<Received>> {
    // SAFETY: canfd_frame and msghdr are plain data for which all zeroes is a value.
    let (mut frame, mut message) =
        unsafe { (std::mem::zeroed::<libc::canfd_frame>(), std::mem::zeroed::<libc::msghdr>()) };
    let mut control = Control([0; 128]);
    let mut vector = libc::iovec { iov_base: (&raw mut frame).cast(), iov_len: FD_MTU };
    message.msg_iov = &mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: `message` points at `frame` and `control` with their true sizes; both live over the call and any bytes the
    // kernel writes are a valid canfd_frame, whose beginning a classic frame is laid out as.
    let n = unsafe { libc::recvmsg(fd, &mut message, libc::MSG_DONTWAIT) };
    if n < 0 {
        return match io::Error::last_os_error() {
            error if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            error => Err(error),
        };
    }
    let is_fd = match n as usize {
        FD_MTU => true,
        CLASSIC_MTU => false,
        _ => return Ok(None),
    };
    let (stamp_ns, drops) = control_messages(&message);
    Ok(Some(Received { frame, is_fd, stamp_ns, drops }))
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
