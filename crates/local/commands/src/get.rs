use anyhow::Context as _;
use howdah_blueprint::{Names, Settings};
use howdah_manifest::Status;
use k8s_openapi::api::core::v1::{Event, Service};
use kube::Api;
use serde_json::Value;

use crate::{
    cli::GetArgs,
    context::Context,
    events::{of_cluster, row},
    output::{age, bytes, document, one_line, table, text, without_managers, wrapped_table},
};

/// As many of the last events are shown.
const EVENTS: usize = 8;

pub(crate) async fn get(args: &GetArgs) -> anyhow::Result<u8> {
    let context = Context::open().await?;
    let object = context.cluster(&args.cluster, &args.place.namespace).await?;
    let value = serde_json::to_value(&object)?;
    if args.output != "text" {
        print!("{}", document(&without_managers(value), &args.output)?);
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
    addresses(&context, args, spec).await?;
    println!("\n{}", members(&status));
    println!("{}", conditions(&status));
    for lack in &status.machine {
        println!("On this machine: {lack}.");
    }
    events(&context, args, &value).await
}

async fn addresses(context: &Context, args: &GetArgs, spec: &Value) -> anyhow::Result<()> {
    let api = Api::<Service>::namespaced(context.client.clone(), &args.place.namespace);
    let names = Names(&args.cluster);
    let mut primary = None;
    for (told, name) in [
        ("Primary", names.cluster()),
        ("Replicas", names.replica_service()),
    ] {
        let service = api.get_opt(&name).await.context("reading a Service")?;
        let address = service.and_then(|service| service.spec?.cluster_ip);
        println!(
            "{told:<10} {}:5432 (Service {name})",
            address.as_deref().unwrap_or("-")
        );
        primary = primary.or(address);
    }
    let Some(address) = primary else {
        return Ok(());
    };
    let (database, user) = entry(spec, &args.cluster);
    println!("Connect    postgresql://{user}@{address}:5432/{database}?sslmode=require");
    let namespace = match args.place.namespace.as_str() {
        "default" => String::new(),
        other => format!(" -n {other}"),
    };
    println!(
        "Password   kubectl --kubeconfig $(howdah kubeconfig){namespace} get secret {} -o go-template='{{{{.data.password | base64decode}}}}'",
        Settings::default().secret_name(&args.cluster, &user)
    );
    println!(
        "           howdah psql {}{namespace}   asks for none",
        args.cluster
    );
    Ok(())
}

/// The database and role that an application of this cluster uses: the first of the manifest.
fn entry(spec: &Value, cluster: &str) -> (String, String) {
    let first = spec["databases"]
        .as_object()
        .and_then(|databases| databases.iter().next());
    if let Some((database, owner)) = first {
        return (database.clone(), text(owner));
    }
    let prepared = match spec["preparedDatabases"].as_object() {
        Some(databases) if databases.is_empty() => Some(cluster.replace('-', "_")),
        Some(databases) => databases.keys().next().cloned(),
        None => None,
    };
    let with_users = prepared.filter(|name| spec["preparedDatabases"][name]["defaultUsers"] == true);
    match with_users {
        Some(name) => (name.clone(), format!("{name}_owner_user")),
        None => ("postgres".to_owned(), "postgres".to_owned()),
    }
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
            member.lag.map_or_else(|| "-".to_owned(), bytes),
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
            one_line(&condition.message),
        ]);
    }
    wrapped_table(&rows)
}

async fn events(context: &Context, args: &GetArgs, cluster: &Value) -> anyhow::Result<u8> {
    let api = Api::<Event>::namespaced(context.client.clone(), &args.place.namespace);
    let uid = cluster["metadata"]["uid"].as_str().unwrap_or_default();
    let events = of_cluster(&api, &format!("involvedObject.uid={uid}")).await?;
    let mut rows = vec![["AGE", "EVENT", "WHAT"].map(str::to_owned).to_vec()];
    rows.extend(events.iter().skip(events.len().saturating_sub(EVENTS)).map(row));
    if rows.len() > 1 {
        print!("{}", wrapped_table(&rows));
    }
    Ok(0)
}
