use howdah_http::Method;
use serde_json::{Value, json};

use crate::{
    Refused,
    cli::{FailoverArgs, SwitchoverArgs},
    context::{Cluster, Context},
    list::overview,
    prompt,
};

pub(crate) async fn switchover(context: &Context, args: &SwitchoverArgs) -> anyhow::Result<()> {
    let cluster = context.cluster(args.cluster_name.as_deref()).await?;
    show(&cluster);
    let Some(current) = cluster.leader() else {
        anyhow::bail!("This cluster has no leader")
    };
    let leader = match &args.leader {
        Some(leader) => leader.clone(),
        None if args.force => current.to_string(),
        None => prompt::ask_or("Primary", current.as_str())?,
    };
    anyhow::ensure!(
        leader == current.as_str(),
        "Member {leader} is not the leader of cluster {}",
        cluster.scope
    );
    anyhow::ensure!(
        args.candidate.as_ref() != Some(&leader),
        "Switchover target and source are the same"
    );
    let candidate = candidate(&cluster, "switchover", args.candidate.as_deref(), args.force)?;
    let scheduled = match &args.scheduled {
        Some(text) => prompt::moment(text)?,
        None if args.force => None,
        None => prompt::moment(&prompt::ask_or(
            "When should the switchover take place (ISO 8601 with offset)",
            "now",
        )?)?,
    };
    anyhow::ensure!(
        scheduled.is_none() || !cluster.is_paused(),
        "Can't schedule switchover in the paused state"
    );
    if !args.force {
        let question = match &scheduled {
            Some(at) => format!(
                "Are you sure you want to schedule switchover of cluster {} at {at}, demoting current leader {leader}?",
                cluster.scope
            ),
            None => format!(
                "Are you sure you want to switchover cluster {}, demoting current leader {leader}?",
                cluster.scope
            ),
        };
        prompt::confirm(&question, "Aborting switchover")?;
    }
    let mut body = json!({ "leader": leader });
    if let Some(candidate) = candidate {
        body["candidate"] = candidate.into();
    }
    if let Some(at) = scheduled {
        body["scheduled_at"] = at.into();
    }
    request(context, cluster, "switchover", &body).await
}

pub(crate) async fn failover(context: &Context, args: &FailoverArgs) -> anyhow::Result<()> {
    let cluster = context.cluster(args.cluster_name.as_deref()).await?;
    show(&cluster);
    if let (Some(candidate), Some(leader)) = (&args.candidate, cluster.leader()) {
        anyhow::ensure!(
            candidate != leader.as_str(),
            "Member {candidate} is already the leader of cluster {}",
            cluster.scope
        );
    }
    let candidate = candidate(&cluster, "failover", args.candidate.as_deref(), args.force)?;
    let Some(candidate) = candidate else {
        anyhow::bail!("Failover could be performed only to a specific candidate")
    };
    if !args.force {
        let asynchronous = cluster
            .view
            .sync
            .value
            .as_ref()
            .is_some_and(|sync| !sync.includes(&candidate));
        if asynchronous {
            let question = format!("Are you sure you want to failover to the asynchronous node {candidate}?");
            prompt::confirm(&question, "Aborting failover")?;
        }
        let demoting = cluster.leader().map_or_else(String::new, |leader| {
            format!(", demoting current leader {leader}")
        });
        let question = format!(
            "Are you sure you want to failover cluster {}{demoting}?",
            cluster.scope
        );
        prompt::confirm(&question, "Aborting failover")?;
    }
    request(
        context,
        cluster,
        "failover",
        &json!({ "candidate": candidate, "force": args.force }),
    )
    .await
}

fn show(cluster: &Cluster) {
    println!("Current cluster topology");
    print!("{}", overview(cluster));
}

fn candidate(
    cluster: &Cluster,
    action: &str,
    given: Option<&str>,
    force: bool,
) -> anyhow::Result<Option<String>> {
    let others: Vec<&str> = cluster
        .view
        .members
        .iter()
        .filter(|(name, member)| Some(*name) != cluster.leader() && !member.tags.nofailover())
        .map(|(name, _)| name.as_str())
        .collect();
    anyhow::ensure!(!others.is_empty(), "No candidates found to {action} to");
    let chosen = match given {
        Some(name) => name.to_owned(),
        None if force => return Ok(None),
        None => prompt::ask(&format!("Candidate [{}]", others.join(", ")))?,
    };
    if chosen.is_empty() {
        return Ok(None);
    }
    anyhow::ensure!(
        others.contains(&chosen.as_str()),
        "Member {chosen} does not exist in cluster {} or is tagged as nofailover",
        cluster.scope
    );
    Ok(Some(chosen))
}

/// Asks the leader, or the candidate when there is no leader.
async fn request(context: &Context, mut cluster: Cluster, what: &str, body: &Value) -> anyhow::Result<()> {
    let target = cluster
        .leader()
        .map(ToString::to_string)
        .or_else(|| body["candidate"].as_str().map(str::to_owned));
    let member = cluster
        .view
        .members
        .iter()
        .find(|(name, _)| Some(name.as_str()) == target.as_deref());
    let Some((_, member)) = member else {
        anyhow::bail!("no member can be asked for the {what}")
    };
    let answer = context.call(member, Method::POST, what, Some(body)).await?;
    let now = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S%.5f").to_string();
    let accepted = matches!(answer.status, 200 | 202);
    if accepted {
        println!("{now} {}", answer.text());
    } else {
        let title = if what == "failover" {
            "Failover"
        } else {
            "Switchover"
        };
        println!("{title} failed, details: {}, {}", answer.status, answer.text());
    }
    cluster.refresh().await?;
    print!("{}", overview(&cluster));
    anyhow::ensure!(accepted, Refused);
    Ok(())
}
