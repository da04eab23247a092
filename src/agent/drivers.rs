//! What each configured sensor is connected to and what reads it: for the live agent and for a replay alike.

use std::{path::PathBuf, time::Duration};

use speedwell_wire::Quantity;

use crate::{
    board::{CanFilter, EdgeWish, LineSettings, ShaftWish},
    config::{Sensor, SensorKind},
    estimator::{Shaft, Wheel},
    sensor::{
        ByteSensor, ChannelSpec, EdgeSensor, FrameSensor, Sensor as _,
        canopen::{self, CanOpen},
        dbc::Dbc,
        j1939::J1939,
        line::Line,
        modbus,
        nmea::{self, Nmea},
        obd2::{self, Obd2},
        radar::{self, Radar},
        shaft::LookSensor,
        ubx::{self, Ubx},
    },
};

/// Makes a sensor's own code, fed with nothing yet: each time the port is opened it begins anew.
pub(super) type Make<S> = Box<dyn Fn() -> Box<S> + Send + Sync>;

/// Where a sensor's input comes from, and what reads it.
pub(super) enum Wiring {
    /// Edges of pins.
    Edges { wish: EdgeWish, make: Make<dyn EdgeSensor + Send> },
    /// Frames of a CAN interface that pass one of the filters.
    Can { interface: String, filters: Vec<CanFilter>, make: Make<dyn FrameSensor + Send> },
    /// Bytes of a serial port.
    Serial { port: PathBuf, settings: LineSettings, make: Make<dyn ByteSensor + Send> },
    /// A device on a line that it may share with others: whoever owns the port asks them all in turn.
    Modbus { port: PathBuf, settings: LineSettings, slave: modbus::Options },
    /// Counts of a chip on I2C or SPI.
    Shaft { wish: ShaftWish, make: Make<dyn LookSensor + Send> },
}

/// Whether input comes from a bus or out of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A bus, with the time it arrived.
    Live,
    /// A file, with the time it arrived.
    Arrived,
    /// A file, with the time it was true for where the input itself tells it.
    Recorded,
}

