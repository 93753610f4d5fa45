//! The process that an agent keeps beside itself: the archiver, the schedule of backups, and what the archive has. Lines of the
//! standard input say whether this member may archive; lines of the standard output say how it goes.

use std::{os::fd::AsFd, sync::Arc, time::Duration};

use howdah_archiver::{Archiver, Options};
use howdah_backup::Fence;
use howdah_clock::now;
use howdah_http::sleep_until;
use howdah_types::BootTime;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::unix::pipe,
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
};

use crate::{cli::ArchiverArgs, drill, look, scheduled};

/// How often it is said how it goes.
const SAY: Duration = Duration::from_secs(10);

/// How long a backup has to take away what it has stored.
const GRACE: Duration = Duration::from_secs(5);

/// Runs until the standard input ends, which it does with the process that holds its other end.
pub(crate) async fn run(args: ArchiverArgs) -> anyhow::Result<u8> {
    let settings = args.sources.read()?.settings()?;
    // An agent says whether its member leads; until it has, nothing is archived. A person says nothing.
    let over = Fence {
        until: Some(BootTime(0)),
        term: None,
    };
    let (tell, fence) = watch::channel(agent().is_some().then_some(over));
    let options = Options {
        data: args.pgdata.clone(),
        backlog_limit: settings.backlog_limit,
    };
    let archiver = Arc::new(Archiver::new(options, fence.clone())?);
    let changed = Notify::new();
    tokio::select! {
        biased;
        () = orders(tell) => Ok(0),
        ended = told_to_end() => ended,
        ended = scheduled::forever(&args, &archiver, &changed) => ended,
        () = drill::forever(&args, &changed) => Ok(0),
        () = look::forever(&args, &archiver, fence, &changed) => Ok(0),
        () = serve(&archiver) => Ok(0),
        () = say(&archiver) => Ok(0),
    }
}

/// A backup that is being made hears the same signal, and takes away what it has stored: it is given a moment for it.
async fn told_to_end() -> anyhow::Result<u8> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    sleep_until(now() + GRACE).await;
    Ok(0)
}

/// Backups go on where nothing can be served: the commands do their work themselves.
async fn serve(archiver: &Arc<Archiver>) {
    loop {
        if let Err(error) = Arc::clone(archiver).run().await {
            tracing::warn!("The archiver does not serve: {error}.");
        }
        sleep_until(now() + Duration::from_secs(60)).await;
    }
}

/// The pipe by which an agent speaks.
fn agent() -> Option<pipe::Receiver> {
    let input = std::io::stdin().as_fd().try_clone_to_owned().ok()?;
    pipe::Receiver::from_owned_fd(input).ok()
}

/// Reads what the agent says. An input that is no pipe does not end: then a person has started this.
async fn orders(tell: watch::Sender<Option<Fence>>) {
    let Some(pipe) = agent() else {
        return std::future::pending().await;
    };
    let mut lines = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(fence) => {
                tell.send_replace(Some(fence));
            }
            Err(error) => tracing::warn!("The agent has said something that is not understood: {error}."),
        }
    }
}

/// Says how it goes. A reader that is slow misses a line, and nothing waits for it.
async fn say(archiver: &Archiver) {
    let output = std::io::stdout().as_fd().try_clone_to_owned();
    let Ok(pipe) = output.and_then(pipe::Sender::from_owned_fd) else {
        return std::future::pending().await;
    };
    loop {
        let mut report = archiver.report().await;
        let mut line = serde_json::to_vec(&report).unwrap_or_default();
        // A pipe takes 4096 bytes whole or not at all. An archiver that says nothing is taken for one that hangs.
        if line.len() >= 4096 {
            report.archive = None;
            report.trouble = report.trouble.map(|text| text.chars().take(400).collect());
            line = serde_json::to_vec(&report).unwrap_or_default();
        }
        line.push(b'\n');
        let _ = pipe.try_write(&line);
        sleep_until(now() + SAY).await;
    }
}
