use std::pin::Pin;

use anyhow::Context as _;
use futures_util::{AsyncBufReadExt, Stream, StreamExt, TryStreamExt, stream::SelectAll};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams},
};

use crate::{cli::LogsArgs, context::Context};

type Lines = Pin<Box<dyn Stream<Item = std::io::Result<String>>>>;

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
    let mut logs: Vec<(String, Lines)> = Vec::new();
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
        logs.push((prefix, Box::pin(Box::pin(stream).lines())));
    }
    if args.follow {
        as_they_come(logs).await
    } else {
        by_time(logs).await
    }
}

async fn as_they_come(logs: Vec<(String, Lines)>) -> anyhow::Result<u8> {
    let mut all = SelectAll::new();
    for (prefix, lines) in logs {
        all.push(lines.map_ok(move |line| format!("{prefix}{line}")).boxed_local());
    }
    while let Some(line) = all.try_next().await.context("reading logs")? {
        println!("{line}");
    }
    Ok(0)
}

/// Merges logs by the times that their lines begin with. A line without one belongs to the line before it.
async fn by_time(logs: Vec<(String, Lines)>) -> anyhow::Result<u8> {
    struct Log {
        prefix: String,
        lines: Lines,
        next: Option<String>,
    }
    let mut open = Vec::new();
    for (prefix, mut lines) in logs {
        let next = lines.try_next().await.context("reading logs")?;
        open.push(Log { prefix, lines, next });
    }
    loop {
        let first = open
            .iter_mut()
            .filter(|log| log.next.is_some())
            .min_by_key(|log| time(log.next.as_deref()));
        let Some(log) = first else {
            return Ok(0);
        };
        // Lines without a time follow theirs.
        while let Some(line) = log.next.take() {
            println!("{}{line}", log.prefix);
            log.next = log.lines.try_next().await.context("reading logs")?;
            if !time(log.next.as_deref()).is_empty() {
                break;
            }
        }
    }
}

/// The time that a line begins with, as `2026-11-26 10:00:00.123`, which sorts. Empty without one.
fn time(line: Option<&str>) -> String {
    let line = line.unwrap_or_default();
    let shape = b"dddd-dd-dd dd:dd:dd";
    let fits = |(have, wanted): (u8, &u8)| match wanted {
        b'd' => have.is_ascii_digit(),
        b' ' => have == b' ' || have == b'T',
        other => have == *other,
    };
    if line.len() < shape.len() || !line.bytes().zip(shape).all(fits) {
        return String::new();
    }
    let fraction = line[shape.len()..]
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',')
        .map_or(line.len(), |end| shape.len() + end);
    line[..fraction].replace('T', " ").replace(',', ".")
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_of_lines() {
        assert_eq!(
            time(Some("2026-11-26 10:00:00,123 INFO: x")),
            "2026-11-26 10:00:00.123"
        );
        assert_eq!(time(Some("2026-11-26T10:00:00.5Z x")), "2026-11-26 10:00:00.5");
        assert_eq!(time(Some("\tDETAIL: 2026")), "");
        assert_eq!(time(None), "");
    }
}
