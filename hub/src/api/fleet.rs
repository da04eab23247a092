//! Customers, their vehicles and the gateways these carry: `/api/v1/customers`, `/api/v1/vehicles`, and the alias
//! `GET /vehicles/`.
//!
//! A change is answered once it is on disk. `If-Match` with the version of an earlier answer (its `ETag`) makes sure that
//! nobody else has changed it meanwhile.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Deserializer, Serialize};
use speedwell_wire::GatewayId;
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};

use super::{ApiError, Complaint, Context, Named, Object, within};
use crate::{
    access::Who,
    ingest::gate::{Outcome, REFUSED},
    store::{
        Read, StoreError, Work,
        fleet::{Customer, FleetChange, FleetRefused, FleetSaved, MAX_REGISTERED, Vehicle},
    },
};

/// Rows on a page when none are asked for, and the most.
const PAGE: (usize, usize) = (100, 1_000);
/// Longest wait for a commit; who waits longer is told that nobody knows.
const COMMIT_WITHIN: Duration = Duration::from_secs(10);
/// Letters of an id that the hub makes: no two of 10,000 will ever be alike, and if so the second is refused.
const ID_LETTERS: usize = 10;

/// Why a client does not get what it wants.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Fleet(#[from] FleetRefused),
    #[error("{0}")]
    Body(String),
    #[error("If-Match {0:?}: wanted the version of an earlier answer, as \"3\"")]
    IfMatch(String),
    /// Refused before it was begun: the store does not work.
    #[error("nothing can be stored now: {0}")]
    StoreDown(String),
    #[error("too many changes wait; come again")]
    Busy,
    #[error("{REFUSED}")]
    Refused,
    #[error("it is not known whether this was stored: look, and send it again if it was not")]
    Unanswered,
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Refusal::Api(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        use FleetRefused as F;
        use StatusCode as S;
        let status = match &self {
            Refusal::Fleet(F::Missing { .. }) => S::NOT_FOUND,
            Refusal::Fleet(F::UnknownCustomer(_) | F::Wrong(_)) | Refusal::Refused => S::UNPROCESSABLE_ENTITY,
            Refusal::Fleet(F::Outdated { .. }) => S::PRECONDITION_FAILED,
            Refusal::Fleet(_) => S::CONFLICT,
            Refusal::Body(_) | Refusal::IfMatch(_) => S::BAD_REQUEST,
            Refusal::StoreDown(_) | Refusal::Busy | Refusal::Unanswered => S::SERVICE_UNAVAILABLE,
            Refusal::Api(_) => {
                let Refusal::Api(error) = self else { return S::INTERNAL_SERVER_ERROR.into_response() };
                return error.into_response();
            }
        };
        let mut response = (status, Json(Complaint { error: self.to_string() })).into_response();
        if status == S::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("2"));
        }
        response
    }
}

/// A page.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Those whose id comes after this one: `next` of the page before.
    #[serde(default)]
    after: String,
    /// At most so many, 1 to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

impl Page {
    fn limit(&self) -> Result<usize, ApiError> {
        within("limit", self.limit, PAGE.0, PAGE.1)
    }
}

/// Customers by id.
#[derive(Serialize, ToSchema)]
pub(super) struct Customers {
    customers: Vec<Customer>,
    /// What to pass as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Vehicles by id.
#[derive(Serialize, ToSchema)]
pub(super) struct Vehicles {
    vehicles: Vec<Vehicle>,
    /// What to pass as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A customer to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCustomer {
    /// Made by the hub when left out.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    id: Option<String>,
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    #[serde(default)]
    #[schema(max_length = 512)]
    address: String,
}

/// What is to change of a customer; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CustomerPatch {
    #[schema(min_length = 1, max_length = 128)]
    name: Option<String>,
    #[schema(max_length = 512)]
    address: Option<String>,
}

/// A vehicle to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewVehicle {
    /// Made by the hub when left out.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    id: Option<String>,
    /// Its plate.
    #[schema(min_length = 1, max_length = 32)]
    registration: String,
    #[serde(default)]
    #[schema(max_length = 128)]
    name: String,
    /// The id of one that is registered.
    customer: Option<String>,
    /// May be such that have never been heard yet.
    #[serde(default)]
    #[schema(max_items = 16)]
    gateways: Vec<String>,
}

/// What is to change of a vehicle; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VehiclePatch {
    #[schema(min_length = 1, max_length = 32)]
    registration: Option<String>,
    #[schema(max_length = 128)]
    name: Option<String>,
    /// `null` makes it nobody's.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<String>)]
    customer: Option<Option<String>>,
    /// All that it carries from now on.
    #[schema(max_items = 16)]
    gateways: Option<Vec<String>>,
}

