//! What a CAN bus says of itself: error frames and the controller's own state, and what is made of them.
//!
//! ```text
//! class of an error frame (linux/can/error.h)   data                                    means
//! 004 controller                                 [1] 01 02 overflow, 04 08 warning,       warning, passive, active;
//!                                                    10 20 passive, 40 active again       an overflow lost frames
//! 020 no acknowledgement                                                                 nobody else is there
//! 040 bus off                                                                            cut off
//! 100 restarted                                                                          back on the bus
//! 200 counters                                   [6] sending, [7] receiving
//! ```

use std::time::Duration;

use super::link::LinkFacts;
use crate::{clock::BootNs, sensor::field::MAX_PAYLOAD};

const CONTROLLER: u32 = 0x004;
const NO_ACK: u32 = 0x020;
const BUS_OFF: u32 = 0x040;
const RESTARTED: u32 = 0x100;
const COUNTERS: u32 = 0x200;

const OVERFLOW: u8 = 0x01;
const WARNING: u8 = 0x04 | 0x08;
const PASSIVE: u8 = 0x10 | 0x20;
const ACTIVE: u8 = 0x40;

/// How long a word of the bus counts where nothing contradicts it: a bus that is in trouble says so again and again.
const COUNTS_FOR: Duration = Duration::from_secs(10);

/// What a bus says about itself, the worst last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BusState {
    /// Nothing is wrong that this node knows of.
    #[default]
    Active,
    /// Many errors: wiring, termination or a wrong bit rate.
    Warning,
    /// So many errors that this node no longer signals them.
    Passive,
    /// Nobody acknowledges what this node sends: it is alone, or the bit rate is wrong.
    NoAck,
    /// Cut off after too many errors.
    BusOff,
}

impl std::fmt::Display for BusState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BusState::Active => "active",
            BusState::Warning => "error warning",
            BusState::Passive => "error passive",
            BusState::NoAck => "no acknowledgement",
            BusState::BusOff => "bus off",
        })
    }
}

/// An error frame, as the kernel makes them: no such frame is ever on a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorFrame {
    /// Classes, as bits.
    pub class: u32,
    /// Particulars.
    pub data: [u8; 8],
}

impl ErrorFrame {
    /// The worst that it says of the state; `None` when it says nothing of it.
    pub fn state(&self) -> Option<BusState> {
        let says = |class: u32| self.class & class != 0;
        let controller = |bits: u8| says(CONTROLLER) && self.data[1] & bits != 0;
        [
            (says(BUS_OFF), BusState::BusOff),
            (says(NO_ACK), BusState::NoAck),
            (controller(PASSIVE), BusState::Passive),
            (controller(WARNING), BusState::Warning),
            (controller(ACTIVE) || says(RESTARTED), BusState::Active),
        ]
        .into_iter()
        .find_map(|(said, state)| said.then_some(state))
    }

    /// Whether the controller had to throw frames away: how many it does not say.
    fn is_overflow(&self) -> bool {
        self.class & CONTROLLER != 0 && self.data[1] & OVERFLOW != 0
    }

    /// Errors counted in sending and in receiving.
    fn counters(&self) -> Option<(u16, u16)> {
        (self.class & COUNTERS != 0).then(|| (self.data[6].into(), self.data[7].into()))
    }
}

/// What is known of a bus.
#[derive(Debug, Default)]
pub(super) struct Bus {
    state: BusState,
    /// When the bus last said that it is not well.
    heard: BootNs,
    facts: LinkFacts,
    overflows: u64,
    errors: u64,
}

impl Bus {
    /// As the controller tells it when it is asked for the first time.
    pub(super) fn new(facts: LinkFacts, now: BootNs) -> Self {
        Self { state: facts.state.unwrap_or_default(), heard: now, facts, ..Self::default() }
    }

    pub(super) fn state(&self) -> BusState {
        self.state
    }

    /// Times the controller had to throw frames away.
    pub(super) fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Error frames so far.
    pub(super) fn errors(&self) -> u64 {
        self.errors
    }

