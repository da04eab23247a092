//! Prints every sample a hub's SQLite database holds, as CSV, in the order of the log.
//!
//! In      the path of a database; it is opened read-only, a running hub is not disturbed.
//! Out     `gateway,log,seq,boot,sensor,quantity,t_ns,value,unit,uncertainty,quality`; times in ns since that boot.
//!
//! For tests that check the hub by what it keeps, and for a look when something is strange.

use std::{
    collections::HashMap,
    error::Error,
    io::{self, BufWriter, Write},
};

use rusqlite::{Connection, OpenFlags};
use speedwell_wire::{Manifest, block, frame};

/// Raw chunks, each with the number of the manifest it is read with.
const CHUNKS: &str = "SELECT l.gateway, l.log, c.seq, c.boot, c.manifest, c.block
    FROM chunks c JOIN ledger l ON l.id = c.log ORDER BY c.log, c.seq";

fn manifests(db: &Connection) -> Result<HashMap<i64, Manifest>, Box<dyn Error>> {
    let mut rows = db.prepare("SELECT id, body FROM manifests")?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    let mut manifests = HashMap::new();
    for row in rows {
        let (id, body) = row?;
        manifests.insert(id, frame::decode(&body)?);
    }
    Ok(manifests)
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: samples DATABASE")?;
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let manifests = manifests(&db)?;
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "gateway,log,seq,boot,sensor,quantity,t_ns,value,unit,uncertainty,quality")?;
    let mut chunks = db.prepare(CHUNKS)?;
    let mut chunks = chunks.query([])?;
    while let Some(row) = chunks.next()? {
        let (gateway, log): (String, String) = (row.get(0)?, row.get(1)?);
        let (seq, boot): (i64, i64) = (row.get(2)?, row.get(3)?);
        let manifest = manifests.get(&row.get(4)?).ok_or("a chunk names a manifest that is not there")?;
        for column in block::decode(&row.get::<_, Vec<u8>>(5)?)? {
            let channel = manifest.channel(column.channel).ok_or("a block names a channel that is not there")?;
            let (sensor, quantity, unit) = (&channel.sensor, channel.quantity, channel.quantity.unit());
            let quantity = serde_json::to_value(quantity)?;
            for sample in column.samples {
                let (t_ns, value) = (channel.t_ns(sample.tick), channel.value(sample.value));
                let u = sample.uncertainty.in_unit(channel.resolution()).map(|u| format!("{u:.6}")).unwrap_or_default();
                let quality = serde_json::to_value(sample.quality)?;
                writeln!(
                    out,
                    "{gateway},{log},{seq},{boot},{sensor},{},{t_ns},{value:.6},{unit},{u},{}",
                    quantity.as_str().unwrap_or_default(),
                    quality.as_str().unwrap_or_default(),
                )?;
            }
        }
    }
    Ok(())
}
