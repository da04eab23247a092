//! Exit codes: those of sysexits.h, so that systemd and scripts can tell a wrong file from a broken disk.

use std::process::ExitCode;

/// How a subcommand ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is well.
    Fine = 0,
    /// The command line is wrong (EX_USAGE).
    Usage = 64,
    /// Recorded data is damaged or not of the form it should have (EX_DATAERR).
    Data = 65,
    /// An input file is missing or cannot be read (EX_NOINPUT).
    NoInput = 66,
    /// Something that should be there is not: broker, CAN interface, serial port, GPIO chip (EX_UNAVAILABLE).
    Unavailable = 69,
    /// The program met something that cannot be: please report it (EX_SOFTWARE).
    Software = 70,
    /// The spool or the state directory cannot be created or written (EX_CANTCREAT).
    Spool = 73,
    /// Reading or writing failed (EX_IOERR).
    Io = 74,
    /// The user may not open a device or a file (EX_NOPERM).
    Permission = 77,
    /// The configuration is wrong (EX_CONFIG).
    Config = 78,
}

/// The codes, for `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
   0  all is well
  64  the command line is wrong
  65  recorded data is damaged
  66  an input file is missing
  69  a device or the broker is not there
  70  a defect of speedwell: please report it
  73  the spool or state directory cannot be written
  74  reading or writing failed
  77  permission denied
  78  the configuration is wrong";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
