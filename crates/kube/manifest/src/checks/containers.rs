//! Containers, volumes and certificates: what Kubernetes would refuse, and what upstream skips.

use std::collections::BTreeSet;

use crate::{
    DATA_PATH, DATA_VOLUME, ManifestError, POSTGRES_CONTAINER, PostgresqlSpec, TLS_CA_PATH, TLS_PATH,
    is_dns_label,
};

fn refuse(path: String, reason: impl Into<String>) -> ManifestError {
    ManifestError {
        path,
        reason: reason.into(),
    }
}

/// Checks what Kubernetes would refuse of containers and volumes: it would refuse the pods of the whole cluster.
///
/// # Errors
/// The first reason.
pub(crate) fn check(spec: &PostgresqlSpec) -> Result<(), ManifestError> {
    let mut names = BTreeSet::from([POSTGRES_CONTAINER.to_owned()]);
    for (index, sidecar) in spec.sidecars.iter().flatten().enumerate() {
        container(
            format!("spec.sidecars[{index}]"),
            &sidecar.name,
            &sidecar.image,
            &mut names,
        )?;
    }
    for (index, init) in spec.init_containers.iter().flatten().enumerate() {
        let text = |key: &str| init[key].as_str().unwrap_or_default();
        container(
            format!("spec.initContainers[{index}]"),
            text("name"),
            text("image"),
            &mut names,
        )?;
    }
    if let Some(tls) = &spec.tls {
        for (field, file) in [
            ("certificateFile", &tls.certificate_file),
            ("privateKeyFile", &tls.private_key_file),
            ("caFile", &tls.ca_file),
        ] {
            if file.split('/').any(|part| part == "..") {
                let reason =
                    format!("'{file}' must be the name of a file in the Secret, or an absolute path");
                return Err(refuse(format!("spec.tls.{field}"), reason));
            }
        }
    }
    let mut volumes = BTreeSet::from([DATA_VOLUME]);
    for (index, volume) in spec.additional_volumes.iter().enumerate() {
        let path = format!("spec.additionalVolumes[{index}]");
        if !is_name(&volume.name) {
            let reason = format!(
                "'{}' must hold only a-z, 0-9 and -, at most 63 of them",
                volume.name
            );
            return Err(refuse(format!("{path}.name"), reason));
        }
        if !volumes.insert(&volume.name) {
            let reason = format!("'{}' is the name of another volume: choose another", volume.name);
            return Err(refuse(format!("{path}.name"), reason));
        }
        if !volume.mount_path.starts_with('/') || volume.mount_path.contains(':') {
            let reason = format!("'{}' must be an absolute path without ':'", volume.mount_path);
            return Err(refuse(format!("{path}.mountPath"), reason));
        }
        let odd = |part: &str| part == ".." || part == "." || part.is_empty();
        let parts = volume.mount_path.trim_start_matches('/').trim_end_matches('/');
        if !parts.is_empty() && parts.split('/').any(odd) || volume.mount_path.starts_with("//") {
            let reason = format!(
                "'{}' must be a plain path, without '..', '.' and '//'",
                volume.mount_path
            );
            return Err(refuse(format!("{path}.mountPath"), reason));
        }
        if volume.name.starts_with("howdah-") {
            let reason = format!(
                "'{}': names that begin with howdah- are the operator's",
                volume.name
            );
            return Err(refuse(format!("{path}.name"), reason));
        }
        let kinds = volume.volume_source.as_object().map_or(0, |source| {
            source.values().filter(|value| !value.is_null()).count()
        });
        if kinds > 1 {
            let reason = "has more than one kind of volume: keep one";
            return Err(refuse(format!("{path}.volumeSource"), reason));
        }
        let sub_path = volume.sub_path.as_deref().unwrap_or_default();
        if sub_path.starts_with('/') || sub_path.split('/').any(|part| part == "..") {
            let reason = format!("'{sub_path}' must be a relative path without '..'");
            return Err(refuse(format!("{path}.subPath"), reason));
        }
    }
    Ok(())
}

/// DNS-1123: unlike names of Services, these may begin with a digit.
fn is_name(name: &str) -> bool {
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    begins && name.len() <= 63 && is_dns_label(&format!("a{name}"))
}

fn container(
    path: String,
    name: &str,
    image: &str,
    names: &mut BTreeSet<String>,
) -> Result<(), ManifestError> {
    if name.is_empty() {
        return Err(refuse(format!("{path}.name"), "is required and missing"));
    }
    if !is_name(name) {
        let reason = format!("'{name}' must hold only a-z, 0-9 and -, at most 63 of them");
        return Err(refuse(format!("{path}.name"), reason));
    }
    if image.is_empty() {
        return Err(refuse(format!("{path}.image"), "is required and missing"));
    }
    if !names.insert(name.to_owned()) {
        let reason = format!("'{name}' is the name of another container of the pod: choose another");
        return Err(refuse(format!("{path}.name"), reason));
    }
    Ok(())
}

