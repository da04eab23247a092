//! The rules of the replication: sentence by sentence, then against a model of a broker that loses, repeats and breaks,
//! and of a hub that keeps its side of the rules.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use proptest::prelude::*;
use speedwell::{
    clock::BootNs,
    uplink::{
        Confirmation,
        session::{MIN_BATCH, Overdue, Rules, Sent, Session, Verdict},
    },
};
use speedwell_wire::{Confirm, LogId, Seq};

const LOG: LogId = LogId(7);
const S: Duration = Duration::from_secs(1);

fn rules() -> Rules {
    Rules {
        window: 4000,
        max_batch: 2000,
        confirm: Confirmation::Hub,
        patience: 30 * S,
        patience_max: 300 * S,
        acknowledge: 120 * S,
        pace: None,
    }
}

fn at(seconds: u64) -> BootNs {
    BootNs(seconds * 1_000_000_000)
}

fn thru(thru: Seq) -> Confirm {
    Confirm { log: LOG, thru }
}

/// Sends records one batch each, 100 bytes a record, until the session wants no more.
fn send_all(session: &mut Session, now: BootNs) -> Vec<(u64, Seq, Seq)> {
    let mut sent = Vec::new();
    while let Some(want) = session.wants(now) {
        let next = (want.from + (want.max_bytes as u64 / 100).max(1)).min(session.last_durable() + 1);
        let bytes = (next - want.from) as usize * 100;
        let no = session.sent(now, Sent { first: want.from, next, bytes, whole: Vec::new() });
        sent.push((no, want.from, next));
    }
    sent
}

/// A session on 100 durable records, connected at second 0, its first window sent.
fn flying(rules: Rules) -> (Session, Vec<(u64, Seq, Seq)>) {
    let mut session = Session::new(rules, LOG, 0);
    session.durable(100);
    session.connected(at(0));
    let sent = send_all(&mut session, at(0));
    (session, sent)
}

#[test]
fn nothing_is_wanted_before_a_connection_or_beyond_what_is_durable() {
    let mut session = Session::new(rules(), LOG, 0);
    session.durable(3);
    assert_eq!(session.wants(at(0)), None);
    session.connected(at(0));
    assert_eq!(send_all(&mut session, at(0)), [(0, 1, 4)]);
    assert_eq!(session.wants(at(0)), None);
}

#[test]
fn the_window_is_bounded_in_bytes_and_opens_with_each_confirmation() {
    let (mut session, sent) = flying(rules());
    assert_eq!(sent, [(0, 1, 21), (1, 21, 41)]);
    session.acked(at(1), 0);
    assert_eq!(session.wants(at(1)), None, "an acknowledgement of the broker alone frees nothing");
    assert_eq!(session.confirm(at(1), &thru(20), 1), Verdict::Advanced(20));
    assert_eq!(send_all(&mut session, at(1)), [(2, 41, 61)]);
}

#[test]
fn a_record_larger_than_the_window_still_goes_alone() {
    let mut session = Session::new(Rules { window: 10, ..rules() }, LOG, 0);
    session.durable(2);
    session.connected(at(0));
    session.sent(at(0), Sent { first: 1, next: 2, bytes: 5000, whole: Vec::new() });
    assert_eq!(session.wants(at(0)), None);
    session.acked(at(0), 0);
    session.confirm(at(0), &thru(1), 1);
    assert_eq!(session.wants(at(0)).map(|w| w.from), Some(2));
}

#[test]
fn a_reconnect_starts_again_at_the_first_unconfirmed_record() {
    let (mut session, _) = flying(rules());
    session.confirm(at(1), &thru(20), 1);
    session.disconnected(at(2));
    assert_eq!(session.wants(at(2)), None);
    session.connected(at(3));
    assert_eq!(session.wants(at(3)).map(|w| w.from), Some(21));
}

