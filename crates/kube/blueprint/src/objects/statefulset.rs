use std::collections::BTreeMap;

use howdah_manifest::Manifest;
use k8s_openapi::{
    api::{
        apps::v1::{
            StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
            StatefulSetUpdateStrategy,
        },
        core::v1::{
            Affinity, Capabilities, Container, ContainerPort, EmptyDirVolumeSource, HTTPGetAction,
            PersistentVolumeClaim, PersistentVolumeClaimSpec, PodSecurityContext, PodSpec, PodTemplateSpec,
            Probe, SeccompProfile, SecurityContext, Volume, VolumeMount, VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{base_labels, environment::environment, full_labels, metadata, resources::resources};
use crate::{APPLIED_ANNOTATION, Live, Names, Settings, applied_names, remembered_names};

/// The newest version of the pod template. A cluster keeps the version that it was made with, until its StatefulSet is made again:
/// an upgrade of the operator restarts nothing.
///
/// 2: a readiness probe. A member whose PostgreSQL does not start is not Ready, and gets no connections from a Service.
/// 3: members of our image satisfy the Pod Security standard *restricted*.
pub const TEMPLATE_VERSION: u32 = 3;

/// The user and group of the image's PostgreSQL, as Spilo has them.
const POSTGRES_USER: i64 = 101;
const POSTGRES_GROUP: i64 = 103;

/// Directories that a member writes beside its volume; everything else of the image is read-only.
const WRITABLE: [(&str, &str); 2] = [("run", "/run"), ("tmp", "/tmp")];

/// Whether the members need no rights: no user with privileges, no capability, nothing to write in the image. Upstream's image
/// is started as upstream starts it.
fn is_restricted(manifest: &Manifest, settings: &Settings, live: &Live) -> bool {
    let image = manifest
        .spec
        .docker_image
        .as_ref()
        .unwrap_or(&settings.docker_image);
    let name = image.rsplit('/').next().unwrap_or_default();
    let name = name.split([':', '@']).next().unwrap_or_default();
    live.template.unwrap_or(TEMPLATE_VERSION) >= 3 && !settings.spilo_privileged && !name.contains("spilo")
}

/// The version of the pod template that a StatefulSet looks like.
#[must_use]
pub fn template_version_of(statefulset: &StatefulSet) -> u32 {
    let Some(pod) = statefulset
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref())
    else {
        return TEMPLATE_VERSION;
    };
    let is_restricted = pod
        .security_context
        .as_ref()
        .is_some_and(|context| context.seccomp_profile.is_some());
    let is_probed = pod
        .containers
        .iter()
        .any(|container| container.readiness_probe.is_some());
    match (is_restricted, is_probed) {
        (true, _) => 3,
        (false, true) => 2,
        (false, false) => 1,
    }
}

/// Whether PostgreSQL runs. A replica without a primary is ready: it takes readers, and may be the next primary in a moment.
fn readiness(manifest: &Manifest) -> Probe {
    let env = manifest.spec.env.as_deref().unwrap_or_default();
    let tls = env.iter().any(|var| var["name"] == "PATRONI_RESTAPI_CERTFILE");
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some("/health".into()),
            port: IntOrString::Int(8008),
            scheme: Some(if tls { "HTTPS" } else { "HTTP" }.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(10),
        timeout_seconds: Some(5),
        failure_threshold: Some(3),
        ..Probe::default()
    }
}

/// The name of the container that PostgreSQL runs in.
pub const POSTGRES_CONTAINER: &str = "postgres";

const DATA: &str = "pgdata";
const DATA_PATH: &str = "/home/postgres/pgdata";

/// The members.
pub(super) fn statefulset(manifest: &Manifest, settings: &Settings, live: &Live) -> StatefulSet {
    let spec = &manifest.spec;
    let name = Names(&manifest.name).cluster();
    let mut metadata = metadata(manifest, settings, &name);
    let mut applied = applied_names(manifest);
    applied.extend(live.still_applied.iter().cloned());
    // The value before a wrong one is still ours to take back, if it was.
    let earlier = remembered_names(live.statefulset.as_ref());
    let wrong = manifest.wrong_parameters.keys();
    applied.extend(wrong.filter(|name| earlier.contains(*name)).cloned());
    metadata.annotations = Some(BTreeMap::from([(
        APPLIED_ANNOTATION.to_owned(),
        serde_json::json!(applied).to_string(),
    )]));
    let replicas = live.hold_replicas.unwrap_or(spec.number_of_instances);
    StatefulSet {
        metadata,
        spec: Some(StatefulSetSpec {
            service_name: Some(name),
            selector: LabelSelector {
                match_labels: Some(base_labels(&manifest.name, settings)),
                ..LabelSelector::default()
            },
            replicas: i32::try_from(replicas).ok(),
            // The operator replaces pods itself: replicas first, and the primary after a switchover.
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".into()),
                rolling_update: None,
            }),
            pod_management_policy: Some("OrderedReady".into()),
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Retain".into()),
                when_scaled: Some("Retain".into()),
            }),
            template: template(manifest, settings, live),
            volume_claim_templates: Some(vec![claim(manifest, settings, live)]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn template(manifest: &Manifest, settings: &Settings, live: &Live) -> PodTemplateSpec {
    let spec = &manifest.spec;
    let shm = spec.enable_shm_volume.unwrap_or(settings.enable_shm_volume);
    let annotations = spec.pod_annotations.clone();
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(full_labels(manifest, settings)),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(settings.pod_service_account_name.clone()),
            termination_grace_period_seconds: Some(settings.pod_terminate_grace_period),
            priority_class_name: spec.pod_priority_class_name.clone(),
            scheduler_name: spec.scheduler_name.clone(),
            security_context: security(manifest, settings, live),
            tolerations: typed_list(&spec.tolerations),
            topology_spread_constraints: typed_list(&spec.topology_spread_constraints),
            affinity: spec.node_affinity.as_ref().and_then(typed).map(|node| Affinity {
                node_affinity: Some(node),
                ..Affinity::default()
            }),
            containers: vec![container(manifest, settings, live, shm)],
            volumes: Some(volumes(is_restricted(manifest, settings, live), shm))
                .filter(|volumes| !volumes.is_empty()),
            ..PodSpec::default()
        }),
    }
}

