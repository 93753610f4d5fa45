//! Taking the cluster's configuration into effect, and back out of it when PostgreSQL does not start.

use std::sync::Arc;

use howdah_config::{Dynamic, dynamic_from};
use howdah_dcs::View;
use howdah_ha::Command;

use crate::{
    agent::Agent,
    configuration::{Refused, started},
    work::StartedWith,
};

impl Agent {
    /// Takes a changed dynamic configuration into effect. One that is wrong changes nothing: the last good one goes on.
    pub(crate) async fn take_config(&mut self, view: &View) {
        let Some(config) = &view.config.value else {
            if view.config.rev > 0 && self.settings.rev != Some(view.config.rev) {
                self.settings.rev = Some(view.config.rev);
                self.refuse_config(&"it is no JSON object");
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
            Err(error) => self.refuse_config(&error),
        }
    }

    fn refuse_config(&mut self, why: &impl ToString) {
        tracing::error!(
            "The cluster's configuration is not taken: {}. The last good one goes on.",
            why.to_string()
        );
        self.settings.refused = Some(Refused::because(why));
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
