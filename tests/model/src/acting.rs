//! Effects and long actions: what the agent's shell does, with the world in the place of PostgreSQL and the network.

use std::time::Duration;

use howdah_config::{Dynamic, SyncMode};
use howdah_dcs::{Cond, Document, Key, KeyOp, Outcome};
use howdah_guard::{Input, Request as Ask, StartMode, StopMode};
use howdah_ha::{
    Action, Command, CommitLevel, Dcs, Effect, Failsafe, Here, KeeperInput, KnownMember, LeaderWal,
    LeaseState, Me, Means, NOBODY, OwnEnd, OwnWal, Peer, Peers, Postgres, Reason, Relation, Running,
    RunningAction, Snapshot, Step, Stopped, SyncRule, Unconfirmed, Unguarded, WalSender, decide, may_begin,
    may_go_on, relate,
};
use howdah_pgconf::{DbState, HistoryLine, TimelineEvidence};
use howdah_types::{BootTime, Lsn, MemberName, SystemId, Tags, Timeline};

use crate::{
    Choice, Settings, World,
    member::{Doing, Entry, Node, Pg, RECORD, ttl},
    settings::TICKS,
    world::MEMBERS,
};

/// As the agent waits after an action that has failed.
const RETRY: Duration = Duration::from_secs(3);

/// And after one that the guard has refused.
const REFUSED_RETRY: Duration = Duration::from_millis(250);

/// Who is there for this long can be asked by anybody who decides.
pub(crate) const WHILE: u64 = 3 * TICKS;

impl World {
    /// The loop reads the store, looks at PostgreSQL and decides.
    pub(crate) fn decide(&mut self, i: usize, settings: &Settings) {
        if !self.runs(i) || !self.nodes[i].effects.is_empty() {
            return;
        }
        if self.reaches_store(i) {
            self.touch(i);
        }
        let serves = self.nodes[i].pg.serves(self.tick);
        if serves && self.nodes[i].sync_names.is_none() {
            self.nodes[i].sync_names = Some(self.nodes[i].pg.sync_names.clone());
        }
        let paused = self.paused() && self.nodes[i].pg.primary;
        if serves && paused != self.nodes[i].keeper_paused {
            self.nodes[i].keeper_paused = paused;
            self.keeper(i, KeeperInput::Command(Command::Paused(paused)));
            if !self.paused() {
                let may_write = self.nodes[i].pg.primary;
                self.adopt(i, may_write, settings);
            }
        }
        let snapshot = self.snapshot(i, settings);
        let plan = decide(&snapshot);
        if !plan.effects.is_empty() || self.nodes[i].memory != plan.memory {
            let reasons: Vec<String> = plan.reasons.iter().map(ToString::to_string).collect();
            self.say(|| format!("m{i}: {} -> {:?}", reasons.join("; "), plan.effects));
        }
        if plan
            .reasons
            .iter()
            .any(|reason| matches!(reason, Reason::RequestRefused { .. }))
        {
            self.nodes[i].request = None;
        }
        let known = plan.memory.known.iter().map(|(name, member)| {
            let member = KnownMember {
                gone: None,
                ..member.clone()
            };
            (name.clone(), member)
        });
        self.nodes[i].kept_members = known.collect();
        self.nodes[i].memory = plan.memory;
        self.nodes[i].effects = plan.effects;
    }

    fn touch(&mut self, i: usize) {
        let Some(lease) = self.nodes[i].keeper.lease() else {
            return;
        };
        let value = self.nodes[i].wanted_record(i, self.tick);
        let marker = format!("{lease:?}{value}");
        if self.nodes[i].record != marker {
            let op = KeyOp::PutMember {
                me: self.nodes[i].name.clone(),
                lease,
                record: value,
            };
            if matches!(self.store.write(&op, self.now()), Outcome::Done(_)) {
                self.nodes[i].record = marker;
            }
        }
    }

