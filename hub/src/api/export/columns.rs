//! Parquet: the columns of the CSV with types of their own, in row groups. Behind the feature `parquet`; why it is off by
//! default and what it costs to build stands in `docs/decisions/parquet.md`.
//!
//! A column of a row group has to lie together, so so many rows are held, then written a column after the other and given
//! to the connection as they are written. What is in a file and where stands at its end: without that nothing can be read,
//! so no program takes a file that broke off for a whole one.

use std::{
    io::{self, Write},
    sync::Arc,
};

use parquet::{
    basic::{Compression, Encoding},
    data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type},
    errors::ParquetError,
    file::{
        metadata::{KeyValue, SortingColumn},
        properties::{EnabledStatistics, WriterProperties},
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::{parser::parse_message_type, types::ColumnPath},
};
use speedwell_wire::{ClockSource, Quantity};

use super::{super::query::QUANTITIES, Cut, Out, PAGE, PIECE, each_page};
use crate::store::{Read, Sample, Samples, SamplesQuery};

/// Rows of a row group at most, 64 bytes each until it is written. Readers take a group at a time, and like them large.
const GROUP: usize = 3 * PAGE;
/// Row groups of a file. 5 kB of each are kept until the foot is written.
const MAX_GROUPS: usize = 5_000;
/// Values that are handed over at a time.
const BATCH: usize = 1_024;
/// A column with more different values than this many bytes of them in a row group has no dictionary.
const DICTIONARY: usize = 256 * 1024;

/// As in the CSV. What may be unknown is optional.
const SCHEMA: &str = "message samples {
    REQUIRED INT64 time_utc (TIMESTAMP(NANOS, true));
    REQUIRED BYTE_ARRAY gateway (STRING);
    REQUIRED BYTE_ARRAY sensor (STRING);
    REQUIRED BYTE_ARRAY quantity (STRING);
    REQUIRED DOUBLE value;
    REQUIRED BYTE_ARRAY unit (STRING);
    OPTIONAL DOUBLE uncertainty;
    REQUIRED BYTE_ARRAY quality (STRING);
    OPTIONAL BYTE_ARRAY clock (STRING);
    OPTIONAL DOUBLE utc_uncertainty_s;
}";

type File<'a> = SerializedFileWriter<Sink<'a>>;

/// Hands over what is written as it grows. Why it could not comes back within the writer's error.
struct Sink<'a>(&'a mut Out);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A page of a column is longer than a piece.
        let some = bytes.get(..PIECE.saturating_sub(self.0.piece.len())).unwrap_or(bytes);
        self.0.piece.extend_from_slice(some);
        self.0.pass().map_err(io::Error::other)?;
        Ok(some.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<ParquetError> for Cut {
    fn from(error: ParquetError) -> Cut {
        let ParquetError::External(inner) = error else { return Cut::Parquet(error.to_string()) };
        let ours = inner.downcast::<io::Error>().map(|error| error.downcast::<Cut>());
        match ours {
            Ok(Ok(cut)) => cut,
            Ok(Err(other)) => Cut::Parquet(other.to_string()),
            Err(other) => Cut::Parquet(other.to_string()),
        }
    }
}

/// Rows that become a row group, with the channels that they name.
#[derive(Default)]
struct Group {
    channels: Vec<(String, Quantity)>,
    samples: Vec<Sample>,
}

impl Group {
    /// A page more; each page counts its channels anew.
    fn add(&mut self, page: Samples) {
        let place = |name: (String, Quantity)| {
            let known = self.channels.iter().position(|known| *known == name);
            known.unwrap_or_else(|| {
                self.channels.push(name);
                self.channels.len() - 1
            }) as u32
        };
        let places: Vec<u32> = page.channels.into_iter().map(place).collect();
        self.samples.extend(page.samples.into_iter().filter_map(|sample| {
            let channel = *places.get(sample.channel as usize)?;
            Some(Sample { channel, ..sample })
        }));
    }

    /// Writes and forgets it.
    fn write(&mut self, file: &mut File<'_>, gateway: &ByteArray) -> Result<(), Cut> {
        if self.samples.is_empty() {
            return Ok(());
        }
        if file.flushed_row_groups().len() == MAX_GROUPS {
            return Err(Cut::Long(MAX_GROUPS * GROUP));
        }
        let names = |of: fn(&(String, Quantity)) -> &str| -> Vec<ByteArray> {
            self.channels.iter().map(|channel| of(channel).into()).collect()
        };
        let (sensors, quantities) = (names(|(sensor, _)| sensor), names(|(_, quantity)| quantity.name()));
        let units = names(|(_, quantity)| quantity.unit());
        let of = |all: &[ByteArray], sample: &Sample| all.get(sample.channel as usize).cloned();
        let rows = &self.samples;
        let mut group = file.next_row_group()?;
        column::<Int64Type>(&mut group, rows, |row| Some(row.point.utc_ns))?;
        column::<ByteArrayType>(&mut group, rows, |_| Some(gateway.clone()))?;
        column::<ByteArrayType>(&mut group, rows, |row| of(&sensors, row))?;
        column::<ByteArrayType>(&mut group, rows, |row| of(&quantities, row))?;
        column::<DoubleType>(&mut group, rows, |row| Some(row.point.value))?;
        column::<ByteArrayType>(&mut group, rows, |row| of(&units, row))?;
        column::<DoubleType>(&mut group, rows, |row| row.point.uncertainty)?;
        column::<ByteArrayType>(&mut group, rows, |row| Some(word(row.point.quality.name())))?;
        column::<ByteArrayType>(&mut group, rows, |row| row.source.map(ClockSource::name).map(word))?;
        column::<DoubleType>(&mut group, rows, |row| row.utc_uncertainty_ns.map(|ns| ns as f64 / 1e9))?;
        group.close()?;
        self.channels.clear();
        self.samples.clear();
        Ok(())
    }
}

/// A text that lies in the binary: nothing is copied.
fn word(text: &'static str) -> ByteArray {
    axum::body::Bytes::from_static(text.as_bytes()).into()
}

/// The next column of a row group. `of` may only have no value where the schema says so.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Sink<'_>>,
    rows: &[Sample],
    of: impl Fn(&Sample) -> Option<T::T>,
) -> Result<(), ParquetError> {
    let next = group.next_column()?;
    let mut column = next.ok_or_else(|| ParquetError::General("the schema has fewer columns".into()))?;
    let optional = column.typed::<T>().get_descriptor().max_def_level() > 0;
    let (mut values, mut known) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    for some in rows.chunks(BATCH) {
        values.clear();
        known.clear();
        for value in some.iter().map(&of) {
            known.push(i16::from(value.is_some()));
            values.extend(value);
        }
        column.typed::<T>().write_batch(&values, optional.then_some(&known), None)?;
    }
    column.close()
}

