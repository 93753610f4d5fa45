/// What a member is in its cluster, which is not always what its PostgreSQL is: a member without the leader key is a replica
/// even while its server still runs as a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberRole {
    /// It has the leader key.
    Leader,
    /// It has the leader key of a cluster that follows another one.
    StandbyLeader,
    /// Commits wait for it.
    SyncStandby,
    /// Commits wait for some of these.
    QuorumStandby,
    /// Any other member.
    Replica,
}

impl MemberRole {
    /// It has the leader key.
    #[must_use]
    pub fn leads(self) -> bool {
        matches!(self, MemberRole::Leader | MemberRole::StandbyLeader)
    }

    /// Commits wait for it, or for some like it: it may take over in a switchover.
    #[must_use]
    pub fn is_synchronous(self) -> bool {
        matches!(self, MemberRole::SyncStandby | MemberRole::QuorumStandby)
    }

    /// Patroni's word in `GET /cluster`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MemberRole::Leader => "leader",
            MemberRole::StandbyLeader => "standby_leader",
            MemberRole::SyncStandby => "sync_standby",
            MemberRole::QuorumStandby => "quorum_standby",
            MemberRole::Replica => "replica",
        }
    }

    /// Patroni's title in the table of `patronictl list`.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            MemberRole::Leader => "Leader",
            MemberRole::StandbyLeader => "Standby Leader",
            MemberRole::SyncStandby => "Sync Standby",
            MemberRole::QuorumStandby => "Quorum Standby",
            MemberRole::Replica => "Replica",
        }
    }
}
