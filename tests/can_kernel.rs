//! What a CAN bus says of itself, and CAN FD, against a real kernel's virtual interface. Runs where RIG_GPIOSIM is set (a test
//! machine made for it, run as root with one thread); elsewhere it says that it was skipped.

use std::{
    os::fd::AsRawFd,
    process::Command,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use socketcan::{CanFdFrame, CanFdSocket, CanFrame, CanSocket, EmbeddedFrame, ExtendedId, Socket, StandardId};
use speedwell::{
    board::{BusState, CanFilter, CanPort, can::facts},
    clock::{Clock, SystemClock},
};

fn in_the_rig() -> bool {
    let there = std::env::var_os("RIG_GPIOSIM").is_some();
    if !there {
        println!("skipped: RIG_GPIOSIM is not set");
    }
    there
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(done.success(), "ip {arguments}");
}

/// Puts an error frame on a virtual interface, where every other socket takes it for the driver's own.
fn say(sender: &CanSocket, class: u32, data: [u8; 8]) {
    // SAFETY: can_frame is plain data for which all zeroes is a value.
    let mut frame: libc::can_frame = unsafe { std::mem::zeroed() };
    (frame.can_id, frame.can_dlc, frame.data) = (class | libc::CAN_ERR_FLAG, 8, data);
    let size = size_of::<libc::can_frame>();
    // SAFETY: the kernel reads `size` bytes at the address of `frame`.
    let written = unsafe { libc::write(sender.as_raw_fd(), (&raw const frame).cast(), size) };
    assert_eq!(written, size as isize, "{}", std::io::Error::last_os_error());
}

/// Reads until the port says `wanted` of its bus.
fn until(port: &mut CanPort, wanted: BusState) {
    let started = Instant::now();
    while port.bus_state() != wanted {
        port.next(Duration::from_millis(100)).unwrap();
        assert!(started.elapsed() < Duration::from_secs(30), "{} and not {wanted}", port.bus_state());
    }
    println!("{wanted}: {}", port.trouble().unwrap_or_default());
}

#[test]
fn error_frames_are_the_buss_state_and_the_port_stays_open_over_bus_off() {
    if !in_the_rig() {
        return;
    }
    let mut port = CanPort::open("vcan0", &[CanFilter::pgn(65265, None)]).unwrap();
    let sender = CanSocket::open("vcan0").unwrap();
    assert_eq!((port.bus_state(), port.trouble()), (BusState::Active, None));
    say(&sender, 0x204, [0, 0x10, 0, 0, 0, 0, 3, 131]);
    until(&mut port, BusState::Passive);
    assert!(port.trouble().unwrap().contains("3 errors in sending, 131 in receiving"));
    say(&sender, 0x20, [0; 8]);
    until(&mut port, BusState::NoAck);
    say(&sender, 0x40, [0; 8]);
    until(&mut port, BusState::BusOff);
    let (_, error) = port.take_error().expect("it is there for who records it");
    assert_eq!(error.state(), Some(BusState::BusOff));
    assert_eq!(port.errors(), 3);
    // The frame that tells that it is back is not lost: the port was never closed.
    let frame = CanFrame::new(ExtendedId::new(0x18FE_F100).unwrap(), &[1; 8]).unwrap();
    sender.write_frame(&frame).unwrap();
    let got = port.next(Duration::from_secs(2)).unwrap().expect("the frame");
    assert_eq!((got.frame.data(), port.bus_state()), (&[1; 8][..], BusState::Active));
    say(&sender, 0x04, [0, 0x01, 0, 0, 0, 0, 0, 0]);
    port.next(Duration::from_secs(2)).unwrap();
    assert_eq!((port.overflows(), port.bus_state()), (1, BusState::Active));
}

#[test]
fn fd_frames_come_where_they_are_wanted_and_nowhere_else() {
    if !in_the_rig() {
        return;
    }
    ip("link set vcan1 down");
    ip("link set vcan1 mtu 72");
    ip("link set vcan1 up");
    let filter = CanFilter::standard(0x300, 0x7FF);
    let mut both = CanPort::open("vcan1", &[filter.with_fd()]).unwrap();
    let mut classic = CanPort::open("vcan1", &[filter]).unwrap();
    let sender = CanFdSocket::open("vcan1").unwrap();
    let id = StandardId::new(0x300).unwrap();
    sender.write_frame(&CanFdFrame::new(id, &[7; 64]).unwrap()).unwrap();
    sender.write_frame(&CanFrame::new(id, &[8; 8]).unwrap()).unwrap();
    let got = |port: &mut CanPort| port.next(Duration::from_secs(2)).unwrap().map(|timed| timed.frame);
    let fd = got(&mut both).expect("the FD frame");
    assert_eq!((fd.is_fd(), fd.data()), (true, &[7; 64][..]));
    assert_eq!(got(&mut both).map(|frame| (frame.is_fd(), frame.data().len())), Some((false, 8)));
    assert_eq!(got(&mut classic).map(|frame| frame.is_fd()), Some(false), "the FD frame did not come");
}

/// Sets real time on by so many ns.
fn step_by(by_ns: i64) {
    let now = clock_gettime(ClockId::Realtime);
    let ns = now.tv_sec * 1_000_000_000 + now.tv_nsec as i64 + by_ns;
    let (tv_sec, tv_nsec) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000) as _);
    clock_settime(ClockId::Realtime, Timespec { tv_sec, tv_nsec }).unwrap();
}