#[test]
fn without_a_confirmation_it_goes_back_after_30_s_doubling_to_5_min_and_names_the_records() {
    let (mut session, _) = flying(rules());
    let mut now = 0;
    let mut waits = Vec::new();
    for _ in 0..6 {
        for (no, ..) in send_all(&mut session, at(now)) {
            session.acked(at(now), no);
        }
        // Those sent by `flying`.
        session.acked(at(now), 0);
        session.acked(at(now), 1);
        let began = now;
        let overdue = loop {
            now += 1;
            if let Some(overdue) = session.tick(at(now)) {
                break overdue;
            }
        };
        let Overdue::Unconfirmed { first: 1, after, news, .. } = overdue else { panic!("{overdue:?}") };
        assert_eq!(after.as_secs(), now - began);
        waits.push((after.as_secs(), news));
        assert_eq!(session.wants(at(now)).map(|w| w.from), Some(1));
    }
    assert_eq!(waits, [(30, true), (60, true), (120, true), (240, true), (300, false), (300, false)]);
}

#[test]
fn progress_makes_the_wait_short_again() {
    let (mut session, _) = flying(rules());
    session.acked(at(0), 0);
    session.acked(at(0), 1);
    assert!(session.tick(at(30)).is_some());
    session.confirm(at(31), &thru(20), 1);
    for (no, ..) in send_all(&mut session, at(31)) {
        session.acked(at(31), no);
    }
    assert_eq!(session.tick(at(60)), None);
    assert!(matches!(session.tick(at(61)), Some(Overdue::Unconfirmed { first: 21, .. })));
}

#[test]
fn a_slow_line_is_no_silent_hub_but_a_broker_that_never_acknowledges_is_given_up() {
    let (mut session, _) = flying(rules());
    assert_eq!(session.tick(at(119)), None);
    assert_eq!(session.tick(at(120)), Some(Overdue::Unacknowledged { after: 120 * S }));
}

#[test]
fn a_confirmation_that_repeats_itself_sends_it_back_after_5_s() {
    let (mut session, _) = flying(rules());
    session.acked(at(0), 0);
    session.acked(at(0), 1);
    session.confirm(at(0), &thru(20), 1);
    assert_eq!(session.confirm(at(1), &thru(20), 1), Verdict::Known);
    assert_eq!(session.tick(at(4)), None);
    assert_eq!(session.tick(at(5)), Some(Overdue::Stalled { first: 21 }));
    assert_eq!(session.wants(at(5)).map(|w| w.from), Some(21));
}

#[test]
fn a_hub_that_knows_more_moves_everything_forward() {
    let (mut session, _) = flying(rules());
    assert_eq!(session.confirm(at(1), &thru(90), 1), Verdict::Advanced(90));
    session.acked(at(1), 0);
    session.acked(at(1), 1);
    assert_eq!(send_all(&mut session, at(1)), [(2, 91, 101)]);
}

#[test]
fn a_hub_restored_from_a_backup_gets_again_what_is_still_kept() {
    let (mut session, _) = flying(rules());
    session.confirm(at(1), &thru(40), 1);
    session.acked(at(1), 0);
    session.acked(at(1), 1);
    assert_eq!(session.confirm(at(2), &thru(10), 1), Verdict::WentBack(11));
    assert_eq!(session.wants(at(2)).map(|w| w.from), Some(11));
    session.confirm(at(3), &thru(40), 1);
    assert_eq!(session.confirm(at(4), &thru(10), 31), Verdict::WentBack(31), "what was freed cannot come again");
    session.confirm(at(5), &thru(40), 1);
    assert_eq!(session.confirm(at(6), &thru(10), 41), Verdict::Known, "nothing is left to send again");
}

#[test]
fn a_confirmation_of_another_log_or_of_what_was_never_written_is_ignored() {
    let (mut session, _) = flying(rules());
    assert_eq!(session.confirm(at(1), &Confirm { log: LogId(8), thru: 20 }, 1), Verdict::OtherLog);
    assert_eq!(session.confirm(at(1), &thru(101), 1), Verdict::NeverWritten);
    assert_eq!(session.confirmed(), 0);
}

