use howdah_yaml::{Node, Value};
use std::collections::BTreeSet;

use howdah_pgconf::{AGENT_OWNED, Wrong, hba_errors, parameter_error, parameter_names, parse_bool};

use super::{Finding, Severity, shape::nearest};
use crate::{
    FlagError, Quantity, is_database_name, is_dns_label, is_reserved_role, is_role_name, is_schema_name,
    manifest::{NO_PLAIN, one_secret, takes_plain_connections},
    names::{MAX_NAME, PROTECTED_ROLES, RECOMMENDED_NAME, shares_secret},
    origin, role_flags,
};

/// Rules beyond keys and types.
pub(super) fn check(document: &Node, findings: &mut Vec<Finding>) {
    let mut say = |severity, line, path: &str, message: String| {
        findings.push(Finding::new(severity, line, path, message));
    };
    name(document, &mut say);
    let Some(spec) = document.get("spec") else {
        return;
    };
    parameters(spec, &mut say);
    roles_and_databases(spec, &mut say);
    instances(spec, &mut say);
    resources(spec, &mut say);
    patroni(spec, &mut say);
    owner(document, &mut say);
    let name = document
        .at(&["metadata", "name"])
        .map(Node::shown)
        .unwrap_or_default();
    data_from_elsewhere(&name, spec, findings);
}

/// A cluster that is another operator's.
fn owner(document: &Node, say: Say<'_>) {
    let annotation = document.at(&["metadata", "annotations", "acid.zalan.do/controller"]);
    if let Some(node) = annotation.filter(|node| !node.shown().is_empty()) {
        let message = format!(
            "leaves the cluster to the operator with CONTROLLER_ID {}: the one of the sandbox has none, and does not touch it",
            node.shown()
        );
        let path = "metadata.annotations.acid.zalan.do/controller";
        say(Severity::Warning, node.line, path, message);
    }
}

/// Fields that ask for data which an empty cluster would not have.
fn data_from_elsewhere(name: &str, spec: &Node, findings: &mut Vec<Finding>) {
    let section = |name: &str| spec.get(name).map(Node::json).unwrap_or_default();
    if let Some((field, reason)) = origin::unavailable(name, &section("clone"), &section("standby")) {
        let keys: Vec<&str> = field.split('.').collect();
        let node = spec.at(&keys).or_else(|| spec.get(keys[0]));
        let line = node.map_or(spec.line, |node| node.line);
        findings.push(Finding {
            about_new: true,
            ..Finding::new(Severity::Error, line, &format!("spec.{field}"), reason)
        });
    }
    let standby = |key: &str| spec.at(&["standby", key]).filter(|node| !node.shown().is_empty());
    if let (Some(_), Some(second)) = (standby("s3_wal_path"), standby("gs_wal_path")) {
        let message = "names a second place beside s3_wal_path: keep one";
        findings.push(Finding::new(
            Severity::Error,
            second.line,
            "spec.standby.gs_wal_path",
            message.into(),
        ));
    }
}

/// What Patroni's settings mean together.
fn patroni(spec: &Node, say: Say<'_>) {
    let Some(patroni) = spec.get("patroni") else {
        return;
    };
    let seconds = |key: &str, default: i128| match patroni.get(key).map(|node| &node.value) {
        // Upstream's zero means: not set.
        Some(Value::Integer(number)) if *number != 0 => *number,
        _ => default,
    };
    let (ttl, wait, retry) = (
        seconds("ttl", 30),
        seconds("loop_wait", 10),
        seconds("retry_timeout", 10),
    );
    if wait + 2 * retry > ttl {
        let node = ["ttl", "loop_wait", "retry_timeout"]
            .iter()
            .find_map(|key| patroni.get(key));
        let message = format!(
            "is {ttl}, and loop_wait + 2 * retry_timeout is {}: the members use shorter ones",
            wait + 2 * retry
        );
        let line = node.map_or(patroni.line, |node| node.line);
        say(Severity::Warning, line, "spec.patroni.ttl", message);
    }
    for (name, line, slot) in patroni.get("slots").map(Node::entries).unwrap_or_default() {
        let path = format!("spec.patroni.slots.{name}");
        let is_name = !name.is_empty()
            && name.len() <= 63
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !is_name {
            let message = "is not a name of a replication slot: use lower-case letters, digits and _, at most 63 of them";
            say(Severity::Error, *line, &path, message.into());
        }
        let kind = slot.get("type").map(Node::shown);
        match kind.as_deref() {
            Some("logical") => {
                for needed in ["database", "plugin"] {
                    if slot.get(needed).is_none() {
                        let message = "is required for a logical slot and missing";
                        say(
                            Severity::Error,
                            *line,
                            &format!("{path}.{needed}"),
                            message.into(),
                        );
                    }
                }
            }
            None | Some("physical") => {}
            Some(other) => say(
                Severity::Error,
                *line,
                &format!("{path}.type"),
                format!("'{other}' must be physical or logical"),
            ),
        }
    }
    if let Some(node) = patroni.get("pg_hba") {
        host_based_authentication(node, say);
    }
}

