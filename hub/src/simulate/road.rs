//! A closed road and a vehicle on it. Pure.
//!
//! The road is a polygon of legs, each with a limit and a stop or a bend at its end. The vehicle holds to
//!
//! ```text
//! v <= limit      v <= -b dt + sqrt((b dt)^2 + 2 b d + v_end^2)      d: what is left of the leg, b: comfortable braking
//! ```
//! which is the safe speed of Gipps (1981) for a driver who looks each dt, so it slows down in time for a bend and comes to rest where it has to. Speed, distance and position are of one motion:
//! what the sensors say of it agrees but for their errors.

use fastrand::Rng;

/// Legs of a road.
const LEGS: usize = 24;
/// Braking that nobody complains about, m/s².
const BRAKING: f64 = 1.8;
/// Starting from rest, m/s²; it falls with speed, as an engine's does.
const STARTING: f64 = 1.3;
/// Speed at which nothing of it is left, m/s.
const TOP: f64 = 38.0;
/// Integration step, s.
const STEP: f64 = 0.05;
/// Metres a degree of latitude: a sphere of the earth's mean radius.
const METRES_A_DEGREE: f64 = 111_195.0;

/// Towns to drive around: latitude, longitude, metres above the sea.
const TOWNS: [(f64, f64, f64); 6] = [
    (41.0151, 28.9795, 40.0),
    (48.1372, 11.5756, 519.0),
    (51.5074, -0.1278, 11.0),
    (-33.8688, 151.2093, 58.0),
    (35.6762, 139.6503, 40.0),
    (59.3293, 18.0686, 28.0),
];

/// What the vehicle does at this instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Truth {
    /// m/s
    pub(super) speed: f64,
    /// m since the beginning
    pub(super) distance: f64,
    /// degrees
    pub(super) latitude: f64,
    /// degrees
    pub(super) longitude: f64,
    /// degrees clockwise from north
    pub(super) course: f64,
    /// m above the sea
    pub(super) altitude: f64,
    /// Seconds that it has been at rest; 0 while it moves.
    pub(super) rest_s: f64,
}

#[derive(Clone, Debug)]
struct Leg {
    /// m east and north of the town
    from: (f64, f64),
    length: f64,
    /// Of its direction, east and north.
    direction: (f64, f64),
    limit: f64,
    /// Speed at its end; 0 is a stop.
    end: f64,
    /// Seconds at rest there, at least and at most.
    rest: (f64, f64),
}

/// A vehicle on its road.
#[derive(Clone, Debug)]
pub(super) struct Vehicle {
    town: (f64, f64, f64),
    legs: Vec<Leg>,
    leg: usize,
    along: f64,
    speed: f64,
    distance: f64,
    rest_s: f64,
    waits_s: f64,
    rng: Rng,
}

