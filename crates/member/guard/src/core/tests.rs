use super::*;

const HANG: Duration = Duration::from_secs(5);

fn at(seconds: u64) -> BootTime {
    BootTime::from_secs(seconds)
}

fn arm(term: u64, deadline: u64) -> Request {
    Request::Arm(Arm {
        term,
        lease: 7,
        stop_at: at(deadline - 4),
        kill_at: at(deadline - 1),
        deadline: at(deadline),
    })
}

fn ask(core: &mut Core, request: Request, now: u64) -> Result<Option<Order>, WhyRefused> {
    let orders = core.step(Input::Request(request), at(now));
    match orders.into_iter().flatten().find_map(|o| match o {
        Order::Reply(Reply::Refused(why)) => Some(why),
        _ => None,
    }) {
        Some(why) => Err(why),
        None => Ok(orders[0]),
    }
}

fn primary(deadline: u64) -> Core {
    let mut core = Core::new(HANG, at(0));
    ask(&mut core, arm(1, deadline), 0).unwrap();
    ask(
        &mut core,
        Request::Start(StartMode::Primary {
            term: 1,
            not_after: at(3),
        }),
        1,
    )
    .unwrap();
    let _ = core.step(Input::Started { pid: 42 }, at(1));
    core
}

#[test]
fn a_primary_is_stopped_then_killed_before_its_lease_ends() {
    let mut core = primary(30);
    assert_eq!(
        core.next_tick(at(1)).0,
        at(0).0,
        "an agent is to be started first"
    );
    let _ = core.step(Input::AgentStarted, at(1));
    assert_eq!(core.tick_lease(at(25)), None);
    assert_eq!(core.tick_lease(at(26)), Some(Order::Stop(StopMode::Fast)));
    assert_eq!(core.tick_lease(at(27)), None);
    assert_eq!(
        ask(&mut core, arm(1, 60), 27),
        Err(WhyRefused::Fencing),
        "a late renewal does not save it"
    );
    assert_eq!(core.tick_lease(at(29)), Some(Order::KillPostgres));
    assert_eq!(
        core.tick_lease(at(30)),
        Some(Order::KillPostgres),
        "until nothing is left"
    );
    let _ = core.step(Input::PostgresEnded, at(30));
    assert_eq!(core.tick_lease(at(31)), None);
    assert!(!core.may_write() && !core.is_fencing());
}

#[test]
fn promotion_needs_the_armed_term_in_time() {
    let mut core = Core::new(HANG, at(0));
    ask(&mut core, Request::Start(StartMode::Replica), 0).unwrap();
    let _ = core.step(Input::Started { pid: 42 }, at(0));
    let promote = |term, not_after| Request::Promote {
        term,
        not_after: at(not_after),
    };
    assert_eq!(ask(&mut core, promote(1, 9), 1), Err(WhyRefused::NotArmed));
    ask(&mut core, arm(5, 30), 1).unwrap();
    assert_eq!(ask(&mut core, promote(4, 9), 2), Err(WhyRefused::NotArmed));
    assert_eq!(
        ask(&mut core, promote(5, 9), 9),
        Err(WhyRefused::TooLate),
        "a thawed agent cannot promote late"
    );
    assert_eq!(ask(&mut core, promote(5, 99), 26), Err(WhyRefused::TooLate));
    assert_eq!(ask(&mut core, arm(4, 40), 3), Err(WhyRefused::OldTerm));
    assert_eq!(ask(&mut core, promote(5, 9), 3), Ok(Some(Order::Promote)));
    assert!(core.may_write());
}

#[test]
fn a_store_that_was_lost_counts_its_terms_again() {
    let mut core = primary(30);
    assert_eq!(core.tick_lease(at(29)), Some(Order::KillPostgres));
    let _ = core.step(Input::PostgresEnded, at(30));
    ask(&mut core, Request::Start(StartMode::Replica), 31).unwrap();
    let _ = core.step(Input::Started { pid: 43 }, at(31));
    let _ = core.step(Input::AgentStarted, at(31));
    // Terms of the lost store were higher.
    ask(&mut core, arm(1, 90), 32).unwrap();
    let promote = Request::Promote {
        term: 1,
        not_after: at(80),
    };
    assert_eq!(ask(&mut core, promote, 33), Ok(Some(Order::Promote)));
}

