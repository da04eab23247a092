//! What is wrong with a configuration, as text a technician can act on.

use std::{fmt, io, path::Path};

/// All that is wrong with one file, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Complaints {
    /// At least one.
    pub complaints: Vec<Complaint>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What is wrong.
    pub message: String,
}

impl Complaints {
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Complaints {
        let message = format!("{}: cannot be read: {error}", path.display());
        Complaints { complaints: vec![Complaint { message }] }
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.complaints.iter().try_for_each(|c| writeln!(f, "{}", c.message))
    }
}
