//! The page, inside the binary. uPlot is vendored; see `assets/uplot.LICENSE`.

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

/// Name, type, content.
const ASSETS: [(&str, &str, &str); 10] = [
    ("index.html", HTML, include_str!("../../assets/index.html")),
    ("page.css", CSS, include_str!("../../assets/page.css")),
    ("page.js", JS, include_str!("../../assets/page.js")),
    ("login.js", JS, include_str!("../../assets/login.js")),
    ("feed.js", JS, include_str!("../../assets/feed.js")),
    ("card.js", JS, include_str!("../../assets/card.js")),
    ("words.js", JS, include_str!("../../assets/words.js")),
    ("uplot.js", JS, include_str!("../../assets/uplot.js")),
    ("uplot.css", CSS, include_str!("../../assets/uplot.css")),
    ("icon.svg", "image/svg+xml", include_str!("../../assets/icon.svg")),
];
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

pub(super) async fn by_name(Path(name): Path<String>) -> Response {
    serve(&name).await
}

pub(super) async fn serve(name: &str) -> Response {
    match ASSETS.iter().find(|(known, ..)| *known == name) {
        Some(&(_, kind, content)) => ([(header::CONTENT_TYPE, kind)], content).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