#[test]
fn a_lost_lease_kills_at_once_and_only_its_own_term() {
    let mut core = primary(30);
    assert_eq!(
        ask(&mut core, Request::Lost { term: 9 }, 2).unwrap(),
        Some(Order::Reply(Reply::Ok { pid: 0 }))
    );
    assert!(!core.is_fencing());
    assert_eq!(
        ask(&mut core, Request::Lost { term: 1 }, 2).unwrap(),
        Some(Order::KillPostgres)
    );
}

#[test]
fn a_writer_is_never_disarmed_except_in_pause() {
    let mut core = primary(30);
    assert_eq!(
        ask(&mut core, Request::Disarm { term: 1 }, 2),
        Err(WhyRefused::MayWrite)
    );
    ask(&mut core, Request::Pause { term: 1 }, 2).unwrap();
    assert_eq!(core.tick_lease(at(1000)), None);
    ask(&mut core, arm(1, 2000), 1001).unwrap();
    assert_eq!(core.tick_lease(at(1999)), Some(Order::KillPostgres));
}

#[test]
fn a_first_primary_must_get_a_lease() {
    let mut core = Core::new(HANG, at(0));
    ask(
        &mut core,
        Request::Start(StartMode::Bootstrap { not_after: at(60) }),
        0,
    )
    .unwrap();
    let _ = core.step(Input::Started { pid: 42 }, at(0));
    assert_eq!(core.tick_lease(at(59)), None);
    assert_eq!(core.tick_lease(at(60)), Some(Order::KillPostgres));
}

#[test]
fn an_adopted_primary_must_get_a_lease_too() {
    let mut core = Core::new(HANG, at(0));
    ask(
        &mut core,
        Request::Adopt {
            pid: 7,
            may_write: true,
            not_after: at(30),
        },
        0,
    )
    .unwrap();
    assert_eq!(core.tick_lease(at(29)), None);
    assert_eq!(core.tick_lease(at(30)), Some(Order::KillPostgres));
}

#[test]
fn what_was_started_or_promoted_by_hand_is_fenced_as_any_other() {
    let adopt = |pid, may_write, until| Request::Adopt {
        pid,
        may_write,
        not_after: at(until),
    };
    // Started again by hand under a lease that the guard knows: that lease is its bound.
    let mut core = primary(30);
    let _ = core.step(Input::PostgresEnded, at(1));
    ask(&mut core, adopt(7, true, 90), 2).unwrap();
    assert_eq!(core.step(Input::Tick, at(23))[0], None);
    assert!(core.tick_lease(at(29)).is_some(), "the lease ends at 30");
    // Promoted by hand.
    let mut core = Core::new(HANG, at(0));
    ask(&mut core, Request::Start(StartMode::Replica), 0).unwrap();
    let _ = core.step(Input::Started { pid: 42 }, at(0));
    assert_eq!(ask(&mut core, adopt(43, true, 30), 1), Err(WhyRefused::Running));
    ask(&mut core, adopt(42, true, 30), 1).unwrap();
    // In pause there is no bound; the end of the pause gives one, and nothing makes it later.
    ask(&mut core, adopt(42, true, 20), 2).unwrap();
    ask(&mut core, adopt(42, false, 90), 3).unwrap();
    assert_eq!(core.tick_lease(at(19)), None);
    assert_eq!(core.tick_lease(at(20)), Some(Order::KillPostgres));
}

#[test]
fn in_pause_postgres_may_start_again_under_the_same_term() {
    let mut core = primary(30);
    ask(&mut core, Request::Pause { term: 1 }, 2).unwrap();
    let _ = core.step(Input::PostgresEnded, at(3));
    let start = |term, not_after| {
        Request::Start(StartMode::Primary {
            term,
            not_after: at(not_after),
        })
    };
    assert_eq!(ask(&mut core, start(2, 90), 40), Err(WhyRefused::NotArmed));
    assert_eq!(ask(&mut core, start(1, 40), 40), Err(WhyRefused::TooLate));
    assert_eq!(ask(&mut core, start(1, 90), 40), Ok(Some(Order::Start)));
    let _ = core.step(Input::PostgresEnded, at(41));
    ask(&mut core, Request::Lost { term: 1 }, 42).unwrap();
    assert_eq!(ask(&mut core, start(1, 90), 43), Err(WhyRefused::NotArmed));
}

