//! Customers, their vehicles and the gateways these carry: what may be written, told once for both drivers.
//!
//! In      a [`FleetChange`], and the tables as a driver gives them.
//! Out     what stands now, or a [`FleetRefused`] that a person can act on. A refusal is no error of the store: what came
//!         in the same commit is kept.

use serde::Serialize;
use speedwell_wire::GatewayId;
use utoipa::ToSchema;

use super::StoreError;

/// Customers, and vehicles, that may be registered: a page of either is searched by people.
pub const MAX_REGISTERED: u64 = 10_000;
/// Gateways that one vehicle may carry: a tractor with its trailers has a handful.
pub const MAX_GATEWAYS_OF_VEHICLE: usize = 16;
/// Longest registration, characters; the longest plates have some ten.
pub const MAX_REGISTRATION: usize = 32;
/// Longest name, characters.
pub const MAX_NAME: usize = 128;
/// Longest address, characters: six long lines.
pub const MAX_ADDRESS: usize = 512;

/// Who owns vehicles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Customer {
    /// 1 to 64 of letters, digits, `.`, `_` and `-`.
    pub id: String,
    /// For people.
    pub name: String,
    /// Where they are.
    pub address: String,
    /// Counts its changes; what `If-Match` is held against.
    pub version: i64,
}

/// A vehicle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Vehicle {
    /// 1 to 64 of letters, digits, `.`, `_` and `-`.
    pub id: String,
    /// Its plate. No two vehicles have the same, however it is spaced.
    pub registration: String,
    /// For people.
    pub name: String,
    /// Whose it is.
    pub customer: Option<String>,
    /// The gateways it carries. A gateway is on one vehicle at a time.
    #[schema(value_type = Vec<String>)]
    pub gateways: Vec<GatewayId>,
    /// Counts its changes; what `If-Match` is held against.
    pub version: i64,
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum FleetChange {
    /// One more; its version is not looked at.
    AddCustomer(Customer),
    /// One more; its version is not looked at.
    AddVehicle(Vehicle),
    /// What is `None` stays.
    ChangeCustomer {
        /// Which.
        id: String,
        /// See [`Customer`].
        name: Option<String>,
        /// See [`Customer`].
        address: Option<String>,
        /// Only if it has this version.
        version: Option<i64>,
    },
    /// What is `None` stays.
    ChangeVehicle {
        /// Which.
        id: String,
        /// See [`Vehicle`].
        registration: Option<String>,
        /// See [`Vehicle`].
        name: Option<String>,
        /// Whose it is from now on; `Some(None)` is nobody's.
        customer: Option<Option<String>>,
        /// All that it carries from now on.
        gateways: Option<Vec<GatewayId>>,
        /// Only if it has this version.
        version: Option<i64>,
    },
    /// One less.
    DropCustomer {
        /// Which.
        id: String,
        /// Who gets its vehicles.
        heir: Option<String>,
        /// Only if it has this version.
        version: Option<i64>,
    },
    /// One less. Its gateways are on no vehicle then.
    DropVehicle {
        /// Which.
        id: String,
        /// Only if it has this version.
        version: Option<i64>,
    },
}

/// What stands after a change.
#[derive(Clone, Debug, PartialEq)]
pub enum FleetSaved {
    /// This.
    Customer(Customer),
    /// This.
    Vehicle(Vehicle),
    /// It is gone.
    Dropped,
}

/// Why a change was not made. Nothing of it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FleetRefused {
    /// What was to be changed is not there.
    #[error("there is no {what} {id:?}")]
    Missing {
        /// `customer` or `vehicle`.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// A customer that is named is not there.
    #[error("customer {0:?} is not known; make it first with POST /api/v1/customers")]
    UnknownCustomer(String),
    /// A field cannot be used.
    #[error("{0}")]
    Wrong(String),
    /// The id is another's.
    #[error("there is a {what} {id:?} already; change it with PATCH, or take another id")]
    IdTaken {
        /// `customer` or `vehicle`.
        what: &'static str,
        /// The id.
        id: String,
    },
    /// The registration is another's.
    #[error("registration {registration:?} is that of vehicle {vehicle:?} already")]
    RegistrationTaken {
        /// As it was given.
        registration: String,
        /// Whose it is.
        vehicle: String,
    },
    /// A gateway is on another vehicle.
    #[error("gateway {gateway:?} is on vehicle {vehicle:?}; take it off there first")]
    GatewayTaken {
        /// Which.
        gateway: String,
        /// Where it is.
        vehicle: String,
    },
    /// A customer with vehicles.
    #[error("customer {id:?} has {vehicles} vehicles; move them, or name who gets them with ?vehicles-to=CUSTOMER")]
    HasVehicles {
        /// Which.
        id: String,
        /// How many.
        vehicles: u64,
    },
    /// Somebody else has changed it meanwhile.
    #[error("it has version {is} by now, not {asked}: somebody else has changed it; look at it again")]
    Outdated {
        /// The version it has.
        is: i64,
        /// The version asked for.
        asked: i64,
    },
    /// No more may be added.
    #[error("{MAX_REGISTERED} {what}s are registered, and no more may be")]
    Full {
        /// `customer` or `vehicle`.
        what: &'static str,
    },
}

