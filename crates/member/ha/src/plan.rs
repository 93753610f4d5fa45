use std::time::Duration;

use howdah_types::BootTime;
use serde::Serialize;

use crate::{Action, Effect, Memory, Reason, Snapshot};

/// The next look when nothing wakes the loop earlier and something is in motion.
pub(crate) const SOON: Duration = Duration::from_millis(100);

/// A decision to acquire is stale after this.
pub(crate) const DECISION_LIFE: Duration = Duration::from_secs(2);

/// What a member does now, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// In this order; the first that is refused, fails or stays unknown ends the plan, and the next decision begins
    /// with a new read.
    pub effects: Vec<Effect>,
    /// Decide again at this moment at the latest.
    pub next_wake: BootTime,
    /// For the next decision.
    pub memory: Memory,
    /// Why: the first is the headline.
    pub reasons: Vec<Reason>,
}

impl Plan {
    pub(crate) fn because(&mut self, reason: Reason) -> &mut Self {
        self.reasons.push(reason);
        self
    }

    pub(crate) fn effect(&mut self, effect: Effect) -> &mut Self {
        self.effects.push(effect);
        self
    }

    pub(crate) fn wake(&mut self, at: BootTime) -> &mut Self {
        self.next_wake = self.next_wake.min(at);
        self
    }

    /// Begins a long action, unless the same failed a moment ago.
    pub(crate) fn begin(&mut self, snapshot: &Snapshot, action: Action) -> &mut Self {
        if snapshot.action.is_some() {
            return self;
        }
        match snapshot
            .memory
            .retry_at
            .get(action.name())
            .filter(|at| snapshot.now < **at)
        {
            Some(&until) => {
                self.because(Reason::ActionPaused {
                    action: action.name(),
                    until,
                });
                self.wake(until)
            }
            None => self.effect(Effect::Begin(action)),
        }
    }
}
