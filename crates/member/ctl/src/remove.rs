use anyhow::ensure;
use howdah_clock::now;
use howdah_dcs::{Cond, Key, KeyOp};

use crate::{access::STORE, cli::RemoveArgs, context::Context, list::table_of, prompt};

/// What a cluster has in the store, but for the keys that are bound to the leases of its members.
const KEYS: [Key; 7] = [
    Key::Failover,
    Key::Failsafe,
    Key::Sync,
    Key::History,
    Key::Status,
    Key::Config,
    Key::Initialize,
];

/// Deletes a cluster from the store, after three questions. Its data stays where it is.
pub(crate) async fn remove(context: &Context, args: &RemoveArgs) -> anyhow::Result<()> {
    ensure!(
        !context.is_kubernetes(),
        "on Kubernetes a cluster is removed with its manifest: kubectl delete postgresql {}",
        args.cluster_name
    );
    let cluster = context.cluster(Some(&args.cluster_name)).await?;
    print!("{}", table_of(&cluster, args.format));
    let answer = prompt::ask("Please confirm the cluster name to remove")?;
    ensure!(
        answer == args.cluster_name,
        "Cluster names specified do not match"
    );
    let sentence = "Yes I am aware";
    let question = format!(
        "You are about to remove all information in DCS for {}, please type: \"{sentence}\"",
        args.cluster_name
    );
    ensure!(
        prompt::ask(&question)? == sentence,
        "You did not exactly type \"{sentence}\""
    );
    if let Some(leader) = cluster.leader() {
        let question = "This cluster currently is healthy. Please specify the leader name to continue";
        ensure!(
            prompt::ask(question)? == leader.as_str(),
            "You did not specify the current leader of the cluster"
        );
    }
    for key in KEYS {
        let op = KeyOp::Delete {
            key,
            cond: Cond::Always,
        };
        let deleted = cluster.store.write(&op, now() + STORE).await.done();
        deleted.map_err(|why| anyhow::anyhow!("the key '{}' was not deleted: {why}", key.name()))?;
    }
    if !cluster.view.members.is_empty() {
        println!(
            "Removed. Members that still run, and their leader, write their records again: stop their agents. The data \
             directories are untouched."
        );
    }
    Ok(())
}
