//! A cluster begins to follow another one, or ends to.

use std::time::Duration;

use howdah_clock::now;
use howdah_http::{Method, sleep_until};
use howdah_types::{PgState, Role};
use serde_json::{Value, json};

use crate::{
    cli::{DemoteClusterArgs, PromoteClusterArgs},
    context::Context,
    list, prompt,
};

/// Between two looks at the cluster.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) async fn demote(context: &Context, args: &DemoteClusterArgs) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.host.is_some() || args.port.is_some() || args.restore_command.is_some(),
        "At least --host, --port or --restore-command should be specified"
    );
    let mut section = json!({
        "host": args.host,
        "port": args.port,
        "primary_slot_name": args.primary_slot_name,
        "restore_command": args.restore_command,
    });
    if let Value::Object(section) = &mut section {
        section.retain(|_, value| !value.is_null());
    }
    change(context, args.cluster_name.as_deref(), args.force, section).await
}

pub(crate) async fn promote(context: &Context, args: &PromoteClusterArgs) -> anyhow::Result<()> {
    change(context, args.cluster_name.as_deref(), args.force, Value::Null).await
}

async fn change(context: &Context, name: Option<&str>, force: bool, section: Value) -> anyhow::Result<()> {
    let (verb, noun, role) = if section.is_null() {
        ("promote", "promotion", Role::Primary)
    } else {
        ("demote", "demotion", Role::StandbyLeader)
    };
    let mut cluster = context.cluster(name).await?;
    let Some((leader, member)) = cluster.view.leader_member() else {
        anyhow::bail!("Cluster has no leader, {noun} is not possible");
    };
    anyhow::ensure!(member.role != role, "Cluster is already in the required state");
    let (leader, member) = (leader.clone(), member.clone());
    let scope = cluster.scope.to_string();
    println!("Current cluster topology");
    print!("{}", list::overview(&cluster));
    if !force {
        prompt::confirm(
            &format!("Are you sure you want to {verb} {scope} cluster?"),
            &format!("Aborted cluster {noun}"),
        )?;
    }
    let body = json!({ "standby_cluster": section });
    let answer = context.call(&member, Method::PATCH, "config", Some(&body)).await;
    match answer {
        Ok(answer) if answer.status == 200 => {}
        Ok(answer) => anyhow::bail!(
            "Failed to {verb} {scope} cluster: /config PATCH status code={}, ({})",
            answer.status,
            answer.text()
        ),
        Err(error) => anyhow::bail!("Failed to {verb} {scope} cluster: {error}"),
    }
    // As long as it takes, as in Patroni: a demotion may copy the data.
    let mut told = String::new();
    loop {
        cluster.refresh().await?;
        let old_runs = || {
            let old = cluster.view.members.get(&leader);
            old.is_some_and(|old| old.state == PgState::Running)
        };
        if let Some((name, member)) = cluster.view.leader_member()
            && member.role == role
            && member.state == PgState::Running
            && (role == Role::Primary || old_runs())
        {
            println!("{} cluster is successfully {verb}d, its leader is {name}", time());
            print!("{}", list::overview(&cluster));
            return Ok(());
        }
        let state = match cluster.view.leader_member() {
            Some((name, member)) => format!("{name} leads, role: {}, state: {}", member.role, member.state),
            None => "no member leads".to_owned(),
        };
        if state != told {
            println!("{} {state}", time());
            told = state;
        }
        sleep_until(now() + LOOK).await;
    }
}

fn time() -> String {
    jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S").to_string()
}
