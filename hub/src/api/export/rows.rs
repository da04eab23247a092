//! CSV and JSON lines: a row a sample, in order of time.

use std::io::Write;

use serde::Serialize;
use speedwell_wire::{ClockSource, Quality, Quantity};

use super::{super::query::Utc, Cut, Out, each_page};
use crate::store::{Read, SamplesQuery};

/// The names of the columns; the unit of value and uncertainty stands beside them.
const HEADER: &str = "time_utc,gateway,sensor,quantity,value,unit,uncertainty,quality,clock,utc_uncertainty_s\r\n";

#[derive(Serialize)]
struct Row<'a> {
    t: Utc,
    gateway: &'a str,
    sensor: &'a str,
    quantity: Quantity,
    value: f64,
    unit: &'static str,
    uncertainty: Option<f64>,
    quality: Quality,
    clock: Option<ClockSource>,
    utc_uncertainty_s: Option<f64>,
}

/// Each row to `write`; how many there were.
fn each_row(
    reader: &dyn Read,
    query: SamplesQuery,
    out: &mut Out,
    mut write: impl FnMut(&mut Vec<u8>, &Row<'_>),
) -> Result<u64, Cut> {
    let (gateway, mut rows) = (query.gateway.clone(), 0);
    each_page(reader, query, |page| {
        for sample in &page.samples {
            let Some((sensor, quantity)) = page.channels.get(sample.channel as usize) else { continue };
            let point = &sample.point;
            let (t, value, unit) = (Utc(point.utc_ns), point.value, quantity.unit());
            let (uncertainty, quality, clock) = (point.uncertainty, point.quality, sample.source);
            let utc_uncertainty_s = sample.utc_uncertainty_ns.map(|ns| ns as f64 / 1e9);
            let (gateway, quantity) = (gateway.as_str(), *quantity);
            write(
                &mut out.piece,
                &Row { t, gateway, sensor, quantity, value, unit, uncertainty, quality, clock, utc_uncertainty_s },
            );
            rows += 1;
            out.pass()?;
        }
        Ok(())
    })?;
    Ok(rows)
}

/// RFC 4180.
pub(super) fn csv(reader: &dyn Read, query: SamplesQuery, out: &mut Out) -> Result<(), Cut> {
    out.piece.extend_from_slice(HEADER.as_bytes());
    each_row(reader, query, out, |to, row| {
        // Writing into memory does not fail.
        let _ = write!(to, "{},", row.t);
        text(to, row.gateway);
        to.push(b',');
        text(to, row.sensor);
        let _ = write!(to, ",{},{},{},", row.quantity.name(), row.value, row.unit);
        if let Some(uncertainty) = row.uncertainty {
            let _ = write!(to, "{uncertainty}");
        }
        let clock = row.clock.map_or("", ClockSource::name);
        let _ = write!(to, ",{},{clock},", row.quality.name());
        if let Some(bound) = row.utc_uncertainty_s {
            let _ = write!(to, "{bound}");
        }
        to.extend_from_slice(b"\r\n");
    })?;
    Ok(())
}

/// A text that somebody else chose: no spreadsheet takes it for a formula, and it stays one field.
fn text(to: &mut Vec<u8>, text: &str) {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let quoted = text.contains(['"', ',', '\r', '\n']);
    if quoted {
        to.push(b'"');
    }
    if formula {
        to.push(b'\'');
    }
    for byte in text.bytes() {
        if byte == b'"' {
            to.push(byte);
        }
        to.push(byte);
    }
    if quoted {
        to.push(b'"');
    }
}

/// An object a line; the last says that it was all.
pub(super) fn json_lines(reader: &dyn Read, query: SamplesQuery, out: &mut Out) -> Result<(), Cut> {
    let rows = each_row(reader, query, out, |to, row| {
        let before = to.len();
        match serde_json::to_writer(&mut *to, row) {
            Ok(()) => to.push(b'\n'),
            Err(_) => to.truncate(before),
        }
    })?;
    let _ = writeln!(out.piece, "{{\"complete\":true,\"rows\":{rows}}}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(of: &str) -> String {
        let mut to = Vec::new();
        text(&mut to, of);
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn a_text_that_a_spreadsheet_would_reckon_with_is_none_any_more() {
        for (of, is) in [
            ("front-wheel", "front-wheel"),
            ("=1+1", "'=1+1"),
            ("-2+3", "'-2+3"),
            ("+x", "'+x"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("=HYPERLINK(\"http://x\",\"y\")", "\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\""),
            ("a,b", "\"a,b\""),
            ("a\r\nb", "\"a\r\nb\""),
        ] {
            assert_eq!(field(of), is);
        }
    }

    proptest! {
        #[test]
        fn whatever_a_sensor_is_called_it_is_one_field_and_no_formula(name in ".{0,12}|[=+@\", \r\n-]{0,6}") {
            // It stands for a doubled quote below.
            prop_assume!(!name.contains('\0'));
            let field = field(&name);
            let inner = match field.strip_prefix('"') {
                Some(quoted) => quoted.strip_suffix('"').unwrap().replace("\"\"", "\0").replace('"', "BARE").replace('\0', "\""),
                None => { prop_assert!(!field.contains([',', '"', '\r', '\n'])); field.clone() }
            };
            prop_assert!(!inner.starts_with(['=', '+', '-', '@', '\t', '\r']));
            prop_assert_eq!(inner.strip_prefix('\'').filter(|_| !name.starts_with('\'')).unwrap_or(&inner), name);
        }
    }
}
