use howdah_types::{MemberName, Scope};
use serde::Serialize;

/// One key of a cluster that a member may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Key {
    /// Absent: not bootstrapped; empty: bootstrap runs; else the system identifier.
    Initialize,
    /// The dynamic configuration, JSON.
    Config,
    /// The leader's WAL position and slots, JSON.
    Status,
    /// A requested failover or switchover, JSON; `{}` without one.
    Failover,
    /// The synchronous standbys, JSON.
    Sync,
    /// The timeline history, JSON.
    History,
    /// Who must agree that the leader goes on without the store, JSON.
    Failsafe,
}

impl Key {
    /// The key's last path segment.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Key::Initialize => "initialize",
            Key::Config => "config",
            Key::Status => "status",
            Key::Failover => "failover",
            Key::Sync => "sync",
            Key::History => "history",
            Key::Failsafe => "failsafe",
        }
    }
}

/// Where a cluster's keys live: `/<namespace>/<scope>/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTree {
    prefix: String,
}

impl KeyTree {
    /// The tree of one cluster; extra slashes around the namespace are squeezed as Patroni does.
    #[must_use]
    pub fn new(namespace: &str, scope: &Scope) -> Self {
        let mut prefix = String::new();
        for part in namespace
            .split('/')
            .chain([scope.as_str()])
            .filter(|part| !part.is_empty())
        {
            prefix.push('/');
            prefix.push_str(part);
        }
        prefix.push('/');
        KeyTree { prefix }
    }

    /// The prefix of all keys, with a slash at the end.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The full path of a key.
    #[must_use]
    pub fn path(&self, key: Key) -> String {
        format!("{}{}", self.prefix, key.name())
    }

    /// The leader key.
    #[must_use]
    pub fn leader(&self) -> String {
        format!("{}leader", self.prefix)
    }

    /// A member's key.
    #[must_use]
    pub fn member(&self, name: &MemberName) -> String {
        format!("{}members/{name}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_patronis() {
        let scope = Scope::new("batman").unwrap();
        for namespace in ["service", "/service/", "//service"] {
            assert_eq!(KeyTree::new(namespace, &scope).leader(), "/service/batman/leader");
        }
        let member = MemberName::new("pg0").unwrap();
        assert_eq!(
            KeyTree::new("/a/b", &scope).member(&member),
            "/a/b/batman/members/pg0"
        );
    }
}
