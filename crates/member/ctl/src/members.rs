use std::time::Duration;

use howdah_dcs::Member;
use howdah_http::{Method, Response};
use howdah_types::MemberName;
use serde_json::{Map, Value, json};

use crate::{
    Refused,
    cli::{MembersArgs, ReinitArgs, ReloadArgs, RestartArgs},
    context::{Cluster, Context},
    list::overview,
    prompt,
};

type Chosen = Vec<(MemberName, Member)>;

pub(crate) async fn restart(context: &Context, args: &RestartArgs) -> anyhow::Result<()> {
    let cluster = context.cluster(Some(&args.members.cluster_name)).await?;
    let mut chosen = choose(&cluster, &args.members, "restart", |_| true)?;
    if args.any && chosen.len() > 1 {
        let place = usize::try_from(howdah_clock::now().0 % chosen.len() as u64).unwrap_or(0);
        chosen = chosen.into_iter().skip(place).take(1).collect();
    }
    let mut body = Map::new();
    if args.pending {
        body.insert("restart_pending".to_owned(), true.into());
    }
    if let Some(version) = &args.pg_version {
        body.insert("postgres_version".to_owned(), version.as_str().into());
    }
    if let Some(timeout) = &args.timeout {
        body.insert("timeout".to_owned(), timeout.as_str().into());
    }
    let scheduled = match &args.scheduled {
        Some(text) => prompt::moment(text)?,
        None if args.members.force => None,
        None => prompt::moment(&prompt::ask_or(
            "When should the restart take place (ISO 8601 with offset)",
            "now",
        )?)?,
    };
    if let Some(at) = scheduled {
        anyhow::ensure!(!cluster.is_paused(), "Can't schedule restart in the paused state");
        body.insert("schedule".to_owned(), at.into());
    }
    let later = body.contains_key("schedule");
    let body = Value::Object(body);
    let mut all = true;
    for (name, member) in &chosen {
        if later && args.members.force && member.scheduled_restart.is_some() {
            let _ = context.call(member, Method::DELETE, "restart", None).await;
        }
        let answer = context.call(member, Method::POST, "restart", Some(&body)).await;
        match &answer {
            Ok(answer) if answer.status == 409 => {
                println!("Failed: another restart is already scheduled on member {name}");
                all = false;
                continue;
            }
            _ => {}
        }
        let (wanted, done) = if later {
            (202, "restart scheduled on member")
        } else {
            (200, "restart on member")
        };
        let failed = format!("restart for member {name}");
        all &= print_answer(answer, wanted, &format!("Success: {done} {name}"), &failed);
    }
    anyhow::ensure!(all, Refused);
    Ok(())
}

pub(crate) async fn reload(context: &Context, args: &ReloadArgs) -> anyhow::Result<()> {
    let cluster = context.cluster(Some(&args.members.cluster_name)).await?;
    let seconds = cluster.seconds("loop_wait", 10);
    let mut all = true;
    for (name, member) in &choose(&cluster, &args.members, "reload", |_| true)? {
        let answer = context.call(member, Method::POST, "reload", None).await;
        let done = format!(
            "Reload request received for member {name} and will be processed within {seconds} seconds"
        );
        all &= print_answer(answer, 202, &done, &format!("reload for member {name}"));
    }
    anyhow::ensure!(all, Refused);
    Ok(())
}

pub(crate) async fn reinit(context: &Context, args: &ReinitArgs) -> anyhow::Result<()> {
    let cluster = context.cluster(Some(&args.members.cluster_name)).await?;
    let leader = cluster.leader().cloned();
    let chosen = choose(&cluster, &args.members, "reinitialize", |name| {
        Some(name) != leader.as_ref()
    })?;
    anyhow::ensure!(!chosen.is_empty(), "No replica among provided members");
    let mut waiting = Vec::new();
    let mut all = true;
    for (name, member) in chosen {
        let body = json!({"force": args.members.force, "from_leader": args.from_leader});
        let mut answer = context
            .call(&member, Method::POST, "reinitialize", Some(&body))
            .await;
        let busy = answer
            .as_ref()
            .is_ok_and(|r| r.status == 503 && r.text().contains("already in progress"));
        if busy && !args.members.force {
            let question = "Do you want to cancel it and reinitialize anyway?";
            if prompt::confirm(question, "no").is_ok() {
                let body = json!({"force": true, "from_leader": args.from_leader});
                answer = context
                    .call(&member, Method::POST, "reinitialize", Some(&body))
                    .await;
            }
        }
        let done = format!("Success: reinitialize for member {name}");
        if print_answer(answer, 200, &done, &format!("reinitialize for member {name}")) {
            waiting.push((name, member));
        } else {
            all = false;
        }
    }
    if args.wait {
        for (name, member) in waiting {
            println!("Waiting for reinitialize to complete on: {name}");
            wait_for_copy(context, &member).await;
            println!("Reinitialize is completed on: {name}");
        }
    }
    anyhow::ensure!(all, Refused);
    Ok(())
}

async fn wait_for_copy(context: &Context, member: &Member) {
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let Ok(answer) = context.call(member, Method::GET, "patroni", None).await else {
            continue;
        };
        let status: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if status["state"] == "running" {
            return;
        }
    }
}

/// Prints how a request ended; true for success.
pub(crate) fn print_answer(
    answer: Result<Response, howdah_http::HttpError>,
    wanted: u16,
    success: &str,
    what: &str,
) -> bool {
    match answer {
        Ok(answer) if answer.status == wanted => {
            println!("{success}");
            true
        }
        Ok(answer) => {
            println!(
                "Failed: {what}, status code={}, ({})",
                answer.status,
                answer.text()
            );
            false
        }
        Err(error) => {
            println!("Failed: {what}, {error}");
            false
        }
    }
}

/// The members a command is for, after asking.
pub(crate) fn choose(
    cluster: &Cluster,
    args: &MembersArgs,
    action: &str,
    fits: impl Fn(&MemberName) -> bool,
) -> anyhow::Result<Chosen> {
    print!("{}", overview(cluster));
    let leader = cluster.leader();
    let has_role = |name: &MemberName| match args.role.as_deref() {
        Some("leader" | "primary") => Some(name) == leader,
        Some("replica" | "standby") => Some(name) != leader,
        _ => true,
    };
    for name in &args.member_names {
        anyhow::ensure!(
            cluster.view.members.keys().any(|known| known.as_str() == name),
            "{name} is not a member of cluster {}",
            cluster.scope
        );
    }
    let mut names = args.member_names.clone();
    if names.is_empty() && !args.force && args.role.is_none() {
        let known: Vec<&str> = cluster.view.members.keys().map(MemberName::as_str).collect();
        let answer = prompt::ask(&format!(
            "Which member do you want to {action} [{}]?",
            known.join(", ")
        ))?;
        names.push(answer);
    }
    let chosen: Chosen = cluster
        .view
        .members
        .iter()
        .filter(|(name, _)| has_role(name) && fits(name))
        .filter(|(name, _)| names.is_empty() || names.iter().any(|wanted| wanted == name.as_str()))
        .map(|(name, member)| (name.clone(), member.clone()))
        .collect();
    anyhow::ensure!(
        !chosen.is_empty() || action == "reinitialize",
        "No {} among provided members",
        args.role.as_deref().unwrap_or("member")
    );
    if !args.force {
        let listed: Vec<&str> = chosen.iter().map(|(name, _)| name.as_str()).collect();
        let question = format!("Are you sure you want to {action} members {}?", listed.join(", "));
        prompt::confirm(&question, &format!("Aborted {action}"))?;
    }
    Ok(chosen)
}
