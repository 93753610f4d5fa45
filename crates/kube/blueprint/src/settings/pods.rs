use std::collections::BTreeMap;

use serde_json::Value;

/// What the operator's configuration says of all pods.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSettings {
    /// core/v1 Containers beside PostgreSQL's in every pod.
    pub sidecars: Vec<Value>,
    /// Images by the names of their containers, beside those.
    pub sidecar_docker_images: BTreeMap<String, String>,
    /// Manifests may have sidecars.
    pub enable_sidecars: bool,
    /// Manifests may have init containers.
    pub enable_init_containers: bool,
    /// Sidecars find the server's socket in /var/run/postgresql.
    pub share_pgsocket_with_sidecars: bool,
    /// A Secret and where every container has it.
    pub additional_secret_mount: Option<(String, String)>,
    /// Annotations of pods; a manifest's win.
    pub custom_pod_annotations: BTreeMap<String, String>,
    /// The annotation `iam.amazonaws.com/role`; none, if empty.
    pub kube_iam_role: String,
    /// The priority class unless a manifest names one.
    pub pod_priority_class_name: Option<String>,
    /// key, operator, value and effect of the toleration of pods whose manifest has none.
    pub toleration: BTreeMap<String, String>,
    /// Labels that ready nodes have.
    pub node_readiness_label: BTreeMap<String, String>,
    /// They are asked for beside what a manifest asks for, not instead of it.
    pub node_readiness_label_merge_and: bool,
    /// Members of a cluster run apart from each other.
    pub enable_pod_antiaffinity: bool,
    /// As far as possible.
    pub pod_antiaffinity_preferred_during_scheduling: bool,
    /// The label by which places are told apart.
    pub pod_antiaffinity_topology_key: String,
    /// Pods are made at once and not one after another.
    pub is_parallel: bool,
    /// Volume claims go with the StatefulSet.
    pub delete_claims_when_deleted: bool,
    /// Volume claims go with their pods when the cluster shrinks.
    pub delete_claims_when_scaled: bool,
    /// A core/v1 Probe unless a manifest has one.
    pub liveness_probe: Option<Value>,
    /// Capabilities that members get.
    pub additional_pod_capabilities: Vec<String>,
    /// The image is told to look for backups where older ones put them (`ENABLE_WAL_PATH_COMPAT`).
    pub enable_spilo_wal_path_compat: bool,
    /// Limits are raised to these, by resource.
    pub min_limits: BTreeMap<String, String>,
    /// Requests are lowered to these, by resource.
    pub max_requests: BTreeMap<String, String>,
    /// The memory that is asked for is that which may be used.
    pub set_memory_request_to_limit: bool,
    /// A Secret beside each cluster whose keys are variables of its members.
    pub environment_secret: Option<String>,
    /// A ConfigMap whose data are variables of all members: `NAMESPACE/NAME`, or a name in the operator's namespace.
    pub environment_configmap: Option<String>,
    /// Buckets and accounts that members are told; none, if empty.
    pub wal_s3_bucket: String,
    /// The same at Google.
    pub wal_gs_bucket: String,
    /// The same at Azure.
    pub wal_az_storage_account: String,
    /// A file in the members with Google's credentials.
    pub gcp_credentials: String,
    /// The bucket for logs.
    pub log_s3_bucket: String,
}

impl Default for PodSettings {
    fn default() -> Self {
        PodSettings {
            sidecars: Vec::new(),
            sidecar_docker_images: BTreeMap::new(),
            enable_sidecars: true,
            enable_init_containers: true,
            share_pgsocket_with_sidecars: false,
            additional_secret_mount: None,
            custom_pod_annotations: BTreeMap::new(),
            kube_iam_role: String::new(),
            pod_priority_class_name: None,
            toleration: BTreeMap::new(),
            node_readiness_label: BTreeMap::new(),
            node_readiness_label_merge_and: false,
            enable_pod_antiaffinity: false,
            pod_antiaffinity_preferred_during_scheduling: false,
            pod_antiaffinity_topology_key: "kubernetes.io/hostname".to_owned(),
            is_parallel: false,
            delete_claims_when_deleted: false,
            delete_claims_when_scaled: false,
            liveness_probe: None,
            additional_pod_capabilities: Vec::new(),
            enable_spilo_wal_path_compat: false,
            min_limits: BTreeMap::new(),
            max_requests: BTreeMap::new(),
            set_memory_request_to_limit: false,
            environment_secret: None,
            environment_configmap: None,
            wal_s3_bucket: String::new(),
            wal_gs_bucket: String::new(),
            wal_az_storage_account: String::new(),
            gcp_credentials: String::new(),
            log_s3_bucket: String::new(),
        }
    }
}
