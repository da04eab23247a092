//! What each kind of sensor on a bus or a line costs: ns a frame, a sentence, a reading, from the bytes to the value. And what
//! edges cost the thread that reads them, at rates as they come: a wake-up, a `poll` and a `read` of the kernel's for one or
//! few edges each time, and not a loop over memory.

use std::{
    hint::black_box,
    io::{self, Read, Write},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use speedwell::{
    clock::BootNs,
    estimator::{Wheel, WheelOptions},
    sensor::{Edge, EdgeKind, Reading, Sensor as _},
};

#[path = "../tests/sensor_inputs/mod.rs"]
mod sensor_inputs;

/// Inputs of each kind.
const COUNT: u64 = 200_000;

/// What an input may cost: a full 500 kbit/s bus brings 4000 frames a second, and all of them together may not take a
/// hundredth of a core that is ten times slower than this one.
const TARGET_NS: u64 = 5_000;

fn main() {
    println!("| what | figure | target |");
    println!("|---|---|---|");
    for mut fed in sensor_inputs::all() {
        let mut out: Vec<Reading> = Vec::with_capacity(64);
        let mut values = 0;
        let mut run = |from: u64, to: u64| {
            for k in from..to {
                (fed.feed)(black_box(k), &mut out);
                values += out.iter().filter(|reading| reading.value.is_ok()).count();
                out.clear();
            }
        };
        run(0, COUNT / 10);
        let start = Instant::now();
        run(COUNT / 10, COUNT / 10 + COUNT);
        let each = start.elapsed().as_nanos() as f64 / COUNT as f64;
        assert!(values > 0, "{} says nothing", fed.name);
        println!("| measuring: {} | {each:.0} ns | {TARGET_NS} ns |", fed.name);
    }
    for rate in [500, 2_000, 10_000] {
        match processor(rate) {
            Ok((share, edges)) => {
                println!(
                    "| measuring: processor at {rate} edges/s, {edges} read | {:.2} % of a core | |",
                    100.0 * share
                );
            }
            Err(cause) => println!("| measuring: processor at {rate} edges/s | not measured: {cause} | |"),
        }
    }
}

/// How long edges are read at each rate.
const WATCHED: Duration = Duration::from_secs(4);
/// `struct gpio_v2_line_event` of the kernel.
const EVENT: usize = 48;

/// The share of a core that a thread takes which reads edges at this rate from a pipe, in the kernel's form, and measures with
/// them, a report ten times a second; and how many it read. Who writes them is another thread, and not counted.
fn processor(rate: u64) -> io::Result<(f64, u64)> {
    let (mut from, mut to) = io::pipe()?;
    let writer = std::thread::spawn(move || {
        let (begin, spacing) = (Instant::now(), Duration::from_nanos(1_000_000_000 / rate));
        let mut next: u32 = 0;
        while begin.elapsed() < WATCHED {
            std::thread::sleep((begin + spacing * next).saturating_duration_since(Instant::now()));
            let mut event = [0; EVENT];
            event[..8].copy_from_slice(&(1_000_000_000 + u64::from(next) * 1_000_000_000 / rate).to_ne_bytes());
            event[16..20].copy_from_slice(&(next + 1).to_ne_bytes());
            if to.write_all(&event).is_err() {
                return;
            }
            next += 1;
        }
    });
    let mut wheel = Wheel::new(WheelOptions { pulses_per_turn: Some(48), ..WheelOptions::default() });
    let (mut buffer, mut readings) = ([0; 64 * EVENT], Vec::with_capacity(16));
    let (mut edges, mut tick, begin) = (0, 1_100_000_000, Instant::now());
    let before = thread_time()?;
    loop {
        let mut waits = libc::pollfd { fd: from.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor is given, which is open over the call.
        if unsafe { libc::poll(&raw mut waits, 1, 100) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let read = from.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        for event in buffer[..read].chunks_exact(EVENT) {
            let t = event.first_chunk().map_or(0, |t| u64::from_ne_bytes(*t));
            let seqno = event[16..].first_chunk().map_or(0, |n| u32::from_ne_bytes(*n));
            wheel.on_edge(&Edge { t: BootNs(t), line: 0, kind: EdgeKind::Rising, seqno, line_seqno: seqno });
            edges += 1;
            if t >= tick {
                wheel.tick(BootNs(t), &mut readings);
                black_box(readings.len());
                readings.clear();
                tick += 100_000_000;
            }
        }
    }
    let (took, over) = (thread_time()? - before, begin.elapsed());
    let _it_ended_the_pipe = writer.join();
    Ok((took.as_secs_f64() / over.as_secs_f64(), edges))
}

/// Processor time of this thread.
fn thread_time() -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one such struct, which lives over the call.
    match unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } {
        0 => Ok(Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)),
        _ => Err(io::Error::last_os_error()),
    }
}
