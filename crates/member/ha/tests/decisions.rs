//! What a member decides in typical situations, one after the other: who has asked what, what is seen, what follows.
//! The model looks for situations that were not thought of; this is the list of those that were.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod situation;

use std::time::Duration;

use howdah_config::SyncMode;
use howdah_dcs::{Document, LeaseId, SyncState, Term, Topology};
use howdah_ha::{
    CommitLevel, Dcs, Effect, KnownMember, LastLeader, NOBODY, Postgres, Promise, Request, Unguarded, Written,
};
use howdah_pgconf::DbState;
use howdah_types::{BootTime, Lsn, Origins, SystemId, Timeline};
use situation::{NOW, Shorthand, Situation, brief, is, name, plan};

#[test]
fn without_data() {
    is(
        "a new cluster: a member that may makes it, under a claim",
        &Situation::empty().no_member_has_data(),
        "trying to bootstrap a new cluster",
        &["claim", "begin Bootstrap"],
    );
    is(
        "the store was wiped, and a member has data: it writes the cluster back",
        &Situation::empty().without_cluster(),
        "the store knows no cluster, but b has data: waiting until it leads",
        &[],
    );
    let forgotten = |seconds| {
        Situation::empty().no_member_has_data().with(|s| {
            s.memory.cluster_known = true;
            s.memory.store_empty_since = Some(NOW - Duration::from_secs(seconds));
        })
    };
    is(
        "the store was wiped, and members with data may come: not yet",
        &forgotten(69),
        "the store has lost the cluster that it had: waiting until 1001.000s for a member with its data",
        &[],
    );
    is(
        "they have had twice the length of a lease: the data is gone",
        &forgotten(71),
        "trying to bootstrap a new cluster",
        &["claim", "begin Bootstrap"],
    );
    is(
        "another member bootstraps: the claim shows it",
        &Situation::empty()
            .with(|s| s.me.may_bootstrap = false)
            .no_member_has_data(),
        "no cluster yet, and this member may not make one",
        &[],
    );
    is(
        "a leader runs: its data is copied",
        &Situation::empty().led_by("b"),
        "bootstrapping from b",
        &["begin Clone from b"],
    );
    is(
        "a cluster without a leader: there is no member to copy",
        &Situation::empty(),
        "no data and no leader to copy from",
        &[],
    );
}

#[test]
fn a_replica_with_a_leader() {
    let follows = "no action. I am (a), a secondary, and following a leader (b)";
    is("all is well", &Situation::replica().led_by("b"), follows, &[]);
    is(
        "the leader has changed",
        &Situation::replica().led_by("c"),
        "no action. I am (a), a secondary, and following a leader (c)",
        &["follow c"],
    );
    is(
        "it has not streamed for long: perhaps its WAL is not the leader's",
        &Situation::replica()
            .led_by("b")
            .running(|r| r.streaming = false)
            .with(|s| {
                s.memory.not_streaming_since = Some(NOW - Duration::from_secs(4));
            }),
        &format!("{follows}; checking whether our WAL belongs to the history of b"),
        &["begin Rejoin b"],
    );
    is(
        "it seems to stream and does not come to the leader's timeline: the receiver breaks off again and again",
        &Situation::replica().led_by("b").on_timeline("b", 2).with(|s| {
            s.memory.not_streaming_since = Some(NOW - Duration::from_secs(4));
        }),
        &format!("{follows}; checking whether our WAL belongs to the history of b"),
        &["begin Rejoin b"],
    );
    is(
        "it was promoted by hand once, and rewinds have found nothing to do: only a copy helps",
        &Situation::replica()
            .led_by("b")
            .running(|r| r.timeline = Timeline(3))
            .with(|s| {
                s.memory.not_streaming_since = Some(NOW - Duration::from_secs(40));
                s.memory.checks = 3;
            }),
        &format!("{follows}; checking whether our WAL belongs to the history of b"),
        &["begin Rejoin b by a copy"],
    );
    is(
        "in synchronous mode a replica's commits would wait from the moment of its promotion on",
        &Situation::replica().led_by("b").synchronous("b", &["c"]),
        follows,
        &["SetSyncNames(\"\\\"no standby is chosen yet\\\"\")"],
    );
    is(
        "the leader key has our name and our lease: the answer to our own acquisition is on its way",
        &Situation::primary()
            .led_by("a")
            .with(|s| s.me.lease = Some(LeaseId(2))),
        "it is not known whether the lease is held: reading again",
        &["VerifyLease"],
    );
    is(
        "the leader key has our name and another life's lease",
        &Situation::primary().led_by("a"),
        "the leader key has my name but belongs to another life of me",
        &["begin StopPrimary"],
    );
    is(
        "another member leads and we run as primary",
        &Situation::primary().led_by("b"),
        "demoting self because I do not have the lock and I was a leader",
        &["begin StopPrimary"],
    );
    is(
        "a restart is asked for",
        &Situation::replica()
            .led_by("b")
            .with(|s| s.request = Some(Request::Restart)),
        "restart requested",
        &["begin Restart"],
    );
    is(
        "its data is another cluster's, as the members say that are of it",
        &Situation::replica()
            .led_by("b")
            .running(|r| (r.system_id, r.streaming) = (SystemId(2), false))
            .answers("b", 100)
            .peer("b", |peer| peer.system_id = Some("1".into())),
        "system ID mismatch: this data directory is of 2, the cluster is 1",
        &["fatal"],
    );
    is(
        "it streams: the leader's PostgreSQL has compared the identifiers, so the key is wrong",
        &Situation::replica()
            .led_by("b")
            .running(|r| r.system_id = SystemId(2)),
        follows,
        &[],
    );
}

