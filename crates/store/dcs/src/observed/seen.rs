use howdah_types::BootTime;

use super::Record;

/// What an answer says of the leader's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sight {
    /// Its holder may count on it.
    Held,
    /// It has no holder, or the time of its holder is over.
    Free,
    /// A later request was answered before: this answer says nothing.
    Overtaken,
}

impl Sight {
    /// Whether the record must be left to its holder. An answer that says nothing gives no right.
    #[must_use]
    pub fn is_held(self) -> bool {
        match self {
            Sight::Held | Sight::Overtaken => true,
            Sight::Free => false,
        }
    }
}

/// What this process has seen of the leader's record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Observed {
    record: Option<Record>,
    /// When the record was first seen as it is.
    since: BootTime,
    /// When anything was last seen of it.
    looked: BootTime,
    /// The end of the longest promise that this holder was seen to have: a shorter length in a later renewal must not
    /// surprise a holder that still counts on the longer one.
    promised: BootTime,
}

impl Observed {
    /// Takes what was read by a request that was sent at `sent` and answered now.
    pub fn see(&mut self, record: Record, sent: BootTime, now: BootTime) -> Sight {
        let known = self.record.as_ref();
        if known.is_some_and(|known| record.version < known.version) {
            if sent < self.looked {
                return Sight::Overtaken;
            }
            // A store that was restored from a backup: what we know is of another time, so watching starts over.
            self.record = None;
        }
        let known = self.record.as_ref();
        let same_holder =
            known.is_some_and(|known| known.holder == record.holder && known.lease == record.lease);
        let renewed = known.is_none_or(|known| known.renewal != record.renewal);
        if renewed || !same_holder {
            self.since = now;
        }
        let ends = self.since + record.ttl;
        // Given back: the holder has stopped, and promises nothing any more. Otherwise promises only grow.
        self.promised = match (&record.holder, same_holder) {
            (None, _) if known.is_some_and(|known| known.version > 0) => BootTime(0),
            (None, _) => self.promised,
            (Some(_), true) => self.promised.max(ends),
            (Some(_), false) => ends,
        };
        self.looked = now;
        self.record = Some(record);
        if self.is_held(now) {
            Sight::Held
        } else {
            Sight::Free
        }
    }

    /// There is no record. Its last holder may not know yet, so its time runs on.
    pub fn absent(&mut self, now: BootTime) {
        self.looked = now;
        if let Some(record) = &mut self.record {
            record.version = 0;
        }
    }

    /// The record that was seen last, if it is there.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref().filter(|record| record.version > 0)
    }

    /// When the record is over, unless it is renewed; `None` if it has no holder.
    #[must_use]
    pub fn ends(&self) -> Option<BootTime> {
        (self.promised > BootTime(0)).then_some(self.promised)
    }

    /// Whether it has a holder, or had one when it was deleted.
    #[must_use]
    pub fn is_held(&self, now: BootTime) -> bool {
        self.ends().is_some_and(|ends| now < ends)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use howdah_types::MemberName;

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

    /// Seen by a request that took no time.
    fn see(seen: &mut Observed, record: Record, seconds: u64) -> Sight {
        seen.see(record, at(seconds), at(seconds))
    }

    #[test]
    fn it_is_held_for_its_length_from_when_a_change_was_seen() {
        let mut seen = Observed::default();
        assert!(!seen.is_held(at(0)));
        assert_eq!(see(&mut seen, record(5, "a", 30, "t1"), 100), Sight::Held);
        assert!(seen.is_held(at(129)) && !seen.is_held(at(130)));
        // Read again without a change, or with a foreign label: no longer.
        see(&mut seen, record(6, "a", 30, "t1"), 120);
        assert!(!seen.is_held(at(130)));
        see(&mut seen, record(7, "a", 30, "t2"), 125);
        assert!(seen.is_held(at(154)));
    }

    #[test]
    fn a_shortened_lease_is_honoured_at_its_old_length_once() {
        let mut seen = Observed::default();
        see(&mut seen, record(1, "a", 30, "t1"), 0);
        see(&mut seen, record(2, "a", 8, "t2"), 10);
        assert_eq!(seen.ends(), Some(at(30)));
        see(&mut seen, record(3, "a", 8, "t3"), 28);
        assert_eq!(seen.ends(), Some(at(36)));
        see(&mut seen, record(4, "b", 8, "t4"), 50);
        assert_eq!(seen.ends(), Some(at(58)));
    }

    #[test]
    fn an_overtaken_answer_changes_nothing_and_is_acted_on_by_nobody() {
        let mut seen = Observed::default();
        see(&mut seen, record(9, "b", 30, "t9"), 10);
        let late = seen.see(record(8, "", 30, "t8"), at(5), at(20));
        assert_eq!(late, Sight::Overtaken);
        assert!(late.is_held());
        assert_eq!(seen.record().unwrap().version, 9);
        assert_eq!(seen.ends(), Some(at(40)));
    }

    #[test]
    fn a_store_from_a_backup_is_watched_from_the_start() {
        let mut seen = Observed::default();
        see(&mut seen, record(1000, "a", 30, "t9"), 10);
        // Long over by what was known, and alive in the restored store.
        assert_eq!(see(&mut seen, record(510, "a", 30, "t5"), 90), Sight::Held);
        assert_eq!(seen.ends(), Some(at(120)));
    }

    #[test]
    fn a_record_that_was_given_back_has_no_holder() {
        let mut seen = Observed::default();
        see(&mut seen, record(1, "a", 30, "t1"), 0);
        assert_eq!(see(&mut seen, record(2, "", 30, "t1"), 1), Sight::Free);
    }

    #[test]
    fn a_deleted_record_is_held_until_its_time_is_over() {
        let mut seen = Observed::default();
        see(&mut seen, record(1, "a", 30, "t1"), 0);
        seen.absent(at(5));
        assert!(seen.record().is_none() && seen.is_held(at(29)));
        // It was recreated, without a holder.
        assert_eq!(see(&mut seen, record(7, "", 30, ""), 6), Sight::Held);
        assert!(!seen.is_held(at(30)));
    }
}