    fn snapshot(&mut self, i: usize, settings: &Settings) -> Snapshot {
        let now = self.now();
        let dcs = if self.reaches_store(i) {
            Dcs::Fresh(self.view_of(i))
        } else {
            Dcs::Down { since: BootTime(0) }
        };
        let node = &self.nodes[i];
        Snapshot {
            now,
            wall: 0,
            me: Me {
                name: node.name.clone(),
                tags: Tags::default(),
                may_bootstrap: settings.bootstrap,
                lease: node.keeper.lease(),
            },
            config: Dynamic {
                pause: self.paused(),
                ..settings.dynamic.clone()
            },
            dcs,
            lease: node.keeper.state(now),
            promise: node.keeper.promise(now).cloned(),
            failsafe: Failsafe::of(&node.keeper, now),
            postgres: self.observe(i),
            server_runs: node.pg.up,
            watchdog_failed: false,
            unguarded: unguarded(node),
            action: node.doing.as_ref().map(|d| RunningAction {
                action: d.action.clone(),
                since: d.since,
            }),
            peers: node.peers.clone(),
            request: node.request.clone(),
            told_upstream: node
                .pg
                .upstream
                .map(|other| ("h".to_owned(), u16::try_from(other).unwrap_or(0))),
            memory: node.memory.clone(),
        }
    }

    fn observe(&self, i: usize) -> Postgres {
        let node = &self.nodes[i];
        let pg = &node.pg;
        let moment = |tick: u64| BootTime(tick * 1_000_000_000 / TICKS);
        if pg.missing {
            return Postgres::Missing;
        }
        if let Some(since) = pg.hung_since.filter(|_| pg.up) {
            return Postgres::Silent { since: moment(since) };
        }
        if pg.up && pg.starting_until > self.tick {
            return Postgres::Starting { since: self.now() };
        }
        if !pg.up {
            let state = match (pg.standby, pg.clean) {
                (true, _) => DbState::ShutDownInRecovery,
                (false, true) => DbState::ShutDown,
                (false, false) => DbState::InProduction,
            };
            return Postgres::Stopped(Stopped {
                system_id: SystemId(pg.system),
                state,
                timeline: Timeline(pg.control_timeline),
                checkpoint: node.lsn(),
                standby: pg.standby,
                damaged: pg.rewinding,
                origins: pg.origins.clone(),
            });
        }
        // One that is stuck is seen as streaming by both ends, at every look: that is the worst case.
        let walsenders = (0..MEMBERS)
            .filter(|other| self.streams(*other) == Some(i) || self.is_stuck(*other) == Some(i))
            .map(|other| WalSender {
                name: self.nodes[other].name.to_string(),
                streaming: true,
                priority: pg.rule_for(other).priority(self.nodes[other].name.as_str()),
                sync: SyncRule::parse(&pg.sync_names).priority(self.nodes[other].name.as_str()) > 0,
                written: self.nodes[other].lsn(),
                lsn: self.nodes[other].lsn(),
                replayed: self.nodes[other].lsn(),
            });
        Postgres::Running(Running {
            system_id: SystemId(pg.system),
            in_recovery: !pg.primary,
            is_at_end: true,
            timeline: self.reported_timeline(i),
            checkpoint_timeline: Timeline(pg.control_timeline),
            origins: pg.origins.clone(),
            lsn: node.lsn(),
            streaming: self.streams(i).is_some() || self.is_stuck(i).is_some(),
            upstream: pg
                .upstream
                .map(|other| ("h".to_owned(), u16::try_from(other).unwrap_or(0))),
            sync_names: pg.sync_names.clone(),
            commit_level: CommitLevel::Flush,
            walsenders: walsenders.collect(),
            replayed: node.lsn(),
            slots: Vec::new(),
            syncs_slots: false,
            feedback: false,
        })
    }

    /// The timeline, as PostgreSQL shows it: a replica's WAL receiver knows it, and forgets it with its end.
    fn reported_timeline(&self, i: usize) -> Timeline {
        let pg = &self.nodes[i].pg;
        if pg.primary {
            return Timeline(pg.timeline);
        }
        let control = Timeline(pg.control_timeline);
        let evidence = TimelineEvidence {
            checkpoint: control,
            recovery: control,
            receiver: self.streams(i).map(|_| Timeline(pg.timeline)),
            segment: (!pg.wal.is_empty()).then_some(Timeline(pg.timeline)),
        };
        evidence.timeline()
    }

