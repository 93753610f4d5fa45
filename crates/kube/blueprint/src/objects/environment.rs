use howdah_manifest::Manifest;
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
const ORIGIN: [&str; 9] = [
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

fn origin(manifest: &Manifest, settings: &Settings, live: &Live) -> Vec<EnvVar> {
    let asks = manifest.spec.clone.is_some() || manifest.spec.standby.is_some();
    // What was to be another cluster's data must not become an empty cluster.
    if live.bootstrapped || !asks {
        let container = live.statefulset.as_ref().and_then(postgres_container);
        let env = container.and_then(|container| container.env.as_ref());
        let is_origin = |var: &&EnvVar| ORIGIN.contains(&var.name.as_str());
        return env.into_iter().flatten().filter(is_origin).cloned().collect();
    }
    let mut env = Vec::new();
    if let Some(clone) = &manifest.spec.clone {
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
    if let Some(standby) = &manifest.spec.standby {
        env.push(value("STANDBY_HOST", &standby.standby_host));
        for (name, text) in [
            ("STANDBY_PORT", &standby.standby_port),
            ("STANDBY_PRIMARY_SLOT_NAME", &standby.standby_primary_slot_name),
        ] {
            if !text.is_empty() {
                env.push(value(name, text));
            }
        }
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
