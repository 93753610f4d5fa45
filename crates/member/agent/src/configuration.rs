//! The cluster's configuration: taken when it changes, checked before it reaches a file, and taken back when PostgreSQL
//! does not start with it.

use std::{collections::BTreeMap, sync::Arc};

use howdah_config::{Dynamic, DynamicError, PostgresConfig, dynamic_from};
use howdah_dcs::View;
use howdah_ha::Command;
use howdah_postgres::{BadParameter, Programs, Server, bad_parameters, hba_refusal};
use serde_json::{Map, Value};

use crate::agent::Agent;

/// The configuration in its stages from the store to a server that has started with it.
pub(crate) struct Configuration {
    /// The revision that was looked at last.
    pub(crate) rev: Option<u64>,
    /// As it is stored, to write it back into a store that was wiped.
    pub(crate) raw: Option<Map<String, Value>>,
    /// What is wrong with the stored one; the one before goes on.
    pub(crate) refused: Option<String>,
    /// The cluster is to follow another one, which this version does not do: this member must not lead.
    pub(crate) must_not_lead: bool,
    /// What PostgreSQL was started with last, and by which revision.
    pub(crate) worked: Option<(Option<u64>, Arc<Dynamic>)>,
    /// PostgreSQL does not start with this revision, and why.
    pub(crate) unstartable: Option<(u64, String)>,
    checked: Checked,
}

/// Parameters that PostgreSQL was asked about, and its answer.
type Checked = (BTreeMap<String, String>, Vec<BadParameter>);

impl Configuration {
    /// At the start of an agent.
    pub(crate) fn new(view: &View) -> Self {
        Configuration {
            rev: view.config.value.is_some().then_some(view.config.rev),
            raw: view.config.value.clone(),
            refused: None,
            must_not_lead: false,
            worked: None,
            unstartable: None,
            checked: Checked::default(),
        }
    }

    /// What of the configuration is not taken.
    pub(crate) fn notes(&self) -> Vec<String> {
        let refused = self.refused.iter().cloned();
        let unstartable = self.unstartable.iter().map(|(_, why)| why.clone());
        refused.chain(unstartable).collect()
    }

