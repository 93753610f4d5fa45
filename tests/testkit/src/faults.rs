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
    /// `kill -9` of the guard; the member is started again.
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
    /// The store is out of the primary's reach, and of no other's, until another member leads.
    LeaderCut,
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
    /// Requests to the store and their answers take half a second each, for half a minute.
    StoreSlow,
    /// 30 % of what goes to the store and comes from it must be sent again, for half a minute.
    StoreLossy,
    /// A stranger writes what no member can read into the keys of the cluster, and then the node is killed.
    StoreGarbled,
    /// The postmaster is killed, and another program has its port until another member leads.
    PortTaken,
    /// The disk is full and the postmaster is killed; room is made when another member leads.
    DiskFull,
    /// A library that does not exist is configured, and the primary restarted.
    BadParameter,
    /// SIGSTOP of the postmaster alone.
    PostmasterFrozen,
    /// The checkpointers of the replicas are stopped and the node is killed; the standby of the new primary is cut off, and
    /// then the new primary's node is killed.
    CheckpointerStuck,
    /// All nodes are killed at once and started again; the replicas had received nothing for two seconds.
    PowerCutHeldBack,
    /// After a switchover one replica makes a restartpoint and then receives nothing more; two seconds later the node is
    /// killed.
    RestartpointOnOne,
    /// Values that PostgreSQL would not start with are sent to `PATCH /config`, and the primary is restarted.
    WrongValues,
    /// The primary is restarted in maintenance mode.
    PausedRestart,
    /// A replica is copied from its leader in maintenance mode.
    PausedReinit,
    /// A switchover in maintenance mode.
    PausedSwitchover,
    /// In maintenance mode a user stops PostgreSQL and starts it again, past the guard; later the store is out of reach.
    StartedByHand,
    /// The control file is overwritten with zeros, and the postmaster is killed.
    ControlDamaged,
}

/// Where a fault is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    /// Members are pods, and Kubernetes is the store. Otherwise etcd is, and members are processes of the test.
    pub pods: bool,
    /// Synchronous mode.
    pub sync: bool,
    /// Synchronous mode in which commits wait for any of the standbys.
    pub quorum: bool,
    /// Each member has a small file system of its own.
    pub small_disks: bool,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 40] = [
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
        Fault::LeaderCut,
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
        Fault::StoreSlow,
        Fault::StoreLossy,
        Fault::StoreGarbled,
        Fault::PortTaken,
        Fault::DiskFull,
        Fault::BadParameter,
        Fault::PostmasterFrozen,
        Fault::CheckpointerStuck,
        Fault::PowerCutHeldBack,
        Fault::RestartpointOnOne,
        Fault::WrongValues,
        Fault::PausedRestart,
        Fault::PausedReinit,
        Fault::PausedSwitchover,
        Fault::StartedByHand,
        Fault::ControlDamaged,
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
            Fault::StoreSlow => "store-slow",
            Fault::StoreLossy => "store-lossy",
            Fault::LeaderCut => "leader-cut",
            Fault::StoreGarbled => "store-garbled",
            Fault::PortTaken => "port-taken",
            Fault::DiskFull => "disk-full",
            Fault::BadParameter => "bad-parameter",
            Fault::PostmasterFrozen => "postmaster-frozen",
            Fault::CheckpointerStuck => "checkpointer-stuck",
            Fault::PowerCutHeldBack => "power-cut-held-back",
            Fault::RestartpointOnOne => "restartpoint-on-one",
            Fault::WrongValues => "wrong-values",
            Fault::PausedRestart => "paused-restart",
            Fault::PausedReinit => "paused-reinit",
            Fault::PausedSwitchover => "paused-switchover",
            Fault::StartedByHand => "started-by-hand",
            Fault::ControlDamaged => "control-damaged",
        }
    }

    /// Whether another member leads afterwards.
    #[must_use]
    pub fn moves_leadership(self, world: World) -> bool {
        // A pod that is killed is started again at once, and others wait for the WAL that it may have.
        let comes_back = world.pods
            && matches!(
                self,
                Fault::Guard | Fault::Node | Fault::ForeignLease | Fault::CheckpointerFrozen
            );
        !comes_back
            && matches!(
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
                    | Fault::StoreGarbled
                    | Fault::LeaderCut
                    | Fault::PortTaken
                    | Fault::DiskFull
                    | Fault::PostmasterFrozen
                    | Fault::PausedSwitchover
                    | Fault::StartedByHand
                    | Fault::ControlDamaged
            )
    }

    /// Whether the same member leads afterwards, in the same term. A frozen agent is noticed after 5 s, which a lease of 6 s does
    /// not outlast: whether PostgreSQL is stopped before that depends on when it was frozen.
    #[must_use]
    pub fn keeps_leadership(self) -> bool {
        matches!(
            self,
            Fault::Postmaster
                | Fault::Backend
                | Fault::Agent
                | Fault::GuardFrozen
                | Fault::WalSenders
                | Fault::StoreSlow
                | Fault::WrongValues
                | Fault::PausedRestart
                | Fault::PausedReinit
        )
    }

    /// Whether it can be made there.
    #[must_use]
    pub fn fits(self, world: World) -> bool {
        match self {
            // The sandbox is store and node in one process.
            Fault::GuardAndStoreFrozen
            | Fault::StoreFrozen
            | Fault::StoreLost
            | Fault::StoreSlow
            | Fault::StoreLossy
            | Fault::LeaderCut
            | Fault::StoreGarbled
            | Fault::LeaderKeyDeleted
            | Fault::Crowd
            // The operator writes the configuration back.
            | Fault::BadParameter
            | Fault::WrongValues
            | Fault::PausedRestart
            | Fault::PausedReinit
            | Fault::PausedSwitchover
            | Fault::StartedByHand
            | Fault::ControlDamaged => !world.pods,
            Fault::ForeignLease => world.pods,
            Fault::DiskFull => world.small_disks,
            // Two nodes die one after the other: asynchronous mode promises nothing then.
            // A pod that is killed does not stay away for as long as it takes.
            Fault::CheckpointerStuck => world.sync && !world.pods,
            _ => true,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
