//! The manifest as the operator reads it: what it would refuse or leave out is found before it is applied.

use howdah_yaml::{Node, Value};

use super::{Finding, Severity};
use crate::Manifest;

/// Reads the manifest, unless something was found already that keeps it from being read.
pub(super) fn check(document: &Node, findings: &mut Vec<Finding>) {
    if findings
        .iter()
        .any(|finding| finding.severity == Severity::Error && !finding.about_new)
    {
        return;
    }
    let line = |path: &str| deepest(document, path).line;
    match Manifest::read(&document.json()) {
        Ok(manifest) => {
            for note in &manifest.notes {
                let (path, reason) = note.split_once(": ").unwrap_or(("spec", note));
                findings.push(Finding::new(
                    Severity::Warning,
                    line(path),
                    path,
                    reason.to_owned(),
                ));
            }
        }
        Err(error) => {
            let line = line(&error.path);
            findings.push(Finding::new(Severity::Error, line, &error.path, error.reason));
        }
    }
}

/// The node at a path such as `spec.sidecars[0].name`, or the last one on the way that is there.
fn deepest<'a>(document: &'a Node, path: &str) -> &'a Node {
    let mut node = document;
    for part in path.split('.') {
        let (key, index) = match part.split_once('[') {
            Some((key, index)) => (key, index.trim_end_matches(']').parse::<usize>().ok()),
            None => (part, None),
        };
        let Some(next) = node.get(key) else {
            return node;
        };
        node = next;
        if let (Some(index), Value::List(items)) = (index, &node.value) {
            let Some(item) = items.get(index) else {
                return node;
            };
            node = item;
        }
    }
    node
}
