//! The kernel's own count of a line's interrupts: `/sys/kernel/irq/N/per_cpu_count`, one number a processor.
//!
//! Which interrupt is a line's, its `actions` tell: the name that the line was requested under. It is counted in the hard
//! interrupt, before anything can merge or overflow, so it is a count that owes nothing to the events.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the kernel shows its interrupts.
const ROOT: &str = "/sys/kernel/irq";

/// Interrupts looked at; a small board has a few hundred.
const INTERRUPTS_MAX: usize = 4096;

/// The counts of some interrupts.
#[derive(Debug)]
pub(super) struct Interrupts {
    counts: Vec<PathBuf>,
    base: u64,
}

impl Interrupts {
    /// Those of the lines that were requested under this name; `None` where the kernel does not show them.
    pub(super) fn of(consumer: &str) -> Option<Self> {
        Self::under(Path::new(ROOT), consumer)
    }

    fn under(root: &Path, consumer: &str) -> Option<Self> {
        let entries = fs::read_dir(root).ok()?;
        let is_ours = |folder: &PathBuf| {
            let actions = fs::read_to_string(folder.join("actions")).unwrap_or_default();
            actions.trim_end().split(',').any(|name| name == consumer)
        };
        let folders = entries.take(INTERRUPTS_MAX).filter_map(|entry| Some(entry.ok()?.path())).filter(is_ours);
        let counts: Vec<PathBuf> = folders.map(|folder| folder.join("per_cpu_count")).collect();
        let mut interrupts = Self { counts, base: 0 };
        interrupts.base = interrupts.sum()?;
        Some(interrupts)
    }

    /// How many there were since it was made.
    pub(super) fn count(&self) -> Option<u64> {
        self.sum()?.checked_sub(self.base)
    }

    fn sum(&self) -> Option<u64> {
        if self.counts.is_empty() {
            return None;
        }
        self.counts.iter().map(|file| total(&fs::read_to_string(file).ok()?)).sum()
    }
}

/// `3,0,12,1` added up.
fn total(text: &str) -> Option<u64> {
    text.trim().split(',').map(|count| count.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_interrupts_of_that_name_count_and_only_from_now_on() {
        let root = tempfile::tempdir().unwrap();
        let make = |number: &str, actions: &str, counts: &str| {
            let folder = root.path().join(number);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("actions"), actions).unwrap();
            fs::write(folder.join("per_cpu_count"), counts).unwrap();
        };
        make("40", "speedwell front-wheel\n", "3,0,12,1\n");
        make("41", "eth0\n", "1000,0,0,0\n");
        make("42", "other,speedwell front-wheel\n", "5,0,0,0\n");
        let interrupts = Interrupts::under(root.path(), "speedwell front-wheel").unwrap();
        assert_eq!(interrupts.count(), Some(0));
        make("40", "speedwell front-wheel\n", "3,7,12,1\n");
        make("42", "other,speedwell front-wheel\n", "6,0,0,0\n");
        assert_eq!(interrupts.count(), Some(8));
        assert!(Interrupts::under(root.path(), "speedwell front").is_none());
        assert!(Interrupts::under(Path::new("/no/such"), "x").is_none());
        assert_eq!(total("1,x"), None);
    }
}
