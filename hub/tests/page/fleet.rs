//! The table of the fleet.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde_json::json;
use speedwell_wire::{NoData, Quality, Record, topic::Topics};

use crate::{
    browser::{Browser, ENTER, TAB},
    rig::*,
    says, tell,
};

/// The cell of a row, as an expression that gives its text in one line.
fn cell(gateway: &str, column: &str) -> String {
    format!(
        "[...(document.querySelector('[data-row={gateway}] [data-column={column}]')?.children ?? [])].map((p) => p.textContent).filter(Boolean).join(' ')"
    )
}

/// The gateways in the order they stand in, those that are filtered out left out.
const ORDER: &str =
    "[...document.querySelectorAll('.fleet tbody tr:not([hidden])')].map((row) => row.dataset.row).join()";

fn sorted(column: &str) -> String {
    format!("document.querySelector('th[data-column={column}]').getAttribute('aria-sort')")
}

async fn type_into(browser: &Browser, column: &str, text: &str) {
    browser
        .run(&format!("const field = document.querySelector('input[name={column}]'); field.focus(); field.select()"))
        .await;
    match text {
        "" => browser.press("\u{e003}").await,
        text => browser.press(text).await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sorts_and_filters_the_fleet_zero_is_a_number_and_silence_is_none() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    rig.reaches("connections", 1).await;
    let at = rig.hub().http;
    browser.watch(at, "/").await;
    browser.sees("!document.querySelector('.empty').hidden").await;

    let moving = says(&broker, "truck-10", Ok((22.2222, 0.02, Quality::Good))).await;
    let stands = says(&broker, "truck-9", Ok((0.0, 0.0, Quality::Stopped))).await;
    let blind = says(&broker, "truck-2", Err(NoData::NoFix)).await;
    let gone = says(&broker, "truck-1", Ok((9.0, 0.02, Quality::Good))).await;
    gone.publish(gone.topics.status(), true, status("truck-1", false)).await;
    browser.reads(&cell("truck-10", "speed"), "22.22 m/s Good").await;
    browser.reads(&cell("truck-9", "speed"), "0.00 m/s Stopped").await;
    browser.reads(&cell("truck-2", "speed"), "No satellite fix").await;
    browser.sees(&format!("{}.startsWith('Disconnected')", cell("truck-1", "status"))).await;
    // By name as a person counts, not as text: 2 before 10.
    browser.reads(ORDER, "truck-1,truck-2,truck-9,truck-10").await;
    // The last value of a gateway that is gone is soon none of now.
    browser.sees(&format!("{}.startsWith('No value now last 9.00 m/s')", cell("truck-1", "speed"))).await;

    for gateway in [&moving, &stands] {
        tell(gateway, Ok((if gateway.name == "truck-9" { 0.0 } else { 22.2222 }, 0.02, Quality::Good))).await;
    }
    browser.click("th[data-column=speed] button").await;
    browser.reads(&sorted("speed"), "ascending").await;
    browser.reads(ORDER, "truck-9,truck-10,truck-1,truck-2").await;
    browser.click("th[data-column=speed] button").await;
    browser.reads(&sorted("speed"), "descending").await;
    browser.reads(ORDER, "truck-10,truck-9,truck-1,truck-2").await;
    browser.reads(&sorted("name"), "none").await;

    for (column, text, left) in [
        ("speed", "=0", "truck-9"),
        ("speed", ">20", "truck-10"),
        ("speed", "0..30", "truck-10,truck-9"),
        ("speed", "fix", "truck-2"),
        ("speed", "", "truck-10,truck-9,truck-1,truck-2"),
        ("name", "TRUCK-1", "truck-10,truck-1"),
        ("clock", "nowhere", ""),
    ] {
        type_into(&browser, column, text).await;
        browser.reads(ORDER, left).await;
    }
    browser.reads("document.querySelector('.shown').textContent", "None of 4 passes the filters").await;
    type_into(&browser, "clock", "").await;

    // What is chosen stands in the address and is there again when the page is loaded anew.
    browser.reads("location.search", "?sort=-speed&name=TRUCK-1").await;
    browser.watch(at, "/?sort=-speed&name=TRUCK-1&status=offline").await;
    browser.reads(ORDER, "truck-1").await;
    browser.reads("document.querySelector('input[name=name]').value", "TRUCK-1").await;
    browser.click(".clear").await;
    browser.reads(ORDER, "truck-10,truck-9,truck-1,truck-2").await;
    browser.reads("location.search", "?sort=-speed").await;

    // Counts of each status, and a choice of one.
    let chips =
        "[...document.querySelectorAll('.states button:not([hidden])')].map((b) => b.textContent.trim()).join()";
    browser.reads(chips, "All 4,Connected 3,Disconnected 1").await;
    browser.click("[data-state=offline]").await;
    browser.reads(ORDER, "truck-1").await;
    browser.click("[data-state=all]").await;
    drop(blind);
    browser.picture("fleet").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_moves_rows_but_takes_neither_focus_nor_filter() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    rig.reaches("connections", 1).await;
    let mut gateways = Vec::new();
    for (name, speed) in [("a", 10.0), ("b", 20.0), ("c", 30.0)] {
        gateways.push(says(&broker, name, Ok((speed, 0.02, Quality::Good))).await);
    }
    browser.watch(rig.hub().http, "/?sort=-speed&speed=>5").await;
    browser.reads(ORDER, "c,b,a").await;
    browser.run("document.querySelector('[data-row=a] a').focus()").await;
    // The slowest becomes the fastest: its row goes to the top with the focus on it.
    tell(&gateways[0], Ok((40.0, 0.02, Quality::Good))).await;
    browser.reads(ORDER, "a,c,b").await;
    browser.reads("document.activeElement.closest('tr')?.dataset.row", "a").await;
    tell(&gateways[2], Ok((1.0, 0.02, Quality::Good))).await;
    browser.reads(ORDER, "a,b").await;
    tell(&gateways[2], Ok((50.0, 0.02, Quality::Good))).await;
    browser.reads(ORDER, "c,a,b").await;
    browser.reads("document.activeElement.closest('tr')?.dataset.row", "a").await;
    browser.reads("document.querySelector('input[name=speed]').value", ">5").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn losses_are_told_in_the_table_with_what_they_are() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    rig.reaches("connections", 1).await;
    let gateway = says(&broker, "truck-7", Ok((9.0, 0.02, Quality::Good))).await;
    browser.watch(rig.hub().http, "/").await;
    browser.reads(&cell("truck-7", "losses"), "0").await;
    let loss = speedwell_wire::Loss {
        reason: speedwell_wire::LossReason::SpoolFullOldest,
        records: 1,
        samples: 1_700,
        from: None,
        until: None,
    };
    let first = batch("truck-7", 11, [Record::Loss(loss)]);
    gateway.batch(&speedwell_wire::Batch { oldest_seq: 11, ..first }).await;
    browser.reads(&cell("truck-7", "losses"), "1,700 samples, 10 records missing").await;

    let other = says(&broker, "truck-8", Ok((9.0, 0.02, Quality::Good))).await;
    let later = seconds("truck-8", 11..=20);
    other.batch(&speedwell_wire::Batch { oldest_seq: 11, ..later }).await;
    browser.reads(&cell("truck-8", "losses"), "10 records missing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyboard_is_enough_to_sort_the_fleet_and_to_open_a_gateway() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    rig.reaches("connections", 1).await;
    let _gateway = says(&broker, "truck-7", Ok((9.0, 0.02, Quality::Good))).await;
    browser.watch(rig.hub().http, "/").await;
    browser.reads(ORDER, "truck-7").await;
    // The first stop is the way past the header.
    browser.press(TAB).await;
    browser.reads("document.activeElement.className", "skip").await;
    browser.press(ENTER).await;
    browser.reads("document.activeElement.id", "main").await;
    let tab_to = async |wanted: &str| {
        for _ in 0..40 {
            browser.press(TAB).await;
            if browser.eval(wanted).await == json!(true) {
                // Who is there can see it.
                browser.sees("getComputedStyle(document.activeElement).outlineStyle !== 'none'").await;
                return;
            }
        }
        panic!("no way by keyboard to {wanted}");
    };
    tab_to("document.activeElement.closest('th')?.dataset.column === 'speed'").await;
    browser.press(ENTER).await;
    browser.reads(&sorted("speed"), "ascending").await;
    browser.press(" ").await;
    browser.reads(&sorted("speed"), "descending").await;
    tab_to("document.activeElement.matches('[data-row=truck-7] a')").await;
    browser.press(ENTER).await;
    browser.reads("location.pathname", "/gateway/truck-7").await;
    browser.reads("document.querySelector('h1')?.textContent", "truck-7").await;
}

/// Begins to note what each task of the page wrote in the table: to how many rows, and how many it made or moved.
const COUNT_WRITES: &str = "
    window.rowsWritten = window.rowsMoved = 0;
    new MutationObserver((changes) => {
        const rows = new Set(), moved = new Set();
        for (const { target, addedNodes } of changes) {
            // A row that is moved, as one that is made, is added to the body.
            if (target.localName === 'tbody') addedNodes.forEach((row) => moved.add(row));
            else rows.add((target.closest ? target : target.parentElement)?.closest('tr'));
        }
        rowsWritten = Math.max(rowsWritten, rows.size);
        rowsMoved = Math.max(rowsMoved, moved.size);
    }).observe(document.querySelector('.fleet tbody'), { subtree: true, childList: true, characterData: true, attributes: true });";

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_gateways_that_all_change_only_the_rows_in_view_and_a_few_others_are_written_at_a_time() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    rig.reaches("connections", 1).await;
    let gateway = TestGateway::connect("one-for-all", broker.port).await;
    let topics: Vec<Topics> = (0..1_000).map(|n| Topics::new(PREFIX, &id(&format!("truck-{n}")))).collect();
    for of in &topics {
        gateway.publish(of.manifest(manifest().hash()), true, speedwell_wire::frame::encode(&manifest())).await;
    }
    rig.reaches("messages", 1_000).await;
    let frame = |now_ns, speed| {
        let value = Ok((speed, 0.02, Quality::Good));
        let values = vec![speedwell_wire::LiveValue { channel: 1, t_ns: now_ns - 1, value }];
        let live = speedwell_wire::Live { manifest: manifest().hash(), boot: 1, now_ns, values };
        speedwell_wire::frame::encode(&live)
    };
    // All tell a speed; those of a round differ from gateway to gateway.
    let told = AtomicU64::new(0);
    let all_tell = async |changed: &[(usize, f64)]| {
        let round = told.fetch_add(1, Ordering::Relaxed) + 1;
        for (n, of) in topics.iter().enumerate() {
            let speed = ((n as u64 * 7919 * round) % 1_000) as f64 / 10.0;
            let speed = changed.iter().find(|(of, _)| *of == n).map_or(speed, |(_, speed)| *speed);
            gateway.publish(of.live(), false, frame(round * 1_000_000_000, speed)).await;
        }
    };
    let speed_of = |n: usize| cell(&format!("truck-{n}"), "speed");

    all_tell(&[]).await;
    rig.reaches("messages", 2_000).await;
    // By name, where none moves. The rows come a few at a time.
    browser.watch(rig.hub().http, "/").await;
    browser.run(COUNT_WRITES).await;
    browser.time_tasks().await;
    let rows = "document.querySelectorAll('.fleet tbody tr').length";
    browser.reads(rows, 1_000).await;
    for _ in 0..3 {
        all_tell(&[(0, 77.0), (700, 88.0), (999, 99.0)]).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    // In view at once; far below it, in its turn.
    browser.reads(&speed_of(0), "77.00 m/s Good").await;
    browser.reads(&speed_of(999), "99.00 m/s Good").await;
    let (at_once, moved) = (browser.eval("rowsWritten").await, browser.eval("rowsMoved").await);
    println!("at most {at_once} rows written and {moved} made at a time");
    assert!((1..=80).contains(&at_once.as_u64().unwrap()), "{at_once} rows written at a time");
    assert!(moved.as_u64().unwrap() <= 40, "{moved} rows made or moved at a time");

    // What comes into view is written because it does, and not only when its turn comes: here no turn ever comes.
    browser
        .run(
            "return import('/assets/table.js').then(({ Table: { prototype: table } }) => {
                 const { put, draw, keepUp } = table;
                 Object.assign(table, { draw() {}, keepUp() {}, put(row) { put.call(this, row); window.came = [row.id, row.gateway.channels[0].value].join(); } });
                 window.goOn = () => Object.assign(table, { put, draw, keepUp });
             });",
        )
        .await;
    all_tell(&[(700, 66.0), (0, 55.0)]).await;
    gateway.publish(topics[1].live(), false, frame(7_000_000_000, 44.0)).await;
    // The feed keeps the order, so all of the round is there as well.
    browser.reads("window.came", "truck-1,44").await;
    assert_ne!(browser.eval(&speed_of(700)).await, json!("66.00 m/s Good"), "nothing was to write it");
    browser.run("document.querySelector('[data-row=truck-700]').scrollIntoView({ block: 'center' })").await;
    browser.reads(&speed_of(700), "66.00 m/s Good").await;
    browser.run("window.goOn()").await;

    // By speed all move. One that overtakes all others is one move.
    browser.click("th[data-column=speed] button").await;
    browser.click("th[data-column=speed] button").await;
    let fastest = "[...document.querySelectorAll('.fleet tbody tr .value')].map((v) => Number(v.textContent))";
    browser.sees(&format!("{fastest}.every((v, i, all) => i === 0 || all[i - 1] >= v)")).await;
    told.fetch_sub(1, Ordering::Relaxed);
    browser.run("rowsMoved = 0").await;
    let first = "document.querySelector('.fleet tbody tr').dataset.row";
    let last = browser.eval("document.querySelector('.fleet tbody tr:last-child').dataset.row").await;
    let last: usize = last.as_str().unwrap().strip_prefix("truck-").unwrap().parse().unwrap();
    all_tell(&[(700, 66.0), (0, 55.0), (1, 44.0), (last, 200.0)]).await;
    browser.reads(first, format!("truck-{last}")).await;
    browser.reads("rowsMoved", 1).await;
    let stalled = browser.longest_task().await;
    println!("1,000 rows, all changing: the page was busy for at most {stalled:.0} ms at a time");
    assert!(stalled < 1_500.0, "{stalled} ms");
}
