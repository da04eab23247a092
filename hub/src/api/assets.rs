//! The pages, inside the binary. Every page is the same shell, which loads what its address names; see `assets/app.js`.
//! uPlot and Swagger UI are vendored; see `assets/uplot.LICENSE` and `assets/swagger-ui.LICENSE`. The second is large and so
//! kept as it goes out: every browser takes gzip.

use std::sync::LazyLock;

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use sha2::{Digest, Sha256};

struct Asset {
    name: &'static str,
    content: &'static [u8],
    /// What the content is known by: a browser that has it is told so instead of being sent it again.
    tag: HeaderValue,
}

macro_rules! assets {
    ($($name:literal)*) => {
        [$(Asset::new($name, include_bytes!(concat!("../../assets/", $name)))),*, Asset::new("has.js", HAS)]
    };
}

/// What not every hub has, for pages that offer it.
const HAS: &[u8] =
    if cfg!(feature = "parquet") { b"export const PARQUET = true;\n" } else { b"export const PARQUET = false;\n" };

static ASSETS: LazyLock<Box<[Asset]>> = LazyLock::new(|| {
    assets![
        "index.html" "page.css" "fleet.css" "gateway.css" "history.css" "theme.js" "app.js" "prefs.js" "session.js"
        "feed.js" "words.js" "plot.js" "fleet.js" "table.js" "columns.js" "filter.js" "gateway.js" "card.js" "gauge.js"
        "panel.js" "trace.js" "health.js" "timeline.js" "history.js" "chart.js" "zoom.js" "source.js" "range.js"
        "listing.js" "login.js" "docs.js" "docs.css" "uplot.js" "uplot.css" "swagger-ui.js.gz" "swagger-ui.css.gz"
        "icon.svg"
    ]
    .into()
});

/// How the name ends of what is kept as it goes out; it is asked for without that.
const GZIP: &str = ".gz";

impl Asset {
    fn new(name: &'static str, content: &'static [u8]) -> Self {
        let hash: String = Sha256::digest(content).iter().take(8).map(|b| format!("{b:02x}")).collect();
        let tag = HeaderValue::from_str(&format!("\"{hash}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Self { name, content, tag }
    }

    fn kind(&self) -> &'static str {
        match self.name.strip_suffix(GZIP).unwrap_or(self.name).rsplit_once('.') {
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "svg")) => "image/svg+xml",
            _ => "text/html; charset=utf-8",
        }
    }
}

/// The addresses a person may open, reload and send on, and what they are made of.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let shell = |headers: HeaderMap| async move { serve("index.html", &headers) };
    Router::new()
        .route("/", get(shell))
        .route("/gateway/{name}", get(shell))
        .route("/history", get(shell))
        .route("/login", get(shell))
        .route("/docs", get(shell))
        .route("/assets/{name}", get(async |Path(name): Path<String>, headers: HeaderMap| serve(&name, &headers)))
}

fn serve(name: &str, asked: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name.strip_suffix(GZIP).unwrap_or(asset.name) == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let tag = [(header::ETAG, asset.tag.clone())];
    if asked.get(header::IF_NONE_MATCH) == Some(&asset.tag) {
        return (StatusCode::NOT_MODIFIED, tag).into_response();
    }
    let gzip = asset.name.ends_with(GZIP).then_some([(header::CONTENT_ENCODING, "gzip")]);
    ([(header::CONTENT_TYPE, asset.kind())], gzip, tag, asset.content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_a_page_names_is_there() {
        for asset in ASSETS.iter().filter(|asset| !asset.name.ends_with(GZIP)) {
            let content = str::from_utf8(asset.content).unwrap();
            for (at, _) in content.match_indices("\"/assets/") {
                let name = content[at + 9..].split('"').next().unwrap();
                assert!(serve(name, &HeaderMap::new()).status().is_success(), "{}: {name}", asset.name);
            }
        }
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        // Of guests it is seen in a browser: tests/page.
        let guest = |name: &str| name.starts_with("uplot") || name.starts_with("swagger-ui") || name == "icon.svg";
        for asset in ASSETS.iter().filter(|asset| !guest(asset.name)) {
            let own = str::from_utf8(asset.content).unwrap().replace("http://www.w3.org/2000/svg", "");
            assert!(!own.contains("http://") && !own.contains("https://"), "{}", asset.name);
        }
    }

    #[test]
    fn a_browser_that_has_a_file_is_not_sent_it_again() {
        let answer = serve("app.js", &HeaderMap::new());
        let tag = answer.headers()[header::ETAG].clone();
        let again = HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)]);
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(serve("app.js", &again).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(serve("page.css", &again).status(), StatusCode::OK, "another file has another tag");
    }
}
