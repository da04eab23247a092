//! Breaks the promise on purpose, from outside the programs, to show that the oracle sees it.
//!
//! - *confirmation*: the gateway takes the broker's word for the hub's (`confirm = "broker"`), and the broker forgets
//!   what it kept while the hub was down. It must be seen as missing. A stranger who merely says in the hub's name that
//!   everything is stored does not suffice: the hub's next word is less, and the gateway goes back to what it still has.
//! - *ledger*: the hub commits and its word does not reach the gateway; then its ledger forgets the log. The gateway
//!   sends again, as it should, and the hub takes it for new: it must be seen twice.
//! - *flush*: syncing does nothing and says that it did, and the power is cut. It must be seen as missing.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use clap::ValueEnum;

use crate::{
    oracle::{Wrong, judge},
    plan::{Fault, Kind},
    round::{drain_within, truth, until_stored},
    world::{Failed, Tools, World},
};

/// How long each stage goes on: some records, and for *ledger* less than a gateway waits before it sends again.
const STAGE: Duration = Duration::from_secs(4);
/// Longest wait for everything to be stored; what was broken never is.
const DRAIN_WITHIN: Duration = Duration::from_secs(60);

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Broken {
    /// The broker's word counts for the hub's
    Confirmation,
    /// The hub's ledger forgets a log
    Ledger,
    /// Syncing does nothing, and the power is cut
    Flush,
}

impl Broken {
    /// What must be seen.
    fn expected(self) -> Wrong {
        match self {
            Broken::Confirmation | Broken::Flush => Wrong::Missing,
            Broken::Ledger => Wrong::Twice,
        }
    }
}

/// Whether the oracle sees it.
pub(crate) fn run(broken: Broken, folder: &Path, tools: &Tools) -> Result<bool, Failed> {
    let folder = folder.join(format!("broken-{broken:?}").to_lowercase());
    fs::create_dir_all(&folder)?;
    let mut world = World::start(&folder, tools, 1)?;
    if broken == Broken::Flush {
        // Before the first agent has made anything durable.
        world.lie_about_syncing()?;
    }
    until_stored(&mut world)?;
    world.wait_until(Instant::now() + STAGE)?;
    match broken {
        Broken::Confirmation => believe_the_broker(&mut world)?,
        Broken::Ledger => forget_the_ledger(&mut world)?,
        Broken::Flush => cut_the_power(&mut world)?,
    }
    world.wait_until(Instant::now() + STAGE)?;
    world.heal()?;
    drain_within(&mut world, &[], DRAIN_WITHIN)?;
    world.finish()?;
    world.wait_until(Instant::now() + Duration::from_secs(1))?;
    let judgement = judge(&truth(&world, &[]), &world.contents()?);
    let seen = judgement.times(broken.expected());
    println!("broken: {broken:?}; {} samples said, {} stored", judgement.said, judgement.stored);
    for (how, (times, told)) in &judgement.wrong {
        println!("seen: {times} {}\n      {}", how.words(), told.join("\n      "));
    }
    match seen {
        0 => println!("NOT SEEN: nothing is {}", broken.expected().words()),
        _ => println!("the oracle sees it"),
    }
    drop(world);
    let _ = fs::remove_dir_all(folder);
    Ok(seen > 0)
}

fn fault(kind: Kind) -> Fault {
    Fault { kind, at: Duration::ZERO, lasting: Duration::ZERO, dice: 1 }
}

fn believe_the_broker(world: &mut World) -> Result<(), Failed> {
    world.believe_the_broker()?;
    world.begin(&fault(Kind::HubKilled))?;
    world.wait_until(Instant::now() + STAGE)?;
    world.begin(&fault(Kind::BrokerWiped))?;
    world.end(&fault(Kind::BrokerWiped))?;
    world.end(&fault(Kind::HubKilled))
}

fn forget_the_ledger(world: &mut World) -> Result<(), Failed> {
    world.mute_the_hub_to_the_gateway(true);
    world.wait_until(Instant::now() + STAGE)?;
    world.begin(&fault(Kind::HubKilled))?;
    world.rename_the_log_in_the_ledger()?;
    // The broker would tell the gateway what the hub said last.
    world.begin(&fault(Kind::BrokerWiped))?;
    world.end(&fault(Kind::BrokerWiped))?;
    world.mute_the_hub_to_the_gateway(false);
    world.end(&fault(Kind::HubKilled))
}

fn cut_the_power(world: &mut World) -> Result<(), Failed> {
    // An outage, so that the hub has not got what the disk is to lose.
    world.begin(&fault(Kind::LineRefused))?;
    world.wait_until(Instant::now() + 2 * STAGE)?;
    world.begin(&fault(Kind::PowerCut))?;
    world.end(&fault(Kind::PowerCut))?;
    world.end(&fault(Kind::LineRefused))
}
