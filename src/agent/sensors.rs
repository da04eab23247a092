//! The configured sensors: what each is, and the loop that feeds it.

use std::{
    path::PathBuf,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle as Task;
use tracing::warn;

use super::{
    AgentError,
    sources::{Outlet, Ticks, run_async, spawn_blocking},
};
use crate::{
    board::{BoardError, CanFilter, Doors, EdgePort, EdgeWish, raise_priority},
    config::{Config, SensorKind},
    estimator::{Wheel, WheelOptions},
    recorder::Source,
    sensor::{Sensor, StampSource, j1939, j1939::J1939, nmea, nmea::Nmea},
};

/// Edges taken from the kernel at once; its own buffer holds at least as many.
const EDGES: usize = 1024;

/// Bytes taken from a serial port at once: more than a receiver says in a second at 9600 baud.
const BYTES: usize = 1024;

/// How often a sensor that speaks by itself is looked after: silence is noticed this much late at most.
const LOOK_AFTER: Duration = Duration::from_millis(100);

/// How long the threads have to notice a stop. They look every tenth of a second; one that hangs in a driver beyond this
/// is left behind, because the records of the others have to reach the disk.
const JOIN_WITHIN: Duration = Duration::from_secs(1);

/// The sensors of a configuration, ready to be started.
pub struct Sensors {
    doors: Doors,
    wirings: Vec<(String, Wiring)>,
}

/// What a sensor is connected to, and how it is read.
#[derive(Clone)]
enum Wiring {
    Pulses(EdgeWish, WheelOptions),
    Can(String, j1939::Options),
    Serial(PathBuf, u32, nmea::Options),
}

/// Sensors at work.
pub(super) struct Running {
    threads: Vec<JoinHandle<()>>,
    tasks: Vec<Task<()>>,
}

impl Sensors {
    /// Takes the sensors of a configuration. Nothing is opened yet; a simulated board's vehicle begins its drive.
    pub fn new(config: &Config) -> Self {
        let wirings = config.sensors.iter().map(|sensor| {
            let wiring = match &sensor.kind {
                SensorKind::Hall(hall) => Wiring::Pulses(hall.wish(&sensor.name), hall.options()),
                SensorKind::J1939(j1939) => Wiring::Can(j1939.interface.clone(), j1939.options()),
                SensorKind::Nmea(nmea) => Wiring::Serial(nmea.port.clone(), nmea.baud, nmea.options()),
            };
            (sensor.name.clone(), wiring)
        });
        Self { doors: Doors::of(&config.gateway.board), wirings: wirings.collect() }
    }

    /// What the recorder has to know of them.
    pub fn sources(&self) -> Vec<Source> {
        let source = |(name, wiring): &(String, Wiring)| {
            let channels = match wiring {
                Wiring::Pulses(_, options) => Wheel::new(*options).channels().to_vec(),
                Wiring::Can(_, options) => J1939::new(*options).channels().to_vec(),
                Wiring::Serial(_, _, options) => Nmea::new(*options).channels().to_vec(),
            };
            Source { name: name.clone(), channels, calibration: 0 }
        };
        self.wirings.iter().map(source).collect()
    }

    /// Starts each, `outlets` in the same order. Within a tokio runtime.
    pub(super) fn start(self, outlets: Vec<Outlet>) -> Result<Running, AgentError> {
        let mut running = Running { threads: Vec::new(), tasks: Vec::new() };
        for (outlet, (name, wiring)) in outlets.into_iter().zip(self.wirings) {
            let doors = self.doors.clone();
            let thread = match wiring {
                Wiring::Pulses(wish, options) => {
                    spawn_blocking(outlet, move |outlet| pulses(outlet, &doors, &wish, &options))
                }
                Wiring::Can(interface, options) => {
                    spawn_blocking(outlet, move |outlet| can(outlet, &doors, &interface, options))
                }
                Wiring::Serial(port, baud, options) => {
                    running.tasks.push(tokio::spawn(run_async(outlet, async move |outlet: &Outlet| {
                        serial(outlet, &doors, &port, baud, options).await
                    })));
                    continue;
                }
            };
            running.threads.push(thread.map_err(|cause| AgentError::Thread { sensor: name, cause })?);
        }
        Ok(running)
    }
}

impl Running {
    /// Waits until all have noticed that they are to stop; a tenth of a second as a rule, [`JOIN_WITHIN`] at most.
    pub(super) async fn join(self) {
        for task in self.tasks {
            // A serial read ends when bytes come or never: nothing it holds is worth waiting for.
            task.abort();
            let _ = task.await;
        }
        let until = Instant::now() + JOIN_WITHIN;
        while Instant::now() < until && !self.threads.iter().all(JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for thread in self.threads {
            if thread.is_finished() {
                drop(thread.join());
            } else {
                warn!(thread = thread.thread().name(), "a sensor hangs in its driver: stopping without it");
            }
        }
    }
}

/// Reads a pin until it fails or the agent stops.
fn pulses(outlet: &Outlet, doors: &Doors, wish: &EdgeWish, options: &WheelOptions) -> Result<(), BoardError> {
    let mut port: EdgePort = doors.edges(wish)?;
    if port.stamp_source() != StampSource::Recorded {
        raise_priority();
    }
    let mut wheel = Wheel::new(*options);
    let mut ticks = Ticks::new(options.report, outlet.now());
    let (mut edges, mut readings) = (Vec::with_capacity(EDGES), Vec::new());
    while !outlet.stopping() {
        edges.clear();
        port.next_batch(ticks.wait(outlet.now()), &mut edges)?;
        edges.iter().for_each(|edge| wheel.on_edge(edge));
        if ticks.due(outlet.now()) {
            outlet.tick(&mut wheel, &mut readings);
        }
    }
    Ok(())
}

/// Reads a CAN interface until it fails or the agent stops.
fn can(outlet: &Outlet, doors: &Doors, interface: &str, options: j1939::Options) -> Result<(), BoardError> {
    let filter = CanFilter::pgn(options.signal.pgn(), options.source_address);
    let mut port = doors.can(interface, &[filter])?;
    let mut sensor = J1939::new(options);
    let mut ticks = Ticks::new(options.report.min(LOOK_AFTER), outlet.now());
    let mut readings = Vec::new();
    while !outlet.stopping() {
        if let Some(frame) = port.next(ticks.wait(outlet.now()))? {
            sensor.on_frame(&frame, &mut readings);
        }
        if ticks.due(outlet.now()) {
            sensor.tick(outlet.now(), &mut readings);
        }
        outlet.hand_on(&sensor, &mut readings);
    }
    Ok(())
}

/// Reads a serial port until it fails or the agent stops.
async fn serial(
    outlet: &Outlet,
    doors: &Doors,
    port: &std::path::Path,
    baud: u32,
    options: nmea::Options,
) -> Result<(), BoardError> {
    let mut port = doors.serial(port, baud)?;
    let mut sensor = Nmea::new(options);
    let mut ticks = Ticks::new(LOOK_AFTER, outlet.now());
    let (mut buffer, mut readings) = ([0; BYTES], Vec::new());
    while !outlet.stopping() {
        // Cancel-safe: the port promises that a read that is dropped loses nothing.
        match tokio::time::timeout(ticks.wait(outlet.now()), port.read(&mut buffer)).await {
            Ok(chunk) => {
                let chunk = chunk?;
                sensor.on_bytes(chunk.t, &buffer[..chunk.len], &mut readings);
            }
            Err(_elapsed) => {}
        }
        if ticks.due(outlet.now()) {
            sensor.tick(outlet.now(), &mut readings);
        }
        outlet.hand_on(&sensor, &mut readings);
    }
    Ok(())
}
