//! MQTT 5: acknowledgements that can refuse, limits that the broker tells, and a reason when it ends the connection.
//!
//! The client of this version sends no faster than the broker's receive maximum and refuses packets beyond the broker's
//! limit. It does not bound a flush: a peer that takes no more data is found by the watchdog around all polling. Its
//! list of packets in flight is made for the whole space of ids, 14 MiB, unless it is told a limit.

pub(super) use rumqttc::v5::mqttbytes::QoS;
use rumqttc::{
    Outgoing,
    v5::{
        AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError,
        mqttbytes::v5::{
            ConnectProperties, ConnectReturnCode, DisconnectReasonCode, LastWill, Packet, PubAckReason,
            SubscribeReasonCode,
        },
    },
};
use tokio::time::timeout;

use super::{
    Ended, Events, Heard, INFLIGHT, MAX_INCOMING, QUEUE, Will, closed_by_peer, innermost, keep_alive, network_options,
    password, timed_out, transport, unreachable,
};
use crate::uplink::{
    Options,
    fault::{Fault, Refusal},
};

/// rumqttc panics below.
const KEEP_ALIVE_LEAST_S: u64 = 5;

/// Connects and waits until the broker accepts; gives the largest packet it takes, where it tells.
pub(super) async fn connect(
    options: &Options,
    client_id: &str,
    will: Option<Will>,
) -> Result<(AsyncClient, EventLoop, Option<usize>), Fault> {
    let (client, mut event_loop) = AsyncClient::new(mqtt_options(options, client_id, will)?, QUEUE);
    match timeout(options.times.connect, event_loop.poll()).await.map_err(|_| timed_out(options))? {
        Ok(Event::Incoming(Packet::ConnAck(accepted))) => {
            let max_packet = accepted.properties.and_then(|p| p.max_packet_size).map(|bytes| bytes as usize);
            Ok((client, event_loop, max_packet))
        }
        Ok(other) => Err(Fault::Broken { cause: format!("{other:?} before CONNACK") }),
        Err(ConnectionError::Timeout(_)) => Err(timed_out(options)),
        Err(
            ConnectionError::ConnectionRefused(code)
            | ConnectionError::MqttState(StateError::ConnFail { reason: code }),
        ) => Err(refused(code, options)),
        Err(error) => Err(unreachable(&error, is_aborted(&error), options)),
    }
}

fn mqtt_options(options: &Options, client_id: &str, will: Option<Will>) -> Result<MqttOptions, Fault> {
    let mut mqtt = MqttOptions::new(client_id, &options.host, options.port);
    mqtt.set_keep_alive(keep_alive(options, KEEP_ALIVE_LEAST_S));
    mqtt.set_clean_start(true);
    mqtt.set_outgoing_inflight_upper_limit(INFLIGHT);
    mqtt.set_connection_timeout(options.times.connect.as_secs().max(1));
    mqtt.set_network_options(network_options(options));
    let mut properties = ConnectProperties::new();
    properties.max_packet_size = Some(MAX_INCOMING as u32);
    mqtt.set_connect_properties(properties);
    if let Some(user) = &options.user {
        mqtt.set_credentials(user, password(options.password.as_ref())?);
    }
    if let Some(will) = will {
        mqtt.set_last_will(LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, true, None));
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
            Event::Incoming(Packet::PubAck(ack)) => match not_taken(ack.reason) {
                None => Heard::Acked(ack.pkid),
                Some(why) => Heard::Refused(ack.pkid, why),
            },
            Event::Incoming(Packet::SubAck(ack)) => {
                Heard::Subscribed(ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))))
            }
            Event::Incoming(Packet::Publish(message)) => Heard::Message {
                topic: String::from_utf8_lossy(&message.topic).into_owned(),
                payload: message.payload.to_vec(),
            },
            _ => Heard::Nothing,
        })
    }
}