    /// From whom a replica gets WAL at this moment.
    pub(crate) fn streams(&self, i: usize) -> Option<usize> {
        let node = &self.nodes[i];
        let upstream = node
            .pg
            .upstream
            .filter(|_| node.pg.serves(self.tick) && !node.pg.primary)?;
        let other = &self.nodes[upstream];
        let reachable = self.connected(i)
            && self.connected(upstream)
            && other.pg.serves(self.tick)
            && other.pg.system == node.pg.system
            && node.no_receiver_until <= self.tick;
        (reachable && node.pg.may_stream_from(&other.pg) && other.pg.primary).then_some(upstream)
    }

    /// The primary whose history a replica's WAL has left: the receiver gets the end of the old timeline again and again.
    fn is_stuck(&self, i: usize) -> Option<usize> {
        let node = &self.nodes[i];
        let upstream = node
            .pg
            .upstream
            .filter(|_| node.pg.serves(self.tick) && !node.pg.primary)?;
        let other = &self.nodes[upstream];
        let reachable =
            self.connected(i) && self.connected(upstream) && other.pg.serves(self.tick) && other.pg.primary;
        let left = node.pg.timeline < other.pg.timeline && !node.pg.may_stream_from(&other.pg);
        (reachable && left).then_some(upstream)
    }

    fn adopt(&mut self, i: usize, may_write: bool, settings: &Settings) -> bool {
        let not_after = if self.paused() {
            BootTime::FAR_FUTURE
        } else {
            self.now() + ttl(settings)
        };
        let request = Ask::Adopt {
            pid: 1,
            may_write,
            not_after,
        };
        self.guard(i, Input::Request(request), settings)
    }

    /// Carries out the next effect.
    pub(crate) fn effect(&mut self, i: usize, choice: Choice, settings: &Settings) {
        if !self.runs(i) || self.nodes[i].effects.is_empty() {
            return;
        }
        match choice {
            1 => return self.freeze(i, 3),
            2 => return self.freeze(i, 7),
            3 => {
                self.checker.disturbed = true;
                self.say(|| format!("m{i}: FAULT: the agent dies before an effect"));
                return self.agent_dies(i, settings);
            }
            _ => {}
        }
        let effect = self.nodes[i].effects.remove(0);
        if !self.carry_out(i, effect, settings) {
            self.nodes[i].effects.clear();
        }
    }

    /// As the agent does, by the same table: false ends the plan.
    fn carry_out(&mut self, i: usize, effect: Effect, settings: &Settings) -> bool {
        let means = Means {
            lease: self.nodes[i].keeper.lease(),
            config: None,
            config_rev: 0,
        };
        match effect.step(&means) {
            Step::Keeper(command) => {
                if matches!(command, Command::Acquire { .. }) {
                    self.nodes[i].owed = self.could_learn(i, settings);
                }
                self.keeper(i, KeeperInput::Command(command));
                true
            }
            Step::Write { op, required } => {
                if matches!(op, KeyOp::Claim { .. }) {
                    let exists = self.nodes.iter().any(|node| !node.pg.missing);
                    self.checker.excused |= exists && !self.nodes[i].memory.cluster_known;
                }
                self.write_step(i, &op, required)
            }
            Step::Here(here) => self.carry_out_here(i, here, settings),
            Step::Begin(action) => {
                let now = self.now();
                let lease = self.nodes[i].keeper.state(now);
                let runs = self.nodes[i].doing.as_ref().map(|doing| &doing.action);
                match may_begin(&action, runs, lease, now) {
                    Ok(()) => {
                        self.nodes[i].doing = Some(Doing {
                            action,
                            since: now,
                            phase: 0,
                        });
                    }
                    Err(why) => self.say(|| format!("m{i}: not begun: {why:?}")),
                }
                false
            }
            Step::End(reason) => {
                self.say(|| format!("m{i}: fatal: {reason}"));
                self.agent_dies(i, settings);
                false
            }
            Step::Skip => true,
            Step::Halt => false,
        }
    }

