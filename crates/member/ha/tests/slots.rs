//! Which replication slots a member makes, moves, copies and drops.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    reason = "a test fails by panicking; what the situations offer is for other tests, too"
)]

mod situation;

use std::time::Duration;

use howdah_config::{ClusterType, PermanentSlot, SlotKind, SlotMatcher};
use howdah_dcs::Status;
use howdah_ha::{Action, Copied, Effect, Feeding, Slot, SlotChange, Snapshot, needs_feedback};
use howdah_types::{Lsn, PgState, Tags};
use serde_json::json;
use situation::{NOW, Shorthand, Situation, name, plan};

fn logical() -> SlotKind {
    SlotKind::Logical {
        database: "app".to_owned(),
        plugin: "pgoutput".to_owned(),
    }
}

fn slot(name: &str, kind: SlotKind) -> Slot {
    let decodes = matches!(kind, SlotKind::Logical { .. });
    Slot {
        name: name.to_owned(),
        kind,
        active: false,
        restart_lsn: Some(Lsn(50)),
        confirmed_lsn: decodes.then_some(Lsn(60)),
        catalog_xmin: decodes.then_some(700),
        has_xmin: false,
        lost: false,
        failover: false,
        synced: false,
    }
}

/// A permanent logical slot `events` and a physical one `archive`; the leader has published where they are.
fn configured(situation: Situation) -> Situation {
    situation
        .with(|s| {
            s.config.use_slots = true;
            let permanent = |kind| PermanentSlot {
                kind,
                cluster_type: ClusterType::Any,
            };
            s.config.permanent_slots = [
                ("events".to_owned(), permanent(logical())),
                ("archive".to_owned(), permanent(SlotKind::Physical)),
            ]
            .into();
            s.view().status = Status {
                optime: Some(Lsn(100)),
                slots: Some([("events".to_owned(), Lsn(80)), ("archive".to_owned(), Lsn(70))].into()),
                retain_slots: None,
            };
            s.memory.status_at = Some(NOW);
        })
        .running(|r| r.feedback = true)
}

fn changes(situation: &Situation) -> Vec<SlotChange> {
    let effects = plan(situation).effects;
    let slots = effects.into_iter().find_map(|effect| match effect {
        Effect::Slots(changes) => Some(changes),
        _ => None,
    });
    slots.unwrap_or_default()
}

fn has(situation: Situation, slots: &[Slot]) -> Situation {
    situation.running(|r| r.slots = slots.to_vec())
}

fn tagged(member: &str, tag: &str, value: serde_json::Value) -> impl FnOnce(&mut Snapshot) {
    let (member, tags) = (
        name(member),
        Tags::new([(tag.to_owned(), value)].into_iter().collect()),
    );
    move |s| s.view().members.get_mut(&member).unwrap().tags = tags
}

/// All slots that the situation asks for.
fn complete() -> Vec<Slot> {
    let physical = |name| slot(name, SlotKind::Physical);
    vec![
        physical("b"),
        physical("c"),
        physical("archive"),
        slot("events", logical()),
    ]
}

fn create(name: &str) -> SlotChange {
    SlotChange::Create(name.to_owned())
}

fn drop(name: &str) -> SlotChange {
    SlotChange::Drop(name.to_owned())
}

#[test]
fn the_leader_makes_slots_for_members_and_permanent_ones() {
    let leader = configured(Situation::primary().leading());
    let events = |failover| SlotChange::CreateLogical {
        name: "events".to_owned(),
        database: "app".to_owned(),
        plugin: "pgoutput".to_owned(),
        failover,
    };
    let made = changes(&leader);
    assert_eq!(made, [create("b"), create("c"), create("archive"), events(false)]);
    let syncs = configured(Situation::primary().leading().running(|r| r.syncs_slots = true));
    assert!(changes(&syncs).contains(&events(true)));
    assert_eq!(
        changes(&has(configured(Situation::primary().leading()), &complete())),
        []
    );
}

