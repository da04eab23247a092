//! `GET /api/v1/rollup`: a channel summed up by so many seconds.

use axum::{extract::State, response::Response};
use serde::Serialize;
use speedwell_wire::{GatewayId, Quality, Quantity};
use utoipa::ToSchema;

use super::{Asked, Range, Utc, answer, asked::wrong, history::made_of};
use crate::{
    api::{ApiError, Complaint, Context},
    store::{Bucket, Level, MAX_BUCKETS, Made, RollupQuery, bucket_is_allowed},
};

/// A channel by buckets.
#[derive(Serialize, ToSchema)]
struct Rollup {
    #[schema(value_type = String)]
    gateway: GatewayId,
    sensor: String,
    #[schema(value_type = String)]
    quantity: Quantity,
    /// Of all values.
    unit: &'static str,
    /// How long a bucket is; they begin at multiples of it since 1970.
    bucket_s: u32,
    /// What buckets were made of: sums by `1s`, `1m` or `1h`.
    made_of: &'static str,
    /// As it was asked for; a bucket that an end lies in is there whole. Null: from the first on.
    from: Option<Utc>,
    to: Utc,
    /// Those that have samples.
    buckets: Vec<Told>,
    /// The `from` to go on with, when there is more.
    next: Option<Utc>,
}

/// A bucket.
#[derive(Serialize, ToSchema)]
#[schema(as = Bucket)]
struct Told {
    /// Where it begins.
    t: Utc,
    /// Samples in it.
    count: u64,
    /// Those of them for whose time nobody vouches.
    untrusted: u64,
    min: f64,
    max: f64,
    /// Of the values. Null for what goes round, as a course does: 359 and 1 degrees have no mean that adding gives.
    mean: Option<f64>,
    /// Over time: each value counts for as long as it lasted, silences over 150 s for nothing. Null as `mean` is.
    time_mean: Option<f64>,
    first: f64,
    first_t: Utc,
    last: f64,
    last_t: Utc,
    /// The worst of the samples; null where an older hub did not keep it.
    #[schema(value_type = Option<String>)]
    quality: Option<Quality>,
}

/// A channel over a range of time, summed up by buckets of any whole number of seconds, the oldest first.
#[utoipa::path(
    get, path = "/api/v1/rollup", tag = "query",
    params(
        ("gateway" = String, Query, description = "its id"),
        ("sensor" = String, Query, description = "its name"),
        ("quantity" = String, Query, description = "what is measured, as `speed`"),
        ("bucket" = Option<String>, Query, pattern = "^[0-9]{1,10}[smhd]$", description = "how long, as 10s, 1m, 15m, 1h, 1d; 1m when left out: whole minutes up to 7d, whole hours up to 366d, others up to 3600s"),
        ("from" = Option<String>, Query, description = "RFC 3339 with a zone; from the first on when left out"),
        ("to" = Option<String>, Query, description = "RFC 3339 with a zone; now when left out"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 100000, description = "at most this many buckets, 1 to 100000; 10000 when left out"),
    ),
    responses((status = 200, body = Rollup), (status = 400, body = Complaint), (status = 503, body = Complaint))
)]
pub(in super::super) async fn rollup(State(context): State<Context>, asked: Asked) -> Result<Response, ApiError> {
    let asked = asked.only(&["gateway", "sensor", "quantity", "bucket", "from", "to", "limit"], &[])?;
    let (gateway, sensor, quantity, range) = (asked.gateway()?, asked.sensor()?, asked.quantity()?, asked.range()?);
    let bucket_s = bucket(asked.text("bucket").unwrap_or("1m"))?;
    let limit = asked.number("limit", (1, MAX_BUCKETS))?.unwrap_or(10_000);
    answer(context, move |reader| {
        let Range { from_ns, to_ns } = range;
        let (whose, which) = (gateway.clone(), sensor.clone());
        let query = RollupQuery { gateway, sensor, quantity, bucket_s, from_ns, to_ns, limit };
        let found = reader.rollup(&query)?;
        if found.behind {
            return Err(ApiError::Behind);
        }
        let circular = found.circular;
        Ok(Rollup {
            gateway: whose,
            sensor: which,
            quantity,
            unit: quantity.unit(),
            bucket_s,
            made_of: made_of(Made::Rows(Level::below(bucket_s))),
            from: range.from(),
            to: range.to(),
            buckets: found.buckets.iter().map(|bucket| told(bucket, circular)).collect(),
            next: found.next_ns.map(Utc),
        })
    })
    .await
}

fn told(bucket: &Bucket, circular: bool) -> Told {
    let (mean, time_mean) = match circular {
        true => (None, None),
        false => (Some(bucket.mean()), Some(bucket.weighted_mean())),
    };
    Told {
        t: Utc(bucket.start_ns),
        count: bucket.count,
        untrusted: bucket.untrusted,
        min: bucket.min,
        max: bucket.max,
        mean,
        time_mean,
        first: bucket.first.1,
        first_t: Utc(bucket.first.0),
        last: bucket.last.1,
        last_t: Utc(bucket.last.0),
        quality: bucket.worst,
    }
}

/// A length as `10s`, `1m`, `1h`, `1d`.
fn bucket(text: &str) -> Result<u32, ApiError> {
    let bad = || {
        wrong(
            "bucket",
            text,
            "wanted is a length as 10s, 1m, 1h or 1d: whole minutes up to 7d, whole hours up to 366d, others up to 3600s",
        )
    };
    let unit = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let read = |(letter, seconds): (char, u32)| text.strip_suffix(letter)?.parse::<u32>().ok()?.checked_mul(seconds);
    unit.into_iter().find_map(read).filter(|bucket| bucket_is_allowed(*bucket)).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_any_whole_number_of_seconds_that_is_bounded_work() {
        for (text, seconds) in
            [("1s", 1), ("7s", 7), ("1m", 60), ("90m", 5_400), ("1d", 86_400), ("366d", 366 * 86_400)]
        {
            assert_eq!(bucket(text).unwrap(), seconds);
        }
        for bad in ["", "0s", "60", "-1s", "1.5s", "3601s", "367d", "10081m", "4294967295d", "m", "1w", "١s"] {
            assert!(bucket(bad).unwrap_err().to_string().contains("366d"), "{bad}");
        }
    }
}
