//! What the Secret of a role says.

use howdah_blueprint::Login;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

/// The key of the time of the next rotation.
pub(crate) const NEXT: &str = "nextRotation";

pub(crate) fn text_of(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What a Secret says.
pub(crate) fn login_of(secret: &Secret) -> Option<Login> {
    let text = |key: &str| {
        let bytes = secret.data.as_ref()?.get(key)?;
        String::from_utf8(bytes.0.clone()).ok()
    };
    Some(Login {
        username: text("username").unwrap_or_default(),
        // PostgreSQL lets nobody in with an empty one.
        password: text("password").filter(|text| !text.is_empty())?,
        next: text(NEXT).and_then(|text| text.trim().parse().ok()),
    })
}
