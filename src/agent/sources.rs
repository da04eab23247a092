//! Runs the sensors: opens each, feeds it what comes, hands its readings on, opens it again when it fails.
//!
//! A pulse sensor and a CAN sensor run in a thread each, because their reads block in the kernel; a serial sensor in a
//! task. One that cannot be opened says so and tries again; the others never notice.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use speedwell_wire::{EventKind, NoData, Quality, Quantity};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::{backoff::Backoff, memories::MemoryFile, timekeeping::Receiver};
use crate::{
    clock::{BootNs, Clock},
    sensor::{ChannelSpec, Counters, Notice, Reading, Sensor, Value},
};

/// Messages between the sensors and the recorder: at 20 sensors and 10 Hz, five seconds of a stalled recorder.
pub(super) const CHANNEL: usize = 1024;

/// Longest a sensor waits in the kernel before it looks whether it should stop.
const STOP_LATENCY: Duration = Duration::from_millis(100);

/// What a sensor says to the recorder.
#[derive(Debug)]
pub(super) struct Said {
    /// Its number.
    pub(super) sensor: usize,
    /// What.
    pub(super) what: What,
}

/// See [`Said`].
#[derive(Debug)]
pub(super) enum What {
    /// Readings, in order.
    Readings(Vec<Reading>),
    /// What is wrong, in words that the reasons of its readings do not have; `None` when that is over.
    Words(Option<String>),
    /// Something a person should know of.
    Notice(Notice),
    /// Its first channel's value now, newer than its readings.
    Live(BootNs, Result<Value, NoData>),
    /// What it keeps over a restart.
    Memory(Vec<u8>),
    /// It could not be opened or stopped working, and why.
    Fault(String),
}

/// What a sensor counted since the agent started: each session counts from zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    before: Counters,
    now: Counters,
    /// Suspected lost by a count that the sensor does not see.
    suspected: u64,
    /// The words last handed on.
    pub(super) words: Option<String>,
    /// The counts last handed on as readings.
    told: Option<Counters>,
}

impl Tally {
    /// Of a sensor that has counted this much before it was altered.
    pub(super) fn after(before: Counters) -> Self {
        Self { before, ..Self::default() }
    }

    /// All sessions together.
    pub(super) fn total(&self) -> Counters {
        let (a, b) = (&self.before, &self.now);
        Counters {
            inputs: a.inputs + b.inputs,
            lost: a.lost + b.lost,
            suspected: a.suspected + b.suspected + self.suspected,
            repaired: a.repaired + b.repaired,
            rejected: a.rejected + b.rejected,
        }
    }
}

/// What all sources share, and what one of them is called.
#[derive(Clone)]
pub(super) struct Outlet {
    pub(super) sensor: usize,
    pub(super) name: Arc<str>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) said: mpsc::Sender<Said>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) shed: Arc<AtomicU64>,
    pub(super) counters: Arc<Mutex<Tally>>,
    /// The channels in which its counts are told, where they are.
    pub(super) counts_from: Option<Counts>,
    /// Whom it tells UTC, where it is to vouch for that.
    pub(super) receiver: Option<Receiver>,
    /// Where it keeps its memory, where it may.
    pub(super) memory: Option<MemoryFile>,
}

/// Channels in which a sensor's counts are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    /// The first of them.
    pub(super) first: usize,
    /// Which counts, in this order.
    pub(super) told: &'static [Quantity],
}

/// Channels for these counts; they come as they please.
pub(super) fn count_channels(told: &'static [Quantity]) -> impl Iterator<Item = ChannelSpec> {
    let spec = |&quantity| ChannelSpec { quantity, resolution_nano: 1_000_000_000, period: Duration::ZERO };
    told.iter().map(spec)
}

fn count(counters: &Counters, of: Quantity) -> u64 {
    match of {
        Quantity::Lost => counters.lost,
        Quantity::Suspected => counters.suspected,
        Quantity::Repaired => counters.repaired,
        _ => counters.rejected,
    }
}

