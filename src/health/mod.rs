//! How the gateway is.
