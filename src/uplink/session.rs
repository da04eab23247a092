//! The rules of the replication as a pure state machine: what to read, what has arrived, when to go back.
//!
//! ```text
//!   freed          in flight (the window)            not sent yet        not durable yet
//! ───────────┬──────────────────────────────┬─────────────────────────┬──────────────────
//!    confirmed│                              │cursor                   │durable
//! ```
//! Every connection begins with nothing in flight and the cursor at the first unconfirmed record. Within a connection
//! the cursor goes back there when the hub stays silent, when it says the same thing again and again (it has dropped
//! what followed a hole), when it says less than before (it was restored from a backup), or when it has half of an
//! entry that cannot be taken by halves. The hub takes each record once, so going back costs bytes, never truth.
//!
//! There is no socket and no clock in here: what happens and the time come in by the methods.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use speedwell_wire::{Confirm, LogId, Seq};

use super::{Confirmation, Options};
use crate::clock::BootNs;

/// Batches the broker has not acknowledged. Below half of rumqttc's window of packet ids (see `mqtt::INFLIGHT`), so
/// that an id is never reused while it is out, whatever the order of the acknowledgements.
pub const MAX_UNACKED: usize = 32;

/// The smallest a batch limit shrinks to; a single record is sent whatever its size.
pub const MIN_BATCH: usize = 1024;

/// Where the pipe starts: half a second of a slow mobile link.
const PIPE_START: usize = 32 * 1024;
/// An acknowledgement slower than this halves the pipe.
const SLOW_ACK: Duration = Duration::from_secs(2);
/// One quicker than this doubles it.
const QUICK_ACK: Duration = Duration::from_millis(500);

/// A confirmation that repeats itself counts as "I dropped what followed" after this part of the patience: 5 s of 30.
const STALL_PART: u32 = 6;

/// What the state machine holds to.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Bytes in flight. At least one batch always is, whatever its size.
    pub window: usize,
    /// Bytes to read for a batch.
    pub max_batch: usize,
    /// Who says that a record is safe.
    pub confirm: Confirmation,
    /// How long to wait for a confirmation at first.
    pub patience: Duration,
    /// How long at last.
    pub patience_max: Duration,
    /// How long to wait for the broker's acknowledgement before the connection is given up.
    pub acknowledge: Duration,
    /// Bytes a second, when that is limited.
    pub pace: Option<u32>,
}

impl From<&Options> for Rules {
    fn from(options: &Options) -> Self {
        Self {
            window: options.window,
            max_batch: options.max_batch.min(options.max_packet).max(MIN_BATCH),
            confirm: options.confirm,
            patience: options.times.confirm,
            patience_max: options.times.confirm_max,
            acknowledge: options.times.acknowledge,
            pace: options.backlog_pace,
        }
    }
}

/// What to read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// From which record on.
    pub from: Seq,
    /// About how many bytes.
    pub max_bytes: usize,
}

/// A batch that was handed to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its first record.
    pub first: Seq,
    /// The record after its last.
    pub next: Seq,
    /// Its payload.
    pub bytes: usize,
    /// First and next of each entry that stands for several records: the hub takes it whole or not at all.
    pub whole: Vec<(Seq, Seq)>,
}

/// What a confirmation meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything up to here is safe and may be freed.
    Advanced(Seq),
    /// What was known.
    Known,
    /// Less than was known: the hub was restored; sending goes on from here.
    WentBack(Seq),
    /// It speaks of another log.
    OtherLog,
    /// It speaks of records that were never written.
    NeverWritten,
}

/// What a tick found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// No confirmation came: went back to `first`.
    Unconfirmed {
        /// The first record concerned.
        first: Seq,
        /// The last.
        last: Seq,
        /// How long was waited.
        after: Duration,
        /// Whether this is news: the wait has not yet been as long since the last progress.
        news: bool,
    },
    /// The hub goes on confirming the same record: went back to the one after it.
    Stalled {
        /// That one.
        first: Seq,
    },
    /// The broker does not acknowledge: give up the connection.
    Unacknowledged {
        /// How long was waited.
        after: Duration,
    },
}

#[derive(Clone, Debug)]
struct Flight {
    no: u64,
    sent: Sent,
    acked: Option<BootNs>,
}

