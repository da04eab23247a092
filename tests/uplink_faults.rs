//! The uplink against a broker that misbehaves on purpose: a small one of our own on rumqttc's packets, because no real
//! one can be told to.

mod broker;
mod gateway;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gateway::Gateway;
use rumqttc::{
    ConnectReturnCode, SubscribeReasonCode,
    mqttbytes::v4::{ConnAck, Packet, PubAck, SubAck},
};
use speedwell::uplink::{
    Confirmation, Fault,
    fault::{CertificateTrouble, Refusal},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// How the broker misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Answers CONNECT with this code.
    Refuse(ConnectReturnCode),
    /// Refuses every subscription.
    NoSubscriptions,
    /// Takes publishes and never acknowledges them.
    NoAcks,
    /// Acknowledges in blocks of four, the last first.
    Backwards,
    /// Closes the connection at each third publish, before or after acknowledging it.
    Cut { acked: bool },
    /// Says nothing at all after accepting the connection.
    Mute,
    /// Accepts and then answers nothing, not even pings.
    Dead,
}

/// The misbehaving broker. Behaves once `good` is set.
struct Faulty {
    port: u16,
    good: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Faulty {
    async fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let good = Arc::new(AtomicBool::new(false));
        let is_good = good.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let mood = (!is_good.load(Ordering::SeqCst)).then_some(mood);
                tokio::spawn(serve(socket, mood));
            }
        });
        Faulty { port, good, task }
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection; ends when the socket does.
async fn serve(mut socket: TcpStream, mood: Option<Mood>) {
    let mut buffer = Default::default();
    let mut held = Vec::new();
    let mut taken = 0;
    loop {
        while let Ok(packet) = Packet::read(&mut buffer, 1 << 20) {
            let mut answers = Vec::new();
            match packet {
                _ if mood == Some(Mood::Mute) => {}
                Packet::Connect(_) => match mood {
                    Some(Mood::Refuse(code)) => answers.push(Packet::ConnAck(ConnAck::new(code, false))),
                    _ => answers.push(Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false))),
                },
                _ if mood == Some(Mood::Dead) => {}
                Packet::Subscribe(s) => {
                    let code = match mood {
                        Some(Mood::NoSubscriptions) => SubscribeReasonCode::Failure,
                        _ => SubscribeReasonCode::Success(rumqttc::QoS::AtLeastOnce),
                    };
                    answers.push(Packet::SubAck(SubAck::new(s.pkid, vec![code])));
                }
                Packet::Publish(p) => {
                    taken += 1;
                    let ack = Packet::PubAck(PubAck::new(p.pkid));
                    match mood {
                        Some(Mood::NoAcks) => {}
                        Some(Mood::Backwards) => {
                            held.push(ack);
                            if held.len() == 4 {
                                answers.extend(held.drain(..).rev());
                            }
                        }
                        Some(Mood::Cut { acked }) if taken % 3 == 0 => {
                            if acked {
                                let mut out = Default::default();
                                ack.write(&mut out, 1 << 20).unwrap();
                                let _ = socket.write_all(&out).await;
                            }
                            return;
                        }
                        _ => answers.push(ack),
                    }
                }
                Packet::PingReq => answers.push(Packet::PingResp),
                _ => {}
            }
            for answer in answers {
                let mut out = Default::default();
                answer.write(&mut out, 1 << 20).unwrap();
                if socket.write_all(&out).await.is_err() {
                    return;
                }
            }
        }
        let mut chunk = [0; 4096];
        match socket.read(&mut chunk).await {
            Ok(n) if n > 0 => buffer.extend_from_slice(&chunk[..n]),
            _ => return,
        }
    }
}