    fn carry_out_here(&mut self, i: usize, here: Here, settings: &Settings) -> bool {
        match here {
            Here::Probe(names) => {
                self.probe(i, &names);
                true
            }
            Here::Follow(upstream) => {
                self.nodes[i].pg.upstream = upstream.map(|u| usize::from(u.port));
                true
            }
            Here::SetSyncNames(names) => {
                self.nodes[i].pg.sync_names.clone_from(&names);
                self.nodes[i].pg.reload(self.tick);
                self.nodes[i].sync_names = Some(names);
                true
            }
            Here::ProveCommitsWait => {
                // As the agent's commit sees it: it waits, if the checkpointer says so.
                let proved = self.nodes[i].pg.waits;
                self.nodes[i].memory.commits_wait |= proved;
                proved
            }
            Here::Adopt(server) => self.adopt(i, server.may_write, settings),
            Here::WriteHistory => {
                let previous = self.nodes[i].pg.timeline.saturating_sub(1);
                let value = if previous == 0 {
                    "[]".to_owned()
                } else {
                    format!("[[{previous},1,\"\"]]")
                };
                let op = KeyOp::Put {
                    document: Document::verbatim(Key::History, value),
                    cond: Cond::Always,
                };
                self.write_step(i, &op, true)
            }
            Here::Slots(_) | Here::NudgeStandby => true,
        }
    }

    fn write_step(&mut self, i: usize, op: &KeyOp, required: bool) -> bool {
        let outcome = if self.reaches_store(i) {
            self.store.write(op, self.now())
        } else {
            Outcome::Failed("no connection".into())
        };
        may_go_on(required, &outcome)
    }

    pub(crate) fn write(&mut self, i: usize, op: &KeyOp) -> bool {
        self.reaches_store(i) && matches!(self.store.write(op, self.now()), Outcome::Done(_))
    }

    fn probe(&mut self, i: usize, names: &[MemberName]) {
        let mut peers = Peers {
            asked_at: Some(self.now()),
            asked: names.iter().cloned().collect(),
            complete: true,
            answers: Default::default(),
        };
        for (other, node) in self.nodes.iter().enumerate() {
            let answers = self.connected(i) && self.connected(other) && self.runs(other);
            if names.contains(&node.name) && answers {
                let serves = node.pg.serves(self.tick);
                let unfit = node.memory.unfit_until.is_some_and(|until| self.now() < until);
                let peer = Peer {
                    primary: serves && node.pg.primary,
                    running: serves,
                    attached: node.pg.upstream.is_some(),
                    starting: node.pg.up && node.pg.starting_until > self.tick,
                    start_failed: node.memory.start_failed && !serves,
                    system_id: (!node.pg.missing).then(|| node.pg.system.to_string()),
                    lsn: node.lsn(),
                    timeline: Some(self.reported_timeline(other)),
                    nofailover: unfit,
                    priority: 1,
                };
                peers.answers.insert(node.name.clone(), peer);
            }
        }
        self.nodes[i].peers = peers;
    }

    /// The long action takes its next step.
    pub(crate) fn act(&mut self, i: usize, choice: Choice, settings: &Settings) {
        if !self.runs(i) {
            return;
        }
        match choice {
            1 => return self.freeze(i, 3),
            2 => return self.freeze(i, 7),
            _ => {}
        }
        let Some(mut doing) = self.nodes[i].doing.take() else {
            return;
        };
        let action = doing.action.clone();
        self.nodes[i].refused = false;
        let done = self.act_on(i, &action, &mut doing.phase, settings);
        doing.phase += 1;
        if !done && doing.phase < 40 {
            self.nodes[i].doing = Some(doing);
            return;
        }
        if action.starts_postgres() {
            self.nodes[i].request = None;
            let now = self.now();
            let node = &mut self.nodes[i];
            if node.refused {
                // No fault of PostgreSQL's: the guard hears of the lease at once.
                node.memory.retry_at.insert(action.name(), now + REFUSED_RETRY);
                self.keeper(i, KeeperInput::Command(Command::Verify));
            } else if !node.pg.up {
                node.memory.start_failed = true;
                node.memory.retry_at.insert(action.name(), now + RETRY);
            }
        }
    }

