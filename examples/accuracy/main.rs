//! How true Speedwell's speeds are, beside what others do with the same edges and beside what no method can beat.
//!
//! ```text
//! cargo run --release --example accuracy            the whole study, and docs/accuracy.svg
//! cargo run --release --example accuracy -- --help
//! ```
//!
//! `docs/accuracy.md` says what each line means. The study is in `study/`, which a test runs in a short form.

use std::process::ExitCode;

mod study;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    ExitCode::from(study::command(&arguments, &mut std::io::stdout(), &mut std::io::stderr()))
}
