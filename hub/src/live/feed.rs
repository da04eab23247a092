//! Who is told what: the journal of changes, and one place in it a client.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    ops::Bound,
    str::FromStr,
    sync::Arc,
    time::Instant,
};

use axum::body::Bytes;
use serde::Serialize;
use speedwell_wire::{GatewayId, Quantity};
use tokio::sync::watch;

use super::{AGE_SLACK, Board, GatewayView, MAX_NAMED, board::State, gateway::Gateway};

/// Bytes of messages that are taken together; one more message is taken as long as they are fewer.
const TOGETHER_BYTES: usize = 256 * 1024;
/// Gateways that are looked at before the board is let go.
const A_PIECE: usize = 64;
/// Choices of channels a gateway's view is kept rendered for; a fifth has its own rendered each time.
const MAX_TEXTS: usize = 4;

/// How much is remembered for those who are behind.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Changes: which gateway's it was, 8 bytes each.
    pub changes: usize,
    /// Messages of other rooms.
    pub told: usize,
    /// And bytes of these.
    pub told_bytes: usize,
}

impl Default for Limits {
    /// Two minutes of a thousand gateways that say something once a second, in 1 MiB.
    fn default() -> Self {
        Self { changes: 128 * 1024, told: 4096, told_bytes: 4 * 1024 * 1024 }
    }
}

/// A gateway and all that is needed to tell it.
pub(super) struct Slot {
    pub(super) id: GatewayId,
    pub(super) gateway: Gateway,
    /// The number of its last change.
    last: u64,
    texts: Vec<Text>,
}

/// A view as it is told.
#[derive(Clone)]
struct Text {
    channels: Arc<Channels>,
    made: Instant,
    /// `{"n":…,"type":"gateway","gateway":…}`
    message: Bytes,
    /// Where the view is in it.
    view: (usize, usize),
}

/// Which gateway changed at which number.
pub(super) struct Journal {
    limits: Limits,
    /// The number of the last change.
    head: u64,
    /// The last of them, the newest at the end.
    entries: VecDeque<Entry>,
    told: VecDeque<Told>,
    told_bytes: usize,
    /// Up to here, changes can no longer be told one by one.
    forgotten: u64,
}

#[derive(Clone, Copy)]
enum Entry {
    /// The gateway's place.
    Gateway(u32),
    /// It is among `told`.
    Told,
}

struct Told {
    n: u64,
    of: Box<[GatewayId]>,
    message: Bytes,
}

/// Which channels of a gateway are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Of these sensors; of all when it is empty.
    pub sensors: BTreeSet<String>,
    /// Of these quantities; of all when it is empty.
    pub quantities: BTreeSet<Quantity>,
}

/// What a client wants to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of these gateways; of all when it is empty.
    pub gateways: BTreeSet<GatewayId>,
    /// A gateway that has none of them is not told of.
    pub channels: Arc<Channels>,
}

/// Up to where a client was told, written `EPOCH.N`: sixteen hexadecimal digits and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// Whose numbers they are; see [`Board::epoch`].
    pub epoch: u64,
    /// The number of the last message.
    pub n: u64,
}

/// A client's place in the feed.
pub struct Watch {
    board: Board,
    news: watch::Receiver<()>,
    filter: Filter,
    /// It was told all up to here.
    at: u64,
    /// It has to be given a snapshot, and has never had one when it is new.
    behind: bool,
    new: bool,
}

/// A message. Whoever has got it has been told all up to `n`.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its number.
    pub n: u64,
    /// All of it.
    pub text: Bytes,
}

/// What there is to be told.
#[derive(Debug)]
pub enum Look {
    /// These, in this order, and then [`Look::All`] or more of it.
    Some(Vec<Said>),
    /// These, and that is all for now.
    All(Vec<Said>),
    /// More than is remembered: [`Watch::snapshot`].
    Behind,
}

#[derive(Serialize)]
struct Words<'a> {
    n: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    #[serde(rename = "type")]
    kind: &'a str,
    /// The changes that were overtaken, and whose they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateways: Option<&'a BTreeSet<GatewayId>>,
}

/// What was not told.
#[derive(Default)]
struct Missed {
    changes: u64,
    gateways: BTreeSet<GatewayId>,
}

impl Channels {
    /// Whether this one is wanted.
    pub fn has(&self, sensor: &str, quantity: Quantity) -> bool {
        (self.sensors.is_empty() || self.sensors.contains(sensor))
            && (self.quantities.is_empty() || self.quantities.contains(&quantity))
    }

    fn all(&self) -> bool {
        self.sensors.is_empty() && self.quantities.is_empty()
    }
}

impl Filter {
    fn wants(&self, slot: &Slot) -> bool {
        let channels = || slot.gateway.channels.keys().any(|(sensor, quantity)| self.channels.has(sensor, *quantity));
        (self.gateways.is_empty() || self.gateways.contains(&slot.id)) && (self.channels.all() || channels())
    }

