//! The volumes of a pod, and where each container finds them.

use howdah_manifest::{DATA_PATH, DATA_VOLUME, Manifest, POSTGRES_CONTAINER, TLS_CA_PATH, TLS_PATH};
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, SecretVolumeSource, Volume, VolumeMount};
use serde_json::{Value, json};

use crate::Settings;

/// Directories that a member of our image writes beside its volume; everything else of the image is read-only.
const WRITABLE: [(&str, &str); 2] = [("run", "/run"), ("tmp", "/tmp")];
/// Files of Secrets belong to root and the group of the volumes: PostgreSQL takes a private key of this mode.
pub(super) const SECRET_MODE: i32 = 0o640;
/// Where the server's socket is shared with sidecars.
const SOCKETS: &str = "/var/run/postgresql";

/// Which containers a volume is mounted in.
enum Targets<'a> {
    Postgres,
    PostgresAndSidecars,
    Chosen(&'a howdah_manifest::AdditionalVolume),
}

struct Mounted<'a> {
    /// `None`: the claim's, which the StatefulSet adds.
    volume: Option<Volume>,
    mount: VolumeMount,
    targets: Targets<'a>,
}

/// A container of the pod, as volumes see it.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Place<'a> {
    Postgres,
    Sidecar(&'a str),
    Init(&'a str),
}

/// All volumes of a pod.
pub(super) struct Volumes<'a>(Vec<Mounted<'a>>);

impl<'a> Volumes<'a> {
    pub(super) fn of(manifest: &'a Manifest, settings: &Settings, is_restricted: bool) -> Self {
        let spec = &manifest.spec;
        let chosen = &spec.additional_volumes;
        // A volume of the manifest may have the name or the place of one of ours.
        let name = |own: &str| {
            let taken = chosen.iter().any(|volume| volume.name == own);
            if taken {
                format!("howdah-{own}")
            } else {
                own.to_owned()
            }
        };
        let is_free = |path: &str| {
            let over = |volume: &&howdah_manifest::AdditionalVolume| {
                volume.mount_path.trim_end_matches('/') == path && volume.is_for(POSTGRES_CONTAINER, false)
            };
            !chosen.iter().any(|volume| over(&volume))
        };
        let mut all = vec![data(manifest)];
        let mut add = |volume: Volume, path: &str, targets: Targets<'a>| {
            let mount = mount_at(&volume.name, path);
            all.push(Mounted {
                volume: Some(volume),
                mount,
                targets,
            });
        };
        if spec.enable_shm_volume.unwrap_or(settings.enable_shm_volume) && is_free("/dev/shm") {
            add(
                empty(&name("dshm"), Some("Memory")),
                "/dev/shm",
                Targets::Postgres,
            );
        }
        if is_restricted {
            for (own, path) in WRITABLE.iter().filter(|(_, path)| is_free(path)) {
                add(empty(&name(own), None), path, Targets::Postgres);
            }
        }
        if settings.pods.share_pgsocket_with_sidecars && is_free(SOCKETS) {
            let volume = empty(&name("postgresql-run"), Some("Memory"));
            add(volume, SOCKETS, Targets::PostgresAndSidecars);
        }
        if let Some(tls) = &spec.tls {
            let volume = secret("howdah-tls", &tls.secret_name, Some(SECRET_MODE));
            add(volume, TLS_PATH, Targets::Postgres);
            if !tls.ca_secret_name.is_empty() {
                let volume = secret("howdah-tls-ca", &tls.ca_secret_name, Some(SECRET_MODE));
                add(volume, TLS_CA_PATH, Targets::Postgres);
            }
        }
        if let Some((secret_name, path)) = &settings.pods.additional_secret_mount
            && is_free(path.trim_end_matches('/'))
        {
            let volume = secret("howdah-additional-secret", secret_name, None);
            add(volume, path, Targets::PostgresAndSidecars);
        }
        all.extend(chosen.iter().map(additional));
        Volumes(all)
    }

    /// What the pod defines.
    pub(super) fn defined(&self) -> Vec<Volume> {
        self.0
            .iter()
            .filter_map(|mounted| mounted.volume.clone())
            .collect()
    }

    /// What a container mounts.
    pub(super) fn mounts(&self, place: Place<'_>) -> Vec<VolumeMount> {
        let is_here = |mounted: &&Mounted<'_>| match (&mounted.targets, place) {
            (Targets::Postgres, place) => place == Place::Postgres,
            (Targets::PostgresAndSidecars, place) => !matches!(place, Place::Init(_)),
            (Targets::Chosen(volume), Place::Postgres) => volume.is_for(POSTGRES_CONTAINER, false),
            (Targets::Chosen(volume), Place::Sidecar(name)) => volume.is_for(name, false),
            (Targets::Chosen(volume), Place::Init(name)) => volume.is_for(name, true),
        };
        self.0
            .iter()
            .filter(is_here)
            .map(|mounted| mounted.mount.clone())
            .collect()
    }
}

pub(super) fn mount_at(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

/// A path below a volume's root, plain or with variables.
fn below(mount: VolumeMount, sub_path: Option<&String>, expression: bool) -> VolumeMount {
    let sub_path = sub_path.filter(|path| !path.is_empty()).cloned();
    VolumeMount {
        sub_path: sub_path.clone().filter(|_| !expression),
        sub_path_expr: sub_path.filter(|_| expression),
        ..mount
    }
}

fn data(manifest: &Manifest) -> Mounted<'static> {
    let volume = &manifest.spec.volume;
    let expression = volume.is_sub_path_expr == Some(true);
    Mounted {
        volume: None,
        mount: below(
            mount_at(DATA_VOLUME, DATA_PATH),
            volume.sub_path.as_ref(),
            expression,
        ),
        targets: Targets::PostgresAndSidecars,
    }
}

pub(super) fn empty(name: &str, medium: Option<&str>) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: medium.map(str::to_owned),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

pub(super) fn secret(name: &str, secret: &str, mode: Option<i32>) -> Volume {
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: mode,
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn additional(volume: &howdah_manifest::AdditionalVolume) -> Mounted<'_> {
    let mut definition = volume.volume_source.clone();
    match &mut definition {
        Value::Object(fields) if fields.values().any(|value| !value.is_null()) => {
            fields.insert("name".into(), json!(volume.name));
        }
        // No source: Kubernetes would take an empty directory, and keep it beside a later one.
        other => *other = json!({"name": volume.name, "emptyDir": {}}),
    }
    let expression = volume.is_sub_path_expr == Some(true);
    Mounted {
        volume: serde_json::from_value(definition).ok(),
        mount: below(
            mount_at(&volume.name, &volume.mount_path),
            volume.sub_path.as_ref(),
            expression,
        ),
        targets: Targets::Chosen(volume),
    }
}
