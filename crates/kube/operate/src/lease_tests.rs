use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> BootTime {
    BootTime((1000 + seconds) * SECOND)
}

fn held(holder: &str, version: &str) -> Record {
    Record {
        holder: holder.into(),
        duration: DURATION,
        version: version.into(),
    }
}

#[test]
fn a_lease_that_does_not_change_is_taken_after_its_duration() {
    let mut candidate = Candidate::new("b".into());
    assert_eq!(candidate.decide(None, at(0)), Move::Create);
    assert_eq!(candidate.decide(Some(&held("a", "1")), at(0)), Move::Wait);
    assert_eq!(candidate.decide(Some(&held("a", "1")), at(14)), Move::Wait);
    assert_eq!(
        candidate.decide(Some(&held("a", "2")), at(15)),
        Move::Wait,
        "it was renewed"
    );
    assert_eq!(candidate.decide(Some(&held("a", "2")), at(29)), Move::Wait);
    assert_eq!(candidate.decide(Some(&held("a", "2")), at(30)), Move::Take);
    let given_back = Record {
        duration: GIVEN_BACK,
        ..held("", "3")
    };
    assert_eq!(candidate.decide(Some(&given_back), at(31)), Move::Take);
}

#[test]
fn a_lease_that_was_deleted_or_emptied_by_hand_is_waited_for() {
    let mut candidate = Candidate::new("b".into());
    assert_eq!(candidate.decide(Some(&held("a", "1")), at(0)), Move::Wait);
    assert_eq!(candidate.decide(None, at(5)), Move::Wait);
    assert_eq!(candidate.decide(None, at(15)), Move::Create);
    let mut candidate = Candidate::new("b".into());
    assert_eq!(candidate.decide(Some(&held("", "2")), at(0)), Move::Wait);
    assert_eq!(candidate.decide(Some(&held("", "2")), at(15)), Move::Take);
}
#[test]
fn a_term_counts_from_the_sending_and_ends_when_another_one_holds() {
    let mut candidate = Candidate::new("a".into());
    candidate.wrote(at(0));
    assert_eq!(candidate.moment(), at(13));
    assert_eq!(candidate.decide(Some(&held("a", "1")), at(5)), Move::Renew);
    assert_eq!(
        candidate.moment(),
        at(13),
        "a write whose answer is lost extends nothing"
    );
    assert_eq!(candidate.decide(Some(&held("b", "2")), at(6)), Move::Wait);
    assert_eq!(candidate.moment(), BootTime(0));
}

/// A write on its way to the server.
#[derive(Clone)]
struct Arrival {
    at: u64,
    replica: usize,
    what: Move,
    /// The version that it replaces.
    known: Option<String>,
    sent: u64,
    answer: u64,
    lost: bool,
}

/// One step of a replica in a world with a server that compares versions.
#[derive(Clone, Debug)]
struct Turn {
    replica: usize,
    /// Milliseconds from the reading to the decision, from the sending to the arrival, and from there to the answer: a
    /// frozen process, a slow network.
    delays: [u64; 3],
    /// The answer is lost.
    lost: bool,
    pause: u64,
}

fn turn() -> impl Strategy<Value = Turn> {
    let delay = || prop_oneof![4 => 0_u64..300, 1 => 0_u64..40_000];
    (
        0_usize..3,
        [delay(), delay(), delay()],
        prop::bool::weighted(0.2),
        delay(),
    )
        .prop_map(|(replica, delays, lost, pause)| Turn {
            replica,
            delays,
            lost,
            pause,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 2000 } else { 50_000 }))]
    #[test]
    fn no_two_lead_at_a_time(turns in prop::collection::vec(turn(), 1..60)) {
        let millis = |at: u64| BootTime(at * 1_000_000);
        let mut replicas: Vec<Candidate> = (0..3).map(|n| Candidate::new(n.to_string())).collect();
        let mut busy = [0_u64; 3];
        let mut lease: Option<Record> = None;
        let mut version = 0;
        // Events in the order of time: each replica's turn begins when it is free, and arrivals are sorted.
        let mut clock = 1_000_000_u64;
        let mut terms: Vec<(usize, u64, u64)> = Vec::new();
        let mut arrivals: Vec<Arrival> = Vec::new();
        for turn in turns {
            clock += turn.pause;
            let start = clock.max(busy[turn.replica]);
            // What arrives before this reading happens first.
            arrivals.sort_by_key(|arrival| arrival.at);
            let due: Vec<_> = arrivals.iter().take_while(|arrival| arrival.at <= start).cloned().collect();
            arrivals.drain(..due.len());
            for Arrival { at: arrival, replica, what, known, sent, answer, lost } in due {
                let fits = match what {
                    Move::Create => lease.is_none(),
                    _ => lease.as_ref().map(|record| &record.version) == known.as_ref(),
                };
                if fits {
                    version += 1;
                    lease = Some(Record { holder: replica.to_string(), duration: DURATION, version: version.to_string() });
                    if !lost {
                        replicas[replica].wrote(millis(sent));
                        let end = replicas[replica].moment().0 / 1_000_000;
                        // It leads from the answer on, if its term is not over by then.
                        if end > answer {
                            terms.push((replica, arrival, end));
                        }
                    }
                }
            }
            let record = lease.clone();
            let what = replicas[turn.replica].decide(record.as_ref(), millis(start));
            // Believing another one's Lease ends the term at the decision.
            if what == Move::Wait || what == Move::Take {
                for term in terms.iter_mut().filter(|term| term.0 == turn.replica) {
                    term.2 = term.2.min(start);
                }
            }
            let sent = start + turn.delays[0];
            let arrival = sent + turn.delays[1];
            let answer = arrival + turn.delays[2];
            busy[turn.replica] = answer;
            clock = start;
            if what != Move::Wait {
                arrivals.push(Arrival {
                    at: arrival,
                    replica: turn.replica,
                    what,
                    known: record.map(|record| record.version),
                    sent,
                    answer,
                    lost: turn.lost,
                });
            }
        }
        for (index, one) in terms.iter().enumerate() {
            for other in &terms[index + 1..] {
                let apart = one.0 == other.0 || one.2 <= other.1 || other.2 <= one.1;
                prop_assert!(apart, "{one:?} and {other:?} overlap");
            }
        }
    }
}
