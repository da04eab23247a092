//! The page to read and try the API on.

use serde_json::json;
use speedwell_hub::access::{By, NewKey, Role, Scopes};
use speedwell_wire::Quality;

use crate::{browser::Browser, everywhere::CONTRASTS, rig::*, says};

const PASSWORD: &str = "correct horse battery";
/// What the page asked for by now, that is not this hub's.
const ELSEWHERE: &str = "performance.getEntriesByType('resource').map((r) => r.name).filter((name) => !name.startsWith(location.origin + '/') && !name.startsWith('data:')).join()";

/// Opens an operation and sends it as it stands.
async fn try_out(browser: &Browser, operation: &str) {
    browser.sees(&format!("document.querySelector('#operations-{operation}') !== null")).await;
    browser.click(&format!("#operations-{operation} .opblock-summary-control")).await;
    browser.sees(&format!("document.querySelector('#operations-{operation} .execute') !== null")).await;
    browser.click(&format!("#operations-{operation} .execute")).await;
}

fn answer(operation: &str, what: &str) -> String {
    format!("(document.querySelector('#operations-{operation} .live-responses-table tbody {what}')?.textContent ?? '')")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_is_shown_one_is_tried_with_the_login_of_the_page_and_nothing_comes_from_elsewhere() {
    for dark in [false, true] {
        let Some(browser) = Browser::start(dark).await else { return };
        let broker = Mosquitto::start();
        let rig = HubRig::start(broker.url()).await;
        let at = rig.hub().http;
        rig.hub().access.add_user(By::command_line(), "erika".into(), Role::Viewer, PASSWORD.into()).await.unwrap();
        let _gateway = says(&broker, "truck-7", Ok((9.0, 0.02, Quality::Good))).await;

        // Nobody has logged in: what is described is no secret, and what is asked for is refused.
        browser.open(at, "/docs").await;
        try_out(&browser, "live-get-gateways").await;
        browser.sees(&format!("{}.startsWith('401')", answer("live-get-gateways", ".response-col_status"))).await;

        let login = json!({"name": "erika", "password": PASSWORD}).to_string();
        browser.run(&format!(
            "return fetch('/api/v1/login', {{method: 'POST', headers: {{'Content-Type': 'application/json'}}, body: {login:?}}}).then((a) => a.status)"
        )).await;
        browser.open(at, "/docs").await;
        try_out(&browser, "live-get-gateways").await;
        browser.sees(&format!("{}.startsWith('200')", answer("live-get-gateways", ".response-col_status"))).await;
        browser
            .sees(&format!("{}.includes('truck-7')", answer("live-get-gateways", ".response-col_description")))
            .await;
        let shown = "document.querySelectorAll('.opblock').length";
        let described = "fetch('/api/v1/openapi.json').then((a) => a.json()).then((all) => \
             Object.values(all.paths).map((item) => Object.keys(item).length).reduce((a, b) => a + b))";
        let count = browser.eval(described).await;
        assert!(count.as_u64().unwrap() > 40, "{count}");
        browser.reads(shown, count).await;
        browser.reads("document.documentElement.classList.contains('dark-mode')", dark).await;
        browser.run("document.querySelector('#operations-live-get-gateways').scrollIntoView()").await;
        browser.picture(if dark { "docs-dark" } else { "docs" }).await;
        browser.run("window.scrollTo(0, 0)").await;
        browser.picture(if dark { "docs-top-dark" } else { "docs-top" }).await;

        // All there is to read can be read, in an operation that takes a body and parameters too, and all is described.
        browser.click("#operations-ingest-post-readings .opblock-summary-control").await;
        browser.sees("document.querySelector('#operations-ingest-post-readings .parameters') !== null").await;
        browser.sees("document.querySelector('.loading') === null && document.querySelector('.opblock-loading-animation') === null").await;
        for piece in browser.run(CONTRASTS).await.as_array().unwrap() {
            assert!(
                piece[0].as_f64().unwrap() >= 4.5,
                "dark: {dark}: {:.2} : 1 of {}",
                piece[0].as_f64().unwrap(),
                piece[2]
            );
        }
        browser.reads("document.querySelector('.errors-wrapper')?.textContent ?? ''", "").await;

        browser.size(390, 844).await;
        browser.sees("document.documentElement.scrollWidth <= 390").await;
        browser.picture(if dark { "docs-phone-dark" } else { "docs-phone" }).await;
        browser.run("document.querySelector('#operations-live-get-gateways').scrollIntoView()").await;
        browser.picture(if dark { "docs-phone-open-dark" } else { "docs-phone-open" }).await;
        browser.reads(ELSEWHERE, "").await;
        assert_eq!(browser.complaints().await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_pasted_goes_along_with_what_is_tried() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let new = NewKey { name: "console".into(), scopes: Scopes::parse("read"), until_s: None };
    let (_, key) = rig.hub().access.change(move |book| book.add_key(&By::command_line(), &new)).await.unwrap();
    browser.open(rig.hub().http, "/docs").await;
    browser.sees("document.querySelector('.auth-wrapper .authorize') !== null").await;
    browser.click(".auth-wrapper .authorize").await;
    browser.sees("document.querySelector('.dialog-ux input[type=password], .dialog-ux input') !== null").await;
    browser.run("document.querySelector('.dialog-ux input').focus()").await;
    browser.press(&key).await;
    browser.click(".dialog-ux .auth-btn-wrapper .authorize").await;
    browser.click(".dialog-ux .btn-done").await;
    try_out(&browser, "access-get-me").await;
    browser.sees(&format!("{}.includes('console')", answer("access-get-me", ".response-col_description"))).await;
    browser.reads(ELSEWHERE, "").await;
}
