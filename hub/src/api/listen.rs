//! HTTP connections: taken, encrypted if the hub has a certificate, served, and ended with the hub. How answers leave is
//! said in `sent`.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};

use super::{
    access::Peer,
    sent::{Counted, Sent},
    tls::Tls,
};
use crate::ingest::{let_go_after, told_to_stop};

/// Connections at once: watchers, and programs that send. One more waits in the kernel.
pub const MAX_CONNECTIONS: u32 = 8192;
/// A connection that does not give the whole head of a request for so long is closed; it may idle as long.
const HEAD_WITHIN: Duration = Duration::from_secs(75);
/// One whose client acknowledges nothing for so long is closed. It counts one that takes nothing as well, and who streams
/// gives such a client up to 60 s.
const LOST_AFTER: Duration = Duration::from_secs(75);
/// One that is not encrypted after so long is closed.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long open requests may take when the hub is stopped.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Before the next try to take a connection when the machine has no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// Serves until told to stop.
pub async fn serve(listener: TcpListener, routes: Router, tls: Option<Arc<Tls>>, stop: watch::Receiver<bool>) {
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    let accept = async {
        while let Ok(permit) = free.clone().acquire_owned().await {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot take an HTTP connection");
                    sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            let (routes, tls, stop) = (routes.clone(), tls.clone(), stop.clone());
            tokio::spawn(async move {
                connection(stream, from, routes, tls, stop).await;
                drop(permit);
            });
        }
    };
    let mut stopped = stop.clone();
    tokio::select! {
        () = accept => {}
        () = told_to_stop(&mut stopped) => {}
    }
    drop(listener);
    // All permits are there when all connections have ended. What is still open then was answered nothing.
    let _ = timeout(STOP_WITHIN, free.acquire_many(MAX_CONNECTIONS)).await;
}

