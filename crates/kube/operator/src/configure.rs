//! The dynamic configuration, which the agents take over.

use std::collections::BTreeMap;

use howdah_blueprint::dynamic_change;
use howdah_clock::now;
use serde_json::{Map, Value};

use crate::{OperatorError, agents::Agents, database, observe::Seen, pace::SOON, pass::Pass, report};

/// The section by which a cluster follows another one.
const STANDBY: &str = "standby_cluster";

/// What became of the dynamic configuration.
pub(crate) enum Configured {
    /// It is as it should be.
    Same,
    /// It was changed in this pass.
    Changed,
    /// There is no configuration yet, or no member that would take the change.
    Later,
}

impl Pass<'_> {
    /// Why a cluster with data of its own does not begin to follow another one, if it does not: it would stop for nothing, or
    /// lose its data to another system's.
    async fn keeps_its_data(
        &self,
        seen: &Seen,
        change: &Map<String, Value>,
        current: &Map<String, Value>,
        passwords: &BTreeMap<String, String>,
    ) -> Option<String> {
        let follows = current.get(STANDBY).is_some_and(Value::is_object);
        let begins = change.get(STANDBY).is_some_and(Value::is_object) && !follows;
        let standby = self.manifest.spec.standby.as_ref().filter(|_| begins)?;
        let ours = seen.view.initialize.clone().unwrap_or_default();
        let host = &standby.standby_host;
        let found = database::system_identifier(self.context, host, standby.port()?, passwords).await;
        match found {
            Ok(theirs) if theirs == ours => None,
            Ok(theirs) => Some(format!(
                "standby ({host} is another system, {theirs}, and this cluster is {ours}: its data would be lost; delete the \
                 cluster and make it again as a follower)"
            )),
            Err(why) => Some(format!(
                "standby ({host} cannot be asked whether it is the same system, so the primary goes on: {why})"
            )),
        }
    }

    /// Brings the dynamic configuration to what the manifest says.
    pub(crate) async fn configure(
        &mut self,
        seen: &Seen,
        agents: &Agents<'_>,
        passwords: &BTreeMap<String, String>,
    ) -> Result<Configured, OperatorError> {
        let Some(current) = &seen.view.config.value else {
            return Ok(Configured::Later);
        };
        let Some(change) = dynamic_change(self.manifest, current, &seen.applied_names()) else {
            return Ok(Configured::Same);
        };
        if seen.rows.is_empty() {
            // No member is there to take it: members that start will.
            return Ok(Configured::Later);
        }
        // The watch may not have reported the last change yet.
        if let Some((sent, at)) = &self.memory.configured
            && *sent == change
            && now() < *at + SOON
        {
            return Ok(Configured::Changed);
        }
        let mut sent = change.clone();
        if let Some(why) = self.keeps_its_data(seen, &sent, current, passwords).await {
            sent.remove(STANDBY);
            self.observed.not_changed.push(why);
            if sent.is_empty() {
                return Ok(Configured::Same);
            }
        }
        match agents.configure(&sent).await {
            // What PostgreSQL alone knows to be wrong, such as a time zone, must not keep the rest back.
            Err(OperatorError::Parameters { names, reason }) if leave_out(&mut sent, &names) => {
                self.observed
                    .skipped
                    .extend(reason.lines().map(|line| format!("{line}; it is left out")));
                if sent.is_empty() {
                    return Ok(Configured::Same);
                }
                agents.configure(&sent).await?;
            }
            other => other?,
        }
        let names: Vec<&str> = sent.keys().map(String::as_str).collect();
        self.memory.configured = Some((change.clone(), now()));
        let message = format!(
            "the configuration of the members was changed: {}",
            names.join(", ")
        );
        report::event(self.context, self.manifest, false, "Configured", &message).await;
        Ok(Configured::Changed)
    }
}

/// Takes parameters out of a change of the dynamic configuration. Whether any was in it.
fn leave_out(change: &mut Map<String, Value>, names: &[String]) -> bool {
    let Some(parameters) = change
        .get_mut("postgresql")
        .and_then(|section| section.get_mut("parameters"))
        .and_then(Value::as_object_mut)
    else {
        return false;
    };
    let before = parameters.len();
    parameters.retain(|name, _| !names.iter().any(|refused| refused.eq_ignore_ascii_case(name)));
    let found = parameters.len() < before;
    if parameters.is_empty() {
        change.remove("postgresql");
    }
    found
}
