use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    net::SocketAddr,
    time::Duration,
};

use howdah_blueprint::{
    Live, Names, Observed, Step, TEMPLATE_VERSION, base_labels, credentials, dynamic_change, invalid_status,
    next_step, overruled_env, status, template_version_of,
};
use howdah_clock::now;
use howdah_manifest::{Manifest, ManifestError, Status};
use howdah_types::{Class, Classified};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Resource,
    api::{DeleteParams, DynamicObject, ListParams, Preconditions},
    core::NamespaceResourceScope,
    runtime::controller::Action,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    OperatorError,
    agents::Agents,
    apply,
    context::{Context, DatabaseInput, Failed, Memory, selector},
    database::{self, Access},
    index::Indexed,
    objects::ClusterKey,
    observe::Seen,
    pace::{NOW, RESYNC, SOON, UNREPORTED, Wake},
    report, waiting,
};

/// A restart or switchover whose effect is not seen yet is not asked for again before this time.
const ASKED: Duration = Duration::from_secs(30);
/// A refusal that lasts this long is told.
const REFUSED: Duration = Duration::from_secs(3);

/// One pass over a cluster.
pub(crate) async fn cluster(context: &Context, object: &DynamicObject) -> Action {
    let value = serde_json::to_value(object).unwrap_or_default();
    let before = status_before(context, object, &value);
    let mut manifest = match Manifest::read(&value) {
        Ok(manifest) => manifest,
        Err(error) => return refuse(context, object, &value, &before, &error).await,
    };
    if context.settings.enable_patroni_failsafe_mode {
        manifest.spec.patroni.failsafe_mode.get_or_insert(true);
    }
    let key = ClusterKey::of(&manifest);
    if let Some(error) = manifest
        .needs_other_data()
        .filter(|_| context.seen(&key).is_new())
    {
        return refuse(context, object, &value, &before, &error).await;
    }
    let mut memory = context.memory(&key);
    let mut pass = Pass {
        context,
        key: &key,
        manifest: &manifest,
        memory: &mut memory,
        observed: Observed::default(),
        version_before: before.version.clone(),
        template_before: before.template_version,
        template_now: before.template_version,
        wake: Wake::Growing(SOON),
    };
    if let Err(error) = pass.run().await {
        let told = error.in_one_line();
        let again = pass.memory.failed.as_ref().filter(|failed| failed.why == told);
        let times = again.map_or(1, |failed| failed.times.saturating_add(1));
        let class = error.class();
        match class {
            Class::Bug if times == 1 => tracing::error!(cluster = manifest.name, "{told}"),
            Class::Retry | Class::Refused if times == 1 => tracing::warn!(cluster = manifest.name, "{told}"),
            Class::Retry | Class::Refused | Class::Bug => {}
        }
        context.meter.failed(error.reason());
        pass.wake = Wake::after_failures(class, times);
        pass.memory.failed = Some(Failed {
            why: told.clone(),
            times,
        });
        pass.observed.error = Some(told);
    } else {
        pass.memory.failed = None;
    }
    let (observed, wake, template) = (pass.observed, pass.wake, pass.template_now);
    let after = status(&manifest, &observed, &before, template, &report::timestamp());
    context.meter.phase(&key, &after.phase);
    let again = pass_after(&observed, memory.unwatched);
    let changed = *memory.changed.get_or_insert_with(now);
    let written = report::write(context, object, &before, &after).await;
    if let Ok(Some(version)) = written {
        memory.written = Some((after.clone(), version));
    }
    if let Err(error) = written {
        // Nothing is told: the next pass would find the same status, and tell it again.
        memory.unwritten = memory.unwritten.saturating_add(1);
        if memory.unwritten == 1 {
            tracing::warn!(cluster = manifest.name, "{}", error.in_one_line());
        }
        context.meter.failed(error.reason());
        let wake = Wake::after_failures(error.class(), memory.unwritten).after(Duration::ZERO);
        context.remember(&key, memory);
        return Action::requeue(wake);
    }
    memory.unwritten = 0;
    let is_ready = howdah_blueprint::ready(&after, manifest.generation);
    if is_ready {
        memory.troubles.clear();
        memory.announced = None;
    }
    let ended = now();
    memory.is_ready = is_ready;
    if before != after {
        memory.changed = Some(ended);
    }
    let silent = if before == after {
        changed.until(ended)
    } else {
        Duration::ZERO
    };
    let mut wake = wake.after(silent).min(again);
    if memory.asked.is_some() {
        // It is asked for again then.
        wake = wake.min(ASKED);
    }
    context.remember(&key, memory);
    announce(context, &manifest, &before, &after).await;
    Action::requeue(if is_ready { again } else { wake })
}

