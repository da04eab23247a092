//! The task that gathers how the gateway is, for the hub's status and for systemd.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use speedwell_wire::{
    ClockSource,
    message::{Health, SensorHealth},
};
use tokio::sync::watch;

use super::{
    recording::{Fused, Troubles},
    running::Member,
    timekeeping::Known,
};
use crate::{
    health::{self, Inputs, Systemd, Vitals},
    sensor::Counters,
    spool::Spool,
    uplink::{Link, Observer},
};

/// How often health is gathered. The heartbeat to the hub is a minute; a change of a sensor's trouble goes at once.
const GATHER: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Reporter {
    pub(super) started: Instant,
    pub(super) boot: u32,
    pub(super) spool: Spool,
    pub(super) observer: Observer,
    pub(super) known: Known,
    pub(super) lost: Arc<AtomicU64>,
    /// The sensors there are.
    pub(super) members: watch::Receiver<Vec<Member>>,
    pub(super) fused: Fused,
    pub(super) troubles: watch::Receiver<Troubles>,
    pub(super) health: watch::Sender<Option<Health>>,
    pub(super) systemd: Systemd,
    pub(super) vitals: Vitals,
}

impl Reporter {
    /// Runs until aborted.
    pub(super) async fn run(mut self) {
        self.gather();
        self.systemd.ready();
        let mut turn = tokio::time::interval(self.systemd.period().unwrap_or(GATHER).min(GATHER));
        loop {
            // Cancel-safe: neither arm takes anything when it loses the race.
            tokio::select! {
                _ = turn.tick() => {}
                changed = self.troubles.changed() => if changed.is_err() {
                    // The recorder has ended: the agent stops, only the watchdog is still to be fed.
                    turn.tick().await;
                },
            }
            self.gather();
            self.systemd.feed(&mut self.vitals, Instant::now());
        }
    }

    fn gather(&mut self) {
        let spool = self.spool.stats();
        let inputs = Inputs {
            uptime: self.started.elapsed(),
            boot: self.boot,
            log: self.spool.log_id(),
            last_seq: spool.last_seq,
            confirmed_seq: spool.confirmed_seq,
            spool_bytes: spool.disk_bytes,
            lost_samples: self.lost.load(Ordering::Relaxed),
            clock: self.known.source(),
            sensors: self.sensors(),
        };
        self.systemd.status(&self.line(&inputs));
        self.health.send_replace(Some(health::assemble(inputs)));
    }

    fn sensors(&mut self) -> Vec<SensorHealth> {
        let troubles = self.troubles.borrow_and_update();
        // One that has values can have something to explain too: why they are degraded.
        let health = |name: &str, counters: Counters, words: String| {
            let trouble = troubles.iter().find(|(of, _)| of == name).and_then(|(_, trouble)| trouble.as_ref());
            SensorHealth {
                name: name.to_owned(),
                trouble: trouble.map(|trouble| trouble.reason),
                detail: trouble.map_or(words, |trouble| trouble.detail.clone()),
                inputs: counters.inputs,
                lost: counters.lost,
                rejected: counters.rejected,
            }
        };
        let of = |member: &Member| {
            let tally = member.counters.lock().unwrap_or_else(PoisonError::into_inner);
            health(&member.sensor.name, tally.total(), tally.words.clone().unwrap_or_default())
        };
        let mut all: Vec<SensorHealth> = self.members.borrow().iter().map(of).collect();
        // The fused speed has words too, and counts nothing.
        let fused = self.fused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.extend(fused.map(|(name, words)| health(&name, Counters::default(), words)));
        all
    }

    /// What `systemctl status` shows.
    fn line(&self, inputs: &Inputs) -> String {
        let ill = inputs.sensors.iter().filter(|sensor| sensor.trouble.is_some()).count();
        let link = match self.observer.stats().link {
            Link::Connected => "connected",
            Link::Connecting => "connecting",
            Link::Waiting => "waiting to connect",
            Link::Stopped => "stopped",
        };
        let clock = if inputs.clock == ClockSource::Untrusted { ", clock not set" } else { "" };
        format!(
            "{} of {} sensors well, {link}, {} records unconfirmed{clock}",
            inputs.sensors.len() - ill,
            inputs.sensors.len(),
            inputs.last_seq.saturating_sub(inputs.confirmed_seq),
        )
    }
}
