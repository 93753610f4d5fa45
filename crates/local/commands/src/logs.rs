use anyhow::Context as _;
use futures_util::{AsyncBufReadExt, StreamExt, TryStreamExt, stream::SelectAll};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams},
};

use crate::{cli::LogsArgs, context::Context};

/// Prints what the agents log, each line with its member when there are several.
pub(crate) async fn logs(args: &LogsArgs) -> anyhow::Result<u8> {
    let context = Context::open().await?;
    let namespace = &args.place.namespace;
    context.cluster(&args.cluster, namespace).await?;
    let pods = Api::<Pod>::namespaced(context.client.clone(), namespace);
    let params = ListParams::default().labels(&format!("cluster-name={}", args.cluster));
    let mut names: Vec<String> = pods
        .list(&params)
        .await
        .context("listing pods")?
        .iter()
        .map(Pod::name_any)
        .collect();
    if let Some(member) = &args.member {
        names.retain(|name| name == member);
        anyhow::ensure!(
            !names.is_empty(),
            "{} has no member {member}: 'howdah get {}'",
            args.cluster,
            args.cluster
        );
    }
    let several = names.len() > 1;
    let mut all = SelectAll::new();
    for name in names {
        let params = LogParams {
            follow: args.follow,
            tail_lines: args.tail,
            ..LogParams::default()
        };
        let stream = pods
            .log_stream(&name, &params)
            .await
            .with_context(|| format!("reading the log of {name}"))?;
        let prefix = if several {
            format!("{name}: ")
        } else {
            String::new()
        };
        all.push(
            Box::pin(stream)
                .lines()
                .map_ok(move |line| format!("{prefix}{line}"))
                .boxed_local(),
        );
    }
    while let Some(line) = all.try_next().await.context("reading logs")? {
        println!("{line}");
    }
    Ok(0)
}
