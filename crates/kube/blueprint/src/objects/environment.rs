use std::collections::BTreeSet;

use howdah_manifest::{CloneFrom, Manifest};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, SecretKeySelector};
use serde_json::json;

use super::{container::postgres_container, spilo_configuration};
use crate::{Live, PodEnvironment, Settings};

/// The environment of the postgres container, in upstream's order; of two variables with one name (in any case) the
/// first counts. (Upstream lets the fixed ones win over a manifest, too: they are how the cluster is found.)
pub(super) fn environment(manifest: &Manifest, settings: &Settings, live: &Live) -> Vec<EnvVar> {
    let mut env = fixed(manifest, settings, live);
    let own = manifest.spec.env.iter().flatten();
    env.extend(own.filter_map(|var| serde_json::from_value::<EnvVar>(var.clone()).ok()));
    env.extend(origin(manifest, settings, live));
    env.extend(from_configuration(&live.environment));
    env.extend(buckets(manifest, settings));
    first_wins(env)
}

/// Variables that the operator's configuration has for every member.
fn from_configuration(environment: &PodEnvironment) -> Vec<EnvVar> {
    let (secret, keys) = environment.secret.clone().unwrap_or_default();
    let mut env: Vec<EnvVar> = keys
        .iter()
        .map(|key| with_key(from_secret(key, &secret), key))
        .collect();
    env.extend(environment.values.iter().map(|(name, text)| value(name, text)));
    env
}

/// Where the image archives and logs. Upstream's: a cluster that is made again with its name gets another place in the bucket.
fn buckets(manifest: &Manifest, settings: &Settings) -> Vec<EnvVar> {
    let pods = &settings.pods;
    let own = format!("/{}", manifest.uid);
    let mut env = Vec::new();
    for (name, bucket, scope) in [
        ("WAL_S3_BUCKET", &pods.wal_s3_bucket, "WAL_BUCKET_SCOPE"),
        ("WAL_GS_BUCKET", &pods.wal_gs_bucket, "WAL_BUCKET_SCOPE"),
        (
            "AZURE_STORAGE_ACCOUNT",
            &pods.wal_az_storage_account,
            "WAL_BUCKET_SCOPE",
        ),
        ("LOG_S3_BUCKET", &pods.log_s3_bucket, "LOG_BUCKET_SCOPE"),
    ] {
        if !bucket.is_empty() {
            env.push(value(name, bucket));
            env.push(value(&format!("{scope}_SUFFIX"), &own));
            env.push(value(&format!("{scope}_PREFIX"), ""));
        }
    }
    if !pods.gcp_credentials.is_empty() {
        env.push(value("GOOGLE_APPLICATION_CREDENTIALS", &pods.gcp_credentials));
    }
    env
}

/// Variables that say where a new cluster's data comes from. They count only once: those of a cluster that exists stay as
/// they are, so that no pod is replaced when the manifest's section goes.
const ORIGIN: &[&str] = &[
    "CLONE_SCOPE",
    "CLONE_METHOD",
    "CLONE_HOST",
    "CLONE_PORT",
    "CLONE_USER",
    "CLONE_PASSWORD",
    "STANDBY_HOST",
    "STANDBY_PORT",
    "STANDBY_PRIMARY_SLOT_NAME",
];

/// Those of archives. A user may have set them too, in the manifest or for all pods: then they are the user's, and go when the user
/// takes them away.
const ORIGIN_ARCHIVE: &[&str] = &[
    "CLONE_TARGET_TIME",
    "CLONE_WALE_S3_PREFIX",
    "CLONE_WAL_S3_BUCKET",
    "CLONE_WAL_GS_BUCKET",
    "CLONE_GOOGLE_APPLICATION_CREDENTIALS",
    "CLONE_AZURE_STORAGE_ACCOUNT",
    "CLONE_WAL_BUCKET_SCOPE_SUFFIX",
    "CLONE_AWS_ENDPOINT",
    "CLONE_WALE_S3_ENDPOINT",
    "CLONE_AWS_ACCESS_KEY_ID",
    "CLONE_AWS_SECRET_ACCESS_KEY",
    "CLONE_AWS_S3_FORCE_PATH_STYLE",
    "CLONE_WAL_BUCKET_SCOPE_PREFIX",
    "STANDBY_WALE_S3_PREFIX",
    "STANDBY_WALE_GS_PREFIX",
    "STANDBY_METHOD",
    "STANDBY_WAL_BUCKET_SCOPE_PREFIX",
];

