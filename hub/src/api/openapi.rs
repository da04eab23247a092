//! The description of all this (OpenAPI 3.1): `GET /api/v1/openapi.json`, and what `/docs` shows.
//!
//! Each route describes what is its own. What the guard before them all asks for and answers is put in here, out of the
//! guard's own table, and so is what a parameter of a name always is: both would be forgotten at the next route.

use axum::{body::Bytes, extract::State, http::header, response::IntoResponse};
use serde_json::{Map, Value, json};
use speedwell_wire::Quantity;
use utoipa::OpenApi;

use super::{Complaint, Context, export, query::QUANTITIES};
use crate::access::{Need, rules};

/// What the routes' own descriptions are put into.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Speedwell hub",
        description = "Newest and past speeds of vehicles and rigs, who is connected, and the registry of vehicles and customers.\n\n\
            Every number stands with its unit. Times are UTC, RFC 3339. A range has both its ends in it. A list that goes on \
            has a `next`. What is wrong with a request is told in words, as `error`. 503 comes with `Retry-After`, and then \
            the same request may be sent again.\n\n\
            A hub that has neither a user nor a key asks nobody who he is, unless `[access] required` says so. A method that \
            a path does not have is answered 405 with `Allow`, a path that is not here 404."
    ),
    tags(
        (name = "live", description = "Newest values, once or as they come."),
        (name = "query", description = "What is stored: samples, sums, what is missing, what happened."),
        (name = "ingest", description = "Readings that come over HTTP, stored when the answer says so."),
        (name = "presence", description = "Which gateways, sensors and vehicles are connected, since when and why."),
        (name = "fleet", description = "Customers, their vehicles and the gateways these carry."),
        (name = "access", description = "Logging in; users, keys, and who changed what."),
        (name = "aliases", description = "Addresses and shapes that programs of others have."),
        (name = "operation", description = "For those who look after the hub."),
    ),
    components(schemas(Complaint))
)]
pub(super) struct Description;

/// Where it is.
pub(super) const PATH: &str = "/api/v1/openapi.json";

/// This description.
#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "operation",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object))
)]
pub(super) async fn described(State(context): State<Context>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], context.description.get().cloned().unwrap_or_default())
}

/// The methods an operation may have; what else stands in a path's item is none.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// What the routes say of themselves, with what holds for all of them.
pub(super) fn complete(routes: &utoipa::openapi::OpenApi) -> Bytes {
    let mut all = serde_json::to_value(routes).unwrap_or_default();
    if let Some(paths) = all.get_mut("paths").and_then(Value::as_object_mut) {
        for (path, item) in paths {
            for method in METHODS {
                if let Some(operation) = item.get_mut(method) {
                    complete_one(operation, method, path);
                }
            }
        }
    }
    // A schema of JSON says nothing of bytes.
    #[cfg(feature = "parquet")]
    {
        all["paths"]["/api/v1/export"]["get"]["responses"]["200"]["content"][export::PARQUET] = json!({});
    }
    all["components"]["securitySchemes"] = json!({
        "bearer": {"type": "http", "scheme": "bearer", "description": "a key, `swk_…`, or the token that a login gave"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": super::access::COOKIE,
            "description": "what a login gave a browser; only pages of this hub may change something with it"},
    });
    serde_json::to_vec(&all).unwrap_or_default().into()
}

fn complete_one(operation: &mut Value, method: &str, path: &str) {
    operation["operationId"] = name(method, path).into();
    let need = rules::need(&method.to_uppercase(), path);
    let before = operation["description"].as_str().map(|text| format!("{text}\n\n")).unwrap_or_default();
    operation["description"] = match need {
        Need::Nothing => format!("{before}Open to all."),
        need => format!("{before}Wants {need}."),
    }
    .into();
    operation["security"] = match need {
        Need::Nothing => json!([]),
        _ => json!([{"bearer": []}, {"cookie": []}]),
    };
    parameters(operation, path);
    let has_body = operation.get("requestBody").is_some();
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
    guarded(responses, need, rules::is_safe(&method.to_uppercase()));
    if method == "get" && need != Need::Nothing {
        also_told(responses, "503");
    }
    if has_body {
        for status in ["408", "413"] {
            also_told(responses, status);
        }
    }
    for status in ["429", "503"] {
        if let Some(response) = responses.get_mut(status) {
            response["headers"]["Retry-After"] = json!({"description": "after so many seconds", "required": true, "schema": {"type": "integer", "minimum": 1}});
        }
    }
    for (status, response) in responses {
        if response["description"].as_str().is_none_or(str::is_empty) {
            response["description"] = meaning(status).into();
        }
    }
}

