//! The Speedwell gateway agent: measures speed and gets every measurement to the backend exactly once.
//!
//! A tour, top floor to cellar. A room imports only rooms below it; `tests/rooms.rs` holds that.
//!
//! - [`agent`]: hangs the rooms together with bounded channels and runs them until told to stop.
//! - [`config`]: one TOML file becomes the options of the rooms, or complaints a technician can act on.
//! - [`health`]: how the gateway is: heartbeat, systemd watchdog.
//! - [`uplink`]: replicates the log to the hub over MQTT.
//! - [`spool`]: keeps records on disk until the far end has stored them.
//! - [`recorder`]: readings become samples, samples become records.
//! - [`board`]: opens what a board has: GPIO lines, CAN, serial ports; simulated and recorded ones too.
//! - [`estimator`]: pulses become speed. Pure.
//! - [`sensor`]: what a sensor says, out of what it sends. Pure, no Linux in here.
//! - [`clock`]: boot time, boot number, UTC mapping.

pub mod agent;
pub mod board;
pub mod clock;
pub mod config;
pub mod estimator;
pub mod health;
pub mod recorder;
pub mod sensor;
pub mod spool;
pub mod uplink;
