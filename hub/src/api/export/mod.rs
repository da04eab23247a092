//! `GET /api/v1/export`: all samples of a range, streamed.
//!
//! ```text
//! ?format=csv|jsonl|geojson|gpx|parquet&gateway=&sensor=&quantity=&from=&to=        sensor and quantity may be there often
//! ```
//! A thread reads a page of samples after the other, each a moment's view of the store, and hands what it wrote of them to
//! the connection over a channel of a few pieces: a client that reads slowly makes it wait, and memory is bounded whatever
//! the range is. What arrives late for a time that was passed already is not in it.
//!
//! An export that is whole ends in a way of its own (`{"complete":true,"rows":N}`, `"complete":true` of GeoJSON, the end
//! tag of GPX, the foot of Parquet, the end of a chunked body). When something fails, the connection is cut instead, so that no program takes a
//! part for the whole.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context as Poller, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{Extension, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use hyper::body::Frame;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, mpsc, watch},
    time::timeout,
};

use super::{
    ApiError, Complaint, Context,
    query::{Asked, Utc},
    sent::{Paced, Sent},
};
use crate::store::{Read, SamplesQuery};

#[cfg(feature = "parquet")]
mod columns;
mod rows;
mod tracks;

/// Exports at once; who comes then is told to come again. Each holds a thread and a database connection.
pub const MAX_EXPORTS: usize = 2;
/// Samples read at a time.
const PAGE: usize = 20_000;
/// Bytes of a piece, and pieces that wait for the client.
const PIECE: usize = 64 * 1024;
const WAITING: usize = 4;
/// A client that takes nothing for so long is let go: others wait for its place.
const STALLED: Duration = Duration::from_secs(60);

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Csv,
    JsonLines,
    GeoJson,
    Gpx,
    #[cfg(feature = "parquet")]
    Parquet,
}

impl Format {
    const ALL: &[(&str, Format)] = &[
        ("csv", Format::Csv),
        ("jsonl", Format::JsonLines),
        ("geojson", Format::GeoJson),
        ("gpx", Format::Gpx),
        #[cfg(feature = "parquet")]
        ("parquet", Format::Parquet),
    ];

    /// By the word that asks for it.
    fn of(word: &str) -> Result<Format, ApiError> {
        let known = Self::ALL.iter().find(|(name, _)| *name == word);
        known.map(|(_, format)| *format).ok_or_else(|| {
            ApiError::BadQuery(match word {
                "parquet" => {
                    "format: this hub was built without parquet: build it with `--features parquet`, or ask for \
                    csv and make parquet of it: duckdb -c \"COPY (FROM 'export.csv') TO 'export.parquet'\""
                        .into()
                }
                _ => format!("format: {word:?} came, {}", Self::wanted()),
            })
        })
    }

    fn wanted() -> String {
        format!("wanted is one of {}", names().collect::<Vec<_>>().join(", "))
    }

    fn content_type(self) -> &'static str {
        match self {
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::JsonLines => "application/jsonl",
            Format::GeoJson => "application/geo+json",
            Format::Gpx => "application/gpx+xml",
            #[cfg(feature = "parquet")]
            Format::Parquet => PARQUET,
        }
    }
}

/// The media type of Parquet.
#[cfg(feature = "parquet")]
pub(super) const PARQUET: &str = "application/vnd.apache.parquet";

/// The formats that this hub has.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    Format::ALL.iter().map(|(name, _)| *name)
}

/// Why an export ends before its end.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("the client went, or took nothing for {} s", STALLED.as_secs())]
    Client,
    #[error("the hub is stopping")]
    Stopping,
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    #[cfg(feature = "parquet")]
    #[error("it has more than the {0} rows that a Parquet file may have: a shorter range, or csv")]
    Long(usize),
    #[cfg(feature = "parquet")]
    #[error("Parquet: {0}")]
    Parquet(String),
}

