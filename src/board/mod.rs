//! Opens what a board has.

pub mod catalog;

pub use catalog::{Board, BoardKind, BoardPin, Bus, Catalog, CatalogError, Chip, NoPin, Pin, PinAt};
