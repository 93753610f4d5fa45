//! How a leader gets from one synchronous setting to another: every step, with every process that sends WAL in time or late.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod situation;

use std::collections::BTreeMap;

use howdah_config::SyncMode;
use howdah_dcs::{Key, SyncState};
use howdah_ha::{Effect, NOBODY, SyncRule};
use howdah_types::Lsn;
use situation::{Shorthand, Situation, name, plan};

/// What a leader does, step by step, until nothing is left to do: the setting and what is published, in turn. `late`: this
/// standby's process reads no changed setting for the first so many looks. A standby with a `!` streams and is not to be synchronous.
fn steps(
    begin: (&str, &[&str], u32),
    mode: (bool, u32),
    standbys: &[&str],
    late: Option<(&str, usize)>,
) -> Vec<String> {
    let (mut setting, mut sync) = (begin.0.to_owned(), SyncState::new("a", &owned(begin.1)));
    sync.quorum = begin.2;
    let mut read: BTreeMap<&str, String> = standbys
        .iter()
        .map(|name| (name.trim_end_matches('!'), setting.clone()))
        .collect();
    let mut memory = None;
    let mut steps = Vec::new();
    for look in 0..40 {
        for (name, read) in &mut read {
            if late.is_none_or(|(late, looks)| late != *name || look >= looks) {
                read.clone_from(&setting);
            }
        }
        let rule = SyncRule::parse(&setting);
        let senders = read.iter().map(|(name, read)| howdah_ha::WalSender {
            name: (*name).to_owned(),
            streaming: true,
            priority: SyncRule::parse(read).priority(name),
            sync: rule.priority(name) > 0,
            written: Lsn(100),
            lsn: Lsn(100),
            replayed: Lsn(100),
        });
        let situation = Situation::primary().leading().quiet().with(|s| {
            for named in standbys {
                let member = named.trim_end_matches('!');
                s.record(member, "replica");
                if named.ends_with('!') {
                    let record = s.view().members.get_mut(&name(member)).unwrap();
                    record.tags = serde_json::from_str(r#"{"nosync": true}"#).unwrap();
                }
            }
            s.config.synchronous_mode = SyncMode::On;
            (s.config.synchronous_quorum, s.config.synchronous_nodes) = mode;
            s.view().sync.value = Some(sync.clone());
            s.memory.sync_known = true;
            if let Some(memory) = memory.take() {
                s.memory = memory;
            }
            s.memory.commits_wait = true;
        });
        let situation = situation.running(|r| {
            r.sync_names = setting.clone();
            r.walsenders = senders.collect();
        });
        let plan = plan(&situation);
        // As PostgreSQL lets commits through: how many by each process's own setting, of all standbys that have a place.
        let placed: Vec<String> = read
            .iter()
            .filter(|(name, read)| SyncRule::parse(read).priority(name) > 0)
            .map(|(name, _)| format!("\"{name}\""))
            .collect();
        for (name, read) in &read {
            let rule = SyncRule::parse(read);
            let mixed = SyncRule::parse(&format!("ANY {} ({})", rule.needed(), placed.join(",")));
            // What was changed from outside is noticed at the first look.
            let safe = rule.priority(name) == 0 || mixed.covers(&sync) || steps.is_empty();
            assert!(
                safe,
                "the process for {name} goes by {read}, of {placed:?}, while {sync:?} is published: {steps:?}"
            );
        }
        for effect in &plan.effects {
            match effect {
                Effect::SetSyncNames(names) => {
                    setting.clone_from(names);
                    steps.push(setting.replace('"', ""));
                }
                Effect::Put { document, .. } if document.key() == Key::Sync => {
                    sync = SyncState::parse(document.text()).unwrap();
                    steps.push(format!(
                        "/sync {}: {}",
                        sync.quorum,
                        sync.sync_standby.clone().unwrap_or_default()
                    ));
                }
                _ => {}
            }
        }
        memory = Some(plan.memory);
    }
    steps
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn several_standbys_and_quorum() {
    let (plain, quorum) = (|nodes| (false, nodes), |nodes| (true, nodes));
    let (one, two) = ("\"b\"", "2 (\"c\",\"b\")");
    let any = "ANY 1 (\"b\",\"c\")";
    let any_of_three = "ANY 1 (\"b\",\"c\",\"d\")";
    for (why, begin, mode, standbys, expected) in [
        (
            "the first two",
            (NOBODY, &[][..], 0),
            plain(2),
            &["b", "c"][..],
            &["2 (b,c)", "/sync 0: b,c"][..],
        ),
        (
            "fewer than wanted",
            (NOBODY, &[], 0),
            plain(2),
            &["b"],
            &["b", "/sync 0: b"],
        ),
        (
            "a second one: first all wait for two, then it counts",
            (one, &["b"], 0),
            plain(2),
            &["b", "c"],
            &["2 (no standby is chosen yet,b)", "2 (c,b)", "/sync 0: b,c"],
        ),
        (
            "one of two is lost: the store forgets it first",
            (two, &["b", "c"], 0),
            plain(2),
            &["b"],
            &[
                "/sync 0: b",
                "3 (no standby is chosen yet,no standby is chosen yet,b)",
                "b",
            ],
        ),
        (
            "it is lost, and another one is there",
            (two, &["b", "c"], 0),
            plain(2),
            &["b", "d"],
            &[
                "/sync 0: b",
                "3 (no standby is chosen yet,no standby is chosen yet,b)",
                "2 (d,b)",
                "/sync 0: b,d",
            ],
        ),
        (
            "quorum: the first ones",
            (NOBODY, &[], 0),
            quorum(1),
            &["b", "c"],
            &["ANY 1 (b,c)", "/sync 1: b,c"],
        ),
        (
            "a third one: first votes, then confirmations",
            (any, &["b", "c"], 1),
            quorum(1),
            &["b", "c", "d"],
            &["/sync 2: b,c,d", "ANY 1 (b,c,d)"],
        ),
        (
            "the third one is lost: first confirmations, then votes",
            (any_of_three, &["b", "c", "d"], 2),
            quorum(1),
            &["b", "c"],
            &["ANY 1 (b,c)", "/sync 1: b,c"],
        ),
        (
            "more confirmations: all processes must have read that before",
            (any_of_three, &["b", "c", "d"], 2),
            quorum(2),
            &["b", "c", "d"],
            &[
                "ANY 2 (b,c,d)",
                "4 (no standby is chosen yet,b,c,d)",
                "ANY 2 (b,c,d)",
                "/sync 1: b,c,d",
            ],
        ),
        (
            "fewer confirmations: first more votes",
            ("ANY 2 (\"b\",\"c\",\"d\")", &["b", "c", "d"], 1),
            quorum(1),
            &["b", "c", "d"],
            &["/sync 2: b,c,d", "ANY 1 (b,c,d)"],
        ),
        (
            "from plain to quorum",
            (one, &["b"], 0),
            quorum(1),
            &["b", "c"],
            &["/sync 1: b,c", "ANY 1 (b,c)"],
        ),
        (
            "from quorum to plain",
            (any, &["b", "c"], 1),
            plain(1),
            &["b", "c"],
            &["b", "/sync 0: b"],
        ),
        (
            "changed from outside: who is published may lack commits",
            ("ANY 1 (*)", &["b", "c"], 1),
            quorum(1),
            &["b", "c"],
            &["/sync 0: ", "ANY 1 (b,c)", "/sync 1: b,c"],
        ),
        (
            "one of two that confirm all is not fit any more, and still streams",
            ("ANY 2 (\"b\",\"d\")", &["b", "d"], 0),
            quorum(2),
            &["b", "d!"],
            &["/sync 0: b", "2 (no standby is chosen yet,b)", "ANY 1 (b)"],
        ),
        (
            "a third one of three",
            (two, &["b", "c"], 0),
            plain(3),
            &["b", "c", "d"],
            &["3 (no standby is chosen yet,c,b)", "3 (d,c,b)", "/sync 0: b,c,d"],
        ),
        (
            "one of three is not fit any more, and still streams",
            ("3 (\"d\",\"c\",\"b\")", &["b", "c", "d"], 0),
            plain(3),
            &["b", "c", "d!"],
            &[
                "/sync 0: b,c",
                "4 (no standby is chosen yet,no standby is chosen yet,c,b)",
                "2 (c,b)",
            ],
        ),
        (
            "the second seat goes to another one, and both stream",
            (two, &["b"], 0),
            plain(2),
            &["b", "c!", "d"],
            &[
                "3 (no standby is chosen yet,no standby is chosen yet,b)",
                "2 (d,b)",
                "/sync 0: b,d",
            ],
        ),
    ] {
        assert_eq!(steps(begin, mode, standbys, None), expected, "{why}");
        // However late a process reads, nothing else is published at the end, and nothing wrong on the way.
        for late in standbys.iter().map(|name| name.trim_end_matches('!')) {
            let taken = steps(begin, mode, standbys, Some((late, 12)));
            let published = |steps: &[String]| steps.iter().rfind(|step| step.starts_with("/sync")).cloned();
            let last: Vec<String> = owned(expected);
            assert_eq!(
                published(&taken),
                published(&last),
                "{why}, {late} late: {taken:?}"
            );
            assert_eq!(taken.last(), last.last(), "{why}, {late} late: {taken:?}");
        }
    }
}
