//! The whole of Speedwell in one process.
fn main() {}
