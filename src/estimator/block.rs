//! Sums over pulses, from which a slope and its scatter come; two blocks' sums add up to those of both.

/// Power sums of time `x` (seconds) and pulse number `y`, both relative to an origin of their own: the subtraction is
/// done in integers, before anything is rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sums {
    pub(super) n: f64,
    x: f64,
    xx: f64,
    xxx: f64,
    xxxx: f64,
    y: f64,
    xy: f64,
    xxy: f64,
    yy: f64,
}

impl Sums {
    pub(super) fn add(&mut self, x: f64, y: f64) {
        let xx = x * x;
        self.n += 1.0;
        self.x += x;
        self.xx += xx;
        self.xxx += xx * x;
        self.xxxx += xx * xx;
        self.y += y;
        self.xy += x * y;
        self.xxy += xx * y;
        self.yy += y * y;
    }

    /// The same pulses as seen from an origin that lies `dx`, `dy` before this one: `x + dx`, `y + dy` in every sum.
    pub(super) fn shifted(&self, dx: f64, dy: f64) -> Sums {
        let (dx2, n) = (dx * dx, self.n);
        let x_y = self.xy + dx * self.y;
        let xx_y = self.xxy + 2.0 * dx * self.xy + dx2 * self.y;
        let x = self.x + n * dx;
        let xx = self.xx + 2.0 * dx * self.x + n * dx2;
        Sums {
            n,
            x,
            xx,
            xxx: self.xxx + 3.0 * dx * self.xx + 3.0 * dx2 * self.x + n * dx2 * dx,
            xxxx: self.xxxx + 4.0 * dx * self.xxx + 6.0 * dx2 * self.xx + 4.0 * dx2 * dx * self.x + n * dx2 * dx2,
            y: self.y + n * dy,
            xy: x_y + dy * x,
            xxy: xx_y + dy * xx,
            yy: self.yy + 2.0 * dy * self.y + n * dy * dy,
        }
    }

    pub(super) fn merge(&mut self, other: &Sums) {
        self.n += other.n;
        self.x += other.x;
        self.xx += other.xx;
        self.xxx += other.xxx;
        self.xxxx += other.xxxx;
        self.y += other.y;
        self.xy += other.xy;
        self.xxy += other.xxy;
        self.yy += other.yy;
    }

    /// The fit; `None` for fewer than two different times.
    pub(super) fn fit(&self) -> Option<Fit> {
        if self.n < 2.0 {
            return None;
        }
        let mean = self.x / self.n;
        let own = self.shifted(-mean, -self.y / self.n);
        let (s2, s3) = (own.xx, own.xxx);
        if s2 <= 0.0 {
            return None;
        }
        let rate = own.xy / s2;
        let line = own.yy - own.xy * own.xy / s2;
        // What of x^2 a line cannot explain: z = x^2 - (S3/S2) x - S2/n. It takes the scatter that is acceleration.
        let szz = own.xxxx - s2 * s2 / own.n - s3 * s3 / s2;
        let szy = own.xxy - s3 / s2 * own.xy;
        let curve = if own.n > 3.0 && szz > 0.0 { szy / szz } else { 0.0 };
        let bent = curve * szy;
        let free = own.n - 3.0;
        Some(Fit {
            // f1 is the rate at t* = mean + S3/(2 S2), exactly, when the rate changes evenly.
            at: mean + s3 / (2.0 * s2),
            rate,
            s2,
            mean,
            height: self.y / self.n,
            skew: s3 / s2,
            curve,
            variance: if free > 0.0 { (line - bent).max(0.0) / free } else { 0.0 },
        })
    }
}

/// A rate of pulses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fit {
    /// When it is true, s after the sums' origin.
    pub(super) at: f64,
    /// Hz.
    pub(super) rate: f64,
    /// Sum of the squared distances in time from the mean, s2.
    pub(super) s2: f64,
    /// Mean time and mean pulse number, from the sums' origin.
    pub(super) mean: f64,
    pub(super) height: f64,
    /// `S3/S2`, s.
    pub(super) skew: f64,
    /// Half the change of the rate, Hz/s; 0 for three pulses or fewer.
    pub(super) curve: f64,
    /// Scatter of the pulses about a parabola, in pulses squared; 0 for three pulses or fewer.
    pub(super) variance: f64,
}

