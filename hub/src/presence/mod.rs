//! Who is connected: gateways, their sensors, vehicles; since when, and why not.
//!
//! In      what of gateways and devices was heard, from `ingest`; the registry of vehicles, from `store`.
//! Out     the state of each; each change once, to those who watch, and to the store.
//! Keeps   at most [`MAX_GATEWAYS`] gateways and devices with [`MAX_ALL_SENSORS`] sensors, and the changes that the store
//!         does not take yet, at most [`MAX_CHANGES`].
//! Imports `store`, `ingest` (its way to the store), `live` (those who watch), `wire`.
//!
//! The machines are pure, time comes in as an argument: [`link`] for a gateway, [`sensor`], [`motion`] for a vehicle,
//! [`beat`] for how long something may be quiet. `state` has one of each for everything there is, and [`keeper`] is the
//! task that lets time pass and carries changes on.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use speedwell_wire::{GatewayId, Live, Manifest, Status};
use tokio::sync::Notify;

pub mod beat;
pub mod keeper;
pub mod link;
pub mod motion;
pub mod sensor;
mod state;
mod vehicle;
mod view;

pub use state::{MAX_ALL_SENSORS, MAX_CHANGES, MAX_GATEWAYS, MAX_SENSORS};
pub use view::{Asked, PresenceView, StateWord, time};

use crate::{
    ingest::utc_ns,
    store::{Latest, Read, StoreError, fleet::Vehicle, presence::PresenceRow},
};
use link::Says;
use state::State;

/// Now, by the clock that never jumps and by the one that people read.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// For how long something lasts.
    pub at: Instant,
    /// For when it was.
    pub utc_ns: i64,
}

impl Moment {
    /// By the clocks of this machine.
    pub fn now() -> Self {
        Self { at: Instant::now(), utc_ns: utc_ns() }
    }
}

/// A state, since when, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Stand<S> {
    /// The state.
    pub state: S,
    /// UTC ns.
    pub since_ns: i64,
    /// In words.
    pub reason: String,
}

impl<S: PartialEq> Stand<S> {
    fn new(state: S, reason: &str, now: Moment) -> Self {
        Self { state, since_ns: now.utc_ns, reason: reason.into() }
    }

    /// It is so from now on. Says whether that is another state; the same for another reason is no change.
    fn turn(&mut self, state: S, reason: impl Into<String>, now: Moment) -> bool {
        if self.state == state {
            return false;
        }
        *self = Self { state, since_ns: now.utc_ns, reason: reason.into() };
        true
    }

    /// As `turn`, where another reason is a change.
    fn put(&mut self, state: S, reason: String, now: Moment) -> bool {
        if self.state == state && self.reason == reason {
            return false;
        }
        *self = Self { state, since_ns: now.utc_ns, reason };
        true
    }
}

/// The room. Cheap to share.
#[derive(Clone)]
pub struct Presence {
    state: Arc<Mutex<State>>,
    /// There are changes to carry on.
    changed: Arc<Notify>,
    /// One at a time, so that an older answer of the store never replaces a newer one.
    reloading: Arc<tokio::sync::Mutex<()>>,
}

impl Presence {
    /// With gateways that send their status so often, and who cannot be heard before the hub has a broker.
    pub fn new(heartbeat: Duration, now: Moment) -> Self {
        let state = Arc::new(Mutex::new(State::new(heartbeat, now)));
        Self { state, changed: Arc::default(), reloading: Arc::default() }
    }

    /// A live message.
    pub fn live(&self, id: &GatewayId, live: &Live, manifest: &Manifest, now: Moment) {
        self.with(|state| state.live(id, live, manifest, now));
    }

    /// A status message; a retained one was said before the hub listened.
    pub fn status(&self, status: &Status, retained: bool, now: Moment) {
        let says = match (status.online, &status.health) {
            (true, _) => Says::Online,
            // The will is written before there is any health to tell.
            (false, None) => Says::Will,
            (false, Some(_)) => Says::Goodbye,
        };
        self.with(|state| state.status(status, says, retained, now));
    }

    /// Records of a gateway were stored, and these are the newest values in them.
    pub fn records(&self, id: &GatewayId, newest: &[Latest], now: Moment) {
        self.with(|state| state.stored(id, newest, true, now));
    }

    /// Readings of a device were stored, and these are the newest.
    pub fn readings(&self, id: &GatewayId, newest: &[Latest], now: Moment) {
        self.with(|state| state.stored(id, newest, false, now));
    }

    /// Whether the hub hears its gateways, and whether it takes what comes.
    pub fn hears(&self, broker: bool, store: bool, now: Moment) {
        self.with(|state| state.hears(broker, store, now));
    }

    /// Time passes; to be called every second or so.
    pub fn tick(&self, now: Moment) {
        self.with(|state| state.tick(now));
    }

    /// All vehicles there are.
    pub fn vehicles(&self, all: Vec<Vehicle>, now: Moment) {
        self.with(|state| state.vehicles(all, now));
    }

    /// Reads the registry again.
    pub async fn reload(&self, reader: Arc<dyn Read>) -> Result<(), StoreError> {
        let _one = self.reloading.lock().await;
        let read = move || reader.vehicles("", crate::store::fleet::MAX_REGISTERED as usize);
        if let Ok(read) = tokio::task::spawn_blocking(read).await {
            self.vehicles(read?, Moment::now());
        }
        Ok(())
    }

    /// How things stood when the hub was stopped, for which time it was down, and gateways of which only records are
    /// known, with the time of the last.
    fn restore(
        &self,
        rows: Vec<PresenceRow>,
        down: Option<String>,
        others: Vec<(GatewayId, Option<i64>)>,
        now: Moment,
    ) {
        self.with(|state| state.restore(rows, down, others, now));
    }

    /// Those asked for, and where to ask on.
    pub fn list(&self, asked: &Asked) -> (Vec<PresenceView>, Option<String>) {
        view::list(&self.lock(), asked)
    }

    /// Vehicles of which a gateway is online.
    pub fn connected_vehicles(&self) -> HashSet<String> {
        self.lock().connected_vehicles()
    }

    fn with(&self, act: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        act(&mut state);
        if state.has_changes() {
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst one state old; what is heard next mends it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
