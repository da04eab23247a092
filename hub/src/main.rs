//! The command line of the hub.
fn main() {}
