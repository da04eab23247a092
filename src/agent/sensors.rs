//! The configured sensors: what each is, and the loop that feeds it.

use std::{path::Path, time::Duration};

use speedwell_wire::Quantity;

use super::{
    AgentError,
    can::can,
    drivers::{self, Origin, Wiring},
    memories::KEEP_EVERY,
    running::{Member, Worker},
    sources::{Counts, Outlet, Ticks, count_channels, run_async, spawn_blocking},
};
use crate::{
    board::{BoardError, Doors, EdgePort, EdgeWish, LineSettings, ShaftWish, raise_priority},
    clock::BootNs,
    config::{self, Sensor as Configured},
    recorder::{
        Source,
        fusion::{self, Fusion, Input},
    },
    sensor::{
        ByteSensor, Counters, Edge, EdgeCapture, EdgeSensor, Reading, Sensor as _, StampSource, modbus,
        shaft::LookSensor,
    },
};

/// Edges taken from the kernel at once; its own buffer holds at least as many.
const EDGES: usize = 1024;

/// How often the kernel is asked for more before a tick: edges that come faster than they are read must not hold it up.
const READS: usize = 8;

/// Bytes taken from a serial port at once: all that the kernel's line discipline keeps for a reader that was held up. What one
/// read brings is dated as it came on the line, one byte after the other; what is left for a second one has no such time.
const BYTES: usize = 4096;

/// How long a last read waits: the kernel has what came before it, and says so in far less.
const LAST_READ: Duration = Duration::from_millis(10);

/// How often a sensor that speaks by itself is looked after: silence is noticed this much late at most.
pub(super) const LOOK_AFTER: Duration = Duration::from_millis(100);

/// What the recorder has to know of these sensors, and of the speed that is fused out of them, which comes last.
pub(super) fn sources<'a>(
    sensors: impl Iterator<Item = &'a Configured>,
    fusion: Option<&fusion::Options>,
) -> Vec<Source> {
    let source = |sensor: &Configured| {
        let mut channels = Wiring::of(sensor, Origin::Live).channels();
        channels.extend(count_channels(drivers::counts(sensor)));
        Source { name: sensor.name.clone(), channels, calibration: 0 }
    };
    let fused = |fusion: &fusion::Options| Source {
        name: fusion.name.clone(),
        channels: Fusion::new(fusion.clone()).channels(),
        calibration: 0,
    };
    sensors.map(source).chain(fusion.map(fused)).collect()
}

/// The fused speed that is wanted, of these sensors.
pub(super) fn fusion(wanted: Option<&config::Fusion>, members: &[Member]) -> Option<fusion::Options> {
    let wanted = wanted?;
    let input = |name: &String| {
        let member = members.iter().find(|member| member.sensor.name == *name)?;
        let channels = Wiring::of(&member.sensor, Origin::Live).channels();
        let channel = channels.iter().position(|channel| channel.quantity == Quantity::Speed)?;
        Some(Input { name: name.clone(), sensor: member.number, channel, period: channels[channel].period })
    };
    let inputs = wanted.sensors.iter().filter_map(input).collect();
    let (name, hold, back_after) = (wanted.name.clone(), wanted.hold, wanted.back_after);
    Some(fusion::Options { name, inputs, hold, back_after })
}

/// The channels in which the counts of a sensor are told, where they are.
pub(super) fn counts_from(sensor: &Configured) -> Option<Counts> {
    let told = drivers::counts(sensor);
    (!told.is_empty()).then(|| Counts { first: Wiring::of(sensor, Origin::Live).channels().len(), told })
}

/// The port of a line that several devices may share; one task then asks them in turn.
pub(super) fn shared_port(sensor: &Configured) -> Option<&Path> {
    match &sensor.kind {
        config::SensorKind::Modbus(modbus) => Some(&modbus.port),
        _ => None,
    }
}

