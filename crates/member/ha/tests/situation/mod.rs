//! Situations: member `a` of a cluster of `a`, `b` and `c`, as a snapshot.

#![allow(dead_code, reason = "each test program takes what it needs")]

use std::time::Duration;

use howdah_config::{LocalConfig, Source, dynamic_from, load};
use howdah_dcs::{FailoverRequest, LeaderKey, LeaseId, Member, SyncState, Term, View};
use howdah_ha::{
    Action, CommitLevel, Dcs, Effect, LeaseState, Me, Peer, Peers, Plan, Postgres, Running,
    Snapshot as Inner, Stopped, WalSender, decide,
};
use howdah_pgconf::DbState;
use howdah_types::{BootTime, Lsn, MemberName, SystemId, Tags, Timeline};
use serde_json::{Value, json};

/// When all of this happens.
pub const NOW: BootTime = BootTime(1_000_000_000_000);

/// A snapshot under construction.
pub struct Situation(Inner);

/// Shorthands on the snapshot itself.
pub trait Shorthand {
    fn view(&mut self) -> &mut View;
    fn record(&mut self, name: &str, role: &str);
}

impl Shorthand for Inner {
    fn view(&mut self) -> &mut View {
        match &mut self.dcs {
            Dcs::Fresh(view) => std::sync::Arc::make_mut(view),
            Dcs::Down { .. } => panic!("the store is down"),
        }
    }

    fn record(&mut self, member: &str, role: &str) {
        let record = json!({
            "conn_url": format!("postgres://{member}:5432/postgres"),
            "api_url": format!("http://{member}:8008/patroni"),
            "state": "running", "role": role, "timeline": 1, "howdah": {"version": "0"},
        });
        let record = Member::parse(&record.to_string());
        self.view().members.insert(name(member), record);
    }
}

pub fn name(text: &str) -> MemberName {
    MemberName::new(text).unwrap()
}

fn running(in_recovery: bool) -> Running {
    let sender = |name: &str| WalSender {
        name: name.into(),
        streaming: true,
        priority: 0,
        sync: false,
        written: Lsn(100),
        lsn: Lsn(100),
        replayed: Lsn(100),
    };
    Running {
        system_id: SystemId(1),
        in_recovery,
        is_at_end: true,
        timeline: Timeline(1),
        checkpoint_timeline: Timeline(1),
        origins: Default::default(),
        lsn: Lsn(100),
        streaming: in_recovery,
        upstream: in_recovery.then(|| ("b".to_owned(), 5432)),
        sync_names: String::new(),
        commit_level: CommitLevel::Flush,
        walsenders: if in_recovery {
            vec![]
        } else {
            vec![sender("b"), sender("c")]
        },
        replayed: Lsn(100),
        slots: vec![],
        syncs_slots: false,
        feedback: false,
    }
}

impl Situation {
    /// A cluster of three without a leader; `a` has no data.
    pub fn empty() -> Self {
        let text = "name: a\nscope: s\nrestapi: {listen: '127.0.0.1:1'}\netcd3: {host: 'h:1'}\npostgresql:\n  \
            listen: 127.0.0.1:1\n  data_dir: /d\n  authentication: {replication: {username: r}}\n";
        let config = load(&[Source {
            file: "test".into(),
            text: text.into(),
        }])
        .unwrap();
        let local = LocalConfig::from_value(
            &config,
            &howdah_config::Places::default(),
            std::path::Path::new("/"),
        )
        .unwrap();
        let dynamic = json!({"postgresql": {"use_slots": false}});
        let mut inner = Inner {
            now: NOW,
            wall: 0,
            me: Me {
                name: name("a"),
                tags: Tags::default(),
                may_bootstrap: true,
                lease: Some(LeaseId(1)),
            },
            config: dynamic_from(dynamic.as_object().unwrap(), &local.postgresql).unwrap(),
            dcs: Dcs::Fresh(std::sync::Arc::new(View {
                initialize: Some("1".into()),
                history: Some(vec![]),
                ..View::default()
            })),
            lease: LeaseState::None,
            promise: None,
            failsafe: howdah_ha::Failsafe {
                idle: true,
                ..Default::default()
            },
            postgres: Postgres::Missing,
            watchdog_failed: false,
            server_runs: false,
            unguarded: None,
            action: None,
            peers: Peers::default(),
            request: None,
            told_upstream: None,
            memory: howdah_ha::Memory {
                leaderless_since: Some(NOW - Duration::from_secs(1)),
                ..howdah_ha::Memory::default()
            },
        };
        inner.view().config.value = Some(serde_json::Map::new());
        for member in ["a", "b", "c"] {
            inner.record(member, "replica");
        }
        Situation(inner)
    }

