//! One speed out of several sensors that measure the same: the first of a list that has one, and a check whether the
//! others agree.
//!
//! In      readings of the sensors' speeds, in the order each sensor says them; the time at each turn.
//! Out     readings of the fused speed; notices of who gives it and of who disagrees.
//! Keeps   the last 32 values of each sensor. Pure: no clock, no input or output.
//!
//! # Who gives it
//! A value that was measured (`Good`, `Degraded`, `Stopped`) makes a sensor *usable* until it is older than its hold, or
//! the sensor says that it has none. A bound that was not measured (`Estimated`) is passed on from the sensor that gives
//! the speed and makes none of the others usable. The first usable sensor of the list wins when there is no winner and when
//! the winner is usable no more; one that stands before the winner takes over once it has been usable for
//! [`Options::back_after`] without a break, so that a loose contact does not make the speed jump to and fro.
//!
//! # Who disagrees
//! Two sensors measure at different times, so the one that spoke more often is interpolated at the other's last time:
//! ```text
//! |v1 - v2| > 5 % of the larger + 1 m/s    for more than 5 s    wheel slip, or a calibration that is wrong
//! ```
//! It is told once, and once more when they have agreed for as long.

use std::{collections::VecDeque, time::Duration};

use speedwell_wire::{EventKind, NoData, Quality, Quantity};

use crate::{
    clock::BootNs,
    sensor::{ChannelSpec, Notice, Reading, Value},
};

/// Values kept of each sensor: at 100 Hz against 10 Hz, enough to find the two round a time.
const KEPT: usize = 32;

/// How far two may be apart: a share of the larger, and so much more.
const APART_SHARE: f64 = 0.05;
const APART: f64 = 1.0;

/// How long they have to be apart, or together again, to be told.
const APART_FOR: Duration = Duration::from_secs(5);

/// A hole between two values wider than this is not interpolated over.
const HOLE: Duration = Duration::from_secs(2);

/// A hold is never shorter than so many report periods of the sensor.
const HOLD_PERIODS: u32 = 3;

/// What is fused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the fused speed is called.
    pub name: String,
    /// Its sensors, the best first.
    pub inputs: Vec<Input>,
    /// How old the newest value of the winner may become.
    pub hold: Duration,
    /// How long one that is better has to have been usable to take over.
    pub back_after: Duration,
}

/// A sensor of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// The number it is spoken of by.
    pub sensor: usize,
    /// Which of its channels is the speed.
    pub channel: usize,
    /// Its report period.
    pub period: Duration,
}

/// What is known of a sensor of the list.
#[derive(Debug, Default)]
struct State {
    values: VecDeque<(BootNs, f64)>,
    /// Since when it has been usable without a break.
    usable_since: Option<BootNs>,
    /// The time of its newest usable value.
    newest: Option<BootNs>,
    /// Why it has none.
    reason: Option<NoData>,
    pair: Pair,
}

/// How a sensor stands to the winner.
#[derive(Debug, Default)]
struct Pair {
    apart_since: Option<BootNs>,
    together_since: Option<BootNs>,
    /// Since when they have been apart, once that was told.
    told: Option<BootNs>,
}

/// One speed out of several.
#[derive(Debug)]
pub struct Fusion {
    options: Options,
    states: Vec<State>,
    winner: Option<usize>,
    /// Who was told last to give the speed.
    told: Option<usize>,
    /// The time of the last reading, and whether it had a value.
    last: Option<(BootNs, bool)>,
}

impl Fusion {
    /// One that has heard nothing.
    pub fn new(options: Options) -> Self {
        let states = options.inputs.iter().map(|_| State::default()).collect();
        Self { options, states, winner: None, told: None, last: None }
    }

    /// What is fused.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Its one channel: as often as the quickest of its sensors speaks.
    pub fn channels(&self) -> Vec<ChannelSpec> {
        let period = self.options.inputs.iter().map(|input| input.period).min().unwrap_or_default();
        vec![ChannelSpec { quantity: Quantity::Speed, resolution_nano: 1_000_000, period }]
    }

