//! What the agent calls: after it has made a cluster, and when the member's role has changed.

use std::process::{Child, Command};

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::objects::{self, Options};

/// What a pod of the image begins with, and what its agent calls.
#[derive(Args, Debug)]
pub struct EntrypointArgs {
    #[command(subcommand)]
    pub(crate) hook: Option<Hook>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Hook {
    /// After a bootstrap: make what users of Spilo expect.
    Bootstrapped {
        #[command(flatten)]
        options: Options,
        /// How the new server is reached.
        conninfo: String,
    },
    /// As the callback `on_role_change`.
    RoleChanged {
        #[command(flatten)]
        options: Options,
        /// How the server is reached.
        #[arg(long)]
        conninfo: String,
        /// The user's own callback.
        #[arg(long)]
        callback: Option<String>,
        /// The event's name.
        event: String,
        /// The member's role.
        role: String,
        /// The cluster's name.
        scope: String,
    },
}

impl Hook {
    /// Carries it out; the exit code.
    pub(crate) fn run(&self) -> anyhow::Result<u8> {
        match self {
            // A cluster without these objects is a cluster all the same: the next promotion tries again.
            Hook::Bootstrapped { options, conninfo } => {
                if let Err(error) = objects::make(options, conninfo, &objects::first_databases()) {
                    println!(
                        "Not everything that Spilo makes was made, and the next promotion tries it again: {error:#}."
                    );
                }
                Ok(0)
            }
            Hook::RoleChanged {
                options,
                conninfo,
                callback,
                event,
                role,
                scope,
            } => {
                // The user's own, which may take its time, runs beside.
                let own = callback
                    .as_deref()
                    .map(|script| call(script, [event, role, scope]));
                if matches!(role.as_str(), "master" | "primary")
                    && let Err(error) = promoted(options, conninfo)
                {
                    println!(
                        "Not everything that Spilo makes was made, and the next promotion tries it again: {error:#}."
                    );
                }
                match own {
                    Some(own) => Ok(if own?.wait().context("CALLBACK_SCRIPT")?.success() {
                        0
                    } else {
                        1
                    }),
                    None => Ok(0),
                }
            }
        }
    }
}

fn promoted(options: &Options, conninfo: &str) -> anyhow::Result<()> {
    objects::ask(options, conninfo, WAIT_WRITABLE)?;
    let databases = objects::all_databases(options, conninfo)?;
    objects::make(options, conninfo, &databases)
}

/// Begins the user's script as the agent calls one itself.
fn call(script: &str, args: [&String; 3]) -> anyhow::Result<Child> {
    Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("{script} \"$@\""))
        .arg("sh")
        .args(args)
        .spawn()
        .with_context(|| format!("CALLBACK_SCRIPT {script}"))
}

/// A promotion is reported before the server takes writes: it does within seconds, and waits for that itself.
const WAIT_WRITABLE: &str = "DO $$
DECLARE
    until constant timestamptz := clock_timestamp() + '30 s';
BEGIN
    WHILE pg_is_in_recovery() LOOP
        IF clock_timestamp() > until THEN
            RAISE EXCEPTION 'the server takes no writes 30 s after its promotion';
        END IF;
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$";
