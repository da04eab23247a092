//! The history: 30 days of a truck in a browser that is never given more than it can draw.

use serde_json::{Value, json};
use speedwell_wire::{Batch, ClockFix, ClockSource, Entry, Loss, LossReason, Quality, Record, Samples, block};

use crate::{
    browser::{Browser, ENTER, HOME, LEFT, TAB},
    rig::*,
};

const DAYS: u64 = 30;
/// A record of ten minutes, a sample every 10 s.
const RECORD_S: u64 = 600;
const SAMPLE_S: u64 = 10;
const TICKS_PER_S: u64 = 10_000;
/// Records of half a day that were lost, on the tenth day.
const LOST: std::ops::Range<u64> = 1_440..1_512;
/// More than this the page may never hold.
const MAX_POINTS: u64 = 4_000;

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Ten minutes of driving; every sixth record stands still, every seventh is only estimated.
fn ten_minutes(n: u64) -> Record {
    let sample = |i: u64| {
        let second = n * RECORD_S + i * SAMPLE_S;
        let speed = if n.is_multiple_of(6) { 0.0 } else { 15.0 + 10.0 * (second as f64 / 9_000.0).sin() };
        block::Sample {
            tick: second * TICKS_PER_S,
            value: (speed * 1_000.0) as i64,
            uncertainty: block::Uncertainty::of(0.02, 0.001),
            quality: match n {
                n if n.is_multiple_of(6) => Quality::Stopped,
                n if n.is_multiple_of(7) => Quality::Estimated,
                _ => Quality::Good,
            },
        }
    };
    let column = block::Column { channel: 1, samples: (0..RECORD_S / SAMPLE_S).map(sample).collect() };
    let manifest = manifest();
    Record::Samples(Samples { manifest: manifest.hash(), boot: 1, block: block::encode(&[column], &manifest) })
}

/// A month of a truck that ends now, with half a day of it lost, all of it stored.
async fn a_month(gateway: &TestGateway) {
    let fix = Record::Clock(ClockFix {
        boot: 1,
        boot_ns: 0,
        utc_ns: (now_ms() - (DAYS * 86_400_000) as i64) * 1_000_000,
        uncertainty_ns: 1_000_000,
        rate_ppb: 0,
        source: ClockSource::Ntp,
    });
    let at = |record: u64| Some((1, record * RECORD_S * 1_000_000_000));
    let loss = Record::Loss(Loss {
        reason: LossReason::SpoolFullOldest,
        records: LOST.end - LOST.start,
        samples: 4_320,
        from: at(LOST.start),
        until: at(LOST.end),
    });
    gateway.manifest(&manifest()).await;
    let mut records = vec![fix];
    records.extend((0..LOST.start).map(ten_minutes));
    records.push(loss);
    records.extend((LOST.end..DAYS * 86_400 / RECORD_S).map(ten_minutes));
    let all = records.len() as u64;
    let mut first = 1;
    for records in records.chunks(200) {
        let entries = records.iter().map(|record| Entry { span: 1, record: record.clone() }).collect();
        gateway.batch(&Batch { gateway: id(&gateway.name), log: LOG, oldest_seq: 1, first_seq: first, entries }).await;
        first += records.len() as u64;
    }
    gateway.confirmed(all).await;
}

fn path(from_ms: i64, to_ms: i64) -> String {
    let iso = |ms| jiff::Timestamp::from_millisecond(ms).unwrap().to_string();
    format!("/history?gateway=truck-7&sensor=front-wheel&quantity=speed&from={}&to={}", iso(from_ms), iso(to_ms))
}

async fn shown(browser: &Browser) {
    browser.sees("document.getElementById('main').dataset.state === 'shown'").await;
}

/// The range in the address, ms.
const SPAN: &str = "(() => { const q = new URLSearchParams(location.search); \
                    return [Date.parse(q.get('from')), Date.parse(q.get('to'))]; })()";
const POINTS: &str = "Number(document.getElementById('main').dataset.points)";
const KIND: &str = "document.getElementById('main').dataset.kind";

