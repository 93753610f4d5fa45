//! Whether a copied logical slot can be used after a failover.
//!
//! Its consumer needs rows of the catalogue as they were when the slot's oldest transaction ran. The primary keeps them for this replica
//! only once it has heard of them (`hot_standby_feedback`): what it had removed before is missing here, and decoding may fail.

use std::collections::BTreeMap;

/// Copied slots of which that is not known yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotReadiness {
    /// With the slot's `catalog_xmin` on the primary when our feedback was first seen there.
    waiting: BTreeMap<String, Option<u32>>,
}

impl SlotReadiness {
    /// These have just been copied, or the server has started and nothing is known of them.
    pub fn expect(&mut self, names: impl Iterator<Item = String>) {
        self.waiting = names.map(|name| (name, None)).collect();
    }

    /// Which are not known to be safe.
    pub fn waiting(&self) -> impl Iterator<Item = &String> {
        self.waiting.keys()
    }

    /// All of them are.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What the primary says of `catalog_xmin`: of the slot that we stream through, and of logical ones; and what it is here. Returns which
    /// slots are safe from now on.
    pub fn hear(
        &mut self,
        streamed: Option<u32>,
        primary: &BTreeMap<String, u32>,
        here: &BTreeMap<String, u32>,
    ) -> Vec<String> {
        let Some(streamed) = streamed else {
            return Vec::new();
        };
        for (name, seen) in &mut self.waiting {
            *seen = seen.or_else(|| primary.get(name).copied());
        }
        let mut ready = Vec::new();
        self.waiting.retain(|name, seen| {
            let Some(here) = here.get(name) else {
                return false;
            };
            let safe = seen.is_some_and(|seen| precedes(seen, streamed)) && precedes(streamed, *here);
            if safe {
                ready.push(name.clone());
            }
            !safe
        });
        ready
    }
}

/// Transaction numbers go round: the older one is the one from which the other is less than half of all ahead.
fn precedes(a: u32, b: u32) -> bool {
    b.wrapping_sub(a) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xmins(of: &[(&str, u32)]) -> BTreeMap<String, u32> {
        of.iter()
            .map(|(name, xmin)| ((*name).to_owned(), *xmin))
            .collect()
    }

    #[test]
    fn a_copy_is_safe_once_the_primary_keeps_what_it_needs() {
        let mut readiness = SlotReadiness::default();
        readiness.expect(["a".to_owned()].into_iter());
        // No feedback has arrived.
        assert!(
            readiness
                .hear(None, &xmins(&[("a", 10)]), &xmins(&[("a", 8)]))
                .is_empty()
        );
        // It keeps from 8 on, and may have removed what was needed before 10.
        assert!(
            readiness
                .hear(Some(8), &xmins(&[("a", 10)]), &xmins(&[("a", 8)]))
                .is_empty()
        );
        // The copy has been moved to 12, and the primary does not know yet.
        assert!(
            readiness
                .hear(Some(8), &xmins(&[("a", 12)]), &xmins(&[("a", 12)]))
                .is_empty()
        );
        assert_eq!(
            readiness.hear(Some(12), &xmins(&[("a", 13)]), &xmins(&[("a", 12)])),
            ["a"]
        );
        assert!(readiness.is_settled());
    }

    #[test]
    fn transaction_numbers_go_round() {
        let mut readiness = SlotReadiness::default();
        readiness.expect(["a".to_owned()].into_iter());
        let ready = readiness.hear(Some(3), &xmins(&[("a", u32::MAX - 5)]), &xmins(&[("a", 3)]));
        assert_eq!(ready, ["a"]);
    }

    #[test]
    fn a_slot_that_is_gone_is_not_waited_for() {
        let mut readiness = SlotReadiness::default();
        readiness.expect(["a".to_owned()].into_iter());
        assert!(readiness.hear(Some(1), &xmins(&[]), &xmins(&[])).is_empty());
        assert!(readiness.is_settled());
    }
}
