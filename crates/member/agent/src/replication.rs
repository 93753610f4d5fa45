use howdah_clock::now;
use howdah_config::SyncMode;
use howdah_dcs::View;
use howdah_ha::{NOBODY, SyncRule, Upstream};
use howdah_types::{BootTime, MemberName};

use crate::repeated::Repeated;

/// What PostgreSQL was told about other members.
pub(crate) struct Replication {
    /// Where it streams from as a replica.
    pub(crate) upstream: Option<Upstream>,
    /// The `synchronous_standby_names` that were set; `None`: not known, or not ours to set.
    pub(crate) sync_names: Option<String>,
    /// Whether commits wait is not tried before.
    pub(crate) next_proof: BootTime,
    pub(crate) sync_trouble: Repeated,
    pub(crate) slot_trouble: Repeated,
}

impl Default for Replication {
    fn default() -> Self {
        Replication {
            upstream: None,
            sync_names: None,
            next_proof: now(),
            sync_trouble: Repeated::default(),
            slot_trouble: Repeated::default(),
        }
    }
}

impl Replication {
    /// The `synchronous_standby_names` to write; `None`: they are the user's. In synchronous mode the agent owns them, also
    /// right after its start. Never empty then: a server begins with commits that wait.
    pub(crate) fn wanted_sync_names(
        &self,
        mode: SyncMode,
        view: Option<&View>,
        me: &MemberName,
    ) -> Option<String> {
        // A mode that was turned off ends when the store has forgotten who is synchronous.
        let forgotten = view.is_none_or(|view| view.sync.value.is_none());
        if mode == SyncMode::Off {
            return self.sync_names.clone().filter(|_| !forgotten);
        }
        self.sync_names.clone().or_else(|| {
            let published = view.and_then(|view| view.sync.value.as_ref());
            let mine = published.filter(|sync| sync.leader == me.as_str());
            Some(mine.map_or_else(|| NOBODY.to_owned(), |sync| SyncRule::safe_for(sync).setting()))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use howdah_dcs::{SyncState, Versioned};

    use super::*;

    fn view(leader: &str, standby: &str) -> View {
        let sync = SyncState {
            leader: leader.into(),
            sync_standby: Some(standby.into()),
            ..SyncState::default()
        };
        View {
            sync: Versioned {
                value: Some(sync),
                ..Versioned::default()
            },
            ..View::default()
        }
    }

    #[test]
    fn a_new_agent_waits_for_whom_the_store_names() {
        let me = MemberName::new("a").unwrap();
        let fresh = Replication::default();
        let wanted = |view: &View| fresh.wanted_sync_names(SyncMode::On, Some(view), &me).unwrap();
        assert_eq!(wanted(&view("a", "b")), "\"b\"");
        // What another leader has published says nothing about our standbys.
        assert_eq!(wanted(&view("c", "b")), NOBODY);
        assert_eq!(fresh.wanted_sync_names(SyncMode::On, None, &me).unwrap(), NOBODY);
        assert_eq!(
            fresh.wanted_sync_names(SyncMode::Off, Some(&view("a", "b")), &me),
            None
        );
    }
}
