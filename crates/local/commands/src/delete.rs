use std::io::{IsTerminal, Write};

use anyhow::{Context as _, ensure};
use howdah_clock::now;
use howdah_http::timeout_at;
use kube::{
    api::{DeleteParams, DynamicObject},
    runtime::wait::{await_condition, conditions::is_deleted},
};

use crate::{cli::DeleteArgs, context::Context, failure::Failure};

/// Deletes a cluster and waits until nothing of it is left.
pub(crate) async fn delete(args: &DeleteArgs) -> anyhow::Result<u8> {
    let context = Context::open().await?;
    let namespace = &args.place.namespace;
    let object = context.cluster(&args.cluster, namespace).await?;
    if !args.yes {
        confirm(&args.cluster, &context)?;
    }
    let uid = object.metadata.uid.clone().unwrap_or_default();
    let api = context.clusters(namespace);
    api.delete(&args.cluster, &DeleteParams::default())
        .await
        .context("deleting the cluster")?;
    let gone = await_condition(api, &args.cluster, is_deleted::<DynamicObject>(&uid));
    match timeout_at(now() + args.timeout, gone).await {
        Ok(result) => {
            result.context("waiting for the end of the cluster")?;
            println!("postgresql/{} deleted", args.cluster);
            Ok(0)
        }
        Err(_) => Err(Failure::NotReady(format!(
            "{} is being deleted and not gone after {} s: 'howdah get {}'",
            args.cluster,
            args.timeout.as_secs(),
            args.cluster
        ))
        .into()),
    }
}

fn confirm(name: &str, context: &Context) -> anyhow::Result<()> {
    ensure!(
        std::io::stdin().is_terminal(),
        "this deletes all data of {name}: say --yes if that is meant"
    );
    print!(
        "This deletes {name} and all of its data ({}). Write its name to go on: ",
        context.described()
    );
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    ensure!(answer.trim() == name, "nothing was deleted");
    Ok(())
}
