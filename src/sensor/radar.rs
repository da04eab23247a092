//! Speed from a Doppler radar of the OPS243 family, by its own lines of text.
//!
//! ```text
//! -3.6                                             outbound at 3.6, in the unit that was set
//! 137.429,3.6                                      with a time before it
//! {"speed":0.58,"direction":"inbound","unit":"mps"}    the same in JSON; newer firmware puts the numbers in quotes
//! {"Units":"meters-per-second"}                    an answer to a command: no speed
//! ```
//! It is set up when it is opened: metres a second, JSON, units in each report, two decimals, and a zero where nothing
//! moves. A number without its unit is not believed while that goes on, because nobody knows in which unit it is; after it,
//! it is in the unit the radar said it is set to, or in the configured one where it answered nothing. A radar whose units
//! go missing again was restarted, and is set up anew.
//!
//! A radar that does not know the command for the zero says nothing then, and silence means "no target", which is not a
//! zero. A dead one says nothing either: a silent radar is asked for its unit, and one that does not answer is silent and
//! set up again and again until it does.
//!
//! What it measures is the part of the speed that points at it: at an angle it is divided by the cosine, and how well the
//! angle is known goes into the uncertainty: `dv/v = tan(angle) d(angle)`, 1.75 % a degree at 45 degrees.

use std::time::Duration;

use speedwell_wire::{EventKind, NoData, Quality, Quantity};

use super::{
    ByteSensor, ChannelSpec, Counters, Notice, Reading, Sensor, Value,
    lines::{Ended, Lines},
    noise::Noise,
    said::Said,
    unit::Unit,
};
use crate::clock::BootNs;
use words::{Told, parse};

mod words;

/// What it is told when it is opened, in this order; no line end is needed behind two letters.
const SET_UP: [&str; 6] = ["??", "UM", "OJ", "OU", "F2", "BZ"];
/// Asked of a radar that has been silent: it answers with its unit.
const ARE_YOU_THERE: &str = "U?";
/// Between two commands: it answers each within a few of these.
const APART: Duration = Duration::from_millis(100);
/// The answers to the set-up have come by then, and a radar that is there answers within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Between two questions to a radar that is silent.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Steps of its speed at 10 000 samples a second and 1024 of them, m/s.
const STEP: f64 = 0.0607;
/// Fastest believed, m/s: ten times what the fastest of the family measure at their usual setting.
const FASTEST: f64 = 350.0;

/// How the radar is mounted and listened to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Between its beam and the way, radians; below a right angle.
    pub angle: f64,
    /// One standard deviation of it, radians.
    pub angle_uncertainty: f64,
    /// What a number without a unit is told in by a radar that cannot be set up.
    pub unit: Unit,
    /// A zero means that what it looks at stands: right for one that looks at the ground or at a wheel. Otherwise it
    /// means that it sees nothing.
    pub zero_is_standing: bool,
    /// Also report the direction: 1 towards it, -1 away.
    pub direction: bool,
    /// Report period; a slower radar is reported as it comes.
    pub report: Duration,
    /// Silence after which there is no value any more.
    pub timeout: Duration,
    /// Set it up when it is opened, and ask whether it is still there. Off for a replay.
    pub set_up: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            angle: 0.0,
            angle_uncertainty: 0.0,
            unit: Unit::default(),
            zero_is_standing: true,
            direction: false,
            report: Duration::from_millis(100),
            timeout: Duration::from_secs(1),
            set_up: true,
        }
    }
}

/// A radar on a serial line.
#[derive(Debug)]
pub struct Radar {
    options: Options,
    channels: Vec<ChannelSpec>,
    lines: Lines,
    noise: Noise,
    said: Said,
    /// The newest speed, and the newest line of any kind.
    heard: Option<BootNs>,
    spoke: Option<BootNs>,
    /// Commands said, and when something is to be done next.
    told: usize,
    next: Option<BootNs>,
    /// The set-up is over.
    settled: bool,
    answer: Answer,
    /// One of a number without a unit, m/s; `None` while nobody knows.
    plain: Option<f64>,
    /// Since the set-up reports have had units.
    units: bool,
    notice: Option<Notice>,
    counters: Counters,
}

