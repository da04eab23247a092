//! The door for programs that send JSON over a plain connection.
//!
//! In      objects or arrays of `{"device_id","location","speed","timestamp"?}`, a line each or over many lines.
//! Out     one line of JSON a message, in their order: what became of it, after the commit.
//! Keeps   of each connection the message under way and as many as `PIPELINE` that wait for their answer.
//!
//! ```text
//! {"message":"Data received","accepted":2}
//! {"error":"Invalid JSON format.","reason":"EOF while parsing a value at line 1 column 13"}
//! {"error":"1 of 2 items cannot be used; none was stored","items":[{"index":1,"reason":"missing: speed"}]}
//! ```
//! A hub that asks who one is wants `{"key":"swk_…"}` before anything else, and answers `{"message":"Key accepted"}`, or
//! says what is wrong and closes. When the store is slow or down nothing more is read, so that the sender's own buffers fill and it waits.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::access::{Access, Need, Who};

use super::{
    documents::{Documents, Found},
    gate::{Closed, Desk, Outcome, REFUSED, Share, keyless},
    let_go_after,
    readings::{ArrivalClock, MAX_ITEMS, Shape, Taken},
    told_to_stop,
};

/// Longest message: [`MAX_ITEMS`] items of 256 bytes.
pub const MAX_MESSAGE: usize = MAX_ITEMS * 256;
/// Messages of one connection that wait for their answer.
const PIPELINE: usize = 64;
/// Messages of all connections that wait for the store, and their bytes.
const WAITING: (usize, usize) = (1024, 8 * 1024 * 1024);
/// Bytes read at once.
const READ: usize = 16 * 1024;
/// A key has to be there within this: whoever has none must not hold a connection that others need.
const KEY_WITHIN: Duration = Duration::from_secs(10);
/// A client that does not take an answer for so long is let go.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// A client that acknowledges nothing for so long is gone.
const LOST_AFTER: Duration = Duration::from_secs(30);
/// Open messages may take so long when the hub is stopped.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Before the next try to take a connection when the machine has no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// What the door works with.
pub struct Door {
    /// How messages are written.
    pub shape: Shape,
    /// To the store.
    pub desk: Desk,
    /// Times of arrival.
    pub clock: Arc<ArrivalClock>,
    /// Who may send.
    pub access: Access,
    /// Connections at once; one more is told so and closed.
    pub max_connections: usize,
    /// A connection over which no whole message comes for so long is closed.
    pub idle: Duration,
}

struct Shared {
    door: Door,
    share: Share,
}

/// What is to be written.
enum Answer {
    Now(String),
    Waits { outcome: oneshot::Receiver<Outcome>, accepted: usize },
}

