//! What is read, out of PostgreSQL.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, PoisonError},
};

use speedwell_wire::{GatewayId, Manifest, Quality, Seq, frame};

use super::session::{Options, Session, apart};
use crate::store::{
    Channels, ChannelsQuery, Counts, DrawQuery, Drawing, Happened, History, HistoryQuery, Latest, LedgerRow, Missing,
    Newest, Place, PlacesQuery, Read, Reading, Rollup, RollupQuery, Samples, SamplesQuery, Standing, StoreError, Told,
    ToldQuery, channels, gateway, gateway_of, history, latest_of, log_id, merge_latest, reduce, rollup, samples, told,
    tracks, unword,
};

/// Connections that answer at a time; who comes later waits for one.
const CONNECTIONS: usize = 8;

/// What is asked for in several steps has to fit together.
const MOMENT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

pub(super) struct Reader {
    options: Options,
    idle: Mutex<(Vec<Session>, usize)>,
    freed: Condvar,
}

impl Reader {
    pub(super) fn new(options: Options) -> Self {
        Self { options, idle: Mutex::default(), freed: Condvar::new() }
    }

    pub(super) fn ask<T: Send>(
        &self,
        what: impl FnMut(&mut Session) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        apart(|| self.ask_here(what))
    }

    fn ask_here<T>(&self, mut what: impl FnMut(&mut Session) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut guard = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while guard.1 >= CONNECTIONS {
            guard = self.freed.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        guard.1 += 1;
        let idle = guard.0.pop();
        drop(guard);
        let _seat = Seat(self);
        let reused = idle.filter(|session| !session.is_broken());
        let was_idle = reused.is_some();
        let mut session = reused.map_or_else(|| Session::connect(&self.options), Ok)?;
        let mut answer = session.transaction(MOMENT, &mut what);
        // One that lay idle may have died without a word: the server was restarted meanwhile.
        if answer.is_err() && was_idle && session.is_broken() {
            session = Session::connect(&self.options)?;
            answer = session.transaction(MOMENT, &mut what);
        }
        if !session.is_broken() && !matches!(answer, Err(StoreError::Unreachable { .. })) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).0.push(session);
        }
        answer
    }
}

/// A place among those who are answered, given back whatever happens.
struct Seat<'a>(&'a Reader);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).1 -= 1;
        self.0.freed.notify_one();
    }
}

impl Read for Reader {
    fn manifests(&self) -> Result<Vec<Manifest>, StoreError> {
        self.ask(|db| {
            let rows = db.query("SELECT body FROM manifests ORDER BY id", &[])?;
            let list = |body: &[u8]| {
                frame::decode(body).map_err(|e| StoreError::Content(format!("a manifest that is none: {e}")))
            };
            rows.iter().map(|row| list(row.get(0))).collect()
        })
    }

    fn latest(&self) -> Result<Vec<Latest>, StoreError> {
        self.ask(|db| {
            let rows = db.query(
                "SELECT latest.gateway, sensor, quantity, boot, t_ns, utc_ns, value, uncertainty, quality, ledger.log
                 FROM latest JOIN ledger ON ledger.id = latest.log ORDER BY 1, 2, 3",
                &[],
            )?;
            let mut all = Vec::with_capacity(rows.len());
            for row in &rows {
                all.push(Latest {
                    gateway: gateway(row.get(0))?,
                    log: log_id(row.get(9))?,
                    boot: row.get::<_, i64>(3) as u32,
                    utc_ns: row.get(5),
                    newest: Newest {
                        sensor: row.get(1),
                        quantity: unword(row.get(2))?,
                        t_ns: row.get::<_, i64>(4) as u64,
                        value: row.get(6),
                        uncertainty: row.get(7),
                        quality: unword(row.get(8))?,
                    },
                });
            }
            let rows = db.query(
                "SELECT gateway, sensor, quantity, utc_ns, value, uncertainty, quality
                 FROM series JOIN readings ON series = id AND utc_ns = newest_ns",
                &[],
            )?;
            let mut readings = Vec::with_capacity(rows.len());
            for row in &rows {
                readings.push(latest_of(&Reading {
                    device: gateway(row.get(0))?,
                    sensor: row.get(1),
                    quantity: unword(row.get(2))?,
                    utc_ns: row.get(3),
                    value: row.get(4),
                    uncertainty: row.get(5),
                    quality: unword::<Quality>(row.get(6))?,
                }));
            }
            Ok(merge_latest(all, readings))
        })
    }

    fn history(&self, query: &HistoryQuery) -> Result<History, StoreError> {
        self.ask(|db| history::history(db, query))
    }