    fn wants_told(&self, told: &Told) -> bool {
        self.gateways.is_empty() || told.of.iter().any(|of| self.gateways.contains(of))
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}", self.epoch, self.n)
    }
}

impl FromStr for Since {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('.').filter(|(epoch, _)| epoch.len() == 16);
        let since = parts.and_then(|(epoch, n)| Some((u64::from_str_radix(epoch, 16).ok()?, n.parse().ok()?)));
        let (epoch, n) = since.ok_or_else(|| {
            format!("{text:?}: wanted is EPOCH.N, the `epoch` of a snapshot and the `n` of the last message")
        })?;
        Ok(Self { epoch, n })
    }
}

impl Slot {
    pub(super) fn new(id: GatewayId) -> Self {
        Self { id, gateway: Gateway::default(), last: 0, texts: Vec::new() }
    }

    pub(super) fn changed(&mut self, n: u64) {
        self.last = n;
        self.texts.clear();
    }

    pub(super) fn forget_old_texts(&mut self, now: Instant) {
        self.texts.retain(|text| now.duration_since(text.made) < AGE_SLACK);
    }

    fn text(&mut self, channels: &Arc<Channels>, now: Instant) -> Text {
        let fits = |text: &&Text| *text.channels == **channels && now.duration_since(text.made) < AGE_SLACK;
        if let Some(text) = self.texts.iter().find(fits) {
            return text.clone();
        }
        let view = self.gateway.view(&self.id, channels, now);
        let text = Text::new(self.last, &view, channels.clone(), now);
        self.texts.retain(|old| *old.channels != **channels);
        if self.texts.len() < MAX_TEXTS {
            self.texts.push(text.clone());
        }
        text
    }
}

impl Text {
    fn new(n: u64, view: &GatewayView, channels: Arc<Channels>, made: Instant) -> Self {
        let mut message = format!("{{\"n\":{n},\"type\":\"gateway\",\"gateway\":").into_bytes();
        let from = message.len();
        if let Err(error) = serde_json::to_writer(&mut message, view) {
            // There is no view that cannot be written; if there were one, it would be told as none.
            tracing::error!(gateway = %view.id, %error, "a view cannot be told");
            message.truncate(from);
            message.extend_from_slice(b"null");
        }
        let to = message.len();
        message.push(b'}');
        Self { channels, made, message: message.into(), view: (from, to) }
    }

    fn view(&self) -> &[u8] {
        self.message.get(self.view.0..self.view.1).unwrap_or_default()
    }
}

impl Journal {
    pub(super) fn new(limits: Limits) -> Self {
        let (entries, told) = (VecDeque::new(), VecDeque::new());
        Self { limits, head: 0, entries, told, told_bytes: 0, forgotten: 0 }
    }

    /// The number of a gateway's change.
    pub(super) fn change(&mut self, at: u32) -> u64 {
        self.add(Entry::Gateway(at))
    }

    pub(super) fn tell(&mut self, of: Box<[GatewayId]>, message: impl FnOnce(u64) -> Bytes) {
        let n = self.add(Entry::Told);
        let message = message(n);
        self.told_bytes += message.len();
        self.told.push_back(Told { n, of, message });
        while self.told.len() > self.limits.told || self.told_bytes > self.limits.told_bytes {
            let Some(old) = self.told.pop_front() else { return };
            self.told_bytes -= old.message.len();
            self.forgotten = self.forgotten.max(old.n);
        }
    }

    fn add(&mut self, entry: Entry) -> u64 {
        self.head += 1;
        self.entries.push_back(entry);
        while self.entries.len() > self.limits.changes {
            self.entries.pop_front();
            self.forgotten = self.forgotten.max(self.head - self.entries.len() as u64);
        }
        self.head
    }

    /// The changes after this one, with their numbers.
    fn after(&self, n: u64) -> impl Iterator<Item = (u64, Entry)> {
        let first = self.head - self.entries.len() as u64;
        let skip = n.saturating_sub(first).min(self.entries.len() as u64);
        (first + skip + 1..).zip(self.entries.range(skip as usize..).copied())
    }

    fn told(&self, n: u64) -> Option<&Told> {
        self.told.binary_search_by_key(&n, |told| told.n).ok().and_then(|at| self.told.get(at))
    }

    fn knows_after(&self, n: u64) -> bool {
        (self.forgotten..=self.head).contains(&n)
    }
}

impl Missed {
    fn note(&mut self, of: &GatewayId) {
        self.changes += 1;
        if self.gateways.len() < MAX_NAMED && !self.gateways.contains(of) {
            self.gateways.insert(of.clone());
        }
    }

    fn said(&self, n: u64) -> Option<Said> {
        let words = Words { changes: Some(self.changes), gateways: Some(&self.gateways), ..Words::new(n, "skipped") };
        (self.changes > 0).then(|| words.said())
    }
}

impl<'a> Words<'a> {
    fn new(n: u64, kind: &'a str) -> Self {
        Self { n, epoch: None, kind, changes: None, gateways: None }
    }

