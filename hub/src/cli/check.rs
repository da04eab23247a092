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
    for path in config.open_secrets() {
        eprintln!("{0}: anybody on this machine may read it; chmod o-rwx {0}", path.display());
    }
    let (path, broker) = (args.config.config.display(), &config.broker.url);
    println!("{path}: fine; broker {broker}, page on {}", config.http.page(config.http.listen));
    Ok(())
}
