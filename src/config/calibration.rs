//! Pulses a metre, by whichever of the numbers the technician knows.

use toml::de::DeValue;

use super::{
    quantity::{self, Dimension, tyre_circumference},
    walk::{self, Section, Spot, Walk},
};

/// What was made of the calibration keys.
pub(super) struct Calibration {
    pub(super) pulses_per_metre: f64,
    pub(super) pulses_per_turn: Option<u32>,
    pub(super) circumference: Option<f64>,
    pub(super) uncertainty: f64,
}

/// Two ways to say the same number may differ by this much before it is a contradiction: rounding, not tyre wear.
const SAME_WITHIN: f64 = 0.005;

/// How well a tyre's size tells its rolling circumference: wear, pressure and load are 1 to 2 %.
pub(super) const TYRE_UNCERTAINTY: f64 = 0.02;

/// No wheel or roller is larger; a larger number was meant in millimetres.
const LARGEST_CIRCUMFERENCE_M: f64 = 20.0;

/// Fewest and most pulses a metre that can be: one a kilometre, and an encoder of 10 000 on a 10 cm roller.
const PULSES_PER_METRE: (f64, f64) = (0.001, 100_000.0);

/// One way to say it.
struct Way {
    words: String,
    pulses_per_metre: f64,
    spot: Spot<()>,
}