    /// `a` runs as replica of `b`; there is no leader.
    pub fn replica() -> Self {
        Self::empty().with(|s| s.postgres = Postgres::Running(running(true)))
    }

    /// `a` runs as primary; there is no leader.
    pub fn primary() -> Self {
        Self::empty().with(|s| s.postgres = Postgres::Running(running(false)))
    }

    pub fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(&mut self.0);
        self
    }

    pub fn running(self, change: impl FnOnce(&mut Running)) -> Self {
        self.with(|s| match &mut s.postgres {
            Postgres::Running(running) => change(running),
            other => panic!("{other:?}"),
        })
    }

    /// PostgreSQL does not run, and its control file says this.
    pub fn stopped(self, state: DbState, damaged: bool) -> Self {
        self.with(|s| {
            s.postgres = Postgres::Stopped(Stopped {
                system_id: SystemId(1),
                state,
                timeline: Timeline(1),
                checkpoint: Lsn(90),
                standby: false,
                damaged,
                origins: Default::default(),
            });
        })
    }

    /// It lives and takes no connections yet, or has taken them and does not answer, since so many seconds.
    pub fn unavailable(self, silent: bool, seconds: u64) -> Self {
        self.with(|s| {
            let since = NOW - Duration::from_secs(seconds);
            s.postgres = if silent {
                Postgres::Silent { since }
            } else {
                Postgres::Starting { since }
            };
        })
    }

    /// No member has data yet.
    pub fn no_member_has_data(self) -> Self {
        self.without_cluster().with(|s| {
            for member in ["a", "b", "c"] {
                s.record(member, "uninitialized");
            }
        })
    }

    /// The store has never known a cluster, or has forgotten it.
    pub fn without_cluster(self) -> Self {
        self.with(|s| s.view().initialize = None)
    }

    /// This member is in the leader key, with a lease that is not ours.
    pub fn led_by(self, leader: &str) -> Self {
        self.with(|s| {
            s.record(leader, "primary");
            s.view().leader = Some(LeaderKey {
                name: name(leader),
                lease: Some(LeaseId(2)),
                term: Term(5),
            });
        })
    }

    /// A long action of this name has failed just now.
    pub fn failed(self, action: &'static str) -> Self {
        self.with(|s| {
            s.memory.retry_at.insert(action, NOW + Duration::from_secs(3));
        })
    }

    /// What a member's record says of its timeline.
    pub fn on_timeline(self, member: &str, timeline: u32) -> Self {
        self.with(|s| {
            if let Some(record) = s.view().members.get_mut(&name(member)) {
                record.timeline = Some(Timeline(timeline));
            }
        })
    }

    /// `a` holds the lease of term 7 for 20 seconds more.
    pub fn leading(self) -> Self {
        self.with(|s| {
            s.lease = LeaseState::Held {
                term: Term(7),
                stop_at: NOW + Duration::from_secs(20),
                deadline: NOW + Duration::from_secs(24),
            };
            s.view().leader = Some(LeaderKey {
                name: name("a"),
                lease: Some(LeaseId(1)),
                term: Term(7),
            });
        })
    }

    /// The leader has published its position a moment ago.
    pub fn quiet(self) -> Self {
        self.with(|s| s.memory.status_at = Some(NOW))
    }

    pub fn tagged(self, tag: &str, value: impl Into<Value>) -> Self {
        let tags = Tags::new([(tag.to_owned(), value.into())].into_iter().collect());
        self.with(|s| s.me.tags = tags)
    }

    pub fn synchronous(self, leader: &str, standbys: &[&str]) -> Self {
        let standbys: Vec<String> = standbys.iter().map(|name| (*name).to_owned()).collect();
        self.with(|s| {
            s.config.synchronous_mode = howdah_config::SyncMode::On;
            s.view().sync.value = Some(SyncState::new(leader, &standbys));
        })
    }

    /// The failover key: from a leader (a switchover) or from the leader (""), to a candidate or the best one.
    pub fn requested(self, leader: &str, candidate: Option<&str>) -> Self {
        self.with(|s| {
            s.view().failover.value = Some(FailoverRequest {
                leader: (!leader.is_empty()).then(|| name(leader)),
                candidate: candidate.map(name),
                scheduled_at: None,
                force: false,
                confirmed: false,
            });
        })
    }

    /// All others were asked and have had their time.
    pub fn asked(self) -> Self {
        self.with(|s| {
            s.peers.asked_at = Some(s.now);
            s.peers.asked = [name("b"), name("c")].into();
            s.peers.complete = true;
        })
    }

    /// One of them has answered, as a replica that has WAL up to there.
    pub fn answers(self, member: &str, lsn: u64) -> Self {
        self.asked().with(|s| {
            let peer = Peer {
                primary: false,
                running: true,
                attached: false,
                starting: false,
                start_failed: false,
                system_id: Some("1".into()),
                lsn: Lsn(lsn),
                timeline: Some(Timeline(1)),
                nofailover: false,
                priority: 1,
            };
            s.peers.answers.insert(name(member), peer);
        })
    }

    pub fn peer(self, member: &str, change: impl FnOnce(&mut Peer)) -> Self {
        self.with(|s| change(s.peers.answers.get_mut(&name(member)).unwrap()))
    }
}

