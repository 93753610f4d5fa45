//! What a pass tells of a cluster beside its state: what is left out, what is missing, what is in the way.

use std::{collections::BTreeSet, time::Duration};

use howdah_blueprint::{
    POSTGRES_CONTAINER, not_rotated, overruled_env, overruled_sidecar_env, pooler_conflict,
};
use howdah_clock::now;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Secret};
use kube::Api;

use crate::{
    observe::Seen,
    pace::{SOON, Wake},
    pass::Pass,
    report, waiting,
};

/// A refusal that lasts this long is told.
const REFUSED: Duration = Duration::from_secs(3);

impl Pass<'_> {
    /// Copies what was seen, and tells how the members differ from the manifest.
    pub(crate) async fn note(&mut self, seen: &Seen) {
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
        self.observed.archive = seen.archive();
        let archive = self.observed.archive.clone().unwrap_or_default();
        for trouble in archive.troubles {
            self.tell_once(&trouble).await;
        }
        if let Some(reason) = archive.not_proved {
            self.tell_once(&format!(
                "the last drill could not restore the newest backup: {reason}"
            ))
            .await;
        }
        let (manifest, settings) = (self.manifest, &self.context.settings);
        for name in overruled_env(manifest, settings) {
            self.observed
                .skipped
                .push(format!("spec.env.{name}: the operator sets this variable itself"));
        }
        let pods = &settings.pods;
        for (field, is_set, key, is_on) in [
            (
                "sidecars",
                manifest.spec.sidecars.as_ref().is_some_and(|all| !all.is_empty()),
                "enable_sidecars",
                pods.enable_sidecars,
            ),
            (
                "initContainers",
                manifest
                    .spec
                    .init_containers
                    .as_ref()
                    .is_some_and(|all| !all.is_empty()),
                "enable_init_containers",
                pods.enable_init_containers,
            ),
        ] {
            if is_set && !is_on {
                self.observed.skipped.push(format!(
                    "spec.{field}: left out, since the operator's configuration has {key}: false"
                ));
            } else if is_set && settings.sandbox {
                self.observed.skipped.push(format!(
                    "spec.{field}: the sandbox runs no containers: PostgreSQL runs without them"
                ));
            }
        }
        self.observed.skipped.extend(pooler_conflict(manifest, settings));
        if seen.stands_by(manifest) && !manifest.spec.poolers().is_empty() {
            let note = "spec.connectionPooler: a standby cluster has no pooler until it is promoted";
            self.observed.skipped.push(note.to_owned());
        }
        for name in overruled_sidecar_env(manifest, settings) {
            self.observed.skipped.push(format!(
                "spec.{name}: the operator sets this variable of sidecars itself"
            ));
        }
        self.observed
            .skipped
            .extend(not_rotated(manifest, &self.credentials));
        if !seen.lazy.is_empty() {
            self.observed.remarks.push(format!(
                "{} run the image of before and take the newer one when they start again (enable_lazy_spilo_upgrade)",
                seen.lazy.join(", ")
            ));
        }
        self.note_window(seen).await;
        self.look_for_certificates().await;
        self.look_for_origin(seen).await;
        let name_of = |role: &String| settings.secret_name(&manifest.name, role);
        let of_users = manifest.spec.users.keys().map(name_of);
        let known: BTreeSet<String> = self
            .credentials
            .iter()
            .map(|credential| credential.secret.clone())
            .chain(of_users)
            .chain(settings.protected_role_names.iter().map(name_of))
            // The role of a connection pooler that was there before.
            .chain([name_of(&settings.pooler.user)])
            .collect();
        let foreign = seen
            .secrets
            .keys()
            // Those of other namespaces have their own names.
            .filter(|name| !name.contains('/'))
            .filter(|name| settings.is_secret_name(&manifest.name, name) && !known.contains(*name));
        for secret in foreign {
            self.observed.remarks.push(format!(
                "Secret {secret} belongs to no user of the manifest any more: it stays, and so does its role"
            ));
        }
    }

    /// A primary whose node is being drained may have to wait for a maintenance window.
    async fn note_window(&mut self, seen: &Seen) {
        let Some(leader) = seen.leader() else {
            return;
        };
        let leaves = seen.pods.iter().any(|pod| pod.name == leader.name && pod.leaving);
        if leaves && !self.window.is_zero() {
            let minutes = self.window.as_secs().div_ceil(60);
            let (hours, rest) = (minutes / 60, minutes % 60);
            let kind = format!("{} leaves its node in the next maintenance window", leader.name);
            self.observed
                .remarks
                .push(format!("{kind}, in {hours} h {rest} min"));
            self.tell_once(&kind).await;
        }
    }

    /// A pod that starts waits without a word for a Secret that is mounted and not there.
    async fn look_for_certificates(&mut self) {
        let Some(tls) = &self.manifest.spec.tls else {
            return;
        };
        let api = Api::<Secret>::namespaced(self.context.client.clone(), &self.manifest.namespace);
        let names = [
            ("secretName", &tls.secret_name),
            ("caSecretName", &tls.ca_secret_name),
        ];
        for (field, name) in names.into_iter().filter(|(_, name)| !name.is_empty()) {
            if matches!(api.get_opt(name).await, Ok(None)) {
                let why =
                    format!("spec.tls.{field}: there is no Secret '{name}': members that start wait for it");
                self.tell_once(&why).await;
                self.observed.skipped.push(why);
                self.wake = Wake::Growing(SOON);
            }
        }
    }

    /// The data of a new cluster comes from another one: without that one's credentials it is not made, and without the section
    /// it is not made empty.
    async fn look_for_origin(&mut self, seen: &Seen) {
        if self.observed.initialized {
            return;
        }
        let spec = &self.manifest.spec;
        let asked_before = seen.statefulset.as_ref().is_some_and(|set| {
            ["CLONE_SCOPE", "STANDBY_HOST", "STANDBY_METHOD"]
                .iter()
                .any(|name| env_of(set, name).is_some())
        });
        if asked_before && spec.clone.is_none() && spec.standby.is_none() {
            self.observed.skipped.push(
                "spec: the cluster was to have another one's data and has none yet: delete it to begin with an empty one".into(),
            );
        }
        let Some(clone) = &spec.clone else {
            return;
        };
        let settings = &self.context.settings;
        if clone.is_restored() {
            let pods = &settings.pods;
            let buckets = [
                &pods.wal_s3_bucket,
                &pods.wal_gs_bucket,
                &pods.wal_az_storage_account,
            ];
            if clone.s3_wal_path.is_empty() && buckets.iter().all(|bucket| bucket.is_empty()) {
                let why = "spec.clone.timestamp: the operator's configuration names no bucket (wal_s3_bucket): unless the pods' environment \
                           has CLONE_WAL_S3_BUCKET or CLONE_WALE_S3_PREFIX, there is nothing to restore from";
                self.tell_once(why).await;
                self.observed.skipped.push(why.to_owned());
            }
            return;
        }
        let name = settings.secret_name(&clone.cluster, &settings.replication_username);
        let api = Api::<Secret>::namespaced(self.context.client.clone(), &self.manifest.namespace);
        if matches!(api.get_opt(&name).await, Ok(None)) {
            let why = format!(
                "spec.clone.cluster: there is no Secret '{name}': is '{}' a cluster of this namespace?",
                clone.cluster
            );
            self.tell_once(&why).await;
            self.observed.skipped.push(why);
            self.wake = Wake::Growing(SOON);
        }
    }

    /// Tells a trouble as an event, once until it has passed. A message may have an identifier or a time in it that changes: what
    /// comes before the second colon tells troubles apart.
    pub(crate) async fn tell_once(&mut self, trouble: &str) {
        let kind: String = trouble.split(':').take(2).collect();
        self.troubles.insert(kind.clone());
        if self.memory.troubles.len() < 32 && self.memory.troubles.insert(kind) {
            report::event(self.context, self.manifest, true, "Trouble", trouble).await;
        }
    }

    /// Why a pod cannot be made, if that lasts: a pod that is replaced is missing for a moment.
    pub(crate) fn refusal(&mut self, seen: &Seen) -> Option<String> {
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
    pub(crate) fn not_changed(&self, seen: &Seen) -> Vec<String> {
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
        out
    }
}

fn env_of(set: &StatefulSet, name: &str) -> Option<String> {
    let pod = set.spec.as_ref()?.template.spec.as_ref()?;
    let container = pod
        .containers
        .iter()
        .find(|container| container.name == POSTGRES_CONTAINER)?;
    let vars = container.env.as_ref()?;
    vars.iter().find(|var| var.name == name)?.value.clone()
}
