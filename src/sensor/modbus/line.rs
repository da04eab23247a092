//! The line: whose turn it is, and which answer is whose.

use std::time::Duration;

use super::{
    frame::{Found, QUESTION, Question},
    slave::{Hush, Options, Slave},
};
use crate::{
    clock::BootNs,
    sensor::{ByteSensor, ChannelSpec, Counters, Reading, Sensor},
};

/// Bytes kept that are no answer yet: an echoed question and the longest answer, twice.
const KEPT: usize = 64;
/// Above 19200 baud the pause between frames no longer shrinks (Modbus over serial line, 2.5.1.1).
const PAUSE_LEAST: Duration = Duration::from_micros(1750);
/// An answer does not say which register it is of. After a time-out its device is left alone for so many times what it had
/// for the answer, so that a late one is not taken for the answer to the next question.
const LATE: u32 = 3;
/// A question that waits so long for a pause waits for a line that has none. The longest frame of 256 characters takes
/// this long at 2400 baud; slower lines have so many characters.
const NEVER_QUIET: Duration = Duration::from_secs(1);
const LONGEST_FRAME: u32 = 256;

/// A question that is out.
#[derive(Clone, Copy, Debug)]
struct Out {
    slave: usize,
    sent: BootNs,
    until: BootNs,
}

/// All devices on a port.
#[derive(Debug)]
pub struct Line {
    slaves: Vec<Slave>,
    /// Of a character, and between two frames.
    character: Duration,
    pause: Duration,
    out: Option<Out>,
    /// The question that was given up last: its answer may still come.
    given_up: Option<Out>,
    /// When the last byte came or went.
    busy: Option<BootNs>,
    /// Since when a question waits for a pause.
    held_up: Option<BootNs>,
    kept: Vec<u8>,
    /// When the first of the kept bytes came.
    since: BootNs,
}

impl Line {
    /// A line that takes so long for a character, with these devices; nothing was asked.
    pub fn new(character: Duration, slaves: impl IntoIterator<Item = Options>) -> Self {
        Self {
            slaves: slaves.into_iter().map(Slave::new).collect(),
            character,
            // Three and a half characters.
            pause: (character * 7 / 2).max(PAUSE_LEAST),
            out: None,
            given_up: None,
            busy: None,
            held_up: None,
            kept: Vec::with_capacity(KEPT),
            since: BootNs(0),
        }
    }

    /// The devices, in the order they were given.
    pub fn slaves_mut(&mut self) -> &mut [Slave] {
        &mut self.slaves
    }

    /// Puts the next question into `out`, when the line is free and one is due.
    pub fn ask(&mut self, now: BootNs, out: &mut Vec<u8>) {
        if let Some(question) = self.out {
            if now < question.until {
                return;
            }
            self.give_up(question, now);
        }
        let Some((slave, due)) = self.next() else { return };
        if due > now {
            return;
        }
        if self.busy.is_some_and(|busy| now < busy + self.pause) {
            return self.wait_for_a_pause(now);
        }
        self.held_up = None;
        self.slaves.iter_mut().for_each(|slave| slave.never_quiet = false);
        let asked = &mut self.slaves[slave];
        asked.asked(now);
        let question = asked.question();
        out.extend_from_slice(&question.frame());
        // Until its last byte has left; the answer's time begins there.
        let sent = now + self.character * QUESTION as u32;
        let answer = self.character * u32::try_from(question.answer()).unwrap_or(u32::MAX);
        self.out = Some(Out { slave, sent, until: sent + asked.options.answer_within + answer });
        self.busy = Some(sent);
        self.kept.clear();
    }

    /// No answer came in time. Every register of that device is left alone until it is too late for one.
    fn give_up(&mut self, question: Out, now: BootNs) {
        self.out = None;
        self.given_up = Some(question);
        let asked = &mut self.slaves[question.slave];
        asked.passed_over(now);
        let hush = Hush { slave: asked.options.slave, until: now + asked.options.answer_within * LATE };
        self.slaves.iter_mut().for_each(|slave| slave.hush(hush));
    }

    /// Somebody else speaks. That is waited for, and told when it does not end.
    fn wait_for_a_pause(&mut self, now: BootNs) {
        let since = *self.held_up.get_or_insert(now);
        if now.since(since) > NEVER_QUIET.max(self.character * LONGEST_FRAME) {
            self.slaves.iter_mut().for_each(|slave| slave.never_quiet = true);
        }
    }

    /// When [`Line::ask`] has something to do again.
    pub fn wakes(&self) -> Option<BootNs> {
        let free = self.busy.map_or(BootNs(0), |busy| busy + self.pause);
        match self.out {
            Some(question) => Some(question.until),
            None => self.next().map(|(_, due)| due.max(free)),
        }
    }

