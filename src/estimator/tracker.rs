//! Follows the wheel pulse by pulse: where it stands and how fast it turns now.
//!
//! Three Kalman filters of the same motion run side by side, which differ in how restless they take the wheel to be:
//! cruising, driving, braking hard. Each explains a pulse more or less well, and they are mixed by that (an interacting
//! multiple model filter: Blom and Bar-Shalom, IEEE Trans. Automatic Control 33 (1988), 780).

use super::window::seconds;
use crate::clock::BootNs;

/// White jerk of each model, m2/s5: a motorway, a street, a full brake.
const RESTLESSNESS: [f64; MODELS] = [1e-5, 0.1, 30.0];
const MODELS: usize = 3;
/// How often the wheel goes over from one into another, 1/s.
const SWITCHING: f64 = 0.3;
/// No model is ever out of the question.
const LEAST_WEIGHT: f64 = 1e-6;
/// At the start: a rate from two pulses is within a fifth, and nothing brakes harder than about twice this, m/s2.
const FIRST_RATE: f64 = 0.2;
const FIRST_ACCELERATION: f64 = 5.0;
/// What teeth are off when all is learned, in pitches: the filter must not become surer than the wheel is round.
const ROUND: f64 = 2e-4;
/// An innovation is an outlier beyond so many of its standard deviations.
const OUTLIER: f64 = 5.0;
/// So many outliers in a row are the truth when they agree: a wheel that moves otherwise, or a count that is off, draws
/// off on a line or a slight bend, while stamps that are late are so by chance. So many are it however they lie.
const CONVINCING: usize = 3;
const OVERWHELMING: usize = 6;
/// How far the middle of three may lie off the others' line, as a share of the largest: twice 1/9 is that of 1, 4, 9, the
/// ways gone beside a wheel that began to brake.
const BENT: f64 = 0.25;

/// Phase in pitches since the newest pulse, rate in Hz, its change in Hz/s, and their covariance.
#[derive(Clone, Copy, Debug, Default)]
struct Model {
    x: [f64; 3],
    /// pp, pf, pg, ff, fg, gg.
    cov: [f64; 6],
    weight: f64,
}

/// Where the wheel is and how it moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Motion {
    /// Pitches beyond the place of the newest pulse.
    pub(super) phase: f64,
    /// Hz.
    pub(super) rate: f64,
    /// Hz/s.
    pub(super) change: f64,
    /// Variance of the rate, Hz2.
    pub(super) variance: f64,
}

/// The filters.
#[derive(Debug)]
pub(super) struct Tracker {
    models: [Model; MODELS],
    /// In pitches2/s5.
    restlessness: [f64; MODELS],
    first_change: f64,
    max_change: f64,
    newest: Option<BootNs>,
    /// Pitches by which the newest pulse's tooth lies beyond its place.
    offset: f64,
    running: bool,
    strays: Strays,
}

/// Outliers in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Strays {
    count: usize,
    /// How far the newest lay off, in pitches, the newest last.
    off: [f64; CONVINCING],
}

impl Strays {
    fn push(&mut self, off: f64) {
        self.count += 1;
        self.off.rotate_left(1);
        self.off[CONVINCING - 1] = off;
    }

    fn convince(&self) -> bool {
        let [a, b, c] = self.off;
        let largest = a.abs().max(b.abs()).max(c.abs());
        let agree = (a - 2.0 * b + c).abs() <= BENT * largest;
        self.count >= OVERWHELMING || (self.count >= CONVINCING && agree)
    }
}

/// How a pulse lies beside what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fits {
    /// As expected.
    Well,
    /// So far off that its stamp is at fault: it counts, but nothing is concluded from when it came.
    Stray,
    /// Too many strays in a row: the wheel did something else.
    Anew,
}

