//! The workload that figures are made with, here and of other systems: 20 sensors at 10 Hz, stamps with 300 us of jitter.
#![allow(dead_code, unreachable_pub, reason = "each bench uses its own part of this")]

/// Speed sensors.
pub const SENSORS: usize = 20;
/// Samples a second of each.
pub const HZ: usize = 10;
/// Length of the trace.
pub const SECONDS: usize = 600;

/// Time in us and speed in mm/s of each sensor.
pub type Trace = Vec<Vec<(u64, i64)>>;

/// SplitMix64: small, seeded, good enough for noise.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// A drive: targets that change every 25 s or so, bounded acceleration and jerk, wandering acceleration, 5 mm/s of noise.
pub fn made() -> Trace {
    const LEVELS: [f64; 5] = [0.0, 8.33, 13.89, 22.2, 30.5];
    let dt = 1.0 / HZ as f64;
    let keep = (-dt / 1.5f64).exp();
    let stir = 0.3 * (1.0 - keep * keep).sqrt();
    let mut random = Random(1);
    let mut sensor = |number: usize| {
        let (mut v, mut wander, mut a, mut target) = (0.0f64, 0.0, 0.0f64, LEVELS[number % 5]);
        let phase = (number * 1_000_000 / HZ / SENSORS) as f64;
        let mut step = |i: usize| {
            if random.uniform() < dt / 25.0 {
                target = LEVELS[(random.uniform() * 5.0) as usize];
            }
            wander = wander * keep + stir * random.normal();
            let wish = (0.35 * (target - v)).clamp(-2.5, 1.8) + if v > 0.2 { wander } else { 0.0 };
            a += (wish - a).clamp(-4.0 * dt, 4.0 * dt);
            v = (v + a * dt).clamp(0.0, 40.0);
            if target == 0.0 && v < 0.15 {
                v = 0.0;
            }
            if v == 0.0 {
                a = 0.0;
            }
            let noise = 5.0 * random.normal();
            let mm = if v > 0.0 { (v * 1000.0 + noise).round().max(0.0) } else { 0.0 };
            let jitter = (300.0 * random.normal()).clamp(-2000.0, 2000.0);
            let t = i as f64 * dt * 1e6 + phase + jitter + 3_600e6;
            (t.round() as u64, mm as i64)
        };
        (0..SECONDS * HZ).map(&mut step).collect()
    };
    (0..SENSORS).map(&mut sensor).collect()
}

/// One out of a file: a line a sample, `sensor,time in us,mm/s`, each sensor's in order.
pub fn read(path: &str) -> Trace {
    let text = std::fs::read_to_string(path).expect("SPEEDWELL_TRACE is a file");
    let mut trace: Trace = Vec::new();
    for line in text.lines() {
        let mut fields = line.split(',').map(|field| field.parse::<i64>().expect("sensor,us,mm/s"));
        let mut field = || fields.next().expect("three fields");
        let (sensor, t, v) = (field() as usize, field() as u64, field());
        trace.resize(trace.len().max(sensor + 1), Vec::new());
        trace[sensor].push((t, v));
    }
    trace
}
