//! A wheel with teeth, or anything else that gives pulses in proportion to the way.

mod saying;

use std::time::Duration;

use speedwell_wire::{EventKind, NoData, Quantity};

use super::{
    diagnosis::{Ailment, Diagnosis, Symptoms},
    memory::{self, Memory},
    odometer::{Mean, Odometer},
    options::WheelOptions,
    start::Start,
    teeth::Teeth,
    tracker::{Fits, Motion, Tracker},
    window::Window,
};
use crate::{
    clock::BootNs,
    sensor::{
        ChannelSpec, Counters, Edge, EdgeSensor, Notice, Pace, Reading, Sensor, Value,
        hall::{Conditioner, Edges, Foresight, Pulse},
    },
};

/// Longest wait for a pulse before standstill is called confirmed, when the slowest speed would take longer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Edges in, speed out.
#[derive(Debug)]
pub struct Wheel {
    options: WheelOptions,
    /// Metres a pulse.
    pitch: f64,
    /// Without a pulse for so long, it stands.
    patience: Duration,
    channels: Channels,
    conditioner: Conditioner,
    window: Window,
    tracker: Tracker,
    teeth: Option<Teeth>,
    odometer: Odometer,
    start: Start,
    /// Pulses that were no teeth passing, after standstills.
    ignored: i64,
    diagnosis: Diagnosis,
    pace: Pace,
    newest: Option<Pulse>,
    /// The newest measured speed since the last start or cut, m/s.
    speed: Option<f64>,
    /// Time of the newest reading of speed: they only grow.
    said: Option<BootNs>,
    /// Edges refused up to the last tick.
    rejected: u64,
}

/// The channels and which of them is what; speed is the first.
#[derive(Debug)]
struct Channels {
    all: Vec<ChannelSpec>,
    rotational: Option<usize>,
    distance: Option<usize>,
    direction: Option<usize>,
}

impl Channels {
    fn new(options: &WheelOptions) -> Self {
        let mut all = Vec::new();
        let mut channel = |wanted: bool, quantity, resolution_nano| {
            wanted.then(|| {
                all.push(ChannelSpec { quantity, resolution_nano, period: options.report });
                all.len() - 1
            })
        };
        channel(true, Quantity::Speed, 1_000_000);
        let turns = options.rotational_speed && options.pulses_per_turn.is_some_and(|pulses| pulses > 0);
        let rotational = channel(turns, Quantity::RotationalSpeed, 10_000_000);
        let distance = channel(options.distance, Quantity::Distance, 1_000_000);
        let both_ways = options.edges == Edges::Quadrature;
        let direction = channel(options.direction && both_ways, Quantity::Direction, 1_000_000_000);
        Self { all, rotational, distance, direction }
    }
}

/// What the filters know, for the judgement of an edge.
struct Known<'a> {
    tracker: &'a Tracker,
    teeth: Option<&'a Teeth>,
    newest: Option<Pulse>,
}

impl Foresight for Known<'_> {
    fn phase(&self, t: BootNs) -> Option<f64> {
        self.tracker.phase(t)
    }

    fn follows(&self) -> bool {
        self.tracker.follows()
    }

    fn offset(&self, ahead: i64) -> f64 {
        let (Some(teeth), Some(newest)) = (self.teeth, self.newest) else { return 0.0 };
        teeth.offset(newest.index + ahead)
    }
}

impl Wheel {
    /// One that has seen nothing. Channel 0 is speed; then rotational speed, distance and direction, as asked for.
    pub fn new(options: WheelOptions) -> Self {
        let pitch = 1.0 / options.pulses_per_metre;
        // d / v: a speed of v would have brought a pulse in this time.
        let slowest = Duration::try_from_secs_f64(pitch / options.zero_below).unwrap_or(PATIENCE);
        let judging = options.judging();
        let places = options.pulses_per_turn.filter(|_| options.learn_teeth);
        Self {
            pitch,
            patience: slowest.min(PATIENCE),
            channels: Channels::new(&options),
            conditioner: Conditioner::new(judging),
            window: Window::new(options.report.min(options.window)),
            tracker: Tracker::new(pitch, judging.max_rate_change),
            teeth: places.and_then(|places| Teeth::new(places, pitch)),
            odometer: Odometer::default(),
            start: Start::new(pitch, options.max_acceleration, slowest.min(PATIENCE)),
            ignored: 0,
            diagnosis: Diagnosis::default(),
            pace: Pace::new(options.report),
            newest: None,
            speed: None,
            said: None,
            rejected: 0,
            options,
        }
    }

