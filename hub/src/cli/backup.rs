//! `speedwell-hub backup`

use std::{
    io::IsTerminal,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Args;
use jiff::Timestamp;
use speedwell_hub::store::sqlite::backup::{self, Database, Progress, Target};

use super::{ConfigArgs, Exit, Failure};

/// Copy the database while the hub runs
///
/// The copy is of one moment, is checked, and is on disk under its name only when it is whole. It holds the ledger: a
/// hub that runs on it knows which records it has.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A file to be made, or a directory to make one in that is named by the time
    #[arg(long, value_name = "FILE|DIR")]
    to: PathBuf,
    /// Say nothing but what was made
    #[arg(long)]
    quiet: bool,
}

pub(crate) fn run(args: &BackupArgs) -> Result<(), Failure> {
    let config = args.config.load()?;
    let files = backup::files(&config);
    let files: Vec<Database> = files.into_iter().filter(|file| file.needed || file.path.exists()).collect();
    if files.is_empty() {
        return Err(Failure::new(Exit::Config, postgres(&config.store.place())));
    }
    let target = Target::new(&args.to, &now()).map_err(failure)?;
    let shown = !args.quiet && std::io::stderr().is_terminal();
    for Database { path: from, suffix, .. } in files {
        let to = target.file(suffix);
        let mut last = String::new();
        let bytes = backup::backup(&from, &to, |progress| show(&mut last, shown, &progress)).map_err(failure)?;
        let mib = bytes as f64 / 1024.0 / 1024.0;
        let clear = if shown { "\r\x1b[K" } else { "" };
        println!("{clear}{}: {mib:.1} MiB of {}, checked", to.display(), from.display());
    }
    if config.store.url.is_some() {
        println!("{}", postgres(&config.store.place()));
    }
    Ok(())
}

fn show(last: &mut String, shown: bool, progress: &Progress) {
    let told = match progress {
        Progress::Copied { done, of } => format!("copied {} %", done * 100 / (*of).max(1)),
        Progress::Checking => "checking the copy".into(),
    };
    if shown && told != *last {
        eprint!("\r\x1b[K{told}");
        *last = told;
    }
}

pub(super) fn failure(error: backup::BackupError) -> Failure {
    let exit = match error {
        backup::BackupError::Exists(_) | backup::BackupError::Write { .. } => Exit::CannotCreate,
        backup::BackupError::InUse(_) | backup::BackupError::UnderWay(_) => Exit::TryAgain,
        backup::BackupError::Missing(_) => Exit::Unavailable,
        backup::BackupError::Damaged { .. }
        | backup::BackupError::NotOurs { .. }
        | backup::BackupError::Newer { .. } => Exit::Data,
        backup::BackupError::Database { .. } => Exit::Unavailable,
    };
    Failure::new(exit, error.to_string())
}

/// For names: `20260504T100000Z`.
pub(super) fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now =
        Timestamp::from_second(i64::try_from(since.as_secs()).unwrap_or(i64::MAX)).unwrap_or(Timestamp::UNIX_EPOCH);
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// PostgreSQL has tools of its own, which know its server; one of ours would only hide theirs.
pub(super) fn postgres(place: &str) -> String {
    format!(
        "the database is {place}: PostgreSQL is copied by its own tools, also while the hub runs\n  \
         back up:  pg_dump --format=custom --file=hub.dump '{place}'\n  \
         restore:  systemctl stop speedwell-hub; createdb NEW; pg_restore --dbname=NEW hub.dump; then name NEW in [store] url"
    )
}
