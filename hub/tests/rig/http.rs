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

/// Status, head, what came of the body, and whether it was whole: chunks and the last of no length.
pub async fn download(at: SocketAddr, path: &str) -> (u16, String, String, bool) {
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
        return (status, head, String::from_utf8(all[end..].to_vec()).unwrap(), true);
    }
    let (mut rest, mut body) = (&all[end..], Vec::new());
    while let Some(line) = rest.windows(2).position(|w| w == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if length == 0 {
            return (status, head, String::from_utf8(body).unwrap(), true);
        }
        let chunk = &rest[line + 2..];
        body.extend_from_slice(&chunk[..length.min(chunk.len())]);
        if chunk.len() < length + 2 {
            break;
        }
        rest = &chunk[length + 2..];
    }
    (status, head, String::from_utf8(body).unwrap(), false)
}
