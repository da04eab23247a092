//! A line between the agent and the broker that counts what goes up and can be as long as a mobile link.
#![allow(unreachable_pub, reason = "a module of a bench")]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::{AsRawFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// IPv4, TCP, and the time stamps that Linux puts into each segment.
const HEADERS: u64 = 20 + 20 + 12;
/// Payload of a full segment on a line whose packets have 1500 bytes.
const FULL_SEGMENT: u64 = 1448;

/// What came from the agent.
#[derive(Debug, Default)]
pub struct Counted {
    /// Bytes of TCP payload.
    pub payload: AtomicU64,
    /// Segments, as the kernel counts them: those with nothing but an acknowledgement too.
    pub segments: AtomicU64,
}

impl Counted {
    /// Bytes of IP packets: counted segments, and as many more as packets of 1500 bytes would have made of large ones.
    pub fn ip_bytes(&self) -> u64 {
        let (payload, segments) = (self.payload.load(Ordering::Relaxed), self.segments.load(Ordering::Relaxed));
        payload + HEADERS * segments.max(payload.div_ceil(FULL_SEGMENT))
    }
}

/// Starts a line to `port` whose way there and back takes `round_trip`; gives its port.
pub fn start(port: u16, round_trip: Duration, counted: Arc<Counted>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let own = listener.local_addr().expect("it has one").port();
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            for socket in [&near, &far] {
                socket.set_nodelay(true).expect("it can be told");
            }
            let up = (near.try_clone().expect("a socket"), far.try_clone().expect("a socket"));
            carry(up.0, up.1, round_trip / 2, Some(counted.clone()));
            carry(far, near, round_trip / 2, None);
        }
    });
    own
}

/// Carries one way; each piece is late by as much.
fn carry(mut from: TcpStream, mut to: TcpStream, late: Duration, counted: Option<Arc<Counted>>) {
    let (put, take) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut before = 0;
        let mut chunk = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from.read(&mut chunk) {
            if let Some(counted) = &counted {
                counted.payload.fetch_add(n as u64, Ordering::Relaxed);
                let segments = segments_in(from.as_raw_fd());
                counted.segments.fetch_add(segments - before, Ordering::Relaxed);
                before = segments;
            }
            if put.send((Instant::now() + late, chunk[..n].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (due, piece) in take {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                return;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}

/// Segments the kernel has received on this connection: `tcpi_segs_in` of `struct tcp_info` (linux/tcp.h), which is older
/// than the structure that the C library knows.
fn segments_in(socket: RawFd) -> u64 {
    const AT: usize = 140;
    let mut info = [0u8; 256];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the buffer is ours and as long as it says; the call writes no further and keeps nothing.
    let failed = unsafe {
        libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut length)
    };
    assert!(failed == 0 && length as usize >= AT + 4, "the kernel does not count segments");
    u32::from_ne_bytes([info[AT], info[AT + 1], info[AT + 2], info[AT + 3]]).into()
}
