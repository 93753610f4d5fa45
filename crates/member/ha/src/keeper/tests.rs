use std::collections::VecDeque;

use super::*;
use howdah_dcs::{LeaderKey, LeaderSeen, MemStore};

const TTL: Duration = Duration::from_secs(30);

fn at(seconds: u64) -> BootTime {
    BootTime::from_secs(seconds)
}

fn name(text: &str) -> MemberName {
    MemberName::new(text).unwrap()
}

/// Runs the keeper against a store until it is quiet at `now`; returns what it told the guard.
fn settle(keeper: &mut Keeper, store: &mut MemStore, input: KeeperInput, now: BootTime) -> Vec<GuardCall> {
    let mut calls = Vec::new();
    let mut outputs: VecDeque<KeeperOutput> = keeper.step(input, now).into();
    while let Some(output) = outputs.pop_front() {
        match output {
            KeeperOutput::Guard(call) => {
                calls.push(call);
                if matches!(call, GuardCall::Disarm(_)) {
                    outputs.extend(keeper.step(KeeperInput::Disarmed(true), now));
                }
            }
            KeeperOutput::EndPrimary | KeeperOutput::Ask(_) | KeeperOutput::Promised(_) => {}
            KeeperOutput::Send { op, .. } => {
                let outcome = store.lease(&op, now);
                outputs.extend(keeper.step(KeeperInput::Answer(outcome), now));
            }
        }
    }
    calls
}

fn acquire(not_after: u64) -> KeeperInput {
    KeeperInput::Command(Command::Acquire {
        not_after: at(not_after),
    })
}

#[test]
fn the_deadline_counts_from_the_sending() {
    let mut store = MemStore::default();
    let mut keeper = Keeper::new(name("a"), TTL);
    settle(&mut keeper, &mut store, KeeperInput::Tick, at(0));
    let calls = settle(&mut keeper, &mut store, acquire(2), at(1));
    assert!(
        matches!(calls[..], [GuardCall::Arm(Arm { deadline, .. })] if deadline == at(30)),
        "{calls:?}"
    );

    // The renewal is sent at 10; its answer comes at 14 and counts from 10.
    let sent = keeper.step(KeeperInput::Tick, at(10));
    let [KeeperOutput::Send { op, .. }] = &sent[..] else {
        panic!("{sent:?}")
    };
    let outcome = store.lease(op, at(11));
    let calls = keeper.step(KeeperInput::Answer(outcome), at(14));
    assert!(
        matches!(calls[..], [KeeperOutput::Guard(GuardCall::Arm(Arm { deadline, .. }))] if deadline == at(40)),
        "{calls:?}"
    );
}

#[test]
fn a_lost_answer_is_read_before_anything_is_concluded() {
    let mut store = MemStore::default();
    let mut keeper = Keeper::new(name("a"), TTL);
    settle(&mut keeper, &mut store, KeeperInput::Tick, at(0));
    let out = keeper.step(acquire(2), at(1));
    let [KeeperOutput::Send { op, .. }] = &out[..] else {
        panic!("{out:?}")
    };
    store.lease(op, at(1));
    assert!(
        keeper
            .step(KeeperInput::Answer(Outcome::Unknown("timeout".into())), at(2))
            .is_empty()
    );
    assert_eq!(keeper.state(at(2)), LeaseState::Unsure);
    let calls = settle(&mut keeper, &mut store, KeeperInput::Tick, at(3));
    assert!(matches!(calls[..], [GuardCall::Arm(_)]), "{calls:?}");
    assert!(matches!(keeper.state(at(3)), LeaseState::Held { .. }));
}

