use std::{collections::BTreeMap, time::Duration};

use howdah_dcs::{HowdahMark, LeaseId, LeaseOp, Member as Record, Term};
use howdah_guard::{Core, Input, Request as Ask};
use howdah_ha::{Action, Effect, Keeper, KnownMember, Memory, Peers, Promise, Question, Request, SyncRule};
use howdah_types::{BootTime, Lsn, MemberName, Origins, PgState, Role, Timeline};

use crate::{
    settings::Settings,
    store::{Back, Seen},
};

/// One record of WAL: the leadership it was written under, and its number.
pub(crate) type Entry = (u64, u32);

/// The life of an agent's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Agent {
    Runs,
    /// Does nothing until then.
    Frozen(u64),
    Dead,
}

/// A PostgreSQL and its data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pg {
    pub(crate) up: bool,
    /// There is no data.
    pub(crate) missing: bool,
    /// Whose data it is.
    pub(crate) system: u64,
    pub(crate) primary: bool,
    /// It has a `standby.signal`.
    pub(crate) standby: bool,
    /// It was stopped cleanly as primary.
    pub(crate) clean: bool,
    /// The timeline that it writes, or has received.
    pub(crate) timeline: u32,
    /// What the control file knows of it: a replica makes no restartpoint in a world's life.
    pub(crate) control_timeline: u32,
    /// The timelines before that one, and how many records each has had at its end.
    pub(crate) history: Vec<(u32, usize)>,
    /// Which promotions began them, as the first records say.
    pub(crate) origins: Origins,
    /// The note beside the data: a rewind has not come to its end.
    pub(crate) rewinding: bool,
    /// It takes no connections before.
    pub(crate) starting_until: u64,
    /// It died with a power cut as primary: its next start takes long.
    pub(crate) slow_start: bool,
    /// It has not answered since.
    pub(crate) hung_since: Option<u64>,
    /// It can never be started again.
    pub(crate) broken: bool,
    pub(crate) wal: Vec<Entry>,
    /// The leadership under which it writes.
    pub(crate) term: u64,
    /// Whom it streams from, by index.
    pub(crate) upstream: Option<usize>,
    /// The setting, as its backends and walsenders have it.
    pub(crate) sync_names: String,
    /// Whether commits wait, as the checkpointer has it.
    pub(crate) waits: bool,
    /// The checkpointer reads no setting before.
    pub(crate) busy_until: u64,
    /// Processes that send WAL, by the member that they send to, which go by an earlier setting until then.
    pub(crate) late_senders: BTreeMap<usize, (String, u64)>,
}

impl Pg {
    /// It answers.
    pub(crate) fn serves(&self, tick: u64) -> bool {
        self.up && self.hung_since.is_none() && self.starting_until <= tick
    }

    /// Whether PostgreSQL lets a replica with this data stream from `other`. It goes by numbers of timelines and positions, and
    /// does not look at what was written before: two timelines of one number are one to it.
    pub(crate) fn may_stream_from(&self, other: &Pg) -> bool {
        let have = self.wal.len();
        match self.timeline.cmp(&other.timeline) {
            std::cmp::Ordering::Greater => false,
            std::cmp::Ordering::Equal => have <= other.wal.len(),
            std::cmp::Ordering::Less => other
                .history
                .iter()
                .any(|(timeline, end)| *timeline == self.timeline && have <= *end),
        }
    }

    /// Takes what `other` has sent.
    pub(crate) fn receive_from(&mut self, other: &Pg) {
        let have = self.wal.len();
        self.wal.extend(other.wal.iter().skip(have));
        let newer = other
            .origins
            .iter()
            .filter(|(timeline, _)| timeline.0 > self.timeline);
        self.origins
            .extend(newer.map(|(timeline, origin)| (*timeline, origin.clone())));
        self.timeline = other.timeline;
        self.history.clone_from(&other.history);
    }

    /// Becomes as `other`, by a copy or a rewind.
    pub(crate) fn become_as(&mut self, other: &Pg) {
        self.wal.clone_from(&other.wal);
        self.timeline = other.timeline;
        self.history.clone_from(&other.history);
        self.origins.clone_from(&other.origins);
        self.rewinding = false;
    }

