//! The command line.

use std::path::PathBuf;

/// What `--help` says.
pub(crate) const HELP: &str = "\
Measures how true Speedwell's speeds are, in a simulation that shares no code with the estimator.

usage: cargo run --release --example accuracy -- [OPTIONS]

  --quick         the short form that the tests run: fewer wheels, fewer cases
  --seed N        another set of wheels, jitters and faults (default 1); the same seed gives the same table
  --only S1,S9    these properties alone, of S1 to S14
  --plot FILE     where to write the picture of error against the bound, an SVG; without it a whole run
                  writes docs/accuracy.svg and a short or partial one writes none
  --help          this

Exit code 0 when every gate held, 1 when one did not, 2 when the command line or FILE is at fault.
docs/accuracy.md says what each line of the table means.
";

/// The picture of a whole run, from the top of the repository.
const PLOT: &str = "docs/accuracy.svg";
/// How many properties are judged here.
const PROPERTIES: u8 = 14;

/// A study.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Fewer wheels and cases.
    pub(crate) quick: bool,
    pub(crate) seed: u64,
    /// Numbers of the properties looked at; empty means all.
    only: Vec<u8>,
    pub(crate) plot: Option<PathBuf>,
}

impl Options {
    /// Whether property S`number` is to be looked at.
    pub(crate) fn wants(&self, number: u8) -> bool {
        self.only.is_empty() || self.only.contains(&number)
    }
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Study(Options),
    Help,
}

/// Reads the arguments; the error says what is wrong and what would be right.
pub(crate) fn parse(arguments: &[String]) -> Result<Wanted, String> {
    let mut options = Options { quick: false, seed: 1, only: Vec::new(), plot: None };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = |what: &str| rest.next().ok_or(format!("{argument} needs {what} after it"));
        match argument.as_str() {
            "--help" | "-h" => return Ok(Wanted::Help),
            "--quick" => options.quick = true,
            "--seed" => {
                let text = value("a number")?;
                options.seed =
                    text.parse().map_err(|_| format!("--seed {text}: not a whole number from 0 to 2^64-1"))?;
            }
            "--only" => options.only = properties(value("a list like S1,S9")?)?,
            "--plot" => options.plot = Some(value("a file")?.into()),
            other => return Err(format!("no option {other:?}")),
        }
    }
    if options.plot.is_some() && !options.wants(1) {
        return Err("--plot draws what S1 finds: add S1 to --only".into());
    }
    if options.plot.is_none() && !options.quick && options.only.is_empty() {
        options.plot = Some(PLOT.into());
    }
    Ok(Wanted::Study(options))
}

fn properties(list: &str) -> Result<Vec<u8>, String> {
    let property = |name: &str| {
        let number = name.trim().strip_prefix(['S', 's']).and_then(|number| number.parse().ok());
        number
            .filter(|number| (1..=PROPERTIES).contains(number))
            .ok_or(format!("--only {list}: {name:?} is not one of S1 to S{PROPERTIES}"))
    };
    list.split(',').map(property).collect()
}