/// What a PUBACK says instead of "I have it" (MQTT 5, table 3-5); `None` when it says that. That nobody has subscribed
/// is no refusal: the hub confirms what it gets.
fn not_taken(reason: PubAckReason) -> Option<&'static str> {
    match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => None,
        PubAckReason::UnspecifiedError => Some("it gives no reason (0x80)"),
        PubAckReason::ImplementationSpecificError => Some("for a reason of its own (0x83)"),
        PubAckReason::NotAuthorized => Some("this client is not authorised (0x87)"),
        PubAckReason::TopicNameInvalid => Some("it does not accept the topic (0x90)"),
        PubAckReason::PacketIdentifierInUse => Some("the packet's number is in use (0x91)"),
        PubAckReason::QuotaExceeded => Some("a quota is exceeded (0x97)"),
        PubAckReason::PayloadFormatInvalid => Some("it does not accept the payload's format (0x99)"),
    }
}

fn ended(error: &ConnectionError) -> Ended {
    match error {
        ConnectionError::MqttState(StateError::AwaitPingResp) => Ended::Unanswered,
        ConnectionError::MqttState(StateError::OutgoingPacketTooLarge { pkt_size, max }) => {
            Ended::TooLarge { bytes: *pkt_size, limit: *max }
        }
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            dismissed(*reason_code, reason_string.as_deref())
        }
        error if is_aborted(error) || closed_by_peer(error) => Ended::Closed { cause: innermost(error) },
        error => Ended::Broken { cause: innermost(error) },
    }
}

fn is_aborted(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::MqttState(StateError::ConnectionAborted))
}

fn dismissed(code: DisconnectReasonCode, words: Option<&str>) -> Ended {
    if code == DisconnectReasonCode::SessionTakenOver {
        return Ended::TakenOver;
    }
    let name = spaced(&format!("{code:?}"));
    let told = words.map_or_else(String::new, |words| format!(", {words:?}"));
    Ended::Dismissed { why: format!("{name} (0x{:02X}){told}", code as u8) }
}

/// `ServerShuttingDown` as `server shutting down`.
fn spaced(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 8);
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

/// The reason codes of CONNACK (MQTT 5, table 3-1).
fn refused(code: ConnectReturnCode, options: &Options) -> Fault {
    use ConnectReturnCode as Code;
    let refusal = match code {
        Code::Success => return Fault::Broken { cause: "refused with the code of success".into() },
        Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => Refusal::NotFive,
        Code::BadClientId | Code::ClientIdentifierNotValid => Refusal::ClientId,
        Code::ServiceUnavailable | Code::ServerUnavailable | Code::ServerBusy | Code::ConnectionRateExceeded => {
            Refusal::Unavailable
        }
        Code::BadUserNamePassword | Code::BadAuthenticationMethod => Refusal::Credentials,
        Code::NotAuthorized | Code::Banned => Refusal::NotAuthorised,
        Code::QuotaExceeded => Refusal::Quota,
        other => return Fault::Dismissed { why: spaced(&format!("{other:?}")) },
    };
    Fault::Refused { host: options.host.clone(), port: options.port, refusal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_and_a_missing_right_are_no_success_and_a_missing_reader_is() {
        assert_eq!(not_taken(PubAckReason::QuotaExceeded), Some("a quota is exceeded (0x97)"));
        assert!(not_taken(PubAckReason::NotAuthorized).is_some());
        assert_eq!(not_taken(PubAckReason::NoMatchingSubscribers), None);
        assert_eq!(not_taken(PubAckReason::Success), None);
    }

    #[test]
    fn a_takeover_is_told_as_one_and_any_other_end_in_the_brokers_words() {
        assert!(matches!(dismissed(DisconnectReasonCode::SessionTakenOver, None), Ended::TakenOver));
        match dismissed(DisconnectReasonCode::ServerShuttingDown, Some("back at noon")) {
            Ended::Dismissed { why } => assert_eq!(why, r#"server shutting down (0x8B), "back at noon""#),
            _ => panic!("another end"),
        }
    }
}
