//! The words of a radar: its reports, and its answers to commands.

use std::borrow::Cow;

use serde::Deserialize;

use crate::sensor::unit::KMH;

/// A report, or an answer to a command.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    speed: Option<Number<'a>>,
    #[serde(borrow)]
    direction: Option<Word<'a>>,
    #[serde(borrow)]
    unit: Option<Word<'a>>,
    #[serde(borrow, rename = "Units")]
    set_to: Option<Word<'a>>,
}

/// Borrowed from the line. Serde borrows through a type of its own, not through an `Option<Cow>`.
#[derive(Deserialize)]
#[serde(transparent)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Number<'a> {
    Plain(f64),
    #[serde(borrow)]
    Quoted(Cow<'a, str>),
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Told {
    /// A speed, positive towards the radar, and one of its unit in m/s where that is told.
    Speed(f64, Option<f64>),
    /// An answer, and one of the unit that the radar says it is set to.
    Answer(Option<f64>),
}

/// What a line says; `None` when it is nothing a radar says.
pub(super) fn parse(text: &str) -> Option<Told> {
    let text = text.trim();
    if text.starts_with('{') {
        let said: Line<'_> = serde_json::from_str(text).ok()?;
        let Some(speed) = said.speed else { return Some(Told::Answer(said.set_to.and_then(|word| set_to(&word.0)))) };
        let number = match speed {
            Number::Plain(number) => number,
            Number::Quoted(text) => number(&text)?,
        };
        let unit = match said.unit {
            Some(word) => Some(factor(&word.0)?),
            None => None,
        };
        let away = said.direction.is_some_and(|word| word.0 == "outbound");
        return Some(Told::Speed(if away { -number.abs() } else { number }, unit));
    }
    // The speed stands last, behind time and magnitude.
    let last = text.rsplit(',').next()?;
    number(last).map(|speed| Told::Speed(speed, None))
}

/// A number as the radar writes it. `f64`'s own parser would also take `inf`, `NaN` and exponents.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits = text.strip_prefix('-').unwrap_or(text);
    let good = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if good && digits.len() <= 12 { text.parse().ok() } else { None }
}

/// The units of a report, as its own words.
fn factor(word: &str) -> Option<f64> {
    Some(match word {
        "mps" | "m" => 1.0,
        "cmps" | "cm" => 0.01,
        "kmph" | "km" => KMH,
        "mph" => 0.447_04,
        "fps" | "ft" => 0.304_8,
        _ => return None,
    })
}

/// The units of an answer: `{"Units":"km-per-hr"}`. Firmware words them differently; how they begin tells them apart.
fn set_to(word: &str) -> Option<f64> {
    let word = word.to_ascii_lowercase();
    let beginnings =
        [("met", 1.0), ("mps", 1.0), ("c", 0.01), ("k", KMH), ("mi", 0.447_04), ("mph", 0.447_04), ("f", 0.304_8)];
    beginnings.iter().find(|(beginning, _)| word.starts_with(beginning)).map(|(_, factor)| *factor)
}