#[test]
fn half_a_merged_entry_confirmed_sends_the_other_half_at_once() {
    let mut session = Session::new(rules(), LOG, 0);
    session.durable(40);
    session.connected(at(0));
    let whole = vec![(11, 21)];
    session.sent(at(0), Sent { first: 1, next: 21, bytes: 500, whole });
    session.sent(at(0), Sent { first: 21, next: 41, bytes: 500, whole: Vec::new() });
    assert_eq!(session.confirm(at(1), &thru(10), 1), Verdict::Advanced(10));
    assert_eq!(session.wants(at(1)), None);
    assert_eq!(session.confirm(at(1), &thru(15), 1), Verdict::Advanced(15));
    assert_eq!(session.wants(at(1)).map(|w| w.from), Some(16));
}

#[test]
fn the_broker_s_word_counts_only_without_holes_where_it_is_enough() {
    let (mut session, _) = flying(Rules { confirm: Confirmation::Broker, ..rules() });
    assert_eq!(session.acked(at(1), 1), None);
    assert_eq!(session.acked(at(1), 0), Some(40));
    assert_eq!(session.acked(at(1), 0), None);
}

#[test]
fn an_acknowledgement_from_before_a_rewind_frees_nothing() {
    let (mut session, _) = flying(Rules { confirm: Confirmation::Broker, ..rules() });
    session.disconnected(at(1));
    session.connected(at(2));
    let sent = send_all(&mut session, at(2));
    assert_eq!(session.acked(at(3), 0), None);
    assert_eq!(session.acked(at(3), sent[0].0), Some(sent[0].2 - 1));
}

#[test]
fn a_connection_lost_without_any_progress_makes_the_batches_smaller_down_to_a_limit() {
    let (mut session, _) = flying(rules());
    let mut sizes = Vec::new();
    for n in 1..4 {
        session.disconnected(at(n));
        session.connected(at(n));
        sizes.push(session.wants(at(n)).map(|w| w.max_bytes));
        send_all(&mut session, at(n));
    }
    assert_eq!(sizes, [Some(MIN_BATCH), Some(MIN_BATCH), Some(MIN_BATCH)]);
    session.confirm(at(3), &thru(40), 1);
    for no in 0..20 {
        session.acked(at(3), no);
    }
    assert_eq!(session.wants(at(3)).map(|w| w.max_bytes), Some(2000), "progress lets them grow again");
}

#[test]
fn a_line_that_acknowledges_slowly_gets_little_written_to_it() {
    let (mut session, _) = flying(Rules { window: 64_000, max_batch: 8000, ..rules() });
    session.durable(100_000);
    let mut unacked: VecDeque<u64> = [0, 1, 2, 3].into();
    let mut now = 0;
    let mut most = 0;
    for _ in 0..40 {
        now += 3;
        if let Some(no) = unacked.pop_front() {
            session.acked(at(now), no);
        }
        let sent = send_all(&mut session, at(now));
        most = sent.iter().map(|(_, first, next)| (next - first) * 100).sum();
        unacked.extend(sent.iter().map(|s| s.0));
        session.confirm(at(now), &thru(session.confirmed() + 5), 1);
    }
    assert!(most <= 2000, "{most} bytes written to a line that takes 3 s for each batch");
}

#[test]
fn a_pace_is_kept_over_time() {
    let mut session = Session::new(Rules { pace: Some(1000), window: 1 << 20, ..rules() }, LOG, 0);
    session.durable(10_000);
    session.connected(at(0));
    let mut bytes = 0;
    for now in 0..100 {
        for (no, first, next) in send_all(&mut session, at(now)) {
            bytes += (next - first) * 100;
            session.acked(at(now), no);
            session.confirm(at(now), &thru(next - 1), 1);
        }
    }
    assert!((99_000..=102_000).contains(&bytes), "{bytes} bytes in 100 s");
}

/// A batch on its way: its number, the oldest record kept when it was made, and its entries.
#[derive(Clone, Debug)]
struct Wire {
    no: u64,
    oldest: Seq,
    entries: Vec<(Seq, Seq)>,
}

/// What the hub knows of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Stored,
    Gap,
}

