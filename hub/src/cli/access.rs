//! `speedwell-hub user`, `key` and `audit`: who may do what, by whoever has a shell on the hub's machine.
//!
//! They write the file that the running hub reads, and it sees it within a second. A password is read from the terminal,
//! without being shown, or from standard input; never from the command line, which every user of the machine can list.

use std::{
    io::{self, BufRead, IsTerminal, Read, Write},
    path::{Path, PathBuf},
};

use clap::Subcommand;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use speedwell_hub::{
    HubError,
    access::{Book, BookError, By, MIN_CHARS, NewKey, Role, Scope, book, now_s},
};

use super::{ConfigArgs, Exit, Failure};

/// Passwords longer than any that is taken are not read to their end.
const MAX_INPUT: u64 = 4096;

/// What about access.
#[derive(Debug, Subcommand)]
pub(crate) enum Access {
    /// People who may log in.
    #[command(subcommand)]
    User(User),
    /// Keys of programs.
    #[command(subcommand)]
    Key(Key),
    /// Who changed what, the newest first.
    Audit {
        /// So many notes.
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=book::MAX_AUDIT_PAGE as i64))]
        last: u16,
        #[command(flatten)]
        at: ConfigArgs,
    },
}

/// What about people.
#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Let somebody in; asks for a password.
    Add {
        /// 1 to 64 of a-z 0-9 . _ - @
        name: String,
        /// What for.
        #[arg(long)]
        role: Role,
        #[command(flatten)]
        at: ConfigArgs,
    },
    /// Who there is.
    List {
        #[command(flatten)]
        at: ConfigArgs,
    },
    /// Give somebody another password, and end the sessions of the old one.
    Passwd {
        /// Whom.
        name: String,
        #[command(flatten)]
        at: ConfigArgs,
    },
    /// Give somebody another role.
    Role {
        /// Whom.
        name: String,
        /// Which.
        role: Role,
        #[command(flatten)]
        at: ConfigArgs,
    },
    /// Let somebody in no more.
    Remove {
        /// Whom.
        name: String,
        #[command(flatten)]
        at: ConfigArgs,
    },
}

/// What about keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key, and print it: it is shown this once.
    Add {
        /// What it is for.
        name: String,
        /// What it allows; several with commas.
        #[arg(long, value_delimiter = ',', required = true)]
        scope: Vec<Scope>,
        /// Ends after so many days; never without it.
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: Option<u32>,
        #[command(flatten)]
        at: ConfigArgs,
    },
    /// Which there are.
    List {
        #[command(flatten)]
        at: ConfigArgs,
    },
    /// End a key at once.
    Revoke {
        /// Its id or its name.
        key: String,
        #[command(flatten)]
        at: ConfigArgs,
    },
}

/// Nobody would look for it in a removal: a hub that knows nobody asks nobody.
fn warn_if_nobody(book: &Book, path: &Path) -> Result<(), Failure> {
    if !book.anybody().map_err(|e| failed(path, e))? {
        eprintln!(
            "there is neither a user nor a key now: once it is started again, the hub asks nobody on this machine who he is, \
             unless [access] required says so; beyond this machine it does not start"
        );
    }
    Ok(())
}

/// Does what is asked, and says what was done.
pub(crate) fn run(command: Access) -> Result<(), Failure> {
    match command {
        Access::User(command) => user(command),
        Access::Key(command) => key(command),
        Access::Audit { last, at } => {
            let (book, path) = open(&at)?;
            let page = book.audit(None, last.into()).map_err(|e| failed(&path, e))?;
            for note in page.notes {
                let (at, who, origin) = (note.at, note.who, note.origin);
                println!("{at}  {:<16}  {}  (by {who} at {origin})", note.what, note.detail);
            }
            Ok(())
        }
    }
}

