use std::fmt;

use howdah_dcs::Term;
use howdah_types::{BootTime, MemberName};
use serde::Serialize;

/// Why a decision is as it is; data, rendered alike in the log, over REST and in `howdah ctl`. Sentences that Patroni's users
/// look for in its log are Patroni's, word for word; `docs/agent.md` lists them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the rendered sentence says it")]
pub enum Reason {
    ActionRuns {
        action: &'static str,
    },
    ActionPaused {
        action: &'static str,
        until: BootTime,
    },
    StoreDown {
        since: BootTime,
    },
    StoreDownLeading {
        until: BootTime,
    },
    LeadingByPromises {
        until: BootTime,
    },
    Promised {
        leader: MemberName,
        until: BootTime,
    },
    NotInTopology,
    WidensTopology,
    LeaseUnsure,
    Leading {
        me: MemberName,
        term: Term,
    },
    LeadingInPlace {
        term: Term,
    },
    Promoting {
        term: Term,
    },
    Following {
        me: MemberName,
        leader: MemberName,
    },
    FollowingNobody,
    LeaderHasNoAddress {
        leader: MemberName,
    },
    LeaderNotReady {
        leader: MemberName,
    },
    OwnNameOtherLife,
    NotLeaderAnyMore,
    PrimaryWithoutLeader,
    Paused {
        me: MemberName,
    },
    Starting,
    Unreadable {
        why: String,
    },
    DataGone,
    Damaged,
    CannotServe {
        candidate: MemberName,
    },
    DiesAgain {
        candidate: MemberName,
    },
    Silent {
        since: BootTime,
    },
    Unguarded {
        pid: u32,
    },
    NotInView {
        term: Term,
    },
    OwnRecordMissing,
    WrongIdentifier {
        cluster: String,
    },
    UnfencedLeader {
        leader: MemberName,
    },
    PeerIsStarting {
        peer: MemberName,
    },
    ProvingCommitsWait,
    WaitingForStandby,
    WaitingForBootstrap,
    BootstrapRuns,
    MayNotBootstrap,
    SyncForgotten,
    DataElsewhere {
        member: MemberName,
    },
    ForgottenCluster {
        until: BootTime,
    },
    Bootstrapping,
    NoLeaderToCopy,
    Copying {
        from: MemberName,
    },
    OtherSystem {
        ours: String,
        cluster: String,
    },
    AdoptingData,
    NoFailover,
    /// The watchdog device is required, and cannot be used.
    NoWatchdog,
    Yielding,
    WaitingForCandidate {
        candidate: MemberName,
    },
    CandidateIsMe,
    NotSynchronous,
    Replaying,
    StandbyLeading {
        me: MemberName,
    },
    DemotingCluster,
    TooFewVoters {
        have: usize,
        needed: usize,
    },
    Lagging {
        bytes: u64,
        limit: u64,
    },
    OldTimeline,
    GraceForForeignLeader {
        leader: MemberName,
    },
    HoldingReceiver,
    AskingPeers,
    PeerIsPrimary {
        peer: MemberName,
    },
    PeerIsAhead {
        peer: MemberName,
        bytes: u64,
    },
    PeerHasLaterTimeline {
        peer: MemberName,
    },
    PeerHasPriority {
        peer: MemberName,
    },
    Healthiest,
    HandingOver {
        candidate: Option<MemberName>,
    },
    NoGoodCandidate,
    RequestForOtherLeader {
        leader: MemberName,
    },
    ScheduledFor {
        at: String,
    },
    ScheduleMissed {
        at: String,
    },
    SyncChange {
        standbys: Vec<String>,
    },
    SyncLostStandby,
    CheckingTimeline {
        leader: MemberName,
    },
    Closed {
        until: BootTime,
    },
    UserRequest {
        action: &'static str,
    },
    RequestRefused {
        why: &'static str,
    },
    ShuttingDown,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Reason as R;
        match self {
            R::ActionRuns { action } => write!(f, "{action} in progress"),
            R::ActionPaused { action, until } => write!(f, "{action} failed; next try at {until}"),
            R::StoreDown { since } => write!(f, "DCS is not accessible (since {since})"),
            R::StoreDownLeading { until } => {
                write!(
                    f,
                    "the store does not answer; leading until {until} on the last lease"
                )
            }
            R::LeadingByPromises { until } => write!(
                f,
                "continue to run as a leader because failsafe mode is enabled and all members are accessible (until {until})"
            ),
            R::Promised { leader, until } => {
                write!(f, "failsafe mode: {leader} goes on as leader without the store, until {until} at least")
            }
            R::NotInTopology => f.write_str(
                "not racing: not in the failsafe topology, a leader that cannot reach the store would not ask this member",
            ),
            R::WidensTopology => f.write_str(
                "adding members to the failsafe topology and giving the lease back: they may have more WAL",
            ),
            R::LeaseUnsure => f.write_str("it is not known whether the lease is held: reading again"),
            R::Leading { me, term } => {
                write!(f, "no action. I am ({me}), the leader with the lock (term {})", term.0)
            }
            R::LeadingInPlace { term } => {
                write!(f, "starting primary after failure, in place under the lease (term {})", term.0)
            }
            R::Promoting { term } => write!(f, "promoting self to leader (term {})", term.0),
            R::Following { me, leader } => {
                write!(f, "no action. I am ({me}), a secondary, and following a leader ({leader})")
            }
            R::FollowingNobody => f.write_str("running as replica without an upstream"),
            R::LeaderHasNoAddress { leader } => {
                write!(f, "the leader {leader} has no record with an address yet")
            }
            R::LeaderNotReady { leader } => {
                write!(f, "waiting until {leader} is primary and has a checkpoint")
            }
            R::OwnNameOtherLife => {
                f.write_str("the leader key has my name but belongs to another life of me")
            }
            R::NotLeaderAnyMore => {
                f.write_str("demoting self because I do not have the lock and I was a leader")
            }
            R::PrimaryWithoutLeader => f.write_str("running as primary and there is no leader: taking the lease"),
            R::Paused { me } => write!(f, "PAUSE: no action. I am ({me})"),
            R::Unreadable { why } => write!(f, "the data directory cannot be read: {why}"),
            R::DataGone => f.write_str("PostgreSQL runs and its data is gone: killing it"),
            R::Unguarded { pid } => write!(
                f,
                "the guard knows nothing of the PostgreSQL that runs (pid {pid}): taking it over"
            ),
            R::Silent { since } => write!(f, "PostgreSQL has not answered since {since}"),
            R::NotInView { term } => write!(
                f,
                "the store does not show our leadership (term {}): asking whether the lease is still held",
                term.0
            ),
            R::OwnRecordMissing => f.write_str("not racing: our own record is not in the store yet"),
            R::WrongIdentifier { cluster } => write!(
                f,
                "the store names the cluster {cluster}, and the other members agree with our data: the key is wrong"
            ),
            R::UnfencedLeader { leader } => write!(
                f,
                "not taking over in maintenance mode: {leader} does not answer and may still take writes"
            ),
            R::PeerIsStarting { peer } => {
                write!(f, "not racing yet: {peer} is being started and may have more WAL")
            }
            R::ProvingCommitsWait => f.write_str("looking whether commits wait"),
            R::WaitingForStandby => f.write_str("waiting for a standby before going on alone"),
            R::Damaged => {
                f.write_str("a rewind was not finished: the data waits for a leader to be copied from")
            }
            R::Starting => f.write_str("waiting for PostgreSQL to accept connections"),
            R::DiesAgain { candidate } => write!(
                f,
                "PostgreSQL dies again and again here: handing over to {candidate}"
            ),
            R::CannotServe { candidate } => {
                write!(
                    f,
                    "PostgreSQL does not serve here: leadership goes to {candidate}, or to the best candidate"
                )
            }
            R::WaitingForBootstrap => f.write_str("waiting for leader to bootstrap"),
            R::BootstrapRuns => f.write_str("another member bootstraps the cluster"),
            R::SyncForgotten => f.write_str(
                "the store has lost which members have every commit: waiting until all run, or for a failover by hand",
            ),
            R::DataElsewhere { member } => {
                write!(
                    f,
                    "the store knows no cluster, but {member} has data: waiting until it leads"
                )
            }
            R::ForgottenCluster { until } => write!(
                f,
                "the store has lost the cluster that it had: waiting until {until} for a member with its data"
            ),
            R::MayNotBootstrap => f.write_str("no cluster yet, and this member may not make one"),
            R::Bootstrapping => f.write_str("trying to bootstrap a new cluster"),
            R::NoLeaderToCopy => f.write_str("no data and no leader to copy from"),
            R::Copying { from } => write!(f, "bootstrapping from {from}"),
            R::OtherSystem { ours, cluster } => {
                write!(
                    f,
                    "system ID mismatch: this data directory is of {ours}, the cluster is {cluster}"
                )
            }
            R::AdoptingData => f.write_str("taking the existing data into the cluster"),
            R::NoFailover => f.write_str("not racing: tagged nofailover"),
            R::NoWatchdog => f.write_str("not leading: the watchdog device is required and cannot be used"),
            R::Yielding => f.write_str("not racing yet: leadership was just handed over"),
            R::WaitingForCandidate { candidate } => write!(f, "waiting for {candidate} to take over"),
            R::CandidateIsMe => f.write_str("asked to take over"),
            R::Replaying => f.write_str("not racing yet: replaying what this member has, whose end is not known"),
            R::StandbyLeading { me } => write!(f, "no action. I am ({me}), the standby leader with the lock"),
            R::DemotingCluster => f.write_str("demoting: the cluster is to follow another one"),
            R::TooFewVoters { have, needed } => write!(
                f,
                "not racing: {have} of the {needed} other synchronous standbys that must answer have no more than this member, commits could be lost"
            ),
            R::NotSynchronous => f.write_str("not racing: not a synchronous standby, commits could be lost"),
            R::Lagging { bytes, limit } => write!(f, "not racing: behind by {bytes} bytes (limit {limit})"),
            R::OldTimeline => f.write_str("not racing: on an older timeline than the cluster"),
            R::GraceForForeignLeader { leader } => {
                write!(f, "giving {leader}, which is not a Howdah agent, time to stop")
            }
            R::HoldingReceiver => {
                f.write_str("the leader is gone but its WAL still comes: stopping the receiver first")
            }
            R::AskingPeers => f.write_str("asking the other members for their position"),
            R::PeerIsPrimary { peer } => write!(f, "not racing: {peer} is still a running primary"),
            R::PeerIsAhead { peer, bytes } => write!(f, "not racing: {peer} is ahead by {bytes} bytes"),
            R::PeerHasLaterTimeline { peer } => {
                write!(f, "not racing: {peer} is on a later timeline")
            }
            R::PeerHasPriority { peer } => {
                write!(f, "not racing: {peer} has the same WAL and a higher priority")
            }
            R::Healthiest => f.write_str("no member is ahead: trying to take the lease"),
            R::HandingOver {
                candidate: Some(name),
            } => write!(f, "handing over to {name}"),
            R::HandingOver { candidate: None } => f.write_str("handing over to the best candidate"),
            R::NoGoodCandidate => f.write_str("no member can take over: the request is dropped"),
            R::RequestForOtherLeader { leader } => {
                write!(f, "the request names {leader} as leader: it is dropped")
            }
            R::ScheduledFor { at } => write!(f, "switchover scheduled for {at}"),
            R::ScheduleMissed { at } => {
                write!(f, "the switchover scheduled for {at} is too old: it is dropped")
            }
            R::SyncChange { standbys } => match standbys.as_slice() {
                [] => f.write_str("no synchronous standby"),
                [name] => write!(f, "making {name} the synchronous standby"),
                names => write!(f, "making {} the synchronous standbys", names.join(", ")),
            },
            R::SyncLostStandby => f.write_str("the synchronous standby is gone"),
            R::CheckingTimeline { leader } => {
                write!(f, "checking whether our WAL belongs to the history of {leader}")
            }
            R::Closed { until } => {
                write!(f, "closed until {until}, so that load balancers notice the switchover")
            }
            R::UserRequest { action } => write!(f, "{action} requested"),
            R::RequestRefused { why } => f.write_str(why),
            R::ShuttingDown => f.write_str("shutting down"),
        }
    }
}
