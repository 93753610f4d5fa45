//! What was read of what the operator's configuration names, for a while.

use std::{collections::BTreeMap, time::Duration};

use howdah_blueprint::{InfrastructureRole, TeamMap};
use howdah_clock::now;
use howdah_types::BootTime;
use parking_lot::Mutex;

/// What was read this long ago is read again.
pub(crate) const AGE: Duration = Duration::from_secs(30);

/// The same for what was missing.
pub(crate) const AGE_OF_MISSING: Duration = Duration::from_secs(5);

/// The same for what did not answer: each look at it may take some seconds.
pub(crate) const AGE_OF_SILENCE: Duration = Duration::from_secs(30);

/// So many things are remembered; beyond that all are read again.
const MOST: usize = 10_000;

/// What was read last, by what it is; failures too, so that what does not answer is not asked in every pass.
pub(crate) struct Cached<T> {
    kept: Mutex<BTreeMap<String, (BootTime, T)>>,
}

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Cached {
            kept: Mutex::default(),
        }
    }
}

impl<T: Clone> Cached<T> {
    /// What is known of it, or what `read` finds. `age`: how long that counts.
    pub(crate) async fn get(&self, name: &str, age: fn(&T) -> Duration, read: impl Future<Output = T>) -> T {
        let known = self.kept.lock().get(name).cloned();
        if let Some((at, value)) = known
            && now() < at + age(&value)
        {
            return value;
        }
        let value = read.await;
        let mut kept = self.kept.lock();
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(name.to_owned(), (now(), value.clone()));
        value
    }
}

/// What is remembered of all sources.
#[derive(Default)]
pub(crate) struct Known {
    /// Data of ConfigMaps with variables of pods; `None`: there is none.
    pub(crate) maps: Cached<Result<Option<BTreeMap<String, String>>, String>>,
    /// Keys of Secrets with variables of pods.
    pub(crate) secrets: Cached<Result<Option<Vec<String>>, String>>,
    /// Roles of a Secret of the configuration (`None`: it cannot be read), and what is wrong with others.
    pub(crate) infrastructure: Cached<(Option<Vec<InfrastructureRole>>, Vec<String>)>,
    /// The roles that were read last: one failed look does not make a user of a manifest out of a robot.
    pub(crate) robots: Mutex<BTreeMap<String, Vec<InfrastructureRole>>>,
    /// When the teams API was silent last.
    pub(crate) silent: Mutex<Option<(BootTime, String)>>,
    /// What `PostgresTeam` objects say together, and what is wrong with others.
    pub(crate) teams: Cached<Result<(TeamMap, Vec<String>), String>>,
    /// The people of a team; `None`: the teams API does not know it.
    pub(crate) members: Cached<Result<Option<Vec<String>>, String>>,
}