/// The status that stands in the object, or that was written since this version of it: watches lag.
fn status_before(context: &Context, object: &DynamicObject, value: &Value) -> Status {
    let version = object.metadata.resource_version.as_ref();
    let version = version.and_then(|text| text.parse::<u64>().ok());
    let memory = context.memory(&ClusterKey::of_object(object));
    match (memory.written, version) {
        (Some((status, written)), Some(version)) if version < written => status,
        _ => Status::read(&value["status"]),
    }
}

/// When a cluster gets its next pass at the latest if no watch reports a change: soon while the status says something that
/// no change of which is reported.
fn pass_after(observed: &Observed, unwatched: bool) -> Duration {
    let lags = observed
        .rows
        .iter()
        .any(|member| member.received.is_some_and(|position| position.lag > 0));
    if lags || unwatched { UNREPORTED } else { RESYNC }
}

async fn refuse(
    context: &Context,
    object: &DynamicObject,
    value: &Value,
    before: &Status,
    error: &ManifestError,
) -> Action {
    let generation = value["metadata"]["generation"].as_i64().unwrap_or(0);
    let name = object.metadata.name.as_deref().unwrap_or_default();
    tracing::warn!(cluster = name, "The manifest cannot be acted on: {error}.");
    let after = invalid_status(&error.to_string(), generation, before, &report::timestamp());
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let name = name.to_owned();
    let key = ClusterKey { namespace, name };
    context.meter.phase(&key, &after.phase);
    let mut memory = context.memory(&key);
    memory.changed.get_or_insert_with(now);
    context.remember(&key, memory);
    match report::write(context, object, before, &after).await {
        Ok(_) => Action::await_change(),
        Err(_) => Action::requeue(SOON),
    }
}

/// Tells changes of the phase as upstream's events.
async fn announce(context: &Context, manifest: &Manifest, before: &Status, after: &Status) {
    if before.phase == after.phase {
        return;
    }
    let failed = after.phase.ends_with("Failed");
    let message = after
        .condition("Ready")
        .map(|c| c.message.clone())
        .unwrap_or_default();
    let reason = match before.phase.as_str() {
        "" | "Creating" => "Create",
        _ => "Update",
    };
    report::event(
        context,
        manifest,
        failed,
        reason,
        &format!("{}: {message}", after.phase),
    )
    .await;
}

/// What became of the dynamic configuration.
enum Configured {
    /// It is as it should be.
    Same,
    /// It was changed in this pass.
    Changed,
    /// There is no configuration yet, or no member that would take the change.
    Later,
}

struct Pass<'a> {
    context: &'a Context,
    key: &'a ClusterKey,
    manifest: &'a Manifest,
    memory: &'a mut Memory,
    observed: Observed,
    /// The major that the status named before.
    version_before: Option<String>,
    /// The version of the pod template that the status named before; 0: none.
    template_before: u32,
    /// And the version that is used.
    template_now: u32,
    wake: Wake,
}

