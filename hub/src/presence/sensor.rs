//! How a sensor is, by what its gateway says of it. Pure.

use std::time::{Duration, Instant};

use speedwell_wire::NoData;

use super::{
    Moment, Stand,
    beat::{Beat, grace},
    link::{Ears, Link, LinkState},
};

/// A state has to last so long before it is one: a receiver on the edge of reception would fill the history.
pub const HOLD: Duration = Duration::from_secs(5);
/// Characters of a gateway's own words that are kept.
const MAX_DETAIL: usize = 200;

/// How a sensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SensorState {
    /// It gives values.
    Ok,
    /// It works and has nothing to give: no fix, no target, not available.
    NoValue,
    /// Nothing is heard of it, or nothing fresh.
    Silent,
    /// It does not work, or says what cannot be.
    Fault,
    /// Nobody says how it is.
    Stale,
}

impl SensorState {
    pub(super) fn word(self) -> &'static str {
        match self {
            SensorState::Ok => "ok",
            SensorState::NoValue => "no-value",
            SensorState::Silent => "silent",
            SensorState::Fault => "fault",
            SensorState::Stale => "stale",
        }
    }

    pub(super) fn of(word: &str) -> Self {
        let all = [SensorState::Ok, SensorState::NoValue, SensorState::Silent, SensorState::Fault];
        all.into_iter().find(|state| state.word() == word).unwrap_or(SensorState::Stale)
    }

    fn of_trouble(trouble: Option<NoData>) -> Self {
        match trouble {
            None => SensorState::Ok,
            Some(NoData::Silent | NoData::Stale) => SensorState::Silent,
            Some(NoData::SensorError | NoData::Fault | NoData::OutOfRange) => SensorState::Fault,
            Some(NoData::NotAvailable | NoData::NoFix | NoData::NoTarget) => SensorState::NoValue,
        }
    }
}

/// Who says how a sensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The health of its gateway, which is believed before values.
    Health,
    /// Its values.
    Values,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Sensor {
    stand: Stand<SensorState>,
    beat: Beat,
    seen_ns: Option<i64>,
    by: Option<By>,
    /// What is said, why, and since when.
    said: Option<(Option<NoData>, String, Instant)>,
}

impl Sensor {
    /// One of which nothing was said yet.
    pub fn new(now: Moment) -> Self {
        Self::restored(Stand::new(SensorState::Stale, "nothing was said of it yet", now), None, None)
    }

    /// As an earlier run of the hub left it.
    pub(super) fn restored(stand: Stand<SensorState>, seen_ns: Option<i64>, learned: Option<Duration>) -> Self {
        Self { stand, beat: Beat::known(learned), seen_ns, by: None, said: None }
    }

    pub(super) fn stand(&self) -> &Stand<SensorState> {
        &self.stand
    }

    /// How it is.
    pub fn state(&self) -> SensorState {
        self.stand.state
    }

    /// When something was last said of it, UTC ns.
    pub fn seen_ns(&self) -> Option<i64> {
        self.seen_ns
    }

    /// How often it is usually spoken of.
    pub fn learned(&self) -> Option<Duration> {
        self.beat.learned()
    }

    /// It is so.
    pub fn said(&mut self, by: By, trouble: Option<NoData>, detail: &str, now: Moment) {
        self.beat.heard(false, now.at);
        self.seen_ns = Some(now.utc_ns);
        if self.by == Some(By::Health) && by == By::Values {
            return;
        }
        self.by = Some(by);
        if self.said.as_ref().is_none_or(|(before, ..)| *before != trouble) {
            let why = match (trouble, detail) {
                (None, _) => String::new(),
                (Some(trouble), "") => trouble.name().to_owned(),
                (Some(trouble), detail) => {
                    let short: String = detail.chars().take(MAX_DETAIL).collect();
                    format!("{}: {short}", trouble.name())
                }
            };
            self.said = Some((trouble, why, now.at));
        }
    }

