//! `speedwell-hub simulate`

use std::{
    io::IsTerminal,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use speedwell_hub::{
    BrokerUrl, Config,
    config::TopicPrefix,
    simulate::{self, MAX_GATEWAYS, Options, Report, Tally, count},
};
use tokio::time::{MissedTickBehavior, interval};

use super::{
    Exit, Failure,
    run::{asked_to_stop, runtime},
};

/// File descriptors besides the gateways' connections.
const OTHER_FILES: u64 = 64;

/// Speak as many gateways to a broker, and account for every record
///
/// Each has a connection of its own, drives a road and measures with three sensors. At the end it waits for the hub to
/// confirm all records, and fails when it does not.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// How many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_GATEWAYS)))]
    gateways: u32,
    /// mqtt://HOST[:PORT] or mqtts://HOST[:PORT]
    #[arg(long, value_name = "URL", value_parser = |url: &str| BrokerUrl::try_from(url.to_owned()))]
    broker: BrokerUrl,
    /// What stands before the gateway's id in every topic
    #[arg(long, value_name = "PREFIX", default_value = "speedwell/v1",
        value_parser = |prefix: &str| TopicPrefix::try_from(prefix.to_owned()))]
    topic_prefix: TopicPrefix,
    /// User name, when the broker wants one
    #[arg(long)]
    user: Option<String>,
    /// A file that holds the password and nothing else
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    /// Certificates (PEM) that vouch for the broker, instead of the public ones
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The same seed drives, measures and fails the same
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Samples a second of wheel and CAN speed; satellites give at most 5
    #[arg(long, value_name = "HZ", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    rate: u32,
    /// Cut lines, send twice, reboot, step clocks, replace cards
    #[arg(long)]
    outages: bool,
    /// Seconds that records are made for; until Ctrl-C without it
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,
    /// Simulated seconds a second, up to 1000; other than 1 it needs --duration, and the records end now
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    speed: f64,
    /// Seconds that the hub may take for the last records
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    patience: Duration,
    /// No line of progress; there is none either where there is no terminal
    #[arg(long)]
    quiet: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wanted = || format!("wanted seconds above 0 and up to {LONGEST_S}");
    let seconds: f64 = text.parse().map_err(|_| wanted())?;
    (seconds > 0.0 && seconds <= LONGEST_S).then(|| Duration::from_secs_f64(seconds)).ok_or_else(wanted)
}

/// A year.
const LONGEST_S: f64 = 31_536_000.0;

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor| (0.1..=1000.0).contains(factor));
    factor.ok_or_else(|| "wanted a factor of 0.1 to 1000".into())
}

pub(crate) fn run(args: &SimulateArgs) -> Result<(), Failure> {
    if args.speed != 1.0 && args.duration.is_none() {
        return Err(Failure::new(
            Exit::Usage,
            "--speed needs --duration: without an end the records would run ahead of now",
        ));
    }
    enough_files(u64::from(args.gateways) + OTHER_FILES)?;
    let mut broker = Config::new(args.broker.clone(), "").broker;
    (broker.user, broker.password_file, broker.ca_file) =
        (args.user.clone(), args.password_file.clone(), args.ca_file.clone());
    broker.topic_prefix = args.topic_prefix.clone();
    let options = Options {
        broker,
        gateways: args.gateways,
        seed: args.seed,
        rate_hz: args.rate,
        outages: args.outages,
        duration: args.duration,
        speed: args.speed,
        patience: args.patience,
    };
    let tally = Arc::new(Tally::default());
    let shown = !args.quiet && std::io::stderr().is_terminal();
    let report = runtime()?.block_on(async {
        let progress = shown.then(|| tokio::spawn(progress(tally.clone(), args.gateways)));
        let report = simulate::run(options, tally.clone(), asked_to_stop()).await;
        if let Some(progress) = progress {
            progress.abort();
            eprint!("\r\x1b[K");
        }
        report
    });
    let report = report.map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    tell(args, &tally, &report);
    if report.unconfirmed == 0 {
        return Ok(());
    }
    let Report { unconfirmed, gateways_behind, waited, .. } = report;
    let why = tally.trouble().map(|why| format!("; the line was last lost because: {why}")).unwrap_or_default();
    Err(Failure::new(
        Exit::Unavailable,
        format!(
            "{unconfirmed} records of {gateways_behind} gateways were not confirmed within {:.0} s: is a hub on {} with \
             topic-prefix {}?{why}",
            waited.as_secs_f64(),
            args.broker,
            args.topic_prefix.as_str(),
        ),
    ))
}

fn tell(args: &SimulateArgs, tally: &Tally, report: &Report) {
    let Report { unconfirmed, made_for, waited, .. } = report;
    let made = count(&tally.made);
    let a_second = made as f64 / made_for.as_secs_f64().max(1e-9);
    println!("simulated    {} gateways for {:.1} s, seed {}", args.gateways, made_for.as_secs_f64(), args.seed);
    println!("made         {made} records, {} samples ({a_second:.0} records/s)", count(&tally.samples));
    println!("confirmed    {}, the last {:.1} s after the end", count(&tally.confirmed), waited.as_secs_f64());
    println!("sent         {} batches; {} records more than once", count(&tally.batches), count(&tally.resent));
    println!("lost         {} samples declared, for want of room in a log", count(&tally.shed));
    let (cuts, failures) = (count(&tally.cuts), count(&tally.failures));
    println!(
        "lines        {cuts} cut on purpose, {failures} lost or refused; {} batches doubled",
        count(&tally.doubled)
    );
    let (reboots, cards, steps) = (count(&tally.reboots), count(&tally.cards), count(&tally.steps));
    println!("troubles     {reboots} reboots, {cards} cards replaced, {steps} steps of clocks");
    let back = count(&tally.went_back);
    if back > 0 {
        println!("went back    {back} times the hub had less than before: it was restored from a backup");
    }
    println!("unconfirmed  {unconfirmed}");
    let late = count(&tally.late_ms);
    if late > 0 {
        println!("late         by {:.1} s at most: this machine is too slow for so much", late as f64 / 1e3);
    }
}

/// One line, each second.
async fn progress(tally: Arc<Tally>, gateways: u32) {
    let mut every = interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut made, mut at) = (0, Instant::now());
    loop {
        every.tick().await;
        let (now, all) = (Instant::now(), count(&tally.made));
        let a_second = (all - made) as f64 / now.duration_since(at).as_secs_f64().max(1e-3);
        (made, at) = (all, now);
        let (connected, confirmed) = (count(&tally.connected), count(&tally.confirmed));
        eprint!(
            "\r\x1b[K{connected} of {gateways} connected  {a_second:.0} records/s  {confirmed} confirmed  {} behind",
            tally.behind()
        );
    }
}

/// Each connection is a file: asks for as many as are needed, of those the system allows.
fn enough_files(needed: u64) -> Result<(), Failure> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is ours to be written to.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    if !known || limit.rlim_cur >= needed {
        return Ok(());
    }
    if limit.rlim_max < needed {
        let most = limit.rlim_max;
        let told =
            format!("{needed} open files are needed and {most} allowed: fewer gateways, or more with ulimit -Hn");
        return Err(Failure::new(Exit::Unavailable, told));
    }
    limit.rlim_cur = needed;
    // SAFETY: it is only read, and holds what was read before but for the part that any process may raise.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => Ok(()),
        _ => Err(Failure::new(Exit::Unavailable, format!("the limit of open files cannot be raised to {needed}"))),
    }
}
