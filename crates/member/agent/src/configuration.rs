//! The cluster's configuration: taken when it changes, checked before it reaches a file, and taken back when PostgreSQL
//! does not start with it.

use std::{collections::BTreeMap, sync::Arc};

use howdah_config::{Dynamic, DynamicError, LocalConfig, PostgresConfig, dynamic_from};
use howdah_dcs::View;
use howdah_ha::Command;
use howdah_postgres::{BadParameter, Programs, Server, bad_parameters, hba_refusal};
use serde_json::{Map, Value};

use crate::{agent::Agent, setup::ConfigFile, work::StartedWith};

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
    refused: Option<Refused>,
    /// What PostgreSQL was started with last, and by which revision.
    pub(crate) worked: Option<StartedWith>,
    /// PostgreSQL does not start with this revision, and why.
    pub(crate) unstartable: Option<(u64, String)>,
    checked: Checked,
}

/// Why the stored configuration is not taken.
struct Refused {
    why: String,
    /// The cluster is to follow another one, which this version does not do: this member must not lead.
    standby_cluster: bool,
}

impl Refused {
    fn because(why: &impl ToString, standby_cluster: bool) -> Self {
        let why = format!("the configuration is not taken: {}", why.to_string());
        Refused { why, standby_cluster }
    }
}

/// Parameters that PostgreSQL was asked about, and its answer.
#[derive(Default)]
struct Checked {
    parameters: BTreeMap<String, String>,
    bad: Vec<BadParameter>,
}

impl Checked {
    /// Replaces what PostgreSQL would not start with: by the value that it has now, or by none.
    async fn check(&mut self, programs: &Programs, mut dynamic: Dynamic, now: Option<&Dynamic>) -> Dynamic {
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
    /// Whether the stored configuration forbids this member to lead.
    pub(crate) fn must_not_lead(&self) -> bool {
        self.refused
            .as_ref()
            .is_some_and(|refused| refused.standby_cluster)
    }

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
            let refused = Refused::because(&error, error == DynamicError::StandbyCluster);
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
fn started(server: &Server, rev: Option<u64>, raw: Option<&Map<String, Value>>) -> Option<StartedWith> {
    let started = server.started_configuration()?;
    let dynamic = dynamic_from(&started, &server.local).ok()?;
    // The same text is the same revision, even if it was stored again since.
    let rev = rev.filter(|_| raw == Some(&started));
    Some((rev, Arc::new(dynamic)))
}

fn kept(server: &Server, local: &PostgresConfig) -> Option<Dynamic> {
    dynamic_from(&server.kept_configuration()?, local).ok()
}

impl Agent {
    /// Takes a changed dynamic configuration into effect. One that is wrong changes nothing: the last good one goes on.
    pub(crate) async fn take_config(&mut self, view: &View) {
        let Some(config) = &view.config.value else {
            if view.config.rev > 0 && self.settings.rev != Some(view.config.rev) {
                self.settings.rev = Some(view.config.rev);
                self.refuse_config("it is no JSON object".to_owned(), false);
            }
            return;
        };
        if self.settings.rev == Some(view.config.rev) {
            return;
        }
        self.settings.rev = Some(view.config.rev);
        match dynamic_from(config, &self.settings.local.postgresql) {
            Ok(dynamic) => {
                let current = Arc::clone(&self.settings.dynamic);
                self.keeper.beat();
                let dynamic = self
                    .settings
                    .checked
                    .check(&self.server.programs, dynamic, Some(&current))
                    .await;
                self.settings.raw = Some(config.clone());
                self.settings.refused = None;
                self.settings.unstartable = None;
                self.server.keep_configuration(config);
                // A cluster that was just bootstrapped has started with it before it was stored.
                if let Some((rev @ None, worked)) = &mut self.settings.worked
                    && **worked == dynamic
                {
                    *rev = Some(view.config.rev);
                    self.server.keep_started_configuration(config);
                }
                self.apply(dynamic, view).await;
            }
            Err(error) => self.refuse_config(error.to_string(), error == DynamicError::StandbyCluster),
        }
    }

    fn refuse_config(&mut self, why: String, standby_cluster: bool) {
        tracing::error!("The cluster's configuration is not taken: {why}. The last good one goes on.");
        self.settings.refused = Some(Refused::because(&why, standby_cluster));
    }

    pub(crate) async fn apply(&mut self, dynamic: Dynamic, view: &View) {
        for warning in dynamic
            .warnings
            .iter()
            .filter(|warning| !self.settings.dynamic.warnings.contains(warning))
        {
            tracing::warn!("Configuration: {warning}.");
        }
        self.keeper
            .command(Command::Ttl(dynamic.timers.lease(view.all_ours())))
            .await;
        self.settings.dynamic = Arc::new(dynamic);
        if self.observer.sample.is_some() {
            self.pending.loaded.expect();
            self.rewrite_conf().await;
            self.pending.check = true;
        }
    }

    /// The configuration to start PostgreSQL with: what has kept another member from starting is not tried here.
    pub(crate) fn to_start_with(&self, view: &View) -> StartedWith {
        let current = (self.settings.rev, Arc::clone(&self.settings.dynamic));
        let unstartable = |rev: u64| {
            let other = view
                .members
                .values()
                .filter_map(|member| member.howdah.as_ref())
                .any(|mark| mark.unstartable == Some(rev));
            other
                || self
                    .settings
                    .unstartable
                    .as_ref()
                    .is_some_and(|(bad, _)| *bad == rev)
        };
        match (&self.settings.worked, self.settings.rev) {
            (Some(worked), Some(rev)) if worked.0 != Some(rev) && unstartable(rev) => worked.clone(),
            _ => current,
        }
    }

    /// PostgreSQL has not started. With a configuration that it has never started with, that is the suspect: the one before
    /// is tried at once. True if there is one.
    pub(crate) fn fall_back(&mut self, started_with: Option<u64>, error: &str) -> bool {
        if self.settings.worked.is_none() {
            self.settings.worked = started(&self.server, self.settings.rev, self.settings.raw.as_ref());
        }
        let (Some(rev), Some((worked, _))) = (started_with, &self.settings.worked) else {
            return false;
        };
        if *worked == Some(rev) || self.settings.unstartable.is_some() {
            return false;
        }
        let why = format!(
            "PostgreSQL does not start with the configuration of revision {rev} ({error}); \
             the last one that it started with is used"
        );
        tracing::error!("{why}.");
        self.settings.unstartable = Some((rev, why));
        true
    }
}
