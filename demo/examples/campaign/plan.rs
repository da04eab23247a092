//! Which fault strikes when: a pure function of the seed.
//!
//! A campaign is a list of rounds. A round is a world of its own (a broker, a hub, a gateway) and a list of faults, each
//! with the instant it begins and how long it lasts. Faults overlap, except where both need the same thing: a hub that
//! was killed cannot be stopped as well.

use std::time::Duration;

/// From one fault's beginning to the next one's, in a round of many kinds.
const GAP_MS: std::ops::Range<u64> = 150..1300;
/// Between two faults that need the same thing: what was hurt is used for a moment before it is hurt again. Long enough
/// for most agents to have something durable, short enough for some to be killed while they start.
const REST_MS: std::ops::Range<u64> = 300..3500;

/// How long the hub is away in a long outage. After a minute the gateway merges records, and goes on doing so while it
/// catches up.
const OUTAGE_MS: u64 = 80_000;
/// How much rarer the other faults of such a round are, so that they are spread over the outage and what follows it.
const RARER: u64 = 5;

/// What can be made to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    AgentKilled,
    AgentStopped,
    PowerCut,
    SensorsChanged,
    Reloaded,
    SpoolFlipped,
    SpoolTruncated,
    SpoolFull,
    ClockStepped,
    Twin,
    HubKilled,
    HubStalled,
    HubTwice,
    DatabaseLocked,
    DatabaseFull,
    DatabaseRestored,
    BrokerKilled,
    BrokerWiped,
    LineRefused,
    LineSlow,
    LineSilent,
    LineCut,
    Replayed,
    Garbage,
}

/// A thing that only one fault at a time can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Thing {
    Agent,
    Clock,
    Hub,
    SecondHub,
    Database,
    Broker,
    GatewayLine,
    HubLine,
    Twin,
    Sender,
}

/// A fault of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// When it begins, since the round began.
    pub(crate) at: Duration,
    /// How long until it is made good.
    pub(crate) lasting: Duration,
    /// Seed of its particulars: which byte, how many days, which line.
    pub(crate) dice: u64,
}

/// A world and what is done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) number: usize,
    /// Seed of the world itself.
    pub(crate) seed: u64,
    /// The one kind of a round that has but one.
    pub(crate) alone: Option<Kind>,
    pub(crate) faults: Vec<Fault>,
}

/// The size of a campaign.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Faults in all, at least.
    pub(crate) faults: usize,
    /// Faults of each kind in a round of its own; none leaves these rounds out.
    pub(crate) alone: usize,
    /// Faults of a round of many kinds.
    pub(crate) mixed: usize,
    /// Each so many rounds of many kinds, one happens in a long outage of the hub.
    pub(crate) behind_every: usize,
}

impl Kind {
    /// All there are.
    pub(crate) const ALL: [Kind; 24] = [
        Kind::AgentKilled,
        Kind::AgentStopped,
        Kind::PowerCut,
        Kind::SensorsChanged,
        Kind::Reloaded,
        Kind::SpoolFlipped,
        Kind::SpoolTruncated,
        Kind::SpoolFull,
        Kind::ClockStepped,
        Kind::Twin,
        Kind::HubKilled,
        Kind::HubStalled,
        Kind::HubTwice,
        Kind::DatabaseLocked,
        Kind::DatabaseFull,
        Kind::DatabaseRestored,
        Kind::BrokerKilled,
        Kind::BrokerWiped,
        Kind::LineRefused,
        Kind::LineSlow,
        Kind::LineSilent,
        Kind::LineCut,
        Kind::Replayed,
        Kind::Garbage,
    ];