#[test]
fn a_replica_moves_its_slots_with_the_leaders() {
    let replica = has(configured(Situation::replica().led_by("b")), &complete());
    let advanced = [
        SlotChange::Advance("archive".to_owned(), Lsn(70)),
        SlotChange::AdvanceLogical {
            name: "events".to_owned(),
            database: "app".to_owned(),
            to: Lsn(80),
        },
    ];
    assert_eq!(changes(&replica), advanced);
    // Not further than it has replayed.
    let behind =
        has(configured(Situation::replica().led_by("b")), &complete()).running(|r| r.replayed = Lsn(65));
    let to = changes(&behind).into_iter().find_map(|change| match change {
        SlotChange::AdvanceLogical { to, .. } => Some(to),
        _ => None,
    });
    assert_eq!(to, Some(Lsn(65)));
}

#[test]
fn logical_slots_are_copied_by_one_replica_after_the_other() {
    let lacks = |member: &str, wall: i64| {
        let slots: Vec<Slot> = complete()
            .into_iter()
            .filter(|slot| slot.name != "events")
            .collect();
        let member = name(member);
        has(configured(Situation::replica().led_by("b")), &slots).with(|s| {
            s.me.name = member;
            s.wall = wall;
        })
    };
    let copies = |situation: &Situation| {
        plan(situation).effects.iter().any(
            |effect| matches!(effect, Effect::Begin(Action::CopySlots { names, .. }) if names == &["events"]),
        )
    };
    // Two replicas, ten seconds each.
    for (wall, first, second) in [
        (0, true, false),
        (4, true, false),
        (5, false, false),
        (10, false, true),
        (20, true, false),
    ] {
        assert_eq!(
            (copies(&lacks("a", wall)), copies(&lacks("c", wall))),
            (first, second),
            "{wall}"
        );
    }
    let waits = plan(&lacks("c", 4));
    assert_eq!(
        waits.next_wake,
        NOW + Duration::from_secs(6),
        "it wakes for its turn"
    );
    // One that is being restarted is waited for.
    let restarts =
        lacks("a", 0).with(|s| s.view().members.get_mut(&name("c")).unwrap().state = PgState::Restarting);
    assert!(!copies(&restarts));
    let built = lacks("a", 0).with(|s| {
        s.view().members.get_mut(&name("c")).unwrap().state = PgState::CreatingReplica;
    });
    assert!(copies(&built), "it could not take over either way");
    let long = restarts.with(|s| s.memory.slots_wait_since = Some(NOW - Duration::from_secs(300)));
    assert!(copies(&long));
    // One that is lost again and again is copied less and less often; another one does not wait for it.
    let again = |slot: &str, times: usize, seconds: u64| {
        let at = NOW - Duration::from_secs(seconds);
        let copied = (1..times).fold(Copied::another(None, at), |copied, _| {
            Copied::another(Some(&copied), at)
        });
        let slot = slot.to_owned();
        lacks("a", 0).with(|s| s.memory.slot_copies = [(slot, copied)].into())
    };
    assert!(!copies(&again("events", 1, 29)) && copies(&again("events", 1, 30)));
    assert!(!copies(&again("events", 3, 119)) && copies(&again("events", 3, 120)));
    assert!(!copies(&again("events", 30, 959)) && copies(&again("events", 30, 960)));
    assert!(copies(&again("other", 30, 1)));
}

#[test]
fn nothing_is_copied_that_the_leader_does_not_have_or_too_often() {
    let slots: Vec<Slot> = complete()
        .into_iter()
        .filter(|slot| slot.name != "events")
        .collect();
    let lacking = || has(configured(Situation::replica().led_by("b")), &slots);
    let copies = |situation: &Situation| {
        let effects = plan(situation).effects;
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Begin(Action::CopySlots { .. })))
    };
    assert!(copies(&lacking()));
    assert!(!copies(&lacking().with(|s| s.view().status.slots = None)));
    assert!(!copies(&lacking().running(|r| r.streaming = false)));
    assert!(!copies(&lacking().with(
        |s| s.memory.slots_tried_at = Some(NOW - Duration::from_secs(14))
    )));
    assert!(!copies(&lacking().tagged("nofailover", true)));
    assert!(!copies(&lacking().with(|s| s.config.pause = true)));
    // Nothing says to the leader which rows such a member needs.
    let through = lacking()
        .tagged("replicatefrom", "c")
        .with(tagged("c", "nostream", json!(true)));
    assert!(!copies(&through));
}

