//! Spool and replication together against a plain model: the spool on a file system, the uplink's rules and composer, the
//! hub's decoder, ledger and SQLite are the real ones; the broker between them loses, repeats and reorders, the gateway
//! crashes, the hub is put back to a backup. `PROPTEST_CASES=10000` for a long run.
//!
//! The model is what a person would have written down: which record got which number, which of them were promised to be
//! durable, and what the hub was told under each number.

mod hub;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hub::{Content, Hub, said};
use proptest::prelude::*;
use speedwell::{
    clock::BootNs,
    spool::{self, Spool},
    uplink::{
        Confirmation, Options,
        compose::{Composer, Origin},
        session::{Overdue, Rules, Session, Verdict},
    },
};
use speedwell_wire::{
    Channel, Confirm, Event, EventKind, GatewayId, Manifest, Quality, Quantity, Record, Samples, Seq,
    block::{self, Column, Sample, Uncertainty},
};

const S: Duration = Duration::from_secs(1);
/// Runs of samples are merged when this many records are behind: early, so that small cases have it too.
const MERGE_BEHIND: u64 = 12;

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

fn manifest() -> Manifest {
    let channel = Channel {
        id: 0,
        sensor: "wheel".into(),
        quantity: Quantity::Speed,
        resolution_nano: 1_000_000,
        tick_ns: 100_000,
        period_ns: 100_000_000,
        calibration: 0,
    };
    Manifest { channels: vec![channel] }
}

/// A record that says its own name, every third an event of some size.
fn record(id: u64) -> Record {
    if id.is_multiple_of(3) {
        let detail = format!("{id} {}", "x".repeat((id * 37 % 400) as usize));
        return Record::Event(Event { boot: 1, t_ns: id, sensor: None, kind: EventKind::Started, detail });
    }
    let sample = Sample { tick: id * 10_000, value: id as i64, uncertainty: Uncertainty(3), quality: Quality::Good };
    let block = block::encode(&[Column { channel: 0, samples: vec![sample] }], &manifest());
    Record::Samples(Samples { manifest: manifest().hash(), boot: 1, block })
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Flush,
    /// The agent is gone between two system calls; what it had written is in the page cache.
    Crash,
    Restart,
    Pass(u64),
    Send,
    /// The broker acknowledges a batch and brings it to the hub.
    Deliver,
    /// It acknowledges one and loses it.
    Drop,
    /// It brings one to the hub and brings it again later.
    Duplicate,
    /// It brings the next two in the other order.
    Reorder,
    /// It brings one from long ago, perhaps of before a crash.
    Replay(usize),
    Confirm,
    ConfirmLost,
    Disconnect,
    Connect,
    BackUp,
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1..30u64).prop_map(Step::Append),
        5 => Just(Step::Flush),
        1 => Just(Step::Crash),
        1 => Just(Step::Restart),
        2 => (1..40u64).prop_map(Step::Pass),
        6 => Just(Step::Send),
        6 => Just(Step::Deliver),
        1 => Just(Step::Drop),
        1 => Just(Step::Duplicate),
        1 => Just(Step::Reorder),
        1 => any::<usize>().prop_map(Step::Replay),
        5 => Just(Step::Confirm),
        1 => Just(Step::ConfirmLost),
        1 => Just(Step::Disconnect),
        3 => Just(Step::Connect),
        1 => Just(Step::BackUp),
        1 => Just(Step::Restore),
    ]
}

struct World {
    room: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    lazy: bool,
    places: u32,
    spool: Option<Spool>,
    session: Session,
    composer: Composer,
    hub: Hub,
    now: u64,
    connected: bool,
    /// On the way to the hub, and what ever was.
    up: VecDeque<(u64, Vec<u8>)>,
    past: Vec<Vec<u8>>,
    down: VecDeque<Confirm>,
    retained: Option<Confirm>,
    /// Which record has which number, as far as the gateway said.
    given: BTreeMap<Seq, u64>,
    /// Numbers up to here were promised to be durable, and those of them that had to be written for that: with `lazy`
    /// what is confirmed before never is.
    promised: Seq,
    written: BTreeSet<Seq>,
    /// What the hub was told under each number.
    told: BTreeMap<Seq, Content>,
    /// What a restored hub no longer had.
    forgotten: BTreeSet<Seq>,
    next_id: u64,
}

impl World {
    fn new(lazy: bool) -> Self {
        // A file system in memory where there is one: a crash leaves it as it leaves the page cache.
        let shm = Path::new("/dev/shm");
        let room = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.expect("a directory");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let spool = Spool::open(options(&room.path().join("0"), lazy)).expect("opens").0;
        let session = Session::new(rules(), spool.log_id(), 0);
        runtime.block_on(spool.keep_manifest(&manifest())).expect("kept");
        let gateway = GatewayId::new("truck").expect("a name");
        let composer = Composer::new(&Options::new(gateway, "localhost", 1883), Arc::new(|_, _| None));
        let hub = Hub::new(room.path(), &manifest());
        World {
            room,
            runtime,
            lazy,
            places: 0,
            spool: Some(spool),
            session,
            composer,
            hub,
            now: 0,
            connected: false,
            up: VecDeque::new(),
            past: Vec::new(),
            down: VecDeque::new(),
            retained: None,
            given: BTreeMap::new(),
            promised: 0,
            written: BTreeSet::new(),
            told: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            next_id: 0,
        }
    }

