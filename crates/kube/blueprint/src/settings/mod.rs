mod names;
mod objects;
mod pods;
mod pooler;
mod rotation;
mod teams;

use std::collections::BTreeMap;

use howdah_manifest::{PROTECTED_ROLES, Window};

use crate::InfrastructureSecret;

pub use objects::ObjectSettings;
pub use pods::PodSettings;
pub use pooler::PoolerSettings;
pub use rotation::RotationSettings;
pub use teams::TeamSettings;

/// The operator's settings; upstream's defaults (v2) of the keys that are acted on.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The image of the members.
    pub docker_image: String,
    /// Labels of every object.
    pub cluster_labels: BTreeMap<String, String>,
    /// The label that holds the cluster's name.
    pub cluster_name_label: String,
    /// The label that holds a pod's role.
    pub pod_role_label: String,
    /// The superuser.
    pub super_username: String,
    /// The replication role.
    pub replication_username: String,
    /// The role name that people's roles belong to (`HUMAN_ROLE`).
    pub pam_role_name: String,
    /// How the image checks people's tokens (`PAM_OAUTH2`).
    pub pam_configuration: String,
    /// The pods' ServiceAccount.
    pub pod_service_account_name: String,
    /// Seconds a pod may take to end.
    pub pod_terminate_grace_period: i64,
    /// A memory volume for shared memory.
    pub enable_shm_volume: bool,
    /// Tell the major by `PGVERSION`.
    pub enable_pgversion_env_var: bool,
    /// Make PodDisruptionBudgets.
    pub enable_pod_disruption_budget: bool,
    /// The primary's budget selects the primary alone.
    pub pdb_master_label_selector: bool,
    /// Load balancers unless a manifest says otherwise.
    pub enable_master_load_balancer: bool,
    /// The same for replicas.
    pub enable_replica_load_balancer: bool,
    /// Part of the names that load balancers are given.
    pub db_hosted_zone: String,
    /// Of load balancers.
    pub external_traffic_policy: String,
    /// Requests and limits unless a manifest says otherwise, by resource.
    pub default_requests: BTreeMap<String, String>,
    /// The same for limits.
    pub default_limits: BTreeMap<String, String>,
    /// The user that members run as unless a manifest names one; the image's own if unset.
    pub spilo_runasuser: Option<i64>,
    /// The same for the group.
    pub spilo_runasgroup: Option<i64>,
    /// The group of volumes.
    pub spilo_fsgroup: Option<i64>,
    /// Whether processes of upstream's image may get more rights than their parent; yes, unless set. Those of ours never may.
    pub spilo_allow_privilege_escalation: Option<bool>,
    /// Whether members have the node's rights.
    pub spilo_privileged: bool,
    /// Keep roles and databases as manifests say.
    pub enable_database_access: bool,
    /// The failsafe mode of clusters whose manifest does not say.
    pub enable_patroni_failsafe_mode: bool,
    /// Delete the Secrets of a deleted cluster.
    pub enable_secrets_deletion: bool,
    /// Delete the volume claims of a deleted cluster, and with them its data.
    pub enable_persistent_volume_claim_deletion: bool,
    /// Roles that no manifest may make.
    pub protected_role_names: Vec<String>,
    /// Volumes grow with their manifest.
    pub resize_volumes: bool,
    /// What holds for all pods.
    pub pods: PodSettings,
    /// What holds for connection poolers.
    pub pooler: PoolerSettings,
    /// What holds for objects.
    pub objects: ObjectSettings,
    /// When passwords change.
    pub rotation: RotationSettings,
    /// The people of teams.
    pub teams: TeamSettings,
    /// Secrets with robots that every cluster has.
    pub infrastructure: Vec<InfrastructureSecret>,
    /// Roles that every owner of a database is a member of.
    pub additional_owner_roles: Vec<String>,
    /// When the primaries of clusters that do not say so themselves may be moved for maintenance; always, if empty.
    pub maintenance_windows: Vec<Window>,
    /// Maintenance windows count, a manifest's own as well.
    pub enable_maintenance_windows: bool,
    /// Annotations of Services; a manifest's win.
    pub custom_service_annotations: BTreeMap<String, String>,
    /// A port of every node for primaries unless a manifest says otherwise.
    pub enable_master_node_port: bool,
    /// The same for replicas.
    pub enable_replica_node_port: bool,
    /// The DNS name that a primary's load balancer is given.
    pub master_dns_name_format: String,
    /// The same for replicas.
    pub replica_dns_name_format: String,
    /// A second name, for clusters that are named after their team.
    pub master_legacy_dns_name_format: String,
    /// The same for replicas.
    pub replica_legacy_dns_name_format: String,
    /// Labels of a manifest that its objects have too.
    pub inherited_labels: Vec<String>,
    /// The same for annotations.
    pub inherited_annotations: Vec<String>,
    /// The members run in the sandbox: names of Services are not resolved there, and of a pod's containers only PostgreSQL's runs.
    pub sandbox: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let text = str::to_owned;
        Settings {
            docker_image: text("ghcr.io/zalando/spilo-18:4.1-p2"),
            cluster_labels: BTreeMap::from([(text("application"), text("spilo"))]),
            cluster_name_label: text("cluster-name"),
            pod_role_label: text("spilo-role"),
            super_username: text("postgres"),
            replication_username: text("standby"),
            pam_role_name: text("zalandos"),
            pam_configuration: text(
                "https://info.example.com/oauth2/tokeninfo?access_token= uid realm=/employees",
            ),
            pod_service_account_name: text("postgres-pod"),
            pod_terminate_grace_period: 300,
            enable_shm_volume: true,
            enable_pgversion_env_var: true,
            enable_pod_disruption_budget: true,
            pdb_master_label_selector: true,
            enable_master_load_balancer: false,
            enable_replica_load_balancer: false,
            db_hosted_zone: text("db.example.com"),
            external_traffic_policy: text("Cluster"),
            default_requests: BTreeMap::new(),
            default_limits: BTreeMap::new(),
            spilo_runasuser: None,
            spilo_runasgroup: None,
            spilo_fsgroup: None,
            spilo_allow_privilege_escalation: None,
            spilo_privileged: false,
            enable_database_access: true,
            enable_patroni_failsafe_mode: false,
            enable_secrets_deletion: true,
            enable_persistent_volume_claim_deletion: true,
            protected_role_names: PROTECTED_ROLES.map(text).to_vec(),
            resize_volumes: true,
            pods: PodSettings::default(),
            pooler: PoolerSettings::default(),
            objects: ObjectSettings::default(),
            rotation: RotationSettings::default(),
            teams: TeamSettings::default(),
            infrastructure: Vec::new(),
            additional_owner_roles: Vec::new(),
            maintenance_windows: Vec::new(),
            enable_maintenance_windows: true,
            custom_service_annotations: BTreeMap::new(),
            enable_master_node_port: false,
            enable_replica_node_port: false,
            master_dns_name_format: text("{cluster}.{namespace}.{hostedzone}"),
            replica_dns_name_format: text("{cluster}-repl.{namespace}.{hostedzone}"),
            master_legacy_dns_name_format: text("{cluster}.{team}.{hostedzone}"),
            replica_legacy_dns_name_format: text("{cluster}-repl.{team}.{hostedzone}"),
            inherited_labels: Vec::new(),
            inherited_annotations: Vec::new(),
            sandbox: false,
        }
    }
}
