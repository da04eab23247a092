//! Channels with their newest values, a page at a time.

use std::collections::HashMap;

use speedwell_wire::{GatewayId, Quantity};

use super::{
    Latest, StoreError,
    rollup::Level,
    rows::{Key, Lists},
    word,
};

/// Most channels of a page.
pub const MAX_CHANNELS: usize = 1_000;
/// Channels that one page looks at to find those it is asked for.
const LOOK_AT: usize = 10_000;

/// Which channels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChannelsQuery {
    /// Of this gateway; of all when none is told.
    pub gateway: Option<GatewayId>,
    /// Of a sensor of this name.
    pub sensor: Option<String>,
    /// Of this quantity.
    pub quantity: Option<Quantity>,
    /// After this channel: gateway, sensor, quantity. The order is the database's own.
    pub after: Option<(String, String, String)>,
    /// At most so many, and at most [`MAX_CHANNELS`].
    pub limit: usize,
    /// Whether it is to be told when each began.
    pub firsts: bool,
}

/// Channels in the database's order of gateway, sensor and quantity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Channels {
    /// Each with its newest value, and with the time of its first as far as is summed up, UTC ns.
    pub channels: Vec<(Latest, Option<i64>)>,
    /// What to ask on after. The page may be short then, or empty: a bounded number of channels is looked at.
    pub next: Option<(String, String, String)>,
}

fn key(latest: &Latest) -> Key {
    (latest.gateway.to_string(), latest.newest.sensor.clone(), word(&latest.newest.quantity))
}

pub(super) fn channels(rows: &mut impl Lists, query: &ChannelsQuery) -> Result<Channels, StoreError> {
    let limit = query.limit.min(MAX_CHANNELS);
    let narrow = query.sensor.is_some() || query.quantity.is_some();
    let most = if narrow { LOOK_AT } else { limit + 1 };
    let mut all: Vec<Latest> = Vec::new();
    for new in rows.newest(query.gateway.as_ref(), &query.after.clone().unwrap_or_default(), most)? {
        // What came as samples and one by one is one channel; the later in UTC stays.
        match all.last_mut() {
            Some(last) if key(last) == key(&new) => {
                if last.utc_ns <= new.utc_ns {
                    *last = new;
                }
            }
            _ => all.push(new),
        }
    }
    // Of each kind so many were given: beyond as many, one may be missing.
    let more = all.len() >= most;
    all.truncate(most);
    let wanted = |l: &Latest| {
        query.sensor.as_ref().is_none_or(|sensor| *sensor == l.newest.sensor)
            && query.quantity.is_none_or(|quantity| quantity == l.newest.quantity)
    };
    let (mut found, mut last, mut next) = (Vec::new(), None, None);
    for latest in all {
        if wanted(&latest) {
            if found.len() == limit {
                next = last.clone();
                break;
            }
            found.push(latest.clone());
        }
        last = Some(key(&latest));
    }
    let next = next.or(last.filter(|_| more));
    let channels = if query.firsts { firsts(rows, found)? } else { found.into_iter().map(|l| (l, None)).collect() };
    Ok(Channels { channels, next })
}

/// When each channel began, out of its first hour.
fn firsts(rows: &mut impl Lists, found: Vec<Latest>) -> Result<Vec<(Latest, Option<i64>)>, StoreError> {
    let mut known = HashMap::new();
    let mut all = Vec::with_capacity(found.len());
    for latest in found {
        if !known.contains_key(&latest.gateway) {
            known.insert(latest.gateway.clone(), rows.series(&latest.gateway)?);
        }
        let of = |s: &&super::rows::Series| s.sensor == latest.newest.sensor && s.quantity == latest.newest.quantity;
        let series = known.get(&latest.gateway).and_then(|all| all.iter().find(of)).map(|series| series.id);
        let hour = match series {
            Some(series) => rows.rollups(series, Level::Hour, (i64::MIN, i64::MAX), 1)?.pop(),
            None => None,
        };
        all.push((latest, hour.map(|hour| hour.first.0)));
    }
    Ok(all)
}