#[test]
fn refused_by_our_own_key_is_leading() {
    let mut keeper = Keeper::new(name("a"), TTL);
    let mut store = MemStore::default();
    settle(&mut keeper, &mut store, KeeperInput::Tick, at(0));
    let _ = keeper.step(acquire(2), at(1));
    let mine = LeaderKey {
        name: name("a"),
        lease: keeper.lease(),
        term: Term(9),
    };
    let _ = keeper.step(
        KeeperInput::Answer(Outcome::Refused(Refusal::HasLeader(mine))),
        at(1),
    );
    assert!(keeper.state(at(1)).held(at(1)).is_some());
    // The same name in another life is another holder.
    let mut second = Keeper::new(name("a"), TTL);
    settle(&mut second, &mut store, KeeperInput::Tick, at(1));
    let _ = second.step(acquire(3), at(1));
    let other = LeaderKey {
        name: name("a"),
        lease: Some(LeaseId(99)),
        term: Term(9),
    };
    let _ = second.step(
        KeeperInput::Answer(Outcome::Refused(Refusal::HasLeader(other))),
        at(1),
    );
    assert_eq!(second.state(at(1)), LeaseState::None);
}

#[test]
fn a_deleted_leader_key_is_a_lost_lease() {
    let mut store = MemStore::default();
    let mut keeper = Keeper::new(name("a"), TTL);
    settle(&mut keeper, &mut store, KeeperInput::Tick, at(0));
    settle(&mut keeper, &mut store, acquire(2), at(1));
    store.lease(
        &LeaseOp::Release {
            lease: keeper.lease().unwrap(),
        },
        at(5),
    );
    // The leader key is not read with every renewal; the loop, which watches it, asks for that.
    let calls = settle(&mut keeper, &mut store, KeeperInput::Tick, at(10));
    assert!(matches!(calls[..], [GuardCall::Arm(_)]), "{calls:?}");
    let calls = settle(&mut keeper, &mut store, KeeperInput::Tick, at(20));
    assert!(matches!(calls[..], [GuardCall::Lost(_)]), "{calls:?}");
}

#[test]
fn a_stale_decision_to_acquire_is_dropped() {
    let mut store = MemStore::default();
    let mut keeper = Keeper::new(name("a"), TTL);
    settle(&mut keeper, &mut store, KeeperInput::Tick, at(0));
    settle(&mut keeper, &mut store, acquire(2), at(5));
    assert_eq!(store.leader(), None);
}

#[test]
fn adopted_leadership_is_held_only_after_the_store_confirms_it() {
    let mut store = MemStore::default();
    let mut first = Keeper::new(name("a"), TTL);
    settle(&mut first, &mut store, KeeperInput::Tick, at(0));
    settle(&mut first, &mut store, acquire(2), at(1));
    let LeaseState::Held { term, deadline, .. } = first.state(at(1)) else {
        panic!()
    };
    let mut second = Keeper::new(name("a"), TTL).adopt(term, first.lease().unwrap(), deadline);
    assert_eq!(second.state(at(2)), LeaseState::Unsure);
    settle(&mut second, &mut store, KeeperInput::Tick, at(2));
    assert!(second.state(at(2)).held(at(2)).is_some());
    let mut late = Keeper::new(name("a"), TTL).adopt(term, first.lease().unwrap(), deadline);
    let calls = settle(&mut late, &mut store, KeeperInput::Tick, at(99));
    assert!(matches!(calls[..], [GuardCall::Lost(_)]), "{calls:?}");
}

#[test]
fn a_lease_whose_renewals_are_answered_too_late_is_given_back() {
    let mut store = MemStore::default();
    let mut keeper = Keeper::new(name("a"), TTL);
    settle(&mut keeper, &mut store, KeeperInput::Tick, at(0));
    settle(&mut keeper, &mut store, acquire(2), at(1));
    for second in [10, 15, 20, 25, 29] {
        let sent = keeper.step(KeeperInput::Tick, at(second));
        let [.., KeeperOutput::Send { op, .. }] = &sent[..] else {
            panic!("{sent:?}")
        };
        store.lease(op, at(second));
        let _ = keeper.step(
            KeeperInput::Answer(Outcome::Unknown("late".into())),
            at(second + 1),
        );
    }
    assert!(store.leader().is_some());
    // The guard has ended PostgreSQL by now, and agrees.
    let calls = settle(&mut keeper, &mut store, KeeperInput::Tick, at(31));
    assert!(matches!(calls[..], [GuardCall::Disarm(_)]), "{calls:?}");
    assert_eq!((store.leader(), keeper.state(at(31))), (None, LeaseState::None));
}