/// Starts what reads one sensor, or the sensors of one line. Within a tokio runtime.
pub(super) fn start(doors: &Doors, sensors: Vec<(Outlet, Configured)>) -> Result<Worker, AgentError> {
    let doors = doors.clone();
    let mut sensors = sensors.into_iter();
    let Some((outlet, sensor)) = sensors.next() else { return Ok(Worker::Task(tokio::spawn(async {}))) };
    let report = sensor.kind.report();
    let thread = match Wiring::of(&sensor, Origin::Live) {
        Wiring::Edges { wish, make } => {
            spawn_blocking(outlet, move |outlet| pulses(outlet, &doors, &wish, report, make().as_mut()))
        }
        Wiring::Can { interface, filters, make } => {
            spawn_blocking(outlet, move |outlet| can(outlet, &doors, (&interface, &filters), report, make().as_mut()))
        }
        Wiring::Shaft { wish, make } => {
            spawn_blocking(outlet, move |outlet| shaft(outlet, &doors, &wish, report, make().as_mut()))
        }
        Wiring::Serial { port, settings, make } => {
            return Ok(Worker::Task(tokio::spawn(run_async(vec![outlet], async move |outlets: &[Outlet]| {
                serial(outlets, &doors, (&port, &settings), make().as_mut()).await
            }))));
        }
        Wiring::Modbus { port, settings, slave } => {
            let slave_of = |sensor: &Configured| match Wiring::of(sensor, Origin::Live) {
                Wiring::Modbus { slave, .. } => Some(slave),
                _ => None,
            };
            let others = sensors.filter_map(|(outlet, sensor)| Some((outlet, slave_of(&sensor)?)));
            let (outlets, slaves): (Vec<_>, Vec<_>) = std::iter::once((outlet, slave)).chain(others).unzip();
            return Ok(Worker::Task(tokio::spawn(run_async(outlets, async move |outlets: &[Outlet]| {
                modbus_line(outlets, &doors, (&port, &settings), &slaves).await
            }))));
        }
    };
    thread.map(Worker::Thread).map_err(|cause| AgentError::Thread { sensor: sensor.name, cause })
}

/// Reads a pin until it fails or the agent stops.
fn pulses(
    outlet: &Outlet,
    doors: &Doors,
    wish: &EdgeWish,
    report: Duration,
    sensor: &mut (dyn EdgeSensor + Send),
) -> Result<(), BoardError> {
    let mut port: EdgePort = doors.edges(wish)?;
    if port.stamp_source() != StampSource::Recorded {
        raise_priority();
    }
    outlet.remind(sensor);
    let mut ticks = Ticks::new(report, outlet.now());
    let mut keep = Ticks::new(KEEP_EVERY, outlet.now());
    let mut audit = Audit::new(outlet.now());
    let (mut edges, mut readings) = (Vec::with_capacity(EDGES), Vec::new());
    while !outlet.stopping() {
        edges.clear();
        let mut came = port.next_batch(ticks.wait(outlet.now()), &mut edges);
        let now = outlet.now();
        let due = came.is_ok() && ticks.due(now);
        audit.delivered += hear(sensor, &edges);
        let mut read_to_its_end = false;
        if due {
            came = hear_out(&mut *port, sensor, &mut edges).map(|(heard, to_its_end)| {
                audit.delivered += heard;
                read_to_its_end = to_its_end;
            });
        }
        if let Err(failed) = came {
            // The next session begins anew, and goes on from here.
            outlet.hand_on_rest(sensor, outlet.now(), true);
            return Err(failed);
        }
        if due {
            sensor.tick(now, &mut readings);
            // Only what was read to its end can be compared with what was counted.
            if read_to_its_end && audit.due.due(now) {
                outlet.suspect(audit.compare(port.interrupts(), &sensor.counters()));
            }
            outlet.hand_on(sensor, 0, &mut readings);
            outlet.hand_on_rest(sensor, now, keep.due(now));
        }
    }
    // The way that is kept has all pulses until the stop, if the line still gives them.
    let _ = hear_out(&mut *port, sensor, &mut edges);
    outlet.hand_on_rest(sensor, outlet.now(), true);
    Ok(())
}

fn hear(sensor: &mut (dyn EdgeSensor + Send), edges: &[Edge]) -> u64 {
    edges.iter().for_each(|edge| sensor.on_edge(edge));
    edges.len() as u64
}

/// Reads what waits, so that a tick for a time before this call has heard all that came until then: a thread that was held
/// up takes its own delay for silence otherwise, and a turning wheel for one that stands. Gives how many edges there were, and
/// whether they were all.
fn hear_out<C: EdgeCapture + ?Sized>(
    port: &mut C,
    sensor: &mut (dyn EdgeSensor + Send),
    edges: &mut Vec<Edge>,
) -> Result<(u64, bool), C::Error> {
    let mut heard = 0;
    for _ in 0..READS {
        edges.clear();
        port.next_batch(Duration::ZERO, edges)?;
        heard += hear(sensor, edges);
        if edges.len() < EDGES / 2 {
            return Ok((heard, true));
        }
    }
    Ok((heard, false))
}

/// The kernel's count of a line's interrupts against what came of them.
struct Audit {
    due: Ticks,
    delivered: u64,
    /// The count at the last comparison: all of it must have been delivered by now, or be known lost.
    counted: Option<u64>,
    suspected: u64,
}