    /// In words, for whoever watches.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Kind::AgentKilled => "agent killed",
            Kind::AgentStopped => "agent stopped and started",
            Kind::PowerCut => "gateway's power cut: unsynced writes gone, clocks begin anew",
            Kind::SensorsChanged => "sensors and options changed, the agent started anew",
            Kind::Reloaded => "sensors and options changed in the running agent (SIGHUP)",
            Kind::SpoolFlipped => "bits of the spool flipped",
            Kind::SpoolTruncated => "a file of the spool cut short",
            Kind::SpoolFull => "the spool's disk full",
            Kind::ClockStepped => "real time stepped, nobody vouches",
            Kind::Twin => "a twin takes the client id",
            Kind::HubKilled => "hub killed",
            Kind::HubStalled => "hub stopped (SIGSTOP)",
            Kind::HubTwice => "a second hub on the same database",
            Kind::DatabaseLocked => "database locked by another program",
            Kind::DatabaseFull => "the database's disk full",
            Kind::DatabaseRestored => "database restored from a backup",
            Kind::BrokerKilled => "broker killed",
            Kind::BrokerWiped => "broker killed and wiped",
            Kind::LineRefused => "a line refuses connections",
            Kind::LineSlow => "a line is slow and late",
            Kind::LineSilent => "a line is silent (black hole)",
            Kind::LineCut => "a line is cut in mid-packet",
            Kind::Replayed => "old batches come again",
            Kind::Garbage => "garbage in the place of batches",
        }
    }

    /// What it needs for itself. Which line a fault of a line is on is told by its dice.
    pub(crate) fn needs(self, dice: u64) -> &'static [Thing] {
        match self {
            Kind::AgentKilled
            | Kind::AgentStopped
            | Kind::SensorsChanged
            | Kind::Reloaded
            | Kind::SpoolFlipped
            | Kind::SpoolTruncated
            | Kind::SpoolFull => &[Thing::Agent],
            Kind::PowerCut => &[Thing::Agent, Thing::Clock],
            Kind::ClockStepped => &[Thing::Clock],
            Kind::Twin => &[Thing::Twin],
            Kind::HubKilled | Kind::HubStalled => &[Thing::Hub],
            Kind::HubTwice => &[Thing::SecondHub],
            Kind::DatabaseLocked | Kind::DatabaseFull => &[Thing::Database],
            Kind::DatabaseRestored => &[Thing::Database, Thing::Hub, Thing::SecondHub],
            Kind::BrokerKilled | Kind::BrokerWiped => &[Thing::Broker],
            Kind::LineRefused | Kind::LineSlow | Kind::LineSilent | Kind::LineCut if on_hub_line(dice) => {
                &[Thing::HubLine]
            }
            Kind::LineRefused | Kind::LineSlow | Kind::LineSilent | Kind::LineCut => &[Thing::GatewayLine],
            Kind::Replayed | Kind::Garbage => &[Thing::Sender],
        }
    }

    /// How long it lasts, ms.
    fn lasting_ms(self) -> std::ops::Range<u64> {
        match self {
            Kind::AgentKilled | Kind::SensorsChanged | Kind::SpoolFlipped | Kind::SpoolTruncated => 50..1500,
            Kind::AgentStopped | Kind::PowerCut => 100..1500,
            Kind::SpoolFull => 1500..5000,
            Kind::Reloaded => 1000..4000,
            Kind::ClockStepped => 1200..9000,
            Kind::Twin | Kind::HubTwice => 1500..5000,
            Kind::HubKilled | Kind::BrokerKilled | Kind::BrokerWiped => 50..4000,
            Kind::HubStalled | Kind::LineSilent | Kind::LineSlow => 1500..7000,
            Kind::DatabaseLocked => 500..8000,
            Kind::DatabaseFull => 1000..5000,
            Kind::DatabaseRestored => 100..1500,
            Kind::LineRefused => 500..4000,
            Kind::LineCut => 500..2500,
            Kind::Replayed | Kind::Garbage => 100..300,
        }
    }
}

/// Whether a fault of a line is on the hub's and not on the gateway's.
pub(crate) fn on_hub_line(dice: u64) -> bool {
    dice.is_multiple_of(3)
}

/// The rounds of a campaign, of these kinds.
pub(crate) fn rounds(seed: u64, kinds: &[Kind], size: Size) -> Vec<Round> {
    let mut rounds: Vec<Round> = Vec::new();
    let seed_of = |number: usize| fastrand::Rng::with_seed(seed ^ (number as u64).wrapping_mul(0x9E37_79B9)).u64(..);
    if size.alone > 0 {
        for kind in kinds {
            let number = rounds.len();
            rounds.push(round(number, seed_of(number), Some(*kind), &vec![*kind; size.alone], false));
        }
    }
    // Kinds are dealt like cards, so that each comes as often as any other.
    let mut dealer = fastrand::Rng::with_seed(seed);
    let mut deck: Vec<Kind> = Vec::new();
    while rounds.iter().map(|round| round.faults.len()).sum::<usize>() < size.faults {
        while deck.len() < size.mixed {
            let mut more = kinds.to_vec();
            dealer.shuffle(&mut more);
            deck.splice(0..0, more);
        }
        let hand = deck.split_off(deck.len() - size.mixed);
        let number = rounds.len();
        let behind = number % size.behind_every == size.behind_every - 1;
        rounds.push(round(number, seed_of(number), None, &hand, behind));
    }
    rounds
}