impl Tracker {
    /// Of a wheel with pulses `pitch` metres apart that gains at most `max_change` Hz/s.
    pub(super) fn new(pitch: f64, max_change: f64) -> Self {
        Self {
            models: Default::default(),
            restlessness: RESTLESSNESS.map(|q| q / (pitch * pitch)),
            first_change: FIRST_ACCELERATION / pitch,
            max_change,
            newest: None,
            offset: 0.0,
            running: false,
            strays: Strays::default(),
        }
    }

    pub(super) fn forget(&mut self) {
        (self.newest, self.running, self.strays) = (None, false, Strays::default());
    }

    /// Whether the newest pulses came where they should, all but one at most.
    pub(super) fn follows(&self) -> bool {
        self.running && self.strays.count <= 1
    }

    /// Pitches turned at `t` since the newest pulse.
    pub(super) fn phase(&self, t: BootNs) -> Option<f64> {
        let newest = self.newest.filter(|_| self.running)?;
        let dt = seconds(t, newest);
        Some(self.models.iter().map(|Model { x, weight, .. }| weight * (x[0] + dt * (x[1] + 0.5 * dt * x[2]))).sum())
    }

    /// The motion at `t`, which may be a little before the newest pulse; `None` before there were two.
    pub(super) fn at(&self, t: BootNs) -> Option<Motion> {
        let newest = self.newest.filter(|_| self.running)?;
        let dt = seconds(t, newest);
        let mut motion = Motion { phase: 0.0, rate: 0.0, change: 0.0, variance: 0.0 };
        for Model { x, weight, .. } in &self.models {
            motion.phase += weight * (x[0] + dt * (x[1] + 0.5 * dt * x[2]));
            motion.rate += weight * (x[1] + dt * x[2]);
            motion.change += weight * x[2];
        }
        for Model { x, cov, weight } in &self.models {
            let own = cov[3] + dt * (2.0 * cov[4] + dt * cov[5]);
            motion.variance += weight * (own + (x[1] + dt * x[2] - motion.rate).powi(2));
        }
        Some(motion)
    }

    /// Takes a pulse at `t`, `places` after the one before, whose tooth lies `offset` pitches beyond its place; stamps
    /// are `jitter` seconds off.
    pub(super) fn take(&mut self, t: BootNs, places: f64, offset: f64, jitter: f64) -> Fits {
        let Some(before) = self.newest.replace(t) else {
            self.offset = offset;
            return Fits::Well;
        };
        let dt = t.since(before).as_secs_f64();
        let way = places + offset - self.offset;
        self.offset = offset;
        if !self.running {
            self.start(dt, way, offset, jitter);
            return Fits::Well;
        }
        self.mix(dt);
        let (mut phase, mut variance) = (0.0, 0.0);
        for (model, &q) in self.models.iter_mut().zip(&self.restlessness) {
            model.predict(dt, q);
            phase += model.weight * model.x[0];
        }
        for model in &self.models {
            variance += model.weight * (model.innovation(jitter) + (model.x[0] - phase).powi(2));
        }
        let off = places + offset - phase;
        // Beyond chance, and beyond what the hardest brake does in the time.
        if off.abs() > OUTLIER * variance.sqrt() + 0.5 * self.max_change * dt * dt {
            self.strays.push(off);
            if self.strays.convince() {
                self.forget();
                self.newest = Some(t);
                self.start(dt, way, offset, jitter);
                return Fits::Anew;
            }
            self.models.iter_mut().for_each(|model| model.x[0] -= places);
            return Fits::Stray;
        }
        self.strays = Strays::default();
        self.correct(places, offset, jitter);
        Fits::Well
    }

    fn start(&mut self, dt: f64, way: f64, offset: f64, jitter: f64) {
        if dt <= 0.0 {
            return;
        }
        self.running = true;
        let rate = way / dt;
        let phase = 4.0 * (rate * jitter).powi(2) + ROUND * ROUND;
        let cov = [phase, 0.0, 0.0, (FIRST_RATE * rate).powi(2), 0.0, self.first_change.powi(2)];
        self.models = [Model { x: [offset, rate, 0.0], cov, weight: 1.0 / MODELS as f64 }; MODELS];
    }