/// The store holds another system identifier.
#[test]
fn a_wrong_identifier_in_the_store() {
    is(
        "the leader writes its own back",
        &Situation::primary()
            .leading()
            .quiet()
            .running(|r| r.system_id = SystemId(2)),
        "no action. I am (a), the leader with the lock (term 7)",
        &["put initialize 2"],
    );
    let alone = || Situation::replica().running(|r| (r.system_id, r.streaming) = (SystemId(2), false));
    let agreed = "the store names the cluster 1, and the other members agree with our data: the key is wrong";
    is(
        "there is no leader, and the others have our data: one of us writes it back and they race",
        &alone()
            .answers("b", 100)
            .peer("b", |peer| peer.system_id = Some("2".into())),
        &format!("{agreed}; no member is ahead: trying to take the lease"),
        &["put initialize 2", "acquire"],
    );
    is(
        "no member answers yet",
        &alone().asked(),
        "system ID mismatch: this data directory is of 2, the cluster is 1",
        &["ask b c"],
    );
    is(
        "no member has answered for long: a human must look",
        &alone()
            .asked()
            .with(|s| s.memory.other_system_since = Some(NOW - Duration::from_secs(20))),
        "system ID mismatch: this data directory is of 2, the cluster is 1",
        &["fatal"],
    );
}

/// The store has lost what it had: wiped, restored empty, its objects deleted.
#[test]
fn a_handover_that_was_given_up() {
    let confirmed = |situation: Situation| {
        situation.requested("a", Some("b")).with(|s| {
            if let Some(request) = &mut s.view().failover.value {
                request.confirmed = true;
            }
        })
    };
    let effects = plan(&confirmed(Situation::primary().leading().quiet())).effects;
    assert!(
        matches!(&effects[..], [Effect::Put { document, .. }, ..] if *document == Document::failover(None)),
        "what is written from now on the named successor does not have: {effects:?}"
    );
}

#[test]
fn a_store_that_forgets() {
    is(
        "the leader writes nothing: with `initialize` another one could lead while it still writes",
        &Situation::primary()
            .leading()
            .without_cluster()
            .with(|s| s.view().leader = None),
        "the store does not show our leadership (term 7): asking whether the lease is still held",
        &["VerifyLease"],
    );
    let forgotten = |seconds: u64| {
        Situation::replica()
            .running(|r| r.streaming = false)
            .without_cluster()
            .with(move |s| {
                s.memory.store_empty_since = Some(NOW - Duration::from_secs(seconds));
                s.memory.cluster_known = true;
            })
    };
    is(
        "a replica waits as long as a primary may write by its own clock",
        &forgotten(30).asked(),
        "waiting for leader to bootstrap",
        &[],
    );
    is(
        "then the most advanced of those who answer writes the cluster back",
        &forgotten(32).answers("b", 90).answers("c", 100),
        "taking the existing data into the cluster",
        &["put initialize 1", "acquire"],
    );
    is(
        "a member that has data and is about to run is waited for",
        &forgotten(32)
            .answers("b", 90)
            .peer("b", |peer| peer.running = false),
        "not racing yet: b is being started and may have more WAL",
        &[],
    );
    is(
        "who is behind does not",
        &forgotten(32).answers("b", 150),
        "not racing: b is ahead by 50 bytes",
        &[],
    );
    let alone = r#"put sync {"leader":"a","sync_standby":null,"quorum":0}"#;
    let waits = "the store has lost which members have every commit: waiting until all run, or for a failover by hand";
    let synchronous = |situation: Situation| {
        situation.with(|s| {
            s.config.synchronous_mode = SyncMode::On;
            s.memory.last_sync = Some(SyncState::new("b", &["a".to_owned()]));
        })
    };
    let all = || synchronous(forgotten(32).answers("b", 90).answers("c", 90));
    is(
        "nor does anybody in synchronous mode while a member does not answer",
        &synchronous(forgotten(32).answers("b", 90)),
        waits,
        &[],
    );
    is(
        "or answers and does not run: its position is not known",
        &all().peer("c", |peer| peer.running = false),
        waits,
        &[],
    );
    is(
        "or when we were started after that, and do not know who is missing",
        &all().with(|s| s.memory.cluster_known = false),
        waits,
        &[],
    );
    is(
        "or a member was synchronous that is not known any more",
        &all().with(|s| s.memory.last_sync = Some(SyncState::new("b", &["x".to_owned()]))),
        waits,
        &[],
    );
    is(
        "all answer: no other member has more",
        &all(),
        "taking the existing data into the cluster",
        &[alone, "put initialize 1", "acquire"],
    );
    is(
        "a request names the member that is to lead",
        &synchronous(forgotten(32).asked()).requested("", Some("a")),
        "taking the existing data into the cluster",
        &[alone, "put initialize 1", "acquire"],
    );
    is(
        "a view that lacks our own record is no basis for a race",
        &Situation::replica()
            .running(|r| r.streaming = false)
            .asked()
            .with(|s| {
                s.view().members.remove(&name("a"));
            }),
        "not racing: our own record is not in the store yet",
        &[],
    );
    is(
        "members that were known and are not in the view any more are asked as well",
        &Situation::replica().running(|r| r.streaming = false).with(|s| {
            s.view().members.remove(&name("b"));
            s.memory.store_forgot = true;
            let api = "http://b:8008".to_owned();
            s.memory.known = [(name("b"), KnownMember { api, gone: None })].into();
        }),
        "asking the other members for their position",
        &["ask b c"],
    );
}

