//! Knows what was said and holds what is stored against it. Pure.
//!
//! In      every sentence that was said to a listening agent, each run of the agent with how it ended, and the contents
//!         of the hub's database.
//! Out     what is missing, twice, altered, misdated, or declared lost without a reason.
//!
//! A sentence must be stored unless its run was killed within the commit bound after it, or a hole that the gateway or
//! the hub has declared lies between its neighbours in the log. Holes are only accepted in rounds whose faults can make
//! them: without damage to a disk nothing may be declared lost.

use std::collections::{BTreeMap, HashMap};

use speedwell_hub::store::ClockMap;
use speedwell_wire::Quantity;

use crate::{
    database::{Contents, Hole, Stored},
    receiver::{Fields, Said, fields},
};

const MS: i64 = 1_000_000;

/// What may pass between a sample's time and its durability beyond `commit-every`: the turn of a loop, and a machine
/// that is busy with the rest of the campaign.
pub(crate) const COMMIT_SLACK_NS: i64 = 500 * MS;
/// A sentence is stamped with when its first byte would have come over a line of its speed, which is before it was
/// written to a terminal that has no speed: by its own length, and by those of what was read with it.
const EARLY_NS: i64 = 300 * MS;
/// And at most this much late, when the agent was held up.
const LATE_NS: i64 = 2_000 * MS;
/// Violations that are told of each kind; the rest is counted.
const TOLD: usize = 5;

/// A run of the agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Which boot it was in, counted by the campaign.
    pub(crate) boot: u64,
    /// What its boot clock is ahead of this machine's.
    pub(crate) boot_off_ns: i64,
    pub(crate) commit_every_ns: i64,
    /// Records are kept in memory first: numbers of some that nobody has may be told as lost after a kill.
    pub(crate) lazy: bool,
    /// This machine's boot time when it was killed. One that was stopped, or runs, has to keep everything.
    pub(crate) killed_ns: Option<i64>,
}

/// What is known, and what the round's faults excuse.
pub(crate) struct Truth {
    pub(crate) receivers: Vec<String>,
    pub(crate) said: Vec<Said>,
    pub(crate) runs: Vec<Run>,
    /// The gateway may declare losses: its disk was damaged or full.
    pub(crate) losses: bool,
    /// It may declare as lost what a kill took out of memory. That excuses nothing that is older than the bound.
    pub(crate) lent: bool,
    /// The hub may find gaps: it was restored from a backup.
    pub(crate) gaps: bool,
    /// Payloads may have been set aside: some were garbage.
    pub(crate) rejects: bool,
}

/// A way to break the promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wrong {
    Missing,
    Twice,
    Altered,
    Misdated,
    Undeclared,
}

impl Wrong {
    pub(crate) const ALL: [Wrong; 5] =
        [Wrong::Missing, Wrong::Twice, Wrong::Altered, Wrong::Misdated, Wrong::Undeclared];

