use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use howdah_clock::now;
use howdah_http::{sleep_until, timeout_at};
use howdah_operator::kube_text;
use howdah_types::BootTime;
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    lease::{Candidate, DURATION, GIVEN_BACK, Move, Record},
    place::Place,
};

/// How often the holder writes, and others look.
const PERIOD: Duration = Duration::from_secs(2);

/// A request that is not answered by then is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the holder's HTTP server is: other replicas ask it for what they do not know.
const ADDRESS: &str = "howdah.dev/address";

/// What others may know of the election.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leading {
    /// Who leads, as far as this replica knows.
    pub(crate) holder: String,
    /// Where its HTTP server is, if it said so.
    pub(crate) address: Option<String>,
    /// When the Lease was last read or written.
    pub(crate) asked: Option<BootTime>,
}

/// Takes part in the election of the operator that works.
pub(crate) struct Election {
    api: Api<Lease>,
    lease: String,
    name: String,
    /// Where others reach this replica's HTTP server.
    address: Option<String>,
    is_contested: bool,
    moment: watch::Sender<BootTime>,
    state: watch::Sender<Leading>,
    retired: watch::Sender<bool>,
    /// The Lease as it was last seen.
    known: Mutex<Option<Lease>>,
}

impl Election {
    pub(crate) fn new(
        client: Client,
        place: &Place,
        controller_id: &str,
        lease: Option<&str>,
        port: u16,
        is_contested: bool,
    ) -> anyhow::Result<Self> {
        let lease = match (lease.filter(|name| !name.is_empty()), controller_id) {
            (Some(name), _) => name.to_owned(),
            (None, "") => "howdah-operator".to_owned(),
            (None, id) => format!("howdah-operator-{}", id.to_ascii_lowercase()),
        };
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        anyhow::ensure!(
            lease.len() <= 253 && lease.chars().all(fits) && !lease.ends_with(['-', '.']),
            "'{lease}' cannot be the name of a Lease (--lease, CONTROLLER_ID): use letters, digits, '-'"
        );
        Ok(Election {
            api: Api::namespaced(client, &place.namespace),
            lease,
            name: place.name.clone(),
            address: place
                .address
                .map(|address| SocketAddr::new(address, port).to_string()),
            is_contested,
            moment: watch::channel(BootTime(0)).0,
            state: watch::channel(Leading::default()).0,
            retired: watch::channel(false).0,
            known: Mutex::new(None),
        })
    }

    /// Until when this replica leads.
    pub(crate) fn moment(&self) -> watch::Receiver<BootTime> {
        self.moment.subscribe()
    }

    pub(crate) fn state(&self) -> watch::Receiver<Leading> {
        self.state.subscribe()
    }

    /// Gives the Lease back and ends: no pass runs any more, and none will.
    pub(crate) fn retire(&self) {
        self.retired.send_replace(true);
    }

    pub(crate) async fn run(&self) {
        let mut retired = self.retired.subscribe();
        if !self.is_contested {
            self.moment.send_replace(BootTime(u64::MAX));
            self.state.send_replace(Leading {
                holder: self.name.clone(),
                address: None,
                asked: Some(now()),
            });
            let _ = retired.wait_for(|retired| *retired).await;
            return;
        }
        let mut candidate = Candidate::new(self.name.clone());
        let mut failing = false;
        loop {
            let turn = now();
            match self.turn(&mut candidate).await {
                Ok(()) => {
                    if failing {
                        tracing::info!(lease = self.lease, "The Lease is reached again.");
                    }
                    failing = false;
                }
                Err(error) => {
                    // What was known may be outdated.
                    *self.known.lock() = None;
                    if !failing {
                        tracing::warn!(lease = self.lease, "{error:#}.");
                    }
                    failing = true;
                }
            }
            self.moment.send_replace(candidate.moment());
            tokio::select! {
                biased;
                _ = retired.wait_for(|retired| *retired) => break,
                () = sleep_until(turn + PERIOD) => {}
            }
        }
        self.moment.send_replace(BootTime(0));
        if candidate.moment() > now()
            && let Err(error) = self.give_back().await
        {
            tracing::warn!("{error:#}. The next leader waits for {} s.", DURATION.as_secs());
        }
    }

