//! The next step of a pass over the members, and how it is taken.

use howdah_blueprint::{Step, next_step, waits};
use howdah_clock::now;
use howdah_manifest::Manifest;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};

use crate::{
    OperatorError,
    agents::Agents,
    context::Context,
    observe::Seen,
    pace::{NOW, Wake},
    pass::{ASKED, Pass},
    report,
};

impl Pass<'_> {
    /// How many members the StatefulSet keeps for now: a primary whose pod would go with a scaling down hands over first,
    /// and without a primary it is unknown whose data is needed.
    pub(crate) fn hold(&self, seen: &Seen) -> Option<u32> {
        let wanted = self.manifest.spec.number_of_instances;
        if wanted == 0 {
            return None;
        }
        let primary = seen.leader().map(|row| row.name.as_str());
        let last = match primary {
            Some(name) => seen.pods.iter().find(|pod| pod.name == name)?.ordinal,
            None if self.observed.initialized => seen.pods.iter().map(|pod| pod.ordinal).max()?,
            None => return None,
        };
        (last >= wanted).then_some(last + 1)
    }

    pub(crate) fn step(&self, seen: &Seen, statefulset: &StatefulSet, configured: bool) -> Step {
        let Some(revision) = Seen::revision(statefulset) else {
            return Step::Wait(if self.observed.initialized {
                "the StatefulSet's controller has not seen its newest template yet".into()
            } else {
                "the pods are made".into()
            });
        };
        let wanted = self.manifest.spec.number_of_instances;
        let step = next_step(wanted, &revision, &seen.pods, &seen.rows, self.window.is_zero());
        if !matches!(step, Step::Nothing) {
            return step;
        }
        if configured {
            return Step::Wait("the members take the configuration over".into());
        }
        if let Some(member) = seen.behind_configuration() {
            return Step::Wait(format!("{member} takes the configuration over"));
        }
        // The leader is to be a primary, or to follow, as the manifest says.
        match (seen.leader(), self.manifest.spec.standby.is_some()) {
            (Some(leader), true) if !leader.is_primary() && leader.state.is_running() => Step::Wait(format!(
                "{} receives no WAL: it cannot reach the cluster it follows",
                leader.name
            )),
            (Some(leader), true) if leader.is_primary() => Step::Wait(format!(
                "{} takes writes, and is to follow another cluster",
                leader.name
            )),
            (Some(leader), false) if !leader.is_primary() => Step::Wait(format!(
                "{} follows another cluster: the configuration has standby_cluster, and the manifest has no 'standby'",
                leader.name
            )),
            _ => Step::Nothing,
        }
    }

    /// What was asked for has happened: a member that no longer waits may be restarted again for the next change, and a
    /// new primary may hand over.
    pub(crate) fn forget_asked(&mut self, seen: &Seen) {
        let follows = self.manifest.spec.standby.is_some();
        let happened = match &self.memory.asked {
            Some((Step::Restart { member, .. }, _)) => !seen
                .rows
                .iter()
                .any(|row| row.name == *member && waits(row, follows)),
            Some((Step::Switchover { from, .. }, _)) => {
                seen.leader().is_some_and(|leader| leader.name != *from)
            }
            _ => false,
        };
        if happened {
            self.memory.asked = None;
        }
    }

    /// A restart or switchover that was just asked for is not asked for again: the agents publish its result a moment
    /// later, and one that did not help will not help the next second.
    pub(crate) fn not_again(&self, step: Step) -> Step {
        match &self.memory.asked {
            Some((last, at)) if *last == step && now() < *at + ASKED => match step {
                Step::Restart { member, reason } => Step::Wait(format!("{member} restarts {reason}")),
                Step::Switchover { from, to, reason } => {
                    Step::Wait(format!("{from} hands over to {to}: {reason}"))
                }
                other => other,
            },
            _ => step,
        }
    }

    pub(crate) async fn carry_out(&mut self, step: &Step, agents: &Agents<'_>) -> Result<(), OperatorError> {
        let (context, manifest) = (self.context, self.manifest);
        match step {
            Step::Nothing | Step::Wait(_) => return Ok(()),
            Step::Replace { pod, reason } => {
                report::event(
                    context,
                    manifest,
                    false,
                    "Replace",
                    &format!("{pod} is replaced: {reason}"),
                )
                .await;
                replace(context, manifest, pod).await?;
            }
            Step::Switchover { from, to, reason } => {
                let message = format!("{from} hands over to {to}: {reason}");
                // One that is refused is asked for again, and told once.
                if self.memory.announced.as_ref() != Some(step) {
                    report::event(context, manifest, false, "Switchover", &message).await;
                    self.memory.announced = Some(step.clone());
                }
                agents.switch(from, to).await?;
                self.memory.asked = Some((step.clone(), now()));
            }
            Step::Restart { member, reason } => {
                report::event(
                    context,
                    manifest,
                    false,
                    "Restart",
                    &format!("{member} restarts {reason}"),
                )
                .await;
                self.memory.asked = Some((step.clone(), now()));
                agents.restart(member).await?;
            }
        }
        self.wake = Wake::At(NOW);
        Ok(())
    }
}

/// Deletes a pod, if it is still the one that was looked at.
async fn replace(context: &Context, manifest: &Manifest, name: &str) -> Result<(), OperatorError> {
    let api = Api::<Pod>::namespaced(context.client.clone(), &manifest.namespace);
    let Some(pod) = api
        .get_opt(name)
        .await
        .map_err(OperatorError::kube("reading a pod"))?
    else {
        return Ok(());
    };
    if pod.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Ok(deletion) => {
            match deletion.left() {
                Some(ending) => context.wrote(&ending),
                None => context.index().deleted(&pod),
            }
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(OperatorError::kube(format!("deleting pod {name}"))(error)),
    }
}
