//! A drive whose every moment is known in closed form: pieces of constant acceleration and of swinging speed, one after
//! the other without a jump in speed.
//!
//! The time at which a place is reached is solved for, never stepped to, so that the truth carries no error of its own.

use std::f64::consts::TAU;

/// How the speed goes in a piece; `s` is the time since its start.
#[derive(Clone, Copy, Debug)]
enum Motion {
    /// `v = v0 + a s`; the speed keeps its sign.
    Even { v0: f64, a: f64 },
    /// `v = v0 + A sin(2 pi f s)`, A below v0.
    Swing { v0: f64, amplitude: f64, hz: f64 },
}

impl Motion {
    fn speed(&self, s: f64) -> f64 {
        match *self {
            Motion::Even { v0, a } => v0 + a * s,
            Motion::Swing { v0, amplitude, hz } => v0 + amplitude * (TAU * hz * s).sin(),
        }
    }

    fn way(&self, s: f64) -> f64 {
        match *self {
            Motion::Even { v0, a } => v0 * s + 0.5 * a * s * s,
            // x = v0 s + A (1 - cos w s) / w
            Motion::Swing { v0, amplitude, hz } => v0 * s + amplitude * (1.0 - (TAU * hz * s).cos()) / (TAU * hz),
        }
    }

    /// When `way` has been gone; `near` is a guess.
    fn time_of(&self, way: f64, near: f64) -> f64 {
        match *self {
            // s = 2 x / (v0 + sqrt(v0^2 + 2 a x)), which loses no digits when a is small; signs as in forward motion.
            Motion::Even { v0, a } => {
                let sign = if v0 < 0.0 || (v0 == 0.0 && a < 0.0) { -1.0 } else { 1.0 };
                let (v0, a, way) = (sign * v0, sign * a, sign * way);
                2.0 * way / (v0 + (v0 * v0 + 2.0 * a * way).max(0.0).sqrt())
            }
            // Newton: the speed is well above 0 and changes little in a pitch, so that each step doubles the digits.
            Motion::Swing { .. } => {
                let mut s = near;
                for _ in 0..20 {
                    let step = (self.way(s) - way) / self.speed(s);
                    s -= step;
                    if step.abs() < 1e-13 {
                        break;
                    }
                }
                s
            }
        }
    }
}

/// A piece of the drive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    /// When it starts and ends, s.
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// Where it starts and ends, m.
    start: f64,
    end: f64,
    motion: Motion,
}

/// A drive; starts at time 0 and place 0.
#[derive(Clone, Debug)]
pub(crate) struct Road {
    pieces: Vec<Piece>,
    speed: f64,
}

impl Road {
    /// Starts with a speed, m/s.
    pub(crate) fn at(speed: f64) -> Self {
        Self { pieces: Vec::new(), speed }
    }

    /// The length so far, s.
    pub(crate) fn length(&self) -> f64 {
        self.pieces.last().map_or(0.0, |piece| piece.to)
    }

    fn push(mut self, motion: Motion, seconds: f64) -> Self {
        let (from, start) = self.pieces.last().map_or((0.0, 0.0), |piece| (piece.to, piece.end));
        self.speed = motion.speed(seconds);
        self.pieces.push(Piece { from, to: from + seconds, start, end: start + motion.way(seconds), motion });
        self
    }

    /// Keeps its speed.
    pub(crate) fn keep(self, seconds: f64) -> Self {
        let v0 = self.speed;
        self.push(Motion::Even { v0, a: 0.0 }, seconds)
    }

    /// Changes to `speed` at `rate` m/s2, whichever sign; through a standstill in two pieces, each one way.
    pub(crate) fn change_to(self, speed: f64, rate: f64) -> Self {
        if self.speed * speed < 0.0 {
            return self.change_to(0.0, rate).change_to(speed, rate);
        }
        let (v0, change) = (self.speed, speed - self.speed);
        if change == 0.0 {
            return self;
        }
        let mut next = self.push(Motion::Even { v0, a: rate.copysign(change) }, change.abs() / rate);
        // What rounding left of the last metre a second.
        next.speed = speed;
        next
    }

    /// Swings about its speed.
    pub(crate) fn swing(self, amplitude: f64, hz: f64, seconds: f64) -> Self {
        let v0 = self.speed;
        self.push(Motion::Swing { v0, amplitude, hz }, seconds)
    }

    /// The piece of time `t`; the first before the start, the last after the end.
    pub(crate) fn piece(&self, t: f64) -> &Piece {
        let at = self.pieces.partition_point(|piece| piece.to < t);
        &self.pieces[at.min(self.pieces.len() - 1)]
    }

    /// True speed at `t`, m/s; backwards is negative.
    pub(crate) fn speed(&self, t: f64) -> f64 {
        let piece = self.piece(t);
        piece.motion.speed(t - piece.from)
    }

    /// Every passing of a mark, in order of time: `(k, t)`, backwards too. Mark `k` is at `mark(k)` metres, which grows
    /// with k and is within a `pitch` of `k * pitch`.
    pub(crate) fn passings(&self, pitch: f64, mark: impl Fn(i64) -> f64) -> Vec<(i64, f64)> {
        let mut passings = Vec::new();
        for piece in &self.pieces {
            let (low, high) = (piece.start.min(piece.end), piece.start.max(piece.end));
            let (first, last) = ((low / pitch).floor() as i64 - 2, (high / pitch).ceil() as i64 + 2);
            let mut near = 0.0;
            let mut pass = |k: i64| {
                let place = mark(k);
                if place > low && place <= high {
                    near = piece.motion.time_of(place - piece.start, near);
                    passings.push((k, piece.from + near));
                }
            };
            if piece.end >= piece.start {
                (first..=last).for_each(&mut pass);
            } else {
                (first..=last).rev().for_each(&mut pass);
            }
        }
        passings
    }
}
