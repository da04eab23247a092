//! Edges of a polled pin: any embedded-hal `InputPin`, and on Linux linux-embedded-hal's. This file alone knows that.
//!
//! For chips whose lines give no interrupts. The level is looked at every `interval`; an edge is stamped in the middle
//! between the look that saw the old level and the one that saw the new.
//!
//! # The rate it can be trusted to
//! Both levels of a pulse have to be seen, so each has to last longer than the longest time between two looks. With even
//! pulses a level lasts half a period; an ordinary thread wakes up to about an interval late. So
//! ```text
//! half period ≥ 2 · interval      =>      rate ≤ 1 / (4 · interval)
//! ```
//! 250 Hz at 1 ms. Beyond it, and where the system holds the thread up for longer than half a period, pulses go unseen; the
//! estimator suspects them by the gaps they leave.

use std::{
    thread,
    time::{Duration, Instant},
};

use embedded_hal::digital::InputPin;
use linux_embedded_hal::{CdevPin, gpio_cdev};

use super::{gpio, gpio::EdgeSelect};
use crate::{
    clock::{BootNs, Clock, SystemClock},
    sensor::{Edge, EdgeCapture, EdgeKind, StampSource},
};

/// How often a pin is looked at: 1000 system calls a second, about 1 % of a small core.
pub const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// The rate polling at an interval can be trusted to, Hz: see the head of this file.
pub fn trusted_rate_hz(interval: Duration) -> f64 {
    1.0 / (4.0 * interval.as_secs_f64())
}

/// Why a pin cannot be polled.
#[derive(Debug, thiserror::Error)]
pub enum PolledError {
    /// Looking at the level failed; the pin is closed by that.
    #[error("reading the level of {pin}: {cause}")]
    Read {
        /// What the configuration calls it.
        pin: String,
        /// What the driver said.
        cause: String,
    },
    /// The line could not be had.
    #[error("{pin} for polling: {cause}")]
    Open {
        /// What the configuration calls it.
        pin: String,
        /// What the kernel said.
        cause: String,
    },
}

/// Polls a pin.
#[derive(Debug)]
pub struct PolledCapture<P> {
    pin: P,
    name: String,
    edges: EdgeSelect,
    interval: Duration,
    /// The level last seen and when; `None` before the first look.
    last: Option<(bool, BootNs)>,
    next_look: Instant,
    seqno: u32,
}

impl<P: InputPin> PolledCapture<P> {
    /// Polls `pin`, which messages call `name`, at `interval`.
    pub fn new(pin: P, name: &str, edges: EdgeSelect, interval: Duration) -> Self {
        let interval = interval.max(Duration::from_micros(100));
        let (name, next_look) = (name.to_owned(), Instant::now());
        Self { pin, name, edges, interval, last: None, next_look, seqno: 0 }
    }

    /// One standard deviation of a stamp: an edge is anywhere in the interval, so its middle is off by interval/√12; half
    /// the interval is the bound that always holds and is what is told.
    pub fn stamp_uncertainty(&self) -> Duration {
        self.interval / 2
    }

    /// Looks once, at `now`.
    fn look(&mut self, now: BootNs) -> Result<Option<Edge>, PolledError> {
        let high =
            self.pin.is_high().map_err(|e| PolledError::Read { pin: self.name.clone(), cause: format!("{e:?}") })?;
        let Some((was_high, seen)) = self.last.replace((high, now)) else { return Ok(None) };
        let gap = now.since(seen);
        let wanted = match self.edges {
            EdgeSelect::Rising => high,
            EdgeSelect::Falling => !high,
            EdgeSelect::Both => true,
            EdgeSelect::Off => false,
        };
        if high == was_high || !wanted {
            return Ok(None);
        }
        self.seqno = self.seqno.wrapping_add(1);
        let kind = if high { EdgeKind::Rising } else { EdgeKind::Falling };
        Ok(Some(Edge { t: seen + gap / 2, line: 0, kind, seqno: self.seqno, line_seqno: self.seqno }))
    }

    /// Sleeps until the next look is due or `until`, whichever is first; whether the look is due. Looks keep to their
    /// grid; after an oversleep the grid starts anew instead of hurrying after it.
    fn pace(&mut self, until: Instant) -> bool {
        let wake = self.next_look.min(until);
        thread::sleep(wake.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        if now < self.next_look {
            return false;
        }
        self.next_look += self.interval;
        if self.next_look < now {
            self.next_look = now + self.interval;
        }
        true
    }
}

impl<P: InputPin + Send> EdgeCapture for PolledCapture<P> {
    type Error = PolledError;