fn origin(manifest: &Manifest, settings: &Settings, live: &Live) -> Vec<EnvVar> {
    let asks = manifest.spec.clone.is_some() || manifest.spec.standby.is_some();
    // What was to be another cluster's data must not become an empty cluster.
    if live.bootstrapped || !asks {
        let container = live.statefulset.as_ref().and_then(postgres_container);
        let env = container.and_then(|container| container.env.as_ref());
        let own = manifest.spec.env.iter().flatten();
        let given: BTreeSet<String> = own
            .filter_map(|var| var["name"].as_str().map(str::to_owned))
            .chain(
                from_configuration(&live.environment)
                    .into_iter()
                    .map(|var| var.name),
            )
            .collect();
        let is_origin = |var: &&EnvVar| {
            let name = var.name.as_str();
            let is_ours = ORIGIN_ARCHIVE.contains(&name) && var.value_from.is_none() && !given.contains(name);
            ORIGIN.contains(&name) || is_ours
        };
        return env.into_iter().flatten().filter(is_origin).cloned().collect();
    }
    let mut env = Vec::new();
    match &manifest.spec.clone {
        Some(clone) if clone.is_restored() => env.extend(restored(clone, settings)),
        Some(clone) => {
            let user = &settings.replication_username;
            let host = clone.address.as_ref().unwrap_or(&clone.cluster);
            env.extend([
                value("CLONE_SCOPE", &clone.cluster),
                value("CLONE_METHOD", "CLONE_WITH_BASEBACKUP"),
                value("CLONE_HOST", host),
                value("CLONE_PORT", "5432"),
                value("CLONE_USER", user),
                if_there(from_secret(
                    "CLONE_PASSWORD",
                    &settings.secret_name(&clone.cluster, user),
                )),
            ]);
        }
        None => {}
    }
    if let Some(standby) = &manifest.spec.standby {
        for (name, text) in [
            ("STANDBY_HOST", &standby.standby_host),
            ("STANDBY_PORT", &standby.standby_port),
            ("STANDBY_PRIMARY_SLOT_NAME", &standby.standby_primary_slot_name),
            ("STANDBY_WALE_S3_PREFIX", &standby.s3_wal_path),
            ("STANDBY_WALE_GS_PREFIX", &standby.gs_wal_path),
        ] {
            if !text.is_empty() {
                env.push(value(name, text));
            }
        }
        if !standby.s3_wal_path.is_empty() || !standby.gs_wal_path.is_empty() {
            env.push(value("STANDBY_METHOD", "STANDBY_WITH_WALE"));
            env.push(value("STANDBY_WAL_BUCKET_SCOPE_PREFIX", ""));
        }
    }
    env
}

/// A cluster that is restored from an archive: from the place that the manifest names, or the operator's bucket.
fn restored(clone: &CloneFrom, settings: &Settings) -> Vec<EnvVar> {
    let pods = &settings.pods;
    let mut env = vec![
        value("CLONE_SCOPE", &clone.cluster),
        value("CLONE_METHOD", "CLONE_WITH_WALE"),
        value("CLONE_TARGET_TIME", &clone.timestamp),
    ];
    let mut set = |name: &str, text: &str| {
        if !text.is_empty() {
            env.push(value(name, text));
        }
    };
    if clone.s3_wal_path.is_empty() {
        set("CLONE_WAL_S3_BUCKET", &pods.wal_s3_bucket);
        set("CLONE_WAL_GS_BUCKET", &pods.wal_gs_bucket);
        if !pods.wal_gs_bucket.is_empty() {
            set("CLONE_GOOGLE_APPLICATION_CREDENTIALS", &pods.gcp_credentials);
        }
        set("CLONE_AZURE_STORAGE_ACCOUNT", &pods.wal_az_storage_account);
        set("CLONE_WAL_BUCKET_SCOPE_SUFFIX", &format!("/{}", clone.uid));
    } else {
        set("CLONE_WALE_S3_PREFIX", &clone.s3_wal_path);
    }
    // Two programs read it under two names.
    set("CLONE_AWS_ENDPOINT", &clone.s3_endpoint);
    set("CLONE_WALE_S3_ENDPOINT", &clone.s3_endpoint);
    set("CLONE_AWS_ACCESS_KEY_ID", &clone.s3_access_key_id);
    set("CLONE_AWS_SECRET_ACCESS_KEY", &clone.s3_secret_access_key);
    if let Some(by_path) = clone.s3_force_path_style {
        set("CLONE_AWS_S3_FORCE_PATH_STYLE", if by_path { "1" } else { "0" });
    }
    if clone.s3_wal_path.is_empty() {
        env.push(value("CLONE_WAL_BUCKET_SCOPE_PREFIX", ""));
    }
    env
}

