//! `speedwell-hub run`

use clap::Args;
use speedwell_hub::{HubError, run as run_hub};

use super::{ConfigArgs, Failure, logging};

/// Take batches and serve the page until told to stop (SIGTERM or Ctrl-C)
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let config = args.config.load()?;
    config.broker.password()?;
    config.store.password()?;
    logging::start(&config.log)?;
    Ok(runtime()?.block_on(run_hub(config, asked_to_stop()))?)
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, HubError> {
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    built.map_err(|e| HubError::Task(format!("no runtime: {e}")))
}

/// Until SIGTERM or Ctrl-C.
pub(crate) async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return tokio::signal::ctrl_c().await.unwrap_or_default();
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