    /// Each model starts from what all know, by how likely the wheel went over into it.
    fn mix(&mut self, dt: f64) {
        // e^-x for the small x of a fast wheel; between 0 and 1 for any.
        let stay = 1.0 / (1.0 + SWITCHING * dt);
        let go = (1.0 - stay) / (MODELS - 1) as f64;
        let old = self.models;
        for (b, model) in self.models.iter_mut().enumerate() {
            let part = |a: usize| old[a].weight * if a == b { stay } else { go };
            let total: f64 = (0..MODELS).map(part).sum();
            let shares: [f64; MODELS] = std::array::from_fn(|a| part(a) / total);
            let mut mixed = Model { weight: total, ..Model::default() };
            for (share, from) in shares.iter().zip(&old) {
                for (to, x) in mixed.x.iter_mut().zip(&from.x) {
                    *to += share * x;
                }
            }
            for (share, from) in shares.iter().zip(&old) {
                let [p, f, g] = std::array::from_fn(|i| from.x[i] - mixed.x[i]);
                let spread = [p * p, p * f, p * g, f * f, f * g, g * g];
                for ((to, cov), apart) in mixed.cov.iter_mut().zip(&from.cov).zip(spread) {
                    *to += share * (cov + apart);
                }
            }
            *model = mixed;
        }
    }

    fn correct(&mut self, places: f64, offset: f64, jitter: f64) {
        let mut total = 0.0;
        for model in &mut self.models {
            model.weight *= model.correct(places, offset, jitter);
            total += model.weight;
        }
        let mut sum = 0.0;
        for model in &mut self.models {
            model.weight = if total > 0.0 { (model.weight / total).max(LEAST_WEIGHT) } else { 1.0 };
            sum += model.weight;
        }
        self.models.iter_mut().for_each(|model| model.weight /= sum);
    }
}

impl Model {
    /// `x = F x`, `P = F P F' + Q` for constant acceleration and white jerk of density `q`.
    fn predict(&mut self, dt: f64, q: f64) {
        let h = 0.5 * dt * dt;
        let [p, f, g] = self.x;
        self.x = [p + dt * f + h * g, f + dt * g, g];
        let [pp, pf, pg, ff, fg, gg] = self.cov;
        let (pf1, ff1) = (pf + dt * ff + h * fg, ff + dt * fg);
        let (pg1, fg1) = (pg + dt * fg + h * gg, fg + dt * gg);
        let (q1, q2) = (q * dt, q * h);
        self.cov = [
            pp + dt * pf + h * pg + dt * pf1 + h * pg1 + q1 * dt.powi(4) / 20.0,
            pf1 + dt * pg1 + q2 * h * 0.5,
            pg1 + q2 * dt / 3.0,
            ff1 + dt * fg1 + q2 * dt * 2.0 / 3.0,
            fg1 + q2,
            gg + q1,
        ];
    }

    /// Variance of what a pulse may lie off.
    fn innovation(&self, jitter: f64) -> f64 {
        self.cov[0] + (self.x[1] * jitter).powi(2) + ROUND * ROUND
    }

    /// Takes the pulse in; gives how likely it was, but for a factor.
    fn correct(&mut self, places: f64, offset: f64, jitter: f64) -> f64 {
        let s = self.innovation(jitter);
        let off = places + offset - self.x[0];
        let [pp, pf, pg, ff, fg, gg] = self.cov;
        let gain = [pp / s, pf / s, pg / s];
        for (x, k) in self.x.iter_mut().zip(gain) {
            *x += k * off;
        }
        self.x[0] -= places;
        self.cov = [
            pp - gain[0] * pp,
            pf - gain[0] * pf,
            pg - gain[0] * pg,
            ff - gain[1] * pf,
            fg - gain[1] * pg,
            gg - gain[2] * pg,
        ];
        (-0.5 * (off * off / s).min(400.0)).exp() / s.sqrt()
    }
}
