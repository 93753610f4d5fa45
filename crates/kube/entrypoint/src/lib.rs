//! What a pod begins with: reads Spilo's environment, looks at the machine, writes the agent's configuration, and becomes
//! the agent.
//!
//! ```text
//!   environment ─┐
//!   machine.rs ──┴─► howdah-spilo ─► postgres.yml, certificate.rs ─► exec `howdah agent postgres.yml`
//! ```
//!
//! The agent gets a clean environment: passwords of the pod do not reach PostgreSQL's processes.

mod certificate;
mod machine;

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use howdah_spilo::{Environment, configure};
use serde_json::Value;

/// Variables that the agent keeps: how it finds the API server and its programs, and what users tell it themselves.
fn is_kept(name: &str) -> bool {
    matches!(
        name,
        "HOSTNAME" | "PATH" | "POD_IP" | "POD_NAMESPACE" | "LC_ALL" | "HOME" | "PGHOME" | "RUST_BACKTRACE"
    ) || ["KUBERNETES_SERVICE_", "KUBERNETES_PORT", "PATRONI_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Prepares everything and becomes the agent. Returns only if that fails.
///
/// # Errors
/// The environment asks for something that cannot be, or the machine lacks what is needed.
pub fn run() -> anyhow::Result<u8> {
    let env: Environment = std::env::vars().collect();
    let mut facts = machine::look(&env)?;
    facts.run_dir = machine::run_dir(&env, &facts)?;
    facts.certificate = Some(
        match (env.get("SSL_CERTIFICATE_FILE"), env.get("SSL_PRIVATE_KEY_FILE")) {
            (Some(certificate), Some(key)) => (facts.path(certificate), facts.path(key)),
            _ => certificate::own(&machine::certificates(&facts), &facts.hostname)?,
        },
    );
    let outcome = configure(&env, &facts)?;
    println!(
        "PostgreSQL {} from {}.",
        outcome.choice.major,
        outcome.choice.bin_dir.display()
    );
    for note in outcome.notes.iter().chain(&outcome.machine) {
        println!("Note: {note}.");
    }
    if let Some(data) = outcome.config["postgresql"]["data_dir"]
        .as_str()
        .map(PathBuf::from)
        && let Some(parent) = data.parent()
    {
        fs::create_dir_all(parent).with_context(|| format!("{}", parent.display()))?;
    }
    let path = facts.run_dir.join("postgres.yml");
    // JSON is YAML.
    write_private(
        &path,
        &serde_json::to_string_pretty(&Value::Object(outcome.config))?,
    )?;
    become_agent(&path)
}

fn become_agent(config: &Path) -> anyhow::Result<u8> {
    let kept: Vec<(OsString, OsString)> = std::env::vars_os()
        .filter(|(name, _)| name.to_str().is_some_and(is_kept))
        .collect();
    let program = std::env::current_exe().context("finding this program")?;
    let error = Command::new(program)
        .arg("agent")
        .arg(config)
        .env_clear()
        .envs(kept)
        .exec();
    Err(error).context("starting the agent")
}

/// Writes a file that only we can read.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("{}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("{}", path.display()))
}