/// Interrupts are compared with edges so often.
const AUDIT_EVERY: Duration = Duration::from_secs(1);

impl Audit {
    fn new(now: BootNs) -> Self {
        Self { due: Ticks::new(AUDIT_EVERY, now), delivered: 0, counted: None, suspected: 0 }
    }

    /// How many more are suspected lost than the sensor knows of. The count is compared a turn later, when what it counted
    /// must have come through the queue: an interrupt of this very moment may still be on its way.
    fn compare(&mut self, counted: Option<u64>, known: &Counters) -> u64 {
        let before = std::mem::replace(&mut self.counted, counted);
        let accounted = self.delivered + known.lost + known.suspected + self.suspected;
        let more = before.map_or(0, |before| before.saturating_sub(accounted));
        self.suspected += more;
        more
    }
}

/// Looks at a chip on I2C or SPI until its bus fails or the agent stops.
fn shaft(
    outlet: &Outlet,
    doors: &Doors,
    wish: &ShaftWish,
    report: Duration,
    sensor: &mut (dyn LookSensor + Send),
) -> Result<(), BoardError> {
    let mut port = doors.shaft(wish)?;
    outlet.remind(sensor);
    let mut ticks = Ticks::new(report, outlet.now());
    let mut keep = Ticks::new(KEEP_EVERY, outlet.now());
    let mut readings = Vec::new();
    while !outlet.stopping() {
        match port.next(ticks.wait(outlet.now())) {
            Ok(Some(look)) => sensor.on_look(&look, &mut readings),
            Ok(None) => {}
            Err(failed) => {
                // The next session begins anew, and goes on from here.
                outlet.hand_on_rest(sensor, outlet.now(), true);
                return Err(failed);
            }
        }
        if ticks.due(outlet.now()) {
            sensor.tick(outlet.now(), &mut readings);
            outlet.hand_on(sensor, 0, &mut readings);
            outlet.hand_on_rest(sensor, outlet.now(), keep.due(outlet.now()));
        }
    }
    outlet.hand_on_rest(sensor, outlet.now(), true);
    Ok(())
}

/// Reads a serial port until it fails or the agent stops; asks what has to be asked.
async fn serial(
    outlets: &[Outlet],
    doors: &Doors,
    (port, settings): (&Path, &LineSettings),
    sensor: &mut (dyn ByteSensor + Send),
) -> Result<(), BoardError> {
    let [outlet] = outlets else { return Ok(()) };
    let mut port = doors.serial(port, settings)?;
    let mut ticks = Ticks::new(LOOK_AFTER, outlet.now());
    let (mut buffer, mut readings, mut asked) = ([0; BYTES], Vec::new(), Vec::new());
    while !outlet.stopping() {
        asked.clear();
        sensor.ask(outlet.now(), &mut asked);
        if !asked.is_empty() {
            port.write(&asked).await?;
        }
        // Cancel-safe: the port promises that a read that is dropped loses nothing.
        let wait = ticks.wait_until(outlet.now(), sensor.wakes());
        if let Ok(chunk) = tokio::time::timeout(wait, port.read(&mut buffer)).await {
            let chunk = chunk?;
            hear_bytes(sensor, settings, chunk.t, &buffer[..chunk.len], &mut readings);
        }
        if ticks.due(outlet.now()) {
            sensor.tick(outlet.now(), &mut readings);
        }
        outlet.hand_on(sensor, 0, &mut readings);
        outlet.hand_on_rest(sensor, outlet.now(), false);
    }
    // What came before the stop was asked for is kept, even where this task was held up and has not read it yet.
    for _ in 0..READS {
        let Ok(Ok(chunk)) = tokio::time::timeout(LAST_READ, port.read(&mut buffer)).await else { break };
        hear_bytes(sensor, settings, chunk.t, &buffer[..chunk.len], &mut readings);
        outlet.hand_on(sensor, 0, &mut readings);
    }
    outlet.hand_on_rest(sensor, outlet.now(), false);
    Ok(())
}

/// One read brings several sentences when the agent was held up. Each has the time of its own place on the line: with one
/// time for all, those after the first would be passed over as not later than it.
fn hear_bytes(
    sensor: &mut (dyn ByteSensor + Send),
    settings: &LineSettings,
    t: BootNs,
    bytes: &[u8],
    readings: &mut Vec<Reading>,
) {
    let bytes = bytes.chunks(1).zip(0..);
    bytes.for_each(|(byte, at)| sensor.on_bytes(t + settings.line_time(at), byte, readings));
}

