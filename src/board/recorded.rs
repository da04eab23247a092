//! Recordings, as files.
