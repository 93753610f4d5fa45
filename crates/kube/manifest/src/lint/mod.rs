//! What is wrong or suspicious in a manifest, with the line, the reason, and what to write instead.

mod others;
mod read;
mod rules;
mod shape;

use std::fmt;

use crate::{GROUP, KIND, VERSION};
use howdah_yaml::{Node, Value};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works; perhaps not as meant.
    Warning,
    /// It is refused.
    Error,
}

/// Something to tell the author of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The line, from 1; 0 where it is not known.
    pub line: u64,
    /// The path, with dots.
    pub path: String,
    /// What is wrong, and what to write.
    pub message: String,
    /// It holds for a cluster that does not exist yet: one that does goes on without the field.
    pub about_new: bool,
}

impl Finding {
    pub(crate) fn new(severity: Severity, line: u64, path: &str, message: String) -> Self {
        Finding {
            severity,
            line,
            path: path.to_owned(),
            message,
            about_new: false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}: {word}: {}: {}", self.line, self.path, self.message)
    }
}

/// Looks at all documents of a YAML text, and into Lists. Of other kinds only those are spoken of that the old operator
/// reads and this one does not yet.
#[must_use]
pub fn lint(text: &str) -> Vec<Finding> {
    let documents = match howdah_yaml::documents(text) {
        Ok(documents) => documents,
        Err((line, message)) => {
            return vec![Finding::new(Severity::Error, line, "(file)", message)];
        }
    };
    let mut findings = Vec::new();
    for document in &documents {
        one(document, &mut findings);
    }
    if documents.is_empty() {
        let message = "holds no document: write a manifest of kind postgresql";
        findings.push(Finding::new(Severity::Error, 1, "(file)", message.into()));
    }
    findings.sort_by_key(|finding| finding.line);
    findings
}

/// The objects of a List, as `kubectl get -o yaml` writes it.
fn items<'a>(document: &'a Node, kind: &str) -> Option<&'a [Node]> {
    match &document.get("items").filter(|_| kind.ends_with("List"))?.value {
        Value::List(items) => Some(items),
        _ => None,
    }
}

/// How many clusters a text describes.
#[must_use]
pub fn count_clusters(text: &str) -> usize {
    fn count(document: &Node) -> usize {
        let kind = document.get("kind").and_then(Node::text).unwrap_or_default();
        match items(document, kind) {
            Some(items) => items.iter().map(count).sum(),
            None => usize::from(kind == KIND),
        }
    }
    let documents = howdah_yaml::documents(text).unwrap_or_default();
    documents.iter().map(count).sum()
}

