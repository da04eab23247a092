//! A simulated vehicle behind the doors of a board: a hall wheel, a CAN bus and a GNSS, all of one true speed.
//!
//! In      nothing but the time.
//! Out     edges, CCVS1 frames at 10 Hz and RMC sentences, in real time, with the boot time they came at.
//! Keeps   a [`Drive`] and when it began; every pin, interface and port of one [`Vehicle`] agrees with the others.
//!
//! Any pin of a simulated board is the wheel sensor, any chip on a bus an encoder on that wheel; the CAN interfaces and serial ports its file lists are there, and
//! besides them `sim0` and `sim:gnss`. A sensor that names another is told so, as on a real board.

use std::{sync::Arc, thread, time::Duration};

use embedded_can::Frame as _;

use super::{CanFilter, ShaftPort, ShaftWish, drive::Drive, gpio::EdgeSelect, i2c_spi};
use crate::{
    clock::{BootNs, Clock, SystemClock},
    sensor::{
        Edge, EdgeCapture, EdgeKind, Frame, StampSource, TimedFrame,
        frame::id_of,
        shaft::{Health, Look},
    },
};

/// A CAN interface that every simulated board has.
pub const CAN_INTERFACE: &str = "sim0";

/// A serial port that every simulated board has.
pub const SERIAL_PORT: &str = "sim:gnss";

/// Seed of the drive unless told otherwise; any number would do.
pub const SEED: u64 = 2026;

/// Edges that a stalled reader finds at most: the size of the kernel's buffer. Older ones are lost, as in the kernel.
const BACKLOG_EDGES: u64 = super::gpio::KERNEL_BUFFER_EVENTS as u64;

/// At high rates edges are handed over in batches of this long: 200 wake-ups a second are enough.
const BATCH: Duration = Duration::from_millis(5);

/// CCVS1 of source address 0: PGN 65265, priority 6.
const CCVS1_ID: u32 = 0x18FE_F100;

/// CCVS1's repetition rate (J1939-71).
const CCVS1_PERIOD_NS: u64 = 100_000_000;

/// Where the vehicle drives: round a circle through a park in Berlin.
const CENTRE: (f64, f64) = (52.5145, 13.3501);

/// Radius of that circle, m.
const RADIUS_M: f64 = 600.0;

/// Metres of a degree of latitude, near enough for a simulation.
const METRES_A_DEGREE: f64 = 111_195.0;

/// From a fix to the first byte of its sentence, as with most receivers.
const LATENCY_NS: u64 = 100_000_000;

/// What goes wrong on purpose, and how exact the sensors are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// Standard deviation of an edge's stamp, s; 5 us is what a kernel stamp on a small board has.
    pub jitter_s: f64,
    /// Share of the edges that never arrive; their sequence number is left out as by a full kernel buffer.
    pub drop: f64,
    /// Share of the edges that come twice, 4 us apart.
    pub duplicate: f64,
}

impl Default for Faults {
    fn default() -> Self {
        Self { jitter_s: 5e-6, drop: 0.0, duplicate: 0.0 }
    }
}

/// The vehicle: its drive and when it began.
#[derive(Debug)]
pub struct Vehicle {
    drive: Drive,
    start: BootNs,
    faults: Faults,
    seed: u64,
}

impl Vehicle {
    /// A vehicle that begins its drive now.
    pub fn new(seed: u64, faults: Faults) -> Arc<Self> {
        Self::starting_at(SystemClock.now(), seed, faults)
    }

    /// A vehicle that began its drive at `start`.
    pub fn starting_at(start: BootNs, seed: u64, faults: Faults) -> Arc<Self> {
        Arc::new(Self { drive: Drive::new(seed), start, faults, seed })
    }

    fn seconds(&self, t: BootNs) -> f64 {
        t.since(self.start).as_secs_f64()
    }

    /// True speed at `t`, m/s.
    pub fn speed(&self, t: BootNs) -> f64 {
        self.drive.speed(self.seconds(t))
    }