    /// Takes an error frame.
    pub(super) fn hear(&mut self, said: &ErrorFrame, now: BootNs) {
        self.errors += 1;
        self.overflows += u64::from(said.is_overflow());
        if let Some(counters) = said.counters() {
            self.facts.errors = Some(counters);
        }
        if let Some(state) = said.state() {
            // Nobody acknowledges makes a controller error passive too, and is what has to be mended.
            let same_cause = (self.state, state) == (BusState::NoAck, BusState::Passive);
            self.state = if same_cause { BusState::NoAck } else { state };
            self.heard = now;
        }
    }

    /// A frame came: a bus that carries frames is not off, and what it said long ago is over.
    pub(super) fn frame(&mut self, now: BootNs) {
        match self.state {
            BusState::Active => {}
            BusState::BusOff => self.state = BusState::Active,
            _ if now.since(self.heard) > COUNTS_FOR => self.state = BusState::Active,
            _ => {}
        }
    }

    /// Looked at again, with what the controller says where it can be asked.
    pub(super) fn look(&mut self, facts: Option<LinkFacts>, now: BootNs) {
        if self.state == BusState::NoAck && now.since(self.heard) > COUNTS_FOR {
            self.state = BusState::Active;
        }
        let Some(facts) = facts else { return };
        match facts.state {
            // A controller has no state of its own for it.
            Some(state) if self.state == BusState::NoAck && state < BusState::BusOff => {}
            Some(state) => self.state = state,
            None => {}
        }
        // A virtual interface counts no errors: what an error frame told stands.
        self.facts = LinkFacts { errors: facts.errors.or(self.facts.errors), ..facts };
    }

    /// What is wrong and what to do; `None` where nothing is that anybody has to mend now.
    pub(super) fn trouble(&self, name: &str) -> Option<String> {
        let here = self.facts.bit_rate.map_or(String::new(), |rate| format!(" ({rate} bit/s here)"));
        let counted = self.facts.errors;
        let counted = counted.map_or(String::new(), |(tx, rx)| format!(", {tx} errors in sending, {rx} in receiving"));
        Some(match self.state {
            BusState::Active | BusState::Warning => return None,
            BusState::Passive => format!(
                "CAN {name} is error passive{counted}: is the bit rate{here} the bus's own, is the wiring sound, is the \
                 bus terminated at both ends?"
            ),
            BusState::NoAck => format!(
                "CAN {name}: nobody acknowledges what is sent{counted}: is the other end on, is the bit rate{here} the \
                 bus's own, is the bus terminated?"
            ),
            BusState::BusOff => format!(
                "CAN {name} is bus off, cut off after too many errors: check wiring, termination and bit rate{here}; {}",
                self.comes_back(name)
            ),
        })
    }

    fn comes_back(&self, name: &str) -> String {
        match self.facts.restart_ms {
            Some(0) => format!(
                "it does not come back by itself: `ip link set {name} type can restart`, and `restart-ms 100` lets it"
            ),
            Some(ms) => format!("it tries again every {ms} ms"),
            None => format!("`ip link set {name} type can restart-ms 100` lets it come back by itself"),
        }
    }
}

