//! The loop that hangs the parts together: one turn of [`run`] is one connection.

use std::{collections::BTreeSet, future::Future, pin::Pin, time::Duration};

use speedwell_wire::{Confirm, Event, EventKind, ManifestHash, Seq, Status, message::Health, topic::Topics};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    Confirmation, Fault, Link, Log, Options, Parts,
    backoff::Backoff,
    compose::{Composed, Composer, MERGE_BEHIND, Origin, manifest_of},
    mqtt::{Busy, Connection, Happening, How, Will},
    session::{Overdue, Rules, Session, Verdict, Want},
};

/// How often the waits are looked at, at most: fine enough for waits of seconds.
const TICK: Duration = Duration::from_millis(250);

/// After the subscription stands, how long to listen for the confirmation the broker has kept before sending: with it,
/// nothing is sent that the hub already has.
const LISTEN: Duration = Duration::from_millis(300);

/// Wait after the log could not be read.
const LOG_RETRY: Duration = Duration::from_secs(1);

/// Replicates the log until `shutdown` is done, then takes leave of the broker. Never fails: what goes wrong is told to
/// the observer, logged, and tried again.
pub async fn run(options: Options, log: impl Log, parts: Parts, shutdown: impl Future<Output = ()>) {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut uplink = Uplink::new(options, log, parts);
    let mut backoff = Backoff::new(uplink.options.times.backoff_base, uplink.options.times.backoff_cap);
    loop {
        let end = uplink.connect_and_serve(shutdown.as_mut(), &mut backoff).await;
        uplink.over();
        let fault = match end {
            End::Stopped => break,
            End::NewLog => continue,
            End::Fault(fault) => fault,
        };
        let wait = backoff.next(fastrand::f64());
        uplink.tell(&fault, wait);
        // Cancel-safe: a timer, and the agent's own signal.
        tokio::select! {
            () = sleep(wait) => {}
            () = shutdown.as_mut() => break,
        }
    }
    uplink.parts.observer.link(Link::Stopped);
}

/// Tries the broker once: connect, be accepted, leave. Uses the client id with `-check` behind it, so that a running
/// agent is not thrown off.
pub async fn probe(options: &Options) -> Result<(), Fault> {
    let id = format!("{}-check", options.gateway);
    let connection = Connection::open(options, &id, None).await?;
    connection.close(options.times.goodbye).await;
    Ok(())
}

/// How a connection ended.
enum End {
    Stopped,
    /// The log was replaced: begin with the new one.
    NewLog,
    Fault(Fault),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        End::Fault(fault)
    }
}

struct Uplink<L> {
    options: Options,
    parts: Parts,
    log: L,
    log_id: watch::Receiver<speedwell_wire::LogId>,
    session: Session,
    composer: Composer,
    topics: Topics,
    /// Manifests said in this connection.
    said: BTreeSet<ManifestHash>,
    live_due: bool,
    health_due: bool,
    live_at: Option<Instant>,
    status_at: Option<Instant>,
    /// The trouble of the sensors in the last status.
    trouble: Vec<(String, Option<speedwell_wire::NoData>)>,
    read_after: Option<Instant>,
}

impl<L: Log> Uplink<L> {
    fn new(options: Options, log: L, parts: Parts) -> Self {
        let mut log_id = log.log();
        let id = *log_id.borrow_and_update();
        let session = Session::new(Rules::from(&options), id, log.confirmed());
        let composer = Composer::new(&options, parts.utc.clone());
        let topics = Topics::new(&options.topic_prefix, &options.gateway);
        Self {
            options,
            parts,
            log,
            log_id,
            session,
            composer,
            topics,
            said: BTreeSet::new(),
            live_due: false,
            health_due: false,
            live_at: None,
            status_at: None,
            trouble: Vec::new(),
            read_after: None,
        }
    }

    async fn connect_and_serve(
        &mut self,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
        backoff: &mut Backoff,
    ) -> End {
        self.parts.observer.link(Link::Connecting);
        let id = self.options.gateway.to_string();
        let will = Will { topic: self.topics.status(), payload: self.status(false, None) };
        // Cancel-safe: an opening that is dropped closes its socket.
        let connection = tokio::select! {
            opened = Connection::open(&self.options, &id, Some(will)) => match opened {
                Ok(connection) => connection,
                Err(fault) => return End::Fault(fault),
            },
            () = shutdown.as_mut() => return End::Stopped,
        };
        self.parts.observer.link(Link::Connected);
        self.parts.observer.note(|s| s.connections += 1);
        tracing::info!(host = self.options.host, port = self.options.port, "connected to the broker");
        self.serve(connection, shutdown, backoff).await
    }