fn round(number: usize, seed: u64, alone: Option<Kind>, kinds: &[Kind], behind: bool) -> Round {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut free: Vec<(Thing, u64)> = Vec::new();
    let mut now = 0;
    let mut faults: Vec<Fault> = Vec::new();
    let outage = behind.then_some(Kind::HubKilled);
    for (at, kind) in outage.into_iter().chain(kinds.iter().copied()).enumerate() {
        let (fate, mut lasting) = (dice.u64(..), dice.u64(kind.lasting_ms()));
        let mut gap = dice.u64(GAP_MS);
        if behind {
            (gap, lasting) = (gap * RARER, if at == 0 { OUTAGE_MS } else { lasting });
        }
        now += gap;
        let needs = kind.needs(fate);
        let free_at = |thing: &Thing| free.iter().find(|(taken, _)| taken == thing).map_or(0, |(_, at)| *at);
        let begins = needs.iter().map(free_at).max().unwrap_or(0).max(now);
        // In an outage the others do not wait for what needs the hub.
        now = if behind { now } else { begins };
        let rest = dice.u64(REST_MS);
        for thing in needs {
            free.retain(|(taken, _)| taken != thing);
            free.push((*thing, begins + lasting + rest));
        }
        let ms = Duration::from_millis;
        faults.push(Fault { kind, at: ms(begins), lasting: ms(lasting), dice: fate });
    }
    faults.sort_by_key(|fault| fault.at);
    Round { number, seed, alone, faults }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { faults: 400, alone: 3, mixed: 12, behind_every: 4 };

    #[test]
    fn a_seed_gives_the_same_plan_and_another_seed_another() {
        assert_eq!(rounds(7, &Kind::ALL, SIZE), rounds(7, &Kind::ALL, SIZE));
        assert_ne!(rounds(7, &Kind::ALL, SIZE), rounds(8, &Kind::ALL, SIZE));
    }

    #[test]
    fn a_longer_campaign_begins_with_the_shorter_one() {
        let (short, long) = (rounds(7, &Kind::ALL, SIZE), rounds(7, &Kind::ALL, Size { faults: 900, ..SIZE }));
        assert_eq!(short[..], long[..short.len()]);
    }

    #[test]
    fn every_kind_comes_alone_and_about_as_often_as_any_other_among_others() {
        let rounds = rounds(7, &Kind::ALL, SIZE);
        for kind in Kind::ALL {
            assert!(rounds.iter().any(|round| round.alone == Some(kind)), "{kind:?} alone");
            let mixed = rounds.iter().filter(|round| round.alone.is_none());
            let times = mixed.flat_map(|round| &round.faults).filter(|fault| fault.kind == kind).count();
            // The outages are besides.
            let besides = if kind == Kind::HubKilled { 8 } else { 0 };
            assert!((12..=17 + besides).contains(&times), "{kind:?} {times} times");
        }
    }

    #[test]
    fn some_rounds_happen_while_the_hub_is_away_for_longer_than_a_minute() {
        let rounds = rounds(7, &Kind::ALL, SIZE);
        let behind: Vec<_> = rounds.iter().filter(|round| round.faults[0].lasting.as_secs() >= 60).collect();
        assert!(behind.len() >= 3 && behind.iter().all(|round| round.faults.len() == 13));
        let during = |round: &&Round| round.faults.iter().filter(|fault| fault.at < round.faults[0].lasting).count();
        assert!(behind.iter().all(|round| during(round) > 5), "others strike meanwhile");
    }

    #[test]
    fn no_two_faults_have_the_same_thing_at_once() {
        for round in rounds(7, &Kind::ALL, SIZE) {
            for (at, one) in round.faults.iter().enumerate() {
                for other in &round.faults[at + 1..] {
                    let same = one.kind.needs(one.dice).iter().any(|t| other.kind.needs(other.dice).contains(t));
                    assert!(!same || one.at + one.lasting < other.at, "{one:?} {other:?}");
                }
            }
        }
    }
}
