use std::time::Duration;

use howdah_clock::now;
use howdah_http::Method;
use howdah_types::MemberName;
use serde_json::{Value, json};

use crate::{
    Refused,
    cli::PauseArgs,
    context::{Cluster, Context},
};

pub(crate) async fn pause(context: &Context, args: &PauseArgs, on: bool) -> anyhow::Result<()> {
    let mut cluster = context.cluster(args.cluster_name.as_deref()).await?;
    if on == cluster.is_paused() {
        anyhow::bail!("Cluster is {}", if on { "already paused" } else { "not paused" });
    }
    let body = json!({"pause": if on { Value::Bool(true) } else { Value::Null }});
    let state = if on { "paused" } else { "resumed" };
    let mut last = None;
    for (_, member) in cluster.leader_first() {
        match context.call(member, Method::PATCH, "config", Some(&body)).await {
            Ok(answer) if answer.status == 200 => {
                if args.wait {
                    wait(&mut cluster, on).await?;
                }
                println!("Success: cluster management is {state}");
                return Ok(());
            }
            Ok(answer) => {
                let verb = if on { "pause" } else { "resume" };
                println!(
                    "Failed: {verb} cluster management status code={}, ({})",
                    answer.status,
                    answer.text()
                );
                anyhow::bail!(Refused);
            }
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error.into()),
        None => anyhow::bail!("Can not find accessible cluster member"),
    }
}

/// Until all members say that they know, at most a loop and a second.
async fn wait(cluster: &mut Cluster, on: bool) -> anyhow::Result<()> {
    let verb = if on { "pause" } else { "resume" };
    println!("'{verb}' request sent, waiting until it is recognized by all nodes");
    let deadline = now() + Duration::from_secs(cluster.seconds("loop_wait", 10) + 1);
    loop {
        cluster.refresh().await?;
        let unaware: Vec<&str> = cluster
            .view
            .members
            .iter()
            .filter(|(_, member)| member.pause != on)
            .map(|(name, _): (&MemberName, _)| name.as_str())
            .collect();
        if unaware.is_empty() {
            return Ok(());
        }
        if now() >= deadline {
            println!("{} members didn't recognized {verb} state", unaware.join(", "));
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