    /// One connection, from CONNACK to its end.
    async fn serve(
        &mut self,
        mut connection: Connection,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
        backoff: &mut Backoff,
    ) -> End {
        let opened = Instant::now();
        let (mut durable, mut live, mut health) =
            (self.log.durable(), self.parts.live.clone(), self.parts.health.clone());
        let mut open = (true, self.options.live, true);
        let mut tick = interval(TICK.min(self.options.times.confirm / 10).max(Duration::from_millis(10)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.composer.limit(connection.max_payload());
        let mut listening = self.greet(&connection);
        self.session.durable(*durable.borrow_and_update());
        loop {
            // Cancel-safe: every arm only waits on a channel or a timer; what follows runs to its end.
            tokio::select! {
                happening = connection.next() => {
                    let over = match happening {
                        Ok(happening) => self.take(happening, &mut listening).await,
                        Err(fault) => Err(fault),
                    };
                    if let Err(fault) = over {
                        return End::Fault(fault);
                    }
                }
                changed = durable.changed(), if open.0 => open.0 = changed.is_ok(),
                changed = live.changed(), if open.1 && !self.live_due => {
                    open.1 = changed.is_ok();
                    self.live_due = open.1;
                }
                changed = health.changed(), if open.2 => {
                    open.2 = changed.is_ok();
                    self.health_due = open.2;
                }
                _ = tick.tick() => if let Err(fault) = self.tick(opened, backoff) {
                    return End::Fault(fault);
                },
                () = shutdown.as_mut() => {
                    self.leave(connection).await;
                    return End::Stopped;
                }
            }
            if self.log_id.has_changed().unwrap_or(false) {
                self.begin_new_log();
                return End::NewLog;
            }
            self.session.durable(*durable.borrow());
            if listening.is_some_and(|until| Instant::now() >= until) {
                listening = None;
                self.session.connected(self.parts.clock.now());
            }
            self.aside(&connection);
            if self.pump(&connection).await.is_err() {
                // There is room for all that may be unacknowledged; a queue that is full all the same is a line that is
                // stuck.
                let stuck = Fault::Broken { cause: "nothing more can be written".into() };
                return End::Fault(connection.fault().unwrap_or(stuck));
            }
            self.show();
        }
    }

    /// Subscribes and says hello. Gives until when to listen before sending; with the broker's word enough, not at all.
    fn greet(&mut self, connection: &Connection) -> Option<Instant> {
        self.said.clear();
        self.status_at = None;
        let now = Instant::now();
        self.aside(connection);
        if self.options.confirm == Confirmation::Broker || connection.subscribe(&self.topics.confirm()).is_err() {
            return Some(now);
        }
        // Should the broker not answer the subscription, its silence ends here.
        Some(now + self.options.times.connect)
    }

    /// Takes what the connection says.
    async fn take(&mut self, happening: Happening, listening: &mut Option<Instant>) -> Result<(), Fault> {
        let now = self.parts.clock.now();
        match happening {
            Happening::Subscribed => {
                if let Some(until) = listening {
                    *until = (*until).min(Instant::now() + LISTEN);
                }
            }
            Happening::Acked(no) => {
                if let Some(thru) = self.session.acked(now, no) {
                    self.confirm_thru(thru).await;
                }
            }
            Happening::Message { topic, payload } if topic == self.topics.confirm() => {
                self.confirmed(&payload).await;
                if let Some(until) = listening {
                    *until = Instant::now();
                }
            }
            Happening::Message { topic, .. } => tracing::debug!(topic, "a message nobody asked for"),
        }
        Ok(())
    }

    async fn confirmed(&mut self, payload: &[u8]) {
        if self.options.confirm == Confirmation::Broker {
            return;
        }
        let confirm: Confirm = match serde_json::from_slice(payload) {
            Ok(confirm) => confirm,
            Err(cause) => {
                tracing::warn!(%cause, bytes = payload.len(), "a confirmation that cannot be read is ignored");
                return;
            }
        };
        let verdict = self.session.confirm(self.parts.clock.now(), &confirm, self.log.oldest());
        match verdict {
            Verdict::Advanced(thru) => self.confirm_thru(thru).await,
            Verdict::Known => {}
            Verdict::WentBack(from) => {
                self.parts.observer.note(|s| s.rewinds += 1);
                tracing::warn!(thru = confirm.thru, from, "the hub has less than it had: sending again");
            }
            Verdict::OtherLog => {
                self.parts.observer.note(|s| s.ignored_confirms += 1);
                tracing::debug!(log = %confirm.log, "a confirmation of another log is ignored");
            }
            Verdict::NeverWritten => {
                self.parts.observer.note(|s| s.ignored_confirms += 1);
                tracing::warn!(
                    thru = confirm.thru,
                    "a confirmation of records never written is ignored: does another gateway use this id?"
                );
            }
        }
    }

    async fn confirm_thru(&mut self, thru: Seq) {
        if let Err(cause) = self.log.confirm_thru(thru).await {
            tracing::warn!(thru, %cause, "what is confirmed cannot be freed");
        }
    }

    /// Looks at the waits.
    fn tick(&mut self, opened: Instant, backoff: &mut Backoff) -> Result<(), Fault> {
        if opened.elapsed() >= self.options.times.stable {
            backoff.reset();
            self.parts.observer.note(|s| s.last_fault = None);
        }
        match self.session.tick(self.parts.clock.now()) {
            None => {}
            Some(Overdue::Unacknowledged { after }) => return Err(Fault::Unacknowledged { after }),
            Some(Overdue::Stalled { first }) => {
                self.parts.observer.note(|s| s.rewinds += 1);
                tracing::info!(first, "the hub waits for a record it missed: sending again");
            }
            Some(Overdue::Unconfirmed { first, last, after, news }) => {
                self.parts.observer.note(|s| s.rewinds += 1);
                let detail = format!("no confirmation for {first}..={last} after {} s", after.as_secs_f32().round());
                tracing::warn!("{detail}: sending again; is the hub running?");
                if news {
                    self.say(detail);
                }
            }
        }
        Ok(())
    }

    fn say(&self, detail: String) {
        let (boot, t_ns) = (self.parts.boot, self.parts.clock.now().0);
        let event = Event { boot, t_ns, sensor: None, kind: EventKind::Unconfirmed, detail };
        if self.parts.events.try_send(event).is_err() {
            tracing::debug!("no room for an event of the uplink");
        }
    }

    /// Reads, composes and publishes as much as the session wants.
    async fn pump(&mut self, connection: &Connection) -> Result<(), Busy> {
        if self.read_after.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        self.read_after = None;
        while let Some(want) = self.session.wants(self.parts.clock.now()) {
            let Some(composed) = self.read(connection, want).await else { break };
            self.send(connection, composed)?;
            self.aside(connection);
        }
        Ok(())
    }

    /// Reads and composes the next batch, its manifests said before it. `None`: not now.
    async fn read(&mut self, connection: &Connection, want: Want) -> Option<Composed> {
        let merge = self.session.behind() > MERGE_BEHIND;
        let log = *self.log_id.borrow();
        let stored = match self.log.read_from(want.from, want.max_bytes).await {
            Ok(stored) => stored,
            Err(cause) => {
                tracing::warn!(from = want.from, %cause, "the log cannot be read");
                self.read_later();
                return None;
            }
        };
        if self.log_id.has_changed().unwrap_or(false) {
            return None;
        }
        let hashes: BTreeSet<_> = stored.iter().filter_map(|s| manifest_of(&s.bytes)).collect();
        self.say_manifests(connection, hashes).ok()?;
        let origin = Origin { log, oldest: self.log.oldest(), from: want.from, merge };
        let composed = self.composer.compose(origin, stored, |hash| self.log.manifest(hash));
        if composed.is_none() {
            self.read_later();
        }
        composed
    }

    fn read_later(&mut self) {
        self.read_after = Some(Instant::now() + LOG_RETRY.min(self.options.times.confirm));
    }

    fn send(&mut self, connection: &Connection, composed: Composed) -> Result<(), Busy> {
        let Composed { payload, sent, set_aside } = composed;
        let bytes = payload.len() as u64;
        let no = self.session.sent(self.parts.clock.now(), sent);
        connection.publish_batch(&self.topics.log(), payload, no)?;
        for (first, last) in &set_aside {
            tracing::warn!(first, last, "a record that fits no packet, or cannot be told, is sent as a loss");
        }
        self.parts.observer.note(|s| {
            s.batches += 1;
            s.bytes += bytes;
            s.set_aside += set_aside.len() as u64;
        });
        Ok(())
    }

    /// Publishes the manifests that were not yet said in this connection.
    fn say_manifests(&mut self, connection: &Connection, hashes: BTreeSet<ManifestHash>) -> Result<(), Busy> {
        for hash in hashes {
            if self.said.contains(&hash) {
                continue;
            }
            match self.log.manifest(hash) {
                Some(manifest) => {
                    let payload = self.composer.message(&manifest);
                    connection.publish(&self.topics.manifest(hash), How::Retained, payload)?;
                }
                None => tracing::warn!(%hash, "the log has records without their manifest: the hub may not take them"),
            }
            self.said.insert(hash);
        }
        Ok(())
    }

    /// Publishes live values and status where they are due. What finds no room now is due again at the next turn.
    fn aside(&mut self, connection: &Connection) {
        let now = Instant::now();
        let pause = self.options.times.live;
        let rested = |at: Option<Instant>| at.is_none_or(|at| now >= at + pause);
        if self.live_due && rested(self.live_at) {
            self.live_due = false;
            self.live_at = Some(now);
            let payload =
                self.parts.live.borrow().as_ref().map(|live| self.composer.live(live, |hash| self.log.manifest(hash)));
            if let Some(payload) = payload {
                // Nobody waits for a live value that is late: without room it is not said.
                let _ = connection.publish(&self.topics.live(), How::Once, payload);
            }
        }
        let beat = self.status_at.is_none_or(|at| now >= at + self.options.times.heartbeat);
        if beat || (self.health_due && rested(self.status_at)) {
            self.health_due = false;
            self.publish_status(connection, now, beat);
        }
    }

    /// Publishes the status, if it is time for it or if the trouble of a sensor changed.
    fn publish_status(&mut self, connection: &Connection, now: Instant, beat: bool) {
        let health = self.parts.health.borrow().clone();
        let trouble = trouble(health.as_ref());
        if !beat && trouble == self.trouble {
            return;
        }
        let payload = self.status(true, health);
        match connection.publish(&self.topics.status(), How::Retained, payload) {
            Ok(()) => (self.status_at, self.trouble) = (Some(now), trouble),
            Err(Busy) => self.health_due = true,
        }
    }

    fn status(&self, online: bool, health: Option<Health>) -> Vec<u8> {
        let (gateway, version) = (self.options.gateway.clone(), env!("CARGO_PKG_VERSION").to_owned());
        serde_json::to_vec(&Status { gateway, online, version, health }).unwrap_or_default()
    }

    async fn leave(&mut self, connection: Connection) {
        let health = self.parts.health.borrow().clone();
        let _ = connection.publish(&self.topics.status(), How::Retained, self.status(false, health));
        connection.close(self.options.times.goodbye).await;
    }

    fn begin_new_log(&mut self) {
        let id = *self.log_id.borrow_and_update();
        tracing::warn!(log = %id, "the log goes on under a new name");
        self.session = Session::new(Rules::from(&self.options), id, self.log.confirmed());
    }

    /// The connection is over.
    fn over(&mut self) {
        self.session.disconnected(self.parts.clock.now());
        self.parts.observer.link(Link::Waiting);
        self.show();
    }

    fn show(&self) {
        self.parts.observer.note(|s| {
            s.beats += 1;
            s.confirmed = self.session.confirmed();
            s.durable = self.session.last_durable();
        });
    }

    fn tell(&self, fault: &Fault, wait: Duration) {
        let again = self.parts.observer.stats().last_fault.map(|f| f.to_string()) == Some(fault.to_string());
        let again_in_ms = wait.as_millis() as u64;
        if again {
            tracing::debug!(again_in_ms, "{fault}");
        } else {
            tracing::warn!(again_in_ms, remedy = fault.remedy(), "{fault}");
        }
        self.parts.observer.note(|s| s.last_fault = Some(fault.clone()));
    }
}

fn trouble(health: Option<&Health>) -> Vec<(String, Option<speedwell_wire::NoData>)> {
    health.iter().flat_map(|h| &h.sensors).map(|s| (s.name.clone(), s.trouble)).collect()
}
