//! `/api/v1/users`, `/api/v1/keys`, `GET /api/v1/audit`: for administrators.

use axum::{
    Extension, Json,
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::{Complaint, Context, Named, Object, within};
use crate::access::{
    AccessError, BookError, NewKey, Role, Scope, Who,
    book::{AuditPage, Key, MAX_AUDIT_PAGE, User, checked_name},
};

/// Everybody who may log in.
#[derive(Serialize, ToSchema)]
pub(super) struct Users {
    users: Vec<User>,
}

/// Somebody new.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    /// 1 to 64 of a-z 0-9 . _ - @, the first a letter or a digit; capitals become small.
    #[schema(min_length = 1)]
    name: String,
    /// What for.
    role: Role,
    /// 12 characters or more.
    #[schema(min_length = 12, format = Password)]
    password: String,
}

/// What of a user is to be otherwise.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserChange {
    /// Another role.
    role: Option<Role>,
    /// Another password; ends the user's sessions.
    #[schema(min_length = 12, format = Password)]
    password: Option<String>,
}

/// All keys, without what they are known by.
#[derive(Serialize, ToSchema)]
pub(super) struct Keys {
    keys: Vec<Key>,
}

/// A key that is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AskedKey {
    /// What it is for.
    name: String,
    /// What it allows.
    #[schema(min_items = 1)]
    scopes: Vec<Scope>,
    /// When it ends, RFC 3339 with a zone; never when left out.
    #[schema(format = DateTime)]
    expires: Option<String>,
}

/// A key that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeKey {
    /// What it is revoked by.
    id: String,
    /// The key itself. It is told here and never again.
    key: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct AskedAudit {
    /// The `next` of the page before.
    after: Option<i64>,
    /// At most so many notes, up to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

type Refused = Result<StatusCode, AccessError>;

fn body<T>(body: Result<Json<Object<T>>, JsonRejection>, wanted: &str) -> Result<T, AccessError> {
    // What was sent is not told back: it may have a password in it.
    body.map(|Json(Object(body))| body).map_err(|_| AccessError::Asked(format!("wanted JSON: {wanted}")))
}

/// Everybody who may log in.
#[utoipa::path(
    get, path = "/api/v1/users", tag = "access",
    responses((status = 200, body = Users), (status = 503, body = Complaint))
)]
pub(super) async fn users(State(context): State<Context>) -> Result<Json<Users>, AccessError> {
    let users = context.permissions.access.ask(|book| book.users()).await?;
    Ok(Json(Users { users }))
}

/// Lets somebody in.
#[utoipa::path(
    post, path = "/api/v1/users", tag = "access", request_body = NewUser,
    responses(
        (status = 201), (status = 400, body = Complaint),
        (status = 409, body = Complaint), (status = 429, body = Complaint), (status = 503, body = Complaint),
    )
)]
pub(super) async fn add_user(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    new: Result<Json<Object<NewUser>>, JsonRejection>,
) -> Refused {
    let NewUser { name, role, password } = body(new, r#"{"name":"…","role":"viewer","password":"…"}"#)?;
    let added = context.permissions.access.add_user(who.by(), name, role, password).await;
    added?;
    Ok(StatusCode::CREATED)
}

/// Gives a user another role or another password. One administrator has to be left.
#[utoipa::path(
    patch, path = "/api/v1/users/{name}", tag = "access", request_body = UserChange,
    params(("name" = String, Path, description = "the user's")),
    responses(
        (status = 204), (status = 400, body = Complaint),
        (status = 404, body = Complaint), (status = 409, body = Complaint), (status = 503, body = Complaint),
    )
)]
pub(super) async fn change_user(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    Named(name): Named,
    change: Result<Json<Object<UserChange>>, JsonRejection>,
) -> Refused {
    let UserChange { role, password } = body(change, r#"{"role":"viewer"} or {"password":"…"}, or both"#)?;
    let access = &context.permissions.access;
    let name = checked_name(&name)?;
    if role.is_none() && password.is_none() {
        // Nothing is to be changed, but of somebody who is not there that is not true either.
        let users = access.ask(|book| book.users()).await?;
        users.iter().find(|user| user.name == name).ok_or(BookError::Unknown("user", name))?;
        return Ok(StatusCode::NO_CONTENT);
    }
    access.change_user(who.by(), name, role, password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets somebody in no more, and ends his sessions. One administrator has to be left.
#[utoipa::path(
    delete, path = "/api/v1/users/{name}", tag = "access", params(("name" = String, Path, description = "the user's")),
    responses(
        (status = 204), (status = 400, body = Complaint),
        (status = 404, body = Complaint), (status = 409, body = Complaint), (status = 503, body = Complaint),
    )
)]
pub(super) async fn remove_user(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    Named(name): Named,
) -> Refused {
    let by = who.by();
    let removed = context.permissions.access.change(move |book| book.remove_user(&by, &name, true)).await;
    removed?;
    Ok(StatusCode::NO_CONTENT)
}

/// All keys.
#[utoipa::path(
    get, path = "/api/v1/keys", tag = "access",
    responses((status = 200, body = Keys), (status = 503, body = Complaint))
)]
pub(super) async fn keys(State(context): State<Context>) -> Result<Json<Keys>, AccessError> {
    let keys = context.permissions.access.ask(|book| book.keys()).await?;
    Ok(Json(Keys { keys }))
}