fn volumes(is_restricted: bool, shm: bool) -> Vec<Volume> {
    let empty = |name: &str, medium: Option<&str>| Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: medium.map(str::to_owned),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    };
    let mut volumes = Vec::new();
    if shm {
        volumes.push(empty("dshm", Some("Memory")));
    }
    if is_restricted {
        volumes.extend(WRITABLE.iter().map(|(name, _)| empty(name, None)));
    }
    volumes
}

fn security(manifest: &Manifest, settings: &Settings, live: &Live) -> Option<PodSecurityContext> {
    let spec = &manifest.spec;
    let mut context = PodSecurityContext {
        run_as_user: spec.spilo_run_as_user.or(settings.spilo_runasuser),
        run_as_group: spec.spilo_run_as_group.or(settings.spilo_runasgroup),
        fs_group: spec.spilo_fs_group.or(settings.spilo_fsgroup),
        ..PodSecurityContext::default()
    };
    if is_restricted(manifest, settings, live) {
        context.run_as_user.get_or_insert(POSTGRES_USER);
        context.run_as_group.get_or_insert(POSTGRES_GROUP);
        context.fs_group.get_or_insert(POSTGRES_GROUP);
        context.run_as_non_root = Some(context.run_as_user != Some(0));
        // A large volume is not walked through at each start.
        context.fs_group_change_policy = Some("OnRootMismatch".into());
        context.seccomp_profile = Some(SeccompProfile {
            type_: "RuntimeDefault".into(),
            ..SeccompProfile::default()
        });
    }
    (context != PodSecurityContext::default()).then_some(context)
}