fn host_based_authentication(node: &Node, say: Say<'_>) {
    let Value::List(items) = &node.value else {
        return;
    };
    let lines: Vec<String> = items.iter().map(Node::shown).collect();
    for (number, message) in hba_errors(&lines) {
        let line = items.get(number - 1).map_or(node.line, |item| item.line);
        let path = format!("spec.patroni.pg_hba[{}]", number - 1);
        say(Severity::Error, line, &path, message);
    }
    let first = |line: &String| line.split_whitespace().next().map(str::to_owned);
    let types: Vec<String> = lines.iter().filter_map(first).collect();
    let replicates = lines.iter().any(|line| {
        let mut words = line.split_whitespace();
        let is_host = words.next().is_some_and(|word| word.starts_with("host"));
        is_host
            && words
                .next()
                .is_some_and(|databases| databases.split(',').any(|name| name == "replication"))
    });
    let includes = types.iter().any(|word| word.starts_with("include"));
    if !lines.is_empty() && !replicates && !includes {
        let message = "no line accepts replicas: add 'hostssl replication standby all md5'";
        say(
            Severity::Warning,
            node.line,
            "spec.patroni.pg_hba",
            message.into(),
        );
    }
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

/// Whether some line of `pg_hba.conf` takes connections without TLS.
fn takes_plain(spec: &Node) -> bool {
    let lines = match spec.at(&["patroni", "pg_hba"]).map(|node| &node.value) {
        Some(Value::List(items)) => items.iter().map(Node::shown).collect(),
        _ => Vec::new(),
    };
    let env = match spec.get("env").map(|node| &node.value) {
        Some(Value::List(items)) => items.iter().map(Node::json).collect(),
        _ => Vec::new(),
    };
    takes_plain_connections(&lines, &env)
}

/// Names and values, as servers of the manifest's major take them. Those that the agent sets have no effect: the old
/// operator and Patroni pass over them too.
fn parameters(spec: &Node, say: Say<'_>) {
    let version = spec.at(&["postgresql", "version"]).map(Node::shown);
    let Some(major) = version.and_then(|version| version.parse().ok()) else {
        return;
    };
    let parameters = spec.at(&["postgresql", "parameters"]);
    if let Some(ssl) = parameters.and_then(|parameters| parameters.get("ssl")) {
        let off = parse_bool(&ssl.shown()) == Some(false);
        if off && !takes_plain(spec) {
            say(
                Severity::Error,
                ssl.line,
                "spec.postgresql.parameters.ssl",
                NO_PLAIN.into(),
            );
        }
    }
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
        if is_reserved_role(name) {
            let message = "is a name that PostgreSQL keeps for itself: choose another";
            say(
                Severity::Error,
                *line,
                &format!("spec.users.{name}"),
                message.into(),
            );
        }
        if ["postgres", "standby"].contains(&name.as_str()) {
            let message = "is the operator's own role: its flags stay as they are";
            say(
                Severity::Warning,
                *line,
                &format!("spec.users.{name}"),
                message.into(),
            );
        }
        if PROTECTED_ROLES.contains(&name.as_str()) {
            let message = "is a protected name (protected_role_names): neither role nor Secret is made";
            say(
                Severity::Warning,
                *line,
                &format!("spec.users.{name}"),
                message.into(),
            );
        }
        if let Value::List(items) = &flags.value {
            let words: Vec<String> = items.iter().map(Node::shown).collect();
            // Unknown words are found by the schema.
            if let Err(error @ FlagError::Contradiction(_)) = role_flags(&words) {
                say(
                    Severity::Error,
                    *line,
                    &format!("spec.users.{name}"),
                    error.to_string(),
                );
            }
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
    for (name, line, database) in spec
        .get("preparedDatabases")
        .map(Node::entries)
        .unwrap_or_default()
    {
        for (schema, line, _) in database.get("schemas").map(Node::entries).unwrap_or_default() {
            if !is_schema_name(schema) {
                let path = format!("spec.preparedDatabases.{name}.schemas.{schema}");
                let message = "is not a schema name: begin with a letter or underscore, but not with pg_, then letters, digits \
                               and underscores";
                say(Severity::Error, *line, &path, message.into());
            }
        }
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
