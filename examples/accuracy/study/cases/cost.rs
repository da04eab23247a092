//! S14: what a measurement costs.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
    time::Instant,
};

use speedwell::estimator::Wheel;

use super::{
    super::{
        chance::Chance,
        gear::{TOOTH_ERROR, delivered},
        options::Options,
        ours::{Feed, options as wheel_options, ticks},
        report::{Gate, Group, Row},
    },
    cruise, drive,
};

/// Counts what this thread asks of the system's allocator.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged. The counters need no memory of their own: they are
// initialised by constants and have nothing to drop.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        BYTES.set(BYTES.get() + layout.size() as u64);
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

/// Most that an edge may take on a gateway, ns; this machine has to keep to it in an optimised build.
const NS_AN_EDGE: f64 = 2000.0;
/// Most that a wheel may occupy, bytes: for itself, and a tooth.
const BYTES_A_WHEEL: usize = 4096;
const BYTES_A_TOOTH: usize = 24;

pub(super) fn run(options: &Options) -> Group {
    let mut group = Group::new("S14", format!("cost, on {}", machine()));
    let seconds = if options.quick { 20.0 } else { 600.0 };
    let road = cruise().change_to(17.3, 1.0).swing(5.0, 0.2, seconds);
    let (gear, passings) = drive(48, TOOTH_ERROR, 5e-6, &road, &mut Chance::of(options.seed, "cost"));
    let edges = delivered(passings.iter().map(|passing| passing.stamp), 1);
    let wheel_options = wheel_options(&gear, 0.1);

    let before = BYTES.get();
    drop(black_box(Wheel::new(wheel_options)));
    let bytes = size_of::<Wheel>() + (BYTES.get() - before) as usize;

    let mut feed = Feed::new(wheel_options, &edges);
    feed.edges_until(100.0);
    let (calls, start) = (CALLS.get(), Instant::now());
    for now in ticks(100.0, road.length(), 0.1) {
        black_box(feed.tick(now));
    }
    let took = start.elapsed();
    let calls = CALLS.get() - calls;
    let counted = passings.iter().filter(|passing| passing.t > 100.0).count();
    let each = took.as_nanos() as f64 / counted as f64;
    // A build for debugging, under whatever load the tests run, says nothing about a gateway.
    let gate = if options.quick { Gate::Told } else { Gate::AtMost(NS_AN_EDGE) };
    group.rows.push(Row::new("ns an edge, ticks at 10 Hz included", each, gate));
    group.rows.push(Row::new(format!("allocations in {counted} edges"), calls as f64, Gate::AtMost(0.0)));
    let limit = (BYTES_A_WHEEL + BYTES_A_TOOTH * gear.teeth.len()) as f64;
    group.rows.push(Row::new("bytes of a wheel of 48 teeth", bytes as f64, Gate::AtMost(limit)));
    group
}

/// The machine, as far as it says.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, model)| model);
    format!("{cores} cores of {}", model.unwrap_or(std::env::consts::ARCH))
}
