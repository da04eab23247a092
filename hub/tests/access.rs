//! Who may do what, over a real hub that listens: each route, each role, each way in.

mod rig;

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    time::Duration,
};

use futures_util::StreamExt;
use rig::{
    http::{Answer, answer, send},
    *,
};
use serde_json::{Value, json};
use speedwell_hub::{
    BrokerUrl, Config,
    access::{By, NewKey, Role, Scopes, now_s},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_tungstenite::{
    client_async,
    tungstenite::{self, client::IntoClientRequest},
};

const PASSWORD: &str = "correct horse battery";
const READING: &str = r#"{"device":"t","sensor":"s","quantity":"speed","value":1,"at":"2026-05-04T10:00:00Z"}"#;

async fn hub(change: impl FnOnce(&mut Config)) -> HubRig {
    let nobody = BrokerUrl::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    HubRig::with(nobody, change).await
}

fn n(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

impl HubRig {
    fn at(&self) -> SocketAddr {
        self.hub().http
    }

    async fn user(&self, name: &str, role: Role) {
        let access = &self.hub().access;
        access.add_user(By::command_line(), name.into(), role, PASSWORD.into()).await.unwrap();
    }

    /// Its id, and the key.
    async fn key(&self, name: &str, scopes: &str, until_s: Option<i64>) -> (String, String) {
        let new = NewKey { name: name.into(), scopes: Scopes::parse(scopes), until_s };
        self.hub().access.change(move |book| book.add_key(&By::command_line(), &new)).await.unwrap()
    }

    async fn login(&self, name: &str, password: &str, lines: &str) -> Answer {
        let body = json!({"name": name, "password": password}).to_string();
        let lines = format!("Content-Type: application/json\r\n{lines}");
        send(self.at(), "POST", "/api/v1/login", &lines, body.as_bytes()).await
    }

    async fn token(&self, name: &str) -> String {
        let (status, _, body) = self.login(name, PASSWORD, "").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["token"].as_str().unwrap().to_owned()
    }

    /// With a token, or without one when it is empty.
    async fn ask(&self, method: &str, path: &str, token: &str, body: &str) -> Answer {
        let bearer = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
        let lines = format!("Content-Type: application/json\r\n{bearer}");
        send(self.at(), method, path, &lines, body.as_bytes()).await
    }

    async fn status(&self, path: &str, token: &str) -> u16 {
        self.ask("GET", path, token, "").await.0
    }
}

/// Every method and path that the hub describes, and those it does not.
async fn all_routes(rig: &HubRig) -> Vec<(String, String)> {
    let described = http::get(rig.at(), "/api/v1/openapi.json").await;
    let mut all = Vec::new();
    for (path, methods) in described["paths"].as_object().unwrap() {
        let path = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect::<Vec<_>>();
        for method in methods.as_object().unwrap().keys() {
            all.push((method.to_uppercase(), path.join("/")));
        }
    }
    assert!(all.len() >= 12, "{all:?}");
    let more = [
        ("GET", "/ws"),
        ("POST", "/api/v1/readings"),
        ("POST", "/tracking/data/"),
        ("GET", "/nothing"),
        ("PUT", "/no"),
    ];
    all.extend(more.map(|(method, path)| (method.to_owned(), path.to_owned())));
    all.sort();
    all.dedup();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_is_reached_but_the_door_and_the_pulse() {
    let rig = hub(|config| config.access.required = true).await;
    let mut open = Vec::new();
    for (method, path) in all_routes(&rig).await {
        let (status, head, body) = rig.ask(&method, &path, "", "{}").await;
        match status {
            401 if head.to_ascii_lowercase().contains("www-authenticate: bearer") => {
                assert!(serde_json::from_str::<Value>(&body).unwrap()["error"].is_string());
            }
            _ => open.push(format!("{method} {path}")),
        }
    }
    assert_eq!(open, ["GET /api/v1/openapi.json", "GET /healthz", "POST /api/v1/login"]);
    for page in ["/", "/gateway/truck-7", "/history", "/login", "/docs", "/assets/app.js"] {
        assert_eq!(rig.status(page, "").await, 200);
    }
    for wrong in ["swk_0", &format!("sws_{}", "0".repeat(64)), "Bearer"] {
        let (status, head, _) = rig.ask("GET", "/api/v1/gateways", wrong, "").await;
        assert!(status == 401 && head.contains("invalid_token"), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_and_each_scope_reaches_what_is_its_own_and_nothing_else() {
    let rig = hub(|_| {}).await;
    let mut tokens = Vec::new();
    for role in Role::ALL {
        rig.user(role.name(), role).await;
        tokens.push((role.name(), rig.token(role.name()).await));
    }
    for scope in ["read", "ingest", "admin"] {
        tokens.push((scope, rig.key(scope, scope, None).await.1));
    }
    // The viewer and the key that reads look; the operator and the key that ingests send; and so on.
    let names: Vec<&str> = tokens.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["viewer", "operator", "admin", "read", "ingest", "admin"]);
    let routes = all_routes(&rig).await;
    for (method, path) in routes.iter().filter(|(_, path)| path != "/api/v1/logout") {
        let administration = ["/api/v1/users", "/api/v1/keys", "/api/v1/audit"];
        let expected = match (method.as_str(), path.as_str()) {
            (_, path) if administration.iter().any(|of| path.starts_with(of)) => {
                [false, false, true, false, false, true]
            }
            (_, "/api/v1/openapi.json" | "/healthz" | "/api/v1/login" | "/api/v1/me" | "/api/v1/me/password") => {
                [true; 6]
            }
            ("POST", "/api/v1/readings" | "/tracking/data/") => [false, true, true, false, true, true],
            ("GET", _) => [true, true, true, true, false, true],
            _ => [false, true, true, false, false, true],
        };
        // The feed has no end; what it is asked here is wrong.
        let path = if path == "/api/v1/live" { "/api/v1/live?since=x" } else { path };
        for ((name, token), may) in tokens.iter().zip(expected) {
            let (status, _, body) = rig.ask(method, path, token, "").await;
            assert_eq!(status != 403, may, "{name}: {method} {path}: {status} {body}");
            assert_ne!(status, 401, "{name}: {method} {path}: {body}");
            assert!(may || body.contains("this wants the role"), "{body}");
        }
    }
    assert_eq!(rig.ask("POST", "/api/v1/readings", &tokens[4].1, READING).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_makes_users_and_keys_which_work_until_they_are_taken_away() {
    let rig = hub(|_| {}).await;
    rig.user("anna", Role::Admin).await;
    let admin = rig.token("anna").await;
    let bert = r#"{"name":"Bert","role":"viewer","password":"correct horse battery"}"#;
    assert_eq!(rig.ask("POST", "/api/v1/users", &admin, bert).await.0, 201);
    assert_eq!(rig.ask("POST", "/api/v1/users", &admin, bert).await.0, 409);
    let short = r#"{"name":"carl","role":"viewer","password":"short"}"#;
    let (status, _, body) = rig.ask("POST", "/api/v1/users", &admin, short).await;
    assert!(status == 400 && body.contains("12 characters") && !body.contains("short\""), "{body}");
    let token = rig.token("bert").await;
    let (_, _, me) = rig.ask("GET", "/api/v1/me", &token, "").await;
    let me: Value = serde_json::from_str(&me).unwrap();
    assert_eq!(
        me,
        json!({"user": {"name": "bert", "role": "viewer"}, "role": "viewer", "via": "session", "key": null})
    );
    assert_eq!(rig.ask("PATCH", "/api/v1/users/bert", &admin, r#"{"role":"operator"}"#).await.0, 204);
    assert_eq!(rig.ask("POST", "/api/v1/readings", &token, READING).await.0, 200);
    assert_eq!(rig.ask("DELETE", "/api/v1/users/bert", &admin, "").await.0, 204);
    assert_eq!(rig.status("/api/v1/me", &token).await, 401);
    assert_eq!(rig.ask("DELETE", "/api/v1/users/anna", &admin, "").await.0, 409, "the last administrator");

    let asked = r#"{"name":"tracker","scopes":["ingest"]}"#;
    let (status, _, made) = rig.ask("POST", "/api/v1/keys", &admin, asked).await;
    assert_eq!(status, 201);
    let made: Value = serde_json::from_str(&made).unwrap();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert_eq!(rig.ask("POST", "/api/v1/readings", key, READING).await.0, 200);
    let (_, _, listed) = rig.ask("GET", "/api/v1/keys", &admin, "").await;
    assert!(listed.contains(id) && !listed.contains(key));
    assert_eq!(rig.ask("DELETE", &format!("/api/v1/keys/{id}"), &admin, "").await.0, 204);
    assert_eq!(rig.ask("POST", "/api/v1/readings", key, READING).await.0, 401);

    let (_, _, audit) = rig.ask("GET", "/api/v1/audit", &admin, "").await;
    let audit: Value = serde_json::from_str(&audit).unwrap();
    let what: Vec<&str> =
        audit["notes"].as_array().unwrap().iter().map(|note| note["what"].as_str().unwrap()).collect();
    let told =
        ["key-revoked", "key-added", "user-removed", "role-changed", "login", "user-added", "login", "user-added"];
    assert_eq!(what, told);
    let first = &audit["notes"][0];
    assert_eq!((first["who"].as_str(), first["origin"].as_str()), (Some("user anna"), Some("127.0.0.1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_of_vehicles_and_customers_is_noted_with_who_did_it() {
    let rig = hub(|_| {}).await;
    rig.user("anna", Role::Admin).await;
    rig.user("olof", Role::Operator).await;
    let (admin, operator) = (rig.token("anna").await, rig.token("olof").await);
    let change = async |method, path, body, status| {
        let (got, _, told) = rig.ask(method, path, &operator, body).await;
        assert_eq!(got, status, "{told}");
    };
    change("POST", "/api/v1/customers", r#"{"id":"c1","name":"Isar Transport"}"#, 201).await;
    change("POST", "/api/v1/vehicles", r#"{"id":"v1","registration":"M-SW 1","customer":"c1"}"#, 201).await;
    change("PATCH", "/api/v1/vehicles/v1", r#"{"customer":null}"#, 200).await;
    change("DELETE", "/api/v1/customers/c1", "", 204).await;
    change("DELETE", "/api/v1/vehicles/v2", "", 404).await;
    let (_, _, audit) = rig.ask("GET", "/api/v1/audit", &admin, "").await;
    let audit: Value = serde_json::from_str(&audit).unwrap();
    let notes = audit["notes"].as_array().unwrap().iter().map(|note| ["what", "detail", "who"].map(|of| &note[of]));
    let expected = [
        ["customer-removed", "c1", "user olof"],
        ["vehicle-changed", "v1", "user olof"],
        ["vehicle-added", "v1", "user olof"],
        ["customer-added", "c1", "user olof"],
    ];
    assert_eq!(notes.take(4).collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_keys_end_by_themselves() {
    let rig = hub(|config| config.access.session_idle_s = n(6)).await;
    rig.user("anna", Role::Admin).await;
    let token = rig.token("anna").await;
    let (_, key) = rig.key("short", "read", Some(now_s() + 8)).await;
    assert_eq!((rig.status("/api/v1/me", &token).await, rig.status("/api/v1/me", &key).await), (200, 200));
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!((rig.status("/api/v1/me", &token).await, rig.status("/api/v1/me", &key).await), (401, 401));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_wants_a_key_and_ends_when_the_key_is_revoked_under_it() {
    let rig = hub(|_| {}).await;
    let (id, key) = rig.key("wall", "read", None).await;
    let watch = async |token: &str| {
        let mut request = format!("ws://{}/ws", rig.at()).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        client_async(request, TcpStream::connect(rig.at()).await.unwrap()).await
    };
    match watch("swk_none").await {
        Err(tungstenite::Error::Http(answer)) => assert_eq!(answer.status(), 401),
        other => panic!("{other:?}"),
    }
    let (mut socket, _) = watch(&key).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().is_text(), "the snapshot");
    rig.hub().access.change(move |book| book.revoke_key(&By::command_line(), &id)).await.unwrap();
    let ended = timeout(LONG, async { while let Some(Ok(_)) = socket.next().await {} }).await;
    assert!(ended.is_ok(), "it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_passwords_is_made_to_wait_and_others_are_not() {
    let rig = hub(|config| config.http.trusted_proxies = vec!["127.0.0.1".to_owned().try_into().unwrap()]).await;
    rig.user("anna", Role::Admin).await;
    rig.user("bert", Role::Viewer).await;
    let from = |address: &str| format!("X-Forwarded-For: 192.0.2.99, {address}\r\n");
    assert_eq!(rig.login("anna", PASSWORD, &from("198.51.100.1")).await.0, 200);
    let mut refused = Vec::new();
    for _ in 0..12 {
        let (status, head, body) = rig.login("anna", "wrong wrong wrong", &from("203.0.113.7")).await;
        refused.push(status);
        if status == 429 {
            assert!(head.to_ascii_lowercase().contains("retry-after: "), "{head}");
            assert!(body.contains("try again in"), "{body}");
        }
    }
    assert_eq!(&refused[..5], [401; 5]);
    assert!(refused[5..].contains(&429), "{refused:?}");
    // Even the right one, from where it is guessed; but not from where she was before, and not another name.
    let waits = async || {
        while rig.login("anna", "wrong wrong wrong", &from("203.0.113.7")).await.0 != 429 {}
        rig.login("anna", PASSWORD, &from("203.0.113.8")).await.0
    };
    assert_eq!(waits().await, 429);
    assert_eq!(rig.login("anna", PASSWORD, &from("198.51.100.1")).await.0, 200);
    assert_eq!(rig.login("bert", PASSWORD, &from("203.0.113.9")).await.0, 200);
    let admin = rig.token("anna").await;
    let (_, _, audit) = rig.ask("GET", "/api/v1/audit", &admin, "").await;
    assert!(
        audit.contains("login-refused") && audit.contains("203.0.113.7") && !audit.contains("192.0.2.99"),
        "{audit}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_with_a_cookie_has_to_come_from_the_hubs_own_pages() {
    let rig = hub(|_| {}).await;
    rig.user("anna", Role::Admin).await;
    let (_, head, _) = rig.login("anna", PASSWORD, "").await;
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    for wanted in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(cookie.contains(wanted), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "it would never come back: {cookie}");
    let pair = cookie.split(';').next().unwrap().to_owned();
    let ask = async |method: &str, path: &str, origin: &str, body: &str| {
        let lines = format!("Content-Type: application/json\r\nCookie: a=b; {pair}\r\nOrigin: {origin}\r\n");
        send(rig.at(), method, path, &lines, body.as_bytes()).await.0
    };
    let own = format!("http://{}", rig.at());
    let key = r#"{"name":"k","scopes":["read"]}"#;
    for evil in ["http://evil.example", "null", &format!("http://evil.{}", rig.at())] {
        assert_eq!(ask("POST", "/api/v1/keys", evil, key).await, 403, "{evil}");
        assert_eq!(ask("DELETE", "/api/v1/users/anna", evil, "").await, 403, "{evil}");
        assert_eq!(ask("POST", "/api/v1/logout", evil, "").await, 403, "{evil}");
    }
    assert_eq!(ask("POST", "/api/v1/keys", &own, key).await, 201);
    let login = format!("{{\"name\":\"anna\",\"password\":\"{PASSWORD}\"}}");
    assert_eq!(ask("POST", "/api/v1/login", "http://evil.example", &login).await, 403, "logging others in");
    assert_eq!(ask("POST", "/api/v1/logout", &own, "").await, 204);
    assert_eq!(ask("GET", "/api/v1/me", &own, "").await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_of_a_key_or_of_a_stranger_are_told_to_wait() {
    let rig = hub(|config| {
        config.access.requests_per_second = n(5);
        config.access.stranger_requests_per_second = n(3);
    })
    .await;
    let (_, key) = rig.key("eager", "read", None).await;
    let (_, other) = rig.key("calm", "read", None).await;
    for (token, good) in [(&*key, 200), ("", 401)] {
        let mut seen = Vec::new();
        while !seen.contains(&429) && seen.len() < 1000 {
            seen.push(rig.status("/api/v1/me", token).await);
        }
        assert!(seen.len() > 5 && seen[0] == good && seen.ends_with(&[429]), "{seen:?}");
    }
    assert_eq!(rig.status("/api/v1/me", &other).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_keys_may_use_the_same_idempotency_key() {
    let rig = hub(|_| {}).await;
    for (name, device) in [("one", "a"), ("two", "b")] {
        let (_, key) = rig.key(name, "ingest", None).await;
        let lines = format!("Content-Type: application/json\r\nIdempotency-Key: 7\r\nAuthorization: Bearer {key}\r\n");
        let body = READING.replace("\"t\"", &format!("\"{device}\""));
        let (status, _, told) = send(rig.at(), "POST", "/api/v1/readings", &lines, body.as_bytes()).await;
        assert!(status == 200 && !told.contains("repeated"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_get_nothing_but_those_that_are_named() {
    let rig = hub(|config| {
        config.http.allow_origins = vec!["https://fleet.example".to_owned().try_into().unwrap()];
    })
    .await;
    let (_, key) = rig.key("page", "read", None).await;
    let ask = async |method: &str, origin: &str, more: &str| {
        let lines = format!("Origin: {origin}\r\n{more}");
        let (status, head, _) = send(rig.at(), method, "/api/v1/gateways", &lines, b"").await;
        (status, head.to_ascii_lowercase())
    };
    let bearer = format!("Authorization: Bearer {key}\r\n");
    let (status, head) = ask("GET", "https://fleet.example", &bearer).await;
    assert!(status == 200 && head.contains("access-control-allow-origin: https://fleet.example"), "{head}");
    assert!(!head.contains("allow-credentials"));
    let preflight = "Access-Control-Request-Method: GET\r\n";
    let (status, head) = ask("OPTIONS", "https://fleet.example", preflight).await;
    assert!(status == 204 && head.contains("access-control-allow-headers: authorization"), "{head}");
    for (method, more) in [("GET", &*bearer), ("OPTIONS", preflight)] {
        let (_, head) = ask(method, "https://evil.example", more).await;
        assert!(!head.contains("access-control-"), "{head}");
    }
    // What wants somebody is not kept by his browser; pages and assets are, and asked for again.
    for (path, kept) in [("/api/v1/gateways", "no-store"), ("/healthz", "no-cache"), ("/", "no-cache")] {
        let head = rig.ask("GET", path, &key, "").await.1.to_ascii_lowercase();
        assert!(head.contains(&format!("cache-control: {kept}")), "{path}: {head}");
    }
    // And every answer carries the headers that keep browsers safe: refusals, readings and what is not there.
    for (method, path, token) in
        [("GET", "/api/v1/gateways", ""), ("POST", "/api/v1/readings", ""), ("GET", "/none", &*key), ("GET", "/", "")]
    {
        let head = rig.ask(method, path, token, "").await.1.to_ascii_lowercase();
        for wanted in ["x-content-type-options: nosniff", "content-security-policy:", "x-frame-options: deny"] {
            assert!(head.contains(wanted), "{method} {path}: {head}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_asks_nobody_answers_to_this_machines_names_only_and_gives_no_rights() {
    let rig = hub(|_| {}).await;
    let (_, _, me) = rig.ask("GET", "/api/v1/me", "", "").await;
    assert!(me.contains("\"via\":\"open\"") && me.contains("\"role\":\"operator\""), "{me}");
    let (status, _, told) = rig.ask("GET", "/api/v1/users", "", "").await;
    assert!(status == 403 && told.contains("speedwell-hub user add"), "{told}");
    for (host, expected) in [("localhost:8080", 200), ("evil.example", 421)] {
        let mut stream = TcpStream::connect(rig.at()).await.unwrap();
        let request = format!("GET /api/v1/gateways HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(answer(&mut stream).await.0, expected, "{host}");
    }
    rig.user("anna", Role::Admin).await;
    assert_eq!(rig.status("/api/v1/me", "").await, 401, "from the first user on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_asks_nobody_does_not_serve_the_world_through_a_proxy() {
    let rig = hub(|config| config.http.trusted_proxies = vec!["127.0.0.1".to_owned().try_into().unwrap()]).await;
    for (lines, expected) in
        [("", 200), ("X-Forwarded-For: 127.0.0.1\r\n", 200), ("X-Forwarded-For: 203.0.113.7\r\n", 421)]
    {
        let (status, _, told) = send(rig.at(), "GET", "/api/v1/gateways", lines, b"").await;
        assert_eq!(status, expected, "{lines}{told}");
        assert!(status == 200 || told.contains("speedwell-hub user add"), "{told}");
    }
}
