//! GPIO lines by the character device, uAPI v2. This file alone knows gpiocdev.
//!
//! A chip is found by its **label**: the number of `/dev/gpiochipN` differs between kernels of the same board.
//!
//! # Why two lines in every request
//! The kernel counts a request's `seqno` in the interrupt itself only when the request has two lines or more; with one
//! line it is a copy of `line_seqno`, which is counted later, in the interrupt's thread. Two interrupts that the thread
//! finds as one leave a hole in the first and none in the second. So a spare line is asked for beside the sensor's: as it
//! is, without edges. Where there is none, the capture works and merged interrupts go unseen; it says so once.
//!
//! The kernel's debounce is never used: it stamps an edge when its timer runs out, on the grid of the scheduler's tick.

use std::{
    path::{Path, PathBuf},
    sync::Once,
    time::Duration,
};

use gpiocdev::{Chip, Request, line, request::Config};
use tracing::{info, warn};

use super::interrupts::Interrupts;
use crate::{
    clock::{BootNs, Clock, MonotonicOffset, SystemClock},
    sensor::{Edge, EdgeCapture, EdgeKind, StampSource},
};

/// Events the kernel holds for a request: at 2 kHz the reader may sleep half a second before one is lost. The kernel
/// takes at most 16 times 64.
pub const KERNEL_BUFFER_EVENTS: u32 = 1024;

/// Events read at once: 12 KiB of buffer, one system call for 128 ms at 2 kHz.
const BATCH_EVENTS: usize = 256;

/// How old the offset between the kernel's event clock and boot time may be.
const OFFSET_AGE_MAX: Duration = Duration::from_secs(1);

/// Lines a request can have (GPIO_V2_LINES_MAX).
const REQUEST_LINES_MAX: usize = 64;

/// A chip with more lines is a mistake: listing stops there.
const LISTED_LINES_MAX: u32 = 4096;

/// Priority of a reading thread: the middle, below the kernel's own interrupt threads that it waits for.
const PRIORITY: libc::c_int = 49;

/// Which edges are wanted of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeSelect {
    /// Low to high.
    Rising,
    /// High to low.
    Falling,
    /// Both.
    Both,
    /// None: the line is only there to make the request count.
    Off,
}

/// What holds a line while nothing drives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// The chip's pull-up.
    PullUp,
    /// The chip's pull-down.
    PullDown,
    /// Nothing.
    None,
    /// Whatever it was.
    AsIs,
}

/// A line wanted of a chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineRequest {
    /// Its offset.
    pub offset: u32,
    /// Which edges.
    pub edges: EdgeSelect,
    /// What holds it.
    pub bias: Bias,
    /// What the configuration calls it, for messages.
    pub name: String,
}

/// Why a line cannot be had or stopped working.
#[derive(Debug, thiserror::Error)]
pub enum GpioError {
    /// No chip has the label: another board, or its driver is not loaded.
    #[error("no GPIO chip has the label `{label}`; {}", present(chips))]
    NoChip {
        /// The label looked for.
        label: String,
        /// Label and path of each chip there is.
        chips: Vec<(String, PathBuf)>,
    },
    /// No chip has a line of the name.
    #[error("no GPIO chip has a line named `{name}`; `speedwell lines` lists those there are")]
    NoNamedLine {
        /// The name looked for.
        name: String,
    },
    /// The chip has not so many lines.
    #[error("{pin}: GPIO chip `{label}` has {lines} lines, there is no line {offset}")]
    NoLine {
        /// What the configuration calls it.
        pin: String,
        /// The chip.
        label: String,
        /// The line.
        offset: u32,
        /// How many there are.
        lines: u32,
    },
    /// The user may not open the chip.
    #[error("no permission to open {}: add the user to group gpio (`usermod -aG gpio USER`), then log in again", path.display())]
    PermissionDenied {
        /// The device.
        path: PathBuf,
    },
    /// Another program or a driver has the line.
    #[error("{pin} (line {offset} of `{label}`) is in use by `{consumer}`")]
    LineBusy {
        /// What the configuration calls it.
        pin: String,
        /// The chip.
        label: String,
        /// The line.
        offset: u32,
        /// Who has it, as the kernel names them.
        consumer: String,
    },
    /// The chip was there and went: unplugged, or its driver was unbound. Opening again finds it when it is back.
    #[error("GPIO chip `{label}` has gone: unplugged, or its driver was unbound")]
    ChipGone {
        /// The chip.
        label: String,
    },
    /// The kernel refused for another reason.
    #[error("GPIO chip `{label}`: {doing}: {cause}")]
    Kernel {
        /// The chip.
        label: String,
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        cause: String,
    },
    /// A request has at least one and at most 64 lines.
    #[error("{0} lines in one GPIO request; the kernel takes 1 to 64")]
    TooManyLines(usize),
}

