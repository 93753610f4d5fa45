//! The node: runs pods as processes.
//!
//! Every pod has its own loopback address and a directory in which its absolute paths are; volumes are directories. It
//! has no namespaces of its own (docs/decisions/0005): a program that is made for it puts `$HOWDAH_POD_ROOT` before its
//! absolute paths. Pods never run as root.

mod addresses;
mod environment;
mod images;
mod pod;
mod probe;
mod processes;
mod projected;
mod proxy;
mod removals;
mod status;
mod surroundings;
mod volumes;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use crate::{SandboxDir, Store, meta, state::StateError, store::Write};

pub(crate) use addresses::Addresses;
pub use images::{Images, Program};
pub(crate) use processes::end_all_in;
pub(crate) use removals::Removals;
pub(crate) use surroundings::Surroundings;

/// The name of the only node.
pub(crate) const NODE: &str = "sandbox";

/// What the node needs to run pods.
pub(crate) struct Node {
    pub(crate) store: Store,
    pub(crate) dir: SandboxDir,
    pub(crate) images: Images,
    pub(crate) addresses: Addresses,
    /// The API server's address, for the pods.
    pub(crate) api: std::net::SocketAddr,
    pub(crate) ca: PathBuf,
    /// The token of each ServiceAccount is this one: rights are not evaluated here.
    pub(crate) pod_token: String,
    /// The user and group that pods run as; none when the sandbox is not root's.
    pub(crate) run_as: Option<(u32, u32)>,
    pub(crate) removals: Removals,
}

/// Where a container's output goes.
pub(crate) fn log_file(pods: &Path, uid: &str, container: &str, previous: bool) -> PathBuf {
    let name = if previous {
        format!("{container}.previous.log")
    } else {
        format!("{container}.log")
    };
    pods.join(uid).join("logs").join(name)
}

