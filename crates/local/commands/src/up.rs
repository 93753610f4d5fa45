use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use futures_util::StreamExt;
use howdah_blueprint::Settings;
use howdah_clock::now;
use howdah_http::sleep_until;
use howdah_manifest::Status;
use howdah_operator::{Operator, Setup, install_definition, postgresql_api};
use howdah_sandbox::{Images, Program, Sandbox, SandboxDir, purge, start};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    cli::{DownArgs, UpArgs},
    context,
    server::Server,
};

/// How long a sandbox may take to be there.
const START: Duration = Duration::from_secs(30);
/// Pods have this long to end when the sandbox is stopped (their own grace).
const STOP: Duration = Duration::from_secs(330);
/// The pause after a definition that could not be written.
const AGAIN: Duration = Duration::from_secs(2);
/// How often it is looked whether the other process has got so far.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) async fn up(args: &UpArgs) -> anyhow::Result<u8> {
    let dir = SandboxDir::of_user();
    if let Some(server) = Server::find(&dir) {
        ensure!(
            args.detach,
            "the sandbox is already running (process {}): stop it with 'howdah down'",
            server.pid
        );
        println!(
            "The sandbox is already running (process {}, {}).",
            server.pid,
            dir.root().display()
        );
        return Ok(0);
    }
    if !has_postgresql() {
        println!(
            "No PostgreSQL is installed, so clusters will not start: install one, such as Debian's package 'postgresql'."
        );
    }
    if args.detach {
        detach(args, &dir).await
    } else {
        serve(args, &dir).await
    }
}

/// Whether pods will find a server: where Debian has its majors, or on `PATH`.
fn has_postgresql() -> bool {
    let majors = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let path = std::env::var_os("PATH").unwrap_or_default();
    majors
        .map(|major| major.path().join("bin"))
        .chain(std::env::split_paths(&path))
        .any(|dir| dir.join("postgres").is_file())
}