/// Tells `null` from what is left out.
fn told<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(d).map(Some)
}

/// Who gets the vehicles of a customer that goes.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Heir {
    /// The customer who gets them.
    vehicles_to: Option<String>,
}

type Body<T> = Result<Json<Object<T>>, JsonRejection>;

fn body<T>(body: Body<T>) -> Result<T, Refusal> {
    body.map(|Json(Object(body))| body).map_err(|error| Refusal::Body(error.body_text()))
}

fn asked<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query.map(|Query(asked)| asked).map_err(|error| ApiError::BadQuery(error.body_text()))
}

fn gateways(names: Vec<String>) -> Result<Vec<GatewayId>, Refusal> {
    let one = |name| GatewayId::new(name).map_err(|error| FleetRefused::Wrong(error.to_string()));
    Ok(names.into_iter().map(one).collect::<Result<_, _>>()?)
}

/// The version that a change is meant for.
fn version(headers: &HeaderMap) -> Result<Option<i64>, Refusal> {
    let Some(asked) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = asked.to_str().unwrap_or_default();
    let bare = text.trim().trim_matches('"');
    match bare {
        "*" => Ok(None),
        _ => bare.parse().map(Some).map_err(|_| Refusal::IfMatch(text.into())),
    }
}

fn new_id() -> String {
    (0..ID_LETTERS).map(|_| fastrand::lowercase()).collect()
}

/// With its version as `ETag`.
fn one<T: Serialize>(status: StatusCode, version: i64, thing: T) -> Response {
    (status, [(header::ETAG, format!("\"{version}\""))], Json(thing)).into_response()
}

/// What a change is in the audit log.
fn noted(change: &FleetChange) -> (&'static str, String) {
    let (what, id) = match change {
        FleetChange::AddCustomer(new) => ("customer-added", &new.id),
        FleetChange::ChangeCustomer { id, .. } => ("customer-changed", id),
        FleetChange::DropCustomer { id, .. } => ("customer-removed", id),
        FleetChange::AddVehicle(new) => ("vehicle-added", &new.id),
        FleetChange::ChangeVehicle { id, .. } => ("vehicle-changed", id),
        FleetChange::DropVehicle { id, .. } => ("vehicle-removed", id),
    };
    (what, id.clone())
}

/// Has a change made and noted, and tells what stands then.
async fn make(context: &Context, who: &Who, change: FleetChange, status: StatusCode) -> Result<Response, Refusal> {
    let desk = context.desk.as_ref().ok_or(Refusal::Busy)?;
    if let Some(why) = desk.trouble.borrow().clone() {
        return Err(Refusal::StoreDown(why));
    }
    let room = context.changes.try_room().ok_or(Refusal::Busy)?;
    let (what, id) = noted(&change);
    let of_customer = what.starts_with("customer");
    let made = desk.hand_in(Work::Fleet(change), Some(room)).map_err(|_| Refusal::Busy)?;
    let made = timeout(COMMIT_WITHIN, made).await.map_err(|_| Refusal::Unanswered)?;
    let made = match made {
        Ok(Outcome::Fleet(made)) => made?,
        Ok(Outcome::Refused(_)) => return Err(Refusal::Refused),
        _ => return Err(Refusal::Unanswered),
    };
    context.permissions.access.audit().note(who, what, &id).await;
    // Who is told that a vehicle is there finds it among those that are connected or not.
    if let Err(error) = context.presence.reload(context.reader.clone()).await {
        tracing::warn!(%error, "a change was made, and who is connected learns of it later");
    }
    if of_customer {
        context.board.tell("registry", &[], &serde_json::json!({ "kind": "customer", "id": id }));
    }
    Ok(match made {
        FleetSaved::Customer(customer) => one(status, customer.version, customer),
        FleetSaved::Vehicle(vehicle) => one(status, vehicle.version, vehicle),
        FleetSaved::Dropped => StatusCode::NO_CONTENT.into_response(),
    })
}

/// Asks the store, as one of [`super::MAX_QUERIES`].
pub(super) async fn ask<T: Send + 'static>(
    context: &Context,
    what: impl FnOnce(&dyn Read) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let permit = context.queries.clone().acquire_owned().await.map_err(|_| ApiError::Stopping)?;
    let reader = context.reader.clone();
    let answer = tokio::task::spawn_blocking(move || {
        let answer = what(&*reader);
        drop(permit);
        answer
    });
    Ok(answer.await.map_err(|_| ApiError::Stopping)??)
}

/// Customers, by id.
#[utoipa::path(get, path = "/api/v1/customers", tag = "fleet", params(Page), responses(
    (status = 200, body = Customers), (status = 400, body = Complaint), (status = 503, body = Complaint)))]
