use std::collections::BTreeMap;

/// What the operator's configuration says of connection poolers.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolerSettings {
    /// Pods of each pooler unless a manifest says otherwise.
    pub number_of_instances: u32,
    /// The schema of the lookup function.
    pub schema: String,
    /// The role by which poolers look passwords up.
    pub user: String,
    /// The image; the members', if none is named.
    pub image: Option<String>,
    /// `session` or `transaction`.
    pub mode: String,
    /// Connections to the server, of all pods of a pooler together.
    pub max_db_connections: u32,
    /// Requests unless a manifest says otherwise, by resource.
    pub default_requests: BTreeMap<String, String>,
    /// The same for limits.
    pub default_limits: BTreeMap<String, String>,
    /// Load balancers unless a manifest says otherwise.
    pub enable_master_load_balancer: bool,
    /// The same for the replicas' pooler.
    pub enable_replica_load_balancer: bool,
    /// A port of every node unless a manifest says otherwise.
    pub enable_master_node_port: bool,
    /// The same for the replicas' pooler.
    pub enable_replica_node_port: bool,
}

impl Default for PoolerSettings {
    fn default() -> Self {
        PoolerSettings {
            number_of_instances: 2,
            schema: "pooler".to_owned(),
            user: "pooler".to_owned(),
            image: None,
            mode: "transaction".to_owned(),
            max_db_connections: 60,
            default_requests: BTreeMap::new(),
            default_limits: BTreeMap::new(),
            enable_master_load_balancer: false,
            enable_replica_load_balancer: false,
            enable_master_node_port: false,
            enable_replica_node_port: false,
        }
    }
}
