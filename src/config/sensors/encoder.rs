//! `kind = "as5600"`, `"as5048a"`, `"ls7366r"`: a shaft with an encoder or a counter on I2C or SPI.

use std::{path::PathBuf, time::Duration};

use super::{Claims, DEFAULT_REPORT, REPORT, claim};
use crate::{
    board::{Board, BoardKind, Bus, MAX_LOOKS_HZ, ShaftWish},
    config::{
        calibration,
        quantity::Dimension,
        show::significant,
        walk::{Section, Spot, Walk},
    },
    estimator::ShaftOptions,
    sensor::shaft::{AS5600_ADDRESS, Chip},
};

/// Looks a turn at the fastest: with fewer than two, which way it turned cannot be told; eight leave room for a look that
/// comes late.
const LOOKS_A_TURN: f64 = 8.0;

/// Looks a second at least, so that a window holds ten.
const LEAST_LOOKS_HZ: f64 = 100.0;

/// A shaft with an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderSensor {
    /// The bus, and how the chip on it is looked at.
    pub wish: ShaftWish,
    /// How its count becomes speed.
    pub options: ShaftOptions,
}

pub(super) fn read(
    walk: &mut Walk<'_>,
    section: &Section<'_>,
    chip: Chip,
    board: Option<&Board>,
    claims: &mut Claims,
) -> Option<EncoderSensor> {
    let bus = bus(walk, section, chip, board);
    let address = match chip {
        Chip::As5600 => walk.whole(section, "address", 0x08..0x78).map_or(AS5600_ADDRESS, |spot| spot.value as u8),
        _ => 0,
    };
    if let Some(spot) = &bus {
        claim(walk, &mut claims.chips, (spot.value.clone(), address), spot, |(device, _), place| {
            format!("the chip on {} is read by {place} already", device.display())
        });
    }
    let counts_per_turn = counts(walk, section, chip);
    let turn = turn(walk, section);
    let max = max_turns(walk, section, turn.as_ref().map(|turn| turn.metres));
    let every = looks(walk, section, chip, &max);
    let report = walk.period(section, "report", REPORT).unwrap_or(DEFAULT_REPORT);
    let reversed = walk.flag(section, "reversed").unwrap_or(false);
    let rotational_speed = walk.flag(section, "rotational-speed").unwrap_or(false);
    let distance = walk.flag(section, "distance").unwrap_or(false);
    let angle = chip.is_absolute() && walk.flag(section, "angle").unwrap_or(false);
    let direction = walk.flag(section, "direction").unwrap_or(false);
    let turn = turn?;
    let options = ShaftOptions {
        chip,
        counts_per_turn: counts_per_turn?,
        metres_per_turn: Some(turn.metres),
        max_turns: max?.value,
        zero_below: 0.05 / turn.metres,
        calibration_uncertainty: turn.uncertainty,
        reversed,
        report,
        rotational_speed,
        distance,
        angle,
        direction,
    };
    let counts_per_metre = f64::from(options.counts_per_turn) / turn.metres;
    Some(EncoderSensor {
        wish: ShaftWish { chip, device: bus?.value, address, every: every?, counts_per_metre },
        options,
    })
}

/// The bus, by its device or by the board's name for it.
fn bus(walk: &mut Walk<'_>, section: &Section<'_>, chip: Chip, board: Option<&Board>) -> Option<Spot<PathBuf>> {
    let (what, example) = match chip {
        Chip::As5600 => ("I2C bus", "/dev/i2c-1"),
        _ => ("SPI device", "/dev/spidev0.0"),
    };
    let spot = walk.required_text(section, "bus", &format!("which {what}, as bus = {example:?}"))?;
    let path = PathBuf::from(&spot.value);
    if path.is_absolute() || board.is_none_or(|board| board.kind == BoardKind::Simulated) {
        return Some(Spot { value: path, span: spot.span, path: spot.path });
    }
    let board = board?;
    let buses: &[Bus] = if chip == Chip::As5600 { &board.i2c } else { &board.spi };
    if let Some(bus) = buses.iter().find(|bus| bus.name.eq_ignore_ascii_case(&spot.value)) {
        return Some(Spot { value: PathBuf::from(&bus.device), span: spot.span, path: spot.path });
    }
    let names: Vec<&str> = buses.iter().map(|bus| bus.name.as_str()).collect();
    let message = format!("the board {} has no {what} {:?}", board.name, spot.value);
    let complaint = walk.wrong(&spot, message);
    complaint.meant(&spot.value, names.iter().copied());
    match names.is_empty() {
        true => complaint.note(format!("name the device instead: bus = {example:?}")),
        false => complaint.allowed(names.join(", ")),
    };
    None
}

