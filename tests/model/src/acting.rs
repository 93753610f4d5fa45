//! Effects and long actions: what the agent's shell does, with the world in the place of PostgreSQL and the network.

use howdah_dcs::{Cond, Key, Op, Outcome};
use howdah_guard::{Input, Request as Ask, StartMode, StopMode};
use howdah_ha::{
    Action, Command, Dcs, Effect, KeeperInput, Me, Peer, Peers, Postgres, Running, RunningAction, Snapshot,
    Stopped, WalSender, decide, gate,
};
use howdah_pgconf::DbState;
use howdah_types::{BootTime, Lsn, MemberName, Tags, Timeline};

use crate::{
    Choice, Settings, World,
    member::{Doing, SYSTEM},
    world::MEMBERS,
};

impl World {
    /// The loop reads the store, looks at PostgreSQL and decides.
    pub(crate) fn decide(&mut self, i: usize, settings: &Settings) {
        if !self.runs(i) || !self.nodes[i].effects.is_empty() {
            return;
        }
        if self.connected(i) {
            self.touch(i);
        }
        if self.nodes[i].pg.up && self.nodes[i].sync_names.is_none() {
            self.nodes[i].sync_names = Some(self.nodes[i].pg.sync_names.clone());
        }
        let snapshot = self.snapshot(i, settings);
        let plan = decide(&snapshot);
        if !plan.effects.is_empty() || self.nodes[i].memory != plan.memory {
            let reasons: Vec<String> = plan.reasons.iter().map(ToString::to_string).collect();
            self.say(|| format!("m{i}: {} -> {:?}", reasons.join("; "), plan.effects));
        }
        self.nodes[i].memory = plan.memory;
        self.nodes[i].effects = plan.effects;
    }

    fn touch(&mut self, i: usize) {
        let Some(lease) = self.nodes[i].keeper.lease() else {
            return;
        };
        let value = self.nodes[i].wanted_record(i);
        let marker = format!("{lease:?}{value}");
        if self.nodes[i].record != marker {
            let op = Op::PutMember {
                me: self.nodes[i].name.clone(),
                lease,
                value,
            };
            if matches!(self.store.apply(&op, self.now()), Outcome::Done(_)) {
                self.nodes[i].record = marker;
            }
        }
    }

    fn snapshot(&mut self, i: usize, settings: &Settings) -> Snapshot {
        let now = self.now();
        let dcs = if self.connected(i) {
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
                may_bootstrap: false,
            },
            config: settings.dynamic.clone(),
            dcs,
            lease: node.keeper.state(now),
            postgres: self.observe(i),
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
        if !pg.up {
            let state = match (pg.standby, pg.clean) {
                (true, _) => DbState::ShutDownInRecovery,
                (false, true) => DbState::ShutDown,
                (false, false) => DbState::InProduction,
            };
            return Postgres::Stopped(Stopped {
                system_id: SYSTEM,
                state,
                timeline: Timeline(pg.timeline),
                checkpoint: node.lsn(),
                standby: pg.standby,
                damaged: false,
            });
        }
        // One that is stuck is seen as streaming by both ends, at every look: that is the worst case.
        let walsenders = (0..MEMBERS)
            .filter(|other| self.streams(*other) == Some(i) || self.is_stuck(*other) == Some(i))
            .map(|other| WalSender {
                name: self.nodes[other].name.to_string(),
                streaming: true,
                sync: pg.sync_names == howdah_ha::quote_sync_name(self.nodes[other].name.as_str()),
                lsn: self.nodes[other].lsn(),
            });
        Postgres::Running(Running {
            system_id: SYSTEM,
            in_recovery: !pg.primary,
            timeline: Timeline(pg.timeline),
            checkpoint_timeline: Timeline(pg.timeline),
            lsn: node.lsn(),
            streaming: self.streams(i).is_some() || self.is_stuck(i).is_some(),
            upstream: pg
                .upstream
                .map(|other| ("h".to_owned(), u16::try_from(other).unwrap_or(0))),
            sync_names: pg.sync_names.clone(),
            walsenders: walsenders.collect(),
            slots: Vec::new(),
        })
    }

