//! Makes sled's flush reach the disk.
//!
//! On Linux sled 0.34 ends a flush with `sync_file_range`, which writes neither the disk's own cache nor the file's
//! metadata: of 120 simulated power cuts 5 left a database with everything it had promised. So this program answers the
//! call itself, with an fsync: the linker takes a symbol of the program before one of the C library.
//!
//! One at a time, for sled writes its buffers from several threads. f2fs notes in flags of the inode that something was
//! written since the last sync, and takes them away at the end of a sync: also those of a write that came after this sync
//! had asked the disk. The sync of that write then finds nothing to do and returns while its data are in the disk's cache.
//!
//! [`active`] asks whether it did, in the running program, and the spool refuses to open otherwise. A test watches the
//! system calls of a real child process.

use std::sync::{Mutex, PoisonError};

use libc::{c_int, c_uint, off64_t};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Answers sled's call: syncs the file, all of it. No descriptor is the question whether it is this that answers.
///
/// # Safety
/// Touches nothing but `errno`, so any arguments will do.
#[unsafe(no_mangle)]
unsafe extern "C" fn sync_file_range(fd: c_int, _offset: off64_t, _bytes: off64_t, _flags: c_uint) -> c_int {
    if fd < 0 {
        // SAFETY: the address of this thread's errno is always valid.
        unsafe { *libc::__errno_location() = libc::ENOSYS };
        return -1;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: any number is a descriptor or none; letting the mutex go leaves `errno` as it is.
    unsafe { libc::fsync(fd) }
}

/// Whether a call from anywhere in this program comes here. The kernel would say EBADF of descriptor -1.
pub(super) fn active() -> bool {
    // SAFETY: descriptor -1 is never open, so the kernel would only refuse.
    let answer = unsafe { libc::sync_file_range(-1, 0, 0, 0) };
    answer == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_answer_to_sync_file_range_is_ours() {
        assert!(super::active());
    }
}