#[test]
fn a_frozen_guard_is_not_relied_upon_at_the_end_of_a_lease() {
    let mut store = MemStore::default();
    let mut keeper = Keeper::new(name("a"), TTL);
    settle(&mut keeper, &mut store, KeeperInput::Tick, at(0));
    settle(&mut keeper, &mut store, acquire(2), at(1));
    // No answer from the store: one operation is under way, and the end is looked after all the same.
    let _ = keeper.step(KeeperInput::Tick, at(10));
    let check = keeper.next_tick();
    assert!(check > at(28) && check < at(30), "between D - m2 and D: {check}");
    assert_eq!(keeper.step(KeeperInput::Tick, check), [KeeperOutput::EndPrimary]);
    assert!(keeper.step(KeeperInput::Tick, check).is_empty(), "once");
    let _ = keeper.step(KeeperInput::Ended, check);
    // The guard is not asked: nothing is left that could write.
    let out = keeper.step(KeeperInput::Answer(Outcome::Unknown("late".into())), at(30));
    assert!(
        matches!(
            out[..],
            [KeeperOutput::Send {
                op: LeaseOp::Release { .. },
                ..
            }]
        ) || keeper.next_tick() < at(31),
        "{out:?}"
    );
}

#[test]
fn without_a_guard_the_lease_is_given_back_by_whoever_saw_the_end() {
    let mut store = MemStore::default();
    let mut keeper = Keeper::new(name("a"), TTL);
    settle(&mut keeper, &mut store, KeeperInput::Tick, at(0));
    settle(&mut keeper, &mut store, acquire(2), at(1));
    let command = KeeperInput::Command(Command::ReleaseUnguarded);
    assert!(settle(&mut keeper, &mut store, command, at(2)).is_empty());
    assert_eq!((store.leader(), keeper.state(at(2))), (None, LeaseState::None));
}

#[test]
fn the_store_is_asked_at_once_when_the_loop_doubts() {
    let mut store = MemStore::default();
    let mut keeper = Keeper::new(name("a"), TTL);
    settle(&mut keeper, &mut store, KeeperInput::Tick, at(0));
    settle(&mut keeper, &mut store, acquire(2), at(1));
    store.wipe();
    let calls = settle(
        &mut keeper,
        &mut store,
        KeeperInput::Command(Command::Verify),
        at(2),
    );
    assert!(matches!(calls[..], [GuardCall::Lost(_)]), "{calls:?}");
}

#[test]
fn a_leadership_that_begins_in_maintenance_mode_is_known_to_the_guard() {
    let mut store = MemStore::default();
    let mut keeper = Keeper::new(name("a"), TTL);
    settle(&mut keeper, &mut store, KeeperInput::Tick, at(0));
    let pause = KeeperInput::Command(Command::Paused(true));
    assert!(settle(&mut keeper, &mut store, pause, at(1)).is_empty());
    let calls = settle(&mut keeper, &mut store, acquire(3), at(2));
    assert!(
        matches!(calls[..], [GuardCall::Arm(_), GuardCall::Pause(_)]),
        "{calls:?}"
    );
    // Renewals leave the guard alone.
    assert!(settle(&mut keeper, &mut store, KeeperInput::Tick, at(12)).is_empty());
}

#[test]
fn release_disarms_and_pause_stops_arming() {
    let mut store = MemStore::default();
    let mut keeper = Keeper::new(name("a"), TTL);
    settle(&mut keeper, &mut store, KeeperInput::Tick, at(0));
    settle(&mut keeper, &mut store, acquire(2), at(1));
    let pause = |on| KeeperInput::Command(Command::Paused(on));
    assert!(matches!(
        settle(&mut keeper, &mut store, pause(true), at(2))[..],
        [GuardCall::Pause(_)]
    ));
    assert!(settle(&mut keeper, &mut store, KeeperInput::Tick, at(11)).is_empty());
    assert!(matches!(
        settle(&mut keeper, &mut store, pause(false), at(12))[..],
        [GuardCall::Arm(_)]
    ));
    let calls = settle(
        &mut keeper,
        &mut store,
        KeeperInput::Command(Command::Release),
        at(13),
    );
    assert!(matches!(calls[..], [GuardCall::Disarm(_)]), "{calls:?}");
    assert_eq!(store.leader(), None);
    assert_eq!(keeper.state(at(13)), LeaseState::None);
}