    /// Who gives the speed.
    pub fn winner(&self) -> Option<&str> {
        self.winner.map(|winner| self.options.inputs[winner].name.as_str())
    }

    /// Who gives it while the best of the list does not.
    pub fn stands_in(&self) -> Option<&str> {
        self.winner().filter(|_| self.winner != Some(0))
    }

    /// Takes a reading of sensor number `sensor`, any of its channels.
    pub fn take(
        &mut self,
        sensor: usize,
        reading: &Reading,
        now: BootNs,
        out: &mut Vec<Reading>,
        notices: &mut Vec<Notice>,
    ) {
        let is_it = |input: &Input| input.sensor == sensor && input.channel == reading.channel;
        let Some(index) = self.options.inputs.iter().position(is_it) else { return };
        match reading.value {
            Ok(value) if value.quality == Quality::Estimated => {}
            Ok(value) => self.states[index].heard(reading.t, value.value),
            Err(reason) => self.states[index].lost(reason),
        }
        self.decide(now, notices);
        if let (true, Ok(value)) = (self.winner == Some(index), reading.value) {
            self.say(reading.t, Ok(value), out);
        }
        self.compare(index, notices);
    }

    /// Sensor number `sensor` has failed: it has no value until it speaks again.
    pub fn fault(&mut self, sensor: usize, now: BootNs, notices: &mut Vec<Notice>) {
        for (input, state) in self.options.inputs.iter().zip(&mut self.states) {
            if input.sensor == sensor {
                state.lost(NoData::Fault);
            }
        }
        self.decide(now, notices);
    }

    /// Looks for a winner that has fallen silent; says that there is no speed where there is none.
    pub fn tick(&mut self, now: BootNs, out: &mut Vec<Reading>, notices: &mut Vec<Notice>) {
        self.decide(now, notices);
        if self.winner.is_none() {
            let heard = self.states.iter().any(|state| state.newest.is_some());
            self.say(now, Err(if heard { NoData::Stale } else { NoData::Silent }), out);
        }
    }

    fn hold(&self, index: usize) -> Duration {
        self.options.hold.max(self.options.inputs[index].period * HOLD_PERIODS)
    }

    fn decide(&mut self, now: BootNs, notices: &mut Vec<Notice>) {
        for index in 0..self.states.len() {
            let hold = self.hold(index);
            let state = &mut self.states[index];
            if state.usable_since.is_some() && state.newest.is_none_or(|newest| now.since(newest) > hold) {
                state.lost(NoData::Stale);
            }
        }
        let usable = |index: &usize| self.states[*index].usable_since.is_some();
        let first = (0..self.states.len()).find(usable);
        let next = match self.winner.filter(usable) {
            None => first,
            Some(winner) => {
                let steady = |index: &usize| {
                    self.states[*index].usable_since.is_some_and(|since| now.since(since) >= self.options.back_after)
                };
                Some((0..winner).find(steady).unwrap_or(winner))
            }
        };
        if next != self.winner {
            self.winner = next;
            // Each is compared with the winner: with another one that begins anew.
            self.states.iter_mut().for_each(|state| state.pair = Pair::default());
        }
        if let Some(winner) = next.filter(|_| next != self.told) {
            notices.extend(self.change(winner));
            self.told = Some(winner);
        }
    }

    /// What to say of a change; the first of the list giving the speed from the start is no news.
    fn change(&self, winner: usize) -> Option<Notice> {
        let name = |index: usize| &self.options.inputs[index].name;
        let fused = &self.options.name;
        let told = match self.told {
            None if winner == 0 => return None,
            None => 0,
            Some(told) => told,
        };
        if winner < told {
            let detail = format!("{fused} comes from {} again, before from {}", name(winner), name(told));
            return Some(Notice { kind: EventKind::SensorRecovered, detail });
        }
        let reason = self.states[told].reason.unwrap_or(NoData::Silent).name();
        let detail = format!("{fused} comes from {}: {} is {reason}", name(winner), name(told));
        Some(Notice { kind: EventKind::SensorFault, detail })
    }

