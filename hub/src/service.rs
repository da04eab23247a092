//! What the service manager is told (sd_notify(3)). Does nothing where there is no NOTIFY_SOCKET.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

/// The database is open, the page is served, the broker is tried. It need not be there: that is no reason to be started
/// again.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Nothing more is taken; what was taken is being committed.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("committing what was taken")]);
}

/// Feeds the watchdog, if there is one, for as long as tasks get their turn. A disk that hangs is not cured by starting
/// anew, so the store is not asked.
pub(crate) async fn watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    // A third of its time, so that two may be late.
    let mut every = interval((limit / 3).max(Duration::from_millis(1)));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(cause) = sd_notify::notify(states) {
        tracing::warn!(%cause, "the service manager cannot be told");
    }
}