    /// Takes an edge of this sensor's line, or of its two.
    pub fn on_edge(&mut self, edge: &Edge) {
        let moved = self.conditioner.last_motion();
        let known = Known { tracker: &self.tracker, teeth: self.teeth.as_ref(), newest: self.newest };
        let Some(mut pulse) = self.conditioner.on_edge(edge, &known) else { return };
        let stood = moved.is_some_and(|last| pulse.t.since(last) > self.patience);
        if pulse.cut || stood {
            self.begin_anew();
        }
        if stood {
            self.start.begin(pulse.t);
        } else if !self.start.explains(pulse.t, self.late()) {
            self.ignored += 1;
            self.begin_anew();
        }
        pulse.index -= self.ignored * i64::from(pulse.way);
        self.take(&pulse);
        self.newest = Some(pulse);
    }

    /// The newest pulse.
    #[cfg(test)]
    pub(super) fn newest(&self) -> Option<Pulse> {
        self.newest
    }

    /// What comes does not go on from what was.
    fn begin_anew(&mut self) {
        self.window.clear();
        self.tracker.forget();
        self.speed = None;
        if let Some(teeth) = &mut self.teeth {
            teeth.forget_run();
        }
    }

    fn take(&mut self, pulse: &Pulse) {
        self.find_place(pulse);
        let offset = self.offset(pulse);
        let places = self.newest.map_or(0, |before| (pulse.index - before.index) * i64::from(pulse.way));
        let jitter = self.conditioner.jitter();
        let fits = self.tracker.take(pulse.t, places as f64, offset, jitter);
        if fits == Fits::Anew {
            self.window.clear();
            // The newest two are on one line again.
            if let Some(before) = self.newest {
                let offset = self.offset(&before);
                self.window.push(&before, offset);
            }
        }
        if fits != Fits::Stray {
            self.window.push(pulse, offset);
        }
        if self.learn(pulse, fits, jitter) {
            // Pulses corrected by one table and by another are not on one line.
            self.window.clear();
            self.tracker.forget();
        }
    }

    /// Pitches by which the pulse's tooth lies beyond its place, in the direction of travel.
    fn offset(&self, pulse: &Pulse) -> f64 {
        self.teeth.as_ref().map_or(0.0, |teeth| f64::from(pulse.way) * teeth.offset(pulse.index))
    }

    /// Lays the table where the gap in the teeth says.
    fn find_place(&mut self, pulse: &Pulse) {
        let (Some(teeth), 1..) = (&mut self.teeth, self.options.gap().1) else { return };
        match pulse.place {
            None => teeth.lose_place(),
            Some(place) => {
                if teeth.align(pulse.index, place) {
                    self.window.clear();
                    self.tracker.forget();
                }
            }
        }
    }

    /// Hands the pulse to the teeth, on the way forward and where nothing is in doubt; true when the table was exchanged.
    fn learn(&mut self, pulse: &Pulse, fits: Fits, jitter: f64) -> bool {
        let gap = self.options.gap().1 > 0;
        let Some(teeth) = &mut self.teeth else { return false };
        if pulse.doubtful || fits == Fits::Anew {
            teeth.forget_run();
        }
        if pulse.way < 0 || (gap && pulse.place.is_none()) {
            teeth.forget_run();
            return false;
        }
        teeth.take(pulse.t, pulse.index, fits == Fits::Stray, jitter)
    }

    /// How long it has been quiet at `now`.
    fn quiet(&self, now: BootNs) -> Duration {
        self.conditioner.last_motion().map_or(Duration::ZERO, |last| now.since(last))
    }

    /// The mean speed between the newest two ticks. Means times their intervals add up to the way, for ever.
    pub fn interval_mean(&self) -> Option<Mean> {
        self.odometer.mean(self.pitch)
    }

    /// The way at the newest tick, m, and that tick's time.
    pub fn way(&self) -> Option<(BootNs, f64)> {
        self.odometer.way(self.pitch)
    }

    /// By how many pitches each tooth lies beyond its place, as far as it is learned: of the tooth whose pulse was the
    /// `i`-th from the first, or the `i`-th after the gap, at `i` modulo their number. `None` while nothing is known.
    pub fn tooth_table(&self) -> Option<&[f32]> {
        self.teeth.as_ref().and_then(Teeth::table)
    }