/// The whole world of one gateway.
#[derive(Debug)]
struct World {
    session: Session,
    now: u64,
    connected: bool,
    durable: Seq,
    /// Records up to here are freed.
    freed: Seq,
    /// Up to here the hub had everything at some time, be it lost again in a restore.
    ever_stored: Seq,
    hub: BTreeMap<Seq, Known>,
    /// What the hub had and lost.
    lost: BTreeSet<Seq>,
    thru: Seq,
    up: VecDeque<Wire>,
    acks: VecDeque<u64>,
    down: VecDeque<Confirm>,
    retained: Option<Confirm>,
    merge: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Pass(u64),
    Send,
    /// The broker takes a batch on and acknowledges it.
    Take,
    /// It acknowledges one and forgets it.
    Forget,
    /// It gives one to the hub twice.
    Twice,
    HubHears,
    ConfirmArrives,
    ConfirmLost,
    Disconnect,
    Connect,
    /// The hub loses its newest records.
    Restore(u64),
    Merge(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..30u64).prop_map(Step::Append),
        2 => (1..40u64).prop_map(Step::Pass),
        6 => Just(Step::Send),
        4 => Just(Step::Take),
        1 => Just(Step::Forget),
        1 => Just(Step::Twice),
        4 => Just(Step::HubHears),
        4 => Just(Step::ConfirmArrives),
        1 => Just(Step::ConfirmLost),
        1 => Just(Step::Disconnect),
        3 => Just(Step::Connect),
        1 => (1..20u64).prop_map(Step::Restore),
        1 => any::<bool>().prop_map(Step::Merge),
    ]
}

impl World {
    fn new(confirm: Confirmation) -> Self {
        let session = Session::new(Rules { confirm, ..rules() }, LOG, 0);
        let (hub, lost, up, acks, down) = Default::default();
        let (now, durable, freed, ever_stored, thru) = (0, 0, 0, 0, 0);
        let (connected, merge, retained) = (false, false, None);
        World { session, now, connected, durable, freed, ever_stored, hub, lost, thru, up, acks, down, retained, merge }
    }

    fn at(&self) -> BootNs {
        at(self.now)
    }

    fn send(&mut self) {
        while let Some(want) = self.session.wants(self.at()) {
            assert!(want.from > self.freed, "wants {} of what was freed", want.from);
            let most = want.from + (want.max_bytes as u64 / 100).max(1);
            let next = most.min(self.durable + 1);
            let width = if self.merge { 7 } else { 1 };
            let mut entries = Vec::new();
            let mut first = want.from;
            while first < next {
                entries.push((first, (first + width).min(next)));
                first += width;
            }
            let whole = entries.iter().copied().filter(|(first, next)| next - first > 1).collect();
            let bytes = (next - want.from) as usize * 100;
            let no = self.session.sent(self.at(), Sent { first: want.from, next, bytes, whole });
            self.up.push_back(Wire { no, oldest: self.freed + 1, entries });
        }
    }

    /// Rule 3: the hub takes a contiguous prefix.
    fn hub_hears(&mut self, batch: &Wire) {
        for &(first, next) in &batch.entries {
            if first > self.thru + 1 && batch.oldest > self.thru + 1 {
                for seq in self.thru + 1..batch.oldest {
                    self.hub.entry(seq).or_insert(Known::Gap);
                }
                self.thru = batch.oldest - 1;
            }
            if first == self.thru + 1 {
                for seq in first..next {
                    let before = self.hub.insert(seq, Known::Stored);
                    assert_eq!(before, None, "record {seq} stored twice");
                }
                self.thru = next - 1;
            }
        }
        self.ever_stored = self.ever_stored.max(self.thru);
        let confirm = thru(self.thru);
        self.retained = Some(confirm);
        if self.connected {
            self.down.push_back(confirm);
        }
    }

    fn acked(&mut self, no: u64) {
        if let Some(thru) = self.session.acked(self.at(), no) {
            self.free(thru);
        }
    }

    fn free(&mut self, thru: Seq) {
        self.freed = self.freed.max(thru);
    }

