//! Drives a line of the kernel's gpio-sim like a wheel that turns at a known speed, and writes down when it did.
//!
//! In      the line's `pull` file and a profile of pulse rates, `200x20,0x3,120.5x20`: pulses a second, times seconds.
//! Out     edges on the line; a CSV `segment,rising_before_ns,rising_after_ns`, CLOCK_BOOTTIME around each rising write.
//! Keeps   to the schedule: each edge is due at a time reckoned from the segment's start, so no error adds up. When it is
//!         held up, as in an emulated machine, the rest of the schedule moves: a wheel that was held up does not turn
//!         the faster for it afterwards.
//!
//! The log is the truth that a test compares with: an edge cannot have happened outside its before and after.
//!
//! ```text
//! pulse_writer /sys/devices/platform/gpio-sim.0/gpiochip0/sim_gpio0/pull 200x20,100x20 edges.csv
//! ```

use std::{
    error::Error,
    fs::{File, OpenOptions},
    io::{BufWriter, Write},
    thread,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// Sleeping ends late by up to this much; the rest of the way is waited awake.
const AWAKE: Duration = Duration::from_micros(400);

/// Later than this share of a pulse is held up, and moves the schedule.
const HELD_UP: f64 = 0.02;

/// A stretch of time at one rate.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Segment {
    pulses_per_s: f64,
    seconds: f64,
}

fn boot_ns() -> u64 {
    let t = clock_gettime(ClockId::Boottime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

fn wait_until(due_ns: u64) {
    loop {
        let left = Duration::from_nanos(due_ns.saturating_sub(boot_ns()));
        if left.is_zero() {
            return;
        }
        match left.checked_sub(AWAKE) {
            Some(sleep) => thread::sleep(sleep),
            None => std::hint::spin_loop(),
        }
    }
}

fn profile(text: &str) -> Result<Vec<Segment>, String> {
    let segment = |part: &str| {
        let (rate, seconds) = part.split_once('x')?;
        let segment = Segment { pulses_per_s: rate.parse().ok()?, seconds: seconds.parse().ok()? };
        (segment.pulses_per_s >= 0.0 && segment.seconds > 0.0).then_some(segment)
    };
    text.split(',')
        .map(|part| segment(part).ok_or_else(|| format!("`{part}` is not RATExSECONDS, as in 200x20")))
        .collect()
}

/// Pulses of equal halves; returns the time the segment ended at.
fn drive(pull: &mut File, log: &mut impl Write, index: usize, segment: Segment, start_ns: u64) -> std::io::Result<u64> {
    let pulse_ns = 1e9 / segment.pulses_per_s;
    let pulses = (segment.pulses_per_s * segment.seconds) as u64;
    let mut start_ns = start_ns;
    for half in 0..2 * pulses {
        // due(half) = start + half / 2 / rate
        let due = start_ns + (half as f64 / 2.0 * pulse_ns) as u64;
        wait_until(due);
        let before = boot_ns();
        pull.write_all(if half % 2 == 0 { b"pull-up" } else { b"pull-down" })?;
        if half % 2 == 0 {
            writeln!(log, "{index},{before},{}", boot_ns())?;
        }
        let late = before - due;
        if late as f64 > HELD_UP * pulse_ns {
            start_ns += late;
        }
    }
    let end_ns = start_ns + (segment.seconds * 1e9) as u64;
    wait_until(end_ns);
    Ok(end_ns)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [pull, segments, log] = arguments.as_slice() else {
        return Err("usage: pulse_writer PULL_FILE RATExSECONDS[,RATExSECONDS...] LOG_FILE".into());
    };
    let segments = profile(segments)?;
    let mut pull = OpenOptions::new().write(true).open(pull)?;
    let mut log = BufWriter::with_capacity(1 << 20, File::create(log)?);
    writeln!(log, "segment,rising_before_ns,rising_after_ns")?;
    pull.write_all(b"pull-down")?;
    // Everything that allocates or opens is behind us when the first edge is due.
    let mut at = boot_ns() + 100_000_000;
    for (index, segment) in segments.into_iter().enumerate() {
        at = drive(&mut pull, &mut log, index, segment, at)?;
    }
    log.flush()?;
    Ok(())
}
