//! The lease keeper: the only writer of the leader key. Sans I/O: it says what to send and hears how that ended.

use std::time::Duration;

use howdah_dcs::{LeaderSeen, LeaseDone, LeaseId, LeaseOp, Outcome, Refusal, Term, Topology};
use howdah_types::{Arm, BootTime, MemberName};
use serde::Serialize;

use crate::{
    Margins,
    promises::{Promise, Promises, Question},
};

/// What the main loop may want of the keeper.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Try once to become leader, unless it is later than this when the try would be sent.
    Acquire {
        /// The decision is stale after that.
        not_after: BootTime,
    },
    /// Give leadership back. PostgreSQL must have stopped.
    Release,
    /// The guard is gone, and every process of PostgreSQL was seen to be: give leadership back without asking it.
    ReleaseUnguarded,
    /// Ask the store at once whether we still lead.
    Verify,
    /// The length of leases from the next one on.
    Ttl(Duration),
    /// Maintenance mode: the lease is renewed, the guard does not watch it.
    Paused(bool),
    /// Who is asked when the store does not answer, under this leadership; `None`: nothing but the store counts.
    Failsafe {
        /// It counts for this leadership alone.
        term: Term,
        /// The other members.
        members: Option<Topology>,
    },
    /// That leader does not rely on what we promised it when it asked up to this moment of its clock.
    ForgetPromise {
        /// Whom we have promised not to lead.
        leader: MemberName,
        /// By its clock.
        asked: BootTime,
    },
}

/// What the keeper hears.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeeperInput {
    /// Time passed.
    Tick,
    /// From the main loop.
    Command(Command),
    /// How the operation that was sent last ended.
    Answer(Outcome<LeaseDone>),
    /// Whether the guard has taken the last [`GuardCall::Disarm`]: it refuses while PostgreSQL may write.
    Disarmed(bool),
    /// After [`KeeperOutput::EndPrimary`]: no process of a primary is left.
    Ended,
    /// Whether all members have agreed to the [`KeeperOutput::Ask`] of that moment.
    Answers {
        /// When they were asked.
        asked: BootTime,
        /// All have.
        agreed: bool,
    },
    /// A leader that the store does not answer asks this member not to lead; answered by [`KeeperOutput::Promised`].
    Asked(Promise),
}

/// What the keeper tells the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GuardCall {
    /// The lease is confirmed until the deadline in it.
    Arm(Arm),
    /// Leadership is about to be given back; answered by [`KeeperInput::Disarmed`], and only then given back.
    Disarm(Term),
    /// Maintenance mode.
    Pause(Term),
    /// The store says that this leadership is over.
    Lost(Term),
}

/// What the keeper wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeeperOutput {
    /// Send this to the store. Its outcome is [`Outcome::Unknown`] if no answer came by `deadline`.
    Send {
        /// What.
        op: LeaseOp,
        /// When to give up.
        deadline: BootTime,
    },
    /// Tell the guard, before anything else happens.
    Guard(GuardCall),
    /// End a PostgreSQL that still runs as primary: its guard must have done so by now, and may be frozen.
    EndPrimary,
    /// Ask all these members to agree that this one leads; answered by [`KeeperInput::Answers`].
    Ask(Question),
    /// Whether this member has promised not to lead.
    Promised(bool),
}

/// Whether this life of this agent leads, as far as it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum LeaseState {
    /// It does not.
    #[default]
    None,
    /// An answer was lost, or the lease may have run out: nothing may be concluded.
    Unsure,
    /// It does, until `deadline` at least.
    Held {
        /// The leadership.
        term: Term,
        /// PostgreSQL stops at this moment unless the lease is renewed.
        stop_at: BootTime,
        /// D.
        deadline: BootTime,
    },
}

