//! `GET /api/v1/gaps` and `GET /api/v1/events`: what is missing and why, and what happened.

use axum::{extract::State, response::Response};
use serde::Serialize;
use speedwell_wire::{EventKind, Loss};
use utoipa::ToSchema;

use super::{Asked, Utc, answer, asked::wrong, history::made_of};
use crate::{
    api::{ApiError, Complaint, Context},
    store::{Happened, Lack, Missing, ToldQuery, What},
};

/// Most items of an answer, and how many when no limit is asked for.
const ITEMS: (usize, usize) = (10_000, 1_000);
/// Usual intervals that are a silence when nothing else is asked for.
const INTERVALS: f64 = 3.0;

/// What is missing of a gateway.
#[derive(Serialize, ToSchema)]
struct Gaps {
    gateway: String,
    from: Option<Utc>,
    to: Utc,
    /// In order of time.
    gaps: Vec<Gap>,
    /// There may be more.
    truncated: bool,
    /// The `from` to go on with then. Null while `truncated` says that more of one instant was found than fits.
    next: Option<Utc>,
    /// A silence of the channel longer than this is told, s; null when no channel was asked for.
    silence_s: Option<f64>,
    /// What silences were looked for in: `samples`, or sums by `1m` or `1h`.
    silence_of: Option<&'static str>,
}

/// Something that is missing.
#[derive(Serialize, ToSchema)]
struct Gap {
    /// After this; null where nothing before it has a time.
    from: Option<Utc>,
    /// Before this; null where nothing after it has a time.
    to: Option<Utc>,
    /// `gap`: records the gateway no longer had. `loss`: the gateway says what it had to let go. `undated`: a boot whose
    /// samples are there, for whose time nobody vouches. `silence`: no sample of the channel for longer than usual.
    kind: &'static str,
    /// Records that are missing.
    records: u64,
    /// Samples that are missing, as far as anybody counted them.
    samples: u64,
    /// Why, in a word.
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    /// First and last record of a gap.
    #[serde(skip_serializing_if = "Option::is_none")]
    seqs: Option<[u64; 2]>,
    /// The boot that nobody dated.
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<u32>,
    /// Where its own clock places its samples, right or wrong: the range to ask for to see them.
    #[serde(skip_serializing_if = "Option::is_none")]
    told: Option<[Utc; 2]>,
}

/// What is missing of a gateway and why, in order of time. With `sensor` and `quantity` the silences of that channel too.
#[utoipa::path(
    get, path = "/api/v1/gaps", tag = "query",
    params(
        ("gateway" = String, Query, description = "its id"),
        ("sensor" = Option<String>, Query, description = "with `quantity`: silences of this channel too"),
        ("quantity" = Option<String>, Query, description = "with `sensor`"),
        ("periods" = Option<f64>, Query, minimum = 1.5, maximum = 1000, description = "how many usual intervals are a silence, 1.5 to 1000; 3 when left out"),
        ("from" = Option<String>, Query, description = "RFC 3339 with a zone; from the first on when left out"),
        ("to" = Option<String>, Query, description = "RFC 3339 with a zone; now when left out"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 10000, description = "at most this many, 1 to 10000; 1000 when left out"),
    ),
    responses((status = 200, body = Gaps), (status = 400, body = Complaint), (status = 503, body = Complaint))
)]
pub(in super::super) async fn gaps(State(context): State<Context>, asked: Asked) -> Result<Response, ApiError> {
    let asked = asked.only(&["gateway", "sensor", "quantity", "periods", "from", "to", "limit"], &[])?;
    let channel = match (asked.text("sensor"), asked.text("quantity")) {
        (None, None) => None,
        _ => Some((asked.sensor()?, asked.quantity()?, periods(asked.text("periods"))?)),
    };
    let (query, range) = (checked(&asked, channel)?, asked.range()?);
    answer(context, move |reader| {
        let found = reader.missing(&query)?;
        Ok(Gaps {
            gateway: query.gateway.to_string(),
            from: range.from(),
            to: range.to(),
            gaps: found.items.into_iter().map(gap).collect(),
            truncated: found.truncated,
            next: found.next_ns.map(Utc),
            silence_s: found.silence.map(|(longer_than, _)| longer_than as f64 / 1e9),
            silence_of: found.silence.map(|(_, made)| made_of(made)),
        })
    })
    .await
}

fn periods(text: Option<&str>) -> Result<f64, ApiError> {
    let Some(text) = text else { return Ok(INTERVALS) };
    let number = text.parse().ok().filter(|n| (1.5..=1_000.0).contains(n));
    number.ok_or_else(|| wrong("periods", text, "wanted is a number from 1.5 to 1000"))
}

fn checked(asked: &Asked, channel: Option<(String, speedwell_wire::Quantity, f64)>) -> Result<ToldQuery, ApiError> {
    let (gateway, range) = (asked.gateway()?, asked.range()?);
    let limit = asked.number("limit", (1, ITEMS.0))?.unwrap_or(ITEMS.1);
    Ok(ToldQuery { gateway, from_ns: range.from_ns, to_ns: range.to_ns, limit, channel })
}

