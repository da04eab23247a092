//! Hangs the rooms together.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::interval,
};

use crate::{
    access::{Access, Book, BookError},
    api::{
        self,
        tls::{self, Tls, TlsError},
    },
    config::{self, Config, ConfigError, FeedShape},
    ingest::{
        self, Counters, StoreEnded,
        decode::Decoder,
        feeds,
        gate::{self, Desk, Gate},
        mqtt::{Broker, BrokerError},
        readings::{ArrivalClock, Shape},
        tcp,
    },
    live::Board,
    metrics::Metrics,
    presence::{Moment, Presence, keeper},
    service,
    store::{self, Read, Store, StoreError, writer},
};

/// How often gateways are looked at for having fallen silent.
const TICK: Duration = Duration::from_secs(2);

/// The hub; see [`Hub::start`].
pub struct Hub;

/// A hub at work. Dropping it without [`Running::stop`] stops it without waiting; what was confirmed is on disk.
pub struct Running {
    /// Where the page is; the port is the one that was bound when the configuration asked for port 0.
    pub http: SocketAddr,
    /// Where programs send over TCP, if they may.
    pub tcp: Option<SocketAddr>,
    /// What was taken since start.
    pub counters: Arc<Counters>,
    /// Reads the store.
    pub reader: Arc<dyn Read>,
    /// Who may do what.
    pub access: Access,
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<(), HubError>>,
    gate: JoinHandle<()>,
    shut: oneshot::Sender<()>,
    store: thread::JoinHandle<Result<(), StoreError>>,
}

/// Why a hub does not start, or stopped by itself. What was confirmed is on disk.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The configuration, or a file it names.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The broker cannot even be tried.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The store cannot be opened, or failed for good.
    #[error("{path}: {source}")]
    Store {
        /// The database.
        path: String,
        /// Why.
        source: StoreError,
    },
    /// The file of users and keys cannot be used.
    #[error("{path}: {source}")]
    Access {
        /// Which.
        path: PathBuf,
        /// Why.
        source: BookError,
    },
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address for the page, or for TCP, could not be bound.
    #[error("cannot listen on {address}: {source}; see [http] and [tcp] listen")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The store's thread ended while batches were still coming.
    #[error(transparent)]
    StoreEnded(#[from] StoreEnded),
    /// A task of the hub panicked or could not be started, which is a defect.
    #[error("a task of the hub ended unexpectedly: {0}")]
    Task(String),
}

