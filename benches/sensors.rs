//! What each kind of sensor on a bus or a line costs: ns a frame, a sentence, a reading, from the bytes to the value.

use std::{hint::black_box, time::Instant};

use speedwell::sensor::Reading;

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
}
