//! Opens what a sensor wants of a board: real where the board is real, of the simulated vehicle where it is not.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    Bias, Board, BoardKind, Bus, CanError, CanFilter, CanPort, EdgeSelect, GpioCapture, GpioError, LineRequest,
    LineSettings, Pin, PinAt, PolledError, SerialError, SerialPort, ShaftError, ShaftPort, ShaftWish, Vehicle, gpio,
    i2c_spi, polled, simulated,
};
use crate::sensor::{Edge, EdgeCapture, StampSource};

/// Edges of a pin, wherever they come from.
pub type EdgePort = Box<dyn EdgeCapture<Error = BoardError>>;

/// Why something of a board cannot be had or stopped working; what to do is in the text.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// A GPIO line.
    #[error(transparent)]
    Gpio(#[from] GpioError),
    /// A polled pin.
    #[error(transparent)]
    Polled(#[from] PolledError),
    /// A CAN interface.
    #[error(transparent)]
    Can(#[from] CanError),
    /// A serial port.
    #[error(transparent)]
    Serial(#[from] SerialError),
    /// A chip on I2C or SPI.
    #[error(transparent)]
    Shaft(#[from] ShaftError),
}

impl BoardError {
    /// Whether the user lacks a right: nothing but an administrator changes that.
    pub fn is_permission(&self) -> bool {
        matches!(
            self,
            BoardError::Gpio(GpioError::PermissionDenied { .. })
                | BoardError::Serial(SerialError::PermissionDenied { .. })
                | BoardError::Can(CanError::PermissionDenied { .. })
        ) || matches!(self, BoardError::Shaft(error) if error.is_permission())
    }
}

/// Who sees the edges of a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeSource {
    /// The kernel, in the interrupt.
    Interrupt,
    /// This program looks at the level again and again.
    Polled,
}

/// What a pulse sensor wants of a pin.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeWish {
    /// Which line.
    pub pin: Pin,
    /// The second line of an encoder, in the same request; both edges of both are asked for then.
    pub second: Option<Pin>,
    /// A free line to ask for beside it, so that merged interrupts show; found by itself when `None`.
    pub audit_pin: Option<Pin>,
    /// Who sees the edges.
    pub source: EdgeSource,
    /// Which edges.
    pub edges: EdgeSelect,
    /// What holds the line while nothing drives it.
    pub bias: Bias,
    /// The sensor's name: part of what the kernel says has the line.
    pub sensor: String,
    /// Pulses a metre, which the wheel of a simulated board turns its way into.
    pub pulses_per_metre: f64,
}

/// The doors of a board; clones open the same board.
#[derive(Clone, Debug)]
pub struct Doors {
    board: Arc<Board>,
    vehicle: Option<Arc<Vehicle>>,
}

impl Doors {
    /// The doors of this board. A simulated one has a vehicle behind them that begins its drive now.
    pub fn of(board: &Board) -> Self {
        let vehicle =
            (board.kind == BoardKind::Simulated).then(|| Vehicle::new(simulated::SEED, simulated::Faults::default()));
        Self { board: Arc::new(board.clone()), vehicle }
    }

    /// The same with this vehicle behind them, whatever the board.
    pub fn with_vehicle(board: &Board, vehicle: Arc<Vehicle>) -> Self {
        Self { board: Arc::new(board.clone()), vehicle: Some(vehicle) }
    }

    /// The simulated vehicle, where there is one.
    pub fn vehicle(&self) -> Option<&Arc<Vehicle>> {
        self.vehicle.as_ref()
    }

    /// Opens a pin. Blocking from here on: use it in a thread.
    pub fn edges(&self, wish: &EdgeWish) -> Result<EdgePort, BoardError> {
        if let Some(vehicle) = &self.vehicle {
            let lines = if wish.second.is_some() { 2 } else { 1 };
            let wheel = simulated::SimulatedEdges::new(vehicle.clone(), wish.edges, lines, wish.pulses_per_metre);
            return Ok(Box::new(wheel));
        }
        let (label, offset) = line_of(&wish.pin.at)?;
        let consumer = format!("speedwell {}", wish.sensor);
        if wish.source == EdgeSource::Polled {
            return Ok(Box::new(Told(polled::open(&label, offset, &wish.pin.written, wish.edges, &consumer)?)));
        }
        let mut lines =
            vec![LineRequest { offset, edges: wish.edges, bias: wish.bias, name: wish.pin.written.clone() }];
        match &wish.second {
            Some(second) => {
                let (_, offset) = line_of(&second.at)?;
                lines.push(LineRequest { offset, edges: wish.edges, bias: wish.bias, name: second.written.clone() });
                return Ok(Box::new(Told(GpioCapture::open(&label, &lines, &consumer)?)));
            }
            None => lines.extend(self.spare(wish, &label, offset)),
        }
        Ok(Box::new(Told(open_auditing(&label, &mut lines, &consumer)?)))
    }

    /// The line to ask for beside the sensor's.
    fn spare(&self, wish: &EdgeWish, label: &str, offset: u32) -> Option<LineRequest> {
        let wanted = wish.audit_pin.as_ref().and_then(|pin| line_of(&pin.at).ok().map(|at| (pin, at)));
        let (spare, name) = match wanted {
            Some((pin, (chip, spare))) if chip == label && spare != offset => (spare, pin.written.clone()),
            // On a described board the configuration found a harmless one or there is none: what the kernel calls
            // unnamed and unused can still be a pin of the wireless network (Zero 2 W, lines 34 to 39).
            _ if !self.board.any_line => return None,
            _ => (gpio::spare_line(label, &[offset])?, "spare line".to_owned()),
        };
        Some(LineRequest { offset: spare, edges: EdgeSelect::Off, bias: Bias::AsIs, name })
    }

    /// Opens a CAN interface. Blocking from here on: use it in a thread.
    pub fn can(&self, interface: &str, filters: &[CanFilter]) -> Result<CanPort, BoardError> {
        Ok(match &self.vehicle {
            Some(vehicle) => {
                let present = names(&self.board.can, simulated::CAN_INTERFACE);
                if !present.iter().any(|name| name == interface) {
                    return Err(CanError::NoInterface { name: interface.into(), present }.into());
                }
                CanPort::simulated(vehicle.clone(), filters)
            }
            None => CanPort::open(interface, filters)?,
        })
    }

    /// Opens a serial port. Within a tokio runtime.
    pub fn serial(&self, port: &Path, settings: &LineSettings) -> Result<SerialPort, BoardError> {
        Ok(match &self.vehicle {
            Some(vehicle) => {
                let present = names(&self.board.uart, simulated::SERIAL_PORT);
                if !present.iter().any(|name| Path::new(name) == port) {
                    return Err(SerialError::NoPort { path: port.into(), present }.into());
                }
                SerialPort::simulated(vehicle.clone())
            }
            None => SerialPort::open(port, settings)?,
        })
    }

    /// Opens a chip on I2C or SPI. Blocking from here on: use it in a thread.
    pub fn shaft(&self, wish: &ShaftWish) -> Result<Box<dyn ShaftPort>, BoardError> {
        match &self.vehicle {
            Some(vehicle) => Ok(Box::new(simulated::SimulatedShaft::new(vehicle.clone(), wish))),
            None => i2c_spi::open(wish),
        }
    }

    /// The board.
    pub fn board(&self) -> &Board {
        &self.board
    }
}

/// Devices of a simulated board: those of its file, and the one that is always there.
fn names(listed: &[Bus], always: &str) -> Vec<String> {
    listed.iter().map(|bus| bus.device.clone()).chain([always.to_owned()]).collect()
}

/// Chip label and offset of a pin; a line known by name is looked for on every chip.
fn line_of(at: &PinAt) -> Result<(String, u32), GpioError> {
    match at {
        PinAt::Line { chip, offset } => Ok((chip.clone(), *offset)),
        PinAt::Named(name) => gpio::find_line(name),
    }
}

/// Opens the lines; where the spare one turns out to be in use, without it: to see merged interrupts is worth less than
/// to measure.
fn open_auditing(label: &str, lines: &mut Vec<LineRequest>, consumer: &str) -> Result<GpioCapture, GpioError> {
    match GpioCapture::open(label, lines, consumer) {
        Err(GpioError::LineBusy { offset, .. }) if lines.len() > 1 && offset != lines[0].offset => {
            lines.truncate(1);
            GpioCapture::open(label, lines, consumer)
        }
        opened => opened,
    }
}

/// A capture whose errors are told as the board's.
struct Told<C>(C);

impl<C> EdgeCapture for Told<C>
where
    C: EdgeCapture,
    BoardError: From<C::Error>,
{
    type Error = BoardError;

    fn next_batch(&mut self, timeout: Duration, edges: &mut Vec<Edge>) -> Result<(), BoardError> {
        Ok(self.0.next_batch(timeout, edges)?)
    }

    fn interrupts(&mut self) -> Option<u64> {
        self.0.interrupts()
    }

    fn stamp_source(&self) -> StampSource {
        self.0.stamp_source()
    }

    fn trusted_rate_hz(&self) -> Option<f64> {
        self.0.trusted_rate_hz()
    }
}
