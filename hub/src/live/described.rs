//! How what a gateway says of itself looks, for the description of the API. The wire knows no OpenAPI, and these know
//! nothing else: a test in `api` holds them to what is told.

use utoipa::ToSchema;

/// What a gateway's agent says of itself, with its status once a minute.
#[derive(ToSchema)]
#[schema(as = GatewayHealth, rename_all = "kebab-case")]
#[expect(dead_code, reason = "its fields are read by the derive alone")]
pub(super) struct Health {
    /// Since the agent started, s.
    uptime_s: u64,
    /// Number of the machine's boot.
    boot: u32,
    /// The log that is written now, 16 hexadecimal digits.
    #[schema(pattern = "^[0-9a-f]{16}$")]
    log: String,
    /// The last record of it that the gateway has on its disk.
    last_seq: u64,
    /// The last record of it that a hub has confirmed; 0 when none is.
    confirmed_seq: u64,
    /// What is kept takes so many bytes of its disk.
    spool_bytes: u64,
    /// Samples it let go since the agent started, each declared as a loss.
    lost_samples: u64,
    /// Who vouches for its clock: `untrusted` (nobody), `ntp`, `gnss`, `rtc`.
    clock: String,
    /// Memory the agent takes, bytes.
    rss_bytes: u64,
    /// Each sensor it is configured with.
    sensors: Vec<SensorHealth>,
}

/// What a gateway's agent says of a sensor.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
#[expect(dead_code, reason = "its fields are read by the derive alone")]
pub(super) struct SensorHealth {
    /// Its name in the gateway's configuration.
    name: String,
    /// Why it gives no value, as `silent` or `fault`; null when it does.
    #[schema(required)]
    trouble: Option<String>,
    /// What is wrong and what to do, in words; empty when all is well.
    detail: String,
    /// Edges, frames or sentences taken since the agent started.
    inputs: u64,
    /// Those that were lost, as far as that can be seen.
    lost: u64,
    /// Those that were refused as impossible or broken.
    rejected: u64,
}