fn container_security(manifest: &Manifest, settings: &Settings, live: &Live) -> SecurityContext {
    let is_restricted = is_restricted(manifest, settings, live);
    let escalation = settings.spilo_allow_privilege_escalation.unwrap_or(true);
    SecurityContext {
        // Nothing in our image could use it.
        allow_privilege_escalation: Some(escalation && !is_restricted),
        privileged: Some(settings.spilo_privileged),
        read_only_root_filesystem: Some(is_restricted),
        capabilities: is_restricted.then(|| Capabilities {
            drop: Some(vec!["ALL".into()]),
            ..Capabilities::default()
        }),
        ..SecurityContext::default()
    }
}

fn container(manifest: &Manifest, settings: &Settings, live: &Live, shm: bool) -> Container {
    let spec = &manifest.spec;
    let port = |number| ContainerPort {
        container_port: number,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    };
    let expression = spec.volume.is_sub_path_expr == Some(true);
    let sub_path = spec.volume.sub_path.clone().filter(|path| !path.is_empty());
    let mut mounts = vec![VolumeMount {
        name: DATA.into(),
        mount_path: DATA_PATH.into(),
        sub_path: sub_path.clone().filter(|_| !expression),
        sub_path_expr: sub_path.filter(|_| expression),
        ..VolumeMount::default()
    }];
    if shm {
        mounts.push(VolumeMount {
            name: "dshm".into(),
            mount_path: "/dev/shm".into(),
            ..VolumeMount::default()
        });
    }
    if is_restricted(manifest, settings, live) {
        mounts.extend(WRITABLE.iter().map(|(name, path)| VolumeMount {
            name: (*name).into(),
            mount_path: (*path).into(),
            ..VolumeMount::default()
        }));
    }
    Container {
        name: POSTGRES_CONTAINER.into(),
        image: Some(
            spec.docker_image
                .clone()
                .unwrap_or_else(|| settings.docker_image.clone()),
        ),
        image_pull_policy: Some("IfNotPresent".into()),
        ports: Some([8008, 5432, 8080].map(port).to_vec()),
        env: Some(environment(manifest, settings, live)),
        env_from: spec.env_from.as_deref().and_then(typed_list),
        resources: resources(manifest, settings),
        volume_mounts: Some(mounts),
        liveness_probe: spec.liveness_probe.as_ref().and_then(typed),
        readiness_probe: (live.template.unwrap_or(TEMPLATE_VERSION) >= 2).then(|| readiness(manifest)),
        security_context: Some(container_security(manifest, settings, live)),
        ..Container::default()
    }
}

/// The claim of each member's volume. It is fixed when the StatefulSet is made, so the live one stays.
fn claim(manifest: &Manifest, settings: &Settings, live: &Live) -> PersistentVolumeClaim {
    let existing = live.statefulset.as_ref().and_then(|set| {
        set.spec
            .as_ref()?
            .volume_claim_templates
            .as_ref()?
            .first()
            .cloned()
    });
    if let Some(existing) = existing {
        return PersistentVolumeClaim {
            status: None,
            ..existing
        };
    }
    let volume = &manifest.spec.volume;
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(DATA.into()),
            labels: Some(full_labels(manifest, settings)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            volume_mode: Some("Filesystem".into()),
            storage_class_name: volume.storage_class.clone().filter(|class| !class.is_empty()),
            selector: volume.selector.as_ref().and_then(typed),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([(
                    "storage".to_owned(),
                    Quantity(volume.size.clone()),
                )])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

/// A Kubernetes value that a manifest hands on. One that is not of its type was refused when the manifest was stored.
fn typed<T: DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}

fn typed_list<T: DeserializeOwned>(values: &[Value]) -> Option<Vec<T>> {
    let list: Vec<T> = values.iter().filter_map(typed).collect();
    (!list.is_empty()).then_some(list)
}
