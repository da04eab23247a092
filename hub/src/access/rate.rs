//! How often may be asked: a bucket of tokens for each key and session, and for each address of those who have neither.
//!
//! A bucket is one number, the time up to which it is spoken for (the generic cell rate algorithm, ITU-T I.371 annex A):
//! each request moves it on by 1/rate, and one that would move it more than the burst beyond now is refused. Nothing has
//! to be refilled by anybody.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Addresses that are told from one another; beyond it they share a bucket until some have been quiet.
const MAX_ADDRESSES: usize = 10_000;

/// So many a second, twice as many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    step_ns: u64,
    burst_ns: u64,
}

/// What of a rate is spoken for, ns of a clock that all buckets share.
#[derive(Debug, Default)]
pub(super) struct Bucket(AtomicU64);

/// Buckets of addresses.
#[derive(Debug)]
pub(super) struct Strangers {
    rate: Rate,
    began: Instant,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
    rest: Bucket,
}

impl Rate {
    /// So many a second.
    pub(super) fn per_second(n: u32) -> Rate {
        let step_ns = 1_000_000_000 / u64::from(n.max(1));
        // Two seconds' worth.
        Rate { step_ns, burst_ns: 2_000_000_000 }
    }
}

impl Bucket {
    /// Takes one, or says how long to wait for it.
    pub(super) fn take(&self, rate: Rate, now_ns: u64) -> Result<(), Duration> {
        let mut taken = self.0.load(Ordering::Relaxed);
        loop {
            let from = taken.max(now_ns);
            let ahead = from - now_ns;
            if ahead + rate.step_ns > rate.burst_ns {
                return Err(Duration::from_nanos(ahead + rate.step_ns - rate.burst_ns));
            }
            match self.0.compare_exchange_weak(taken, from + rate.step_ns, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => taken = other,
            }
        }
    }
}

impl Strangers {
    /// With this rate for each address.
    pub(super) fn new(rate: Rate, began: Instant) -> Strangers {
        Strangers { rate, began, buckets: Mutex::default(), rest: Bucket::default() }
    }

    /// Takes one of an address, or says how long to wait for it.
    pub(super) fn take(&self, from: IpAddr) -> Result<(), Duration> {
        self.take_at(from, u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn take_at(&self, from: IpAddr, now_ns: u64) -> Result<(), Duration> {
        let from = network(from);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(&from) && buckets.len() >= MAX_ADDRESSES {
            // A full bucket is as good as a new one.
            buckets.retain(|_, bucket| *bucket.0.get_mut() > now_ns);
            if buckets.len() >= MAX_ADDRESSES {
                return self.rest.take(self.rate, now_ns);
            }
        }
        buckets.entry(from).or_default().take(self.rate, now_ns)
    }
}

/// Whom an address stands for: whoever has one IPv6 address has 2^64 of them.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => {
            let [a, b, c, d, ..] = six.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn twice_a_seconds_worth_may_come_at_once_and_then_the_rate_is_kept() {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(10));
        let taken = |now| (0..100).take_while(|_| bucket.take(rate, now).is_ok()).count();
        assert_eq!(taken(S), 20);
        assert_eq!(bucket.take(rate, S), Err(Duration::from_millis(100)));
        assert_eq!(taken(2 * S), 10);
        assert_eq!(taken(100 * S), 20);
    }

    #[test]
    fn more_addresses_than_are_told_apart_share_a_bucket_and_old_ones_make_room() {
        let strangers = Strangers::new(Rate::per_second(1), Instant::now());
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..MAX_ADDRESSES as u32 {
            assert!(strangers.take_at(address(n), S).is_ok());
        }
        assert!(strangers.take_at(address(77_000), S).is_ok() && strangers.take_at(address(77_001), S).is_ok());
        assert!(strangers.take_at(address(77_002), S).is_err(), "the third of those who share");
        assert!(strangers.take_at(address(5), S).is_ok(), "known ones have their own");
        assert!(strangers.take_at(address(77_002), 10 * S).is_ok());
        assert!(strangers.buckets.lock().unwrap().len() <= MAX_ADDRESSES);
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one() {
        let net = |text: &str| network(text.parse().unwrap());
        assert_eq!(net("2001:db8::1"), net("2001:db8::2:3:4:5"));
        assert_ne!(net("2001:db8:0:1::1"), net("2001:db8::1"));
        assert_eq!(net("::ffff:192.0.2.1"), net("192.0.2.1"));
    }
}
