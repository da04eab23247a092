//! Vehicles and customers in the fleet, and who was connected when.

use serde_json::json;
use speedwell_wire::Quality;

use crate::{browser::Browser, rig::*, says};

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_tells_vehicle_and_customer_and_vehicles_that_were_never_heard() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    rig.reaches("connections", 1).await;
    let at = rig.hub().http;
    let gateway = says(&broker, "truck-7", Ok((9.0, 0.02, Quality::Good))).await;
    for (path, body) in [
        ("/api/v1/customers", json!({"id": "c1", "name": "Isar Transport", "address": "Ufer 1"})),
        (
            "/api/v1/vehicles",
            json!({"id": "v1", "registration": "M-SW 1", "name": "Actros", "customer": "c1", "gateways": ["truck-7"]}),
        ),
        (
            "/api/v1/vehicles",
            json!({"id": "v2", "registration": "M-SW 2", "name": "", "customer": null, "gateways": ["truck-8"]}),
        ),
        (
            "/api/v1/vehicles",
            json!({"id": "v3", "registration": "M-SW 3", "name": "", "customer": null, "gateways": []}),
        ),
    ] {
        let (status, _, answer) = http::request(at, "POST", path, Some(&body)).await;
        assert!(status < 300, "{path}: {answer}");
    }
    browser.watch(at, "/?sort=vehicle").await;
    let cells = "[...document.querySelectorAll('.fleet tbody tr')].map((row) => ['status', 'name', 'vehicle', 'customer'].map((c) => \
                 row.querySelector(`[data-column=${c}]`).innerText.replace(/\\s+/g, ' ').trim()))";
    browser
        .reads(
            cells,
            json!([
                ["Connected", "truck-7", "M-SW 1 Actros", "Isar Transport"],
                ["Never heard", "truck-8", "M-SW 2", "—"],
                ["Never heard", "—", "M-SW 3", "—"],
            ]),
        )
        .await;
    browser.watch(at, "/gateway/truck-7").await;
    let on = "document.querySelector('.vehicle').textContent";
    browser.reads(on, "M-SW 1 · Actros · Isar Transport").await;
    // Another plate, another vehicle, none: the page follows.
    for (path, change, words) in [
        ("/api/v1/vehicles/v1", json!({"registration": "M-SW 9"}), "M-SW 9 · Actros · Isar Transport"),
        ("/api/v1/vehicles/v1", json!({"gateways": []}), ""),
        ("/api/v1/vehicles/v3", json!({"gateways": ["truck-7"]}), "M-SW 3"),
    ] {
        let (status, _, answer) = http::request(at, "PATCH", path, Some(&change)).await;
        assert!(status < 300, "{path}: {answer}");
        browser.reads(on, words).await;
    }
    browser
        .sees("document.querySelector('.timeline canvas').getAttribute('aria-label')?.includes('Connected') === true")
        .await;
    gateway.publish(gateway.topics.status(), true, status("truck-7", false)).await;
    // Told by the hub as it happens; the page does not have to ask.
    browser.run("document.querySelector('.timeline details').open = true").await;
    browser
        .reads("document.querySelector('.timeline tbody tr:first-child td:nth-child(2)')?.textContent", "Disconnected")
        .await;
    browser
        .reads("document.querySelector('.timeline tbody tr:nth-child(2) td:nth-child(2)')?.textContent", "Connected")
        .await;
    browser.picture("registry").await;
    browser
        .reads(
            "document.querySelector('.gateway .state .text').textContent.split(',')[0]",
            "Disconnected: connection lost",
        )
        .await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_fleet_is_told_who_goes_why_and_which_vehicles_come_and_go() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    rig.reaches("connections", 1).await;
    let at = rig.hub().http;
    let gateway = says(&broker, "truck-7", Ok((9.0, 0.02, Quality::Good))).await;
    browser.watch(at, "/").await;
    browser.sees("document.querySelectorAll('.fleet tbody tr').length === 1").await;
    browser.run("window.same = true").await;

    gateway.publish(gateway.topics.status(), true, status("truck-7", false)).await;
    let why = "[...document.querySelectorAll('[data-row=truck-7] [data-column=status] span')].slice(1, 3).map((s) => s.textContent)";
    browser.reads(why, json!(["Disconnected", "connection lost"])).await;

    let vehicle = json!({"id": "v1", "registration": "M-SW 1", "name": "", "customer": null, "gateways": ["truck-7"]});
    let (status, _, answer) = http::request(at, "POST", "/api/v1/vehicles", Some(&vehicle)).await;
    assert!(status < 300, "{answer}");
    let plate = "document.querySelector('[data-row=truck-7] [data-column=vehicle] .text').textContent";
    browser.reads(plate, "M-SW 1").await;
    http::request(at, "PATCH", "/api/v1/vehicles/v1", Some(&json!({"registration": "M-SW 9"}))).await;
    browser.reads(plate, "M-SW 9").await;
    let (status, _, answer) = http::request(at, "DELETE", "/api/v1/vehicles/v1", None).await;
    assert!(status < 300, "{answer}");
    browser.reads(plate, "—").await;
    browser.reads("document.querySelector('main').dataset.vehicles", "none").await;

    let bare = json!({"id": "v2", "registration": "M-SW 2", "name": "", "customer": null, "gateways": []});
    http::request(at, "POST", "/api/v1/vehicles", Some(&bare)).await;
    browser.sees("!!document.querySelector('[data-row=\\'vehicle v2\\']')").await;
    http::request(at, "DELETE", "/api/v1/vehicles/v2", None).await;
    browser
        .reads("[...document.querySelectorAll('.fleet tbody tr')].map((row) => row.dataset.row)", json!(["truck-7"]))
        .await;
    browser.reads("window.same", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_whose_clock_was_put_back_is_believed_all_the_same() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    rig.reaches("connections", 1).await;
    let gateway = says(&broker, "truck-7", Ok((9.0, 0.02, Quality::Good))).await;
    // What is pushed carries the times of a clock that was put back by years; what was asked for, those of before.
    let put_back = "const parse = JSON.parse; JSON.parse = (text) => { const said = parse(text); \
                    if (said?.type === 'presence') said.since = '2020-01-01T00:00:00Z'; return said; };";
    browser.cdp("Page.addScriptToEvaluateOnNewDocument", json!({"source": put_back})).await;
    for (page, state) in [
        ("/", "document.querySelector('[data-row=truck-7] [data-column=status] .text')?.textContent"),
        ("/gateway/truck-7", "document.querySelector('.gateway .state .text').textContent.split(':')[0]"),
    ] {
        gateway.publish(gateway.topics.status(), true, status("truck-7", true)).await;
        let online = async || {
            http::get(rig.hub().http, "/api/v1/presence?state=online&kind=gateway").await["presence"][0]["id"]
                .is_string()
        };
        let began = std::time::Instant::now();
        while !online().await {
            assert!(began.elapsed() < LONG, "it is not online in time");
        }
        browser.watch(rig.hub().http, page).await;
        browser.reads(state, "Connected").await;
        // The list has come too, with the time of before.
        browser
            .sees("performance.getEntriesByType('resource').some((r) => r.name.includes('/api/v1/presence?'))")
            .await;
        gateway.publish(gateway.topics.status(), true, status("truck-7", false)).await;
        browser.reads(state, "Disconnected").await;
    }
}