    pub(crate) fn words(self) -> &'static str {
        match self {
            Wrong::Missing => "missing",
            Wrong::Twice => "twice",
            Wrong::Altered => "altered",
            Wrong::Misdated => "misdated",
            Wrong::Undeclared => "without a cause",
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judgement {
    /// How often each, and the first few in words.
    pub(crate) wrong: BTreeMap<Wrong, (usize, Vec<String>)>,
    pub(crate) said: usize,
    pub(crate) stored: usize,
    /// Not stored, within the commit bound of a kill.
    pub(crate) cut_off: usize,
    /// The most that a kill took beyond `commit-every`, ns; [`COMMIT_SLACK_NS`] is allowed. Below nothing it took less.
    pub(crate) worst_cut_ns: Option<i64>,
    /// Not stored, and a declared hole says so.
    pub(crate) declared: usize,
    /// Stored, in a boot in which nobody ever vouched for real time; they are marked so.
    pub(crate) untrusted: usize,
    /// Furthest that a stamp was behind, ns: what the machine held the agent up.
    pub(crate) latest_ns: i64,
    /// Largest bound that was stated on the error of a sample's UTC, ns; each was held.
    pub(crate) widest_bound_ns: u64,
}

impl Judgement {
    fn wrong(&mut self, how: Wrong, words: impl FnOnce() -> String) {
        let (times, told) = self.wrong.entry(how).or_default();
        *times += 1;
        if told.len() < TOLD {
            told.push(words());
        }
    }

    /// How often this happened.
    pub(crate) fn times(&self, how: Wrong) -> usize {
        self.wrong.get(&how).map_or(0, |(times, _)| *times)
    }
}

/// Holds the database against the truth.
pub(crate) fn judge(truth: &Truth, contents: &Contents) -> Judgement {
    let mut judgement = Judgement { said: truth.said.len(), ..Judgement::default() };
    let said: HashMap<u64, &Said> = truth.said.iter().map(|said| (said.index, said)).collect();
    let maps: BTreeMap<(i64, u32), ClockMap> =
        contents.fixes.iter().map(|(boot, fixes)| (*boot, ClockMap::new(fixes.clone()))).collect();
    let mut found: HashMap<u64, &Stored> = HashMap::new();
    let mut boots: HashMap<(i64, u32), u64> = HashMap::new();
    for stored in &contents.stored {
        let Some(said) = recognise(truth, &said, stored, &mut judgement) else { continue };
        if let Some(first) = found.insert(said.index, stored) {
            judgement.wrong(Wrong::Twice, || {
                format!("sample {} of {} is {} and {}", said.index, stored.sensor, place(first), place(stored))
            });
            continue;
        }
        let run = &truth.runs[said.run];
        let boot = *boots.entry((stored.log, stored.boot)).or_insert(run.boot);
        place_in_time(said, run, boot, stored, maps.get(&(stored.log, stored.boot)), &mut judgement);
    }
    judgement.stored = found.len();
    look_for_the_missing(truth, contents, &found, &mut judgement);
    look_at_declarations(truth, contents, &mut judgement);
    judgement
}

fn place(stored: &Stored) -> String {
    format!("in log {} record {} at {} s of boot {}", stored.log, stored.seq, stored.t_ns as f64 / 1e9, stored.boot)
}

/// The sentence that a stored reading came from, if it is of one.
fn recognise<'t>(
    truth: &Truth,
    said: &HashMap<u64, &'t Said>,
    stored: &Stored,
    judgement: &mut Judgement,
) -> Option<&'t Said> {
    let value = |quantity| {
        let mut of = stored.values.iter().filter(|(q, _)| *q == quantity);
        of.next().filter(|_| of.next().is_none()).map(|(_, value)| *value)
    };
    let read = || {
        Some(Fields {
            latitude: value(Quantity::Latitude)?,
            longitude: value(Quantity::Longitude)?,
            speed: value(Quantity::Speed)?,
            course: value(Quantity::Course)?,
        })
    };
    let read = read().filter(|_| stored.values.len() == 4);
    let was = read.and_then(|read| said.get(&(read.latitude as u64)));
    let expected = was.map(|said| fields(&truth.receivers[said.receiver], said.index));
    let same_name = was.is_some_and(|said| truth.receivers[said.receiver] == stored.sensor);
    if read.is_none() || expected != read || !same_name {
        judgement.wrong(Wrong::Altered, || {
            format!("{} of {}: expected {expected:?}, found {:?}", place(stored), stored.sensor, stored.values)
        });
        return None;
    }
    was.copied()
}

fn place_in_time(
    said: &Said,
    run: &Run,
    boot: u64,
    stored: &Stored,
    map: Option<&ClockMap>,
    judgement: &mut Judgement,
) {
    let (t, from, to) = (stored.t_ns as i64, said.before_ns + run.boot_off_ns, said.after_ns + run.boot_off_ns);
    judgement.latest_ns = judgement.latest_ns.max(t - to);
    if boot != run.boot || t < from - EARLY_NS || t > to + LATE_NS {
        judgement.wrong(Wrong::Misdated, || {
            let expected = format!("{} s of boot {}", from as f64 / 1e9, run.boot);
            format!("sample {} of {}: expected at {expected}, found {}", said.index, stored.sensor, place(stored))
        });
        return;
    }
    match map.and_then(|map| Some((map.utc(stored.t_ns)?, map.uncertainty(stored.t_ns)?))) {
        Some(((utc, source), bound)) => {
            // The stamp was judged above: what is left is the clock, which is as good as it says, and here no worse than
            // what the machine's own says.
            let off = (utc - said.utc_ns) - (t - from);
            judgement.widest_bound_ns = judgement.widest_bound_ns.max(bound);
            if off.unsigned_abs() > bound {
                judgement.wrong(Wrong::Misdated, || {
                    let words = format!("sample {} of {}, {}", said.index, stored.sensor, place(stored));
                    format!("{words}: its UTC by {source:?} is {:.3} s off", off as f64 / 1e9)
                });
            }
        }
        // Nobody vouches, and that is said.
        _ => judgement.untrusted += 1,
    }
}