    /// True way since the start, m.
    pub fn way(&self, t: BootNs) -> f64 {
        self.drive.way(self.seconds(t))
    }

    /// Where it is: latitude and longitude in degrees, course in degrees from north.
    pub fn position(&self, t: BootNs) -> (f64, f64, f64) {
        let angle = self.way(t) / RADIUS_M;
        let latitude = CENTRE.0 + RADIUS_M * angle.sin() / METRES_A_DEGREE;
        let longitude = CENTRE.1 + RADIUS_M * angle.cos() / (METRES_A_DEGREE * CENTRE.0.to_radians().cos());
        // Counter-clockwise round the circle: east of the centre it goes north.
        let course = (-angle.to_degrees()).rem_euclid(360.0);
        (latitude, longitude, course)
    }

    fn time_of_way(&self, way: f64) -> BootNs {
        self.start + Duration::from_secs_f64(self.drive.time_of_way(way).max(0.0))
    }

    /// A number from 0 to 1 that belongs to edge `index` and `use_`, the same in every run.
    fn dice(&self, index: u64, use_: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (use_ << 56))
    }

    /// Jitter of edge `index`, s: near enough normal, the sum of four even ones.
    fn jitter(&self, index: u64) -> f64 {
        let mut dice = self.dice(index, 1);
        let sum: f64 = (0..4).map(|_| dice.f64() - 0.5).sum();
        sum * 3f64.sqrt() * self.faults.jitter_s
    }
}

/// The wheel's edges, in real time.
#[derive(Debug)]
pub struct SimulatedEdges {
    vehicle: Arc<Vehicle>,
    edges: EdgeSelect,
    /// Two for an encoder: the second line follows the first by a quarter of a period.
    lines: u64,
    /// Edges a metre of all lines: twice the pulses with both, four times with two lines.
    edges_per_metre: f64,
    /// Index of the next edge; its sequence number is one more.
    next: u64,
    next_t: BootNs,
    last_t: BootNs,
}

impl SimulatedEdges {
    /// The wheel of `vehicle` with so many pulses a metre on each of one or two lines, from now on.
    pub fn new(vehicle: Arc<Vehicle>, edges: EdgeSelect, lines: u64, pulses_per_metre: f64) -> Self {
        Self::starting_at(vehicle, edges, lines, pulses_per_metre, SystemClock.now())
    }

    fn starting_at(vehicle: Arc<Vehicle>, edges: EdgeSelect, lines: u64, pulses_per_metre: f64, now: BootNs) -> Self {
        let per_pulse = if edges == EdgeSelect::Both { 2.0 } else { 1.0 };
        let edges_per_metre = (pulses_per_metre * per_pulse * lines as f64).max(1e-6);
        let next = (vehicle.way(now) * edges_per_metre) as u64 + 1;
        let mut wheel = Self { vehicle, edges, lines, edges_per_metre, next, next_t: now, last_t: now };
        wheel.next_t = wheel.time_of(next);
        wheel
    }

    fn time_of(&self, index: u64) -> BootNs {
        let exact = self.vehicle.time_of_way(index as f64 / self.edges_per_metre);
        let jitter_ns = self.vehicle.jitter(index) * 1e9;
        BootNs(exact.0.saturating_add_signed(jitter_ns as i64))
    }

    fn kind(&self, index: u64) -> EdgeKind {
        match self.edges {
            EdgeSelect::Falling => EdgeKind::Falling,
            EdgeSelect::Both if index / self.lines % 2 == 1 => EdgeKind::Falling,
            _ => EdgeKind::Rising,
        }
    }

    /// Appends every edge up to `now`.
    fn take_until(&mut self, now: BootNs, edges: &mut Vec<Edge>) {
        let newest = (self.vehicle.way(now) * self.edges_per_metre) as u64;
        if newest > self.next + BACKLOG_EDGES {
            self.next = newest - BACKLOG_EDGES;
            self.next_t = self.time_of(self.next);
        }
        while self.next_t <= now {
            self.hand_over(edges);
            self.next += 1;
            self.next_t = self.time_of(self.next);
        }
    }

