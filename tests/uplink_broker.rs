//! The uplink against a real mosquitto: delivery, outages, silence.

mod broker;
mod gateway;

use std::{sync::Arc, time::Duration};

use broker::{Broker, Hub, PREFIX, installed};
use gateway::Gateway;
use rumqttc::{AsyncClient, MqttOptions, QoS};
use speedwell::uplink::{Confirmation, Encoding, Fault, Link};
use speedwell_wire::{Confirm, EventKind, LogId, Loss, LossReason, Record};

#[tokio::test]
async fn every_record_arrives_once_in_order_and_is_freed_after_its_confirmation() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    let mut gateway = Gateway::new(broker.port, |_| {});
    gateway.append(2000).await;
    gateway.start();
    hub.until("all stored", |s| s.thru == 2000).await;
    gateway.until("all freed", |s| s.confirmed == 2000).await;
    gateway.append(10).await;
    gateway.until("the new ones too", |s| s.confirmed == 2010).await;
    assert_eq!(hub.state().records(), gateway.numbered(1..=2010));
    assert_eq!(gateway.spool.stats().confirmed_seq, 2010);
    let state = hub.state();
    assert_eq!((state.dropped, state.duplicates), (0, 0));
}

#[tokio::test]
async fn a_broker_killed_in_the_middle_of_a_backlog_and_started_empty_loses_and_doubles_nothing() {
    if !installed() {
        return;
    }
    let mut broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    // Small batches and a slow pace, so that the cut comes in the middle.
    let mut gateway = Gateway::new(broker.port, |o| {
        (o.max_batch, o.window, o.backlog_pace) = (1024, 8192, Some(100_000));
    });
    gateway.append(3000).await;
    gateway.start();
    for cut in [500, 1500] {
        hub.until("in the middle", |s| s.thru > cut).await;
        broker.kill();
        gateway.until("cut", |s| s.link != Link::Connected).await;
        gateway.append(100).await;
        broker.restart();
    }
    gateway.until("all freed", |s| s.confirmed == 3200).await;
    assert_eq!(hub.state().records(), gateway.numbered(1..=3200));
    assert!(gateway.stats().connections >= 3, "{:?}", gateway.stats());
}

#[tokio::test]
async fn without_a_confirmation_it_sends_again_says_so_in_the_log_and_goes_on_when_the_hub_is_back() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    hub.state().deaf = true;
    let mut gateway = Gateway::new(broker.port, |o| o.times.confirm = Duration::from_millis(200));
    gateway.append(100).await;
    gateway.start();
    let event = gateway.event().await;
    assert_eq!(event.kind, EventKind::Unconfirmed);
    assert!(event.detail.starts_with("no confirmation for 1..=100 after "), "{}", event.detail);
    assert_eq!(gateway.stats().confirmed, 0);
    hub.state().deaf = false;
    gateway.until("all freed", |s| s.confirmed == 100).await;
    assert_eq!(hub.state().records(), gateway.numbered(1..=100));
}

#[tokio::test]
async fn a_confirmation_of_another_log_or_of_the_future_frees_nothing() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    hub.state().mute = true;
    let mut gateway = Gateway::new(broker.port, |_| {});
    gateway.append(10).await;
    let log = gateway.spool.log_id();
    gateway.start();
    hub.until("stored", |s| s.thru == 10).await;
    for confirm in [Confirm { log: LogId(log.0 ^ 1), thru: 5 }, Confirm { log, thru: 11 }] {
        hub.publish(format!("{PREFIX}/truck-7/confirm"), true, serde_json::to_vec(&confirm).unwrap()).await;
    }
    hub.publish(format!("{PREFIX}/truck-7/confirm"), true, b"{\"thru\": what".to_vec()).await;
    gateway.until("both ignored", |s| s.ignored_confirms == 2).await;
    assert_eq!(gateway.stats().confirmed, 0);
    let confirm = serde_json::to_vec(&Confirm { log, thru: 7 }).unwrap();
    hub.publish(format!("{PREFIX}/truck-7/confirm"), true, confirm).await;
    gateway.until("the good one taken", |s| s.confirmed == 7).await;
}