/// Counts a turn: the chip's own where its count is an angle, four a period of the encoder where it counts steps.
fn counts(walk: &mut Walk<'_>, section: &Section<'_>, chip: Chip) -> Option<u32> {
    if chip.is_absolute() {
        return Some(chip.wrap() as u32);
    }
    if !section.has("pulses-per-turn") {
        walk.missing(section, "pulses-per-turn", "periods of the encoder a turn; the chip counts four in each");
    }
    walk.whole(section, "pulses-per-turn", 1..100_001).map(|spot| spot.value as u32 * 4)
}

/// Way of a turn of the shaft.
struct Turn {
    metres: f64,
    uncertainty: f64,
}

fn turn(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<Turn> {
    let wheel = calibration::circumference(walk, section);
    let gear = walk.number(section, "gear-ratio", 0.001, 1000.0).map_or(1.0, |spot| spot.value);
    let told = walk.quantity(section, "calibration-uncertainty", Dimension::Ratio, ("0 %", "20 %"));
    let by_tyre = section.has("tyre");
    if !section.has("circumference") && !by_tyre {
        let what = "the way of a turn of the wheel or roller, as circumference = \"1.985 m\"; or its tyre";
        walk.missing(section, "circumference", what);
    }
    let (wheel, _) = wheel?;
    let uncertainty = told.map_or(if by_tyre { calibration::TYRE_UNCERTAINTY } else { 0.0 }, |spot| spot.value);
    Some(Turn { metres: wheel / gear, uncertainty })
}

/// Turns a second at the highest speed, and where that is told.
fn max_turns(walk: &mut Walk<'_>, section: &Section<'_>, metres: Option<f64>) -> Option<Spot<f64>> {
    let max = walk.quantity(section, "max-speed", Dimension::Speed, ("0.1 m/s", "1000 km/h"));
    let metres = metres?;
    Some(match max {
        Some(spot) => Spot { value: spot.value / metres, span: spot.span, path: spot.path },
        None => Spot {
            value: super::hall::DEFAULT_MAX_SPEED / metres,
            span: section.span.clone(),
            path: section.key("max-speed"),
        },
    })
}

/// How often it is looked at: often enough for the fastest, if that can be.
fn looks(walk: &mut Walk<'_>, section: &Section<'_>, chip: Chip, max: &Option<Spot<f64>>) -> Option<Duration> {
    let told = walk.quantity(section, "looks", Dimension::Frequency, ("10 Hz", "2 kHz"));
    let max = max.as_ref()?;
    let wanted = if chip.is_absolute() { max.value * LOOKS_A_TURN } else { 0.0 };
    if wanted > MAX_LOOKS_HZ {
        let message = format!(
            "the shaft turns {} times a second at its fastest and would have to be looked at {} times; {} are possible",
            significant(max.value),
            significant(wanted),
            significant(MAX_LOOKS_HZ)
        );
        let complaint = walk.wrong(max, message);
        complaint.note("lower max-speed, put the encoder on a slower shaft, or count in hardware (kind = \"ls7366r\")");
        return None;
    }
    match told {
        Some(spot) if spot.value < wanted => {
            let least = significant(wanted);
            let message = format!("{} looks a second are too few: {LOOKS_A_TURN} a turn are", significant(spot.value));
            walk.wrong(&spot, message).allowed(format!("{least} Hz to 2 kHz"));
            None
        }
        Some(spot) => Some(Duration::from_secs_f64(1.0 / spot.value)),
        None => Some(Duration::from_secs_f64(1.0 / wanted.max(LEAST_LOOKS_HZ))),
    }
}