    fn confirm_arrives(&mut self) {
        let Some(confirm) = self.down.pop_front() else { return };
        if let Verdict::Advanced(thru) = self.session.confirm(self.at(), &confirm, self.freed + 1) {
            assert!(thru <= self.ever_stored, "freed {thru} that the hub never had");
            self.free(thru);
        }
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += 1;
            if let Some(Overdue::Unacknowledged { .. }) = self.session.tick(self.at()) {
                self.disconnect();
            }
        }
    }

    fn disconnect(&mut self) {
        self.connected = false;
        self.session.disconnected(self.at());
        self.up.clear();
        self.acks.clear();
        self.down.clear();
    }

    fn connect(&mut self) {
        if !self.connected {
            self.connected = true;
            self.session.connected(self.at());
            self.down.extend(self.retained);
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Append(n) => {
                self.durable += n;
                self.session.durable(self.durable);
            }
            Step::Pass(seconds) => self.pass(seconds),
            Step::Send => self.send(),
            Step::Take | Step::HubHears | Step::Twice => {
                let Some(batch) = self.up.pop_front() else { return };
                self.acked(batch.no);
                self.hub_hears(&batch);
                if matches!(step, Step::Twice) {
                    self.hub_hears(&batch);
                }
            }
            Step::Forget => {
                if let Some(batch) = self.up.pop_front() {
                    self.acked(batch.no);
                }
            }
            Step::ConfirmArrives => self.confirm_arrives(),
            Step::ConfirmLost => drop(self.down.pop_front()),
            Step::Disconnect => self.disconnect(),
            Step::Connect => self.connect(),
            Step::Restore(n) => {
                self.thru = self.thru.saturating_sub(n);
                self.lost.extend(self.hub.split_off(&(self.thru + 1)).into_keys());
                let confirm = thru(self.thru);
                self.retained = Some(confirm);
                if self.connected {
                    self.down.push_back(confirm);
                }
            }
            Step::Merge(merge) => self.merge = merge,
        }
    }

    /// From here on nothing fails. Everything must come to be confirmed.
    fn settle(&mut self) {
        self.connect();
        // One record more, so that there is something to learn a restored hub's state from.
        self.step(&Step::Append(1));
        for _ in 0..2000 {
            self.send();
            while !self.up.is_empty() {
                self.step(&Step::Take);
                self.confirm_arrives();
            }
            while !self.down.is_empty() {
                self.confirm_arrives();
            }
            if self.session.confirmed() == self.durable && self.thru == self.durable {
                return;
            }
            self.pass(1);
        }
        panic!("not all confirmed after 2000 s of peace: {self:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Loss, repetition, disconnects and restored hubs: once there is peace the hub has every record exactly once, or a
    /// gap where it lost one that the gateway had freed on its word, and nothing was freed that the hub never had.
    #[test]
    fn whatever_happens_everything_is_confirmed_once_in_the_end(steps in prop::collection::vec(step(), 1..300)) {
        let mut world = World::new(Confirmation::Hub);
        for step in &steps {
            world.step(step);
        }
        world.settle();
        prop_assert_eq!(world.hub.len() as u64, world.durable, "a record is missing at the hub");
        for (seq, known) in &world.hub {
            prop_assert!(*known == Known::Stored || world.lost.contains(seq), "record {} never arrived", seq);
        }
    }

    /// Where the broker's word is enough, what is freed has been acknowledged, and everything comes to be.
    #[test]
    fn the_broker_s_word_frees_only_what_the_broker_has(steps in prop::collection::vec(step(), 1..300)) {
        let mut world = World::new(Confirmation::Broker);
        let mut taken: Seq = 0;
        for step in &steps {
            if let (Step::Take | Step::Twice | Step::HubHears | Step::Forget, Some(batch)) = (step, world.up.front()) {
                taken = taken.max(batch.entries.last().map_or(0, |(_, next)| next - 1));
            }
            if !matches!(step, Step::ConfirmArrives | Step::Restore(_)) {
                world.step(step);
            }
            prop_assert!(world.freed <= taken);
        }
    }
}
