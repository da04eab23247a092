//! A page behind a line that is cut.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use speedwell_wire::Quality;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{browser::Browser, rig::*, says, tell};

/// What stands between the page and the hub, and can be cut. Keeps the first line of each request.
struct Line {
    at: SocketAddr,
    cut: watch::Sender<bool>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Line {
    async fn to(hub: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(false);
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let lines = asked.clone();
        tokio::spawn(async move {
            while let Ok((page, _)) = listener.accept().await {
                let (mut is_cut, carry) = (is_cut.clone(), carry(page, hub, lines.clone()));
                tokio::spawn(async move {
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

async fn carry(mut page: TcpStream, hub: SocketAddr, lines: Arc<Mutex<Vec<String>>>) {
    let mut head = vec![0; 16384];
    let n = page.read(&mut head).await.unwrap_or(0);
    let text = String::from_utf8_lossy(&head[..n]).into_owned();
    lines.lock().unwrap().extend(text.lines().next().map(str::to_owned));
    let mut hub = TcpStream::connect(hub).await.unwrap();
    hub.write_all(&head[..n]).await.unwrap();
    let _ = copy_bidirectional(&mut page, &mut hub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_was_cut_off_says_so_comes_again_and_shows_what_is_new() {
    let Some(browser) = Browser::start(false).await else { return };
    let broker = Mosquitto::start();
    let rig = HubRig::start(broker.url()).await;
    let line = Line::to(rig.hub().http).await;
    let gateway = says(&broker, "truck-7", Ok((22.2222, 0.02, Quality::Good))).await;
    browser.watch(line.at, "/gateway/truck-7").await;
    let shows = "document.querySelector('.channel .number')?.textContent";
    browser.reads(shows, "22.22").await;
    line.cut.send_replace(true);
    browser.reads("document.querySelector('#feed .text').textContent", "Hub not reachable, trying again").await;
    // Nobody knows any more whether it is connected, and that is said where it says so, and in view wherever one is.
    let state = "document.querySelector('.gateway .state')";
    browser.reads(&format!("{state}.textContent.trim()"), "Connected, when the hub was last heard").await;
    browser.reads(&format!("{state}.dataset.connection"), "untold").await;
    browser.size(360, 640).await;
    browser.run("scrollTo(0, document.body.scrollHeight)").await;
    let seen = "(({ top, bottom }) => top > 0 && bottom < innerHeight)(document.getElementById('feed').getBoundingClientRect())";
    browser.sees(seen).await;
    browser.picture("lost").await;
    tell(&gateway, Ok((0.0, 0.0, Quality::Stopped))).await;
    line.cut.send_replace(false);
    browser.reads("document.querySelector('#feed .text').textContent", "Connected to the hub").await;
    browser.reads(shows, "0.00").await;
    browser.reads(&format!("{state}.textContent.trim()"), "Connected").await;
    let asked = line.asked.lock().unwrap().clone();
    let feeds = asked.iter().filter(|line| line.starts_with("GET /ws?gateway=truck-7")).count();
    assert!(feeds >= 2, "{asked:?}");
    assert!(asked.iter().any(|line| line.starts_with("GET /ws") && line.contains("since=")), "{asked:?}");
}
