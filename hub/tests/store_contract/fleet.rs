//! Customers, vehicles and the gateways these carry.

use speedwell_hub::store::{
    Done, Store, Work,
    fleet::{Customer, FleetChange, FleetRefused, FleetSaved, MAX_GATEWAYS_OF_VEHICLE, Vehicle},
};

use crate::{database::Database, rig::*};

fn make(store: &mut Box<dyn Store>, change: FleetChange) -> Result<FleetSaved, FleetRefused> {
    match store.commit(&[Work::Fleet(change)]).unwrap().pop() {
        Some(Done::Fleet(made)) => made,
        other => panic!("{other:?}"),
    }
}

fn customer(id: &str) -> Customer {
    Customer { id: id.into(), name: format!("{id} Ltd"), address: "1 Quay\nHarbour".into(), version: 1 }
}

fn vehicle(id: &str, registration: &str, gateways: &[&str]) -> Vehicle {
    let gateways = gateways.iter().map(|name| crate::rig::id(name)).collect();
    let (customer, name) = (Some("kalle".into()), "tanker".into());
    Vehicle { id: id.into(), registration: registration.into(), name, customer, gateways, version: 1 }
}

/// A store with a customer and his vehicle `v1`, `ABC 123`, which carries `truck-7`.
fn with_one(on: &Database) -> Box<dyn Store> {
    let mut store = on.open();
    make(&mut store, FleetChange::AddCustomer(customer("kalle"))).unwrap();
    make(&mut store, FleetChange::AddVehicle(vehicle("v1", "ABC 123", &["truck-7"]))).unwrap();
    store
}

/// A vehicle carries these from now on, or what it did.
fn carries(vehicle: &str, gateways: Option<&[&str]>) -> FleetChange {
    let gateways = gateways.map(|names| names.iter().map(|name| id(name)).collect());
    let (registration, name, customer) = (None, None, None);
    FleetChange::ChangeVehicle { id: vehicle.into(), registration, name, customer, gateways, version: None }
}

pub fn a_customer_has_vehicles_and_they_carry_gateways_and_all_of_it_survives(on: &Database) {
    let mut store = with_one(on);
    let two = vehicle("v2", "  DEF456 ", &["b", "a"]);
    let saved = make(&mut store, FleetChange::AddVehicle(two)).unwrap();
    assert_eq!(saved, FleetSaved::Vehicle(vehicle("v2", "DEF456", &["a", "b"])));
    drop(store);
    let reader = on.open().reader();
    assert_eq!(reader.customers("", 10).unwrap(), [customer("kalle")]);
    assert_eq!(reader.vehicle("v1").unwrap(), Some(vehicle("v1", "ABC 123", &["truck-7"])));
    assert_eq!(reader.vehicle("v9").unwrap(), None);
    let page: Vec<String> = reader.vehicles("", 1).unwrap().into_iter().map(|v| v.id).collect();
    assert_eq!(page, ["v1"]);
    let rest = reader.vehicles("v1", 10).unwrap();
    assert_eq!(rest, [vehicle("v2", "DEF456", &["a", "b"])]);

    // A gateway goes from one vehicle to another, and a vehicle goes.
    let mut store = on.open();
    make(&mut store, carries("v1", Some(&[]))).unwrap();
    make(&mut store, carries("v2", Some(&["truck-7", "a"]))).unwrap();
    let two = store.reader().vehicle("v2").unwrap().unwrap();
    assert_eq!((two.version, two.gateways), (2, ["a", "truck-7"].map(id).to_vec()));
    make(&mut store, FleetChange::DropVehicle { id: "v2".into(), version: None }).unwrap();
    make(&mut store, FleetChange::AddVehicle(vehicle("v3", "DEF 456", &["truck-7"]))).unwrap();
}