    /// Asks the guard to start PostgreSQL.
    fn ask_start(&mut self, i: usize, mode: StartMode, settings: &Settings) -> bool {
        let agreed = self.guard(i, Input::Request(Ask::Start(mode)), settings);
        self.nodes[i].refused |= !agreed;
        agreed
    }

    /// True when the action has ended.
    fn act_on(&mut self, i: usize, action: &Action, phase: &mut u8, settings: &Settings) -> bool {
        match action {
            Action::StartReplica { follow } => {
                self.nodes[i].pg.upstream = follow.as_ref().map(|u| usize::from(u.port));
                self.start_replica(i, settings)
            }
            Action::StartPrimary { term, .. } => {
                // As the agent does: the right is looked up again at the last moment.
                let Some((held, not_after)) = self.nodes[i].keeper.state(self.now()).held(self.now()) else {
                    return true;
                };
                if held != *term {
                    return true;
                }
                self.nodes[i].pg.standby = false;
                self.nodes[i].pg.sync_names = self.wanted_sync_names(i);
                let mode = StartMode::Primary {
                    term: term.0,
                    not_after,
                };
                if self.ask_start(i, mode, settings) {
                    self.nodes[i].pg.term = term.0;
                }
                true
            }
            Action::Promote { term, not_after } => {
                let request = Ask::Promote {
                    term: term.0,
                    not_after: *not_after,
                };
                if self.nodes[i].pg.serves(self.tick) && self.guard(i, Input::Request(request), settings) {
                    self.nodes[i].pg.term = term.0;
                    let owed = self.nodes[i].owed.take();
                    self.checker.promoted(i, &self.nodes[i].pg.wal, owed);
                }
                true
            }
            Action::Restart { primary, follow } => match *phase {
                0 => {
                    self.stop_cleanly(i, settings);
                    false
                }
                _ => {
                    let start = match primary {
                        Some((term, not_after)) => Action::StartPrimary {
                            term: *term,
                            not_after: *not_after,
                        },
                        None => Action::StartReplica {
                            follow: follow.clone(),
                        },
                    };
                    self.act_on(i, &start, phase, settings)
                }
            },
            Action::GiveUp => match *phase {
                0 if self.nodes[i].guard_frozen_until > self.tick => {
                    // It does not answer in two seconds.
                    let again = self.now() + Duration::from_secs(2) + RETRY;
                    self.nodes[i].memory.retry_at.insert(action.name(), again);
                    true
                }
                0 => {
                    self.guard(i, Input::Request(Ask::Stop(StopMode::Kill)), settings);
                    false
                }
                1 => {
                    self.keeper(i, KeeperInput::Command(Command::Release));
                    false
                }
                _ => self.nodes[i].keeper.state(self.now()) == LeaseState::None,
            },
            Action::KillServer => {
                self.guard(i, Input::Request(Ask::Stop(StopMode::Kill)), settings);
                true
            }
            Action::Checkpoint => {
                self.nodes[i].pg.control_timeline = self.nodes[i].pg.timeline;
                true
            }
            Action::Bootstrap => self.bootstrap(i, *phase, settings),
            Action::Clone { from, .. } => self.copy(i, usize::from(from.port), settings),
            Action::HandOver { candidate, may_lose } => {
                let unconfirmed = if *may_lose {
                    Unconfirmed::GiveAway
                } else {
                    Unconfirmed::Keep
                };
                self.hand_over(i, candidate.as_ref(), unconfirmed, phase, settings)
            }
            Action::Shutdown { hand_over } => {
                let done = if *hand_over {
                    self.hand_over(i, None, Unconfirmed::RunOut, phase, settings)
                } else {
                    self.stop_cleanly(i, settings);
                    true
                };
                if done {
                    self.node_ends(i);
                }
                done
            }
            Action::StopPrimary => {
                self.guard(i, Input::Request(Ask::Stop(StopMode::Immediate)), settings);
                self.postgres_dies(i, settings);
                true
            }
            Action::Rejoin { leader, copy } => {
                self.rejoin(i, usize::from(leader.port), *copy, *phase, settings)
            }
            _ => true,
        }
    }

