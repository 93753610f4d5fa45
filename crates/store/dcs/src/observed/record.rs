use std::time::Duration;

use howdah_types::MemberName;

use crate::{LeaderKey, LeaseId, Term};

/// The leader's record as it stands in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// The version of the object; every change of the object has a larger one.
    pub version: u64,
    /// The holder, if there is one.
    pub holder: Option<MemberName>,
    /// The holder's life, if it is one of ours.
    pub lease: Option<LeaseId>,
    /// The leadership, if it is one of ours.
    pub term: u64,
    /// How long it lasts.
    pub ttl: Duration,
    /// How often the holder has changed.
    pub transitions: u64,
    /// What changes with every renewal. The version does not serve: anybody's label changes it.
    pub renewal: String,
}

/// What a swap makes of the record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The holder goes on.
    Renew {
        /// Its life.
        lease: LeaseId,
        /// Its length, from when an observer sees it.
        ttl: Duration,
    },
    /// It has a holder from now on.
    Take {
        /// Who.
        me: MemberName,
        /// Its life.
        lease: LeaseId,
        /// Its length, from when an observer sees it.
        ttl: Duration,
    },
    /// It has no holder any more.
    GiveBack,
}

impl Record {
    /// As a leader key, if it has a holder.
    #[must_use]
    pub fn leader(&self) -> Option<LeaderKey> {
        Some(LeaderKey {
            name: self.holder.clone()?,
            lease: self.lease,
            term: Term(self.term),
        })
    }

    /// The record after a change, as the store has it then. The leadership is named after the version that was taken.
    #[must_use]
    pub fn after(&self, change: &Change, version: u64, renewal: String) -> Record {
        let before = self.clone();
        match change {
            Change::Renew { lease, ttl } => Record {
                version,
                lease: Some(*lease),
                ttl: *ttl,
                renewal,
                ..before
            },
            Change::Take { me, lease, ttl } => Record {
                version,
                holder: Some(me.clone()),
                lease: Some(*lease),
                term: self.version,
                ttl: *ttl,
                transitions: self.transitions + 1,
                renewal,
            },
            Change::GiveBack => Record {
                version,
                holder: None,
                lease: None,
                ..before
            },
        }
    }
}