impl Hub {
    /// Opens the store, binds the page's address and starts to listen to the broker. The broker need not be there yet.
    pub async fn start(config: Config) -> Result<Running, HubError> {
        let (access, tls) = may_open(&config)?;
        let place = config.store.place();
        let failed = |source| HubError::Store { path: place.clone(), source };
        let password = config.store.password()?;
        let store = store::open(&config.store, password.as_deref()).map_err(failed)?;
        let reader = store.reader();
        let broker = Broker::new(&config.broker)?;
        let prefix = config.broker.topic_prefix.as_str().to_owned();
        let decoder = Decoder::new(&prefix, reader.manifests().map_err(failed)?);
        let board = Board::default();
        show_stored(&board, &*reader).map_err(failed)?;
        let (now, hub) = (Moment::now(), config.broker.client_id.clone());
        let presence = Presence::new(config.presence.heartbeat(), now);
        let first = keeper::restore(&presence, &*reader, &hub, now).map_err(failed)?;

        let (listener, http) = listen(config.http.listen).await?;
        let tcp = match &config.tcp {
            Some(tcp) => Some((listen(tcp.listen).await?, tcp)),
            None => None,
        };
        let feeds = feeds_of(&config)?;

        let writer = writer::start(store).map_err(|e| HubError::Task(format!("no thread for the store: {e}")))?;
        let (stop, stopped) = watch::channel(false);
        let counters = Arc::new(Counters::default());
        let clock = Arc::new(ArrivalClock::default());
        let (gate, desk, log_done) = Gate::new(gate::Parts {
            work: writer.work.clone(),
            done: writer.done,
            board: board.clone(),
            presence: presence.clone(),
            counters: counters.clone(),
            trouble: writer.trouble.clone(),
        });
        let metrics = Metrics::new(writer.commits, &writer.work);
        let parts = ingest::Parts {
            broker,
            prefix,
            decoder,
            board: board.clone(),
            presence: presence.clone(),
            counters: counters.clone(),
            work: writer.work,
            done: log_done,
        };
        let routes = api::routes(api::Parts {
            board: board.clone(),
            reader: reader.clone(),
            counters: counters.clone(),
            store: writer.trouble,
            metrics,
            stop: stopped.clone(),
            patience: api::Patience::default(),
            permissions: api::access::Permissions {
                access: access.clone(),
                allow_origins: config.http.allow_origins.clone(),
                proxies: config.http.trusted_proxies.clone(),
            },
            intake: Some(api::readings::Intake::new(
                desk.clone(),
                clock.clone(),
                counters.clone(),
                config.ingest.speed_unit,
            )),
            presence: presence.clone(),
            desk: Some(desk.clone()),
        });
        let (shut, shutting) = oneshot::channel();
        let kept = keeper::Parts {
            presence,
            board: board.clone(),
            desk: desk.clone(),
            reader: reader.clone(),
            counters: counters.clone(),
            hub,
        };
        let gate = tokio::spawn(gate.run(shutting));
        let mut tasks = JoinSet::new();
        let keep = keeper::run(kept, first, stopped.clone());
        tasks.spawn(async {
            keep.await;
            Ok(())
        });
        let at_tcp = tcp.as_ref().map(|((_, at), _)| *at);
        if let Some(((listener, at), tcp)) = tcp {
            let door = tcp_door(tcp, &config, &desk, &clock, &access);
            let run = tcp::run(listener, door, stopped.clone());
            tasks.spawn(async {
                run.await;
                Ok(())
            });
            tracing::info!("readings over TCP on {at}");
        }
        if let Some((broker, feeds)) = feeds {
            let parts = feeds::Parts { broker, feeds, desk, clock, counters: counters.clone() };
            let run = feeds::run(parts, stopped.clone());
            tasks.spawn(async {
                run.await;
                Ok(())
            });
        }
        let ingest = ingest::run(parts, stopped.clone());
        tasks.spawn(async { Ok(ingest.await?) });
        if let Some(tls) = tls.clone() {
            let look_after = tls.look_after(tls::LOOK_EVERY, stopped.clone());
            tasks.spawn(async {
                look_after.await;
                Ok(())
            });
        }
        let look_after = access.clone().look_after(stopped.clone());
        tasks.spawn(async {
            look_after.await;
            Ok(())
        });
        let serve = api::listen::serve(listener, routes, tls, stopped.clone());
        tasks.spawn(async {
            serve.await;
            Ok(())
        });
        tasks.spawn(tick(board, stopped));
        tracing::info!(broker = %config.broker.url, "hub started, page on {}", config.http.page(http));
        Ok(Running { http, tcp: at_tcp, counters, reader, access, stop, tasks, gate, shut, store: writer.thread })
    }
}

impl Running {
    /// Stops: no more is taken; what was taken is committed and confirmed.
    pub async fn stop(mut self) -> Result<(), HubError> {
        self.stop.send_replace(true);
        let mut first = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            first = first.and(ended.unwrap_or_else(|e| Err(HubError::Task(e.to_string()))));
        }
        // The last that holds the writer. What is not with the store by now was accepted by nobody.
        let _ = self.shut.send(());
        let _ = self.gate.await;
        let store = tokio::task::spawn_blocking(move || self.store.join()).await;
        let panicked = || HubError::Task("the store's thread panicked".into());
        let store = store.map_err(|_| panicked())?.map_err(|_| panicked())?;
        first.and(store.map_err(|source| HubError::Store { path: "store".into(), source }))
    }

    /// Waits until something ends that should not. Cancel-safe.
    async fn failed(&mut self) -> HubError {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => HubError::Task(error.to_string()),
            Some(Ok(Ok(()))) | None => HubError::Task("it returned".into()),
        }
    }
}

/// Starts a hub, waits for `shutdown`, stops it.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), HubError> {
    let http = config.http.clone();
    let mut running = Hub::start(config).await?;
    service::ready(&format!("page on {}", http.page(running.http)));
    let failure = tokio::select! {
        () = shutdown => None,
        () = service::watchdog() => None,
        failure = running.failed() => Some(failure),
    };
    service::stopping();
    let stopped = running.stop().await;
    tracing::info!("hub stopped");
    failure.map_or(stopped, Err)
}

