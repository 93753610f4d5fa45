//! Keeps the process that archives, fetches and makes backups. It may die or hang: nothing here waits for it, and without it
//! PostgreSQL's commands do the work themselves.

use std::{path::PathBuf, process::Stdio, time::Duration};

use howdah_backup::Fence;
use howdah_clock::now;
use howdah_config::ArchiveConfig;
use howdah_ha::LeaseState;
use howdah_http::{sleep_until, timeout_at};
use howdah_types::BootTime;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{ChildStdin, ChildStdout, Command},
    task::JoinHandle,
};

use crate::{keeper::KeeperLink, publish::Published, reported::Reported};

/// A process that ends is started again, after a while that grows up to this.
const LONGEST: Duration = Duration::from_secs(300);

/// One that has run for this time was well.
const WELL: Duration = Duration::from_secs(600);

/// One that does not take what it is told hangs, and is not told again before the next change.
const PATIENCE: Duration = Duration::from_secs(1);

/// It reports every ten seconds; one that is silent for longer than this hangs.
const SILENCE: Duration = Duration::from_secs(90);

/// The longest line that it says.
const LINE: u64 = 16 * 1024;

/// The task that keeps the process; dropping it ends both.
pub(crate) struct Archiver(Option<JoinHandle<()>>);

impl Drop for Archiver {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Archiver {
    /// Starts it if the configuration names an archive.
    pub(crate) fn start(
        config: Option<&ArchiveConfig>,
        data_dir: PathBuf,
        keeper: KeeperLink,
        published: Published,
    ) -> Self {
        let keeping = config.cloned().map(|config| {
            let keep = Keep {
                config,
                data_dir,
                keeper,
                published,
            };
            tokio::spawn(keep.run())
        });
        Archiver(keeping)
    }
}

struct Keep {
    config: ArchiveConfig,
    data_dir: PathBuf,
    keeper: KeeperLink,
    published: Published,
}

impl Keep {
    async fn run(mut self) {
        let mut pause = Duration::from_secs(1);
        loop {
            let began = now();
            match self.once().await {
                Ok(status) => tracing::warn!("The archiver has ended: {status}. It is started again."),
                Err(error) => tracing::error!("The archiver cannot be started: {error}."),
            }
            self.published.archive.say(None);
            if now().since(began) > WELL {
                pause = Duration::from_secs(1);
            }
            sleep_until(now() + pause).await;
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// Runs the process to its end. It ends when its standard input does: with this process, however that ends.
    async fn once(&mut self) -> std::io::Result<std::process::ExitStatus> {
        let mut child = self.command()?.spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let reported = self.published.archive.clone();
        tokio::select! {
            ended = child.wait() => return ended,
            () = self.tell(input) => {}
            () = listen(output, &reported) => {}
        }
        // It hangs, or is about to end.
        if let Ok(ended) = timeout_at(now() + PATIENCE, child.wait()).await {
            return ended;
        }
        child.kill().await?;
        child.wait().await
    }

    /// Tells it up to when this member leads.
    async fn tell(&mut self, input: Option<ChildStdin>) {
        let Some(mut input) = input else {
            return std::future::pending().await;
        };
        let mut told = None;
        loop {
            // What was not said yet is not allowed while it is not known.
            let over = Fence {
                until: Some(BootTime(0)),
                term: None,
            };
            let fence = self.fence(told.unwrap_or(over));
            if told != Some(fence)
                && let Ok(mut line) = serde_json::to_vec(&fence)
            {
                line.push(b'\n');
                match timeout_at(now() + PATIENCE, input.write_all(&line)).await {
                    Ok(Ok(())) => told = Some(fence),
                    // Half a line may be there: the rest would not be understood.
                    Ok(Err(_)) | Err(_) => return drop(input),
                }
            }
            if self.keeper.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn fence(&self, before: Fence) -> Fence {
        match self.keeper.status().state {
            LeaseState::Held { term, deadline, .. } => Fence {
                until: Some(deadline),
                term: Some(term.0),
            },
            LeaseState::None => Fence::default(),
            // In pause a primary goes on without a lease.
            LeaseState::Unsure if self.published.facts().is_some_and(|facts| facts.pause) => Fence::default(),
            LeaseState::Unsure => before,
        }
    }

    fn command(&self) -> std::io::Result<Command> {
        let config = &self.config;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("archiver")
            .arg("--env-dir")
            .arg(&config.env_dir)
            .arg("--pgdata")
            .arg(&self.data_dir)
            .arg("--keep")
            .arg(config.keep.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if let Some(schedule) = &config.backup_schedule {
            command.arg("--backup-schedule").arg(schedule);
        }
        if let Some(schedule) = &config.drill_schedule {
            command.arg("--drill-schedule").arg(schedule);
        }
        if config.from_replica {
            command.arg("--from-replica");
        }
        Ok(command)
    }
}

/// Takes what it says.
async fn listen(output: Option<ChildStdout>, reported: &Reported) {
    let Some(output) = output else {
        return std::future::pending().await;
    };
    let mut reader = BufReader::new(output);
    loop {
        let mut line = String::new();
        let mut limited = (&mut reader).take(LINE);
        match timeout_at(now() + SILENCE, limited.read_line(&mut line)).await {
            Ok(Ok(0) | Err(_)) | Err(_) => return,
            Ok(Ok(_)) => {
                if let Ok(report) = serde_json::from_str(&line) {
                    reported.say(Some(report));
                }
            }
        }
    }
}
