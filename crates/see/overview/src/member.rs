use howdah_dcs::View;
use howdah_types::{Lsn, PgState, Role, Timeline};
use serde_json::{Map, Value};

use crate::{MemberRole, MemberState, Replication};

/// A replica's position in the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalPosition {
    /// The position.
    pub lsn: Lsn,
    /// How far that is behind the leader, in bytes.
    pub lag: u64,
}

/// One member.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberOverview {
    /// Its name.
    pub name: String,
    /// What it is in the cluster.
    pub role: MemberRole,
    /// What its PostgreSQL does.
    pub state: MemberState,
    /// The URL of its REST API; empty when it has published none.
    pub api_url: String,
    /// PostgreSQL's host; empty when it has published none.
    pub host: String,
    /// PostgreSQL's port.
    pub port: Option<u16>,
    /// Its timeline.
    pub timeline: Option<Timeline>,
    /// What it has received; `None` of the leader, and of who does not say.
    pub received: Option<WalPosition>,
    /// What it has replayed; `None` of the leader, and of who does not say.
    pub replayed: Option<WalPosition>,
    /// It waits for a restart: the parameters, each with its old and its new value.
    pub pending_restart: Option<Map<String, Value>>,
    /// A restart planned for later, as its record has it.
    pub scheduled_restart: Option<Value>,
    /// Its tags, as they are published.
    pub tags: Map<String, Value>,
}

impl MemberOverview {
    /// It takes writes.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.role == MemberRole::Leader && self.state.is_running()
    }

    /// It leads, and its server runs: a primary, or the leader of a standby cluster.
    #[must_use]
    pub fn leads(&self) -> bool {
        let gets_wal = matches!(self.state, MemberState::Replicating(_));
        self.is_primary() || (self.role == MemberRole::StandbyLeader && (self.state.is_running() || gets_wal))
    }

    /// It follows and streams.
    #[must_use]
    pub fn streams(&self) -> bool {
        !self.role.leads() && self.state.streams()
    }
}

/// All members of a cluster, by name. How far replicas are behind is judged by the leader's last published position.
#[must_use]
pub fn members(view: &View) -> Vec<MemberOverview> {
    let leader = view.leader.as_ref().map(|leader| leader.name.clone());
    let leader_lsn = view
        .leader_member()
        .and_then(|(_, member)| member.xlog_location)
        .max(view.status.optime)
        .unwrap_or(Lsn(0));
    let quorum = view.is_quorum_commit();
    view.members
        .iter()
        .map(|(name, member)| {
            let leads = leader.as_ref() == Some(name);
            let is_sync = view
                .sync
                .value
                .as_ref()
                .is_some_and(|sync| sync.is_standby(name.as_str()));
            let role = match (leads, is_sync) {
                (true, _) if member.role == Role::StandbyLeader => MemberRole::StandbyLeader,
                (true, _) => MemberRole::Leader,
                (false, true) if quorum => MemberRole::QuorumStandby,
                (false, true) => MemberRole::SyncStandby,
                (false, false) => MemberRole::Replica,
            };
            let state = match &member.replication_state {
                Some(state) if role != MemberRole::Leader && member.state == PgState::Running => {
                    MemberState::Replicating(Replication::parse(state))
                }
                _ => MemberState::Server(member.state),
            };
            let (host, port) = member.address().map_or((String::new(), None), |(host, port)| {
                (host.to_owned(), Some(port))
            });
            let position = |lsn: Option<Lsn>| {
                lsn.filter(|_| !leads).map(|lsn| WalPosition {
                    lsn,
                    lag: leader_lsn.ahead_of(lsn),
                })
            };
            MemberOverview {
                name: name.to_string(),
                role,
                state,
                api_url: member.api_url.clone(),
                host,
                port,
                timeline: member.timeline,
                // What was replayed has been received: the receiver speaks only of the WAL that it streamed itself.
                received: position(member.receive_lsn.max(member.replay_lsn).or(member.xlog_location)),
                replayed: position(member.replay_lsn.or(member.xlog_location)),
                pending_restart: member
                    .pending_restart
                    .then(|| member.pending_restart_reason.clone().unwrap_or_default()),
                scheduled_restart: member.scheduled_restart.clone(),
                tags: member.tags.published(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_dcs::{LeaderKey, Member, Status, SyncState, Term};
    use howdah_types::MemberName;

    fn view() -> View {
        let mut view = View {
            leader: Some(LeaderKey {
                name: MemberName::new("a").unwrap(),
                lease: None,
                term: Term(1),
            }),
            status: Status {
                optime: Some(Lsn(900)),
                ..Status::default()
            },
            ..View::default()
        };
        view.sync.value = Some(SyncState::new("a", &["B".to_owned()]));
        for (name, record) in [
            (
                "a",
                r#"{"role": "primary", "state": "running", "xlog_location": 1000}"#,
            ),
            (
                "b",
                r#"{"role": "replica", "state": "running", "replication_state": "streaming", "receive_lsn": 990, "replay_lsn": 980}"#,
            ),
            ("c", r#"{"role": "replica", "state": "creating replica"}"#),
            (
                "d",
                r#"{"role": "primary", "state": "running", "xlog_location": 1200}"#,
            ),
        ] {
            view.members
                .insert(MemberName::new(name).unwrap(), Member::parse(record));
        }
        view
    }

    #[test]
    fn roles_come_from_the_store_and_states_from_the_members() {
        let all = members(&view());
        let roles: Vec<MemberRole> = all.iter().map(|member| member.role).collect();
        // A server that still runs as a primary without the leader key is no leader. Names compare without case in /sync.
        assert_eq!(
            roles,
            [
                MemberRole::Leader,
                MemberRole::SyncStandby,
                MemberRole::Replica,
                MemberRole::Replica
            ]
        );
        let states: Vec<String> = all.iter().map(|member| member.state.to_string()).collect();
        assert_eq!(states, ["running", "streaming", "creating replica", "running"]);
        assert!(all[0].is_primary() && all[1].streams() && all[2].state.is_copying() && !all[3].is_primary());
    }

    #[test]
    fn lag_is_what_the_leader_last_published_beyond_a_position() {
        let all = members(&view());
        assert_eq!(all[0].received, None);
        assert_eq!(
            all[1].received,
            Some(WalPosition {
                lsn: Lsn(990),
                lag: 10
            })
        );
        assert_eq!(
            all[1].replayed,
            Some(WalPosition {
                lsn: Lsn(980),
                lag: 20
            })
        );
        assert_eq!(all[2].received, None);
        // Ahead of the leader is not behind.
        assert_eq!(
            all[3].received,
            Some(WalPosition {
                lsn: Lsn(1200),
                lag: 0
            })
        );
    }
}
