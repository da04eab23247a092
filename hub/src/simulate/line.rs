//! The line of a simulated gateway. The only file of the simulator that knows `rumqttc`.
//!
//! A connection for each gateway, however many there are: last wills, cuts and sessions belong to a connection, and a pool
//! that shares them would simulate a gateway that does not exist. One costs some 40 KiB and a file descriptor.

use std::{sync::Arc, time::Duration};

pub(super) use rumqttc::QoS;
use rumqttc::{AsyncClient, Event, EventLoop, LastWill, MqttOptions, Packet, TlsConfiguration, Transport};
use speedwell_wire::{Confirm, GatewayId, topic::Topics};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use crate::{
    config,
    ingest::mqtt::{BrokerError, tls},
};

const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Connecting, and any one write: a broker that a thousand come to at once takes its time.
const NETWORK_TIMEOUT_S: u64 = 20;
/// Batches that the broker has not acknowledged.
const INFLIGHT: u16 = 32;
/// What may wait to be written: more is not asked for before there is room.
const REQUESTS: usize = 48;
/// What a gateway is told, read ahead.
const READ_AHEAD: usize = 4;
const MAX_PACKET: usize = 128 * 1024;
/// How long a goodbye may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// How to reach the broker.
pub(super) struct Line {
    host: String,
    port: u16,
    user: Option<(String, String)>,
    tls: Option<Arc<tokio_rustls::rustls::ClientConfig>>,
}

/// One connection. Dropped, it breaks without a goodbye, and the broker publishes the will.
pub(super) struct Connection {
    client: AsyncClient,
    said: mpsc::Receiver<Said>,
    pump: JoinHandle<()>,
}

/// What comes over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It stands, and confirmations will be heard.
    Connected,
    /// The hub has so much.
    Confirm(Confirm),
    /// It is over.
    Lost(String),
}

impl Line {
    /// Prepares; connects to nothing.
    pub(super) fn new(config: &config::Broker) -> Result<Self, BrokerError> {
        let password = config.password()?.unwrap_or_default();
        let user = config.user.clone().map(|user| (user, password));
        let tls = config.url.tls.then(|| tls(config.ca_file.as_deref())).transpose()?.map(Arc::new);
        Ok(Self { host: config.url.host.clone(), port: config.url.port, user, tls })
    }

    /// Begins a connection.
    pub(super) fn connect(&self, gateway: &GatewayId, topics: &Topics, will: Vec<u8>) -> Connection {
        let mut options = MqttOptions::new(gateway.as_str(), &self.host, self.port);
        options
            .set_keep_alive(KEEP_ALIVE)
            .set_inflight(INFLIGHT)
            .set_max_packet_size(MAX_PACKET, MAX_PACKET)
            .set_last_will(LastWill::new(topics.status(), will, QoS::AtLeastOnce, true));
        if let Some((user, password)) = &self.user {
            options.set_credentials(user, password);
        }
        if let Some(tls) = &self.tls {
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.clone())));
        }
        let (client, mut event_loop) = AsyncClient::new(options, REQUESTS);
        let mut network = event_loop.network_options();
        network.set_connection_timeout(NETWORK_TIMEOUT_S);
        network.set_tcp_nodelay(true);
        event_loop.set_network_options(network);
        let (tx, said) = mpsc::channel(READ_AHEAD);
        let pump = tokio::spawn(pump(event_loop, client.clone(), topics.confirm(), tx));
        Connection { client, said, pump }
    }
}

async fn pump(mut event_loop: EventLoop, client: AsyncClient, confirm: String, to: mpsc::Sender<Said>) {
    loop {
        let said = match event_loop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => match client.try_subscribe(&confirm, QoS::AtLeastOnce) {
                Ok(()) => None,
                Err(error) => Some(Said::Lost(error.to_string())),
            },
            Ok(Event::Incoming(Packet::SubAck(_))) => Some(Said::Connected),
            // What is no confirmation is not ours.
            Ok(Event::Incoming(Packet::Publish(p))) => serde_json::from_slice(&p.payload).ok().map(Said::Confirm),
            Ok(_) => None,
            Err(error) => Some(Said::Lost(error.to_string())),
        };
        let Some(said) = said else { continue };
        let last = matches!(said, Said::Lost(_));
        if to.send(said).await.is_err() || last {
            return;
        }
    }
}

impl Connection {
    /// What comes next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Said {
        self.said.recv().await.unwrap_or_else(|| Said::Lost("connection closed".into()))
    }

    /// Hands something over to be written, if there is room.
    pub(super) fn publish(&self, topic: String, qos: QoS, retain: bool, payload: Vec<u8>) -> bool {
        self.client.try_publish(topic, qos, retain, payload).is_ok()
    }

    /// Writes what is queued, says goodbye.
    pub(super) async fn close(mut self) {
        let _ = self.client.try_disconnect();
        let over = async { while self.said.recv().await.is_some() {} };
        let _ = timeout(CLOSE_WITHIN, over).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.pump.abort();
    }
}
