//! `speedwell-hub check`

use clap::Args;

use super::{ConfigArgs, Failure, logging};

/// Tell whether a configuration can be used, and stop
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let config = args.config.load()?;
    config.broker.password()?;
    config.store.password()?;
    logging::filter(&config.log)?;
    let (path, broker, http) = (args.config.config.display(), &config.broker.url, config.http.listen);
    println!("{path}: fine; broker {broker}, page on http://{http}");
    Ok(())
}
