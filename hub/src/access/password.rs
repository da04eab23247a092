//! Passwords: how they are kept, and what one has to be.

use std::sync::LazyLock;

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash};

/// Shorter ones are guessed. Nothing else is asked of one: rules about digits and signs make them worse
/// (NIST SP 800-63B, 3.1.1.2).
pub const MIN_CHARS: usize = 12;
/// Longer ones cost memory before anybody has logged in.
pub(super) const MAX_BYTES: usize = 1024;
/// OWASP's password storage cheat sheet: Argon2id with 19 MiB, two passes, one lane. Some 20 ms of a server's core.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// A password that is not taken. The password itself is never told.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// It is too short, or too long.
    #[error(
        "a password has {MIN_CHARS} characters or more, and at most {MAX_BYTES} bytes; this one has {0} characters"
    )]
    Length(usize),
    /// It is what everybody tries first.
    #[error("a password must not be the user's name, nor one character over and over")]
    Obvious,
    /// It could not be made into what is kept.
    #[error("the password could not be hashed: {0}")]
    Hash(String),
}

/// Whether it may be that user's password.
pub(super) fn check(user: &str, password: &str) -> Result<(), PasswordError> {
    let chars = password.chars().count();
    if chars < MIN_CHARS || password.len() > MAX_BYTES {
        return Err(PasswordError::Length(chars));
    }
    let mut all = password.chars();
    let first = all.next();
    match password.eq_ignore_ascii_case(user) || all.all(|c| Some(c) == first) {
        true => Err(PasswordError::Obvious),
        false => Ok(()),
    }
}

/// What is kept of it, with a salt of its own (PHC string format). Takes its time on purpose.
pub(super) fn hash(password: &str) -> Result<String, PasswordError> {
    let failed = |e: &dyn std::fmt::Display| PasswordError::Hash(e.to_string());
    let hash: PasswordHash =
        argon2().map_err(|e| failed(&e))?.hash_password(password.as_bytes()).map_err(|e| failed(&e))?;
    Ok(hash.to_string())
}

/// Whether it is the one. A user who is not there takes as long, so that time does not tell who is.
pub(super) fn verify(kept: Option<&str>, password: &str) -> bool {
    static NOBODY: LazyLock<String> = LazyLock::new(|| hash("nobody has this password").unwrap_or_default());
    let Ok(hash) = PasswordHash::new(kept.unwrap_or(&NOBODY)) else { return false };
    let right = argon2().is_ok_and(|argon2| argon2.verify_password(password.as_bytes(), &hash).is_ok());
    right && kept.is_some()
}

fn argon2() -> Result<Argon2<'static>, argon2::Error> {
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(MEMORY_KIB, PASSES, LANES, None)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_again_and_kept_as_argon2id_with_a_salt_of_its_own() {
        let (one, other) = (hash("correct horse battery").unwrap(), hash("correct horse battery").unwrap());
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && one != other, "{one}");
        assert!(verify(Some(&one), "correct horse battery"));
        assert!(!verify(Some(&one), "correct horse batterz"));
        assert!(!verify(None, "nobody has this password") && !verify(Some("rubbish"), "rubbish"));
    }

    #[test]
    fn what_everybody_tries_first_is_no_password() {
        assert_eq!(check("anna", "short"), Err(PasswordError::Length(5)));
        assert!(matches!(check("anna", &"x1".repeat(600)), Err(PasswordError::Length(_))));
        assert_eq!(check("annabella.hub", "Annabella.Hub"), Err(PasswordError::Obvious));
        assert_eq!(check("anna", "ääääääääääää"), Err(PasswordError::Obvious));
        assert_eq!(check("anna", "zwölf Zeichen"), Ok(()));
    }
}
