//! What the kernel knows of a CAN interface: bit rate, controller state, error counters. Asked over rtnetlink, which needs
//! no right.
//!
//! ```text
//! RTM_NEWLINK   ifinfomsg, then attributes: length 2, type 2, payload, padded to 4
//!   IFLA_STATS64      frames and bytes received and sent, errors
//!   IFLA_LINKINFO     IFLA_INFO_DATA  IFLA_CAN_BITTIMING, _STATE, _CTRLMODE, _RESTART_MS, _BERR_COUNTER
//! ```
//! A virtual interface has none of the CAN attributes: each is `None` then.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use super::BusState;

/// What an interface tells; `None` where it has no such thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkFacts {
    /// Bits a second.
    pub bit_rate: Option<u32>,
    /// The controller's state.
    pub state: Option<BusState>,
    /// Errors counted in sending and in receiving; 96 is a warning, 128 passive, 256 in sending bus off.
    pub errors: Option<(u16, u16)>,
    /// After how many milliseconds it comes back from bus off; 0 never.
    pub restart_ms: Option<u32>,
    /// Whether it only listens.
    pub listen_only: Option<bool>,
    /// Frames received since it was made.
    pub received: u64,
}

// linux/netlink.h, rtnetlink.h, if_link.h, can/netlink.h
const HEADER: usize = 16;
const IFINFO: usize = 16;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST: u16 = 1;
const NESTED: u16 = 0x3FFF;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const CAN_BITTIMING: u16 = 1;
const CAN_STATE: u16 = 4;
const CAN_CTRLMODE: u16 = 5;
const CAN_RESTART_MS: u16 = 6;
const CAN_BERR_COUNTER: u16 = 8;
const LISTEN_ONLY: u32 = 0x02;

/// The largest answer read: that of an interface with every attribute has two to three thousand bytes.
const ANSWER_MAX: usize = 32 * 1024;

/// How long the kernel may take; it answers at once.
const ANSWER_WITHIN_MS: libc::c_int = 1000;

