//! What is read, out of SQLite.

use std::{collections::BTreeMap, path::PathBuf};

use rusqlite::{Connection, OpenFlags};
use speedwell_wire::{GatewayId, Manifest, Seq};

use super::{BUSY_TIMEOUT, STATEMENTS, gateway, lock::beside, log_id, manifest, readings, rows::Tables, unword};
use crate::store::{
    Channels, ChannelsQuery, Counts, DrawQuery, Drawing, Happened, History, HistoryQuery, Latest, LedgerRow, Missing,
    Newest, Place, PlacesQuery, Read, Rollup, RollupQuery, Samples, SamplesQuery, Standing, StoreError, Told,
    ToldQuery, channels, gateway_of, history, merge_latest, reduce, rollup, samples, told, tracks,
};

/// Opens a connection a call: that costs some 100 us and leaves nothing to be shared.
pub(super) struct Reader {
    pub(super) path: PathBuf,
}

impl Reader {
    pub(super) fn open(&self) -> Result<Connection, StoreError> {
        let db = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        db.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(db)
    }

    /// What is asked for in several steps has to fit together.
    fn at_one_moment<T>(&self, ask: impl FnOnce(&mut Tables<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut db = self.open()?;
        let moment = db.transaction()?;
        ask(&mut Tables(&moment))
    }
}

impl Read for Reader {
    fn manifests(&self) -> Result<Vec<Manifest>, StoreError> {
        let db = self.open()?;
        let mut rows = db.prepare("SELECT body FROM manifests ORDER BY id")?;
        let bodies = rows.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        bodies.map(|body| manifest(&body?)).collect()
    }

    fn latest(&self) -> Result<Vec<Latest>, StoreError> {
        let db = self.open()?;
        let mut rows = db.prepare(
            "SELECT latest.gateway, sensor, quantity, boot, t_ns, utc_ns, value, uncertainty, quality, ledger.log
             FROM latest JOIN ledger ON ledger.id = latest.log",
        )?;
        let mut rows = rows.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(Latest {
                gateway: gateway(row.get(0)?)?,
                log: log_id(row.get(9)?)?,
                boot: row.get(3)?,
                utc_ns: row.get(5)?,
                newest: Newest {
                    sensor: row.get(1)?,
                    quantity: unword(&row.get::<_, String>(2)?)?,
                    t_ns: row.get::<_, i64>(4)? as u64,
                    value: row.get(6)?,
                    uncertainty: row.get(7)?,
                    quality: unword(&row.get::<_, String>(8)?)?,
                },
            });
        }
        Ok(merge_latest(all, readings::latest(&db)?))
    }

    fn history(&self, query: &HistoryQuery) -> Result<History, StoreError> {
        self.at_one_moment(|rows| history::history(rows, query))
    }

    fn rollup(&self, query: &RollupQuery) -> Result<Rollup, StoreError> {
        self.at_one_moment(|rows| rollup::rollup(rows, query))
    }

    fn samples(&self, query: &SamplesQuery) -> Result<Samples, StoreError> {
        self.at_one_moment(|rows| samples::samples(rows, query))
    }

    fn draw(&self, query: &DrawQuery) -> Result<Drawing, StoreError> {
        self.at_one_moment(|rows| reduce::draw(rows, query))
    }

    fn channels(&self, query: &ChannelsQuery) -> Result<Channels, StoreError> {
        self.at_one_moment(|rows| channels::channels(rows, query))
    }

    fn missing(&self, query: &ToldQuery) -> Result<Told<Missing>, StoreError> {
        self.at_one_moment(|rows| told::missing(rows, query))
    }

    fn happened(&self, query: &ToldQuery) -> Result<Told<Happened>, StoreError> {
        self.at_one_moment(|rows| told::happened(rows, query))
    }

    fn places(&self, query: &PlacesQuery) -> Result<Vec<Place>, StoreError> {
        self.at_one_moment(|rows| tracks::places(rows, query))
    }

    fn standings(&self) -> Result<Vec<(GatewayId, Standing)>, StoreError> {
        let mut all: BTreeMap<GatewayId, (i64, Standing)> = BTreeMap::new();
        for LedgerRow { gateway, log, thru, received_ns } in self.ledgers()? {
            let (newest, standing) = all.entry(gateway).or_insert((i64::MIN, Standing::default()));
            if received_ns >= *newest {
                (*newest, standing.log, standing.thru) = (received_ns, Some(log), thru);
            }
        }
        let db = self.open()?;
        // total() and not sum(): a sum that does not fit is an error, and a gateway can say any number.
        let gaps =
            "SELECT gateway, count(*), total(last - first + 1) FROM gaps JOIN ledger ON id = gaps.log GROUP BY 1";
        let losses = "SELECT gateway, 0, total(samples) FROM losses JOIN ledger ON id = losses.log GROUP BY 1";
        let rejected = "SELECT source, count(*), 0.0 FROM rejected GROUP BY 1";
        let readings = "SELECT gateway, sum(readings), 0.0 FROM series WHERE readings > 0 GROUP BY 1";
        for (sql, what) in [(gaps, 0), (losses, 1), (rejected, 2), (readings, 3)] {
            let mut rows = db.prepare(sql)?;
            let mut rows = rows.query([])?;
            while let Some(row) = rows.next()? {
                let (source, count, total): (String, i64, f64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                // What was set aside may have come on any topic.
                let Ok(gateway) = GatewayId::new(gateway_of(&source)) else { continue };
                let (_, standing) = all.entry(gateway).or_default();
                match what {
                    0 => (standing.gaps, standing.missing_records) = (count as u64, total as u64),
                    1 => standing.lost_samples = total as u64,
                    3 => standing.readings = count as u64,
                    _ => standing.rejected += count as u64,
                }
            }
        }
        Ok(all.into_iter().map(|(gateway, (_, standing))| (gateway, standing)).collect())
    }

    fn ledgers(&self) -> Result<Vec<LedgerRow>, StoreError> {
        let db = self.open()?;
        let mut rows = db.prepare("SELECT gateway, log, thru, received_ns FROM ledger ORDER BY id")?;
        let mut rows = rows.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let log = log_id(row.get(1)?)?;
            let thru = row.get::<_, i64>(2)? as Seq;
            all.push(LedgerRow { gateway: gateway(row.get(0)?)?, log, thru, received_ns: row.get(3)? });
        }
        Ok(all)
    }

    fn bytes(&self) -> Result<u64, StoreError> {
        let size = |path: PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
        Ok(size(self.path.clone()) + size(beside(&self.path, "-wal")))
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        let db = self.open()?;
        let count = |what: &str| db.query_row(&format!("SELECT {what}"), [], |row| row.get::<_, i64>(0));
        Ok(Counts {
            chunks: count("coalesce(sum(chunks), 0) FROM parts")? as u64,
            samples: count("coalesce(sum(samples), 0) FROM parts")? as u64,
            events: count("count(*) FROM events")? as u64,
            clock_fixes: count("count(*) FROM clock_fixes")? as u64,
            losses: count("count(*) FROM losses")? as u64,
            gaps: count("count(*) FROM gaps")? as u64,
            rejected: count("count(*) FROM rejected")? as u64,
            readings: count("coalesce(sum(readings), 0) FROM series")? as u64,
        })
    }
}
