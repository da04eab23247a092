//! What a measurement costs: ns an edge, a CAN frame, a sentence, and allocations in the hot path.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use embedded_can::{ExtendedId, Frame, Id};
use speedwell::{
    clock::BootNs,
    estimator::{Wheel, WheelOptions},
    sensor::{
        Edge, EdgeKind, Sensor, TimedFrame,
        hall::Edges,
        j1939::{self, J1939},
        nmea::{self, Nmea},
    },
};

/// Counts what is asked of the system's allocator.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A frame without a bus.
#[derive(Clone, Copy)]
struct Raw(Id, [u8; 8]);

impl Frame for Raw {
    fn new(id: impl Into<Id>, data: &[u8]) -> Option<Self> {
        Some(Raw(id.into(), data.try_into().ok()?))
    }
    fn new_remote(_: impl Into<Id>, _: usize) -> Option<Self> {
        None
    }
    fn is_extended(&self) -> bool {
        true
    }
    fn is_remote_frame(&self) -> bool {
        false
    }
    fn id(&self) -> Id {
        self.0
    }
    fn dlc(&self) -> usize {
        8
    }
    fn data(&self) -> &[u8] {
        &self.1
    }
}

/// Runs `what` `count` times, after a tenth of that to warm up; prints the time and the allocations of one.
fn measure(name: &str, count: u64, mut what: impl FnMut(u64)) {
    (0..count / 10).for_each(&mut what);
    let (allocations, start) = (ALLOCATIONS.load(Ordering::Relaxed), Instant::now());
    (count / 10..count / 10 + count).for_each(&mut what);
    let (took, allocated) = (start.elapsed(), ALLOCATIONS.load(Ordering::Relaxed) - allocations);
    let each = took.as_nanos() as f64 / count as f64;
    println!("| measuring: {name} | {each:.1} ns, {allocated} allocations | 2000 ns, 0 |");
}

fn main() {
    let mut out = Vec::with_capacity(64);

    let mut rng = fastrand::Rng::with_seed(1);
    let jitter: Vec<u64> = (0..4096).map(|_| rng.u64(0..20_000)).collect();
    let mut wheel = Wheel::new(WheelOptions::default());
    let edge = |k: u64, spacing: u64| Edge {
        t: BootNs(k * spacing + jitter[k as usize % 4096]),
        line: 0,
        kind: EdgeKind::Rising,
        seqno: k as u32 + 1,
        line_seqno: k as u32 + 1,
    };
    // 1000 edges a second.
    measure("edge", 2_000_000, |k| wheel.on_edge(black_box(&edge(k, 1_000_000))));
    let end = 2_200_000 * 1_000_000;
    let mut now = end;
    measure("edge, with ticks at 10 Hz", 2_000_000, |k| {
        let edge = edge(k + 2_200_000, 1_000_000);
        wheel.on_edge(black_box(&edge));
        if edge.t.0 >= now {
            now += 100_000_000;
            wheel.tick(edge.t, &mut out);
            out.clear();
        }
    });

    // A left-out pair and a table that is learned, and two lines with four edges a pulse.
    let gap = WheelOptions { pulses_per_turn: Some(60), missing_teeth: 2, ..WheelOptions::default() };
    let mut crank = Wheel::new(gap);
    measure("edge, 60-2", 2_000_000, |k| crank.on_edge(black_box(&edge(k + 2 * (k / 58), 1_000_000))));
    let mut encoder = Wheel::new(WheelOptions { edges: Edges::Quadrature, ..WheelOptions::default() });
    measure("edge of two lines", 2_000_000, |k| {
        let kind = if k % 4 < 2 { EdgeKind::Rising } else { EdgeKind::Falling };
        encoder.on_edge(black_box(&Edge { kind, line: k as usize % 2, line_seqno: 0, ..edge(k, 250_000) }));
    });
    let mut largest = Wheel::new(WheelOptions { pulses_per_turn: Some(512), ..WheelOptions::default() });
    measure("edge of 512 teeth", 2_000_000, |k| largest.on_edge(black_box(&edge(k, 1_000_000))));
    let kept = largest.memory().unwrap_or_default();
    let mut restored = Wheel::new(WheelOptions { pulses_per_turn: Some(512), ..WheelOptions::default() });
    restored.remember(&kept);
    measure("edge of 512 teeth, finding the place", 15_000, |k| restored.on_edge(black_box(&edge(k, 1_000_000))));
    let end = BootNs(2_200_000_000_000_000);
    measure("live value", 2_000_000, |k| {
        black_box(Wheel::live(&wheel, BootNs(end.0 + k % 1000)).is_ok());
    });

    let id = |raw: u32| Id::from(ExtendedId::new(raw).expect("a number of 29 bits"));
    let [ours, other] = [id(0x18FE_F100), id(0x0CF0_0400)].map(|id| Raw(id, [0xF3, 0, 0x3C, 0, 0, 0xFF, 0x1F, 0xFF]));
    let mut truck = J1939::new(j1939::Options { report: Duration::from_micros(1), ..j1939::Options::default() });
    let mut hear = |frame: Raw, k: u64| {
        truck.on_frame(black_box(&TimedFrame { t: BootNs(k * 10_000_000), frame }), &mut out);
        out.clear();
    };
    measure("CAN frame, ours", 2_000_000, |k| hear(ours, k + 1));
    measure("CAN frame, another's", 2_000_000, |k| hear(other, k));

    let sentence = b"$GPRMC,132820.60,A,4134.49821229,N,09345.03351845,W,3.252,92.308,180320,11.5985,E,D*1A\r\n";
    let mut receiver = Nmea::new(nmea::Options { report: Duration::from_micros(1), ..nmea::Options::default() });
    measure("NMEA sentence", 500_000, |k| {
        receiver.on_bytes(BootNs((k + 1) * 100_000_000), black_box(sentence), &mut out);
        out.clear();
    });
    println!("| measuring: memory of a wheel, but for 24 bytes a tooth | {} bytes | 4096 bytes |", size_of::<Wheel>());
}
