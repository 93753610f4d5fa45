use std::collections::BTreeMap;

use howdah_manifest::{DATA_VOLUME, Manifest, POSTGRES_CONTAINER};
use k8s_openapi::{
    api::{
        apps::v1::{
            StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
            StatefulSetUpdateStrategy,
        },
        core::v1::{
            Capabilities, Container, ContainerPort, HTTPGetAction, PersistentVolumeClaim,
            PersistentVolumeClaimSpec, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile,
            SecurityContext, VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::{
    base_labels, downscaler_annotations,
    environment::environment,
    full_labels, image_name, inherited_annotations, metadata,
    placement::{affinity, tolerations},
    resources::resources,
    sidecars::{init_containers, sidecars},
    typed, typed_list,
    volumes::{Place, Volumes},
};
use crate::{APPLIED_ANNOTATION, Live, Names, Settings, applied_names, bounds::escapes, remembered_names};

/// The newest version of the pod template. A cluster keeps the version that it was made with, until its StatefulSet is made again:
/// an upgrade of the operator restarts nothing.
///
/// 2: a readiness probe. A member whose PostgreSQL does not start is not Ready, and gets no connections from a Service.
/// 3: members of our image satisfy the Pod Security standard *restricted*.
pub const TEMPLATE_VERSION: u32 = 3;

/// The user and group of the image's PostgreSQL, as Spilo has them.
const POSTGRES_USER: i64 = 101;
const POSTGRES_GROUP: i64 = 103;

/// Whether the members need no rights: no user with privileges, no capability, nothing to write in the image. Upstream's image
/// is started as upstream starts it.
fn is_restricted(manifest: &Manifest, settings: &Settings, live: &Live) -> bool {
    let image = manifest
        .spec
        .docker_image
        .as_ref()
        .unwrap_or(&settings.docker_image);
    let name = image_name(image);
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
        .any(|container| container.name == POSTGRES_CONTAINER && container.readiness_probe.is_some());
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
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.extend(downscaler_annotations(manifest, settings));
    annotations.insert(
        APPLIED_ANNOTATION.to_owned(),
        serde_json::json!(applied).to_string(),
    );
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
            pod_management_policy: Some(management(settings, live)),
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some(retention(settings.pods.delete_claims_when_deleted)),
                when_scaled: Some(retention(settings.pods.delete_claims_when_scaled)),
            }),
            template: template(manifest, settings, live),
            volume_claim_templates: Some(vec![claim(manifest, settings, live)]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn retention(delete: bool) -> String {
    if delete { "Delete" } else { "Retain" }.to_owned()
}

/// How pods are made: fixed when the StatefulSet is made, so the live one's stays.
fn management(settings: &Settings, live: &Live) -> String {
    let existing = live.statefulset.as_ref().and_then(|set| set.spec.as_ref());
    let wanted = if settings.pods.is_parallel {
        "Parallel"
    } else {
        "OrderedReady"
    };
    existing
        .and_then(|spec| spec.pod_management_policy.clone())
        .unwrap_or_else(|| wanted.to_owned())
}

fn pod_annotations(manifest: &Manifest, settings: &Settings) -> BTreeMap<String, String> {
    let mut annotations = inherited_annotations(manifest, settings);
    annotations.extend(settings.pods.custom_pod_annotations.clone());
    annotations.extend(manifest.spec.pod_annotations.clone());
    if !settings.pods.kube_iam_role.is_empty() {
        annotations.insert(
            "iam.amazonaws.com/role".into(),
            settings.pods.kube_iam_role.clone(),
        );
    }
    annotations
}

fn template(manifest: &Manifest, settings: &Settings, live: &Live) -> PodTemplateSpec {
    let spec = &manifest.spec;
    let is_restricted = is_restricted(manifest, settings, live);
    let volumes = Volumes::of(manifest, settings, is_restricted);
    let annotations = pod_annotations(manifest, settings);
    let mut containers = vec![container(manifest, settings, live, &volumes)];
    containers.extend(sidecars(manifest, settings, &volumes, is_restricted));
    let inits = init_containers(manifest, settings, &volumes, is_restricted);
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(full_labels(manifest, settings)),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(settings.pod_service_account_name.clone()),
            termination_grace_period_seconds: Some(settings.pod_terminate_grace_period),
            priority_class_name: spec
                .pod_priority_class_name
                .clone()
                .or_else(|| settings.pods.pod_priority_class_name.clone()),
            scheduler_name: spec.scheduler_name.clone(),
            security_context: security(manifest, settings, live),
            tolerations: tolerations(manifest, settings),
            topology_spread_constraints: typed_list(&spec.topology_spread_constraints),
            affinity: affinity(manifest, settings),
            init_containers: Some(inits).filter(|inits| !inits.is_empty()),
            containers,
            volumes: Some(volumes.defined()).filter(|volumes| !volumes.is_empty()),
            ..PodSpec::default()
        }),
    }
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
        capabilities: Some(Capabilities {
            add: Some(settings.pods.additional_pod_capabilities.clone()).filter(|all| !all.is_empty()),
            drop: is_restricted.then(|| vec!["ALL".into()]),
        })
        .filter(|capabilities| *capabilities != Capabilities::default()),
        ..SecurityContext::default()
    }
}

fn container(manifest: &Manifest, settings: &Settings, live: &Live, volumes: &Volumes<'_>) -> Container {
    let spec = &manifest.spec;
    let port = |number| ContainerPort {
        container_port: number,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    };
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
        resources: resources(
            spec.resources.as_ref(),
            settings,
            !escapes(manifest, &settings.objects.ignore_resources_limits_annotation_key),
        ),
        volume_mounts: Some(volumes.mounts(Place::Postgres)),
        liveness_probe: spec
            .liveness_probe
            .as_ref()
            .or(settings.pods.liveness_probe.as_ref())
            .and_then(typed),
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
            name: Some(DATA_VOLUME.into()),
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
