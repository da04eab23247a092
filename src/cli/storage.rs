//! Looks at what a configuration names on disk: the spool's place and its room, certificates, the password.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use rustix::fs::{Access, StatVfsMountFlags};
use speedwell::config::{Broker, Config, Secret};

use super::{
    Exit,
    probe::{Finding, Mark, access},
    summary::bytes,
};

/// Looks at the spool's and the state directory.
pub(super) fn directories(config: &Config) -> Vec<Finding> {
    let spool = directory("spool", &config.spool.directory);
    let state = directory("state directory", &config.gateway.state_directory);
    let space = match spool.mark {
        Mark::Bad(_) => None,
        _ => Some(space(&config.spool.directory, config.spool.keep_free, config.spool.max_size)),
    };
    [Some(spool), space, Some(state)].into_iter().flatten().collect()
}

/// The path itself or the nearest directory above it that is there.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("."))
}

pub(super) fn directory(what: &str, path: &Path) -> Finding {
    let there = existing(path);
    let shown = path.display();
    if !there.is_dir() {
        let text = format!("{what} {shown}: {} is no directory", there.display());
        return Finding::bad(Exit::Spool, text, "name another directory, or move the file away");
    }
    match access(there, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if there == path => Finding::good(format!("{what} {shown} can be written")),
        Ok(()) => Finding::good(format!("{what} {shown} will be created")),
        Err(error) => cannot_write(what, path, there, &error),
    }
}

pub(super) fn cannot_write(what: &str, path: &Path, there: &Path, error: &io::Error) -> Finding {
    let shown = path.display();
    let (text, advice) = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => (
            format!("{what} {shown}: its file system is read-only"),
            "mount it writable, or name a directory on another disk".to_owned(),
        ),
        io::ErrorKind::PermissionDenied if there == path => {
            (format!("{what} {shown}: permission denied"), format!("chown it to the user: chown USER {shown}"))
        }
        io::ErrorKind::PermissionDenied => (
            format!("{what} {shown} is not there, and {} may not be written to create it", there.display()),
            format!("install -d -o USER {shown}"),
        ),
        _ => (format!("{what} {shown}: {error}"), "`dmesg` may say more".to_owned()),
    };
    Finding::bad(Exit::Spool, text, advice)
}

/// TMPFS_MAGIC and RAMFS_MAGIC of linux/magic.h.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

fn space(path: &Path, keep_free: u64, max_size: u64) -> Finding {
    let there = existing(path);
    let what = format!("spool {}", path.display());
    let (Ok(volume), Ok(kind)) = (rustix::fs::statvfs(there), rustix::fs::statfs(there)) else {
        return Finding::doubt(format!("{what}: how much is free cannot be told"), "`df` may say more");
    };
    if volume.f_flag.contains(StatVfsMountFlags::RDONLY) {
        let error = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        return cannot_write("spool", path, there, &error);
    }
    let free = volume.f_bavail.saturating_mul(volume.f_frsize);
    if IN_MEMORY.contains(&(kind.f_type as u64)) {
        let text = format!("{what} is in memory: a power cut takes all of it");
        return Finding::doubt(text, "fine for a trial; name a directory on a disk otherwise");
    }
    free_space(&what, free, keep_free, max_size, used(path))
}

pub(super) fn free_space(what: &str, free: u64, keep_free: u64, max_size: u64, used: u64) -> Finding {
    if free <= keep_free {
        return Finding::bad(
            Exit::Spool,
            format!("{what}: {} free, and keep-free leaves {} of it to others", bytes(free), bytes(keep_free)),
            "free some of the disk, or lower keep-free",
        );
    }
    let can_be = (free - keep_free).saturating_add(used);
    if can_be < max_size {
        let text = format!(
            "{what}: {} free; the spool can grow to {}, not to {}",
            bytes(free),
            bytes(can_be),
            bytes(max_size)
        );
        return Finding::doubt(text, "free some of the disk, or lower max-size; records are dropped earlier otherwise");
    }
    Finding::good(format!("{what}: {} free", bytes(free)))
}

/// Bytes of the files in a directory, two levels deep: a spool is generations of files.
fn used(path: &Path) -> u64 {
    fn sum(path: &Path, depth: u32) -> u64 {
        let Ok(entries) = fs::read_dir(path) else { return 0 };
        let size = |entry: fs::DirEntry| match entry.metadata() {
            Ok(meta) if meta.is_dir() && depth > 0 => sum(&entry.path(), depth - 1),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        };
        entries.filter_map(Result::ok).map(size).sum()
    }
    sum(path, 3)
}

/// Looks at the files the broker's part names.
pub(super) fn files(broker: &Broker) -> Vec<Finding> {
    let mut findings = Vec::new();
    let named = [
        ("ca-file", &broker.ca_file),
        ("client-certificate", &broker.client_certificate),
        ("client-key", &broker.client_key),
    ];
    for (key, path) in named.into_iter().filter_map(|(key, path)| Some((key, path.as_ref()?))) {
        findings.push(readable(key, path));
    }
    findings.extend(broker.password.as_ref().map(password));
    findings
}

fn readable(key: &str, path: &Path) -> Finding {
    match fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(meta) if meta.is_file() => Finding::good(format!("{key} {} can be read", path.display())),
        Ok(_) => {
            Finding::bad(Exit::NoInput, format!("{key} {} is no file", path.display()), "name the PEM file itself")
        }
        Err(error) => unreadable(key, path, &error),
    }
}

