//! The GPIO lines of this machine beside the board's description and the configuration's sensors.

use speedwell::{
    board::{ChipInfo, GpioError, LineInfo, PinAt, chips},
    config::{Config, SensorKind},
};

use super::{
    Exit,
    probe::{self, Finding},
};

/// What this program calls itself to the kernel, and what a line in use by it is therefore marked with.
const OURS: &str = "speedwell";

/// A pin a configuration names.
pub(super) struct Wanted<'c> {
    /// The sensor's name.
    pub(super) sensor: &'c str,
    /// As it is written.
    pub(super) written: &'c str,
    /// Which line.
    pub(super) at: &'c PinAt,
}

/// Every pin a configuration names.
pub(super) fn wanted(config: &Config) -> Vec<Wanted<'_>> {
    let mut pins = Vec::new();
    for sensor in &config.sensors {
        let SensorKind::Hall(hall) = &sensor.kind else { continue };
        for pin in [Some(&hall.pin), hall.second.as_ref(), hall.audit_pin.as_ref()].into_iter().flatten() {
            pins.push(Wanted { sensor: &sensor.name, written: &pin.written, at: &pin.at });
        }
    }
    pins
}

/// Looks whether every line is there and free.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let pins = wanted(config);
    if pins.is_empty() {
        return Vec::new();
    }
    match chips() {
        Ok(chips) => pins.iter().map(|pin| line(pin, &chips, &config.gateway.board.name)).collect(),
        Err(error) => vec![no_chips(&error)],
    }
}

/// The chips cannot be asked.
pub(super) fn no_chips(error: &GpioError) -> Finding {
    match error {
        GpioError::PermissionDenied { path } => {
            let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
            probe::cannot_open(&format!("GPIO chip {}", path.display()), path, &denied, "gpio")
        }
        other => Finding::bad(Exit::Unavailable, other.to_string(), "`dmesg` may say more"),
    }
}

/// The chip and line a pin is.
pub(super) fn find<'m>(at: &PinAt, chips: &'m [ChipInfo]) -> Option<(&'m ChipInfo, &'m LineInfo)> {
    match at {
        PinAt::Line { chip, offset } => {
            let chip = chips.iter().find(|c| c.label == *chip || c.name == *chip)?;
            chip.lines.iter().find(|l| l.offset == *offset).map(|line| (chip, line))
        }
        PinAt::Named(name) => chips.iter().find_map(|chip| {
            let is_it = |line: &&LineInfo| line.name == *name || line.name.split(' ').next() == Some(name);
            chip.lines.iter().find(is_it).map(|line| (chip, line))
        }),
    }
}

pub(super) fn line(pin: &Wanted<'_>, chips: &[ChipInfo], board: &str) -> Finding {
    let what = format!("pin {} of {}", pin.written, pin.sensor);
    let Some((chip, line)) = find(pin.at, chips) else { return missing(&what, pin.at, chips, board) };
    let device = format!("{} line {}", chip.path.display(), line.offset);
    match (line.used, line.consumer.as_str()) {
        (false, _) => Finding::good(format!("{what} is {device}, free")),
        (true, consumer) if consumer.starts_with(OURS) => {
            Finding::good(format!("{what} is {device}, in use by a speedwell that is running"))
        }
        (true, "") => in_use(&what, &device, "another program or a driver"),
        (true, consumer) => in_use(&what, &device, &format!("\"{consumer}\"")),
    }
}

fn in_use(what: &str, device: &str, who: &str) -> Finding {
    Finding::bad(
        Exit::Unavailable,
        format!("{what} is {device}, in use by {who}"),
        "stop that, or take the overlay out of config.txt, or use another pin; `speedwell lines` shows who has which",
    )
}