#[test]
fn what_nobody_uses_here_keeps_no_rows_and_no_lost_slot_stays() {
    let mut slots = complete();
    slots[0].has_xmin = true;
    slots[2].lost = true;
    slots[3].lost = true;
    let replica = has(configured(Situation::replica().led_by("b")), &slots);
    assert_eq!(changes(&replica), [drop("b"), drop("archive"), drop("events")]);
    // The leader's consumers hold their rows; a lost logical slot is for its consumer to see.
    let leader = has(configured(Situation::primary().leading()), &slots);
    assert_eq!(changes(&leader), [drop("archive")]);
    // A member that streams from another one holds none here.
    let cascade = has(configured(Situation::primary().leading()), &slots);
    let cascade = cascade.with(tagged("b", "replicatefrom", json!("c")));
    assert_eq!(changes(&cascade), [drop("b"), drop("archive")]);
}

#[test]
fn a_slot_of_another_kind_gives_way() {
    let mut slots = complete();
    slots[3].kind = SlotKind::Logical {
        database: "other".to_owned(),
        plugin: "pgoutput".to_owned(),
    };
    let leader = || has(configured(Situation::primary().leading()), &slots);
    assert_eq!(changes(&leader()), [drop("events")]);
    let ignored = leader().with(|s| {
        s.config.ignore_slots = vec![SlotMatcher {
            database: Some("other".to_owned()),
            ..SlotMatcher::default()
        }];
    });
    assert_eq!(changes(&ignored), []);
    assert_eq!(changes(&leader().with(|s| s.config.pause = true)), []);
}

#[test]
fn logical_slots_of_users_stay_on_the_primary_alone() {
    let with_users = |situation: Situation| {
        let mut slots = complete();
        slots.push(slot("theirs", logical()));
        has(configured(situation), &slots)
    };
    assert_eq!(changes(&with_users(Situation::primary().leading())), []);
    assert!(changes(&with_users(Situation::replica().led_by("b"))).contains(&drop("theirs")));
    // It was permanent, and the configuration has it no more.
    let removed = with_users(Situation::primary().leading());
    let removed = removed.with(|s| s.memory.slots_permanent = ["theirs".to_owned()].into());
    assert_eq!(changes(&removed), [drop("theirs")]);
    // It is gone, and a user makes another one of that name.
    let gone = has(configured(Situation::primary().leading()), &complete());
    let gone = plan(&gone.with(|s| s.memory.slots_permanent = ["theirs".to_owned()].into()));
    assert!(!gone.memory.slots_permanent.contains("theirs"));
    // What is ignored is not dropped, and goes along as it did.
    let all = has(configured(Situation::replica().led_by("b")), &complete());
    let all = all.with(|s| s.config.ignore_slots = vec![SlotMatcher::default()]);
    assert_eq!(changes(&all).len(), 2, "both are moved along");
    // What the configuration says of it cannot be read.
    let unreadable = with_users(Situation::replica().led_by("b"));
    let unreadable = unreadable.with(|s| s.config.unreadable_slots = ["theirs".to_owned()].into());
    assert!(!changes(&unreadable).contains(&drop("theirs")));
}

#[test]
fn a_consumer_that_comes_and_goes_keeps_its_slot() {
    let with_users = |active, seen| {
        let mut slots = complete();
        let mut theirs = slot("theirs", SlotKind::Physical);
        theirs.active = active;
        slots.push(theirs);
        let leader = has(configured(Situation::primary().leading()), &slots);
        leader.with(|s| {
            s.config.member_slots_ttl = Duration::from_secs(100);
            s.memory.slots_seen = [("theirs".to_owned(), NOW - Duration::from_secs(seen))].into();
        })
    };
    let seen = plan(&with_users(true, 101)).memory.slots_seen["theirs"];
    assert_eq!(seen, NOW, "it is used");
    assert_eq!(changes(&with_users(false, 99)), []);
    assert_eq!(changes(&with_users(false, 100)), [drop("theirs")]);
}

