use super::{Finding, Severity};
use crate::{
    OLD_NAMES, Quantity,
    fields::spec_schema,
    foreign,
    schema::{Field, Kind, Schema},
};
use howdah_yaml::{Node, Value};

const METADATA: &[&str] = &[
    "name",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "generateName",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
];

/// Checks keys and types against the schema.
pub(super) fn check(document: &Node, findings: &mut Vec<Finding>) {
    let mut checker = Checker { findings };
    for (key, line, node) in document.entries() {
        match key.as_str() {
            "apiVersion" | "kind" | "status" => {}
            "metadata" => checker.keys(node, "metadata", METADATA),
            "spec" => checker.value(&spec_schema(), "spec", *line, node),
            other => checker.unknown(other, *line, "", &["apiVersion", "kind", "metadata", "spec"]),
        }
    }
    if document.get("spec").is_none() {
        checker.error(document.line, "spec", "is missing".into());
    }
}

struct Checker<'a> {
    findings: &'a mut Vec<Finding>,
}

impl Checker<'_> {
    fn error(&mut self, line: u64, path: &str, message: String) {
        self.findings
            .push(Finding::new(Severity::Error, line, path, message));
    }

    fn keys(&mut self, node: &Node, path: &str, known: &[&str]) {
        for (key, line, _) in node.entries() {
            if !known.contains(&key.as_str()) {
                self.unknown(key, *line, path, known);
            }
        }
    }

    fn unknown(&mut self, key: &str, line: u64, path: &str, known: &[&str]) {
        let message = match nearest(key, known) {
            Some(meant) => format!("is not a field; did you mean '{meant}'?"),
            None => "is not a field, and would be dropped".to_owned(),
        };
        let path = if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        };
        self.error(line, &path, message);
    }

    fn value(&mut self, schema: &Schema, path: &str, line: u64, node: &Node) {
        if node.is_null() {
            // Kubernetes prunes nulls of fields that may not be null; either way it counts as absent.
            return;
        }
        match &schema.kind {
            Kind::Object(fields) => self.object(fields, path, line, node),
            Kind::Map(item) => match &node.value {
                Value::Map(entries) => {
                    for (key, line, inner) in entries {
                        self.value(item, &format!("{path}.{key}"), *line, inner);
                    }
                }
                _ => self.expected("a mapping of names to values", path, line, node),
            },
            Kind::List(item) => match &node.value {
                Value::List(items) => {
                    for (index, inner) in items.iter().enumerate() {
                        self.value(item, &format!("{path}[{index}]"), inner.line, inner);
                    }
                }
                _ => self.expected("a list (lines that begin with '- ')", path, line, node),
            },
            Kind::Foreign(name) => {
                if !matches!(node.value, Value::Map(_)) {
                    return self.expected(&format!("a mapping (Kubernetes' {name})"), path, line, node);
                }
                for problem in foreign::problems(name, &node.json()) {
                    let severity = if problem.refused {
                        Severity::Error
                    } else {
                        Severity::Warning
                    };
                    let line = node.nearest(&problem.path).line;
                    let path = foreign::below(path, &problem.path);
                    self.findings
                        .push(Finding::new(severity, line, &path, problem.reason));
                }
            }
            _ => self.scalar(schema, path, line, node),
        }
    }

    fn object(&mut self, fields: &[Field], path: &str, line: u64, node: &Node) {
        let Value::Map(entries) = &node.value else {
            return self.expected("a mapping", path, line, node);
        };
        let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
        for (key, line, inner) in entries {
            if let Some(field) = fields.iter().find(|field| field.name == key) {
                self.value(&field.schema, &format!("{path}.{key}"), *line, inner);
            } else if let Some((_, new)) = OLD_NAMES.iter().find(|(old, _)| path == "spec" && old == key) {
                let message = format!("is the old name of '{new}'; it still works");
                self.findings.push(Finding::new(
                    Severity::Warning,
                    *line,
                    &format!("{path}.{key}"),
                    message,
                ));
            } else {
                self.unknown(key, *line, path, &known);
            }
        }
        for field in fields.iter().filter(|field| field.required) {
            if node.get(field.name).is_none_or(Node::is_null) {
                self.error(
                    line,
                    &format!("{path}.{}", field.name),
                    "is required and missing".into(),
                );
            }
        }
    }

    fn scalar(&mut self, schema: &Schema, path: &str, line: u64, node: &Node) {
        match (&schema.kind, &node.value) {
            (Kind::Bool, Value::Bool(_)) => {}
            (Kind::Bool, _) => self.expected("true or false", path, line, node),
            (Kind::Integer { min, max, .. }, Value::Integer(number)) => {
                let low = min.filter(|min| *number < i128::from(*min));
                let high = max.filter(|max| *number > i128::from(*max));
                if let Some(limit) = low.or(high) {
                    let side = if low.is_some() { "least" } else { "most" };
                    self.error(line, path, format!("{number} must be at {side} {limit}"));
                }
            }
            (Kind::Integer { .. }, _) => self.expected("an integer", path, line, node),
            (Kind::Quantity { .. }, Value::Text(text)) => {
                if let Err(error) = text.parse::<Quantity>() {
                    let hint = text
                        .strip_suffix('B')
                        .filter(|shorter| shorter.parse::<Quantity>().is_ok())
                        .map(|shorter| format!(" (here perhaps {shorter} or {shorter}i)"))
                        .unwrap_or_default();
                    self.error(line, path, format!("\"{text}\" {error}{hint}"));
                }
            }
            (Kind::Quantity { .. }, Value::Integer(_) | Value::Float(_)) => {
                let shown = node.shown();
                self.error(line, path, format!("must be text: write \"{shown}\" in quotes"));
            }
            (Kind::Words(words), Value::Text(text)) => {
                if !words.contains(&text.as_str()) {
                    let all: Vec<&str> = words
                        .iter()
                        .copied()
                        .filter(|word| !word.starts_with(|c: char| c.is_ascii_uppercase()))
                        .collect();
                    let hint = nearest(text, &all)
                        .map(|meant| format!("did you mean '{meant}'? "))
                        .unwrap_or_default();
                    self.error(
                        line,
                        path,
                        format!("'{text}' is not offered; {hint}write one of {}", all.join(", ")),
                    );
                }
            }
            (Kind::Text { .. } | Kind::Words(_), Value::Bool(value)) => {
                self.error(
                    line,
                    path,
                    format!("must be text, and YAML takes this word for {value}: write it in quotes"),
                );
            }
            (Kind::Text { .. } | Kind::Words(_), Value::Integer(_) | Value::Float(_)) => {
                self.error(
                    line,
                    path,
                    format!("must be text: write \"{}\" in quotes", node.shown()),
                );
            }
            (Kind::Text { pattern, form }, Value::Text(text)) => {
                if pattern.is_some() && !fits(form, text) {
                    self.error(line, path, format!("'{text}' must be {form}"));
                }
            }
            _ => self.expected("text", path, line, node),
        }
    }

    fn expected(&mut self, what: &str, path: &str, line: u64, node: &Node) {
        let have = match &node.value {
            Value::Text(text) => format!("the text '{text}'"),
            _ => node.kind().to_owned(),
        };
        self.error(line, path, format!("must be {what}, and is {have}"));
    }
}