    /// Times only grow, also from one sensor to the next; that there is no value is said once.
    fn say(&mut self, t: BootNs, value: Result<Value, NoData>, out: &mut Vec<Reading>) {
        let news = self.last.is_none_or(|(last, had)| t > last && (value.is_ok() || had));
        if news {
            self.last = Some((t, value.is_ok()));
            out.push(Reading { channel: 0, t, value });
        }
    }

    /// Whether a sensor that has just spoken, or every other where it is the winner, agrees with the winner.
    fn compare(&mut self, index: usize, notices: &mut Vec<Notice>) {
        let Some(winner) = self.winner else { return };
        for other in (0..self.states.len()).filter(|other| *other != winner) {
            if index != winner && index != other || self.states[other].usable_since.is_none() {
                continue;
            }
            let Some((t, ours, theirs)) = both(&self.states[winner].values, &self.states[other].values) else {
                continue;
            };
            let apart = (ours - theirs).abs() > APART_SHARE * ours.abs().max(theirs.abs()) + APART;
            if let Some(for_s) = self.states[other].pair.turn(apart, t) {
                let (ours_name, theirs_name) = (&self.options.inputs[winner].name, &self.options.inputs[other].name);
                let detail = if apart {
                    format!(
                        "{ours_name} says {ours:.2} m/s and {theirs_name} {theirs:.2} m/s, for {for_s:.0} s now: does a \
                         wheel slip, or is a calibration wrong?"
                    )
                } else {
                    format!("{ours_name} and {theirs_name} agree again, after {for_s:.0} s")
                };
                notices.push(Notice { kind: EventKind::Disagreement, detail });
            }
        }
    }
}

impl State {
    fn heard(&mut self, t: BootNs, value: f64) {
        if self.values.back().is_some_and(|(last, _)| t <= *last) {
            return;
        }
        if self.values.len() == KEPT {
            self.values.pop_front();
        }
        self.values.push_back((t, value));
        (self.newest, self.reason) = (Some(t), None);
        self.usable_since.get_or_insert(t);
    }

    fn lost(&mut self, reason: NoData) {
        self.reason = Some(reason);
        self.usable_since = None;
        self.values.clear();
        self.pair.apart_since = None;
        self.pair.together_since = None;
    }
}

impl Pair {
    /// Takes whether the two are apart at `t`; for how many seconds they were apart when that is to be told, or when it is
    /// over.
    fn turn(&mut self, apart: bool, t: BootNs) -> Option<f64> {
        if apart {
            self.together_since = None;
            let since = *self.apart_since.get_or_insert(t);
            let news = self.told.is_none() && t.since(since) > APART_FOR;
            return news.then(|| {
                self.told = Some(since);
                t.since(since).as_secs_f64()
            });
        }
        self.apart_since = None;
        let since = *self.together_since.get_or_insert(t);
        let told = self.told?;
        if t.since(since) <= APART_FOR {
            return None;
        }
        self.told = None;
        Some(since.since(told).as_secs_f64())
    }
}

/// Both speeds at one time: the last at which both were measured or lie between two measurements.
fn both(a: &VecDeque<(BootNs, f64)>, b: &VecDeque<(BootNs, f64)>) -> Option<(BootNs, f64, f64)> {
    let t = a.back()?.0.min(b.back()?.0);
    Some((t, at(a, t)?, at(b, t)?))
}

/// The value at `t`, by the straight line between the two round it.
fn at(values: &VecDeque<(BootNs, f64)>, t: BootNs) -> Option<f64> {
    let after = values.partition_point(|(time, _)| *time < t);
    let &(t2, v2) = values.get(after)?;
    if t2 == t {
        return Some(v2);
    }
    let &(t1, v1) = values.get(after.checked_sub(1)?)?;
    let wide = t2.since(t1);
    (wide <= HOLE).then(|| v1 + (v2 - v1) * (t.since(t1).as_secs_f64() / wide.as_secs_f64()))
}

#[cfg(test)]
#[path = "fusion_tests.rs"]
mod tests;
