//! Stands above PgBouncer: passes signals on in its own way, and has it read certificates that were replaced.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use anyhow::Context;
use howdah_clock::now;
use howdah_http::sleep_until;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::{
    config::{Config, Files},
    metrics::{self, Console},
};

/// How often the certificate's files are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// Transactions may end by themselves for this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs it until a signal. The exit code is 0 then, and `PgBouncer`'s if it ends by itself.
pub(super) fn run(program: &str, files: &Files, config: &Config) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("making a runtime")?;
    runtime.block_on(supervise(program, files, config))
}

async fn supervise(program: &str, files: &Files, config: &Config) -> anyhow::Result<u8> {
    let (stop, stopped) = watch::channel(false);
    // Without metrics clients are served all the same.
    let listener = match listen(config).await {
        Ok(listener) => Some(listener),
        Err(error) => {
            println!(
                "There are no metrics: port {} cannot be listened on: {error}.",
                config.metrics_port
            );
            None
        }
    };
    let console = Console {
        directory: files.dir.clone(),
        port: config.listen_port,
    };
    let metrics = async {
        if let Some(listener) = listener {
            metrics::run(listener, console, stopped).await;
        }
    };
    let pooler = async {
        let ended = watch_over(program, files).await;
        stop.send_replace(true);
        ended
    };
    tokio::join!(pooler, metrics).0
}

async fn listen(config: &Config) -> std::io::Result<TcpListener> {
    let host = if config.listen == "*" {
        "::"
    } else {
        &config.listen
    };
    match TcpListener::bind((host, config.metrics_port)).await {
        // A machine without IPv6.
        Err(_) if host == "::" => TcpListener::bind(("0.0.0.0", config.metrics_port)).await,
        other => other,
    }
}

async fn watch_over(program: &str, files: &Files) -> anyhow::Result<u8> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut child = Command::new(program)
        .arg(files.ini())
        // Passwords of the pod are in its file.
        .env_clear()
        .kill_on_drop(true)
        .spawn()
        .with_context(|| program.to_owned())?;
    let mut known = looks(files);
    loop {
        tokio::select! {
            ended = child.wait() => {
                let ended = ended.context("waiting for PgBouncer")?;
                println!("PgBouncer has ended by itself: {ended}.");
                return Ok(ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1).max(1));
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = sleep_until(now() + LOOK) => {
                let found = looks(files);
                if found != known {
                    known = found;
                    println!("The certificate was replaced: PgBouncer reads it.");
                    tell(&child, Signal::HUP);
                }
            }
        }
    }
    // Its safe end: transactions that run may end, all others wait meanwhile, and then every session is closed.
    tell(&child, Signal::INT);
    tokio::select! {
        _ = child.wait() => {}
        () = sleep_until(now() + PATIENCE) => {
            println!("Sessions have not ended within {} s: PgBouncer is ended.", PATIENCE.as_secs());
            tell(&child, Signal::KILL);
            let _ = child.wait().await;
        }
    }
    Ok(0)
}

fn tell(child: &Child, signal: Signal) {
    let pid = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may just have ended.
        let _ = kill_process(pid, signal);
    }
}

/// What shows that a file was replaced, of each. Three looks at files in memory; nothing else runs on this thread.
fn looks(files: &Files) -> Vec<Option<(u64, u64, i64, i64)>> {
    let paths: Vec<&PathBuf> = [&files.certificate, &files.key]
        .into_iter()
        .chain(&files.ca)
        .collect();
    paths
        .into_iter()
        .map(|path| {
            let found = fs::metadata(path).ok()?;
            Some((found.dev(), found.ino(), found.ctime(), found.ctime_nsec()))
        })
        .collect()
}