#[test]
fn members_have_their_slots_before_all_others() {
    let leader = configured(Situation::primary().leading());
    let made = changes(&leader);
    assert_eq!(made[..2], [create("b"), create("c")]);
}

#[test]
fn postgres_own_copies_are_left_alone() {
    let with = |situation: Situation, name: &str, synced, syncs| {
        let mut slots: Vec<Slot> = complete()
            .into_iter()
            .filter(|slot| slot.name != "events")
            .collect();
        let mut failover = slot(name, logical());
        (failover.failover, failover.synced) = (true, synced);
        slots.push(failover);
        has(configured(situation), &slots).running(|r| r.syncs_slots = syncs)
    };
    let replica =
        |name: &str, synced, syncs| changes(&with(Situation::replica().led_by("b"), name, synced, syncs));
    assert!(!replica("events", true, true).contains(&drop("events")));
    assert!(!replica("events", false, false).contains(&drop("events")));
    // A former primary's own would stand in the way of the copy; of a user's it is not known whether there is another one.
    assert!(replica("events", false, true).contains(&drop("events")));
    assert!(!replica("theirs", false, true).contains(&drop("theirs")));
    // On the primary it is a slot as any other.
    let removed = with(Situation::primary().leading(), "theirs", false, true);
    let removed = removed.with(|s| s.memory.slots_permanent = ["theirs".to_owned()].into());
    assert!(changes(&removed).contains(&drop("theirs")));
}

#[test]
fn positions_are_published_for_what_replicas_have_too() {
    let mut slots = complete();
    slots.push(slot("theirs", logical()));
    slots.push(slot("gone", SlotKind::Physical));
    let leader = has(configured(Situation::primary().leading()), &slots).with(|s| {
        s.memory.status_at = None;
        s.memory.slots_seen = [("gone".to_owned(), NOW)].into();
    });
    let put = plan(&leader).effects.into_iter().find_map(|effect| match effect {
        Effect::Put { document, .. } if document.text().contains("optime") => {
            Some(document.text().to_owned())
        }
        _ => None,
    });
    let status: serde_json::Value = serde_json::from_str(&put.unwrap()).unwrap();
    let expected = json!({"a": 100, "archive": 50, "b": 50, "c": 50, "events": 60, "gone": 50});
    assert_eq!(status["slots"], expected);
    assert_eq!(status["retain_slots"], json!(["gone"]));
}

#[test]
fn a_replica_keeps_what_the_leader_retains() {
    let replica = configured(Situation::replica().led_by("b")).with(|s| {
        s.view().status.retain_slots = Some(vec!["gone".to_owned(), "a".to_owned()]);
    });
    let made = changes(&replica);
    assert!(
        made.contains(&create("gone")) && !made.contains(&create("a")),
        "{made:?}"
    );
    let at_once = replica.with(|s| s.config.member_slots_ttl = Duration::ZERO);
    let made = changes(&at_once);
    assert!(
        !made.contains(&create("c")),
        "without retention only for those that stream from here: {made:?}"
    );
}

#[test]
fn a_slot_exists_in_its_kind_of_cluster() {
    let of = |cluster_type| {
        let leader = configured(Situation::primary().leading());
        changes(
            &leader
                .with(|s| s.config.permanent_slots.get_mut("archive").unwrap().cluster_type = cluster_type),
        )
    };
    assert!(of(ClusterType::Primary).contains(&create("archive")));
    assert!(!of(ClusterType::Standby).contains(&create("archive")));
}

#[test]
fn feedback_is_needed_where_logical_slots_are() {
    let needs = |situation: Situation| {
        let mut needs = false;
        let _ = configured(situation).with(|s| {
            let view = s.view().clone();
            needs = needs_feedback(&Feeding {
                config: &s.config,
                me: &s.me.name,
                tags: &s.me.tags,
                view: &view,
            });
        });
        needs
    };
    assert!(needs(Situation::replica()));
    assert!(!needs(Situation::replica().tagged("nofailover", true)));
    assert!(!needs(Situation::replica().tagged("nostream", true)));
    let feeds = Situation::replica().tagged("nofailover", true);
    assert!(needs(feeds.with(tagged("c", "replicatefrom", json!("a")))));
}