impl Vehicle {
    /// One of many: the same seed drives the same.
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let town = TOWNS[rng.usize(..TOWNS.len())];
        let radius = 2_000.0 + 4_000.0 * rng.f64();
        let corner = |rng: &mut Rng, n: usize| {
            let angle = (n as f64 + 0.6 * (rng.f64() - 0.5)) / LEGS as f64 * std::f64::consts::TAU;
            let r = radius * (0.75 + 0.5 * rng.f64());
            (r * angle.sin(), r * angle.cos())
        };
        let corners: Vec<_> = (0..LEGS).map(|n| corner(&mut rng, n)).collect();
        let mut legs: Vec<Leg> = (0..LEGS).map(|n| leg(&mut rng, corners[n], corners[(n + 1) % LEGS])).collect();
        for n in 0..LEGS {
            let next = legs[(n + 1) % LEGS].clone();
            let (a, b) = (legs[n].direction, next.direction);
            // cos of the bend: 1 is straight on. A sharp one is taken at 3 m/s, a slight one near the limit.
            let straight = ((a.0 * b.0 + a.1 * b.1).clamp(-1.0, 1.0) + 1.0) / 2.0;
            let bend = 3.0 + 25.0 * straight.powi(4);
            let stops = rng.f64() < 0.35;
            legs[n].end = if stops { 0.0 } else { bend.min(legs[n].limit).min(next.limit) };
            // Most are traffic lights, some a delivery.
            legs[n].rest = if rng.f64() < 0.2 { (60.0, 240.0) } else { (4.0, 30.0) };
        }
        let leg = rng.usize(..LEGS);
        let along = legs[leg].length * 0.5 * rng.f64();
        let waits_s = 5.0 * rng.f64();
        Self { town, legs, leg, along, speed: 0.0, distance: 0.0, rest_s: 60.0, waits_s, rng }
    }

    /// Goes on for so many seconds.
    pub(super) fn go(&mut self, seconds: f64) {
        let steps = (seconds / STEP).ceil().max(1.0);
        for _ in 0..steps as u32 {
            self.step(seconds / steps);
        }
    }

    fn step(&mut self, dt: f64) {
        if self.waits_s > 0.0 {
            self.waits_s -= dt;
            self.rest_s += dt;
            return;
        }
        let leg = &self.legs[self.leg];
        let left = leg.length - self.along;
        let allowed = leg.limit.min(safe(left.max(0.0), leg.end, dt));
        let faster = self.speed + STARTING * (1.0 - self.speed / TOP).max(0.0) * dt;
        let before = self.speed;
        self.speed = faster.min(allowed).max(0.0);
        let moved = (before + self.speed) / 2.0 * dt;
        self.along += moved;
        self.distance += moved;
        self.rest_s = if self.speed > 0.0 { 0.0 } else { self.rest_s + dt };
        if self.along >= leg.length || (leg.end == 0.0 && left - moved < 0.005) {
            self.arrive();
        }
    }

    fn arrive(&mut self) {
        let Leg { length, end, rest: (least, most), .. } = self.legs[self.leg];
        if end == 0.0 {
            self.speed = 0.0;
            self.waits_s = least + (most - least) * self.rng.f64();
        }
        self.along = (self.along - length).max(0.0);
        self.leg = (self.leg + 1) % LEGS;
    }

    /// Where and how fast it is.
    pub(super) fn truth(&self) -> Truth {
        let leg = &self.legs[self.leg];
        let (east, north) = (leg.direction.0 * self.along, leg.direction.1 * self.along);
        let (east, north) = (leg.from.0 + east, leg.from.1 + north);
        let (latitude, longitude, height) = self.town;
        Truth {
            speed: self.speed,
            distance: self.distance,
            latitude: latitude + north / METRES_A_DEGREE,
            longitude: longitude + east / (METRES_A_DEGREE * latitude.to_radians().cos()),
            course: leg.direction.0.atan2(leg.direction.1).to_degrees().rem_euclid(360.0),
            // Gentle hills, the same each time round.
            altitude: height + 12.0 * (east / 900.0).sin() + 8.0 * (north / 1_300.0).cos(),
            rest_s: self.rest_s,
        }
    }
}

/// The fastest from which braking brings it to `end` in what is left.
fn safe(left: f64, end: f64, dt: f64) -> f64 {
    let b = BRAKING * dt;
    -b + (b * b + 2.0 * BRAKING * left + end * end).sqrt()
}

fn leg(rng: &mut Rng, from: (f64, f64), to: (f64, f64)) -> Leg {
    let (east, north) = (to.0 - from.0, to.1 - from.1);
    let length = east.hypot(north).max(1.0);
    let limit = [30.0, 50.0, 50.0, 70.0, 80.0, 100.0][rng.usize(..6)] / 3.6;
    Leg { from, length, direction: (east / length, north / length), limit, end: 0.0, rest: (0.0, 0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vehicle_moves_as_mass_does_and_its_position_goes_with_its_distance() {
        for seed in 0..20 {
            let mut vehicle = Vehicle::new(seed);
            let (mut stops, mut top, mut before) = (0, 0.0f64, vehicle.truth());
            for _ in 0..36_000 {
                vehicle.go(0.1);
                let now = vehicle.truth();
                let change = (now.speed - before.speed) / 0.1;
                assert!((-2.0 * BRAKING..=1.4).contains(&change), "{change} m/s² at {now:?}, seed {seed}");
                let north = (now.latitude - before.latitude) * METRES_A_DEGREE;
                let east = (now.longitude - before.longitude) * METRES_A_DEGREE * vehicle.town.0.to_radians().cos();
                let (moved, told) = (east.hypot(north), now.distance - before.distance);
                assert!(moved <= told + 0.006, "it jumped {moved} m while the wheel turned {told}");
                assert!((told - (now.speed + before.speed) / 20.0).abs() < 0.05);
                stops += usize::from(now.speed == 0.0 && before.speed > 0.0);
                top = top.max(now.speed);
                before = now;
            }
            assert!(stops >= 3 && top > 8.0 && top < 28.0, "an hour with {stops} stops and {top} m/s at most");
        }
    }

    #[test]
    fn the_same_seed_drives_the_same_and_another_does_not() {
        let after = |seed| {
            let mut vehicle = Vehicle::new(seed);
            vehicle.go(600.0);
            vehicle.truth()
        };
        assert_eq!(after(7), after(7));
        assert_ne!(after(7), after(8));
    }
}