    /// A new agent that has not seen the server running goes by what the store says.
    fn wanted_sync_names(&mut self, i: usize) -> String {
        let view = self.view_of(i);
        let node = &self.nodes[i];
        node.sync_names.clone().unwrap_or_else(|| {
            let mine = view
                .sync
                .value
                .as_ref()
                .filter(|sync| sync.leader == node.name.as_str());
            mine.map_or_else(|| NOBODY.to_owned(), |sync| SyncRule::safe_for(sync).setting())
        })
    }

    fn start_replica(&mut self, i: usize, settings: &Settings) -> bool {
        if settings.dynamic.synchronous_mode != SyncMode::Off {
            self.nodes[i].pg.sync_names = self.wanted_sync_names(i);
        }
        self.nodes[i].pg.standby = true;
        self.nodes[i].pg.primary = false;
        self.ask_start(i, StartMode::Replica, settings);
        true
    }

    /// As the agent does, by the same comparison. True when it has ended.
    fn rejoin(&mut self, i: usize, leader: usize, copy: bool, phase: u8, settings: &Settings) -> bool {
        if phase > 0 {
            return self.rewound(i, leader, settings);
        }
        let other = self.nodes[leader].pg.clone();
        if !self.connected(i) || !self.connected(leader) || !other.serves(self.tick) || !other.primary {
            return true;
        }
        let relation = if copy || self.nodes[i].pg.rewinding {
            Relation::OtherPromotion
        } else {
            self.relation(i, leader)
        };
        match relation {
            Relation::Contained => {
                self.nodes[i].pg.upstream = Some(leader);
                if !self.nodes[i].pg.up {
                    self.start_replica(i, settings);
                }
                true
            }
            Relation::Left => {
                self.say(|| format!("m{i}: rewinds to the history of m{leader}"));
                self.postgres_dies(i, settings);
                // Half of it: of no use before the end.
                self.nodes[i].pg.rewinding = true;
                self.nodes[i].pg.wal = vec![(0, u32::MAX)];
                false
            }
            Relation::OtherPromotion => {
                self.say(|| format!("m{i}: copies m{leader}"));
                self.postgres_dies(i, settings);
                self.copy(i, leader, settings)
            }
        }
    }

    /// The end of a rewind.
    fn rewound(&mut self, i: usize, leader: usize, settings: &Settings) -> bool {
        let other = self.nodes[leader].pg.clone();
        if !self.connected(i) || !self.connected(leader) || !other.serves(self.tick) || !other.primary {
            return true;
        }
        self.nodes[i].pg.become_as(&other);
        self.nodes[i].pg.control_timeline = other.timeline;
        self.nodes[i].pg.upstream = Some(leader);
        self.start_replica(i, settings)
    }

    fn relation(&self, i: usize, leader: usize) -> Relation {
        let lines = |pg: &Pg, timeline: u32| -> Vec<HistoryLine> {
            let before = pg.history.iter().filter(|(number, _)| *number < timeline);
            before
                .map(|(number, records)| HistoryLine {
                    timeline: Timeline(*number),
                    switch: end_of(*records),
                    reason: String::new(),
                })
                .collect()
        };
        let (mine, theirs) = (&self.nodes[i].pg, &self.nodes[leader].pg);
        let (timeline, end) = match self.observe(i) {
            Postgres::Running(running) => (
                running.timeline,
                OwnEnd::Running {
                    position: running.lsn,
                    in_recovery: running.in_recovery,
                },
            ),
            Postgres::Stopped(stopped) => (
                stopped.timeline,
                OwnEnd::Stopped {
                    state: stopped.state,
                    // The shutdown checkpoint is a record of its own, which a world does not count.
                    checkpoint: Lsn(stopped.checkpoint.0 - 1),
                    has_backup_label: false,
                },
            ),
            Postgres::Missing
            | Postgres::Unreadable { .. }
            | Postgres::Silent { .. }
            | Postgres::Starting { .. } => return Relation::Left,
        };
        let own = OwnWal {
            timeline,
            history: &lines(mine, timeline.0),
            end,
            origins: &mine.origins,
        };
        let leaders = LeaderWal {
            timeline: Timeline(theirs.timeline),
            history: &lines(theirs, theirs.timeline),
            origins: &theirs.origins,
            flushed: self.nodes[leader].lsn(),
        };
        relate(&own, &leaders)
    }

