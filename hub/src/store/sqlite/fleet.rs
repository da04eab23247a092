//! Customers and vehicles, in SQLite.

use rusqlite::{Connection, OptionalExtension, Row, params};
use speedwell_wire::GatewayId;

use super::{gateway, read::Reader};
use crate::store::{
    StoreError,
    fleet::{Customer, FleetTables, ReadFleet, Vehicle},
};

const CUSTOMERS: &str = "SELECT id, name, address, version FROM customers";
const VEHICLES: &str = "SELECT id, registration, name, customer, version FROM vehicles";

/// Inside a transaction that writes; SQLite has one writer.
pub(super) struct Fleet<'a>(pub(super) &'a Connection);

fn customer(row: &Row<'_>) -> rusqlite::Result<Customer> {
    Ok(Customer { id: row.get(0)?, name: row.get(1)?, address: row.get(2)?, version: row.get(3)? })
}

/// Without its gateways.
fn vehicle(row: &Row<'_>) -> rusqlite::Result<Vehicle> {
    let (id, registration, name) = (row.get(0)?, row.get(1)?, row.get(2)?);
    Ok(Vehicle { id, registration, name, customer: row.get(3)?, gateways: Vec::new(), version: row.get(4)? })
}

fn gateways_of(db: &Connection, vehicle: &str) -> Result<Vec<GatewayId>, StoreError> {
    let mut rows = db.prepare_cached("SELECT gateway FROM vehicle_gateways WHERE vehicle = ? ORDER BY gateway")?;
    let names = rows.query_map([vehicle], |row| row.get::<_, String>(0))?;
    names.map(|name| gateway(name?)).collect()
}

fn one_customer(db: &Connection, id: &str) -> Result<Option<Customer>, StoreError> {
    Ok(db.prepare_cached(&format!("{CUSTOMERS} WHERE id = ?"))?.query_row([id], customer).optional()?)
}

fn one_vehicle(db: &Connection, id: &str) -> Result<Option<Vehicle>, StoreError> {
    let found = db.prepare_cached(&format!("{VEHICLES} WHERE id = ?"))?.query_row([id], vehicle).optional()?;
    let Some(mut found) = found else { return Ok(None) };
    found.gateways = gateways_of(db, id)?;
    Ok(Some(found))
}

impl FleetTables for Fleet<'_> {
    fn customer(&mut self, id: &str) -> Result<Option<Customer>, StoreError> {
        one_customer(self.0, id)
    }

    fn vehicle(&mut self, id: &str) -> Result<Option<Vehicle>, StoreError> {
        one_vehicle(self.0, id)
    }

    fn vehicle_of_plate(&mut self, plate: &str) -> Result<Option<String>, StoreError> {
        let mut rows = self.0.prepare_cached("SELECT id FROM vehicles WHERE plate = ?")?;
        Ok(rows.query_row([plate], |row| row.get(0)).optional()?)
    }

    fn vehicle_of_gateway(&mut self, gateway: &str) -> Result<Option<String>, StoreError> {
        let mut rows = self.0.prepare_cached("SELECT vehicle FROM vehicle_gateways WHERE gateway = ?")?;
        Ok(rows.query_row([gateway], |row| row.get(0)).optional()?)
    }

    fn customers(&mut self) -> Result<u64, StoreError> {
        Ok(self.0.query_row("SELECT count(*) FROM customers", [], |row| row.get::<_, i64>(0))? as u64)
    }

    fn vehicles(&mut self, of: Option<&str>) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM vehicles WHERE ?1 IS NULL OR customer = ?1";
        Ok(self.0.query_row(sql, [of], |row| row.get::<_, i64>(0))? as u64)
    }

    fn put_customer(&mut self, new: &Customer) -> Result<(), StoreError> {
        self.0
            .prepare_cached("INSERT OR REPLACE INTO customers (id, name, address, version) VALUES (?, ?, ?, ?)")?
            .execute(params![new.id, new.name, new.address, new.version])?;
        Ok(())
    }

    fn put_vehicle(&mut self, new: &Vehicle, plate: &str) -> Result<(), StoreError> {
        self.0
            .prepare_cached(
                "INSERT INTO vehicles (id, registration, plate, name, customer, version) VALUES (?, ?, ?, ?, ?, ?)
                 ON CONFLICT (id) DO UPDATE SET registration = excluded.registration, plate = excluded.plate,
                    name = excluded.name, customer = excluded.customer, version = excluded.version",
            )?
            .execute(params![new.id, new.registration, plate, new.name, new.customer, new.version])?;
        self.0.prepare_cached("DELETE FROM vehicle_gateways WHERE vehicle = ?")?.execute([&new.id])?;
        for gateway in &new.gateways {
            let sql = "INSERT INTO vehicle_gateways (gateway, vehicle) VALUES (?, ?)";
            self.0.prepare_cached(sql)?.execute([gateway.as_str(), &new.id])?;
        }
        Ok(())
    }

    fn move_vehicles(&mut self, from: &str, to: &str) -> Result<(), StoreError> {
        self.0.execute("UPDATE vehicles SET customer = ?2, version = version + 1 WHERE customer = ?1", [from, to])?;
        Ok(())
    }

    fn drop_customer(&mut self, id: &str) -> Result<(), StoreError> {
        self.0.execute("DELETE FROM customers WHERE id = ?", [id])?;
        Ok(())
    }

    fn drop_vehicle(&mut self, id: &str) -> Result<(), StoreError> {
        self.0.execute("DELETE FROM vehicle_gateways WHERE vehicle = ?", [id])?;
        self.0.execute("DELETE FROM vehicles WHERE id = ?", [id])?;
        Ok(())
    }
}

impl ReadFleet for Reader {
    fn customers(&self, after: &str, limit: usize) -> Result<Vec<Customer>, StoreError> {
        let db = self.open()?;
        let mut rows = db.prepare(&format!("{CUSTOMERS} WHERE id > ? ORDER BY id LIMIT ?"))?;
        let rows = rows.query_map(params![after, limit as i64], customer)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn customer(&self, id: &str) -> Result<Option<Customer>, StoreError> {
        one_customer(&self.open()?, id)
    }

    fn vehicles(&self, after: &str, limit: usize) -> Result<Vec<Vehicle>, StoreError> {
        let mut db = self.open()?;
        // One moment of it: a gateway that changes hands meanwhile is on one of the two.
        let moment = db.transaction()?;
        let mut rows = moment.prepare(&format!("{VEHICLES} WHERE id > ? ORDER BY id LIMIT ?"))?;
        let mut all = rows.query_map(params![after, limit as i64], vehicle)?.collect::<Result<Vec<Vehicle>, _>>()?;
        let Some(last) = all.last().map(|vehicle| vehicle.id.clone()) else { return Ok(all) };
        let mut rows = moment.prepare(
            "SELECT vehicle, gateway FROM vehicle_gateways WHERE vehicle > ? AND vehicle <= ? ORDER BY vehicle, gateway",
        )?;
        let mut rows = rows.query([after, &last])?;
        while let Some(row) = rows.next()? {
            let (id, name): (String, String) = (row.get(0)?, row.get(1)?);
            if let Some(vehicle) =
                all.binary_search_by(|vehicle| vehicle.id.cmp(&id)).ok().and_then(|at| all.get_mut(at))
            {
                vehicle.gateways.push(gateway(name)?);
            }
        }
        Ok(all)
    }

    fn vehicle(&self, id: &str) -> Result<Option<Vehicle>, StoreError> {
        let mut db = self.open()?;
        let moment = db.transaction()?;
        one_vehicle(&moment, id)
    }
}
