//! What a member decides in typical situations, one after the other: who has asked what, what is seen, what follows.
//! The model looks for situations that nobody thought of; this is the list of those that somebody did.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod situation;

use std::time::Duration;

use howdah_ha::{LastLeader, Postgres, Request};
use howdah_pgconf::DbState;
use howdah_types::{Lsn, SystemId, Timeline};
use situation::{NOW, Shorthand, Situation, brief, is, name, plan};

#[test]
fn without_data() {
    is(
        "a new cluster: whoever may makes it, under a claim",
        &Situation::empty().without_cluster(),
        "trying to bootstrap a new cluster",
        &["claim", "begin Bootstrap"],
    );
    is(
        "somebody else bootstraps: the claim tells",
        &Situation::empty()
            .with(|s| s.me.may_bootstrap = false)
            .without_cluster(),
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
        "a cluster without a leader: there is nobody to copy",
        &Situation::empty(),
        "no data and no leader to copy from",
        &[],
    );
}

#[test]
fn a_replica_with_a_leader() {
    let follows = "no action. I am a secondary, following a leader (b)";
    is("all is well", &Situation::replica().led_by("b"), follows, &[]);
    is(
        "the leader has changed",
        &Situation::replica().led_by("c"),
        "no action. I am a secondary, following a leader (c)",
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
        "the leader key has our name and another life's lease",
        &Situation::primary().led_by("a"),
        "the leader key has my name but belongs to another life of me",
        &["begin StopPrimary"],
    );
    is(
        "somebody else leads and we run as primary",
        &Situation::primary().led_by("b"),
        "demoting self: somebody else leads",
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
        "its data is another cluster's",
        &Situation::replica()
            .led_by("b")
            .running(|r| r.system_id = SystemId(2)),
        "system ID mismatch: this data directory is of 2, the cluster is 1",
        &["fatal"],
    );
}

#[test]
fn the_race() {
    let race = || Situation::replica().running(|r| r.streaming = false);
    is(
        "first the receiver is held, so that two that compare do not refuse each other",
        &Situation::replica(),
        "the leader is gone but its WAL still comes: stopping the receiver first",
        &["follow nobody"],
    );
    is(
        "then the others are asked",
        &race(),
        "asking the other members for their position",
        &["ask b c"],
    );
    is(
        "nobody is ahead",
        &race().answers("b", 100).answers("c", 90),
        "nobody is ahead: trying to take the lease",
        &["acquire"],
    );
    is(
        "who does not answer has no veto",
        &race().asked(),
        "nobody is ahead: trying to take the lease",
        &["acquire"],
    );
    is(
        "somebody is ahead",
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
        "nobody is ahead: trying to take the lease",
        &["acquire"],
    );
    is(
        "somebody says that it is primary",
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
        "nobody is ahead: trying to take the lease",
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
        "PAUSE: no action",
        &[],
    );
    is(
        "asked for by name",
        &race().requested("b", Some("a")),
        "asked to take over",
        &["acquire"],
    );
    is(
        "somebody else was asked for, and answers",
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
        "it is not known whether the lease is held; reading again",
        &[],
    );
    is(
        "won in synchronous mode, and the second look shows that we are no standby",
        &Situation::replica().leading().synchronous("b", &["c"]),
        "not racing: not a synchronous standby, commits could be lost",
        &["release"],
    );
    is(
        "won in synchronous mode: first nobody else may take over, then PostgreSQL writes",
        &Situation::replica().leading().synchronous("b", &["a"]),
        "promoting self to leader (term 7)",
        &[
            "put sync {\"leader\":\"a\",\"sync_standby\":null,\"quorum\":0}",
            "begin Promote term 7",
        ],
    );
    is(
        "it is over in a moment: nothing is begun",
        &Situation::replica()
            .leading()
            .with(|s| s.now = NOW + Duration::from_secs(100)),
        "it is not known whether the lease is held; reading again",
        &[],
    );
    is(
        "PostgreSQL has died: in place",
        &Situation::primary()
            .leading()
            .stopped(DbState::InProduction, false),
        "starting in place under the lease (term 7)",
        &["begin StartPrimary term 7"],
    );
    is(
        "and what has failed with it does not hold that up",
        &Situation::primary()
            .leading()
            .stopped(DbState::InProduction, false)
            .failed("checkpoint"),
        "starting in place under the lease (term 7)",
        &["begin StartPrimary term 7"],
    );
    is(
        "but the start itself has failed a moment ago",
        &Situation::primary()
            .leading()
            .stopped(DbState::InProduction, false)
            .failed("starting as primary"),
        "starting in place under the lease (term 7); starting as primary failed; next try at 1003.000s",
        &[],
    );
    is(
        "a rewind was not finished: whoever can read its data may lead",
        &Situation::primary().leading().stopped(DbState::ShutDown, true),
        "a rewind was not finished: the data waits for a leader to be rewound against",
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
    let alone = || Situation::primary().leading().quiet().synchronous("a", &[]);
    let leading = "no action. I am the leader with the lock (term 7)";
    is(
        "somebody streams: first PostgreSQL waits for it",
        &alone(),
        &format!("{leading}; making b the synchronous standby"),
        &["SetSyncNames(\"\\\"b\\\"\")"],
    );
    is(
        "who has not come to our timeline is none: its positions are another history's",
        &alone().running(|r| r.timeline = Timeline(2)),
        leading,
        &["WriteHistory", "begin Checkpoint"],
    );
    is(
        "strict, and nobody is fit: commits wait for nobody's name, not for anybody's",
        &alone()
            .running(|r| r.walsenders.clear())
            .with(|s| s.config.synchronous_mode = howdah_config::SyncMode::Strict),
        &format!("{leading}; no synchronous standby"),
        &["SetSyncNames(\"\\\"no standby is chosen yet\\\"\")"],
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
}

#[test]
fn a_former_primary() {
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
}

#[test]
fn a_switchover() {
    let asked = || Situation::primary().leading().quiet().requested("a", Some("b"));
    let leading = "no action. I am the leader with the lock (term 7)";
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
        "the store has not answered since 1000.000s",
        &[],
    );
    is(
        "what the guard has stopped can at least be read",
        &down(Situation::primary().stopped(DbState::ShutDown, false)),
        "the store has not answered since 1000.000s",
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
