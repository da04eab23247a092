//! The uplink against a real mosquitto over MQTT 5: what this version can say that 3.1.1 cannot.

mod broker;
mod gateway;

use broker::{Broker, Hub, PREFIX, installed};
use gateway::Gateway;
use rumqttc::v5::{AsyncClient, MqttOptions};
use speedwell::uplink::{Confirmation, Fault, Link, Options, Version};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Small batches, so that there are many.
fn five(options: &mut Options) {
    (options.version, options.max_batch, options.window) = (Version::Five, 2048, 64 * 1024);
}

#[tokio::test]
async fn a_backlog_arrives_once_in_order_though_the_broker_dies_in_the_middle_and_takes_two_at_a_time() {
    if !installed() {
        return;
    }
    // mosquitto tells this as its receive maximum; one that is exceeded ends the connection.
    let mut broker = Broker::with("allow_anonymous true\nmax_inflight_messages 2\n", |_| {});
    let hub = Hub::start(broker.port).await;
    let mut gateway = Gateway::new(broker.port, |o| {
        five(o);
        o.backlog_pace = Some(100_000);
    });
    gateway.append(3000).await;
    gateway.start();
    hub.until("in the middle", |s| s.thru > 1000).await;
    broker.kill();
    gateway.until("cut", |s| s.link != Link::Connected).await;
    broker.restart();
    gateway.until("all freed", |s| s.confirmed == 3000).await;
    assert_eq!(hub.state().records(), gateway.numbered(1..=3000));
    assert_eq!(gateway.stats().connections, 2, "{:?}", gateway.stats());
}

#[tokio::test]
async fn batches_fit_the_limit_that_the_broker_tells() {
    if !installed() {
        return;
    }
    let broker = Broker::with("allow_anonymous true\nmax_packet_size 2000\n", |_| {});
    let hub = Hub::start(broker.port).await;
    let mut gateway = Gateway::new(broker.port, |o| o.version = Version::Five);
    gateway.append(1000).await;
    gateway.start();
    gateway.until("all freed", |s| s.confirmed == 1000).await;
    assert_eq!(hub.state().records(), gateway.numbered(1..=1000));
    assert_eq!(gateway.stats().connections, 1, "no packet was too large for the broker");
}

#[tokio::test]
async fn a_publish_that_is_not_allowed_is_no_success_and_is_told_with_its_code() {
    if !installed() {
        return;
    }
    let lines = "allow_anonymous true\nacl_file DIR/acl\n";
    let broker = Broker::with(lines, |dir| {
        let acl = format!("topic read {PREFIX}/#\ntopic write {PREFIX}/+/status\n");
        std::fs::write(dir.join("acl"), acl).expect("written");
    });
    let mut gateway = Gateway::new(broker.port, five);
    gateway.append(20).await;
    gateway.start();
    let refused = |fault: &Option<Fault>| matches!(fault, Some(Fault::NotTaken { .. }));
    gateway.until("refused", |s| refused(&s.last_fault)).await;
    let fault = gateway.stats().last_fault.expect("there is one");
    assert_eq!(fault.to_string(), "the broker does not take a batch: this client is not authorised (0x87)");
    assert_eq!(gateway.stats().confirmed, 0);
    assert_eq!(gateway.spool.stats().confirmed_seq, 0, "what was refused is kept");
}

#[tokio::test]
async fn a_twin_is_named_as_what_it_is_by_a_broker_that_cuts_its_reason_short() {
    if !installed() {
        return;
    }
    // mosquitto leaves out the empty list of properties behind the reason, which the client takes for half a packet: the
    // reason is lost, and what is left is that the connection was closed.
    let broker = Broker::start();
    let mut gateway = Gateway::new(broker.port, five);
    gateway.start();
    gateway.until("connected", |s| s.link == Link::Connected).await;
    let (_client, mut twin) = AsyncClient::new(MqttOptions::new("truck-7", "127.0.0.1", broker.port), 4);
    twin.poll().await.expect("accepted");
    let fault = gateway.fault().await;
    assert!(matches!(&fault, Fault::Kicked { id, .. } if id == "truck-7"), "{fault}");
    assert!(fault.remedy().contains("another client"));
}

/// A broker that accepts one connection and then sends these bytes.
async fn that_ends_with(bytes: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut connect = [0; 1024];
        let _ = stream.read(&mut connect).await;
        // CONNACK: no session, success, no properties.
        let _ = stream.write_all(&[0x20, 3, 0, 0, 0]).await;
        let _ = stream.write_all(bytes).await;
        std::future::pending::<()>().await;
    });
    port
}

#[tokio::test]
async fn what_the_broker_says_when_it_ends_the_connection_is_told() {
    let told = async |bytes| {
        let mut gateway = Gateway::new(that_ends_with(bytes).await, five);
        gateway.start();
        gateway.fault().await.to_string()
    };
    // DISCONNECT, reason, length of properties; then one with a reason string (property 0x1F).
    let taken_over = r#"another client has connected with the id "truck-7" and takes this gateway's place"#;
    assert_eq!(told(&[0xE0, 2, 0x8E, 0]).await, taken_over);
    let dismissed = r#"the broker ends the connection: server shutting down (0x8B), "at noon""#;
    assert_eq!(told(b"\xE0\x0C\x8B\x0A\x1F\0\x07at noon").await, dismissed);
}

/// A broker of MQTT 5 that answers the first `refused` batches with a reason code, and takes what comes after them.
async fn that_refuses(reason: u8, refused: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    tokio::spawn(async move {
        let mut left = refused;
        while let Ok((mut stream, _)) = listener.accept().await {
            while let Some((first, body)) = packet(&mut stream).await {
                let id = || {
                    let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                    (first & 0x06 != 0).then(|| [body[2 + topic], body[3 + topic]])
                };
                let answer = match first >> 4 {
                    1 => vec![0x20, 3, 0, 0, 0],
                    3 => match id() {
                        Some([high, low]) if body.windows(4).any(|four| four == b"/log") && left > 0 => {
                            left -= 1;
                            vec![0x40, 4, high, low, reason, 0]
                        }
                        Some([high, low]) => vec![0x40, 4, high, low, 0, 0],
                        None => Vec::new(),
                    },
                    8 => vec![0x90, 4, body[0], body[1], 0, 1],
                    12 => vec![0xD0, 0],
                    _ => Vec::new(),
                };
                if stream.write_all(&answer).await.is_err() {
                    break;
                }
            }
        }
    });
    port
}

/// The first byte of the next packet, and what follows its length.
async fn packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let first = stream.read_u8().await.ok()?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = stream.read_u8().await.ok()?;
        length |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte < 0x80 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((first, body))
}

#[tokio::test]
async fn a_quota_that_is_exceeded_frees_nothing_and_all_comes_when_there_is_room() {
    // No real broker can be told to have no room.
    let mut gateway = Gateway::new(that_refuses(0x97, 3).await, |o| {
        five(o);
        o.confirm = Confirmation::Broker;
    });
    gateway.append(500).await;
    gateway.start();
    let fault = gateway.fault().await;
    assert_eq!(fault.to_string(), "the broker does not take a batch: a quota is exceeded (0x97)");
    gateway.until("all freed", |s| s.confirmed == 500).await;
    assert!(gateway.stats().connections > 1, "what was refused was sent again: {:?}", gateway.stats());
}
