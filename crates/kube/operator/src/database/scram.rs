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

/// A role may write its own verifier, and PostgreSQL accepts any number of iterations. PostgreSQL 16's `scram_iterations` defaults to
/// 4096; at this number a check takes half a second. A verifier with more does not match and is replaced.
const MOST_ITERATIONS: u32 = 1_000_000;

/// A verifier with a new salt. Derived off the threads that serve.
pub(super) async fn verifier(password: String) -> Result<String, OperatorError> {
    off_the_loop(move || new_verifier(&password)).await?
}

/// Whether a stored verifier is of this password. Derived off the threads that serve.
pub(super) async fn matches(stored: String, password: String) -> Result<bool, OperatorError> {
    off_the_loop(move || is_of(&stored, &password)).await
}

async fn off_the_loop<T: Send + 'static>(
    derive: impl FnOnce() -> T + Send + 'static,
) -> Result<T, OperatorError> {
    let derived = tokio::task::spawn_blocking(derive).await;
    derived.map_err(|error| OperatorError::Waiting(format!("deriving a key: {error}")))
}

fn new_verifier(password: &str) -> Result<String, OperatorError> {
    let mut salt = [0u8; 16];
    SystemRandom::new()
        .fill(&mut salt)
        .map_err(|_| OperatorError::Machine("no random numbers"))?;
    Ok(with(password, &salt, ITERATIONS))
}

fn is_of(stored: &str, password: &str) -> bool {
    let parts = || {
        let (head, _) = stored.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        Some((
            iterations
                .parse::<NonZeroU32>()
                .ok()
                .filter(|number| number.get() <= MOST_ITERATIONS)?,
            STANDARD.decode(salt).ok()?,
        ))
    };
    parts().is_some_and(|(iterations, salt)| with(password, &salt, iterations) == stored)
}

#[expect(clippy::disallowed_methods, reason = "called by off_the_loop alone")]
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
        let one = new_verifier("secret").unwrap();
        assert!(is_of(&one, "secret") && !is_of(&one, "Secret"));
        assert_ne!(one, new_verifier("secret").unwrap());
        assert!(!is_of("md5abc", "secret"));
    }

    #[test]
    fn a_role_cannot_keep_the_operator_busy_for_minutes() {
        let many = new_verifier("secret").unwrap().replace("$4096:", "$4000000000:");
        assert!(!is_of(&many, "secret"));
    }

    #[test]
    fn it_is_what_postgresql_computes() {
        // CREATE ROLE x PASSWORD 'secret' on PostgreSQL 15, as pg_authid has it.
        let stored = "SCRAM-SHA-256$4096:eg97ueV7GfWl5QmOfYcoAw==$V5jtvfeA8oCzTmiWKcA1GSbQNGcQFdVl1wpw0k7+8nI=:\
                      RF+0LRJ7DXc4abarcg8dZtxJ0mJxZ1UjOIVjHarpcpM=";
        let salt = STANDARD.decode("eg97ueV7GfWl5QmOfYcoAw==").unwrap();
        assert_eq!(with("secret", &salt, ITERATIONS), stored);
    }
}