fn unreadable(key: &str, path: &Path, error: &io::Error) -> Finding {
    let text = format!("{key} {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let advice = format!("let the user read it: chgrp GROUP {0}; chmod g+r {0}", path.display());
            Finding::bad(Exit::Permission, text, advice)
        }
        io::ErrorKind::NotFound => {
            Finding::bad(Exit::NoInput, text, "a path without a slash is taken from the configuration's directory")
        }
        _ => Finding::bad(Exit::Io, text, "`dmesg` may say more"),
    }
}

fn password(secret: &Secret) -> Finding {
    let path = match (secret, secret.path()) {
        (Secret::File(path), _) => path.clone(),
        (Secret::Credential(_), Some(path)) => path,
        (Secret::Credential(name), None) => {
            let text = format!("password-file: the credential {name} is only there when systemd starts the service");
            return Finding::doubt(text, format!("the unit needs LoadCredential={name}:/path/of/the/password"));
        }
    };
    match secret.read() {
        Ok(text) if text.is_empty() => Finding::bad(
            Exit::Config,
            format!("password-file {} is empty", path.display()),
            "write the password into it, alone on one line",
        ),
        Ok(_) if others_may_read(&path) => Finding::doubt(
            format!("password-file {} can be read by everybody on this machine", path.display()),
            format!("chmod o-r {}", path.display()),
        ),
        Ok(_) => Finding::good(format!("password-file {} can be read", path.display())),
        Err(error) => unreadable("password-file", &path, &error),
    }
}

fn others_may_read(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_that_cannot_be_written_ends_with_the_code_of_the_spool() {
        let there = tempfile::tempdir().expect("a directory");
        assert!(directory("spool", there.path()).text.ends_with("can be written"));
        assert!(directory("spool", &there.path().join("a/b")).text.ends_with("will be created"));
        let file = there.path().join("file");
        fs::write(&file, "").expect("written");
        let finding = directory("spool", &file.join("spool"));
        assert_eq!(finding.mark, Mark::Bad(Exit::Spool));
        assert!(finding.text.ends_with("is no directory"), "{finding}");
        let told = |kind, there: &str| {
            cannot_write("spool", Path::new("/a/spool"), Path::new(there), &io::Error::from(kind)).to_string()
        };
        let wanted = "\
FAIL  spool /a/spool: permission denied
      chown it to the user: chown USER /a/spool
";
        assert_eq!(told(io::ErrorKind::PermissionDenied, "/a/spool"), wanted);
        let wanted = "\
FAIL  spool /a/spool is not there, and /a may not be written to create it
      install -d -o USER /a/spool
";
        assert_eq!(told(io::ErrorKind::PermissionDenied, "/a"), wanted);
        assert!(
            told(io::ErrorKind::ReadOnlyFilesystem, "/a")
                .starts_with("FAIL  spool /a/spool: its file system is read-only\n")
        );
    }

    #[test]
    fn a_disk_that_is_too_full_is_bad_and_one_that_is_too_small_doubtful() {
        const MIB: u64 = 1 << 20;
        let full = free_space("spool /s", 100 * MIB, 256 * MIB, 2048 * MIB, 0);
        let wanted = "\
FAIL  spool /s: 100 MiB free, and keep-free leaves 256 MiB of it to others
      free some of the disk, or lower keep-free
";
        assert_eq!(full.to_string(), wanted);
        let small = free_space("spool /s", 1256 * MIB, 256 * MIB, 2048 * MIB, 24 * MIB);
        assert_eq!(small.text, "spool /s: 1.227 GiB free; the spool can grow to 1 GiB, not to 2 GiB");
        assert_eq!(small.mark, Mark::Doubt);
        assert_eq!(free_space("spool /s", 4096 * MIB, 256 * MIB, 2048 * MIB, 0).mark, Mark::Good);
    }

    #[test]
    fn a_password_that_is_missing_empty_or_open_to_all_is_told_and_never_shown() {
        let there = tempfile::tempdir().expect("a directory");
        let file = there.path().join("password");
        let secret = Secret::File(file.clone());
        assert_eq!(password(&secret).mark, Mark::Bad(Exit::NoInput));
        fs::write(&file, "\n").expect("written");
        assert_eq!(password(&secret).mark, Mark::Bad(Exit::Config));
        fs::write(&file, "hunter2\n").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("set");
        assert_eq!(password(&secret).mark, Mark::Doubt);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("set");
        let finding = password(&secret);
        assert_eq!(finding.mark, Mark::Good);
        assert!(!finding.to_string().contains("hunter2"));
        assert_eq!(password(&Secret::Credential("no-such".into())).mark, Mark::Doubt);
    }

    #[test]
    fn what_lies_in_the_spool_counts_as_its_own_space() {
        let there = tempfile::tempdir().expect("a directory");
        fs::create_dir(there.path().join("generation")).expect("made");
        fs::write(there.path().join("generation/db"), [0; 1000]).expect("written");
        fs::write(there.path().join("log"), [0; 24]).expect("written");
        symlink(there.path(), there.path().join("loop")).expect("linked");
        assert!(used(there.path()) >= 1024);
    }
}