/// `get-vehicles-id`, and `get-alias-vehicles` of an alias, whose paths end in a slash: no two are alike.
fn name(method: &str, path: &str) -> String {
    let alias = path.ends_with('/').then_some("alias");
    let words =
        path.strip_prefix("/api/v1").unwrap_or(path).split(['/', '{', '}', '.']).filter(|word| !word.is_empty());
    std::iter::once(method).chain(alias).chain(words).collect::<Vec<_>>().join("-")
}

/// What may be answered in the place of a route, in words.
fn also_told<'a>(responses: &'a mut Map<String, Value>, status: &str) -> &'a mut Value {
    let content = json!({"application/json": {"schema": {"$ref": "#/components/schemas/Complaint"}}});
    responses.entry(status).or_insert_with(|| json!({"description": "", "content": content}))
}

/// What the guard may answer in the place of any route.
fn guarded(responses: &mut Map<String, Value>, need: Need, safe: bool) {
    let mut also = |status: &str, headers: Value| {
        let response = also_told(responses, status);
        if headers.is_object() {
            response["headers"] = headers;
        }
    };
    if need != Need::Nothing {
        also("401", json!({"WWW-Authenticate": {"description": "`Bearer` (RFC 6750)", "schema": {"type": "string"}}}));
    }
    if need != Need::Nothing || !safe {
        also("403", Value::Null);
    }
    also("421", Value::Null);
    also("429", Value::Null);
}

/// Of what has no words of its own.
fn meaning(status: &str) -> &'static str {
    match status {
        "200" => "as asked",
        "201" => "made",
        "202" => "taken",
        "204" => "done",
        "400" => "the request is wrong; `error` names what came and what is allowed",
        "401" => "nobody that is known: log in, or send a key",
        "403" => "the role or the key is not enough, or a page of another origin asks",
        "404" => "there is no such thing",
        "408" => "the body did not come in time",
        "409" => "it would not go with what is there",
        "412" => "it has another version than `If-Match` says",
        "413" => "the body is too large",
        "415" => "wanted is `application/json`, without a `Content-Encoding`",
        "421" => "asked from another machine, or by a name that is not this one's, while the hub asks nobody who he is",
        "422" => "it can be read, and cannot be used",
        "429" => "too often",
        "503" => "not now: the store, or the hub, cannot at this moment",
        _ => "",
    }
}

/// The parameters, those in the path among them.
fn parameters(operation: &mut Value, path: &str) {
    // Questions to the store take a parameter without a value, as a form sends it, for one that was left out.
    let empties = matches!(operation["tags"][0].as_str(), Some("query" | "aliases"));
    let mut all = operation["parameters"].as_array().cloned().unwrap_or_default();
    for name in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
        if !all.iter().any(|known| known["in"] == "path" && known["name"] == name) {
            all.push(json!({"name": name, "in": "path", "required": true, "description": format!("its {name}"),
                "schema": {"type": "string"}}));
        }
    }
    for known in &mut all {
        parameter(known, empties);
    }
    if !all.is_empty() {
        operation["parameters"] = all.into();
    }
}

/// A parameter that is not sent is not sent as null, and what has a name of many routes is the same in all of them.
fn parameter(parameter: &mut Value, empties: bool) {
    let (name, place) = (parameter["name"].as_str().unwrap_or_default().to_owned(), parameter["in"].clone());
    let empty = empties && place == "query" && parameter["required"] != true;
    if empty {
        parameter["allowEmptyValue"] = true.into();
    }
    let schema = &mut parameter["schema"];
    no_null(schema);
    // Of a list, each item is what one would be.
    let one = if schema["type"] == "array" { &mut schema["items"] } else { schema };
    let same = match (place.as_str(), name.as_str()) {
        (Some("query"), "gateway") => json!({"pattern": GATEWAY}),
        (Some("query"), "sensor" | "id" | "device" | "device_id") => json!({"minLength": 1}),
        (Some("query"), "quantity") => json!({"enum": QUANTITIES.map(Quantity::name)}),
        (Some("query"), "format") => json!({"enum": export::names().collect::<Vec<_>>()}),
        (Some("query"), "from" | "to") => json!({"format": "date-time"}),
        (Some("path"), _) => json!({"minLength": 1}),
        (Some("header"), "If-Match") => json!({"pattern": r#"^(\*|"?[0-9]{1,18}"?)$"#}),
        _ => return,
    };
    if empty {
        one["anyOf"] = json!([same, {"maxLength": 0}]);
        return;
    }
    for (key, value) in same.as_object().into_iter().flatten() {
        one[key] = value.clone();
    }
}

/// What a `GatewayId` may be.
const GATEWAY: &str = "^[A-Za-z0-9._-]{1,64}$";

fn no_null(schema: &mut Value) {
    if let Some(types) = schema.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|kind| kind != "null");
        if let [only] = &types[..] {
            schema["type"] = only.clone();
        }
    }
    if let Some(either) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        either.retain(|one| one["type"] != "null");
        if let [only] = &either[..] {
            *schema = only.clone();
        }
    }
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
