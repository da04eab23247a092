//! Runs a round: a world, its faults, and the judgement when everything is well again.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{
    oracle::{Judgement, Truth, Wrong, judge},
    plan::{Fault, Kind, Round},
    world::{Failed, RECEIVERS, Tools, World},
};

/// Longest wait for the first sample of a new world; a busy machine starts slowly.
const BEGIN_WITHIN: Duration = Duration::from_secs(60);
/// Longest wait until everything that was said is stored, once all is well: the longest waits between connections of
/// gateway (60 s) and hub (30 s), for a confirmation (60 s), and the backlog.
const DRAIN_WITHIN: Duration = Duration::from_secs(240);
/// What came twice would come after what was missing: a last look after this long.
const SETTLE: Duration = Duration::from_millis(1500);
/// A backup is made so often, in faults.
const BACKUP_EVERY: usize = 3;

/// How a round went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) judgement: Judgement,
    /// Ends of programs that must not be, and what else cannot be.
    pub(crate) accidents: Vec<String>,
    pub(crate) restarts: usize,
    /// From everything being well to everything being stored.
    pub(crate) drained: Duration,
    pub(crate) folder: PathBuf,
}

impl Outcome {
    pub(crate) fn is_well(&self) -> bool {
        self.accidents.is_empty() && Wrong::ALL.iter().all(|how| self.judgement.times(*how) == 0)
    }
}

/// What these faults excuse.
pub(crate) fn truth(world: &World, faults: &[Fault]) -> Truth {
    let any = |kinds: &[Kind]| faults.iter().any(|fault| kinds.contains(&fault.kind));
    Truth {
        receivers: RECEIVERS.map(String::from).to_vec(),
        said: world.said(),
        runs: world.runs.clone(),
        losses: any(&[Kind::SpoolFlipped, Kind::SpoolTruncated, Kind::SpoolFull]),
        lent: world.runs.iter().any(|run| run.lazy && run.killed_ns.is_some()),
        gaps: any(&[Kind::DatabaseRestored]),
        rejects: any(&[Kind::Garbage]),
    }
}

/// Runs it in `folder`. `tell` is told what happens, as it happens.
pub(crate) fn run(round: &Round, folder: &Path, tools: &Tools, tell: &dyn Fn(&str)) -> Result<Outcome, Failed> {
    fs::create_dir_all(folder)?;
    let mut world = World::start(folder, tools, round.seed)?;
    let ran = faults(&mut world, round, tell);
    if ran.is_err() {
        world.keep_evidence();
    }
    let drained = ran?;
    let judgement = judge(&truth(&world, &round.faults), &world.contents()?);
    let outcome = Outcome {
        judgement,
        accidents: std::mem::take(&mut world.accidents),
        restarts: world.restarts,
        drained,
        folder: folder.into(),
    };
    if !outcome.is_well() {
        world.keep_evidence();
    }
    Ok(outcome)
}

fn faults(world: &mut World, round: &Round, tell: &dyn Fn(&str)) -> Result<Duration, Failed> {
    until_stored(world)?;
    if !world.clocks_are_turned() {
        return Err("the agent's clocks could not be turned: this machine has no vDSO to do it in".into());
    }
    if !world.can_fill_disks() {
        tell("small disks may not be mounted (not root): they are folders, and are not filled");
    }
    let mut events: Vec<(Duration, usize, bool)> = Vec::new();
    for (at, fault) in round.faults.iter().enumerate() {
        events.extend([(fault.at, at, true), (fault.at + fault.lasting, at, false)]);
    }
    events.sort();
    let began = Instant::now();
    world.back_up()?;
    for (when, at, begins) in events {
        world.wait_until(began + when)?;
        let fault = &round.faults[at];
        let named = |error: Failed| Failed::from(format!("{}: {error}", fault.kind.words()));
        if begins {
            tell(&format!("{} for {:.1} s", fault.kind.words(), fault.lasting.as_secs_f64()));
            world.begin(fault).map_err(named)?;
            // Only where one will be wanted, and not of a disk that is full.
            if at % BACKUP_EVERY == 0 && round.faults.iter().any(|fault| fault.kind == Kind::DatabaseRestored) {
                let _ = world.back_up();
            }
        } else {
            world.end(fault).map_err(named)?;
        }
    }
    // What is running at last is heard for a moment, so that there is something behind every fault.
    world.wait_until(Instant::now() + Duration::from_secs(2))?;
    world.heal()?;
    let drained = drain(world, &round.faults)?;
    world.finish()?;
    world.wait_until(Instant::now() + SETTLE)?;
    Ok(drained)
}

/// Waits for the first sample to be stored.
pub(crate) fn until_stored(world: &mut World) -> Result<(), Failed> {
    let until = Instant::now() + BEGIN_WITHIN;
    while !world.contents().is_ok_and(|contents| !contents.stored.is_empty()) {
        if Instant::now() > until {
            return Err("nothing was stored within a minute of the start".into());
        }
        world.wait_until(Instant::now() + Duration::from_millis(200))?;
    }
    Ok(())
}

/// Waits until nothing is missing any more, or for as long as that may take.
fn drain(world: &mut World, faults: &[Fault]) -> Result<Duration, Failed> {
    drain_within(world, faults, DRAIN_WITHIN)
}

/// Waits until nothing is missing any more, at most so long.
pub(crate) fn drain_within(world: &mut World, faults: &[Fault], patience: Duration) -> Result<Duration, Failed> {
    let began = Instant::now();
    loop {
        let missing = judge(&truth(world, faults), &world.contents()?).times(Wrong::Missing);
        if missing == 0 || began.elapsed() > patience {
            return Ok(began.elapsed());
        }
        world.tend()?;
        thread::sleep(Duration::from_millis(250));
    }
}