/// All samples of channels of a gateway over a range, as a file. CSV, JSON lines and, where the hub was built with it,
/// Parquet have a row a sample; GeoJSON and GPX have the places of sensors that tell latitude and longitude, with their speed.
#[utoipa::path(
    get, path = "/api/v1/export", tag = "query",
    params(
        ("format" = String, Query, description = "how it is written"),
        ("gateway" = String, Query, description = "its id"),
        ("sensor" = Option<Vec<String>>, Query, description = "of these sensors; of all when left out"),
        ("quantity" = Option<Vec<String>>, Query, description = "these quantities; all when left out. Not of geojson and gpx"),
        ("from" = Option<String>, Query, description = "RFC 3339 with a zone; from the first on when left out"),
        ("to" = Option<String>, Query, description = "RFC 3339 with a zone; now when left out"),
    ),
    responses(
        (status = 200, description = "the file, streamed; one that is cut was not whole",
            content((String = "text/csv"), (String = "application/jsonl"), (Object = "application/geo+json"), (String = "application/gpx+xml"))),
        (status = 400, body = Complaint), (status = 503, body = Complaint)
    )
)]
pub(super) async fn export(
    State(context): State<Context>,
    Extension(sent): Extension<Sent>,
    asked: Asked,
) -> Result<Response, ApiError> {
    let names = ["format", "gateway", "sensor", "quantity", "from", "to"];
    let asked = asked.only(&names, &["sensor", "quantity"])?;
    let Some(ending) = asked.text("format") else {
        return Err(ApiError::BadQuery(format!("format: missing field, {}", Format::wanted())));
    };
    let format = Format::of(ending)?;
    let (gateway, range) = (asked.gateway()?, asked.range()?);
    let quantities = asked.quantities()?;
    if !quantities.is_empty() && matches!(format, Format::GeoJson | Format::Gpx) {
        return Err(ApiError::BadQuery("quantity: a track has its own; leave it out, or ask for csv or jsonl".into()));
    }
    let name = file_name(gateway.as_str(), range.from(), range.to(), ending);
    let (sensors, from_ns, to_ns) = (asked.texts("sensor"), range.from_ns, range.to_ns);
    let query = SamplesQuery { gateway, sensors, quantities, from_ns, to_ns, skip: 0, limit: PAGE };
    let permit = context.exports.clone().try_acquire_owned().map_err(|_| ApiError::Exporting)?;
    let pieces = stream(context.reader, context.stop, format, query, permit);
    let body = Body::new(Paced::new(Stream { pieces, whole: false }, sent));
    let mut response = ([(header::CONTENT_TYPE, format.content_type())], body).into_response();
    if let Ok(name) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// `truck-7_2026-01-01T000000Z_2026-01-02T000000Z.csv`: colons are not allowed in names everywhere.
fn file_name(gateway: &str, from: Option<Utc>, to: Utc, ending: &str) -> String {
    let plain = |time: Utc| time.to_string().replace(':', "");
    let from = from.map_or_else(|| "start".into(), plain);
    format!("{gateway}_{from}_{}.{ending}", plain(to))
}

/// Begins to read on a thread of its own; what it wrote comes out here.
fn stream(
    reader: Arc<dyn Read>,
    stop: watch::Receiver<bool>,
    format: Format,
    query: SamplesQuery,
    permit: OwnedSemaphorePermit,
) -> mpsc::Receiver<io::Result<Option<Bytes>>> {
    let (pieces, taken) = mpsc::channel(WAITING);
    let gateway = query.gateway.clone();
    tokio::task::spawn_blocking(move || {
        let mut out = Out { piece: Vec::with_capacity(PIECE + 4096), pieces, stop, runtime: Handle::current() };
        let written = match format {
            Format::Csv => rows::csv(&*reader, query, &mut out),
            Format::JsonLines => rows::json_lines(&*reader, query, &mut out),
            Format::GeoJson => tracks::geo_json(&*reader, query, &mut out),
            Format::Gpx => tracks::gpx(&*reader, query, &mut out),
            #[cfg(feature = "parquet")]
            Format::Parquet => columns::parquet(&*reader, query, &mut out),
        };
        if let Err(cut) = written.and_then(|()| out.hand_over()) {
            tracing::warn!(%gateway, %cut, "an export was cut off");
            let _ = out.pieces.try_send(Err(io::Error::other(cut.to_string())));
        }
        drop(permit);
    });
    taken
}

/// Where an export is written to.
struct Out {
    piece: Vec<u8>,
    pieces: mpsc::Sender<io::Result<Option<Bytes>>>,
    stop: watch::Receiver<bool>,
    runtime: Handle,
}

impl Out {
    /// Hands over what is a piece by now.
    fn pass(&mut self) -> Result<(), Cut> {
        match self.piece.len() >= PIECE {
            true => self.send(),
            false => Ok(()),
        }
    }

    fn send(&mut self) -> Result<(), Cut> {
        if *self.stop.borrow() {
            return Err(Cut::Stopping);
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE + 4096));
        self.give(Some(piece.into()))
    }

    fn give(&mut self, piece: Option<Bytes>) -> Result<(), Cut> {
        let (pieces, mut stop) = (&self.pieces, self.stop.clone());
        self.runtime.block_on(async {
            tokio::select! {
                sent = timeout(STALLED, pieces.send(Ok(piece))) => match sent {
                    Ok(Ok(())) => Ok(()),
                    _ => Err(Cut::Client),
                },
                _ = stop.wait_for(|stop| *stop) => Err(Cut::Stopping),
            }
        })
    }

    /// The rest, and that it was all.
    fn hand_over(&mut self) -> Result<(), Cut> {
        self.send()?;
        self.give(None)
    }
}

/// A body out of pieces. It is only whole when the writer said so: a writer that is gone without a word cuts it too.
struct Stream {
    pieces: mpsc::Receiver<io::Result<Option<Bytes>>>,
    whole: bool,
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.whole {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(cx).map(|piece| match piece {
            Some(Ok(Some(bytes))) => Some(Ok(Frame::data(bytes))),
            Some(Ok(None)) => {
                self.whole = true;
                None
            }
            Some(Err(error)) => Some(Err(error)),
            None => Some(Err(io::Error::other("the export broke off"))),
        })
    }
}

/// All of a question, a page after the other.
fn each_page(
    reader: &dyn Read,
    mut query: SamplesQuery,
    mut take: impl FnMut(crate::store::Samples) -> Result<(), Cut>,
) -> Result<(), Cut> {
    loop {
        let page = reader.samples(&query)?;
        let next = page.next;
        take(page)?;
        match next {
            Some((from_ns, skip)) => (query.from_ns, query.skip) = (from_ns, skip),
            None => return Ok(()),
        }
    }
}
