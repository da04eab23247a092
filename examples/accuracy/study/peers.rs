//! How others measure, on the same edges: counting in a gate, the last period, count over time, plain least squares.
//!
//! Each gives a speed and the time it claims it for. None knows the teeth, refuses an edge or puts one back.

use speedwell::clock::BootNs;

use super::gear::drive_time;

/// What the table has a column for, in its order.
pub(crate) const NAMES: [&str; 4] = ["M", "T", "M/T", "LS"];

/// A speed, m/s, and the time in the drive it is said for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) speed: f64,
    pub(crate) t: f64,
}

/// The stamps a peer may look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    /// Those of the window our reading was made of.
    pub(crate) window: &'a [BootNs],
    /// How many came in the report period before the tick.
    pub(crate) in_gate: usize,
    /// The tick, and the report period, s.
    pub(crate) now: f64,
    pub(crate) period: f64,
    /// Metres a pulse.
    pub(crate) pitch: f64,
}

/// All four, in the order of [`NAMES`]; `None` where two edges at one time, or too few, make no speed.
pub(crate) fn all(seen: &Seen) -> [Option<Said>; 4] {
    [Some(counted(seen)), last_period(seen), count_over_time(seen), least_squares(seen)]
}

/// M: `v = count d / Ts`, for the middle of the gate.
fn counted(seen: &Seen) -> Said {
    Said { speed: seen.in_gate as f64 * seen.pitch / seen.period, t: seen.now - seen.period / 2.0 }
}

/// T: `v = d / (t_n - t_(n-1))`.
fn last_period(seen: &Seen) -> Option<Said> {
    let [.., before, last] = seen.window else { return None };
    over(seen.pitch, *before, *last, 1)
}

/// M/T: `v = (n-1) d / (t_n - t_1)`.
fn count_over_time(seen: &Seen) -> Option<Said> {
    let [first, .., last] = seen.window else { return None };
    over(seen.pitch, *first, *last, seen.window.len() - 1)
}

fn over(pitch: f64, first: BootNs, last: BootNs, pulses: usize) -> Option<Said> {
    let (from, to) = (drive_time(first), drive_time(last));
    (to > from).then(|| Said { speed: pulses as f64 * pitch / (to - from), t: 0.5 * (from + to) })
}

/// LS: the slope of the edge's number on its time, said for the mean time.
fn least_squares(seen: &Seen) -> Option<Said> {
    let count = seen.window.len();
    let first = *seen.window.first()?;
    let times = || seen.window.iter().map(|&t| drive_time(t) - drive_time(first));
    let mean = times().sum::<f64>() / count as f64;
    let middle = 0.5 * (count as f64 - 1.0);
    let (mut xx, mut xy) = (0.0, 0.0);
    for (k, t) in times().enumerate() {
        xx += (t - mean) * (t - mean);
        xy += (t - mean) * (k as f64 - middle);
    }
    (xx > 0.0).then(|| Said { speed: xy / xx * seen.pitch, t: mean + drive_time(first) })
}