async fn connection(
    stream: TcpStream,
    from: SocketAddr,
    routes: Router,
    tls: Option<Arc<Tls>>,
    mut stop: watch::Receiver<bool>,
) {
    // A short answer must not wait for the client to acknowledge the one before.
    let _ = stream.set_nodelay(true);
    let_go_after(&stream, LOST_AFTER);
    let peer = Peer { address: from.ip().to_canonical(), tls: tls.is_some() };
    let routes = Routes { routes: TowerToHyperService::new(routes), peer, sent: Sent::default() };
    let Some(tls) = tls else { return talk(stream, routes, stop).await };
    // A handshake waits for the client, so it holds up nobody else.
    let encrypted = tokio::select! {
        encrypted = timeout(HANDSHAKE_WITHIN, tls.acceptor().accept(stream)) => encrypted,
        () = told_to_stop(&mut stop) => return,
    };
    match encrypted {
        Ok(Ok(stream)) => talk(stream, routes, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, %from, "no TLS came about"),
        Err(_) => tracing::debug!(%from, "no TLS came about in time"),
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    routes: Routes,
    mut stop: watch::Receiver<bool>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    let stream = TokioIo::new(Counted::new(stream, routes.sent.clone(), stop.clone()));
    let mut connection = pin!(http.serve_connection(stream, routes).with_upgrades());
    // A client that breaks off or sends no HTTP is its own affair.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = told_to_stop(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// The routes, told with each request where it comes from and what its connection has written.
struct Routes {
    routes: TowerToHyperService<Router>,
    peer: Peer,
    sent: Sent,
}

impl Service<Request<Incoming>> for Routes {
    type Response = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Response;
    type Error = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Error;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(self.sent.clone());
        self.routes.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::{
        convert::Infallible,
        io,
        pin::Pin,
        sync::atomic::{AtomicUsize, Ordering},
        task::{Context, Poll},
    };

    use axum::{body::Body, routing::get};
    use futures_util::{StreamExt, stream};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

    const ASK: &str = "GET / HTTP/1.1\r\nHost: hub\r\n\r\n";
    /// What is not there after so long does not come: a client would have given up on it.
    const LONG: Duration = Duration::from_secs(20);

    /// The server's end of a connection, which counts what is written at once.
    struct Writes(DuplexStream, Arc<AtomicUsize>);

    impl AsyncRead for Writes {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Writes {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::SeqCst);
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }
        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }
        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    /// A client's end, how many writes the server has made, and what keeps the server going.
    fn connected() -> (DuplexStream, Arc<AtomicUsize>, watch::Sender<bool>) {
        let drops = || {
            let drops = stream::iter(0..).then(async |n: u32| {
                sleep(Duration::from_millis(1)).await;
                Ok::<_, Infallible>(format!("drop {n}\n"))
            });
            Body::from_stream(drops)
        };
        let routes = Router::new().route("/", get(async || "here")).route("/endless", get(async move || drops()));
        let (client, server) = duplex(1 << 20);
        let (writes, (stop, stopped)) = (Arc::new(AtomicUsize::new(0)), watch::channel(false));
        let peer = Peer { address: [127, 0, 0, 1].into(), tls: false };
        let routes = Routes { routes: TowerToHyperService::new(routes), peer, sent: Sent::default() };
        tokio::spawn(talk(Writes(server, writes.clone()), routes, stopped));
        (client, writes, stop)
    }

    /// What comes until it has that in it so often.
    async fn until(client: &mut DuplexStream, what: &str, times: usize) -> String {
        let mut came = String::new();
        while came.matches(what).count() < times {
            let mut bytes = [0; 4096];
            let n =
                timeout(LONG, client.read(&mut bytes)).await.unwrap_or_else(|_| panic!("only {came:?} came")).unwrap();
            assert!(n > 0, "only {came:?} came, and the end");
            came += &String::from_utf8_lossy(&bytes[..n]);
        }
        came
    }

    #[tokio::test]
    async fn what_follows_a_request_does_not_hold_up_its_answer() {
        // An empty line, as old programs put after a body, and the beginning of another request.
        for rest in ["\r\n", "GET / HT", "GET / HTTP/1.1\r\nHost: hub\r\n"] {
            let (mut client, _, _stop) = connected();
            client.write_all(format!("{ASK}{rest}").as_bytes()).await.unwrap();
            until(&mut client, "here", 1).await;
        }
        let (mut client, _, _stop) = connected();
        client.write_all(b"GET /endless HTTP/1.1\r\nHost: hub\r\n\r\n\r\n").await.unwrap();
        until(&mut client, "drop", 10).await;
    }

    #[tokio::test]
    async fn what_is_no_request_is_answered() {
        let many = (0..200).map(|n| format!("X-{n}: x\r\n")).collect::<String>();
        for (head, status) in [
            ("GET / HTTP/1.1\r\nHo st: hub\r\n\r\n".to_owned(), "400"),
            (format!("GET / HTTP/1.1\r\n{many}\r\n"), "431"),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(), "400"),
        ] {
            let (mut client, _, _stop) = connected();
            client.write_all(head.as_bytes()).await.unwrap();
            let came = until(&mut client, "\r\n\r\n", 1).await;
            assert!(came.starts_with(&format!("HTTP/1.1 {status} ")), "{came}");
        }
    }

    #[tokio::test]
    async fn who_is_refused_before_he_has_sent_all_sees_the_answer() {
        // Over a real connection: it is the kernel that resets.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, (_stop, stopped)) = (listener.local_addr().unwrap(), watch::channel(false));
        tokio::spawn(serve(listener, Router::new().route("/", get(async || "here")), None, stopped));
        for _ in 0..20 {
            let mut client = TcpStream::connect(at).await.unwrap();
            let head = "GET / HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n";
            client.write_all(head.as_bytes()).await.unwrap();
            sleep(Duration::from_millis(20)).await;
            for _ in 0..10 {
                client.write_all(&[b'x'; 10_000]).await.unwrap();
            }
            sleep(Duration::from_millis(20)).await;
            let mut came = Vec::new();
            timeout(LONG, client.read_to_end(&mut came)).await.unwrap().unwrap();
            assert!(came.ends_with(b"here"), "{}", String::from_utf8_lossy(&came));
        }
    }

    #[tokio::test]
    async fn answers_to_requests_that_came_together_leave_together() {
        let (mut client, writes, _stop) = connected();
        client.write_all(ASK.repeat(8).as_bytes()).await.unwrap();
        until(&mut client, "here", 8).await;
        // The last may be on its own: when it is being made there is nothing left that the others could wait for.
        assert!(writes.load(Ordering::SeqCst) <= 2, "{} writes", writes.load(Ordering::SeqCst));
    }
}