#[tokio::test]
async fn a_hub_that_already_has_everything_is_not_sent_it_again() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    let mut gateway = Gateway::new(broker.port, |_| {});
    gateway.append(50).await;
    // The confirmation came while the gateway was away; the broker kept it.
    let confirm = Confirm { log: gateway.spool.log_id(), thru: 50 };
    hub.publish(format!("{PREFIX}/truck-7/confirm"), true, serde_json::to_vec(&confirm).unwrap()).await;
    hub.state().mute = true;
    gateway.start();
    gateway.until("freed", |s| s.confirmed == 50).await;
    assert_eq!(gateway.stats().batches, 0);
}

#[tokio::test]
async fn where_the_broker_s_word_is_enough_no_hub_is_needed() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let mut gateway = Gateway::new(broker.port, |o| o.confirm = Confirmation::Broker);
    gateway.append(500).await;
    gateway.start();
    gateway.until("all freed", |s| s.confirmed == 500).await;
}

#[tokio::test]
async fn a_record_that_fits_no_packet_becomes_a_loss_in_its_place_and_holds_up_nothing() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    let mut gateway = Gateway::new(broker.port, |o| o.max_packet = 400);
    gateway.append(5).await;
    gateway.append_detail(&"x".repeat(500)).await;
    gateway.append(5).await;
    gateway.start();
    gateway.until("all freed", |s| s.confirmed == 11).await;
    let loss = Loss { reason: LossReason::TooLarge, records: 1, samples: 0, from: None, until: None };
    assert_eq!(hub.state().stored.get(&6), Some(&(1, Record::Loss(loss))));
    assert_eq!(gateway.stats().set_aside, 1);
    assert_eq!(hub.state().stored.len(), 11);
}

#[tokio::test]
async fn birth_and_goodbye_are_kept_by_the_broker_and_so_is_the_will_of_a_gateway_that_dies() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    let mut gateway = Gateway::new(broker.port, |_| {});
    gateway.start();
    hub.until("born", |s| s.statuses.last().is_some_and(|s| s.online && s.version == env!("CARGO_PKG_VERSION"))).await;
    gateway.stop().await;
    hub.until("gone with a goodbye", |s| s.statuses.last().is_some_and(|s| !s.online && !s.version.is_empty())).await;
    gateway.start();
    hub.until("born again", |s| s.statuses.last().is_some_and(|s| s.online)).await;
    // As SIGKILL does: the socket closes without a word.
    gateway.abort().await;
    hub.until("the will is told", |s| s.statuses.last().is_some_and(|s| !s.online && s.health.is_none())).await;
}

