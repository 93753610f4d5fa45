use serde_json::Value;

/// What the operator's configuration says of objects: names, owners, what guards them.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectSettings {
    /// The name of the primary's budget, with `{cluster}`.
    pub pdb_name_format: String,
    /// The names of Secrets, with `{username}` and `{cluster}`; `{tprkind}` and `{tprgroup}` are kind and group of clusters.
    pub secret_name_template: String,
    /// Objects name their cluster as their owner: they go with it, whether an operator runs or not.
    pub enable_owner_references: bool,
    /// Patterns of annotations that StatefulSets and Deployments take over from the manifest.
    pub downscaler_annotations: Vec<String>,
    /// The pods' ServiceAccount, in place of the one that is made otherwise.
    pub pod_service_account_definition: Option<Value>,
    /// Its RoleBinding, likewise.
    pub pod_service_account_role_binding_definition: Option<Value>,
    /// The annotation `eks.amazonaws.com/role-arn` of the pods' ServiceAccount; none, if empty.
    pub irsa_role_arn: String,
    /// Clusters have at least this many members.
    pub min_instances: Option<u32>,
    /// Clusters have at most this many members.
    pub max_instances: Option<u32>,
    /// The annotation by which a cluster escapes these bounds; none, if empty.
    pub ignore_instance_limits_annotation_key: String,
    /// The annotation by which a cluster escapes the bounds of its resources; none, if empty.
    pub ignore_resources_limits_annotation_key: String,
    /// The annotation that must hold today's date before a cluster is deleted; none, if empty.
    pub delete_annotation_date_key: String,
    /// The annotation that must hold the cluster's name before it is deleted; none, if empty.
    pub delete_annotation_name_key: String,
    /// Pods take a newer image when they start for another reason.
    pub enable_lazy_spilo_upgrade: bool,
    /// The names of clusters begin with their team.
    pub enable_team_id_clustername_prefix: bool,
    /// A user `NAMESPACE.NAME` has its Secret in that namespace.
    pub enable_cross_namespace_secret: bool,
}

impl Default for ObjectSettings {
    fn default() -> Self {
        ObjectSettings {
            pdb_name_format: "postgres-{cluster}-pdb".to_owned(),
            secret_name_template: "{username}.{cluster}.credentials.{tprkind}.{tprgroup}".to_owned(),
            enable_owner_references: false,
            downscaler_annotations: Vec::new(),
            pod_service_account_definition: None,
            pod_service_account_role_binding_definition: None,
            irsa_role_arn: String::new(),
            min_instances: None,
            max_instances: None,
            ignore_instance_limits_annotation_key: String::new(),
            ignore_resources_limits_annotation_key: String::new(),
            delete_annotation_date_key: String::new(),
            delete_annotation_name_key: String::new(),
            enable_lazy_spilo_upgrade: false,
            enable_team_id_clustername_prefix: false,
            enable_cross_namespace_secret: false,
        }
    }
}
