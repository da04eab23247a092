//! Which boot this is: the kernel's random id, and a number that grows with each boot this gateway knows of.
//!
//! The number is kept in the state directory, in `boot` and a copy of it, each two equal lines `<boot id> <number>`:
//! written aside, flushed, renamed, and the directory flushed, one after the other, so that a power cut leaves at
//! least one whole. The higher of the two readable ones counts. When neither is there this is the first boot; when
//! there is something but none of it can be read, the number leaps by [`LEAP`], because it is not known how many boots
//! were forgotten. In both cases the caller's `at_least` (the highest boot in its spool) is never reached again.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
    str::FromStr,
};

use super::ClockError;

/// Where the kernel tells the id of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The files, in the order they are written.
const FILES: [&str; 2] = ["boot", "boot.copy"];

/// Larger is not one of ours: two lines of a uuid, a space, ten digits and a line end.
const MAX_FILE: u64 = 128;

/// Boots taken to be forgotten when the number was damaged: more than a gateway sees between two writes, and small
/// enough to stay two bytes on the wire.
pub(super) const LEAP: u32 = 10_000;

/// The kernel's random id of a boot.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BootId(pub u128);

impl BootId {
    /// The id of this boot.
    pub fn read() -> Result<BootId, ClockError> {
        let path = Path::new(BOOT_ID);
        let text = read_bounded(path)
            .map_err(|cause| ClockError::BootId { path: path.to_owned(), cause })?
            .unwrap_or_default();
        text.trim().parse().map_err(|()| ClockError::NotABootId {
            path: path.to_owned(),
            text: text.trim().chars().take(40).collect(),
        })
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let h = format!("{:032x}", self.0);
        write!(f, "{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootId({self})")
    }
}

impl FromStr for BootId {
    type Err = ();
    fn from_str(text: &str) -> Result<BootId, ()> {
        let groups: Vec<&str> = text.split('-').collect();
        let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
        if lengths != [8, 4, 4, 4, 12] || !text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()) {
            return Err(());
        }
        u128::from_str_radix(&groups.concat(), 16).map(BootId).map_err(|_| ())
    }
}

/// The number of this boot, and what is known of those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootNumber {
    /// From 1; higher than that of every boot known before.
    pub number: u32,
    /// What it is based on.
    pub memory: Memory,
}

/// What a boot's number is based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The agent ran in this boot before; the number is the same.
    SameBoot,
    /// The boot before is known.
    Kept,
    /// There was nothing in the state directory: a new gateway, or a new state directory.
    Nothing,
    /// What was there is damaged; the number leapt.
    Damaged,
}

/// The number of the boot `id`, kept in `state_directory`, which is made when it is not there. `at_least` is the
/// highest boot number known from elsewhere, 0 when none is.
pub fn boot_number(state_directory: &Path, id: BootId, at_least: u32) -> Result<BootNumber, ClockError> {
    let state = |path: &Path, cause| ClockError::State { path: path.to_owned(), cause };
    fs::create_dir_all(state_directory).map_err(|cause| state(state_directory, cause))?;
    let mut known: Option<(BootId, u32)> = None;
    let mut copies = 0;
    let mut damaged = false;
    for name in FILES {
        let path = state_directory.join(name);
        match read_bounded(&path).map_err(|cause| state(&path, cause))?.map(|text| parse(&text)) {
            None => {}
            Some(None) => damaged = true,
            Some(Some(entry)) => {
                copies += u32::from(entry.0 == id);
                known = known.filter(|old| old.1 >= entry.1).or(Some(entry));
            }
        }
    }
    let boot = decide(known, damaged, id, at_least);
    if boot.memory != Memory::SameBoot || copies < FILES.len() as u32 {
        for name in FILES {
            let path = state_directory.join(name);
            write_whole(state_directory, &path, &print(id, boot.number)).map_err(|cause| state(&path, cause))?;
        }
    }
    Ok(boot)
}

fn decide(known: Option<(BootId, u32)>, damaged: bool, id: BootId, at_least: u32) -> BootNumber {
    match known {
        Some((old, number)) if old == id => BootNumber { number, memory: Memory::SameBoot },
        Some((_, number)) => BootNumber { number: number.max(at_least).saturating_add(1), memory: Memory::Kept },
        None if damaged => BootNumber { number: at_least.saturating_add(LEAP), memory: Memory::Damaged },
        None => BootNumber { number: at_least.saturating_add(1), memory: Memory::Nothing },
    }
}

fn print(id: BootId, number: u32) -> String {
    format!("{id} {number}\n{id} {number}\n")
}

