use std::time::Duration;

use howdah_types::MemberName;
use serde::{Deserialize, Serialize};

use crate::{Document, Key};

/// One life of one agent as the store knows it: in etcd the lease id, in Kubernetes a nonce.
///
/// Leadership belongs to this, never to a name: a new process that finds its own name in the leader key is not the
/// leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub u64);

/// One uninterrupted time of leadership. Later leaderships have larger terms: in etcd it is the revision at which
/// the leader key was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

/// The leader key as it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct LeaderKey {
    /// Whose name is in it.
    pub name: MemberName,
    /// The life it is bound to; none if it was written by hand without a lease.
    pub lease: Option<LeaseId>,
    /// The leadership.
    pub term: Term,
}

/// A condition on the current content of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Cond {
    /// Write whatever is there.
    Always,
    /// Only if the key does not exist.
    Absent,
    /// Only if the key was last changed at this revision (0: does not exist).
    Rev(u64),
}

/// An operation on the member's own lease and on the leader key. The keeper alone sends these.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum LeaseOp {
    /// Begin a lease; answers with [`LeaseDone::Granted`].
    Grant {
        /// The wanted length.
        ttl: Duration,
    },
    /// Extend the lease of a member that does not lead; answers with [`LeaseDone::Renewed`]. Where leases live in the leader's
    /// record alone, there is nothing to do.
    KeepAlive {
        /// The lease to extend.
        lease: LeaseId,
    },
    /// Extend the lease that leads; answers with [`LeaseDone::Renewed`].
    Renew {
        /// The lease to extend.
        lease: LeaseId,
        /// Read the leader key too: that the lease lives does not prove that the key is bound to it.
        read: bool,
    },
    /// End a lease and with it all keys bound to it.
    Revoke {
        /// The lease to end.
        lease: LeaseId,
    },
    /// Create the leader key if it does not exist; answers with [`LeaseDone::Acquired`].
    Acquire {
        /// Who wants to lead.
        me: MemberName,
        /// The life the key is bound to.
        lease: LeaseId,
    },
    /// Delete the leader key if it is bound to this lease.
    Release {
        /// The life that leads.
        lease: LeaseId,
    },
}

/// An operation on a member's record or on one of the keys that all members share. It answers with the revision of the
/// key, for a following [`Cond::Rev`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum KeyOp {
    /// Write a member's record.
    PutMember {
        /// Whose.
        me: MemberName,
        /// The life it is bound to.
        lease: LeaseId,
        /// The record.
        record: String,
    },
    /// Create the key `initialize`, empty and bound to this lease, if it does not exist; done as well if it is already
    /// bound to this lease.
    Claim {
        /// The life that bootstraps.
        lease: LeaseId,
    },
    /// Write one of the shared keys.
    Put {
        /// The key and its content.
        document: Document,
        /// When.
        cond: Cond,
    },
    /// Delete one of the shared keys.
    Delete {
        /// Which.
        key: Key,
        /// When.
        cond: Cond,
    },
}

/// What a renewal has shown of the leader key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum LeaderSeen {
    /// It was not looked at.
    NotRead,
    /// It stands like this.
    Read(Option<LeaderKey>),
}

/// What a successful [`LeaseOp`] answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum LeaseDone {
    /// A lease was granted, perhaps with another length than was asked for.
    Granted {
        /// Its id.
        lease: LeaseId,
        /// The granted length.
        ttl: Duration,
    },
    /// The lease was extended by `ttl` from a moment after the request was sent.
    Renewed {
        /// The granted length.
        ttl: Duration,
        /// The leader key.
        leader: LeaderSeen,
    },
    /// The leader key was created.
    Acquired {
        /// The new leadership.
        term: Term,
    },
    /// The lease was ended, or the leader key was deleted.
    Ended,
}

/// Why the store refused. The operation had no effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Refusal {
    /// The lease does not exist (any more).
    NoLease,
    /// There is a leader key already (on [`LeaseOp::Acquire`]).
    HasLeader(LeaderKey),
    /// The condition on the key did not hold, or the leader key is not bound to this lease.
    Condition,
}

/// How an operation ended. There is no fifth way, and `Unknown` must be followed by a read before anything is
/// decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Outcome<T> {
    /// It has happened.
    Done(T),
    /// It has not happened, because the store said no.
    Refused(Refusal),
    /// It has not happened: it never reached the store.
    Failed(String),
    /// The answer was lost: it may have happened, or may happen yet.
    Unknown(String),
}

impl<T> Outcome<T> {
    /// The result of an operation that has happened.
    ///
    /// # Errors
    /// Why it has not, or may not have, in words.
    pub fn done(self) -> Result<T, String> {
        match self {
            Outcome::Done(value) => Ok(value),
            Outcome::Refused(Refusal::NoLease) => Err("the lease is gone".to_owned()),
            Outcome::Refused(Refusal::HasLeader(key)) => Err(format!("{} leads", key.name)),
            Outcome::Refused(Refusal::Condition) => {
                Err("the key was changed meanwhile: try again".to_owned())
            }
            Outcome::Failed(reason) => Err(reason),
            Outcome::Unknown(reason) => Err(format!("it may have been written: {reason}")),
        }
    }
}
