//! The task that watches the clock: which UTC a boot time is, told as records whenever that has to be said anew.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use speedwell_wire::{ClockFix, ClockSource, Event, EventKind, Record};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::clock::{BootNs, Fix, Steps, SystemClock, TimeSource, Timekeeper, UtcMap, Why};

/// What is known of UTC in this boot, for whoever has to name a time of day now.
#[derive(Clone, Default)]
pub(super) struct Known(Arc<RwLock<(UtcMap, Option<TimeSource>)>>);

impl Known {
    /// UTC of a boot time of this boot, ns since 1970; `None` while nobody vouches for the clock.
    pub(super) fn utc(&self, t: BootNs) -> Option<i64> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).0.utc(t).map(|utc| utc.ns)
    }

    /// Who vouches for the clock now.
    pub(super) fn source(&self) -> ClockSource {
        wire_source(self.0.read().unwrap_or_else(PoisonError::into_inner).1.unwrap_or(TimeSource::Untrusted))
    }

    fn learn(&self, fix: Fix) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.0.push(fix);
        known.1 = Some(fix.source);
    }
}

fn wire_source(source: TimeSource) -> ClockSource {
    match source {
        TimeSource::Untrusted => ClockSource::Untrusted,
        TimeSource::Ntp => ClockSource::Ntp,
        TimeSource::Gnss => ClockSource::Gnss,
    }
}

/// What the receiver that is to vouch for UTC said last: its name, a boot time, and UTC then in ns since 1970.
#[derive(Clone, Default)]
pub(super) struct Receiver(Arc<Mutex<Option<Told>>>);

type Told = (Arc<str>, BootNs, i64);

impl Receiver {
    pub(super) fn tell(&self, name: &Arc<str>, (t, utc_ns): (BootNs, i64)) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((name.clone(), t, utc_ns));
    }

    fn newest(&self) -> Option<Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Samples the clocks until the agent ends. `receiver` is what the sensor says that may vouch for UTC.
pub(super) async fn run(boot: u32, known: Known, receiver: Receiver, records: mpsc::Sender<Record>) {
    let (mut keeper, steps) = (Timekeeper::new(), Steps::listen());
    let mut refused = None;
    loop {
        if let Some((name, t, utc_ns)) = receiver.newest()
            && let Err(cause) = keeper.hear(t, utc_ns)
            && refused.replace(cause) != Some(cause)
        {
            warn!(sensor = %name, "{cause}");
            let (kind, detail) = (EventKind::Calibration, cause.to_string());
            let event = Event { boot, t_ns: t.0, sensor: Some(name.to_string()), kind, detail };
            let _ = records.send(Record::Event(event)).await;
        }
        if let Some((fix, why)) = keeper.take(SystemClock.sample()) {
            known.learn(fix);
            if let Why::Step(by_ns) = why {
                let whose = if fix.source == TimeSource::Gnss { "the receiver's time" } else { "real time" };
                let detail = format!("{whose} was stepped by {:+.3} s", by_ns as f64 / 1e9);
                warn!("{detail}");
                let kind = EventKind::ClockStep;
                let event = Event { boot, t_ns: fix.boot.0, sensor: None, kind, detail };
                let _ = records.send(Record::Event(event)).await;
            }
            info!(?why, source = ?fix.source, uncertainty_ms = fix.uncertainty_ns / 1_000_000, "clock");
            let record = Record::Clock(ClockFix {
                boot,
                boot_ns: fix.boot.0,
                utc_ns: fix.utc_ns,
                uncertainty_ns: fix.uncertainty_ns,
                rate_ppb: fix.rate_ppb,
                source: wire_source(fix.source),
            });
            if records.send(record).await.is_err() {
                return;
            }
        }
        // Cancel-safe: both only wait.
        tokio::select! {
            () = tokio::time::sleep(keeper.sample_after()) => {}
            () = steps.stepped() => {}
        }
    }
}