impl Node {
    /// Runs pods until `stop`, then ends them all and waits for that. Pods that a killed sandbox left behind are found
    /// and kept.
    pub(crate) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        self.register();
        let proxies = tokio::spawn(proxy::run(self.store.clone(), stop.clone()));
        let mut changed = self.store.subscribe();
        self.tell_unclaimed();
        let (mut running, mut bound) = (BTreeSet::new(), BTreeSet::new());
        let mut tasks: JoinSet<String> = JoinSet::new();
        loop {
            changed.mark_unchanged();
            if !*stop.borrow() {
                for pod in self.store.all("/pods", None) {
                    let uid = meta::uid(&pod).to_owned();
                    if !running.contains(&uid) {
                        running.insert(uid.clone());
                        let (node, stop) = (Arc::clone(&self), stop.clone());
                        tasks.spawn(async move {
                            pod::run(&node, &pod, stop).await;
                            uid
                        });
                    }
                }
                self.sweep(&running, &mut bound);
            }
            tokio::select! {
                ended = tasks.join_next(), if !tasks.is_empty() => match ended {
                    Some(Ok(uid)) => { running.remove(&uid); }
                    Some(Err(error)) => tracing::error!(%error, "The task of a pod has failed."),
                    None => {}
                },
                _ = stop.changed() => {}
                _ = changed.changed() => {}
            }
            if *stop.borrow() {
                break;
            }
        }
        while tasks.join_next().await.is_some() {}
        proxies.abort();
        let _ = proxies.await;
    }

    /// The node's own object, and the namespaces that are always there.
    fn register(&self) {
        for name in ["default", "kube-system"] {
            let _ = self.store.write("/namespaces", "", name, |before| {
                Ok(match before {
                    Some(_) => Write::Nothing,
                    None => Write::Put(json!({
                        "kind": "Namespace", "apiVersion": "v1", "status": {"phase": "Active"},
                        "metadata": {"name": name, "uid": meta::uuid(), "creationTimestamp": meta::timestamp(),
                            "labels": {"kubernetes.io/metadata.name": name}},
                    })),
                })
            });
        }
        let node = json!({
            "kind": "Node", "apiVersion": "v1",
            "metadata": {"name": NODE, "uid": meta::uuid(), "creationTimestamp": meta::timestamp(), "labels": {
                "kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux", "kubernetes.io/arch": architecture(),
            }},
            "spec": {},
            "status": {
                "conditions": [{"type": "Ready", "status": "True", "reason": "SandboxReady", "message": "",
                    "lastTransitionTime": meta::timestamp()}],
                "nodeInfo": machine(),
            },
        });
        let _ = self.store.write("/nodes", "", NODE, |_| Ok(Write::Put(node)));
    }

    /// Removes the volumes of claims that have gone while this node looked on, and the directories of pods that are gone.
    ///
    /// A volume that no claim is known of from the beginning is left alone: whatever has lost the claim (a damaged store,
    /// a mistake), the data must not go with it.
    fn sweep(&self, running: &BTreeSet<String>, bound_before: &mut BTreeSet<String>) {
        let claims = self.store.all("/persistentvolumeclaims", None);
        let bound: BTreeSet<String> = claims
            .iter()
            .filter_map(|claim| claim["spec"]["volumeName"].as_str().map(str::to_owned))
            .collect();
        let pods = self.store.all("/pods", None);
        let in_use = |volume: &str| pods.iter().any(|pod| volumes::uses(&self.store, pod, volume));
        bound_before.retain(|volume| {
            let stays = bound.contains(volume) || in_use(volume);
            if !stays {
                self.removals.remove(&self.dir.volumes().join(volume));
            }
            stays
        });
        bound_before.extend(bound);
        for uid in names_in(&self.dir.pods()) {
            let home = self.dir.pods().join(&uid);
            if !running.contains(&uid) && processes::working_in(std::slice::from_ref(&home)).is_empty() {
                self.remove_pod(&uid);
            }
        }
    }

    /// Removes the directories of a pod. That of its sockets is on another file system and has few files.
    fn remove_pod(&self, uid: &str) {
        self.removals.remove(&self.dir.pods().join(uid));
        remove_sockets(&self.dir.run_dir(uid));
    }

    /// Names volumes without a claim.
    fn tell_unclaimed(&self) {
        let claims = self.store.all("/persistentvolumeclaims", None);
        for volume in names_in(&self.dir.volumes()) {
            if !claims
                .iter()
                .any(|claim| claim["spec"]["volumeName"] == volume.as_str())
            {
                let path = self.dir.volumes().join(&volume);
                tracing::warn!(
                    "No claim is known of the volume {}: it is left as it is.",
                    path.display()
                );
            }
        }
    }

    /// Makes a directory that the pods' user owns.
    fn own_dir(&self, path: &Path, mode: u32) -> Result<(), StateError> {
        crate::state::make_dir(path, mode)?;
        self.give(path)
    }

    fn give(&self, path: &Path) -> Result<(), StateError> {
        match self.run_as {
            Some((user, group)) => std::os::unix::fs::chown(path, Some(user), Some(group))
                .map_err(|error| StateError::Io(path.to_owned(), error)),
            None => Ok(()),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a few sockets in memory")]
fn remove_sockets(dir: &Path) {
    let _ = std::fs::remove_dir_all(dir);
}

fn names_in(directory: &Path) -> Vec<String> {
    std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// The pod as it is now, if it is still the same one.
fn current(store: &Store, pod: &Value) -> Option<Arc<Value>> {
    store
        .get("/pods", meta::namespace(pod), meta::name(pod))
        .filter(|now| meta::uid(now) == meta::uid(pod))
}

/// The processor as Go and Kubernetes name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `nodeInfo` of the node. Clients generated from the API's schema demand all of its fields.
fn machine() -> Value {
    let read = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.trim().to_owned()
    };
    let release = read("/etc/os-release");
    let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let version = concat!("howdah-", env!("CARGO_PKG_VERSION"));
    json!({
        "architecture": architecture(),
        "bootID": read("/proc/sys/kernel/random/boot_id"),
        "containerRuntimeVersion": format!("processes://{}", env!("CARGO_PKG_VERSION")),
        "kernelVersion": read("/proc/sys/kernel/osrelease"),
        "kubeProxyVersion": version,
        "kubeletVersion": version,
        "machineID": read("/etc/machine-id"),
        "operatingSystem": "linux",
        "osImage": pretty.unwrap_or_default().trim_matches('"'),
        "systemUUID": read("/etc/machine-id"),
    })
}