/// Takes out the volumes that upstream skips, and says why: those of a path that is taken, and those on the data.
pub(crate) fn take_skipped(spec: &mut PostgresqlSpec) -> Vec<String> {
    let mut notes = Vec::new();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    if let Some(tls) = &spec.tls {
        taken.insert(TLS_PATH.into());
        if !tls.ca_secret_name.is_empty() {
            taken.insert(TLS_CA_PATH.into());
        }
    }
    let mut index = 0;
    spec.additional_volumes.retain(|volume| {
        let path = format!("spec.additionalVolumes[{index}]");
        index += 1;
        let at = volume.mount_path.trim_end_matches('/');
        let on_data = |at: &str| {
            let cluster = format!("{DATA_PATH}/pgroot");
            let above = DATA_PATH.starts_with(&format!("{at}/")) || at == DATA_PATH;
            above || at == cluster || at.starts_with(&format!("{cluster}/"))
        };
        if at.is_empty() || on_data(at) {
            notes.push(format!(
                "{path}.mountPath: nothing can be mounted at '{}': the volume is left out",
                volume.mount_path
            ));
            return false;
        }
        if !taken.insert(at.to_owned()) {
            notes.push(format!(
                "{path}.mountPath: another volume is mounted at '{at}': this one is left out"
            ));
            return false;
        }
        true
    });
    notes
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use crate::Manifest;

    fn read(more: &serde_json::Value) -> Result<Manifest, crate::ManifestError> {
        let spec = json!({"teamId": "a", "numberOfInstances": 1, "volume": {"size": "1Gi"}, "postgresql": {"version": "15"}});
        let mut spec: Map<_, _> = spec.as_object().cloned().unwrap();
        spec.extend(more.as_object().cloned().unwrap());
        Manifest::read(&Manifest::object("acid-x", spec))
    }

    #[test]
    fn containers_that_kubernetes_would_refuse_are_refused_with_their_place() {
        for (more, path) in [
            (json!({"sidecars": [{"image": "a"}]}), "spec.sidecars[0].name"),
            (json!({"sidecars": [{"name": "a"}]}), "spec.sidecars[0].image"),
            (
                json!({"sidecars": [{"name": "A_b", "image": "a"}]}),
                "spec.sidecars[0].name",
            ),
            (
                json!({"sidecars": [{"name": "postgres", "image": "a"}]}),
                "spec.sidecars[0].name",
            ),
            (
                json!({"sidecars": [{"name": "a", "image": "a"}], "initContainers": [{"name": "a", "image": "b"}]}),
                "spec.initContainers[0].name",
            ),
            (
                json!({"sidecars": [{"name": "a", "image": "a", "env": [{"name": "A", "value": 5}]}]}),
                "spec.sidecars[0].env[0].value",
            ),
            (
                json!({"initContainers": [{"name": "a", "image": "b", "command": "sh"}]}),
                "spec.initContainers[0]",
            ),
            (
                json!({"additionalVolumes": [{"name": "pgdata", "mountPath": "/a", "volumeSource": {"emptyDir": {}}}]}),
                "spec.additionalVolumes[0].name",
            ),
            (
                json!({"additionalVolumes": [{"name": "a", "mountPath": "a", "volumeSource": {"emptyDir": {}}}]}),
                "spec.additionalVolumes[0].mountPath",
            ),
            (
                json!({"additionalVolumes": [{"name": "a", "mountPath": "/a", "volumeSource": {"emptyDir": 1}}]}),
                "spec.additionalVolumes[0].volumeSource",
            ),
            (
                json!({"additionalVolumes": [{"name": "a", "mountPath": "/a", "volumeSource": {"emptyDir": {}, "secret": {}}}]}),
                "spec.additionalVolumes[0].volumeSource",
            ),
            (
                json!({"additionalVolumes": [{"name": "a", "mountPath": "/a/../b", "volumeSource": {"emptyDir": {}}}]}),
                "spec.additionalVolumes[0].mountPath",
            ),
            (
                json!({"additionalVolumes": [{"name": "howdah-tls", "mountPath": "/b", "volumeSource": {"emptyDir": {}}}]}),
                "spec.additionalVolumes[0].name",
            ),
            (
                json!({"tls": {"secretName": "a", "certificateFile": "../x"}}),
                "spec.tls.certificateFile",
            ),
        ] {
            let error = read(&more).unwrap_err();
            assert_eq!(error.path, path, "{error}");
        }
    }

    #[test]
    fn volumes_that_cannot_be_mounted_are_left_out_and_named() {
        let volume = |name: &str, path: &str| json!({"name": name, "mountPath": path, "volumeSource": {"emptyDir": {}}});
        let manifest = read(&json!({
            "additionalVolumes": [
                volume("a", "/a"), volume("b", "/a/"), volume("c", "/home/postgres/pgdata"), volume("d", "/tls"),
                volume("f", "/home/postgres"), volume("g", "/home/postgres/pgdata/pgroot/data"),
                volume("h", "/home/postgres/pgdata/partitions"),
                {"name": "e", "mountPath": "/e", "volumeSource": {"emptyDir": {}}, "targetContainers": ["nowhere"]},
            ],
            "tls": {"secretName": "s"},
        }))
        .unwrap();
        let left: Vec<&str> = manifest
            .spec
            .additional_volumes
            .iter()
            .map(|volume| volume.name.as_str())
            .collect();
        assert_eq!(left, ["a", "h", "e"]);
        assert_eq!(manifest.notes.len(), 5, "{:?}", manifest.notes);
    }

    #[test]
    fn paths_of_certificates_are_upstreams() {
        let tls = |value: serde_json::Value| {
            read(&json!({ "tls": value }))
                .unwrap()
                .spec
                .tls
                .map(|tls| tls.environment())
        };
        assert_eq!(tls(json!({"secretName": ""})), None);
        let names = |value| {
            tls(value)
                .unwrap()
                .into_iter()
                .map(|(_, path)| path)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(json!({"secretName": "s"})),
            ["/tls/tls.crt", "/tls/tls.key"]
        );
        assert_eq!(
            names(
                json!({"secretName": "s", "certificateFile": "a", "privateKeyFile": "/b", "caFile": "ca.crt", "caSecretName": "c"})
            ),
            ["/tls/a", "/b", "/tlsca/ca.crt"]
        );
    }
}
