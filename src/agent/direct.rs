//! The sensors without the agent: for `speedwell watch` while nothing is installed yet. Nothing is kept or sent.

use std::sync::Arc;

use speedwell_wire::{Live, Manifest};
use tokio::sync::mpsc;

use super::{
    AgentError,
    recording::{TURN, places},
    running::{Common, Member, Running},
    sensors,
    sources::{self, Said, What},
    timekeeping::Receiver,
};
use crate::{
    clock::{Clock, SystemClock},
    config::Config,
    recorder::{Recorder, fusion::Fusion},
};

/// Opens the sensors of `config` and sends their newest values into `values` until nobody listens. The channels come
/// back at once; the values with the future.
pub fn watch_directly(
    config: &Config,
    values: mpsc::Sender<Live>,
) -> (Manifest, impl Future<Output = Result<(), AgentError>>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (said_in, said) = mpsc::channel(sources::CHANNEL);
    let common = Common {
        clock: clock.clone(),
        said: said_in,
        shed: Arc::default(),
        receiver: Receiver::default(),
        state_directory: None,
    };
    let mut running = Running::new(&config.gateway.board, common);
    let members = running.plan(&config.sensors);
    let fusion = sensors::fusion(config.fusion.as_ref(), &members);
    let sources = sensors::sources(config.sensors.iter(), fusion.as_ref());
    let recorder = Recorder::new(&sources, 0, clock.now());
    let manifest = recorder.manifest().clone();
    (manifest, feed(running, members, (recorder, fusion.map(Fusion::new)), (said, clock), values))
}

async fn feed(
    mut running: Running,
    members: Vec<Member>,
    (mut recorder, mut fusion): (Recorder, Option<Fusion>),
    (mut said, clock): (mpsc::Receiver<Said>, Arc<dyn Clock>),
    values: mpsc::Sender<Live>,
) -> Result<(), AgentError> {
    let (places, fused) = (places(&members), members.len());
    running.open(&members)?;
    let mut turn = tokio::time::interval(TURN);
    while !values.is_closed() {
        // Cancel-safe: neither arm takes anything when it loses the race.
        tokio::select! {
            Some(said) = said.recv() => {
                let now = clock.now();
                let Some(&place) = places.get(&said.sensor) else { continue };
                match said.what {
                    What::Readings(readings) => {
                        readings.iter().for_each(|reading| recorder.take(place, reading, now));
                        if let Some(fusion) = &mut fusion {
                            let mut out = Vec::new();
                            let hear = |reading| fusion.take(said.sensor, reading, now, &mut out, &mut Vec::new());
                            readings.iter().for_each(hear);
                            out.iter().for_each(|reading| recorder.take(fused, reading, now));
                        }
                    }
                    What::Live(t, value) => recorder.show(place, t, value),
                    // Nothing is kept here, and nobody reads events.
                    What::Notice(_) | What::Memory(_) => {}
                    What::Words(words) => recorder.explain(place, words),
                    What::Fault(detail) => {
                        recorder.fault(place, &detail, now);
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
    running.close().await;
    Ok(())
}
