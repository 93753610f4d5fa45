use std::{collections::BTreeMap, time::Duration};

use howdah_clock::now;
use howdah_http::timeout_at;
use tokio::process::Command;

use howdah_config::{Dynamic, PostgresConfig};
use howdah_pgconf::{controldata_field, managed_values};
use howdah_types::Scope;

use crate::{PgError, Programs};

/// `pg_controldata` reads one file.
const PATIENCE: Duration = Duration::from_secs(10);

/// GUCs that a replica must have at least as large as its primary had when the control file was written.
const RAISED: &[(&str, &str)] = &[
    ("max_connections", "max_connections setting"),
    ("max_worker_processes", "max_worker_processes setting"),
    ("max_wal_senders", "max_wal_senders setting"),
    ("max_prepared_transactions", "max_prepared_xacts setting"),
    ("max_locks_per_transaction", "max_locks_per_xact setting"),
];

/// The postmaster's command line, program first. What primary and replicas must agree on stands here, where neither
/// files nor `ALTER SYSTEM` can change it.
///
/// # Errors
/// `pg_controldata` cannot be run.
pub async fn command_line(
    local: &PostgresConfig,
    dynamic: &Dynamic,
    programs: &Programs,
    scope: &Scope,
    as_replica: bool,
) -> Result<Vec<String>, PgError> {
    let mut values: BTreeMap<&str, String> = managed_values(&dynamic.parameters)
        .0
        .into_iter()
        .filter(|(guc, _)| guc.on_command_line)
        .map(|(guc, value)| (guc.name, value))
        .collect();
    if as_replica {
        raise(local, programs, &mut values).await?;
    }
    values.insert("listen_addresses", local.listen.listen_addresses());
    values.insert("port", local.listen.port.to_string());
    values.insert("cluster_name", scope.to_string());
    let mut args = vec![
        programs.path("postgres").display().to_string(),
        "-D".to_owned(),
        local.data_dir.display().to_string(),
        format!(
            "--config-file={}",
            local.data_dir.join("postgresql.conf").display()
        ),
    ];
    args.extend(
        values
            .into_iter()
            .map(|(name, value)| format!("--{name}={value}")),
    );
    Ok(args)
}

async fn raise(
    local: &PostgresConfig,
    programs: &Programs,
    values: &mut BTreeMap<&str, String>,
) -> Result<(), PgError> {
    let program = programs.path("pg_controldata");
    let mut command = Command::new(&program);
    command.arg(&local.data_dir).env("LC_ALL", "C").kill_on_drop(true);
    let output = timeout_at(now() + PATIENCE, command.output())
        .await
        .map_err(|_| PgError::Timeout("pg_controldata"))?
        .map_err(PgError::file(program))?;
    let text = String::from_utf8_lossy(&output.stdout);
    for (guc, field) in RAISED {
        let known: Option<i64> = controldata_field(&text, field).and_then(|value| value.parse().ok());
        if let (Some(known), Some(value)) = (known, values.get_mut(guc))
            && value.parse::<i64>().is_ok_and(|wanted| wanted < known)
        {
            *value = known.to_string();
        }
    }
    Ok(())
}
