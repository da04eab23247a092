//! A channel's samples over a range of UTC.

use super::{
    History, HistoryQuery, StoreError,
    rows::Rows,
    samples::{SamplesQuery, samples},
};

pub(super) fn history(rows: &mut impl Rows, query: &HistoryQuery) -> Result<History, StoreError> {
    let HistoryQuery { gateway, sensor, quantity, from_ns, to_ns, limit } = query.clone();
    let (sensors, quantities) = (vec![sensor], vec![quantity]);
    let found = samples(rows, &SamplesQuery { gateway, sensors, quantities, from_ns, to_ns, skip: 0, limit })?;
    Ok(History {
        clock: found.clock(),
        utc_uncertainty_ns: found.utc_uncertainty_ns(),
        points: found.samples.into_iter().map(|sample| sample.point).collect(),
        truncated: found.next.is_some(),
        next_ns: found.next.map(|(at, _)| at),
        undated: found.undated,
    })
}