    fn spool(&self) -> &Spool {
        self.spool.as_ref().expect("it runs")
    }

    fn place(&self) -> PathBuf {
        self.room.path().join(self.places.to_string())
    }

    fn at(&self) -> BootNs {
        BootNs(self.now * 1_000_000_000)
    }

    fn append(&mut self, many: u64) {
        let ids: Vec<_> = (self.next_id + 1..=self.next_id + many).collect();
        self.next_id += many;
        let records = ids.iter().map(|id| record(*id)).collect();
        let numbers = self.runtime.block_on(self.spool().append(records)).expect("appends");
        for (seq, id) in numbers.zip(ids) {
            assert!(!self.told.contains_key(&seq), "number {seq} was told of already and is given away again");
            self.given.insert(seq, id);
        }
    }

    fn flush(&mut self) {
        self.promised = self.runtime.block_on(self.spool().flush()).expect("flushes");
        let unconfirmed = self.spool().stats().confirmed_seq + 1..=self.promised;
        self.written.extend(unconfirmed.filter(|seq| self.given.contains_key(seq)));
    }

    fn crash(&mut self) {
        self.places += 1;
        let (before, after) = (self.room.path().join((self.places - 1).to_string()), self.place());
        copy_dir(&before, &after);
        self.start_again();
        fs::remove_dir_all(before).expect("removed");
    }

    fn restart(&mut self) {
        self.flush();
        self.runtime.block_on(self.spool().close()).expect("closes");
        self.start_again();
    }

    fn start_again(&mut self) {
        self.spool = None;
        let (spool, opened) = Spool::open(options(&self.place(), self.lazy)).expect("opens");
        let told = self.told.last_key_value().map_or(0, |(last, _)| *last);
        assert!(opened.last_seq >= self.promised, "ends at {}, {} was promised", opened.last_seq, self.promised);
        assert!(opened.last_seq >= told, "ends at {}, the hub was told of {told}", opened.last_seq);
        assert!(self.lazy || opened.findings.is_empty(), "{:?}", opened.findings);
        assert!(opened.confirmed_seq <= self.hub.ever);
        // What had not been durable may be gone; with `lazy` a loss stands for it then.
        let (lazy, written) = (self.lazy, &self.written);
        self.given.retain(|seq, _| *seq <= opened.last_seq && (!lazy || written.contains(seq)));
        self.session = Session::new(rules(), spool.log_id(), opened.confirmed_seq);
        self.spool = Some(spool);
        self.cut_off();
    }

    fn cut_off(&mut self) {
        self.connected = false;
        self.up.clear();
        self.down.clear();
    }

    fn send(&mut self) {
        self.session.durable(self.spool().stats().durable_seq);
        while let Some(want) = self.session.wants(self.at()) {
            let merge = self.session.behind() > MERGE_BEHIND;
            let stored = self.runtime.block_on(self.spool().read_from(want.from, want.max_bytes)).expect("reads");
            let origin =
                Origin { log: self.spool().log_id(), oldest: self.spool().stats().oldest_seq, from: want.from, merge };
            let Some(composed) = self.composer.compose(origin, stored, |hash| self.spool().manifest(hash)) else {
                return;
            };
            for (seq, content) in said(&composed.payload) {
                let durable = self.lazy || seq <= self.spool().stats().durable_seq;
                assert!(durable, "record {seq} is sent and not durable");
                self.tell(seq, content);
            }
            let no = self.session.sent(self.at(), composed.sent);
            self.past.push(composed.payload.clone());
            self.up.push_back((no, composed.payload));
        }
    }

    /// A number means one record for ever. What was lent by `lazy` and lost may be told as lost afterwards.
    fn tell(&mut self, seq: Seq, content: Content) {
        match (content, self.told.get(&seq)) {
            (Content::Record(id), Some(Content::Record(before))) => {
                assert_eq!(id, *before, "number {seq} is two records")
            }
            (Content::Record(id), _) => assert_eq!(self.given.get(&seq), Some(&id), "number {seq} is another record's"),
            (Content::Loss, _) => {
                assert!(self.lazy, "record {seq} is told as lost");
                assert!(!self.written.contains(&seq), "record {seq} was written and is told as lost");
                return;
            }
            (Content::Gap, _) => unreachable!("only the hub has gaps"),
        }
        self.told.insert(seq, content);
    }

    fn hub_hears(&mut self, payload: &[u8]) {
        let confirm = self.hub.hear(payload);
        self.retained = Some(confirm);
        if self.connected {
            self.down.push_back(confirm);
        }
    }

    /// The broker acknowledges the next batch.
    fn take(&mut self) -> Option<Vec<u8>> {
        let (no, payload) = self.up.pop_front()?;
        assert_eq!(self.session.acked(self.at(), no), None, "the broker's word frees nothing");
        Some(payload)
    }

