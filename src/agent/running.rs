//! The sensors at work, and how they give way to those of another configuration.
//!
//! A sensor is spoken of by a number that is given once in the life of an agent: what one that has been closed says late
//! cannot be taken for another's. One that another configuration leaves as it is goes on without noticing, under its
//! number; one that is altered in anything is closed and opened under a new one. Sensors that share a line are one in
//! this: the task that asks them in turn is started anew when one of them changes.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::JoinHandle as Task, time::timeout_at};
use tracing::warn;

use super::{
    AgentError, drivers,
    memories::MemoryFile,
    sensors::{counts_from, shared_port, start},
    sources::{Outlet, Said, Tally},
    timekeeping::Receiver,
};
use crate::{
    board::{Board, Doors},
    clock::Clock,
    config::Sensor as Configured,
};

/// How long the threads have to notice a stop. They look every tenth of a second; one that hangs in a driver beyond this
/// is left behind, because the records of the others have to reach the disk.
const JOIN_WITHIN: Duration = Duration::from_secs(1);

/// What all sensors hand on to.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) said: mpsc::Sender<Said>,
    pub(super) shed: Arc<AtomicU64>,
    /// Whom the sensor tells UTC that is to vouch for it.
    pub(super) receiver: Receiver,
    /// Where memories are kept, where they may be.
    pub(super) state_directory: Option<PathBuf>,
}

/// A sensor, its number, and what it has counted.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) number: usize,
    pub(super) sensor: Configured,
    pub(super) counters: Arc<Mutex<Tally>>,
}

/// What reads a sensor.
pub(super) enum Worker {
    Thread(JoinHandle<()>),
    Task(Task<()>),
}

/// The sensors that one thread or task reads.
struct Group {
    members: Vec<Member>,
    stop: Arc<AtomicBool>,
    worker: Worker,
}

/// The sensors at work.
pub(super) struct Running {
    doors: Doors,
    common: Common,
    groups: Vec<Group>,
    next: usize,
}

impl Running {
    /// None yet. A simulated board's vehicle begins its drive.
    pub(super) fn new(board: &Board, common: Common) -> Self {
        Self { doors: Doors::of(board), common, groups: Vec::new(), next: 0 }
    }

    /// The members that these sensors make, in their order: those that are at work as they are wanted, and new ones.
    pub(super) fn plan(&mut self, sensors: &[Configured]) -> Vec<Member> {
        let mut members = Vec::with_capacity(sensors.len());
        for sensor in sensors {
            let on_its_line = |other: &&Configured| same_line(sensor, other);
            let wanted: Vec<&Configured> = sensors.iter().filter(on_its_line).collect();
            let kept = self.groups.iter().find(|group| group.reads_just(&wanted));
            let kept = kept.and_then(|group| group.members.iter().find(|member| member.sensor == *sensor));
            members.push(kept.cloned().unwrap_or_else(|| {
                let counted = self.member(&sensor.name).map(|before| lock(&before.counters).total());
                let number = self.next;
                self.next += 1;
                let counters = Arc::new(Mutex::new(Tally::after(counted.unwrap_or_default())));
                Member { number, sensor: sensor.clone(), counters }
            }));
        }
        members
    }

    fn member(&self, name: &str) -> Option<&Member> {
        self.groups.iter().flat_map(|group| &group.members).find(|member| member.sensor.name == name)
    }

    /// Closes the sensors that are not among these members, and waits until what they said last is on its way.
    pub(super) async fn close_others(&mut self, members: &[Member]) {
        let stays =
            |group: &Group| group.members.iter().all(|old| members.iter().any(|member| member.number == old.number));
        let (stay, go) = std::mem::take(&mut self.groups).into_iter().partition(stays);
        self.groups = stay;
        close(go).await;
    }

    /// Opens the sensors among these members that are not at work. One that the system has no thread for is told and
    /// done without; the first such cause is given back.
    pub(super) fn open(&mut self, members: &[Member]) -> Result<(), AgentError> {
        let mut outcome = Ok(());
        for member in members {
            if self.groups.iter().flat_map(|group| &group.members).any(|open| open.number == member.number) {
                continue;
            }
            let on_its_line = |other: &&Member| same_line(&member.sensor, &other.sensor);
            let group: Vec<Member> = members.iter().filter(on_its_line).cloned().collect();
            let stop = Arc::new(AtomicBool::new(false));
            let outlets = group.iter().map(|member| (self.outlet(member, &stop), member.sensor.clone())).collect();
            match start(&self.doors, outlets) {
                Ok(worker) => self.groups.push(Group { members: group, stop, worker }),
                Err(cause) => outcome = outcome.and(Err(cause)),
            }
        }
        outcome
    }

    fn outlet(&self, member: &Member, stop: &Arc<AtomicBool>) -> Outlet {
        let Common { clock, said, shed, receiver, state_directory } = self.common.clone();
        Outlet {
            sensor: member.number,
            name: member.sensor.name.as_str().into(),
            clock,
            said,
            stop: stop.clone(),
            shed,
            counters: member.counters.clone(),
            counts_from: counts_from(&member.sensor),
            receiver: drivers::tells_time(&member.sensor).then_some(receiver),
            memory: state_directory.map(|directory| MemoryFile::of(&directory, &member.sensor.name)),
        }
    }

    /// Closes all; a tenth of a second as a rule, [`JOIN_WITHIN`] at most.
    pub(super) async fn close(mut self) {
        close(std::mem::take(&mut self.groups)).await;
    }
}

impl Group {
    /// Whether it reads these sensors, as they are, and no others.
    fn reads_just(&self, wanted: &[&Configured]) -> bool {
        self.members.len() == wanted.len() && self.members.iter().all(|member| wanted.contains(&&member.sensor))
    }
}

impl Drop for Running {
    /// An agent that does not come to its start leaves no thread behind.
    fn drop(&mut self) {
        self.groups.iter().for_each(|group| group.stop.store(true, Ordering::Relaxed));
    }
}

/// Whether both are one sensor, or on one line.
fn same_line(one: &Configured, other: &Configured) -> bool {
    one.name == other.name || (shared_port(one).is_some() && shared_port(one) == shared_port(other))
}

/// Stops them all, then waits for all of them.
async fn close(groups: Vec<Group>) {
    groups.iter().for_each(|group| group.stop.store(true, Ordering::Relaxed));
    let until = Instant::now() + JOIN_WITHIN;
    for group in groups {
        let sensor = group.members.first().map_or("", |member| &member.sensor.name);
        let ended = match group.worker {
            // It hears of the stop at its next turn, and reads what waits before it ends.
            Worker::Task(mut task) => {
                let ended = timeout_at(until.into(), &mut task).await.is_ok();
                task.abort();
                ended
            }
            Worker::Thread(thread) => {
                while Instant::now() < until && !thread.is_finished() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                thread.is_finished()
            }
        };
        if !ended {
            warn!(sensor, "it hangs in its driver: going on without it");
        }
    }
}

fn lock(counters: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    counters.lock().unwrap_or_else(PoisonError::into_inner)
}