    fn said(&self) -> Said {
        Said { n: self.n, text: serde_json::to_vec(self).unwrap_or_default().into() }
    }
}

impl Watch {
    pub(super) fn new(board: Board, news: watch::Receiver<()>, filter: Filter, since: Option<Since>) -> Self {
        let known = since.filter(|s| s.epoch == board.epoch() && board.lock().journal.knows_after(s.n));
        let (at, behind) = (known.map_or(0, |since| since.n), known.is_none());
        Self { board, news, filter, at, behind, new: true }
    }

    /// Waits until something has changed since the last look, wanted or not. Cancel-safe. False when nothing ever will.
    pub async fn news(&mut self) -> bool {
        self.news.changed().await.is_ok()
    }

    /// What there is to be told now.
    pub fn look(&mut self, now: Instant) -> Look {
        self.news.mark_unchanged();
        let mut state = self.board.lock();
        let State { slots, journal, .. } = &mut *state;
        if self.behind || !journal.knows_after(self.at) {
            self.behind = true;
            return Look::Behind;
        }
        let (mut said, mut bytes, mut missed, from) = (Vec::new(), 0, Missed::default(), self.at);
        for (n, entry) in journal.after(from) {
            if bytes >= TOGETHER_BYTES {
                break;
            }
            self.at = n;
            let text = match entry {
                Entry::Told => journal.told(n).filter(|told| self.filter.wants_told(told)).map(|t| t.message.clone()),
                Entry::Gateway(at) => match slots.get_mut(at as usize).filter(|slot| self.filter.wants(slot)) {
                    Some(slot) if slot.last == n => Some(slot.text(&self.filter.channels, now).message),
                    Some(overtaken) => {
                        missed.note(&overtaken.id);
                        None
                    }
                    None => None,
                },
            };
            bytes += text.as_ref().map_or(0, Bytes::len);
            said.extend(text.map(|text| Said { n, text }));
        }
        let all = self.at == journal.head;
        drop(state);
        // What was overtaken stays untold until its overtaker is: who is cut off in between hears of it again.
        let mut first: Vec<Said> = std::mem::take(&mut self.new).then(|| self.resumed(from)).into_iter().collect();
        first.extend(missed.said(from));
        first.append(&mut said);
        if all { Look::All(first) } else { Look::Some(first) }
    }

    /// All there is. Messages after it begin at its number, so some of it may be told again, and none is missed.
    pub async fn snapshot(&mut self, now: impl Fn() -> Instant) -> Vec<Said> {
        self.news.mark_unchanged();
        let head = self.board.lock().journal.head;
        let epoch = Some(format!("{:016x}", self.board.epoch()));
        let mut text = serde_json::to_vec(&Words { epoch, ..Words::new(head, "snapshot") }).unwrap_or_default();
        // The closing brace.
        text.pop();
        text.extend_from_slice(b",\"gateways\":[");
        let mut last = None;
        loop {
            last = self.piece(last, &mut text, now());
            if last.is_none() {
                break;
            }
            // Neither the board nor the other clients wait for the whole of it.
            tokio::task::yield_now().await;
        }
        text.extend_from_slice(b"]}");
        let missed = Missed { changes: head.saturating_sub(self.at), gateways: BTreeSet::new() };
        let skipped = if self.new { None } else { missed.said(self.at) };
        (self.at, self.behind, self.new) = (head, false, false);
        skipped.into_iter().chain([Said { n: head, text: text.into() }]).collect()
    }

    /// Adds the views of some gateways after the last; gives the last of them when there may be more.
    fn piece(&self, last: Option<GatewayId>, text: &mut Vec<u8>, now: Instant) -> Option<GatewayId> {
        let mut state = self.board.lock();
        let State { names, slots, .. } = &mut *state;
        let from = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut seen = None;
        for (name, &at) in names.range((from, Bound::Unbounded)).take(A_PIECE) {
            seen = Some(name);
            if let Some(slot) = slots.get_mut(at as usize).filter(|slot| self.filter.wants(slot)) {
                if text.last() != Some(&b'[') {
                    text.push(b',');
                }
                text.extend_from_slice(slot.text(&self.filter.channels, now).view());
            }
        }
        seen.cloned()
    }

    /// Goes on from now, for a client that needs neither a snapshot nor what was before.
    pub fn pass_over(&mut self) {
        self.at = self.board.lock().journal.head;
        (self.behind, self.new) = (false, false);
    }

    /// That all is well, and up to where the client was told.
    pub fn heartbeat(&self) -> Said {
        Words::new(self.at, "heartbeat").said()
    }

    /// The place to come again at.
    pub fn since(&self, n: u64) -> Since {
        Since { epoch: self.board.epoch(), n }
    }

    fn resumed(&self, n: u64) -> Said {
        Words { epoch: Some(format!("{:016x}", self.board.epoch())), ..Words::new(n, "resumed") }.said()
    }
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
