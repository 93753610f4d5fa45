use howdah_dcs::Term;
use howdah_types::{BootTime, MemberName};
use serde::Serialize;

/// Where a replica streams from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Upstream {
    /// The member; of a server of another cluster its host.
    pub name: MemberName,
    /// It is the server of the cluster that this one follows. Without a host only its archive is there.
    pub remote: bool,
    /// Where its PostgreSQL is reached.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// A long action; one runs at a time, and the loop never waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Action {
    /// Make a new cluster: initdb, roles, post_bootstrap.
    Bootstrap,
    /// Copy a running member and start as its replica.
    Clone {
        /// Whom to copy.
        from: Upstream,
        /// Whom to follow then.
        follow: Upstream,
    },
    /// Start as replica.
    StartReplica {
        /// The upstream; none when there is no leader.
        follow: Option<Upstream>,
    },
    /// Start as primary, in place, after a crash.
    StartPrimary {
        /// Under this leadership.
        term: Term,
        /// Not later.
        not_after: BootTime,
    },
    /// Leave recovery.
    Promote {
        /// Under this leadership.
        term: Term,
        /// Not later.
        not_after: BootTime,
    },
    /// Stop cleanly, hand leadership to a replica that has everything, and become its replica.
    HandOver {
        /// The member that shall take over; any that can if it is not named.
        candidate: Option<MemberName>,
        /// Also when no member confirms that it has received the end of the WAL. If not, PostgreSQL starts again as primary.
        may_lose: bool,
    },
    /// Stop a primary whose cluster is to follow another one. It keeps the lease.
    DemoteCluster,
    /// Stop a primary that no longer leads.
    StopPrimary,
    /// Kill a PostgreSQL that cannot serve, and give leadership back.
    GiveUp,
    /// Kill a PostgreSQL whose data is gone.
    KillServer,
    /// Find out whether our WAL belongs to the leader's history; rewind or copy where it does not; follow it.
    Rejoin {
        /// The leader.
        leader: Upstream,
        /// A rewind did not help, or found nothing to do: copy.
        copy: bool,
    },
    /// Stop a replica, put copies of the leader's logical slots into its data, and start it again.
    CopySlots {
        /// Whose.
        leader: Upstream,
        /// Whom to follow then.
        follow: Upstream,
        /// Their names.
        names: Vec<String>,
    },
    /// Write a checkpoint, so that others can rewind against the new timeline.
    Checkpoint,
    /// Stop and start in the same role.
    Restart {
        /// As primary, under this leadership and not later.
        primary: Option<(Term, BootTime)>,
        /// As replica of.
        follow: Option<Upstream>,
    },
    /// Discard the data and copy it again.
    Reinitialize {
        /// By pg_basebackup from the leader, whatever other ways are configured.
        from_leader: bool,
        /// Whom to copy.
        from: Upstream,
        /// Whom to follow then.
        follow: Upstream,
    },
    /// The agent ends: hand over if we lead, else stop.
    Shutdown {
        /// Give leadership to another member first.
        hand_over: bool,
    },
}

impl Action {
    /// Whether PostgreSQL has been started or promoted when the action has succeeded.
    #[must_use]
    pub fn starts_postgres(&self) -> bool {
        match self {
            Action::StartReplica { .. }
            | Action::StartPrimary { .. }
            | Action::Promote { .. }
            | Action::Rejoin { .. }
            | Action::CopySlots { .. }
            | Action::Restart { .. } => true,
            Action::Bootstrap
            | Action::Clone { .. }
            | Action::HandOver { .. }
            | Action::DemoteCluster
            | Action::StopPrimary
            | Action::GiveUp
            | Action::KillServer
            | Action::Checkpoint
            | Action::Reinitialize { .. }
            | Action::Shutdown { .. } => false,
        }
    }

    /// Whether a postmaster begins in it, which reads the configuration.
    #[must_use]
    pub fn launches_postgres(&self) -> bool {
        match self {
            Action::Bootstrap
            | Action::Clone { .. }
            | Action::Reinitialize { .. }
            | Action::StartReplica { .. }
            | Action::StartPrimary { .. }
            | Action::Rejoin { .. }
            | Action::CopySlots { .. }
            | Action::Restart { .. } => true,
            Action::Promote { .. }
            | Action::HandOver { .. }
            | Action::DemoteCluster
            | Action::StopPrimary
            | Action::GiveUp
            | Action::KillServer
            | Action::Checkpoint
            | Action::Shutdown { .. } => false,
        }
    }

    /// Its name in a few words, as Patroni's messages have it ("restart already in progress").
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Action::Bootstrap => "bootstrap",
            Action::Clone { .. } => "bootstrap from leader",
            Action::StartReplica { .. } => "starting as replica",
            Action::StartPrimary { .. } => "starting as primary",
            Action::Promote { .. } => "promote",
            Action::HandOver { .. } => "switchover",
            Action::DemoteCluster => "demote cluster",
            Action::StopPrimary => "demote",
            Action::GiveUp => "giving up",
            Action::KillServer => "killing PostgreSQL",
            Action::Rejoin { .. } => "rejoin",
            Action::CopySlots { .. } => "copying logical slots",
            Action::Checkpoint => "checkpoint",
            Action::Restart { .. } => "restart",
            Action::Reinitialize { .. } => "reinitialize",
            Action::Shutdown { .. } => "shutdown",
        }
    }
}
