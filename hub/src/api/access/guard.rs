//! Stands before every route: who asks, whether he may, and whether not too often.
//!
//! In      a request, and the [`Peer`] it came from.
//! Out     the same with a [`Who`] among its extensions; or 401 and how to log in, 403 and what lacks, 429 and how long to
//!         wait. An answer that goes on for long ends when what it was asked with does.
//!
//! A token comes as `Authorization: Bearer`, or as the cookie of a page. Browsers send cookies along with what other
//! pages make them ask, so what comes with one has to come from the hub's own pages.

use std::{
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use axum::{
    Json,
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::body::Frame;

use super::super::{Complaint, readings::Source};
use crate::{
    access::{Access, Need, Network, Who, client, rules, trusted},
    config::Origin,
};

/// The cookie of a page that is logged in.
pub(in crate::api) const COOKIE: &str = "speedwell";
/// How a browser keeps what a preflight allowed.
const PREFLIGHT_FOR_S: &str = "600";

/// The other end of a connection; whoever takes connections puts it among a request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

/// Who may do what, and whom to believe.
#[derive(Clone)]
pub struct Permissions {
    /// Users and keys.
    pub access: Access,
    /// Places whose pages may ask.
    pub allow_origins: Vec<Origin>,
    /// Whose word about addresses is believed.
    pub proxies: Vec<Network>,
}

/// What the guard works with.
pub(in crate::api) type Gate = Arc<Permissions>;

/// A request's way here, for handlers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// The client's address.
    pub(super) from: IpAddr,
    /// Whether it was encrypted all the way.
    pub(super) encrypted: bool,
}

/// How somebody says who he is.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Header,
    Cookie,
}

/// A request that goes no further.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("log in first, or send a key: Authorization: Bearer swk_…")]
    Unknown,
    #[error("this token or key is not known, has ended or was revoked")]
    Ended,
    #[error("this wants {0}")]
    Lacks(Need),
    #[error(
        "this wants {0}; make the first administrator on the hub's machine: speedwell-hub user add NAME --role admin"
    )]
    NobodyYet(Need),
    #[error("a page of another origin may not do this")]
    Origin,
    #[error(
        "this hub asks nobody who he is, and so answers only this machine, by a name of its own; to serve others, make the \
         first administrator: speedwell-hub user add NAME --role admin"
    )]
    Host,
    #[error("too many requests; the limit is [access] in the hub's configuration")]
    Often(Duration),
}

/// See the module.
pub(in crate::api) async fn guard(gate: &Permissions, need: Need, mut request: Request, next: Next) -> Response {
    let allowed = allowed_origin(gate, request.headers());
    if let Some(preflight) = allowed.as_ref().and_then(|_| preflight(&request)) {
        return with_origin(preflight, allowed);
    }
    let response = match gate.admit(need, &mut request) {
        Ok(who) => {
            let response = next.run(request).await;
            match who {
                // An answer whose length is not known goes on for as long as there is something to say.
                Some(who) if response.body().size_hint().exact().is_none() => response.map(|body| ends_with(who, body)),
                _ => response,
            }
        }
        Err(refusal) => refusal.into_response(),
    };
    with_origin(response, allowed)
}

impl Permissions {
    fn admit(&self, need: Need, request: &mut Request) -> Result<Option<Who>, Refusal> {
        let way = self.way(request);
        let headers = request.headers();
        let told = token(headers);
        let known = told.and_then(|(token, by)| Some((self.access.resolve(token)?.at(way.from), by)));
        let (who, by) = match known {
            Some((who, by)) => {
                self.access.take(&who).map_err(Refusal::Often)?;
                (Some(who), Some(by))
            }
            None => {
                self.access.take_stranger(way.from).map_err(Refusal::Often)?;
                (self.anyone(request, way)?, None)
            }
        };
        let changes = !rules::is_safe(request.method().as_str()) || headers.contains_key(header::UPGRADE);
        if changes && by != Some(By::Header) && !same_origin(headers) {
            return Err(Refusal::Origin);
        }
        match &who {
            _ if need == Need::Nothing => {}
            None if told.is_some() => return Err(Refusal::Ended),
            None => return Err(Refusal::Unknown),
            Some(who) if who.may(need) => {}
            Some(_) if !self.access.is_on() => return Err(Refusal::NobodyYet(need)),
            Some(_) => return Err(Refusal::Lacks(need)),
        }
        // Each is a piece of memory, and who sends readings one by one sends many: the way of those asks for no more.
        if need == Need::Ingest {
            if let Some(source) = who.as_ref().and_then(Who::source) {
                let source = Source(source.to_owned());
                request.extensions_mut().insert(source);
            }
            return Ok(who);
        }
        request.extensions_mut().insert(way);
        if let Some(who) = &who {
            request.extensions_mut().insert(who.clone());
        }
        Ok(who)
    }

