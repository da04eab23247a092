//! What is wrong with a pulse sensor, as far as its own pulses tell.

use std::{fmt, time::Duration};

use crate::clock::BootNs;

/// It must be so for this long before it is said, and not be so for that long before it is taken back: a name that
/// comes and goes helps nobody.
const ONSET: Duration = Duration::from_secs(2);
const HOLD: Duration = Duration::from_secs(10);
/// Stamps are irregular beyond so many times what they were, in the mean over so many ticks with a speed.
const IRREGULAR: f64 = 5.0;
const USUAL_TICKS: u32 = 2000;
/// Before so many nothing is usual.
const LEAST_TICKS: u32 = 100;
/// Pulses over which edges out of turn are counted, and the share of them that is too many: with two lines a thousandth
/// of the edges, with both edges of one line half of the pulses.
const COUNTED: u64 = 250;
const TWO_LINES: f64 = 0.004;
const ONE_LINE: f64 = 0.5;

/// A named thing that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ailment {
    /// Stamps scatter more than five times as much as they used to.
    Irregular,
    /// Both edges are listened to and only one kind comes.
    OneEdgeOnly,
    /// Pulses come faster than whoever stamps them can be trusted.
    TooFast,
    /// More than a thousandth of the edges of two lines come in an order that no wheel makes.
    OutOfTurn,
    /// Pulses at a standstill that no start explains.
    Trembling,
}

impl Ailment {
    /// All there are.
    pub const ALL: [Ailment; 5] =
        [Ailment::Irregular, Ailment::OneEdgeOnly, Ailment::TooFast, Ailment::OutOfTurn, Ailment::Trembling];
}

/// What a person should know and look at.
impl fmt::Display for Ailment {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Ailment::Irregular => "irregular pulses: they scatter five times as much as usual; look at bearing and gap",
            Ailment::OneEdgeOnly => {
                "only one kind of edge comes although both are listened to; look at wiring and level"
            }
            Ailment::TooFast => {
                "pulses come faster than they can be stamped; use the kernel's edges or fewer pulses a turn"
            }
            Ailment::OutOfTurn => {
                "the two lines' edges come out of turn; look at the second line's wiring and alignment"
            }
            Ailment::Trembling => "pulses at a standstill that no start explains; look at vibration and interference",
        })
    }
}

/// What is looked at, at a tick.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symptoms {
    /// A speed was measured.
    pub(super) moving: bool,
    /// Of the stamps, s.
    pub(super) jitter: f64,
    pub(super) two_lines: bool,
    /// Counts since the start.
    pub(super) pulses: u64,
    pub(super) out_of_turn: u64,
    pub(super) too_fast: bool,
    pub(super) trembles: bool,
}

/// One thing, and how long it has been so.
#[derive(Clone, Copy, Debug, Default)]
struct Watched {
    since: Option<BootNs>,
    newest: Option<BootNs>,
    said: bool,
    news: bool,
}

impl Watched {
    fn see(&mut self, now: BootNs, is: bool) {
        if is {
            self.newest = Some(now);
            let since = *self.since.get_or_insert(now);
            if !self.said && now.since(since) >= ONSET {
                (self.said, self.news) = (true, !self.news);
            }
        } else if self.newest.is_none_or(|newest| now.since(newest) >= HOLD) {
            self.since = None;
            if self.said {
                (self.said, self.news) = (false, !self.news);
            }
        } else if !self.said {
            self.since = None;
        }
    }
}

/// Watches for all of them.
#[derive(Debug, Default)]
pub(super) struct Diagnosis {
    watched: [Watched; Ailment::ALL.len()],
    usual: f64,
    ticks: u32,
    /// Pulses and edges out of turn when they were last compared, and what came of it.
    counted: (u64, u64),
    too_many: bool,
    /// The tooth that was told to be damaged, and whether that is news.
    tooth: Option<(usize, f64)>,
    tooth_news: bool,
}

impl Diagnosis {
    pub(super) fn look(&mut self, now: BootNs, symptoms: &Symptoms) {
        let irregular = self.is_irregular(symptoms);
        self.count(symptoms);
        for (ailment, watched) in Ailment::ALL.into_iter().zip(&mut self.watched) {
            watched.see(
                now,
                match ailment {
                    Ailment::Irregular => irregular,
                    Ailment::OneEdgeOnly => self.too_many && !symptoms.two_lines,
                    Ailment::TooFast => symptoms.too_fast,
                    Ailment::OutOfTurn => self.too_many && symptoms.two_lines,
                    Ailment::Trembling => symptoms.trembles,
                },
            );
        }
    }

    fn is_irregular(&mut self, symptoms: &Symptoms) -> bool {
        if !symptoms.moving {
            return false;
        }
        let irregular = self.ticks >= LEAST_TICKS && symptoms.jitter > IRREGULAR * self.usual;
        if !irregular {
            self.ticks = (self.ticks + 1).min(USUAL_TICKS);
            self.usual += (symptoms.jitter - self.usual) / f64::from(self.ticks);
        }
        irregular
    }

    fn count(&mut self, symptoms: &Symptoms) {
        let (pulses, out_of_turn) = (symptoms.pulses - self.counted.0, symptoms.out_of_turn - self.counted.1);
        if pulses >= COUNTED {
            let share = out_of_turn as f64 / pulses as f64;
            self.too_many = share > if symptoms.two_lines { TWO_LINES } else { ONE_LINE };
            self.counted = (symptoms.pulses, symptoms.out_of_turn);
        }
    }

    /// A tooth lies far off, by so many pitches; told once.
    pub(super) fn see_tooth(&mut self, damaged: Option<(usize, f64)>) {
        if let Some((tooth, _)) = damaged
            && self.tooth.is_none_or(|(told, _)| told != tooth)
        {
            (self.tooth, self.tooth_news) = (damaged, true);
        }
    }

    /// What holds now.
    pub(super) fn ailments(&self) -> impl Iterator<Item = Ailment> + '_ {
        Ailment::ALL.into_iter().zip(&self.watched).filter(|(_, watched)| watched.said).map(|(ailment, _)| ailment)
    }

    /// A change that was not told yet: what, and whether it is so now.
    pub(super) fn news(&mut self) -> Option<(Ailment, bool)> {
        let (ailment, watched) = Ailment::ALL.into_iter().zip(&mut self.watched).find(|(_, watched)| watched.news)?;
        watched.news = false;
        Some((ailment, watched.said))
    }

    /// The damaged tooth, if it was not told yet.
    pub(super) fn tooth_news(&mut self) -> Option<(usize, f64)> {
        self.tooth.filter(|_| std::mem::take(&mut self.tooth_news))
    }
}
