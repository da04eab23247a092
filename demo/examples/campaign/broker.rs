//! Clients at the broker that are neither agent nor hub: one that listens, one that sends, a twin.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};

/// Batches that are remembered, to be sent again.
const REMEMBERED: usize = 64;
/// How often a client looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);
/// Before another try to connect.
const AGAIN: Duration = Duration::from_millis(200);
/// Longest that sending may take; the broker may be away.
const SEND_WITHIN: Duration = Duration::from_secs(2);

fn client(id: &str, port: u16) -> (Client, Connection) {
    let mut options = MqttOptions::new(id, "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(10)).set_max_packet_size(1 << 20, 1 << 20);
    Client::new(options, 256)
}

/// A client in a thread of its own; ends with the value.
struct Thread {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    fn start(mut turn: impl FnMut(&AtomicBool) + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let inner = over.clone();
        let thread = thread::spawn(move || {
            while !inner.load(Ordering::Relaxed) {
                turn(&inner);
                thread::sleep(AGAIN);
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The next thing that happens on a connection; `None` when it has ended.
fn next(connection: &mut Connection, over: &AtomicBool) -> Option<Event> {
    while !over.load(Ordering::Relaxed) {
        match connection.recv_timeout(LOOK) {
            Ok(Ok(event)) => return Some(event),
            Ok(Err(_)) | Err(rumqttc::RecvTimeoutError::Disconnected) => return None,
            Err(rumqttc::RecvTimeoutError::Timeout) => {}
        }
    }
    None
}

/// Remembers the batches that go by.
pub(crate) struct Ear {
    heard: Arc<Mutex<VecDeque<Vec<u8>>>>,
    _thread: Thread,
}

impl Ear {
    pub(crate) fn start(port: u16, topic: String) -> Self {
        let heard: Arc<Mutex<VecDeque<Vec<u8>>>> = Arc::default();
        let inner = heard.clone();
        let thread = Thread::start(move |over| {
            let (client, mut connection) = client("ear", port);
            let _ = client.try_subscribe(topic.clone(), QoS::AtLeastOnce);
            while let Some(event) = next(&mut connection, over) {
                if let Event::Incoming(Packet::Publish(message)) = event {
                    let mut heard = inner.lock().unwrap_or_else(PoisonError::into_inner);
                    heard.push_back(message.payload.to_vec());
                    if heard.len() > REMEMBERED {
                        heard.pop_front();
                    }
                }
            }
        });
        Self { heard, _thread: thread }
    }

    /// The batches that went by last, oldest first.
    pub(crate) fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// A second client under somebody's id, which comes back each time it is thrown out. Ends with the value.
pub(crate) struct Twin {
    _thread: Thread,
}

impl Twin {
    pub(crate) fn start(port: u16, id: String) -> Self {
        let turn = move |over: &AtomicBool| {
            let (_client, mut connection) = client(&id, port);
            while next(&mut connection, over).is_some() {}
        };
        Self { _thread: Thread::start(turn) }
    }
}

/// Publishes messages, each acknowledged by the broker; gives up when that is away.
pub(crate) fn send(port: u16, retain: bool, messages: &[(String, Vec<u8>)]) {
    let (client, mut connection) = client(&format!("sender-{}", fastrand::u32(..)), port);
    for (topic, payload) in messages {
        let _ = client.try_publish(topic.clone(), QoS::AtLeastOnce, retain, payload.clone());
    }
    let (mut acknowledged, until) = (0, Instant::now() + SEND_WITHIN);
    while acknowledged < messages.len() && Instant::now() < until {
        match connection.recv_timeout(LOOK) {
            Ok(Ok(Event::Incoming(Packet::PubAck(_)))) => acknowledged += 1,
            Ok(Err(_)) => return,
            _ => {}
        }
    }
}
