//! The fault campaign: a real broker, a real hub and real agents, hurt in every way that can be made, and an oracle that
//! knows every sample that was said and holds the hub's database against it.
//!
//! - `plan`: which fault strikes when, from the seed alone.
//! - `world`: the programs, with `settings`, `program`, `line`, `broker`, `receiver` and `preload` for what is between them.
//! - `round`: runs a round and has it judged.
//! - `oracle`, `database`: what must be there, and what is.
//! - `broken`: breaks the promise on purpose, to show that the oracle sees it.
//!
//! `scripts/campaign` builds what is needed and runs it. The agent and the hub are the programs as they ship; nothing in
//! them knows of this one.

mod broken;
mod broker;
mod database;
mod line;
mod oracle;
mod plan;
mod preload;
mod program;
mod receiver;
mod round;
mod settings;
mod world;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};

use crate::{
    broken::Broken,
    oracle::Wrong,
    plan::{Kind, Round, Size, rounds},
    round::Outcome,
    world::{Failed, Tools},
};

/// The short form fits into three minutes on two busy cores.
const SHORT: Size = Size { faults: 96, alone: 0, mixed: 12, behind_every: usize::MAX };
/// The full form: each kind in a round of its own, then many rounds of many kinds.
const FULL: Size = Size { faults: 1000, alone: 5, mixed: 25, behind_every: 8 };

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Short,
    Full,
}

/// Hurts broker, hub and gateway in every way, and proves that each sample is stored once, unaltered, at its time
#[derive(Debug, Parser)]
#[command(name = "scripts/campaign")]
struct Args {
    /// How much of it
    #[arg(default_value = "short")]
    form: Form,
    /// Any seed gives the same faults again
    #[arg(long, default_value_t = 2026)]
    seed: u64,
    /// Faults in all, at least; a longer campaign begins with the shorter one
    #[arg(long)]
    faults: Option<usize>,
    /// Worlds at once
    #[arg(long, default_value_t = 8)]
    lanes: usize,
    /// This round only
    #[arg(long)]
    round: Option<usize>,
    /// Only faults of these kinds, by their names in the code (repeat it)
    #[arg(long)]
    only: Vec<String>,
    /// Break the promise instead, and succeed if the oracle sees it
    #[arg(long = "break", value_name = "WHAT")]
    broken: Option<Broken>,
    /// Where the programs are
    #[arg(long, default_value = "target/debug")]
    programs: PathBuf,
    /// Where the worlds are made; folders of rounds that are not well are kept
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match campaign(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("campaign: {error}");
            ExitCode::from(2)
        }
    }
}

fn campaign(args: &Args) -> Result<bool, Failed> {
    let folder = match &args.folder {
        Some(folder) => folder.clone(),
        None => std::env::temp_dir().join(format!("speedwell-campaign-{}", std::process::id())),
    };
    fs::create_dir_all(&folder)?;
    let tools = tools(args, &folder)?;
    if let Some(broken) = args.broken {
        return broken::run(broken, &folder, &tools);
    }
    let kinds = kinds(&args.only)?;
    let size = if args.form == Form::Short { SHORT } else { FULL };
    let size = Size { faults: args.faults.unwrap_or(size.faults), ..size };
    let mut plan = rounds(args.seed, &kinds, size);
    if let Some(number) = args.round {
        plan.retain(|round| round.number == number);
    }
    println!("seed {}: {} faults in {} rounds", args.seed, count(&plan), plan.len());
    let began = Instant::now();
    let outcomes = run_all(&plan, args.lanes.max(1), &folder, &tools);
    Ok(report(&plan, &outcomes, began.elapsed(), &folder))
}

fn kinds(only: &[String]) -> Result<Vec<Kind>, Failed> {
    let wanted = |name: &String| {
        let found = Kind::ALL.into_iter().find(|kind| format!("{kind:?}") == *name);
        found.ok_or_else(|| format!("no kind {name}; there are {:?}", Kind::ALL))
    };
    Ok(if only.is_empty() { Kind::ALL.to_vec() } else { only.iter().map(wanted).collect::<Result<_, _>>()? })
}

fn tools(args: &Args, folder: &Path) -> Result<Tools, Failed> {
    let program = |name: &str| {
        let path = args.programs.join(name);
        path.canonicalize().map_err(|error| format!("{}: {error}; scripts/campaign builds it", path.display()))
    };
    let places = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];
    let mosquitto = places.iter().map(PathBuf::from).find(|path| path.exists()).ok_or("there is no mosquitto")?;
    Ok(Tools {
        agent: program("speedwell")?,
        hub: program("speedwell-hub")?,
        mosquitto,
        preload: preload::build(folder)?,
    })
}

fn count(plan: &[Round]) -> usize {
    plan.iter().map(|round| round.faults.len()).sum()
}

