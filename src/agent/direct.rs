//! The sensors without the agent: for `speedwell watch` while nothing is installed yet. Nothing is kept or sent.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use speedwell_wire::{Live, Manifest};
use tokio::sync::mpsc;

use super::{
    AgentError, Sensors,
    recording::TURN,
    sources::{self, Outlet, What},
};
use crate::{
    clock::{Clock, SystemClock},
    config::Config,
    recorder::Recorder,
};

/// Opens the sensors of `config` and sends their newest values into `values` until nobody listens. The channels come
/// back at once; the values with the future.
pub fn watch_directly(
    config: &Config,
    values: mpsc::Sender<Live>,
) -> (Manifest, impl Future<Output = Result<(), AgentError>>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let sensors = Sensors::new(config);
    let recorder = Recorder::new(&sensors.sources(), 0, clock.now());
    let names: Vec<Arc<str>> = config.sensors.iter().map(|sensor| sensor.name.as_str().into()).collect();
    (recorder.manifest().clone(), feed(sensors, recorder, names, clock, values))
}

async fn feed(
    sensors: Sensors,
    mut recorder: Recorder,
    names: Vec<Arc<str>>,
    clock: Arc<dyn Clock>,
    values: mpsc::Sender<Live>,
) -> Result<(), AgentError> {
    let (said_in, mut said) = mpsc::channel(sources::CHANNEL);
    let mut fusion = sensors.fusion();
    let fused = names.len();
    let stop = Arc::new(AtomicBool::new(false));
    let outlets = names.into_iter().enumerate().map(|(sensor, name)| Outlet {
        sensor,
        name,
        clock: clock.clone(),
        said: said_in.clone(),
        stop: stop.clone(),
        shed: Arc::default(),
        counters: Arc::new(Mutex::default()),
        counts_from: sensors.counts_from(sensor),
        receiver: None,
        memory: None,
    });
    let outlets = outlets.collect();
    let running = sensors.start(outlets)?;
    let mut turn = tokio::time::interval(TURN);
    while !values.is_closed() {
        // Cancel-safe: neither arm takes anything when it loses the race.
        tokio::select! {
            Some(said) = said.recv() => {
                let now = clock.now();
                match said.what {
                    What::Readings(readings) => {
                        readings.iter().for_each(|reading| recorder.take(said.sensor, reading, now));
                        if let Some(fusion) = &mut fusion {
                            let mut out = Vec::new();
                            let hear = |reading| fusion.take(said.sensor, reading, now, &mut out, &mut Vec::new());
                            readings.iter().for_each(hear);
                            out.iter().for_each(|reading| recorder.take(fused, reading, now));
                        }
                    }
                    What::Live(t, value) => recorder.show(said.sensor, t, value),
                    // Nothing is kept here, and nobody reads events.
                    What::Notice(_) | What::Memory(_) => {}
                    What::Words(words) => recorder.explain(said.sensor, words),
                    What::Fault(detail) => {
                        recorder.fault(said.sensor, &detail, now);
                        if let Some(fusion) = &mut fusion {
                            fusion.fault(said.sensor, now, &mut Vec::new());
                        }
                    }
                }
            }
            _ = turn.tick() => {
                let now = clock.now();
                if let Some(fusion) = &mut fusion {
                    let mut out = Vec::new();
                    fusion.tick(now, &mut out, &mut Vec::new());
                    out.iter().for_each(|reading| recorder.take(fused, reading, now));
                }
                drop(recorder.due(now, true));
                // A full channel means that the screen is slower than five times a second: the next value will do.
                let _ = values.try_send(recorder.live(now));
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    running.join().await;
    Ok(())
}
