//! Keeps records on disk until the far end has stored them.
