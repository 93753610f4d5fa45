//! What a pod begins with: reads Spilo's environment, looks at the machine, writes the agent's configuration, and becomes
//! the agent.
//!
//! ```text
//!   environment ─┐
//!   machine.rs ──┴─► howdah-spilo ─► postgres.yml, certificate.rs ─► exec `howdah agent postgres.yml`
//! ```
//!
//! The agent gets a clean environment: passwords of the pod do not reach PostgreSQL's processes. It calls this program again
//! (hooks.rs) to make what Spilo makes in every cluster (objects.rs, sql/).

mod certificate;
mod hooks;
mod machine;
mod objects;
mod pooler;
mod user;

pub use hooks::EntrypointArgs;
pub use pooler::run as run_pooler;

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

/// Prepares everything and becomes the agent; returns only if that fails. With a hook, carries that out.
///
/// # Errors
/// The environment asks for something that cannot be, or the machine lacks what is needed.
pub fn run(args: &EntrypointArgs) -> anyhow::Result<u8> {
    match &args.hook {
        Some(hook) => hook.run(),
        None => start(),
    }
}

fn start() -> anyhow::Result<u8> {
    let env: Environment = std::env::vars().collect();
    let mut facts = machine::look(&env)?;
    facts.run_dir = machine::run_dir(&env, &facts)?;
    facts.program = std::env::current_exe().context("finding this program")?;
    let directory = machine::certificates(&env, &facts);
    facts.certificate = Some(certificate::of_server(&env, &facts, &directory)?);
    facts.rest_certificate = certificate::of_rest(&env, &facts, &directory)?;
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
    for directory in &outcome.directories {
        empty_directory(directory).with_context(|| format!("{}", directory.display()))?;
    }
    for (path, text) in &outcome.files {
        write_private(path, text)?;
    }
    for path in &outcome.log_files {
        keep_file(path).with_context(|| format!("{}", path.display()))?;
    }
    let path = facts.run_dir.join("postgres.yml");
    // JSON is YAML.
    write_private(
        &path,
        &serde_json::to_string_pretty(&Value::Object(outcome.config))?,
    )?;
    let home = PathBuf::from(env.or("PGHOME", "/home/postgres"));
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let name = user::named(uid, gid, &home, &facts.run_dir)?;
    become_agent(&path, name)
}

/// Makes a directory, or takes away the files of an earlier run: a variable that is not set any more must not stay.
fn empty_directory(directory: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes an empty file where there is none.
fn keep_file(path: &Path) -> std::io::Result<()> {
    // The data directory may not be there yet, and PostgreSQL makes it itself.
    let path = resolved(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o644).open(path).map(drop)
}

/// A path without `..`, of directories that are not links.
fn resolved(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        if part == std::path::Component::ParentDir {
            out.pop();
        } else {
            out.push(part);
        }
    }
    out
}

fn become_agent(config: &Path, more: Vec<(OsString, OsString)>) -> anyhow::Result<u8> {
    let kept: Vec<(OsString, OsString)> = std::env::vars_os()
        .filter(|(name, _)| name.to_str().is_some_and(is_kept))
        .collect();
    let program = std::env::current_exe().context("finding this program")?;
    let error = Command::new(program)
        .arg("agent")
        .arg(config)
        .env_clear()
        .envs(kept)
        .envs(more)
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
