//! `speedwell watch`: live values in the terminal.

use std::process::ExitCode;

use clap::Args;

use super::{ConfigArgs, Exit};

/// Show the live values of one sensor, or of all, in the terminal
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Name of the sensor; all when left out
    #[arg(value_name = "SENSOR")]
    pub(crate) sensor: Option<String>,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Shows live values.
pub(crate) fn run(args: WatchArgs) -> ExitCode {
    match args.config.load() {
        Ok(config) => {
            if let Some(name) = &args.sensor
                && config.sensor(name).is_none()
            {
                let known: Vec<_> = config.sensors.iter().map(|s| s.name.as_str()).collect();
                eprintln!("speedwell watch: no sensor named {name}; there are: {}", known.join(", "));
                return Exit::Usage.into();
            }
            eprintln!("speedwell watch: not in this build yet");
            Exit::Software.into()
        }
        Err(exit) => exit.into(),
    }
}
