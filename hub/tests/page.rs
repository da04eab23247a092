//! The page in a real browser: what a person reads is what was published.
//!
//! Chromium and its driver come from Debian's `chromium` and `chromium-driver`; `scripts/test` installs them. Without
//! them this fails under CI and says so elsewhere. SPEEDWELL_SCREENSHOTS=DIR keeps pictures to look at.

mod rig;

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rig::{http::request, *};
use serde_json::{Value, json};
use speedwell_wire::{Loss, LossReason, NoData, Quality, Record, frame};

/// A browser, driven over the WebDriver protocol.
struct Browser {
    driver: Child,
    at: SocketAddr,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    async fn start(dark: bool) -> Option<Self> {
        let found =
            ["/usr/bin/chromedriver", "/usr/lib/chromium/chromedriver"].into_iter().find(|p| Path::new(p).exists());
        let Some(program) = found else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "no chromedriver: install chromium-driver");
            println!("skipped: no chromedriver (Debian: chromium-driver)");
            return None;
        };
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let driver = Command::new(program)
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        until("chromedriver listens", || std::net::TcpStream::connect(at).is_ok()).await;
        let profile = tempfile::tempdir().unwrap();
        let mut args = vec![format!("--user-data-dir={}", profile.path().display())];
        let fixed = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
                     --disable-background-networking --disable-component-update --disable-sync --hide-scrollbars";
        args.extend(fixed.split_whitespace().map(str::to_owned));
        if dark {
            args.push("--force-dark-mode".into());
            args.push("--blink-settings=preferredColorScheme=0".into());
        }
        let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": args}}}});
        let mut browser = Self { driver, at, session: String::new(), _profile: profile };
        let answer = browser.ask("POST", "", Some(wanted)).await;
        browser.session = format!("/{}", answer["sessionId"].as_str().unwrap());
        Some(browser)
    }

    async fn ask(&self, method: &str, what: &str, body: Option<Value>) -> Value {
        let path = format!("/session{}{what}", self.session);
        let (status, _, answer) = request(self.at, method, &path, body.as_ref()).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        serde_json::from_str::<Value>(&answer).unwrap()["value"].take()
    }

    async fn open(&self, at: SocketAddr, width: u32, height: u32) {
        let device = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params":
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}});
        self.ask("POST", "/goog/cdp/execute", Some(device)).await;
        self.ask("POST", "/url", Some(json!({"url": format!("http://{at}/")}))).await;
    }

    /// The value of an expression in the page.
    async fn eval(&self, expression: &str) -> Value {
        self.ask("POST", "/execute/sync", Some(json!({"script": format!("return {expression}"), "args": []}))).await
    }

    /// Waits until an expression in the page is true.
    async fn sees(&self, expression: &str) {
        let began = Instant::now();
        while self.eval(expression).await != json!(true) {
            assert!(began.elapsed() < LONG, "never: {expression}\n{}", self.eval("document.body.innerText").await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn picture(&self, name: &str) {
        let Some(directory) = std::env::var_os("SPEEDWELL_SCREENSHOTS") else { return };
        let picture = self.ask("GET", "/screenshot", None).await;
        // Kept as the base64 it comes in; `base64 -d` makes the PNG.
        std::fs::write(Path::new(&directory).join(format!("{name}.png.b64")), picture.as_str().unwrap()).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser when it is asked to; killed, it would leave it behind.
        if let Ok(mut stream) = std::net::TcpStream::connect(self.at) {
            use std::io::{Read, Write};
            let _ = write!(stream, "DELETE /session{} HTTP/1.1\r\nHost: {}\r\n\r\n", self.session, self.at);
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let _ = stream.read(&mut [0; 512]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// The card of a channel, as an expression.
fn card(sensor: &str, quantity: &str) -> String {
    format!("document.querySelector('[data-gateway=truck-7] [data-sensor={sensor}][data-quantity={quantity}]')")
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
    browser.open(rig.hub().http, 1280, 900).await;
    browser.sees("document.getElementById('feed').dataset.feed === 'connected'").await;
    browser.sees("!document.getElementById('none').hidden").await;

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

    browser.eval("document.querySelector('input[value=\"km/h\"]').click()").await;
    browser.sees(&format!("{front}.dataset.value === '80.0' && {front}.dataset.unit === 'km/h'")).await;
    browser.sees(&format!("{stopped}.querySelector('.number').textContent === '0.0'")).await;
    say(&gateway, 10.0, 2_000_000_000).await;
    browser.sees(&format!("{front}.dataset.value === '36.0'")).await;
    // Nothing more comes: the number stays, its age counts up and says so.
    browser.sees(&format!("{front}.classList.contains('late')")).await;
    browser.sees(&format!("parseFloat({front}.querySelector('.age').textContent.slice(9)) > 5")).await;

    let stored = "document.querySelector('[data-gateway=truck-7] .stored').textContent";
    browser.sees(&format!("{stored} === ''")).await;
    let loss = Loss { reason: LossReason::SpoolFullOldest, records: 1, samples: 500, from: None, until: None };
    gateway.batch(&batch("truck-7", 1, [Record::Loss(loss)])).await;
    browser.sees(&format!("{stored} === 'stored up to record 1 · 500 samples declared lost'")).await;

    gateway.publish(gateway.topics.status(), true, status("truck-7", false)).await;
    browser.sees("document.querySelector('[data-gateway=truck-7]').dataset.connection === 'offline'").await;
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
    browser.open(rig.hub().http, 1280, 900).await;
    browser.sees("document.getElementById('feed').dataset.feed === 'connected'").await;
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
async fn the_page_holds_together_on_a_phone_and_on_a_desk_by_day_and_by_night() {
    for dark in [false, true] {
        let Some(browser) = Browser::start(dark).await else { return };
        let broker = Mosquitto::start();
        let rig = HubRig::start(broker.url()).await;
        rig.reaches("connections", 1).await;
        let gateway = TestGateway::connect("truck-7", broker.port).await;
        gateway.manifest(&live_manifest()).await;
        gateway.publish(gateway.topics.status(), true, status("truck-7", true)).await;
        browser.open(rig.hub().http, 1280, 900).await;
        browser.sees("document.getElementById('feed').dataset.feed === 'connected'").await;
        // With pictures asked for, long enough for the plot to show something; with a hole in it.
        let seconds = if std::env::var_os("SPEEDWELL_SCREENSHOTS").is_some() { 24 } else { 2 };
        for s in (1..=seconds).filter(|s| !(10..15).contains(s)) {
            say(&gateway, 17.0 + 4.0 * (s as f64 / 3.0).sin(), s * 1_000_000_000).await;
            tokio::time::sleep(Duration::from_millis(if s == 9 { 6000 } else { 1000 })).await;
        }
        browser.sees(&format!("!!{}?.querySelector('canvas')", card("front-wheel", "speed"))).await;
        let name = if dark { "dark" } else { "light" };
        assert_eq!(browser.eval("matchMedia('(prefers-color-scheme: dark)').matches").await, json!(dark));
        for (width, height) in [(1280, 900), (390, 844)] {
            if width == 390 {
                browser.open(rig.hub().http, width, height).await;
                for s in 0..3 {
                    say(&gateway, 21.0 + s as f64 / 10.0, (seconds + 1 + s) * 1_000_000_000).await;
                    tokio::time::sleep(Duration::from_millis(if seconds > 2 { 1000 } else { 100 })).await;
                }
                browser.sees(&format!("!!{}?.querySelector('canvas')", card("front-wheel", "speed"))).await;
            }
            let wide = browser.eval("document.documentElement.scrollWidth").await;
            assert!(wide.as_u64().unwrap() <= width.into(), "{wide} px of content on {width} px");
            browser.picture(&format!("page-{name}-{width}")).await;
        }
    }
}

/// What stands between the page and the hub, and can be cut. Keeps the first line of each request.
struct Line {
    at: SocketAddr,
    cut: tokio::sync::watch::Sender<bool>,
    asked: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

impl Line {
    async fn to(hub: SocketAddr) -> Self {
        use tokio::{
            io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
            net::{TcpListener, TcpStream},
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (cut, is_cut) = tokio::sync::watch::channel(false);
        let asked = std::sync::Arc::<std::sync::Mutex<Vec<String>>>::default();
        let lines = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut page, _)) = listener.accept().await {
                let (mut is_cut, lines) = (is_cut.clone(), lines.clone());
                tokio::spawn(async move {
                    let carry = async {
                        let mut head = vec![0; 16384];
                        let n = page.read(&mut head).await.unwrap_or(0);
                        let text = String::from_utf8_lossy(&head[..n]).into_owned();
                        lines.lock().unwrap().extend(text.lines().next().map(str::to_owned));
                        let mut hub = TcpStream::connect(hub).await.unwrap();
                        hub.write_all(&head[..n]).await.unwrap();
                        let _ = copy_bidirectional(&mut page, &mut hub).await;
                    };
                    tokio::select! {
                        () = carry => {}
                        _ = is_cut.wait_for(|cut| *cut) => {}
                    }
                });
            }
        });
        Self { at, cut, asked }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_was_cut_off_comes_again_and_goes_on_where_it_was() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let line = Line::to(rig.hub().http).await;
    let gateway = TestGateway::connect("truck-7", broker.port).await;
    gateway.manifest(&live_manifest()).await;
    say(&gateway, 22.2222, 1_000_000_000).await;
    browser.open(line.at, 1280, 900).await;
    let shows =
        |speed: &str| format!("{}?.querySelector('.number').textContent === '{speed}'", card("front-wheel", "speed"));
    browser.sees(&shows("22.22")).await;
    line.cut.send_replace(true);
    browser.sees("document.getElementById('feed').dataset.feed !== 'connected'").await;
    say(&gateway, 0.0, 2_000_000_000).await;
    line.cut.send_replace(false);
    browser.sees("document.getElementById('feed').dataset.feed === 'connected'").await;
    browser.sees(&shows("0.00")).await;
    let asked = line.asked.lock().unwrap().clone();
    assert!(asked.iter().any(|line| line.starts_with("GET /ws HTTP")), "{asked:?}");
    assert!(asked.iter().any(|line| line.starts_with("GET /ws?since=") && line.contains('.')), "{asked:?}");
}
