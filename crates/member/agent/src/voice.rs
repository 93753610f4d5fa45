use howdah_ha::{Dcs, Plan, Snapshot};

use crate::{callbacks::Callbacks, member::Publisher, publish::Published};

/// What the agent has told others: the log, the record in the store, the REST thread, the user's scripts.
pub(crate) struct Voice {
    pub(crate) publisher: Publisher,
    pub(crate) published: Published,
    /// Lines that the log could not take.
    pub(crate) log_lost: fn() -> u64,
    sentence: String,
    pub(crate) callbacks: Callbacks,
}

impl Voice {
    /// Nothing was said yet.
    pub(crate) fn new(published: Published, log_lost: fn() -> u64) -> Self {
        Voice {
            publisher: Publisher::default(),
            published,
            log_lost,
            sentence: String::new(),
            callbacks: Callbacks::default(),
        }
    }

    /// Logs why the plan is as it is, when that is not what was logged last.
    pub(crate) fn say(&mut self, plan: &Plan, snapshot: &Snapshot) {
        let reasons: Vec<String> = plan.reasons.iter().map(ToString::to_string).collect();
        let sentence = reasons.join("; ");
        // An agent that begins while the store is down has said so already.
        let begun = matches!(snapshot.dcs, Dcs::Fresh(_)) || !self.sentence.is_empty();
        if begun && !sentence.is_empty() && sentence != self.sentence {
            tracing::info!("{sentence}");
            self.sentence = sentence;
        }
    }
}
