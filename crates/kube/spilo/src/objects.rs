//! What Spilo makes in every cluster for the scripts of its users: roles, schemas with functions, extensions. `howdah entrypoint`
//! makes it when the agent calls it: after a bootstrap, and after a promotion.

use howdah_pgconf::Conninfo;
use serde_json::{Value, json};

use crate::{Choice, Environment, Facts, SpiloError};

/// How much of it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Objects {
    /// Nothing.
    Off,
    /// Roles, schemas, extensions.
    On,
    /// And tables over the server's log, in the database `postgres`.
    WithLogTables,
}

impl Objects {
    /// What `HOWDAH_SPILO_OBJECTS` says.
    fn of(env: &Environment) -> Result<Self, SpiloError> {
        match env.or("HOWDAH_SPILO_OBJECTS", "on") {
            "off" => Ok(Objects::Off),
            "on" => Ok(Objects::On),
            "with-log-tables" => Ok(Objects::WithLogTables),
            other => Err(SpiloError::Bad {
                name: "HOWDAH_SPILO_OBJECTS".into(),
                reason: format!("'{other}' is none of on, off, with-log-tables"),
            }),
        }
    }
}

/// Names of the log's files that tables are made for. A query of a table whose file is missing fails.
pub(crate) fn log_files(env: &Environment) -> Result<Vec<String>, SpiloError> {
    if Objects::of(env)? != Objects::WithLogTables {
        return Ok(Vec::new());
    }
    let days = 1..=7;
    if env.get("LOG_SHIP_HOURLY").is_none() {
        return Ok(days.map(|day| format!("postgresql-{day}.csv")).collect());
    }
    let hours = |day| (0..24).map(move |hour| format!("postgresql-{day}-{hour:02}.csv"));
    Ok(days.flat_map(hours).collect())
}

/// The agent's callbacks: ours after a change of the role, and the user's program.
pub(crate) fn callbacks(
    env: &Environment,
    facts: &Facts,
    choice: &Choice,
) -> Result<Option<Value>, SpiloError> {
    let own = env.get("CALLBACK_SCRIPT");
    let role_changed = match (hook(env, choice)?, own) {
        (None, None) => return Ok(None),
        (None, Some(own)) => own.to_owned(),
        (Some(hook), own) => {
            let info = Conninfo::default()
                .with("host", facts.run_dir.display().to_string())
                .with("port", env.or("PGPORT", "5432"))
                .with("user", env.or("PGUSER_SUPERUSER", "postgres"))
                .with("dbname", "postgres")
                .to_string();
            let own = own.map(|own| format!(" --callback {}", quoted(own)));
            format!(
                "{} role-changed{hook} --conninfo {}{}",
                program(facts),
                quoted(&info),
                own.unwrap_or_default()
            )
        }
    };
    Ok(Some(match own {
        Some(own) => json!({"on_start": own, "on_stop": own, "on_role_change": role_changed}),
        None => json!({"on_role_change": role_changed}),
    }))
}

/// The command after a bootstrap; the agent adds the connection string.
pub(crate) fn post_init(
    env: &Environment,
    facts: &Facts,
    choice: &Choice,
) -> Result<Option<String>, SpiloError> {
    let hook = hook(env, choice)?;
    Ok(hook.map(|hook| format!("{} bootstrapped{hook}", program(facts))))
}

fn program(facts: &Facts) -> String {
    format!("{} entrypoint", quoted(&facts.program.display().to_string()))
}

/// The options of both commands.
fn hook(env: &Environment, choice: &Choice) -> Result<Option<String>, SpiloError> {
    let log_tables = match Objects::of(env)? {
        Objects::Off => return Ok(None),
        Objects::On => String::new(),
        Objects::WithLogTables => {
            let hourly = if env.get("LOG_SHIP_HOURLY").is_some() {
                "hourly"
            } else {
                "daily"
            };
            format!(" --log-tables {hourly}")
        }
    };
    Ok(Some(format!(
        " --psql {} --admin-role {} --human-role {}{log_tables}",
        quoted(&choice.bin_dir.join("psql").display().to_string()),
        quoted(env.or("PGUSER_ADMIN", "admin")),
        quoted(env.or("HUMAN_ROLE", "zalandos")),
    )))
}

/// A word of a shell's command.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
