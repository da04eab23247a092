//! Commands of the hub.

pub(crate) mod access;
