//! HTTP connections: taken, served, and ended with the hub.
//!
//! Answers to requests that came together leave together: a program that sends many readings over one connection costs
//! one write a batch and not one an item, which `axum::serve` has no switch for.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::Request};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};

use super::sent::{Counted, Sent};
use crate::ingest::told_to_stop;

/// Connections at once: watchers, and programs that send. One more waits in the kernel.
pub const MAX_CONNECTIONS: u32 = 8192;
/// A connection that does not give the whole head of a request for so long is closed; it may idle as long.
const HEAD_WITHIN: Duration = Duration::from_secs(75);
/// How long open requests may take when the hub is stopped.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Before the next try to take a connection when the machine has no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// Serves until told to stop.
pub async fn serve(listener: TcpListener, routes: Router, stop: watch::Receiver<bool>) {
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    let mut http = http1::Builder::new();
    http.pipeline_flush(true).timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    let accept = async {
        while let Ok(permit) = free.clone().acquire_owned().await {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot take an HTTP connection");
                    sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            // A short answer must not wait for the client to acknowledge the one before.
            let _ = stream.set_nodelay(true);
            let (sent, routes) = (Sent::default(), TowerToHyperService::new(routes.clone()));
            let stream = TokioIo::new(Counted { stream, sent: sent.clone() });
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(sent.clone());
                routes.call(request)
            });
            let connection = http.serve_connection(stream, service).with_upgrades();
            let mut stop = stop.clone();
            tokio::spawn(async move {
                let mut connection = pin!(connection);
                // A client that breaks off or sends no HTTP is its own affair.
                tokio::select! {
                    _ = connection.as_mut() => {}
                    () = told_to_stop(&mut stop) => {
                        connection.as_mut().graceful_shutdown();
                        let _ = connection.await;
                    }
                }
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
