//! `speedwell spool export`: the log as rows, one after the other as it is read.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, ErrorKind, Write},
    ops::ControlFlow,
};

use clap::ValueEnum;
use serde::Serialize;
use speedwell::spool::Reader;
use speedwell_wire::{ClockFix, ClockSource, LossReason, Record, Samples, block, record};

use super::Exit;

/// Clock fixes kept in memory to derive UTC from; beyond it every second one is let go of.
const FIXES_MAX: usize = 1 << 16;

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// With a header line; empty where there is nothing to say
    Csv,
    /// One JSON object a line
    Json,
}

/// One row. `what` is a sample's quantity, an event's kind, a loss's reason, the source of a clock fix.
#[derive(Debug, Default, Serialize)]
struct Row<'r> {
    seq: u64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    utc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensor: Option<&'r str>,
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uncertainty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Prints everything from `from` on.
pub(crate) fn run(reader: &Reader, format: Format, from: u64) -> Exit {
    let mut export = Export { reader, format, fixes: fixes(reader), out: BufWriter::new(io::stdout().lock()), left: 0 };
    let mut ended = export.head();
    if ended.is_ok() {
        reader.each(from, |entry| {
            ended = export.entry(entry.first, entry.span, &entry.bytes);
            if ended.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
    }
    match ended.and_then(|()| export.out.flush()) {
        // Whoever read along has seen enough, as with `| head`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Exit::Fine,
        Err(error) => {
            eprintln!("speedwell spool export: {error}");
            Exit::Io
        }
        Ok(()) if export.left > 0 || !reader.problems().is_empty() => {
            reader.problems().iter().for_each(|problem| eprintln!("{problem}"));
            eprintln!("{} records could not be read; `speedwell spool verify` names them", export.left);
            Exit::Data
        }
        Ok(()) => Exit::Fine,
    }
}

/// The fixes that somebody vouches for, by boot.
fn fixes(reader: &Reader) -> BTreeMap<u32, Vec<ClockFix>> {
    let mut fixes: BTreeMap<u32, Vec<ClockFix>> = BTreeMap::new();
    let mut kept = 0;
    reader.each(1, |entry| {
        if let Ok(Record::Clock(fix)) = record::decode(&entry.bytes)
            && fix.source != ClockSource::Untrusted
        {
            fixes.entry(fix.boot).or_default().push(fix);
            kept += 1;
        }
        if kept > FIXES_MAX {
            for boot in fixes.values_mut().filter(|boot| boot.len() > 1) {
                let mut odd = false;
                boot.retain(|_| {
                    odd = !odd;
                    odd
                });
            }
            kept = fixes.values().map(Vec::len).sum();
        }
        if kept > FIXES_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    fixes
}

struct Export<'r, W: Write> {
    reader: &'r Reader,
    format: Format,
    fixes: BTreeMap<u32, Vec<ClockFix>>,
    out: W,
    /// Records that could not be read.
    left: u64,
}

impl<W: Write> Export<'_, W> {
    fn head(&mut self) -> io::Result<()> {
        match self.format {
            Format::Csv => {
                writeln!(self.out, "seq,kind,boot,boot_ns,utc,sensor,what,value,unit,uncertainty,quality,detail")
            }
            Format::Json => Ok(()),
        }
    }

    fn entry(&mut self, seq: u64, span: u64, bytes: &[u8]) -> io::Result<()> {
        match record::decode(bytes) {
            Ok(Record::Samples(samples)) => self.samples(seq, &samples),
            Ok(Record::Event(event)) => self.row(&Row {
                seq,
                kind: "event",
                boot: Some(event.boot),
                boot_ns: Some(event.t_ns),
                utc: self.utc(event.boot, event.t_ns),
                sensor: event.sensor.as_deref(),
                what: event.kind.name(),
                detail: Some(event.detail.clone()),
                ..Row::default()
            }),
            Ok(Record::Clock(fix)) => self.row(&Row {
                seq,
                kind: "clock",
                boot: Some(fix.boot),
                boot_ns: Some(fix.boot_ns),
                utc: stamp(fix.utc_ns),
                what: fix.source.name(),
                detail: Some(format!("uncertain by {} ns, rate {} ppb", fix.uncertainty_ns, fix.rate_ppb)),
                ..Row::default()
            }),
            Ok(Record::Loss(loss)) => {
                if loss.reason == LossReason::Damaged && loss.records == span {
                    self.left += span;
                }
                let until =
                    loss.until.map(|(boot, t_ns)| format!(", until boot {boot}, {t_ns} ns")).unwrap_or_default();
                self.row(&Row {
                    seq,
                    kind: "loss",
                    boot: loss.from.map(|(boot, _)| boot),
                    boot_ns: loss.from.map(|(_, t_ns)| t_ns),
                    utc: loss.from.and_then(|(boot, t_ns)| self.utc(boot, t_ns)),
                    what: loss.reason.name(),
                    value: Some(loss.samples as f64),
                    unit: Some("samples"),
                    detail: Some(format!("{} records, numbers {seq}..={}{until}", loss.records, seq + span - 1)),
                    ..Row::default()
                })
            }
            Err(_) => {
                self.left += 1;
                Ok(())
            }
        }
    }

    fn samples(&mut self, seq: u64, samples: &Samples) -> io::Result<()> {
        let reader = self.reader;
        let (Some(manifest), Ok(columns)) = (reader.manifests().get(&samples.manifest), block::decode(&samples.block))
        else {
            self.left += 1;
            return Ok(());
        };
        for column in &columns {
            let Some(channel) = manifest.channel(column.channel) else { continue };
            for sample in &column.samples {
                let t_ns = channel.t_ns(sample.tick);
                self.row(&Row {
                    seq,
                    kind: "sample",
                    boot: Some(samples.boot),
                    boot_ns: Some(t_ns),
                    utc: self.utc(samples.boot, t_ns),
                    sensor: Some(&channel.sensor),
                    what: channel.quantity.name(),
                    value: Some(channel.value(sample.value)),
                    unit: Some(channel.quantity.unit()),
                    uncertainty: sample.uncertainty.in_unit(channel.resolution()),
                    quality: Some(sample.quality.name()),
                    ..Row::default()
                })?;
            }
        }
        Ok(())
    }

    /// By the fix nearest in time of the same boot: `utc_ns + (t - boot_ns) * (1 + rate_ppb / 1e9)`.
    fn utc(&self, boot: u32, t_ns: u64) -> Option<String> {
        let fixes = self.fixes.get(&boot)?;
        let after = fixes.partition_point(|fix| fix.boot_ns < t_ns);
        let near = fixes.get(after.saturating_sub(1)..fixes.len().min(after + 1))?;
        let fix = near.iter().min_by_key(|fix| fix.boot_ns.abs_diff(t_ns))?;
        let since = i128::from(t_ns) - i128::from(fix.boot_ns);
        let utc = i128::from(fix.utc_ns) + since + since * i128::from(fix.rate_ppb) / 1_000_000_000;
        stamp(i64::try_from(utc).ok()?)
    }

    fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        if self.format == Format::Json {
            serde_json::to_writer(&mut self.out, row)?;
            return writeln!(self.out);
        }
        let text = |number: Option<f64>| number.map_or_else(String::new, |number| number.to_string());
        let cells = [
            row.seq.to_string(),
            row.kind.to_owned(),
            row.boot.map_or_else(String::new, |boot| boot.to_string()),
            row.boot_ns.map_or_else(String::new, |t_ns| t_ns.to_string()),
            row.utc.clone().unwrap_or_default(),
            quoted(row.sensor.unwrap_or_default()),
            row.what.to_owned(),
            text(row.value),
            row.unit.unwrap_or_default().to_owned(),
            text(row.uncertainty),
            row.quality.unwrap_or_default().to_owned(),
            quoted(row.detail.as_deref().unwrap_or_default()),
        ];
        writeln!(self.out, "{}", cells.join(","))
    }
}

/// As RFC 4180 wants it.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn stamp(utc_ns: i64) -> Option<String> {
    jiff::Timestamp::from_nanosecond(utc_ns.into()).ok().map(|utc| utc.to_string())
}
