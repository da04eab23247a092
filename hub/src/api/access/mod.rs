//! Logging in, and who may do what; and the guard that stands before every route.

mod admin;
mod guard;
mod session;

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) use guard::{COOKIE, Gate, guard};
pub use guard::{Peer, Permissions};

use super::{Complaint, Context};
use crate::access::{AccessError, BookError};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new()
        .routes(routes!(session::login))
        .routes(routes!(session::logout))
        .routes(routes!(session::me))
        .routes(routes!(session::change_password))
        .routes(routes!(admin::users, admin::add_user))
        .routes(routes!(admin::change_user, admin::remove_user))
        .routes(routes!(admin::keys, admin::add_key))
        .routes(routes!(admin::revoke_key))
        .routes(routes!(admin::audit))
}

impl IntoResponse for AccessError {
    fn into_response(self) -> Response {
        use StatusCode as S;
        let (status, again) = match &self {
            AccessError::Asked(_) => (S::BAD_REQUEST, None),
            AccessError::Wrong => (S::UNAUTHORIZED, None),
            AccessError::Wait(wait) => (S::TOO_MANY_REQUESTS, Some(wait.as_secs() + 1)),
            AccessError::Busy => (S::TOO_MANY_REQUESTS, Some(1)),
            AccessError::Stopping => (S::SERVICE_UNAVAILABLE, Some(10)),
            AccessError::Book(book) => match book {
                BookError::Name(_) | BookError::Key(_) | BookError::Password(_) => (S::BAD_REQUEST, None),
                BookError::Unknown(..) => (S::NOT_FOUND, None),
                BookError::Taken(..) | BookError::LastAdministrator(_) | BookError::Full(..) => (S::CONFLICT, None),
                error => {
                    tracing::error!(%error, "users and keys cannot be read or changed");
                    let error = "users and keys cannot be read or changed now; the hub's log says why".into();
                    let again = [(header::RETRY_AFTER, "10")];
                    return (S::SERVICE_UNAVAILABLE, again, Json(Complaint { error })).into_response();
                }
            },
        };
        let mut response = (status, Json(Complaint { error: self.to_string() })).into_response();
        if let Some(seconds) = again {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