impl Pass<'_> {
    async fn run(&mut self) -> Result<(), OperatorError> {
        let (context, manifest) = (self.context, self.manifest);
        let seen = self.look().await?;
        self.note(&seen).await;
        let passwords = apply::secrets(context, manifest, &seen, self.memory).await?;
        self.observed.not_changed = self.not_changed(&seen);

        let agents = Agents::new(context, &seen, &passwords);
        // What fails here must not keep anything else from being done: it may be its cure.
        let configured = self.configure(&seen, &agents).await;
        let live = Live {
            statefulset: seen.statefulset.clone(),
            bootstrapped: self.observed.initialized,
            still_applied: match &configured {
                Ok(Configured::Same | Configured::Changed) => BTreeSet::new(),
                Ok(Configured::Later) | Err(_) => seen.applied_names(),
            },
            hold_replicas: self.hold(&seen),
            major: self.major(),
            template: seen.statefulset.as_ref().map(|set| self.template(set)),
        };
        self.template_now = live.template.unwrap_or(TEMPLATE_VERSION);
        let statefulset = apply::cluster(context, manifest, &live, &seen, self.memory).await?;

        let database = self.databases(&passwords).await;
        // Without a primary, or after a failure, what was found last still holds.
        if let Some(pass) = self.memory.database.as_ref().filter(|_| !self.observed.compared) {
            self.observed.skipped.extend(pass.skipped.iter().cloned());
            self.observed.compared = true;
        }
        self.forget_asked(&seen);
        let changed = matches!(configured, Ok(Configured::Changed));
        let mut step = self.not_again(self.step(&seen, &statefulset, changed));
        if let Some(why) = self.refusal(&seen) {
            let why = &why;
            self.tell_once(why).await;
            // What can be done is done all the same: it may be the cure.
            if matches!(step, Step::Nothing | Step::Wait(_)) {
                step = Step::Wait(why.clone());
            }
        }
        self.observed.step = Some(step.clone());
        self.carry_out(&step, &agents).await?;
        configured?;
        match database {
            // Starting servers and Services without endpoints are expected: they are not reported.
            Err(error) if error.is_passing() => {
                tracing::debug!(cluster = manifest.name, "{}", error.in_one_line());
                self.observed.step = Some(Step::Wait(error.in_one_line()));
                self.wake = Wake::Growing(NOW);
                Ok(())
            }
            other => other,
        }
    }

    /// The cluster from the index. Before a step that ends a server the API is asked again: watches lag, and the primary
    /// may have changed meanwhile.
    async fn look(&self) -> Result<Seen, OperatorError> {
        let seen = self.context.seen(self.key);
        let Some(set) = &seen.statefulset else {
            return Ok(seen);
        };
        let wanted = self.manifest.spec.number_of_instances;
        let have = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
        let shrinks = i64::from(wanted) < i64::from(have);
        let revision = Seen::revision(set).unwrap_or_default();
        let acts = !matches!(
            next_step(wanted, &revision, &seen.pods, &seen.rows),
            Step::Nothing | Step::Wait(_)
        );
        if !shrinks && !acts {
            return Ok(seen);
        }
        self.refresh::<Pod>("pods").await?;
        self.refresh::<ConfigMap>("ConfigMaps").await?;
        self.refresh::<StatefulSet>("StatefulSets").await?;
        Ok(self.context.seen(self.key))
    }

    async fn refresh<K>(&self, what: &str) -> Result<(), OperatorError>
    where
        K: Indexed + Resource<Scope = NamespaceResourceScope> + DeserializeOwned + Debug,
    {
        let ours = selector(&base_labels(&self.key.name, &self.context.settings));
        let api = Api::<K>::namespaced(self.context.client.clone(), &self.key.namespace);
        let list = api
            .list(&ListParams::default().labels(&ours))
            .await
            .map_err(OperatorError::kube(format!("listing {what}")))?;
        self.context.index().refresh(self.key, list.items);
        Ok(())
    }

    /// Compares roles and databases, if a primary takes writes.
    async fn databases(&mut self, passwords: &BTreeMap<String, String>) -> Result<(), OperatorError> {
        if !self.context.settings.enable_database_access {
            self.observed.compared = true;
            return Ok(());
        }
        // The Services may have been made in this pass.
        let seen = self.context.seen(self.key);
        let Some(primary) = seen.primary() else {
            return Ok(());
        };
        let access = Access {
            address: self.service(&seen)?,
            passwords,
        };
        if seen.rows.iter().any(|row| row.state.is_copying()) {
            self.observed.copy = database::copying(self.context, &access).await;
            self.wake = Wake::Growing(NOW);
        }
        self.database(&access, primary.name.clone()).await
    }

    /// Copies what was seen, and tells how the members differ from the manifest.
    async fn note(&mut self, seen: &Seen) {
        self.observed.looked = true;
        self.observed.pods = seen.pods.clone();
        self.observed.rows = seen.rows.clone();
        self.observed.initialized = seen.view.initialize.as_ref().is_some_and(|id| !id.is_empty());
        for note in seen.notes() {
            if self.memory.told.insert(note.clone()) {
                report::event(self.context, self.manifest, true, "Adapted", &note).await;
            }
            self.observed.skipped.push(note);
        }
        let lasting = |pod: &howdah_blueprint::Pod| {
            let trouble = pod
                .trouble
                .as_ref()
                .filter(|trouble| waiting::is_lasting(trouble))?;
            Some(format!("{} cannot run: {trouble}", pod.name))
        };
        let troubles: Vec<String> = seen.pods.iter().filter_map(lasting).collect();
        for trouble in troubles {
            self.tell_once(&trouble).await;
        }
        self.observed.machine = seen.machine();
        let (manifest, settings) = (self.manifest, &self.context.settings);
        for name in overruled_env(manifest, settings) {
            self.observed
                .skipped
                .push(format!("spec.env.{name}: the operator sets this variable itself"));
        }
        let names = Names(&manifest.name);
        let of_users = manifest.spec.users.keys().map(|user| names.secret(user));
        let known: BTreeSet<String> = credentials(manifest, settings)
            .into_iter()
            .map(|credential| credential.secret)
            .chain(of_users)
            .chain(
                settings
                    .protected_role_names
                    .iter()
                    .map(|role| names.secret(role)),
            )
            // Upstream's role for the connection pooler is in no manifest.
            .chain([names.secret("pooler")])
            .collect();
        let foreign = seen
            .secrets
            .keys()
            .filter(|name| name.ends_with(Names::SECRET) && !known.contains(*name));
        for secret in foreign {
            self.observed.remarks.push(format!(
                "Secret {secret} belongs to no user of the manifest any more: it stays, and so does its role"
            ));
        }
    }

    /// Tells a trouble as an event, once until it has passed. A message may have an identifier or a time in it that changes: what
    /// comes before the second colon tells troubles apart.
    async fn tell_once(&mut self, trouble: &str) {
        let kind: String = trouble.split(':').take(2).collect();
        if self.memory.troubles.len() < 32 && self.memory.troubles.insert(kind) {
            report::event(self.context, self.manifest, true, "Trouble", trouble).await;
        }
    }

    /// Why a pod cannot be made, if that lasts: a pod that is replaced is missing for a moment.
    fn refusal(&mut self, seen: &Seen) -> Option<String> {
        let Some(why) = &seen.refusal else {
            self.memory.refused_since = None;
            return None;
        };
        let since = *self.memory.refused_since.get_or_insert_with(now);
        if now() < since + REFUSED {
            self.wake = Wake::At(REFUSED);
            return None;
        }
        Some(why.clone())
    }

    /// What a living cluster cannot take over: it stays as it was and is named.
    fn not_changed(&self, seen: &Seen) -> Vec<String> {
        let mut out = Vec::new();
        let Some(set) = &seen.statefulset else {
            return out;
        };
        let spec = &self.manifest.spec;
        // The major that runs is the data's. Where the image did not have the one that was asked for at first, the members say
        // so themselves.
        let first = env_of(set, "PGVERSION");
        let asked_first = first.as_ref() == Some(&spec.postgresql.version);
        let running = self.major().or(first).filter(|_| !asked_first);
        if let Some(running) = running.filter(|running| *running != spec.postgresql.version) {
            out.push(format!(
                "postgresql.version ({} is asked for, the cluster was made with {running}; major upgrades are not supported yet)",
                spec.postgresql.version
            ));
        }
        let have = seen.claims.get(&Names(&self.manifest.name).claim(0));
        let amount = |text: &str| text.parse::<howdah_manifest::Quantity>().ok();
        if let Some(have) = have
            && amount(have) != amount(&spec.volume.size)
        {
            out.push(format!(
                "volume.size ({} is asked for, the volumes have {have}; changing them is not supported yet)",
                spec.volume.size
            ));
        }
        out
    }

    /// The version of the pod template of an existing StatefulSet: as the status says, or, where that was lost, as it looks.
    fn template(&self, set: &StatefulSet) -> u32 {
        if self.template_before != 0 {
            return self.template_before;
        }
        template_version_of(set)
    }

    /// The major that the servers run, as far as it was seen.
    fn major(&self) -> Option<String> {
        let seen = self.memory.database.as_ref().map(|pass| pass.version.clone());
        seen.or_else(|| self.version_before.clone())
    }

    /// Brings the dynamic configuration to what the manifest says.
    async fn configure(&mut self, seen: &Seen, agents: &Agents<'_>) -> Result<Configured, OperatorError> {
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

    /// How many members the StatefulSet keeps for now: a primary whose pod would go with a scaling down hands over first,
    /// and without a primary it is unknown whose data is needed.
    fn hold(&self, seen: &Seen) -> Option<u32> {
        let wanted = self.manifest.spec.number_of_instances;
        if wanted == 0 {
            return None;
        }
        let primary = seen.primary().map(|row| row.name.as_str());
        let last = match primary {
            Some(name) => seen.pods.iter().find(|pod| pod.name == name)?.ordinal,
            None if self.observed.initialized => seen.pods.iter().map(|pod| pod.ordinal).max()?,
            None => return None,
        };
        (last >= wanted).then_some(last + 1)
    }

    /// The address of the primary's Service, as applications reach it.
    fn service(&self, seen: &Seen) -> Result<SocketAddr, OperatorError> {
        let name = Names(&self.manifest.name).cluster();
        let address = seen.services.get(&name).map(String::as_str).unwrap_or_default();
        format!("{address}:5432")
            .parse()
            .map_err(|_| OperatorError::Missing(format!("the Service has no address ('{address}')")))
    }

    async fn database(&mut self, access: &Access<'_>, primary: String) -> Result<(), OperatorError> {
        let of = DatabaseInput {
            generation: self.manifest.generation,
            primary,
            passwords: access.passwords.clone(),
        };
        let fresh = self
            .memory
            .database
            .as_ref()
            .filter(|pass| pass.of == of && now() < pass.at + RESYNC)
            .cloned();
        let pass = match fresh {
            Some(pass) => pass,
            None => {
                let runs = &mut self.observed.version;
                database::sync(self.context, self.manifest, access, of, runs).await?
            }
        };
        self.observed.roles = Some(pass.roles);
        self.observed.databases = Some(pass.databases);
        self.observed.version = Some(pass.version.clone());
        self.observed.skipped.extend(pass.skipped.iter().cloned());
        self.observed.compared = true;
        self.memory.database = Some(pass);
        Ok(())
    }

    fn step(&self, seen: &Seen, statefulset: &StatefulSet, configured: bool) -> Step {
        let Some(revision) = Seen::revision(statefulset) else {
            return Step::Wait(if self.observed.initialized {
                "the StatefulSet's controller has not seen its newest template yet".into()
            } else {
                "the pods are made".into()
            });
        };
        let wanted = self.manifest.spec.number_of_instances;
        let step = next_step(wanted, &revision, &seen.pods, &seen.rows);
        if !matches!(step, Step::Nothing) {
            return step;
        }
        if configured {
            return Step::Wait("the members take the configuration over".into());
        }
        match seen.behind_configuration() {
            Some(member) => Step::Wait(format!("{member} takes the configuration over")),
            None => Step::Nothing,
        }
    }

    /// What was asked for has happened: a member that no longer waits may be restarted again for the next change, and a
    /// new primary may hand over.
    fn forget_asked(&mut self, seen: &Seen) {
        let happened = match &self.memory.asked {
            Some((Step::Restart { member, .. }, _)) => !seen
                .rows
                .iter()
                .any(|row| row.name == *member && row.pending_restart.is_some()),
            Some((Step::Switchover { from, .. }, _)) => {
                seen.primary().is_some_and(|primary| primary.name != *from)
            }
            _ => false,
        };
        if happened {
            self.memory.asked = None;
        }
    }

    /// A restart or switchover that was just asked for is not asked for again: the agents publish its result a moment
    /// later, and one that did not help will not help the next second.
    fn not_again(&self, step: Step) -> Step {
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

    async fn carry_out(&mut self, step: &Step, agents: &Agents<'_>) -> Result<(), OperatorError> {
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

fn env_of(set: &StatefulSet, name: &str) -> Option<String> {
    let pod = set.spec.as_ref()?.template.spec.as_ref()?;
    let vars = pod.containers.first()?.env.as_ref()?;
    vars.iter().find(|var| var.name == name)?.value.clone()
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