impl Fit {
    /// How far pulse `y` at `x` lies beyond the parabola.
    pub(super) fn residual(&self, n: f64, x: f64, y: f64) -> f64 {
        let x = x - self.mean;
        y - self.height - self.rate * x - self.curve * (x * (x - self.skew) - self.s2 / n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(points: &[(f64, f64)], x0: f64, y0: f64) -> Sums {
        let mut sums = Sums::default();
        for &(x, y) in points {
            sums.add(x - x0, y - y0);
        }
        sums
    }

    /// The same fit the slow way: a mean, deviations from it, and the normal equations of a parabola by elimination.
    fn slow_fit(points: &[(f64, f64)]) -> (f64, f64, f64) {
        let n = points.len() as f64;
        let (mx, my) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
        let of = |f: &dyn Fn(f64, f64) -> f64| points.iter().map(|p| f(p.0 - mx, p.1 - my)).sum::<f64>();
        let (s2, s3, s4) = (of(&|x, _| x * x), of(&|x, _| x * x * x), of(&|x, _| x * x * x * x));
        let (sxy, sxxy) = (of(&|x, y| x * y), of(&|x, y| x * x * y));
        // a n + c s2 = 0; b s2 + c s3 = sxy; a s2 + b s3 + c s4 = sxxy
        let c = (sxxy - s3 * sxy / s2) / (s4 - s3 * s3 / s2 - s2 * s2 / n);
        let (a, b) = (-c * s2 / n, (sxy - c * s3) / s2);
        let sse = of(&|x, y| (y - a - b * x - c * x * x).powi(2));
        (mx + s3 / (2.0 * s2), sxy / s2, sse / (n - 3.0))
    }

    #[test]
    fn blocks_put_together_fit_like_all_points_at_once() {
        let mut rng = fastrand::Rng::with_seed(1);
        let points: Vec<(f64, f64)> = (0..200)
            .map(|k| {
                let x = 0.0005 * f64::from(k) + 1e-5 * rng.f64();
                (x, 2000.0 * x + 3000.0 * x * x + 0.01 * rng.f64())
            })
            .collect();
        let mut merged = Sums::default();
        for part in points.chunks(17) {
            let (x0, y0) = part[0];
            merged.merge(&sums(part, x0, y0).shifted(x0 - 0.05, y0 - 100.0));
        }
        let fit = merged.fit().unwrap();
        let (at, rate, variance) = slow_fit(&points);
        assert!((fit.at + 0.05 - at).abs() < 1e-12, "{} {at}", fit.at);
        assert!((fit.rate / rate - 1.0).abs() < 1e-12, "{} {rate}", fit.rate);
        assert!((fit.variance / variance - 1.0).abs() < 1e-6, "{} {variance}", fit.variance);
    }

    #[test]
    fn the_slope_is_the_rate_at_its_own_time_however_hard_it_accelerates() {
        // y = 100 x + 400 x^2, at even phases: the pulses crowd at the fast end.
        let points: Vec<(f64, f64)> =
            (0..50).map(|k| ((-100.0 + (10_000.0 + 1600.0 * f64::from(k)).sqrt()) / 800.0, f64::from(k))).collect();
        let fit = sums(&points, 0.0, 0.0).fit().unwrap();
        assert!((fit.rate - (100.0 + 800.0 * fit.at)).abs() < 1e-9, "{fit:?}");
    }

    #[test]
    fn one_point_or_one_time_is_no_rate() {
        assert_eq!(sums(&[(1.0, 1.0)], 0.0, 0.0).fit(), None);
        assert_eq!(sums(&[(1.0, 1.0), (1.0, 2.0)], 1.0, 0.0).fit(), None);
        let fit = sums(&[(1.0, 1.0), (1.5, 2.0)], 1.0, 1.0).fit().unwrap();
        assert_eq!((fit.at, fit.rate, fit.variance), (0.25, 2.0, 0.0));
    }
}
