//! `[presence]`: who counts as connected.

use std::time::Duration;

use serde::Deserialize;

/// `[presence]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Presence {
    /// How often gateways send their status, s. One that is quiet for 2.5 times as long is silent.
    pub heartbeat_s: Heartbeat,
}

/// Seconds between two status messages, 1 to 3600.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct Heartbeat(u16);

impl Heartbeat {
    /// What gateways do unless told otherwise.
    const USUAL: Self = Self(60);
    const MOST: u16 = 3600;
}

impl TryFrom<u32> for Heartbeat {
    type Error = String;
    fn try_from(seconds: u32) -> Result<Self, String> {
        let ok = u16::try_from(seconds).ok().filter(|seconds| (1..=Self::MOST).contains(seconds));
        ok.map(Self).ok_or_else(|| format!("heartbeat-s {seconds}: wanted 1 to {} seconds", Self::MOST))
    }
}

impl Default for Presence {
    fn default() -> Self {
        Self { heartbeat_s: Heartbeat::USUAL }
    }
}

impl Presence {
    /// How often gateways send their status.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.heartbeat_s.0.into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn a_heartbeat_that_is_none_is_told_with_its_line_and_what_is_allowed() {
        let with = |s: &str| Config::parse(&format!("[broker]\nurl = \"mqtt://b\"\n[presence]\n{s}\n"), "hub.toml");
        assert_eq!(with("heartbeat-s = 5").unwrap().presence.heartbeat().as_secs(), 5);
        assert_eq!(with("").unwrap().presence.heartbeat().as_secs(), 60);
        for bad in ["heartbeat-s = 0", "heartbeat-s = 3601", "heartbeat-s = -1"] {
            let told = with(bad).unwrap_err().to_string();
            assert!(told.contains("line 4"), "{told}");
        }
        assert!(with("heartbeat-s = 0").unwrap_err().to_string().contains("wanted 1 to 3600 seconds"));
    }
}