/// What came of the set-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing yet.
    Awaited,
    /// The radar hears.
    Given,
    /// Nothing in time.
    Missing,
}

impl Radar {
    /// One that has heard nothing. Channel 0 is speed; then direction, when asked for.
    pub fn new(options: Options) -> Self {
        let channel = |quantity, resolution_nano| ChannelSpec { quantity, resolution_nano, period: options.report };
        let mut channels = vec![channel(Quantity::Speed, 1_000_000)];
        if options.direction {
            channels.push(channel(Quantity::Direction, 1_000_000_000));
        }
        Self {
            options,
            channels,
            lines: Lines::default(),
            noise: Noise::default(),
            said: Said::new(options.report),
            heard: None,
            spoke: None,
            told: 0,
            next: None,
            settled: !options.set_up,
            answer: Answer::Awaited,
            plain: (!options.set_up).then_some(options.unit.factor),
            units: false,
            notice: None,
            counters: Counters::default(),
        }
    }

    fn line(&mut self, at: BootNs, told: Option<Told>, out: &mut Vec<Reading>) {
        let Some(told) = told else {
            self.counters.rejected += 1;
            return;
        };
        self.noise.made_sense();
        if !self.settled && self.told == SET_UP.len() && !self.is_there(at) {
            // It was not there yet when the commands were sent.
            self.begin_set_up();
        }
        self.spoke = Some(at);
        let speed = match told {
            Told::Answer(unit) => return self.answered(unit),
            Told::Speed(speed, unit) => self.in_metres(speed, unit),
        };
        self.counters.inputs += 1;
        let Some(speed) = speed else { return };
        self.heard = Some(at);
        if speed == 0.0 && !self.options.zero_is_standing {
            return self.say_nothing(at, NoData::NoTarget, out);
        }
        if speed.abs() > FASTEST {
            return self.say_nothing(at, NoData::OutOfRange, out);
        }
        if !self.said.passes(at, Ok(())) {
            return;
        }
        // v = v_measured / cos(angle); du/v = tan(angle) d(angle), and half a step evenly.
        let (cosine, tangent) = (self.options.angle.cos(), self.options.angle.tan());
        let value = speed.abs() / cosine;
        let step = STEP / 12f64.sqrt() / cosine;
        let uncertainty = step.hypot(value * tangent * self.options.angle_uncertainty);
        let good = |value, uncertainty| Ok(Value { value, uncertainty, quality: Quality::Good });
        out.push(Reading { channel: 0, t: at, value: good(value, uncertainty) });
        if self.options.direction {
            let way = if speed == 0.0 { 0.0 } else { speed.signum() };
            out.push(Reading { channel: 1, t: at, value: good(way, 0.0) });
        }
    }

    /// It heard a command. The unit it says it is set to holds for what comes without one.
    fn answered(&mut self, unit: Option<f64>) {
        self.answer = Answer::Given;
        self.plain = unit.or(self.plain);
    }

    /// A speed in m/s; `None` while its unit is not known.
    fn in_metres(&mut self, speed: f64, unit: Option<f64>) -> Option<f64> {
        if unit.is_none() && self.units && self.options.set_up {
            // It was restarted, and is set now as it was before this program set it up.
            self.begin_set_up();
        }
        self.units |= unit.is_some() && self.settled;
        Some(speed * unit.or(self.plain)?)
    }

    fn begin_set_up(&mut self) {
        (self.told, self.next, self.settled, self.plain, self.units) = (0, None, false, None, false);
        // That nothing was answered stays true until something is.
        if self.answer == Answer::Given {
            self.answer = Answer::Awaited;
        }
    }