    fn hand_over(&mut self, edges: &mut Vec<Edge>) {
        let faults = self.vehicle.faults;
        if faults.drop > 0.0 && self.vehicle.dice(self.next, 2).f64() < faults.drop {
            return;
        }
        // Jitter never turns two edges round: the kernel keeps their order.
        self.last_t = self.last_t.max(self.next_t);
        let seqno = self.next as u32;
        let line_seqno = (self.next / self.lines) as u32;
        let line = (self.next % self.lines) as usize;
        let edge = Edge { t: self.last_t, line, kind: self.kind(self.next), seqno, line_seqno };
        edges.push(edge);
        if faults.duplicate > 0.0 && self.vehicle.dice(self.next, 3).f64() < faults.duplicate {
            self.last_t = BootNs(self.last_t.0 + 4_000);
            edges.push(Edge { t: self.last_t, ..edge });
        }
    }
}

impl EdgeCapture for SimulatedEdges {
    type Error = super::BoardError;

    fn next_batch(&mut self, timeout: Duration, edges: &mut Vec<Edge>) -> Result<(), Self::Error> {
        let now = SystemClock.now();
        thread::sleep(self.next_t.since(now).max(BATCH).min(timeout));
        self.take_until(SystemClock.now(), edges);
        Ok(())
    }

    fn stamp_source(&self) -> StampSource {
        StampSource::Recorded
    }

    fn trusted_rate_hz(&self) -> Option<f64> {
        None
    }
}

/// An encoder on the vehicle's wheel, in real time.
#[derive(Debug)]
pub struct SimulatedShaft {
    vehicle: Arc<Vehicle>,
    counts_per_metre: f64,
    wrap: u64,
    pace: i2c_spi::Pace,
}

impl SimulatedShaft {
    /// The encoder of `vehicle` that is wished for.
    pub fn new(vehicle: Arc<Vehicle>, wish: &ShaftWish) -> Self {
        let pace = i2c_spi::Pace::new(wish.every);
        Self { vehicle, counts_per_metre: wish.counts_per_metre, wrap: wish.chip.wrap(), pace }
    }
}

impl ShaftPort for SimulatedShaft {
    fn next(&mut self, timeout: Duration) -> Result<Option<Look>, super::BoardError> {
        if !self.pace.wait(timeout) {
            return Ok(None);
        }
        let t = SystemClock.now();
        let count = (self.vehicle.way(t) * self.counts_per_metre) as u64 % self.wrap;
        Ok(Some(Look { from: t, to: t, count: Some(count as u32), health: Some(Health::Good) }))
    }
}

/// The vehicle's CAN bus, in real time: CCVS1 at 10 Hz.
#[derive(Debug)]
pub struct SimulatedCan {
    vehicle: Arc<Vehicle>,
    filters: Vec<CanFilter>,
    next_t: BootNs,
}

impl SimulatedCan {
    /// The bus of `vehicle`.
    pub fn new(vehicle: Arc<Vehicle>, filters: &[CanFilter]) -> Self {
        Self { vehicle, filters: filters.to_vec(), next_t: SystemClock.now() }
    }

    /// Waits at most `timeout` for a frame.
    pub fn next(&mut self, timeout: Duration) -> Option<TimedFrame<Frame>> {
        let now = SystemClock.now();
        if self.next_t.since(now) > timeout {
            thread::sleep(timeout);
            return None;
        }
        thread::sleep(self.next_t.since(now));
        let t = SystemClock.now();
        // A stalled reader finds the newest frame: a bus does not wait.
        self.next_t = BootNs(t.0 / CCVS1_PERIOD_NS * CCVS1_PERIOD_NS + CCVS1_PERIOD_NS);
        let frame = ccvs1(self.vehicle.speed(t));
        CanFilter::any_matches(&self.filters, &frame).then_some(TimedFrame { t, frame })
    }
}

