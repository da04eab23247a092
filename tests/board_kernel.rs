//! The doors against a real kernel: gpio-sim lines and vcan. Runs where RIG_GPIOSIM names the simulated chip's directory
//! in sysfs (a test machine made for it, run as root with one thread); elsewhere it says that it was skipped.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use socketcan::{CanSocket, EmbeddedFrame, ExtendedId, Socket};
use speedwell::{
    board::{Bias, CanError, CanFilter, CanPort, EdgeSelect, GpioCapture, GpioError, LineRequest, chips},
    clock::{Clock, SystemClock},
    sensor::{Edge, EdgeCapture, EdgeKind},
};

const LABEL: &str = "rig-gpio";

fn sim() -> Option<PathBuf> {
    let sim = std::env::var_os("RIG_GPIOSIM").map(PathBuf::from);
    if sim.is_none() {
        println!("skipped: RIG_GPIOSIM is not set");
    }
    sim
}

fn line(offset: u32, edges: EdgeSelect) -> LineRequest {
    LineRequest { offset, edges, bias: Bias::AsIs, name: format!("L{offset}") }
}

fn pull(sim: &std::path::Path, high: bool) {
    fs::write(sim.join("sim_gpio0/pull"), if high { "pull-up" } else { "pull-down" }).unwrap();
}

fn drain(capture: &mut GpioCapture, edges: &mut Vec<Edge>) {
    loop {
        let before = edges.len();
        capture.next_batch(Duration::from_millis(300), edges).unwrap();
        if edges.len() == before {
            return;
        }
    }
}

/// One test, because the chip is taken away at its end.
#[test]
fn the_kernels_edges_come_stamped_numbered_and_counted() {
    let Some(sim) = sim() else { return };
    let there = chips().unwrap();
    let chip = there.iter().find(|chip| chip.label == LABEL).expect("the rig's chip");
    println!("chip {} has {} lines, the first is {}", chip.name, chip.lines.len(), chip.lines[0].name);

    let missing = GpioCapture::open("pinctrl-rp1", &[line(0, EdgeSelect::Both)], "test").unwrap_err();
    println!("missing chip: {missing}");
    assert!(missing.to_string().contains("`rig-gpio`"));
    let beyond = GpioCapture::open(LABEL, &[line(500, EdgeSelect::Both)], "test").unwrap_err();
    println!("missing line: {beyond}");
    assert!(matches!(beyond, GpioError::NoLine { .. }));

    pull(&sim, false);
    let lines = [line(0, EdgeSelect::Both), line(1, EdgeSelect::Off)];
    let mut capture = GpioCapture::open(LABEL, &lines, "speedwell test").unwrap();
    let busy = GpioCapture::open(LABEL, &lines, "another").unwrap_err();
    println!("busy line: {busy}");
    assert!(matches!(&busy, GpioError::LineBusy { consumer, .. } if consumer == "speedwell test"), "{busy}");

    edges_at_a_known_rate(&sim, &mut capture);
    drop(capture);
    an_overflow_is_a_hole(&sim);
    unbind();
}

fn edges_at_a_known_rate(sim: &std::path::Path, capture: &mut GpioCapture) {
    let writer_sim = sim.to_owned();
    let before = SystemClock.now();
    let writer = thread::spawn(move || {
        let start = Instant::now();
        for i in 0..400u32 {
            thread::sleep((Duration::from_millis(5) * i).saturating_sub(start.elapsed()));
            pull(&writer_sim, i % 2 == 0);
        }
    });
    let mut edges = Vec::with_capacity(1024);
    while !writer.is_finished() {
        capture.next_batch(Duration::from_millis(100), &mut edges).unwrap();
    }
    drain(capture, &mut edges);
    writer.join().unwrap();
    let (first, last) = (edges[0], edges[edges.len() - 1]);
    let rate = (edges.len() - 1) as f64 / last.t.since(first.t).as_secs_f64();
    println!("{} edges of 400 at {rate:.2} Hz (200 asked), seqno {} to {}", edges.len(), first.seqno, last.seqno);
    assert_eq!(edges.len(), 400);
    assert!((190.0..201.0).contains(&rate), "{rate}");
    assert!(edges.windows(2).all(|pair| pair[0].t < pair[1].t && pair[1].line_seqno == pair[0].line_seqno + 1));
    assert!(edges.iter().enumerate().all(|(i, edge)| (edge.kind == EdgeKind::Rising) == (i % 2 == 0)));
    assert!(first.t >= before && last.t <= SystemClock.now(), "stamps are boot time");
}

/// A small buffer nobody reads: the oldest edges go and the sequence numbers say how many.
fn an_overflow_is_a_hole(sim: &std::path::Path) {
    pull(sim, false);
    let lines = [line(0, EdgeSelect::Both), line(1, EdgeSelect::Off)];
    let mut capture = GpioCapture::open_with_buffer(LABEL, &lines, "speedwell test", 16).unwrap();
    for i in 0..100 {
        pull(sim, i % 2 == 0);
        thread::sleep(Duration::from_millis(2));
    }
    let mut edges = Vec::with_capacity(256);
    drain(&mut capture, &mut edges);
    let (first, last) = (edges[0], edges[edges.len() - 1]);
    println!("overflow: {} of 100 edges kept, line_seqno {} to {}", edges.len(), first.line_seqno, last.line_seqno);
    assert!(edges.len() < 100);
    assert_eq!(last.line_seqno, 100, "every edge was counted");
    assert_eq!(first.line_seqno as usize, 100 - edges.len() + 1, "the oldest went");
}

