//! The log on disk. For now a stand-in that keeps records in memory, so that other rooms can be built against it.

use super::{error::OpenError, memory::Memory, options::Options, stats::Opened};

pub(super) struct DiskLog;

impl DiskLog {
    pub(super) fn open(options: &Options) -> Result<(Memory, Opened), OpenError> {
        use super::store::Store;
        let store = Memory::new(super::random_log_id(), options.max_size);
        let opened = Opened::in_memory(store.log_id(), Vec::new());
        Ok((store, opened))
    }
}