#[test]
fn leadership_is_kept_while_the_guard_says_that_postgres_may_write() {
    let mut store = MemStore::default();
    let mut keeper = Keeper::new(name("a"), TTL);
    settle(&mut keeper, &mut store, KeeperInput::Tick, at(0));
    settle(&mut keeper, &mut store, acquire(2), at(1));
    let out = keeper.step(KeeperInput::Command(Command::Release), at(2));
    assert!(
        matches!(out[..], [KeeperOutput::Guard(GuardCall::Disarm(_))]),
        "{out:?}"
    );
    assert!(keeper.step(KeeperInput::Disarmed(false), at(2)).is_empty());
    settle(&mut keeper, &mut store, KeeperInput::Tick, at(10));
    assert!(keeper.state(at(10)).held(at(10)).is_some() && store.leader().is_some());
}

fn question_of(outputs: &[KeeperOutput]) -> Option<Question> {
    outputs.iter().find_map(|output| match output {
        KeeperOutput::Ask(question) => Some(question.clone()),
        _ => None,
    })
}

/// A leader in failsafe mode, whose store has not answered since 1 s.
fn without_store() -> (Keeper, MemStore, Question) {
    let mut store = MemStore::default();
    let mut keeper = Keeper::new(name("a"), TTL);
    settle(&mut keeper, &mut store, KeeperInput::Tick, at(0));
    settle(&mut keeper, &mut store, acquire(2), at(1));
    let (term, _) = keeper.state(at(1)).held(at(1)).unwrap();
    let members = Some(Topology::from([(name("b"), "http://b:8008/patroni".to_owned())]));
    let tell = KeeperInput::Command(Command::Failsafe { term, members });
    assert!(keeper.step(tell, at(1)).is_empty());
    let lost = || KeeperInput::Answer(Outcome::Unknown("no answer".into()));
    assert!(question_of(&keeper.step(KeeperInput::Tick, at(11))).is_none());
    assert!(question_of(&keeper.step(lost(), at(14))).is_none());
    let question = question_of(&keeper.step(KeeperInput::Tick, at(16))).unwrap();
    assert_eq!((question.asked, question.length), (at(16), TTL));
    let _ = keeper.step(lost(), at(17));
    (keeper, store, question)
}

#[test]
fn promises_of_all_members_count_from_the_question() {
    let (mut keeper, _, question) = without_store();
    let agreed = KeeperInput::Answers {
        asked: question.asked,
        agreed: true,
    };
    let out = keeper.step(agreed, at(18));
    let armed = out.iter().find_map(|output| match output {
        KeeperOutput::Guard(GuardCall::Arm(arm)) => Some(arm.deadline),
        _ => None,
    });
    assert_eq!(armed, Some(at(46)), "{out:?}");
    assert!(keeper.leads_by_promises(at(40)));
    assert!(keeper.state(at(40)).held(at(40)).is_some());
    assert_eq!(keeper.state(at(46)), LeaseState::Unsure);
}

#[test]
fn a_refusal_and_answers_to_another_question_extend_nothing() {
    for (asked, agreed) in [(16, false), (15, true)] {
        let (mut keeper, _, _) = without_store();
        let answers = KeeperInput::Answers {
            asked: at(asked),
            agreed,
        };
        let _ = keeper.step(answers, at(18));
        assert_eq!(keeper.state(at(31)), LeaseState::Unsure);
    }
}

#[test]
fn promises_that_come_when_postgresql_must_stop_are_too_late() {
    let (mut keeper, _, question) = without_store();
    let agreed = KeeperInput::Answers {
        asked: question.asked,
        agreed: true,
    };
    // With a lease of 30 s it must stop 4.5 s before the end, at 26.5.
    let _ = keeper.step(agreed, at(28));
    assert_eq!(keeper.state(at(32)), LeaseState::Unsure);
}