#[test]
fn frames_that_wait_while_the_clock_is_stepped_keep_the_boot_time_they_came_at() {
    if !in_the_rig() {
        return;
    }
    let ms = 1_000_000;
    for by in [500 * ms, -500 * ms, 50 * ms, -50 * ms, 3 * 86_400_000 * ms, -3_600_000 * ms] {
        let mut port = CanPort::open("vcan0", &[CanFilter::standard(0x321, 0x7FF)]).unwrap();
        let sender = CanSocket::open("vcan0").unwrap();
        let send = |n: u8| {
            let sent = SystemClock.now();
            let frame = CanFrame::new(StandardId::new(0x321).unwrap(), &[n]).unwrap();
            sender.write_frame(&frame).unwrap();
            std::thread::sleep(Duration::from_millis(10));
            sent
        };
        let take = |port: &mut CanPort| port.next(Duration::from_secs(2)).unwrap().expect("it was sent").t;
        let mut sent = vec![send(0)];
        let mut told = vec![take(&mut port)];
        // Nobody reads for a fifth of a second, and the clock is stepped in the middle of it.
        sent.extend((1..10).map(send));
        step_by(by);
        sent.extend((10..20).map(send));
        told.extend((1..20).map(|_| take(&mut port)));
        sent.push(send(20));
        told.push(take(&mut port));
        // Either side of a step that is shorter than nobody read may be possible.
        let unclear = if by.abs() < 200 * ms { by.unsigned_abs() / 2 } else { 0 };
        let off: Vec<i64> = sent.iter().zip(&told).map(|(sent, told)| told.0 as i64 - sent.0 as i64).collect();
        println!(
            "a step of {:+} ms: frames are {:?} ms off",
            by / ms,
            off.iter().map(|off| off / ms).collect::<Vec<_>>()
        );
        assert!(off.iter().all(|off| off.unsigned_abs() <= unclear + 5 * ms as u64), "{by}: {off:?}");
        assert!(told.is_sorted(), "{told:?}");
    }
}

/// Controllers the machine emulates: there only where it was started with them.
#[test]
fn a_controller_tells_its_bit_rate_its_state_and_whether_it_comes_back() {
    if !in_the_rig() || !std::path::Path::new("/sys/class/net/can0").exists() {
        println!("skipped: no can0");
        return;
    }
    ip("link set can0 type can bitrate 250000 restart-ms 100");
    ip("link set can0 up");
    let told = facts("can0").unwrap();
    println!("{told:?}");
    assert_eq!((told.bit_rate, told.restart_ms, told.listen_only), (Some(250_000), Some(100), Some(false)));
    assert_eq!(told.state, Some(BusState::Active));
    let virtual_one = facts("vcan0").unwrap();
    assert_eq!((virtual_one.bit_rate, virtual_one.state), (None, None));
    ip("link set can0 down");
}