    /// From whom a replica gets WAL at this moment.
    pub(crate) fn streams(&self, i: usize) -> Option<usize> {
        let node = &self.nodes[i];
        let upstream = node.pg.upstream.filter(|_| node.pg.up && !node.pg.primary)?;
        let other = &self.nodes[upstream];
        let reachable = self.connected(i)
            && self.connected(upstream)
            && other.pg.up
            && node.no_receiver_until <= self.tick;
        let continues = other.pg.wal.starts_with(&node.pg.wal) && other.pg.timeline >= node.pg.timeline;
        (reachable && continues && other.pg.primary).then_some(upstream)
    }

    /// The primary whose history a replica's WAL has left: the receiver gets the end of the old timeline again and again.
    fn is_stuck(&self, i: usize) -> Option<usize> {
        let node = &self.nodes[i];
        let upstream = node.pg.upstream.filter(|_| node.pg.up && !node.pg.primary)?;
        let other = &self.nodes[upstream];
        let reachable = self.connected(i) && self.connected(upstream) && other.pg.up && other.pg.primary;
        let left = node.pg.timeline < other.pg.timeline && !other.pg.wal.starts_with(&node.pg.wal);
        (reachable && left).then_some(upstream)
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

    fn carry_out(&mut self, i: usize, effect: Effect, settings: &Settings) -> bool {
        let now = self.now();
        match effect {
            Effect::Acquire { not_after } => {
                self.keeper(i, KeeperInput::Command(Command::Acquire { not_after }));
                true
            }
            Effect::Release => {
                self.keeper(i, KeeperInput::Command(Command::Release));
                true
            }
            Effect::Put { key, value, cond } => self.write(i, &Op::Put { key, value, cond }),
            Effect::Delete { key, cond } => self.write(i, &Op::Delete { key, cond }),
            Effect::ProbePeers(names) => {
                self.probe(i, &names);
                true
            }
            Effect::Follow(upstream) => {
                self.nodes[i].pg.upstream = upstream.map(|u| usize::from(u.port));
                true
            }
            Effect::SetSyncNames(names) => {
                self.nodes[i].pg.sync_names.clone_from(&names);
                self.nodes[i].sync_names = Some(names);
                true
            }
            Effect::Begin(action) => {
                let lease = self.nodes[i].keeper.state(now);
                match gate::admit(&action, lease, now) {
                    Ok(()) => {
                        self.nodes[i].doing = Some(Doing {
                            action,
                            since: now,
                            phase: 0,
                        });
                    }
                    Err(stale) => self.say(|| format!("m{i}: not begun, stale: {stale:?}")),
                }
                false
            }
            Effect::Fatal(reason) => {
                self.say(|| format!("m{i}: fatal: {reason}"));
                self.agent_dies(i, settings);
                false
            }
            Effect::WriteHistory => {
                let previous = self.nodes[i].pg.timeline.saturating_sub(1);
                let value = if previous == 0 {
                    "[]".to_owned()
                } else {
                    format!("[[{previous},1,\"\"]]")
                };
                self.write(
                    i,
                    &Op::Put {
                        key: Key::History,
                        value,
                        cond: Cond::Always,
                    },
                )
            }
            Effect::Slots(_) | Effect::Claim | Effect::RestoreConfig => true,
        }
    }

    pub(crate) fn write(&mut self, i: usize, op: &Op) -> bool {
        self.connected(i) && matches!(self.store.apply(op, self.now()), Outcome::Done(_))
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
                let peer = Peer {
                    primary: node.pg.up && node.pg.primary,
                    running: node.pg.up,
                    lsn: node.lsn(),
                    timeline: Some(Timeline(node.pg.timeline)),
                    nofailover: false,
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
        let done = self.act_on(i, &doing.action.clone(), &mut doing.phase, settings);
        doing.phase += 1;
        if !done && doing.phase < 40 {
            self.nodes[i].doing = Some(doing);
        }
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
                if self.guard(i, Input::Request(Ask::Start(mode)), settings) {
                    self.nodes[i].pg.term = term.0;
                }
                true
            }
            Action::Promote { term, not_after } => {
                let request = Ask::Promote {
                    term: term.0,
                    not_after: *not_after,
                };
                if self.nodes[i].pg.up && self.guard(i, Input::Request(request), settings) {
                    self.nodes[i].pg.term = term.0;
                    self.checker.promoted(i, &self.nodes[i].pg.wal);
                }
                true
            }
            Action::HandOver { candidate, may_lose } => {
                self.hand_over(i, candidate.as_ref(), *may_lose, phase, settings)
            }
            Action::StopPrimary => {
                self.guard(i, Input::Request(Ask::Stop(StopMode::Immediate)), settings);
                self.postgres_dies(i, settings);
                true
            }
            Action::Rejoin { leader } => self.rejoin(i, usize::from(leader.port), settings),
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
            mine.and_then(|sync| sync.standbys().next())
                .map(howdah_ha::quote_sync_name)
                .unwrap_or_default()
        })
    }

    fn start_replica(&mut self, i: usize, settings: &Settings) -> bool {
        self.nodes[i].pg.standby = true;
        self.nodes[i].pg.primary = false;
        self.guard(i, Input::Request(Ask::Start(StartMode::Replica)), settings);
        true
    }

    fn rejoin(&mut self, i: usize, leader: usize, settings: &Settings) -> bool {
        let other = &self.nodes[leader].pg;
        if !self.connected(i) || !self.connected(leader) || !other.up || !other.primary {
            return true;
        }
        let (wal, timeline) = (other.wal.clone(), other.timeline);
        let mine = &self.nodes[i].pg;
        if !wal.starts_with(&mine.wal) || mine.timeline > timeline {
            self.say(|| format!("m{i}: rewinds to the history of m{leader}"));
            if self.nodes[i].pg.up {
                self.postgres_dies(i, settings);
            }
            self.nodes[i].pg.wal = wal;
        }
        self.nodes[i].pg.timeline = timeline;
        self.nodes[i].pg.upstream = Some(leader);
        if !self.nodes[i].pg.up {
            self.start_replica(i, settings);
        }
        true
    }

    /// Clients write on every primary, and WAL is shipped.
    pub(crate) fn traffic(&mut self, settings: &Settings) {
        for i in 0..MEMBERS {
            let total: usize = self.checker.committed;
            let pg = &mut self.nodes[i].pg;
            if pg.up && pg.primary && self.nodes[i].off_until <= self.tick && total < settings.commits {
                let number = u32::try_from(total).unwrap_or(u32::MAX);
                let term = self.nodes[i].pg.term;
                self.nodes[i].pg.wal.push((term, number));
                self.checker.committed += 1;
            }
        }
        for i in 0..MEMBERS {
            if let Some(upstream) = self.streams(i) {
                self.nodes[i].pg.wal = self.nodes[upstream].pg.wal.clone();
                self.nodes[i].pg.timeline = self.nodes[upstream].pg.timeline;
            }
        }
    }

    /// Whether a primary would acknowledge a commit to a client now: without a synchronous standby at once, else when
    /// that standby streams from it.
    pub(crate) fn acknowledges(&self, i: usize) -> bool {
        let pg = &self.nodes[i].pg;
        if !pg.up || !pg.primary || self.nodes[i].off_until > self.tick {
            return false;
        }
        // PostgreSQL looks at the position that a standby reports, not at its history.
        let confirmed = |other: usize| {
            self.streams(other) == Some(i)
                || (self.is_stuck(other) == Some(i) && self.nodes[other].lsn() >= self.nodes[i].lsn())
        };
        match pg.sync_names.as_str() {
            "" => true,
            names => (0..MEMBERS)
                .any(|o| names == howdah_ha::quote_sync_name(self.nodes[o].name.as_str()) && confirmed(o)),
        }
    }

    /// Where a primary's WAL ends, for messages.
    pub(crate) fn end_of(&self, i: usize) -> Lsn {
        self.nodes[i].lsn()
    }
}
