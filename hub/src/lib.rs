//! The hub: takes batches, stores each record once, confirms it, serves live and past speeds.
//!
//! ```text
//! MQTT ──> ingest ──> ledger ──> store ──> confirm (retained) ──> gateway
//!             │                    │
//!             ├──> live <──────────┤ ──> api ──> page
//!             └──> presence <──────┘ ──> live, store
//! ```
//! - [`access`]: who may do what.
//! - [`config`]: one TOML file.
//! - `broker` (feature `embedded-broker`): a broker in this process, for the demo and for tests.
//! - [`simulate`]: gateways that do not exist, for load and for demos.
//! - [`server`]: hangs the rooms together: [`Hub::start`], [`run`].

pub mod access;
pub mod api;
#[cfg(feature = "embedded-broker")]
pub mod broker;
pub mod config;
pub mod ingest;
pub mod ledger;
pub mod live;
pub mod metrics;
pub mod presence;
pub mod server;
mod service;
pub mod simulate;
pub mod store;

pub use config::{BrokerUrl, Config};
pub use server::{Hub, HubError, Running, run};