/// How each column is written. What has few different values has a dictionary; what has many lies byte by byte, which
/// packs well; times are told by the steps between them.
fn properties(gateway: &str) -> WriterProperties {
    let time = || ColumnPath::from("time_utc");
    let units: serde_json::Map<_, _> = QUANTITIES.map(|q| (q.name().to_owned(), q.unit().into())).into_iter().collect();
    let told = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    let by_bytes = ["value", "uncertainty", "utc_uncertainty_s"].map(ColumnPath::from);
    let all = by_bytes
        .into_iter()
        .fold(WriterProperties::builder(), |all, column| all.set_column_encoding(column, Encoding::BYTE_STREAM_SPLIT));
    all.set_created_by(concat!("speedwell-hub version ", env!("CARGO_PKG_VERSION")).into())
        .set_key_value_metadata(Some(vec![
            told("gateway", gateway.to_owned()),
            told("units", serde_json::Value::from(units).to_string()),
        ]))
        .set_compression(Compression::SNAPPY)
        .set_dictionary_page_size_limit(DICTIONARY)
        .set_column_encoding(time(), Encoding::DELTA_BINARY_PACKED)
        .set_column_dictionary_enabled(time(), false)
        // It grows all the time.
        .set_column_dictionary_enabled(ColumnPath::from("utc_uncertainty_s"), false)
        // Who looks for a time or a value passes over groups without it. An index of pages would have to be kept too.
        .set_statistics_enabled(EnabledStatistics::None)
        .set_column_statistics_enabled(time(), EnabledStatistics::Chunk)
        .set_column_statistics_enabled(ColumnPath::from("value"), EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_sorting_columns(Some(vec![SortingColumn { column_idx: 0, descending: false, nulls_first: false }]))
        .build()
}

pub(super) fn parquet(reader: &dyn Read, query: SamplesQuery, out: &mut Out) -> Result<(), Cut> {
    let gateway: ByteArray = query.gateway.as_str().into();
    let properties = properties(query.gateway.as_str());
    let mut file = File::new(Sink(out), Arc::new(parse_message_type(SCHEMA)?), Arc::new(properties))?;
    let mut group = Group { samples: Vec::with_capacity(GROUP), ..Group::default() };
    each_page(reader, query, |page| {
        if group.samples.len() + page.samples.len() > GROUP {
            group.write(&mut file, &gateway)?;
        }
        group.add(page);
        Ok(())
    })?;
    group.write(&mut file, &gateway)?;
    file.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::{
        runtime::Handle,
        sync::{mpsc, watch},
    };

    use super::*;
    use crate::store::Point;

    fn group() -> Group {
        let point = Point { utc_ns: 1, value: 2.0, uncertainty: None, quality: Default::default() };
        let sample = Sample { channel: 0, point, source: None, utc_uncertainty_ns: None };
        Group { channels: vec![("gnss".into(), Quantity::Speed)], samples: vec![sample] }
    }

    /// What `write` comes to with a client that takes so many pieces and then goes, and how many it took.
    async fn written(
        takes: usize,
        write: impl FnOnce(&mut File<'_>) -> Result<(), Cut> + Send + 'static,
    ) -> (Result<(), Cut>, usize) {
        let (pieces, mut taken) = mpsc::channel(1);
        let (_run, stop) = watch::channel(false);
        let runtime = Handle::current();
        let writer = tokio::task::spawn_blocking(move || {
            let mut out = Out { piece: Vec::new(), pieces, stop, runtime };
            let schema = parse_message_type(SCHEMA).unwrap();
            let mut file = File::new(Sink(&mut out), Arc::new(schema), Arc::new(properties("truck-7"))).unwrap();
            write(&mut file)
        });
        let mut n = 0;
        while n < takes && taken.recv().await.is_some() {
            n += 1;
        }
        drop(taken);
        (writer.await.unwrap(), n)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_ends_without_its_foot_when_it_would_have_more_row_groups_than_may_be_kept() {
        let (written, _) = written(usize::MAX, |file| {
            for _ in 0..MAX_GROUPS {
                group().write(file, &"truck-7".into())?;
            }
            Group::default().write(file, &"truck-7".into())?;
            group().write(file, &"truck-7".into())
        })
        .await;
        assert!(matches!(written, Err(Cut::Long(300_000_000))), "{written:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn that_the_client_went_comes_back_through_the_writer() {
        let (written, taken) = written(2, |file| {
            loop {
                group().write(file, &"truck-7".into())?;
            }
        })
        .await;
        assert!(matches!(written, Err(Cut::Client)) && taken == 2, "{written:?} after {taken}");
    }
}