    /// The rule that the process goes by which sends to a member.
    pub(crate) fn rule_for(&self, other: usize) -> SyncRule {
        let late = self.late_senders.get(&other);
        SyncRule::parse(late.map_or(&self.sync_names, |(names, _)| names))
    }

    /// The checkpointer reads the setting, if it can.
    pub(crate) fn reload(&mut self, tick: u64) {
        if self.up && self.busy_until <= tick {
            self.waits = !self.sync_names.is_empty();
        }
    }
}

/// A long action and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Doing {
    pub(crate) action: Action,
    pub(crate) since: BootTime,
    pub(crate) phase: u8,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) name: MemberName,
    pub(crate) agent: Agent,
    pub(crate) guard: Core,
    /// The guard has an agent, as far as it knows.
    pub(crate) agent_known: bool,
    pub(crate) guard_frozen_until: u64,
    /// What was sent to the guard while it was frozen: it reads that first.
    pub(crate) guard_inbox: Vec<howdah_guard::Request>,
    /// When the watchdog device resets the machine, while it is open.
    pub(crate) device: Option<BootTime>,
    /// Agent and guard were frozen together.
    pub(crate) both_frozen: bool,
    /// It was told to end a short while ago; a second end before that counts as a fault.
    pub(crate) ended_until: u64,
    /// The whole node is off until then.
    pub(crate) off_until: u64,
    /// Cut off from store and peers until then.
    pub(crate) cut_until: u64,
    /// Cut off from the store alone until then.
    pub(crate) store_out_until: u64,
    /// Its WAL receiver is between two connections until then.
    pub(crate) no_receiver_until: u64,
    /// Since when others reach its agent, and its PostgreSQL runs or is being started.
    pub(crate) reachable_since: Option<u64>,
    /// For how many ticks it has not reached the store while another member did.
    pub(crate) unseen_for: u64,
    /// Since when it reaches the store.
    pub(crate) in_store_since: u64,
    /// Acknowledged commits of a member that this one could have asked when it decided to take over.
    pub(crate) owed: Option<(usize, Vec<Entry>)>,
    pub(crate) keeper: Keeper,
    /// Sent by the keeper and not delivered yet.
    pub(crate) sent: Option<LeaseOp>,
    /// An answer that waits for the agent to thaw.
    pub(crate) answer: Option<(LeaseOp, Back, BootTime)>,
    /// What the keeper asks the other members, in failsafe mode.
    pub(crate) question: Option<Question>,
    /// Whether they have agreed, for an agent that is frozen.
    pub(crate) agreed: Option<(BootTime, bool)>,
    /// What the keeper has last said to a leader that asks.
    pub(crate) promised: bool,
    /// The file in which the agent keeps what it has promised.
    pub(crate) kept: Option<Promise>,
    /// The file in which it keeps the other members.
    pub(crate) kept_members: BTreeMap<MemberName, KnownMember>,
    /// What this life has seen of a store that ends no leases.
    pub(crate) seen: Seen,
    pub(crate) memory: Memory,
    pub(crate) effects: Vec<Effect>,
    pub(crate) doing: Option<Doing>,
    pub(crate) peers: Peers,
    pub(crate) request: Option<Request>,
    /// The guard has refused the last start.
    pub(crate) refused: bool,
    /// The keeper was told that the cluster is paused.
    pub(crate) keeper_paused: bool,
    pub(crate) pg: Pg,
    pub(crate) record: String,
    /// `synchronous_standby_names` as this life of the agent knows it.
    pub(crate) sync_names: Option<String>,
}

/// The system identifier of a cluster that exists.
pub(crate) const SYSTEM: u64 = 1;

/// Bytes per record of WAL.
pub(crate) const RECORD: u64 = 100;