fn present(chips: &[(String, PathBuf)]) -> String {
    if chips.is_empty() {
        return "there is no GPIO chip at all that this user can open".into();
    }
    let list: Vec<String> = chips.iter().map(|(label, path)| format!("`{label}` ({})", path.display())).collect();
    format!("there are {}", list.join(", "))
}

/// A GPIO chip, as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChipInfo {
    /// `gpiochip0`; changes with the kernel.
    pub name: String,
    /// What it is; stays.
    pub label: String,
    /// The device.
    pub path: PathBuf,
    /// Its lines; empty when the user may not ask.
    pub lines: Vec<LineInfo>,
}

/// A line of a chip, as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineInfo {
    /// Its offset.
    pub offset: u32,
    /// Its name; empty when it has none.
    pub name: String,
    /// Who has it; empty when nobody says so.
    pub consumer: String,
    /// Whether anybody has it.
    pub used: bool,
    /// Whether it drives.
    pub output: bool,
}

/// Every GPIO chip of this machine with its lines.
pub fn chips() -> Result<Vec<ChipInfo>, GpioError> {
    let mut found = Vec::new();
    for path in gpiocdev::chip::chips().unwrap_or_default() {
        let chip = open_chip(&path)?;
        let Ok(info) = chip.info() else { continue };
        let lines = (0..info.num_lines.min(LISTED_LINES_MAX))
            .filter_map(|offset| chip.line_info(offset).ok())
            .map(line_info)
            .collect();
        found.push(ChipInfo { name: info.name, label: info.label, path, lines });
    }
    Ok(found)
}

fn line_info(info: line::Info) -> LineInfo {
    LineInfo {
        offset: info.offset,
        name: info.name,
        consumer: info.consumer,
        used: info.used,
        output: info.direction == line::Direction::Output,
    }
}

/// The chip and offset of the line with this name, or whose name begins with it and a space (`P9_12 [gpio1_28]`), on
/// whichever chip has it.
pub fn find_line(name: &str) -> Result<(String, u32), GpioError> {
    for chip in chips()? {
        if let Some(line) =
            chip.lines.iter().find(|line| line.name == name || line.name.split(' ').next() == Some(name))
        {
            return Ok((chip.label, line.offset));
        }
    }
    Err(GpioError::NoNamedLine { name: name.into() })
}

/// The device of the chip with this label; on a board of unknown chips its name (`gpiochip0`) is taken too.
pub(crate) fn find_chip(label: &str) -> Result<PathBuf, GpioError> {
    let mut others = Vec::new();
    let mut denied = None;
    for path in gpiocdev::chip::chips().unwrap_or_default() {
        match open_chip(&path).map(|chip| chip.info()) {
            Ok(Ok(info)) if info.label == label || info.name == label => return Ok(path),
            Ok(Ok(info)) => others.push((info.label, path)),
            Ok(Err(_)) => {}
            Err(error) => denied = Some(error),
        }
    }
    // A chip that may not be opened may be the one: then the permission is what is missing.
    Err(denied.unwrap_or(GpioError::NoChip { label: label.into(), chips: others }))
}

