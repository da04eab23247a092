//! What holds on every page: names for all that can be used, contrast, room on a phone.
