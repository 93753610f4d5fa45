//! What lets a commit through while the processes that send WAL read a changed setting one by one.
//!
//! PostgreSQL (`syncrep.c`): the process whose standby reports takes *how many* standbys must have confirmed from the setting that it has
//! read itself. *Who* they may be it takes from the places of all standbys, which each one's own process has set by the setting that that
//! one has read. So two settings that are both safe can be mixed into one that is not.

use crate::{SyncRule, WalSender};

/// The weakest rule by which a commit may be let through. `None`: a process goes by a setting that is not known.
///
/// `certain`: the present setting, and one that was set and is not seen yet. `earlier`: others that a process may still go by; it goes
/// by one only where the place of its standby says so.
pub(crate) fn mix(certain: &[&SyncRule], earlier: &[SyncRule], walsenders: &[WalSender]) -> Option<SyncRule> {
    let mut needed = certain.iter().map(|rule| rule.needed()).min()?;
    let mut names: Vec<String> = Vec::new();
    let add = |names: &mut Vec<String>, name: &str| {
        if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            names.push(name.to_owned());
        }
    };
    for rule in certain {
        rule.standbys().for_each(|name| add(&mut names, name));
    }
    // Without a place it lets nothing through, and its standby does not count.
    for sender in walsenders.iter().filter(|sender| sender.priority > 0) {
        let by = certain.iter().copied().chain(earlier);
        let by: Vec<&SyncRule> = by
            .filter(|rule| rule.priority(&sender.name) == sender.priority)
            .collect();
        needed = needed.min(by.iter().map(|rule| rule.needed()).min()?);
        add(&mut names, &sender.name);
    }
    Some(SyncRule::any(needed, names))
}

/// Whether all processes have their standbys in the places of this rule.
pub(crate) fn all_go_by(rule: &SyncRule, walsenders: &[WalSender]) -> bool {
    let mut senders = walsenders.iter();
    senders.all(|sender| sender.priority == rule.priority(&sender.name))
}

/// Places in which a standby passes by none of these rules for one that goes by another.
pub(crate) fn places_apart(names: &[&str], from: &[&SyncRule]) -> usize {
    let apart = |places: &usize| {
        let rule = SyncRule::holding(names, *places);
        let differs = |by: &&SyncRule| names.iter().all(|name| by.priority(name) != rule.priority(name));
        from.iter().all(differs)
    };
    let most = 1 + from
        .iter()
        .map(|rule| rule.standbys().count() + rule.needed())
        .sum::<usize>();
    (1..=most).find(apart).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> SyncRule {
        SyncRule::parse(text)
    }

    fn sender(name: &str, priority: u32) -> WalSender {
        WalSender {
            name: name.to_owned(),
            priority,
            ..WalSender::default()
        }
    }

    #[test]
    fn a_process_that_is_late_is_known_by_the_place_of_its_standby() {
        let (one, two) = (rule("\"b\""), rule("2 (\"c\",\"b\")"));
        let earlier = [one.clone()];
        let of = |senders: &[WalSender]| mix(&[&two], &earlier, senders).map(|rule| rule.setting());
        let both = [sender("b", 2), sender("c", 1)];
        assert_eq!(of(&both).as_deref(), Some("ANY 2 (\"c\",\"b\")"));
        let late = [sender("b", 1), sender("c", 1)];
        assert_eq!(of(&late).as_deref(), Some("ANY 1 (\"c\",\"b\")"));
        assert_eq!(of(&[sender("b", 7)]), None);
        assert_eq!(of(&[sender("x", 0)]).as_deref(), Some("ANY 2 (\"c\",\"b\")"));
        assert!(all_go_by(&two, &both) && !all_go_by(&two, &late));
    }

    #[test]
    fn a_standby_counts_as_long_as_its_process_says_so() {
        let any = rule("ANY 1 (\"b\")");
        let earlier = [rule("ANY 2 (\"b\",\"d\")")];
        let late = mix(&[&any], &earlier, &[sender("b", 1), sender("d", 1)]);
        assert_eq!(late.unwrap().setting(), "ANY 1 (\"b\",\"d\")");
        let read = mix(&[&any], &earlier, &[sender("b", 1), sender("d", 0)]);
        assert_eq!(read.unwrap().setting(), "ANY 1 (\"b\")");
    }

    #[test]
    fn places_are_found_that_no_earlier_rule_gives() {
        let (two, moved) = (rule("2 (\"c\",\"b\")"), SyncRule::holding(&["c", "b"], 1));
        assert_eq!(places_apart(&["b"], &[&two]), 2);
        assert_eq!(places_apart(&["c", "b"], &[&two, &moved]), 2);
        assert_eq!(places_apart(&["b"], &[&two, &moved]), 3);
        assert_eq!(SyncRule::holding(&["b"], 2).priority("b"), 3);
    }
}