/// Runs the sandbox and the operator until a signal.
async fn serve(args: &UpArgs, dir: &SandboxDir) -> anyhow::Result<u8> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let run_as = if geteuid().is_root() {
        Some(user(&args.pod_user)?)
    } else {
        None
    };
    dir.prepare()?;
    Server::announce(dir, false)?;
    if let Some(ids) = run_as {
        check_way(dir.root(), &args.pod_user, ids)?;
    }
    let program = Program {
        path: program(dir, run_as.is_some())?,
        args: vec!["entrypoint".into()],
        names: ["howdah", "patroni", "patronictl"].map(str::to_owned).to_vec(),
        // As in the image: psql finds the pod's server, and patronictl its configuration.
        shell: [
            ("HOME", "{run}"),
            ("PGHOST", "{run}"),
            ("PGUSER", "postgres"),
            ("PATRONICTL_CONFIG_FILE", "{run}/postgres.yml"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
    };
    let sandbox = Sandbox {
        dir: dir.clone(),
        images: Images(vec![
            ("spilo".into(), program.clone()),
            ("howdah".into(), program),
        ]),
        run_as,
    };
    let running = start(sandbox).await?;
    let client = context::client(&dir.kubeconfig()).await?;
    let generation = install_definition(&client).await?;
    mark_status_unknown(&client).await?;
    let (stop, mut stopped) = watch::channel(false);
    let definition = tokio::spawn(keep_definition(client.clone(), generation, stop.subscribe()));
    let operator = tokio::spawn(async move {
        let settings = Settings {
            sandbox: true,
            ..Settings::default()
        };
        let operator = Operator::new(client, Setup::alone(settings));
        let stop = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        operator.run(stop).await;
    });
    Server::announce(dir, true)?;
    println!(
        "The sandbox is up: API https://{}, state in {}.",
        running.address,
        dir.root().display()
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => println!("Stopping the pods; their data stays."),
    }
    // The operator first: it must not see pods end and begin to work on that.
    let _ = stop.send(true);
    let _ = operator.await;
    let _ = definition.await;
    tokio::select! {
        () = running.stop() => {}
        _ = interrupt.recv() => println!("Ended at once: pods that still run are found again by the next 'howdah up'."),
    }
    Server::withdraw(dir);
    Ok(0)
}

/// Starts the same program in the background and waits until everything is there.
async fn detach(args: &UpArgs, dir: &SandboxDir) -> anyhow::Result<u8> {
    dir.prepare()?;
    let path = dir.server_log();
    let log = fs::File::create(&path).with_context(|| format!("{}", path.display()))?;
    let errors = log.try_clone()?;
    let mut child = Command::new(std::env::current_exe().context("finding this program")?)
        .args(["up", "--pod-user", &args.pod_user])
        .stdin(Stdio::null())
        .stdout(Stdio::from(log))
        .stderr(Stdio::from(errors))
        .current_dir("/")
        .process_group(0)
        .spawn()
        .context("starting the sandbox")?;
    let deadline = now() + START;
    loop {
        if let Some(server) = Server::find(dir).filter(|server| server.ready) {
            println!(
                "The sandbox is up (process {}, log {}).",
                server.pid,
                path.display()
            );
            return Ok(0);
        }
        if let Some(status) = child.try_wait()? {
            let log = fs::read_to_string(&path).unwrap_or_default();
            match log.trim_end() {
                "" => bail!(
                    "the sandbox ended ({status}) and {} is empty: is the disk full? 'howdah up' without --detach says why",
                    path.display()
                ),
                log => bail!("the sandbox ended ({status}):\n{log}"),
            }
        }
        ensure!(
            now() < deadline,
            "the sandbox is not up after {} s: see {}",
            START.as_secs(),
            path.display()
        );
        sleep_until(now() + LOOK).await;
    }
}

/// Charts and manifests of the old operator bring its own definition along. With it the API would drop what is said of a
/// cluster, so ours takes its place again.
async fn keep_definition(client: Client, mut generation: i64, mut stop: watch::Receiver<bool>) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut changes =
        std::pin::pin!(watcher::watch_object(crds, howdah_manifest::CRD_NAME).default_backoff());
    loop {
        let change = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            change = changes.next() => change,
        };
        let Some(change) = change else { return };
        let seen = match change {
            Ok(Some(definition)) => definition.metadata.generation.unwrap_or(0),
            Ok(None) => 0,
            Err(error) => {
                tracing::debug!(%error, "the watch of the definition has failed and is tried again");
                continue;
            }
        };
        if seen == generation {
            continue;
        }
        tracing::warn!(
            "The CustomResourceDefinition {} was changed or deleted: the one of this version is put back.",
            howdah_manifest::CRD_NAME
        );
        loop {
            match install_definition(&client).await {
                Ok(written) => {
                    generation = written;
                    break;
                }
                Err(error) => tracing::warn!("{error:#}"),
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = sleep_until(now() + AGAIN) => {}
            }
        }
    }
}

/// What was known of the clusters is of the time before this start: it is unknown until the operator has looked.
async fn mark_status_unknown(client: &Client) -> anyhow::Result<()> {
    let clusters = postgresql_api(client.clone(), None)
        .list(&ListParams::default())
        .await?;
    for cluster in clusters {
        let value = serde_json::to_value(&cluster)?;
        let mut status = Status::read(&value["status"]);
        for condition in &mut status.conditions {
            if condition.kind != "FullyApplied" {
                condition.status = "Unknown".into();
                condition.reason = "Restarted".into();
                condition.message = "the sandbox was started; the cluster was not looked at yet".into();
            }
        }
        let name = cluster.metadata.name.unwrap_or_default();
        let api = postgresql_api(client.clone(), cluster.metadata.namespace.as_deref());
        let patch = serde_json::json!({"status": {"conditions": status.conditions}});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .with_context(|| format!("writing the status of {name}"))?;
    }
    Ok(())
}