/// Both lines must be there and say the same: a torn or bit-flipped file is then seen to be one.
fn parse(text: &str) -> Option<(BootId, u32)> {
    let (first, second) = text.split_once('\n')?;
    if second.strip_suffix('\n')? != first {
        return None;
    }
    let (id, number) = first.split_once(' ')?;
    let number = number.parse().ok().filter(|&number| number > 0)?;
    Some((id.parse().ok()?, number))
}

/// The text of a file; `None` when there is none. What is too long or no text comes back as a text that means nothing.
fn read_bounded(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        bytes.clear();
    }
    Ok(Some(String::from_utf8(bytes).unwrap_or_default()))
}

fn write_whole(directory: &Path, path: &Path, text: &str) -> io::Result<()> {
    let aside = path.with_extension("new");
    let mut file = File::create(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: BootId = BootId(0x1111_2222_3333_4444_5555_6666_7777_8888);
    const B: BootId = BootId(0x9111_2222_3333_4444_5555_6666_7777_8888);
    const C: BootId = BootId(3);

    fn number(dir: &Path, id: BootId, at_least: u32) -> (u32, Memory) {
        let boot = boot_number(dir, id, at_least).unwrap();
        (boot.number, boot.memory)
    }

    #[test]
    fn each_boot_gets_the_next_number_and_a_restart_in_the_same_boot_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("made/on/the/way");
        assert_eq!(number(&dir, A, 0), (1, Memory::Nothing));
        assert_eq!(number(&dir, A, 0), (1, Memory::SameBoot));
        assert_eq!(number(&dir, B, 0), (2, Memory::Kept));
        assert_eq!(number(&dir, B, 0), (2, Memory::SameBoot));
        assert_eq!(number(&dir, C, 0), (3, Memory::Kept));
    }

    #[test]
    fn a_wiped_state_directory_does_not_give_out_a_number_the_spool_has_seen() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(number(dir.path(), A, 41), (42, Memory::Nothing));
        assert_eq!(number(dir.path(), B, 7), (43, Memory::Kept));
        assert_eq!(number(dir.path(), C, 77), (78, Memory::Kept));
    }

    #[test]
    fn one_damaged_copy_is_healed_from_the_other() {
        for damaged in FILES {
            let dir = tempfile::tempdir().unwrap();
            number(dir.path(), A, 0);
            number(dir.path(), B, 0);
            fs::write(dir.path().join(damaged), b"\0\0\0\0").unwrap();
            assert_eq!(number(dir.path(), B, 0), (2, Memory::SameBoot), "{damaged}");
            for name in FILES {
                assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), print(B, 2), "{damaged} {name}");
            }
        }
    }

    #[test]
    fn a_cut_between_the_two_writes_gives_the_new_number_again() {
        let dir = tempfile::tempdir().unwrap();
        number(dir.path(), A, 0);
        fs::write(dir.path().join("boot"), print(B, 2)).unwrap();
        assert_eq!(number(dir.path(), B, 0), (2, Memory::SameBoot));
        fs::write(dir.path().join("boot"), print(C, 3)).unwrap();
        assert_eq!(number(dir.path(), A, 0), (4, Memory::Kept));
    }

    #[test]
    fn a_lost_number_leaps_over_the_forgotten_boots() {
        for junk in [&b""[..], b"\xff\xfe", b"x", &[b'1'; 500], b"11112222-3333-4444-5555-666677778888 9\n"] {
            let dir = tempfile::tempdir().unwrap();
            for name in FILES {
                fs::write(dir.path().join(name), junk).unwrap();
            }
            assert_eq!(number(dir.path(), A, 5), (5 + LEAP, Memory::Damaged), "{junk:?}");
            assert_eq!(number(dir.path(), B, 5), (6 + LEAP, Memory::Kept));
        }
    }

    #[test]
    fn a_state_directory_that_is_a_file_is_told_with_its_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = boot_number(file.path(), A, 0).unwrap_err().to_string();
        assert!(error.contains(&*file.path().to_string_lossy()), "{error}");
    }

    #[test]
    fn the_boot_id_is_printed_as_the_kernel_prints_it() {
        let id = BootId::read().unwrap();
        let kernel = fs::read_to_string(BOOT_ID).unwrap();
        assert_eq!(id.to_string(), kernel.trim());
        assert_eq!("11112222-3333-4444-5555-66667777888x".parse::<BootId>(), Err(()));
        assert_eq!("1111222233334444-5555-6666-77778888".parse::<BootId>(), Err(()));
    }
}
