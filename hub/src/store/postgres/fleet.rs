//! Customers and vehicles, in PostgreSQL.

use speedwell_wire::GatewayId;
use tokio_postgres::Row;

use super::{name, read::Reader, session::Session};
use crate::store::{
    StoreError,
    fleet::{Customer, FleetTables, ReadFleet, Vehicle},
    gateway,
};

/// Inside a transaction that writes. Other hubs may write too: a row that is looked at to be changed is locked, and
/// what two add at once the database refuses to the second, who then looks again. What is asked for by name may be any
/// text that somebody put into an address; PostgreSQL takes none with a zero byte in it.
pub(super) struct Fleet<'a>(pub(super) &'a mut Session);

fn customer(row: &Row) -> Customer {
    Customer { id: row.get(0), name: row.get(1), address: row.get(2), version: row.get(3) }
}

/// With its gateways in the last column.
fn vehicle(row: &Row) -> Result<Vehicle, StoreError> {
    let gateways: Vec<String> = row.get(5);
    let gateways = gateways.into_iter().map(gateway).collect::<Result<Vec<GatewayId>, _>>()?;
    let (id, registration, name) = (row.get(0), row.get(1), row.get(2));
    Ok(Vehicle { id, registration, name, customer: row.get(3), gateways, version: row.get(4) })
}

impl FleetTables for Fleet<'_> {
    fn customer(&mut self, id: &str) -> Result<Option<Customer>, StoreError> {
        let sql = "SELECT id, name, address, version FROM customers WHERE id = $1 FOR UPDATE";
        Ok(self.0.query(sql, &[&name(id)])?.first().map(customer))
    }

    fn vehicle(&mut self, id: &str) -> Result<Option<Vehicle>, StoreError> {
        let sql = "SELECT id, registration, name, customer, version,
                ARRAY(SELECT gateway FROM vehicle_gateways WHERE vehicle = id ORDER BY gateway)
            FROM vehicles WHERE id = $1 FOR UPDATE";
        self.0.query(sql, &[&name(id)])?.first().map(vehicle).transpose()
    }

    fn vehicle_of_plate(&mut self, plate: &str) -> Result<Option<String>, StoreError> {
        Ok(self.0.query("SELECT id FROM vehicles WHERE plate = $1", &[&plate])?.first().map(|row| row.get(0)))
    }

    fn vehicle_of_gateway(&mut self, gateway: &str) -> Result<Option<String>, StoreError> {
        let rows = self.0.query("SELECT vehicle FROM vehicle_gateways WHERE gateway = $1", &[&gateway])?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    fn customers(&mut self) -> Result<u64, StoreError> {
        count(self.0.query("SELECT count(*) FROM customers", &[])?)
    }

    fn vehicles(&mut self, of: Option<&str>) -> Result<u64, StoreError> {
        match of {
            None => count(self.0.query("SELECT count(*) FROM vehicles", &[])?),
            Some(of) => count(self.0.query("SELECT count(*) FROM vehicles WHERE customer = $1", &[&of])?),
        }
    }

    fn put_customer(&mut self, new: &Customer) -> Result<(), StoreError> {
        self.0.execute(
            "INSERT INTO customers (id, name, address, version) VALUES ($1, $2, $3, $4)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, address = excluded.address, version = excluded.version",
            &[&new.id, &new.name, &new.address, &new.version],
        )?;
        Ok(())
    }

    fn put_vehicle(&mut self, new: &Vehicle, plate: &str) -> Result<(), StoreError> {
        self.0.execute(
            "INSERT INTO vehicles (id, registration, plate, name, customer, version) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (id) DO UPDATE SET registration = excluded.registration, plate = excluded.plate,
                name = excluded.name, customer = excluded.customer, version = excluded.version",
            &[&new.id, &new.registration, &plate, &new.name, &new.customer, &new.version],
        )?;
        self.0.execute("DELETE FROM vehicle_gateways WHERE vehicle = $1", &[&new.id])?;
        let gateways: Vec<&str> = new.gateways.iter().map(GatewayId::as_str).collect();
        let sql = "INSERT INTO vehicle_gateways (gateway, vehicle) SELECT g, $2 FROM unnest($1::text[]) AS new (g)";
        self.0.execute(sql, &[&gateways, &new.id])?;
        Ok(())
    }

    fn move_vehicles(&mut self, from: &str, to: &str) -> Result<(), StoreError> {
        let sql = "UPDATE vehicles SET customer = $2, version = version + 1 WHERE customer = $1";
        self.0.execute(sql, &[&from, &to]).map(drop)
    }

    fn drop_customer(&mut self, id: &str) -> Result<(), StoreError> {
        self.0.execute("DELETE FROM customers WHERE id = $1", &[&id]).map(drop)
    }

    fn drop_vehicle(&mut self, id: &str) -> Result<(), StoreError> {
        self.0.execute("DELETE FROM vehicle_gateways WHERE vehicle = $1", &[&id])?;
        self.0.execute("DELETE FROM vehicles WHERE id = $1", &[&id]).map(drop)
    }
}

/// No id has a zero byte in it, so those that come after a text with one are those that come after what is before it.
fn up_to_zero(after: &str) -> &str {
    after.split('\0').next().unwrap_or_default()
}

fn count(rows: Vec<Row>) -> Result<u64, StoreError> {
    Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0)) as u64)
}

impl ReadFleet for Reader {
    fn customers(&self, after: &str, limit: usize) -> Result<Vec<Customer>, StoreError> {
        self.ask(|db| {
            let sql = "SELECT id, name, address, version FROM customers WHERE id > $1 ORDER BY id LIMIT $2";
            Ok(db.query(sql, &[&up_to_zero(after), &(limit as i64)])?.iter().map(customer).collect())
        })
    }

    fn customer(&self, id: &str) -> Result<Option<Customer>, StoreError> {
        self.ask(|db| {
            let sql = "SELECT id, name, address, version FROM customers WHERE id = $1";
            Ok(db.query(sql, &[&name(id)])?.first().map(customer))
        })
    }

    fn vehicles(&self, after: &str, limit: usize) -> Result<Vec<Vehicle>, StoreError> {
        self.ask(|db| {
            let sql = "SELECT id, registration, name, customer, version,
                    ARRAY(SELECT gateway FROM vehicle_gateways WHERE vehicle = id ORDER BY gateway)
                FROM vehicles WHERE id > $1 ORDER BY id LIMIT $2";
            db.query(sql, &[&up_to_zero(after), &(limit as i64)])?.iter().map(vehicle).collect()
        })
    }

    fn vehicle(&self, id: &str) -> Result<Option<Vehicle>, StoreError> {
        self.ask(|db| {
            let sql = "SELECT id, registration, name, customer, version,
                    ARRAY(SELECT gateway FROM vehicle_gateways WHERE vehicle = id ORDER BY gateway)
                FROM vehicles WHERE id = $1";
            db.query(sql, &[&name(id)])?.first().map(vehicle).transpose()
        })
    }
}
