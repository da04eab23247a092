//! The lists of PostgreSQL: what a log holds besides samples, channels, trackers.

use std::collections::HashMap;

use speedwell_wire::{ClockFix, Event, GatewayId, LogId, Loss};
use tokio_postgres::Row;

use super::{rows::clock_fix, session::Session};
use crate::store::{
    Latest, Newest, Point, StoreError, gateway, log_id,
    rows::{Key, Lists, MAX_LOGS, Seqs, Tracker},
    unword,
};

/// Both kinds of newest values, each as far as it is asked for. Ordered by the server, since only it knows its order.
macro_rules! newest {
    ($samples:literal, $readings:literal) => {
        concat!(
            "SELECT * FROM (
                (SELECT latest.gateway AS g, sensor AS s, quantity AS q, boot, t_ns, utc_ns, value, uncertainty, quality,
                    ledger.log
                 FROM latest JOIN ledger ON ledger.id = latest.log WHERE ",
            $samples,
            " ORDER BY latest.gateway, sensor, quantity LIMIT $1)
                UNION ALL
                (SELECT gateway, sensor, quantity, 0, utc_ns, utc_ns, value, uncertainty, quality, NULL
                 FROM (SELECT id, gateway, sensor, quantity, newest_ns FROM series WHERE newest_ns IS NOT NULL AND ",
            $readings,
            " ORDER BY gateway, sensor, quantity LIMIT $1) AS those
                 JOIN readings ON series = id AND utc_ns = newest_ns)
             ) AS both_kinds ORDER BY g, s, q"
        )
    };
}

macro_rules! trackers {
    ($one:literal) => {
        concat!(
            "SELECT la.gateway, la.sensor, la.id, lo.id, sp.id, la.newest_ns FROM series la
             JOIN series lo ON lo.gateway = la.gateway AND lo.sensor = la.sensor AND lo.quantity = 'longitude'
             LEFT JOIN series sp ON sp.gateway = la.gateway AND sp.sensor = la.sensor AND sp.quantity = 'speed'
             WHERE la.quantity = 'latitude' AND la.newest_ns IS NOT NULL ",
            $one,
            " ORDER BY la.newest_ns DESC, la.id LIMIT $1"
        )
    };
}

impl Lists for Session {
    fn logs(&mut self, gateway: &GatewayId) -> Result<Vec<(i64, String)>, StoreError> {
        let sql = "SELECT id, log FROM ledger WHERE gateway = $1 ORDER BY received_ns DESC LIMIT $2";
        let rows = self.query(sql, &[&gateway.as_str(), &(MAX_LOGS as i64)])?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    fn gaps(&mut self, log: i64, seqs: Seqs, most: usize) -> Result<Vec<Seqs>, StoreError> {
        let sql = "SELECT first, last FROM gaps WHERE log = $1 AND first BETWEEN $2 AND $3 ORDER BY first LIMIT $4";
        let rows = self.query(sql, &[&log, &seqs.0, &seqs.1, &(most as i64)])?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    fn losses(&mut self, log: i64, seqs: Seqs, most: usize) -> Result<Vec<(i64, i64, Loss)>, StoreError> {
        let rows = self.query(
            "SELECT seq, span, reason, records, samples, from_boot, from_ns, until_boot, until_ns FROM losses
             WHERE log = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq LIMIT $4",
            &[&log, &seqs.0, &seqs.1, &(most as i64)],
        )?;
        let at = |row: &Row, boot: usize| {
            let (boot, ns) = (row.get::<_, Option<i64>>(boot), row.get::<_, Option<i64>>(boot + 1));
            boot.map(|boot| boot as u32).zip(ns.map(|ns| ns as u64))
        };
        let loss = |row: &Row| {
            let (records, samples) = (row.get::<_, i64>(3) as u64, row.get::<_, i64>(4) as u64);
            let loss = Loss { reason: unword(row.get(2))?, records, samples, from: at(row, 5), until: at(row, 7) };
            Ok((row.get(0), row.get(1), loss))
        };
        rows.iter().map(loss).collect()
    }

    fn events(&mut self, log: i64, seqs: Seqs, most: usize) -> Result<Vec<(i64, Event)>, StoreError> {
        let rows = self.query(
            "SELECT seq, boot, t_ns, sensor, kind, detail FROM events
             WHERE log = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq LIMIT $4",
            &[&log, &seqs.0, &seqs.1, &(most as i64)],
        )?;
        let event = |row: &Row| {
            let (boot, t_ns) = (row.get::<_, i64>(1) as u32, row.get::<_, i64>(2) as u64);
            Ok((row.get(0), Event { boot, t_ns, sensor: row.get(3), kind: unword(row.get(4))?, detail: row.get(5) }))
        };
        rows.iter().map(event).collect()
    }

    fn clock_fixes(
        &mut self,
        log: i64,
        boots: (u32, u32),
        seqs: Seqs,
        most: usize,
    ) -> Result<Vec<(i64, ClockFix)>, StoreError> {
        let rows = self.query(
            "SELECT seq, boot, boot_ns, utc_ns, uncertainty_ns, rate_ppb, source FROM clock_fixes
             WHERE log = $1 AND boot BETWEEN $2 AND $3 AND seq BETWEEN $4 AND $5 ORDER BY boot, boot_ns, seq LIMIT $6",
            &[&log, &i64::from(boots.0), &i64::from(boots.1), &seqs.0, &seqs.1, &(most as i64)],
        )?;
        rows.iter().map(|row| Ok((row.get(0), clock_fix(row, 1)?))).collect()
    }

    fn newest(&mut self, only: Option<&GatewayId>, after: &Key, most: usize) -> Result<Vec<Latest>, StoreError> {
        let one = newest!(
            "latest.gateway = $2 AND (sensor, quantity) > ($3, $4)",
            "gateway = $2 AND (sensor, quantity) > ($3, $4)"
        );
        let all =
            newest!("(latest.gateway, sensor, quantity) > ($2, $3, $4)", "(gateway, sensor, quantity) > ($2, $3, $4)");
        let first = only.map_or(after.0.as_str(), GatewayId::as_str);
        let given: super::session::Given<'_> = &[&(most as i64), &first, &after.1, &after.2];
        let rows = self.query(if only.is_some() { one } else { all }, given)?;
        rows.iter().map(latest).collect()
    }

    fn trackers(&mut self, device: Option<&GatewayId>, most: usize) -> Result<Vec<Tracker>, StoreError> {
        let most = most as i64;
        let rows = match device {
            Some(device) => self.query(trackers!("AND la.gateway = $2"), &[&most, &device.as_str()])?,
            None => self.query(trackers!(""), &[&most])?,
        };
        let tracker = |row: &Row| {
            let (device, sensor, latitude) = (gateway(row.get(0))?, row.get(1), row.get(2));
            let (longitude, speed, newest_ns) = (row.get(3), row.get(4), row.get(5));
            Ok(Tracker { device, sensor, latitude, longitude, speed, newest_ns })
        };
        rows.iter().map(tracker).collect()
    }

    fn readings_back(&mut self, series: i64, range: (i64, i64), most: usize) -> Result<Vec<Point>, StoreError> {
        let rows = self.query(
            "SELECT utc_ns, value, uncertainty, quality FROM readings
             WHERE series = $1 AND utc_ns BETWEEN $2 AND $3 ORDER BY utc_ns DESC LIMIT $4",
            &[&series, &range.0, &range.1, &(most as i64)],
        )?;
        let point = |row: &Row| {
            Ok(Point { utc_ns: row.get(0), value: row.get(1), uncertainty: row.get(2), quality: unword(row.get(3))? })
        };
        rows.iter().map(point).collect()
    }

    fn latest_times(&mut self, series: &[i64], range: (i64, i64)) -> Result<Vec<Option<i64>>, StoreError> {
        let rows = self.query(
            "SELECT asked, (SELECT utc_ns FROM readings WHERE series = asked AND utc_ns BETWEEN $2 AND $3
                ORDER BY utc_ns DESC LIMIT 1)
             FROM unnest($1::bigint[]) AS asked",
            &[&series, &range.0, &range.1],
        )?;
        let found: HashMap<i64, Option<i64>> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        Ok(series.iter().map(|one| found.get(one).copied().flatten()).collect())
    }
}

fn latest(row: &Row) -> Result<Latest, StoreError> {
    Ok(Latest {
        gateway: gateway(row.get(0))?,
        // A reading that came one by one has no log.
        log: row.get::<_, Option<String>>(9).map_or(Ok(LogId(0)), log_id)?,
        boot: row.get::<_, i64>(3) as u32,
        utc_ns: row.get(5),
        newest: Newest {
            sensor: row.get(1),
            quantity: unword(row.get(2))?,
            t_ns: row.get::<_, i64>(4).max(0) as u64,
            value: row.get(6),
            uncertainty: row.get(7),
            quality: unword(row.get(8))?,
        },
    })
}