    /// Whoever says nothing of himself, while nobody has to. A page anywhere can have its own name lead to this machine
    /// (DNS rebinding), so no name that others could have given it is answered to; and a proxy would let the whole world
    /// in, which an address to listen on may not do either.
    fn anyone(&self, request: &Request, way: Way) -> Result<Option<Who>, Refusal> {
        let Some(who) = self.access.anyone() else { return Ok(None) };
        let host = request.headers().get(header::HOST).map_or("", |host| host.to_str().unwrap_or("?."));
        let proxied = peer(request).is_some_and(|peer| trusted(&self.proxies, peer.address));
        if is_of_this_machine(host) && (!proxied || way.from.is_loopback()) {
            Ok(Some(who.at(way.from)))
        } else {
            Err(Refusal::Host)
        }
    }

    fn way(&self, request: &Request) -> Way {
        // Without a peer there is no connection: a test calls the routes themselves.
        let peer = peer(request).unwrap_or(Peer { address: Ipv4Addr::UNSPECIFIED.into(), tls: false });
        let lines = |name| request.headers().get_all(name).iter().filter_map(|line| line.to_str().ok());
        let proxied = trusted(&self.proxies, peer.address);
        let by_proxy = || lines("x-forwarded-proto").next().is_some_and(|proto| proto.eq_ignore_ascii_case("https"));
        Way {
            from: client(&self.proxies, peer.address, lines("x-forwarded-for")),
            encrypted: peer.tls || proxied && by_proxy(),
        }
    }
}

fn peer(request: &Request) -> Option<Peer> {
    request.extensions().get::<Peer>().copied()
}

/// An address, `localhost`, or a name without a dot, which nobody outside can register.
fn is_of_this_machine(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    bare.parse::<IpAddr>().is_ok() || !bare.contains('.') || bare.ends_with(".localhost")
}

/// What is sent to say who asks. The header counts before the cookie.
fn token(headers: &HeaderMap) -> Option<(&str, By)> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (kind, token) = value.to_str().ok()?.split_once(' ')?;
        return kind.eq_ignore_ascii_case("bearer").then_some((token.trim(), By::Header));
    }
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, token)| (token, By::Cookie))
}

/// Browsers let any page send to anywhere, and say of which origin the page is. Programs say none.
fn same_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    match text(header::ORIGIN) {
        None => text(header::HeaderName::from_static("sec-fetch-site")).is_none_or(|site| site != "cross-site"),
        Some(origin) => origin.split_once("://").map(|(_, host)| host) == text(header::HOST),
    }
}

fn allowed_origin(gate: &Permissions, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    gate.allow_origins.iter().any(|allowed| allowed.as_str().as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// The answer to a browser that asks beforehand whether it may ask (Fetch, section 3.2.2).
fn preflight(request: &Request) -> Option<Response> {
    let asked =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    asked.then(|| {
        let headers = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE"),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "authorization, content-type, idempotency-key, if-match, last-event-id",
            ),
            (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_FOR_S),
        ];
        (StatusCode::NO_CONTENT, headers).into_response()
    })
}