impl LeaseState {
    /// The term and the moment up to which something new may be begun under it.
    #[must_use]
    pub fn held(&self, now: BootTime) -> Option<(Term, BootTime)> {
        match self {
            LeaseState::Held { term, stop_at, .. } if now < *stop_at => Some((*term, *stop_at)),
            LeaseState::Held { .. } | LeaseState::Unsure | LeaseState::None => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Lease {
    id: LeaseId,
    /// What the store has confirmed last.
    ttl: Duration,
    /// What it was asked for, and what it granted.
    wanted: Duration,
    granted: Duration,
    /// When the last renewal that was confirmed had been *sent*: the store counts from a later moment.
    sent: BootTime,
}

impl Lease {
    fn deadline(self) -> BootTime {
        self.sent + self.ttl
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Leadership {
    No,
    Unsure,
    Yes(Term),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Want {
    Nothing,
    Acquire { not_after: BootTime },
    Release,
}

/// What the keeper waits for. One thing at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// Nothing: the next operation is sent when its time comes.
    Idle,
    /// The outcome of an operation. A store that never answers ends it with [`Outcome::Unknown`] at its deadline.
    InFlight {
        op: LeaseOp,
        /// A lease that it renews counts from here.
        sent: BootTime,
    },
    /// The guard's answer to [`GuardCall::Disarm`]; a guard that is silent answers no after a while.
    Disarming,
}

/// Delay before an operation that did not succeed is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// A renewal that is not answered is waited for until half of the time is gone that is left before PostgreSQL must stop:
/// a slow store answers, and one whose answer is lost can be asked again. Never for less than this.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// The keeper's state. One operation is under way at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keeper {
    me: MemberName,
    ttl: Duration,
    lease: Option<Lease>,
    leadership: Leadership,
    /// What the guard was last armed with and that has not ended for it.
    armed: Option<Arm>,
    want: Want,
    paused: bool,
    /// The end of PostgreSQL was ordered for this deadline.
    ended_at: Option<BootTime>,
    /// When the store was asked last whether the leader key is ours, and it was.
    seen_leading: BootTime,
    /// The store is to be asked at once whether we lead.
    verify: bool,
    stage: Stage,
    next_try: BootTime,
    /// What the other members have promised.
    promises: Promises,
    /// The lease was over in the store and the leader key is gone, while the promises of all members hold: it is to be had again.
    regain: bool,
    /// What we have promised another member.
    given: Option<Promise>,
}

impl Keeper {
    /// A keeper without a lease.
    #[must_use]
    pub fn new(me: MemberName, ttl: Duration) -> Self {
        Keeper {
            me,
            ttl,
            lease: None,
            leadership: Leadership::No,
            armed: None,
            want: Want::Nothing,
            paused: false,
            ended_at: None,
            seen_leading: BootTime(0),
            verify: false,
            stage: Stage::Idle,
            next_try: BootTime(0),
            promises: Promises::default(),
            regain: false,
            given: None,
        }
    }

    /// Keeps to what an earlier life of this agent has promised.
    #[must_use]
    pub fn bound_by(mut self, promise: Option<Promise>) -> Self {
        self.given = promise;
        self
    }

    /// Goes on with the leadership of an earlier life of this agent, which the living guard hands over. It is not held
    /// before the store has confirmed it.
    #[must_use]
    pub fn adopt(mut self, term: Term, lease: LeaseId, deadline: BootTime) -> Self {
        let sent = deadline - self.ttl;
        self.lease = Some(Lease {
            id: lease,
            ttl: self.ttl,
            wanted: self.ttl,
            granted: self.ttl,
            sent,
        });
        self.leadership = Leadership::Unsure;
        self.armed = Some(arm_of(term, lease, deadline, self.ttl));
        // Who leads has promised nothing that still counts.
        self.given = None;
        self
    }

    /// The lease that was adopted was granted with this length.
    #[must_use]
    pub fn granted_with(mut self, length: Option<Duration>) -> Self {
        if let (Some(lease), Some(length)) = (&mut self.lease, length) {
            lease.granted = length;
        }
        self
    }

    /// The lease that this life of the agent has, for its member record.
    #[must_use]
    pub fn lease(&self) -> Option<LeaseId> {
        self.lease.map(|lease| lease.id)
    }

    /// Whether it leads.
    #[must_use]
    pub fn state(&self, now: BootTime) -> LeaseState {
        match (self.leadership, self.deadline()) {
            (Leadership::Yes(term), Some(deadline)) if now < deadline => LeaseState::Held {
                term,
                stop_at: Margins::of(self.length()).stop_at(deadline),
                deadline,
            },
            (Leadership::Yes(_) | Leadership::Unsure, _) => LeaseState::Unsure,
            (Leadership::No, _) => LeaseState::None,
        }
    }

    /// It leads by the promises of the other members, longer than by what the store has confirmed.
    #[must_use]
    pub fn leads_by_promises(&self, now: BootTime) -> bool {
        let stored = self.stored().map(Lease::deadline);
        matches!(self.leadership, Leadership::Yes(_)) && self.promises.until() > stored && self.holds(now)
    }

    /// What it has promised another member and must keep.
    #[must_use]
    pub fn promise(&self, now: BootTime) -> Option<&Promise> {
        self.given.as_ref().filter(|promise| now < promise.until)
    }

    /// Promises that were asked for up to this moment are not relied on: for the member record.
    #[must_use]
    pub fn settled(&self) -> Option<BootTime> {
        self.promises.settled()
    }

    /// Whom it was told to ask when the store does not answer.
    #[must_use]
    pub fn asks(&self) -> Option<&Topology> {
        match self.leadership {
            Leadership::Yes(term) => self.promises.told(term),
            Leadership::No | Leadership::Unsure => None,
        }
    }

    /// Who may be named in `/failsafe` beside this member: who was asked for every promise that counts.
    #[must_use]
    pub fn covered(&self) -> Topology {
        match self.leadership {
            Leadership::Yes(term) => self.promises.covered(term),
            Leadership::No | Leadership::Unsure => Topology::new(),
        }
    }

    /// No promise of other members counts, or may come to count.
    #[must_use]
    pub fn needs_no_promise(&self) -> bool {
        self.promises.is_idle()
    }

    /// The lease that the leader key is bound to.
    fn stored(&self) -> Option<Lease> {
        self.lease.filter(|_| !self.regain)
    }

    /// The length that the store granted, of which a renewal may confirm less.
    #[must_use]
    pub fn granted(&self) -> Option<Duration> {
        self.lease.map(|lease| lease.granted)
    }

    /// Until when no other member can lead: by the store, or by what all others have promised.
    fn deadline(&self) -> Option<BootTime> {
        self.stored().map(Lease::deadline).max(self.promises.until())
    }

    /// Of the lease.
    fn length(&self) -> Duration {
        self.lease.map_or(self.ttl, |lease| lease.ttl)
    }

    /// The promises of the other members last long enough to go on by them.
    fn holds(&self, now: BootTime) -> bool {
        let until = self.promises.until().filter(|_| !self.paused);
        until.is_some_and(|until| now < Margins::of(self.length()).stop_at(until))
    }

    /// When [`KeeperInput::Tick`] is due.
    #[must_use]
    pub fn next_tick(&self) -> BootTime {
        let check = self
            .unchecked()
            .map_or(BootTime::FAR_FUTURE, |arm| arm.check_at());
        check.min(self.next_operation()).min(self.next_round())
    }

    /// When the other members are asked, unless the store answers before.
    fn next_round(&self) -> BootTime {
        let Leadership::Yes(term) = self.leadership else {
            return BootTime::FAR_FUTURE;
        };
        let stored = self.stored().map(|lease| lease.sent);
        match stored.max(self.promises.asked()) {
            Some(confirmed) if !self.paused && self.want != Want::Release => {
                self.promises.due(term, confirmed, self.length())
            }
            Some(_) | None => BootTime::FAR_FUTURE,
        }
    }

    /// The lease whose end is still to be looked after.
    fn unchecked(&self) -> Option<Arm> {
        self.armed.filter(|arm| self.ended_at != Some(arm.deadline))
    }

    fn next_operation(&self) -> BootTime {
        match self.stage {
            Stage::Idle => {}
            Stage::InFlight { .. } | Stage::Disarming => return BootTime::FAR_FUTURE,
        }
        let soon = self.lease.is_none()
            || self.regain
            || self.leadership == Leadership::Unsure
            || self.verify
            || self.want != Want::Nothing;
        match self.lease {
            // A member that does not lead has more time: nothing of it ends but its record.
            Some(lease) if !soon && self.leadership == Leadership::No => {
                (lease.sent + lease.ttl * 2 / 3).max(self.next_try)
            }
            Some(lease) if !soon => (lease.sent + lease.ttl / 3).max(self.next_try),
            Some(_) | None => self.next_try,
        }
    }

    /// Takes one input and says what to do.
    #[must_use]
    pub fn step(&mut self, input: KeeperInput, now: BootTime) -> Vec<KeeperOutput> {
        let mut out = Vec::new();
        self.given.take_if(|promise| now >= promise.until);
        match input {
            KeeperInput::Tick => {}
            KeeperInput::Command(command) => self.command(command, &mut out),
            KeeperInput::Ended => {
                // Seen with our own eyes: the guard need not be asked.
                self.armed.take_if(|arm| self.ended_at == Some(arm.deadline));
            }
            KeeperInput::Answer(outcome) => {
                // An answer to nothing, or while the guard is asked, belongs to no operation of this keeper.
                if matches!(self.stage, Stage::InFlight { .. })
                    && let Stage::InFlight { op, sent } = std::mem::replace(&mut self.stage, Stage::Idle)
                {
                    self.answer(&op, sent, outcome, now, &mut out);
                }
            }
            KeeperInput::Answers { asked, agreed } => self.answers(asked, agreed, now, &mut out),
            KeeperInput::Asked(promise) => {
                let promised = self.give(promise);
                out.push(KeeperOutput::Promised(promised));
            }
            KeeperInput::Disarmed(agreed) => {
                self.stage = Stage::Idle;
                if agreed {
                    self.armed = None;
                } else {
                    // PostgreSQL may still write: the lease is kept, and the loop decides again.
                    self.want = Want::Nothing;
                    self.next_try = now + RETRY;
                }
            }
        }
        if matches!(self.leadership, Leadership::Yes(_)) && self.deadline().is_none_or(|end| now >= end) {
            self.leadership = Leadership::Unsure;
            self.regain = false;
            self.promises.end();
            // The guard has ended PostgreSQL. Renewals that the store carries out all the same, and answers too late,
            // would keep everybody else from leading: the lease is given back, if the guard agrees.
            if !self.paused {
                self.want = Want::Release;
            }
        }
        if let Some(arm) = self.unchecked().filter(|arm| now >= arm.check_at()) {
            // The guard ends PostgreSQL by itself. If it is frozen, nothing else would.
            self.ended_at = Some(arm.deadline);
            out.push(KeeperOutput::EndPrimary);
        }
        if now >= self.next_round()
            && let Some((_, stop_at)) = self.state(now).held(now)
        {
            let question = self.promises.ask(now, stop_at, self.length());
            out.extend(question.map(KeeperOutput::Ask));
        }
        if now >= self.next_operation() {
            if self.want == Want::Release
                && let Some(arm) = self.armed
            {
                self.stage = Stage::Disarming;
                out.push(KeeperOutput::Guard(GuardCall::Disarm(Term(arm.term))));
                return out;
            }
            let op = self.next_op(now);
            if self.verify {
                self.verify = false;
                self.next_try = now + RETRY;
            }
            self.stage = Stage::InFlight {
                op: op.clone(),
                sent: now,
            };
            out.push(KeeperOutput::Send {
                deadline: now + self.patience(&op, now),
                op,
            });
        }
        out
    }

    /// How long an operation may take. Renewals of a leader end before PostgreSQL must stop; all others are tried again by
    /// decisions, which must not wait for them for long.
    fn patience(&self, op: &LeaseOp, now: BootTime) -> Duration {
        let usual = (self.ttl / 10).clamp(LEAST_PATIENCE, Duration::from_secs(3));
        match (op, self.lease) {
            (LeaseOp::Renew { .. }, Some(lease)) if self.leadership != Leadership::No => {
                let stop_at = Margins::of(lease.ttl).stop_at(lease.deadline());
                (now.until(stop_at) / 2).max(LEAST_PATIENCE)
            }
            (LeaseOp::KeepAlive { .. } | LeaseOp::Grant { .. }, _) => usual.max(self.ttl / 3),
            (
                LeaseOp::Renew { .. }
                | LeaseOp::Revoke { .. }
                | LeaseOp::Acquire { .. }
                | LeaseOp::Release { .. },
                _,
            ) => usual,
        }
    }

    /// The other members have answered. What comes when the right to lead is over by our own clock says nothing of the time between: another
    /// member may have led, and have ended.
    fn answers(&mut self, asked: BootTime, agreed: bool, now: BootTime, out: &mut Vec<KeeperOutput>) {
        let held = self.state(now).held(now);
        if !self.promises.hear(asked, agreed && held.is_some(), now) {
            return;
        }
        if let (Leadership::Yes(term), Some(deadline)) = (self.leadership, self.deadline())
            && !self.paused
        {
            self.arm(term, deadline, out);
        }
    }

    /// A promise, unless we lead, or may by something that is under way.
    fn give(&mut self, promise: Promise) -> bool {
        let tries = matches!(
            self.stage,
            Stage::InFlight {
                op: LeaseOp::Acquire { .. },
                ..
            }
        );
        let to_another = self
            .given
            .as_ref()
            .is_some_and(|given| given.leader != promise.leader);
        if self.leadership != Leadership::No || tries || to_another {
            return false;
        }
        if matches!(self.want, Want::Acquire { .. }) {
            self.want = Want::Nothing;
        }
        // A request may come late: what was promised last counts.
        let (asked, until) = match &self.given {
            Some(given) => (given.asked.max(promise.asked), given.until.max(promise.until)),
            None => (promise.asked, promise.until),
        };
        self.given = Some(Promise {
            asked,
            until,
            ..promise
        });
        true
    }

    fn command(&mut self, command: Command, out: &mut Vec<KeeperOutput>) {
        match command {
            Command::Failsafe { term, members } => {
                if self.leadership == Leadership::Yes(term) {
                    self.promises.tell(term, members);
                }
            }
            Command::ForgetPromise { leader, asked } => {
                let is_it = |promise: &mut Promise| {
                    promise.leader == leader && promise.asked.is_some_and(|at| at <= asked)
                };
                self.given.take_if(is_it);
            }
            Command::Acquire { not_after } => {
                // A promise is kept whatever was decided before it was given.
                if self.leadership == Leadership::No && self.given.is_none() {
                    self.want = Want::Acquire { not_after };
                }
            }
            Command::Release => {
                if self.leadership != Leadership::No {
                    self.want = Want::Release;
                }
            }
            Command::ReleaseUnguarded => {
                self.armed = None;
                if self.leadership != Leadership::No {
                    self.want = Want::Release;
                    self.next_try = BootTime(0);
                }
            }
            // Where the key is gone, that is known.
            Command::Verify if self.regain => {}
            Command::Verify => self.verify |= self.leadership != Leadership::No || self.lease.is_some(),
            Command::Ttl(ttl) => self.ttl = ttl,
            Command::Paused(paused) => {
                if paused
                    && !self.paused
                    && let Some(arm) = self.armed.take()
                {
                    out.push(KeeperOutput::Guard(GuardCall::Pause(Term(arm.term))));
                }
                let ends = !paused && self.paused;
                self.paused = paused;
                if ends && let Leadership::Yes(term) = self.leadership {
                    // The guard watches the lease that we have, from now on.
                    self.lead(term, out);
                }
            }
        }
    }

    fn next_op(&mut self, now: BootTime) -> LeaseOp {
        let Some(lease) = self.lease else {
            return LeaseOp::Grant { ttl: self.ttl };
        };
        if self.regain && !self.verify && self.want != Want::Release {
            return LeaseOp::Acquire {
                me: self.me.clone(),
                lease: lease.id,
            };
        }
        if self.leadership == Leadership::No && lease.wanted != self.ttl && self.want == Want::Nothing {
            self.lease = None;
            return LeaseOp::Revoke { lease: lease.id };
        }
        match self.want {
            Want::Release => LeaseOp::Release { lease: lease.id },
            Want::Acquire { not_after } if self.leadership == Leadership::No => {
                if now >= not_after {
                    self.want = Want::Nothing;
                    return LeaseOp::KeepAlive { lease: lease.id };
                }
                // A term that begins with an old renewal would soon end.
                if now >= lease.sent + lease.ttl / 3 {
                    return LeaseOp::KeepAlive { lease: lease.id };
                }
                LeaseOp::Acquire {
                    me: self.me.clone(),
                    lease: lease.id,
                }
            }
            Want::Acquire { .. } | Want::Nothing if self.leadership == Leadership::No && !self.verify => {
                LeaseOp::KeepAlive { lease: lease.id }
            }
            Want::Acquire { .. } | Want::Nothing => LeaseOp::Renew {
                lease: lease.id,
                read: self.verify
                    || self.leadership == Leadership::Unsure
                    || self.promises.until().is_some()
                    || now >= self.seen_leading + lease.ttl * 3 / 5,
            },
        }
    }

    fn answer(
        &mut self,
        op: &LeaseOp,
        sent: BootTime,
        outcome: Outcome<LeaseDone>,
        now: BootTime,
        out: &mut Vec<KeeperOutput>,
    ) {
        // A renewal that confirms almost nothing is followed by another one, and not at once.
        let soon_again = matches!(outcome, Outcome::Done(LeaseDone::Renewed { ttl, .. }) if ttl < RETRY * 4);
        if soon_again || matches!(outcome, Outcome::Failed(_) | Outcome::Unknown(_)) {
            self.next_try = now + RETRY;
        }
        match (op, outcome) {
            (LeaseOp::Grant { ttl: wanted }, Outcome::Done(LeaseDone::Granted { lease, ttl })) => {
                // What the store grants differently it will grant so again.
                let (wanted, granted) = (*wanted, ttl);
                self.lease = Some(Lease {
                    id: lease,
                    ttl,
                    wanted,
                    granted,
                    sent,
                });
            }
            (LeaseOp::Renew { .. }, Outcome::Done(LeaseDone::Renewed { ttl, leader })) => {
                if let Some(lease) = &mut self.lease {
                    lease.sent = sent;
                    lease.ttl = ttl;
                }
                match (leader, self.leadership) {
                    (LeaderSeen::Read(Some(leader)), _) if leader.lease == self.lease() => {
                        self.seen_leading = sent;
                        self.lead(leader.term, out);
                    }
                    // Nobody leads, and no member may: the key was deleted, or it ended with the lease.
                    (LeaderSeen::Read(None), Leadership::Yes(_)) if self.holds(now) => self.regain = true,
                    (LeaderSeen::Read(_), _) => self.over(out),
                    (LeaderSeen::NotRead, Leadership::Yes(term)) => self.lead(term, out),
                    (LeaderSeen::NotRead, Leadership::No | Leadership::Unsure) => {}
                }
            }
            (LeaseOp::KeepAlive { .. }, Outcome::Done(LeaseDone::Renewed { ttl, .. })) => {
                if let Some(lease) = &mut self.lease {
                    lease.sent = sent;
                    lease.ttl = ttl;
                }
            }
            (LeaseOp::Acquire { .. }, Outcome::Done(LeaseDone::Acquired { term })) => {
                self.seen_leading = sent;
                self.lead(term, out);
            }
            (LeaseOp::Acquire { .. }, Outcome::Refused(Refusal::HasLeader(leader))) => {
                self.want = Want::Nothing;
                // An earlier try whose answer was lost may have succeeded.
                if leader.lease == self.lease() {
                    self.lead(leader.term, out);
                } else if self.regain {
                    self.over(out);
                }
            }
            // It is looked at before anything else; the promises hold meanwhile.
            (LeaseOp::Acquire { .. }, Outcome::Unknown(_)) if self.regain => self.verify = true,
            (LeaseOp::Acquire { .. }, Outcome::Unknown(_)) => {
                self.want = Want::Nothing;
                self.leadership = Leadership::Unsure;
            }
            // The next decision sees why; the same try again and again would only load the store.
            (LeaseOp::Acquire { .. }, Outcome::Failed(_) | Outcome::Refused(Refusal::Condition)) => {
                self.want = Want::Nothing;
                if self.regain {
                    self.next_try = now + RETRY;
                }
            }
            (LeaseOp::Release { .. }, Outcome::Done(_) | Outcome::Refused(Refusal::Condition)) => {
                self.want = Want::Nothing;
                self.leadership = Leadership::No;
                self.regain = false;
                self.promises.end();
            }
            (LeaseOp::Release { .. }, Outcome::Unknown(_)) => self.leadership = Leadership::Unsure,
            (
                LeaseOp::KeepAlive { .. }
                | LeaseOp::Renew { .. }
                | LeaseOp::Acquire { .. }
                | LeaseOp::Release { .. },
                Outcome::Refused(Refusal::NoLease),
            ) => {
                self.lease = None;
                if matches!(self.leadership, Leadership::Yes(_)) && self.holds(now) {
                    self.regain = true;
                    return;
                }
                // A decision to acquire was made when this lease was thought to live, in another state of the store.
                self.want = Want::Nothing;
                self.over(out);
            }
            // A lease that was not granted is asked for again. One that was not ended runs out.
            (LeaseOp::Grant { .. } | LeaseOp::Revoke { .. }, _) => {}
            // The lease lasts as it did, and is renewed again.
            (
                LeaseOp::Renew { .. } | LeaseOp::KeepAlive { .. },
                Outcome::Failed(_)
                | Outcome::Unknown(_)
                | Outcome::Refused(Refusal::HasLeader(_) | Refusal::Condition)
                | Outcome::Done(LeaseDone::Granted { .. } | LeaseDone::Acquired { .. } | LeaseDone::Ended),
            ) => {}
            // It is released again.
            (LeaseOp::Release { .. }, Outcome::Failed(_) | Outcome::Refused(Refusal::HasLeader(_))) => {}
            // No store answers so.
            (
                LeaseOp::Acquire { .. },
                Outcome::Done(LeaseDone::Granted { .. } | LeaseDone::Renewed { .. } | LeaseDone::Ended),
            ) => {}
        }
    }

    fn lead(&mut self, term: Term, out: &mut Vec<KeeperOutput>) {
        if self.given.is_some() && !matches!(self.leadership, Leadership::Yes(_)) {
            // A request of ours from before the promise was carried out late: the promise counts.
            self.leadership = Leadership::Unsure;
            self.want = Want::Release;
            return;
        }
        let is_new = self.leadership != Leadership::Yes(term);
        self.leadership = Leadership::Yes(term);
        if matches!(self.want, Want::Acquire { .. }) {
            self.want = Want::Nothing;
        }
        let Some(lease) = self.lease else { return };
        // By the promises of all others it has led all the time: the guard goes on with the newer leadership.
        let went_on = std::mem::take(&mut self.regain);
        if let Some(old) = self.armed.filter(|old| old.term != term.0 && !went_on) {
            out.push(KeeperOutput::Guard(GuardCall::Lost(Term(old.term))));
        }
        if self
            .promises
            .until()
            .is_none_or(|until| until <= lease.deadline())
        {
            self.promises.settle();
        }
        let deadline = self.deadline().unwrap_or(lease.deadline());
        let arm = arm_of(term, lease.id, deadline, lease.ttl);
        if !self.paused {
            self.arm(term, deadline, out);
        } else if is_new {
            // A leadership that begins in maintenance mode: the guard must know it to let PostgreSQL start as its primary, and
            // watches nothing.
            out.push(KeeperOutput::Guard(GuardCall::Arm(arm)));
            out.push(KeeperOutput::Guard(GuardCall::Pause(term)));
        }
    }

    /// The guard watches the lease until this moment.
    fn arm(&mut self, term: Term, deadline: BootTime, out: &mut Vec<KeeperOutput>) {
        // While it is to be had again there may be no lease, or a new one.
        let known = self.armed.map(|arm| LeaseId(arm.lease));
        let Some(lease) = self.lease().filter(|_| !self.regain).or(known) else {
            return;
        };
        let arm = arm_of(term, lease, deadline, self.length());
        self.armed = Some(arm);
        out.push(KeeperOutput::Guard(GuardCall::Arm(arm)));
    }

    /// The store has said that we do not lead.
    fn over(&mut self, out: &mut Vec<KeeperOutput>) {
        self.leadership = Leadership::No;
        self.regain = false;
        self.promises.end();
        if self.want == Want::Release {
            self.want = Want::Nothing;
        }
        if let Some(arm) = self.armed.take() {
            out.push(KeeperOutput::Guard(GuardCall::Lost(Term(arm.term))));
            // A guard that is frozen does not hear it.
            out.push(KeeperOutput::EndPrimary);
        }
    }
}

fn arm_of(term: Term, lease: LeaseId, deadline: BootTime, ttl: Duration) -> Arm {
    let margins = Margins::of(ttl);
    Arm {
        term: term.0,
        lease: lease.0,
        stop_at: margins.stop_at(deadline),
        kill_at: margins.kill_at(deadline),
        deadline,
    }
}

#[cfg(test)]
mod tests;