/// A leader that cannot serve gives way to a member that can.
#[test]
fn a_leader_that_cannot_serve() {
    let down = || {
        Situation::primary()
            .leading()
            .stopped(DbState::InProduction, false)
    };
    is(
        "its start has failed: the others are asked",
        &down().with(|s| s.memory.start_failed = true),
        "asking the other members for their position",
        &["ask b c"],
    );
    is(
        "one of them can take over",
        &down().with(|s| s.memory.start_failed = true).answers("b", 100),
        "PostgreSQL does not serve here: leadership goes to b, or to the best candidate",
        &["release"],
    );
    is(
        "none can: it is tried again",
        &down().with(|s| s.memory.start_failed = true).asked(),
        "starting primary after failure, in place under the lease (term 7)",
        &["begin StartPrimary term 7"],
    );
    is(
        "it starts, and dies again: what it has counts, and it is started in place",
        &down().with(|s| s.memory.restarts = 5).answers("b", 100),
        "starting primary after failure, in place under the lease (term 7)",
        &["begin StartPrimary term 7"],
    );
    is(
        "as soon as it serves it hands over in order",
        &Situation::primary()
            .leading()
            .with(|s| s.memory.restarts = 3)
            .answers("b", 100),
        "no action. I am (a), the leader with the lock (term 7); \
         PostgreSQL dies again and again here: handing over to b",
        &["begin HandOver to b"],
    );
    is(
        "it does not even come to that",
        &down().with(|s| s.memory.restarts = 6).answers("b", 100),
        "PostgreSQL does not serve here: leadership goes to b, or to the best candidate",
        &["release"],
    );
    is(
        "a failover is requested meanwhile",
        &down().requested("", Some("c")).answers("c", 100),
        "handing over to c",
        &["release"],
    );
    is(
        "its promotion has failed, on a full disk for example",
        &Situation::replica()
            .leading()
            .with(|s| s.memory.start_failed = true)
            .answers("b", 100),
        "PostgreSQL does not serve here: leadership goes to b, or to the best candidate",
        &["release"],
    );
    let starting = "waiting for PostgreSQL to accept connections";
    is(
        "crash recovery has its time",
        &Situation::primary()
            .leading()
            .unavailable(false, 200)
            .answers("b", 100),
        starting,
        &[],
    );
    is(
        "which is counted from when it served last, whatever was tried since",
        &Situation::primary()
            .leading()
            .unavailable(false, 2)
            .answers("b", 100)
            .with(|s| s.memory.not_serving_since = Some(NOW - Duration::from_secs(301))),
        &format!(
            "{starting}; PostgreSQL does not serve here: leadership goes to b, or to the best candidate"
        ),
        &["begin GiveUp"],
    );
    is(
        "a server that does not answer any more is killed, and leadership given back",
        &Situation::primary()
            .leading()
            .unavailable(true, 10)
            .answers("b", 100),
        "PostgreSQL has not answered since 990.000s; \
         PostgreSQL does not serve here: leadership goes to b, or to the best candidate",
        &["begin GiveUp"],
    );
    is(
        "unless no member can take over",
        &Situation::primary().leading().unavailable(true, 19).asked(),
        "PostgreSQL has not answered since 981.000s",
        &[],
    );
    is(
        "then it is started in place",
        &Situation::primary().leading().unavailable(true, 20).asked(),
        "PostgreSQL has not answered since 980.000s",
        &["begin KillServer"],
    );
    is(
        "it was started by hand: before anything else the guard must be able to fence it",
        &Situation::primary().with(|s| {
            s.unguarded = Some(Unguarded {
                pid: 7,
                may_write: true,
            });
        }),
        "the guard knows nothing of the PostgreSQL that runs (pid 7): taking it over",
        &["adopt 7"],
    );
    is(
        "its data is gone and it still runs",
        &Situation::primary().leading().with(|s| {
            s.postgres = Postgres::Missing;
            s.server_runs = true;
        }),
        "PostgreSQL runs and its data is gone: killing it",
        &["begin KillServer"],
    );
}

