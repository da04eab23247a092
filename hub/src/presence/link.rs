//! Whether a gateway can be heard, and if not, whose fault that is. Pure: time comes in as an argument.
//!
//! ```text
//!            says so, or is heard                    quiet for 2.5 intervals
//!  unknown ───────────────────────> online ──────────────────────────────────> silent
//!     ^                             │   ^  <─────────────────────────────────────┘
//!     │  the hub itself cannot hear │   │            is heard
//!     └─────────────────────────────┤   │ says so
//!                                   v   │
//!                                  offline     its will: "connection lost"; its goodbye: "stopped"
//! ```

use std::time::{Duration, Instant};

use super::{
    Moment, Stand,
    beat::{Beat, grace},
};

/// Whether a gateway, or another device, can be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It can.
    Online,
    /// It said goodbye, or the broker says that its connection broke.
    Offline,
    /// Nothing has come for 2.5 of its intervals.
    Silent,
    /// It was not heard yet, or the hub cannot hear.
    Unknown,
}

impl LinkState {
    pub(super) fn word(self) -> &'static str {
        match self {
            LinkState::Online => "online",
            LinkState::Offline => "offline",
            LinkState::Silent => "silent",
            LinkState::Unknown => "unknown",
        }
    }

    pub(super) fn of(word: &str) -> Self {
        let all = [LinkState::Online, LinkState::Offline, LinkState::Silent];
        all.into_iter().find(|state| state.word() == word).unwrap_or(LinkState::Unknown)
    }
}

/// Whether the hub can hear, and since when: what is quiet while it cannot is not to blame.
#[derive(Clone, Debug, PartialEq)]
pub struct Ears {
    /// Since when it hears, or began to listen.
    pub since: Instant,
    /// Why it does not.
    pub deaf: Option<&'static str>,
    /// For which time before it was not there, in words.
    pub down: Option<String>,
}

impl Ears {
    /// It hears, or does not.
    pub fn set(&mut self, deaf: Option<&'static str>, now: Instant) {
        if self.deaf.is_some() && deaf.is_none() {
            self.since = now;
        }
        self.deaf = deaf;
    }
}

/// What a status message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// It is there.
    Online,
    /// Its will, which the broker says for it.
    Will,
    /// It goes.
    Goodbye,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Link {
    stand: Stand<LinkState>,
    beat: Beat,
    /// It says when it comes and goes, and beats as the hub was told. Others are judged by their usual interval.
    pub(super) says: bool,
    /// Whether it can be missed: it was online once.
    missed: bool,
    seen_ns: Option<i64>,
}

impl Link {
    /// One that was never heard.
    pub fn new(now: Moment) -> Self {
        Self::restored(Stand::new(LinkState::Unknown, "not heard yet", now), None, None)
    }

    /// As an earlier run of the hub left it.
    pub(super) fn restored(stand: Stand<LinkState>, seen_ns: Option<i64>, learned: Option<Duration>) -> Self {
        let (says, missed) = (stand.state == LinkState::Offline, stand.state != LinkState::Unknown);
        Self { stand, beat: Beat::known(learned), says, missed, seen_ns }
    }

    /// How it is.
    pub fn state(&self) -> LinkState {
        self.stand.state
    }

    pub(super) fn stand(&self) -> &Stand<LinkState> {
        &self.stand
    }

    /// When something was last heard, UTC ns.
    pub fn seen_ns(&self) -> Option<i64> {
        self.seen_ns
    }

    /// How often it usually speaks, if it does not tell.
    pub fn learned(&self) -> Option<Duration> {
        if self.says { None } else { self.beat.learned() }
    }

    /// How long it may be quiet.
    pub fn grace(&self, heartbeat: Duration) -> Duration {
        grace(self.learned().unwrap_or(heartbeat))
    }

    /// Data came. After a goodbye or a will, data do not make it online: they were under way before.
    pub fn heard(&mut self, now: Moment) -> bool {
        if self.stand.state == LinkState::Offline {
            return false;
        }
        self.beat.heard(self.stand.state == LinkState::Silent, now.at);
        self.seen_ns = Some(now.utc_ns);
        self.online(if self.stand.state == LinkState::Silent { "heard again" } else { "heard" }, now)
    }

