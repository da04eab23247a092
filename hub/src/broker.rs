//! A broker inside this process. The only file that knows `rumqttd`.
//!
//! In      nothing, or an address.
//! Out     an MQTT 3.1.1 listener on a loopback port, for as long as the process lives.
//! Keeps   at most [`SEGMENT_BYTES`] × [`SEGMENTS`] a topic, in memory.
//! Imports nothing of ours.
//!
//! For the demo and for tests, not for service: rumqttd keeps everything in memory, loses it when the process ends,
//! and when its segments are full it drops the oldest messages without telling anyone. Nothing is lost even then, since
//! a gateway resends what the hub has not confirmed, but a backlog would crawl. It has no way to stop either.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use rumqttd::{ConnectionSettings, RouterConfig, ServerSettings};

/// Largest message: twice what the hub takes, so that the hub's own limit is the one that is met.
pub const MAX_PACKET_BYTES: usize = 2 * 1024 * 1024;
/// One segment of a topic's log. Small, because an idle segment takes its whole size.
pub const SEGMENT_BYTES: usize = 1024 * 1024;
/// Segments a topic: 8 MiB of batches is an hour of a large gateway's backlog.
pub const SEGMENTS: usize = 8;
/// A demo has a handful of clients.
pub const MAX_CONNECTIONS: usize = 64;
/// Unacknowledged messages a client; the hub's window lies well inside.
pub const MAX_INFLIGHT: usize = 500;
/// A listener that has not come up by then will not.
const START_WITHIN: Duration = Duration::from_secs(5);

/// The broker did not come up.
#[derive(Debug, thiserror::Error)]
#[error("the embedded broker does not listen on {address}: {source}")]
pub struct BrokerError {
    /// Where it should.
    pub address: SocketAddr,
    /// Why not.
    pub source: io::Error,
}

/// Starts a broker on a free loopback port and waits until it listens.
pub fn start() -> Result<SocketAddr, BrokerError> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let free = || TcpListener::bind(any)?.local_addr();
    start_on(free().map_err(|source| BrokerError { address: any, source })?)
}

/// Starts a broker on this address and waits until it listens.
pub fn start_on(address: SocketAddr) -> Result<SocketAddr, BrokerError> {
    let failed = |source| BrokerError { address, source };
    let mut broker = rumqttd::Broker::new(settings(address));
    thread::Builder::new()
        .name("broker".into())
        .spawn(move || {
            if let Err(error) = broker.start() {
                tracing::error!(%error, "the embedded broker ended");
            }
        })
        .map_err(failed)?;
    let began = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(_) => return Ok(address),
            Err(error) if began.elapsed() > START_WITHIN => return Err(failed(error)),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn settings(listen: SocketAddr) -> rumqttd::Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: 10_000,
        max_payload_size: MAX_PACKET_BYTES,
        max_inflight_count: MAX_INFLIGHT,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server =
        ServerSettings { name: "broker-v4".into(), listen, tls: None, next_connection_delay_ms: 1, connections };
    rumqttd::Config {
        router: RouterConfig {
            max_connections: MAX_CONNECTIONS,
            max_outgoing_packet_count: 200,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: SEGMENTS,
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("v4".to_owned(), server)])),
        ..rumqttd::Config::default()
    }
}
