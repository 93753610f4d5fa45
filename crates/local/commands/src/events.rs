use std::collections::BTreeSet;

use anyhow::Context as _;
use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api,
    api::ListParams,
    runtime::{WatchStreamExt, watcher},
};

use crate::{
    cli::EventsArgs,
    context::Context,
    output::{age, one_line, wrapped_table},
};

/// Prints what has happened to a cluster, the oldest first.
pub(crate) async fn events(args: &EventsArgs) -> anyhow::Result<u8> {
    let context = Context::open().await?;
    let object = context.cluster(&args.cluster, &args.place.namespace).await?;
    let uid = object.metadata.uid.unwrap_or_default();
    let api = Api::<Event>::namespaced(context.client.clone(), &args.place.namespace);
    let about = format!("involvedObject.uid={uid}");
    let events = of_cluster(&api, &about).await?;
    if events.is_empty() && !args.follow {
        println!("Nothing is recorded. Events are kept for an hour.");
        return Ok(0);
    }
    let mut rows = vec![["AGE", "EVENT", "WHAT"].map(str::to_owned).to_vec()];
    rows.extend(events.iter().map(row));
    print!("{}", wrapped_table(&rows));
    if !args.follow {
        return Ok(0);
    }
    let mut shown: BTreeSet<String> = events.iter().filter_map(version).collect();
    let config = watcher::Config::default().fields(&about);
    let mut changes = std::pin::pin!(watcher(api, config).default_backoff().applied_objects());
    while let Some(event) = changes.try_next().await.context("watching events")? {
        if version(&event).is_some_and(|version| shown.insert(version)) {
            println!("{}", row(&event).join("  "));
        }
    }
    Ok(0)
}

/// All events with this field selector, the oldest first.
pub(crate) async fn of_cluster(api: &Api<Event>, about: &str) -> anyhow::Result<Vec<Event>> {
    let about = ListParams::default().fields(about);
    let mut events = api.list(&about).await.context("listing events")?.items;
    events.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    Ok(events)
}

fn version(event: &Event) -> Option<String> {
    Some(format!(
        "{} {}",
        event.metadata.name.as_deref()?,
        event.metadata.resource_version.as_deref()?
    ))
}

/// Age, reason and message of an event.
pub(crate) fn row(event: &Event) -> Vec<String> {
    let time = event.last_timestamp.as_ref().map(|time| time.0.to_string());
    vec![
        age(time.as_deref()),
        event.reason.clone().unwrap_or_default(),
        one_line(event.message.as_deref().unwrap_or_default()),
    ]
}
