//! The uplink against a real mosquitto over bad lines and in bad company: what is sent first, and how often it is tried.

mod broker;
mod gateway;

use std::time::{Duration, Instant};

use broker::{Broker, Hub, installed};
use gateway::Gateway;
use rumqttc::{AsyncClient, MqttOptions};
use speedwell::uplink::{Fault, Link};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// A line to `port` that carries so many bytes a second upwards and has no room of its own; gives its port.
async fn slow_line(port: u16, bytes_a_second: u32) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let own = listener.local_addr().expect("it has one").port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            tokio::spawn(carry(near_read, far_write, Some(bytes_a_second)));
            tokio::spawn(carry(far_read, near_write, None));
        }
    });
    own
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, rate: Option<u32>) {
    let mut chunk = [0; 1024];
    while let Ok(n @ 1..) = from.read(&mut chunk).await {
        if let Some(rate) = rate {
            sleep(Duration::from_secs(1).mul_f64(n as f64 / f64::from(rate))).await;
        }
        if to.write_all(&chunk[..n]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn live_values_come_all_the_while_a_long_backlog_creeps_over_a_slow_line() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    let line = slow_line(broker.port, 60_000).await;
    let mut gateway = Gateway::new(line, |o| o.times.live = Duration::from_millis(100));
    for _ in 0..600 {
        gateway.append_detail(&"a long story ".repeat(70)).await;
    }
    gateway.start();
    let all = gateway.spool.stats().last_seq;
    let (began, mut said, mut waits) = (Instant::now(), 0, Vec::new());
    while hub.state().thru < all {
        assert!(began.elapsed() < Duration::from_secs(60), "the backlog does not come through");
        let before = hub.state().live;
        gateway.live.send_replace(Some(gateway::live(said)));
        said += 1;
        let at = Instant::now();
        while hub.state().live == before && hub.state().thru < all && at.elapsed() < broker::PATIENCE {
            sleep(Duration::from_millis(5)).await;
        }
        waits.push(at.elapsed());
    }
    let took = began.elapsed();
    assert!(took > Duration::from_secs(5), "the line is not slow: {took:?}");
    waits.sort();
    let (middle, worst) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    println!("backlog {took:?}; {} live values, half within {middle:?}, all within {worst:?}", waits.len());
    // What is in the kernel's buffers stands before a live value, and no more than that.
    assert!(middle < Duration::from_secs(2) && worst < took / 2, "half {middle:?}, worst {worst:?} of {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_kicked_again_and_again_comes_back_ever_more_rarely_and_names_the_twin() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let mut gateway = Gateway::new(broker.port, |o| {
        (o.times.backoff_base, o.times.backoff_cap) = (Duration::from_millis(50), Duration::from_secs(60));
    });
    gateway.append(10).await;
    // A twin without any patience: it is back at once, each time it was thrown off.
    let port = broker.port;
    let twin = tokio::spawn(async move {
        loop {
            let (_client, mut events) = AsyncClient::new(MqttOptions::new("truck-7", "127.0.0.1", port), 10);
            while events.poll().await.is_ok() {}
            sleep(Duration::from_millis(5)).await;
        }
    });
    gateway.start();
    sleep(Duration::from_secs(6)).await;
    let tries = gateway.stats().connections;
    // Without a growing wait there would be a hundred and more.
    assert!((2..=30).contains(&tries), "{tries} connections in six seconds");
    let fault = gateway.fault().await;
    assert!(matches!(&fault, Fault::Kicked { id, .. } if id == "truck-7"), "{fault}");
    twin.abort();
    let hub = Hub::start(broker.port).await;
    gateway.until("connected", |s| s.link == Link::Connected).await;
    hub.until("all stored", |s| s.thru == 10).await;
}
