//! The lists of SQLite: what a log holds besides samples, channels, trackers.

use rusqlite::{Row, params, types::Type};
use speedwell_wire::{ClockFix, Event, GatewayId, Loss};

use super::{clock_fix, gateway, log_id, rows::Tables, unword};
use crate::store::{
    Latest, Newest, Point, StoreError,
    rows::{Key, Lists, MAX_LOGS, Seqs, Tracker},
};

impl Lists for Tables<'_> {
    fn logs(&mut self, gateway: &GatewayId) -> Result<Vec<(i64, String)>, StoreError> {
        let sql = format!("SELECT id, log FROM ledger WHERE gateway = ? ORDER BY received_ns DESC LIMIT {MAX_LOGS}");
        let mut rows = self.0.prepare_cached(&sql)?;
        Ok(rows.query_map([gateway.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
    }

    fn gaps(&mut self, log: i64, seqs: Seqs, most: usize) -> Result<Vec<Seqs>, StoreError> {
        let sql = "SELECT first, last FROM gaps WHERE log = ? AND first BETWEEN ? AND ? ORDER BY first LIMIT ?";
        let mut rows = self.0.prepare_cached(sql)?;
        let found = rows.query_map(params![log, seqs.0, seqs.1, most as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn losses(&mut self, log: i64, seqs: Seqs, most: usize) -> Result<Vec<(i64, i64, Loss)>, StoreError> {
        let mut rows = self.0.prepare_cached(
            "SELECT seq, span, reason, records, samples, from_boot, from_ns, until_boot, until_ns FROM losses
             WHERE log = ? AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?",
        )?;
        let mut rows = rows.query(params![log, seqs.0, seqs.1, most as i64])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let at = |boot, ns| -> rusqlite::Result<Option<(u32, u64)>> {
                Ok(row.get::<_, Option<u32>>(boot)?.zip(row.get::<_, Option<i64>>(ns)?.map(|ns| ns as u64)))
            };
            let reason = unword(&row.get::<_, String>(2)?)?;
            let (records, samples) = (row.get::<_, i64>(3)? as u64, row.get::<_, i64>(4)? as u64);
            let loss = Loss { reason, records, samples, from: at(5, 6)?, until: at(7, 8)? };
            all.push((row.get(0)?, row.get(1)?, loss));
        }
        Ok(all)
    }

    fn events(&mut self, log: i64, seqs: Seqs, most: usize) -> Result<Vec<(i64, Event)>, StoreError> {
        let mut rows = self.0.prepare_cached(
            "SELECT seq, boot, t_ns, sensor, kind, detail FROM events
             WHERE log = ? AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?",
        )?;
        let mut rows = rows.query(params![log, seqs.0, seqs.1, most as i64])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let (boot, t_ns) = (row.get(1)?, row.get::<_, i64>(2)? as u64);
            let kind = unword(&row.get::<_, String>(4)?)?;
            all.push((row.get(0)?, Event { boot, t_ns, sensor: row.get(3)?, kind, detail: row.get(5)? }));
        }
        Ok(all)
    }

    fn clock_fixes(
        &mut self,
        log: i64,
        boots: (u32, u32),
        seqs: Seqs,
        most: usize,
    ) -> Result<Vec<(i64, ClockFix)>, StoreError> {
        let mut rows = self.0.prepare_cached(
            "SELECT boot, boot_ns, utc_ns, uncertainty_ns, rate_ppb, source, seq FROM clock_fixes
             WHERE log = ? AND boot BETWEEN ? AND ? AND seq BETWEEN ? AND ? ORDER BY boot, boot_ns, seq LIMIT ?",
        )?;
        let mut rows = rows.query(params![log, boots.0, boots.1, seqs.0, seqs.1, most as i64])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push((row.get(6)?, clock_fix(row)?));
        }
        Ok(all)
    }

    fn newest(&mut self, only: Option<&GatewayId>, after: &Key, most: usize) -> Result<Vec<Latest>, StoreError> {
        let (samples, readings) = match only {
            Some(_) => (
                "latest.gateway = ?1 AND (sensor, quantity) > (?2, ?3)",
                "gateway = ?1 AND (sensor, quantity) > (?2, ?3)",
            ),
            None => ("(latest.gateway, sensor, quantity) > (?1, ?2, ?3)", "(gateway, sensor, quantity) > (?1, ?2, ?3)"),
        };
        let sql = format!(
            "SELECT * FROM (
                SELECT latest.gateway, sensor, quantity, boot, t_ns, utc_ns, value, uncertainty, quality, ledger.log
                FROM latest JOIN ledger ON ledger.id = latest.log WHERE {samples} ORDER BY 1, 2, 3 LIMIT ?4)
             UNION ALL SELECT gateway, sensor, quantity, 0, utc_ns, utc_ns, value, uncertainty, quality, ''
             FROM (SELECT id, gateway, sensor, quantity, newest_ns FROM series
                WHERE newest_ns IS NOT NULL AND {readings} ORDER BY gateway, sensor, quantity LIMIT ?4)
             JOIN readings ON series = id AND utc_ns = newest_ns
             ORDER BY 1, 2, 3"
        );
        let first = only.map_or(after.0.as_str(), GatewayId::as_str);
        let mut rows = self.0.prepare_cached(&sql)?;
        let mut rows = rows.query(params![first, after.1, after.2, most as i64])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(latest(row)?);
        }
        Ok(all)
    }

    fn trackers(&mut self, device: Option<&GatewayId>, most: usize) -> Result<Vec<Tracker>, StoreError> {
        let one = if device.is_some() { "AND la.gateway = ?2" } else { "AND ?2 IS NULL" };
        let mut rows = self.0.prepare_cached(&format!(
            "SELECT la.gateway, la.sensor, la.id, lo.id, sp.id, la.newest_ns FROM series la
             JOIN series lo ON lo.gateway = la.gateway AND lo.sensor = la.sensor AND lo.quantity = 'longitude'
             LEFT JOIN series sp ON sp.gateway = la.gateway AND sp.sensor = la.sensor AND sp.quantity = 'speed'
             WHERE la.quantity = 'latitude' AND la.newest_ns IS NOT NULL {one}
             ORDER BY la.newest_ns DESC, la.id LIMIT ?1"
        ))?;
        let mut rows = rows.query(params![most as i64, device.map(GatewayId::as_str)])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let (device, sensor, latitude) = (gateway(row.get(0)?)?, row.get(1)?, row.get(2)?);
            let (longitude, speed, newest_ns) = (row.get(3)?, row.get(4)?, row.get(5)?);
            all.push(Tracker { device, sensor, latitude, longitude, speed, newest_ns });
        }
        Ok(all)
    }

    fn readings_back(&mut self, series: i64, range: (i64, i64), most: usize) -> Result<Vec<Point>, StoreError> {
        let mut rows = self.0.prepare_cached(
            "SELECT utc_ns, value, uncertainty, quality FROM readings
             WHERE series = ? AND utc_ns BETWEEN ? AND ? ORDER BY utc_ns DESC LIMIT ?",
        )?;
        let mut rows = rows.query(params![series, range.0, range.1, most as i64])?;
        let mut points = Vec::new();
        while let Some(row) = rows.next()? {
            let quality = unword(row.get_ref(3)?.as_str().unwrap_or_default())?;
            points.push(Point { utc_ns: row.get(0)?, value: row.get(1)?, uncertainty: row.get(2)?, quality });
        }
        Ok(points)
    }

    fn latest_times(&mut self, series: &[i64], range: (i64, i64)) -> Result<Vec<Option<i64>>, StoreError> {
        let sql = "SELECT max(utc_ns) FROM readings WHERE series = ? AND utc_ns BETWEEN ? AND ?";
        let mut rows = self.0.prepare_cached(sql)?;
        let mut one = |series: &i64| Ok(rows.query_row(params![series, range.0, range.1], |row| row.get(0))?);
        series.iter().map(&mut one).collect()
    }
}

fn latest(row: &Row<'_>) -> Result<Latest, StoreError> {
    // A reading that came one by one has no log.
    let log =
        match row.get_ref(9)?.as_str().map_err(|_| rusqlite::Error::InvalidColumnType(9, "log".into(), Type::Text))? {
            "" => speedwell_wire::LogId(0),
            log => log_id(log.to_owned())?,
        };
    Ok(Latest {
        gateway: gateway(row.get(0)?)?,
        log,
        boot: row.get(3)?,
        utc_ns: row.get(5)?,
        newest: Newest {
            sensor: row.get(1)?,
            quantity: unword(&row.get::<_, String>(2)?)?,
            t_ns: row.get::<_, i64>(4)?.max(0) as u64,
            value: row.get(6)?,
            uncertainty: row.get(7)?,
            quality: unword(&row.get::<_, String>(8)?)?,
        },
    })
}