/// What of a registration tells it from others: `34 ABC 7`, `34abc7` and `34-ABC-7` are one plate.
pub(super) fn plate(registration: &str) -> String {
    registration.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_uppercase).collect()
}

/// A driver's tables, to be looked at and written within a transaction. What is looked at stays so until it ends.
pub(super) trait FleetTables {
    fn customer(&mut self, id: &str) -> Result<Option<Customer>, StoreError>;
    fn vehicle(&mut self, id: &str) -> Result<Option<Vehicle>, StoreError>;
    /// The vehicle with this plate.
    fn vehicle_of_plate(&mut self, plate: &str) -> Result<Option<String>, StoreError>;
    /// The vehicle that carries this gateway.
    fn vehicle_of_gateway(&mut self, gateway: &str) -> Result<Option<String>, StoreError>;
    fn customers(&mut self) -> Result<u64, StoreError>;
    /// All, or those of a customer.
    fn vehicles(&mut self, of: Option<&str>) -> Result<u64, StoreError>;
    fn put_customer(&mut self, customer: &Customer) -> Result<(), StoreError>;
    fn put_vehicle(&mut self, vehicle: &Vehicle, plate: &str) -> Result<(), StoreError>;
    fn move_vehicles(&mut self, from: &str, to: &str) -> Result<(), StoreError>;
    fn drop_customer(&mut self, id: &str) -> Result<(), StoreError>;
    fn drop_vehicle(&mut self, id: &str) -> Result<(), StoreError>;
}

/// What became of it: the outer error is the store's, the inner one the asker's.
type Made<T> = Result<Result<T, FleetRefused>, StoreError>;

/// Leaves a function with a refusal.
macro_rules! allowed {
    ($made:expr) => {
        match $made {
            Ok(value) => value,
            Err(refused) => return Ok(Err(refused)),
        }
    };
}

pub(super) fn apply(tables: &mut impl FleetTables, change: &FleetChange) -> Made<FleetSaved> {
    match change {
        FleetChange::AddCustomer(new) => {
            if tables.customer(&new.id)?.is_some() {
                return Ok(Err(FleetRefused::IdTaken { what: "customer", id: new.id.clone() }));
            }
            if tables.customers()? >= MAX_REGISTERED {
                return Ok(Err(FleetRefused::Full { what: "customer" }));
            }
            put_customer(tables, Customer { version: 1, ..new.clone() })
        }
        FleetChange::AddVehicle(new) => {
            if tables.vehicle(&new.id)?.is_some() {
                return Ok(Err(FleetRefused::IdTaken { what: "vehicle", id: new.id.clone() }));
            }
            if tables.vehicles(None)? >= MAX_REGISTERED {
                return Ok(Err(FleetRefused::Full { what: "vehicle" }));
            }
            put_vehicle(tables, Vehicle { version: 1, ..new.clone() })
        }
        FleetChange::ChangeCustomer { id, name, address, version } => {
            let old = allowed!(found("customer", id, tables.customer(id)?));
            allowed!(current(old.version, *version));
            let new = Customer {
                name: name.clone().unwrap_or(old.name),
                address: address.clone().unwrap_or(old.address),
                version: old.version + 1,
                id: old.id,
            };
            put_customer(tables, new)
        }
        FleetChange::ChangeVehicle { id, registration, name, customer, gateways, version } => {
            let old = allowed!(found("vehicle", id, tables.vehicle(id)?));
            allowed!(current(old.version, *version));
            let new = Vehicle {
                registration: registration.clone().unwrap_or(old.registration),
                name: name.clone().unwrap_or(old.name),
                customer: customer.clone().unwrap_or(old.customer),
                gateways: gateways.clone().unwrap_or(old.gateways),
                version: old.version + 1,
                id: old.id,
            };
            put_vehicle(tables, new)
        }
        FleetChange::DropCustomer { id, heir, version } => drop_customer(tables, id, heir.as_deref(), *version),
        FleetChange::DropVehicle { id, version } => {
            let old = allowed!(found("vehicle", id, tables.vehicle(id)?));
            allowed!(current(old.version, *version));
            tables.drop_vehicle(id)?;
            Ok(Ok(FleetSaved::Dropped))
        }
    }
}

fn found<T>(what: &'static str, id: &str, found: Option<T>) -> Result<T, FleetRefused> {
    found.ok_or_else(|| FleetRefused::Missing { what, id: id.into() })
}

fn current(is: i64, asked: Option<i64>) -> Result<(), FleetRefused> {
    match asked {
        Some(asked) if asked != is => Err(FleetRefused::Outdated { is, asked }),
        _ => Ok(()),
    }
}

