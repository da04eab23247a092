//! Satellite receivers whose every sentence says which one it is.
//!
//! A receiver is the far end of a pseudo terminal that the agent opens as a serial port. Sentence number `i` has its
//! number as latitude, in 1e-7 degrees; its longitude, speed and course follow from the number and the receiver's name.
//! So any four values that are stored together prove which sentence they came from, or that they are of none.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, OptionalActions, QueueSelector, tcflush, tcgetattr, tcsetattr},
    time::{ClockId, clock_gettime},
};

/// A sentence of each receiver comes so often.
pub(crate) const PERIOD: Duration = Duration::from_millis(200);
/// Speed of the line, baud. A sentence takes 15 ms, which is what tells those apart that are read together.
pub(crate) const BAUD: u32 = 57_600;
/// How often the feeder looks whether a port was opened.
const LOOK: Duration = Duration::from_millis(20);
/// How long after a port was seen open it is spoken to: it is emptied once more while it is being set up.
const SETTLE: Duration = Duration::from_millis(100);
/// One knot in m/s.
const KNOT: f64 = 1852.0 / 3600.0;

/// What sentence `index` of a receiver says, in the steps it is stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fields {
    /// 1e-7 degrees: the sentence's number.
    pub(crate) latitude: i64,
    /// 1e-7 degrees.
    pub(crate) longitude: i64,
    /// mm/s.
    pub(crate) speed: i64,
    /// 0.01 degrees.
    pub(crate) course: i64,
}

