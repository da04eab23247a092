//! What holds on every page, by day and by night: names for all that can be used, contrast, room on a phone.

use serde_json::{Value, json};
use speedwell_wire::{NoData, Quality};

use crate::{browser::Browser, rig::*, says};

const PAGES: [&str; 4] = ["/", "/gateway/truck-7", "/history", "/login"];
/// A phone in a hand.
const PHONE: (u32, u32) = (390, 844);
/// The narrowest that are sold.
const SMALL_PHONE: u32 = 360;
/// Roles that can be used; a screen reader says their name, or nothing when there is none.
const USABLE: [&str; 14] = [
    "button",
    "link",
    "textbox",
    "searchbox",
    "combobox",
    "checkbox",
    "radio",
    "slider",
    "spinbutton",
    "tab",
    "DisclosureTriangle",
    "meter",
    "DateTime",
    "InputTime",
];

/// A hub with gateways that move, stand, are not sure, see nothing and are gone.
async fn fleet() -> (Mosquitto, HubRig, Vec<TestGateway>) {
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    rig.reaches("connections", 1).await;
    let mut gateways = Vec::new();
    for (name, told) in [
        ("truck-7", Ok((22.2, 0.5, Quality::Good))),
        ("truck-8", Ok((0.0, 0.0, Quality::Stopped))),
        ("truck-9", Ok((4.0, 0.9, Quality::Estimated))),
        ("truck-10", Ok((4.0, 0.9, Quality::Degraded))),
        ("truck-11", Err(NoData::Fault)),
        ("a-name-that-is-as-long-as-one-may-be-0123456789-0123456789-01234", Err(NoData::Silent)),
    ] {
        gateways.push(says(&broker, name, told).await);
    }
    let gone = &gateways[4];
    gone.publish(gone.topics.status(), true, status(&gone.name, false)).await;
    gateways[0].batch(&seconds("truck-7", 1..=20)).await;
    gateways[0].confirmed(20).await;
    (broker, rig, gateways)
}

