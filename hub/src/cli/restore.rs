//! `speedwell-hub restore`

use std::path::PathBuf;

use clap::Args;
use speedwell_hub::store::sqlite::backup::{self as copies, Restored, Target};

use super::{
    ConfigArgs, Exit, Failure,
    backup::{failure, now, postgres},
};

/// Put a copy that `backup` made in the place of the database; the hub has to be stopped
///
/// Records that gateways had confirmed after the copy was made are freed there and do not come again: the hub writes
/// each such range down as a gap.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The copy
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Do so where there is a database; that one is kept beside it under another name
    #[arg(long)]
    replace: bool,
}

pub(crate) fn run(args: &RestoreArgs) -> Result<(), Failure> {
    let config = args.config.load()?;
    let files = copies::files(&config);
    let from = Target::of(&args.from);
    let stays = files.iter().filter(|file| !file.needed && file.path.exists() && from.file(file.suffix).exists());
    let stay: Vec<_> = stays.map(|file| (file.path.clone(), from.file(file.suffix))).collect();
    let restored = copies::restore(&files, &from, args.replace, &now()).map_err(failure)?;
    if restored.is_empty() && config.store.url.is_some() {
        return Err(Failure::new(Exit::Config, postgres(&config.store.place())));
    }
    for Restored { from, to, form, aside } in restored {
        println!("{}: restored from {}, form {form}", to.display(), from.display());
        if let Some(aside) = aside {
            println!("  what was there is kept as {}", aside.display());
        }
    }
    for (path, copy) in stay {
        println!("{}: users and keys stay as they are; the copy's are in {}", path.display(), copy.display());
    }
    println!("gateways send again what they still have; what they have freed is shown as a gap of each (docs/hub.md)");
    Ok(())
}