pub fn plan(situation: &Situation) -> Plan {
    decide(&situation.0)
}

/// Demands the reasons and the effects, in their order.
#[track_caller]
pub fn is(what: &str, situation: &Situation, reasons: &str, effects: &[&str]) {
    let plan = plan(situation);
    let told: Vec<String> = plan.reasons.iter().map(ToString::to_string).collect();
    let done: Vec<String> = plan.effects.iter().map(brief).collect();
    assert_eq!(
        (told.join("; "), done),
        (
            reasons.to_owned(),
            effects.iter().map(|e| (*e).to_owned()).collect()
        ),
        "{what}"
    );
}

/// An effect in a few words.
pub fn brief(effect: &Effect) -> String {
    match effect {
        Effect::Acquire { .. } => "acquire".into(),
        Effect::Release => "release".into(),
        Effect::Claim => "claim".into(),
        Effect::Fatal(_) => "fatal".into(),
        Effect::Put { document, .. } => {
            format!(
                "put {} {}",
                format!("{:?}", document.key()).to_lowercase(),
                document.text()
            )
        }
        Effect::ProbePeers(names) => {
            let names: Vec<&str> = names.iter().map(MemberName::as_str).collect();
            format!("ask {}", names.join(" "))
        }
        Effect::Follow(Some(upstream)) => format!("follow {}", upstream.name),
        Effect::Follow(None) => "follow no server".into(),
        Effect::Failsafe { members: None, .. } => "failsafe off".into(),
        Effect::Failsafe {
            members: Some(members),
            ..
        } => {
            let names: Vec<&str> = members.keys().map(MemberName::as_str).collect();
            format!("failsafe {}", names.join(" "))
        }
        Effect::ForgetPromise { leader, .. } => format!("forget {leader}"),
        Effect::Delete { key, .. } => format!("delete {}", format!("{key:?}").to_lowercase()),
        Effect::Adopt(server) => format!("adopt {}", server.pid),
        Effect::Begin(action) => format!("begin {}", action_in_brief(action)),
        other => format!("{other:?}"),
    }
}

fn action_in_brief(action: &Action) -> String {
    match action {
        Action::Clone { from, .. } => format!("Clone from {}", from.name),
        Action::Rejoin { leader, copy } => {
            format!("Rejoin {}{}", leader.name, if *copy { " by a copy" } else { "" })
        }
        Action::Promote { term, .. } => format!("Promote term {}", term.0),
        Action::StartPrimary { term, .. } => format!("StartPrimary term {}", term.0),
        Action::StartReplica { .. } => "StartReplica".into(),
        Action::Restart { .. } => "Restart".into(),
        Action::HandOver { candidate, may_lose } => {
            let to = candidate.as_ref().map_or("the best", MemberName::as_str);
            format!("HandOver to {to}{}", if *may_lose { ", may lose" } else { "" })
        }
        other => format!("{other:?}"),
    }
}