    /// The time for answers to the set-up is over.
    fn settle(&mut self, now: BootNs) {
        self.settled = true;
        if self.answer == Answer::Given {
            // One that answers has heard the command for metres a second, even where its answer to that was lost.
            self.plain = self.plain.or(Some(1.0));
            return;
        }
        let before = std::mem::replace(&mut self.answer, Answer::Missing);
        self.plain = Some(self.options.unit.factor);
        // Of one that says nothing at all the reason of its readings tells.
        if before != Answer::Missing && self.is_there(now) {
            let detail = self.unanswered();
            self.notice = Some(Notice { kind: EventKind::Calibration, detail });
        }
    }

    fn unanswered(&self) -> String {
        format!(
            "the radar does not answer its set-up commands: is it on, and are both directions of the line wired? What it \
             says without a unit is taken as {}, its `unit`",
            self.options.unit.word
        )
    }

    /// How long after its last word a radar is taken to be there.
    fn there_for(&self) -> Duration {
        self.options.timeout + ANSWER_WITHIN
    }

    fn is_there(&self, now: BootNs) -> bool {
        self.spoke.is_some_and(|spoke| now.since(spoke) <= self.there_for())
    }

    /// When there is something to send or to decide next.
    fn due(&self) -> BootNs {
        let spoken = self.spoke.map_or(BootNs(0), |spoke| spoke + self.options.timeout);
        let next = self.next.unwrap_or(BootNs(0));
        if self.settled { next.max(spoken) } else { next }
    }

    fn say_nothing(&mut self, t: BootNs, reason: NoData, out: &mut Vec<Reading>) {
        if self.said.passes(t, Err(reason)) {
            out.extend((0..self.channels.len()).map(|channel| Reading { channel, t, value: Err(reason) }));
        }
    }
}

impl ByteSensor for Radar {
    fn on_bytes(&mut self, t: BootNs, bytes: &[u8], out: &mut Vec<Reading>) {
        self.noise.heard(bytes.len());
        for &byte in bytes {
            match self.lines.push(t, byte) {
                None => {}
                Some(Ended::Refused) => self.counters.rejected += 1,
                Some(Ended::Line { at, text }) => {
                    let told = parse(&text);
                    self.line(at, told, out);
                }
            }
        }
    }

    fn ask(&mut self, now: BootNs, out: &mut Vec<u8>) {
        if !self.options.set_up || now < self.due() {
            return;
        }
        if self.settled && !self.is_there(now) {
            self.begin_set_up();
        }
        if let Some(command) = SET_UP.get(self.told) {
            out.extend_from_slice(command.as_bytes());
            self.told += 1;
            self.next = Some(now + if self.told == SET_UP.len() { ANSWER_WITHIN } else { APART });
        } else if !self.settled {
            self.settle(now);
        } else {
            out.extend_from_slice(ARE_YOU_THERE.as_bytes());
            self.next = Some(now + ASK_EVERY);
        }
    }

    fn wakes(&self) -> Option<BootNs> {
        self.options.set_up.then(|| self.due())
    }
}

impl Sensor for Radar {
    fn channels(&self) -> &[ChannelSpec] {
        &self.channels
    }

    /// Says that nothing is heard, when nothing is: no target while the radar is there, silence when it is not.
    fn tick(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        let quiet = self.heard.is_none_or(|last| now.since(last) > self.options.timeout);
        match self.heard {
            // What it has said so far is not yet believed.
            None if !self.settled => self.say_nothing(now, NoData::Silent, out),
            _ if !self.is_there(now) => self.say_nothing(now, NoData::Silent, out),
            _ if quiet => self.say_nothing(now, NoData::NoTarget, out),
            _ => {}
        }
    }

    fn notice(&mut self) -> Option<Notice> {
        self.notice.take()
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn trouble(&self) -> Option<String> {
        let noise = self.noise.trouble("a radar's report", "19200 on the UART; USB takes any");
        noise.or_else(|| (self.answer == Answer::Missing).then(|| self.unanswered()))
    }
}

#[cfg(test)]
mod tests;
