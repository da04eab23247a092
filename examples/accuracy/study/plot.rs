//! The picture: how far each method's error is from the bound, a lane a method, a dot a case.

use std::fmt::Write;

use super::peers;

/// A case of S1 or S2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    /// Error in multiples of the bound: the peers' in their order, then ours.
    pub(crate) ratios: [Option<f64>; 5],
    /// The teeth were not perfect.
    pub(crate) real_teeth: bool,
}

pub(crate) fn svg(points: &[Point]) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{} {}", points.len(), peers::NAMES.len());
    for point in points {
        let _ = writeln!(out, "{:?} {}", point.ratios, point.real_teeth);
    }
    out
}