fn open_chip(path: &Path) -> Result<Chip, GpioError> {
    Chip::from_path(path).map_err(|error| match errno(&error) {
        Some(libc::EACCES | libc::EPERM) => GpioError::PermissionDenied { path: path.into() },
        _ => GpioError::Kernel { label: path.display().to_string(), doing: "opening", cause: error.to_string() },
    })
}

/// The kernel's error number within one of gpiocdev's.
fn errno(error: &gpiocdev::Error) -> Option<i32> {
    match error {
        gpiocdev::Error::Os(errno) => Some(errno.0),
        gpiocdev::Error::Uapi(_, inner) => os_errno(&inner.to_string()),
        _ => None,
    }
}

/// gpiocdev does not re-export the type of its inner errors, but they print as the standard library prints the number.
fn os_errno(text: &str) -> Option<i32> {
    [libc::EBUSY, libc::ENODEV, libc::EACCES, libc::EPERM, libc::EINVAL, libc::ENXIO, libc::EINTR, libc::EAGAIN]
        .into_iter()
        .find(|&n| std::io::Error::from_raw_os_error(n).to_string() == text)
}

/// Edges of a request's lines, stamped by the kernel in the interrupt.
#[derive(Debug)]
pub struct GpioCapture {
    request: Request,
    label: String,
    /// Offset of each line of the request, in the caller's order; [`Edge::line`] is the index.
    offsets: Vec<u32>,
    buffer: Vec<u64>,
    event_words: usize,
    offset: MonotonicOffset,
    offset_read: BootNs,
    interrupts: Option<Interrupts>,
}

impl GpioCapture {
    /// Requests the lines of the chip with this label. `consumer` is who the kernel will say has them.
    ///
    /// With a single line wanted, pass a spare one with [`EdgeSelect::Off`] too, or merged interrupts go unseen.
    pub fn open(label: &str, lines: &[LineRequest], consumer: &str) -> Result<Self, GpioError> {
        Self::open_with_buffer(label, lines, consumer, KERNEL_BUFFER_EVENTS)
    }

    /// The same with a kernel buffer of another size, which a test makes small to see it overflow.
    pub fn open_with_buffer(
        label: &str,
        lines: &[LineRequest],
        consumer: &str,
        kernel_buffer_events: u32,
    ) -> Result<Self, GpioError> {
        if lines.is_empty() || lines.len() > REQUEST_LINES_MAX {
            return Err(GpioError::TooManyLines(lines.len()));
        }
        let path = find_chip(label)?;
        verify_lines(&open_chip(&path)?, label, lines)?;
        let request = Request::from_config(config(&path, lines))
            .with_consumer(consumer)
            .with_kernel_event_buffer_size(kernel_buffer_events)
            .request()
            .map_err(|error| refused(&path, label, lines, &error))?;
        if lines.len() == 1 {
            warn!(pin = %lines[0].name, "no spare line beside it: interrupts that the kernel merges go unseen");
        }
        let event_words = request.edge_event_u64_size();
        Ok(Self {
            label: label.into(),
            offsets: lines.iter().map(|line| line.offset).collect(),
            buffer: vec![0; event_words * BATCH_EVENTS],
            event_words,
            offset: MonotonicOffset::read(),
            offset_read: SystemClock.now(),
            interrupts: Interrupts::of(consumer),
            request,
        })
    }

    /// How many lines the request has; the sequence numbers are counted in the interrupt with two or more.
    pub fn lines(&self) -> usize {
        self.offsets.len()
    }

    /// The offset changes only when the machine sleeps: once a second is often enough.
    fn refresh_offset(&mut self, now: BootNs) {
        if now.since(self.offset_read) > OFFSET_AGE_MAX {
            (self.offset, self.offset_read) = (MonotonicOffset::read(), now);
        }
    }

    fn failed(&self, doing: &'static str, error: &gpiocdev::Error) -> GpioError {
        let label = self.label.clone();
        match errno(error) {
            Some(libc::ENODEV | libc::ENXIO) => GpioError::ChipGone { label },
            _ => GpioError::Kernel { label, doing, cause: error.to_string() },
        }
    }

