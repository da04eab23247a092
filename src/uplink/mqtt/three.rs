//! MQTT 3.1.1.

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions, Outgoing, Packet, QoS,
    StateError, SubscribeReasonCode,
};
use tokio::time::timeout;

use super::{
    Ended, Events, Heard, INFLIGHT, MAX_INCOMING, PACKET_OVERHEAD, QUEUE, Will, closed_by_peer, innermost, keep_alive,
    network_options, password, timed_out, transport, unreachable,
};
use crate::uplink::{
    Options,
    fault::{Fault, Refusal},
};

/// Connects and waits until the broker accepts.
pub(super) async fn connect(
    options: &Options,
    client_id: &str,
    will: Option<Will>,
) -> Result<(AsyncClient, EventLoop), Fault> {
    let (client, mut event_loop) = AsyncClient::new(mqtt_options(options, client_id, will)?, QUEUE);
    event_loop.set_network_options(network_options(options));
    match timeout(options.times.connect, event_loop.poll()).await.map_err(|_| timed_out(options))? {
        Ok(Event::Incoming(Packet::ConnAck(_))) => Ok((client, event_loop)),
        Ok(other) => Err(Fault::Broken { cause: format!("{other:?} before CONNACK") }),
        Err(ConnectionError::NetworkTimeout) => Err(timed_out(options)),
        Err(ConnectionError::ConnectionRefused(code)) => Err(refused(code, options)),
        Err(error) => Err(unreachable(&error, is_aborted(&error), options)),
    }
}

fn mqtt_options(options: &Options, client_id: &str, will: Option<Will>) -> Result<MqttOptions, Fault> {
    let mut mqtt = MqttOptions::new(client_id, &options.host, options.port);
    // rumqttc panics below one second.
    mqtt.set_keep_alive(keep_alive(options, 1));
    mqtt.set_clean_session(true);
    mqtt.set_inflight(INFLIGHT);
    mqtt.set_max_packet_size(MAX_INCOMING, options.max_packet + PACKET_OVERHEAD);
    if let Some(user) = &options.user {
        mqtt.set_credentials(user, password(options.password.as_ref())?);
    }
    if let Some(will) = will {
        mqtt.set_last_will(LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, true));
    }
    if let Some(transport) = transport(options)? {
        mqtt.set_transport(transport);
    }
    Ok(mqtt)
}

impl Events for EventLoop {
    async fn next(&mut self) -> Result<Heard, Ended> {
        Ok(match self.poll().await.map_err(|error| ended(&error))? {
            Event::Outgoing(Outgoing::Publish(id)) => Heard::Sent(id),
            Event::Incoming(Packet::PubAck(ack)) => Heard::Acked(ack.pkid),
            Event::Incoming(Packet::SubAck(ack)) => {
                Heard::Subscribed(!ack.return_codes.contains(&SubscribeReasonCode::Failure))
            }
            Event::Incoming(Packet::Publish(message)) => {
                Heard::Message { topic: message.topic, payload: message.payload.to_vec() }
            }
            _ => Heard::Nothing,
        })
    }
}

fn ended(error: &ConnectionError) -> Ended {
    match error {
        ConnectionError::FlushTimeout => Ended::Stuck,
        ConnectionError::MqttState(StateError::AwaitPingResp) => Ended::Unanswered,
        error if is_aborted(error) || closed_by_peer(error) => Ended::Closed { cause: innermost(error) },
        error => Ended::Broken { cause: innermost(error) },
    }
}

fn is_aborted(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::MqttState(StateError::ConnectionAborted))
}

fn refused(code: ConnectReturnCode, options: &Options) -> Fault {
    let refusal = match code {
        ConnectReturnCode::Success => return Fault::Broken { cause: "refused with the code of success".into() },
        ConnectReturnCode::RefusedProtocolVersion => Refusal::Protocol,
        ConnectReturnCode::BadClientId => Refusal::ClientId,
        ConnectReturnCode::ServiceUnavailable => Refusal::Unavailable,
        ConnectReturnCode::BadUserNamePassword => Refusal::Credentials,
        ConnectReturnCode::NotAuthorized => Refusal::NotAuthorised,
    };
    Fault::Refused { host: options.host.clone(), port: options.port, refusal }
}