pub fn what_is_another_s_already_is_refused_and_says_whose_it_is(on: &Database) {
    let mut store = with_one(on);
    let mut told = |change| make(&mut store, change).unwrap_err().to_string();
    let again = told(FleetChange::AddVehicle(vehicle("v1", "ZZZ 9", &[])));
    assert!(again.contains("there is a vehicle \"v1\" already"), "{again}");
    // One plate, however it is spaced and written.
    let plate = told(FleetChange::AddVehicle(vehicle("v2", "abc-123", &[])));
    assert!(plate.contains("\"abc-123\" is that of vehicle \"v1\""), "{plate}");
    let gateway = told(FleetChange::AddVehicle(vehicle("v2", "ZZZ 9", &["x", "truck-7"])));
    assert!(gateway.contains("gateway \"truck-7\" is on vehicle \"v1\""), "{gateway}");
    let customer_again = told(FleetChange::AddCustomer(customer("kalle")));
    assert!(customer_again.contains("there is a customer \"kalle\" already"), "{customer_again}");
    let nobody = told(FleetChange::AddVehicle(Vehicle { customer: Some("nobody".into()), ..vehicle("v2", "Z", &[]) }));
    assert!(nobody.contains("customer \"nobody\" is not known"), "{nobody}");
    assert_eq!(told(FleetChange::DropVehicle { id: "v9".into(), version: None }), "there is no vehicle \"v9\"");
    assert_eq!(told(carries("v9", None)), "there is no vehicle \"v9\"");
    assert_eq!(store.reader().vehicles("", 10).unwrap(), [vehicle("v1", "ABC 123", &["truck-7"])]);
    // Its own plate, spaced otherwise, is no other's.
    let spaced = FleetChange::ChangeVehicle {
        id: "v1".into(),
        registration: Some("ABC-123".into()),
        name: None,
        customer: None,
        gateways: None,
        version: None,
    };
    make(&mut store, spaced).unwrap();
}

pub fn a_customer_with_vehicles_goes_only_when_somebody_gets_them(on: &Database) {
    let mut store = with_one(on);
    let gone = |heir: Option<&str>| FleetChange::DropCustomer {
        id: "kalle".into(),
        heir: heir.map(Into::into),
        version: None,
    };
    let told = make(&mut store, gone(None)).unwrap_err();
    assert_eq!(told, FleetRefused::HasVehicles { id: "kalle".into(), vehicles: 1 });
    for nobody in ["nobody", "kalle"] {
        let told = make(&mut store, gone(Some(nobody))).unwrap_err();
        assert_eq!(told, FleetRefused::UnknownCustomer(nobody.into()));
    }
    make(&mut store, FleetChange::AddCustomer(customer("johan"))).unwrap();
    assert_eq!(make(&mut store, gone(Some("johan"))), Ok(FleetSaved::Dropped));
    let reader = store.reader();
    assert_eq!(reader.customer("kalle").unwrap(), None);
    assert_eq!(reader.vehicle("v1").unwrap().unwrap().customer.as_deref(), Some("johan"));
    make(&mut store, FleetChange::DropVehicle { id: "v1".into(), version: None }).unwrap();
    make(&mut store, FleetChange::DropCustomer { id: "johan".into(), heir: None, version: None }).unwrap();
}

pub fn who_changes_what_somebody_else_has_changed_meanwhile_is_told_so(on: &Database) {
    let mut store = with_one(on);
    let rename = |version| FleetChange::ChangeCustomer {
        id: "kalle".into(),
        name: Some("Kalle & Sons".into()),
        address: None,
        version: Some(version),
    };
    let changed = Customer { name: "Kalle & Sons".into(), version: 2, ..customer("kalle") };
    assert_eq!(make(&mut store, rename(1)), Ok(FleetSaved::Customer(changed)));
    assert_eq!(make(&mut store, rename(1)), Err(FleetRefused::Outdated { is: 2, asked: 1 }));
    let drop = FleetChange::DropVehicle { id: "v1".into(), version: Some(7) };
    assert_eq!(make(&mut store, drop), Err(FleetRefused::Outdated { is: 1, asked: 7 }));
}

