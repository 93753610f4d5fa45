//! Keeps the process that makes backups by a schedule. It may die or hang: nothing here waits for it.

use std::{path::PathBuf, process::Stdio, time::Duration};

use howdah_clock::now;
use howdah_config::BackupsConfig;
use howdah_http::sleep_until;
use tokio::{process::Command, task::JoinHandle};

/// A process that ends is started again, after a while that grows up to this.
const LONGEST: Duration = Duration::from_secs(300);

/// One that has run for so long was well.
const WELL: Duration = Duration::from_secs(600);

/// The task that keeps the process; dropping it ends both.
pub(crate) struct Backups(Option<JoinHandle<()>>);

impl Drop for Backups {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Backups {
    /// Starts it if the configuration asks for backups.
    pub(crate) fn start(config: Option<&BackupsConfig>, data_dir: PathBuf) -> Self {
        let keeping = config.cloned().map(|config| tokio::spawn(keep(config, data_dir)));
        Backups(keeping)
    }
}

async fn keep(config: BackupsConfig, data_dir: PathBuf) {
    let mut pause = Duration::from_secs(5);
    loop {
        let began = now();
        let ended = match command(&config, &data_dir) {
            Ok(mut command) => match command.spawn() {
                Ok(mut child) => {
                    // It ends when its standard input does: with this process, however that ends.
                    let _open = child.stdin.take();
                    child.wait().await.map(|status| status.to_string())
                }
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match ended {
            Ok(status) => {
                tracing::warn!("The process that makes backups has ended: {status}. It is started again.");
            }
            Err(error) => tracing::error!("The process that makes backups cannot be started: {error}."),
        }
        if now().since(began) > WELL {
            pause = Duration::from_secs(5);
        }
        sleep_until(now() + pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}

fn command(config: &BackupsConfig, data_dir: &PathBuf) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("backup-schedule")
        .arg("--env-dir")
        .arg(&config.env_dir)
        .arg("--pgdata")
        .arg(data_dir)
        .arg("--cron")
        .arg(&config.schedule)
        .arg("--keep")
        .arg(config.keep.to_string())
        .stdin(Stdio::piped())
        .kill_on_drop(true);
    if config.from_replica {
        command.arg("--from-replica");
    }
    Ok(command)
}