    fn rollup(&self, query: &RollupQuery) -> Result<Rollup, StoreError> {
        self.ask(|db| rollup::rollup(db, query))
    }

    fn samples(&self, query: &SamplesQuery) -> Result<Samples, StoreError> {
        self.ask(|db| samples::samples(db, query))
    }

    fn draw(&self, query: &DrawQuery) -> Result<Drawing, StoreError> {
        self.ask(|db| reduce::draw(db, query))
    }

    fn channels(&self, query: &ChannelsQuery) -> Result<Channels, StoreError> {
        self.ask(|db| channels::channels(db, query))
    }

    fn missing(&self, query: &ToldQuery) -> Result<Told<Missing>, StoreError> {
        self.ask(|db| told::missing(db, query))
    }

    fn happened(&self, query: &ToldQuery) -> Result<Told<Happened>, StoreError> {
        self.ask(|db| told::happened(db, query))
    }

    fn places(&self, query: &PlacesQuery) -> Result<Vec<Place>, StoreError> {
        self.ask(|db| tracks::places(db, query))
    }

    fn standings(&self) -> Result<Vec<(GatewayId, Standing)>, StoreError> {
        let mut all: BTreeMap<GatewayId, (i64, Standing)> = BTreeMap::new();
        for LedgerRow { gateway, log, thru, received_ns } in self.ledgers()? {
            let (newest, standing) = all.entry(gateway).or_insert((i64::MIN, Standing::default()));
            if received_ns >= *newest {
                (*newest, standing.log, standing.thru) = (received_ns, Some(log), thru);
            }
        }
        // In floating point: a sum that does not fit is an error, and a gateway can say any number.
        let rows = self.ask(|db| {
            db.query(
                "SELECT 0, gateway, count(*), sum((last - first + 1)::double precision)
                    FROM gaps JOIN ledger ON id = gaps.log GROUP BY 2
                 UNION ALL SELECT 1, gateway, 0, sum(samples::double precision)
                    FROM losses JOIN ledger ON id = losses.log GROUP BY 2
                 UNION ALL SELECT 2, source, count(*), 0 FROM rejected GROUP BY 2
                 UNION ALL SELECT 3, gateway, sum(readings)::bigint, 0 FROM series WHERE readings > 0 GROUP BY 2",
                &[],
            )
        })?;
        for row in &rows {
            let (what, source, count, total): (i32, &str, i64, f64) = (row.get(0), row.get(1), row.get(2), row.get(3));
            // What was set aside may have come on any topic.
            let Ok(gateway) = GatewayId::new(gateway_of(source)) else { continue };
            let (_, standing) = all.entry(gateway).or_default();
            match what {
                0 => (standing.gaps, standing.missing_records) = (count as u64, total as u64),
                1 => standing.lost_samples = total as u64,
                2 => standing.rejected += count as u64,
                _ => standing.readings = count as u64,
            }
        }
        Ok(all.into_iter().map(|(gateway, (_, standing))| (gateway, standing)).collect())
    }

    fn ledgers(&self) -> Result<Vec<LedgerRow>, StoreError> {
        let rows = self.ask(|db| db.query("SELECT gateway, log, thru, received_ns FROM ledger ORDER BY id", &[]))?;
        let row = |row: &tokio_postgres::Row| {
            let thru = row.get::<_, i64>(2) as Seq;
            Ok(LedgerRow { gateway: gateway(row.get(0))?, log: log_id(row.get(1))?, thru, received_ns: row.get(3) })
        };
        rows.iter().map(row).collect()
    }

    fn bytes(&self) -> Result<u64, StoreError> {
        self.ask(|db| {
            let rows = db.query("SELECT pg_database_size(current_database())", &[])?;
            Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0)) as u64)
        })
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        let rows = self.ask(|db| {
            db.query(
                "SELECT (SELECT coalesce(sum(chunks), 0)::bigint FROM parts),
                    (SELECT coalesce(sum(samples), 0)::bigint FROM parts),
                    (SELECT count(*) FROM events), (SELECT count(*) FROM clock_fixes), (SELECT count(*) FROM losses),
                    (SELECT count(*) FROM gaps), (SELECT count(*) FROM rejected),
                    (SELECT coalesce(sum(readings), 0)::bigint FROM series)",
                &[],
            )
        })?;
        let count = |column| rows.first().map_or(0, |row| row.get::<_, i64>(column) as u64);
        Ok(Counts {
            chunks: count(0),
            samples: count(1),
            events: count(2),
            clock_fixes: count(3),
            losses: count(4),
            gaps: count(5),
            rejected: count(6),
            readings: count(7),
        })
    }
}
