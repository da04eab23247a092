//! Reads a CAN interface for one sensor, and makes what the bus says of itself part of what the sensor says.
//!
//! ```text
//! the bus is           values       no value, as nothing came    told
//! active, warning      as they are  silent, stale
//! passive, no ack      degraded     fault                        an event, in the status; again when it is over
//! off                  degraded     fault                        the sensor's fault, at once; again when it is over
//! ```
//! A value is degraded too when the kernel had to drop frames since the one before.

use std::time::Duration;

use speedwell_wire::{EventKind, NoData, Quality};
use tracing::info;

use super::{
    sensors::LOOK_AFTER,
    sources::{Outlet, Ticks},
};
use crate::{
    board::{BoardError, BusState, CanFilter, Doors},
    clock::BootNs,
    sensor::{FrameSensor, Reading},
};

/// How long a bus counts as being as bad as it was: one that goes on and off with each restart is told once.
const HOLD: Duration = Duration::from_secs(5);

/// Reads until the interface fails or the agent stops; asks what has to be asked.
pub(super) fn can(
    outlet: &Outlet,
    doors: &Doors,
    (interface, filters): (&str, &[CanFilter]),
    report: Duration,
    sensor: &mut (dyn FrameSensor + Send),
) -> Result<(), BoardError> {
    let mut port = doors.can(interface, filters)?;
    let mut ticks = Ticks::new(report.min(LOOK_AFTER), outlet.now());
    let (mut watch, mut readings) = (BusWatch::default(), Vec::new());
    while !outlet.stopping() {
        // A controller that is off sends nothing, and its queue only fills up.
        let off = port.bus_state() == BusState::BusOff;
        while let Some(frame) = if off { None } else { sensor.ask(outlet.now()) } {
            port.send(&frame)?;
        }
        let wakes = if off { None } else { sensor.wakes() };
        if let Some(frame) = port.next(ticks.wait_until(outlet.now(), wakes))? {
            sensor.on_frame(&frame, &mut readings);
        }
        if ticks.due(outlet.now()) {
            sensor.tick(outlet.now(), &mut readings);
        }
        let seen = Seen { state: port.bus_state(), dropped: port.dropped(), overflows: port.overflows() };
        if let Some(change) = watch.turn(&seen, outlet.now()) {
            tell(outlet, interface, change, port.trouble());
        }
        outlet.suspect(watch.overflows(&seen));
        if !readings.is_empty() {
            watch.judge(&seen, &mut readings);
            let words = port.trouble().filter(|_| watch.is_ill());
            outlet.hand_on_explained(sensor, seen.dropped, words, &mut readings);
        }
    }
    Ok(())
}

/// What a port shows of its bus at one time.
struct Seen {
    state: BusState,
    dropped: u64,
    overflows: u64,
}

/// A change worth telling.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    /// It is in trouble now, in this way.
    Ill(BusState),
    /// It is well again, after so long.
    Well(Duration),
}

fn tell(outlet: &Outlet, interface: &str, change: Change, words: Option<String>) {
    match change {
        Change::Ill(state) => {
            let words = words.unwrap_or_else(|| format!("CAN {interface} is in trouble: {state}"));
            match state {
                BusState::BusOff => outlet.complain(words),
                _ => outlet.notice(EventKind::SensorFault, words),
            }
        }
        Change::Well(after) => {
            info!(interface, "the CAN bus is well again");
            let detail = format!("CAN {interface} is well again, after {} s", after.as_secs());
            outlet.notice(EventKind::SensorRecovered, detail);
        }
    }
}

/// How the bus has been of late.
#[derive(Debug, Default)]
struct BusWatch {
    /// The worst within [`HOLD`].
    state: BusState,
    /// Until when it counts.
    until: BootNs,
    /// Since when it has been in trouble.
    since: Option<BootNs>,
    dropped: u64,
    overflows: u64,
}

impl BusWatch {
    fn is_ill(&self) -> bool {
        self.state >= BusState::Passive
    }

    /// Takes how the bus is now; what is to be told of it.
    fn turn(&mut self, seen: &Seen, now: BootNs) -> Option<Change> {
        let before = self.state;
        if seen.state >= self.state || now >= self.until {
            self.state = seen.state;
            self.until = now + HOLD;
        }
        if self.is_ill() {
            self.since.get_or_insert(now);
            return (self.state > before).then_some(Change::Ill(self.state));
        }
        self.since.take().map(|since| Change::Well(now.since(since)))
    }

