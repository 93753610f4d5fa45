//! How a cluster becomes ready, live.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    time::Duration,
};

use anyhow::Context as _;
use futures_util::TryStreamExt;
use howdah_clock::now;
use howdah_http::timeout_at;
use howdah_manifest::Status;
use howdah_types::BootTime;
use kube::{
    api::DynamicObject,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::Value;

use crate::{context::Context, failure::Failure};

/// Follows a cluster until this generation of it is ready.
pub(crate) async fn follow(
    context: &Context,
    cluster: &DynamicObject,
    began: BootTime,
    patience: Duration,
) -> anyhow::Result<()> {
    let name = cluster.metadata.name.clone().unwrap_or_default();
    let namespace = cluster.metadata.namespace.clone().unwrap_or_default();
    let generation = cluster.metadata.generation.unwrap_or(0);
    let place = place(&name, &namespace);
    let mut view = View::new(began);
    let followed = timeout_at(
        began + patience,
        watch(context, &name, &namespace, generation, &mut view),
    )
    .await;
    let status = match followed {
        Ok(status) => status?,
        Err(_) => {
            view.end();
            let why = view
                .last
                .condition("Ready")
                .map(|c| c.message.clone())
                .unwrap_or_default();
            let seconds = patience.as_secs();
            if view.last.observed_generation < generation {
                return Err(Failure::NotReady(format!(
                    "{name} is not ready after {seconds} s: no operator has looked at it; its annotation \
                     'acid.zalan.do/controller' may leave it to another one"
                ))
                .into());
            }
            return Err(Failure::NotReady(format!(
                "{name} is not ready after {seconds} s ({why}); it goes on: 'howdah get {place}' shows how far it is, 'howdah \
                 logs {place}' why"
            ))
            .into());
        }
    };
    view.end();
    println!("{name} is ready after {:.1} s.", now().since(began).as_secs_f64());
    for note in &status.notes {
        println!("  note: {note}");
    }
    for lack in &status.machine {
        println!("  on this machine: {lack}");
    }
    println!("  howdah psql {place}");
    Ok(())
}

/// A cluster as it is written on a command line.
fn place(name: &str, namespace: &str) -> String {
    match namespace {
        "default" | "" => name.to_owned(),
        other => format!("{name} -n {other}"),
    }
}

/// What a user may type next about a cluster.
pub(crate) fn next_command(command: &str, cluster: &DynamicObject) -> String {
    let metadata = &cluster.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    format!("howdah {command} {}", place(name, namespace))
}

async fn watch(
    context: &Context,
    name: &str,
    namespace: &str,
    generation: i64,
    view: &mut View,
) -> anyhow::Result<Status> {
    let api = context.clusters(namespace);
    let stream = watcher::watch_object(api, name).default_backoff();
    let mut stream = std::pin::pin!(stream);
    while let Some(object) = stream.try_next().await.context("watching the cluster")? {
        let object = object.with_context(|| format!("{name} was deleted meanwhile"))?;
        let value = serde_json::to_value(&object)?;
        let status = Status::read(&value["status"]);
        if status.observed_generation >= generation {
            view.show(&status);
        }
        if status.phase == howdah_manifest::phase::INVALID && status.observed_generation >= generation {
            view.end();
            let why = status
                .condition("Ready")
                .map(|c| c.message.clone())
                .unwrap_or_default();
            return Err(Failure::Manifest(format!("{name} cannot be acted on: {why}")).into());
        }
        if status.holds("Ready", generation) {
            return Ok(status);
        }
    }
    anyhow::bail!("the watch of {name} has ended")
}

/// As much of a line as a terminal shows in one row: what is drawn again must not wrap.
fn cut(line: &str) -> String {
    let width = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(80, |size| usize::from(size.ws_col));
    line.chars().take(width.max(20)).collect()
}

/// What is on the terminal. Elsewhere each change is a line.
struct View {
    began: BootTime,
    terminal: bool,
    lines: usize,
    said: BTreeMap<String, String>,
    done_at: BTreeMap<String, f64>,
    last: Status,
}

impl View {
    fn new(began: BootTime) -> Self {
        View {
            began,
            terminal: std::io::stdout().is_terminal(),
            lines: 0,
            said: BTreeMap::new(),
            done_at: BTreeMap::new(),
            last: Status::default(),
        }
    }

    fn show(&mut self, status: &Status) {
        self.last = status.clone();
        let seconds = now().since(self.began).as_secs_f64();
        let mut out = String::new();
        if self.terminal && self.lines > 0 {
            // Back to the first line, and everything below is redrawn.
            out.push_str(&format!("\x1b[{}A\x1b[J", self.lines));
        }
        let stages = status
            .progress
            .as_ref()
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let mut lines = 0;
        for stage in &stages {
            let name = stage["step"].as_str().unwrap_or_default().to_owned();
            let detail = stage["detail"].as_str().unwrap_or_default();
            let done = stage["done"] == true;
            let at = done.then(|| *self.done_at.entry(name.clone()).or_insert(seconds));
            let mark = if done { "✓" } else { "…" };
            let time = at.map_or_else(|| " ".repeat(8), |at| format!("{at:>6.1} s"));
            let line = format!("  {mark} {time}  {name:<10} {detail}");
            if self.terminal {
                out.push_str(line.trim_end());
                out.push('\n');
                lines += 1;
            } else {
                let key = format!("{done} {detail}");
                // Counters that stand still are for the eye; a log wants what has happened, and why something does not.
                let tells = done || name == "copy" && detail.contains(" MB") || detail.contains(": ");
                if tells && self.said.get(&name) != Some(&key) {
                    self.said.insert(name, key);
                    out.push_str(line.trim_end());
                    out.push('\n');
                }
            }
        }
        let failed = status.phase.ends_with("Failed");
        if let Some(ready) = status.condition("Ready").filter(|_| failed) {
            let line = format!("  !           {}", ready.message);
            if self.terminal {
                out.push_str(&cut(&line));
                out.push('\n');
                lines += 1;
            } else if self.said.get("!") != Some(&ready.message) {
                self.said.insert("!".into(), ready.message.clone());
                out.push_str(&line);
                out.push('\n');
            }
        }
        self.lines = lines;
        print!("{out}");
        let _ = std::io::stdout().flush();
    }

    fn end(&mut self) {
        self.lines = 0;
    }
}
