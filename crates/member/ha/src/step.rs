//! What carrying out an effect comes to. The agent and the model do the same with a plan, by this table.

use howdah_dcs::{Cond, Document, KeyOp, LeaseId, Outcome};
use howdah_types::{BootTime, MemberName};
use serde_json::{Map, Value};

use crate::{
    Action, Command, Effect, LeaseState, Reason, SlotChange, Unguarded, Upstream,
    gate::{self, Stale},
};

/// One thing to do, of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// For the lease keeper, which reports by its state how that ended.
    Keeper(Command),
    /// A write to the store. The plan goes on if [`may_go_on`] says so.
    Write {
        /// What.
        op: KeyOp,
        /// What follows rests on it.
        required: bool,
    },
    /// Something that the agent does itself: with PostgreSQL, its files, the guard or other members.
    Here(Here),
    /// A long action, which is begun if [`may_begin`] says so. The plan ends with it in any case: what comes next depends on
    /// how the action ends.
    Begin(Action),
    /// The agent ends.
    End(Reason),
    /// There is nothing to do.
    Skip,
    /// What the plan rests on does not hold: it ends here.
    Halt,
}

/// What needs neither the store nor the lease keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Here {
    /// See [`Effect::ProbePeers`].
    Probe(Vec<MemberName>),
    /// See [`Effect::Follow`].
    Follow(Option<Upstream>),
    /// See [`Effect::SetSyncNames`].
    SetSyncNames(String),
    /// See [`Effect::ProveCommitsWait`].
    ProveCommitsWait,
    /// See [`Effect::NudgeStandby`].
    NudgeStandby,
    /// See [`Effect::Slots`].
    Slots(Vec<SlotChange>),
    /// See [`Effect::WriteHistory`]; the rows come from the data directory.
    WriteHistory,
    /// See [`Effect::Adopt`].
    Adopt(Unguarded),
}

/// What an effect may need besides itself.
#[derive(Clone, Copy, Debug)]
pub struct Means<'a> {
    /// The lease of this life.
    pub lease: Option<LeaseId>,
    /// The cluster's configuration as it was last good.
    pub config: Option<&'a Map<String, Value>>,
    /// The revision of what the store has in its place.
    pub config_rev: u64,
}

impl Effect {
    /// How it is carried out.
    #[must_use]
    pub fn step(self, means: &Means<'_>) -> Step {
        let write = |op| Step::Write { op, required: true };
        match self {
            Effect::Acquire { not_after } => Step::Keeper(Command::Acquire { not_after }),
            Effect::Release => Step::Keeper(Command::Release),
            Effect::VerifyLease => Step::Keeper(Command::Verify),
            Effect::Failsafe { term, members } => Step::Keeper(Command::Failsafe { term, members }),
            Effect::ForgetPromise { leader, asked } => Step::Keeper(Command::ForgetPromise { leader, asked }),
            Effect::Put { document, cond } => write(KeyOp::Put { document, cond }),
            Effect::Delete { key, cond } => write(KeyOp::Delete { key, cond }),
            // Bound to our lease; without one the claim would not end with us.
            Effect::Claim => means
                .lease
                .map_or(Step::Halt, |lease| write(KeyOp::Claim { lease })),
            Effect::RestoreConfig => means.config.map_or(Step::Skip, |config| Step::Write {
                op: KeyOp::Put {
                    document: Document::config(config),
                    cond: Cond::Rev(means.config_rev),
                },
                // Nothing else waits for that.
                required: false,
            }),
            Effect::ProbePeers(names) => Step::Here(Here::Probe(names)),
            Effect::Follow(upstream) => Step::Here(Here::Follow(upstream)),
            Effect::SetSyncNames(names) => Step::Here(Here::SetSyncNames(names)),
            Effect::ProveCommitsWait => Step::Here(Here::ProveCommitsWait),
            Effect::NudgeStandby => Step::Here(Here::NudgeStandby),
            Effect::Slots(changes) => Step::Here(Here::Slots(changes)),
            Effect::WriteHistory => Step::Here(Here::WriteHistory),
            Effect::Adopt(server) => Step::Here(Here::Adopt(server)),
            Effect::Begin(action) => Step::Begin(action),
            Effect::Fatal(reason) => Step::End(reason),
        }
    }
}

/// Whether the plan goes on after a write: what was refused, has failed or may have happened ends it, if the rest rests on
/// it.
#[must_use]
pub fn may_go_on<T>(required: bool, outcome: &Outcome<T>) -> bool {
    match outcome {
        Outcome::Done(_) => true,
        Outcome::Refused(_) | Outcome::Failed(_) | Outcome::Unknown(_) => !required,
    }
}

/// Why an action is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotBegun {
    /// Another one runs.
    Busy,
    /// The world has changed since the decision.
    Stale(Stale),
}

/// Whether a long action may begin now, beside the one that `runs`. A checkpoint goes on in the server without its action:
/// it gives way.
///
/// # Errors
/// Why not; the next decision sees the new state.
pub fn may_begin(
    action: &Action,
    runs: Option<&Action>,
    lease: LeaseState,
    now: BootTime,
) -> Result<(), NotBegun> {
    if runs.is_some_and(|runs| *runs != Action::Checkpoint) {
        return Err(NotBegun::Busy);
    }
    gate::admit(action, lease, now).map_err(NotBegun::Stale)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEANS: Means<'_> = Means {
        lease: None,
        config: None,
        config_rev: 7,
    };

    #[test]
    fn a_claim_needs_a_lease_that_ends_with_us() {
        assert_eq!(Effect::Claim.step(&MEANS), Step::Halt);
        let lease = Some(LeaseId(3));
        let step = Effect::Claim.step(&Means { lease, ..MEANS });
        let op = KeyOp::Claim { lease: LeaseId(3) };
        assert_eq!(step, Step::Write { op, required: true });
    }

    #[test]
    fn a_configuration_is_restored_only_over_what_was_read() {
        assert_eq!(Effect::RestoreConfig.step(&MEANS), Step::Skip);
        let config = Map::new();
        let step = Effect::RestoreConfig.step(&Means {
            config: Some(&config),
            ..MEANS
        });
        assert!(matches!(
            step,
            Step::Write {
                op: KeyOp::Put {
                    cond: Cond::Rev(7),
                    ..
                },
                required: false
            }
        ));
    }

    #[test]
    fn only_a_checkpoint_gives_way() {
        let begin = |runs: &Action| may_begin(&Action::GiveUp, Some(runs), LeaseState::None, BootTime(1));
        assert_eq!(begin(&Action::Checkpoint), Ok(()));
        assert_eq!(begin(&Action::StopPrimary), Err(NotBegun::Busy));
    }

    #[test]
    fn an_unknown_write_ends_the_plan() {
        assert!(!may_go_on::<u64>(true, &Outcome::Unknown("lost".into())));
        assert!(may_go_on::<u64>(false, &Outcome::Unknown("lost".into())));
    }
}
