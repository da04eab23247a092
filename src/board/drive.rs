//! The drive of the simulated vehicle: its true speed and way at any time, exactly.
//!
//! A drive is a row of stretches, each from one speed to the next along `v0 + (v1 - v0)·(3u² - 2u³)`, `u` from 0 to 1 over
//! the stretch: acceleration is continuous, and the way is a polynomial, so any time's speed and any way's time come out
//! exactly. The row repeats; its first speed is its last.

/// Stretches of a drive: some ten minutes before it repeats.
const STRETCHES: usize = 64;

/// Speed at the start and end of the row, m/s: the vehicle is moving when the simulation starts.
const START_SPEED: f64 = 8.0;

/// Comfortable mean acceleration and braking, m/s²; the peak is 1.5 times the mean.
const MEAN_ACCELERATION: f64 = 1.2;

/// Fastest cruise, m/s: 90 km/h.
const CRUISE_MAX: f64 = 25.0;

/// Every so many stretches the vehicle stops.
const STOP_EVERY: usize = 10;

#[derive(Clone, Copy, Debug)]
struct Stretch {
    start_s: f64,
    way_m: f64,
    duration_s: f64,
    from: f64,
    to: f64,
}

impl Stretch {
    fn speed(&self, t: f64) -> f64 {
        let u = ((t - self.start_s) / self.duration_s).clamp(0.0, 1.0);
        self.from + (self.to - self.from) * u * u * (3.0 - 2.0 * u)
    }

    /// Way since the start of the row: the integral of the speed, T·(v0·u + Δv·(u³ - u⁴/2)).
    fn way(&self, t: f64) -> f64 {
        let u = ((t - self.start_s) / self.duration_s).clamp(0.0, 1.0);
        self.way_m + self.duration_s * (self.from * u + (self.to - self.from) * u * u * u * (1.0 - u / 2.0))
    }
}

/// A drive that repeats; the same seed gives the same drive.
#[derive(Clone, Debug)]
pub struct Drive {
    stretches: Vec<Stretch>,
    duration_s: f64,
    way_m: f64,
}

impl Drive {
    /// The drive of this seed.
    pub fn new(seed: u64) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut drive = Self { stretches: Vec::with_capacity(STRETCHES), duration_s: 0.0, way_m: 0.0 };
        let mut speed = START_SPEED;
        for i in 1..STRETCHES {
            let target = match i % STOP_EVERY {
                0 => 0.0,
                // Stands for a while after the stop: the stretch from 0 to 0.
                1 if i > 1 => 0.0,
                _ => 4.0 + dice.f64() * (CRUISE_MAX - 4.0),
            };
            if speed > 0.0 && target > 0.0 && dice.bool() {
                drive.push(speed, speed, 3.0 + 9.0 * dice.f64());
            }
            let change = f64::abs(target - speed) / (MEAN_ACCELERATION * (0.6 + 0.6 * dice.f64()));
            drive.push(speed, target, if target == speed { 4.0 } else { change.max(2.0) });
            speed = target;
        }
        drive.push(speed, START_SPEED, 8.0);
        drive
    }

    fn push(&mut self, from: f64, to: f64, duration_s: f64) {
        let stretch = Stretch { start_s: self.duration_s, way_m: self.way_m, duration_s, from, to };
        self.duration_s += duration_s;
        self.way_m = stretch.way(self.duration_s);
        self.stretches.push(stretch);
    }

    /// How long until it repeats.
    pub fn duration_s(&self) -> f64 {
        self.duration_s
    }

    /// True speed at `t` seconds after the start, m/s.
    pub fn speed(&self, t: f64) -> f64 {
        let t = t.max(0.0) % self.duration_s;
        self.at_time(t).speed(t)
    }

    /// Way since the start, m; never falls.
    pub fn way(&self, t: f64) -> f64 {
        let rounds = (t.max(0.0) / self.duration_s).floor();
        let t = t.max(0.0) - rounds * self.duration_s;
        rounds * self.way_m + self.at_time(t).way(t)
    }

    /// The time at which the way has become `way` m: the inverse of [`Drive::way`], to a nanosecond.
    pub fn time_of_way(&self, way: f64) -> f64 {
        let rounds = (way.max(0.0) / self.way_m).floor();
        let rest = way.max(0.0) - rounds * self.way_m;
        let index = self.stretches.partition_point(|s| s.way_m <= rest).max(1) - 1;
        let stretch = &self.stretches[index];
        let (mut low, mut high) = (stretch.start_s, stretch.start_s + stretch.duration_s);
        // The way never falls, so halving finds it: 40 halvings of at most 60 s are below a nanosecond.
        for _ in 0..40 {
            let middle = (low + high) / 2.0;
            if stretch.way(middle) < rest {
                low = middle;
            } else {
                high = middle;
            }
        }
        rounds * self.duration_s + high
    }

    fn at_time(&self, t: f64) -> &Stretch {
        let index = self.stretches.partition_point(|s| s.start_s <= t).max(1) - 1;
        &self.stretches[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_is_smooth_never_negative_and_moving_from_the_start() {
        let drive = Drive::new(7);
        assert!(drive.speed(0.0) > 5.0 && drive.speed(0.2) > 5.0);
        let step = 0.01;
        let mut last = drive.speed(0.0);
        for i in 1..(2.0 * drive.duration_s() / step) as u64 {
            let speed = drive.speed(i as f64 * step);
            assert!((0.0..=CRUISE_MAX + 1e-9).contains(&speed), "{speed} m/s");
            assert!((speed - last).abs() / step < 4.5, "{} m/s² at {} s", (speed - last) / step, i as f64 * step);
            last = speed;
        }
    }

    #[test]
    fn the_vehicle_stands_now_and_then() {
        let drive = Drive::new(7);
        let standing = (0..(drive.duration_s() * 10.0) as u64).filter(|&i| drive.speed(i as f64 / 10.0) == 0.0).count();
        assert!(standing > 40, "stands {} s of {} s", standing as f64 / 10.0, drive.duration_s());
    }

    #[test]
    fn the_way_is_the_integral_of_the_speed_and_its_inverse_finds_the_time() {
        let drive = Drive::new(3);
        let (mut sum, step) = (0.0, 0.001);
        let until = drive.duration_s() + 100.0;
        for i in 0..(until / step) as u64 {
            sum += drive.speed((i as f64 + 0.5) * step) * step;
        }
        assert!((sum - drive.way(until)).abs() < 0.05, "{sum} m, {} m", drive.way(until));
        for i in 1..200 {
            let way = drive.way(until) * f64::from(i) / 200.0;
            assert!((drive.way(drive.time_of_way(way)) - way).abs() < 1e-6);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_drive() {
        assert_eq!(Drive::new(5).way(500.0), Drive::new(5).way(500.0));
        assert_ne!(Drive::new(5).way(500.0), Drive::new(6).way(500.0));
    }
}