fn gap(missing: Missing) -> Gap {
    let (from, to) = (missing.from_ns.map(Utc), missing.to_ns.map(Utc));
    let none = |kind, reason: &str| Gap {
        from,
        to,
        kind,
        records: 0,
        samples: 0,
        reason: reason.to_owned(),
        log: missing.log.clone(),
        seqs: None,
        boot: None,
        told: None,
    };
    match missing.what {
        Lack::Gap(first, last) => {
            let records = last.saturating_sub(first).saturating_add(1);
            Gap { records, seqs: Some([first, last]), ..none("gap", "not-there-any-more") }
        }
        Lack::Loss(_, Loss { reason, records, samples, .. }) => Gap { records, samples, ..none("loss", reason.name()) },
        Lack::Undated(boot, told) => {
            let told = told.map(|(from, to)| [Utc(from), Utc(to)]);
            Gap { boot: Some(boot), told, ..none("undated", "clock-never-vouched-for") }
        }
        Lack::Silence => none("silence", "no-samples"),
    }
}

/// What happened to a gateway.
#[derive(Serialize, ToSchema)]
struct Events {
    gateway: String,
    from: Option<Utc>,
    to: Utc,
    /// In order of time.
    events: Vec<Event>,
    /// There may be more.
    truncated: bool,
    /// The `from` to go on with then. Null while `truncated` says that more of one instant was found than fits.
    next: Option<Utc>,
}

/// Something that happened.
#[derive(Serialize, ToSchema)]
struct Event {
    /// When; null in a boot for whose time nobody ever vouched, and then `after` and `before` say between what it was.
    t: Option<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Utc>,
    /// What the agent calls it, as `started` or `sensor-fault`; `clock-fix`, or `loss`.
    kind: String,
    /// The sensor concerned, if it concerns one.
    sensor: Option<String>,
    /// In words.
    detail: String,
    /// Log and record.
    log: String,
    seq: u64,
    /// The boot of the log.
    boot: Option<u32>,
    /// Of a clock fix: who vouches for it, as `ntp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
    /// Of a clock fix: one standard uncertainty, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    uncertainty_s: Option<f64>,
    /// Of a clock fix: how much faster UTC runs than the gateway's clock, in 1e-9.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_ppb: Option<i32>,
    /// Of a loss: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Of a loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<u64>,
}

/// What happened to a gateway: what its agent says, clock fixes, losses, in order of time.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "query",
    params(
        ("gateway" = String, Query, description = "its id"),
        ("from" = Option<String>, Query, description = "RFC 3339 with a zone; from the first on when left out"),
        ("to" = Option<String>, Query, description = "RFC 3339 with a zone; now when left out"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 10000, description = "at most this many, 1 to 10000; 1000 when left out"),
    ),
    responses((status = 200, body = Events), (status = 400, body = Complaint), (status = 503, body = Complaint))
)]
pub(in super::super) async fn events(State(context): State<Context>, asked: Asked) -> Result<Response, ApiError> {
    let asked = asked.only(&["gateway", "from", "to", "limit"], &[])?;
    let (query, range) = (checked(&asked, None)?, asked.range()?);
    answer(context, move |reader| {
        let found = reader.happened(&query)?;
        Ok(Events {
            gateway: query.gateway.to_string(),
            from: range.from(),
            to: range.to(),
            events: found.items.into_iter().map(event).collect(),
            truncated: found.truncated,
            next: found.next_ns.map(Utc),
        })
    })
    .await
}

fn event(happened: Happened) -> Event {
    let Happened { at_ns, between, log, seq, what } = happened;
    let none = |kind: &str, detail: String, boot| Event {
        t: at_ns.map(Utc),
        after: between.0.map(Utc),
        before: between.1.map(Utc),
        kind: kind.to_owned(),
        sensor: None,
        detail,
        log: log.clone(),
        seq,
        boot,
        source: None,
        uncertainty_s: None,
        rate_ppb: None,
        reason: None,
        samples: None,
    };
    match what {
        What::Event(event) => {
            let kind: EventKind = event.kind;
            Event { sensor: event.sensor, ..none(kind.name(), event.detail, Some(event.boot)) }
        }
        What::Clock(fix) => {
            let uncertainty_s = fix.uncertainty_ns as f64 / 1e9;
            let detail = format!("UTC by {}, to {uncertainty_s} s", fix.source.name());
            Event {
                source: Some(fix.source.name()),
                uncertainty_s: Some(uncertainty_s),
                rate_ppb: Some(fix.rate_ppb),
                ..none("clock-fix", detail, Some(fix.boot))
            }
        }
        What::Loss(Loss { reason, records, samples, from, .. }) => {
            let detail = format!("{samples} samples and {records} records lost: {}", reason.name());
            let boot = from.map(|(boot, _)| boot);
            Event { reason: Some(reason.name()), samples: Some(samples), ..none("loss", detail, boot) }
        }
    }
}
