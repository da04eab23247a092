//! What is asked of the store.
//!
//! ```text
//! GET /api/v1/history    samples of a channel, or the few points to draw them by       GET /api/v1/gaps      what is missing
//! GET /api/v1/rollup     a channel summed up by so many seconds                        GET /api/v1/events    what happened
//! GET /api/v1/latest     newest values          GET /api/v1/channels    channels       GET /tracking/data/…  aliases
//! ```
//! A range is open at either end that is not told: from the first on, up to now. Both ends are part of it. What an answer
//! has no room for is told by `next`.

use std::sync::Arc;

use axum::{
    body::Bytes,
    http::header,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::{ApiError, Context};
use crate::store::{Read, StoreError, Undated};

pub(super) mod aliases;
mod asked;
pub(super) mod channels;
pub(super) mod history;
pub(super) mod rollup;
pub(super) mod told;

pub(super) use asked::{Asked, QUANTITIES};

/// A time of UTC as RFC 3339, to the ns as far as it is told.
#[derive(Clone, Copy, Debug, ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub(super) struct Utc(pub(super) i64);

impl std::fmt::Display for Utc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Nanoseconds in 64 bits are within the years that a timestamp may have.
        Timestamp::from_nanosecond(self.0.into()).unwrap_or_default().fmt(f)
    }
}

impl Serialize for Utc {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// A range as it was asked for; an open beginning is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) from_ns: i64,
    pub(super) to_ns: i64,
}

impl Range {
    pub(super) fn from(self) -> Option<Utc> {
        (self.from_ns > i64::MIN).then_some(Utc(self.from_ns))
    }

    pub(super) fn to(self) -> Utc {
        Utc(self.to_ns)
    }
}

/// A boot for whose time nobody vouched.
#[derive(Serialize, ToSchema)]
pub(super) struct Boot {
    /// Its log.
    log: String,
    /// Its number there.
    boot: u32,
    /// It began after this.
    after: Option<Utc>,
    /// It had ended by this.
    before: Option<Utc>,
    /// Where its own clock places its samples, right or wrong.
    told: Option<[Utc; 2]>,
}

impl From<Undated> for Boot {
    fn from(boot: Undated) -> Self {
        let told = boot.told_ns.map(|(from, to)| [Utc(from), Utc(to)]);
        let (after, before) = (boot.after_ns.map(Utc), boot.before_ns.map(Utc));
        Self { log: boot.log, boot: boot.boot, after, before, told }
    }
}

/// Asks the store on a thread that may wait, a few at a time, and writes the answer there too: a large one takes longer to
/// write than to find.
pub(super) async fn answer<T: Serialize>(
    context: Context,
    ask: impl FnOnce(&Arc<dyn Read>) -> Result<T, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let permit = context.queries.clone().acquire_owned().await.map_err(|_| ApiError::Stopping)?;
    let answer = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let answer = ask(&context.reader)?;
        serde_json::to_vec(&answer).map_err(|e| StoreError::Content(format!("what is no JSON: {e}")).into())
    });
    let body: Result<Vec<u8>, ApiError> = answer.await.map_err(|_| ApiError::Stopping)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], Bytes::from(body?)).into_response())
}
