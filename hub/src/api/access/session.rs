//! `POST /api/v1/login`, `POST /api/v1/logout`, `GET /api/v1/me`, `PUT /api/v1/me/password`.

use axum::{
    Extension, Json,
    extract::{
        State,
        rejection::{ExtensionRejection, JsonRejection},
    },
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    super::{ApiError, Complaint, Context, Object},
    guard::{COOKIE, Way},
};
use crate::access::{AccessError, Role, Scope, Via, Who, now_s};

/// Who wants to log in: a person by name and password, or a page by a key.
#[derive(Deserialize, ToSchema)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Credentials {
    /// A person.
    Person {
        /// The user's.
        name: String,
        /// The user's.
        password: String,
    },
    /// A page that was opened with a key; its cookie holds the key itself.
    Key {
        /// `swk_…`
        key: String,
    },
}

/// A person.
#[derive(Serialize, ToSchema)]
pub(super) struct Person {
    name: String,
    role: Role,
}

/// Who is logged in now.
#[derive(Serialize, ToSchema)]
pub(super) struct LoggedIn {
    /// `null` for a key.
    user: Option<Person>,
    /// To be sent as `Authorization: Bearer`; a browser has it as a cookie too.
    token: String,
    /// When it ends unless it is used, RFC 3339; `null` for a key, which ends when it does.
    expires: Option<String>,
}

/// Who asks.
#[derive(Serialize, ToSchema)]
pub(super) struct Me {
    /// `null` for a key, and when nobody is asked.
    user: Option<Person>,
    /// `null` for a key that may only send.
    role: Option<Role>,
    /// How he came in.
    via: Via,
    /// `null` for a person.
    key: Option<MyKey>,
}

/// The key that was asked with.
#[derive(Serialize, ToSchema)]
pub(super) struct MyKey {
    id: String,
    name: String,
    scopes: Vec<Scope>,
}

/// A new password, by whoever knows the old one.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPassword {
    /// The one until now.
    password: String,
    /// 12 characters or more.
    #[schema(min_length = 12, format = Password)]
    new_password: String,
}

/// Logs in.
#[utoipa::path(
    post, path = "/api/v1/login", tag = "access", request_body = Credentials,
    responses(
        (status = 200, body = LoggedIn), (status = 400, body = Complaint), (status = 401, body = Complaint),
        (status = 403, body = Complaint), (status = 429, body = Complaint), (status = 503, body = Complaint),
    )
)]
pub(super) async fn login(
    State(context): State<Context>,
    Extension(way): Extension<Way>,
    credentials: Result<Json<Object<Credentials>>, JsonRejection>,
) -> Result<Response, AccessError> {
    // What was sent is not told back: it has a password in it.
    let wanted =
        || AccessError::Asked("wanted JSON: {\"name\":\"…\",\"password\":\"…\"} or {\"key\":\"swk_…\"}".into());
    let access = &context.permissions.access;
    let (told, lasts_s) = match credentials.map_err(|_| wanted())?.0.0 {
        Credentials::Person { name, password } => {
            let login = access.login(&name, password, way.from).await?;
            let person = Person { name: login.user, role: login.role };
            let expires = jiff::Timestamp::from_second(login.until_s).ok().map(|t| t.to_string());
            (LoggedIn { user: Some(person), token: login.token, expires }, Some(login.until_s - now_s()))
        }
        Credentials::Key { key } => {
            let known = access.resolve(&key).filter(|who| who.via() == Via::Key);
            known.ok_or(AccessError::Wrong)?;
            (LoggedIn { user: None, token: key, expires: None }, None)
        }
    };
    let cookie = cookie(&told.token, lasts_s, way.encrypted);
    let mut response = Json(told).into_response();
    response.headers_mut().extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Ends the session that asks, and takes the cookie back.
#[utoipa::path(
    post, path = "/api/v1/logout", tag = "access",
    responses((status = 204), (status = 401, body = Complaint), (status = 503, body = Complaint))
)]
pub(super) async fn logout(
    State(context): State<Context>,
    Extension(way): Extension<Way>,
    Extension(who): Extension<Who>,
) -> Result<Response, AccessError> {
    context.permissions.access.logout(&who).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().extend(cookie("", Some(0), way.encrypted).map(|cookie| (header::SET_COOKIE, cookie)));
    Ok(response)
}

/// Who asks.
#[utoipa::path(
    get, path = "/api/v1/me", tag = "access", responses((status = 200, body = Me), (status = 503, body = Complaint))
)]
pub(super) async fn me(who: Result<Extension<Who>, ExtensionRejection>) -> Result<Json<Me>, ApiError> {
    let Extension(who) = who.map_err(|_| ApiError::Stopping)?;
    let role = who.role();
    let user = who.user().zip(role).map(|(name, role)| Person { name: name.into(), role });
    let key = who.key().map(|(id, name, scopes)| MyKey { id: id.into(), name: name.into(), scopes: scopes.list() });
    Ok(Json(Me { user, role, via: who.via(), key }))
}

/// Gives the person who asks another password. All of his sessions end.
#[utoipa::path(
    put, path = "/api/v1/me/password", tag = "access", request_body = NewPassword,
    responses(
        (status = 204), (status = 400, body = Complaint), (status = 401, body = Complaint),
        (status = 403, body = Complaint), (status = 429, body = Complaint), (status = 503, body = Complaint),
    )
)]
pub(super) async fn change_password(
    State(context): State<Context>,
    Extension(who): Extension<Who>,
    new: Result<Json<Object<NewPassword>>, JsonRejection>,
) -> Result<StatusCode, AccessError> {
    let wanted = || AccessError::Asked("wanted JSON: {\"password\":\"…\",\"new_password\":\"…\"}".into());
    let Json(Object(NewPassword { password, new_password })) = new.map_err(|_| wanted())?;
    let changed = context.permissions.access.change_password(&who, password, new_password).await;
    changed?;
    Ok(StatusCode::NO_CONTENT)
}

/// Scripts do not see it, other pages' requests do not carry it, and an encrypted page's does not go out unencrypted.
fn cookie(token: &str, lasts_s: Option<i64>, encrypted: bool) -> Option<HeaderValue> {
    let lasts = lasts_s.map(|s| format!("; Max-Age={s}")).unwrap_or_default();
    let secure = if encrypted { "; Secure" } else { "" };
    let text = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict{secure}{lasts}");
    // A key that was found is one of ours, and so has nothing in it that a header may not have.
    HeaderValue::from_str(&text).ok()
}