/// Asks the kernel about an interface.
pub fn facts(name: &str) -> io::Result<LinkFacts> {
    let index = index_of(name)?;
    // SAFETY: no pointers; the descriptor that comes back is owned by nobody else.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    let question = question(index);
    // SAFETY: the kernel reads `question.len()` bytes at its address.
    let sent = unsafe { libc::send(socket.as_raw_fd(), question.as_ptr().cast(), question.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd is passed and lives over the call.
    if unsafe { libc::poll(&mut poll, 1, ANSWER_WITHIN_MS) } <= 0 {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer over netlink"));
    }
    let mut answer = vec![0u8; ANSWER_MAX];
    // SAFETY: the kernel writes at most `answer.len()` bytes at its address.
    let n = unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
    let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    read(&answer[..n.min(ANSWER_MAX)])
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no answer about the interface over netlink"))
}

fn index_of(name: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: a string that ends with zero and lives over the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// `nlmsghdr` and `ifinfomsg`, which ask for the interface of this index.
fn question(index: u32) -> [u8; HEADER + IFINFO] {
    let mut question = [0; HEADER + IFINFO];
    question[..4].copy_from_slice(&((HEADER + IFINFO) as u32).to_ne_bytes());
    question[4..6].copy_from_slice(&RTM_GETLINK.to_ne_bytes());
    question[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    question[HEADER + 4..HEADER + 8].copy_from_slice(&index.to_ne_bytes());
    question
}

/// The facts in an answer; `None` when it is another one.
fn read(answer: &[u8]) -> Option<LinkFacts> {
    let length = u32_at(answer, 0)? as usize;
    if u16_at(answer, 4)? != RTM_NEWLINK {
        return None;
    }
    let mut facts = LinkFacts::default();
    for (kind, payload) in attributes(answer.get(..length)?.get(HEADER + IFINFO..)?) {
        match kind {
            IFLA_STATS64 => facts.received = payload.get(..8).map_or(0, |b| u64::from_ne_bytes(array(b))),
            IFLA_LINKINFO => {
                let find = |wanted| attributes(payload).find(|(kind, _)| *kind == wanted).map(|(_, data)| data);
                if find(IFLA_INFO_KIND).is_some_and(|kind| kind.starts_with(b"can\0")) {
                    find(IFLA_INFO_DATA).into_iter().for_each(|data| read_can(data, &mut facts));
                }
            }
            _ => {}
        }
    }
    Some(facts)
}

fn read_can(data: &[u8], facts: &mut LinkFacts) {
    for (kind, payload) in attributes(data) {
        match kind {
            CAN_BITTIMING => facts.bit_rate = u32_at(payload, 0).filter(|rate| *rate > 0),
            CAN_STATE => {
                facts.state = match u32_at(payload, 0) {
                    Some(0) => Some(BusState::Active),
                    Some(1) => Some(BusState::Warning),
                    Some(2) => Some(BusState::Passive),
                    Some(3) => Some(BusState::BusOff),
                    // Stopped and sleeping: it is down, which is told otherwise.
                    _ => None,
                }
            }
            CAN_CTRLMODE => facts.listen_only = u32_at(payload, 4).map(|flags| flags & LISTEN_ONLY != 0),
            CAN_RESTART_MS => facts.restart_ms = u32_at(payload, 0),
            CAN_BERR_COUNTER => facts.errors = u16_at(payload, 0).zip(u16_at(payload, 2)),
            _ => {}
        }
    }
}

/// Type and payload of each attribute, as far as they are whole.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & NESTED;
        let payload = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|b| u16::from_ne_bytes(array(b)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|b| u32::from_ne_bytes(array(b)))
}

/// The first bytes; those that are not there are zero.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = ((payload.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn answer(kind: &[u8]) -> Vec<u8> {
        let counters: Vec<u8> = [12u16, 130].iter().flat_map(|count| count.to_ne_bytes()).collect();
        let can = [
            attribute(CAN_BITTIMING, &words(&[250_000, 875, 0, 0, 0, 0, 0, 0])),
            attribute(CAN_STATE, &words(&[2])),
            attribute(CAN_CTRLMODE, &words(&[0, LISTEN_ONLY])),
            attribute(CAN_RESTART_MS, &words(&[100])),
            attribute(CAN_BERR_COUNTER, &counters),
        ]
        .concat();
        let info = [attribute(IFLA_INFO_KIND, kind), attribute(IFLA_INFO_DATA | 0x8000, &can)].concat();
        let stats = [7u64, 0, 56, 0].iter().flat_map(|count| count.to_ne_bytes()).collect::<Vec<u8>>();
        let rest = [attribute(3, b"can0\0"), attribute(IFLA_STATS64, &stats), attribute(IFLA_LINKINFO, &info)].concat();
        let mut bytes = ((HEADER + IFINFO + rest.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(RTM_NEWLINK.to_ne_bytes());
        bytes.resize(HEADER + IFINFO, 0);
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn an_answer_is_read_attribute_by_attribute() {
        let wanted = LinkFacts {
            bit_rate: Some(250_000),
            state: Some(BusState::Passive),
            errors: Some((12, 130)),
            restart_ms: Some(100),
            listen_only: Some(true),
            received: 7,
        };
        assert_eq!(read(&answer(b"can\0")), Some(wanted));
        assert_eq!(read(&answer(b"vcan\0")), Some(LinkFacts { received: 7, ..LinkFacts::default() }));
    }

    #[test]
    fn an_answer_that_is_cut_off_or_damaged_anywhere_does_no_harm() {
        let whole = answer(b"can\0");
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), None, "its length says that there is more");
        }
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut damaged = whole.clone();
            let at = rng.usize(..damaged.len());
            damaged[at] = rng.u8(..);
            let _ = read(&damaged);
        }
    }

    #[test]
    fn the_kernel_answers_about_an_interface_that_is_no_can_one() {
        let facts = facts("lo").expect("every machine has it");
        assert_eq!((facts.bit_rate, facts.state), (None, None));
        assert!(super::facts("no-such-if").is_err());
    }
}