/// Variables of a manifest that the operator sets itself: the manifest's value has no effect.
#[must_use]
pub fn overruled_env(manifest: &Manifest, settings: &Settings) -> Vec<String> {
    let fixed = fixed(manifest, settings, &Live::default());
    let own = manifest.spec.env.iter().flatten();
    own.filter_map(|var| var["name"].as_str())
        .filter(|name| fixed.iter().any(|var| var.name.eq_ignore_ascii_case(name)))
        .map(str::to_owned)
        .collect()
}

fn fixed(manifest: &Manifest, settings: &Settings, live: &Live) -> Vec<EnvVar> {
    let secret = |role: &str| settings.secret_name(&manifest.name, role);
    let live_value = |name: &str| {
        let container = postgres_container(live.statefulset.as_ref()?)?;
        let found = container.env.as_ref()?.iter().find(|var| var.name == name)?;
        found.value.clone()
    };
    let mut env = vec![
        value("SCOPE", &manifest.name),
        value("PGROOT", "/home/postgres/pgdata/pgroot"),
        from_field("POD_IP", "status.podIP"),
        from_field("POD_NAMESPACE", "metadata.namespace"),
        value("PGUSER_SUPERUSER", &settings.super_username),
        value("KUBERNETES_SCOPE_LABEL", &settings.cluster_name_label),
        value("KUBERNETES_ROLE_LABEL", &settings.pod_role_label),
        from_secret("PGPASSWORD_SUPERUSER", &secret(&settings.super_username)),
        value("PGUSER_STANDBY", &settings.replication_username),
        from_secret("PGPASSWORD_STANDBY", &secret(&settings.replication_username)),
        value("PAM_OAUTH2", &settings.pam_configuration),
        value("HUMAN_ROLE", &settings.pam_role_name),
    ];
    if settings.pods.enable_spilo_wal_path_compat {
        env.push(value("ENABLE_WAL_PATH_COMPAT", "true"));
    }
    if settings.enable_pgversion_env_var {
        // A major never changes by itself: a version change of a running cluster is reported, not applied. What the image
        // did not have and was asked for before may be corrected to what runs.
        let asked = &manifest.spec.postgresql.version;
        let running = live_value("PGVERSION").filter(|_| live.major.as_ref() != Some(asked));
        env.push(value("PGVERSION", running.as_ref().unwrap_or(asked)));
    }
    env.push(value(
        "KUBERNETES_LABELS",
        &json!(settings.cluster_labels).to_string(),
    ));
    // A cluster that has never started may need another configuration to do so.
    let live_configuration = live_value("SPILO_CONFIGURATION").filter(|_| live.bootstrapped);
    env.push(value(
        "SPILO_CONFIGURATION",
        &spilo_configuration::text(manifest, live_configuration.as_deref()),
    ));
    env.push(value("DCS_ENABLE_KUBERNETES_API", "true"));
    if settings.enable_pod_disruption_budget {
        env.push(value(
            "KUBERNETES_BOOTSTRAP_LABELS",
            r#"{"critical-operation":"true"}"#,
        ));
    }
    env.push(value("KUBERNETES_USE_CONFIGMAPS", "true"));
    let tls = manifest
        .spec
        .tls
        .iter()
        .flat_map(howdah_manifest::Tls::environment);
    env.extend(tls.map(|(name, path)| value(name, &path)));
    env
}

pub(super) fn first_wins(env: Vec<EnvVar>) -> Vec<EnvVar> {
    let mut out: Vec<EnvVar> = Vec::with_capacity(env.len());
    for var in env {
        if !out
            .iter()
            .any(|earlier| earlier.name.eq_ignore_ascii_case(&var.name))
        {
            out.push(var);
        }
    }
    out
}

pub(super) fn value(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..EnvVar::default()
    }
}

pub(super) fn from_field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".into()),
                field_path: path.to_owned(),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

/// A variable that is not set where its Secret is gone: it goes with the cluster that was copied, and the copy goes on.
fn if_there(mut var: EnvVar) -> EnvVar {
    let source = var
        .value_from
        .as_mut()
        .and_then(|from| from.secret_key_ref.as_mut());
    if let Some(source) = source {
        source.optional = Some(true);
    }
    var
}

/// A variable from another key of its Secret.
fn with_key(mut var: EnvVar, key: &str) -> EnvVar {
    let source = var
        .value_from
        .as_mut()
        .and_then(|from| from.secret_key_ref.as_mut());
    if let Some(source) = source {
        source.key = key.to_owned();
    }
    var
}

pub(super) fn from_secret(name: &str, secret: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret.to_owned(),
                key: "password".into(),
                ..SecretKeySelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}
