//! What the service manager is told (sd_notify(3)). Does nothing where there is no NOTIFY_SOCKET.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::Vitals;

/// The service manager, if there is one.
#[derive(Debug)]
pub struct Systemd {
    watchdog: Option<Duration>,
}

impl Systemd {
    /// Reads NOTIFY_SOCKET and WATCHDOG_USEC from the environment, once.
    pub fn from_env() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled() }
    }

    /// How often to call [`Systemd::feed`]: a third of the watchdog's time, so that two calls may be late.
    pub fn period(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 3)
    }

    /// The agent is up.
    pub fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// A configuration is being looked at; [`Systemd::ready`] ends it, whatever came of it.
    pub fn reloading(&self) {
        // It counts the reload as begun at this time (sd_notify(3)); without it a `notify-reload` service fails it.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(cause) => tracing::debug!(%cause, "the time of a reload cannot be told"),
        }
    }

    /// One line for `systemctl status`.
    pub fn status(&self, line: &str) {
        tell(&[NotifyState::Status(line)]);
    }

    /// The agent stops on request.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// Feeds the watchdog if every loop is alive; says which is not otherwise. Gives whether it was fed.
    pub fn feed(&self, vitals: &mut Vitals, now: Instant) -> bool {
        let stuck = vitals.stuck(now);
        for (name, still) in &stuck {
            tracing::error!(name, still_s = still.as_secs(), "a loop hangs: the watchdog is not fed");
        }
        if stuck.is_empty() {
            tell(&[NotifyState::Watchdog]);
        }
        stuck.is_empty()
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(cause) = sd_notify::notify(states) {
        tracing::debug!(%cause, "the service manager did not hear");
    }
}