/// Takes connections until told to stop.
pub async fn run(listener: TcpListener, door: Door, mut stop: watch::Receiver<bool>) {
    let free = Arc::new(Semaphore::new(door.max_connections));
    let shared = Arc::new(Shared { door, share: Share::new(WAITING.0, WAITING.1) });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = told_to_stop(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => match free.clone().try_acquire_owned() {
                    Ok(permit) => {
                        let (shared, stop) = (shared.clone(), stop.clone());
                        connections.spawn(async move {
                            serve(stream, &shared, stop).await;
                            drop(permit);
                        });
                    }
                    Err(_) => refuse(stream),
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot take a TCP connection");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // What is not answered in time was not accepted either, as far as its sender knows.
    let _ = timeout(STOP_WITHIN, all).await;
}

/// Says no without waiting: the buffer of a new connection has room for a line.
fn refuse(stream: TcpStream) {
    let line = error("Too many connections; try again later.", json!({}));
    // Not waited for, and a client that is gone need not know.
    let _ = stream.into_std().and_then(|mut stream| stream.write_all(line.as_bytes()));
}

async fn serve(stream: TcpStream, shared: &Shared, mut stop: watch::Receiver<bool>) {
    // Answers are short, and their reader may wait for one before it sends more.
    let _ = stream.set_nodelay(true);
    let_go_after(&stream, LOST_AFTER);
    let (from, to) = stream.into_split();
    let (answers, waiting) = mpsc::channel(PIPELINE);
    // Messages taken and not answered yet.
    let open = AtomicUsize::new(0);
    let reading = async {
        tokio::select! {
            () = told_to_stop(&mut stop) => {}
            ended = read(from, shared, &answers, &open) => if let Err(last) = ended {
                let _ = answers.send(Answer::Now(last)).await;
            }
        }
        // No more answers after those that wait.
        drop(answers);
    };
    let writing = write(to, waiting, &open);
    tokio::pin!(writing);
    tokio::select! {
        _ = &mut writing => return,
        () = reading => {}
    }
    let _ = writing.await;
}

/// Reads until the client has ended; an error is the last that is said.
async fn read(
    mut from: OwnedReadHalf,
    shared: &Shared,
    answers: &mpsc::Sender<Answer>,
    open: &AtomicUsize,
) -> Result<(), String> {
    let idle = shared.door.idle;
    let (mut documents, mut part) = (Documents::new(MAX_MESSAGE), vec![0; READ]);
    let mut who = shared.door.access.anyone();
    let mut until = Instant::now() + if who.is_some() { idle } else { idle.min(KEY_WITHIN) };
    loop {
        let n = match timeout_at(until, from.read(&mut part)).await {
            Ok(Ok(n)) => n,
            Ok(Err(_)) => return Ok(()),
            // Whoever waits for an answer has no reason to send.
            Err(_) if open.load(Ordering::Relaxed) > 0 => {
                until = Instant::now() + idle;
                continue;
            }
            Err(_) if who.is_none() => return Err(error(KEY_NEEDED, json!({ "reason": KEY_FIRST }))),
            Err(_) => {
                return Err(error(
                    "Time-out.",
                    json!({ "reason": format!("no whole message for {} s", idle.as_secs()) }),
                ));
            }
        };
        if n == 0 {
            let Some(_) = documents.end() else { return Ok(()) };
            return Err(invalid("the connection ended within a message"));
        }
        documents.push(part.get(..n).unwrap_or_default());
        while let Some(found) = documents.take() {
            let answer = match found {
                Found::Document(document) => {
                    // Nothing is known of it before that, and nothing is looked at but whether it is a key.
                    match key(document, &who) {
                        Some(key) => {
                            who = Some(by_key(&key, &shared.door.access)?);
                            Answer::Now("{\"message\":\"Key accepted\"}\n".to_owned())
                        }
                        None => {
                            may_send(who.as_ref(), &shared.door.access).await?;
                            take(document, shared)
                                .await
                                .map_err(|closed| error(NOT_STORED, json!({ "reason": closed.to_string() })))?
                        }
                    }
                }
                Found::Broken | Found::TooLong if who.is_none() => {
                    return Err(error(KEY_NEEDED, json!({ "reason": KEY_FIRST })));
                }
                Found::Broken => Answer::Now(invalid("no object or array of them")),
                Found::TooLong => {
                    return Err(error(
                        "Message too long.",
                        json!({ "reason": format!("allowed are {MAX_MESSAGE} bytes") }),
                    ));
                }
            };
            open.fetch_add(1, Ordering::Relaxed);
            if answers.send(answer).await.is_err() {
                return Ok(());
            }
            until = Instant::now() + idle;
        }
    }
}

const NOT_STORED: &str = "Not stored.";
const KEY_NEEDED: &str = "Key needed.";
const KEY_FIRST: &str = "send {\"key\":\"swk_…\"} before anything else; its scope has to be ingest";

/// A key, if that is what it says. Somebody who is asked nothing may send one as well, and it counts then.
fn key(document: &[u8], who: &Option<Who>) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Key {
        key: String,
    }
    // Who is known sends readings: they are not looked at twice.
    let asked = who.as_ref().is_none_or(|who| who.source().is_none()) && document.len() <= MAX_KEY_MESSAGE;
    if asked { serde_json::from_slice(document).ok().map(|Key { key }| key) } else { None }
}

/// Longer is no key.
const MAX_KEY_MESSAGE: usize = 200;

fn by_key(key: &str, access: &Access) -> Result<Who, String> {
    if let Some(anyone) = access.anyone() {
        return Ok(anyone);
    }
    let refused = |reason: &str| error(KEY_NEEDED, json!({ "reason": reason }));
    let who = access.resolve(key).ok_or_else(|| refused("this key is not known, has ended or was revoked"))?;
    if who.may(Need::Ingest) { Ok(who) } else { Err(refused("this key has not the scope ingest")) }
}

/// Waits when too much comes; the sender's buffers fill meanwhile, and it waits too.
async fn may_send(who: Option<&Who>, access: &Access) -> Result<(), String> {
    let Some(who) = who else { return Err(error(KEY_NEEDED, json!({ "reason": KEY_FIRST }))) };
    if !who.valid() {
        return Err(error(
            KEY_NEEDED,
            json!({ "reason": "the key has ended or was revoked; nothing of this was stored" }),
        ));
    }
    while let Err(wait) = access.take(who) {
        sleep(wait).await;
    }
    Ok(())
}

/// Hands a message in, once there is room.
async fn take(document: &[u8], shared: &Shared) -> Result<Answer, Closed> {
    let room = shared.share.room(document.len()).await?;
    let Taken { items, readings, bad, received_ns } = match shared.door.shape.read(document, &shared.door.clock) {
        Ok(taken) => taken,
        Err(unreadable) => return Ok(Answer::Now(invalid(&unreadable.to_string()))),
    };
    if !bad.is_empty() {
        let told = format!("{} of {items} items cannot be used; none was stored", bad.len());
        return Ok(Answer::Now(error(&told, json!({ "items": bad }))));
    }
    let outcome = shared.door.desk.hand_in(keyless("tcp", received_ns, readings), Some(room))?;
    Ok(Answer::Waits { outcome, accepted: items })
}

/// Writes each answer when it is there.
async fn write(mut to: OwnedWriteHalf, mut waiting: mpsc::Receiver<Answer>, open: &AtomicUsize) -> io::Result<()> {
    while let Some(answer) = waiting.recv().await {
        let line = match answer {
            Answer::Now(line) => line,
            Answer::Waits { outcome, accepted } => match outcome.await {
                Ok(Outcome::Refused(_)) => error(NOT_STORED, json!({ "reason": REFUSED })),
                Ok(_) => format!("{{\"message\":\"Data received\",\"accepted\":{accepted}}}\n"),
                Err(_) => error(NOT_STORED, json!({ "reason": Closed.to_string() })),
            },
        };
        timeout(SEND_WITHIN, to.write_all(line.as_bytes())).await??;
        // The last that is said of a connection was not counted.
        let _ = open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    }
    to.shutdown().await
}

fn invalid(reason: &str) -> String {
    error("Invalid JSON format.", json!({ "reason": reason }))
}

fn error(what: &str, mut with: serde_json::Value) -> String {
    with["error"] = what.into();
    format!("{with}\n")
}
