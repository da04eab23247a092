//! The path of an edge, a frame, a sentence and a look asks for no memory, and a wheel takes no more than it promises. A
//! test of its own, because the allocator is the whole process's.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use speedwell::{
    clock::BootNs,
    estimator::{Wheel, WheelOptions},
    sensor::{Edge, EdgeKind, Reading, Sensor, hall::Edges},
};

mod sensor_inputs;

/// Counts what this thread asks of the system's allocator.
struct Counting;

thread_local! {
    static ASKED: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let count = |asked: &Cell<(u64, u64)>| {
            let (times, bytes) = asked.get();
            asked.set((times + 1, bytes + layout.size() as u64));
        };
        // A thread that ends has no counter any more.
        let _ = ASKED.try_with(count);
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

/// Times and bytes asked for since the thread began.
fn asked() -> (u64, u64) {
    ASKED.with(Cell::get)
}

fn options(teeth: u32, edges: Edges) -> WheelOptions {
    WheelOptions {
        edges,
        pulses_per_metre: f64::from(teeth) / 1.94,
        pulses_per_turn: Some(teeth),
        missing_teeth: if edges == Edges::Falling { 2 } else { 0 },
        max_speed: 200.0,
        rotational_speed: true,
        distance: true,
        direction: true,
        ..WheelOptions::default()
    }
}

/// Two minutes of driving, standing, sparks, losses and driving on.
fn edges(edges: Edges, mut take: impl FnMut(Edge, bool)) {
    let (mut t, mut seqno, mut rng) = (100_000_000_000, 0, fastrand::Rng::with_seed(1));
    for k in 0..200_000u32 {
        let standing = if k % 50_000 == 49_999 { 5_000_000_000 } else { 0 };
        t += 580_000 + rng.u64(0..10_000) + standing;
        seqno += 1 + u32::from(k % 3001 == 3000);
        if edges == Edges::Falling && k % 60 >= 58 {
            continue;
        }
        let code = if edges == Edges::Quadrature { k % 4 } else { 0 };
        let kind = match (edges, code) {
            (Edges::Falling, _) | (_, 2 | 3) => EdgeKind::Falling,
            _ => EdgeKind::Rising,
        };
        let line = (code % 2) as usize;
        take(Edge { t: BootNs(t), line, kind, seqno, line_seqno: seqno }, k % 170 == 0);
        if k % 997 == 0 {
            take(Edge { t: BootNs(t + 4000), line, kind, seqno, line_seqno: seqno }, false);
        }
    }
}

#[test]
fn edges_and_ticks_ask_for_no_memory() {
    for kind in [Edges::Rising, Edges::Falling, Edges::Both, Edges::Quadrature] {
        let mut wheel = Wheel::new(options(60, kind));
        let mut out: Vec<Reading> = Vec::with_capacity(64);
        let kept = wheel.memory().unwrap_or_default();
        let before = asked();
        let mut said = 0;
        edges(kind, |edge, tick| {
            wheel.on_edge(&edge);
            if tick {
                wheel.tick(edge.t, &mut out);
                let _live = Wheel::live(&wheel, edge.t);
                said += out.len();
                out.clear();
            }
        });
        assert_eq!(asked(), before, "{kind:?}");
        assert!(said > 1000, "{kind:?}: {said}");
        // The counter sees what is asked for.
        assert!(wheel.memory().is_some_and(|memory| memory.len() >= kept.len()));
        assert!(asked() > before);
    }
}

#[test]
fn frames_sentences_and_looks_ask_for_no_memory() {
    for mut fed in sensor_inputs::all() {
        let mut out: Vec<Reading> = Vec::with_capacity(64);
        let mut said = 0;
        let mut run = |from: u64, to: u64| {
            for k in from..to {
                (fed.feed)(k, &mut out);
                said += out.iter().filter(|reading| reading.value.is_ok()).count();
                out.clear();
            }
        };
        // The first input may make a sensor ready for all the others.
        run(0, 100);
        let before = asked();
        run(100, 2100);
        assert_eq!(asked(), before, "{}", fed.name);
        assert!(said > 50, "{}: {said}", fed.name);
    }
}

#[test]
fn a_wheel_takes_four_kilobytes_and_24_bytes_a_tooth() {
    for teeth in [1, 8, 48, 60, 360, 512, 513, 100_000] {
        let (_, before) = asked();
        let wheel = Wheel::new(options(teeth, Edges::Rising));
        let (_, after) = asked();
        let takes = size_of_val(&wheel) as u64 + after - before;
        let learned = if teeth <= 512 { u64::from(teeth) } else { 0 };
        assert!(takes <= 4096 + 24 * learned, "{teeth} teeth: {takes} bytes");
    }
}
