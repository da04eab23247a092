//! `speedwell lines`: which GPIO lines this machine has, and who uses them.

use std::process::ExitCode;

use clap::Args;
use speedwell::{
    board::{Board, ChipInfo, LineInfo, PinAt, chips},
    config::Config,
};

use super::{
    ConfigArgs, Exit,
    gpio::{self, Wanted},
    probe::{self, Finding},
    summary,
};

/// List the GPIO lines of this machine, who uses them, and which the configuration means
///
/// Works without a configuration too; name the board then to see its names of the lines.
#[derive(Debug, Args)]
pub(crate) struct LinesArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Name the lines as this board does, whatever the configuration says
    #[arg(long, value_name = "BOARD")]
    pub(crate) board: Option<String>,
}

/// Lists.
pub(crate) fn run(args: LinesArgs) -> ExitCode {
    let catalog = args.config.boards.catalog();
    // What this machine has can be seen before there is a right configuration.
    let config = Config::load(&args.config.config, &catalog);
    if let (Err(complaints), true) = (&config, args.config.config.exists()) {
        eprintln!("warning: {} is left aside, `speedwell check` says why", complaints.file.display());
    }
    let config = config.ok();
    let board = match &args.board {
        Some(name) => match catalog.board(name) {
            Some(board) => Some(board),
            None => {
                eprintln!("there is no board {name:?}; there are: {}", catalog.names().join(", "));
                return Exit::Usage.into();
            }
        },
        None => config.as_ref().map(|c| &c.gateway.board),
    };
    let pins = config.as_ref().map(gpio::wanted).unwrap_or_default();
    match chips() {
        Ok(chips) if chips.is_empty() => {
            let advice = "a machine without GPIO, or a kernel without the character device (CONFIG_GPIO_CDEV)";
            fail(&Finding::bad(Exit::Unavailable, "there is no GPIO chip", advice))
        }
        Ok(chips) => {
            print!("{}", listing(&chips, board, &pins));
            Exit::Fine.into()
        }
        Err(error) => fail(&gpio::no_chips(&error)),
    }
}

fn fail(finding: &Finding) -> ExitCode {
    eprint!("{finding}");
    probe::exit(std::slice::from_ref(finding)).into()
}

fn listing(chips: &[ChipInfo], board: Option<&Board>, pins: &[Wanted<'_>]) -> String {
    let mut text = String::new();
    for chip in chips {
        text += &format!("{} = {} ({} lines)\n", chip.path.display(), chip.label, chip.lines.len());
        let rows: Vec<[String; 6]> = chip.lines.iter().map(|line| row(chip, line, board, pins, chips)).collect();
        text += &summary::table(["line", "name", "pin", "direction", "used by", "sensor"], &rows);
        text.push('\n');
    }
    text
}

fn row(
    chip: &ChipInfo,
    line: &LineInfo,
    board: Option<&Board>,
    pins: &[Wanted<'_>],
    chips: &[ChipInfo],
) -> [String; 6] {
    let this = |at: &PinAt| gpio::find(at, chips).is_some_and(|(c, l)| c.path == chip.path && l.offset == line.offset);
    let first_word = line.name.split(' ').next().unwrap_or_default();
    let named = PinAt::Named(first_word.to_owned());
    let numbered = PinAt::Line { chip: chip.label.clone(), offset: line.offset };
    let known = board.and_then(|b| b.pin_at(&named).or_else(|| b.pin_at(&numbered).filter(|p| p.kernel.is_none())));
    let pin = known.map_or(String::new(), |pin| {
        let at = pin.at.as_deref().or(pin.line.as_deref()).unwrap_or_default();
        let reserved = if pin.reserved.is_some() { " reserved" } else { "" };
        format!("{at}{reserved}")
    });
    let user = match (line.used, line.consumer.as_str()) {
        (false, _) => "-",
        (true, "") => "somebody",
        (true, consumer) => consumer,
    };
    let sensors: Vec<&str> = pins.iter().filter(|p| this(p.at)).map(|p| p.sensor).collect();
    [
        line.offset.to_string(),
        line.name.clone(),
        pin,
        if line.output { "out" } else { "in" }.into(),
        user.to_owned(),
        sensors.join(", "),
    ]
}

#[cfg(test)]
mod tests {
    use speedwell::board::Catalog;

    use super::*;

    #[test]
    fn lines_are_listed_with_their_users_pins_and_sensors() {
        let line = |offset, name: &str, consumer: &str| LineInfo {
            offset,
            name: name.into(),
            consumer: consumer.into(),
            used: !consumer.is_empty(),
            output: offset == 8,
        };
        let chip = ChipInfo {
            name: "gpiochip0".into(),
            label: "pinctrl-bcm2711".into(),
            path: "/dev/gpiochip0".into(),
            lines: vec![line(0, "ID_SDA", ""), line(8, "GPIO8", "spi0 CS0"), line(17, "GPIO17", "")],
        };
        let catalog = Catalog::built_in();
        let at = PinAt::Line { chip: "pinctrl-bcm2711".into(), offset: 17 };
        let pins = [Wanted { sensor: "wheel", written: "GPIO17", at: &at }];
        let wanted = "\
/dev/gpiochip0 = pinctrl-bcm2711 (3 lines)
line  name    pin           direction  used by   sensor
0     ID_SDA  P27 reserved  in         -
8     GPIO8   P24           out        spi0 CS0
17    GPIO17  P11           in         -         wheel

";
        let got = listing(&[chip], catalog.board("rpi-4b"), &pins);
        assert_eq!(got, wanted, "\n{got}");
    }
}
