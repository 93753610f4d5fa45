//! A connection pooler's pod: writes PgBouncer's configuration, starts it, and stands above it.
//!
//! ```text
//!   environment ─► config.rs ─► pgbouncer.ini, userlist.txt ─► supervise.rs ─► pgbouncer ─► metrics.rs
//! ```

mod config;
mod metrics;
mod supervise;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use howdah_spilo::Environment;

use crate::{certificate, write_private};
use config::{Config, Files};

/// Where Debian has it, and names on `PATH`.
const PROGRAMS: [&str; 2] = ["/usr/sbin/pgbouncer", "pgbouncer"];

/// Runs a pooler until a signal.
///
/// # Errors
/// The environment asks for something that cannot be, or `PgBouncer` is missing or ends by itself.
pub fn run() -> anyhow::Result<u8> {
    let env: Environment = std::env::vars().collect();
    let config = Config::read(&env)?;
    let (program, version) = program()?;
    let files = files(&env)?;
    write_private(&files.users(), &config.users())?;
    write_private(&files.ini(), &config.ini(&files, version))?;
    println!("PgBouncer {}.{} from {program}.", version.0, version.1);
    supervise::run(&program, &files, &config)
}

/// `PgBouncer`, and its version.
fn program() -> anyhow::Result<(String, (u32, u32))> {
    for program in PROGRAMS {
        let Ok(output) = Command::new(program).arg("--version").output() else {
            continue;
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let version = config::version(&text)
            .with_context(|| format!("{program} --version says nothing of a version: {text}"))?;
        return Ok((program.to_owned(), version));
    }
    bail!("pgbouncer is not installed: install Debian's package 'pgbouncer'")
}

/// The directory for files, and the certificate: the Secret's, or one of our own.
fn files(env: &Environment) -> anyhow::Result<Files> {
    let root = env.get("HOWDAH_POD_ROOT").map(PathBuf::from);
    let inside = |path: &str| match &root {
        Some(root) => root.join(path.trim_start_matches('/')),
        None => PathBuf::from(path),
    };
    let run = env
        .get("HOWDAH_RUN_DIR")
        .map_or_else(|| "/run".into(), PathBuf::from);
    let dir = run.join("pgbouncer");
    fs::create_dir_all(&dir).with_context(|| format!("{}", dir.display()))?;
    let given = |name: &str| env.get(name).filter(|path| !path.is_empty()).map(&inside);
    let (certificate, key) = match (
        given("CONNECTION_POOLER_CLIENT_TLS_CRT"),
        given("CONNECTION_POOLER_CLIENT_TLS_KEY"),
    ) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => own(&dir, env.or("HOSTNAME", "pooler"))?,
        _ => bail!(
            "CONNECTION_POOLER_CLIENT_TLS_CRT and CONNECTION_POOLER_CLIENT_TLS_KEY: one is set without the other"
        ),
    };
    let ca = given("CONNECTION_POOLER_CLIENT_CA_FILE");
    for path in [&certificate, &key].into_iter().chain(&ca) {
        fs::metadata(path).with_context(|| format!("{}", path.display()))?;
    }
    Ok(Files {
        dir,
        certificate,
        key,
        ca,
    })
}

/// A certificate that the pooler signs itself: it keeps passwords from being read on the way, and proves nothing to a client.
fn own(dir: &Path, name: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (dir.join("client.crt"), dir.join("client.key"));
    certificate::make(&certificate, &key, name)?;
    Ok((certificate, key))
}
