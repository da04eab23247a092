use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::sync::watch;

use super::*;
use crate::{
    access::{Access, By, NewKey, Scopes},
    api::{Parts, access::Permissions, assets, readings::Intake, routes},
    ingest::{
        Counters,
        gate::{self, Gate},
    },
    live::Board,
    metrics::Metrics,
    presence::{Moment, Presence},
    store::{Store, sqlite::Sqlite, writer},
};

/// What a router serves. It tells so nowhere else than in its debug text; were that to change, there would be no paths,
/// which no test here passes with.
fn paths(router: &Router) -> BTreeSet<String> {
    let text = format!("{router:?}");
    let quoted = text.split('"').filter(|text| text.starts_with('/'));
    // Where something is nested there are paths of axum's own.
    quoted.filter(|path| !path.contains("__private")).map(str::to_owned).collect()
}

/// All routes of a hub that takes readings, with a key that may everything.
async fn hub(directory: &std::path::Path) -> (Router, String) {
    let store = Sqlite::open(&directory.join("hub.sqlite")).unwrap();
    let (reader, writer) = (store.reader(), writer::start(store).unwrap());
    let (board, counters) = (Board::default(), Arc::new(Counters::default()));
    let presence = Presence::new(Duration::from_secs(60), Moment::now());
    let metrics = Metrics::new(writer.commits, &writer.work);
    let (_, desk, _) = Gate::new(gate::Parts {
        work: writer.work,
        done: writer.done,
        board: board.clone(),
        presence: presence.clone(),
        counters: counters.clone(),
        trouble: writer.trouble.clone(),
    });
    let access = Access::open(&directory.join("access.sqlite"), Default::default()).unwrap();
    let new = NewKey { name: "all".into(), scopes: Scopes::parse("admin"), until_s: None };
    let (_, key) = access.change(move |book| book.add_key(&By::command_line(), &new)).await.unwrap();
    let router = routes(Parts {
        board,
        reader,
        counters: counters.clone(),
        store: writer.trouble,
        metrics,
        stop: watch::channel(false).1,
        patience: Default::default(),
        permissions: Permissions { access, allow_origins: Vec::new(), proxies: Vec::new() },
        intake: Some(Intake::new(desk.clone(), Default::default(), counters, Default::default())),
        presence,
        desk: Some(desk),
    });
    (router, key)
}

async fn send(router: &Router, method: &str, path: &str, key: &str, body: Value) -> StatusCode {
    let request = Request::builder().method(method).uri(path).header(header::AUTHORIZATION, format!("Bearer {key}"));
    let request = request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string())).unwrap();
    TowerToHyperService::new(router.clone()).call(request).await.unwrap().status()
}

