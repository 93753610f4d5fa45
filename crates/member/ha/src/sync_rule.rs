//! What `synchronous_standby_names` says: how many of which standbys confirm a commit before it is acknowledged.
//!
//! Syntax: PostgreSQL's documentation of the parameter, as it is since version 10.

use howdah_dcs::SyncState;
use serde::Serialize;

/// A name that no member has. While no standby is chosen commits wait for it; in front of others it moves their places.
const NONE: &str = "no standby is chosen yet";

/// `synchronous_standby_names` while no standby is chosen: a name that no member has. Patroni's `*` would also take the
/// word of a standby whose WAL has left our history.
pub const NOBODY: &str = "\"no standby is chosen yet\"";

/// How many of which standbys confirm a commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct SyncRule {
    /// `ANY`: of equal standing. Otherwise the first ones of those that are connected.
    any: bool,
    /// So many of them confirm a commit.
    needed: usize,
    names: Vec<String>,
}

impl SyncRule {
    /// Commits wait for all of these, which there must be.
    pub(crate) fn all(names: Vec<String>) -> Self {
        SyncRule {
            any: false,
            needed: names.len(),
            names,
        }
    }

    /// Commits wait for so many of these.
    pub(crate) fn any(needed: usize, names: Vec<String>) -> Self {
        SyncRule {
            any: true,
            needed,
            names,
        }
    }

    /// With this any member that takes over by what is published has everything.
    #[must_use]
    pub fn safe_for(published: &SyncState) -> Self {
        let names: Vec<String> = published.standbys().map(str::to_owned).collect();
        if names.is_empty() {
            return SyncRule::all(vec![NONE.to_owned()]);
        }
        SyncRule::all(names)
    }

    /// Lets no commit through: it waits for names that no member has, and for these standbys, whose places are behind so many of them.
    pub(crate) fn holding(names: &[&str], places: usize) -> Self {
        let names = names.iter().map(|name| (*name).to_owned());
        let names = std::iter::repeat_n(NONE.to_owned(), places).chain(names);
        SyncRule::all(names.collect())
    }

    /// The same places, and one confirmation is enough.
    pub(crate) fn weakened(mut self) -> Self {
        self.needed = 1;
        self
    }

    /// Reads the setting. What is not of the form counts as any standby, whose word is worth nothing.
    #[must_use]
    pub fn parse(setting: &str) -> Self {
        let text = setting.trim();
        if text.is_empty() {
            return SyncRule::all(Vec::new());
        }
        let unknown = || SyncRule::any(1, vec!["*".to_owned()]);
        let Some((head, list)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) else {
            // A list alone: the first one of those that are connected.
            return names(text).map_or_else(unknown, |names| SyncRule {
                any: false,
                needed: 1,
                names,
            });
        };
        let mut words: Vec<&str> = head.split_whitespace().collect();
        let needed = words.pop().and_then(|word| word.parse().ok());
        let method = words.pop().unwrap_or("FIRST");
        match (needed, names(list), words.is_empty()) {
            (Some(needed), Some(names), true)
                if needed > 0
                    && (method.eq_ignore_ascii_case("ANY") || method.eq_ignore_ascii_case("FIRST")) =>
            {
                SyncRule {
                    any: method.eq_ignore_ascii_case("ANY"),
                    needed,
                    names,
                }
            }
            _ => unknown(),
        }
    }

    /// The setting.
    #[must_use]
    pub fn setting(&self) -> String {
        let names: Vec<String> = self.names.iter().map(|name| quote_sync_name(name)).collect();
        let names = names.join(",");
        match (self.any, self.needed) {
            (true, needed) => format!("ANY {needed} ({names})"),
            (false, 1) if self.names.len() == 1 => names,
            (false, 0) => String::new(),
            (false, needed) => format!("{needed} ({names})"),
        }
    }

    /// The standbys.
    pub fn standbys(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).filter(|name| *name != NONE)
    }

    pub(crate) fn names(&self, name: &str) -> bool {
        self.standbys().any(|other| other.eq_ignore_ascii_case(name))
    }

    /// Whether commits wait for a name that no member has.
    pub(crate) fn is_nobody(&self) -> bool {
        !self.names.is_empty() && self.standbys().next().is_none()
    }

    /// Commits do not wait.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// No commit is let through by it alone.
    pub(crate) fn holds(&self) -> bool {
        self.needed > self.standbys().count()
    }

    /// How many standbys confirm a commit.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// The same in effect, whatever the order.
    pub(crate) fn is_same(&self, other: &SyncRule) -> bool {
        self.any == other.any
            && self.needed == other.needed
            && self.names.len() == other.names.len()
            && self.standbys().count() == other.standbys().count()
            && self.standbys().all(|name| other.names(name))
    }

    /// `sync_priority` of a standby whose process goes by this rule; 0: it does not take its word.
    #[must_use]
    pub fn priority(&self, name: &str) -> u32 {
        let named = |other: &String| other == "*" || other.eq_ignore_ascii_case(name);
        let place = self.names.iter().position(named);
        match place {
            None => 0,
            Some(_) if self.any => 1,
            Some(place) => u32::try_from(place).unwrap_or(u32::MAX).saturating_add(1),
        }
    }

    /// Whether a member that takes over by what is published has every commit that this rule lets through.
    ///
    /// A candidate and `quorum` other voters meet, so `quorum + 1` of the voters are known to have no more than it. A commit is on
    /// `needed` of the rule's standbys. Both sets have a member in common where they are larger together than all members of either.
    /// (Patroni's quorum commit goes by the same inequality.)
    #[must_use]
    pub fn covers(&self, sync: &SyncState) -> bool {
        let voters: Vec<&str> = sync.standbys().collect();
        let quorum = sync.quorum as usize;
        // No member but the leader itself can take over, or no commit is let through.
        if voters.len() <= quorum || (self.needed > self.standbys().count() && self.needed > 0) {
            return true;
        }
        if self.names.iter().any(|name| name == "*") {
            return false;
        }
        let others = self
            .standbys()
            .filter(|name| !voters.iter().any(|voter| voter.eq_ignore_ascii_case(name)));
        voters.len() + others.count() <= quorum + self.needed
    }

    /// Whether a commit is acknowledged by a process that goes by this rule, once these standbys have confirmed it.
    #[must_use]
    pub fn acknowledges(&self, confirmed: &[&str]) -> bool {
        let named = |name: &&&str| self.priority(name) > 0;
        self.needed > 0 && confirmed.iter().filter(named).count() >= self.needed
    }
}