fn user(command: User) -> Result<(), Failure> {
    let by = By::command_line();
    match command {
        User::Add { name, role, at } => {
            let (mut book, path) = open(&at)?;
            let name = book::checked_name(&name).map_err(|e| failed(&path, e))?;
            let password = password(&name)?;
            book.add_user(&by, &name, role, &password).map_err(|e| failed(&path, e))?;
            println!("{name} may log in as {role}");
        }
        User::Passwd { name, at } => {
            let (mut book, path) = open(&at)?;
            let name = book::checked_name(&name).map_err(|e| failed(&path, e))?;
            let password = password(&name)?;
            book.set_password(&by, &name, &password).map_err(|e| failed(&path, e))?;
            println!("{name} has another password; sessions begun with the old one have ended");
        }
        User::Role { name, role, at } => {
            let (mut book, path) = open(&at)?;
            book.set_role(&by, &name, role, false).map_err(|e| failed(&path, e))?;
            println!("{name} is {role} now");
        }
        User::Remove { name, at } => {
            let (mut book, path) = open(&at)?;
            book.remove_user(&by, &name, false).map_err(|e| failed(&path, e))?;
            println!("{name} may not log in any more; all sessions have ended");
            warn_if_nobody(&book, &path)?;
        }
        User::List { at } => {
            let (book, path) = open(&at)?;
            for user in book.users().map_err(|e| failed(&path, e))? {
                let last = user.last_login.as_deref().unwrap_or("never");
                println!("{:<24}  {:<8}  last login {last}", user.name, user.role.name());
            }
        }
    }
    Ok(())
}

fn key(command: Key) -> Result<(), Failure> {
    let by = By::command_line();
    match command {
        Key::Add { name, scope, days, at } => {
            let (mut book, path) = open(&at)?;
            let until_s = days.map(|days| now_s() + i64::from(days) * 86_400);
            let scopes = scope.into_iter().collect();
            let (id, key) = book.add_key(&by, &NewKey { name, scopes, until_s }).map_err(|e| failed(&path, e))?;
            eprintln!("The key, which is shown this once; revoke it with: speedwell-hub key revoke {id}");
            println!("{key}");
        }
        Key::Revoke { key, at } => {
            let (mut book, path) = open(&at)?;
            let id = book.revoke_key(&by, &key).map_err(|e| failed(&path, e))?;
            println!("{id} lets nobody in any more");
            warn_if_nobody(&book, &path)?;
        }
        Key::List { at } => {
            let (book, path) = open(&at)?;
            for key in book.keys().map_err(|e| failed(&path, e))? {
                let scopes = key.scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>().join(",");
                let ends = key.expires.map(|at| format!("ends {at}")).unwrap_or_else(|| "without end".into());
                let used = key.last_used.map(|at| format!("last used {at}")).unwrap_or_else(|| "never used".into());
                println!("{}  {:<24}  {scopes:<18}  {ends}, {used}", key.id, key.name);
            }
        }
    }
    Ok(())
}

fn open(at: &ConfigArgs) -> Result<(Book, PathBuf), Failure> {
    let path = at.load()?.access_path();
    Ok((Book::open(&path).map_err(|e| failed(&path, e))?, path))
}

fn failed(path: &Path, error: BookError) -> Failure {
    let exit = match &error {
        BookError::Sqlite(_) => return HubError::Access { path: path.into(), source: error }.into(),
        BookError::File { .. } | BookError::Open { .. } | BookError::Newer { .. } => Exit::Data,
        BookError::NoRandomness(_) => Exit::Unavailable,
        _ => Exit::Usage,
    };
    Failure::new(exit, error.to_string())
}

fn unread(error: io::Error) -> Failure {
    Failure::new(Exit::Unavailable, format!("the password could not be read: {error}"))
}

/// Twice from a terminal, once from anything else, without its line end.
fn password(user: &str) -> Result<String, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return line(&mut stdin.lock().take(MAX_INPUT)).map_err(unread);
    }
    let ask = |prompt: &str| -> io::Result<String> {
        eprint!("{prompt}");
        io::stderr().flush()?;
        let shown = tcgetattr(&stdin)?;
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        hidden.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
        let read = line(&mut stdin.lock().take(MAX_INPUT));
        tcsetattr(&stdin, OptionalActions::Now, &shown)?;
        read
    };
    let first = ask(&format!("Password of {user}, {MIN_CHARS} characters or more: ")).map_err(unread)?;
    match ask("The same again: ").map_err(unread)? == first {
        true => Ok(first),
        false => Err(Failure::new(Exit::Usage, "the two were not the same; nothing was changed")),
    }
}

/// A line without its end; what comes after it is somebody else's.
fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    from.read_line(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
