//! A line between a program and the broker that can be made bad: a TCP proxy.
//!
//! It keeps TCP's promise as a real network does: bytes come late, slowly or never, but what comes is in order and
//! without holes. A cut takes the connection, and with it what was under way.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How often a thread of the line looks how it is meant to be.
const LOOK: Duration = Duration::from_millis(10);
/// Bytes taken at once: small, so that a slow line is slow evenly and a cut falls inside packets.
const PIECE: usize = 2048;

/// How a line is.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    refused: bool,
    silent: bool,
    /// What the broker says is swallowed: the client hears nothing more on this connection.
    muted: bool,
    latency: Duration,
    /// Bytes a second; 0 is as fast as it goes.
    rate: u64,
    /// The connection is cut when so many bytes more have come; towards the broker or from it.
    cut_after: Option<u64>,
    /// Connections begun before this one are to end.
    first_alive: u64,
}

/// See the module. Ends with the value.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) port: u16,
    weather: Arc<Mutex<Weather>>,
    over: Arc<AtomicBool>,
}

impl Line {
    /// A good line from `port` of the loopback to `to`.
    pub(crate) fn start(port: u16, to: u16) -> io::Result<Self> {
        let line = Self { port, weather: Arc::default(), over: Arc::default() };
        let (weather, over) = (line.weather.clone(), line.over.clone());
        thread::Builder::new().name("line".into()).spawn(move || accept(port, to, &weather, &over))?;
        Ok(line)
    }

    fn weather(&self) -> MutexGuard<'_, Weather> {
        look(&self.weather)
    }

    /// Nobody is let in, and who is in is thrown out.
    pub(crate) fn refuse(&self) {
        let mut weather = self.weather();
        (weather.refused, weather.first_alive) = (true, u64::MAX);
    }

    /// Everything comes late and slowly.
    pub(crate) fn slow(&self, latency: Duration, rate: u64) {
        let mut weather = self.weather();
        (weather.latency, weather.rate) = (latency, rate);
    }

    /// Nothing comes through, and nobody is told.
    pub(crate) fn silence(&self) {
        self.weather().silent = true;
    }

    /// What the broker says comes no more; what is said to it does.
    pub(crate) fn mute(&self, muted: bool) {
        let mut weather = self.weather();
        weather.muted = muted;
        if !muted {
            weather.first_alive = u64::MAX;
        }
    }

    /// The connection that carries the next `bytes` bytes is cut behind them.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.weather().cut_after = Some(bytes);
    }

    /// All is well again; `cut` ends the connections there are, with what they hold.
    pub(crate) fn heal(&self, cut: bool) {
        let mut weather = self.weather();
        *weather = Weather { first_alive: if cut { u64::MAX } else { weather.first_alive }, ..Weather::default() };
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn look(weather: &Mutex<Weather>) -> MutexGuard<'_, Weather> {
    weather.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(port: u16, to: u16, weather: &Arc<Mutex<Weather>>, over: &Arc<AtomicBool>) {
    let mut listener: Option<TcpListener> = None;
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        let refused = {
            let mut weather = look(weather);
            // All there were are older than the next one.
            weather.first_alive = weather.first_alive.min(number + 1);
            weather.refused
        };
        if refused {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok().filter(|l| l.set_nonblocking(true).is_ok());
        }
        match listener.as_ref().map(TcpListener::accept) {
            Some(Ok((near, _))) => {
                number += 1;
                let target = SocketAddr::from((Ipv4Addr::LOCALHOST, to));
                // A broker that is down refuses: so does the line, by hanging up.
                if let Ok(far) = TcpStream::connect_timeout(&target, Duration::from_secs(1)) {
                    let _ = join(near, far, number, weather, over);
                }
            }
            _ => thread::sleep(LOOK),
        }
    }
}

/// Two threads, one a direction.
fn join(
    near: TcpStream,
    far: TcpStream,
    number: u64,
    weather: &Arc<Mutex<Weather>>,
    over: &Arc<AtomicBool>,
) -> io::Result<()> {
    near.set_nonblocking(false)?;
    for (from, to, down) in [(near.try_clone()?, far.try_clone()?, false), (far, near, true)] {
        let (weather, over) = (weather.clone(), over.clone());
        thread::Builder::new().name("line".into()).spawn(move || {
            let _ = carry(&from, &to, (number, down), &weather, &over);
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        })?;
    }
    Ok(())
}

fn carry(
    mut from: &TcpStream,
    mut to: &TcpStream,
    (number, down): (u64, bool),
    weather: &Mutex<Weather>,
    over: &AtomicBool,
) -> io::Result<()> {
    from.set_read_timeout(Some(LOOK))?;
    let mut piece = [0; PIECE];
    loop {
        let now = *look(weather);
        if over.load(Ordering::Relaxed) || number < now.first_alive {
            return Ok(());
        }
        if now.silent || (down && now.muted) {
            thread::sleep(LOOK);
            continue;
        }
        let got = match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(got) => got,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error),
        };
        let slow_ns = (got as u64 * 1_000_000_000).checked_div(now.rate).unwrap_or(0);
        if !holds(now.latency + Duration::from_nanos(slow_ns), number, weather, over) {
            return Ok(());
        }
        if let Some(left) = cut_within(got, weather) {
            return to.write_all(&piece[..left]);
        }
        to.write_all(&piece[..got])?;
    }
}

/// Waits so long, and for as long as the line is silent; false when the connection has ended meanwhile.
fn holds(wait: Duration, number: u64, weather: &Mutex<Weather>, over: &AtomicBool) -> bool {
    let until = Instant::now() + wait;
    loop {
        let now = *look(weather);
        if over.load(Ordering::Relaxed) || number < now.first_alive {
            return false;
        }
        if !now.silent && Instant::now() >= until {
            return true;
        }
        thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))));
    }
}

/// How many of the next `got` bytes still come through when the cut falls among them.
fn cut_within(got: usize, weather: &Mutex<Weather>) -> Option<usize> {
    let mut weather = look(weather);
    let left = weather.cut_after?;
    if left > got as u64 {
        weather.cut_after = Some(left - got as u64);
        return None;
    }
    weather.cut_after = None;
    Some(left as usize)
}