#[tokio::test]
async fn each_refusal_is_told_in_words_with_what_to_do() {
    let cases = [
        (ConnectReturnCode::RefusedProtocolVersion, Refusal::Protocol, "broker"),
        (ConnectReturnCode::BadClientId, Refusal::ClientId, "gateway.id"),
        (ConnectReturnCode::ServiceUnavailable, Refusal::Unavailable, "log"),
        (ConnectReturnCode::BadUserNamePassword, Refusal::Credentials, "broker.password-file"),
        (ConnectReturnCode::NotAuthorized, Refusal::NotAuthorised, "broker.user"),
    ];
    for (code, refusal, hint) in cases {
        let broker = Faulty::start(Mood::Refuse(code)).await;
        let mut gateway = Gateway::new(broker.port, |_| {});
        gateway.start();
        let fault = gateway.fault().await;
        assert_eq!(fault, Fault::Refused { host: "127.0.0.1".into(), port: broker.port, refusal });
        assert!(fault.remedy().contains(hint), "{}", fault.remedy());
    }
}

#[tokio::test]
async fn a_broker_that_forbids_the_confirmations_is_told_as_such() {
    let broker = Faulty::start(Mood::NoSubscriptions).await;
    let mut gateway = Gateway::new(broker.port, |_| {});
    gateway.start();
    assert_eq!(gateway.fault().await, Fault::NoSubscription);
}

#[tokio::test]
async fn a_broker_that_never_acknowledges_is_given_up_and_nothing_is_freed() {
    let broker = Faulty::start(Mood::NoAcks).await;
    let mut gateway = Gateway::new(broker.port, |o| {
        (o.confirm, o.times.acknowledge) = (Confirmation::Broker, Duration::from_millis(200));
    });
    gateway.append(100).await;
    gateway.start();
    assert!(matches!(gateway.fault().await, Fault::Unacknowledged { .. }));
    assert_eq!(gateway.stats().confirmed, 0);
    broker.good.store(true, Ordering::SeqCst);
    gateway.until("all freed", |s| s.confirmed == 100).await;
}

#[tokio::test]
async fn acknowledgements_out_of_order_free_only_what_has_no_hole_before_it() {
    let broker = Faulty::start(Mood::Backwards).await;
    let mut gateway = Gateway::new(broker.port, |o| {
        // Small batches: four of them must be in flight for any of them to be acknowledged.
        (o.confirm, o.max_batch, o.window) = (Confirmation::Broker, 1024, 1 << 20);
    });
    gateway.append(1000).await;
    gateway.start();
    gateway.until("most freed", |s| s.confirmed > 900).await;
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_of_every_window_comes_through_all_the_same() {
    for acked in [false, true] {
        let broker = Faulty::start(Mood::Cut { acked }).await;
        let mut gateway = Gateway::new(broker.port, |o| {
            o.confirm = Confirmation::Broker;
            (o.times.backoff_base, o.times.backoff_cap) = (Duration::from_millis(1), Duration::from_millis(5));
            (o.max_batch, o.window) = (4096, 16_384);
        });
        gateway.append(2000).await;
        gateway.start();
        gateway.until("all freed", |s| s.confirmed == 2000).await;
        assert!(gateway.stats().connections > 5, "{:?}", gateway.stats());
    }
}

#[tokio::test]
async fn a_broker_that_never_answers_the_greeting_is_told_with_the_time_it_had() {
    let broker = Faulty::start(Mood::Mute).await;
    let mut gateway = Gateway::new(broker.port, |o| o.times.connect = Duration::from_millis(300));
    gateway.start();
    let fault = gateway.fault().await;
    let told = format!("the broker 127.0.0.1:{} did not finish the handshake within 0.3 s", broker.port);
    assert_eq!(fault.to_string(), told);
}

#[tokio::test]
async fn a_broker_that_goes_silent_is_given_up_after_two_keep_alives() {
    let broker = Faulty::start(Mood::Dead).await;
    let mut gateway = Gateway::new(broker.port, |o| o.keep_alive = Duration::from_secs(1));
    gateway.start();
    let fault = gateway.fault().await;
    assert!(matches!(fault, Fault::Silent { .. }), "{fault}");
    broker.good.store(true, Ordering::SeqCst);
    gateway.until("connected again", |s| s.connections >= 2).await;
}

#[test]
fn a_clock_in_the_past_is_named_where_a_certificate_is_not_valid_yet() {
    let trouble = CertificateTrouble::NotYetValid;
    let fault = Fault::Certificate { host: "b".into(), port: 8883, trouble };
    assert!(fault.remedy().contains("clock"));
}