impl Outlet {
    pub(super) fn now(&self) -> BootNs {
        self.clock.now()
    }

    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Hands on what a sensor said. A recorder that cannot keep up costs samples, which are counted and become a loss
    /// record; it never holds up the sensor.
    /// `missed` inputs were lost before the sensor saw them.
    pub(super) fn hand_on<S: Sensor + ?Sized>(&self, sensor: &S, missed: u64, readings: &mut Vec<Reading>) {
        self.hand_on_explained(sensor, missed, None, readings);
    }

    /// The same where what brings the sensor its input has something to explain.
    pub(super) fn hand_on_explained<S: Sensor + ?Sized>(
        &self,
        sensor: &S,
        missed: u64,
        explained: Option<String>,
        readings: &mut Vec<Reading>,
    ) {
        if readings.is_empty() {
            return;
        }
        let samples = readings.iter().filter(|reading| reading.value.is_ok()).count() as u64;
        let reasons = readings.len() as u64 - samples;
        if let Ok(mut counters) = self.counters.lock() {
            counters.now = sensor.counters();
            counters.now.lost += missed;
            if let Some(counts) = self.counts_from {
                self.changed_counts(counts, &mut counters, readings);
            }
            // Of itself only a sensor that says nothing can have something to explain.
            let own = || if reasons > 0 { sensor.trouble() } else { None };
            let words = explained.or_else(own);
            if words != counters.words {
                counters.words.clone_from(&words);
                if let Some(words) = &words {
                    warn!(sensor = %self.name, "{words}");
                }
                // Lost words are told again with the next reading: the next session begins without them.
                let _ = self.said.try_send(Said { sensor: self.sensor, what: What::Words(words) });
            }
        }
        let what = What::Readings(std::mem::take(readings));
        if self.said.try_send(Said { sensor: self.sensor, what }).is_err() {
            self.shed.fetch_add(samples, Ordering::Relaxed);
        }
    }

    /// Counts that have changed since they were last told, as readings; all of them the first time.
    fn changed_counts(&self, counts: Counts, tally: &mut Tally, readings: &mut Vec<Reading>) {
        let (now, total) = (self.now(), tally.total());
        let before = tally.told.replace(total);
        for (index, &of) in counts.told.iter().enumerate() {
            if before.is_none_or(|before| count(&before, of) != count(&total, of)) {
                let value = Value { value: count(&total, of) as f64, uncertainty: 0.0, quality: Quality::Good };
                readings.push(Reading { channel: counts.first + index, t: now, value: Ok(value) });
            }
        }
    }

    /// What brings the sensor its input has failed, and the sensor goes on.
    pub(super) fn complain(&self, words: String) {
        warn!(sensor = %self.name, "{words}");
        let _ = self.said.try_send(Said { sensor: self.sensor, what: What::Fault(words) });
    }

    /// Something a person should know of.
    pub(super) fn notice(&self, kind: EventKind, detail: String) {
        let _ = self.said.try_send(Said { sensor: self.sensor, what: What::Notice(Notice { kind, detail }) });
    }

    /// So many inputs more are suspected lost, by a count that the sensor does not see.
    pub(super) fn suspect(&self, inputs: u64) {
        if let Ok(mut counters) = self.counters.lock() {
            counters.suspected += inputs;
        }
    }

    /// Hands on what the sensor has to tell beside its readings: its live value at `now`, news, UTC, and its memory when `keep` is
    /// due.
    pub(super) fn hand_on_rest<S: Sensor + ?Sized>(&self, sensor: &mut S, now: BootNs, keep: bool) {
        let said = |what| drop(self.said.try_send(Said { sensor: self.sensor, what }));
        if let Some(value) = sensor.live(now) {
            said(What::Live(now, value));
        }
        while let Some(notice) = sensor.notice() {
            said(What::Notice(notice));
        }
        if let Some((receiver, told)) = self.receiver.as_ref().zip(sensor.utc()) {
            receiver.tell(&self.name, told);
        }
        if keep && self.memory.is_some() {
            sensor.memory().into_iter().for_each(|bytes| said(What::Memory(bytes)));
        }
    }