    fn read_batch(&mut self, edges: &mut Vec<Edge>) -> Result<usize, GpioError> {
        let words = match self.request.read_edge_events_into_slice(&mut self.buffer) {
            Ok(words) => words,
            Err(error) if matches!(errno(&error), Some(libc::EINTR | libc::EAGAIN)) => 0,
            Err(error) => return Err(self.failed("reading edges", &error)),
        };
        for event in self.buffer[..words].chunks_exact(self.event_words) {
            let event =
                self.request.edge_event_from_slice(event).map_err(|error| self.failed("reading an edge", &error))?;
            let Some(line) = self.offsets.iter().position(|&offset| offset == event.offset) else { continue };
            edges.push(Edge {
                t: self.offset.boot_of(event.timestamp_ns),
                line,
                kind: match event.kind {
                    line::EdgeKind::Rising => EdgeKind::Rising,
                    line::EdgeKind::Falling => EdgeKind::Falling,
                },
                seqno: event.seqno,
                line_seqno: event.line_seqno,
            });
        }
        Ok(words / self.event_words)
    }
}

impl EdgeCapture for GpioCapture {
    type Error = GpioError;

    fn next_batch(&mut self, timeout: Duration, edges: &mut Vec<Edge>) -> Result<(), GpioError> {
        self.refresh_offset(SystemClock.now());
        match self.request.wait_edge_event(timeout) {
            Ok(false) => Ok(()),
            Ok(true) => self.read_batch(edges).map(drop),
            Err(error) if errno(&error) == Some(libc::EINTR) => Ok(()),
            Err(error) => Err(self.failed("waiting for edges", &error)),
        }
    }

    fn interrupts(&mut self) -> Option<u64> {
        self.interrupts.as_ref()?.count()
    }

    fn stamp_source(&self) -> StampSource {
        StampSource::Interrupt
    }

    fn trusted_rate_hz(&self) -> Option<f64> {
        None
    }
}

fn config(path: &Path, lines: &[LineRequest]) -> Config {
    let mut config = Config::default();
    config.on_chip(path);
    for wanted in lines {
        config.with_line(wanted.offset);
        // A line that only makes the request count is left as it is: who knows what hangs on it.
        let edges = match wanted.edges {
            EdgeSelect::Rising => line::EdgeDetection::RisingEdge,
            EdgeSelect::Falling => line::EdgeDetection::FallingEdge,
            EdgeSelect::Both => line::EdgeDetection::BothEdges,
            EdgeSelect::Off => {
                config.as_is();
                continue;
            }
        };
        config.as_input().with_edge_detection(edges).with_event_clock(line::EventClock::Monotonic).with_bias(
            match wanted.bias {
                Bias::PullUp => Some(line::Bias::PullUp),
                Bias::PullDown => Some(line::Bias::PullDown),
                Bias::None => Some(line::Bias::Disabled),
                Bias::AsIs => None,
            },
        );
    }
    config
}

fn verify_lines(chip: &Chip, label: &str, lines: &[LineRequest]) -> Result<(), GpioError> {
    let kernel = |error: gpiocdev::Error| GpioError::Kernel {
        label: label.into(),
        doing: "asking what it has",
        cause: error.to_string(),
    };
    let count = chip.info().map_err(kernel)?.num_lines;
    for wanted in lines {
        if wanted.offset >= count {
            let (label, pin) = (label.into(), wanted.name.clone());
            return Err(GpioError::NoLine { pin, label, offset: wanted.offset, lines: count });
        }
    }
    Ok(())
}

