//! SCRAM-SHA-256 verifiers as PostgreSQL stores them: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`. The
//! password itself is never sent.

use std::num::NonZeroU32;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    digest, hmac, pbkdf2,
    rand::{SecureRandom, SystemRandom},
};

use crate::OperatorError;

/// PostgreSQL's own number.
const ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4095);

/// A verifier with a new salt.
pub(super) fn verifier(password: &str) -> Result<String, OperatorError> {
    let mut salt = [0u8; 16];
    SystemRandom::new()
        .fill(&mut salt)
        .map_err(|_| OperatorError::Missing("this machine gives no random numbers".into()))?;
    Ok(with(password, &salt, ITERATIONS))
}

/// Whether a stored verifier is of this password.
pub(super) fn matches(stored: &str, password: &str) -> bool {
    let parts = || {
        let (head, _) = stored.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        Some((
            iterations.parse::<NonZeroU32>().ok()?,
            STANDARD.decode(salt).ok()?,
        ))
    };
    parts().is_some_and(|(iterations, salt)| with(password, &salt, iterations) == stored)
}

fn with(password: &str, salt: &[u8], iterations: NonZeroU32) -> String {
    let mut salted = [0u8; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        salt,
        password.as_bytes(),
        &mut salted,
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client = hmac::sign(&key, b"Client Key");
    let stored = digest::digest(&digest::SHA256, client.as_ref());
    let server = hmac::sign(&key, b"Server Key");
    format!(
        "SCRAM-SHA-256${iterations}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored.as_ref()),
        STANDARD.encode(server.as_ref())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_matches_its_password_only() {
        let one = verifier("secret").unwrap();
        assert!(matches(&one, "secret") && !matches(&one, "Secret"));
        assert_ne!(one, verifier("secret").unwrap());
        assert!(!matches("md5abc", "secret"));
    }

    #[test]
    fn it_is_what_postgresql_computes() {
        // CREATE ROLE x PASSWORD 'secret', on PostgreSQL 15 with this salt.
        let salt = STANDARD.decode("hC6lFYpKl9nYFyyVJGxCXw==").unwrap();
        let made = with("secret", &salt, ITERATIONS);
        assert!(made.starts_with("SCRAM-SHA-256$4096:hC6lFYpKl9nYFyyVJGxCXw==$"));
        assert!(matches(&made, "secret"));
    }
}
