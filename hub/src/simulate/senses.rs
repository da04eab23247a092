//! What three sensors say of a vehicle, with the errors they state. Pure.
//!
//! Every value is the truth and a normal error of the standard uncertainty that is told with it, so that whoever checks
//! the uncertainties finds them right. Sensors fall silent for a while: a receiver in a tunnel, a bus that is off, a broken
//! cable. A sensor that is silent gives no samples, and live the reason.

use std::f64::consts::TAU;

use fastrand::Rng;
use speedwell_wire::{
    Channel, EventKind, Manifest, NoData, Quality, Quantity,
    block::{Column, Sample, Uncertainty},
    message::SensorHealth,
};

use super::road::Truth;

/// Names of the sensors, and what is wrong when they are silent.
const SENSORS: [(&str, NoData, &str); 3] = [
    ("front-wheel", NoData::Fault, "no pulses while others see motion: check the cable"),
    ("ecu-speed", NoData::NotAvailable, "the control unit says that it has no value"),
    ("gnss", NoData::NoFix, "no fix: tunnel or covered antenna"),
];
/// Seconds between two silences of each sensor, on the average.
const BETWEEN_S: [f64; 3] = [3_600.0, 1_200.0, 420.0];
/// A satellite receiver's rate, at most.
const GNSS_HZ: u32 = 5;

const WHEEL: u16 = 1;
const ODOMETER: u16 = 2;
const ECU: u16 = 3;
const GNSS: u16 = 4;
const LATITUDE: u16 = 5;
const LONGITUDE: u16 = 6;
const COURSE: u16 = 7;
const ALTITUDE: u16 = 8;
/// Channels, numbered from 1.
const CHANNELS: usize = 8;

/// The newest of a channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Newest {
    /// Boot time, ns.
    pub(super) t_ns: u64,
    /// In the unit of the quantity.
    pub(super) value: f64,
    /// One standard uncertainty.
    pub(super) uncertainty: f64,
    /// How far it can be trusted.
    pub(super) quality: Quality,
}

#[derive(Clone, Copy, Debug)]
struct Sensor {
    /// Seconds until it changes between well and silent.
    left_s: f64,
    silent: bool,
    inputs: u64,
    lost: u64,
}

/// A change of a sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Its name.
    pub(super) sensor: &'static str,
    /// Fault or recovered.
    pub(super) kind: EventKind,
    /// In words.
    pub(super) detail: &'static str,
}

/// The sensors of a vehicle.
#[derive(Debug)]
pub(super) struct Senses {
    rng: Rng,
    hz: u32,
    sensors: [Sensor; 3],
    newest: [Option<Newest>; CHANNELS],
    columns: Vec<Column>,
    manifest: Manifest,
}

/// The channels of every simulated gateway.
pub(super) fn manifest(hz: u32) -> Manifest {
    let (fast, slow, second) = (1_000_000_000 / u64::from(hz.max(1)), gnss_hz(hz), 1_000_000_000);
    let slow = 1_000_000_000 / u64::from(slow);
    let channel = |id, sensor: usize, quantity, resolution_nano, period_ns| {
        let (sensor, tick_ns, calibration) = (SENSORS[sensor].0.to_owned(), 100_000, u32::from(sensor == 0));
        Channel { id, sensor, quantity, resolution_nano, tick_ns, period_ns, calibration }
    };
    Manifest {
        channels: vec![
            channel(WHEEL, 0, Quantity::Speed, 1_000_000, fast),
            channel(ODOMETER, 0, Quantity::Distance, 100_000_000, second),
            // SAE J1939-71 SPN 84: 1/256 km/h a bit.
            channel(ECU, 1, Quantity::Speed, 1_085_069, fast),
            channel(GNSS, 2, Quantity::Speed, 10_000_000, slow),
            channel(LATITUDE, 2, Quantity::Latitude, 100, slow),
            channel(LONGITUDE, 2, Quantity::Longitude, 100, slow),
            channel(COURSE, 2, Quantity::Course, 100_000_000, slow),
            channel(ALTITUDE, 2, Quantity::Altitude, 100_000_000, slow),
        ],
    }
}

fn gnss_hz(hz: u32) -> u32 {
    hz.clamp(1, GNSS_HZ)
}

