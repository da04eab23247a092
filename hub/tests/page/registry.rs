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
    browser.reads("document.querySelector('.vehicle').textContent", "M-SW 1 · Actros").await;
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
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}