impl Wiring {
    /// Of a configured sensor.
    pub(super) fn of(sensor: &Sensor, origin: Origin) -> Self {
        match &sensor.kind {
            SensorKind::Hall(hall) => {
                let options = hall.options();
                Wiring::Edges { wish: hall.wish(&sensor.name), make: Box::new(move || Box::new(Wheel::new(options))) }
            }
            SensorKind::J1939(j1939) => {
                let options = j1939.options();
                Wiring::Can {
                    interface: j1939.interface.clone(),
                    filters: vec![CanFilter::pgn(options.signal.pgn(), options.source_address)],
                    make: Box::new(move || Box::new(J1939::new(options))),
                }
            }
            SensorKind::Obd2(obd2) => {
                let options = obd2::Options { ask: origin == Origin::Live, ..obd2.options() };
                let make = move || -> Box<dyn FrameSensor + Send> { Box::new(Obd2::new(options.clone())) };
                let filters = match obd2.extended {
                    false => CanFilter::standard(0x7E8, 0x7F8),
                    true => CanFilter::extended(0x18DA_F100, 0x1FFF_FF00),
                };
                Wiring::Can { interface: obd2.interface.clone(), filters: vec![filters], make: Box::new(make) }
            }
            SensorKind::Dbc(dbc) => {
                let (options, message) = (dbc.options.clone(), &dbc.options.message);
                let filter = match (message.extended, dbc.options.any_sender) {
                    (false, _) => CanFilter::standard(message.id, 0x7FF),
                    (true, false) => CanFilter::extended(message.id, 0x1FFF_FFFF),
                    (true, true) => CanFilter::extended(message.id, 0x03FF_FF00),
                };
                // Which kind of frame carries a message a DBC file seldom says; its identifier is the same.
                let filter = filter.with_fd();
                let make = move || -> Box<dyn FrameSensor + Send> { Box::new(Dbc::new(options.clone())) };
                Wiring::Can { interface: dbc.interface.clone(), filters: vec![filter], make: Box::new(make) }
            }
            SensorKind::CanOpen(node) => {
                let options = canopen::Options { ask: origin == Origin::Live, ..node.options };
                let filters = CanOpen::identifiers(&options).map(|id| CanFilter::standard(id.into(), 0x7FF)).to_vec();
                let make = move || -> Box<dyn FrameSensor + Send> { Box::new(CanOpen::new(options)) };
                Wiring::Can { interface: node.interface.clone(), filters, make: Box::new(make) }
            }
            SensorKind::Modbus(modbus) => {
                Wiring::Modbus { port: modbus.port.clone(), settings: modbus.settings, slave: modbus.options }
            }
            SensorKind::Radar(radar) => {
                let options = radar::Options { set_up: origin == Origin::Live, ..radar.options };
                let make = move || -> Box<dyn ByteSensor + Send> { Box::new(Radar::new(options)) };
                Wiring::Serial { port: radar.port.clone(), settings: radar.settings, make: Box::new(make) }
            }
            SensorKind::Line(line) => {
                let options = line.options.clone();
                let make = move || -> Box<dyn ByteSensor + Send> { Box::new(Line::new(options.clone())) };
                Wiring::Serial { port: line.port.clone(), settings: line.settings, make: Box::new(make) }
            }
            SensorKind::Ubx(ubx) => {
                let options = ubx::Options { latency: latency(ubx.options.latency, origin), ..ubx.options };
                let make = move || -> Box<dyn ByteSensor + Send> { Box::new(Ubx::new(options)) };
                Wiring::Serial { port: ubx.port.clone(), settings: ubx.settings, make: Box::new(make) }
            }
            SensorKind::Nmea(nmea) => {
                let options = nmea::Options { latency: latency(nmea.latency, origin), ..nmea.options() };
                let make = move || -> Box<dyn ByteSensor + Send> { Box::new(Nmea::new(options)) };
                Wiring::Serial { port: nmea.port.clone(), settings: nmea.settings, make: Box::new(make) }
            }
            SensorKind::Encoder(encoder) => {
                let options = encoder.options;
                Wiring::Shaft { wish: encoder.wish.clone(), make: Box::new(move || Box::new(Shaft::new(options))) }
            }
        }
    }

    /// The channels of the sensor.
    pub(super) fn channels(&self) -> Vec<ChannelSpec> {
        match self {
            Wiring::Edges { make, .. } => make().channels().to_vec(),
            Wiring::Can { make, .. } => make().channels().to_vec(),
            Wiring::Serial { make, .. } => make().channels().to_vec(),
            Wiring::Modbus { slave, .. } => modbus::Alone::new(*slave).channels().to_vec(),
            Wiring::Shaft { make, .. } => make().channels().to_vec(),
        }
    }
}

/// The counts of a sensor that are told as channels beside its own.
pub(super) fn counts(sensor: &Sensor) -> &'static [Quantity] {
    use Quantity::{Lost, Rejected, Repaired, Suspected};
    match &sensor.kind {
        SensorKind::Hall(hall) if hall.counters => &[Lost, Suspected, Repaired, Rejected],
        // What the kernel dropped is known to the frame; what the controller threw away is not. None is put back.
        SensorKind::J1939(_) | SensorKind::Obd2(_) | SensorKind::Dbc(_) | SensorKind::CanOpen(_) => {
            &[Lost, Suspected, Rejected]
        }
        _ => &[],
    }
}

/// Whether a sensor is a receiver that is to vouch for UTC.
pub(super) fn tells_time(sensor: &Sensor) -> bool {
    match &sensor.kind {
        SensorKind::Nmea(nmea) => nmea.clock,
        SensorKind::Ubx(ubx) => ubx.clock,
        _ => false,
    }
}

/// The time of a recorded sentence is in the sentence: it has not been on the way.
fn latency(configured: Duration, origin: Origin) -> Duration {
    match origin {
        Origin::Live | Origin::Arrived => configured,
        Origin::Recorded => Duration::ZERO,
    }
}
