use std::collections::BTreeMap;

use howdah_manifest::Manifest;
use k8s_openapi::api::core::v1::Secret;

use crate::{Credential, Settings, objects::metadata};

/// The annotation of a Secret in another namespace than its cluster's: the cluster's.
pub const CLUSTER_NAMESPACE_ANNOTATION: &str = "howdah.dev/cluster-namespace";

/// A login role's Secret. One in another namespace has no owner, and says where its cluster is.
#[must_use]
pub fn secret(
    manifest: &Manifest,
    settings: &Settings,
    credential: &Credential,
    role: &str,
    password: &str,
) -> Secret {
    let mut metadata = metadata(manifest, settings, &credential.secret);
    if !settings.enable_secrets_deletion {
        metadata.owner_references = None;
    }
    if let Some(namespace) = &credential.namespace {
        metadata.namespace = Some(namespace.clone());
        metadata.owner_references = None;
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(
            CLUSTER_NAMESPACE_ANNOTATION.to_owned(),
            manifest.namespace.clone(),
        );
    }
    Secret {
        metadata,
        string_data: Some(BTreeMap::from([
            ("username".to_owned(), role.to_owned()),
            ("password".to_owned(), password.to_owned()),
        ])),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}
