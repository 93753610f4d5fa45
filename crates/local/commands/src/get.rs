use anyhow::Context as _;
use howdah_blueprint::Names;
use howdah_manifest::Status;
use k8s_openapi::api::core::v1::{Event, Service};
use kube::{Api, api::ListParams};
use serde_json::Value;

use crate::{
    cli::GetArgs,
    context::Context,
    output::{age, document, table, text},
};

/// As many of the last events are shown.
const EVENTS: usize = 8;

pub(crate) async fn get(args: &GetArgs) -> anyhow::Result<u8> {
    let context = Context::open().await?;
    let object = context.cluster(&args.cluster, &args.place.namespace).await?;
    let value = serde_json::to_value(&object)?;
    if args.output != "text" {
        print!("{}", document(&value, &args.output)?);
        return Ok(0);
    }
    let status = Status::read(&value["status"]);
    let spec = &value["spec"];
    println!(
        "Cluster    {} (namespace {}, team {})",
        args.cluster,
        args.place.namespace,
        text(&spec["teamId"])
    );
    println!(
        "Status     {}",
        if status.phase.is_empty() {
            "-"
        } else {
            &status.phase
        }
    );
    let asked = text(&spec["postgresql"]["version"]);
    match &status.version {
        Some(runs) if *runs != asked => println!("PostgreSQL {runs} ({asked} is asked for)"),
        _ => println!("PostgreSQL {asked}"),
    }
    addresses(&context, args).await?;
    println!("\n{}", members(&status));
    println!("{}", conditions(&status));
    events(&context, args, &value).await
}

async fn addresses(context: &Context, args: &GetArgs) -> anyhow::Result<()> {
    let api = Api::<Service>::namespaced(context.client.clone(), &args.place.namespace);
    let names = Names(&args.cluster);
    for (told, name) in [
        ("Primary", names.cluster()),
        ("Replicas", names.replica_service()),
    ] {
        let service = api.get_opt(&name).await.context("reading a Service")?;
        let address = service.and_then(|service| service.spec?.cluster_ip);
        println!(
            "{told:<10} {}:5432 (Service {name})",
            address.unwrap_or_else(|| "-".to_owned())
        );
    }
    println!("Password   Secret {}", names.secret("postgres"));
    Ok(())
}

fn members(status: &Status) -> String {
    let head = ["MEMBER", "ROLE", "STATE", "LAG", "TIMELINE", ""];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for member in &status.members {
        let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        rows.push(vec![
            member.name.clone(),
            member.role.clone(),
            member.state.clone(),
            number(member.lag),
            number(member.timeline),
            if member.pending_restart {
                "waits for a restart"
            } else {
                ""
            }
            .to_owned(),
        ]);
    }
    table(&rows)
}

fn conditions(status: &Status) -> String {
    let mut rows = vec![["CONDITION", "", "SINCE", "WHY"].map(str::to_owned).to_vec()];
    for condition in &status.conditions {
        rows.push(vec![
            condition.kind.clone(),
            condition.status.clone(),
            age(Some(&condition.last_transition_time)),
            condition.message.clone(),
        ]);
    }
    table(&rows)
}

async fn events(context: &Context, args: &GetArgs, cluster: &Value) -> anyhow::Result<u8> {
    let api = Api::<Event>::namespaced(context.client.clone(), &args.place.namespace);
    let uid = cluster["metadata"]["uid"].as_str().unwrap_or_default();
    let about = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    let mut events = api.list(&about).await.context("listing events")?.items;
    events.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    let mut rows = vec![["EVENT", "AGE", "WHAT"].map(str::to_owned).to_vec()];
    for event in events.iter().skip(events.len().saturating_sub(EVENTS)) {
        let time = event.last_timestamp.as_ref().map(|time| time.0.to_string());
        rows.push(vec![
            event.reason.clone().unwrap_or_default(),
            age(time.as_deref()),
            event.message.clone().unwrap_or_default(),
        ]);
    }
    if rows.len() > 1 {
        print!("{}", table(&rows));
    }
    Ok(0)
}