pub(super) async fn customers(
    State(context): State<Context>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Customers>, ApiError> {
    let page = asked(page)?;
    let limit = page.limit()?;
    let customers = ask(&context, move |reader| reader.customers(&page.after, limit)).await?;
    let next = (customers.len() == limit).then(|| customers.last().map(|c| c.id.clone())).flatten();
    Ok(Json(Customers { customers, next }))
}

/// One customer.
#[utoipa::path(get, path = "/api/v1/customers/{id}", tag = "fleet", responses(
    (status = 200, body = Customer, headers(("ETag" = String, description = "its version, for `If-Match`"))),
    (status = 400, body = Complaint), (status = 404, body = Complaint), (status = 503, body = Complaint)))]
pub(super) async fn customer(State(context): State<Context>, Named(id): Named) -> Result<Response, Refusal> {
    let wanted = id.clone();
    let found = ask(&context, move |reader| reader.customer(&wanted)).await?;
    let found = found.ok_or(FleetRefused::Missing { what: "customer", id })?;
    Ok(one(StatusCode::OK, found.version, found))
}

/// Registers a customer.
#[utoipa::path(post, path = "/api/v1/customers", tag = "fleet", request_body = NewCustomer, responses(
    (status = 201, body = Customer, headers(("ETag" = String, description = "its version, for `If-Match`"))), (status = 400, body = Complaint),
    (status = 409, body = Complaint, description = "the id is another's, or there are too many"),
    (status = 422, body = Complaint), (status = 503, body = Complaint)))]
pub(super) async fn add_customer(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    new: Body<NewCustomer>,
) -> Result<Response, Refusal> {
    let NewCustomer { id, name, address } = body(new)?;
    let new = Customer { id: id.unwrap_or_else(new_id), name, address, version: 1 };
    make(&context, &who, FleetChange::AddCustomer(new), StatusCode::CREATED).await
}

/// Changes a customer.
#[utoipa::path(patch, path = "/api/v1/customers/{id}", tag = "fleet", request_body = CustomerPatch,
    params(("If-Match" = Option<String>, Header, description = "the version it has to have, as the `ETag` of an earlier answer")), responses(
    (status = 200, body = Customer, headers(("ETag" = String, description = "its version, for `If-Match`"))), (status = 400, body = Complaint), (status = 404, body = Complaint),
    (status = 412, body = Complaint), (status = 422, body = Complaint), (status = 503, body = Complaint)))]
pub(super) async fn change_customer(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    Named(id): Named,
    headers: HeaderMap,
    patch: Body<CustomerPatch>,
) -> Result<Response, Refusal> {
    let (version, CustomerPatch { name, address }) = (version(&headers)?, body(patch)?);
    make(&context, &who, FleetChange::ChangeCustomer { id, name, address, version }, StatusCode::OK).await
}

/// Removes a customer, who must have no vehicles unless another gets them.
#[utoipa::path(delete, path = "/api/v1/customers/{id}", tag = "fleet", params(Heir,
    ("If-Match" = Option<String>, Header, description = "the version it has to have, as the `ETag` of an earlier answer")), responses(
    (status = 204), (status = 400, body = Complaint), (status = 404, body = Complaint),
    (status = 409, body = Complaint, description = "the customer has vehicles"), (status = 412, body = Complaint),
    (status = 422, body = Complaint), (status = 503, body = Complaint)))]
pub(super) async fn drop_customer(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    Named(id): Named,
    headers: HeaderMap,
    heir: Result<Query<Heir>, QueryRejection>,
) -> Result<Response, Refusal> {
    let (version, heir) = (version(&headers)?, asked(heir)?.vehicles_to);
    make(&context, &who, FleetChange::DropCustomer { id, heir, version }, StatusCode::NO_CONTENT).await
}

/// Vehicles, by id.
#[utoipa::path(get, path = "/api/v1/vehicles", tag = "fleet", params(Page), responses(
    (status = 200, body = Vehicles), (status = 400, body = Complaint), (status = 503, body = Complaint)))]
pub(super) async fn vehicles(
    State(context): State<Context>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Vehicles>, ApiError> {
    let page = asked(page)?;
    let limit = page.limit()?;
    let vehicles = ask(&context, move |reader| reader.vehicles(&page.after, limit)).await?;
    let next = (vehicles.len() == limit).then(|| vehicles.last().map(|v| v.id.clone())).flatten();
    Ok(Json(Vehicles { vehicles, next }))
}

/// One vehicle.
#[utoipa::path(get, path = "/api/v1/vehicles/{id}", tag = "fleet", responses(
    (status = 200, body = Vehicle, headers(("ETag" = String, description = "its version, for `If-Match`"))),
    (status = 400, body = Complaint), (status = 404, body = Complaint), (status = 503, body = Complaint)))]
