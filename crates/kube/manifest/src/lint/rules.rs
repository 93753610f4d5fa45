use howdah_yaml::{Node, Value};
use std::collections::BTreeSet;

use howdah_pgconf::{AGENT_OWNED, Wrong, parameter_error, parameter_names};

use super::{Finding, Severity, shape::nearest};
use crate::{
    Quantity, is_database_name, is_dns_label, is_role_name,
    manifest::one_secret,
    names::{MAX_NAME, RECOMMENDED_NAME, shares_secret},
};

/// Rules beyond keys and types.
pub(super) fn check(document: &Node, findings: &mut Vec<Finding>) {
    let mut say = |severity, line, path: &str, message: String| {
        findings.push(Finding {
            severity,
            line,
            path: path.to_owned(),
            message,
        });
    };
    name(document, &mut say);
    let Some(spec) = document.get("spec") else {
        return;
    };
    parameters(spec, &mut say);
    roles_and_databases(spec, &mut say);
    instances(spec, &mut say);
    resources(spec, &mut say);
}

type Say<'a> = &'a mut dyn FnMut(Severity, u64, &str, String);

fn name(document: &Node, say: Say<'_>) {
    let Some(node) = document.at(&["metadata", "name"]) else {
        return say(
            Severity::Error,
            document.line,
            "metadata.name",
            "is missing".into(),
        );
    };
    let name = node.shown();
    if !is_dns_label(&name) {
        say(
            Severity::Error,
            node.line,
            "metadata.name",
            format!("'{name}' must begin with a letter and hold only a-z, 0-9 and -"),
        );
    } else if name.len() > MAX_NAME {
        let message = format!(
            "has {} characters; at most {MAX_NAME} leave room for the names of its objects",
            name.len()
        );
        say(Severity::Error, node.line, "metadata.name", message);
    } else if name.len() > RECOMMENDED_NAME {
        let message = format!(
            "has {} characters; more than {RECOMMENDED_NAME} leave no room for backup jobs",
            name.len()
        );
        say(Severity::Warning, node.line, "metadata.name", message);
    }
}

/// Names and values, as servers of the manifest's major take them. Those that the agent sets have no effect: the old
/// operator and Patroni pass over them too.
fn parameters(spec: &Node, say: Say<'_>) {
    let version = spec.at(&["postgresql", "version"]).map(Node::shown);
    let Some(major) = version.and_then(|version| version.parse().ok()) else {
        return;
    };
    let parameters = spec.at(&["postgresql", "parameters"]);
    for (name, line, value) in parameters.map(Node::entries).unwrap_or_default() {
        let path = format!("spec.postgresql.parameters.{name}");
        if AGENT_OWNED.contains(&name.to_ascii_lowercase().as_str()) {
            let message = "is set by the agent and has no effect: remove it";
            say(Severity::Warning, *line, &path, message.into());
            continue;
        }
        // What is not a scalar is found by its type.
        let is_scalar = !matches!(value.value, Value::List(_) | Value::Map(_) | Value::Null);
        match parameter_error(name, &value.shown(), major).filter(|_| is_scalar) {
            Some(wrong @ Wrong::Unknown { .. }) => {
                let known: Vec<&str> = parameter_names(major).collect();
                let message = match nearest(name, &known).filter(|meant| meant != name) {
                    Some(meant) => format!("{wrong}, and it is left out; did you mean '{meant}'?"),
                    None => format!("{wrong}, and it is left out"),
                };
                say(Severity::Warning, *line, &path, message);
            }
            Some(wrong) => say(Severity::Error, value.line, &path, wrong.to_string()),
            None => {}
        }
    }
}

fn roles_and_databases(spec: &Node, say: Say<'_>) {
    let mut roles: BTreeSet<String> = BTreeSet::from(["postgres".to_owned(), "standby".to_owned()]);
    let users = spec.get("users").map(Node::entries).unwrap_or_default();
    for (name, line, flags) in users {
        roles.insert(name.clone());
        if !is_role_name(name) {
            say(
                Severity::Error,
                *line,
                &format!("spec.users.{name}"),
                "is not a role name: use lower-case letters, digits, - and _, at most 63 of them".into(),
            );
        }
        // Roles that cannot log in have no Secret.
        let logs_in = |flags: &Node| match &flags.value {
            Value::List(items) => !items.iter().any(|item| {
                item.text()
                    .is_some_and(|text| text.eq_ignore_ascii_case("nologin"))
            }),
            _ => true,
        };
        let names = users
            .iter()
            .filter(|(_, _, flags)| logs_in(flags))
            .map(|(name, _, _)| name.as_str());
        if logs_in(flags)
            && let Some(other) = shares_secret(name, names)
        {
            say(
                Severity::Error,
                *line,
                &format!("spec.users.{name}"),
                one_secret(other),
            );
        }
    }
    let bad_database =
        "is not a database name: begin with a letter or underscore, then letters, digits and underscores";
    for (name, line, _) in spec
        .get("preparedDatabases")
        .map(Node::entries)
        .unwrap_or_default()
    {
        for kind in ["owner", "reader", "writer"] {
            roles.insert(format!("{name}_{kind}"));
            roles.insert(format!("{name}_{kind}_user"));
        }
        if !is_database_name(name) {
            say(
                Severity::Error,
                *line,
                &format!("spec.preparedDatabases.{name}"),
                bad_database.into(),
            );
        }
    }
    for (name, line, owner) in spec.get("databases").map(Node::entries).unwrap_or_default() {
        let path = format!("spec.databases.{name}");
        if !is_database_name(name) {
            say(Severity::Error, *line, &path, bad_database.into());
        }
        if let Some(owner) = owner.text()
            && !roles.contains(owner)
        {
            say(
                Severity::Warning,
                *line,
                &path,
                format!(
                    "its owner '{owner}' is no role of this manifest: the database is made only if the role exists"
                ),
            );
        }
    }
}

fn instances(spec: &Node, say: Say<'_>) {
    let Some(Node {
        value: Value::Integer(count),
        line,
    }) = spec.get("numberOfInstances")
    else {
        return;
    };
    let strict = spec
        .at(&["patroni", "synchronous_mode_strict"])
        .is_some_and(|node| matches!(node.value, Value::Bool(true)));
    if strict && *count < 2 {
        say(
            Severity::Warning,
            *line,
            "spec.numberOfInstances",
            "with synchronous_mode_strict a single member cannot commit: write at least 2".into(),
        );
    }
}

fn resources(spec: &Node, say: Say<'_>) {
    for amount in ["cpu", "memory"] {
        let read = |side: &str| {
            let node = spec.at(&["resources", side, amount])?;
            Some((node.line, node.shown().parse::<Quantity>().ok()?))
        };
        if let (Some((line, request)), Some((_, limit))) = (read("requests"), read("limits"))
            && request > limit
        {
            say(
                Severity::Warning,
                line,
                &format!("spec.resources.requests.{amount}"),
                "is more than the limit, which will be raised to it".into(),
            );
        }
    }
}
