/// The longest name that the objects of a cluster leave room for (63 less `-repl`).
pub const MAX_NAME: usize = 58;
/// The longest name with which a real Kubernetes makes the pods: their label `controller-revision-hash` is the name, a dash and
/// up to ten digits.
pub const RECOMMENDED_NAME: usize = 52;

/// DNS-1035: begins with a letter, then letters, digits and dashes, in lower case, and ends with no dash.
#[must_use]
pub fn is_dns_label(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A role in a manifest: lower-case letters, digits, dash and underscore, in parts separated by dots.
#[must_use]
pub fn is_role_name(name: &str) -> bool {
    name.len() <= 63
        && name.split('.').all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        })
}

/// Upstream's default of `protected_role_names`: no manifest gets a role of these names.
pub const PROTECTED_ROLES: [&str; 2] = ["admin", "cron_admin"];

/// Names that PostgreSQL keeps for itself: `pg_…`, `public` and `none`.
#[must_use]
pub fn is_reserved_role(name: &str) -> bool {
    name.starts_with("pg_") || name == "public" || name == "none"
}

/// A schema in a manifest: named as a database is, and not `pg_…`, which PostgreSQL keeps for itself.
#[must_use]
pub fn is_schema_name(name: &str) -> bool {
    is_database_name(name) && !name.starts_with("pg_")
}

/// A role in the name of its Secret, where an underscore is no letter.
#[must_use]
pub fn in_secret_name(role: &str) -> String {
    role.replace('_', "-")
}

/// Another role whose Secret would have the name of this one's.
pub(crate) fn shares_secret<'a>(role: &str, roles: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = in_secret_name(role);
    roles
        .into_iter()
        .find(|other| *other != role && in_secret_name(other) == name)
}

/// A database or schema in a manifest: a letter or underscore, then word characters.
#[must_use]
pub fn is_database_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
