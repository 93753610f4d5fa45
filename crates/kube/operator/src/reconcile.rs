use std::{collections::BTreeSet, fmt::Debug, net::SocketAddr, time::Duration};

use howdah_blueprint::{
    Live, Names, Observed, OtherRoles, PodEnvironment, Step, TEMPLATE_VERSION, base_labels, bound_instances,
    credentials, invalid_status, next_step, refused_name,
    sql::{Role, wanted_roles},
    status, template_version_of,
};
use howdah_clock::now;
use howdah_manifest::{Manifest, ManifestError, Status};
use howdah_types::{Class, Classified};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Resource,
    api::{DynamicObject, ListParams},
    core::NamespaceResourceScope,
    runtime::controller::Action,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    OperatorError,
    agents::Agents,
    apply, cleanup,
    configure::Configured,
    context::{Context, DatabaseInput, Failed, selector},
    database::{self, Access},
    index::Indexed,
    logins::{self, Logins},
    objects::ClusterKey,
    observe::Seen,
    origin,
    pace::{NOW, RESYNC, SOON, UNREPORTED, Wake},
    pass::{ASKED, Pass},
    poolers, report, sources,
    volumes::{self, Growth},
    windows::time_to_window,
};

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
    if let Some(reason) = refused_name(&manifest, &context.settings) {
        let path = "metadata.name".to_owned();
        return refuse(context, object, &value, &before, &ManifestError { path, reason }).await;
    }
    let bounded = bound_instances(&mut manifest, &context.settings);
    if let Some(error) = manifest
        .needs_other_data()
        .filter(|_| context.seen(&key).is_new())
    {
        return refuse(context, object, &value, &before, &error).await;
    }
    origin::forget_archive(context, &key, &mut manifest);
    if context.settings.sandbox {
        origin::resolve(context, &mut manifest);
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
        troubles: BTreeSet::new(),
        others: OtherRoles::default(),
        credentials: Vec::new(),
        window: time_to_window(&manifest, &context.settings, Timestamp::now()),
    };
    pass.observed.skipped.extend(bounded);
    if object.metadata.deletion_timestamp.is_some()
        && let Some(why) = cleanup::kept(context, object)
    {
        // What comes after the second colon changes every day.
        pass.tell_once(&format!("Deletion: it is held: {why}")).await;
        pass.observed.remarks.push(why);
    }
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
    let (observed, wake, template, window) = (pass.observed, pass.wake, pass.template_now, pass.window);
    let troubles = pass.troubles;
    let after = status(&manifest, &observed, &before, template, &report::timestamp());
    context.meter.phase(&key, &after.phase);
    let mut again = pass_after(&observed, memory.unwatched);
    if !window.is_zero() && observed.pods.iter().any(|pod| pod.leaving) {
        again = again.min(window);
    }
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
        // What is still so is not told again.
        memory.troubles.retain(|kind| troubles.contains(kind));
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
        // A deletion that is held goes on at a date.
        Ok(_) if object.metadata.deletion_timestamp.is_some() => Action::requeue(RESYNC),
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

impl Pass<'_> {
    async fn run(&mut self) -> Result<(), OperatorError> {
        let (context, manifest) = (self.context, self.manifest);
        let seen = self.look().await?;
        let (others, unknown) = sources::other_roles(context, manifest).await;
        self.credentials = credentials(manifest, &context.settings, &others);
        self.others = others;
        self.note(&seen).await;
        let mut logins = logins::logins(context, manifest, &seen, &self.credentials, self.memory).await?;
        self.plan_rotations(&mut logins).await?;
        let passwords = &logins.passwords;
        self.observed.not_changed = self.not_changed(&seen);
        for why in unknown.into_iter().chain(logins.failed.clone()) {
            self.tell_once(&why).await;
            self.observed.skipped.push(why);
            self.wake = Wake::Growing(SOON);
        }

        let agents = Agents::new(context, &seen, passwords);
        // What fails here must not keep anything else from being done: it may be its cure.
        let configured = self.configure(&seen, &agents, passwords).await;
        // Without them members would be others: no object is changed, and all else goes on.
        let (environment, held) = match (sources::environment(context, manifest).await, &seen.statefulset) {
            (Ok(environment), _) => (environment, None),
            (Err(error), Some(set)) => (PodEnvironment::default(), Some((error, set.clone()))),
            (Err(error), None) => return Err(error),
        };
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
            environment,
        };
        self.template_now = live.template.unwrap_or(TEMPLATE_VERSION);
        let (statefulset, held) = match held {
            Some((error, set)) => (set, Err(error)),
            None => (
                apply::cluster(context, manifest, &live, &seen, self.memory).await?,
                Ok(()),
            ),
        };

        let mut grown = Ok(());
        match volumes::growth(manifest, &seen, context.settings.resize_volumes) {
            Growth::Nothing => {}
            Growth::Stay(why) => self.observed.not_changed.push(why),
            Growth::Grow(claims) => match volumes::grow(context, manifest, &claims, self.memory).await {
                Ok(refused) => self.observed.not_changed.extend(refused),
                Err(error) => grown = Err(error),
            },
        }
        let poolers = poolers::sync(context, manifest, &seen, self.memory).await;
        if let Ok(found) = &poolers {
            self.observed.poolers.clone_from(found);
            if let Some(why) = found.as_ref().and_then(|found| found.trouble.as_ref()) {
                self.tell_once(why).await;
                self.wake = Wake::Growing(SOON);
            }
        }
        let database = self.databases(&logins).await;
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
        held?;
        configured?;
        grown?;
        poolers?;
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
            next_step(wanted, &revision, &seen.pods, &seen.rows, self.window.is_zero()),
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
    async fn databases(&mut self, logins: &Logins) -> Result<(), OperatorError> {
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
            passwords: &logins.passwords,
        };
        if seen.rows.iter().any(|row| row.state.is_copying()) {
            self.observed.copy = database::copying(self.context, &access).await;
            self.wake = Wake::Growing(NOW);
        }
        let wanted = wanted_roles(
            self.manifest,
            &self.context.settings,
            &self.others,
            &logins.rotated,
        );
        self.database(&access, primary.name.clone(), &wanted).await?;
        self.rotate(&access, &wanted, logins).await
    }

    /// The version of the pod template of an existing StatefulSet: as the status says, or, where that was lost, as it looks.
    fn template(&self, set: &StatefulSet) -> u32 {
        if self.template_before != 0 {
            return self.template_before;
        }
        template_version_of(set)
    }

    /// The major that the servers run, as far as it was seen.
    pub(crate) fn major(&self) -> Option<String> {
        let seen = self.memory.database.as_ref().map(|pass| pass.version.clone());
        seen.or_else(|| self.version_before.clone())
    }

    /// The address of the primary's Service, as applications reach it.
    fn service(&self, seen: &Seen) -> Result<SocketAddr, OperatorError> {
        let name = Names(&self.manifest.name).cluster();
        let address = seen.services.get(&name).map(String::as_str).unwrap_or_default();
        format!("{address}:5432")
            .parse()
            .map_err(|_| OperatorError::Missing(format!("the Service has no address ('{address}')")))
    }

    async fn database(
        &mut self,
        access: &Access<'_>,
        primary: String,
        wanted: &[Role],
    ) -> Result<(), OperatorError> {
        let of = DatabaseInput {
            generation: self.manifest.generation,
            primary,
            passwords: access.passwords.clone(),
            others: self.others.clone(),
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
                database::sync(self.context, self.manifest, access, of, wanted, runs).await?
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
}
