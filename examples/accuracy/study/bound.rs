//! What no method can beat: the Cramer-Rao bound for the very edges a reading was made of.

use super::gear::Passing;

/// Which motion the one who measures must allow for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The speed, known to be constant.
    Speed,
    /// Speed and acceleration, the latter known to be constant.
    Acceleration,
}

/// Lowest standard deviation, m/s, of an unbiased speed at time `at` from `edges` stamped with jitter `sigma`.
///
/// A stamp error e is a phase error f e, so with X = [1, tau, tau^2/2], W = diag(1/(f sigma)^2), tau = t - at:
/// `var v >= d^2 [(X' W X)^-1]_11`; at a constant speed without the last column, which comes to
/// `sigma_v/v >= sigma/P sqrt(12/(n (n^2-1)))` (Kay, Estimation Theory, 1993, ch. 3).
pub(crate) fn bound(
    edges: &[Passing],
    at: f64,
    speed: impl Fn(f64) -> f64,
    pitch: f64,
    sigma: f64,
    unknown: Unknown,
) -> f64 {
    // Time in units of the window keeps the matrix well scaled.
    let unit = edges.first().zip(edges.last()).map_or(1.0, |(first, last)| (last.t - first.t).max(1e-9));
    let mut m = [[0.0; 3]; 3];
    for edge in edges {
        let tau = (edge.t - at) / unit;
        let row = [1.0, tau, 0.5 * tau * tau];
        let weight = (pitch / (speed(edge.t) * sigma)).powi(2);
        for (i, a) in row.iter().enumerate() {
            for (j, b) in row.iter().enumerate() {
                m[i][j] += weight * a * b;
            }
        }
    }
    let variance = match unknown {
        Unknown::Speed => m[0][0] / (m[0][0] * m[1][1] - m[0][1] * m[1][0]),
        Unknown::Acceleration => {
            let minor = m[0][0] * m[2][2] - m[0][2] * m[2][0];
            let determinant = m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
                - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
                + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
            minor / determinant
        }
    };
    pitch * variance.sqrt() / unit
}