pub fn a_field_that_cannot_be_used_is_named_and_nothing_is_written(on: &Database) {
    let mut store = with_one(on);
    let one = || vehicle("v2", "ZZZ 9", &[]);
    let names: Vec<String> = (0..=MAX_GATEWAYS_OF_VEHICLE).map(|n| format!("g{n}")).collect();
    let many: Vec<&str> = names.iter().map(String::as_str).collect();
    for (bad, word) in [
        (Vehicle { id: "a/b".into(), ..one() }, "id \"a/b\""),
        (Vehicle { registration: " ".into(), ..one() }, "registration: 0 characters, wanted 1 to 32"),
        (Vehicle { registration: "--".into(), ..one() }, "neither a letter nor a digit"),
        (Vehicle { registration: "x".repeat(33), ..one() }, "33 characters"),
        (Vehicle { name: "a\0b".into(), ..one() }, "name: has a control character"),
        (vehicle("v2", "ZZZ 9", &["a", "a"]), "named twice"),
        (vehicle("v2", "ZZZ 9", &many), "17, at most 16"),
    ] {
        let told = make(&mut store, FleetChange::AddVehicle(bad)).unwrap_err().to_string();
        assert!(told.contains(word), "{told}");
    }
    let nameless = Customer { name: String::new(), ..customer("x") };
    let told = make(&mut store, FleetChange::AddCustomer(nameless)).unwrap_err().to_string();
    assert!(told.contains("name: 0 characters"), "{told}");
    assert_eq!(store.reader().vehicles("", 10).unwrap().len(), 1);
    assert_eq!(store.reader().customers("", 10).unwrap().len(), 1);
}

pub fn a_refusal_leaves_what_came_with_it_in_one_commit(on: &Database) {
    let mut store = with_one(on);
    let work = [
        Work::Fleet(FleetChange::AddVehicle(vehicle("v1", "ZZZ 9", &[]))),
        Work::Fleet(FleetChange::AddVehicle(vehicle("v2", "ZZZ 9", &[]))),
        Work::Fleet(FleetChange::AddVehicle(vehicle("v3", "ZZZ 9", &[]))),
        Work::Manifest(std::sync::Arc::new(manifest())),
    ];
    let done = store.commit(&work).unwrap();
    let made: Vec<bool> = done.iter().map(|done| matches!(done, Done::Fleet(Ok(_)) | Done::Kept)).collect();
    assert_eq!(made, [false, true, false, true], "the second took the plate before the third");
    assert_eq!(store.reader().manifests().unwrap().len(), 1);
}

pub fn an_id_that_is_none_is_not_found_and_holds_up_nothing_that_comes_after_it(on: &Database) {
    let mut store = with_one(on);
    // Any text may stand in an address, a zero byte too.
    let none = || "v\0x".to_owned();
    for change in [
        FleetChange::DropVehicle { id: none(), version: None },
        FleetChange::DropCustomer { id: none(), heir: None, version: None },
        FleetChange::DropCustomer { id: "kalle".into(), heir: Some(none()), version: None },
        FleetChange::AddCustomer(customer(&none())),
        FleetChange::AddVehicle(vehicle(&none(), "X 1", &[])),
        FleetChange::AddVehicle(Vehicle { customer: Some(none()), ..vehicle("v2", "X 1", &[]) }),
        carries(&none(), None),
    ] {
        let told = make(&mut store, change.clone()).unwrap_err();
        assert!(told.to_string().contains("v\\0x"), "{change:?}: {told}");
    }
    let reader = store.reader();
    assert_eq!((reader.vehicle(&none()).unwrap(), reader.customer(&none()).unwrap()), (None, None));
    let after = |text: &str| (reader.vehicles(text, 9).unwrap().len(), reader.customers(text, 9).unwrap().len());
    assert_eq!((after("v1\0"), after(&none()), after("k\0")), ((0, 0), (1, 0), (1, 1)));
}