fn look_for_the_missing(truth: &Truth, contents: &Contents, found: &HashMap<u64, &Stored>, judgement: &mut Judgement) {
    for receiver in 0..truth.receivers.len() {
        let mut before: Option<&Stored> = None;
        let of: Vec<&Said> = truth.said.iter().filter(|said| said.receiver == receiver).collect();
        for (at, said) in of.iter().enumerate() {
            if let Some(stored) = found.get(&said.index) {
                before = Some(stored);
                continue;
            }
            let run = &truth.runs[said.run];
            let age = run.killed_ns.map(|killed| killed - said.after_ns);
            let beyond = age.map(|age| age - run.commit_every_ns);
            if beyond.is_some_and(|beyond| beyond <= COMMIT_SLACK_NS) {
                judgement.cut_off += 1;
                judgement.worst_cut_ns = judgement.worst_cut_ns.max(beyond);
                continue;
            }
            let after = of[at..].iter().find_map(|said| found.get(&said.index)).copied();
            if declared_between(truth, contents, before, after) {
                judgement.declared += 1;
                continue;
            }
            judgement.wrong(Wrong::Missing, || {
                let name = &truth.receivers[receiver];
                let (before, after) = (before.map_or("nothing".into(), place), after.map_or("nothing".into(), place));
                let age =
                    age.map_or("in a run that was not killed".into(), |age| format!("{} ms before a kill", age / MS));
                let words = format!("sample {} of {name}, said in run {} {age}", said.index, said.run);
                format!("{words}: not stored; before it {before}, after it {after}")
            });
        }
    }
}

/// Whether a declared hole that has a cause lies in the log between two readings.
fn declared_between(truth: &Truth, contents: &Contents, before: Option<&Stored>, after: Option<&Stored>) -> bool {
    let from = before.map_or((i64::MIN, 0), |stored| (stored.log, stored.seq));
    let to = after.map_or((i64::MAX, 0), |stored| (stored.log, stored.seq));
    let excuses = |hole: &&Hole| if hole.by_gateway { truth.losses } else { truth.gaps };
    contents.holes.iter().filter(excuses).any(|hole| (hole.log, hole.last) >= from && (hole.log, hole.first) <= to)
}

