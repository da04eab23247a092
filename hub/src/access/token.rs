//! Tokens of sessions and keys of programs: what is handed out once, and what is kept of it.
//!
//! ```text
//! sws_<64 hex>           a session      32 bytes of the operating system's randomness
//! swk_<8 hex>_<64 hex>   a key          the same, after the id that it is listed by
//! ```
//! Only their SHA-256 is kept: 256 random bits cannot be guessed, so nothing slower is needed. The words before them let
//! people, and programs that look for secrets in what is published, see what they have found.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// What is kept of a token.
pub(super) type Hash = [u8; 32];

/// Longer is none.
pub(super) const MAX_TOKEN: usize = 80;
const SESSION: &str = "sws_";
const KEY: &str = "swk_";

/// The operating system gave no randomness. Nothing was made.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random numbers: {0}")]
pub struct NoRandomness(#[from] getrandom::Error);

/// A new session's.
pub(super) fn session() -> Result<String, NoRandomness> {
    Ok(format!("{SESSION}{}", hex(&random::<32>()?)))
}

/// A new key's id, and the key.
pub(super) fn key() -> Result<(String, String), NoRandomness> {
    let id = format!("{KEY}{}", hex(&random::<4>()?));
    let key = format!("{id}_{}", hex(&random::<32>()?));
    Ok((id, key))
}

/// What is kept of it; nothing, if it is none at all.
pub(super) fn hash(token: &str) -> Option<Hash> {
    let ours = token.len() <= MAX_TOKEN && (token.starts_with(SESSION) || token.starts_with(KEY));
    ours.then(|| Sha256::digest(token.as_bytes()).into())
}

fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_what_it_is_and_no_two_are_alike() {
        let (one, other) = (session().unwrap(), session().unwrap());
        assert!(one.starts_with("sws_") && one.len() == 68 && one != other);
        let (id, key) = key().unwrap();
        assert!(key.starts_with(&format!("{id}_")) && key.len() == 77);
        assert!(hash(&key).is_some() && hash(&one) != hash(&other));
        for none in ["", "swx_00", &format!("sws_{}", "0".repeat(100))] {
            assert_eq!(hash(none), None);
        }
    }
}
