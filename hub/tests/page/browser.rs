//! A browser, driven over the WebDriver protocol.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::rig::{LONG, free_port, http::request, until};

/// Keys that WebDriver names by characters of its own.
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const HOME: &str = "\u{e011}";
pub(crate) const LEFT: &str = "\u{e012}";

pub(crate) struct Browser {
    driver: Child,
    at: SocketAddr,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub(crate) async fn start(dark: bool) -> Option<Self> {
        let found =
            ["/usr/bin/chromedriver", "/usr/lib/chromium/chromedriver"].into_iter().find(|p| Path::new(p).exists());
        let Some(program) = found else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "no chromedriver: install chromium-driver");
            println!("skipped: no chromedriver (Debian: chromium-driver)");
            return None;
        };
        // Not one of those that connections go out from: who asks whether anybody listens there may meet himself.
        let port = free_port();
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
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": args}, "goog:loggingPrefs": {"browser": "ALL"}}}});
        let mut browser = Self { driver, at, session: String::new(), _profile: profile };
        let answer = browser.ask("POST", "", Some(wanted)).await;
        browser.session = format!("/{}", answer["sessionId"].as_str().unwrap());
        browser.size(1280, 900).await;
        Some(browser)
    }

    async fn ask(&self, method: &str, what: &str, body: Option<Value>) -> Value {
        let path = format!("/session{}{what}", self.session);
        let (status, _, answer) = request(self.at, method, &path, body.as_ref()).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        serde_json::from_str::<Value>(&answer).unwrap()["value"].take()
    }

    /// A command of Chromium's own protocol.
    pub(crate) async fn cdp(&self, command: &str, params: Value) -> Value {
        self.ask("POST", "/goog/cdp/execute", Some(json!({"cmd": command, "params": params}))).await
    }

    pub(crate) async fn size(&self, width: u32, height: u32) {
        let device = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.cdp("Emulation.setDeviceMetricsOverride", device).await;
    }

    /// Opens a page of the hub.
    pub(crate) async fn open(&self, hub: SocketAddr, path: &str) {
        self.ask("POST", "/url", Some(json!({"url": format!("http://{hub}{path}")}))).await;
    }

    /// Opens a page and waits until it is connected to the hub.
    pub(crate) async fn watch(&self, hub: SocketAddr, path: &str) {
        self.open(hub, path).await;
        self.sees("document.getElementById('feed').dataset.feed === 'connected'").await;
    }

    /// The value of an expression in the page.
    pub(crate) async fn eval(&self, expression: &str) -> Value {
        self.run(&format!("return {expression}")).await
    }

    /// What a script in the page returns.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", Some(json!({"script": script, "args": []}))).await
    }

    /// Waits until an expression in the page is true.
    pub(crate) async fn sees(&self, expression: &str) {
        let began = Instant::now();
        while self.eval(expression).await != json!(true) {
            assert!(began.elapsed() < LONG, "never: {expression}\n{}", self.eval("document.body.innerText").await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until an expression in the page has a value.
    pub(crate) async fn reads(&self, expression: &str, wanted: impl Into<Value>) {
        let (began, wanted) = (Instant::now(), wanted.into());
        loop {
            let value = self.eval(expression).await;
            if value == wanted {
                return;
            }
            assert!(began.elapsed() < LONG, "{expression}: {value}, not {wanted}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn click(&self, selector: &str) {
        self.run(&format!("document.querySelector({selector:?}).click()")).await;
    }

    /// Presses and releases keys one after the other, on whatever has the focus.
    pub(crate) async fn press(&self, keys: &str) {
        let both = |key: char| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})];
        let actions: Vec<Value> = keys.chars().flat_map(both).collect();
        let keyboard = json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]});
        self.ask("POST", "/actions", Some(keyboard)).await;
    }

    /// Moves the mouse to a point of the window.
    pub(crate) async fn hover(&self, (x, y): (i64, i64)) {
        let actions = [json!({"type": "pointerMove", "duration": 50, "x": x, "y": y})];
        let mouse =
            json!({"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": actions});
        self.ask("POST", "/actions", Some(json!({"actions": [mouse]}))).await;
    }

    /// Drags with the mouse between two points of the window.
    pub(crate) async fn drag(&self, from: (i64, i64), to: (i64, i64)) {
        let at = |(x, y): (i64, i64)| json!({"type": "pointerMove", "duration": 50, "x": x, "y": y});
        let actions =
            [at(from), json!({"type": "pointerDown", "button": 0}), at(to), json!({"type": "pointerUp", "button": 0})];
        let mouse =
            json!({"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": actions});
        self.ask("POST", "/actions", Some(json!({"actions": [mouse]}))).await;
    }

    /// Begins to note how long the page's thread was busy at a time.
    pub(crate) async fn time_tasks(&self) {
        self.run(
            "window.longest = 0; new PerformanceObserver((list) => { for (const task of list.getEntries()) \
             window.longest = Math.max(window.longest, task.duration); }).observe({type: 'longtask'})",
        )
        .await;
    }

    /// The longest time since then that the page could not answer, ms; 0 when it was never longer than 50.
    pub(crate) async fn longest_task(&self) -> f64 {
        self.eval("window.longest").await.as_f64().unwrap()
    }

    /// What the page complained about, such as a script that was not found or a style that the policy forbids.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let said = self.ask("POST", "/se/log", Some(json!({"type": "browser"}))).await;
        // What a hub does not have, or not for everybody, is answered so, and no defect of the page.
        let asked = |entry: &Value| entry["source"] == "network" && entry["message"].to_string().contains("/api/v1/");
        let bad = |entry: &&Value| entry["level"] == "SEVERE" && !asked(entry);
        said.as_array().unwrap().iter().filter(bad).map(|entry| entry["message"].to_string()).collect()
    }

    pub(crate) async fn picture(&self, name: &str) {
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