#[test]
fn the_race() {
    let race = || Situation::replica().running(|r| r.streaming = false);
    is(
        "first the receiver is held, so that two that compare do not refuse each other",
        &Situation::replica(),
        "the leader is gone but its WAL still comes: stopping the receiver first",
        &["follow no server"],
    );
    is(
        "then the others are asked",
        &race(),
        "asking the other members for their position",
        &["ask b c"],
    );
    is(
        "no member is ahead",
        &race().answers("b", 100).answers("c", 90),
        "no member is ahead: trying to take the lease",
        &["acquire"],
    );
    let quorum = |situation: Situation| {
        situation.synchronous("x", &["a", "b", "c"]).with(|s| {
            s.config.synchronous_quorum = true;
            s.view().sync.value.as_mut().unwrap().quorum = 1;
        })
    };
    let alone = || race().running(|r| r.upstream = None);
    is(
        "in quorum mode a member that may come to stream again from the one that led lets go first",
        &quorum(race().answers("b", 100)),
        "the leader is gone but its WAL still comes: stopping the receiver first",
        &["follow no server"],
    );
    is(
        "and one of the other voters must have no more than we",
        &quorum(alone().answers("b", 100)),
        "no member is ahead: trying to take the lease",
        &["acquire"],
    );
    is(
        "none of them answers: one may have what we lack",
        &quorum(alone().asked()),
        "not racing: 0 of the 1 other synchronous standbys that must answer have no more than this member, commits could be lost",
        &[],
    );
    is(
        "what one has answered before it was asked in this race counts for nothing",
        &quorum(alone().answers("b", 100)).with(|s| {
            s.view().members.remove(&name("b"));
            s.view().members.remove(&name("c"));
        }),
        "not racing: 0 of the 1 other synchronous standbys that must answer have no more than this member, commits could be lost",
        &[],
    );
    is(
        "the vote of one that has not let go counts for nothing, and it is asked again",
        &quorum(alone().answers("b", 100))
            .peer("b", |peer| peer.attached = true)
            .with(|s| s.peers.asked_at = Some(NOW - Duration::from_millis(600))),
        "not racing: 0 of the 1 other synchronous standbys that must answer have no more than this member, commits could be lost",
        &["ask b c"],
    );
    is(
        "the last leader answers and is being started: it may have what no other member has",
        &race()
            .answers("c", 100)
            .peer("c", |peer| (peer.running, peer.starting) = (false, true))
            .with(|s| {
                s.memory.last_leader = Some(LastLeader {
                    name: name("c"),
                    lease: None,
                    ours: true,
                });
            }),
        "not racing yet: c is being started and may have more WAL",
        &[],
    );
    is(
        "but not for ever",
        &race()
            .answers("c", 100)
            .peer("c", |peer| (peer.running, peer.starting) = (false, true))
            .with(|s| s.memory.leaderless_since = Some(NOW - Duration::from_secs(31)))
            .answers("b", 100),
        "no member is ahead: trying to take the lease",
        &["acquire"],
    );
    is(
        "maintenance mode: asked for by name, and the old primary does not answer",
        &race().requested("", Some("a")).asked().with(|s| {
            s.config.pause = true;
            s.peers.asked = [name("b")].into();
            s.memory.last_leader = Some(LastLeader {
                name: name("b"),
                lease: None,
                ours: true,
            });
        }),
        "not taking over in maintenance mode: b does not answer and may still take writes",
        &[],
    );
    is(
        "maintenance mode: asked for by name, and the old primary says that it is none",
        &race().requested("", Some("a")).answers("b", 100).with(|s| {
            s.config.pause = true;
            s.memory.last_leader = Some(LastLeader {
                name: name("b"),
                lease: None,
                ours: true,
            });
        }),
        "asked to take over",
        &["acquire"],
    );
    is(
        "who does not answer has no veto",
        &race().asked(),
        "no member is ahead: trying to take the lease",
        &["acquire"],
    );
    is(
        "a member is ahead",
        &race().answers("b", 150),
        "not racing: b is ahead by 50 bytes",
        &[],
    );
    is(
        "a later timeline is ahead, wherever it ends",
        &race()
            .answers("b", 50)
            .peer("b", |peer| peer.timeline = Some(Timeline(2))),
        "not racing: b is on a later timeline",
        &[],
    );
    is(
        "an earlier timeline is behind, wherever it ends",
        &race().running(|r| r.timeline = Timeline(2)).answers("b", 150),
        "no member is ahead: trying to take the lease",
        &["acquire"],
    );
    is(
        "a member says that it is primary",
        &race().answers("b", 10).peer("b", |peer| peer.primary = true),
        "not racing: b is still a running primary",
        &[],
    );
    is(
        "equal, and the other has the higher priority",
        &race().answers("b", 100).peer("b", |peer| peer.priority = 2),
        "not racing: b has the same WAL and a higher priority",
        &[],
    );
    is(
        "too far behind what the leader has published",
        &race().with(|s| s.view().status.optime = Some(Lsn(100 + 2_000_000))),
        "not racing: behind by 2000000 bytes (limit 1048576)",
        &[],
    );
    is(
        "tagged nofailover",
        &race().tagged("nofailover", true),
        "not racing: tagged nofailover",
        &[],
    );
    is(
        "synchronous mode, and not a synchronous standby",
        &race().synchronous("b", &["c"]).asked(),
        "not racing: not a synchronous standby, commits could be lost",
        &[],
    );
    is(
        "synchronous mode, and the synchronous standby",
        &race().synchronous("b", &["a"]).asked(),
        "no member is ahead: trying to take the lease",
        &["acquire"],
    );
    is(
        "the last leader was an agent of Patroni: it may still write for a moment",
        &race().asked().with(|s| {
            s.memory.last_leader = Some(LastLeader {
                name: name("b"),
                lease: None,
                ours: false,
            });
        }),
        "giving b, which is not a Howdah agent, time to stop",
        &["ask b"],
    );
    is(
        "maintenance mode",
        &race().with(|s| s.config.pause = true),
        "PAUSE: no action. I am (a)",
        &[],
    );
    is(
        "asked for by name, and the leader has confirmed that we have everything",
        &race().requested("b", Some("a")).with(|s| {
            s.view().failover.value.as_mut().unwrap().confirmed = true;
        }),
        "asked to take over",
        &["acquire"],
    );
    is(
        "asked for by name, and the leader died before it looked: the others may have more",
        &race().requested("b", Some("a")).answers("c", 150),
        "not racing: c is ahead by 50 bytes",
        &[],
    );
    is(
        "asked for by name, by a switchover from a member that did not lead",
        &race().requested("c", Some("a")).answers("b", 150).with(|s| {
            s.memory.last_leader = Some(LastLeader {
                name: name("b"),
                lease: None,
                ours: true,
            });
        }),
        "not racing: b is ahead by 50 bytes",
        &[],
    );
    is(
        "another member was requested, and answers",
        &race().requested("b", Some("c")).answers("c", 100),
        "waiting for c to take over",
        &[],
    );
    is(
        "the store was wiped: a replica is no seed for a cluster whose primary may live",
        &race().asked().without_cluster(),
        "waiting for leader to bootstrap",
        &[],
    );
}