/// The state. Made once for a log; lives through all connections.
#[derive(Clone, Debug)]
pub struct Session {
    rules: Rules,
    log: LogId,
    confirmed: Seq,
    durable: Seq,
    cursor: Seq,
    flights: VecDeque<Flight>,
    flying: usize,
    next_no: u64,
    /// What the broker has not acknowledged, by number: bytes and when they went out. Batches from before a rewind are
    /// still among them, because they still fill the line.
    unacked: BTreeMap<u64, (usize, BootNs)>,
    /// Bytes that may be unacknowledged: what the line carries in about a second.
    pipe: usize,
    connected: bool,
    /// Whether this connection brought any confirmation forward.
    fruitful: bool,
    /// When the wait for a confirmation began anew: progress, going back, connecting.
    since: BootNs,
    patience: Duration,
    /// Whether the last confirmation said nothing new while something was in flight.
    stalled: bool,
    batch_limit: usize,
    next_send: BootNs,
}

impl Session {
    /// A session on a log that was confirmed up to `confirmed` before.
    pub fn new(rules: Rules, log: LogId, confirmed: Seq) -> Self {
        Self {
            pipe: PIPE_START.min(rules.window),
            patience: rules.patience,
            batch_limit: rules.max_batch,
            rules,
            log,
            confirmed,
            durable: confirmed,
            cursor: confirmed + 1,
            flights: VecDeque::new(),
            flying: 0,
            next_no: 0,
            unacked: BTreeMap::new(),
            connected: false,
            fruitful: false,
            since: BootNs(0),
            stalled: false,
            next_send: BootNs(0),
        }
    }

    /// The last confirmed record.
    pub fn confirmed(&self) -> Seq {
        self.confirmed
    }

    /// The last durable record.
    pub fn last_durable(&self) -> Seq {
        self.durable
    }

    /// Durable records not yet read in this connection.
    pub fn behind(&self) -> u64 {
        (self.durable + 1).saturating_sub(self.cursor)
    }

    /// The log is durable up to here.
    pub fn durable(&mut self, seq: Seq) {
        self.durable = self.durable.max(seq);
    }

    /// A connection is up and listens for confirmations.
    pub fn connected(&mut self, now: BootNs) {
        self.connected = true;
        self.fruitful = false;
        self.unacked.clear();
        self.go_back(now, self.confirmed + 1);
    }

    /// The connection is gone, and with it everything in flight.
    pub fn disconnected(&mut self, now: BootNs) {
        // Perhaps the broker dropped the connection because of what it was sent: next time in smaller pieces, and fewer
        // at once, down to one. A broker that resets takes acknowledgements with it that were already on their way.
        if !self.fruitful && !self.unacked.is_empty() {
            self.shrink();
        }
        self.connected = false;
        self.unacked.clear();
        self.go_back(now, self.confirmed + 1);
    }

    /// What to read and send now, if anything.
    pub fn wants(&self, now: BootNs) -> Option<Want> {
        let ready = self.connected && self.behind() > 0 && self.unacked.len() < MAX_UNACKED && now >= self.next_send;
        let from = self.cursor;
        let room = self.room();
        if !ready {
            None
        } else if self.flights.is_empty() && self.unacked.is_empty() {
            // Something must always go, whatever its size.
            Some(Want { from, max_bytes: self.batch_limit.min(room.max(1)) })
        } else {
            // A sliver of room is not worth a batch: wait for more.
            let worth = self.batch_limit.min(self.pipe).min(self.rules.window) / 4;
            (room > worth).then_some(Want { from, max_bytes: self.batch_limit.min(room) })
        }
    }

    fn room(&self) -> usize {
        let written: usize = self.unacked.values().map(|(bytes, _)| bytes).sum();
        self.rules.window.saturating_sub(self.flying).min(self.pipe.saturating_sub(written))
    }

    /// A batch went out. Gives the number to tell its acknowledgement by.
    pub fn sent(&mut self, now: BootNs, sent: Sent) -> u64 {
        let no = self.next_no;
        self.next_no += 1;
        self.cursor = sent.next;
        self.flying += sent.bytes;
        self.unacked.insert(no, (sent.bytes, now));
        if let Some(pace) = self.rules.pace {
            // Time the batch takes at the pace: bytes / (bytes/s).
            let takes = Duration::from_secs_f64(sent.bytes as f64 / f64::from(pace.max(1)));
            self.next_send = self.next_send.max(now) + takes;
        }
        self.flights.push_back(Flight { no, sent, acked: None });
        no
    }

