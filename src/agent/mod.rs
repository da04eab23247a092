//! Hangs the rooms together.