impl Senses {
    /// Sensors that are well.
    pub(super) fn new(seed: u64, hz: u32) -> Self {
        let mut rng = Rng::with_seed(seed);
        let sensor = |n: usize| Sensor { left_s: rests(&mut rng, BETWEEN_S[n]), silent: false, inputs: 0, lost: 0 };
        let sensors = [0, 1, 2].map(sensor);
        let columns = (1..=CHANNELS as u16).map(|channel| Column { channel, samples: Vec::new() }).collect();
        Self { rng, hz, sensors, newest: [None; CHANNELS], columns, manifest: manifest(hz) }
    }

    /// A second begins: sensors fall silent or come back.
    pub(super) fn change(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (n, sensor) in self.sensors.iter_mut().enumerate() {
            sensor.left_s -= 1.0;
            if sensor.left_s > 0.0 {
                continue;
            }
            sensor.silent = !sensor.silent;
            let (name, _, why) = SENSORS[n];
            sensor.left_s =
                if sensor.silent { self.rng.f64() * 40.0 + 5.0 } else { rests(&mut self.rng, BETWEEN_S[n]) };
            changes.push(match sensor.silent {
                true => Change { sensor: name, kind: EventKind::SensorFault, detail: why },
                false => Change { sensor: name, kind: EventKind::SensorRecovered, detail: "values again" },
            });
        }
        changes
    }

    /// All sensors look at the vehicle; `tick` of `hz` in this second.
    pub(super) fn look(&mut self, t_ns: u64, tick: u32, truth: &Truth) {
        if !self.sensors[0].silent {
            self.wheel(t_ns, tick, truth);
        }
        if !self.sensors[1].silent {
            self.sensors[1].inputs += 1;
            self.put(ECU, t_ns, truth.speed, 0.03 + 0.002 * truth.speed, Quality::Good);
        }
        let every = self.hz.div_ceil(gnss_hz(self.hz));
        if !self.sensors[2].silent && tick.is_multiple_of(every) {
            self.gnss(t_ns, truth);
        }
    }

    fn wheel(&mut self, t_ns: u64, tick: u32, truth: &Truth) {
        self.sensors[0].inputs += (truth.speed / f64::from(self.hz.max(1)) * 24.0) as u64;
        match truth.rest_s {
            // No pulse for a while may be a crawl: the speed is bounded, not measured.
            rest if rest > 0.0 && rest < 0.8 => self.put(WHEEL, t_ns, 0.0, 0.1, Quality::Estimated),
            rest if rest > 0.0 => self.put(WHEEL, t_ns, 0.0, 0.0, Quality::Stopped),
            _ if self.rng.f64() < 0.002 => {
                self.sensors[0].lost += 1;
                self.put(WHEEL, t_ns, truth.speed, 3.0 * (0.01 + 0.002 * truth.speed), Quality::Degraded);
            }
            _ => self.put(WHEEL, t_ns, truth.speed, 0.01 + 0.002 * truth.speed, Quality::Good),
        }
        if tick == 0 {
            self.put(ODOMETER, t_ns, truth.distance, 0.2, Quality::Good);
        }
    }

    fn gnss(&mut self, t_ns: u64, truth: &Truth) {
        self.sensors[2].inputs += 1;
        // Towards the edge of a tunnel or a street between high houses it is worse.
        let worse = if self.sensors[2].left_s < 5.0 { 3.0 } else { 1.0 };
        let quality = if worse > 1.0 { Quality::Degraded } else { Quality::Good };
        let metres = 2.5 * worse;
        self.put(GNSS, t_ns, truth.speed, 0.08 * worse, quality);
        self.put(LATITUDE, t_ns, truth.latitude, metres / 111_195.0, quality);
        let along = 111_195.0 * truth.latitude.to_radians().cos();
        self.put(LONGITUDE, t_ns, truth.longitude, metres / along, quality);
        self.put(ALTITUDE, t_ns, truth.altitude, 2.0 * metres, quality);
        // A receiver that does not move has no course.
        if truth.speed > 1.0 {
            self.put(COURSE, t_ns, truth.course, (60.0 / truth.speed).min(20.0) * worse / 4.0, quality);
        }
    }

    fn put(&mut self, id: u16, t_ns: u64, truth: f64, uncertainty: f64, quality: Quality) {
        let value = match quality {
            Quality::Stopped | Quality::Estimated => truth,
            _ => truth + uncertainty * normal(&mut self.rng),
        };
        let place = usize::from(id - 1);
        let (Some(channel), Some(column)) = (self.manifest.channels.get(place), self.columns.get_mut(place)) else {
            return;
        };
        let value = match channel.quantity {
            Quantity::Course => value.rem_euclid(360.0),
            // None of these sensors knows which way the wheel turns.
            Quantity::Speed | Quantity::Distance => value.max(0.0),
            _ => value,
        };
        let value = channel.quantise(value);
        column.samples.push(Sample {
            tick: channel.tick(t_ns),
            value,
            uncertainty: Uncertainty::of(uncertainty, channel.resolution()),
            quality,
        });
        self.newest[place] = Some(Newest { t_ns, value: channel.value(value), uncertainty, quality });
    }

