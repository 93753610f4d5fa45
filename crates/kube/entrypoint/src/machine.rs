use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use howdah_manifest::Quantity;
use howdah_spilo::{Environment, Facts};

/// Where Debian and the PGDG packages install each major.
const INSTALLED: &str = "/usr/lib/postgresql";

/// The memory of a pod of the sandbox that sets no limit: several share one machine.
const SANDBOX_MEMORY: u64 = 1 << 30;

/// What this machine has.
pub(crate) fn look(env: &Environment) -> anyhow::Result<Facts> {
    let installed = installed(Path::new(INSTALLED));
    let root = env
        .get("HOWDAH_POD_ROOT")
        .map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let mut facts = Facts {
        hostname: hostname(env),
        libraries: installed
            .iter()
            .map(|(major, bin)| (*major, libraries(bin)))
            .collect(),
        locales: locales(),
        memory: memory(env),
        run_dir: env
            .get("HOWDAH_RUN_DIR")
            .map_or_else(|| run_below(env, &root).join("postgresql"), PathBuf::from),
        root,
        installed,
        ..Facts::default()
    };
    let pgroot = env.or("PGROOT", "/home/postgres/pgdata/pgroot");
    let data = env
        .get("PGDATA")
        .map_or_else(|| format!("{pgroot}/data"), str::to_owned);
    let version = facts.path(&data).join("PG_VERSION");
    if version.exists() {
        let text = fs::read_to_string(&version).with_context(|| format!("{}", version.display()))?;
        let major = text
            .trim()
            .parse()
            .with_context(|| format!("{} holds '{}'", version.display(), text.trim()))?;
        facts.data_major = Some(major);
    }
    Ok(facts)
}

/// The directory of sockets, passwords and certificates: the usual one, or the first that this user can write. A pod may run as
/// any user, and its root may be read-only.
///
/// # Errors
/// There is none.
pub(crate) fn run_dir(env: &Environment, facts: &Facts) -> anyhow::Result<PathBuf> {
    if env.get("HOWDAH_RUN_DIR").is_some() {
        let dir = facts.run_dir.clone();
        fs::create_dir_all(&dir).with_context(|| format!("{}", dir.display()))?;
        return Ok(dir);
    }
    let pgroot = env.or("PGROOT", "/home/postgres/pgdata/pgroot");
    let places = [
        facts.run_dir.clone(),
        run_below(env, &facts.root).join("howdah"),
        facts.path(pgroot).join("run"),
    ];
    let mut refused = Vec::new();
    for place in &places {
        match writable(place) {
            Ok(()) => return Ok(place.clone()),
            Err(error) => refused.push(format!("{}: {error}", place.display())),
        }
    }
    anyhow::bail!(
        "no directory can be written for sockets and certificates: {}",
        refused.join("; ")
    )
}

/// The directory of everything that is made at run time.
fn run_below(env: &Environment, root: &Path) -> PathBuf {
    root.join(env.or("RW_DIR", "/run").trim_start_matches('/'))
}

/// Where the image has its certificates, or below the directory of run-time files.
pub(crate) fn certificates(env: &Environment, facts: &Facts) -> PathBuf {
    let usual = run_below(env, &facts.root).join("certs");
    match writable(&usual) {
        Ok(()) => usual,
        Err(_) => facts.run_dir.join("certs"),
    }
}

fn writable(dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    let probe = dir.join(format!(".howdah-{}", std::process::id()));
    fs::write(&probe, "")?;
    fs::remove_file(&probe)
}

fn hostname(env: &Environment) -> String {
    match env.get("HOSTNAME") {
        Some(name) => name.to_owned(),
        None => fs::read_to_string("/proc/sys/kernel/hostname")
            .unwrap_or_default()
            .trim()
            .to_owned(),
    }
}

fn installed(base: &Path) -> BTreeMap<u32, PathBuf> {
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let major = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            // A client package brings the directory too.
            bin.join("postgres").exists().then_some((major, bin))
        })
        .collect()
}

fn libraries(bin: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(bin.with_file_name("lib"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".so")?.to_owned()))
        .collect()
}

fn locales() -> BTreeSet<String> {
    let output = Command::new("locale").arg("-a").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The limit of the pod; else the limit of the container; else what the machine has.
fn memory(env: &Environment) -> u64 {
    if let Some(limit) = env
        .get("HOWDAH_MEMORY_LIMIT")
        .and_then(|text| text.parse::<Quantity>().ok())
    {
        return u64::try_from(limit.units()).unwrap_or(SANDBOX_MEMORY);
    }
    if env.get("HOWDAH_POD_ROOT").is_some() {
        return SANDBOX_MEMORY;
    }
    let limits = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let limit = limits
        .iter()
        .find_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    let physical = howdah_proc::memory_total().unwrap_or(SANDBOX_MEMORY);
    limit.map_or(physical, |limit| limit.min(physical))
}
