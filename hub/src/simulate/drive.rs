//! Runs one simulated gateway: makes what is due, holds the line, sends until the hub has it.

use std::{
    future,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use speedwell_wire::{Confirm, frame, topic::Topics};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval_at, sleep_until},
};

use super::{
    gateway::{Befalls, Gateway},
    line::{Connection, Line, QoS, Said},
    tally::{Tally, add},
    window::Window,
};

/// How often live values and the status are said, whatever the speed.
const LIVE_EVERY: Duration = Duration::from_secs(1);
const STATUS_EVERY: Duration = Duration::from_secs(60);
/// Seconds made at a time: more would hold up confirmations.
const AT_A_TIME: u64 = 200;
/// First and longest wait before another connection, before jitter.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// When what is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Of the run.
    pub(super) began: Instant,
    /// Simulated seconds a second.
    pub(super) speed: f64,
    /// Where in a second this gateway makes its records, so that not all do at once.
    pub(super) phase: f64,
    /// Simulated seconds after which nothing more is made.
    pub(super) until: Option<u64>,
    /// How long the hub may take for the last of it.
    pub(super) patience: Duration,
}

/// What a gateway works with.
pub(super) struct Drive {
    /// The gateway.
    pub(super) gateway: Gateway,
    /// To the broker.
    pub(super) line: Arc<Line>,
    /// The operator's topic prefix and its name.
    pub(super) topics: Topics,
    /// Where it is counted.
    pub(super) tally: Arc<Tally>,
    /// See there.
    pub(super) pace: Pace,
    /// When it first connects.
    pub(super) connect_at: Instant,
}

struct Running {
    drive: Drive,
    connection: Option<Connection>,
    /// Confirmations will be heard, so there is a point in sending.
    up: bool,
    connect_at: Instant,
    backoff: Duration,
    window: Window,
    again: bool,
    live_at: Instant,
    status_at: Instant,
}

/// Lives until told to stop and everything is confirmed, or the patience is over. Gives how many records were not.
pub(super) async fn run(drive: Drive, mut stop: watch::Receiver<bool>) -> u64 {
    let now = Instant::now();
    let period = Duration::from_secs_f64((1.0 / drive.pace.speed).clamp(0.05, 1.0));
    let mut tick = interval_at((now + period.mul_f64(drive.pace.phase)).into(), period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let patience = drive.pace.patience;
    let connect_at = drive.connect_at;
    let mut running = Running {
        drive,
        connection: None,
        up: false,
        connect_at,
        backoff: BACKOFF.0,
        window: Window::new(now),
        again: false,
        live_at: now,
        status_at: now,
    };
    let mut end_by = None;
    loop {
        // Each arm only takes from a channel or waits, which loses nothing when another is chosen.
        tokio::select! {
            _ = tick.tick() => running.tick(Instant::now(), end_by.is_some()),
            () = until(end_by) => {}
            said = next(&mut running.connection) => running.heard(said, Instant::now()),
            _ = stop.wait_for(|stop| *stop), if end_by.is_none() => {
                let now = Instant::now();
                running.make(now);
                running.count(|gateway| gateway.stop());
                // Whoever is cut off comes back for the end.
                running.connect_at = running.connect_at.min(now + Duration::from_secs_f64(fastrand::f64()));
                end_by = Some(now + patience);
            }
        }
        running.send(Instant::now());
        let left = running.drive.gateway.log.kept();
        if end_by.is_some_and(|end_by| left == 0 || Instant::now() >= end_by) {
            running.goodbye().await;
            return left;
        }
    }
}

async fn next(connection: &mut Option<Connection>) -> Said {
    match connection {
        Some(connection) => connection.next().await,
        None => future::pending().await,
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end.into()).await,
        None => future::pending().await,
    }
}

impl Running {
    fn tick(&mut self, now: Instant, ending: bool) {
        if !ending {
            self.make(now);
        }
        if self.connection.is_none() && now >= self.connect_at {
            let Drive { gateway, topics, line, .. } = &self.drive;
            self.connection = Some(line.connect(&gateway.id, topics, gateway.status(false, false)));
        }
        if self.window.overdue(now) {
            self.window.go_back(self.drive.gateway.log.confirmed() + 1, now);
        }
        if self.up && now >= self.live_at && !ending {
            let live = frame::encode(&self.drive.gateway.live());
            self.publish(self.drive.topics.live(), QoS::AtMostOnce, false, live);
            self.live_at = now + LIVE_EVERY;
        }
        if self.up && now >= self.status_at {
            self.status(now);
        }
    }

    fn status(&mut self, now: Instant) {
        let status = self.drive.gateway.status(true, true);
        self.publish(self.drive.topics.status(), QoS::AtLeastOnce, true, status);
        self.status_at = now + STATUS_EVERY;
    }