/// Whether a hub may be started with this configuration, as far as files say so: nothing is connected to.
pub fn check(config: &Config) -> Result<(), HubError> {
    Tls::load(&config.http)?;
    Broker::new(&config.broker)?;
    feeds_of(config)?;
    let path = config.access_path();
    // Who only checks need not be allowed to read who the users are, unless the answer hangs on it.
    if config.reachable(false).is_ok() {
        return Ok(());
    }
    let anybody = Book::has_anybody(&path).map_err(|source| HubError::Access { path, source })?;
    Ok(config.reachable(anybody)?)
}

/// Opens what says who may do what, and tells once what that means.
fn may_open(config: &Config) -> Result<(Access, Option<Arc<Tls>>), HubError> {
    let tls = Tls::load(&config.http)?;
    let path = config.access_path();
    let failed = |source| HubError::Access { path: path.clone(), source };
    let access = Access::open(&path, config.access.clone()).map_err(failed)?;
    let anybody = access.anybody().map_err(failed)?;
    config.reachable(anybody)?;
    for path in config.open_secrets() {
        tracing::warn!("{0}: anybody on this machine may read it; chmod o-rwx {0}", path.display());
    }
    let how = "speedwell-hub user add NAME --role admin";
    match (access.is_on(), anybody) {
        (false, _) => tracing::warn!(
            "there is neither a user nor a key: whoever reaches this machine's own address may read and write; to have \
             everybody asked who he is: {how}"
        ),
        (true, false) => {
            tracing::warn!("[access] required, and there is neither a user nor a key: nobody gets in; {how}")
        }
        (true, true) if tls.is_none() && !config.http.listen.ip().to_canonical().is_loopback() => tracing::warn!(
            "passwords and keys go over the network unencrypted: set [http] certificate and key, or put a proxy in front"
        ),
        _ => {}
    }
    Ok((access, tls))
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), HubError> {
    let failed = |source| HubError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let at = listener.local_addr().map_err(failed)?;
    Ok((listener, at))
}

fn tcp_door(tcp: &config::Tcp, config: &Config, desk: &Desk, clock: &Arc<ArrivalClock>, access: &Access) -> tcp::Door {
    tcp::Door {
        shape: Shape::Tracking { speed: config.ingest.speed_unit, sensor: config::default_sensor() },
        desk: desk.clone(),
        clock: clock.clone(),
        access: access.clone(),
        max_connections: tcp.max_connections.get().into(),
        idle: Duration::from_secs(tcp.idle_timeout_s.get().into()),
    }
}

fn feeds_of(config: &Config) -> Result<Option<(Broker, Vec<feeds::Feed>)>, HubError> {
    if config.ingest.feed.is_empty() {
        return Ok(None);
    }
    let topics = config.ingest.feed.iter().map(|feed| feed.topic.as_str());
    let broker = Broker::of_topics(&config.ingest.broker_of_feeds(&config.broker), topics)?;
    let feed = |feed: &config::Feed| {
        let (speed, sensor) = (feed.speed_unit, feed.sensor.clone());
        let shape = match feed.shape {
            FeedShape::Positions => Shape::Positions { speed, sensor },
            FeedShape::Tracking => Shape::Tracking { speed, sensor },
        };
        feeds::Feed { topic: feed.topic.clone(), shape }
    };
    Ok(Some((broker, config.ingest.feed.iter().map(feed).collect())))
}

/// What was newest when the hub was stopped is shown with its age until something newer comes.
fn show_stored(board: &Board, reader: &dyn Read) -> Result<(), StoreError> {
    let (now, utc) = (Instant::now(), ingest::utc_ns());
    for latest in reader.latest()? {
        let id = latest.gateway.clone();
        board.stored(&id, &[latest], false, now, utc);
    }
    for (id, standing) in reader.standings()? {
        board.standing(&id, standing, now);
    }
    Ok(())
}

async fn tick(board: Board, mut stop: watch::Receiver<bool>) -> Result<(), HubError> {
    let mut every = interval(TICK);
    loop {
        tokio::select! {
            _ = every.tick() => board.tick(Instant::now()),
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}
