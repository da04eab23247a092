//! What is wrong with a sensor, and when that is worth an event.

use std::time::Duration;

use speedwell_wire::{EventKind, NoData};

use crate::clock::BootNs;

/// A sensor that comes and goes is told at most this often: a loose plug must not fill the log.
const EVENT_HOLD: Duration = Duration::from_secs(5);

/// Why a sensor has nothing to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The named reason.
    pub reason: NoData,
    /// In words, what and what to do.
    pub detail: String,
    /// Since when.
    pub since: BootNs,
}

/// What the recorder knows of a sensor.
pub(super) struct SensorState {
    name: String,
    trouble: Option<Trouble>,
    /// What the sensor itself says of it.
    words: Option<String>,
    /// The reason last told by an event, and when.
    told: Option<NoData>,
    told_at: Option<BootNs>,
}

impl SensorState {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), trouble: None, words: None, told: None, told_at: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// A sensor is as well as its first channel: the others are derived from the same input.
    pub(super) fn on_reading(
        &mut self,
        channel: usize,
        reason: Option<NoData>,
        now: BootNs,
    ) -> Option<(EventKind, String)> {
        if channel != 0 {
            return None;
        }
        match reason {
            Some(reason) => {
                let own = self.words.clone();
                self.enter(reason, own.as_deref().unwrap_or(words(reason)), now)
            }
            None => self.leave(now),
        }
    }

    pub(super) fn explain(&mut self, words: Option<String>) {
        self.words = words;
    }

    pub(super) fn on_fault(&mut self, detail: &str, now: BootNs) -> Option<(EventKind, String)> {
        self.enter(NoData::Fault, detail, now)
    }

    fn enter(&mut self, reason: NoData, detail: &str, now: BootNs) -> Option<(EventKind, String)> {
        let same = self.trouble.as_ref().is_some_and(|trouble| trouble.reason == reason && trouble.detail == detail);
        if !same {
            let since = self.trouble.as_ref().filter(|trouble| trouble.reason == reason).map_or(now, |old| old.since);
            self.trouble = Some(Trouble { reason, detail: detail.to_owned(), since });
        }
        // A parked vehicle's wheel is silent for hours: that is worth showing, not logging.
        if reason == NoData::Silent || self.told == Some(reason) || !self.may_tell(now) {
            return None;
        }
        self.told = Some(reason);
        self.told_at = Some(now);
        Some((EventKind::SensorFault, detail.to_owned()))
    }

    fn leave(&mut self, now: BootNs) -> Option<(EventKind, String)> {
        self.trouble = None;
        if !self.may_tell(now) {
            return None;
        }
        self.told.take()?;
        let after = self.told_at.replace(now).map_or(0.0, |told| now.since(told).as_secs_f64());
        Some((EventKind::SensorRecovered, format!("speaks again, {after:.0} s after that it did not")))
    }

    fn may_tell(&self, now: BootNs) -> bool {
        self.told_at.is_none_or(|told| now.since(told) >= EVENT_HOLD)
    }
}

/// What a reason means, for the person who reads the event.
fn words(reason: NoData) -> &'static str {
    match reason {
        NoData::Silent => "nothing heard since the sensor was opened: check wiring, supply and that the wheel turns",
        NoData::Stale => "nothing heard for longer than its timeout",
        NoData::NotAvailable => "the sending unit says it has no value",
        NoData::SensorError => "the sending unit says its own sensor is in error",
        NoData::NoFix => "no satellite fix: check the antenna and its view of the sky",
        NoData::Fault => "the sensor stopped working",
        NoData::OutOfRange => "the value is outside what the sensor can measure",
        NoData::NoTarget => "the sensor sees nothing to measure",
    }
}
