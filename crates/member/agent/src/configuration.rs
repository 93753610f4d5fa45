//! The cluster's configuration: taken when it changes, checked before it reaches a file, and taken back when PostgreSQL
//! does not start with it.

use std::{collections::BTreeMap, sync::Arc};

use howdah_config::{Dynamic, LocalConfig, PostgresConfig, dynamic_from};
use howdah_dcs::View;
use howdah_postgres::{BadParameter, Programs, Server, bad_parameters, hba_refusal};
use serde_json::{Map, Value};

use crate::{setup::ConfigFile, work::StartedWith};

/// The configuration in its stages from the store to a server that has started with it.
pub(crate) struct Configuration {
    /// Where the member's own configuration comes from.
    pub(crate) file: ConfigFile,
    /// The member's own configuration.
    pub(crate) local: Arc<LocalConfig>,
    /// The cluster's configuration in effect.
    pub(crate) dynamic: Arc<Dynamic>,
    /// The revision that was looked at last.
    pub(crate) rev: Option<u64>,
    /// As it is stored, to write it back into a store that was wiped.
    pub(crate) raw: Option<Map<String, Value>>,
    /// The stored one is not taken; the one before goes on.
    pub(crate) refused: Option<Refused>,
    /// What PostgreSQL was started with last, and by which revision.
    pub(crate) worked: Option<StartedWith>,
    /// PostgreSQL does not start with this revision, and why.
    pub(crate) unstartable: Option<(u64, String)>,
    pub(crate) checked: Checked,
}

/// Why the stored configuration is not taken.
pub(crate) struct Refused {
    why: String,
}

impl Refused {
    pub(crate) fn because(why: &impl ToString) -> Self {
        let why = format!("the configuration is not taken: {}", why.to_string());
        Refused { why }
    }
}

/// Parameters that PostgreSQL was asked about, and its answer.
#[derive(Default)]
pub(crate) struct Checked {
    parameters: BTreeMap<String, String>,
    bad: Vec<BadParameter>,
}

impl Checked {
    /// Replaces what PostgreSQL would not start with: by the value that it has now, or by none.
    pub(crate) async fn check(
        &mut self,
        programs: &Programs,
        mut dynamic: Dynamic,
        now: Option<&Dynamic>,
    ) -> Dynamic {
        if self.parameters != dynamic.parameters {
            self.bad = bad_parameters(programs, &dynamic.parameters).await;
            self.parameters = dynamic.parameters.clone();
        }
        for bad in &self.bad {
            let before = now.and_then(|now| now.parameters.get(&bad.name));
            match before.filter(|value| **value != bad.value) {
                Some(value) => {
                    dynamic.warnings.push(format!("{bad}; '{value}' is kept"));
                    dynamic.parameters.insert(bad.name.clone(), value.clone());
                }
                None => {
                    dynamic.warnings.push(format!("{bad}; it is left out"));
                    dynamic.parameters.remove(&bad.name);
                }
            }
        }
        if let Some(why) = hba_refusal(programs, dynamic.pg_hba.as_deref().unwrap_or_default()) {
            dynamic.warnings.push(format!("{why}; the lines before are kept"));
            dynamic.pg_hba = now.and_then(|now| now.pg_hba.clone());
        }
        dynamic
    }
}

impl Configuration {
    /// What of the configuration is not taken.
    pub(crate) fn notes(&self) -> Vec<String> {
        let refused = self.refused.iter().map(|refused| refused.why.clone());
        let unstartable = self.unstartable.iter().map(|(_, why)| why.clone());
        refused.chain(unstartable).collect()
    }
}

/// What an agent begins with: the stored configuration; if that is wrong, the one that this member has kept on disk.
pub(crate) async fn first(
    view: &View,
    file: ConfigFile,
    config: Arc<LocalConfig>,
    server: &Server,
) -> anyhow::Result<Configuration> {
    let bootstrap = config.bootstrap.as_ref().map(|bootstrap| &bootstrap.dcs);
    let stored = view.config.value.as_ref();
    // A store that has lost it, or has something else in its place: the cluster's data knows better than the bootstrap section.
    let kept_raw = if stored.is_none() {
        server.kept_configuration()
    } else {
        None
    };
    let initial = stored
        .or(kept_raw.as_ref())
        .or(bootstrap)
        .cloned()
        .unwrap_or_default();
    let (raw, refused, dynamic) = match dynamic_from(&initial, &server.local) {
        Ok(dynamic) => {
            if stored.is_some() {
                server.keep_configuration(&initial);
            }
            (stored.cloned().or(kept_raw), None, dynamic)
        }
        Err(error) => {
            let Some(kept) = stored.and_then(|_| kept(server, &server.local)) else {
                return Err(error.into());
            };
            tracing::error!(
                "The cluster's configuration is not taken: {error}. The last one that this member has kept goes on."
            );
            let refused = Refused::because(&error);
            (server.kept_configuration(), Some(refused), kept)
        }
    };
    let mut checked = Checked::default();
    let dynamic = Arc::new(checked.check(&server.programs, dynamic, None).await);
    let rev = stored.map(|_| view.config.rev);
    // One that runs, started by another program or an earlier version, has most likely started with what is stored.
    let runs = server.dir.postmaster().is_some();
    let worked = started(server, rev, raw.as_ref()).or_else(|| runs.then(|| (rev, Arc::clone(&dynamic))));
    Ok(Configuration {
        file,
        local: config,
        dynamic,
        rev,
        raw,
        refused,
        worked,
        unstartable: None,
        checked,
    })
}

/// What lies beside the data: what this PostgreSQL has started with last, or the one that it was copied from.
pub(crate) fn started(
    server: &Server,
    rev: Option<u64>,
    raw: Option<&Map<String, Value>>,
) -> Option<StartedWith> {
    let started = server.started_configuration()?;
    let dynamic = dynamic_from(&started, &server.local).ok()?;
    // The same text is the same revision, even if it was stored again since.
    let rev = rev.filter(|_| raw == Some(&started));
    Some((rev, Arc::new(dynamic)))
}

fn kept(server: &Server, local: &PostgresConfig) -> Option<Dynamic> {
    dynamic_from(&server.kept_configuration()?, local).ok()
}