    /// Times the controller threw frames away since this was asked last.
    fn overflows(&mut self, seen: &Seen) -> u64 {
        let more = seen.overflows - self.overflows;
        self.overflows = seen.overflows;
        more
    }

    /// What the state of the bus makes of readings.
    fn judge(&mut self, seen: &Seen, readings: &mut [Reading]) {
        let lost = seen.dropped > self.dropped;
        // Where none of them is a value, the next one is the first after the loss.
        if readings.iter().any(|reading| reading.value.is_ok()) {
            self.dropped = seen.dropped;
        }
        for reading in readings {
            match &mut reading.value {
                Ok(value) if value.quality == Quality::Good && (lost || self.is_ill()) => {
                    value.quality = Quality::Degraded;
                }
                Err(reason @ (NoData::Silent | NoData::Stale)) if self.is_ill() => *reason = NoData::Fault,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::Value;

    fn at(ms: u64) -> BootNs {
        BootNs(ms * 1_000_000)
    }

    fn seen(state: BusState) -> Seen {
        Seen { state, dropped: 0, overflows: 0 }
    }

    fn reading(value: Result<(), NoData>) -> Reading {
        let value = value.map(|()| Value { value: 1.0, uncertainty: 0.1, quality: Quality::Good });
        Reading { channel: 0, t: at(1), value }
    }

    #[test]
    fn a_bus_in_trouble_degrades_values_and_makes_silence_a_fault() {
        for (state, quality, reason) in [
            (BusState::Active, Quality::Good, NoData::Silent),
            (BusState::Warning, Quality::Good, NoData::Silent),
            (BusState::Passive, Quality::Degraded, NoData::Fault),
            (BusState::NoAck, Quality::Degraded, NoData::Fault),
            (BusState::BusOff, Quality::Degraded, NoData::Fault),
        ] {
            let mut watch = BusWatch::default();
            watch.turn(&seen(state), at(1));
            let mut readings = [Ok(()), Err(NoData::Silent), Err(NoData::SensorError)].map(reading);
            watch.judge(&seen(state), &mut readings);
            assert_eq!(readings[0].value.map(|value| value.quality), Ok(quality), "{state}");
            assert_eq!(readings[1].value, Err(reason), "{state}");
            assert_eq!(readings[2].value, Err(NoData::SensorError), "what the sender says stands");
        }
    }

    #[test]
    fn a_bus_that_goes_off_with_every_restart_is_told_once_and_its_end_once() {
        let (mut watch, mut told) = (BusWatch::default(), Vec::new());
        for ms in (0..20_000).step_by(100) {
            let state = if ms < 10_000 && ms % 200 == 0 { BusState::BusOff } else { BusState::Active };
            told.extend(watch.turn(&seen(state), at(ms)).map(|change| (ms, change)));
        }
        let well = Change::Well(Duration::from_millis(14_800));
        assert_eq!(told, [(0, Change::Ill(BusState::BusOff)), (14_800, well)]);
    }

    #[test]
    fn worse_is_told_at_once_and_less_bad_is_not() {
        let (mut watch, mut told) = (BusWatch::default(), Vec::new());
        let states = [BusState::Warning, BusState::Passive, BusState::BusOff, BusState::Passive, BusState::Active];
        for (k, state) in states.into_iter().enumerate() {
            for ms in (0..10_000).step_by(100) {
                told.extend(watch.turn(&seen(state), at(k as u64 * 10_000 + ms)));
            }
        }
        assert_eq!(told[..2], [Change::Ill(BusState::Passive), Change::Ill(BusState::BusOff)]);
        assert!(matches!(told[2..], [Change::Well(_)]), "{told:?}");
    }

    #[test]
    fn the_first_value_after_frames_were_dropped_is_degraded() {
        let mut watch = BusWatch::default();
        let mut quality = |dropped, value| {
            let mut readings = [reading(value)];
            watch.judge(&Seen { state: BusState::Active, dropped, overflows: 0 }, &mut readings);
            readings[0].value.map(|value| value.quality)
        };
        assert_eq!(quality(0, Ok(())), Ok(Quality::Good));
        assert_eq!(quality(7, Err(NoData::Stale)), Err(NoData::Stale));
        assert_eq!(quality(7, Ok(())), Ok(Quality::Degraded));
        assert_eq!(quality(7, Ok(())), Ok(Quality::Good));
    }
}
