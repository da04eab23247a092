//! Opens what a board has.
