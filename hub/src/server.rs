//! Hangs the rooms together.

use std::{future::Future, io, net::SocketAddr};

use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::config::{Config, ConfigError};

/// The hub; see [`Hub::start`].
pub struct Hub;

/// A hub at work. Dropping it without [`Running::stop`] stops it without waiting.
pub struct Running {
    /// Where the page is; the port is the one that was bound when the configuration asked for port 0.
    pub http: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<Result<(), HubError>>>,
}

/// Why a hub does not start, or stopped by itself. What was confirmed is on disk.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The configuration, or a file it names.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address for the page could not be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A task of the hub panicked, which is a defect.
    #[error("a task of the hub ended unexpectedly: {0}")]
    Task(String),
}

impl Hub {
    /// Opens the store, binds the page's address and starts to listen to the broker. The broker need not be there yet.
    pub async fn start(config: Config) -> Result<Running, HubError> {
        let address = config.http.listen;
        let listener = TcpListener::bind(address).await.map_err(|source| HubError::Listen { address, source })?;
        let http = listener.local_addr().map_err(|source| HubError::Listen { address, source })?;
        let (stop, _) = watch::channel(false);
        Ok(Running { http, stop, tasks: Vec::new() })
    }
}

impl Running {
    /// Stops: no more is taken, what was taken is committed and confirmed.
    pub async fn stop(self) -> Result<(), HubError> {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.await.map_err(|e| HubError::Task(e.to_string()))??;
        }
        Ok(())
    }
}

/// Starts a hub, waits for `shutdown`, stops it.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), HubError> {
    let running = Hub::start(config).await?;
    shutdown.await;
    running.stop().await
}