    /// Clients write on every primary, and WAL is shipped.
    pub(crate) fn traffic(&mut self, settings: &Settings) {
        for i in 0..MEMBERS {
            let total: usize = self.checker.committed;
            let pg = &mut self.nodes[i].pg;
            if pg.serves(self.tick)
                && pg.primary
                && pg.term > 0
                && self.nodes[i].off_until <= self.tick
                && total < settings.commits
                && self.tick.is_multiple_of(settings.commit_every)
            {
                let number = u32::try_from(total).unwrap_or(u32::MAX);
                let term = self.nodes[i].pg.term;
                self.nodes[i].pg.wal.push((term, number));
                self.checker.committed += 1;
            }
        }
        for i in 0..MEMBERS {
            let streams: Vec<bool> = (0..MEMBERS).map(|other| self.streams(other) == Some(i)).collect();
            let tick = self.tick;
            // A new connection has a new process, with the setting as it is.
            let late = &mut self.nodes[i].pg.late_senders;
            late.retain(|other, (_, until)| *until > tick && streams[*other]);
        }
        for i in 0..MEMBERS {
            if let Some(upstream) = self.streams(i) {
                let sent = self.nodes[upstream].pg.clone();
                self.nodes[i].pg.receive_from(&sent);
            }
        }
    }

    /// Whether a primary would acknowledge a commit to a client now: without a synchronous standby at once, else when
    /// that standby streams from it.
    pub(crate) fn acknowledges(&self, i: usize) -> bool {
        let pg = &self.nodes[i].pg;
        // No client is led to a primary that has never had the lease: a bootstrap that is under way.
        if !pg.serves(self.tick) || !pg.primary || pg.term == 0 || self.nodes[i].off_until > self.tick {
            return false;
        }
        if !pg.waits {
            return true;
        }
        // PostgreSQL looks at the position that a standby reports, not at its history.
        let confirmed = |other: usize| {
            self.streams(other) == Some(i)
                || (self.is_stuck(other) == Some(i) && self.nodes[other].lsn() >= self.nodes[i].lsn())
        };
        // With the flag set and an emptied setting, commits wait until the checkpointer has read it.
        let names = pg.sync_names.as_str();
        if pg.late_senders.is_empty() && (names.is_empty() || names == NOBODY) {
            return false;
        }
        // Each process that sends WAL takes from the setting that it has read how many must confirm. Who they may be say all of them,
        // each by its own.
        let placed = |other: &usize| pg.rule_for(*other).priority(self.nodes[*other].name.as_str()) > 0;
        let confirmed: Vec<usize> = (0..MEMBERS)
            .filter(|other| confirmed(*other) && placed(other))
            .collect();
        confirmed
            .iter()
            .any(|other| confirmed.len() >= pg.rule_for(*other).needed())
    }

    /// Stops a server in order.
    pub(crate) fn stop_cleanly(&mut self, i: usize, settings: &Settings) {
        self.guard(i, Input::Request(Ask::Stop(StopMode::Fast)), settings);
        // Walsenders drain before the server ends, those that are connected.
        for other in 0..MEMBERS {
            if self.streams(other) == Some(i) {
                let sent = self.nodes[i].pg.clone();
                self.nodes[other].pg.receive_from(&sent);
            }
        }
        self.postgres_dies(i, settings);
        self.nodes[i].pg.clean = true;
    }

