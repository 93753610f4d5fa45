//! Volumes made of Secrets and ConfigMaps: a file for each key, written again when the object changes.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::Node;
use crate::{Store, meta};

/// The object that a volume is made of: its resource and its name.
fn object_of(volume: &Value) -> Option<(&'static str, &str)> {
    let secret = volume["secret"]["secretName"].as_str();
    let map = volume["configMap"]["name"].as_str();
    secret
        .map(|name| ("/secrets", name))
        .or_else(|| map.map(|name| ("/configmaps", name)))
}

fn definition(volume: &Value) -> &Value {
    if volume["secret"].is_object() {
        &volume["secret"]
    } else {
        &volume["configMap"]
    }
}

/// Whether a volume is made of an object.
pub(super) fn is_projected(volume: &Value) -> bool {
    object_of(volume).is_some()
}

/// The versions of the objects that a pod's volumes are made of; empty, if there are none.
pub(super) fn versions(store: &Store, pod: &Value) -> Vec<Option<String>> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes
        .filter_map(object_of)
        .map(|(resource, name)| {
            let object = store.get(resource, meta::namespace(pod), name)?;
            Some(object["metadata"]["resourceVersion"].as_str()?.to_owned())
        })
        .collect()
}

impl Node {
    /// Writes the files of all volumes of a pod that are made of objects. What cannot be written stays as it was.
    pub(super) fn project_again(&self, pod: &Value) {
        for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
            let name = volume["name"].as_str().unwrap_or_default();
            let directory = self.dir.pods().join(meta::uid(pod)).join("volumes").join(name);
            // Only those that a container of ours mounts were made.
            if is_projected(volume)
                && directory.is_dir()
                && let Err(error) = self.project(pod, volume, &directory)
            {
                tracing::warn!(pod = meta::name(pod), "A volume was not written again: {error}.");
            }
        }
    }

    /// Writes a volume's files.
    ///
    /// # Errors
    /// The object is not there, or lacks a key; the text says which, as a kubelet does.
    pub(super) fn project(&self, pod: &Value, volume: &Value, directory: &Path) -> Result<(), String> {
        let Some((resource, name)) = object_of(volume) else {
            return Ok(());
        };
        let kind = resource.trim_start_matches('/').trim_end_matches('s');
        let definition = definition(volume);
        let is_optional = definition["optional"] == true;
        let Some(object) = self.store.get(resource, meta::namespace(pod), name) else {
            return if is_optional {
                Ok(())
            } else {
                Err(format!("{kind} \"{name}\" not found"))
            };
        };
        let content = |key: &str| -> Option<Vec<u8>> {
            let text = |field: &str| object[field][key].as_str().map(str::to_owned);
            if kind == "secret" {
                return STANDARD.decode(text("data")?).ok();
            }
            let binary = || STANDARD.decode(text("binaryData")?).ok();
            text("data").map(String::into_bytes).or_else(binary)
        };
        let mut files: Vec<(String, String)> = Vec::new();
        match definition["items"].as_array() {
            Some(items) => {
                for item in items {
                    let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
                    files.push((text("key"), text("path")));
                }
            }
            None => {
                for field in ["data", "binaryData"] {
                    let keys = object[field].as_object().into_iter().flatten();
                    files.extend(keys.map(|(key, _)| (key.clone(), key.clone())));
                }
            }
        }
        for (key, path) in &files {
            let Some(bytes) = content(key) else {
                if is_optional {
                    continue;
                }
                return Err(format!("{kind} \"{name}\" has no key \"{key}\""));
            };
            if path.is_empty() || path.contains('/') || path.starts_with("..") {
                return Err(format!(
                    "the sandbox writes no file of {kind} \"{name}\" at \"{path}\""
                ));
            }
            self.file(&directory.join(path), &bytes)?;
        }
        // A key that has gone takes its file with it.
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if !files.iter().any(|(_, path)| *path == *name.to_string_lossy()) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// A file of the pods' user, put in its place as a whole.
    fn file(&self, path: &Path, bytes: &[u8]) -> Result<(), String> {
        if fs::read(path).is_ok_and(|have| have == bytes) {
            return Ok(());
        }
        let shown = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let new = path.with_extension("howdah-new");
        let _ = fs::remove_file(&new);
        crate::state::write_private(&new, bytes).map_err(|error| shown(&error))?;
        self.give(&new).map_err(|error| shown(&error))?;
        fs::rename(&new, path).map_err(|error| shown(&error))
    }
}