/// CCVS1 with this speed: bytes 2 and 3, 1/256 km/h a bit; all else not available.
pub fn ccvs1(speed: f64) -> Frame {
    let raw = (speed * 3.6 * 256.0).round().clamp(0.0, f64::from(0xFAFF_u16)) as u16;
    let [low, high] = raw.to_le_bytes();
    let id = id_of(CCVS1_ID, true).expect("29 bits");
    Frame::new(id, &[0xFF, low, high, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]).expect("8 bytes")
}

/// The vehicle's GNSS receiver: RMC sentences in real time.
#[derive(Debug)]
pub struct SimulatedGnss {
    vehicle: Arc<Vehicle>,
    period_ns: u64,
    next_t: BootNs,
    /// UTC minus boot time, ns.
    utc_offset_ns: i128,
}

impl SimulatedGnss {
    /// Fixes a second; what 9600 baud carry with ease.
    pub const RATE_HZ: u64 = 5;

    /// The receiver of `vehicle`.
    pub fn new(vehicle: Arc<Vehicle>) -> Self {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = SystemClock.now();
        let utc_offset_ns = since_epoch.as_nanos() as i128 - i128::from(now.0);
        Self { vehicle, period_ns: 1_000_000_000 / Self::RATE_HZ, next_t: now, utc_offset_ns }
    }

    /// When the next sentence comes.
    pub(super) fn due(&self) -> BootNs {
        self.next_t
    }

    /// The sentence that is due, with the time its first byte comes: the receiver's latency after the fix it tells.
    pub(super) fn sentence(&mut self) -> (BootNs, String) {
        let period = i128::from(self.period_ns);
        let now = self.next_t.max(SystemClock.now());
        let fix = BootNs(now.0.saturating_sub(LATENCY_NS));
        let utc = i128::from(fix.0) + self.utc_offset_ns;
        let next_utc = (utc / period + 1) * period;
        self.next_t = BootNs((next_utc - self.utc_offset_ns).max(0) as u64 + LATENCY_NS);
        let (latitude, longitude, course) = self.vehicle.position(fix);
        (now, rmc(utc, latitude, longitude, self.vehicle.speed(fix), course))
    }
}

/// An RMC sentence (NMEA 0183, 4.10): time, status, position, speed in knots, course, date, mode.
pub fn rmc(utc_ns: i128, latitude: f64, longitude: f64, speed: f64, course: f64) -> String {
    let seconds = utc_ns.div_euclid(1_000_000_000);
    let hundredths = utc_ns.rem_euclid(1_000_000_000) / 10_000_000;
    let (year, month, day) = civil(seconds.div_euclid(86_400) as i64);
    let of_day = seconds.rem_euclid(86_400);
    let time = format!("{:02}{:02}{:02}.{hundredths:02}", of_day / 3600, of_day / 60 % 60, of_day % 60);
    let ns = if latitude < 0.0 { 'S' } else { 'N' };
    let ew = if longitude < 0.0 { 'W' } else { 'E' };
    let body = format!(
        "GPRMC,{time},A,{},{ns},{},{ew},{:.3},{course:.1},{day:02}{month:02}{:02},,,A",
        degrees_minutes(latitude, 2),
        degrees_minutes(longitude, 3),
        speed * 3600.0 / 1852.0,
        year.rem_euclid(100),
    );
    let checksum = body.bytes().fold(0, |sum, byte| sum ^ byte);
    format!("${body}*{checksum:02X}\r\n")
}

/// `ddmm.mmmmm`, rounded first so that minutes never read 60.
fn degrees_minutes(degrees: f64, digits: usize) -> String {
    let hundred_thousandths = (degrees.abs() * 60.0 * 1e5).round() as u64;
    let (degrees, minutes) = (hundred_thousandths / 6_000_000, hundred_thousandths % 6_000_000);
    format!("{degrees:0digits$}{:02}.{:05}", minutes / 100_000, minutes % 100_000)
}