/// The few forms of the schema's patterns, without a regular-expression engine.
fn fits(form: &str, text: &str) -> bool {
    if form.starts_with("HH:MM") {
        return is_window(text);
    }
    if form.starts_with("a network") {
        return is_network(text);
    }
    if form.starts_with("five fields") {
        let field = |field: &str| {
            let (base, step) = field.split_once('/').unwrap_or((field, "1"));
            (base == "*" || is_digits(base)) && is_digits(step)
        };
        let blank_ends = text.starts_with(' ') || text.ends_with(' ');
        return !blank_ends && text.split_whitespace().count() == 5 && text.split_whitespace().all(field);
    }
    if form == "a UUID" {
        let lengths: Vec<usize> = text.split('-').map(str::len).collect();
        return lengths == [8, 4, 4, 4, 12] && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
    }
    if form.starts_with("RFC 3339") {
        let bytes = text.as_bytes();
        let offset = bytes.len().checked_sub(6).map(|at| bytes[at]);
        return bytes.len() >= 25 && matches!(bytes[10], b'T' | b't') && matches!(offset, Some(b'+' | b'-'));
    }
    true
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_window(text: &str) -> bool {
    let text = text.trim_matches(' ');
    let times = match text.split_once(':') {
        Some((day, rest)) if day.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            let short = day.get(..3).unwrap_or(day);
            if !["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].contains(&short) {
                return false;
            }
            rest
        }
        _ => text,
    };
    let time = |time: &str| {
        let (hours, minutes) = time.split_once(':')?;
        let (h, m): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
        (h < 24 && m < 60 && minutes.len() <= 2).then_some(h * 60 + m)
    };
    times
        .split_once('-')
        .is_some_and(|(from, to)| matches!((time(from), time(to)), (Some(a), Some(b)) if a <= b))
}

fn is_network(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, bits)| {
        let limit = match address.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(_)) => 32,
            Ok(std::net::IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        bits.parse::<u8>().is_ok_and(|bits| bits <= limit)
    })
}

/// The word of the list that was probably meant.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = word.to_ascii_lowercase();
    let close = |candidate: &&str| {
        let other = candidate.to_ascii_lowercase();
        let squeezed = |text: &str| text.replace(['_', '-'], "");
        if squeezed(&other) == squeezed(&lower) {
            return 0;
        }
        if lower.len() >= 4 && other.starts_with(&lower) {
            return 1;
        }
        distance(&lower, &other)
    };
    known
        .iter()
        .map(|candidate| (close(candidate), *candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= (word.len() / 4).max(1))
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, with one cost for everything.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let next = (diagonal + usize::from(from != *to))
                .min(row[j] + 1)
                .min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}
