//! The login: who has to, who may, and where one comes out.

use speedwell_hub::access::{By, NewKey, Role, Scopes};
use speedwell_wire::Quality;

use crate::{
    browser::{Browser, ENTER, TAB},
    rig::*,
    says,
};

const PASSWORD: &str = "correct horse battery";

async fn hub_with_erika(broker: &Mosquitto) -> HubRig {
    let rig = HubRig::start(broker.url()).await;
    let access = &rig.hub().access;
    access.add_user(By::command_line(), "erika".into(), Role::Viewer, PASSWORD.into()).await.unwrap();
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_to_log_in_comes_back_to_the_page_he_wanted_and_may_leave_again() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = hub_with_erika(&broker).await;
    let at = rig.hub().http;
    let _gateway = says(&broker, "truck-7", Ok((9.0, 0.02, Quality::Good))).await;
    browser.open(at, "/gateway/truck-7").await;
    browser.reads("location.pathname + location.search", "/login?next=%2Fgateway%2Ftruck-7").await;
    browser.reads("document.activeElement.name", "name").await;
    browser.picture("login").await;

    // By keyboard alone, first with a slip.
    browser.press(&format!("erika{TAB}wrong horse battery{ENTER}")).await;
    browser.reads("document.querySelector('.wrong').textContent", "Name or password is wrong.").await;
    browser.reads("document.activeElement.name", "password").await;
    browser.press(&format!("{PASSWORD}{ENTER}")).await;
    browser.reads("location.pathname", "/gateway/truck-7").await;
    browser.reads("document.querySelector('h1')?.textContent", "truck-7").await;
    browser.sees("document.querySelector('.channel .number')?.textContent === '9.00'").await;
    browser.reads("document.querySelector('#who .name').textContent", "erika").await;
    browser.sees("!document.getElementById('who').hidden").await;
    browser.reads("document.cookie", "").await;

    // A session that ends elsewhere ends here as well, and the page is come back to.
    browser.run("fetch('/api/v1/logout', {method: 'POST'})").await;
    browser.reads("location.pathname + location.search", "/login?next=%2Fgateway%2Ftruck-7").await;
    browser.reads("document.activeElement.name", "name").await;
    browser.press(&format!("erika{TAB}{PASSWORD}{ENTER}")).await;
    browser.reads("document.querySelector('#who .name')?.textContent", "erika").await;

    browser.click("#who button").await;
    browser.reads("location.pathname", "/login").await;
    for page in ["/", "/history"] {
        browser.open(at, page).await;
        browser.reads("location.pathname", "/login").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_never_leads_to_another_site() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = hub_with_erika(&broker).await;
    for next in [
        "https%3A%2F%2Fevil.example%2F",
        "%2F%2Fevil.example",
        "%5C%5Cevil.example",
        "javascript%3Aalert(1)",
        "%2Flogin",
    ] {
        browser.open(rig.hub().http, &format!("/login?next={next}")).await;
        let goes = "import('/assets/session.js').then(({ next }) => next(location.search))";
        browser.reads(goes, "/").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_the_address_logs_in_and_is_taken_out_of_it() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = hub_with_erika(&broker).await;
    let _gateway = says(&broker, "truck-7", Ok((9.0, 0.02, Quality::Good))).await;
    let new = NewKey { name: "hall-screen".into(), scopes: Scopes::parse("read"), until_s: None };
    let (_, key) = rig.hub().access.change(move |book| book.add_key(&By::command_line(), &new)).await.unwrap();
    browser.watch(rig.hub().http, &format!("/#token={key}")).await;
    browser.reads("location.pathname + location.hash", "/").await;
    browser.reads("document.querySelectorAll('.fleet tbody tr').length", 1).await;
    browser.open(rig.hub().http, "/login").await;
    browser.open(rig.hub().http, "/#token=swk_nonsense").await;
    // The cookie of before still holds.
    browser.reads("document.querySelectorAll('.fleet tbody tr').length", 1).await;
}
