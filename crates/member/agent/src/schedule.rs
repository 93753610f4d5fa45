use howdah_member_api::ScheduledRestart;

/// The restart that waits for its time.
#[derive(Default)]
pub(crate) enum Schedule {
    /// The record of this member, where an earlier life of its agent has noted one, was not read yet.
    #[default]
    Unread,
    /// What is known.
    Known(Option<ScheduledRestart>),
}

impl Schedule {
    pub(crate) fn restart(&self) -> Option<&ScheduledRestart> {
        match self {
            Schedule::Unread => None,
            Schedule::Known(restart) => restart.as_ref(),
        }
    }

    /// Forgets it; whether there was one.
    pub(crate) fn forget(&mut self) -> bool {
        match self {
            Schedule::Unread => false,
            Schedule::Known(restart) => restart.take().is_some(),
        }
    }
}
