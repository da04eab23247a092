//! The pages in a real browser: what a person reads is what was published.
//!
//! Chromium and its driver come from Debian's `chromium` and `chromium-driver`; `scripts/test` installs them. Without
//! them this fails under CI and says so elsewhere. SPEEDWELL_SCREENSHOTS=DIR keeps pictures to look at.

mod browser;
mod docs;
mod everywhere;
mod fleet;
mod gateway;
mod history;
mod line;
mod login;
mod registry;
#[path = "../rig/mod.rs"]
mod rig;

use rig::*;
use speedwell_wire::{Live, LiveValue, NoData, Quality, frame};

/// A value as a gateway tells it, or why there is none.
type Told = Result<(f64, f32, Quality), NoData>;

/// A gateway with one speed channel that is connected and says this.
async fn says(broker: &Mosquitto, name: &str, told: Told) -> TestGateway {
    let gateway = TestGateway::connect(name, broker.port).await;
    gateway.manifest(&manifest()).await;
    gateway.publish(gateway.topics.status(), true, status(name, true)).await;
    tell(&gateway, told).await;
    gateway
}

/// Says this of its one channel now.
async fn tell(gateway: &TestGateway, told: Told) {
    static BOOT_NS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let now_ns = BOOT_NS.fetch_add(1, std::sync::atomic::Ordering::Relaxed) * 1_000_000_000;
    let values = vec![LiveValue { channel: 1, t_ns: now_ns - 1_000_000, value: told }];
    let live = Live { manifest: manifest().hash(), boot: 1, now_ns, values };
    gateway.publish(gateway.topics.live(), false, frame::encode(&live)).await;
}