/// The chip goes while it is read: the capture says so within a moment.
fn unbind() {
    let mut capture = GpioCapture::open(LABEL, &[line(0, EdgeSelect::Both), line(1, EdgeSelect::Off)], "test").unwrap();
    let unbinder = thread::spawn(|| {
        thread::sleep(Duration::from_millis(300));
        fs::write("/sys/kernel/config/gpio-sim/rig/live", "0").unwrap();
    });
    let started = Instant::now();
    let mut edges = Vec::new();
    let error = loop {
        match capture.next_batch(Duration::from_millis(100), &mut edges) {
            Err(error) => break error,
            Ok(()) => assert!(started.elapsed() < Duration::from_secs(20), "the chip went without a word"),
        }
    };
    unbinder.join().unwrap();
    println!("unbound: {error} (after {:?})", started.elapsed());
    assert!(matches!(error, GpioError::ChipGone { .. }), "{error}");
    let again = GpioCapture::open(LABEL, &[line(0, EdgeSelect::Both)], "test").unwrap_err();
    println!("opened again: {again}");
}

fn frame(id: u32, data: &[u8]) -> socketcan::CanFrame {
    socketcan::CanFrame::new(ExtendedId::new(id).unwrap(), data).unwrap()
}

#[test]
fn frames_of_a_kernel_interface_come_filtered_and_stamped_until_it_goes_down() {
    if sim().is_none() {
        return;
    }
    let mut port = CanPort::open("vcan0", &[CanFilter::pgn(65265, None)]).unwrap();
    let sender = CanSocket::open("vcan0").unwrap();
    sender.write_frame(&frame(0x0CF0_0400, &[0; 8])).unwrap();
    let before = SystemClock.now();
    sender.write_frame(&frame(0x18FE_F100, &[0xFF, 0, 0x3C, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF])).unwrap();
    let after = SystemClock.now();
    thread::sleep(Duration::from_millis(200));
    let got = port.next(Duration::from_secs(2)).unwrap().expect("a frame");
    println!("stamped {:?} after it was sent, read 200 ms later", got.t.since(before));
    assert_eq!(got.frame.raw_id(), 0x18FE_F100, "the other group was filtered");
    // The three clock reads of a slow machine are what the margin is for.
    assert!(got.t.0 + 20_000_000 > before.0 && got.t.0 < after.0 + 20_000_000, "{got:?} {before:?} {after:?}");

    for i in 0..20_000u32 {
        while sender.write_frame(&frame(0x18FE_F100, &i.to_le_bytes())).is_err() {
            thread::sleep(Duration::from_millis(1));
        }
    }
    let mut received = 0u64;
    while port.next(Duration::from_millis(300)).unwrap().is_some() {
        received += 1;
    }
    sender.write_frame(&frame(0x18FE_F100, &[1])).unwrap();
    assert!(port.next(Duration::from_secs(1)).unwrap().is_some());
    // Only now: the kernel tells of drops with the next frame it could keep.
    println!("flood: {received} of 20000 received, {} counted as dropped", port.dropped());
    assert_eq!(received + port.dropped(), 20_000, "what is not received is counted");

    let run = |arguments: &[&str]| assert!(Command::new("ip").args(arguments).status().unwrap().success());
    run(&["link", "set", "vcan0", "down"]);
    let down = loop {
        if let Err(error) = port.next(Duration::from_secs(1)) {
            break error;
        }
    };
    println!("down while read: {down}");
    assert!(matches!(down, CanError::Down { .. }));
    let still = CanPort::open("vcan0", &[]).unwrap_err();
    println!("down when opened: {still}");
    assert!(matches!(still, CanError::Down { .. }));
    run(&["link", "set", "vcan0", "up"]);
    CanPort::open("vcan0", &[]).unwrap();
    println!("absent: {}", CanPort::open("can7", &[]).unwrap_err());
    run(&["link", "del", "vcan1"]);
    println!("removed: {}", CanPort::open("vcan1", &[]).unwrap_err());
}

/// An ordinary user finds the chip, may not open it, and is told the group.
#[test]
fn a_user_without_the_right_is_told_the_group() {
    if sim().is_none() {
        return;
    }
    // As root nothing is denied: the test runs itself again as nobody.
    if std::env::var_os("AS_NOBODY").is_none() {
        let again = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "a_user_without_the_right_is_told_the_group", "--nocapture"])
            .env("AS_NOBODY", "1")
            .status()
            .unwrap();
        assert!(again.success());
        return;
    }
    let denied = GpioCapture::open(LABEL, &[line(0, EdgeSelect::Both)], "test").unwrap_err();
    println!("denied: {denied}");
    assert!(matches!(denied, GpioError::PermissionDenied { .. }), "{denied}");
}