/// Asks the devices of a Modbus line in turn until the port fails or the agent stops; `outlets` in the same order.
async fn modbus_line(
    outlets: &[Outlet],
    doors: &Doors,
    (port, settings): (&Path, &LineSettings),
    slaves: &[modbus::Options],
) -> Result<(), BoardError> {
    let Some(first) = outlets.first() else { return Ok(()) };
    let mut port = doors.serial(port, settings)?;
    let mut line = modbus::Line::new(settings.line_time(1), slaves.iter().copied());
    let mut ticks = Ticks::new(LOOK_AFTER, first.now());
    let (mut buffer, mut readings, mut asked) = ([0; BYTES], Vec::new(), Vec::new());
    while !first.stopping() {
        asked.clear();
        line.ask(first.now(), &mut asked);
        if !asked.is_empty() {
            port.write(&asked).await?;
        }
        // Cancel-safe: the port promises that a read that is dropped loses nothing.
        let wait = ticks.wait_until(first.now(), line.wakes());
        let chunk = match tokio::time::timeout(wait, port.read(&mut buffer)).await {
            Ok(chunk) => Some(chunk?),
            Err(_elapsed) => None,
        };
        let spoke = chunk.and_then(|chunk| line.on_bytes(chunk.t, &buffer[..chunk.len], &mut readings));
        if let Some((slave, outlet)) = spoke.and_then(|spoke| line.slaves_mut().get(spoke).zip(outlets.get(spoke))) {
            outlet.hand_on(slave, 0, &mut readings);
        }
        if ticks.due(first.now()) {
            for (slave, outlet) in line.slaves_mut().iter_mut().zip(outlets) {
                slave.tick(first.now(), &mut readings);
                outlet.hand_on(slave, 0, &mut readings);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_that_left_no_edge_are_suspected_lost_once() {
        let mut audit = Audit::new(BootNs(0));
        let none = Counters::default();
        audit.delivered = 100;
        assert_eq!(audit.compare(Some(103), &none), 0, "three may still be on their way");
        audit.delivered = 202;
        assert_eq!(audit.compare(Some(205), &none), 0, "and came");
        audit.delivered = 203;
        assert_eq!(audit.compare(Some(210), &none), 2, "two of 205 never did");
        let known = Counters { lost: 5, ..none };
        assert_eq!(audit.compare(Some(210), &known), 0, "known lost by their numbers");
        assert_eq!(audit.compare(None, &known), 0);
        assert_eq!(audit.compare(Some(300), &known), 0, "nobody counted before");
    }

    /// A port whose reader was held up after it was woken: what came meanwhile waits.
    struct HeldUp(Vec<Edge>);

    impl EdgeCapture for HeldUp {
        type Error = std::convert::Infallible;

        fn next_batch(&mut self, _: Duration, edges: &mut Vec<Edge>) -> Result<(), Self::Error> {
            let count = self.0.len().min(EDGES);
            edges.extend(self.0.drain(..count));
            Ok(())
        }

        fn stamp_source(&self) -> StampSource {
            StampSource::Interrupt
        }

        fn trusted_rate_hz(&self) -> Option<f64> {
            None
        }
    }

    #[test]
    fn what_waits_is_heard_before_a_tick_so_that_a_held_up_thread_says_no_standstill() {
        use crate::{
            estimator::{Wheel, WheelOptions},
            sensor::EdgeKind,
        };
        // 24 pulses a metre at 10 m/s for 8 s; after the first second the thread is not let in for seven.
        let options = WheelOptions { pulses_per_metre: 24.0, pulses_per_turn: None, ..WheelOptions::default() };
        let mut wheel = Wheel::new(options);
        let edge = |k: u32| Edge {
            t: BootNs(1_000_000_000 + u64::from(k) * 4_166_667),
            line: 0,
            kind: EdgeKind::Rising,
            seqno: k + 1,
            line_seqno: k + 1,
        };
        (0..240).for_each(|k| wheel.on_edge(&edge(k)));
        let mut waiting = HeldUp((240..1920).map(edge).collect());
        let now = BootNs(9_000_000_000);
        assert_eq!(hear_out(&mut waiting, &mut wheel, &mut Vec::new()), Ok((1680, true)));
        let mut said = Vec::new();
        crate::sensor::Sensor::tick(&mut wheel, now, &mut said);
        let speed = said[0].value.expect("a speed").value;
        assert!((speed - 10.0).abs() < 0.01, "{said:?}");
    }
}
