//! The one task that owns the recorder: hears the sensors, makes records, gives them to the spool.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use speedwell_wire::{Event, EventKind, Live, Record};
use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};
use tracing::{error, warn};

use super::sources::{Said, What};
use crate::{
    clock::{BootNs, Clock},
    health::Beat,
    recorder::{Recorder, Trouble},
    spool::{Spool, SpoolError},
};

/// How often due records are looked for and live values shown; five times a second is what a person sees as moving.
pub(super) const TURN: Duration = Duration::from_millis(200);

/// What is wrong with each sensor, in the order of the configuration.
pub(super) type Troubles = Vec<Option<Trouble>>;

/// See the module.
pub(super) struct Recording {
    pub(super) recorder: Recorder,
    pub(super) spool: Spool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) said: mpsc::Receiver<Said>,
    /// Records that others make: clock fixes, events of the uplink.
    pub(super) others: mpsc::Receiver<Record>,
    pub(super) shed: Arc<AtomicU64>,
    pub(super) live: watch::Sender<Option<Live>>,
    pub(super) troubles: watch::Sender<Troubles>,
    /// Samples lost and declared since start.
    pub(super) lost: Arc<AtomicU64>,
    pub(super) beat: Beat,
}

impl Recording {
    /// Runs until every sensor has closed, then keeps what is left and says goodbye in the log.
    pub(super) async fn run(mut self) {
        let mut turn = tokio::time::interval(TURN);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: receiving from a channel and ticking take nothing when they lose the race.
            tokio::select! {
                said = self.said.recv() => match said {
                    Some(said) => self.hear(said),
                    None => break,
                },
                Some(record) = self.others.recv() => self.keep(vec![record]).await,
                _ = turn.tick() => self.turn().await,
            }
        }
        self.finish().await;
    }

    fn hear(&mut self, said: Said) {
        let now = self.clock.now();
        match said.what {
            What::Readings(readings) => {
                readings.iter().for_each(|reading| self.recorder.take(said.sensor, reading, now))
            }
            What::Fault(detail) => self.recorder.fault(said.sensor, &detail, now),
        }
    }

    async fn turn(&mut self) {
        self.beat.bump();
        let now = self.clock.now();
        self.note_losses(now);
        let records = self.recorder.due(now, false);
        self.keep(records).await;
        self.live.send_replace(Some(self.recorder.live(now)));
        let troubles: Troubles = self.recorder.troubles().map(|(_, trouble)| trouble.cloned()).collect();
        self.troubles.send_if_modified(|old| {
            let changed = *old != troubles;
            *old = troubles;
            changed
        });
    }

    /// Makes the losses and notices of others part of the log.
    fn note_losses(&mut self, now: BootNs) {
        let shed = self.shed.swap(0, Ordering::Relaxed);
        if shed > 0 {
            self.recorder.shed(shed);
        }
        for notice in self.spool.take_notices() {
            warn!("{notice}");
            self.recorder.event(EventKind::Spool, notice, now);
        }
    }

    async fn keep(&mut self, records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        for record in &records {
            if let Record::Loss(loss) = record {
                self.lost.fetch_add(loss.samples, Ordering::Relaxed);
            }
        }
        match self.spool.append(records).await {
            Ok(_) => {}
            // The spool counts what it refuses and declares it once there is room.
            Err(SpoolError::Full { .. }) => {}
            Err(cause) => error!(%cause, "records could not be kept"),
        }
    }

    async fn finish(&mut self) {
        let now = self.clock.now();
        self.note_losses(now);
        let detail = "on request".to_owned();
        self.recorder.event(EventKind::Stopped, detail, now);
        let mut records = self.recorder.due(now, true);
        // Samples first: the goodbye is the last word.
        records.sort_by_key(|record| matches!(record, Record::Event(Event { kind: EventKind::Stopped, .. })));
        self.keep(records).await;
        if let Err(cause) = self.spool.flush().await {
            error!(%cause, "the last records could not be flushed");
        }
    }
}
