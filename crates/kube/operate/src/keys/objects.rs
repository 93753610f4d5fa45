//! Keys of objects: names, owners, bounds, protection, what pods get beside their manifest.

use k8s_openapi::api::{core::v1::ServiceAccount, rbac::v1::RoleBinding};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Key, key, set,
    values::{boolean, label, list, number, object_name, object_reference, text},
};

pub(super) const KEYS: &[Key] = &[
    key("", "enable_lazy_spilo_upgrade", |said, v| {
        set(&mut said.settings.objects.enable_lazy_spilo_upgrade, boolean(v)?)
    }),
    key("", "enable_team_id_clustername_prefix", |said, v| {
        set(
            &mut said.settings.objects.enable_team_id_clustername_prefix,
            boolean(v)?,
        )
    }),
    key("", "enable_maintenance_windows", |said, v| {
        set(&mut said.settings.enable_maintenance_windows, boolean(v)?)
    }),
    key("", "maintenance_windows", |said, v| {
        let windows = list(v)?
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?;
        set(&mut said.settings.maintenance_windows, windows)
    }),
    key("", "min_instances", |said, v| {
        set(&mut said.settings.objects.min_instances, bound(v)?)
    }),
    key("", "max_instances", |said, v| {
        set(&mut said.settings.objects.max_instances, bound(v)?)
    }),
    key("", "ignore_instance_limits_annotation_key", |said, v| {
        set(
            &mut said.settings.objects.ignore_instance_limits_annotation_key,
            label(&text(v)?)?,
        )
    }),
    key("", "ignore_resources_limits_annotation_key", |said, v| {
        set(
            &mut said.settings.objects.ignore_resources_limits_annotation_key,
            label(&text(v)?)?,
        )
    }),
    key("kubernetes", "enable_owner_references", |said, v| {
        set(&mut said.settings.objects.enable_owner_references, boolean(v)?)
    }),
    key("kubernetes", "enable_cross_namespace_secret", |said, v| {
        set(
            &mut said.settings.objects.enable_cross_namespace_secret,
            boolean(v)?,
        )
    }),
    key("kubernetes", "pod_service_account_definition", |said, v| {
        set(
            &mut said.settings.objects.pod_service_account_definition,
            Some(definition::<ServiceAccount>(v, "ServiceAccount")?),
        )
    }),
    key(
        "kubernetes",
        "pod_service_account_role_binding_definition",
        |said, v| {
            set(
                &mut said.settings.objects.pod_service_account_role_binding_definition,
                Some(definition::<RoleBinding>(v, "RoleBinding")?),
            )
        },
    ),
    key("kubernetes", "pdb_name_format", |said, v| {
        let format = template(text(v)?, &["{cluster}"], &[])?;
        if format.replace("{cluster}", "a") == "postgres-a-critical-op-pdb" {
            return Err("the budget for critical operations has this name".to_owned());
        }
        set(&mut said.settings.objects.pdb_name_format, format)
    }),
    key("kubernetes", "secret_name_template", |said, v| {
        let format = template(
            text(v)?,
            &["{username}", "{cluster}"],
            &["{tprkind}", "{tprgroup}"],
        )?;
        set(&mut said.settings.objects.secret_name_template, format)
    }),
    key("kubernetes", "downscaler_annotations", |said, v| {
        let patterns = list(v)?;
        for pattern in &patterns {
            regex::Regex::new(pattern).map_err(|error| format!("'{pattern}' is no pattern: {error}"))?;
        }
        set(&mut said.settings.objects.downscaler_annotations, patterns)
    }),
    key("kubernetes", "delete_annotation_date_key", |said, v| {
        set(
            &mut said.settings.objects.delete_annotation_date_key,
            label(&text(v)?)?,
        )
    }),
    key("kubernetes", "delete_annotation_name_key", |said, v| {
        set(
            &mut said.settings.objects.delete_annotation_name_key,
            label(&text(v)?)?,
        )
    }),
    key("kubernetes", "pod_environment_configmap", |said, v| {
        set(
            &mut said.settings.pods.environment_configmap,
            Some(object_reference(text(v)?)?),
        )
    }),
    key("kubernetes", "pod_environment_secret", |said, v| {
        set(
            &mut said.settings.pods.environment_secret,
            Some(object_name(text(v)?)?),
        )
    }),
    key("aws_or_gcp", "wal_s3_bucket", |said, v| {
        set(&mut said.settings.pods.wal_s3_bucket, text(v)?)
    }),
    key("aws_or_gcp", "wal_gs_bucket", |said, v| {
        set(&mut said.settings.pods.wal_gs_bucket, text(v)?)
    }),
    key("aws_or_gcp", "wal_az_storage_account", |said, v| {
        set(&mut said.settings.pods.wal_az_storage_account, text(v)?)
    }),
    key("aws_or_gcp", "gcp_credentials", |said, v| {
        set(&mut said.settings.pods.gcp_credentials, text(v)?)
    }),
    key("aws_or_gcp", "log_s3_bucket", |said, v| {
        set(&mut said.settings.pods.log_s3_bucket, text(v)?)
    }),
    key("aws_or_gcp", "irsa_role_arn", |said, v| {
        set(&mut said.settings.objects.irsa_role_arn, text(v)?)
    }),
];

/// A bound of the number of members; -1: none.
fn bound(value: &Value) -> Result<Option<u32>, String> {
    match number(value)? {
        -1 => Ok(None),
        bound => u32::try_from(bound)
            .ok()
            .filter(|bound| *bound > 0)
            .map(Some)
            .ok_or_else(|| "it is a number of members, 1 or more, or -1 for no bound".to_owned()),
    }
}

/// An object in JSON or YAML.
fn definition<K: DeserializeOwned>(value: &Value, kind: &str) -> Result<Value, String> {
    let read = match value {
        Value::Object(_) => value.clone(),
        _ => {
            let documents = howdah_yaml::documents(&text(value)?)
                .map_err(|(line, reason)| format!("line {line}: {reason}"))?;
            documents.first().map(howdah_yaml::Node::json).unwrap_or_default()
        }
    };
    let named = read.get("kind").and_then(Value::as_str).unwrap_or(kind);
    if !read.is_object() || !named.eq_ignore_ascii_case(kind) {
        return Err(format!("it is not a {kind}"));
    }
    serde_json::from_value::<K>(read.clone()).map_err(|error| format!("it is not a {kind}: {error}"))?;
    Ok(read)
}

/// The form of an object's name, with all of `needed` and maybe some of `possible` in it.
fn template(format: String, needed: &[&str], possible: &[&str]) -> Result<String, String> {
    if let Some(missing) = needed.iter().find(|token| !format.contains(**token)) {
        return Err(format!("it needs {missing}"));
    }
    let filled = needed
        .iter()
        .chain(possible)
        .fold(format.clone(), |text, token| text.replace(token, "a"));
    if format.contains("}{") {
        return Err(
            "there must be something between what is in braces: two names would become one".to_owned(),
        );
    }
    if filled.contains(['{', '}']) {
        let all: Vec<&str> = needed.iter().chain(possible).copied().collect();
        return Err(format!("of what is in braces it may have {}", all.join(", ")));
    }
    object_name(filled)?;
    Ok(format)
}