    /// A status came. A retained one tells how things were, and not that something was heard now.
    pub fn says(&mut self, says: Says, retained: bool, ears: &Ears, now: Moment) -> bool {
        self.says = true;
        if !retained {
            self.beat.heard(self.stand.state == LinkState::Silent, now.at);
            // The will is the broker's word.
            self.seen_ns = if says == Says::Will { self.seen_ns } else { Some(now.utc_ns) };
        }
        let why = match says {
            Says::Online if !retained => return self.online("connected", now),
            // The broker knows of no end of its connection; that it is quiet may be so all the same.
            Says::Online if self.stand.state == LinkState::Silent => return false,
            Says::Online => return self.online("connected before the hub listened", now),
            Says::Will => "connection lost",
            Says::Goodbye => "stopped",
        };
        if self.stand.state == LinkState::Offline {
            return false;
        }
        let while_away = retained && (ears.down.is_some() || self.missed);
        let why = if while_away { format!("{why} while the hub did not listen") } else { why.to_owned() };
        self.stand.turn(LinkState::Offline, why, now)
    }

    fn online(&mut self, why: &str, now: Moment) -> bool {
        self.missed = true;
        self.stand.turn(LinkState::Online, why, now)
    }

    /// Time passes.
    pub fn judge(&mut self, ears: &Ears, heartbeat: Duration, now: Moment) -> bool {
        let waits = self.stand.state == LinkState::Online || self.stand.state == LinkState::Unknown && self.missed;
        let heard = self.beat.last();
        let quiet = now.at.saturating_duration_since(heard.unwrap_or(ears.since).max(ears.since));
        let grace = self.grace(heartbeat);
        if !waits || quiet < grace {
            return false;
        }
        if let Some(why) = ears.deaf {
            return self.stand.turn(LinkState::Unknown, why, now);
        }
        let why = match (heard, &ears.down) {
            (None, Some(down)) => format!("nothing heard since the hub started again; {down}"),
            (None, None) => "nothing heard since the hub started".to_owned(),
            _ => format!("nothing heard for {:.0} s", grace.as_secs_f64()),
        };
        self.stand.turn(LinkState::Silent, why, now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    struct Rig {
        link: Link,
        ears: Ears,
        start: Instant,
    }

    impl Rig {
        fn new() -> Self {
            let start = Instant::now();
            let ears = Ears { since: start, deaf: None, down: None };
            Self { link: Link::new(Moment { at: start, utc_ns: 0 }), ears, start }
        }

        fn at(&self, s: f64) -> Moment {
            Moment { at: self.start + Duration::from_secs_f64(s), utc_ns: (s * 1e9) as i64 }
        }

        fn says(&mut self, says: Says, retained: bool, s: f64) -> (LinkState, String) {
            let now = self.at(s);
            self.link.says(says, retained, &self.ears, now);
            self.told()
        }

        fn heard(&mut self, s: f64) -> LinkState {
            let now = self.at(s);
            self.link.heard(now);
            self.link.state()
        }

        fn judge(&mut self, s: f64) -> LinkState {
            let now = self.at(s);
            self.link.judge(&self.ears, MINUTE, now);
            self.link.state()
        }

        fn told(&self) -> (LinkState, String) {
            (self.link.state(), self.link.stand.reason.clone())
        }
    }

    #[test]
    fn a_gateway_is_silent_after_two_and_a_half_beats_and_not_before() {
        let mut rig = Rig::new();
        assert_eq!(rig.says(Says::Online, false, 0.0), (LinkState::Online, "connected".into()));
        assert_eq!(rig.judge(149.9), LinkState::Online);
        assert_eq!(rig.judge(150.0), LinkState::Silent);
        assert_eq!(rig.told().1, "nothing heard for 150 s");
        assert_eq!(rig.heard(400.0), LinkState::Online);
    }

    #[test]
    fn the_will_is_a_lost_connection_and_the_goodbye_is_none_and_late_data_revive_neither() {
        let mut rig = Rig::new();
        rig.says(Says::Online, false, 0.0);
        assert_eq!(rig.says(Says::Will, false, 10.0), (LinkState::Offline, "connection lost".into()));
        assert_eq!(rig.link.seen_ns(), Some(0), "the will is the broker's word");
        assert_eq!(rig.heard(11.0), LinkState::Offline);
        rig.says(Says::Online, false, 20.0);
        assert_eq!(rig.says(Says::Goodbye, false, 30.0), (LinkState::Offline, "stopped".into()));
        assert_eq!(rig.judge(3000.0), LinkState::Offline, "what said goodbye is not missed");
    }

    #[test]
    fn what_is_quiet_while_the_hub_cannot_hear_is_not_to_blame() {
        let mut rig = Rig::new();
        rig.says(Says::Online, false, 0.0);
        let deaf = "the hub has no connection to the broker";
        rig.ears.set(Some(deaf), rig.at(1.0).at);
        assert_eq!(rig.judge(149.0), LinkState::Online, "a short outage of the broker is none of the gateway");
        assert_eq!(rig.judge(151.0), LinkState::Unknown);
        assert_eq!(rig.told().1, deaf);
        // It hears again, and gives the gateway its grace.
        rig.ears.set(None, rig.at(600.0).at);
        assert_eq!(rig.judge(740.0), LinkState::Unknown);
        assert_eq!(rig.judge(751.0), LinkState::Silent);
        // What the broker has retained does not make a silent gateway heard.
        assert_eq!(rig.says(Says::Online, true, 760.0).0, LinkState::Silent);
    }

    #[test]
    fn what_was_online_before_the_hub_was_down_stays_so_for_its_grace_and_is_then_judged_with_the_hub_s_share_told() {
        let mut rig = Rig::new();
        let before = Stand { state: LinkState::Online, since_ns: -5, reason: "connected".into() };
        rig.link = Link::restored(before, Some(-1), None);
        rig.ears.down = Some("it was down for 300 s".into());
        assert_eq!(rig.judge(149.0), LinkState::Online);
        assert_eq!(rig.link.stand.since_ns, -5, "it is online since then");
        assert_eq!(rig.judge(150.0), LinkState::Silent);
        assert_eq!(rig.told().1, "nothing heard since the hub started again; it was down for 300 s");

        let mut rig = Rig::new();
        let before = Stand { state: LinkState::Online, since_ns: -5, reason: "connected".into() };
        rig.link = Link::restored(before, Some(-1), None);
        let told = rig.says(Says::Will, true, 1.0);
        assert_eq!(told, (LinkState::Offline, "connection lost while the hub did not listen".into()));
    }

    #[test]
    fn a_gateway_of_which_only_records_are_known_is_not_missed() {
        let mut rig = Rig::new();
        assert_eq!(rig.judge(1e6), LinkState::Unknown);
    }

    proptest! {
        #[test]
        fn beats_late_by_up_to_1_4_intervals_never_flap(late in prop::collection::vec(0.0f64..1.4, 2..300)) {
            let mut rig = Rig::new();
            rig.says(Says::Online, false, 0.0);
            let mut times: Vec<f64> = late.iter().enumerate().map(|(n, late)| (n as f64 + late) * 60.0).collect();
            times.sort_by(f64::total_cmp);
            let mut last = 0.0;
            for time in times {
                prop_assert_eq!(rig.judge(f64::max(last, time - 0.001)), LinkState::Online);
                rig.says(Says::Online, false, time);
                last = time;
            }
        }

        #[test]
        fn nor_do_those_of_a_device_whose_interval_has_to_be_learned(
            interval in 12.0f64..3000.0, late in prop::collection::vec(0.0f64..1.4, 10..300)
        ) {
            let mut rig = Rig::new();
            let mut times: Vec<f64> = late.iter().enumerate().map(|(n, late)| (n as f64 + late) * interval).collect();
            times.sort_by(f64::total_cmp);
            for (n, time) in times.into_iter().enumerate() {
                // Before there are three gaps nobody can know. Beats that are nearer than ten seconds are one.
                if rig.link.learned().is_some() && n > 0 {
                    prop_assert_eq!(rig.judge(time - 0.001), LinkState::Online, "at {} s, {:?}", time, rig.link.learned());
                } else {
                    rig.judge(f64::max(0.0, time - 0.001));
                }
                rig.heard(time);
            }
        }

        #[test]
        fn one_lost_beat_never_flaps(interval in 12.0f64..3000.0, lost in 5usize..40, shift in -0.4f64..0.4) {
            for learned in [true, false] {
                let mut rig = Rig::new();
                let interval = if learned { interval } else { 60.0 };
                for n in (0..50).filter(|n| *n != lost) {
                    let time = interval * (n as f64 + if n == lost + 1 { shift } else { 0.0 });
                    let state = rig.judge(f64::max(0.0, time - 0.001));
                    if n > 4 {
                        prop_assert_eq!(state, LinkState::Online, "beat {}", n);
                    }
                    match learned {
                        true => _ = rig.heard(time),
                        false => _ = rig.says(Says::Online, false, time),
                    }
                }
            }
        }
    }
}