    /// What is wrong with the sensor now, as far as its own pulses tell.
    pub fn ailments(&self) -> impl Iterator<Item = Ailment> + '_ {
        self.diagnosis.ailments()
    }

    fn look_at_itself(&mut self, now: BootNs) {
        self.diagnosis.look(
            now,
            &Symptoms {
                moving: self.speed.is_some(),
                jitter: self.conditioner.jitter(),
                two_lines: self.options.edges == Edges::Quadrature,
                pulses: self.conditioner.counters().inputs,
                out_of_turn: self.conditioner.out_of_turn(),
                too_fast: self.speed.is_some_and(|speed| self.is_too_fast(speed)),
                trembles: self.start.trembles(),
            },
        );
        self.diagnosis.see_tooth(self.teeth.as_ref().and_then(Teeth::damaged));
    }

    fn walk(&mut self, now: BootNs) {
        let Some(newest) = self.newest else { return };
        if self.quiet(now) > self.patience {
            return self.odometer.stand(now);
        }
        let between = self.between(&newest);
        // It brakes on, at most to a halt, and does not roll back.
        let motion = self.tracker.at(now).zip(self.tracker.at(newest.t)).map(|(motion, last)| {
            let halted = motion.rate < 0.0 && last.change < 0.0;
            let halt = last.phase - 0.5 * last.rate * last.rate / last.change;
            if halted { Motion { phase: halt, ..motion } } else { motion }
        });
        let both_ways = self.options.edges == Edges::Quadrature;
        self.odometer.advance(now, &between, motion, newest.way, both_ways);
    }
}

impl EdgeSensor for Wheel {
    fn on_edge(&mut self, edge: &Edge) {
        Wheel::on_edge(self, edge);
    }
}

impl Sensor for Wheel {
    fn channels(&self) -> &[ChannelSpec] {
        &self.channels.all
    }

    /// Once a report period: the speed of the window, when it is newer than what was said; then, when the next pulse
    /// is overdue, an estimate below the bound; when it is overdue for long, standstill. Between a standstill and the
    /// second pulse nothing is said, because nothing is known.
    fn tick(&mut self, now: BootNs, out: &mut Vec<Reading>) {
        if !self.pace.passes(now) {
            return;
        }
        let heard_until = BootNs(now.0.saturating_sub(self.options.delivery.as_nanos() as u64));
        self.walk(heard_until);
        self.say_speed(heard_until, out);
        self.say_distance(heard_until, out);
        self.say_direction(heard_until, out);
        self.look_at_itself(heard_until);
    }

    fn counters(&self) -> Counters {
        self.conditioner.counters()
    }

    fn notice(&mut self) -> Option<Notice> {
        if let Some((tooth, off)) = self.diagnosis.tooth_news() {
            let from = if self.options.gap().1 > 0 { "the gap" } else { "the first pulse" };
            let detail = format!("tooth {tooth} from {from} lies {:+.1} % of a pitch off its place", 100.0 * off);
            return Some(Notice { kind: EventKind::ToothDamaged, detail });
        }
        let (ailment, holds) = self.diagnosis.news()?;
        Some(if holds {
            Notice { kind: EventKind::SensorFault, detail: ailment.to_string() }
        } else {
            Notice { kind: EventKind::SensorRecovered, detail: format!("no longer: {ailment}") }
        })
    }

    fn trouble(&self) -> Option<String> {
        self.ailments().next().map(|ailment| ailment.to_string())
    }

    fn live(&self, now: BootNs) -> Option<Result<Value, NoData>> {
        Some(Wheel::live(self, now))
    }

    /// The way, and where the teeth lie.
    fn memory(&self) -> Option<Vec<u8>> {
        let (places, missing) = self.options.gap();
        let way = self.way().map_or(self.odometer.start, |(_, way)| way);
        let learned = self.teeth.as_ref().map(Teeth::learned).filter(|&(turns, ..)| turns > 0);
        Some(memory::write(places, missing, way, learned))
    }

    /// Goes on from before a restart; before the first edge only. The way is taken from any wheel's memory, because
    /// metres stay metres when the calibration is changed or a wheel replaced; the teeth only from one with as many.
    fn remember(&mut self, bytes: &[u8]) -> bool {
        let Some(kept) = Memory::read(bytes) else { return false };
        let both_ways = self.options.edges == Edges::Quadrature;
        if self.newest.is_some() || (kept.way < 0.0 && !both_ways) {
            return false;
        }
        self.odometer.start = kept.way;
        if let Some(teeth) = self.teeth.as_mut().filter(|_| (kept.places, kept.missing) == self.options.gap()) {
            teeth.restore(kept.turns, kept.rate, kept.table());
        }
        true
    }
}

#[cfg(test)]
#[path = "wheel_tests.rs"]
mod tests;
