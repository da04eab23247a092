//! Samples/s into the store.
fn main() {}