    /// Makes all that is due by now.
    fn make(&mut self, now: Instant) {
        let Pace { began, speed, until, .. } = self.drive.pace;
        let due = (now.saturating_duration_since(began).as_secs_f64() * speed) as u64;
        let due = until.map_or(due, |until| due.min(until));
        let missing = due.saturating_sub(self.drive.gateway.seconds());
        for _ in 0..missing.min(AT_A_TIME) {
            let mut befalls = None;
            self.count(|gateway| befalls = gateway.second());
            match befalls {
                Some(Befalls::Cut(seconds)) => self.cut(seconds, now),
                Some(Befalls::Again) => self.again = true,
                Some(Befalls::NewLog(seconds)) => {
                    self.window.begin(now);
                    self.cut(seconds, now);
                }
                None => {}
            }
        }
        let late = missing.saturating_sub(AT_A_TIME) as f64 / speed;
        self.drive.tally.late_ms.fetch_max((late * 1e3) as u64, Ordering::Relaxed);
    }

    /// Lets the gateway do something, and counts what it made.
    fn count(&mut self, act: impl FnOnce(&mut Gateway)) {
        let gateway = &mut self.drive.gateway;
        let (made, shed) = (gateway.made, gateway.log.shed_samples());
        act(gateway);
        self.drive.tally.made(&made, &gateway.made);
        // A new log begins at nothing shed.
        add(&self.drive.tally.shed, gateway.log.shed_samples().saturating_sub(shed));
    }

    fn cut(&mut self, seconds: f64, now: Instant) {
        add(&self.drive.tally.cuts, 1);
        self.down();
        self.connect_at = self.connect_at.max(now + Duration::from_secs_f64(seconds / self.drive.pace.speed));
    }

    fn down(&mut self) {
        self.connection = None;
        if std::mem::take(&mut self.up) {
            self.drive.tally.connected.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn heard(&mut self, said: Said, now: Instant) {
        match said {
            Said::Connected => {
                self.up = true;
                self.backoff = BACKOFF.0;
                add(&self.drive.tally.connected, 1);
                let manifest = self.drive.gateway.manifest();
                let (hash, frame) = (manifest.hash(), frame::encode(manifest));
                self.publish(self.drive.topics.manifest(hash), QoS::AtLeastOnce, true, frame);
                self.status(now);
                self.window.go_back(self.drive.gateway.log.confirmed() + 1, now);
            }
            Said::Confirm(confirm) => self.confirmed(confirm, now),
            Said::Lost(why) => {
                self.drive.tally.lost(why);
                self.down();
                self.connect_at = now + self.backoff.mul_f64(fastrand::f64());
                self.backoff = (self.backoff * 2).min(BACKOFF.1);
            }
        }
    }

    fn confirmed(&mut self, Confirm { log, thru }: Confirm, now: Instant) {
        let own = &self.drive.gateway.log;
        // Another log's: of an older card or another run. What was never written is another gateway's of this name.
        if log != own.id || thru > own.last() {
            return;
        }
        let known = own.confirmed();
        if thru > known {
            let mut freed = 0;
            self.count(|gateway| freed = gateway.confirmed(thru));
            add(&self.drive.tally.confirmed, freed);
            self.window.advance(thru, now);
        } else if thru == known {
            self.window.repeated(now);
        } else {
            // The hub was restored from a backup; what is freed is gone.
            add(&self.drive.tally.went_back, 1);
            self.window.go_back(known + 1, now);
        }
    }

    fn send(&mut self, now: Instant) {
        while self.up && self.window.open() {
            let gateway = &self.drive.gateway;
            let Some(sent) = gateway.log.batch(&gateway.id, self.window.next) else { return };
            let (topic, bytes) = (self.drive.topics.log(), sent.payload.len());
            if !self.publish(topic.clone(), QoS::AtLeastOnce, false, sent.payload.clone()) {
                return;
            }
            let tally = &self.drive.tally;
            add(&tally.batches, 1);
            add(&tally.resent, self.window.sent(sent.first, sent.next, bytes, now));
            if std::mem::take(&mut self.again) && self.publish(topic, QoS::AtLeastOnce, false, sent.payload) {
                add(&tally.doubled, 1);
                add(&tally.resent, sent.next - sent.first);
            }
        }
    }

    fn publish(&self, topic: String, qos: QoS, retain: bool, payload: Vec<u8>) -> bool {
        self.connection.as_ref().is_some_and(|line| line.publish(topic, qos, retain, payload))
    }

    async fn goodbye(mut self) {
        if self.up {
            let status = self.drive.gateway.status(false, true);
            self.publish(self.drive.topics.status(), QoS::AtLeastOnce, true, status);
            if let Some(connection) = self.connection.take() {
                connection.close().await;
            }
        }
        self.down();
    }
}