/// Opens a page and waits until it shows what it is about.
async fn ready(browser: &Browser, rig: &HubRig, page: &str) {
    let there = match page {
        "/" => "document.querySelectorAll('.fleet tbody tr').length === 6",
        "/history" => "document.getElementById('main').dataset.state === 'shown'",
        "/login" => "document.activeElement.name === 'name'",
        _ => "!!document.querySelector('.panel canvas') && !!document.querySelector('.sensors tbody tr')",
    };
    browser.open(rig.hub().http, page).await;
    browser.sees(there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_can_be_used_has_a_name_that_a_screen_reader_says() {
    let Some(browser) = Browser::start(false).await else { return };
    let (_broker, rig, _gateways) = fleet().await;
    for page in PAGES {
        ready(&browser, &rig, page).await;
        browser.cdp("Accessibility.enable", json!({})).await;
        let tree = browser.cdp("Accessibility.getFullAXTree", json!({})).await;
        let mut found = 0;
        for node in tree["nodes"].as_array().unwrap() {
            let role = node["role"]["value"].as_str().unwrap_or_default();
            let focusable = node["properties"].as_array().is_some_and(|properties| {
                properties.iter().any(|p| p["name"] == "focusable" && p["value"]["value"] == json!(true))
            });
            let shown = node["ignored"] != json!(true);
            let known = !["RootWebArea", "main"].contains(&role);
            if shown && known && (USABLE.contains(&role) || role == "img" || focusable) {
                let name = node["name"]["value"].as_str().unwrap_or_default();
                assert!(!name.trim().is_empty(), "{page}: a {role} without a name: {node}");
                found += 1;
            }
        }
        assert!(found >= 8, "{page}: only {found} things that can be used");
        // One heading of the first level, and the places a screen reader jumps to.
        browser.reads("document.querySelectorAll('h1').length", 1).await;
        browser.reads("['header', 'nav', 'main'].every((p) => document.querySelectorAll(p).length === 1)", true).await;
        let loud = "[...document.querySelectorAll('[aria-live], [role=status], [role=alert]')].map((e) => e.id || e.className).join()";
        let wanted = if page == "/login" { "feed,wrong" } else { "feed" };
        browser.reads(loud, wanted).await;
        assert_eq!(browser.complaints().await, Vec::<String>::new(), "{page}");
    }
}

/// Of each piece of text its contrast with what is behind it, the ten worst: [ratio, is a number, text].
pub(crate) const CONTRASTS: &str = r"
    const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return [r, g, b, a]; };
    const over = ([r, g, b, a], under) => [r, g, b].map((c, i) => c * a + under[i] * (1 - a)).concat(1);
    const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map((c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
        return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
    const behind = (at) => { if (!at) return [255, 255, 255, 1]; const own = parse(getComputedStyle(at).backgroundColor);
        return own[3] === 1 ? own : over(own, behind(at.parentElement)); };
    const found = [];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const at = walk.currentNode.parentElement;
        if (!walk.currentNode.textContent.trim() || !at.getClientRects().length || at.closest('.skip, noscript, script')) continue;
        const style = getComputedStyle(at);
        const under = behind(at);
        const ink = over(parse(at.closest('svg') ? style.fill : style.color), under);
        const [a, b] = [light(ink), light(under)].sort((x, y) => y - x);
        found.push([(a + 0.05) / (b + 0.05), at.matches('.number, .value, .gauge .number'), at.textContent.slice(0, 40)]);
    }
    for (const name of ['--plot', '--good', '--warn', '--bad', '--stopped', '--edge']) {
        const probe = document.createElement('i'); probe.style.color = `var(${name})`; document.body.append(probe);
        const ink = parse(getComputedStyle(probe).color);
        probe.style.color = 'var(--card)';
        const [a, b] = [light(ink), light(parse(getComputedStyle(probe).color))].sort((x, y) => y - x);
        probe.remove();
        // Lines and edges need 3 : 1; counted here so that all are held against 4.5.
        found.push([(a + 0.05) / (b + 0.05) * 1.5, false, name]);
    }
    return found;";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_can_be_read_by_day_and_by_night_and_numbers_in_the_sun() {
    let Some(browser) = Browser::start(false).await else { return };
    let (_broker, rig, _gateways) = fleet().await;
    for theme in ["light", "dark"] {
        for page in PAGES {
            ready(&browser, &rig, page).await;
            let choose = format!("const theme = document.getElementById('theme'); theme.value = '{theme}';");
            browser.run(&format!("{choose} theme.dispatchEvent(new Event('change'))")).await;
            browser.reads("document.documentElement.dataset.theme", theme).await;
            let found = browser.run(CONTRASTS).await;
            let mut numbers = 0;
            for piece in found.as_array().unwrap() {
                let (ratio, number) = (piece[0].as_f64().unwrap(), piece[1] == json!(true));
                numbers += u32::from(number);
                // WCAG 1.4.3, and 1.4.6 for the numbers.
                let least = if number { 7.0 } else { 4.5 };
                assert!(ratio >= least, "{theme} {page}: {ratio:.2} : 1 of {}", piece[2]);
            }
            assert!(numbers >= 1 || page == "/login" || page == "/history", "{page}");
        }
    }
    // The choice is kept when the page is left.
    ready(&browser, &rig, "/").await;
    browser.reads("document.documentElement.dataset.theme", "dark").await;
    browser.reads("document.getElementById('theme').value", "dark").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_set_to_dark_gets_dark_pages_unless_told_otherwise() {
    let Some(browser) = Browser::start(true).await else { return };
    let (_broker, rig, _gateways) = fleet().await;
    ready(&browser, &rig, "/").await;
    browser.reads("matchMedia('(prefers-color-scheme: dark)').matches", true).await;
    browser.reads("document.documentElement.dataset.theme", "dark").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_shows_every_page_without_scrolling_sideways_and_with_room_for_a_thumb() {
    let Some(browser) = Browser::start(false).await else { return };
    let (_broker, rig, _gateways) = fleet().await;
    browser.size(PHONE.0, PHONE.1).await;
    for page in PAGES {
        ready(&browser, &rig, page).await;
        if page == "/" {
            browser.click(".filters-open").await;
        }
        for width in [PHONE.0, SMALL_PHONE] {
            browser.size(width, PHONE.1).await;
            // Plots follow within half a second.
            browser.sees(&format!("document.documentElement.scrollWidth <= {width}")).await;
            if page == "/" {
                // Two columns, of the same width and beginning on one line, whatever the names.
                let columns = "[...new Set([...document.querySelectorAll('.fleet tbody tr')].map((row) => getComputedStyle(row).gridTemplateColumns.split(' ').map(parseFloat)).map(([a, b, ...more]) => Math.abs(a - b) < 1 && !more.length))]";
                browser.reads(columns, json!([true])).await;
            }
        }
        browser.size(PHONE.0, PHONE.1).await;
        let small = browser
            .eval(
                "[...document.querySelectorAll('button, select, input, summary, nav a, td > a')].filter((e) => e.getClientRects().length \
                 && e.getBoundingClientRect().height < 43.5).map((e) => e.outerHTML.slice(0, 80))",
            )
            .await;
        assert_eq!(small, Value::Array(Vec::new()), "{page}: less than 44 px high");
        browser.picture(&format!("phone{}", page.replace('/', "-"))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_less_motion_gets_none() {
    let Some(browser) = Browser::start(false).await else { return };
    let (_broker, rig, _gateways) = fleet().await;
    ready(&browser, &rig, "/gateway/truck-7").await;
    let moves = "getComputedStyle(document.querySelector('.gauge .needle')).transitionDuration";
    browser.reads(moves, "0.25s").await;
    let less = json!({"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]});
    browser.cdp("Emulation.setEmulatedMedia", less).await;
    browser.reads(moves, "0s").await;
}