async fn range(browser: &Browser) -> (i64, i64) {
    let range = browser.eval(SPAN).await;
    (range[0].as_i64().unwrap(), range[1].as_i64().unwrap())
}

struct Month {
    browser: Browser,
    rig: HubRig,
    _gateway: TestGateway,
    _broker: Mosquitto,
}

async fn month() -> Option<Month> {
    let browser = Browser::start(false).await?;
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    rig.reaches("connections", 1).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    a_month(&gateway).await;
    Some(Month { browser, rig, _gateway: gateway, _broker: broker })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_is_zoomed_into_down_to_single_samples_without_stalling_and_never_with_too_many_points() {
    let Some(Month { browser, rig, .. }) = month().await else { return };
    let now = now_ms();
    browser.watch(rig.hub().http, &path(now - 30 * 86_400_000, now)).await;
    shown(&browser).await;
    browser.time_tasks().await;
    browser.run("document.querySelector('.chart').focus()").await;
    let (mut steps, mut kinds) = (0, Vec::new());
    loop {
        let points = browser.eval(POINTS).await.as_u64().unwrap();
        assert!(points <= MAX_POINTS, "{points} points");
        // All of the range is there, not as much of it as there was room for.
        browser.sees("!document.querySelector('.notes').textContent.includes('more than can be shown')").await;
        kinds.push(browser.eval(KIND).await.as_str().unwrap().to_owned());
        let (from, to) = range(&browser).await;
        if to - from < 120_000 {
            break;
        }
        assert!(points > 10, "{points} points in {} s", (to - from) / 1000);
        browser.press("+").await;
        browser.sees(&format!("JSON.stringify({SPAN}) !== '[{from},{to}]'")).await;
        shown(&browser).await;
        steps += 1;
    }
    assert_eq!((kinds[0].as_str(), kinds.last().unwrap().as_str()), ("sums", "samples"));
    let stalled = browser.longest_task().await;
    println!("30 days down to two minutes in {steps} steps: the page was busy for at most {stalled:.0} ms at a time");
    assert!(stalled < 1_000.0, "{stalled} ms");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_is_marked_and_told_with_its_reason_and_zero_is_no_hole() {
    let Some(Month { browser, rig, .. }) = month().await else { return };
    let now = now_ms();
    let lost = now - 30 * 86_400_000 + 10 * 86_400_000;
    browser.cdp("Emulation.setTimezoneOverride", json!({"timezoneId": "Asia/Kolkata"})).await;
    browser.watch(rig.hub().http, &path(lost - 86_400_000, lost + 86_400_000)).await;
    shown(&browser).await;
    let row = "[...document.querySelectorAll('.gaps tbody tr:first-child td')].slice(2, 7).map((c) => c.textContent)";
    let wanted = json!(["12 h 0 min", "Declared lost", "Disk full: the oldest went", "72", "4,320"]);
    browser.reads(row, wanted).await;
    browser.sees("[...document.querySelectorAll('.legend li')].some((li) => li.textContent === 'Declared lost')").await;
    browser.sees("document.querySelector('.strip').getAttribute('aria-label').includes('Declared lost 25 %')").await;
    let silences = "[...document.querySelectorAll('.legend li')].some((li) => li.textContent === 'Nothing recorded')";
    assert_eq!(browser.eval(silences).await, json!(false), "a loss explains that nothing came");
    browser.picture("history").await;
    // The same as a table: the hole is said, standing still is a number.
    browser.run("document.querySelector('.values').open = true").await;
    let said = "document.querySelector('.values tbody').textContent";
    browser.sees(&format!("{said}.includes('No value')")).await;
    let least = "[...document.querySelectorAll('.values tbody tr')].map((r) => r.cells[2]?.textContent)";
    browser.sees(&format!("{least}.includes('0.00')")).await;
    // Times are the person's own and named; UTC stands beside what is pointed at.
    browser.reads("document.querySelector('.readout .when').textContent", "Times in Asia/Calcutta, UTC+5:30").await;
    browser.run("document.querySelector('.chart').scrollIntoView()").await;
    let place = browser.eval("(() => { const b = document.querySelector('.u-over').getBoundingClientRect(); return [Math.round(b.left + b.width / 4), Math.round(b.top + 60)]; })()").await;
    let (x, y) = (place[0].as_i64().unwrap(), place[1].as_i64().unwrap());
    browser.hover((x, y)).await;
    browser.sees("/^\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d · \\d{4}-.* UTC$/.test(document.querySelector('.readout .when').textContent)").await;
    browser.sees("document.querySelector('.readout .what').textContent.startsWith('mean ')").await;
    // Into the loss by its button.
    browser.click(".gaps tbody button").await;
    browser.sees(&format!("{SPAN}[1] - {SPAN}[0] === 86400000")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_drawn_with_the_mouse_left_by_the_back_button_and_moved_by_keys() {
    let Some(Month { browser, rig, .. }) = month().await else { return };
    let now = now_ms();
    let (from, to) = (now - 10 * 86_400_000, now - 86_400_000);
    browser.watch(rig.hub().http, &path(from, to)).await;
    shown(&browser).await;
    let whole = range(&browser).await;
    let plot = browser.eval("(() => { const b = document.querySelector('.u-over').getBoundingClientRect(); return [b.left, b.top, b.width].map(Math.round); })()").await;
    let at = |share: f64| {
        let [left, top, width] = [0, 1, 2].map(|i| plot[i].as_f64().unwrap());
        ((left + width * share) as i64, top as i64 + 50)
    };
    browser.drag(at(0.25), at(0.75)).await;
    browser.sees(&format!("{SPAN}[0] > {from}")).await;
    shown(&browser).await;
    let half = range(&browser).await;
    let span = (half.1 - half.0) as f64 / (to - from) as f64;
    assert!((0.45..0.55).contains(&span), "{span} of it was drawn over half of it");
    browser.run("window.history.back()").await;
    browser.reads(SPAN, json!([whole.0, whole.1])).await;
    shown(&browser).await;

    browser.run("document.querySelector('.chart').focus()").await;
    browser.press(LEFT).await;
    let fifth = (to - from) / 5;
    browser.sees(&format!("Math.abs({SPAN}[0] - {}) < 2000", from - fifth)).await;
    browser.press("-").await;
    browser.sees(&format!("{SPAN}[1] - {SPAN}[0] > {}", (to - from) * 3 / 2)).await;
    browser.press(HOME).await;
    browser.sees(&format!("{SPAN}[1] - {SPAN}[0] === 3600000")).await;
    // And on to the exports and the presets without a mouse.
    browser.press(TAB).await;
    browser.click(".presets button:nth-child(2)").await;
    browser.sees(&format!("{SPAN}[1] - {SPAN}[0] === 86400000")).await;
    browser
        .sees("document.querySelector('.presets button:nth-child(2)').getAttribute('aria-pressed') === 'true'")
        .await;
    browser.run("document.querySelector('[data-move=in]').focus()").await;
    browser.press(ENTER).await;
    browser.sees(&format!("{SPAN}[1] - {SPAN}[0] === 43200000")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turning_wheel_asks_once_it_rests_and_what_is_no_longer_wanted_is_called_off() {
    let Some(Month { browser, rig, .. }) = month().await else { return };
    let now = now_ms();
    browser.watch(rig.hub().http, &path(now - 10 * 86_400_000, now)).await;
    shown(&browser).await;
    browser
        .run(
            "window.asked = []; const own = window.fetch; window.fetch = (path, options = {}) => {
                const one = { path: String(path), off: false }; window.asked.push(one);
                options.signal?.addEventListener('abort', () => { one.off = true; });
                return own(path, options); };",
        )
        .await;
    let values = "window.asked.filter((a) => /rollup|history/.test(a.path))";
    let turn = "return (async () => {
        for (let i = 0; i < 15; i++) {
            const over = document.querySelector('.u-over');
            const box = over.getBoundingClientRect();
            const at = { clientX: box.left + box.width / 2, clientY: box.top + 9 };
            over.dispatchEvent(new WheelEvent('wheel', { deltaY: -100, ...at, bubbles: true, cancelable: true }));
            await new Promise((r) => setTimeout(r, 20));
        } })()";
    browser.run(turn).await;
    // 15 steps of 1.2: a fifteenth of the ten days is left.
    browser.sees(&format!("Math.abs(({SPAN}[1] - {SPAN}[0]) / (864000000 / 1.2 ** 15) - 1) < 0.01")).await;
    browser.reads(&format!("{values}.length"), 1).await;
    shown(&browser).await;
    // Two presets one right after the other: the first is called off.
    let two = "return (async () => { for (const n of [4, 2]) { document.querySelectorAll('.presets button')[n - 1].click(); \
               await new Promise((r) => setTimeout(r, 0)); } })()";
    browser.run(two).await;
    browser.sees(&format!("{SPAN}[1] - {SPAN}[0] === 86400000")).await;
    shown(&browser).await;
    let calls: Value = browser.eval(&format!("{values}.slice(1).map((a) => a.off)")).await;
    assert!(calls.as_array().unwrap().ends_with(&[json!(false)]), "{calls}");
    assert!(
        calls.as_array().unwrap()[..calls.as_array().unwrap().len() - 1].iter().all(|off| *off == json!(true)),
        "{calls}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_can_be_taken_away() {
    let Some(Month { browser, rig, .. }) = month().await else { return };
    let now = now_ms();
    browser.watch(rig.hub().http, &path(now - 3_600_000, now - 1_800_000)).await;
    shown(&browser).await;
    let link = "[...document.querySelectorAll('.export a')].find((a) => a.textContent === 'CSV').getAttribute('href')";
    let csv = browser.eval(link).await;
    let (status, head, body) = http::request(rig.hub().http, "GET", csv.as_str().unwrap(), None).await;
    assert_eq!(status, 200, "{body}");
    assert!(head.contains("attachment"), "{head}");
    let rows = body.lines().filter(|line| line.contains("front-wheel")).count();
    assert!((150..=190).contains(&rows), "half an hour of one in 10 s: {rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_without_anything_says_where_there_is_something_and_leads_there() {
    let Some(Month { browser, rig, .. }) = month().await else { return };
    let year = 365 * 86_400_000;
    browser.watch(rig.hub().http, &path(now_ms() - 3 * year, now_ms() - 2 * year)).await;
    shown(&browser).await;
    let note = "document.querySelector('.notes').textContent";
    let said = "/^Nothing was recorded in this range. The newest value there is is of \\d{4}-.*\\.$/";
    browser.sees(&format!("{said}.test({note})")).await;
    browser.click(".newest").await;
    browser.sees(&format!("{POINTS} > 0")).await;
    shown(&browser).await;
    browser.reads("document.querySelector('.newest').hidden", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_hub_did_not_answer_is_not_told_as_nothing() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    gateway.batch(&seconds("truck-7", 1..=20)).await;
    gateway.confirmed(20).await;
    let unsaid = "document.querySelector('.gaps').innerText.includes('The hub did not say what is missing.')";
    let blocked = async |what: Value| {
        browser.cdp("Network.enable", json!({})).await;
        browser.cdp("Network.setBlockedURLs", json!({ "urls": what })).await;
    };
    browser.open(rig.hub().http, "/history?gateway=truck-7").await;
    browser.reads("document.getElementById('main').dataset.state", "shown").await;
    browser.reads(unsaid, false).await;
    let links = "document.querySelector('.export a').href";
    let before = browser.eval(links).await;
    // Only what is missing cannot be asked for, then nothing can.
    blocked(json!(["*/api/v1/gaps*"])).await;
    browser.click("[data-move=out]").await;
    browser.reads(unsaid, true).await;
    browser
        .sees("document.querySelector('.notes').textContent.includes('What is missing could not be asked for')")
        .await;
    blocked(json!([])).await;
    browser.click("[data-move=out]").await;
    browser.reads(unsaid, false).await;
    blocked(json!(["*/api/v1/*"])).await;
    browser.click("[data-move=out]").await;
    browser.reads("document.getElementById('main').dataset.state", "failed").await;
    browser.reads(unsaid, true).await;
    browser.reads("document.querySelector('.notes').textContent", "The hub cannot be reached.").await;
    assert_ne!(browser.eval(links).await, before, "a file would be of another range than what is shown");
}
