use howdah_manifest::PoolerRole;

/// Names of a cluster's objects.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a>(pub &'a str);

impl Names<'_> {
    /// The StatefulSet and the primary's Service.
    #[must_use]
    pub fn cluster(self) -> String {
        self.0.to_owned()
    }

    /// The replicas' Service.
    #[must_use]
    pub fn replica_service(self) -> String {
        format!("{}-repl", self.0)
    }

    /// A connection pooler's Deployment and Service.
    #[must_use]
    pub fn pooler(self, role: PoolerRole) -> String {
        match role {
            PoolerRole::Primary => format!("{}-pooler", self.0),
            PoolerRole::Replica => format!("{}-pooler-repl", self.0),
        }
    }

    /// The budget that keeps members with work that must not be interrupted.
    #[must_use]
    pub fn critical_budget(self) -> String {
        format!("postgres-{}-critical-op-pdb", self.0)
    }

    /// A member's volume claim.
    #[must_use]
    pub fn claim(self, ordinal: u32) -> String {
        format!("pgdata-{}-{ordinal}", self.0)
    }

    /// Whether a claim of this name belongs to a pod of the cluster.
    #[must_use]
    pub fn is_claim(self, name: &str) -> bool {
        let ordinal = name
            .strip_prefix("pgdata-")
            .and_then(|rest| rest.strip_prefix(self.0))
            .and_then(|rest| rest.strip_prefix('-'));
        ordinal
            .is_some_and(|ordinal| !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit()))
    }
}
