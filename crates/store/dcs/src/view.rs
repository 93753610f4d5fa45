use std::collections::BTreeMap;

use howdah_types::{MemberName, Timeline};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    FailoverRequest, HistoryEntry, KeyTree, LeaderKey, LeaseId, Member, Status, SyncState, Term, Topology,
};

/// A value and the revision at which it was last written; revision 0 when the key does not exist.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// For a following [`crate::Cond::Rev`].
    pub rev: u64,
}

/// One key as a store returns it.
#[derive(Clone, Debug)]
pub struct RawKey {
    /// The full path.
    pub path: String,
    /// The content.
    pub value: String,
    /// The revision of its creation.
    pub created: u64,
    /// The revision of its last change.
    pub modified: u64,
    /// The lease that it is bound to.
    pub lease: Option<LeaseId>,
}

/// The whole cluster from one consistent read.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct View {
    /// The store's revision at the read.
    pub rev: u64,
    /// Absent: never bootstrapped. Empty: bootstrap runs. Else the system identifier.
    pub initialize: Option<String>,
    /// The dynamic configuration, `None` when the key is absent.
    pub config: Versioned<Option<Map<String, Value>>>,
    /// Who leads.
    pub leader: Option<LeaderKey>,
    /// All members that have a record, by name.
    pub members: BTreeMap<MemberName, Member>,
    /// What the leader last said of itself.
    pub status: Status,
    /// A wanted failover or switchover.
    pub failover: Versioned<Option<FailoverRequest>>,
    /// The synchronous standbys, `None` when synchronous mode is not active.
    pub sync: Versioned<Option<SyncState>>,
    /// The timeline history, `None` when the key is absent.
    pub history: Option<Vec<HistoryEntry>>,
    /// Who must agree that the leader goes on without the store; `None` when the key is absent or names no member.
    pub failsafe: Versioned<Option<Topology>>,
}

impl View {
    /// The dynamic configuration asks for quorum mode.
    #[must_use]
    pub fn is_quorum_commit(&self) -> bool {
        let mode = self
            .config
            .value
            .as_ref()
            .and_then(|config| config.get("synchronous_mode"));
        let mode = mode.and_then(Value::as_str);
        mode.is_some_and(|mode| mode.eq_ignore_ascii_case("quorum"))
    }

    /// Reads a cluster from its keys. Whatever is malformed counts as absent: another agent's bad record must not
    /// stop ours.
    #[must_use]
    pub fn from_keys(tree: &KeyTree, rev: u64, keys: impl IntoIterator<Item = RawKey>) -> Self {
        let mut view = View {
            rev,
            ..View::default()
        };
        let mut legacy_optime = None;
        for key in keys {
            let Some(path) = key.path.strip_prefix(tree.prefix()) else {
                continue;
            };
            match path {
                "initialize" => view.initialize = Some(key.value),
                "config" => {
                    let value = serde_json::from_str(&key.value).ok();
                    view.config = Versioned {
                        value,
                        rev: key.modified,
                    };
                }
                "leader" => {
                    view.leader = MemberName::new(key.value).ok().map(|name| LeaderKey {
                        name,
                        lease: key.lease,
                        term: Term(key.created),
                    });
                }
                "status" => view.status = Status::parse(&key.value),
                "optime/leader" => legacy_optime = key.value.trim().parse().ok(),
                "failover" => {
                    view.failover = Versioned {
                        value: FailoverRequest::parse(&key.value),
                        rev: key.modified,
                    };
                }
                "sync" => {
                    view.sync = Versioned {
                        value: SyncState::parse(&key.value),
                        rev: key.modified,
                    }
                }
                "history" => view.history = crate::history_from_json(&key.value),
                "failsafe" => {
                    let topology = serde_json::from_str(&key.value).ok();
                    view.failsafe = Versioned {
                        value: topology.filter(|topology: &Topology| !topology.is_empty()),
                        rev: key.modified,
                    };
                }
                other => {
                    if let Some(name) = other.strip_prefix("members/")
                        && let Ok(name) = MemberName::new(name)
                    {
                        view.members.insert(name, Member::parse(&key.value));
                    }
                }
            }
        }
        if view.status.optime.is_none() {
            view.status.optime = legacy_optime.map(howdah_types::Lsn);
        }
        view
    }

    /// Whether the leader key is bound to this life. A name alone proves nothing.
    #[must_use]
    pub fn led_by(&self, lease: LeaseId) -> bool {
        self.leader
            .as_ref()
            .is_some_and(|leader| leader.lease == Some(lease))
    }

    /// Whether no member is an agent of Patroni, which would renew its lease too seldom for a short one. What has been
    /// written there that names no address is no member's.
    #[must_use]
    pub fn all_ours(&self) -> bool {
        self.members
            .values()
            .all(|member| member.howdah.is_some() || member.api_base().is_none())
    }

    /// The leader's record, if there is one.
    #[must_use]
    pub fn leader_member(&self) -> Option<(&MemberName, &Member)> {
        self.members.get_key_value(&self.leader.as_ref()?.name)
    }

    /// The newest timeline the cluster is known to have had: the last entry of the history plus one.
    #[must_use]
    pub fn timeline(&self) -> Option<Timeline> {
        let history = self.history.as_ref()?;
        Some(
            history
                .last()
                .map_or(Timeline(1), |line| Timeline(line.timeline.0 + 1)),
        )
    }
}