    /// The columns of the second that is over, emptied after `with` has seen them.
    pub(super) fn second<T>(&mut self, with: impl FnOnce(&[Column], &Manifest) -> T) -> T {
        let seen = with(&self.columns, &self.manifest);
        self.columns.iter_mut().for_each(|column| column.samples.clear());
        seen
    }

    /// The newest of each channel, or why there is none and since when.
    pub(super) fn newest(&self) -> impl Iterator<Item = (u16, Option<Newest>, NoData)> + '_ {
        self.newest.iter().enumerate().map(|(place, newest)| {
            let id = place as u16 + 1;
            let sensor = self.sensor_of(id);
            match self.sensors[sensor].silent {
                true => (id, None, SENSORS[sensor].1),
                false => (id, *newest, NoData::Silent),
            }
        })
    }

    fn sensor_of(&self, id: u16) -> usize {
        match id {
            WHEEL | ODOMETER => 0,
            ECU => 1,
            _ => 2,
        }
    }

    /// The state of each sensor.
    pub(super) fn health(&self) -> Vec<SensorHealth> {
        let one = |(sensor, (name, reason, why)): (&Sensor, (&str, NoData, &str))| SensorHealth {
            name: name.into(),
            trouble: sensor.silent.then_some(reason),
            detail: if sensor.silent { why.into() } else { String::new() },
            inputs: sensor.inputs,
            lost: sensor.lost,
            rejected: 0,
        };
        self.sensors.iter().zip(SENSORS).map(one).collect()
    }
}

/// Seconds to the next of what happens so often on the average.
pub(super) fn rests(rng: &mut Rng, mean_s: f64) -> f64 {
    -mean_s * (1.0 - rng.f64()).ln()
}

/// A normal number of mean 0 and deviation 1, after Box and Muller (1958).
pub(super) fn normal(rng: &mut Rng) -> f64 {
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (TAU * rng.f64()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::road::Vehicle;

    #[test]
    fn stated_uncertainties_are_those_of_the_errors_made() {
        let (mut vehicle, mut senses) = (Vehicle::new(3), Senses::new(3, 10));
        let mut sums = [(0.0, 0u32); CHANNELS];
        for second in 0..3_600u64 {
            senses.change();
            let mut truths = Vec::new();
            for tick in 0..10 {
                vehicle.go(0.1);
                let t_ns = second * 1_000_000_000 + u64::from(tick) * 100_000_000;
                truths.push(vehicle.truth());
                senses.look(t_ns, tick, &vehicle.truth());
            }
            senses.second(|columns, manifest| {
                for (column, sum) in columns.iter().zip(&mut sums) {
                    let channel = manifest.channel(column.channel).unwrap();
                    for sample in &column.samples {
                        let truth = truths[(sample.tick % 10_000 / 1_000) as usize];
                        let truth = match channel.quantity {
                            Quantity::Speed => truth.speed,
                            Quantity::Distance => truth.distance,
                            Quantity::Latitude => truth.latitude,
                            Quantity::Longitude => truth.longitude,
                            Quantity::Course => truth.course,
                            _ => truth.altitude,
                        };
                        let u = sample.uncertainty.in_unit(channel.resolution()).unwrap();
                        // What is bounded or confirmed to be zero has no error to speak of, nor a speed cut off at 0.
                        if matches!(sample.quality, Quality::Stopped | Quality::Estimated) || truth.abs() < 1.0 {
                            continue;
                        }
                        let off = channel.value(sample.value) - truth;
                        let off = if channel.quantity == Quantity::Course {
                            (off + 180.0).rem_euclid(360.0) - 180.0
                        } else {
                            off
                        };
                        *sum = (sum.0 + (off / u).powi(2), sum.1 + 1);
                    }
                }
            });
        }
        for (n, (sum, count)) in sums.into_iter().enumerate() {
            let ratio = (sum / f64::from(count)).sqrt();
            // The code of an uncertainty is within 9 % of it.
            assert!(count > 1_000 && (0.88..1.12).contains(&ratio), "channel {}: {ratio} of {count}", n + 1);
        }
    }
}
