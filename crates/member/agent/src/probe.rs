use std::{collections::BTreeMap, time::Duration};

use howdah_clock::now;
use howdah_dcs::View;
use howdah_ha::{KnownMember, Peer, Peers};
use howdah_http::{Client, HttpError, Method, Url};
use howdah_member_api::PeerStatus;
use howdah_types::{BootTime, MemberName, Scope};
use tokio::task::JoinSet;

use crate::wake::Wake;

/// Patroni's limit for a member's answer in a race.
const PATIENCE: Duration = Duration::from_secs(2);

/// The limit for the member that led until a moment ago: it is most likely dead, and a failover waits for it.
const PATIENCE_LEADER: Duration = Duration::from_millis(400);

/// Asks other members for their state, all at once, while the loop goes on.
pub(crate) struct Prober {
    client: Client,
    scope: Scope,
    wake: Wake,
    round: JoinSet<(MemberName, Option<Peer>)>,
    /// What is known.
    pub(crate) peers: Peers,
}

impl Prober {
    pub(crate) fn new(client: Client, scope: Scope, wake: Wake) -> Self {
        Prober {
            client,
            scope,
            wake,
            round: JoinSet::new(),
            peers: Peers::default(),
        }
    }

    /// From the next round on.
    pub(crate) fn use_client(&mut self, client: Client) {
        self.client = client;
    }

    /// Begins a round, unless one is under way.
    pub(crate) fn ask(
        &mut self,
        names: &[MemberName],
        view: &View,
        known: &BTreeMap<MemberName, KnownMember>,
        last_leader: Option<&MemberName>,
    ) {
        if !self.round.is_empty() {
            return;
        }
        self.peers = Peers {
            asked_at: Some(now()),
            asked: names.iter().cloned().collect(),
            complete: false,
            answers: Default::default(),
        };
        for name in names {
            let shown = view.members.get(name).and_then(|member| member.api_base());
            // The store may have forgotten it.
            let forgotten = || known.get(name).map(|member| member.api.as_str());
            let in_topology = || {
                let url = view.failsafe.value.as_ref()?.get(name)?;
                Some(url.strip_suffix("/patroni").unwrap_or(url))
            };
            let Some(base) = shown.or_else(forgotten).or_else(in_topology) else {
                continue;
            };
            let patience = if last_leader == Some(name) {
                PATIENCE_LEADER
            } else {
                PATIENCE
            };
            let (client, wake) = (self.client.clone(), self.wake.clone());
            let (name, scope, url) = (name.clone(), self.scope.clone(), format!("{base}/patroni"));
            self.round.spawn(async move {
                let status = ask_status(&client, &url, now() + patience).await;
                wake.wake();
                let status = status.ok().flatten();
                let peer = status.filter(|status| status.may_be(&scope, &name)).map(peer_of);
                (name, peer)
            });
        }
        self.collect();
    }

    /// Takes the answers that have come.
    pub(crate) fn collect(&mut self) {
        while let Some(result) = self.round.try_join_next() {
            if let Ok((name, Some(peer))) = result {
                self.peers.answers.insert(name, peer);
            }
        }
        if self.round.is_empty() {
            self.peers.complete = true;
        }
    }
}

/// One member's state; `None` if it does not answer, or says nothing usable.
pub(crate) async fn ask_one(client: &Client, url: &str, deadline: BootTime) -> Option<Peer> {
    ask(client, url, deadline).await.ok().flatten()
}

/// One member's state; `None` if what it says is not usable, such as a position that it does not know just now.
pub(crate) async fn ask(client: &Client, url: &str, deadline: BootTime) -> Result<Option<Peer>, HttpError> {
    Ok(ask_status(client, url, deadline).await?.map(peer_of))
}

async fn ask_status(client: &Client, url: &str, deadline: BootTime) -> Result<Option<PeerStatus>, HttpError> {
    let url = Url::parse(url)?;
    let response = client.request(Method::GET, &url, None, deadline).await?;
    Ok(PeerStatus::parse(&response.text()))
}

fn peer_of(status: PeerStatus) -> Peer {
    Peer {
        primary: status.primary,
        running: status.running,
        attached: status.attached,
        starting: status.starting,
        start_failed: status.start_failed,
        system_id: status.system_id,
        lsn: status.lsn,
        timeline: status.timeline,
        nofailover: status.tags.nofailover() || status.watchdog_failed,
        priority: status.tags.failover_priority(),
    }
}
