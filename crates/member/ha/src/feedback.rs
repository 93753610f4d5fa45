//! Whether a member has to say which rows its logical slots need, and through whose slot its word reaches the leader.

use howdah_config::{Dynamic, SlotKind};
use howdah_dcs::{Member, View};
use howdah_types::{MemberName, Tags};

/// Whether this member has to tell its upstream which rows of the catalogue are still needed: it has logical slots, or feeds a member
/// that has (`hot_standby_feedback`).
#[must_use]
pub fn needs_feedback(feeding: &Feeding<'_>) -> bool {
    let Feeding {
        config,
        me,
        tags,
        view,
    } = feeding;
    if !config.use_slots || config.standby.is_some() || slot_on_leader(me, tags, view).is_none() {
        return false;
    }
    let has_logical = config
        .permanent_slots
        .values()
        .any(|slot| matches!(slot.kind, SlotKind::Logical { .. }) && slot.cluster_type.includes(false));
    let feeds = |member: &Member| {
        member.tags.replicatefrom() == Some(me.as_str())
            && !member.tags.nofailover()
            && !member.tags.nostream()
    };
    has_logical && (!tags.nofailover() || view.members.values().any(feeds))
}

/// Of whom [`needs_feedback`] speaks.
pub struct Feeding<'a> {
    /// The configuration.
    pub config: &'a Dynamic,
    /// The member.
    pub me: &'a MemberName,
    /// Its tags.
    pub tags: &'a Tags,
    /// The other members.
    pub view: &'a View,
}

/// The slot on the leader through which this member, or the one that feeds it, streams; `None` where one on the way has `nostream`, and
/// nothing that it needs is known to the leader.
#[must_use]
pub fn slot_on_leader(me: &MemberName, tags: &Tags, view: &View) -> Option<String> {
    let (mut name, mut tags, mut seen) = (me, tags, Vec::new());
    loop {
        if tags.nostream() || seen.contains(&name) {
            return None;
        }
        seen.push(name);
        let from = tags.replicatefrom().filter(|from| *from != name.as_str());
        match from.and_then(|from| view.members.iter().find(|(other, _)| other.as_str() == from)) {
            Some((other, member)) => (name, tags) = (other, &member.tags),
            None => return Some(name.slot_name()),
        }
    }
}