    /// Time passes.
    pub fn judge(&mut self, gateway: &Link, ears: &Ears, heartbeat: Duration, now: Moment) -> bool {
        if gateway.state() != LinkState::Online {
            if self.stand.state == SensorState::Stale {
                return false;
            }
            let stand = gateway.stand();
            let why = format!("its gateway is {}: {}", stand.state.word(), stand.reason);
            return self.stand.turn(SensorState::Stale, why, now);
        }
        let usual = if gateway.says { heartbeat } else { self.beat.learned().unwrap_or(heartbeat) };
        let heard = self.beat.last().unwrap_or(ears.since).max(ears.since);
        if now.at.saturating_duration_since(heard) >= grace(usual) {
            let why = format!("nothing is said of it for {:.0} s", grace(usual).as_secs_f64());
            return self.stand.state != SensorState::Stale && self.stand.turn(SensorState::Stale, why, now);
        }
        let Some((trouble, why, since)) = &self.said else { return false };
        let state = SensorState::of_trouble(*trouble);
        // What nobody spoke of is as it is said to be, at once.
        let held = self.stand.state == SensorState::Stale || now.at.saturating_duration_since(*since) >= HOLD;
        held && self.stand.put(state, why.clone(), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rig() -> (Sensor, Link, Ears, impl Fn(f64) -> Moment) {
        let start = Instant::now();
        let at = move |s: f64| Moment { at: start + Duration::from_secs_f64(s), utc_ns: (s * 1e9) as i64 };
        let mut link = Link::new(at(0.0));
        link.heard(at(0.0));
        link.says = true;
        (Sensor::new(at(0.0)), link, Ears { since: start, deaf: None, down: None }, at)
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_sensor_s_trouble_is_told_by_its_name_once_it_lasts() {
        let (mut sensor, mut link, ears, at) = rig();
        sensor.said(By::Values, None, "", at(1.0));
        assert!(sensor.judge(&link, &ears, MINUTE, at(1.0)));
        assert_eq!(sensor.state(), SensorState::Ok);
        // On the edge of reception: never long enough to count.
        for s in 2..60 {
            let trouble = (s % 4 == 0).then_some(NoData::NoFix);
            sensor.said(By::Values, trouble, "", at(s.into()));
            assert!(!sensor.judge(&link, &ears, MINUTE, at(s.into())), "at {s} s");
        }
        sensor.said(By::Health, Some(NoData::SensorError), "J1939 says error", at(60.0));
        sensor.said(By::Values, None, "", at(64.0));
        assert!(!sensor.judge(&link, &ears, MINUTE, at(64.0)));
        assert!(sensor.judge(&link, &ears, MINUTE, at(65.0)), "health is believed before values");
        assert_eq!(sensor.stand().reason, "sensor-error: J1939 says error");
        assert_eq!(sensor.state(), SensorState::Fault);
        link.heard(at(120.0));
        sensor.said(By::Health, Some(NoData::SensorError), "in other words", at(120.0));
        assert!(!sensor.judge(&link, &ears, MINUTE, at(130.0)), "the same in other words is no change");
    }

    #[test]
    fn a_sensor_of_which_nobody_speaks_is_stale_and_so_is_one_whose_gateway_is_gone() {
        let (mut sensor, mut link, ears, at) = rig();
        sensor.said(By::Values, None, "", at(1.0));
        sensor.judge(&link, &ears, MINUTE, at(1.0));
        assert!(!sensor.judge(&link, &ears, MINUTE, at(150.0)));
        assert!(sensor.judge(&link, &ears, MINUTE, at(151.0)));
        assert_eq!(sensor.stand().reason, "nothing is said of it for 150 s");
        sensor.said(By::Values, None, "", at(152.0));
        assert!(sensor.judge(&link, &ears, MINUTE, at(152.0)) && sensor.state() == SensorState::Ok);
        link.says(super::super::link::Says::Will, false, &ears, at(153.0));
        assert!(sensor.judge(&link, &ears, MINUTE, at(153.0)));
        assert_eq!(sensor.stand().reason, "its gateway is offline: connection lost");
        assert!(!sensor.judge(&link, &ears, MINUTE, at(900.0)), "told once");
    }
}