pub(super) async fn vehicle(State(context): State<Context>, Named(id): Named) -> Result<Response, Refusal> {
    let wanted = id.clone();
    let found = ask(&context, move |reader| reader.vehicle(&wanted)).await?;
    let found = found.ok_or(FleetRefused::Missing { what: "vehicle", id })?;
    Ok(one(StatusCode::OK, found.version, found))
}

/// Registers a vehicle.
#[utoipa::path(post, path = "/api/v1/vehicles", tag = "fleet", request_body = NewVehicle, responses(
    (status = 201, body = Vehicle, headers(("ETag" = String, description = "its version, for `If-Match`"))), (status = 400, body = Complaint),
    (status = 409, body = Complaint, description = "the id, the registration or a gateway is another's"),
    (status = 422, body = Complaint), (status = 503, body = Complaint)))]
pub(super) async fn add_vehicle(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    new: Body<NewVehicle>,
) -> Result<Response, Refusal> {
    let NewVehicle { id, registration, name, customer, gateways: names } = body(new)?;
    let (id, gateways) = (id.unwrap_or_else(new_id), gateways(names)?);
    let new = Vehicle { id, registration, name, customer, gateways, version: 1 };
    make(&context, &who, FleetChange::AddVehicle(new), StatusCode::CREATED).await
}

/// Changes a vehicle.
#[utoipa::path(patch, path = "/api/v1/vehicles/{id}", tag = "fleet", request_body = VehiclePatch,
    params(("If-Match" = Option<String>, Header, description = "the version it has to have, as the `ETag` of an earlier answer")), responses(
    (status = 200, body = Vehicle, headers(("ETag" = String, description = "its version, for `If-Match`"))), (status = 400, body = Complaint), (status = 404, body = Complaint),
    (status = 409, body = Complaint, description = "the registration or a gateway is another's"),
    (status = 412, body = Complaint), (status = 422, body = Complaint), (status = 503, body = Complaint)))]
pub(super) async fn change_vehicle(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    Named(id): Named,
    headers: HeaderMap,
    patch: Body<VehiclePatch>,
) -> Result<Response, Refusal> {
    let (version, VehiclePatch { registration, name, customer, gateways: names }) = (version(&headers)?, body(patch)?);
    let gateways = names.map(gateways).transpose()?;
    let change = FleetChange::ChangeVehicle { id, registration, name, customer, gateways, version };
    make(&context, &who, change, StatusCode::OK).await
}

/// Removes a vehicle. Its gateways are on no vehicle then.
#[utoipa::path(delete, path = "/api/v1/vehicles/{id}", tag = "fleet",
    params(("If-Match" = Option<String>, Header, description = "the version it has to have, as the `ETag` of an earlier answer")), responses(
    (status = 204), (status = 400, body = Complaint), (status = 404, body = Complaint),
    (status = 412, body = Complaint), (status = 422, body = Complaint), (status = 503, body = Complaint)))]
pub(super) async fn drop_vehicle(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    Named(id): Named,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let version = version(&headers)?;
    make(&context, &who, FleetChange::DropVehicle { id, version }, StatusCode::NO_CONTENT).await
}

/// A vehicle in the words of the alias.
#[derive(Serialize, ToSchema)]
pub(super) struct Monitored {
    id: String,
    reg_nr: String,
    /// Empty when it is nobody's.
    owner_name: String,
    owner_address: String,
    /// Whether one of its gateways is connected.
    up: bool,
}

/// Every vehicle, and whether it is connected.
#[utoipa::path(get, path = "/vehicles/", tag = "aliases", responses(
    (status = 200, body = Vec<Monitored>), (status = 503, body = Complaint)))]
pub(super) async fn monitored(State(context): State<Context>) -> Result<Json<Vec<Monitored>>, ApiError> {
    let all = |reader: &dyn Read| Ok((reader.vehicles("", REGISTERED)?, reader.customers("", REGISTERED)?));
    let (vehicles, customers) = ask(&context, all).await?;
    let up = context.presence.connected_vehicles();
    let monitored = |vehicle: Vehicle| {
        let place = |id: &String| customers.binary_search_by(|c| c.id.cmp(id)).ok();
        let owner = vehicle.customer.as_ref().and_then(place).and_then(|at| customers.get(at));
        Monitored {
            up: up.contains(&vehicle.id),
            reg_nr: vehicle.registration,
            owner_name: owner.map(|c| c.name.clone()).unwrap_or_default(),
            owner_address: owner.map(|c| c.address.clone()).unwrap_or_default(),
            id: vehicle.id,
        }
    };
    Ok(Json(vehicles.into_iter().map(monitored).collect()))
}

const REGISTERED: usize = MAX_REGISTERED as usize;