fn one(document: &Node, findings: &mut Vec<Finding>) {
    let kind = document.get("kind").and_then(Node::text).unwrap_or_default();
    let version = document
        .get("apiVersion")
        .and_then(Node::text)
        .unwrap_or_default();
    let wanted = format!("{GROUP}/{VERSION}");
    if let Some(items) = items(document, kind) {
        for item in items {
            one(item, findings);
        }
        return;
    }
    let mut say = |node: &Node, path: &str, message: String| {
        findings.push(Finding::new(Severity::Error, node.line, path, message));
    };
    if kind.is_empty() {
        say(document, "kind", format!("is missing: write 'kind: {KIND}'"));
        return;
    }
    if kind != KIND {
        if kind.eq_ignore_ascii_case(KIND) {
            let node = document.get("kind").unwrap_or(document);
            say(
                node,
                "kind",
                format!("'{kind}' is written in lower case: '{KIND}'"),
            );
        }
        others::check(document, kind, findings);
        return;
    }
    if version != wanted {
        let node = document.get("apiVersion").unwrap_or(document);
        say(node, "apiVersion", format!("'{version}' must be \"{wanted}\""));
    }
    let mut own = Vec::new();
    shape::check(document, &mut own);
    rules::check(document, &mut own);
    read::check(document, &mut own);
    findings.append(&mut own);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(extra: &str) -> String {
        format!(
            "apiVersion: acid.zalan.do/v1\nkind: postgresql\nmetadata:\n  name: acid-test\nspec:\n  teamId: acid\n  \
             volume:\n    size: 1Gi\n  numberOfInstances: 2\n  postgresql:\n    version: \"15\"\n{extra}"
        )
    }

    fn found(extra: &str) -> Vec<String> {
        lint(&manifest(extra)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_manifest_has_no_findings() {
        assert_eq!(found(""), Vec::<String>::new());
        assert_eq!(found("  users:\n    a: []\n    b:\n"), Vec::<String>::new());
    }

    #[test]
    fn the_example_has_no_findings() {
        let text = include_str!("../../../../../examples/minimal-postgres-manifest.yaml");
        assert_eq!(lint(text), Vec::new());
    }

    #[test]
    fn misspelt_keys_are_found_with_what_was_meant() {
        let findings = found("  numberOfInstance: 3\n");
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].starts_with("12: error: spec.numberOfInstance:"),
            "{findings:?}"
        );
        assert!(findings[0].contains("'numberOfInstances'"), "{findings:?}");
    }

    #[test]
    fn every_promised_mistake_is_found() {
        for (extra, line, part) in [
            ("  resources:\n    limits:\n      memory: 500MB\n", "14:", "500M"),
            ("  users:\n    a:\n    - super\n", "14:", "superuser"),
            ("  users:\n    a_b: []\n    a-b: []\n", "13:", "a-b"),
            ("  patroni:\n    loop_wait: fast\n", "13:", "integer"),
            ("  preparedDatabases:\n    9lives: {}\n", "13:", "letter"),
            ("  teamID: x\n", "12:", "'teamId'"),
            ("  databases:\n    foo: nobody\n", "13:", "owner"),
            ("  maintenanceWindows:\n  - 25:00-26:00\n", "13:", "HH:MM"),
        ] {
            let findings = found(extra);
            assert!(
                findings.iter().any(|f| f.starts_with(line) && f.contains(part)),
                "{extra}: {findings:?}"
            );
        }
        let text = manifest("").replace("\"15\"", "\"12\"\n    parameters:\n      hot_standby: \"on\"\n      port: \"1\"\n      shared_buffers: 32\n");
        let findings: Vec<_> = lint(&text).iter().map(ToString::to_string).collect();
        assert!(
            findings
                .iter()
                .any(|f| f.starts_with("11:") && f.contains("14, 15")),
            "{findings:?}"
        );
        assert!(
            findings
                .iter()
                .any(|f| f.starts_with("14:") && f.contains("agent")),
            "{findings:?}"
        );
        assert!(
            findings
                .iter()
                .any(|f| f.starts_with("15:") && f.contains("\"32\"")),
            "{findings:?}"
        );
        let long = manifest("").replace("acid-test", &"a".repeat(60));
        assert!(lint(&long)[0].to_string().starts_with("4: error: metadata.name"));
    }

    #[test]
    fn parameters_are_looked_up_by_major() {
        let with = |lines: &str| {
            let text = manifest("").replace(
                "version: \"15\"\n",
                &format!("version: \"15\"\n    parameters:\n{lines}"),
            );
            lint(&text).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let known = "      work_mem: 8MB\n      auto_explain.log_min_duration: 1s\n      synchronous_commit: \"on\"\n";
        assert_eq!(with(known), Vec::<String>::new());
        for (line, severity, part) in [
            ("work_mem: 8MBB", "error", "B, kB, MB, GB, TB"),
            ("checkpoint_timeout: \"5\"", "error", "30 to 86400"),
            ("work_mme: 8MB", "warning", "did you mean 'work_mem'?"),
            (
                "io_method: worker",
                "warning",
                "it came with 18, and it is left out",
            ),
            ("listen_addresses: \"*\"", "warning", "set by the agent"),
        ] {
            let found = with(&format!("      {line}\n"));
            assert!(
                found.len() == 1
                    && found[0].starts_with(&format!("13: {severity}: spec.postgresql.parameters."))
                    && found[0].contains(part),
                "{line}: {found:?}"
            );
        }
    }

    #[test]
    fn what_the_operator_would_refuse_is_found() {
        for (extra, severity, part) in [
            (
                "  env:\n  - name: A\n    value: 5\n",
                "error: spec.env[0].value",
                "write \"5\" in quotes",
            ),
            (
                "  env:\n  - name: A\n    valeu: x\n",
                "warning: spec.env[0].valeu",
                "drops it",
            ),
            (
                "  tolerations:\n  - effect: NoSchedul\n",
                "error: spec.tolerations[0].effect",
                "NoExecute",
            ),
            (
                "  users:\n    a: [login, nologin]\n",
                "error: spec.users.a",
                "keep one",
            ),
            ("  users:\n    pg_x: []\n", "error: spec.users.pg_x", "itself"),
            ("  users:\n    public: []\n", "error: spec.users.public", "itself"),
            (
                "  users:\n    admin: []\n",
                "warning: spec.users.admin",
                "protected",
            ),
            (
                "  preparedDatabases:\n    a:\n      schemas:\n        pg_x: {}\n",
                "error: spec.preparedDatabases.a.schemas.pg_x",
                "pg_",
            ),
            (
                "  patroni:\n    slots:\n      Bad-Slot:\n        type: physical\n",
                "error: spec.patroni.slots.Bad-Slot",
                "lower-case",
            ),
            (
                "  patroni:\n    slots:\n      a:\n        type: logical\n        database: x\n",
                "error: spec.patroni.slots.a.plugin",
                "missing",
            ),
            ("  patroni:\n    ttl: 20\n", "warning: spec.patroni.ttl", "30"),
            (
                "  patroni:\n    pg_hba:\n    - hosst all all all md5\n",
                "error: spec.patroni.pg_hba[0]",
                "hosst",
            ),
            (
                "  patroni:\n    pg_hba:\n    - hostssl all all all md5\n",
                "warning: spec.patroni.pg_hba",
                "replication",
            ),
            (
                "  clone:\n    cluster: other\n    timestamp: \"2017-12-19T12:40:33+01:00\"\n",
                "error: spec.clone.uid",
                "below the uid of its object",
            ),
            (
                "  sidecars:\n  - name: a\n",
                "13: error: spec.sidecars[0].image",
                "missing",
            ),
            (
                "  additionalVolumes:\n  - name: a\n    mountPath: /home/postgres/pgdata\n    volumeSource:\n      emptyDir: {}\n",
                "warning: spec.additionalVolumes[0].mountPath",
                "left out",
            ),
            (
                "  standby:\n    standby_port: \"1\"\n",
                "error: spec.standby",
                "which cluster is followed?",
            ),
        ] {
            let findings = found(extra);
            assert!(
                findings.iter().any(|f| f.contains(severity) && f.contains(part)),
                "{extra}: {findings:?}"
            );
        }
    }

    #[test]
    fn what_upstream_takes_is_taken() {
        for extra in [
            "  maintenanceWindows:\n  - \" 01:00-06:00\"\n  - 1:0-6:0\n",
            "  logicalBackupSchedule: \"30 00  * * *\"\n",
            "  patroni:\n    pg_hba:\n    - hostssl all all all md5\n    - hostssl replication standby all md5\n",
            "  clone:\n  standby:\n",
            "  clone:\n    cluster: other\n",
            "  standby:\n    standby_host: other.example.com\n    standby_port: \"5433\"\n",
            "  tls:\n    secretName: \"\"\n    caFile: \"\"\n",
        ] {
            assert_eq!(found(extra), Vec::<String>::new(), "{extra}");
        }
        let clone = "  clone:\n    cluster: a\n    uid: EFD12E58-5786-11E8-B5A7-06148230260C\n    timestamp: \
                     \"2017-12-19t12:40:33+01:00\"\n";
        assert_eq!(found(clone), Vec::<String>::new());
    }

    #[test]
    fn broken_yaml_has_a_place() {
        let findings = lint("kind: postgresql\n  bad: [\n");
        assert_eq!(findings.len(), 1);
        assert!(findings[0].line > 0, "{findings:?}");
    }
}