    /// Lets a sensor go on from what it kept.
    pub(super) fn remind<S: Sensor + ?Sized>(&self, sensor: &mut S) {
        let Some(memory) = &self.memory else { return };
        let told = match memory.read() {
            Ok(None) => return,
            Ok(Some(bytes)) if sensor.remember(&bytes) => return,
            Ok(Some(_)) => match memory.set_aside() {
                Ok(aside) => format!("what it had kept is damaged and was set aside as {}", aside.display()),
                Err(cause) => format!("what it had kept is damaged and cannot be set aside: {cause}"),
            },
            Err(cause) => format!("what it had kept cannot be read: {cause}"),
        };
        warn!(sensor = %self.name, "{told}; it begins anew");
        let notice = Notice {
            kind: EventKind::Calibration,
            detail: format!("{told}; the odometer and what was learned begin anew"),
        };
        let _ = self.said.try_send(Said { sensor: self.sensor, what: What::Notice(notice) });
    }

    pub(super) fn fault(&self, cause: &dyn std::fmt::Display) {
        warn!(sensor = %self.name, "{cause}");
        // Losing this message to a full channel loses no data: the next failure says it again.
        let _ = self.said.try_send(Said { sensor: self.sensor, what: What::Fault(cause.to_string()) });
        if let Ok(mut counters) = self.counters.lock() {
            *counters = Tally { before: counters.total(), told: counters.told, ..Tally::default() };
        }
    }
}

/// Opens and runs a blocking source in a thread of its own until told to stop. `session` runs from a successful
/// opening to the failure it returns; it returns `Ok` only when stopping.
pub(super) fn spawn_blocking<E: std::fmt::Display>(
    outlet: Outlet,
    mut session: impl FnMut(&Outlet) -> Result<(), E> + Send + 'static,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(thread_name(&outlet.name)).spawn(move || {
        let mut backoff = Backoff::new();
        while !outlet.stopping() {
            let started = Instant::now();
            // A sensor that panics is not used again: the next session begins with a new one.
            match catch_unwind(AssertUnwindSafe(|| session(&outlet))) {
                Ok(Ok(())) => break,
                Ok(Err(cause)) => outlet.fault(&cause),
                Err(panic) => outlet.fault(&defect(&*panic)),
            }
            let wait = backoff.after(started.elapsed());
            debug!(sensor = %outlet.name, ?wait, "opening the sensor again after a wait");
            let until = Instant::now() + wait;
            while !outlet.stopping() && Instant::now() < until {
                thread::sleep(STOP_LATENCY.min(until.saturating_duration_since(Instant::now())));
            }
        }
        info!(sensor = %outlet.name, "closed");
    })
}

/// The same for a source that is awaited; several sensors may share it, and then share its faults.
pub(super) async fn run_async<E: std::fmt::Display>(
    outlets: Vec<Outlet>,
    mut session: impl AsyncFnMut(&[Outlet]) -> Result<(), E>,
) {
    let stopping = || outlets.iter().any(Outlet::stopping);
    let fault = |cause: &dyn std::fmt::Display| outlets.iter().for_each(|outlet| outlet.fault(cause));
    let mut backoff = Backoff::new();
    while !stopping() {
        let started = Instant::now();
        let mut running = pin!(session(&outlets));
        let ended = std::future::poll_fn(|context| {
            let polled = catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context)));
            polled.map_or_else(|panic| Poll::Ready(Err(defect(&*panic))), |poll| poll.map(Ok))
        });
        match ended.await {
            Ok(Ok(())) => break,
            Ok(Err(cause)) => fault(&cause),
            Err(defect) => fault(&defect),
        }
        let until = Instant::now() + backoff.after(started.elapsed());
        while !stopping() && Instant::now() < until {
            tokio::time::sleep(STOP_LATENCY.min(until.saturating_duration_since(Instant::now()))).await;
        }
    }
    outlets.iter().for_each(|outlet| info!(sensor = %outlet.name, "closed"));
}