/// The program that pods run. Nothing below root's home can be read by others, so root's sandbox has a copy of its own.
fn program(dir: &SandboxDir, copy: bool) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program")?;
    if !copy {
        return Ok(own);
    }
    let bin = dir.root().join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("{}", bin.display()))?;
    fs::set_permissions(&bin, fs::Permissions::from_mode(0o755))?;
    let (next, path) = (bin.join("howdah.next"), bin.join("howdah"));
    fs::copy(&own, &next).with_context(|| format!("copying {} to {}", own.display(), next.display()))?;
    fs::set_permissions(&next, fs::Permissions::from_mode(0o755))?;
    // Swapped in: pods that run have the old file open.
    fs::rename(&next, &path)?;
    Ok(path)
}

/// Pods run as another user, who must be able to come to their directories.
fn check_way(root: &Path, name: &str, (user, group): (u32, u32)) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    for dir in root.ancestors().skip(1) {
        let metadata = fs::metadata(dir).with_context(|| format!("{}", dir.display()))?;
        let needed = match (metadata.uid() == user, metadata.gid() == group) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        ensure!(
            metadata.mode() & needed != 0,
            "pods run as '{name}', who may not pass through {}: 'chmod a+x' it, or name another place in HOWDAH_STATE",
            dir.display()
        );
    }
    Ok(())
}

/// User and group of a name.
fn user(name: &str) -> anyhow::Result<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").context("/etc/passwd")?;
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name));
    let ids = line.and_then(|line| {
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    ids.with_context(|| {
        format!("there is no user '{name}' for the pods, which never run as root: install PostgreSQL, or name one with --pod-user")
    })
}

pub(crate) async fn down(args: &DownArgs) -> anyhow::Result<u8> {
    let dir = SandboxDir::of_user();
    match Server::find(&dir) {
        Some(server) => {
            if args.purge {
                abandon(&dir).await;
            }
            stop(server).await?;
        }
        None if !args.purge => println!("The sandbox is not running."),
        None => {}
    }
    if args.purge {
        remove(&dir).await?;
        println!("Nothing of the sandbox is left.");
    } else {
        println!(
            "The clusters' data stays in {}; 'howdah up' continues with them.",
            dir.root().display()
        );
    }
    Ok(0)
}

async fn stop(server: Server) -> anyhow::Result<()> {
    let pid = Pid::from_raw(server.pid).context("the server has no process id")?;
    kill_process(pid, Signal::TERM).with_context(|| format!("stopping process {}", server.pid))?;
    let deadline = now() + STOP;
    while server.is_alive() {
        if now() >= deadline {
            bail!(
                "the sandbox (process {}) has not ended after {} s",
                server.pid,
                STOP.as_secs()
            );
        }
        sleep_until(now() + LOOK).await;
    }
    println!("The sandbox has stopped.");
    Ok(())
}

/// The data is removed with them: pods need no clean shutdown.
async fn abandon(dir: &SandboxDir) {
    let Ok(client) = context::client(&dir.kubeconfig()).await else {
        return;
    };
    let clusters = postgresql_api(client, None).list(&ListParams::default()).await;
    let count = clusters.map_or(0, |list| list.items.len());
    if count > 0 {
        println!(
            "Removing {count} cluster{} with all data.",
            if count == 1 { "" } else { "s" }
        );
    }
}

async fn remove(dir: &SandboxDir) -> anyhow::Result<()> {
    guard_root(dir.root())?;
    purge(dir).await?;
    Ok(())
}

/// Only a directory that a sandbox has made is removed.
fn guard_root(root: &Path) -> anyhow::Result<()> {
    ensure!(
        !root.exists()
            || root.join("layout").exists()
            || fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_none()),
        "{} is no sandbox's directory: it is not removed",
        root.display()
    );
    Ok(())
}
