use howdah_http::Method;

use crate::{
    cli::{FlushArgs, MembersArgs},
    context::Context,
    members::{choose, print_answer},
};

/// Forgets scheduled restarts or the scheduled switchover.
pub(crate) async fn flush(context: &Context, mut args: FlushArgs) -> anyhow::Result<()> {
    let target = args.what.pop().unwrap_or_default();
    match target.as_str() {
        "restart" => restarts(context, args).await,
        "switchover" if args.what.is_empty() => switchover(context, &args).await,
        "switchover" => anyhow::bail!("a switchover is the cluster's: no members are named"),
        other => anyhow::bail!("'{other}' is not one of 'restart', 'switchover'"),
    }
}

async fn restarts(context: &Context, args: FlushArgs) -> anyhow::Result<()> {
    let cluster = context.cluster(Some(&args.cluster_name)).await?;
    let members = MembersArgs {
        cluster_name: args.cluster_name,
        member_names: args.what,
        role: args.role,
        force: args.force,
    };
    for (name, member) in choose(&cluster, &members, "flush", |_| true)? {
        if member.scheduled_restart.is_none() {
            println!("No scheduled restart for member {name}");
            continue;
        }
        let answer = context.call(&member, Method::DELETE, "restart", None).await;
        let done = format!("Success: flush scheduled restart for member {name}");
        print_answer(
            answer,
            200,
            &done,
            &format!("flush scheduled restart for member {name}"),
        );
    }
    Ok(())
}

/// Any member can do it; the leader is asked first.
async fn switchover(context: &Context, args: &FlushArgs) -> anyhow::Result<()> {
    let cluster = context.cluster(Some(&args.cluster_name)).await?;
    let scheduled = cluster.view.failover.value.as_ref();
    if scheduled.is_none_or(|request| request.scheduled_at.is_none()) {
        println!("No pending scheduled switchover");
        return Ok(());
    }
    let mut problem = None;
    for (_, member) in cluster.leader_first() {
        match context.call(member, Method::DELETE, "switchover", None).await {
            Ok(answer) if matches!(answer.status, 200 | 404) => {
                let prefix = if answer.status == 200 { "Success" } else { "Failed" };
                println!("{prefix}: {}", answer.text());
                return Ok(());
            }
            Ok(answer) => problem = Some(format!("status code={}, ({})", answer.status, answer.text())),
            Err(error) => problem = Some(error.to_string()),
        }
    }
    anyhow::bail!("the switchover was not deleted: {}", problem.unwrap_or_default())
}