impl Node {
    pub(crate) fn new(i: usize, settings: &Settings, now: BootTime) -> anyhow::Result<Self> {
        let name = MemberName::new(format!("m{i}"))?;
        let mut guard = Core::new(Duration::from_secs(settings.hang_after), now);
        if settings.watchdog.is_some() {
            let _ = guard.step(Input::Request(Ask::Watchdog(settings.watchdog)), now);
        }
        Ok(Node {
            agent: Agent::Dead,
            agent_known: false,
            guard,
            device: None,
            guard_frozen_until: 0,
            guard_inbox: Vec::new(),
            both_frozen: false,
            ended_until: 0,
            off_until: 0,
            cut_until: 0,
            store_out_until: 0,
            no_receiver_until: 0,
            reachable_since: None,
            unseen_for: 0,
            in_store_since: 0,
            owed: None,
            keeper: Keeper::new(name.clone(), ttl(settings)),
            sent: None,
            answer: None,
            question: None,
            agreed: None,
            promised: false,
            kept: None,
            kept_members: BTreeMap::new(),
            seen: Seen::default(),
            memory: Memory::default(),
            effects: Vec::new(),
            doing: None,
            peers: Peers::default(),
            request: None,
            refused: false,
            keeper_paused: false,
            pg: Pg {
                up: false,
                missing: settings.bootstrap,
                system: if settings.bootstrap { 0 } else { SYSTEM },
                primary: false,
                standby: true,
                clean: false,
                timeline: 1,
                control_timeline: 1,
                history: Vec::new(),
                origins: Origins::new(),
                rewinding: false,
                starting_until: 0,
                slow_start: false,
                hung_since: None,
                broken: false,
                wal: Vec::new(),
                term: 0,
                upstream: None,
                sync_names: String::new(),
                waits: false,
                busy_until: 0,
                late_senders: BTreeMap::new(),
            },
            record: String::new(),
            sync_names: None,
            name,
        })
    }

    /// A new agent begins, below the guard that lives.
    pub(crate) fn new_agent(&mut self, settings: &Settings, now: BootTime) {
        let kept = self.kept.clone().filter(|promise| now < promise.until);
        let keeper = Keeper::new(self.name.clone(), ttl(settings)).bound_by(kept);
        let handover = self.guard.handover();
        self.keeper = match handover.term {
            Some(term) => keeper.adopt(Term(term), LeaseId(handover.lease), handover.deadline),
            None => keeper,
        };
        self.memory = Memory {
            known: self.kept_members.clone(),
            ..Memory::default()
        };
        self.effects.clear();
        self.doing = None;
        self.sent = None;
        self.answer = None;
        self.question = None;
        self.agreed = None;
        self.seen = Seen::default();
        self.peers = Peers::default();
        self.request = None;
        self.keeper_paused = false;
        self.owed = None;
        self.record.clear();
        self.sync_names = None;
    }

    pub(crate) fn lsn(&self) -> Lsn {
        Lsn(1 + self.pg.wal.len() as u64 * RECORD)
    }

    /// Its record in the store, as the agent would write it.
    pub(crate) fn wanted_record(&self, i: usize, tick: u64) -> String {
        let (state, role) = match (self.pg.serves(tick), self.pg.primary) {
            (true, true) => (PgState::Running, Role::Primary),
            (true, false) => (PgState::Running, Role::Replica),
            (false, _) if self.pg.missing => (PgState::Stopped, Role::Uninitialized),
            (false, _) => (PgState::Stopped, Role::Demoted),
        };
        let record = Record {
            conn_url: format!("postgres://h:{i}/d"),
            api_url: format!("http://h:{i}/patroni"),
            state,
            role,
            timeline: Some(Timeline(self.pg.timeline)),
            checkpoint_after_promote: (self.pg.primary && self.pg.control_timeline < self.pg.timeline)
                .then_some(false),
            howdah: Some(HowdahMark {
                version: "0".to_owned(),
                origins: self.pg.origins.clone(),
                settled: self.keeper.settled(),
                ..HowdahMark::default()
            }),
            ..Record::default()
        };
        serde_json::to_string(&record).unwrap_or_default()
    }
}

pub(crate) fn ttl(settings: &Settings) -> Duration {
    settings
        .dynamic
        .timers
        .short_ttl
        .unwrap_or(settings.dynamic.timers.ttl)
}