#[test]
fn holding_the_lease() {
    is(
        "won: promoted under the term",
        &Situation::replica().leading(),
        "promoting self to leader (term 7)",
        &["begin Promote term 7"],
    );
    is(
        "won, but the view is older than the leadership",
        &Situation::replica().leading().with(|s| s.view().leader = None),
        "the store does not show our leadership (term 7): asking whether the lease is still held",
        &["VerifyLease"],
    );
    is(
        "won in synchronous mode, and the second look shows that we are no standby",
        &Situation::replica().leading().synchronous("b", &["c"]),
        "not racing: not a synchronous standby, commits could be lost",
        &["release"],
    );
    is(
        "won in synchronous mode: first no other member may take over, then PostgreSQL writes",
        &Situation::replica().leading().synchronous("b", &["a"]),
        "promoting self to leader (term 7)",
        &[
            "put sync {\"leader\":\"a\",\"sync_standby\":null,\"quorum\":0}",
            "SetSyncNames(\"\\\"no standby is chosen yet\\\"\")",
            "begin Promote term 7",
        ],
    );
    is(
        "it is over in a moment: nothing is begun",
        &Situation::replica()
            .leading()
            .with(|s| s.now = NOW + Duration::from_secs(100)),
        "it is not known whether the lease is held: reading again",
        &[],
    );
    is(
        "PostgreSQL has died: in place",
        &Situation::primary()
            .leading()
            .stopped(DbState::InProduction, false),
        "starting primary after failure, in place under the lease (term 7)",
        &["begin StartPrimary term 7"],
    );
    is(
        "and what has failed with it does not hold that up",
        &Situation::primary()
            .leading()
            .stopped(DbState::InProduction, false)
            .failed("checkpoint"),
        "starting primary after failure, in place under the lease (term 7)",
        &["begin StartPrimary term 7"],
    );
    is(
        "but the start itself has failed a moment ago",
        &Situation::primary()
            .leading()
            .stopped(DbState::InProduction, false)
            .failed("starting as primary"),
        "starting primary after failure, in place under the lease (term 7); starting as primary failed; next try at 1003.000s",
        &[],
    );
    is(
        "a rewind was not finished: a member that can read its data may lead",
        &Situation::primary().leading().stopped(DbState::ShutDown, true),
        "a rewind was not finished: the data waits for a leader to be copied from",
        &["release"],
    );
    is(
        "the data is gone",
        &Situation::primary()
            .leading()
            .with(|s| s.postgres = Postgres::Missing),
        "",
        &["release"],
    );
}