/// The error frame in a frame of the kernel's, whose identifier has the error flag.
pub(super) fn error_frame(can_id: u32, data: &[u8; MAX_PAYLOAD]) -> ErrorFrame {
    let mut first = [0; 8];
    first.copy_from_slice(&data[..8]);
    ErrorFrame { class: can_id & libc::CAN_ERR_MASK, data: first }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(class: u32, controller: u8) -> ErrorFrame {
        ErrorFrame { class, data: [0, controller, 0, 0, 0, 0, 136, 7] }
    }

    fn at(s: u64) -> BootNs {
        BootNs(s * 1_000_000_000)
    }

    #[test]
    fn the_worst_of_what_an_error_frame_says_is_the_state() {
        for (class, controller, state) in [
            (BUS_OFF, 0, Some(BusState::BusOff)),
            (CONTROLLER, 0x10, Some(BusState::Passive)),
            (CONTROLLER, 0x20, Some(BusState::Passive)),
            (CONTROLLER, 0x04, Some(BusState::Warning)),
            (CONTROLLER, 0x40, Some(BusState::Active)),
            (CONTROLLER, 0x01, None),
            (NO_ACK, 0, Some(BusState::NoAck)),
            (RESTARTED, 0, Some(BusState::Active)),
            (CONTROLLER | BUS_OFF, 0x10, Some(BusState::BusOff)),
            // Protocol violations, a bus error, a lost arbitration: each alone is no state.
            (0x008 | 0x080 | 0x002, 0x10, None),
        ] {
            assert_eq!(said(class, controller).state(), state, "{class:03X} {controller:02X}");
        }
    }

    #[test]
    fn a_bus_that_is_off_is_back_when_it_says_so_or_carries_a_frame() {
        let mut bus = Bus::new(LinkFacts { restart_ms: Some(0), ..LinkFacts::default() }, at(1));
        bus.hear(&said(BUS_OFF, 0), at(2));
        bus.look(None, at(100));
        assert_eq!(bus.state(), BusState::BusOff, "nothing says that it is back");
        let told = bus.trouble("can0").expect("trouble");
        assert!(told.contains("does not come back by itself: `ip link set can0 type can restart`"), "{told}");
        bus.frame(at(101));
        assert_eq!((bus.state(), bus.trouble("can0")), (BusState::Active, None));
        bus.hear(&said(BUS_OFF, 0), at(102));
        bus.hear(&said(RESTARTED, 0), at(102));
        assert_eq!(bus.state(), BusState::Active);
    }

    #[test]
    fn a_port_that_is_opened_while_the_bus_is_off_knows_it() {
        let facts = LinkFacts { state: Some(BusState::BusOff), restart_ms: Some(100), ..LinkFacts::default() };
        let mut bus = Bus::new(facts.clone(), at(1));
        assert!(bus.trouble("can0").is_some_and(|told| told.ends_with("it tries again every 100 ms")));
        bus.look(Some(LinkFacts { state: Some(BusState::Active), ..facts }), at(2));
        assert_eq!(bus.state(), BusState::Active);
    }

    #[test]
    fn nobody_acknowledging_is_told_before_what_comes_of_it_and_is_over_when_it_is_said_no_more() {
        let facts = LinkFacts { bit_rate: Some(500_000), ..LinkFacts::default() };
        let mut bus = Bus::new(facts, at(1));
        bus.hear(&said(NO_ACK | COUNTERS, 0), at(2));
        bus.hear(&said(CONTROLLER, 0x20), at(3));
        assert_eq!(bus.state(), BusState::NoAck);
        let told = bus.trouble("can0").expect("trouble");
        assert!(
            told.contains("136 errors in sending, 7 in receiving") && told.contains("(500000 bit/s here)"),
            "{told}"
        );
        bus.look(None, at(12));
        assert_eq!(bus.state(), BusState::NoAck);
        bus.look(None, at(14));
        assert_eq!(bus.state(), BusState::Active);
    }

    #[test]
    fn frames_make_a_passive_bus_well_only_when_it_has_not_complained_for_a_while() {
        let mut bus = Bus::new(LinkFacts::default(), at(1));
        bus.hear(&said(CONTROLLER, 0x10), at(2));
        bus.frame(at(3));
        assert_eq!(bus.state(), BusState::Passive);
        bus.frame(at(13));
        assert_eq!(bus.state(), BusState::Active);
    }

    #[test]
    fn a_controller_that_threw_frames_away_is_counted() {
        let mut bus = Bus::new(LinkFacts::default(), at(1));
        bus.hear(&said(CONTROLLER, 0x01), at(2));
        assert_eq!((bus.overflows(), bus.errors(), bus.state()), (1, 1, BusState::Active));
    }
}
