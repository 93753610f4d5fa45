//! How an agent begins, reloads and ends.

use std::{sync::Arc, time::Duration};

use howdah_clock::now;
use howdah_config::LocalConfig;
use howdah_guard::{
    Handover, Request as GuardRequest,
    tree::{DirId, ProcessTable},
};
use howdah_ha::{Action, Command, LeaseState, Postgres, Request};
use howdah_types::BootTime;

use crate::{
    agent::Agent, blocking::blocking, certificates::Files, patience::READ_PATIENCE, setup::peer_client,
};

impl Agent {
    /// Without a guard nothing keeps the time: PostgreSQL ends now (the kernel has told the postmaster to quit; this
    /// is for what is left), and only then may another member lead.
    pub(crate) async fn guard_died(&self) {
        tracing::error!("The guard has died: ending PostgreSQL and this agent.");
        let me = Some(std::process::id());
        let path = std::ffi::CString::new(self.server.dir.path().as_os_str().as_encoded_bytes()).ok();
        let data = path.and_then(|path| DirId::of(&path).ok());
        let Ok(mut processes) = ProcessTable::new() else {
            return;
        };
        let deadline = now() + Duration::from_secs(10);
        loop {
            let postmaster = self.server.dir.postmaster().map(|postmaster| postmaster.pid);
            if processes.kill_postgres(postmaster, data, me) == 0 {
                break;
            }
            if now() >= deadline {
                tracing::error!("PostgreSQL cannot be killed; the lease is left to run out.");
                return;
            }
            howdah_http::sleep_until(now() + Duration::from_millis(5)).await;
        }
        self.keeper.command(Command::ReleaseUnguarded).await;
        self.keeper
            .wait_for(
                |status| status.state == LeaseState::None,
                now() + Duration::from_secs(3),
            )
            .await;
    }

    /// SIGTERM. A second one while the first is served changes nothing here: the guard has its own limit.
    pub(crate) fn terminate(&mut self) {
        tracing::info!("Received SIGTERM: shutting down.");
        // What has no effect on others can be dropped; a promotion or a handover is waited for.
        let bootstrap = self.settings.local.bootstrap.as_ref();
        let restores = bootstrap.is_some_and(|bootstrap| bootstrap.custom.is_some());
        let may_drop = self.work.running().is_some_and(|running| {
            // Hours may be left, and the mark of an unfinished bootstrap makes the next try begin with an empty directory.
            let drops_restore = restores && running.action == Action::Bootstrap;
            drops_restore
                || matches!(
                    running.action,
                    Action::Clone { .. }
                        | Action::Rejoin { .. }
                        | Action::Checkpoint
                        | Action::Reinitialize { .. }
                )
        });
        if may_drop {
            self.work.abandon();
        }
        self.asked.replace(Request::Shutdown, "the agent is ending");
        self.due = true;
    }

    /// SIGHUP: reads the configuration file again; one that is wrong changes nothing.
    pub(crate) async fn reload(&mut self) {
        let taken = match self.settings.file.read() {
            Ok((config, warning)) => self.take_file(Arc::new(config)).await.map(|()| warning),
            Err(error) => Err(error.into()),
        };
        match taken {
            Ok(warning) => {
                if let Some(warning) = warning {
                    tracing::warn!("Configuration: {warning}.");
                }
                tracing::info!("The configuration was read again.");
            }
            Err(error) => tracing::error!("The configuration is not taken: {error:#}."),
        }
    }

    async fn take_file(&mut self, config: Arc<LocalConfig>) -> anyhow::Result<()> {
        let fixed = |config: &LocalConfig| {
            let data_dir = config.postgresql.data_dir.clone();
            (config.name.clone(), config.scope.clone(), data_dir)
        };
        anyhow::ensure!(
            fixed(&config) == fixed(&self.settings.local),
            "name, scope and data_dir do not change while the agent runs: restart it"
        );
        let peers = peer_client(&config)?;
        self.api_settings.take(&config)?;
        self.prober.use_client(peers.clone());
        self.peer_client = peers;
        let later = [
            (
                config.restapi.listen != self.settings.local.restapi.listen,
                "restapi.listen",
            ),
            (config.store != self.settings.local.store, "the store's section"),
        ];
        for (_, what) in later.iter().filter(|(changed, _)| *changed) {
            tracing::warn!("{what} takes effect after an agent restart (SIGUSR2 to its guard).");
        }
        self.server.local = config.postgresql.clone();
        self.settings.local = config;
        self.settings.rev = None;
        self.due = true;
        self.voice.publisher.forget();
        self.rewrite_conf().await;
        Ok(())
    }

    /// Takes certificates that were replaced.
    pub(crate) async fn take_certificates(&mut self) {
        let files = Files::of(&self.settings.local, &self.settings.dynamic);
        if !self.certificates.were_replaced(files) {
            return;
        }
        self.server.reload();
        let (api, config) = (self.api_settings.clone(), Arc::clone(&self.settings.local));
        let taken = blocking("reading certificates", move || api.take(&config)).await;
        match taken.and_then(|taken| taken) {
            Ok(()) => tracing::info!("Certificates were replaced: PostgreSQL and the REST API take them."),
            Err(error) => {
                tracing::error!(
                    "Certificates were replaced, and the REST API keeps the old ones: {error:#}."
                );
            }
        }
    }

    pub(crate) fn end(&mut self, code: u8) {
        self.exit = Some(code);
    }

    /// Tells the guard of a PostgreSQL that was running before both of us.
    pub(crate) async fn adopt(&mut self, handover: &Handover) {
        let Some(postmaster) = self.server.dir.postmaster() else {
            return;
        };
        if handover.pid == postmaster.pid {
            return;
        }
        let postgres = self.observer.look(&self.server).await;
        let may_write = !matches!(&postgres, Postgres::Running(running) if running.in_recovery);
        tracing::info!(
            pid = postmaster.pid,
            may_write,
            "PostgreSQL runs already; taking it over."
        );
        self.adopt_server(postmaster.pid, may_write).await;
    }

    /// Tells the guard of a PostgreSQL that it has not started, or not promoted. False: it does not take it.
    pub(crate) async fn adopt_server(&mut self, pid: u32, may_write: bool) -> bool {
        let mut tail = self.server.dir.path().display().to_string().into_bytes();
        tail.push(0);
        // A primary that gets no lease in the length of one is ended, unless the cluster is paused.
        let not_after = if self.settings.dynamic.pause {
            BootTime::FAR_FUTURE
        } else {
            now() + self.settings.dynamic.timers.ttl
        };
        let request = GuardRequest::Adopt {
            pid,
            may_write,
            not_after,
        };
        let answer = self.guard.ask(request, tail, now() + READ_PATIENCE).await;
        if let Err(error) = &answer {
            tracing::error!(%error, "The guard does not take the running PostgreSQL over.");
        }
        answer.is_ok()
    }
}
