//! The whole of Speedwell in one process, for people to look at: a simulated vehicle, the gateway agent with a real
//! spool, a broker, the hub on SQLite, and the page. No hardware, no outside server, nothing left behind.
//!
//! It makes a token of its own for each run, and says so: nothing is let in by a password that is in a manual.
//! Every part is the one that runs in the field; only the vehicle and the broker are stand-ins.

mod look;

use std::{
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use speedwell::{agent, board::Catalog, config};
use speedwell_hub::{
    BrokerUrl, Hub,
    access::{Book, BookError, By, NewKey, Scope},
    broker,
};
use tokio::{signal, sync::watch};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// Shows Speedwell at work on a simulated vehicle
#[derive(Debug, Parser)]
struct Args {
    /// Where the page is served, on this machine; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Stop after so many seconds instead of on Ctrl-C
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Stop as soon as every speed is on the page, print how long that took, and fail if it took longer than so many
    /// seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "3")]
    check: Option<f64>,
}

/// The demo's own gateway: a hall wheel sensor, a CAN speed and a GNSS on the simulated board.
fn gateway_toml(broker: SocketAddr, directory: &Path) -> String {
    let directory = directory.display();
    format!(
        r#"
[gateway]
id = "demo-truck"
board = "simulated"
state-directory = "{directory}/state"

[broker]
url = "mqtt://{broker}"

[spool]
directory = "{directory}/spool"
max-size = "64 MiB"
keep-free = "16 MiB"

[[sensor]]
name = "front-wheel"
kind = "hall"
pin = "SIM0"
pulses-per-turn = 48
circumference = "1.985 m"
report = "10 Hz"

[[sensor]]
name = "ecu-speed"
kind = "j1939"
interface = "can0"
signal = "wheel-based-speed"
report = "10 Hz"

[[sensor]]
name = "gnss"
kind = "nmea"
uart = "GNSS"
report = "5 Hz"
"#
    )
}

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.map_err(|e| e.to_string()).and_then(|runtime| runtime.block_on(demo(args)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaint) => {
            eprintln!("demo: {complaint}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(args: Args) -> Result<(), String> {
    let started = Instant::now();
    if !args.listen.ip().is_loopback() {
        return Err(format!("--listen {}: the demo serves this machine only, as 127.0.0.1:8080", args.listen));
    }
    let home = tempfile::Builder::new().prefix("speedwell-demo-").tempdir().map_err(|e| e.to_string())?;
    std::fs::create_dir(home.path().join("state")).map_err(|e| e.to_string())?;

    let broker = broker::start().map_err(|e| e.to_string())?;
    let mut hub = speedwell_hub::Config::new(BrokerUrl::plain(broker), home.path().join("hub.sqlite"));
    hub.http.listen = args.listen;
    let token = own_token(&hub.access_path()).map_err(|e| e.to_string())?;
    let hub = Hub::start(hub).await.map_err(|e| format!("{e}\n(another page? try --listen 127.0.0.1:0)"))?;

    let file = home.path().join("gateway.toml");
    let text = gateway_toml(broker, home.path());
    let gateway = config::Config::parse(&file, &text, &Catalog::built_in()).map_err(|e| e.to_string())?;
    let (stop, stopped) = watch::channel(false);
    let agent = tokio::spawn(agent::run(gateway, agent::Reloads::none(), wait_for(stopped)));

    println!("Speedwell demo: a simulated truck with three speed sensors.");
    println!("The page: http://{}/#token={token}   (Ctrl-C stops)", hub.http);
    println!(
        "The token was made for this run alone, and ends with it. Programs send it: Authorization: Bearer {token}"
    );
    let outcome = match args.check {
        Some(limit) => look::until_speeds(hub.http, &token, started, Duration::from_secs_f64(limit)).await,
        None => wait_for_end(args.seconds).await,
    };

    stop.send_replace(true);
    agent.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    hub.stop().await.map_err(|e| e.to_string())?;
    outcome
}

/// A key that may everything, for as long as the demo runs.
fn own_token(path: &Path) -> Result<String, BookError> {
    let by = By { who: "demo".into(), origin: "this machine".into() };
    let new = NewKey { name: "demo".into(), scopes: [Scope::Admin].into_iter().collect(), until_s: None };
    Ok(Book::open(path)?.add_key(&by, &new)?.1)
}

async fn wait_for(mut stopped: watch::Receiver<bool>) {
    // The sender lives as long as the demo: an error would mean that it is over as well.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn wait_for_end(seconds: Option<u64>) -> Result<(), String> {
    // Cancel-safe: a signal not yet waited for is not lost by dropping the wait, and time goes on by itself.
    tokio::select! {
        signal = signal::ctrl_c() => signal.map_err(|e| e.to_string()),
        () = async {
            match seconds {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => std::future::pending().await,
            }
        } => Ok(()),
    }
}
