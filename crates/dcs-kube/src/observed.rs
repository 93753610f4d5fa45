use std::time::Duration;

use howdah_dcs::LeaseId;
use howdah_types::{BootTime, MemberName};

/// The leader's record as it stands in a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// The ConfigMap's resourceVersion.
    pub(crate) version: u64,
    /// The holder, if there is one.
    pub(crate) holder: Option<MemberName>,
    /// The holder's life, if it is one of ours.
    pub(crate) lease: Option<LeaseId>,
    /// The leadership, if it is one of ours.
    pub(crate) term: u64,
    /// How long it lasts.
    pub(crate) ttl: Duration,
    /// How often the holder has changed.
    pub(crate) transitions: u64,
    /// What changes with every renewal. The resourceVersion does not serve: anybody's label changes it.
    pub(crate) renewal: String,
}

/// What this process has seen of the leader's record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    record: Option<Record>,
    /// When the record was first seen as it is.
    since: BootTime,
    /// The longest length that this holder was ever seen with: shortening it in the record must not surprise a holder
    /// that still counts on the longer one.
    honoured: Duration,
}

impl Observed {
    /// Takes what was read, at the moment when the answer was there. An older version than the one known (an answer
    /// that was overtaken) is passed over.
    pub(crate) fn see(&mut self, record: Record, now: BootTime) {
        if let Some(known) = &self.record
            && record.version < known.version
        {
            return;
        }
        let same_holder = self
            .record
            .as_ref()
            .is_some_and(|known| known.holder == record.holder && known.lease == record.lease);
        let renewed = self
            .record
            .as_ref()
            .is_none_or(|known| known.renewal != record.renewal);
        self.honoured = if same_holder {
            self.honoured.max(record.ttl)
        } else {
            record.ttl
        };
        if renewed || !same_holder {
            self.since = now;
        }
        self.record = Some(record);
    }

    /// The ConfigMap does not exist.
    pub(crate) fn absent(&mut self) {
        *self = Observed::default();
    }

    /// The record that was seen last.
    pub(crate) fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// When the record is over, unless it is renewed; `None` if nobody holds it.
    pub(crate) fn ends(&self) -> Option<BootTime> {
        let record = self.record.as_ref()?;
        record.holder.as_ref()?;
        Some(self.since + self.honoured)
    }

    /// Whether somebody holds it.
    pub(crate) fn is_held(&self, now: BootTime) -> bool {
        self.ends().is_some_and(|ends| now < ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime(0) + Duration::from_secs(seconds)
    }

    fn record(version: u64, holder: &str, ttl: u64, renewal: &str) -> Record {
        Record {
            version,
            holder: (!holder.is_empty()).then(|| MemberName::new(holder).unwrap()),
            lease: None,
            term: 0,
            ttl: Duration::from_secs(ttl),
            transitions: 0,
            renewal: renewal.into(),
        }
    }

    #[test]
    fn it_is_held_for_its_length_from_when_a_change_was_seen() {
        let mut seen = Observed::default();
        assert!(!seen.is_held(at(0)));
        seen.see(record(5, "a", 30, "t1"), at(100));
        assert!(seen.is_held(at(129)) && !seen.is_held(at(130)));
        // Read again without a change, or with a foreign label: no longer.
        seen.see(record(6, "a", 30, "t1"), at(120));
        assert!(!seen.is_held(at(130)));
        seen.see(record(7, "a", 30, "t2"), at(125));
        assert!(seen.is_held(at(154)));
    }

    #[test]
    fn a_shortened_lease_is_honoured_at_its_old_length() {
        let mut seen = Observed::default();
        seen.see(record(1, "a", 30, "t1"), at(0));
        seen.see(record(2, "a", 8, "t2"), at(10));
        assert_eq!(seen.ends(), Some(at(40)));
        seen.see(record(3, "b", 8, "t3"), at(50));
        assert_eq!(seen.ends(), Some(at(58)));
    }

    #[test]
    fn an_overtaken_answer_changes_nothing() {
        let mut seen = Observed::default();
        seen.see(record(9, "b", 30, "t9"), at(10));
        seen.see(record(8, "a", 30, "t8"), at(20));
        assert_eq!(seen.record().unwrap().version, 9);
        assert_eq!(seen.ends(), Some(at(40)));
    }

    #[test]
    fn a_record_that_was_given_back_is_held_by_nobody() {
        let mut seen = Observed::default();
        seen.see(record(1, "", 30, "t1"), at(0));
        assert!(!seen.is_held(at(0)));
    }
}