    /// Reads the Lease where that is needed, and writes it where that is due.
    async fn turn(&self, candidate: &mut Candidate) -> anyhow::Result<()> {
        let deadline = now() + PATIENCE;
        let known = self.known.lock().take();
        // The holder knows what it has written.
        let found = match known.filter(|lease| record(lease).holder == self.name) {
            Some(lease) => Some(lease),
            None => timeout_at(deadline, self.api.get_opt(&self.lease))
                .await
                .context("reading the Lease: no answer")?
                .map_err(|error| {
                    anyhow::anyhow!("reading the Lease {}: {}", self.lease, kube_text(&error))
                })?,
        };
        let seen = found.as_ref().map(record);
        let holder = seen.as_ref().map_or("", |seen| seen.holder.as_str());
        self.tell(holder, found.as_ref());
        let what = candidate.decide(seen.as_ref(), now());
        let wanted = match what {
            Move::Wait => return Ok(()),
            Move::Create | Move::Take | Move::Renew => self.next(found.as_ref(), what),
        };
        let sent = now();
        let writing = async {
            match what {
                Move::Create => self.api.create(&PostParams::default(), &wanted).await,
                Move::Take | Move::Renew | Move::Wait => {
                    self.api
                        .replace(&self.lease, &PostParams::default(), &wanted)
                        .await
                }
            }
        };
        match timeout_at(deadline, writing).await {
            Ok(Ok(written)) => {
                if what != Move::Renew {
                    tracing::info!(lease = self.lease, name = self.name, "This replica leads now.");
                }
                candidate.wrote(sent);
                self.tell(&self.name, Some(&written));
                *self.known.lock() = Some(written);
                Ok(())
            }
            // Another write came between, or the Lease is gone: what it says now decides, and at once if it was ours.
            Ok(Err(kube::Error::Api(status)))
                if status.code == 409 || (status.code == 404 && what != Move::Create) =>
            {
                tracing::debug!(lease = self.lease, "the Lease was written by another client");
                let found = timeout_at(deadline, self.api.get_opt(&self.lease)).await;
                let found = found.context("reading the Lease: no answer")?.map_err(|error| {
                    anyhow::anyhow!("reading the Lease {}: {}", self.lease, kube_text(&error))
                })?;
                candidate.decide(found.as_ref().map(record).as_ref(), now());
                Ok(())
            }
            Ok(Err(error)) => anyhow::bail!("writing the Lease {}: {}", self.lease, kube_text(&error)),
            Err(_) => anyhow::bail!(
                "writing the Lease {}: no answer in {} s",
                self.lease,
                PATIENCE.as_secs()
            ),
        }
    }

    fn tell(&self, holder: &str, lease: Option<&Lease>) {
        let annotations = lease.and_then(|lease| lease.metadata.annotations.as_ref());
        self.state.send_replace(Leading {
            holder: holder.to_owned(),
            address: annotations.and_then(|all| all.get(ADDRESS)).cloned(),
            asked: Some(now()),
        });
    }

    /// The Lease as this replica writes it.
    fn next(&self, found: Option<&Lease>, what: Move) -> Lease {
        let before = found.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let time = MicroTime(Timestamp::now());
        let transitions = before.lease_transitions.unwrap_or(0);
        let (acquired, transitions) = match what {
            Move::Renew => (before.acquire_time, transitions),
            Move::Take => (Some(time.clone()), transitions.saturating_add(1)),
            Move::Create | Move::Wait => (Some(time.clone()), 0),
        };
        let mut metadata = found.map_or_else(
            || ObjectMeta {
                name: Some(self.lease.clone()),
                ..ObjectMeta::default()
            },
            |lease| lease.metadata.clone(),
        );
        let annotations = metadata.annotations.get_or_insert_default();
        match &self.address {
            Some(address) => annotations.insert(ADDRESS.to_owned(), address.clone()),
            None => annotations.remove(ADDRESS),
        };
        Lease {
            metadata,
            spec: Some(LeaseSpec {
                holder_identity: Some(self.name.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: acquired,
                renew_time: Some(time),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }

    async fn give_back(&self) -> anyhow::Result<()> {
        let Some(mut lease) = self.known.lock().take() else {
            anyhow::bail!("giving the Lease {} back: its state is not known", self.lease);
        };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = i32::try_from(GIVEN_BACK.as_secs()).ok();
        }
        let params = PostParams::default();
        let writing = self.api.replace(&self.lease, &params, &lease);
        timeout_at(now() + PATIENCE, writing)
            .await
            .context("giving the Lease back: no answer")?
            .context("giving the Lease back")?;
        tracing::info!(lease = self.lease, "The Lease is given back.");
        Ok(())
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.unwrap_or(0);
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        // A Lease without a duration was not written by an operator: what is usual counts.
        duration: u64::try_from(seconds)
            .ok()
            .filter(|seconds| *seconds > 0)
            .map_or(DURATION, Duration::from_secs),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}
