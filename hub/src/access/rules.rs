//! Which route asks for what. What is not in the table is closed: reading it needs the role viewer, anything else the
//! role operator.

use super::words::Need;

/// Methods that change nothing (RFC 9110, section 9.2.1).
pub fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS")
}

#[derive(Clone, Copy, PartialEq)]
enum Of {
    Reading,
    Any,
    Post,
}

/// The first that fits counts. A `*` at the end of a path stands for whatever follows.
///
/// The pages are the same for everybody and hold nothing: what they show they ask for, and show a login when refused.
const RULES: [(Of, &str, Need); 20] = [
    (Of::Reading, "/", Need::Nothing),
    (Of::Reading, "/assets/*", Need::Nothing),
    (Of::Reading, "/gateway/*", Need::Nothing),
    (Of::Reading, "/history", Need::Nothing),
    (Of::Reading, "/login", Need::Nothing),
    (Of::Reading, "/docs", Need::Nothing),
    (Of::Reading, "/api/v1/openapi.json", Need::Nothing),
    (Of::Reading, "/healthz", Need::Nothing),
    (Of::Post, "/api/v1/login", Need::Nothing),
    (Of::Post, "/api/v1/logout", Need::Login),
    (Of::Any, "/api/v1/me", Need::Login),
    (Of::Any, "/api/v1/me/*", Need::Login),
    (Of::Any, "/api/v1/users", Need::Admin),
    (Of::Any, "/api/v1/users/*", Need::Admin),
    (Of::Any, "/api/v1/keys", Need::Admin),
    (Of::Any, "/api/v1/keys/*", Need::Admin),
    (Of::Any, "/api/v1/audit", Need::Admin),
    (Of::Any, "/api/v1/audit/*", Need::Admin),
    (Of::Post, "/api/v1/readings", Need::Ingest),
    (Of::Post, "/tracking/data/", Need::Ingest),
];

/// What a request asks for. Routes are found by the same bytes of the path, so nothing has to be decoded here.
pub fn need(method: &str, path: &str) -> Need {
    let fits = |of: Of| match of {
        Of::Any => true,
        Of::Reading => is_safe(method),
        Of::Post => method == "POST",
    };
    let names = |pattern: &str| match pattern.strip_suffix('*') {
        Some(before) => path.starts_with(before),
        None => path == pattern,
    };
    let rule = RULES.iter().find(|(of, pattern, _)| fits(*of) && names(pattern));
    rule.map_or(if is_safe(method) { Need::Read } else { Need::Change }, |(.., need)| *need)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_asks_for_what_the_table_says_and_what_is_not_in_it_is_closed() {
        for (method, path, wanted) in [
            ("GET", "/", Need::Nothing),
            ("HEAD", "/assets/page.js", Need::Nothing),
            ("POST", "/assets/page.js", Need::Change),
            ("GET", "/healthz", Need::Nothing),
            ("POST", "/api/v1/login", Need::Nothing),
            ("GET", "/api/v1/login", Need::Read),
            ("GET", "/api/v1/me", Need::Login),
            ("GET", "/api/v1/users", Need::Admin),
            ("PATCH", "/api/v1/users/anna", Need::Admin),
            ("GET", "/api/v1/usersx", Need::Read),
            ("DELETE", "/api/v1/keys/swk_1", Need::Admin),
            ("GET", "/api/v1/audit", Need::Admin),
            ("POST", "/api/v1/readings", Need::Ingest),
            ("DELETE", "/api/v1/readings", Need::Change),
            ("POST", "/tracking/data/", Need::Ingest),
            ("GET", "/tracking/data/list/", Need::Read),
            ("GET", "/ws", Need::Read),
            ("GET", "/api/v1/live", Need::Read),
            ("GET", "/metrics", Need::Read),
            ("GET", "/api/v1/vehicles", Need::Read),
            ("POST", "/api/v1/vehicles", Need::Change),
            ("GET", "/whatever/comes/later", Need::Read),
            ("BREW", "/coffee", Need::Change),
        ] {
            assert_eq!(need(method, path), wanted, "{method} {path}");
        }
    }
}