/// Each lane takes the next round as soon as it is done with one.
fn run_all(plan: &[Round], lanes: usize, folder: &Path, tools: &Tools) -> Vec<Option<Result<Outcome, String>>> {
    let (next, struck) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (began, total) = (Instant::now(), count(plan));
    let outcomes: Mutex<Vec<Option<Result<Outcome, String>>>> = Mutex::new(plan.iter().map(|_| None).collect());
    let lane = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(round) = plan.get(at) else { return };
            let tell = |what: &str| {
                let n = struck.load(Ordering::Relaxed);
                println!("{:6.1} s  {n:4}/{total}  round {:<3} {what}", began.elapsed().as_secs_f64(), round.number);
            };
            let counted = |what: &str| {
                struck.fetch_add(1, Ordering::Relaxed);
                tell(what);
            };
            let home = folder.join(format!("round-{}", round.number));
            let outcome = round::run(round, &home, tools, &counted).map_err(|error| error.to_string());
            match &outcome {
                Ok(outcome) => tell(&verdict(outcome)),
                Err(error) => tell(&format!("could not be run: {error}")),
            }
            if outcome.as_ref().is_ok_and(Outcome::is_well) {
                let _ = fs::remove_dir_all(&home);
            }
            outcomes.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(outcome);
        }
    };
    thread::scope(|scope| {
        for number in 0..lanes.min(plan.len()) {
            scope.spawn(move || {
                // Worlds that begin together would all start their programs at once.
                thread::sleep(Duration::from_millis(400 * number as u64));
                lane();
            });
        }
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn verdict(outcome: &Outcome) -> String {
    let judgement = &outcome.judgement;
    let how = if outcome.is_well() { "well" } else { "NOT WELL" };
    format!(
        "{how}: {} said, {} stored, {} cut off, {} declared lost; drained in {:.1} s",
        judgement.said,
        judgement.stored,
        judgement.cut_off,
        judgement.declared,
        outcome.drained.as_secs_f64()
    )
}

/// What a kind of fault did, in the rounds where it was.
#[derive(Default)]
struct Tally {
    alone: usize,
    mixed: usize,
    declared_alone: usize,
    wrong: BTreeMap<Wrong, usize>,
}

/// Prints the table and the first violations; whether all was well.
fn report(plan: &[Round], outcomes: &[Option<Result<Outcome, String>>], took: Duration, folder: &Path) -> bool {
    let mut tallies: BTreeMap<Kind, Tally> = BTreeMap::new();
    let mut sums: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut worst_cut_ms, mut latest_ms, mut widest_ms, mut slowest) = (i64::MIN, 0, 0, Duration::ZERO);
    let mut troubles = Vec::new();
    for (round, outcome) in plan.iter().zip(outcomes) {
        let outcome = match outcome {
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) => {
                troubles.push(format!("round {} could not be run: {error}", round.number));
                continue;
            }
            None => continue,
        };
        let judgement = &outcome.judgement;
        for fault in &round.faults {
            let tally = tallies.entry(fault.kind).or_default();
            if round.alone.is_some() { tally.alone += 1 } else { tally.mixed += 1 }
        }
        if let Some(kind) = round.alone {
            tallies.entry(kind).or_default().declared_alone += judgement.declared;
        }
        for kind in round.faults.iter().map(|fault| fault.kind).collect::<std::collections::BTreeSet<_>>() {
            let tally = tallies.entry(kind).or_default();
            Wrong::ALL.iter().for_each(|how| *tally.wrong.entry(*how).or_default() += judgement.times(*how));
        }
        let figures = [
            ("said", judgement.said),
            ("stored", judgement.stored),
            ("cut off", judgement.cut_off),
            ("declared", judgement.declared),
            ("untrusted", judgement.untrusted),
            ("restarts", outcome.restarts),
        ];
        figures.into_iter().for_each(|(what, n)| *sums.entry(what).or_default() += n);
        Wrong::ALL.iter().for_each(|how| *sums.entry(how.words()).or_default() += judgement.times(*how));
        worst_cut_ms = worst_cut_ms.max(judgement.worst_cut_ns.map_or(i64::MIN, |ns| ns / 1_000_000));
        latest_ms = latest_ms.max(judgement.latest_ns / 1_000_000);
        widest_ms = widest_ms.max(judgement.widest_bound_ns / 1_000_000);
        slowest = slowest.max(outcome.drained);
        for (how, (times, told)) in &judgement.wrong {
            let first = told.join("\n      ");
            let words = how.words();
            troubles.push(format!(
                "round {}: {times} {words}\n      {first}\n      see {}",
                round.number,
                outcome.folder.display()
            ));
        }
        troubles.extend(outcome.accidents.iter().map(|accident| format!("round {}: {accident}", round.number)));
    }
    println!(
        "\n| fault | alone | among others | declared lost (alone) | missing | twice | altered | misdated | without a cause |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (kind, Tally { alone, mixed, declared_alone, wrong }) in &tallies {
        let wrong: Vec<String> = Wrong::ALL.iter().map(|how| wrong[how].to_string()).collect();
        println!("| {} | {alone} | {mixed} | {declared_alone} | {} |", kind.words(), wrong.join(" | "));
    }
    let sum = |what: &str| sums.get(what).copied().unwrap_or(0);
    let struck: usize = tallies.values().map(|tally| tally.alone + tally.mixed).sum();
    println!("\n{struck} faults in {} s. {} samples said, {} stored.", took.as_secs(), sum("said"), sum("stored"));
    println!(
        "{} missing, {} twice, {} altered, {} misdated, {} lost without a cause.",
        sum("missing"),
        sum("twice"),
        sum("altered"),
        sum("misdated"),
        sum("without a cause")
    );
    let worst = match worst_cut_ms {
        i64::MIN => String::new(),
        ms => format!(", at most {ms} ms beyond commit-every (500 allowed)"),
    };
    println!(
        "{} cut off by kills and power cuts{worst}; {} declared lost by damage, full disks and restored databases.",
        sum("cut off"),
        sum("declared")
    );
    println!(
        "{} stored while nobody vouched for the clock, and marked so; the widest bound stated on a UTC is {widest_ms} ms; stamps at most {latest_ms} ms late; {} starts by the service manager; the slowest drained in {} s.",
        sum("untrusted"),
        sum("restarts"),
        slowest.as_secs()
    );
    for trouble in &troubles {
        println!("\nNOT WELL  {trouble}");
    }
    if troubles.is_empty() {
        let _ = fs::remove_dir_all(folder);
    } else {
        println!(
            "\nthe folders of these rounds are kept in {}; one round again: --round N with the same seed",
            folder.display()
        );
    }
    troubles.is_empty()
}
