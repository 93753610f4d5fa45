//! Where the data of a cluster comes from.

use crate::{ManifestError, PostgresqlSpec};

/// Checks what says where the data comes from.
///
/// # Errors
/// The first value that is wrong.
pub(crate) fn check(name: &str, spec: &PostgresqlSpec) -> Result<(), ManifestError> {
    let refuse = |path: &str, reason: String| {
        Err(ManifestError {
            path: path.to_owned(),
            reason,
        })
    };
    let Some(standby) = &spec.standby else {
        return Ok(());
    };
    if standby.port().is_none() {
        let reason = format!("'{}' must be a port, 1 to 65535", standby.standby_port);
        return refuse("spec.standby.standby_port", reason);
    }
    let is_own = |host: &str| host == name || host == format!("{name}-repl");
    if standby.standby_host.split(',').any(|host| is_own(host.trim())) {
        return refuse(
            "spec.standby.standby_host",
            "is the cluster itself: name another one".into(),
        );
    }
    if standby.standby_host.matches(':').count() == 1 {
        let reason = format!("'{}': the port is written in standby_port", standby.standby_host);
        return refuse("spec.standby.standby_host", reason);
    }
    let slot = &standby.standby_primary_slot_name;
    if slot.len() > 63
        || !slot
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    {
        let reason =
            format!("'{slot}' is no name of a replication slot: use a-z, 0-9 and _, at most 63 of them");
        return refuse("spec.standby.standby_primary_slot_name", reason);
    }
    if standby.standby_host.contains([' ', '\'', '\\']) {
        let reason = format!(
            "'{}' must be host names or addresses, with commas between them",
            standby.standby_host
        );
        return refuse("spec.standby.standby_host", reason);
    }
    Ok(())
}