    /// The broker acknowledged a batch. Gives what may be freed, where the broker's word is enough.
    pub fn acked(&mut self, now: BootNs, no: u64) -> Option<Seq> {
        if let Some((_, at)) = self.unacked.remove(&no) {
            self.measure(now.since(at));
        }
        if let Some(flight) = self.flights.iter_mut().find(|f| f.no == no) {
            flight.acked = Some(now);
        }
        if self.rules.confirm == Confirmation::Hub {
            return None;
        }
        let acked = self.flights.iter().take_while(|f| f.acked.is_some()).last()?;
        let thru = acked.sent.next - 1;
        self.advance(now, thru);
        Some(thru)
    }

    /// The hub confirmed. `oldest` is the oldest record still kept.
    pub fn confirm(&mut self, now: BootNs, confirm: &Confirm, oldest: Seq) -> Verdict {
        if confirm.log != self.log {
            return Verdict::OtherLog;
        }
        if confirm.thru > self.durable {
            return Verdict::NeverWritten;
        }
        if confirm.thru > self.confirmed {
            self.advance(now, confirm.thru);
            return Verdict::Advanced(confirm.thru);
        }
        let to = oldest.max(confirm.thru + 1);
        if to > self.confirmed {
            // Nothing new; or less than was known, of which nothing is kept that could be sent again.
            self.stalled |= !self.flights.is_empty();
            return Verdict::Known;
        }
        self.confirmed = to - 1;
        self.go_back(now, to);
        Verdict::WentBack(to)
    }

    /// Time passed.
    pub fn tick(&mut self, now: BootNs) -> Option<Overdue> {
        if let Some((_, (_, at))) = self.unacked.first_key_value() {
            let after = now.since(*at);
            if after >= self.rules.acknowledge {
                return Some(Overdue::Unacknowledged { after });
            }
        }
        // The wait begins when the broker has the batch: a slow line is no silent hub.
        let acked = self.flights.front()?.acked?;
        let (first, last) = (self.confirmed + 1, self.cursor - 1);
        let after = now.since(acked.max(self.since));
        if after >= self.patience {
            let news = self.patience < self.rules.patience_max;
            self.lose_patience(now, first);
            Some(Overdue::Unconfirmed { first, last, after, news })
        } else if self.stalled && after >= self.patience / STALL_PART {
            self.lose_patience(now, first);
            Some(Overdue::Stalled { first })
        } else {
            None
        }
    }

    fn advance(&mut self, now: BootNs, thru: Seq) {
        self.confirmed = thru;
        self.since = now;
        self.stalled = false;
        self.fruitful = true;
        self.patience = self.rules.patience;
        self.batch_limit = (self.batch_limit * 2).min(self.rules.max_batch);
        // An entry the hub has only half of was dropped there, and all that followed it.
        let torn =
            self.flights.iter().flat_map(|f| &f.sent.whole).any(|&(first, next)| first <= thru && thru + 1 < next);
        if torn || thru >= self.cursor {
            self.go_back(now, thru + 1);
        } else {
            while self.flights.front().is_some_and(|f| f.sent.next <= thru + 1) {
                self.flying -= self.flights.pop_front().map_or(0, |f| f.sent.bytes);
            }
        }
    }

    /// Live values share the line with the backlog and stand behind what is already written to it. So the pipe is kept
    /// at what the broker acknowledges in about a second, found by halving and doubling.
    fn measure(&mut self, took: Duration) {
        if took > SLOW_ACK {
            self.pipe = (self.pipe / 2).max(MIN_BATCH);
        } else if took < QUICK_ACK {
            self.pipe = (self.pipe * 2).min(self.rules.window);
        }
    }

    fn lose_patience(&mut self, now: BootNs, first: Seq) {
        self.patience = (self.patience * 2).min(self.rules.patience_max);
        self.shrink();
        self.go_back(now, first);
    }

    fn shrink(&mut self) {
        self.batch_limit = (self.batch_limit / 2).max(MIN_BATCH);
        self.pipe = (self.pipe / 2).max(MIN_BATCH);
    }

    fn go_back(&mut self, now: BootNs, to: Seq) {
        self.flights.clear();
        self.flying = 0;
        self.cursor = to;
        self.since = now;
        self.stalled = false;
    }
}
