//! HTTP with JSON over a plain connection: all a test needs to ask the hub, or to drive a browser.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::LONG;

/// Status, head and body.
pub type Answer = (u16, String, String);

pub async fn request(at: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let body = body.map(Value::to_string).unwrap_or_default();
    send(at, method, path, "Content-Type: application/json\r\n", body.as_bytes()).await
}

/// With more lines in its head.
pub async fn send(at: SocketAddr, method: &str, path: &str, lines: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n{lines}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // Who is refused by his head need not be heard to the end.
    let _ = stream.write_all(body).await;
    answer(&mut stream).await
}

/// What comes back.
pub async fn answer(stream: &mut TcpStream) -> Answer {
    // Not every server closes when asked to, so the length counts where it is told.
    let (mut answer, mut part) = (Vec::new(), [0; 16384]);
    loop {
        let n = stream.read(&mut part).await.unwrap();
        answer.extend_from_slice(&part[..n]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(n > 0, "connection closed in the head");
            continue;
        };
        let length =
            head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        if n == 0 || length.is_some_and(|length: usize| body.len() >= length) {
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            return (status, head.to_owned(), body.to_owned());
        }
    }
}

pub async fn get(at: SocketAddr, path: &str) -> Value {
    let (status, _, body) = request(at, "GET", path, None).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// Status, head, what came of the body, and whether it was whole.
pub async fn download(at: SocketAddr, path: &str) -> (u16, String, String, bool) {
    let (status, head, body, whole) = download_bytes(at, path).await;
    (status, head, String::from_utf8(body).unwrap(), whole)
}

/// The same of what is no text. Whole is what has chunks and the last of no length.
pub async fn download_bytes(at: SocketAddr, path: &str) -> (u16, String, Vec<u8>, bool) {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let ask = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    // One that is cut may be reset.
    let _ = timeout(LONG, stream.read_to_end(&mut all)).await.expect("in time");
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    if !head.contains("transfer-encoding: chunked") {
        return (status, head, all[end..].to_vec(), true);
    }
    let (mut rest, mut body) = (&all[end..], Vec::new());
    while let Some(line) = rest.windows(2).position(|w| w == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if length == 0 {
            return (status, head, body, true);
        }
        let chunk = &rest[line + 2..];
        body.extend_from_slice(&chunk[..length.min(chunk.len())]);
        if chunk.len() < length + 2 {
            break;
        }
        rest = &chunk[length + 2..];
    }
    (status, head, body, false)
}

/// Server-sent events, as a browser reads them.
pub struct Events {
    stream: TcpStream,
    bytes: Vec<u8>,
    text: String,
    pub head: String,
}

/// Id and data.
pub type Event = (String, Value);

impl Events {
    pub async fn open(at: SocketAddr, path: &str, last: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let head = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nAccept: text/event-stream\r\n{last}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut events = Self { stream, bytes: Vec::new(), text: String::new(), head: String::new() };
        while events.head.is_empty() {
            assert!(events.more().await, "no head");
            if let Some(at) = events.bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                events.head = String::from_utf8(events.bytes.drain(..at + 4).collect()).unwrap();
            }
        }
        events
    }

    async fn more(&mut self) -> bool {
        let mut part = [0; 16384];
        let n = self.stream.read(&mut part).await.unwrap_or(0);
        self.bytes.extend_from_slice(&part[..n]);
        n > 0
    }

    /// The next event that has data; none when the stream has ended.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n").map(|(e, r)| (e.to_owned(), r.to_owned())) {
                self.text = rest;
                let field = |name: &str| event.lines().find_map(|l| l.strip_prefix(name)).map(str::to_owned);
                if let Some(data) = field("data: ") {
                    return Some((field("id: ").unwrap_or_default(), serde_json::from_str(&data).unwrap()));
                }
            }
            // RFC 9112 section 7.1: a chunk is its length in hexadecimal, a line end, as many bytes, a line end.
            let line = self.bytes.windows(2).position(|w| w == b"\r\n");
            let length = line.map(|at| usize::from_str_radix(str::from_utf8(&self.bytes[..at]).unwrap(), 16).unwrap());
            match (line, length) {
                (Some(_), Some(0)) => return None,
                (Some(at), Some(length)) if self.bytes.len() >= at + 2 + length + 2 => {
                    self.text.push_str(str::from_utf8(&self.bytes[at + 2..at + 2 + length]).unwrap());
                    self.bytes.drain(..at + 2 + length + 2);
                }
                _ => {
                    if !self.more().await {
                        return None;
                    }
                }
            }
        }
    }
}