/// A list of names, in quotes or not. `None`: not of that form.
fn names(list: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = list.trim();
    loop {
        let (name, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_name(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (name, behind) = rest.split_at_checked(end)?;
                (name.trim().to_owned(), behind)
            }
        };
        if name.is_empty() || (!rest.starts_with('"') && name.contains(['"', '(', ')', ' '])) {
            return None;
        }
        names.push(name);
        let behind = behind.trim_start();
        if behind.is_empty() {
            return Some(names);
        }
        rest = behind.strip_prefix(',')?.trim_start();
    }
}

/// A name up to its closing quote, and what follows. Two quotes stand for one.
fn quoted_name(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        if char != '"' {
            name.push(char);
        } else if chars.next_if(|(_, next)| *next == '"').is_some() {
            name.push('"');
        } else {
            return Some((name, text.get(at + 1..)?));
        }
    }
    None
}

/// A member's name as `synchronous_standby_names` takes it.
#[must_use]
pub fn quote_sync_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> SyncRule {
        SyncRule::parse(text)
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (text, priorities) in [
            ("", [0, 0]),
            ("\"a\"", [1, 0]),
            (NOBODY, [0, 0]),
            ("2 (\"b\",\"a\")", [2, 1]),
            ("ANY 1 (\"a\",\"b\")", [1, 1]),
            ("2 (\"no standby is chosen yet\",\"a\",\"b\")", [2, 3]),
            ("ANY 1 (\"a\"\"(,\",\"b\")", [0, 1]),
        ] {
            let read = rule(text);
            assert_eq!(read.setting(), text);
            assert_eq!([read.priority("A"), read.priority("b")], priorities, "{text}");
        }
        for (text, same) in [
            (" a ", "\"a\""),
            ("FIRST 2 (a, B)", "2 (\"a\",\"B\")"),
            ("any 1(a,b)", "ANY 1 (\"a\",\"b\")"),
        ] {
            assert_eq!(rule(text).setting(), same);
        }
        for text in ["a b", "2 (a", "0 (a)", "MANY 1 (a)", "\"a", "1 ()", ",", "a,,b"] {
            assert_eq!(rule(text), rule("ANY 1 (*)"), "{text}");
        }
    }

    /// By counting: every set of standbys that lets a commit through, and every way to take over.
    #[test]
    fn whoever_takes_over_has_what_was_acknowledged() {
        let all = ["b", "c", "d"];
        let sets = |of: &[&'static str]| -> Vec<Vec<&'static str>> {
            (0..1usize << of.len())
                .map(|bits| {
                    let chosen = of.iter().enumerate().filter(|(place, _)| bits >> place & 1 == 1);
                    chosen.map(|(_, name)| *name).collect()
                })
                .collect()
        };
        let mut covered = 0;
        for named in sets(&all).into_iter().filter(|named| !named.is_empty()) {
            for needed in 1..=named.len() {
                let rule = SyncRule::any(needed, named.iter().map(|name| (*name).to_owned()).collect());
                for voters in sets(&all) {
                    for quorum in 0..=voters.len() {
                        let names: Vec<String> = voters.iter().map(|name| (*name).to_owned()).collect();
                        let mut sync = SyncState::new("a", &names);
                        sync.quorum = u32::try_from(quorum).unwrap();
                        // Those who meet have nothing of a commit that only others have.
                        let loses = sets(&all).iter().any(|holders| {
                            let meet = voters.iter().filter(|voter| !holders.contains(voter)).count();
                            rule.acknowledges(holders) && meet > quorum
                        });
                        assert_eq!(rule.covers(&sync), !loses, "{} {sync:?}", rule.setting());
                        covered += usize::from(!loses);
                    }
                }
            }
        }
        assert!(covered > 100);
        let one = SyncState::new("a", &["b".to_owned()]);
        assert!(!rule("").covers(&one) && !rule("*").covers(&one) && rule(NOBODY).covers(&one));
    }
}
