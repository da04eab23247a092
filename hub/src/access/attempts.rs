//! Guessing passwords takes ever longer: waits that grow with each wrong one, for a name and for an address.
//!
//! In      names and addresses of those who try, before it is known whether they are right.
//! Out     go on, or how long to wait.
//! Keeps   at most [`MOST`] of each; the quietest are forgotten first.
//!
//! An attempt counts before its password is looked at, so that many at once do not slip through, and is forgotten when
//! it was right. Names wait briefly, so that nobody can lock a person out; where a person last logged in from, the name
//! does not wait at all.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::rate::network;

/// Names, and addresses.
const MOST: usize = 10_000;
/// A wrong one is forgotten after this.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// Wrong ones of a name that cost nothing, and its longest wait.
const OF_NAME: (u32, Duration) = (5, Duration::from_secs(60));
/// The same of an address: many people may be behind one.
const OF_ADDRESS: (u32, Duration) = (15, Duration::from_secs(900));

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    names: HashMap<String, Wrong>,
    addresses: HashMap<IpAddr, Wrong>,
    /// Where people last logged in from.
    homes: HashMap<String, IpAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Wrong {
    times: u32,
    last: Instant,
}

impl Attempts {
    /// Lets one try, or says how long to wait. `name` may be anybody's, or nobody's.
    pub(super) fn begin(&mut self, name: &str, from: IpAddr, now: Instant) -> Result<(), Duration> {
        let from = network(from);
        let at_home = self.homes.get(name) == Some(&from);
        let of_name = if at_home { Duration::ZERO } else { wait(self.names.get(name), OF_NAME, now) };
        let of_address = wait(self.addresses.get(&from), OF_ADDRESS, now);
        let longest = of_name.max(of_address);
        if !longest.is_zero() {
            return Err(longest);
        }
        count(&mut self.names, name.to_owned(), now);
        count(&mut self.addresses, from, now);
        Ok(())
    }

    /// The one that was let try was right.
    pub(super) fn right(&mut self, name: &str, from: IpAddr) {
        let from = network(from);
        self.names.remove(name);
        // Others behind the address may still be guessing: only this attempt is forgotten.
        if let Some(wrong) = self.addresses.get_mut(&from) {
            wrong.times = wrong.times.saturating_sub(1);
        }
        if self.homes.len() < MOST || self.homes.contains_key(name) {
            self.homes.insert(name.to_owned(), from);
        }
    }
}

/// 1, 2, 4, ... seconds after those that are free.
fn wait(wrong: Option<&Wrong>, (free, longest): (u32, Duration), now: Instant) -> Duration {
    let Some(wrong) = wrong.filter(|wrong| now.saturating_duration_since(wrong.last) < FORGOTTEN) else {
        return Duration::ZERO;
    };
    let Some(beyond) = wrong.times.checked_sub(free) else { return Duration::ZERO };
    let wait = Duration::from_secs(1 << beyond.min(20)).min(longest);
    (wrong.last + wait).saturating_duration_since(now)
}

fn count<K: Hash + Eq>(all: &mut HashMap<K, Wrong>, key: K, now: Instant) {
    if all.len() >= MOST && !all.contains_key(&key) {
        // An eighth at once, so that making room costs next to nothing each time.
        let mut ranks: Vec<_> = all.values().map(|wrong| (wrong.times, wrong.last)).collect();
        let (_, &mut quiet, _) = ranks.select_nth_unstable(MOST / 8);
        all.retain(|_, wrong| (wrong.times, wrong.last) > quiet);
    }
    let wrong = all.entry(key).or_insert(Wrong { times: 0, last: now });
    let old = now.saturating_duration_since(wrong.last) >= FORGOTTEN;
    *wrong = Wrong { times: if old { 1 } else { wrong.times.saturating_add(1) }, last: now };
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: [u8; 4] = [192, 0, 2, 1];
    const AWAY: [u8; 4] = [203, 0, 113, 7];

    fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn waits_of_a_name_grow_to_a_minute_whoever_asks() {
        let (mut attempts, mut now) = (Attempts::default(), Instant::now());
        for n in 0..5u8 {
            assert_eq!(attempts.begin("anna", [198, 51, 100, n].into(), now), Ok(()));
        }
        for (n, expected) in (100u8..).zip([1, 2, 4, 8, 16, 32, 60, 60]) {
            let from = [198, 51, 100, n].into();
            assert_eq!(attempts.begin("anna", from, now), Err(s(expected)));
            now += s(expected);
            assert_eq!(attempts.begin("anna", from, now), Ok(()));
        }
        assert_eq!(attempts.begin("bert", AWAY.into(), now), Ok(()));
        assert_eq!(attempts.begin("anna", AWAY.into(), now + FORGOTTEN), Ok(()));
    }

    #[test]
    fn who_guesses_a_persons_password_does_not_lock_her_out() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        assert_eq!(attempts.begin("anna", HOME.into(), now), Ok(()));
        attempts.right("anna", HOME.into());
        while attempts.begin("anna", AWAY.into(), now).is_ok() {}
        assert_eq!(attempts.begin("anna", HOME.into(), now), Ok(()));
    }

    #[test]
    fn an_address_that_tries_one_name_after_the_other_waits_up_to_a_quarter_of_an_hour() {
        let (mut attempts, mut now) = (Attempts::default(), Instant::now());
        let mut longest = Duration::ZERO;
        for n in 0..40 {
            if let Err(wait) = attempts.begin(&format!("user-{n}"), AWAY.into(), now) {
                longest = longest.max(wait);
                now += wait;
            }
        }
        assert_eq!(longest, s(900));
        assert_eq!(attempts.begin("user-1", HOME.into(), now), Ok(()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for n in 0..30_000u32 {
            let _ = attempts.begin(&format!("user-{n}"), (n + 1_000_000).to_be_bytes().into(), now);
        }
        assert!(attempts.names.len() <= MOST && attempts.addresses.len() <= MOST);
    }
}