fn look_at_declarations(truth: &Truth, contents: &Contents, judgement: &mut Judgement) {
    for hole in &contents.holes {
        let allowed = if hole.by_gateway { truth.losses || truth.lent } else { truth.gaps };
        if !allowed {
            judgement.wrong(Wrong::Undeclared, || {
                let by = if hole.by_gateway { "the gateway" } else { "the hub" };
                let samples = hole.samples;
                format!("{by} says that records {}..={} are lost ({samples} samples)", hole.first, hole.last)
            });
        }
    }
    if !truth.rejects {
        for rejected in &contents.rejected {
            judgement.wrong(Wrong::Undeclared, || format!("a payload was set aside: {rejected}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use speedwell_wire::ClockSource;

    use speedwell_wire::ClockFix;

    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const NAME: &str = "left";

    /// Ten sentences a fifth of a second apart, from second 100 on, all stored, two a record.
    fn well() -> (Truth, Contents) {
        let at = |index: u64| 100 * SECOND + index as i64 * SECOND / 5;
        let said = |index| Said {
            index,
            receiver: 0,
            run: 0,
            before_ns: at(index),
            after_ns: at(index),
            utc_ns: at(index) + 1_000 * SECOND,
        };
        let stored = |index| Stored {
            log: 1,
            seq: 10 + index / 2,
            boot: 3,
            sensor: NAME.into(),
            t_ns: at(index) as u64,
            values: values(index),
        };
        let run = Run { boot: 1, boot_off_ns: 0, commit_every_ns: SECOND, lazy: false, killed_ns: None };
        let fix = ClockFix {
            boot: 3,
            boot_ns: 0,
            utc_ns: 1_000 * SECOND,
            uncertainty_ns: 0,
            rate_ppb: 0,
            source: ClockSource::Ntp,
        };
        let truth = Truth {
            receivers: vec![NAME.into()],
            said: (1..=10).map(said).collect(),
            runs: vec![run],
            losses: false,
            lent: false,
            gaps: false,
            rejects: false,
        };
        let contents = Contents {
            stored: (1..=10).map(stored).collect(),
            fixes: [((1, 3), vec![fix])].into(),
            ..Contents::default()
        };
        (truth, contents)
    }

    fn values(index: u64) -> Vec<(Quantity, i64)> {
        let Fields { latitude, longitude, speed, course } = fields(NAME, index);
        let quantities = [Quantity::Speed, Quantity::Latitude, Quantity::Longitude, Quantity::Course];
        quantities.into_iter().zip([speed, latitude, longitude, course]).collect()
    }

    /// Everything that is wrong.
    fn wrong(truth: &Truth, contents: &Contents) -> Vec<(Wrong, usize)> {
        judge(truth, contents).wrong.into_iter().map(|(how, (times, _))| (how, times)).collect()
    }

    #[test]
    fn what_is_stored_as_it_was_said_is_well() {
        let (truth, contents) = well();
        let judgement = judge(&truth, &contents);
        assert!(judgement.wrong.is_empty(), "{judgement:?}");
        assert_eq!((judgement.said, judgement.stored, judgement.untrusted), (10, 10, 0));
    }

    #[test]
    fn a_sample_that_is_not_there_is_missed_unless_it_was_cut_off_by_a_kill() {
        let (mut truth, mut contents) = well();
        contents.stored.retain(|stored| stored.t_ns < 101_700 * MS as u64);
        assert_eq!(wrong(&truth, &contents), [(Wrong::Missing, 2)]);
        truth.runs[0].killed_ns = Some(102_100 * MS);
        let judgement = judge(&truth, &contents);
        assert!(judgement.wrong.is_empty(), "{judgement:?}");
        assert_eq!((judgement.cut_off, judgement.worst_cut_ns), (2, Some(-700 * MS)));
        truth.runs[0].killed_ns = Some(104 * SECOND);
        assert_eq!(wrong(&truth, &contents), [(Wrong::Missing, 2)]);
    }

    #[test]
    fn a_declared_hole_excuses_what_lies_in_its_place_and_nothing_else_and_must_have_a_cause() {
        let (mut truth, mut contents) = well();
        contents.stored.retain(|stored| stored.seq != 12 && stored.seq != 14);
        contents.holes.push(Hole { log: 1, first: 12, last: 12, by_gateway: true, samples: 8 });
        assert_eq!(wrong(&truth, &contents), [(Wrong::Missing, 4), (Wrong::Undeclared, 1)]);
        truth.lent = true;
        assert_eq!(wrong(&truth, &contents), [(Wrong::Missing, 4)]);
        truth.losses = true;
        assert_eq!(wrong(&truth, &contents), [(Wrong::Missing, 2)]);
        assert_eq!(judge(&truth, &contents).declared, 2);
        contents.holes[0].by_gateway = false;
        assert_eq!(wrong(&truth, &contents), [(Wrong::Missing, 4), (Wrong::Undeclared, 1)]);
    }

    #[test]
    fn a_sample_that_is_there_again_is_twice_wherever_it_is() {
        let (truth, mut contents) = well();
        contents.stored.push(Stored { log: 2, ..contents.stored[4].clone() });
        contents.stored.push(Stored { seq: 99, t_ns: 101 * SECOND as u64, ..contents.stored[5].clone() });
        assert_eq!(wrong(&truth, &contents), [(Wrong::Twice, 2)]);
    }

    #[test]
    fn a_value_that_is_off_by_one_step_or_under_another_name_is_altered() {
        let (truth, mut contents) = well();
        contents.stored[3].values[0].1 += 1;
        contents.stored[4].sensor = "right".into();
        contents.stored[5].values.pop();
        let judgement = judge(&truth, &contents);
        assert_eq!((judgement.times(Wrong::Altered), judgement.times(Wrong::Missing)), (3, 3));
    }

    #[test]
    fn a_stamp_or_a_clock_that_is_off_is_misdated_unless_it_is_said_that_nobody_vouches() {
        let (truth, mut contents) = well();
        contents.stored[3].t_ns += 3 * SECOND as u64;
        assert_eq!(wrong(&truth, &contents), [(Wrong::Misdated, 1)]);
        let (mut truth, mut contents) = well();
        contents.fixes.get_mut(&(1, 3)).unwrap()[0].utc_ns += SECOND;
        assert_eq!(wrong(&truth, &contents), [(Wrong::Misdated, 10)]);
        contents.fixes.get_mut(&(1, 3)).unwrap()[0].source = ClockSource::Untrusted;
        assert_eq!(wrong(&truth, &contents), []);
        assert_eq!(judge(&truth, &contents).untrusted, 10);
        truth.runs.push(Run { boot: 2, ..truth.runs[0] });
        truth.said[7].run = 1;
        assert_eq!(wrong(&truth, &contents), [(Wrong::Misdated, 1)], "two boots under one number");
    }
}
