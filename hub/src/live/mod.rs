//! The newest values and who is connected, for people who watch.
//!
//! In      live messages, status messages, stored values; messages that other rooms want told.
//! Out     [`GatewayView`]s of all gateways, and a feed of numbered messages ([`Watch`]): each gateway again when
//!         something of it changed.
//! Keeps   one value a channel, in memory. At most [`MAX_GATEWAYS`] gateways of [`MAX_CHANNELS`] channels, and
//!         [`MAX_ALL_CHANNELS`] of all together; which gateway changed at which number, for the last changes ([`Limits`]);
//!         nothing a client but how far it was told.
//! Imports `store` (its [`Latest`](crate::store::Latest), [`Standing`](crate::store::Standing)), `wire`.
//!
//! # The feed
//! Every change has a number, whether or not anybody watches, and a gateway keeps the number of its last. A client is one
//! number: up to which change it was told. To tell it what is new is to go through the changes after that, to leave out
//! those that a later one of the same gateway has overtaken, and to tell how many these were. So a client that takes its
//! time, one that was cut off and comes again with its number, and one that is always there are the same to the board:
//! each gets the newest and only that, and none of them is waited for. Only who is further behind than the changes that
//! are kept gets a snapshot, which is made in pieces: it holds what was true at its number or later.
//!
//! Views are whole and are rendered once for all who want the same. Time comes in as an argument.

mod board;
mod described;
mod feed;
mod gateway;
mod view;

use std::time::Duration;

pub use board::{Board, Speed};
pub use feed::{Channels, Filter, Limits, Look, Said, Since, Watch};
pub use view::{ChannelView, Connection, GatewayView, Totals};

/// Gateways shown; one more is stored all the same, but not shown.
pub const MAX_GATEWAYS: usize = 10_000;
/// Channels shown a gateway.
pub const MAX_CHANNELS: usize = 1_000;
/// Channels shown of all gateways together: a snapshot of them is some 20 MB.
pub const MAX_ALL_CHANNELS: usize = 100_000;
/// The beat of status messages.
pub const HEARTBEAT: Duration = Duration::from_secs(60);
/// Two and a half beats: one may be lost and the next be late without a gateway flapping.
pub const SILENT_AFTER: Duration = Duration::from_secs(150);
/// A rendered view is told again for so long: nobody sees that an age in it is so much off.
pub const AGE_SLACK: Duration = Duration::from_millis(100);
/// Gateways that a `skipped` message names.
pub const MAX_NAMED: usize = 100;
/// Longest message that another room may have told.
pub const MAX_TOLD_BYTES: usize = 16 * 1024;