    fn confirm(&mut self) {
        let Some(confirm) = self.down.pop_front() else { return };
        let oldest = self.spool().stats().oldest_seq;
        if let Verdict::Advanced(thru) = self.session.confirm(self.at(), &confirm, oldest) {
            assert!(thru <= self.hub.ever, "{thru} is freed, and the hub never had more than {}", self.hub.ever);
            self.runtime.block_on(self.spool().confirm_thru(thru)).expect("confirms");
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

    fn connect(&mut self) {
        if !self.connected {
            self.connected = true;
            self.session.connected(self.at());
            self.down.extend(self.retained);
        }
    }

    fn disconnect(&mut self) {
        self.session.disconnected(self.at());
        self.cut_off();
    }

    fn restore(&mut self) {
        let (confirm, gone) = self.hub.restore(self.spool().log_id());
        self.forgotten.extend(gone);
        self.retained = Some(confirm);
        if self.connected {
            self.down.push_back(confirm);
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Append(many) => self.append(many),
            Step::Flush => self.flush(),
            Step::Crash => self.crash(),
            Step::Restart => self.restart(),
            Step::Pass(seconds) => self.pass(seconds),
            Step::Send => self.send(),
            Step::Deliver => {
                if let Some(payload) = self.take() {
                    self.hub_hears(&payload);
                }
            }
            Step::Drop => drop(self.take()),
            Step::Duplicate => {
                if let Some(payload) = self.take() {
                    self.hub_hears(&payload);
                    self.hub_hears(&payload);
                }
            }
            Step::Reorder => {
                let (one, two) = (self.take(), self.take());
                for payload in [two, one].into_iter().flatten() {
                    self.hub_hears(&payload);
                }
            }
            Step::Replay(at) => {
                if !self.past.is_empty() {
                    let payload = self.past[at % self.past.len()].clone();
                    self.hub_hears(&payload);
                }
            }
            Step::Confirm => self.confirm(),
            Step::ConfirmLost => drop(self.down.pop_front()),
            Step::Disconnect => self.disconnect(),
            Step::Connect => self.connect(),
            Step::BackUp => self.hub.back_up(),
            Step::Restore => self.restore(),
        }
    }

    /// From here on nothing fails: everything has to come to be confirmed.
    fn settle(&mut self) {
        self.append(1);
        self.flush();
        for _ in 0..2000 {
            self.connect();
            self.send();
            while let Some(payload) = self.take() {
                self.hub_hears(&payload);
                self.confirm();
            }
            while !self.down.is_empty() {
                self.confirm();
            }
            let last = self.spool().stats().durable_seq;
            if self.session.confirmed() == last && self.hub.thru == last {
                return;
            }
            self.pass(1);
        }
        panic!("not all is confirmed after 2000 s of peace: {:?}, the hub has {}", self.session, self.hub.thru);
    }

    /// Every number is at the hub once: as its record, or as a loss or a gap for which there is a cause.
    fn check(&mut self) {
        let last = self.spool().stats().durable_seq;
        let contents = self.hub.contents();
        assert!(contents.keys().copied().eq(1..=last), "{last} records, the hub has the numbers {:?}", contents.keys());
        let mut seen = BTreeSet::new();
        for (seq, content) in contents {
            match content {
                Content::Record(id) => {
                    assert!(seen.insert(id), "record {id} is there under two numbers");
                    let known = self.given.get(&seq).map(|id| Content::Record(*id)).or(self.told.get(&seq).copied());
                    assert_eq!(known, Some(content), "number {seq}");
                }
                Content::Loss => assert!(self.lazy && !self.written.contains(&seq), "record {seq} is lost"),
                Content::Gap => assert!(self.forgotten.contains(&seq), "record {seq} never came"),
            }
        }
    }
}

fn options(dir: &Path, lazy: bool) -> spool::Options {
    spool::Options {
        max_size: 64 << 20,
        keep_free: 0,
        commit_every: Duration::from_secs(3600),
        lazy: lazy.then_some(Duration::from_secs(3600)),
        ..spool::Options::new(dir)
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("reads") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_dir(&entry.path(), &to);
        } else if entry.file_name() != "ballast" {
            fs::copy(entry.path(), to).expect("copies");
        }
    }
}

/// `PROPTEST_CASES`, or so many.
fn cases(usual: u32) -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, max_shrink_iters: 300, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() { config } else { ProptestConfig { cases: usual, ..config } }
}

fn live_through(lazy: bool, steps: &[Step]) {
    let mut world = World::new(lazy);
    steps.iter().for_each(|step| world.step(step));
    world.settle();
    world.check();
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn whatever_happens_the_hub_has_each_durable_record_once_in_the_end(steps in prop::collection::vec(step(), 1..120)) {
        live_through(false, &steps);
    }

    #[test]
    fn with_lazy_what_a_crash_takes_is_a_loss_and_no_number_means_two_records(steps in prop::collection::vec(step(), 1..120)) {
        live_through(true, &steps);
    }
}