/// The fields of a sentence; pure, so that the oracle knows them as well.
pub(crate) fn fields(receiver: &str, index: u64) -> Fields {
    let name = receiver.bytes().fold(0u64, |sum, byte| sum.wrapping_mul(131).wrapping_add(byte.into()));
    let mut dice = fastrand::Rng::with_seed(name ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    Fields {
        latitude: index as i64,
        longitude: dice.i64(0..1_790_000_000),
        // Above the speed from which a course is said, below the fastest that is believed.
        speed: dice.i64(1_000..500_000),
        course: dice.i64(0..36_000),
    }
}

/// `ddmm.mmmmmmm` with `digits` digits of degrees, from 1e-7 degrees.
fn angle(e7: i64, digits: usize) -> String {
    let (degrees, rest) = (e7 / 10_000_000, e7 % 10_000_000);
    // A ten-millionth of a degree is six millionths of a minute.
    let millionths = rest * 6;
    format!("{degrees:0digits$}{:02}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
}

fn sentence(fields: &Fields) -> String {
    let body = format!(
        "GPRMC,120000,A,{},N,{},E,{:.6},{:.2},010126,,,A",
        angle(fields.latitude, 2),
        angle(fields.longitude, 3),
        fields.speed as f64 / 1000.0 / KNOT,
        fields.course as f64 / 100.0,
    );
    let checksum = body.bytes().fold(0, |sum, byte| sum ^ byte);
    format!("${body}*{checksum:02X}\r\n")
}

/// A sentence that was said to an agent that listened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) index: u64,
    /// Its receiver's place in the list.
    pub(crate) receiver: usize,
    /// Which run of the agent heard it.
    pub(crate) run: usize,
    /// This machine's boot time before it was written to the line, and after.
    pub(crate) before_ns: i64,
    pub(crate) after_ns: i64,
    /// Real time then.
    pub(crate) utc_ns: i64,
}

/// Boot time of this machine, ns.
pub(crate) fn boot_ns() -> i64 {
    ns(ClockId::Boottime)
}

/// Real time of this machine, ns.
pub(crate) fn utc_ns() -> i64 {
    ns(ClockId::Realtime)
}

fn ns(clock: ClockId) -> i64 {
    let at = clock_gettime(clock);
    at.tv_sec * 1_000_000_000 + at.tv_nsec
}

struct Receiver {
    name: String,
    terminal: OwnedFd,
    port: PathBuf,
}

/// An agent that is to be spoken to.
struct Listener {
    run: usize,
    process: u32,
    /// Receivers that its configuration names, each with when its port was first seen open.
    wanted: Vec<(usize, Option<i64>)>,
}

#[derive(Default)]
struct Feed {
    listener: Option<Listener>,
    said: Vec<Said>,
}

/// The receivers of a gateway. Ends with the value.
pub(crate) struct Receivers {
    all: Arc<Vec<Receiver>>,
    feed: Arc<Mutex<Feed>>,
    over: Arc<AtomicBool>,
}

impl Receivers {
    /// Receivers of these names, which say nothing yet. `first` is the number of their first sentence.
    pub(crate) fn start(names: &[&str], first: u64) -> io::Result<Self> {
        let open = |name: &&str| {
            let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
            grantpt(&terminal)?;
            unlockpt(&terminal)?;
            let port = PathBuf::from(ptsname(&terminal, Vec::new())?.to_string_lossy().into_owned());
            Ok(Receiver { name: (*name).to_owned(), terminal, port })
        };
        let all: Arc<Vec<Receiver>> = Arc::new(names.iter().map(open).collect::<io::Result<_>>()?);
        let receivers = Self { all: all.clone(), feed: Arc::default(), over: Arc::default() };
        let (feed, over) = (receivers.feed.clone(), receivers.over.clone());
        thread::Builder::new().name("receivers".into()).spawn(move || speak(&all, &feed, &over, first))?;
        Ok(receivers)
    }

    /// The port to name in a configuration.
    pub(crate) fn port(&self, receiver: usize) -> String {
        self.all[receiver].port.display().to_string()
    }

    /// Empties the ports, so that nothing of what a dead agent was told is heard by the next.
    pub(crate) fn empty(&self) -> io::Result<()> {
        for receiver in self.all.iter() {
            let mut options = fs::OpenOptions::new();
            let flags = rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK;
            let port = options.read(true).write(true).custom_flags(flags.bits() as i32).open(&receiver.port)?;
            let mut modes = tcgetattr(&port)?;
            // Line by line, as a terminal nobody has set up: the agent is ready when it has changed that.
            modes.local_modes |= LocalModes::ICANON;
            tcsetattr(&port, OptionalActions::Now, &modes)?;
            tcflush(&port, QueueSelector::IOFlush)?;
        }
        Ok(())
    }

    /// Speaks to this process from the moment it listens, on the ports of these receivers.
    pub(crate) fn speak_to(&self, run: usize, process: u32, receivers: &[usize]) {
        let wanted = receivers.iter().map(|receiver| (*receiver, None)).collect();
        look(&self.feed).listener = Some(Listener { run, process, wanted });
    }

    /// Speaks on only to these of the receivers that listen; when this returns, nothing is on its way to the others.
    pub(crate) fn speak_only_to(&self, receivers: &[usize]) {
        if let Some(listener) = &mut look(&self.feed).listener {
            listener.wanted.retain(|(receiver, _)| receivers.contains(receiver));
        }
    }

    /// Makes these ports look like ones that nobody has set up, whoever has them open.
    pub(crate) fn forget(&self, receivers: &[usize]) -> io::Result<()> {
        for receiver in receivers {
            let terminal = self.all[*receiver].terminal.as_fd();
            let mut modes = tcgetattr(terminal)?;
            modes.local_modes |= LocalModes::ICANON;
            tcsetattr(terminal, OptionalActions::Now, &modes)?;
        }
        Ok(())
    }

    /// Speaks to these as well, as soon as they listen.
    pub(crate) fn speak_also_to(&self, receivers: &[usize]) {
        if let Some(listener) = &mut look(&self.feed).listener {
            listener.wanted.extend(receivers.iter().map(|receiver| (*receiver, None)));
        }
    }

    /// Says nothing more; when this returns, nothing is on its way.
    pub(crate) fn hush(&self) {
        look(&self.feed).listener = None;
    }

    /// Everything that was said.
    pub(crate) fn said(&self) -> Vec<Said> {
        look(&self.feed).said.clone()
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn look(feed: &Mutex<Feed>) -> MutexGuard<'_, Feed> {
    feed.lock().unwrap_or_else(PoisonError::into_inner)
}

fn speak(receivers: &[Receiver], feed: &Mutex<Feed>, over: &AtomicBool, first: u64) {
    let mut index = first;
    let mut due = boot_ns();
    while !over.load(Ordering::Relaxed) {
        thread::sleep(LOOK);
        let mut feed = look(feed);
        let Feed { listener: Some(listener), said } = &mut *feed else { continue };
        for (receiver, open) in &mut listener.wanted {
            if open.is_none() && listens(listener.process, &receivers[*receiver]) {
                *open = Some(boot_ns());
            }
        }
        if boot_ns() < due {
            continue;
        }
        due = boot_ns() + PERIOD.as_nanos() as i64;
        let settled = boot_ns() - SETTLE.as_nanos() as i64;
        for (receiver, _) in listener.wanted.iter().filter(|(_, open)| open.is_some_and(|at| at < settled)) {
            let Receiver { name, terminal, .. } = &receivers[*receiver];
            let text = sentence(&fields(name, index));
            let (before_ns, utc_ns) = (boot_ns(), utc_ns());
            // A line that takes nothing has no listener: the process has ended and the feeder is told in a moment.
            if rustix::io::write(terminal, text.as_bytes()) == Ok(text.len()) {
                let after_ns = boot_ns();
                said.push(Said { index, receiver: *receiver, run: listener.run, before_ns, after_ns, utc_ns });
            }
            index += 1;
        }
    }
}

/// Whether this process has opened the port and set it up.
fn listens(process: u32, receiver: &Receiver) -> bool {
    let raw = tcgetattr(receiver.terminal.as_fd()).is_ok_and(|modes| !modes.local_modes.contains(LocalModes::ICANON));
    raw && fs::read_dir(format!("/proc/{process}/fd")).is_ok_and(|mut open| {
        open.any(|file| file.is_ok_and(|file| fs::read_link(file.path()).is_ok_and(|to| to == receiver.port)))
    })
}

#[cfg(test)]
mod tests {
    use speedwell::{
        clock::BootNs,
        sensor::{Sensor, nmea},
    };
    use speedwell_wire::Channel;

    use super::*;

    #[test]
    fn the_agent_reads_a_sentence_back_to_the_last_step() {
        let options = nmea::Options { position: true, latency: Duration::ZERO, ..nmea::Options::default() };
        for index in (1..2000).chain([123_456_789]) {
            let fields = fields("left", index);
            let (mut sensor, mut heard) = (nmea::Nmea::new(options), Vec::new());
            sensor.on_bytes(BootNs(1_000_000_000), sentence(&fields).as_bytes(), &mut heard);
            heard.sort_by_key(|reading| reading.channel);
            let steps: Vec<i64> = heard
                .iter()
                .map(|reading| {
                    let spec = sensor.channels()[reading.channel];
                    let channel = Channel {
                        id: 0,
                        sensor: "left".into(),
                        quantity: spec.quantity,
                        resolution_nano: spec.resolution_nano,
                        tick_ns: 1,
                        period_ns: 0,
                        calibration: 0,
                    };
                    channel.quantise(reading.value.unwrap().value)
                })
                .collect();
            assert_eq!(steps, [fields.speed, fields.latitude, fields.longitude, fields.course], "{index}");
        }
    }
}
