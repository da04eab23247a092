//! The words a Speedwell gateway and its hub both speak.
//!
//! `no_std` with `alloc`; imports nothing of ours. A tour:
//!
//! - [`id`]: who speaks ([`GatewayId`]), which log ([`LogId`]), which channel list ([`ManifestHash`]).
//! - [`manifest`]: what the channels of a gateway are: quantity, unit, resolution, period.
//! - [`record`]: what a gateway keeps: samples, events, clock fixes, losses.
//! - [`block`]: how the columns of a samples record become bytes.
//! - [`batch`]: consecutive records on their way to the hub.
//! - [`frame`]: version, postcard bytes, CRC-32C around a message.
//! - [`message`]: the smaller messages: confirmation, live values, status.
//! - [`json`]: the JSON twin of a batch, for people and foreign backends.
//! - [`topic`]: where each of them travels.
//!
//! # Growth rule
//! Bytes once written are read for ever. Enum variants and trailing fields are only appended; a struct that has to
//! change otherwise gets a new [`frame::VERSION`] and a conversion. The frozen-bytes tests hold that: when one fails,
//! the code is wrong, not the test.
#![no_std]

extern crate alloc;

pub mod batch;
pub mod block;
pub mod frame;
pub mod id;
pub mod json;
pub mod manifest;
pub mod message;
pub mod record;
pub mod topic;

pub use batch::{Batch, Entry};
pub use id::{GatewayId, LogId, ManifestHash, Seq};
pub use manifest::{Channel, Manifest, Quantity};
pub use message::{Confirm, Live, LiveValue, Status};
pub use record::{ClockFix, ClockSource, Event, EventKind, Loss, LossReason, NoData, Quality, Record, Samples};