#[tokio::test]
async fn live_values_and_the_trouble_of_a_sensor_are_told_on_change_and_the_heartbeat_by_time() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    let mut gateway = Gateway::new(broker.port, |o| {
        (o.times.live, o.times.heartbeat) = (Duration::from_millis(20), Duration::from_secs(3600));
    });
    gateway.start();
    hub.until("born", |s| s.statuses.len() == 1).await;
    gateway.live.send(Some(gateway::live(1))).unwrap();
    hub.until("a live value", |s| s.live == 1).await;
    gateway.health.send(Some(gateway::health(None))).unwrap();
    gateway.health.send(Some(gateway::health(Some(speedwell_wire::NoData::Silent)))).unwrap();
    hub.until("the trouble", |s| s.statuses.len() >= 2 && gateway::troubled(s.statuses.last().unwrap())).await;
    let mut beating = Gateway::new(broker.port, |o| {
        o.gateway = speedwell_wire::GatewayId::new("truck-8").unwrap();
        o.times.heartbeat = Duration::from_millis(50);
    });
    beating.start();
    let beats = |s: &broker::HubState| s.statuses.iter().filter(|s| s.gateway.as_str() == "truck-8").count();
    hub.until("three heartbeats", |s| beats(s) >= 3).await;
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_told_with_host_and_port_and_waited_for() {
    if !installed() {
        return;
    }
    let port = broker::free_port();
    let mut gateway = Gateway::new(port, |_| {});
    gateway.append(1).await;
    gateway.start();
    let fault = gateway.fault().await;
    assert_eq!(
        fault.to_string(),
        format!("the broker 127.0.0.1:{port} is unreachable: Connection refused (os error 111)")
    );
    assert!(fault.remedy().contains("broker.url"));
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_told_as_such() {
    let mut gateway = Gateway::new(1883, |o| o.host = "no-such-host.invalid".into());
    gateway.start();
    assert!(matches!(gateway.fault().await, Fault::Unresolved { host, .. } if host == "no-such-host.invalid"));
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_one_are_told_with_the_broker_s_code() {
    if !installed() {
        return;
    }
    let lines = "allow_anonymous false\npassword_file DIR/passwords\n";
    let broker = Broker::with(lines, |dir| {
        let file = dir.join("passwords");
        let made = std::process::Command::new("mosquitto_passwd")
            .arg("-c")
            .arg("-b")
            .arg(&file)
            .args(["anna", "right"])
            .status();
        assert!(made.is_ok_and(|s| s.success()));
    });
    let file = broker.directory.path().join("secret");
    std::fs::write(&file, "wrong\n").unwrap();
    let mut gateway = Gateway::new(broker.port, |o| {
        (o.user, o.password) = (Some("anna".into()), Some(speedwell::uplink::Password::File(file.clone())));
    });
    gateway.start();
    let fault = gateway.fault().await;
    assert_eq!(
        fault.to_string(),
        format!("the broker 127.0.0.1:{} refuses: this client is not authorised (code 5)", broker.port)
    );
    assert!(fault.remedy().contains("password-file"));
    // Renewed while it runs.
    std::fs::write(&file, "right\n").unwrap();
    gateway.until("let in", |s| s.link == Link::Connected).await;
}

#[tokio::test]
async fn another_client_with_the_same_id_is_named_as_what_it_is() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let mut gateway = Gateway::new(broker.port, |_| {});
    gateway.start();
    gateway.until("connected", |s| s.link == Link::Connected).await;
    let (_client, mut events) = AsyncClient::new(MqttOptions::new("truck-7", "127.0.0.1", broker.port), 10);
    events.poll().await.unwrap();
    let fault = gateway.fault().await;
    assert!(matches!(&fault, Fault::Kicked { id, .. } if id == "truck-7"), "{fault}");
    assert!(fault.remedy().contains("another client"));
}

#[tokio::test]
async fn json_is_sent_where_it_is_wanted() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    let mut gateway = Gateway::new(broker.port, |o| {
        (o.encoding, o.confirm) = (Encoding::Json, Confirmation::Broker);
    });
    gateway.append(300).await;
    gateway.start();
    gateway.until("all freed", |s| s.confirmed == 300).await;
    hub.until("as JSON", |s| s.json > 0).await;
}

#[tokio::test]
async fn samples_come_after_their_manifest_and_are_merged_while_far_behind() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let hub = Hub::start(broker.port).await;
    let mut gateway = Gateway::new(broker.port, |_| {});
    let hash = gateway.append_samples(500).await;
    gateway.start();
    gateway.until("all freed", |s| s.confirmed == 500).await;
    let state = hub.state();
    assert_eq!(state.manifests, [hash.to_string()]);
    assert!(state.merged > 30, "{} merged entries", state.merged);
    assert_eq!(gateway::ticks(&state), (0..500 * 10).collect::<Vec<u64>>(), "every sample once, in order");
}

#[tokio::test]
async fn a_stop_before_any_connection_is_quick() {
    let mut gateway = Gateway::new(broker::free_port(), |o| o.times.backoff_base = Duration::from_secs(60));
    gateway.start();
    gateway.fault().await;
    let began = std::time::Instant::now();
    gateway.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(gateway.stats().link, Link::Stopped);
}

#[tokio::test]
async fn checking_the_broker_does_not_throw_a_running_agent_off() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let mut gateway = Gateway::new(broker.port, |_| {});
    gateway.start();
    gateway.until("connected", |s| s.link == Link::Connected).await;
    speedwell::uplink::probe(&gateway.options).await.unwrap();
    let options = Arc::new(gateway.options.clone());
    assert_eq!(options.gateway.as_str(), "truck-7");
    assert_eq!(gateway.stats().connections, 1);
    // Its subscription answers a round trip later: it is still the same connection.
    let (client, mut events) = AsyncClient::new(MqttOptions::new("other", "127.0.0.1", broker.port), 10);
    client.try_publish("x", QoS::AtLeastOnce, false, "y").unwrap();
    while !matches!(events.poll().await.unwrap(), rumqttc::Event::Incoming(rumqttc::Packet::PubAck(_))) {}
    assert_eq!(gateway.stats().connections, 1);
}
