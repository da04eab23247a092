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

/// Pixels: the whole, the room left of the lanes, above them, and a lane.
const WIDTH: f64 = 860.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 48.0;
const TOP: f64 = 84.0;
const LANE: f64 = 54.0;
/// Ends of the axis, powers of ten.
const LOW: f64 = -0.5;
const HIGH: f64 = 6.0;
/// Dots of a lane lie in so many rows, so that equal ones are seen beside each other.
const ROWS: usize = 7;
const ROW: f64 = 5.2;

/// What each lane is called, and what it is.
const LANES: [(&str, &str); 5] = [
    ("M", "pulses in a gate"),
    ("T", "the last period"),
    ("M/T", "pulses over time"),
    ("LS", "least squares"),
    ("Speedwell", "teeth learned, own time"),
];

/// Where on the page so many bounds are.
fn x(ratio: f64) -> f64 {
    let share = (ratio.max(1e-9).log10().clamp(LOW, HIGH) - LOW) / (HIGH - LOW);
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

fn y(lane: usize) -> f64 {
    TOP + (lane as f64 + 0.5) * LANE
}

pub(crate) fn svg(points: &[Point]) -> String {
    let bottom = TOP + LANES.len() as f64 * LANE;
    let height = bottom + 62.0;
    let mut out = String::new();
    let _ = writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="13" fill="#1b1f24" role="img" aria-labelledby="t">
<title id="t">Error of a speed in multiples of the Cramer-Rao bound, by method</title>
<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>
<text x="24" y="34" font-size="18" font-weight="600">How far from what no method can beat</text>
<text x="24" y="56" fill="#57606a">Rms error of a speed / Cramér-Rao bound of the same edges. A dot is one of {} wheels and drives.</text>"##,
        points.len()
    );
    axis(&mut out, bottom);
    for (lane, (name, what)) in LANES.iter().enumerate() {
        let ours = lane == peers::NAMES.len();
        let weight = if ours { 700 } else { 600 };
        let y = y(lane);
        let _ = writeln!(
            out,
            r##"<text x="24" y="{:.1}" font-size="15" font-weight="{weight}">{name}</text><text x="24" y="{:.1}" font-size="11" fill="#57606a">{what}</text>"##,
            y - 2.0,
            y + 13.0
        );
        let color = if ours { "#0a7d4b" } else { "#8a5a00" };
        for (k, point) in points.iter().enumerate() {
            let Some(ratio) = point.ratios[lane] else { continue };
            let at = y + ROW * ((k % ROWS) as f64 - (ROWS / 2) as f64);
            let fill = if point.real_teeth { "none" } else { color };
            let _ = writeln!(
                out,
                r##"<circle cx="{:.1}" cy="{at:.1}" r="3.2" fill="{fill}" stroke="{color}" stroke-width="1.2" opacity="0.8"/>"##,
                x(ratio)
            );
        }
    }
    legend(&mut out, bottom + 50.0);
    out.push_str("</svg>\n");
    out
}

fn axis(out: &mut String, bottom: f64) {
    for power in 0..=HIGH as i32 {
        let x = x(10f64.powi(power));
        let label = match power {
            0 => "1 = the bound".into(),
            1..=3 => 10_i32.pow(power as u32).to_string(),
            4..=5 => format!("{} 000", 10_i32.pow(power as u32 - 3)),
            _ => "1 000 000".into(),
        };
        let (color, width) = if power == 0 { ("#0a7d4b", 2.0) } else { ("#d0d7de", 1.0) };
        let _ = writeln!(
            out,
            r##"<line x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{bottom}" stroke="{color}" stroke-width="{width}"/><text x="{x:.1}" y="{:.1}" font-size="11" fill="#57606a" text-anchor="middle">{label}</text>"##,
            bottom + 18.0
        );
    }
    for lane in 1..LANES.len() {
        let y = TOP + lane as f64 * LANE;
        let _ = writeln!(
            out,
            r##"<line x1="24" y1="{y}" x2="{:.1}" y2="{y}" stroke="#eaeef2" stroke-width="1"/>"##,
            WIDTH - RIGHT
        );
    }
}

fn legend(out: &mut String, y: f64) {
    for (x, fill, text) in [(LEFT, "#57606a", "perfect teeth"), (LEFT + 140.0, "none", "teeth ±1 % of a pitch off")] {
        let _ = writeln!(
            out,
            r##"<circle cx="{x}" cy="{:.1}" r="3.2" fill="{fill}" stroke="#57606a" stroke-width="1.2"/><text x="{:.1}" y="{y:.1}" font-size="11" fill="#57606a">{text}</text>"##,
            y - 4.0,
            x + 9.0
        );
    }
}
