use std::fmt;

/// What happens to the primary's node, to the store, or to all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of the postmaster.
    Postmaster,
    /// `kill -9` of one backend.
    Backend,
    /// `kill -9` of the agent.
    Agent,
    /// SIGSTOP of the agent.
    AgentFrozen,
    /// `kill -9` of the guard; somebody starts the member again.
    Guard,
    /// SIGSTOP of agent and guard; thawed when another member leads.
    BothFrozen,
    /// Everything of the node is killed at once; started again when another member leads.
    Node,
    /// A planned switchover.
    Switchover,
    /// SIGTERM; started again when another member leads.
    Terminate,
    /// SIGSTOP of the guard for longer than the lease; the agent renews it all the time.
    GuardFrozen,
    /// SIGSTOP of the guard and of the store for longer than the lease.
    GuardAndStoreFrozen,
    /// SIGSTOP of the store for longer than the lease.
    StoreFrozen,
    /// Everything that the store knows of the cluster is deleted.
    StoreWiped,
    /// The store ends and comes back empty, after longer than the lease.
    StoreLost,
    /// The leader key is deleted.
    LeaderKeyDeleted,
    /// The leader's record promises a lease of days, and then the node is killed.
    ForeignLease,
    /// The postmaster is killed, and a lost file keeps it from starting; given back when another member leads.
    CannotStart,
    /// SIGSTOP of the postmaster and all its processes.
    PostgresFrozen,
    /// The data directory is removed while PostgreSQL runs.
    DataRemoved,
    /// SIGSTOP of the checkpointer for a moment, and then the node is killed.
    CheckpointerFrozen,
    /// `kill -9` of the processes that send WAL.
    WalSenders,
    /// All nodes are killed at once and started again.
    PowerCut,
    /// SIGSTOP of the store for longer than the lease, with 20 000 processes below a backend.
    Crowd,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 23] = [
        Fault::Postmaster,
        Fault::Backend,
        Fault::Agent,
        Fault::AgentFrozen,
        Fault::Guard,
        Fault::BothFrozen,
        Fault::Node,
        Fault::Switchover,
        Fault::Terminate,
        Fault::GuardFrozen,
        Fault::GuardAndStoreFrozen,
        Fault::StoreFrozen,
        Fault::StoreWiped,
        Fault::StoreLost,
        Fault::LeaderKeyDeleted,
        Fault::ForeignLease,
        Fault::CannotStart,
        Fault::PostgresFrozen,
        Fault::DataRemoved,
        Fault::CheckpointerFrozen,
        Fault::WalSenders,
        Fault::PowerCut,
        Fault::Crowd,
    ];

    /// Its name on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Fault::Postmaster => "postmaster-killed",
            Fault::Backend => "backend-killed",
            Fault::Agent => "agent-killed",
            Fault::AgentFrozen => "agent-frozen",
            Fault::Guard => "guard-killed",
            Fault::BothFrozen => "agent-and-guard-frozen",
            Fault::Node => "node-killed",
            Fault::Switchover => "switchover",
            Fault::Terminate => "terminated",
            Fault::GuardFrozen => "guard-frozen",
            Fault::GuardAndStoreFrozen => "guard-and-store-frozen",
            Fault::StoreFrozen => "store-frozen",
            Fault::StoreWiped => "store-wiped",
            Fault::StoreLost => "store-lost",
            Fault::LeaderKeyDeleted => "leader-key-deleted",
            Fault::ForeignLease => "foreign-lease",
            Fault::CannotStart => "cannot-start",
            Fault::PostgresFrozen => "postgres-frozen",
            Fault::DataRemoved => "data-removed",
            Fault::CheckpointerFrozen => "checkpointer-frozen",
            Fault::WalSenders => "walsenders-killed",
            Fault::PowerCut => "power-cut",
            Fault::Crowd => "crowd",
        }
    }

    /// Whether another member leads afterwards.
    #[must_use]
    pub fn moves_leadership(self) -> bool {
        matches!(
            self,
            Fault::Guard
                | Fault::BothFrozen
                | Fault::Node
                | Fault::Switchover
                | Fault::Terminate
                | Fault::ForeignLease
                | Fault::CannotStart
                | Fault::PostgresFrozen
                | Fault::DataRemoved
                | Fault::CheckpointerFrozen
        )
    }

    /// Whether the same member leads afterwards, in the same term.
    #[must_use]
    pub fn keeps_leadership(self) -> bool {
        matches!(
            self,
            Fault::Postmaster
                | Fault::Backend
                | Fault::Agent
                | Fault::AgentFrozen
                | Fault::GuardFrozen
                | Fault::WalSenders
        )
    }

    /// Whether it can be made where members are pods, and Kubernetes is the store.
    #[must_use]
    pub fn fits_pods(self) -> bool {
        // The sandbox is store and node in one process.
        !matches!(
            self,
            Fault::GuardAndStoreFrozen
                | Fault::StoreFrozen
                | Fault::StoreLost
                | Fault::LeaderKeyDeleted
                | Fault::Crowd
        )
    }

    /// Whether it can be made where etcd is the store.
    #[must_use]
    pub fn fits_etcd(self) -> bool {
        self != Fault::ForeignLease
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
