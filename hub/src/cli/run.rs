//! `speedwell-hub run`

use std::io;

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
    let runtime = runtime()?;
    // From here on, not from when the hub has started: who says stop meanwhile wants it to end in order too.
    let stop = {
        let _within = runtime.enter();
        asked_to_stop()
    };
    Ok(runtime.block_on(run_hub(config, stop))?)
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, HubError> {
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    built.map_err(|e| HubError::Task(format!("no runtime: {e}")))
}

/// Until SIGTERM or Ctrl-C. Both are heard from this call on, which has to be within a runtime.
pub(crate) fn asked_to_stop() -> impl Future<Output = ()> {
    use tokio::signal::unix::{Signal, SignalKind, signal};
    async fn hear(signal: io::Result<Signal>) {
        match signal {
            Ok(mut signal) => drop(signal.recv().await),
            // One that cannot be heard ends the program as it ends any other.
            Err(_) => std::future::pending().await,
        }
    }
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async {
        tokio::select! {
            () = hear(terminate) => {}
            () = hear(interrupt) => {}
        }
    }
}
