//! `speedwell-hub check`

use clap::Args;

use speedwell_hub::server;

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
    server::check(&config)?;
    let (path, broker, http) = (args.config.config.display(), &config.broker.url, config.http.listen);
    println!("{path}: fine; broker {broker}, page on http://{http}");
    Ok(())
}
