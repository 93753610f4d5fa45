//! What a restored backup has for passwords is not known: while a cluster is made from one, the superuser is let in from
//! this machine without a password, and sets it.

use howdah_config::PostgresConfig;

/// Lines in front of `pg_hba.conf`.
pub(crate) fn lines(local: &PostgresConfig) -> String {
    let user = local.superuser.username.replace('"', "\"\"");
    let host = local.listen.local_host();
    let address = match host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(ip)) => format!("{ip}/32"),
        Ok(std::net::IpAddr::V6(ip)) => format!("{ip}/128"),
        Err(_) => host.to_owned(),
    };
    format!(
        "# Until this cluster is made, its agent sets passwords.\nlocal all \"{user}\" trust\nhost all \"{user}\" {address} trust\n"
    )
}

/// A `pg_hba.conf` with them in front.
pub(crate) fn with(local: &PostgresConfig, text: &str) -> String {
    lines(local) + without(local, text)
}

/// The same without them.
pub(crate) fn without<'a>(local: &PostgresConfig, text: &'a str) -> &'a str {
    text.strip_prefix(&lines(local)).unwrap_or(text)
}
