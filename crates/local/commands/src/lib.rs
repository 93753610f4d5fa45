//! The commands that users run clusters with: `up`, `apply`, `list`, `psql` and the others. They speak Kubernetes' API and
//! nothing else, so they do the same against the sandbox as they will against any Kubernetes.
//!
//! ```text
//!   cli.rs ─► up.rs (sandbox + operator in one process)  down.rs
//!         └─► context.rs (which Kubernetes: explicit, and printed) ─► apply.rs + progress.rs, list.rs, get.rs, psql.rs,
//!                                                                     events.rs, logs.rs, delete.rs
//!         └─► source.rs (files, directories, URLs) ─► apply.rs, lint.rs
//!         └─► lint.rs, crd and kubeconfig need no server
//! ```
//!
//! Exit codes: 0 done; 1 failed; 2 wrong usage or a manifest with errors; 3 applied, but not ready in time; 4 no such
//! cluster; 5 the sandbox is not running.

mod apply;
mod cli;
mod colour;
mod context;
mod delete;
mod events;
mod failure;
mod get;
mod lint;
mod list;
mod logs;
mod output;
mod progress;
mod psql;
mod server;
mod source;
mod up;

pub use cli::{ClusterCommand, UpArgs};
pub use failure::{Failure, exit_code};

use std::path::PathBuf;

use anyhow::Context as _;
use howdah_sandbox::SandboxDir;

/// The kubeconfig of the sandbox of this user, if one was ever started.
#[must_use]
pub fn sandbox_kubeconfig() -> Option<PathBuf> {
    let path = SandboxDir::of_user().kubeconfig();
    path.is_file().then_some(path)
}

/// Where the kubeconfig of the sandbox of this user is, or will be.
#[must_use]
pub fn kubeconfig_of_sandbox() -> PathBuf {
    SandboxDir::of_user().kubeconfig()
}

/// Whether a command of `ctl` that is meant for the sandbox finds it running, and the cluster in it; nothing is looked for when
/// `kubeconfig` is another one.
///
/// # Errors
/// It does not run, or has no such cluster.
pub fn look_in_sandbox(
    kubeconfig: Option<&std::path::Path>,
    cluster: Option<&str>,
    namespace: Option<&str>,
) -> anyhow::Result<()> {
    if kubeconfig != Some(kubeconfig_of_sandbox().as_path()) {
        return Ok(());
    }
    let looked = runtime()?.block_on(async {
        let context = context::Context::open().await?;
        if let Some(cluster) = cluster {
            context.cluster(cluster, namespace.unwrap_or("default")).await?;
        }
        Ok(())
    });
    looked.map_err(failure::in_words)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    howdah_http::use_ring();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting")
}

/// Runs one of the commands. Returns the exit code.
///
/// # Errors
/// What went wrong and what to do next; [`exit_code`] tells the code.
pub fn run(command: ClusterCommand) -> anyhow::Result<u8> {
    let ran = runtime()?.block_on(async {
        match command {
            ClusterCommand::Up(args) => up::up(&args).await,
            ClusterCommand::Down(args) => up::down(&args).await,
            ClusterCommand::Apply(args) => apply::apply(&args).await,
            ClusterCommand::List(args) => list::list(&args).await,
            ClusterCommand::Get(args) => get::get(&args).await,
            ClusterCommand::Events(args) => events::events(&args).await,
            ClusterCommand::Psql(args) => psql::psql(&args).await,
            ClusterCommand::Logs(args) => logs::logs(&args).await,
            ClusterCommand::Delete(args) => delete::delete(&args).await,
            ClusterCommand::Lint(args) => lint::lint(&args).await,
            ClusterCommand::Crd => lint::crd(),
            ClusterCommand::Kubeconfig => lint::kubeconfig(),
        }
    });
    ran.map_err(failure::in_words)
}