/// Year, month and day of a day since 1970-01-01, by counting from a first of March.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Angle of the way round the circle after which the vehicle is back, for tests.
#[cfg(test)]
const ROUND_M: f64 = 2.0 * std::f64::consts::PI * RADIUS_M;

#[cfg(test)]
mod tests {
    use super::*;

    fn vehicle(faults: Faults) -> Arc<Vehicle> {
        Vehicle::starting_at(BootNs(1_000_000_000_000), 11, faults)
    }

    fn at(seconds: f64) -> BootNs {
        BootNs(1_000_000_000_000 + (seconds * 1e9) as u64)
    }

    fn edges(faults: Faults, until: f64) -> Vec<Edge> {
        let mut wheel = SimulatedEdges::starting_at(vehicle(faults), EdgeSelect::Rising, 1, 24.18, at(0.0));
        let mut edges = Vec::new();
        for i in 1..=(until * 100.0) as u64 {
            wheel.take_until(at(i as f64 / 100.0), &mut edges);
        }
        edges
    }

    #[test]
    fn the_edges_count_the_way() {
        let edges = edges(Faults::default(), 60.0);
        let way = edges.len() as f64 / 24.18;
        let truth = vehicle(Faults::default()).way(at(60.0));
        assert!((way - truth).abs() < 0.1, "{way} m of {truth} m");
        assert!(edges.windows(2).all(|pair| pair[0].t <= pair[1].t && pair[1].seqno == pair[0].seqno + 1));
    }

    #[test]
    fn the_first_edge_comes_within_a_fifth_of_a_second() {
        assert!(edges(Faults::default(), 0.2).len() >= 2);
    }

    #[test]
    fn dropped_edges_leave_holes_and_doubled_ones_repeat() {
        let dropped = edges(Faults { drop: 0.1, ..Faults::default() }, 60.0);
        let holes: u32 = dropped.windows(2).map(|pair| pair[1].seqno - pair[0].seqno - 1).sum();
        let share = f64::from(holes) / (dropped.len() as f64 + f64::from(holes));
        assert!((0.05..0.15).contains(&share), "{share}");
        let doubled = edges(Faults { duplicate: 0.1, ..Faults::default() }, 60.0);
        assert!(doubled.windows(2).any(|pair| pair[1].seqno == pair[0].seqno && pair[1].t.0 - pair[0].t.0 == 4_000));
    }

    #[test]
    fn a_stalled_reader_loses_the_oldest_and_the_hole_shows() {
        let mut wheel = SimulatedEdges::starting_at(vehicle(Faults::default()), EdgeSelect::Rising, 1, 2418.0, at(0.0));
        let mut edges = Vec::new();
        wheel.take_until(at(0.1), &mut edges);
        let before = edges.last().unwrap().seqno;
        edges.clear();
        wheel.take_until(at(20.0), &mut edges);
        assert!(edges.len() as u64 <= BACKLOG_EDGES + 2, "{}", edges.len());
        assert!(edges[0].seqno > before + 1);
    }

    #[test]
    fn can_and_gnss_tell_the_true_speed() {
        assert_eq!(ccvs1(60.0 / 3.6).data(), [0xFF, 0x00, 0x3C, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
        let sentence = rmc(1_700_000_000_250_000_000, 52.5, -13.25, 10.0, 90.0);
        assert_eq!(sentence, "$GPRMC,221320.25,A,5230.00000,N,01315.00000,W,19.438,90.0,141123,,,A*43\r\n");
    }

    #[test]
    fn one_way_round_the_circle_ends_where_it_began() {
        let vehicle = vehicle(Faults::default());
        let t = vehicle.time_of_way(ROUND_M);
        let ((a, b, _), (c, d, _)) = (vehicle.position(at(0.0)), vehicle.position(t));
        assert!((a - c).abs() < 1e-6 && (b - d).abs() < 1e-6);
    }
}