    fn next_batch(&mut self, timeout: Duration, edges: &mut Vec<Edge>) -> Result<(), PolledError> {
        let until = Instant::now() + timeout;
        while Instant::now() < until {
            if self.pace(until)
                && let Some(edge) = self.look(SystemClock.now())?
            {
                edges.push(edge);
                return Ok(());
            }
        }
        Ok(())
    }

    fn stamp_source(&self) -> StampSource {
        StampSource::Polled
    }

    fn trusted_rate_hz(&self) -> Option<f64> {
        Some(trusted_rate_hz(self.interval))
    }
}

/// Polls a line of the chip with this label through linux-embedded-hal. Its bias stays as it is: linux-embedded-hal knows
/// none, so a pull-up has to come from the board's configuration or a resistor.
pub fn open(
    label: &str,
    offset: u32,
    name: &str,
    edges: EdgeSelect,
    consumer: &str,
) -> Result<PolledCapture<CdevPin>, super::BoardError> {
    let path = gpio::find_chip(label)?;
    let failed = |error: gpio_cdev::Error| PolledError::Open { pin: name.into(), cause: error.to_string() };
    let pin = gpio_cdev::Chip::new(&path)
        .and_then(|mut chip| chip.get_line(offset))
        .and_then(|line| line.request(gpio_cdev::LineRequestFlags::INPUT, 0, consumer))
        .and_then(CdevPin::new)
        .map_err(failed)?;
    Ok(PolledCapture::new(pin, name, edges, POLL_INTERVAL))
}

#[cfg(test)]
mod tests {
    use embedded_hal_mock::eh1::digital::{Mock, State, Transaction};

    use super::*;

    const MS: u64 = 1_000_000;

    fn looks(levels: &[State], edges: EdgeSelect) -> Vec<Edge> {
        let expected: Vec<_> = levels.iter().cloned().map(Transaction::get).collect();
        let mut mock = Mock::new(&expected);
        let mut capture = PolledCapture::new(mock.clone(), "P11", edges, POLL_INTERVAL);
        let seen = (0..levels.len() as u64).filter_map(|i| capture.look(BootNs(i * MS)).unwrap()).collect();
        mock.done();
        seen
    }

    #[test]
    fn an_edge_is_stamped_in_the_middle_between_two_looks() {
        let edges = looks(&[State::Low, State::Low, State::High, State::High, State::Low], EdgeSelect::Both);
        let told: Vec<_> = edges.iter().map(|e| (e.t.0, e.kind, e.seqno)).collect();
        assert_eq!(told, [(MS + MS / 2, EdgeKind::Rising, 1), (3 * MS + MS / 2, EdgeKind::Falling, 2)]);
    }

    #[test]
    fn the_first_look_is_no_edge_and_only_wanted_edges_are_told() {
        assert!(looks(&[State::High, State::High], EdgeSelect::Both).is_empty());
        let falling = looks(&[State::Low, State::High, State::Low, State::High], EdgeSelect::Falling);
        assert_eq!(falling.len(), 1);
        assert_eq!(falling[0].kind, EdgeKind::Falling);
    }

    /// A square wave of a known frequency, as a pin.
    struct Wave {
        start: Instant,
        half_period: Duration,
    }

    impl embedded_hal::digital::ErrorType for Wave {
        type Error = std::convert::Infallible;
    }

    impl InputPin for Wave {
        fn is_high(&mut self) -> Result<bool, Self::Error> {
            Ok((self.start.elapsed().as_nanos() / self.half_period.as_nanos()) % 2 == 1)
        }
        fn is_low(&mut self) -> Result<bool, Self::Error> {
            self.is_high().map(|high| !high)
        }
    }

    #[test]
    fn a_slow_wave_is_counted_whole() {
        let wave = Wave { start: Instant::now(), half_period: Duration::from_millis(20) };
        let mut capture = PolledCapture::new(wave, "P11", EdgeSelect::Rising, POLL_INTERVAL);
        let mut edges = Vec::new();
        let until = Instant::now() + Duration::from_millis(410);
        while Instant::now() < until {
            capture.next_batch(Duration::from_millis(10), &mut edges).unwrap();
        }
        assert!((9..=11).contains(&edges.len()), "25 Hz over 0.41 s gave {} edges", edges.len());
        assert_eq!(capture.trusted_rate_hz(), Some(250.0));
        assert_eq!(capture.stamp_uncertainty(), Duration::from_micros(500));
    }
}