/// Why the kernel refused a request: it says only EBUSY, so the lines are asked who has them.
fn refused(path: &Path, label: &str, lines: &[LineRequest], error: &gpiocdev::Error) -> GpioError {
    let label_owned = label.to_owned();
    match errno(error) {
        Some(libc::ENODEV | libc::ENXIO) => GpioError::ChipGone { label: label_owned },
        Some(libc::EACCES | libc::EPERM) => GpioError::PermissionDenied { path: path.into() },
        Some(libc::EBUSY) => busy_line(path, label, lines).unwrap_or(GpioError::Kernel {
            label: label_owned,
            doing: "requesting lines",
            cause: error.to_string(),
        }),
        _ => GpioError::Kernel { label: label_owned, doing: "requesting lines", cause: error.to_string() },
    }
}

fn busy_line(path: &Path, label: &str, lines: &[LineRequest]) -> Option<GpioError> {
    let chip = open_chip(path).ok()?;
    lines.iter().find_map(|wanted| {
        let info = chip.line_info(wanted.offset).ok().filter(|info| info.used)?;
        let consumer = if info.consumer.is_empty() { "a driver of the kernel".into() } else { info.consumer };
        Some(GpioError::LineBusy { pin: wanted.name.clone(), label: label.into(), offset: wanted.offset, consumer })
    })
}

/// A line of the chip that nobody uses and that leads nowhere, to make a request count; never one of `taken`.
///
/// Only a line that the kernel has no name for: a named line may be the pin of a bus, and to let go of it would turn
/// that pin into an input on some chips.
pub fn spare_line(label: &str, taken: &[u32]) -> Option<u32> {
    let chip = open_chip(&find_chip(label).ok()?).ok()?;
    let count = chip.info().ok()?.num_lines.min(LISTED_LINES_MAX);
    (0..count).rev().filter(|offset| !taken.contains(offset)).find(|&offset| {
        chip.line_info(offset).is_ok_and(|info| {
            let unnamed = matches!(info.name.as_str(), "" | "-" | "NC");
            unnamed && !info.used && info.direction == line::Direction::Input
        })
    })
}

/// Lets the calling thread run before all ordinary ones, where it may (CAP_SYS_NICE, or systemd's `LimitRTPRIO=`).
///
/// Returns whether it may. Where not, that is said once: edges are stamped by the kernel all the same, but a busy machine
/// may leave them waiting until the kernel's buffer is full.
pub fn raise_priority() -> bool {
    static SAID: Once = Once::new();
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: `parameters` is a whole sched_param and lives over the call; 0 names the calling thread.
    let raised = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &parameters) } == 0;
    SAID.call_once(|| match raised {
        true => info!(priority = PRIORITY, "edges are read with real-time priority"),
        false => info!("edges are read without real-time priority: not allowed (LimitRTPRIO= in the unit allows it)"),
    });
    raised
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_chip_names_those_that_are_there() {
        let error = GpioError::NoChip {
            label: "pinctrl-rp1".into(),
            chips: vec![("pinctrl-bcm2711".into(), "/dev/gpiochip0".into())],
        };
        assert_eq!(
            error.to_string(),
            "no GPIO chip has the label `pinctrl-rp1`; there are `pinctrl-bcm2711` (/dev/gpiochip0)"
        );
        let none = GpioError::NoChip { label: "pinctrl-rp1".into(), chips: Vec::new() };
        assert!(none.to_string().ends_with("there is no GPIO chip at all that this user can open"));
    }

    #[test]
    fn a_denied_device_names_the_group() {
        let error = GpioError::PermissionDenied { path: "/dev/gpiochip0".into() };
        assert_eq!(
            error.to_string(),
            "no permission to open /dev/gpiochip0: add the user to group gpio (`usermod -aG gpio USER`), then log in again"
        );
    }

    #[test]
    fn the_kernels_number_is_read_out_of_an_error() {
        let busy = std::io::Error::from_raw_os_error(libc::EBUSY).to_string();
        assert_eq!(os_errno(&busy), Some(libc::EBUSY));
        assert_eq!(os_errno("something else"), None);
    }

    #[test]
    fn a_request_of_no_lines_is_refused_before_the_kernel_sees_it() {
        assert!(matches!(GpioCapture::open("any", &[], "test"), Err(GpioError::TooManyLines(0))));
    }
}
