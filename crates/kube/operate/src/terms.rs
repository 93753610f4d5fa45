use std::{sync::Arc, time::Duration};

use howdah_clock::now;
use howdah_http::{sleep_until, timeout_at};
use howdah_operator::{
    Fence, Operator, Setup, definition_is_served, install_definition, install_team_definition,
};
use howdah_types::BootTime;
use kube::Client;
use tokio::sync::watch;

use crate::{configuration::Configuration, routes::Shown};

/// Passes under way may take this long when a term ends without the Lease being lost.
const LAST: Duration = Duration::from_secs(20);

/// The API serves a definition that was just written in this time.
const DEFINED: Duration = Duration::from_secs(30);

/// The pause before another try to begin.
const AGAIN: Duration = Duration::from_secs(5);

/// The operator's terms: while this replica leads.
pub(crate) struct Terms {
    pub(crate) client: Client,
    /// As it was read last. A changed one ends the term and begins the next one.
    pub(crate) configuration: watch::Receiver<Arc<Configuration>>,
    pub(crate) shown: Arc<Shown>,
    /// Until when it leads.
    pub(crate) moment: watch::Receiver<BootTime>,
}

/// Why a term has ended.
enum End {
    /// The process is asked to stop, or the configuration has changed: passes under way end first.
    Graceful,
    /// Another replica may lead: everything stops where it is.
    Lost,
    /// The operator itself has ended.
    Alone,
}

impl Terms {
    /// Works in each term, until `stop` says true.
    pub(crate) async fn run(&self, mut stop: watch::Receiver<bool>) {
        loop {
            let mut moment = self.moment.clone();
            if *moment.borrow() <= now() {
                self.shown.hindered.store(None);
            }
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                begun = moment.wait_for(|end| *end > now()) => {
                    if begun.is_err() {
                        return;
                    }
                }
            }
            let fence = Fence::until(self.moment.clone());
            let mut configuration = self.configuration.clone();
            let current = Arc::clone(&configuration.borrow_and_update());
            let prepared = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                prepared = fence.hold(self.prepare(&current)) => prepared,
            };
            match prepared {
                Some(true) => self.term(&current, configuration, stop.clone()).await,
                Some(false) => {
                    tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => return,
                        () = sleep_until(now() + AGAIN) => {}
                    }
                }
                None => self.shown.hindered.store(None),
            }
        }
    }

    /// Makes sure that the API serves clusters. False: it does not, and the reason is in the log.
    async fn prepare(&self, configuration: &Configuration) -> bool {
        let prepared = async {
            if configuration.register_definition {
                install_definition(&self.client).await?;
                if configuration.settings.teams.enable_postgres_team_crd
                    && let Err(error) = install_team_definition(&self.client).await
                {
                    // Clusters are looked after without it.
                    tracing::warn!(
                        "The definition of PostgresTeam is not installed: {}.",
                        error.in_one_line()
                    );
                }
            }
            definition_is_served(&self.client, now() + DEFINED).await
        };
        let error = prepared.await.err().map(|error| error.in_one_line());
        if let Some(error) = &error {
            tracing::error!("The operator cannot begin, and tries again: {error}.");
        }
        self.shown.hindered.store(error.clone().map(Arc::new));
        error.is_none()
    }

    async fn term(
        &self,
        current: &Configuration,
        mut configuration: watch::Receiver<Arc<Configuration>>,
        mut stop: watch::Receiver<bool>,
    ) {
        let operator = Arc::new(Operator::new(
            self.client.clone(),
            Setup {
                settings: current.settings.clone(),
                namespace: current.namespace.clone(),
                home: current.home.clone(),
                asks_teams: current.asks_teams,
                controller_id: current.controller_id.clone(),
                workers: current.workers,
                nodes: true,
                fence: Fence::until(self.moment.clone()),
                meter: Arc::clone(&self.shown.meter),
            },
        ));
        self.shown.operator.store(Some(Arc::clone(&operator)));
        let fence = Fence::until(self.moment.clone());
        let (ending, mut ended) = watch::channel(false);
        let work = operator.run(async move {
            let _ = ended.wait_for(|ended| *ended).await;
        });
        let mut work = std::pin::pin!(work);
        let end = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => End::Graceful,
            // The term is over as soon as the fence is closed.
            _ = fence.hold(std::future::pending::<()>()) => End::Lost,
            _ = configuration.changed() => End::Graceful,
            () = &mut work => End::Alone,
        };
        match end {
            End::Lost => tracing::warn!("This replica no longer leads; it waits for the Lease."),
            End::Graceful => {
                ending.send_replace(true);
                // A pass is bound by the fence as before.
                let _ = timeout_at(now() + LAST, &mut work).await;
            }
            End::Alone => {
                tracing::error!("The operator's work has ended by itself, and begins again.");
                sleep_until(now() + AGAIN).await;
            }
        }
        self.shown.operator.store(None);
        self.shown.meter.end_of_term();
    }
}
