//! `speedwell-hub migrate`

use clap::Args;
use speedwell_hub::store::{self, Migrated};

use super::{ConfigArgs, Failure};

/// Bring the database to the form that this program writes, and say from which
///
/// `run` does so by itself at its start; this is for those who want to see it done before.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) fn run(args: &MigrateArgs) -> Result<(), Failure> {
    let config = args.config.load()?;
    let (place, password) = (config.store.place(), config.store.password()?);
    let named = |failure: Failure| Failure { told: format!("{place}: {}", failure.told), ..failure };
    let done = store::migrate(&config.store, password.as_deref()).map_err(|error| named(error.into()))?;
    match done {
        Migrated { from: 0, to } => println!("{place}: made, in form {to}"),
        Migrated { from, to } if from == to => println!("{place}: has form {to} already, nothing to do"),
        Migrated { from, to } => println!("{place}: brought from form {from} to {to}"),
    }
    Ok(())
}
