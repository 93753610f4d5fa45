use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::PathBuf,
};

use serde_json::Value;

use super::{Node, projected};
use crate::{Store, meta, state::StateError};

/// Whether this is a directory that only we change, or nothing yet.
fn is_ours(path: &std::path::Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(found) => found.is_dir() && found.uid() == rustix::process::geteuid().as_raw(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Whether a pod uses this volume.
pub(super) fn uses(store: &Store, pod: &Value, volume: &str) -> bool {
    let claims = pod["spec"]["volumes"].as_array().into_iter().flatten();
    claims
        .filter_map(|v| v["persistentVolumeClaim"]["claimName"].as_str())
        .filter_map(|name| store.get("/persistentvolumeclaims", meta::namespace(pod), name))
        .any(|claim| claim["spec"]["volumeName"] == volume)
}

impl Node {
    /// The directory of one of a pod's volumes.
    ///
    /// # Errors
    /// The volume is of a kind that the sandbox does not offer, or its claim is not there.
    fn volume(&self, pod: &Value, volume: &Value) -> Result<PathBuf, String> {
        let name = volume["name"].as_str().unwrap_or_default();
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(format!("\"{name}\" is no name of a volume"));
        }
        let shown = |error: StateError| error.to_string();
        if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
            let found = self
                .store
                .get("/persistentvolumeclaims", meta::namespace(pod), claim);
            let found = found.ok_or_else(|| format!("persistentvolumeclaim \"{claim}\" not found"))?;
            let directory = found["spec"]["volumeName"]
                .as_str()
                .ok_or_else(|| format!("persistentvolumeclaim \"{claim}\" is not bound"))?;
            let path = self.dir.volumes().join(directory);
            self.own_dir(&path, 0o700).map_err(shown)?;
            return Ok(path);
        }
        if volume["emptyDir"].is_object() {
            let path = self.dir.pods().join(meta::uid(pod)).join("volumes").join(name);
            self.own_dir(&path, 0o700).map_err(shown)?;
            return Ok(path);
        }
        if projected::is_projected(volume) {
            let path = self.dir.pods().join(meta::uid(pod)).join("volumes").join(name);
            // Ours, as Kubernetes' are: a pod that could replace a file by a link could make us write anywhere.
            crate::state::make_dir(&path, 0o755).map_err(shown)?;
            self.project(pod, volume, &path)?;
            return Ok(path);
        }
        Err(format!(
            "volume \"{name}\": the sandbox offers persistentVolumeClaim, emptyDir, secret and configMap only"
        ))
    }

    /// Makes the directory in which a container's absolute paths are, with its volumes at their places.
    pub(super) fn root(&self, pod: &Value, container: &Value) -> Result<PathBuf, String> {
        let home = self.dir.pods().join(meta::uid(pod));
        let root = home.join("root");
        let shown = |error: StateError| error.to_string();
        // These are ours and not the pod's: a pod that replaces a directory by a link could make us write anywhere.
        for (directory, mode) in [
            (&home, 0o711),
            (&root, 0o755),
            (&home.join("volumes"), 0o711),
            (&home.join("logs"), 0o700),
        ] {
            crate::state::make_dir(directory, mode).map_err(shown)?;
        }
        self.own_dir(&root.join("run"), 0o700).map_err(shown)?;
        let run_dir = self.dir.run_dir(meta::uid(pod));
        self.own_dir(&run_dir, 0o700).map_err(shown)?;
        let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let name = mount["name"].as_str().unwrap_or_default();
            let volume = volumes
                .iter()
                .find(|volume| volume["name"] == name)
                .ok_or_else(|| format!("volume \"{name}\" is mounted and not defined"))?;
            let mut source = self.volume(pod, volume)?;
            if let Some(sub) = mount["subPath"].as_str() {
                source = self.below(source, sub)?;
            }
            let path = mount["mountPath"]
                .as_str()
                .unwrap_or_default()
                .trim_start_matches('/');
            Self::place(&root, path, &source)?;
        }
        self.service_account(pod, &root).map_err(shown)?;
        Ok(root)
    }

    /// A directory below a volume's. What a pod has put there must not lead anywhere else.
    fn below(&self, volume: PathBuf, sub: &str) -> Result<PathBuf, String> {
        let mut at = volume;
        for part in sub.split('/').filter(|part| !part.is_empty()) {
            at = at.join(part);
            if part == ".." || fs::symlink_metadata(&at).is_ok_and(|found| !found.is_dir()) {
                return Err(format!("subPath \"{sub}\" must be a directory of its volume"));
            }
            self.own_dir(&at, 0o700).map_err(|error| error.to_string())?;
        }
        Ok(at)
    }

    fn place(root: &std::path::Path, path: &str, source: &std::path::Path) -> Result<(), String> {
        if path.is_empty() || path.split('/').any(|part| part == "..") {
            return Err(format!("a volume cannot be mounted at \"/{path}\""));
        }
        let target = root.join(path);
        let mut parent = root.to_owned();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if parent != root {
                // A directory of the pod's could be replaced by a link to anywhere while we work in it.
                if !is_ours(&parent) {
                    return Err(format!(
                        "the sandbox mounts no volume at \"/{path}\", which is inside another one"
                    ));
                }
                crate::state::make_dir(&parent, 0o755).map_err(|e| e.to_string())?;
            }
            parent = parent.join(part);
        }
        if fs::read_link(&target).is_ok_and(|link| link == source) {
            return Ok(());
        }
        let _ = fs::remove_file(&target);
        // One that every pod has is empty before the pod's first start.
        let _ = fs::remove_dir(&target);
        symlink(source, &target).map_err(|error| format!("{}: {error}", target.display()))
    }

    /// The credentials that a pod finds where Kubernetes puts them.
    fn service_account(&self, pod: &Value, root: &std::path::Path) -> Result<(), StateError> {
        let mut at = root.to_owned();
        for part in ["var", "run", "secrets", "kubernetes.io", "serviceaccount"] {
            at = at.join(part);
            if !is_ours(&at) {
                let error = std::io::Error::other("a volume is mounted where a pod has its credentials");
                return Err(StateError::Io(at, error));
            }
            crate::state::make_dir(&at, 0o755)?;
        }
        let ca = fs::read_to_string(&self.ca).map_err(|error| StateError::Io(self.ca.clone(), error))?;
        for (name, text) in [
            ("token", self.pod_token.as_str()),
            ("ca.crt", &ca),
            ("namespace", meta::namespace(pod)),
        ] {
            let path = at.join(name);
            crate::state::write_private(&path, text)?;
            self.give(&path)?;
        }
        Ok(())
    }
}