    /// Whose turn it is, and when.
    fn next(&self) -> Option<(usize, BootNs)> {
        self.slaves.iter().map(|slave| slave.due).enumerate().min_by_key(|(_, due)| *due)
    }

    /// Takes bytes; gives the number of the device that has answered with them, and what it says in `readings`.
    pub fn on_bytes(&mut self, t: BootNs, bytes: &[u8], readings: &mut Vec<Reading>) -> Option<usize> {
        self.busy = Some(t + self.character * u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        for &byte in bytes {
            if self.kept.is_empty() {
                self.since = t;
            }
            // What does not become an answer goes at its beginning.
            if self.kept.len() == KEPT {
                self.kept.remove(0);
            }
            self.kept.push(byte);
        }
        let Some(out) = self.out else {
            self.look_for_a_late_answer(t);
            return None;
        };
        self.slaves[out.slave].noise.heard(bytes.len());
        if !self.answer(out, readings) {
            return None;
        }
        self.out = None;
        self.kept.clear();
        Some(out.slave)
    }

    /// What comes when nothing is asked may be the answer to the question that was given up: its value is as old as
    /// nobody knows, but that it came is worth telling.
    fn look_for_a_late_answer(&mut self, t: BootNs) {
        let Some(late) = self.given_up else { return };
        let question = self.slaves[late.slave].question();
        let whole = |at: usize| matches!(question.find(&self.kept[at..]), Found::Answer(..) | Found::Refusal(..));
        if (0..self.kept.len()).any(whole) {
            self.slaves[late.slave].was_late(t.since(late.sent));
            self.given_up = None;
            self.kept.clear();
        }
    }

    /// Looks for the answer in what is kept.
    fn answer(&mut self, out: Out, readings: &mut Vec<Reading>) -> bool {
        let question = self.slaves[out.slave].question();
        // The device looked at its register after the question's end and before the answer's beginning.
        let t = BootNs(out.sent.0 / 2 + self.since.0.max(out.sent.0) / 2);
        let echoed = self.kept.starts_with(&question.frame());
        for at in (if echoed { QUESTION } else { 0 })..self.kept.len() {
            match question.find(&self.kept[at..]) {
                Found::Answer(data, _) => {
                    self.slaves[out.slave].take(t, data, readings);
                    return true;
                }
                Found::Refusal(code, _) => {
                    self.slaves[out.slave].refused(t, code, readings);
                    return true;
                }
                Found::Part => return false,
                Found::Nothing => {}
            }
        }
        false
    }
}

/// One device on a line where somebody else asks: for a recording. Answers are taken as they come. Where the questions are
/// recorded too, an answer to a question for another register is not taken for this one.
#[derive(Debug)]
pub struct Alone {
    slave: Slave,
    question: Option<Question>,
    kept: Vec<u8>,
}

impl Alone {
    /// One that has heard nothing.
    pub fn new(options: Options) -> Self {
        Self { slave: Slave::new(options), question: None, kept: Vec::with_capacity(KEPT) }
    }

    /// Takes what the kept bytes begin with; how many there were of it, 0 when more have to come.
    fn begins(&mut self, t: BootNs, readings: &mut Vec<Reading>) -> usize {
        let own = self.slave.question();
        if let Some(asked) = Question::read(&self.kept) {
            self.question = Some(asked);
            return QUESTION;
        }
        let asked = self.question.filter(|asked| asked.slave == own.slave).unwrap_or(own);
        match own.find(&self.kept) {
            Found::Answer(data, length) if asked == own => {
                self.slave.take(t, data, readings);
                length
            }
            Found::Refusal(code, length) if asked == own => {
                self.slave.refused(t, code, readings);
                length
            }
            Found::Answer(_, length) | Found::Refusal(_, length) => length,
            Found::Part => 0,
            Found::Nothing if self.kept.len() < QUESTION => 0,
            Found::Nothing => 1,
        }
    }
}

impl ByteSensor for Alone {
    fn on_bytes(&mut self, t: BootNs, bytes: &[u8], out: &mut Vec<Reading>) {
        for &byte in bytes {
            self.kept.push(byte);
            while !self.kept.is_empty() {
                match self.begins(t, out) {
                    0 if self.kept.len() < KEPT => break,
                    taken => drop(self.kept.drain(..taken.max(1))),
                }
            }
        }
    }
}

impl Sensor for Alone {
    fn channels(&self) -> &[ChannelSpec] {
        self.slave.channels()
    }

    fn tick(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        self.slave.tick(now, out);
    }

    fn counters(&self) -> Counters {
        self.slave.counters()
    }
}
