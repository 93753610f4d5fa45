//! Objects of other kinds that the old operator acts on and this one does not yet: without a word, a user would take them
//! for applied.

use howdah_yaml::Node;

use super::{Finding, Severity};

/// Keys by which a ConfigMap is known as the old operator's configuration, whatever its name.
const OPERATOR_KEYS: &[&str] = &[
    "docker_image",
    "super_username",
    "replication_username",
    "cluster_name_label",
    "pod_role_label",
    "watched_namespace",
];

pub(super) fn check(document: &Node, kind: &str, findings: &mut Vec<Finding>) {
    let name = document
        .at(&["metadata", "name"])
        .map(Node::shown)
        .unwrap_or_default();
    let data = document.get("data").map(Node::entries).unwrap_or_default();
    let is_configuration = || {
        name == "postgres-operator"
            || data
                .iter()
                .any(|(key, _, _)| OPERATOR_KEYS.contains(&key.as_str()))
    };
    let message = match kind {
        "OperatorConfiguration" => CONFIGURATION,
        "ConfigMap" if is_configuration() => CONFIGURATION,
        "CustomResourceDefinition" if name == "postgresqls.acid.zalan.do" => {
            "has fields that another one does not have: the sandbox puts its own back, which has all of upstream's"
        }
        "PostgresTeam" => "teams and their members are not supported yet: the object has no effect",
        "ConfigMap" | "Secret" if name.contains("infrastructure-roles") => {
            "infrastructure roles are not supported yet: the object has no effect; name the roles in 'users' of the clusters"
        }
        _ => return,
    };
    let line = document.get("kind").map_or(document.line, |node| node.line);
    findings.push(Finding::new(Severity::Warning, line, "kind", message.to_owned()));
}

const CONFIGURATION: &str =
    "the operator's configuration is not read yet: it works with the defaults that docs/operator.md lists";
