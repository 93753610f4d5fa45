//! `howdah ctl`: patronictl's commands with patronictl's output.
//!
//! Reads the store directly, so that it works while every agent is down, and asks the agents' REST APIs for what they
//! do. Scripts depend on the words it prints: they are Patroni's, also where ours would be others. Decides nothing.
//!
//! ```text
//!   cli.rs      arguments            list.rs     list, topology  history.rs  history
//!   context.rs  store and members    members.rs  restart, reload, reinit
//!   table.rs    pretty, tsv, …       handover.rs switchover, failover    config.rs  show-config, edit-config
//!   prompt.rs   questions            pause.rs    pause, resume               flush.rs  flush
//!   one.rs      one member   dsn.rs, query.rs, version.rs, remove.rs  the commands of these names
//!   access.rs   which store: the configured one, or a kubeconfig's
//! ```

mod access;
mod cli;
mod config;
mod context;
mod dsn;
mod flush;
mod handover;
mod history;
mod list;
mod members;
mod one;
mod pause;
mod prompt;
mod query;
mod remove;
mod standby;
mod table;
mod version;

pub use cli::CtlArgs;

use std::path::PathBuf;

use cli::CtlCommand;
use context::Context;

/// Runs one command; returns the exit code. `sandbox` is the kubeconfig of the sandbox on this machine, should there be one.
///
/// # Errors
/// What patronictl reports as `Error: …` with exit code 1.
pub fn run(args: CtlArgs, sandbox: Option<PathBuf>) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    if let CtlCommand::Version(version) = &args.command {
        println!("{}", version::own());
        // It needs no configuration.
        if version.cluster_name.is_none() {
            return Ok(0);
        }
    }
    let done = runtime.block_on(async {
        let context = Context::open(&args, sandbox)?;
        match args.command {
            CtlCommand::List(list) => list::list(&context, &list).await?,
            CtlCommand::Switchover(args) => handover::switchover(&context, &args).await?,
            CtlCommand::Failover(args) => handover::failover(&context, &args).await?,
            CtlCommand::Restart(args) => members::restart(&context, &args).await?,
            CtlCommand::Flush(args) => flush::flush(&context, args).await?,
            CtlCommand::Reload(args) => members::reload(&context, &args).await?,
            CtlCommand::Reinit(args) => members::reinit(&context, &args).await?,
            CtlCommand::Pause(args) => pause::pause(&context, &args, true).await?,
            CtlCommand::Resume(args) => pause::pause(&context, &args, false).await?,
            CtlCommand::ShowConfig(args) => config::show(&context, &args).await?,
            CtlCommand::EditConfig(args) => config::edit(&context, &args).await?,
            CtlCommand::History(args) => history::history(&context, &args).await?,
            CtlCommand::Topology(args) => list::topology(&context, &args).await?,
            CtlCommand::Dsn(args) => dsn::dsn(&context, &args).await?,
            CtlCommand::Query(args) => query::query(&context, &args).await?,
            CtlCommand::Version(args) => version::version(&context, &args).await?,
            CtlCommand::DemoteCluster(args) => standby::demote(&context, &args).await?,
            CtlCommand::PromoteCluster(args) => standby::promote(&context, &args).await?,
            CtlCommand::Remove(args) => remove::remove(&context, &args).await?,
        }
        Ok(0)
    });
    done.or_else(|error: anyhow::Error| {
        if error.is::<Refused>() {
            Ok(REFUSED)
        } else {
            Err(error)
        }
    })
}

/// The exit code after a member has refused, or was not reached, and that was printed.
pub const REFUSED: u8 = 1;

/// A member has refused, or was not reached, and that was printed: the exit code is all that is left to say.
#[derive(Debug, thiserror::Error)]
#[error("refused")]
struct Refused;