pub(super) fn read(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<Calibration> {
    let before = walk.complaints.len();
    let per_turn = walk.whole(section, "pulses-per-turn", 1..100_001);
    let gear = walk.number(section, "gear-ratio", 0.001, 1000.0);
    let circumference = circumference(walk, section);
    let mut ways: Vec<Way> = direct(walk, section).into_iter().collect();
    if let (Some(turn), Some((wheel, spot))) = (&per_turn, &circumference) {
        // K = N·G/C: pulses a turn of the shaft, turns of the shaft a turn of the wheel, metres a turn of the wheel.
        let pulses_per_metre = turn.value as f64 * gear.as_ref().map_or(1.0, |g| g.value) / wheel;
        ways.push(Way { words: "pulses-per-turn with the circumference".into(), pulses_per_metre, spot: at(spot) });
    }
    if let (Some(gear), None) = (&gear, &per_turn) {
        walk.wrong(gear, "means nothing without pulses-per-turn and circumference");
    }
    contradictions(walk, &ways);
    let told = walk.quantity(section, "calibration-uncertainty", Dimension::Ratio, ("0 %", "20 %"));
    let by_tyre = ways.len() == 1 && per_turn.is_some() && section.has("tyre");
    let uncertainty = told.map_or(if by_tyre { TYRE_UNCERTAINTY } else { 0.0 }, |spot| spot.value);
    if walk.complaints.len() > before {
        return None;
    }
    match ways.first() {
        Some(way) => Some(Calibration {
            pulses_per_metre: way.pulses_per_metre,
            pulses_per_turn: per_turn.map(|n| n.value as u32),
            circumference: circumference.map(|(metres, _)| metres),
            uncertainty,
        }),
        None => {
            incomplete(walk, section);
            None
        }
    }
}

fn at<T>(spot: &Spot<T>) -> Spot<()> {
    Spot { value: (), span: spot.span.clone(), path: spot.path.clone() }
}

fn direct(walk: &mut Walk<'_>, section: &Section<'_>) -> Vec<Way> {
    let mut ways = Vec::new();
    for (key, metres) in [("pulses-per-metre", 1.0), ("pulses-per-km", 1000.0), ("pulses-per-mile", 1609.344)] {
        let (low, high) = (PULSES_PER_METRE.0 * metres, PULSES_PER_METRE.1 * metres);
        if let Some(pulses) = walk.number(section, key, low, high) {
            ways.push(Way { words: key.into(), pulses_per_metre: pulses.value / metres, spot: at(&pulses) });
        }
    }
    let frequency = walk.quantity(section, "frequency", Dimension::Frequency, ("0.01 Hz", "1000 kHz"));
    let speed = walk.quantity(section, "at-speed", Dimension::Speed, ("0.1 km/h", "1000 km/h"));
    match (&frequency, &speed) {
        (Some(f), Some(v)) => {
            ways.push(Way { words: "frequency at at-speed".into(), pulses_per_metre: f.value / v.value, spot: at(f) })
        }
        (Some(f), None) if !section.has("at-speed") => {
            walk.wrong(f, "at which speed?").note("say it with at-speed = \"100 km/h\"");
        }
        (None, Some(v)) if !section.has("frequency") => {
            walk.wrong(v, "which frequency is seen at this speed?").note("say it with frequency = \"16 Hz\"");
        }
        _ => {}
    }
    ways
}

pub(super) fn circumference(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<(f64, Spot<()>)> {
    let tyre = tyre(walk, section);
    if let Some(spot) = section.value("circumference")
        && let Some(number) = in_millimetres(spot.value)
    {
        let read = spot.value.as_str().map_or(number.clone(), |text| format!("{text:?}"));
        let message = format!("{read} is no wheel: it looks like millimetres");
        let complaint = walk.wrong(&spot, message);
        complaint.note(format!("did you mean circumference = \"{number} mm\"?"));
        complaint.allowed(format!("1 mm to {LARGEST_CIRCUMFERENCE_M} m"));
        return None;
    }
    let Some(length) = walk.quantity(section, "circumference", Dimension::Length, ("1 mm", "20 m")) else {
        return tyre;
    };
    if tyre.is_some() {
        walk.wrong(&length, "is given, and tyre too: which of them holds?")
            .note("keep circumference if it was rolled out, tyre if not");
    }
    Some((length.value, at(&length)))
}

/// The number, if it is one of metres or of nothing that no wheel can have.
fn in_millimetres(value: &DeValue<'_>) -> Option<String> {
    let (number, metres) = match value {
        DeValue::String(text) => {
            let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
            let unit = text[end..].trim();
            let number: f64 = text[..end].parse().ok()?;
            (number, if unit.is_empty() { number } else { quantity::parse(text, Dimension::Length).ok()? })
        }
        other => walk::bare_number(other).map(|n| (n, n))?,
    };
    (metres > LARGEST_CIRCUMFERENCE_M).then(|| number.to_string())
}

fn tyre(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<(f64, Spot<()>)> {
    let size = walk.text(section, "tyre")?;
    match tyre_circumference(&size.value) {
        Some(metres) => Some((metres, at(&size))),
        None => {
            let message = format!("{:?} is no size of a radial tyre", size.value);
            walk.wrong(&size, message).note("as it stands on the tyre: \"315/80R22.5\", \"205/55 R16\"");
            None
        }
    }
}

fn contradictions(walk: &mut Walk<'_>, ways: &[Way]) {
    let Some((first, others)) = ways.split_first() else { return };
    for other in others {
        let ratio = other.pulses_per_metre / first.pulses_per_metre;
        if (ratio - 1.0).abs() > SAME_WITHIN {
            let message = format!(
                "{} gives {} pulses a metre, but {} gives {}",
                other.words,
                super::show::significant(other.pulses_per_metre),
                first.words,
                super::show::significant(first.pulses_per_metre)
            );
            let line = walk.place_text(&first.spot.span);
            walk.wrong(&other.spot, message).note(format!("the other is in {line}; keep the one that was measured"));
        }
    }
}

fn incomplete(walk: &mut Walk<'_>, section: &Section<'_>) {
    let half =
        [("pulses-per-turn", "circumference"), ("circumference", "pulses-per-turn"), ("tyre", "pulses-per-turn")];
    let wanted = match half.iter().find(|(key, _)| section.has(key)) {
        Some((key, other)) => format!("{key} alone gives no speed: {other} is missing"),
        None => "how many pulses make a metre is not told".to_owned(),
    };
    let path = section.path.clone();
    walk.complain(&section.span, &path, wanted)
        .note("give one of: pulses-per-turn with circumference (or tyre), and gear-ratio if the sensor is on a shaft;")
        .note("pulses-per-metre; pulses-per-km; pulses-per-mile; frequency with at-speed");
}