#[test]
fn by_promises_a_leader_goes_on_under_a_new_term() {
    let (mut keeper, mut store, question) = without_store();
    let agreed = KeeperInput::Answers {
        asked: question.asked,
        agreed: true,
    };
    let _ = keeper.step(agreed, at(18));
    // The store is back, and has ended the lease meanwhile.
    store.expire(at(35));
    let mut calls = settle(
        &mut keeper,
        &mut store,
        KeeperInput::Answer(Outcome::Unknown("no answer".into())),
        at(35),
    );
    calls.extend(settle(&mut keeper, &mut store, KeeperInput::Tick, at(36)));
    let lost = calls.iter().any(|call| matches!(call, GuardCall::Lost(_)));
    assert!(!lost, "{calls:?}");
    assert!(matches!(calls.last(), Some(GuardCall::Arm(_))), "{calls:?}");
    assert!(!keeper.leads_by_promises(at(36)));
    assert!(keeper.settled() >= Some(question.asked));
    assert_eq!(store.leader().map(|leader| leader.lease), Some(keeper.lease()));
}

#[test]
fn who_has_promised_does_not_lead() {
    let mut store = MemStore::default();
    let mut keeper = Keeper::new(name("b"), TTL);
    settle(&mut keeper, &mut store, KeeperInput::Tick, at(0));
    let promise = || Promise {
        leader: name("a"),
        conn_url: String::new(),
        api_url: String::new(),
        asked: Some(at(3)),
        until: at(40),
    };
    let out = keeper.step(KeeperInput::Asked(promise()), at(10));
    assert!(out.contains(&KeeperOutput::Promised(true)), "{out:?}");
    settle(&mut keeper, &mut store, acquire(12), at(11));
    assert_eq!(keeper.state(at(11)), LeaseState::None);
    let forget = |asked| {
        KeeperInput::Command(Command::ForgetPromise {
            leader: name("a"),
            asked: at(asked),
        })
    };
    // That is of an earlier question.
    let _ = keeper.step(forget(2), at(12));
    assert!(keeper.promise(at(12)).is_some());
    let _ = keeper.step(forget(3), at(12));
    settle(&mut keeper, &mut store, acquire(14), at(13));
    assert!(keeper.state(at(13)).held(at(13)).is_some());
    // Who leads promises nothing.
    let out = keeper.step(KeeperInput::Asked(promise()), at(14));
    assert!(out.contains(&KeeperOutput::Promised(false)), "{out:?}");
}

/// As ZooKeeper's and Consul's stores answer: less than was asked for, or than was granted.
#[test]
fn a_store_that_gives_less_is_not_asked_for_another_lease() {
    let mut keeper = Keeper::new(name("a"), TTL);
    let lease = LeaseId(7);
    let seconds = Duration::from_secs;
    let mut sent = Vec::new();
    for now in 0..40 {
        let mut outputs: VecDeque<KeeperOutput> = keeper.step(KeeperInput::Tick, at(now)).into();
        while let Some(output) = outputs.pop_front() {
            let KeeperOutput::Send { op, .. } = output else {
                continue;
            };
            let done = match op {
                LeaseOp::Grant { ttl: TTL } => LeaseDone::Granted {
                    lease,
                    ttl: seconds(15),
                },
                _ => LeaseDone::Renewed {
                    ttl: seconds(9),
                    leader: LeaderSeen::NotRead,
                },
            };
            sent.push(op);
            outputs.extend(keeper.step(KeeperInput::Answer(Outcome::Done(done)), at(now)));
        }
    }
    assert_eq!(sent.remove(0), LeaseOp::Grant { ttl: TTL });
    assert!(
        !sent.is_empty() && sent.iter().all(|op| *op == LeaseOp::KeepAlive { lease }),
        "{sent:?}"
    );
    assert_eq!(keeper.granted(), Some(seconds(15)));
    // Another length is asked for when the configuration has another one.
    let mut out = keeper.step(KeeperInput::Command(Command::Ttl(seconds(20))), at(40));
    out.extend(keeper.step(KeeperInput::Tick, at(60)));
    assert!(
        matches!(
            out[..],
            [KeeperOutput::Send {
                op: LeaseOp::Revoke { .. },
                ..
            }]
        ),
        "{out:?}"
    );
}