async fn ask(router: &Router, method: &str, path: &str, key: &str) -> axum::response::Response {
    let request = Request::builder().method(method).uri(path).header(header::AUTHORIZATION, format!("Bearer {key}"));
    TowerToHyperService::new(router.clone()).call(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn description(router: &Router) -> Value {
    let answer = ask(router, "GET", "/api/v1/openapi.json", "").await;
    assert_eq!(answer.status(), StatusCode::OK);
    serde_json::from_slice(&axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_that_is_served_is_described_with_every_method_it_has_and_nothing_else_is() {
    let directory = tempfile::tempdir().unwrap();
    let (router, key) = hub(directory.path()).await;
    let described = description(&router).await;
    let described = described["paths"].as_object().unwrap();
    let pages = paths(&assets::routes());
    let served: BTreeSet<String> = paths(&router).difference(&pages).cloned().collect();
    assert!(pages.contains("/docs") && served.contains("/ws"), "{pages:?} {served:?}");
    assert_eq!(served, described.keys().cloned().collect());
    for (path, item) in described {
        let address = path.replace("{id}", "x").replace("{name}", "x").replace("{device_id}", "x");
        assert!(!address.contains('{'), "{path}");
        for method in METHODS {
            // A body without a type is wrong everywhere, so nothing is changed or waited for.
            let status = ask(&router, &method.to_uppercase(), &address, &key).await.status();
            let there = status != StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(there, item.get(method).is_some(), "{method} {path}: {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_has_a_name_of_its_own_words_a_tag_that_is_told_and_what_the_guard_asks_for() {
    let directory = tempfile::tempdir().unwrap();
    let (router, key) = hub(directory.path()).await;
    let all = description(&router).await;
    let tags: Vec<&str> = all["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut names = BTreeSet::new();
    for (path, item) in all["paths"].as_object().unwrap() {
        for method in METHODS.into_iter().filter(|method| item.get(method).is_some()) {
            let (one, at) = (&item[method], format!("{method} {path}"));
            assert!(names.insert(one["operationId"].to_string()), "{at}");
            assert!(one["summary"].as_str().is_some_and(|words| words.len() > 5), "{at}");
            assert!(tags.contains(&one["tags"][0].as_str().unwrap()), "{at}: {}", one["tags"]);
            for (status, response) in one["responses"].as_object().unwrap() {
                assert!(!response["description"].as_str().unwrap().is_empty(), "{at}: {status}");
            }
            for parameter in one["parameters"].as_array().into_iter().flatten() {
                let told = parameter["description"].as_str().is_some_and(|words| !words.is_empty());
                assert!(told || parameter["in"] == "path", "{at}: {parameter}");
                assert!(!parameter["schema"].to_string().contains("null"), "{at}: {parameter}");
            }
            // Asked by nobody, it answers 401 exactly where it says that it wants somebody.
            let address = path.replace("{id}", "x").replace("{name}", "x").replace("{device_id}", "x");
            let closed = ask(&router, &method.to_uppercase(), &address, "swk_nobody").await.status();
            let login = path == "/api/v1/login";
            assert_eq!(closed == StatusCode::UNAUTHORIZED, one["security"] != json!([]), "{at}: {closed}");
            assert_eq!(one["responses"].get("401").is_some(), login || one["security"] != json!([]), "{at}");
        }
    }
    assert!(names.len() > 40, "{}", names.len());
    let _ = key;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_description_refers_to_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let (router, _) = hub(directory.path()).await;
    let all = description(&router).await;
    let (mut left, mut found) = (vec![&all], 0);
    while let Some(value) = left.pop() {
        left.extend(value.as_array().into_iter().flatten());
        left.extend(value.as_object().into_iter().flat_map(|object| object.values()));
        if let Some(to) = value.get("$ref").and_then(|to| to.as_str()) {
            assert!(to.strip_prefix('#').and_then(|to| all.pointer(to)).is_some(), "{to} is not there");
            found += 1;
        }
    }
    assert!(found > 40, "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_description_does_not_allow_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (router, key) = hub(directory.path()).await;
    // Fields in their order are no object, though a parser could take them for one.
    for (method, path, body) in [
        ("POST", "/api/v1/customers", json!(["acme", "Acme", ""])),
        ("PATCH", "/api/v1/customers/acme", json!([null, null])),
        ("POST", "/api/v1/users", json!(["erika", "admin", "correct horse battery"])),
        ("POST", "/api/v1/keys", json!(["hall", ["admin"], null])),
        ("POST", "/api/v1/login", json!(["erika", "correct horse battery"])),
        ("POST", "/api/v1/readings", json!([["truck-7", "front-wheel", "speed", null, 1, null, null, null]])),
        ("POST", "/tracking/data/", json!([["truck-7", "41,29", 5, null]])),
    ] {
        assert_eq!(send(&router, method, path, &key, body).await, StatusCode::BAD_REQUEST, "{method} {path}");
    }
    for path in [
        "/api/v1/customers?limit=0",
        "/api/v1/vehicles?limit=1001",
        "/api/v1/presence?limit=10001",
        "/api/v1/audit?limit=0",
        "/api/v1/customers/%ff",
    ] {
        assert_eq!(ask(&router, "GET", path, &key).await.status(), StatusCode::BAD_REQUEST, "{path}");
    }
    let nothing = send(&router, "PATCH", "/api/v1/users/nobody", &key, json!({})).await;
    assert_eq!(nothing, StatusCode::NOT_FOUND, "who is not there cannot be left as he is");
}

/// Where a schema says no more than that something is there.
fn empty(schema: &Value, at: &str, found: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            let said = ["properties", "additionalProperties", "oneOf", "anyOf", "allOf", "$ref"];
            let object = schema["type"] == "object" || schema["type"].to_string().contains("\"object\"");
            if object && !said.iter().any(|word| fields.contains_key(*word)) {
                found.push(at.to_owned());
            }
            fields.iter().for_each(|(name, value)| empty(value, &format!("{at}/{name}"), found));
        }
        Value::Array(all) => all.iter().enumerate().for_each(|(n, value)| empty(value, &format!("{at}/{n}"), found)),
        _ => {}
    }
}

/// Whether a value has the fields that a schema describes, all of them and no others, each of a type that it may have.
fn fits(all: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        return fits(all, all.pointer(&name[1..]).unwrap(), value, at);
    }
    if let Some(either) = schema["oneOf"].as_array() {
        let one = either.iter().find(|one| (one["type"] == "null") == value.is_null());
        return fits(all, one.unwrap_or_else(|| panic!("{at}: {value}")), value, at);
    }
    let types = schema["type"].to_string();
    let (kind, fine) = match value {
        Value::Null => ("null", true),
        Value::String(_) => ("string", true),
        Value::Number(n) => ("integer", n.is_u64()),
        Value::Array(items) => {
            items.iter().for_each(|item| fits(all, &schema["items"], item, at));
            ("array", true)
        }
        Value::Object(fields) => {
            let described: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().collect();
            assert_eq!(described, fields.keys().collect(), "{at}");
            let required = schema["required"].as_array().unwrap();
            for (name, value) in fields {
                let one = &schema["properties"][name];
                assert!(one["description"].as_str().is_some_and(|words| words.len() > 5), "{at}/{name}");
                assert!(required.iter().any(|wanted| wanted == name), "{at}/{name} is always there");
                fits(all, one, value, &format!("{at}/{name}"));
            }
            ("object", true)
        }
        Value::Bool(_) => ("boolean", true),
    };
    assert!(fine && types.contains(&format!("\"{kind}\"")), "{at}: {value} is no {types}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_says_of_itself_and_what_is_stored_of_it_are_described_to_the_last_field() {
    use speedwell_wire::{ClockSource, LogId, NoData, message};
    let directory = tempfile::tempdir().unwrap();
    let (router, _) = hub(directory.path()).await;
    let all = description(&router).await;
    let mut found = Vec::new();
    empty(&all, "", &mut found);
    // The description describes everything but itself, and GeoJSON, which is RFC 7946's.
    found.retain(|at| !at.contains("openapi.json") && !at.contains("geo+json"));
    assert!(found.is_empty(), "any object would do at {found:?}");

    let sensor = |trouble| message::SensorHealth {
        name: "front-wheel".into(),
        trouble,
        detail: String::new(),
        inputs: 1,
        lost: 2,
        rejected: 3,
    };
    let health = message::Health {
        uptime_s: 1,
        boot: 2,
        log: LogId(3),
        last_seq: 4,
        confirmed_seq: 5,
        spool_bytes: 6,
        lost_samples: 7,
        clock: ClockSource::Ntp,
        rss_bytes: 8,
        sensors: vec![sensor(None), sensor(Some(NoData::Fault))],
    };
    let view = &all["components"]["schemas"]["GatewayView"]["properties"];
    fits(&all, &view["health"], &serde_json::to_value(&health).unwrap(), "health");
    let mut standing = crate::store::Standing::default();
    fits(&all, &view["stored"], &serde_json::to_value(standing).unwrap(), "stored");
    standing.log = Some(LogId(1));
    fits(&all, &view["stored"], &serde_json::to_value(standing).unwrap(), "stored");
}

#[test]
fn a_schema_that_is_named_twice_would_be_one_of_the_two() {
    // utoipa keeps the last of a name without a word.
    let mut names = BTreeSet::new();
    let mut folders = vec![std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let derives = text.split("#[derive(").skip(1).filter(|rest| {
                let list = rest.split(")]").next().unwrap_or_default();
                list.contains("ToSchema")
            });
            for item in derives {
                let head = item.split('{').next().unwrap();
                let named = head.split_once("#[schema(as = ").and_then(|(_, rest)| rest.split(')').next());
                let own = head.split(['<', ' ', '\n']).skip_while(|w| !["struct", "enum"].contains(w)).nth(1);
                let name = named.or(own).unwrap().to_owned();
                assert!(
                    names.insert(name.clone()),
                    "{name} in {} is named as another is: #[schema(as = …)]",
                    path.display()
                );
            }
        }
    }
    assert!(names.len() > 30, "{names:?}");
}
