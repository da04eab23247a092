//! The command line of the gateway agent.
fn main() {}
