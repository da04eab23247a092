//! Keeps records on disk until the far end has stored them.
//!
//! In      records, in order, from the recorder, by [`Spool::append`].
//! Out     durable entries from any number on, to the uplink, by [`Spool::read_from`]; [`Spool::confirm_thru`] frees them.
//! Keeps   at most `max-size` on disk and 128 KiB that are not durable yet, for at most `commit-every`. When full the
//!         oldest generation goes (or the newest records are refused), and a loss record says so.
//! Imports `wire`.

mod chunk;
mod disk;
mod disk_log;
mod error;
mod files;
mod flat;
mod generation;
mod handle;
mod home;
mod lazy;
mod manifests;
mod marks;
mod memory;
mod options;
mod reader;
mod salvage;
mod stats;
mod store;
mod syncing;
mod tally;
mod thin;
mod writer;

pub use chunk::MAX_RECORD;
pub use error::{Confirmed, OpenError, SpoolError};
pub use handle::Spool;
pub use options::{Options, WhenFull};
pub use reader::{GenerationInfo, Reader};
pub use stats::{Opened, Place, Stats};
pub use store::Stored;

/// A name for a new log.
fn random_log_id() -> speedwell_wire::LogId {
    speedwell_wire::LogId(fastrand::u64(..))
}

/// What a panic said.
fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    words.unwrap_or("a panic without words").to_owned()
}
