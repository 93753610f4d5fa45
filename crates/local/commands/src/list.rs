use anyhow::Context as _;
use howdah_manifest::Status;
use howdah_operator::postgresql_api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::{
    cli::ListArgs,
    context::Context,
    output::{age, document, table, text, without_managers},
};

pub(crate) async fn list(args: &ListArgs) -> anyhow::Result<u8> {
    let context = Context::open().await?;
    let api = postgresql_api(context.client.clone(), args.namespace.as_deref());
    let found = api
        .list(&ListParams::default())
        .await
        .context("listing clusters")?;
    let items: Vec<Value> = found
        .items
        .iter()
        .map(serde_json::to_value)
        .collect::<Result<_, _>>()?;
    if args.output != "table" {
        let items: Vec<Value> = items.into_iter().map(without_managers).collect();
        print!("{}", document(&json!(items), &args.output)?);
        return Ok(0);
    }
    if items.is_empty() {
        println!("There are no clusters: 'howdah apply -f FILE --wait' makes one.");
        return Ok(0);
    }
    let head = [
        "NAMESPACE",
        "CLUSTER",
        "TEAM",
        "VERSION",
        "MEMBERS",
        "READY",
        "STATUS",
        "PRIMARY",
        "AGE",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(items.iter().map(row));
    // A column that says "default" in each row says nothing.
    if items
        .iter()
        .all(|item| item["metadata"]["namespace"] == "default")
    {
        for row in &mut rows {
            row.remove(0);
        }
    }
    print!("{}", table(&rows));
    Ok(0)
}

/// The primary without the name of its cluster, which stands in the same row.
fn primary(cluster: &str, leader: Option<&str>) -> String {
    let Some(leader) = leader else {
        return "-".to_owned();
    };
    let short = leader.strip_prefix(cluster).filter(|rest| rest.starts_with('-'));
    short.map_or_else(|| leader.to_owned(), |rest| format!("…{rest}"))
}

fn row(item: &Value) -> Vec<String> {
    let (metadata, spec) = (&item["metadata"], &item["spec"]);
    let status = Status::read(&item["status"]);
    let generation = metadata["generation"].as_i64().unwrap_or(0);
    let well = status
        .members
        .iter()
        .filter(|member| matches!(member.state.as_str(), "running" | "streaming"))
        .count();
    let asked = text(&spec["postgresql"]["version"]);
    let version = match &status.version {
        Some(runs) if *runs != asked => format!("{runs} (for {asked})"),
        _ => asked,
    };
    vec![
        text(&metadata["namespace"]),
        text(&metadata["name"]),
        text(&spec["teamId"]),
        version,
        format!("{well}/{}", text(&spec["numberOfInstances"])),
        if status.holds("Ready", generation) {
            "yes"
        } else {
            "no"
        }
        .to_owned(),
        if status.phase.is_empty() {
            "-".to_owned()
        } else {
            status.phase.clone()
        },
        primary(&text(&metadata["name"]), status.leader.as_deref()),
        age(metadata["creationTimestamp"].as_str()),
    ]
}