/// A panic in a sensor, as a fault.
fn defect(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    format!("a defect of speedwell, please report it: {}", words.unwrap_or("a panic without words"))
}

/// The kernel cuts thread names at 15 bytes.
fn thread_name(sensor: &str) -> String {
    sensor.chars().filter(char::is_ascii).take(15).collect()
}

/// The ticks of a sensor: every `period`, on the clock's own grid, so that sensors of one period speak together and
/// their times compress well.
pub(super) struct Ticks {
    period_ns: u64,
    next: BootNs,
}

impl Ticks {
    pub(super) fn new(period: Duration, now: BootNs) -> Self {
        let period_ns = (period.as_nanos() as u64).max(1_000_000);
        let mut ticks = Self { period_ns, next: now };
        ticks.skip_to(now);
        ticks
    }

    /// How long to wait for the next tick, at most as long as it may take to notice a stop.
    pub(super) fn wait(&self, now: BootNs) -> Duration {
        self.next.since(now).min(STOP_LATENCY)
    }

    /// The same, ended earlier by something the sensor is waiting for.
    pub(super) fn wait_until(&self, now: BootNs, wakes: Option<BootNs>) -> Duration {
        self.wait(now).min(wakes.map_or(STOP_LATENCY, |wakes| wakes.since(now)))
    }

    /// Whether a tick is due; each is due once, and those missed are not made up for.
    pub(super) fn due(&mut self, now: BootNs) -> bool {
        let due = now >= self.next;
        if due {
            self.skip_to(now);
        }
        due
    }

    fn skip_to(&mut self, now: BootNs) {
        self.next = BootNs((now.0 / self.period_ns + 1).saturating_mul(self.period_ns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlet() -> (Outlet, mpsc::Receiver<Said>) {
        let (said, heard) = mpsc::channel(8);
        let clock = Arc::new(crate::clock::SystemClock);
        let name = "wheel".into();
        let (stop, shed, counters) = Default::default();
        let (counts_from, receiver, memory) = (None, None, None);
        (Outlet { sensor: 0, name, clock, said, stop, shed, counters, counts_from, receiver, memory }, heard)
    }

    fn told(heard: &mut mpsc::Receiver<Said>) -> String {
        match heard.try_recv().expect("a word").what {
            What::Fault(detail) => detail,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sensor_that_panics_is_told_as_faulty_and_opened_again() {
        let (outlet, mut heard) = outlet();
        let mut times = 0;
        let session = move |_: &Outlet| {
            times += 1;
            if times == 1 { panic!("index out of bounds") } else { Ok::<(), String>(()) }
        };
        spawn_blocking(outlet, session).expect("a thread").join().expect("it ended well");
        assert_eq!(told(&mut heard), "a defect of speedwell, please report it: index out of bounds");
    }

    #[tokio::test]
    async fn the_same_where_it_is_awaited() {
        let (outlet, mut heard) = outlet();
        let mut times = 0;
        let session = async |_: &[Outlet]| {
            times += 1;
            if times == 1 { panic!("no") } else { Ok::<(), String>(()) }
        };
        let started = Instant::now();
        run_async(vec![outlet], session).await;
        assert!(told(&mut heard).ends_with("please report it: no"));
        assert!(started.elapsed() < Duration::from_secs(3));
    }

    #[test]
    fn ticks_fall_on_the_grid_and_missed_ones_are_not_made_up_for() {
        let mut ticks = Ticks::new(Duration::from_millis(100), BootNs(1_230_000_000));
        assert!(!ticks.due(BootNs(1_299_999_999)));
        assert!(ticks.due(BootNs(1_300_000_000)));
        assert!(!ticks.due(BootNs(1_300_000_001)));
        assert!(ticks.due(BootNs(9_950_000_000)));
        assert_eq!(ticks.wait(BootNs(9_950_000_000)), Duration::from_millis(50));
    }
}
