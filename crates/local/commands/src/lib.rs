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

/// Whether a command that is meant for the sandbox finds it: its kubeconfig is there from the first `howdah up` on.
///
/// # Errors
/// `kubeconfig` is the sandbox's, and was never written.
pub fn sandbox_is_there(kubeconfig: Option<&std::path::Path>) -> anyhow::Result<()> {
    let path = kubeconfig_of_sandbox();
    anyhow::ensure!(
        kubeconfig != Some(path.as_path()) || path.is_file(),
        "there is no sandbox in {}: start one with 'howdah up --detach', or say where the cluster is with --config-file or \
         --kubeconfig",
        SandboxDir::of_user().root().display()
    );
    Ok(())
}

/// Runs one of the commands. Returns the exit code.
///
/// # Errors
/// What went wrong and what to do next; [`exit_code`] tells the code.
pub fn run(command: ClusterCommand) -> anyhow::Result<u8> {
    howdah_http::use_ring();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting")?;
    let ran = runtime.block_on(async {
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