fn missing(what: &str, at: &PinAt, chips: &[ChipInfo], board: &str) -> Finding {
    let labels: Vec<String> = chips.iter().map(|c| format!("{} ({} lines)", c.label, c.lines.len())).collect();
    let there = match labels.as_slice() {
        [] => "there is no GPIO chip at all".to_owned(),
        some => format!("there are {}", some.join(", ")),
    };
    let text = match at {
        PinAt::Line { chip, .. } if !chips.iter().any(|c| c.label == *chip || c.name == *chip) => {
            format!("{what}: no GPIO chip has the label {chip}; {there}")
        }
        PinAt::Line { chip, offset } => format!("{what}: the GPIO chip {chip} has no line {offset}; {there}"),
        PinAt::Named(name) => format!("{what}: no GPIO line is named {name}; {there}"),
    };
    let advice = format!("is the board really {board}? `speedwell lines` shows what this machine has");
    Finding::bad(Exit::Unavailable, text, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chip(label: &str, names: &[(&str, &str)]) -> ChipInfo {
        let lines = names.iter().enumerate().map(|(i, (name, consumer))| LineInfo {
            offset: i as u32,
            name: (*name).into(),
            consumer: (*consumer).into(),
            used: !consumer.is_empty(),
            output: false,
        });
        ChipInfo {
            name: "gpiochip0".into(),
            label: label.into(),
            path: "/dev/gpiochip0".into(),
            lines: lines.collect(),
        }
    }

    fn told(at: &PinAt, chips: &[ChipInfo]) -> String {
        line(&Wanted { sensor: "wheel", written: "P11", at }, chips, "rpi-4b").to_string()
    }

    fn at(chip: &str, offset: u32) -> PinAt {
        PinAt::Line { chip: chip.into(), offset }
    }

    #[test]
    fn a_missing_chip_is_told_with_those_there_are() {
        let wanted = "\
FAIL  pin P11 of wheel: no GPIO chip has the label pinctrl-bcm2711; there are pinctrl-rp1 (2 lines)
      is the board really rpi-4b? `speedwell lines` shows what this machine has
";
        assert_eq!(told(&at("pinctrl-bcm2711", 17), &[chip("pinctrl-rp1", &[("a", ""), ("b", "")])]), wanted);
        assert!(told(&at("pinctrl-bcm2711", 17), &[]).contains("; there is no GPIO chip at all\n"));
    }

    #[test]
    fn a_line_in_use_is_told_with_its_user() {
        let chips = [chip("c", &[("GPIO0", ""), ("GPIO1", "spi0 CS0"), ("GPIO2", "speedwell wheel")])];
        assert_eq!(told(&at("c", 0), &chips), "ok    pin P11 of wheel is /dev/gpiochip0 line 0, free\n");
        let wanted = "\
FAIL  pin P11 of wheel is /dev/gpiochip0 line 1, in use by \"spi0 CS0\"
      stop that, or take the overlay out of config.txt, or use another pin; `speedwell lines` shows who has which
";
        assert_eq!(told(&at("c", 1), &chips), wanted);
        assert!(told(&at("c", 2), &chips).starts_with("ok    "), "our own agent may be running");
        assert!(told(&at("c", 3), &chips).contains("the GPIO chip c has no line 3"));
    }

    #[test]
    fn a_line_is_found_by_the_first_word_of_its_name() {
        let chips = [chip("gpio-0-31", &[("P9_12 [gpio1_28]", ""), ("P9_1", "")])];
        assert_eq!(find(&PinAt::Named("P9_12".into()), &chips).map(|(_, l)| l.offset), Some(0));
        assert_eq!(find(&PinAt::Named("P9_1".into()), &chips).map(|(_, l)| l.offset), Some(1));
        assert!(find(&PinAt::Named("P9".into()), &chips).is_none());
    }

    #[test]
    fn a_chip_that_may_not_be_opened_names_the_group() {
        let finding = no_chips(&GpioError::PermissionDenied { path: "/no/gpiochip0".into() });
        let wanted = "\
FAIL  GPIO chip /no/gpiochip0: permission denied
      add the user to the group gpio (`usermod -aG gpio USER`), then log in again
";
        assert_eq!(finding.to_string(), wanted);
        assert_eq!(probe::exit(&[finding]), Exit::Permission);
    }
}
