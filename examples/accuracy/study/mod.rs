//! The study of accuracy: drives simulated wheels, has them measured, and holds the figures against their gates.
//!
//! In      a seed, and which of the properties S1 to S14 to look at.
//! Out     a table with a verdict a line; a picture of error against the bound; whether all held.
//! Keeps   nothing.
//! Imports of the agent its public face alone: `Wheel` as a gateway would use it. The wheel, the road, the faults, the
//!         other methods and the bound are worked out here, in another way than the estimator works.

mod bound;
mod cases;
mod chance;
mod faults;
mod gear;
mod options;
mod ours;
mod peers;
mod plot;
pub(crate) mod report;
mod road;
mod score;

use std::io::{self, Write};

use options::{Options, Wanted};
use report::Group;

/// Exit codes: all held; one did not; the command line or the file for the picture is at fault.
const HELD: u8 = 0;
const FAILED: u8 = 1;
const MISUSED: u8 = 2;

/// Runs the program; gives its exit code.
pub(crate) fn command(arguments: &[String], out: &mut dyn Write, errors: &mut dyn Write) -> u8 {
    let options = match options::parse(arguments) {
        Ok(Wanted::Study(options)) => options,
        Ok(Wanted::Help) => return said(out.write_all(options::HELP.as_bytes())),
        Err(complaint) => {
            let _ = writeln!(errors, "accuracy: {complaint}\nTry `--help`.");
            return MISUSED;
        }
    };
    match study(&options, out) {
        Ok(true) => HELD,
        Ok(false) => FAILED,
        Err(error) => {
            let _ = writeln!(errors, "accuracy: {error}");
            MISUSED
        }
    }
}

fn said(result: io::Result<()>) -> u8 {
    if result.is_ok() { HELD } else { MISUSED }
}

/// Gives whether every gate held.
fn study(options: &Options, out: &mut dyn Write) -> io::Result<bool> {
    writeln!(out, "{}", report::heading())?;
    let (mut passed, mut failed) = (0, 0);
    let mut say = |group: &Group| {
        let tally = group.tally();
        (passed, failed) = (passed + tally.0, failed + tally.1);
        writeln!(out, "{group}")?;
        out.flush()
    };
    let ratios = cases::run(options, &mut say)?;
    for line in cases::NEED_HARDWARE {
        writeln!(out, "{line}")?;
    }
    if let Some(path) = options.plot.as_deref().filter(|_| !ratios.is_empty()) {
        let named = |error| io::Error::other(format!("cannot write the plot to {}: {error}", path.display()));
        std::fs::write(path, plot::svg(&ratios)).map_err(named)?;
        writeln!(out, "plot: {}", path.display())?;
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok(failed == 0)
}
