//! The page of one gateway.

use std::time::Duration;

use serde_json::json;
use speedwell_wire::{
    ClockSource, Loss, LossReason, NoData, Quality, Record, Status, frame,
    message::{Health, SensorHealth},
};

use crate::{browser::Browser, rig::*, says, tell};

const PATH: &str = "/gateway/truck-7";

/// The card of a channel, as an expression.
fn card(sensor: &str, quantity: &str) -> String {
    format!("document.querySelector('[data-gateway=truck-7] [data-sensor={sensor}][data-quantity={quantity}]')")
}

/// What the page tells of the gateway itself, as an expression.
fn fact(name: &str) -> String {
    format!(
        "[...document.querySelectorAll('.self dt')].find((dt) => dt.textContent === '{name}')?.nextElementSibling.textContent"
    )
}

async fn say(gateway: &TestGateway, speed: f64, now_ns: u64) {
    say_counting(gateway, speed, 17.0, now_ns).await;
}

async fn say_counting(gateway: &TestGateway, speed: f64, refused: f64, now_ns: u64) {
    let count = |count| Ok((count, 0.0, Quality::Good));
    let values = [
        (1, Ok((speed, 0.018, Quality::Good))),
        (2, Ok((0.0, 0.0, Quality::Stopped))),
        (3, Err(NoData::NoFix)),
        (4, Ok((speed * 0.93, 0.4, Quality::Degraded))),
        (5, Ok((48.13743, 0.00002, Quality::Good))),
        (6, Ok((271.4, 0.8, Quality::Estimated))),
        (7, Ok((18_234.5, 0.6, Quality::Good))),
        (8, count(0.0)),
        (9, count(3.0)),
        (10, count(refused)),
    ];
    gateway.publish(gateway.topics.live(), false, frame::encode(&live(&values, now_ns))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_reads_the_speed_that_was_published_zero_as_zero_and_silence_as_silence() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let mut rig = HubRig::start(broker.url()).await;
    rig.reaches("connections", 1).await;
    browser.watch(rig.hub().http, PATH).await;
    browser.sees("!document.querySelector('.empty').hidden").await;

    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&live_manifest()).await;
    gateway.publish(gateway.topics.status(), true, status("truck-7", true)).await;
    say(&gateway, 22.2222, 1_000_000_000).await;
    let front = card("front-wheel", "speed");
    browser.sees(&format!("{front}?.querySelector('.number').textContent === '22.22'")).await;
    browser.sees(&format!("{front}.querySelector('.unit').textContent === 'm/s'")).await;
    browser.sees(&format!("{front}.querySelector('.uncertainty').textContent === '± 0.018'")).await;
    browser.sees(&format!("{front}.querySelector('.quality').textContent === 'Good'")).await;
    browser.sees("document.querySelector('[data-gateway=truck-7]').dataset.connection === 'online'").await;

    let stopped = card("ecu-speed", "speed");
    browser.sees(&format!("{stopped}.querySelector('.number').textContent === '0.00'")).await;
    browser.sees(&format!("{stopped}.querySelector('.quality').textContent === 'Stopped'")).await;
    let silent = card("gnss", "speed");
    browser.sees(&format!("{silent}.querySelector('.number').textContent === ''")).await;
    browser.sees(&format!("{silent}.dataset.value === undefined && {silent}.dataset.noData === 'no-fix'")).await;
    browser.sees(&format!("{silent}.querySelector('.reason').textContent === 'No satellite fix'")).await;

    let choose = "const unit = document.getElementById('unit'); unit.value = 'km/h';";
    browser.run(&format!("{choose} unit.dispatchEvent(new Event('change'))")).await;
    browser.sees(&format!("{front}.dataset.value === '80.0' && {front}.dataset.unit === 'km/h'")).await;
    browser.sees(&format!("{stopped}.querySelector('.number').textContent === '0.0'")).await;
    say(&gateway, 10.0, 2_000_000_000).await;
    browser.sees(&format!("{front}.dataset.value === '36.0'")).await;
    // Nothing more comes: the number stays, its age counts up and says so.
    browser.sees(&format!("{front}.classList.contains('late')")).await;
    browser.sees(&format!("parseFloat({front}.querySelector('.age').textContent.slice(9)) > 5")).await;

    browser.reads(&fact("Declared lost"), "0 samples stored as lost").await;
    let loss = Loss { reason: LossReason::SpoolFullOldest, records: 1, samples: 500, from: None, until: None };
    gateway.batch(&batch("truck-7", 1, [Record::Loss(loss)])).await;
    browser.reads(&fact("Declared lost"), "500 samples stored as lost").await;

    gateway.publish(gateway.topics.status(), true, status("truck-7", false)).await;
    browser.sees("document.querySelector('[data-gateway=truck-7]').dataset.connection === 'offline'").await;
    // What it said last is none of now: no number, no needle, and the last one small beside its age.
    browser.reads(&format!("{front}.querySelector('.number').textContent"), "").await;
    browser.reads(&format!("{front}.querySelector('.reason').textContent"), "No value now").await;
    browser.sees(&format!("{front}.querySelector('.age').textContent.startsWith('last 36.0 km/h, ')")).await;
    browser.sees("document.querySelector('.gauge .needle').hasAttribute('hidden')").await;
    browser.reads("document.querySelector('.gauge').dataset.quality", "none").await;
    rig.stop().await;
    browser.sees("document.getElementById('feed').dataset.feed !== 'connected'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_counted_stands_small_on_the_sensors_card_and_bold_when_it_grows() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    rig.reaches("connections", 1).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&live_manifest()).await;
    gateway.publish(gateway.topics.status(), true, status("truck-7", true)).await;
    browser.watch(rig.hub().http, PATH).await;
    say(&gateway, 20.0, 1_000_000_000).await;
    let front = card("front-wheel", "speed");
    let counts = format!("[...{front}?.querySelectorAll('.counts span') ?? []]");
    browser.sees(&format!("{counts}.map((c) => c.textContent).join() === 'lost 0,put back 3,refused 17'")).await;
    browser.sees(&format!("!{counts}.some((c) => c.classList.contains('grew'))")).await;
    browser.sees(&format!("{} === null", card("front-wheel", "rejected"))).await;
    say_counting(&gateway, 20.0, 29.0, 2_000_000_000).await;
    let grew = format!("{counts}.filter((c) => c.classList.contains('grew')).map((c) => c.textContent).join()");
    browser.sees(&format!("{grew} === 'refused 29'")).await;
    let weight = |count| format!("getComputedStyle({front}.querySelector('[data-count={count}]')).fontWeight");
    browser.sees(&format!("{} === '700' && {} === '400'", weight("rejected"), weight("lost"))).await;
    browser.picture("page-counts").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_was_never_heard_is_said_to_be_so_and_no_sheet_of_it_stands_empty() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    rig.reaches("connections", 1).await;
    let vehicle = json!({"id": "v1", "registration": "M-SW 1", "gateways": ["truck-7"]});
    assert_eq!(http::request(rig.hub().http, "POST", "/api/v1/vehicles", Some(&vehicle)).await.0, 201);
    browser.watch(rig.hub().http, PATH).await;
    browser.reads("document.querySelector('.gateway .state').textContent.trim()", "Never heard").await;
    browser.reads("document.querySelector('.vehicle').textContent", "M-SW 1").await;
    let sheets = "[...document.querySelectorAll('.sheet')].filter((e) => e.getClientRects().length).length";
    browser.reads(sheets, 0).await;
    let _gateway = says(&broker, "truck-7", Ok((6.0, 0.5, Quality::Good))).await;
    browser.reads("document.querySelector('.gateway .state').textContent.trim()", "Connected").await;
    browser.sees("document.querySelector('.empty').hidden").await;
    browser.sees(&format!("{sheets} > 2")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dial_points_at_the_value_shows_how_sure_it_is_and_says_in_words_when_there_is_none() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    rig.reaches("connections", 1).await;
    let gateway = says(&broker, "truck-7", Ok((6.0, 0.5, Quality::Good))).await;
    browser.watch(rig.hub().http, PATH).await;
    let dial = "document.querySelector('.gauge svg')";
    let of = |name: &str| format!("{dial}.getAttribute('{name}')");
    browser.reads(&of("role"), "meter").await;
    browser.reads(&of("aria-valuetext"), "6.00 m/s, plus or minus 0.50, Good").await;
    let scale = [browser.eval(&of("aria-valuemin")).await, browser.eval(&of("aria-valuemax")).await];
    assert_eq!(scale, [json!("0"), json!("10")]);
    // 240 degrees from 0 to 10, beginning at 150.
    let angle = "document.querySelector('.gauge .needle').style.transform";
    browser.reads(angle, "rotate(294deg)").await;
    browser.sees("document.querySelector('.gauge .band').getTotalLength() > 30").await;

    tell(&gateway, Ok((0.0, 0.0, Quality::Stopped))).await;
    browser.reads(angle, "rotate(150deg)").await;
    browser.reads(&of("aria-valuetext"), "0.00 m/s, Stopped").await;
    browser.sees("document.querySelector('.gauge .band').getTotalLength() === 0").await;

    tell(&gateway, Err(NoData::Stale)).await;
    browser.reads(&of("role"), "img").await;
    browser.sees("document.querySelector('.gauge .needle').hasAttribute('hidden')").await;
    browser.reads("document.querySelector('.gauge .number').textContent", "").await;
    browser.sees(&format!("{}.includes('Stale') && {} === null", of("aria-label"), of("aria-valuenow"))).await;

    // A scale that has grown for a value stays, in steps a person can read.
    tell(&gateway, Ok((27.0, 0.1, Quality::Good))).await;
    browser.reads(&of("aria-valuemax"), "30").await;
    tell(&gateway, Ok((3.0, 0.1, Quality::Estimated))).await;
    browser.reads(&of("aria-valuetext"), "3.00 m/s, plus or minus 0.10, Estimated").await;
    browser.reads(&of("aria-valuemax"), "30").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_minutes_show_quality_by_more_than_colour_and_a_hole_where_nothing_came() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    rig.reaches("connections", 1).await;
    let gateway = says(&broker, "truck-7", Ok((6.0, 0.5, Quality::Good))).await;
    browser.watch(rig.hub().http, PATH).await;
    for quality in [Quality::Good, Quality::Estimated, Quality::Estimated] {
        tokio::time::sleep(Duration::from_millis(700)).await;
        tell(&gateway, Ok((6.0, 0.5, quality))).await;
    }
    tokio::time::sleep(Duration::from_millis(4_000)).await;
    for _ in 0..3 {
        tell(&gateway, Ok((6.5, 0.5, Quality::Degraded))).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let legend = "[...document.querySelectorAll('.panel .legend li')].map((li) => li.textContent).join()";
    browser.reads(legend, "Good,Estimated,Degraded").await;
    // The strip is drawn in hatches, and tells its shares in words.
    let strip = "document.querySelector('.panel .strip').getAttribute('aria-label')";
    browser.sees(&format!("['Good', 'Estimated', 'Degraded'].every((q) => {strip}.includes(q))")).await;
    browser
        .sees("document.querySelector('.panel .plot').getAttribute('aria-label').includes('from 6.00 to 6.50 m/s')")
        .await;
    let holes = "import('/assets/trace.js').then(({ Trace }) => {
        const trace = new Trace('g', {}, 60);
        for (const [t, q] of [[1, 'good'], [2, 'good'], [7, 'degraded'], [8, 'degraded']]) trace.keep(t, {value: 5, uncertainty: 1, quality: q});
        const { values, lines, pieces } = trace.lines(10, 2);
        return [values, lines[0], lines[2], pieces.map((p) => p.from + '-' + p.to)]; })";
    let [values, good, degraded, pieces] = [
        json!([10, 10, null, 10, 10]),
        json!([10, 10, null, null, null]),
        json!([null, null, null, 10, 10]),
        json!(["1-2", "7-8"]),
    ];
    assert_eq!(browser.eval(holes).await, json!([values, good, degraded, pieces]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_tells_how_the_gateway_and_each_of_its_sensors_are() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    rig.reaches("connections", 1).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&live_manifest()).await;
    browser.watch(rig.hub().http, PATH).await;
    let sensor = |name: &str, trouble, detail: &str, lost| SensorHealth {
        name: name.into(),
        trouble,
        detail: detail.into(),
        inputs: 1_234_567,
        lost,
        rejected: 0,
    };
    let health = Health {
        uptime_s: 3_700,
        boot: 12,
        log: LOG,
        last_seq: 1_500,
        confirmed_seq: 1_483,
        spool_bytes: 7 << 20,
        lost_samples: 0,
        clock: ClockSource::Untrusted,
        rss_bytes: 19 << 20,
        sensors: vec![
            sensor("front-wheel", None, "", 0),
            sensor("gnss", Some(NoData::NoFix), "2 satellites, 4 are needed", 5),
        ],
    };
    let said = Status { gateway: id("truck-7"), online: true, version: "0.1.0".into(), health: Some(health) };
    gateway.publish(gateway.topics.status(), true, serde_json::to_vec(&said).unwrap()).await;
    say(&gateway, 20.0, 1_000_000_000).await;
    browser.reads(&fact("Unconfirmed"), "17 records at its last report").await;
    browser.reads(&fact("Spool on its disk"), "7.0 MiB").await;
    browser.reads(&fact("Clock"), "Not trusted: nobody vouches for its time").await;
    browser.reads(&fact("Agent"), "0.1.0").await;
    browser.sees(&format!("{}.startsWith('1 h 1 min')", fact("Agent runs for"))).await;
    let row = |n: u32| {
        format!("[...document.querySelectorAll('.sensors tbody tr:nth-child({n}) > *')].map((c) => c.textContent)")
    };
    // Since when, the hub's presence tells once it has lasted; until then, a silent one's channel.
    let wheel = format!("{}.filter((_, i) => i !== 2)", row(1));
    browser.reads(&wheel, json!(["front-wheel", "Works", "—", "1,234,567", "0", "0"])).await;
    browser.sees(&format!("{}[2].endsWith(' ago')", row(1))).await;
    browser.sees(&format!("{}[2].endsWith(' ago')", row(2))).await;
    let gnss = browser.eval(&row(2)).await;
    assert_eq!([&gnss[0], &gnss[1], &gnss[3]], ["gnss", "No satellite fix", "2 satellites, 4 are needed"]);
    assert_eq!([&gnss[4], &gnss[5], &gnss[6]], ["1,234,567", "5", "0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_the_database_refuses_is_told_with_the_reason_until_one_is_taken() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    rig.reaches("connections", 1).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&manifest()).await;
    let database = rusqlite::Connection::open(rig.database()).unwrap();
    let refuse = "CREATE TRIGGER rule BEFORE INSERT ON chunks BEGIN SELECT RAISE(ABORT, 'the rule of the house'); END";
    database.execute_batch(refuse).unwrap();
    browser.watch(rig.hub().http, PATH).await;
    gateway.batch(&seconds("truck-7", 1..=3)).await;
    browser.sees(&format!("{}?.endsWith('the rule of the house')", fact("Refused"))).await;
    database.execute_batch("DROP TRIGGER rule").unwrap();
    gateway.batch(&seconds("truck-7", 1..=3)).await;
    gateway.confirmed(3).await;
    browser.reads(&fact("Refused"), json!(null)).await;
}