    /// Makes a cluster of its own number, under a claim that is looked at again at the end.
    fn bootstrap(&mut self, i: usize, phase: u8, settings: &Settings) -> bool {
        let claim = |world: &mut World| match world.nodes[i].keeper.lease() {
            Some(lease) => world.write(i, &KeyOp::Claim { lease }),
            None => false,
        };
        match phase {
            0..3 => false,
            3 => {
                let not_after = self.now() + std::time::Duration::from_secs(600);
                // The mark beside the data says "missing" until the end.
                let pg = &mut self.nodes[i].pg;
                pg.standby = false;
                pg.system = 100 + u64::try_from(i).unwrap_or(0);
                pg.term = 0;
                pg.wal.clear();
                self.guard(
                    i,
                    Input::Request(Ask::Start(StartMode::Bootstrap { not_after })),
                    settings,
                );
                false
            }
            4..6 => false,
            _ => {
                let put = KeyOp::Put {
                    document: Document::initialize(self.nodes[i].pg.system),
                    cond: Cond::Always,
                };
                if !claim(self) || !self.write(i, &put) {
                    self.say(|| format!("m{i}: the bootstrap fails"));
                    self.postgres_dies(i, settings);
                    self.agent_dies(i, settings);
                } else {
                    self.nodes[i].pg.missing = false;
                }
                true
            }
        }
    }

    fn copy(&mut self, i: usize, from: usize, settings: &Settings) -> bool {
        let other = self.nodes[from].pg.clone();
        if self.connected(i) && self.connected(from) && other.serves(self.tick) && other.primary {
            let pg = &mut self.nodes[i].pg;
            pg.missing = false;
            pg.system = other.system;
            pg.become_as(&other);
            pg.control_timeline = other.control_timeline;
            pg.upstream = Some(from);
            self.start_replica(i, settings);
        }
        true
    }

    /// The most that a member could learn of acknowledged commits when it decides to take over: from members that it can
    /// reach, and that are there for a while.
    fn could_learn(&self, i: usize, settings: &Settings) -> Option<(usize, Vec<Entry>)> {
        let there = |j: usize| {
            let since = self.nodes[j].reachable_since;
            since.is_some_and(|since| since + WHILE <= self.tick)
        };
        if !there(i) {
            return None;
        }
        // Two members that were promoted from one timeline without knowing of each other are on timelines of one number:
        // PostgreSQL cannot tell which is newer.
        let ours = &self.nodes[i].pg;
        let forked = |j: usize| {
            let theirs = &self.nodes[j].pg;
            let continues = ours.wal.starts_with(&theirs.wal) || theirs.wal.starts_with(&ours.wal);
            ours.timeline == theirs.timeline && !continues
        };
        // Whom the store has not shown for longer than a lease is known to no other member.
        let lease = ttl(settings).as_secs() * TICKS;
        let shown = |j: usize| self.nodes[j].unseen_for < lease;
        let others = (0..MEMBERS).filter(|j| *j != i && there(*j) && shown(*j) && !forked(*j));
        let best = others.max_by_key(|j| self.checker.acked_part(&self.nodes[*j].pg.wal))?;
        let length = self.checker.acked_part(&self.nodes[best].pg.wal);
        Some((
            best,
            self.nodes[best].pg.wal.iter().take(length).copied().collect(),
        ))
    }

    /// Where a primary's WAL ends, for messages.
    pub(crate) fn end_of(&self, i: usize) -> Lsn {
        self.nodes[i].lsn()
    }
}

/// Where so many records end.
fn end_of(records: usize) -> Lsn {
    Lsn(1 + records as u64 * RECORD)
}

/// As the agent sees it: what runs and the guard does not know, or does not know to write.
fn unguarded(node: &Node) -> Option<Unguarded> {
    let known = node.guard.pid().is_some() && (node.guard.may_write() || !node.pg.primary);
    (node.pg.up && !known).then_some(Unguarded {
        pid: 1,
        may_write: node.pg.primary,
    })
}