/// Makes a key for a program.
#[utoipa::path(
    post, path = "/api/v1/keys", tag = "access", request_body = AskedKey,
    responses(
        (status = 201, body = MadeKey), (status = 400, body = Complaint),
        (status = 409, body = Complaint), (status = 503, body = Complaint),
    )
)]
pub(super) async fn add_key(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    asked: Result<Json<Object<AskedKey>>, JsonRejection>,
) -> Result<Response, AccessError> {
    let wanted = r#"{"name":"…","scopes":["read","ingest","admin"],"expires":"2030-01-01T00:00:00Z"}"#;
    let AskedKey { name, scopes, expires } = body(asked, wanted)?;
    let until_s = expires.map(|text| text.parse::<jiff::Timestamp>().map(|t| t.as_second()));
    let no_time = |_| AccessError::Asked("expires: wanted an RFC 3339 time with a zone".into());
    let until_s = until_s.transpose().map_err(no_time)?;
    let (by, new) = (who.by(), NewKey { name, scopes: scopes.into_iter().collect(), until_s });
    let made = context.permissions.access.change(move |book| book.add_key(&by, &new)).await;
    let (id, key) = made?;
    Ok((StatusCode::CREATED, Json(MadeKey { id, key })).into_response())
}

/// Ends a key at once.
#[utoipa::path(
    delete, path = "/api/v1/keys/{id}", tag = "access", params(("id" = String, Path, description = "the key's id or its name")),
    responses(
        (status = 204), (status = 400, body = Complaint), (status = 404, body = Complaint),
        (status = 503, body = Complaint),
    )
)]
pub(super) async fn revoke_key(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    Named(id): Named,
) -> Refused {
    let by = who.by();
    let revoked = context.permissions.access.change(move |book| book.revoke_key(&by, &id)).await;
    revoked?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who changed what, the newest first.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "access", params(AskedAudit),
    responses((status = 200, body = AuditPage), (status = 400, body = Complaint), (status = 503, body = Complaint))
)]
pub(super) async fn audit(
    State(context): State<Context>,
    asked: Result<Query<AskedAudit>, QueryRejection>,
) -> Result<Json<AuditPage>, AccessError> {
    let bad = |e: QueryRejection| AccessError::Asked(e.body_text());
    let Query(AskedAudit { after, limit }) = asked.map_err(bad)?;
    let limit = within("limit", limit, 100, MAX_AUDIT_PAGE).map_err(|e| AccessError::Asked(e.to_string()))?;
    let page = context.permissions.access.ask(move |book| book.audit(after, limit)).await;
    Ok(Json(page?))
}