#[test]
fn the_synchronous_standby() {
    let alone = || {
        Situation::primary()
            .leading()
            .quiet()
            .synchronous("a", &[])
            .running(|r| r.walsenders.truncate(1))
    };
    let names = |text: &'static str| move |r: &mut howdah_ha::Running| r.sync_names = text.into();
    let leading = "no action. I am (a), the leader with the lock (term 7)";
    let making = format!("{leading}; making b the synchronous standby");
    let no_standby = "SetSyncNames(\"\\\"no standby is chosen yet\\\"\")";
    is(
        "a standby streams, and the setting was empty: first commits wait for a name that no standby has",
        &alone(),
        &making,
        &[no_standby],
    );
    is(
        "whether they do is looked at: the checkpointer may not have read the setting",
        &alone().running(names(NOBODY)),
        &format!("{making}; looking whether commits wait"),
        &["ProveCommitsWait"],
    );
    is(
        "a new agent that finds a standby's name, and nothing published, begins from there",
        &alone().running(names("\"b\"")),
        &making,
        &[no_standby],
    );
    let proved = || alone().with(|s| s.memory.commits_wait = true);
    is(
        "then they wait for the standby",
        &proved().running(names(NOBODY)),
        &making,
        &["SetSyncNames(\"\\\"b\\\"\")"],
    );
    let waits = || {
        proved()
            .running(names("\"b\""))
            .running(|r| r.walsenders[0].sync = true)
    };
    is("its process has not read the setting yet", &waits(), &making, &[]);
    let confirms = || waits().running(|r| r.walsenders[0].priority = 1);
    let since = |lsn: u64| {
        move |s: &mut howdah_ha::Snapshot| s.memory.sync_since = Some(("0 of b".into(), Lsn(lsn), NOW))
    };
    is(
        "it has: new WAL makes it report, so that commits that wait already are released",
        &confirms().with(|s| s.memory.sync_nudge = true),
        &making,
        &["NudgeStandby"],
    );
    is(
        "and has everything that was flushed since: it is published",
        &confirms().with(since(100)),
        &making,
        &["put sync {\"leader\":\"a\",\"sync_standby\":\"b\",\"quorum\":0}"],
    );
    is("it lacks something", &confirms().with(since(101)), &making, &[]);
    is(
        "with remote_apply it must have replayed it",
        &confirms().with(since(100)).running(|r| {
            r.commit_level = CommitLevel::Apply;
            r.walsenders[0].replayed = Lsn(99);
        }),
        &making,
        &[],
    );
    is(
        "another process still takes its standby's word",
        &confirms()
            .with(since(100))
            .with(|s| s.memory.sync_known = true)
            .running(|r| {
                let other = howdah_ha::WalSender {
                    name: "x".into(),
                    ..r.walsenders[0].clone()
                };
                r.walsenders.push(other);
            }),
        &making,
        &[],
    );
    is(
        "two processes have its name: PostgreSQL would take the word of either",
        &confirms().with(since(100)).running(|r| {
            let twin = r.walsenders[0].clone();
            r.walsenders.push(twin);
        }),
        &format!("{leading}; waiting for a standby before going on alone"),
        &[],
    );
    is(
        "who has not come to our timeline is none: its positions are another history's",
        &alone().running(|r| r.timeline = Timeline(2)),
        leading,
        &["WriteHistory", "begin Checkpoint"],
    );
    is(
        "the higher priority wins over the present one, which stays until the other has everything: first all processes wait for two",
        &Situation::primary()
            .leading()
            .quiet()
            .synchronous("a", &["b"])
            .running(names("\"b\""))
            .with(|s| {
                let record = s.view().members.get_mut(&name("c")).unwrap();
                record.tags = serde_json::from_str(r#"{"sync_priority": 5}"#).unwrap();
            }),
        &format!("{leading}; making c the synchronous standby"),
        &["SetSyncNames(\"2 (\\\"no standby is chosen yet\\\",\\\"b\\\")\")"],
    );
    let none = || alone().running(|r| r.walsenders.clear());
    is(
        "strict, and no standby is fit: commits wait for a name that no standby has, not for any",
        &none().with(|s| s.config.synchronous_mode = SyncMode::Strict),
        &format!("{leading}; no synchronous standby"),
        &[no_standby],
    );
    is(
        "not strict, and a member runs that may stream in a moment: it is waited for",
        &none().running(names("\"b\"")),
        &format!("{leading}; waiting for a standby before going on alone"),
        &[],
    );
    is(
        "not strict, and it has not come",
        &none().running(names("\"b\"")).with(|s| {
            s.memory.no_standby_since = Some(NOW - Duration::from_secs(2));
        }),
        &format!("{leading}; no synchronous standby"),
        &["SetSyncNames(\"\")"],
    );
    is(
        "what was written to the store may still arrive: it is written over before commits go on alone",
        &none().running(names("\"b\"")).with(|s| {
            s.memory.no_standby_since = Some(NOW - Duration::from_secs(2));
            let rev = s.view().sync.rev;
            s.memory.sync_put = vec![(rev, SyncState::new("a", &["b".to_owned()]))];
        }),
        leading,
        &["put sync {\"leader\":\"a\",\"sync_standby\":null,\"quorum\":0}"],
    );
    is(
        "not strict, and no standby is there: at once",
        &none().running(names(NOBODY)).with(|s| {
            s.view().members.retain(|member, _| *member == name("a"));
        }),
        &format!("{leading}; no synchronous standby"),
        &["SetSyncNames(\"\")"],
    );
    is(
        "it is gone: first the store forgets it, then PostgreSQL",
        &Situation::primary()
            .leading()
            .quiet()
            .synchronous("a", &["b"])
            .running(|r| r.walsenders.clear()),
        &format!("{leading}; the synchronous standby is gone"),
        &["put sync {\"leader\":\"a\",\"sync_standby\":null,\"quorum\":0}"],
    );
    is(
        "the setting was emptied by hand: the published standby may lack commits by now",
        &Situation::primary().leading().quiet().synchronous("a", &["b"]),
        &format!("{leading}; the synchronous standby is gone"),
        &["put sync {\"leader\":\"a\",\"sync_standby\":null,\"quorum\":0}"],
    );
    is(
        "the mode is off and the name is ours: it goes, also for an agent that did not set it",
        &alone().running(names(NOBODY)).with(|s| {
            s.config.synchronous_mode = SyncMode::Off;
            s.view().sync.value = None;
        }),
        leading,
        &["SetSyncNames(\"\")"],
    );
}

#[test]
fn a_former_primary() {
    is(
        "stays closed for a while, so that load balancers notice that it is no primary",
        &Situation::primary()
            .led_by("b")
            .stopped(DbState::ShutDown, false)
            .with(|s| s.memory.closed_until = Some(NOW + Duration::from_secs(3))),
        "closed until 1003.000s, so that load balancers notice the switchover",
        &[],
    );
    is(
        "not where commits wait for it",
        &Situation::primary()
            .led_by("b")
            .stopped(DbState::ShutDown, false)
            .with(|s| {
                s.memory.closed_until = Some(NOW + Duration::from_secs(3));
                s.config.synchronous_mode = SyncMode::On;
                s.view().members.remove(&name("c"));
            }),
        "checking whether our WAL belongs to the history of b",
        &["begin Rejoin b"],
    );
    is(
        "comes back through a comparison with the leader's history",
        &Situation::primary()
            .led_by("b")
            .stopped(DbState::InProduction, false),
        "checking whether our WAL belongs to the history of b",
        &["begin Rejoin b"],
    );
    is(
        "waits until the leader can be compared with",
        &Situation::primary()
            .led_by("b")
            .stopped(DbState::ShutDown, false)
            .with(|s| s.record("b", "replica")),
        "waiting until b is primary and has a checkpoint",
        &[],
    );
    is(
        "a replica need not compare: it runs, so that a leader that never comes up can give way to it",
        &Situation::primary()
            .led_by("b")
            .stopped(DbState::ShutDownInRecovery, false)
            .with(|s| {
                s.record("b", "replica");
                if let Postgres::Stopped(stopped) = &mut s.postgres {
                    stopped.standby = true;
                }
            }),
        "no action. I am (a), a secondary, and following a leader (b)",
        &["begin StartReplica"],
    );
    is(
        "a replica of another promotion to the leader's number does not start to stream: that would write over what tells them apart",
        &Situation::primary()
            .led_by("b")
            .stopped(DbState::ShutDownInRecovery, false)
            .with(|s| {
                let begun = |by: &str| Origins::from([(Timeline(2), by.to_owned())]);
                let members = &mut s.view().members;
                let mark = members.get_mut(&name("b")).unwrap().howdah.as_mut().unwrap();
                mark.origins = begun("b");
                if let Postgres::Stopped(stopped) = &mut s.postgres {
                    stopped.standby = true;
                    stopped.origins = begun("a");
                }
            }),
        "checking whether our WAL belongs to the history of b",
        &["begin Rejoin b"],
    );
}

#[test]
fn a_switchover() {
    let asked = || Situation::primary().leading().quiet().requested("a", Some("b"));
    let leading = "no action. I am (a), the leader with the lock (term 7)";
    is(
        "the candidate is asked first",
        &asked(),
        &format!("{leading}; asking the other members for their position"),
        &["ask b"],
    );
    is(
        "it streams and is near",
        &asked().answers("b", 100),
        &format!("{leading}; handing over to b"),
        &["begin HandOver to b"],
    );
    let later = |s: &mut howdah_ha::Snapshot| {
        s.memory.no_candidate_since = Some(NOW - Duration::from_secs(6));
    };
    is(
        "it does not stream: it would lack the end, so it has five seconds, then the request is dropped",
        &asked()
            .answers("b", 100)
            .running(|r| r.walsenders.clear())
            .with(later),
        &format!("{leading}; no member can take over: the request is dropped"),
        &["put failover {}"],
    );
    is(
        "a failover by hand does not ask for that",
        &asked()
            .requested("", Some("b"))
            .answers("b", 100)
            .running(|r| r.walsenders.clear()),
        &format!("{leading}; handing over to b"),
        &["begin HandOver to b, may lose"],
    );
    is(
        "it lags too much",
        &asked()
            .running(|r| r.lsn = Lsn(3_000_000))
            .answers("b", 100)
            .with(later),
        &format!("{leading}; no member can take over: the request is dropped"),
        &["put failover {}"],
    );
    is(
        "it was meant for another leader",
        &asked().requested("c", None),
        &format!("{leading}; the request names c as leader: it is dropped"),
        &["put failover {}"],
    );
}

#[test]
fn the_store_is_down() {
    let down = |situation: Situation| situation.with(|s| s.dcs = howdah_ha::Dcs::Down { since: NOW });
    is(
        "a leader goes on while its lease lasts; the guard knows how long",
        &down(Situation::primary().leading()),
        "the store does not answer; leading until 1020.000s on the last lease",
        &[],
    );
    is(
        "a replica goes on",
        &down(Situation::replica()),
        "DCS is not accessible (since 1000.000s)",
        &[],
    );
    is(
        "what the guard has stopped can at least be read",
        &down(Situation::primary().stopped(DbState::ShutDown, false)),
        "DCS is not accessible (since 1000.000s)",
        &["begin StartReplica"],
    );
}

/// Deciding twice in the same situation is deciding once, and nothing is decided while something long runs.
#[test]
fn a_long_action_is_left_alone() {
    let busy = Situation::replica().with(|s| {
        s.action = Some(howdah_ha::RunningAction {
            action: howdah_ha::Action::Bootstrap,
            since: NOW,
        });
    });
    is("it runs", &busy, "bootstrap in progress", &[]);
    let once = plan(&busy);
    assert_eq!(once, plan(&busy));
    assert!(once.effects.iter().map(brief).next().is_none());
}

/// Two members whose servers have died three times each would hand over to each other again and again.
#[test]
fn crashes_count_within_one_leadership() {
    let crashed = |situation: Situation| situation.with(|s| s.memory.restarts = 3);
    let led = plan(&crashed(Situation::primary().leading()));
    assert_eq!(led.memory.restarts, 3, "it leads");
    let follows = plan(&crashed(Situation::replica().led_by("b")));
    assert_eq!(follows.memory.restarts, 0, "another one leads");
}

#[test]
fn a_cluster_that_follows_another_one() {
    let follows = |situation: Situation| {
        situation.leading().quiet().with(|s| {
            s.config.standby = Some(howdah_config::StandbyCluster {
                host: Some("remote".into()),
                port: 5432,
                slot: None,
                recovery: Default::default(),
                methods: vec![],
            });
        })
    };
    let standby_leader = "no action. I am (a), the standby leader with the lock";
    is(
        "its leader follows the other cluster, and is not promoted",
        &follows(Situation::replica()),
        standby_leader,
        &["follow remote"],
    );
    let settled = |r: &mut howdah_ha::Running| r.upstream = Some(("remote".into(), 5432));
    is(
        "nothing comes from there yet: that may be a matter of seconds",
        &follows(Situation::replica())
            .running(settled)
            .running(|r| r.streaming = false),
        standby_leader,
        &[],
    );
    is(
        "the section is gone: it is promoted",
        &follows(Situation::replica())
            .running(settled)
            .with(|s| s.config.standby = None),
        "promoting self to leader (term 7)",
        &["begin Promote term 7"],
    );
    is(
        "a primary begins to follow: it is stopped in order and keeps the lease",
        &follows(Situation::primary()),
        "demoting: the cluster is to follow another one",
        &["begin DemoteCluster"],
    );
    is(
        "it may have WAL that the other cluster never got",
        &follows(Situation::primary()).stopped(DbState::ShutDown, false),
        standby_leader,
        &["begin Rejoin remote"],
    );
    is(
        "in maintenance mode nothing is stopped",
        &follows(Situation::primary()).with(|s| s.config.pause = true),
        "no action. I am (a), the leader with the lock (term 7)",
        &[],
    );
}

#[test]
fn failsafe_mode() {
    let address = |member: &str| (name(member), format!("http://{member}:8008/patroni"));
    let topology = move |members: &[&str]| members.iter().map(|member| address(member)).collect::<Topology>();
    let mode = |situation: Situation| situation.with(|s| s.config.failsafe_mode = true);
    let leads = || mode(Situation::primary().leading().quiet());
    is(
        "a leader writes whom it would ask, and asks none before what it has written stands there",
        &leads(),
        "no action. I am (a), the leader with the lock (term 7)",
        &[
            "put failsafe {\"a\":\"http://a:8008/patroni\",\"b\":\"http://b:8008/patroni\",\"c\":\"http://c:8008/patroni\"}",
        ],
    );
    let written = |members: &'static [&'static str]| {
        leads().with(move |s| {
            s.view().failsafe.value = Some(topology(members));
            s.view().failsafe.rev = 5;
            s.memory.topology = Some(Written {
                term: Term(7),
                found: 0,
                put: Some(4),
                members: topology(&["a", "b", "c"]),
            });
        })
    };
    is(
        "then the keeper asks them",
        &written(&["a", "b", "c"]),
        "no action. I am (a), the leader with the lock (term 7)",
        &["failsafe b c"],
    );
    is(
        "whoever may be in the store is asked, and the store names only whom the keeper asks",
        &written(&["a", "x"]).with(move |s| s.failsafe.covered = topology(&["b"])),
        "no action. I am (a), the leader with the lock (term 7)",
        &[
            "failsafe b c x",
            "put failsafe {\"a\":\"http://a:8008/patroni\",\"b\":\"http://b:8008/patroni\"}",
        ],
    );
    is(
        "what was sent may still arrive: it is written again",
        &written(&["a", "b", "c"]).with(move |s| {
            s.memory.topology.as_mut().unwrap().put = Some(5);
            s.failsafe.asks = Some(topology(&["b", "c"]));
            s.failsafe.covered = topology(&["b", "c"]);
        }),
        "no action. I am (a), the leader with the lock (term 7)",
        &[
            "put failsafe {\"a\":\"http://a:8008/patroni\",\"b\":\"http://b:8008/patroni\",\"c\":\"http://c:8008/patroni\"}",
        ],
    );
    is(
        "while promises count the topology stays",
        &written(&["a", "b", "c"]).with(|s| {
            s.config.failsafe_mode = false;
            s.failsafe.idle = false;
        }),
        "no action. I am (a), the leader with the lock (term 7)",
        &[],
    );
    is(
        "the mode was turned off",
        &written(&["a", "b", "c"]).with(|s| s.config.failsafe_mode = false),
        "no action. I am (a), the leader with the lock (term 7)",
        &["delete failsafe"],
    );
    is(
        "it leads without the store",
        &leads().with(|s| {
            s.failsafe.leads = true;
            s.dcs = Dcs::Down { since: NOW };
        }),
        "continue to run as a leader because failsafe mode is enabled and all members are accessible (until 1020.000s)",
        &[],
    );
    let race = || {
        mode(Situation::replica().running(|r| r.streaming = false))
            .answers("b", 100)
            .answers("c", 90)
    };
    is(
        "a member that a leader without the store would not ask does not lead",
        &race().with(move |s| s.view().failsafe.value = Some(topology(&["b", "c"]))),
        "not racing: not in the failsafe topology, a leader that cannot reach the store would not ask this member",
        &[],
    );
    is(
        "nor when the mode was turned off: that leader may not know it",
        &race().with(move |s| {
            s.view().failsafe.value = Some(topology(&["b", "c"]));
            s.config.failsafe_mode = false;
        }),
        "not racing: not in the failsafe topology, a leader that cannot reach the store would not ask this member",
        &[],
    );
    is(
        "by hand it does at once",
        &race()
            .with(move |s| s.view().failsafe.value = Some(topology(&["b", "c"])))
            .requested("", Some("a")),
        "asked to take over",
        &["acquire"],
    );
    let promise = |asked: u64| Promise {
        leader: name("b"),
        conn_url: "postgres://b:5432/postgres".to_owned(),
        api_url: "http://b:8008/patroni".to_owned(),
        asked: Some(BootTime::from_secs(asked)),
        until: NOW + Duration::from_secs(10),
    };
    is(
        "a member follows the leader that it has promised not to replace",
        &race().with(move |s| s.promise = Some(promise(50))),
        "failsafe mode: b goes on as leader without the store, until 1010.000s at least; \
            no action. I am (a), a secondary, and following a leader (b)",
        &[],
    );
    is(
        "a promise that is not needed any more is forgotten",
        &race().with(move |s| {
            s.promise = Some(promise(50));
            let b = s.view().members.get_mut(&name("b")).unwrap();
            b.howdah.get_or_insert_default().settled = Some(BootTime::from_secs(50));
        }),
        "no action. I am (a), a secondary, and following a leader (b)",
        &["forget b"],
    );
}