    /// Replaces what PostgreSQL would not start with: by the value that it has now, or by none.
    async fn check(&mut self, programs: &Programs, mut dynamic: Dynamic, now: Option<&Dynamic>) -> Dynamic {
        if self.checked.0 != dynamic.parameters {
            let bad = bad_parameters(programs, &dynamic.parameters).await;
            self.checked = (dynamic.parameters.clone(), bad);
        }
        for bad in &self.checked.1 {
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

/// What an agent begins with: the stored configuration; if that is wrong, the one that this member has kept on disk.
pub(crate) async fn first(
    view: &View,
    bootstrap: Option<&Map<String, Value>>,
    server: &Server,
) -> anyhow::Result<(Configuration, Dynamic)> {
    let mut configuration = Configuration::new(view);
    let local = &server.local;
    // A store that has lost it, or has something else in its place: the cluster's data knows better than the bootstrap section.
    let lost = view.config.value.is_none();
    let kept_raw = lost.then(|| server.kept_configuration()).flatten();
    let initial = view
        .config
        .value
        .as_ref()
        .or(kept_raw.as_ref())
        .or(bootstrap)
        .cloned()
        .unwrap_or_default();
    let dynamic = match dynamic_from(&initial, local) {
        Ok(dynamic) => {
            if lost {
                configuration.raw = kept_raw;
            } else {
                server.keep_configuration(&initial);
            }
            dynamic
        }
        Err(error) => {
            let kept = view.config.value.as_ref().and_then(|_| kept(server, local));
            let Some(kept) = kept else {
                return Err(error.into());
            };
            tracing::error!(
                "The cluster's configuration is not taken: {error}. The last one that this member has kept goes on."
            );
            configuration.must_not_lead = error == DynamicError::StandbyCluster;
            configuration.refused = Some(format!("the configuration is not taken: {error}"));
            configuration.raw = server.kept_configuration();
            kept
        }
    };
    let dynamic = configuration.check(&server.programs, dynamic, None).await;
    configuration.worked = started(server, &configuration).or_else(|| {
        // One that runs, started by another program or an earlier version, has most likely started with what is stored.
        let runs = server.dir.postmaster().is_some();
        runs.then(|| (configuration.rev, Arc::new(dynamic.clone())))
    });
    Ok((configuration, dynamic))
}

/// What lies beside the data: what this PostgreSQL has started with last, or the one that it was copied from.
fn started(server: &Server, configuration: &Configuration) -> Option<(Option<u64>, Arc<Dynamic>)> {
    let started = server.started_configuration()?;
    let dynamic = dynamic_from(&started, &server.local).ok()?;
    // The same text is the same revision, whoever has stored it since.
    let rev = configuration
        .rev
        .filter(|_| configuration.raw.as_ref() == Some(&started));
    Some((rev, Arc::new(dynamic)))
}

fn kept(server: &Server, local: &PostgresConfig) -> Option<Dynamic> {
    dynamic_from(&server.kept_configuration()?, local).ok()
}

impl Agent {
    /// Takes a changed dynamic configuration into effect. One that is wrong changes nothing: the last good one goes on.
    pub(crate) async fn take_config(&mut self, view: &View) {
        let Some(config) = &view.config.value else {
            if view.config.rev > 0 && self.configuration.rev != Some(view.config.rev) {
                self.configuration.rev = Some(view.config.rev);
                self.refuse_config("it is no JSON object".to_owned(), false);
            }
            return;
        };
        if self.configuration.rev == Some(view.config.rev) {
            return;
        }
        self.configuration.rev = Some(view.config.rev);
        match dynamic_from(config, &self.config.postgresql) {
            Ok(dynamic) => {
                let current = Arc::clone(&self.dynamic);
                self.keeper.beat();
                let dynamic = self
                    .configuration
                    .check(&self.server.programs, dynamic, Some(&current))
                    .await;
                self.configuration.raw = Some(config.clone());
                self.configuration.refused = None;
                self.configuration.must_not_lead = false;
                self.configuration.unstartable = None;
                self.server.keep_configuration(config);
                // A cluster that was just bootstrapped has started with it before it was stored.
                if let Some((rev @ None, worked)) = &mut self.configuration.worked
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

    fn refuse_config(&mut self, why: String, must_not_lead: bool) {
        tracing::error!("The cluster's configuration is not taken: {why}. The last good one goes on.");
        self.configuration.refused = Some(format!("the configuration is not taken: {why}"));
        self.configuration.must_not_lead = must_not_lead;
    }

    pub(crate) async fn apply(&mut self, dynamic: Dynamic, view: &View) {
        for warning in dynamic
            .warnings
            .iter()
            .filter(|warning| !self.dynamic.warnings.contains(warning))
        {
            tracing::warn!("Configuration: {warning}.");
        }
        self.keeper
            .command(Command::Ttl(dynamic.timers.lease(view.all_ours())))
            .await;
        self.dynamic = Arc::new(dynamic);
        if self.observer.sample.is_some() {
            self.loaded.expect();
            self.rewrite_conf().await;
            self.check_pending = true;
        }
    }

    /// The configuration to start PostgreSQL with: what has kept another member from starting is not tried here.
    pub(crate) fn to_start_with(&self, view: &View) -> (Option<u64>, Arc<Dynamic>) {
        let current = (self.configuration.rev, Arc::clone(&self.dynamic));
        let unstartable = |rev: u64| {
            let other = view
                .members
                .values()
                .filter_map(|member| member.howdah.as_ref())
                .any(|mark| mark.unstartable == Some(rev));
            other
                || self
                    .configuration
                    .unstartable
                    .as_ref()
                    .is_some_and(|(bad, _)| *bad == rev)
        };
        match (&self.configuration.worked, self.configuration.rev) {
            (Some(worked), Some(rev)) if worked.0 != Some(rev) && unstartable(rev) => worked.clone(),
            _ => current,
        }
    }

    /// PostgreSQL has not started. With a configuration that it has never started with, that is the suspect: the one before
    /// is tried at once. True if there is one.
    pub(crate) fn fall_back(&mut self, started_with: Option<u64>, error: &str) -> bool {
        if self.configuration.worked.is_none() {
            self.configuration.worked = started(&self.server, &self.configuration);
        }
        let (Some(rev), Some((worked, _))) = (started_with, &self.configuration.worked) else {
            return false;
        };
        if *worked == Some(rev) || self.configuration.unstartable.is_some() {
            return false;
        }
        let why = format!(
            "PostgreSQL does not start with the configuration of revision {rev} ({error}); \
             the last one that it started with is used"
        );
        tracing::error!("{why}.");
        self.configuration.unstartable = Some((rev, why));
        true
    }
}