#[test]
fn a_server_that_does_not_react_is_killed_until_nothing_is_left() {
    let mut core = primary(30);
    let kill = Request::Stop(StopMode::Kill);
    assert_eq!(ask(&mut core, kill, 2), Ok(Some(Order::KillPostgres)));
    assert_eq!(core.tick_lease(at(3)), Some(Order::KillPostgres));
    assert!(!core.is_fencing(), "its lease is not over");
    assert_eq!(
        ask(&mut core, Request::Disarm { term: 1 }, 3),
        Err(WhyRefused::MayWrite)
    );
    let _ = core.step(Input::PostgresEnded, at(4));
    ask(&mut core, Request::Disarm { term: 1 }, 4).unwrap();
}

#[test]
fn the_end_told_once_is_orderly_and_told_again_is_faster() {
    let mut core = primary(3000);
    let _ = core.step(Input::AgentStarted, at(1));
    assert_eq!(core.step(Input::Terminate, at(2)), one(Order::TerminateAgent));
    assert_eq!(core.step(Input::Terminate, at(3)), one(Order::KillAgent));
    let _ = core.step(Input::AgentEnded, at(4));
    let stop = |mode| [None, Some(Order::Stop(mode)), None];
    assert_eq!(core.step(Input::Tick, at(4)), stop(StopMode::Fast));
    assert_eq!(core.step(Input::Tick, at(63)), NOTHING);
    assert_eq!(
        core.step(Input::Terminate, at(63)),
        one(Order::Stop(StopMode::Immediate))
    );
    assert_eq!(
        core.step(Input::Tick, at(64)),
        [None, Some(Order::KillPostgres), None]
    );
    let _ = core.step(Input::PostgresEnded, at(64));
    assert_eq!(core.step(Input::Tick, at(64)), [None, Some(Order::Exit(0)), None]);
}

#[test]
fn an_agent_that_ends_for_good_is_not_started_again() {
    let mut core = Core::new(HANG, at(0));
    let _ = core.step(Input::AgentStarted, at(0));
    ask(&mut core, Request::Exit { code: 3 }, 1).unwrap();
    let _ = core.step(Input::AgentEnded, at(2));
    assert_eq!(core.step(Input::Tick, at(2)), [None, Some(Order::Exit(3)), None]);
}

#[test]
fn a_silent_agent_is_replaced_and_told_what_it_had() {
    let mut core = primary(30);
    let _ = core.step(Input::AgentStarted, at(1));
    let _ = core.step(Input::Request(Request::Alive), at(4));
    assert_eq!(core.step(Input::Tick, at(8)), NOTHING);
    assert_eq!(
        core.step(Input::Tick, at(9)),
        [None, Some(Order::KillAgent), None]
    );
    let _ = core.step(Input::AgentEnded, at(9));
    assert_eq!(
        core.step(Input::Tick, at(9)),
        [None, Some(Order::SpawnAgent), None]
    );
    let _ = core.step(Input::AgentStarted, at(9));
    let Ok(Some(Order::Reply(Reply::State(state)))) = ask(&mut core, Request::Hello, 10) else {
        panic!("a state")
    };
    assert_eq!(
        (state.pid, state.term, state.lease, state.may_write),
        (42, Some(1), 7, true)
    );
}

#[test]
fn near_the_end_of_a_lease_silence_is_borne_for_less() {
    // PostgreSQL stops at 8 - 4: the next agent must renew before. Silent since 1, the agent is killed after two seconds
    // and not after five.
    let mut core = primary(8);
    let _ = core.step(Input::AgentStarted, at(1));
    assert_eq!(core.next_tick(at(1)), at(3));
    assert_eq!(core.step(Input::Tick, at(2)), NOTHING);
    assert_eq!(
        core.step(Input::Tick, at(3)),
        [None, Some(Order::KillAgent), None]
    );
    // A replica has no such haste.
    let mut core = Core::new(HANG, at(0));
    ask(&mut core, arm(1, 8), 0).unwrap();
    let _ = core.step(Input::AgentStarted, at(1));
    assert_eq!(core.step(Input::Tick, at(3)), NOTHING);
}