fn put_customer(tables: &mut impl FleetTables, mut new: Customer) -> Made<FleetSaved> {
    allowed!(id_is_one(&new.id));
    new.name = allowed!(words("name", &new.name, 1, MAX_NAME));
    new.address = allowed!(words("address", &new.address, 0, MAX_ADDRESS));
    tables.put_customer(&new)?;
    Ok(Ok(FleetSaved::Customer(new)))
}

fn put_vehicle(tables: &mut impl FleetTables, mut new: Vehicle) -> Made<FleetSaved> {
    allowed!(id_is_one(&new.id));
    new.registration = allowed!(words("registration", &new.registration, 1, MAX_REGISTRATION));
    new.name = allowed!(words("name", &new.name, 0, MAX_NAME));
    new.gateways.sort();
    let all = new.gateways.len();
    new.gateways.dedup();
    if new.gateways.len() < all {
        return Ok(Err(FleetRefused::Wrong("gateways: one is named twice".into())));
    }
    if all > MAX_GATEWAYS_OF_VEHICLE {
        let told = format!("gateways: {all}, at most {MAX_GATEWAYS_OF_VEHICLE} are on a vehicle");
        return Ok(Err(FleetRefused::Wrong(told)));
    }
    let plate = plate(&new.registration);
    if plate.is_empty() {
        let told = format!("registration {:?}: has neither a letter nor a digit", new.registration);
        return Ok(Err(FleetRefused::Wrong(told)));
    }
    if let Some(customer) = &new.customer
        && tables.customer(customer)?.is_none()
    {
        return Ok(Err(FleetRefused::UnknownCustomer(customer.clone())));
    }
    if let Some(vehicle) = tables.vehicle_of_plate(&plate)?.filter(|other| *other != new.id) {
        return Ok(Err(FleetRefused::RegistrationTaken { registration: new.registration, vehicle }));
    }
    for gateway in &new.gateways {
        if let Some(vehicle) = tables.vehicle_of_gateway(gateway.as_str())?.filter(|other| *other != new.id) {
            return Ok(Err(FleetRefused::GatewayTaken { gateway: gateway.to_string(), vehicle }));
        }
    }
    tables.put_vehicle(&new, &plate)?;
    Ok(Ok(FleetSaved::Vehicle(new)))
}

fn drop_customer(
    tables: &mut impl FleetTables,
    id: &str,
    heir: Option<&str>,
    version: Option<i64>,
) -> Made<FleetSaved> {
    let old = allowed!(found("customer", id, tables.customer(id)?));
    allowed!(current(old.version, version));
    match (tables.vehicles(Some(id))?, heir) {
        (0, _) => {}
        (vehicles, None) => return Ok(Err(FleetRefused::HasVehicles { id: id.into(), vehicles })),
        (_, Some(heir)) => {
            if heir == id || tables.customer(heir)?.is_none() {
                return Ok(Err(FleetRefused::UnknownCustomer(heir.into())));
            }
            tables.move_vehicles(id, heir)?;
        }
    }
    tables.drop_customer(id)?;
    Ok(Ok(FleetSaved::Dropped))
}

/// The same letters as of a gateway's id, so that it stands in an address as it is.
fn id_is_one(id: &str) -> Result<(), FleetRefused> {
    let wrong =
        |_| FleetRefused::Wrong(format!("id {id:?}: wanted 1 to 64 of the letters a to z, A to Z, digits and . _ -"));
    GatewayId::new(id).map(drop).map_err(wrong)
}

/// Trimmed, of a length, and without what no one can see.
fn words(field: &str, text: &str, least: usize, most: usize) -> Result<String, FleetRefused> {
    // As it came it may not be longer either: who looks at lengths before sending should not have to know what is trimmed.
    let (came, text) = (text.chars().count(), text.trim());
    let length = if came > most { came } else { text.chars().count() };
    if !(least..=most).contains(&length) {
        return Err(FleetRefused::Wrong(format!("{field}: {length} characters, wanted {least} to {most}")));
    }
    match text.chars().any(|c| c.is_control() && !(field == "address" && c == '\n')) {
        true => Err(FleetRefused::Wrong(format!("{field}: has a control character in it"))),
        false => Ok(text.into()),
    }
}

/// Reads the registry. Calls block; pages are by id, after one.
pub trait ReadFleet {
    /// Those whose id comes after this one.
    fn customers(&self, after: &str, limit: usize) -> Result<Vec<Customer>, StoreError>;
    /// One.
    fn customer(&self, id: &str) -> Result<Option<Customer>, StoreError>;
    /// Those whose id comes after this one.
    fn vehicles(&self, after: &str, limit: usize) -> Result<Vec<Vehicle>, StoreError>;
    /// One.
    fn vehicle(&self, id: &str) -> Result<Option<Vehicle>, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::plate;

    #[test]
    fn a_plate_is_the_same_however_it_is_spaced_and_another_when_a_letter_differs() {
        assert_eq!(plate("34 abc-7"), plate("34ABC7"));
        assert_ne!(plate("34 ABC 7"), plate("34 ABD 7"));
        assert_eq!(plate("ö-1"), plate("Ö 1"));
        assert_eq!(plate(" - "), "");
    }
}
