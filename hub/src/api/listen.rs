//! HTTP connections: taken, encrypted if the hub has a certificate, served, and ended with the hub.
//!
//! Answers to requests that came together leave together: a program that sends many readings over one connection costs
//! one write a batch and not one an item, which `axum::serve` has no switch for.

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
    http.pipeline_flush(true).timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    let stream = TokioIo::new(Counted { stream, sent: routes.sent.clone() });
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