/// Cookies are not among what another origin may send: it has to hold a key.
fn with_origin(mut response: Response, allowed: Option<HeaderValue>) -> Response {
    if let Some(origin) = allowed {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        response.headers_mut().append(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self {
            Refusal::Unknown | Refusal::Ended => StatusCode::UNAUTHORIZED,
            Refusal::Lacks(_) | Refusal::NobodyYet(_) | Refusal::Origin => StatusCode::FORBIDDEN,
            Refusal::Host => StatusCode::MISDIRECTED_REQUEST,
            Refusal::Often(_) => StatusCode::TOO_MANY_REQUESTS,
        };
        let mut response = (status, Json(Complaint { error: self.to_string() })).into_response();
        let headers = response.headers_mut();
        match self {
            // RFC 6750, section 3.
            Refusal::Unknown => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"speedwell\""));
            }
            Refusal::Ended => {
                let why = "Bearer realm=\"speedwell\", error=\"invalid_token\"";
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(why));
            }
            Refusal::Often(wait) => {
                headers.insert(header::RETRY_AFTER, (wait.as_secs() + 1).into());
            }
            _ => {}
        }
        response
    }
}

/// A body that breaks off when what it was asked with has ended. It does not end as if all had been said.
struct EndsWith {
    who: Who,
    body: Body,
}

fn ends_with(who: Who, body: Body) -> Body {
    Body::new(EndsWith { who, body })
}

impl HttpBody for EndsWith {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let ended = frame.is_some() && !self.who.valid();
        Poll::Ready(if ended { Some(Err(axum::Error::new(Refusal::Ended))) } else { frame })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_token_comes_in_a_header_or_a_cookie_and_the_header_counts() {
        let told = |pairs: &[(header::HeaderName, &str)]| {
            token(&headers(pairs)).map(|(token, by)| (token.to_owned(), by == By::Cookie))
        };
        assert_eq!(told(&[(header::AUTHORIZATION, "bearer swk_1")]), Some(("swk_1".into(), false)));
        assert_eq!(told(&[(header::COOKIE, "a=b; speedwell=sws_1")]), Some(("sws_1".into(), true)));
        assert_eq!(told(&[(header::COOKIE, "speedwell=sws_1"), (header::AUTHORIZATION, "Basic x")]), None);
        assert_eq!(told(&[(header::COOKIE, "xspeedwell=sws_1")]), None);
    }

    #[test]
    fn a_page_of_another_origin_is_told_from_our_own_and_from_a_program() {
        let same = |pairs: &[(header::HeaderName, &str)]| {
            let mut headers = headers(pairs);
            headers.insert(header::HOST, "127.0.0.1:8080".parse().unwrap());
            same_origin(&headers)
        };
        let site = header::HeaderName::from_static("sec-fetch-site");
        assert!(same(&[]) && same(&[(header::ORIGIN, "http://127.0.0.1:8080")]));
        assert!(same(&[(site.clone(), "same-origin")]) && !same(&[(site, "cross-site")]));
        assert!(!same(&[(header::ORIGIN, "http://evil.example")]) && !same(&[(header::ORIGIN, "null")]));
    }

    #[test]
    fn a_name_that_others_could_have_registered_is_not_this_machines() {
        for ours in ["127.0.0.1:8080", "[::1]:80", "localhost:1", "hub", "", "a.localhost"] {
            assert!(is_of_this_machine(ours), "{ours}");
        }
        for theirs in ["evil.example:8080", "127.0.0.1.evil.example", "?."] {
            assert!(!is_of_this_machine(theirs), "{theirs}");
        }
    }

    #[tokio::test]
    async fn an_answer_under_way_breaks_off_when_the_key_it_was_asked_with_is_revoked() {
        use crate::access::{By, NewKey, Scopes};
        use http_body_util::BodyExt;
        let directory = tempfile::tempdir().unwrap();
        let access = Access::open(&directory.path().join("a"), Default::default()).unwrap();
        let new = NewKey { name: "export".into(), scopes: Scopes::parse("read"), until_s: None };
        let (id, key) = access.change(move |book| book.add_key(&By::command_line(), &new)).await.unwrap();
        let parts = ["one", "two", "three"].map(Ok::<_, std::io::Error>);
        let endless = Body::from_stream(futures_util::stream::iter(parts));
        let mut body = ends_with(access.resolve(&key).unwrap(), endless);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
        access.change(move |book| book.revoke_key(&By::command_line(), &id)).await.unwrap();
        assert!(body.frame().await.unwrap().is_err(), "it does not look complete");
    }
}
