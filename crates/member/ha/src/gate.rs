//! The second look: what was decided is checked again at the moment it is carried out, because any time may have
//! passed in between.

use howdah_types::BootTime;

use crate::{Action, LeaseState};

/// Why an action is not begun although it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stale {
    /// Its time is over.
    TooLate,
    /// The leadership it was decided under is not held any more.
    TermOver,
    /// We lead by now: what was meant for a replica or a former primary must not happen.
    LeadsNow,
}

/// Whether `action` may still begin.
///
/// # Errors
/// Why not; the next decision sees the new state.
pub fn admit(action: &Action, lease: LeaseState, now: BootTime) -> Result<(), Stale> {
    match action {
        Action::StartPrimary { term, not_after }
        | Action::Promote { term, not_after }
        | Action::Restart {
            primary: Some((term, not_after)),
            ..
        } => {
            if now >= *not_after {
                return Err(Stale::TooLate);
            }
            match lease.held(now) {
                Some((held, _)) if held == *term => Ok(()),
                _ => Err(Stale::TermOver),
            }
        }
        // The leader of a cluster that follows another one.
        Action::Rejoin { leader, .. } if leader.remote => Ok(()),
        Action::Clone { .. }
        | Action::Reinitialize { .. }
        | Action::Rejoin { .. }
        | Action::CopySlots { .. }
        | Action::StopPrimary => {
            if lease == LeaseState::None {
                Ok(())
            } else {
                Err(Stale::LeadsNow)
            }
        }
        Action::Bootstrap
        | Action::GiveUp
        | Action::KillServer
        | Action::StartReplica { .. }
        | Action::HandOver { .. }
        | Action::DemoteCluster
        | Action::Checkpoint
        | Action::Restart { primary: None, .. }
        | Action::Shutdown { .. } => Ok(()),
    }
}
