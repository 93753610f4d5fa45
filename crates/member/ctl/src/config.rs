use std::{
    fs,
    io::{IsTerminal, Read, Write},
    path::Path,
    process::Command,
};

use anyhow::Context as _;
use howdah_clock::now;
use howdah_config::{check_dynamic, patch};
use howdah_dcs::{Cond, Document, KeyOp, Outcome};
use howdah_pgconf::{Wrong, wrong_everywhere};
use serde_json::{Map, Value};
use similar::TextDiff;

use crate::{
    access::STORE,
    cli::{ClusterArg, EditConfigArgs},
    context::Context,
    prompt,
    table::{mapping, to_yaml},
};

pub(crate) async fn show(context: &Context, args: &ClusterArg) -> anyhow::Result<()> {
    let cluster = context.cluster(args.cluster_name.as_deref()).await?;
    let config = cluster
        .view
        .config
        .value
        .with_context(|| missing(cluster.view.config.rev))?;
    println!("{}", to_yaml(&Value::Object(config)));
    Ok(())
}

fn missing(rev: u64) -> &'static str {
    if rev > 0 {
        "the config key of the cluster is no JSON object: replace it with 'edit-config --replace FILE'"
    } else {
        "The config key does not exist in the cluster"
    }
}

pub(crate) async fn edit(context: &Context, args: &EditConfigArgs) -> anyhow::Result<()> {
    let cluster = context.cluster(args.cluster_name.as_deref()).await?;
    // Only a replacement needs nothing of what is there.
    let old = match &cluster.view.config.value {
        Some(config) => config.clone(),
        None if args.replace.is_some() && cluster.view.config.rev > 0 => Map::new(),
        None => anyhow::bail!("{}", missing(cluster.view.config.rev)),
    };
    let before = to_yaml(&Value::Object(old.clone()));
    let by_options =
        !args.set.is_empty() || !args.pg.is_empty() || args.apply.is_some() || args.replace.is_some();
    let new = if by_options {
        changed(old, args)?
    } else {
        mapping(&in_editor(cluster.scope.as_str(), &before)?)?
    };
    let after = to_yaml(&Value::Object(new.clone()));
    if before == after {
        println!("Not changed");
        return Ok(());
    }
    check(&new)?;
    if !args.quiet {
        print!(
            "{}",
            TextDiff::from_lines(&before, &after)
                .unified_diff()
                .context_radius(3)
                .header("", "")
        );
    }
    let from_stdin = [&args.apply, &args.replace]
        .into_iter()
        .flatten()
        .any(|path| path == Path::new("-"));
    if from_stdin && !args.force {
        println!("Use --force option to apply changes");
        return Ok(());
    }
    if !args.force && prompt::confirm("Apply these changes?", "no").is_err() {
        return Ok(());
    }
    let op = KeyOp::Put {
        document: Document::config(&new),
        cond: Cond::Rev(cluster.view.config.rev),
    };
    match cluster.store.write(&op, now() + STORE).await {
        Outcome::Done(_) => println!("Configuration changed"),
        Outcome::Refused(_) => anyhow::bail!("Config modification aborted due to concurrent changes"),
        Outcome::Failed(why) | Outcome::Unknown(why) => anyhow::bail!("{why}"),
    }
    Ok(())
}

/// Refuses values that no member would take.
fn check(config: &Map<String, Value>) -> anyhow::Result<()> {
    check_parameters(config)?;
    check_dynamic(config).map_err(|error| anyhow::anyhow!("{error}; nothing was changed"))
}

/// Names all that are wrong at once. Which major the members run is not known here, so only what no major takes is refused;
/// the agents ask their PostgreSQL about the rest, and say what they leave out.
fn check_parameters(config: &Map<String, Value>) -> anyhow::Result<()> {
    let parameters = config
        .get("postgresql")
        .and_then(|postgresql| postgresql.get("parameters"))
        .and_then(Value::as_object);
    let mut wrong_values = Vec::new();
    for (name, value) in parameters.into_iter().flatten() {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            // Null removes; what is no value at all is found below.
            Value::Null | Value::Array(_) | Value::Object(_) => continue,
        };
        match wrong_everywhere(name, &text) {
            Some(why @ Wrong::Unknown { .. }) => {
                eprintln!("Warning: postgresql.parameters.{name}: {why}, and it is left out");
            }
            Some(why) => wrong_values.push(format!("postgresql.parameters.{name}: {why}")),
            None => {}
        }
    }
    anyhow::ensure!(
        wrong_values.is_empty(),
        "{}; nothing was changed",
        wrong_values.join("\n")
    );
    Ok(())
}

/// The options in Patroni's order: replace, apply, set.
fn changed(old: Map<String, Value>, args: &EditConfigArgs) -> anyhow::Result<Map<String, Value>> {
    let mut config = match &args.replace {
        Some(path) => {
            let text = read(path)?;
            anyhow::ensure!(
                !text.trim().is_empty(),
                "{}: empty: a configuration of nothing is written as {{}}",
                path.display()
            );
            mapping(&text)?
        }
        None => old,
    };
    if let Some(path) = &args.apply {
        patch(&mut config, &mapping(&read(path)?)?);
    }
    for (option, prefix) in [(&args.set, ""), (&args.pg, "postgresql.parameters.")] {
        for pair in option {
            let (path, text) = pair
                .split_once('=')
                .with_context(|| format!("Invalid parameter setting '{pair}': write name=value"))?;
            anyhow::ensure!(
                path.trim().split('.').all(|segment| !segment.is_empty()),
                "Invalid parameter setting '{pair}': a part of the name is empty"
            );
            let value = serde_saphyr::from_str(text).unwrap_or_else(|_| Value::from(text));
            set(&mut config, &format!("{prefix}{}", path.trim()), value);
        }
    }
    Ok(config)
}

/// Sets one key; below `postgresql.parameters` the rest of the path is one name. Null deletes, and mappings that
/// become empty go with it.
fn set(config: &mut Map<String, Value>, path: &str, value: Value) {
    const PARAMETERS: &str = "postgresql.parameters.";
    let mut segments: Vec<&str> = match path.strip_prefix(PARAMETERS) {
        Some(name) => vec!["postgresql", "parameters", name],
        None => path.split('.').collect(),
    };
    let Some(last) = segments.pop() else { return };
    set_in(config, &segments, last, value);
}

fn set_in(map: &mut Map<String, Value>, path: &[&str], last: &str, value: Value) {
    let Some((head, rest)) = path.split_first() else {
        if value.is_null() {
            map.shift_remove(last);
        } else {
            map.insert(last.to_owned(), value);
        }
        return;
    };
    let entry = map.entry(*head).or_insert_with(|| Value::Object(Map::new()));
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    if let Value::Object(inner) = entry {
        set_in(inner, rest, last, value);
        if inner.is_empty() {
            map.shift_remove(*head);
        }
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn in_editor(cluster: &str, text: &str) -> anyhow::Result<String> {
    anyhow::ensure!(
        std::io::stdin().is_terminal(),
        "there is no terminal for an editor: use --set, --pg, --apply or --replace"
    );
    let mut file = tempfile::Builder::new()
        .prefix(&format!("{cluster}-config-"))
        .suffix(".yaml")
        .tempfile()?;
    file.write_all(text.as_bytes())?;
    let editors = [
        std::env::var("EDITOR").unwrap_or_default(),
        "editor".to_owned(),
        "vi".to_owned(),
    ];
    for editor in editors.iter().filter(|editor| !editor.is_empty()) {
        match Command::new(editor).arg(file.path()).status() {
            Ok(status) => {
                anyhow::ensure!(status.success(), "Editor exited with {status}");
                return Ok(fs::read_to_string(file.path())?);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context(editor.clone()),
        }
    }
    anyhow::bail!("EDITOR environment variable is not set. editor or vi are not available")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_are_set_and_emptied() {
        let mut config = json!({"ttl": 30, "postgresql": {"parameters": {"a": 1}}})
            .as_object()
            .unwrap()
            .clone();
        set(&mut config, "postgresql.parameters.pg_stat.track", json!("all"));
        set(&mut config, "postgresql.parameters.a", Value::Null);
        set(&mut config, "slots.x.type", json!("physical"));
        set(&mut config, "slots.x.type", Value::Null);
        let wanted = json!({"ttl": 30, "postgresql": {"parameters": {"pg_stat.track": "all"}}});
        assert_eq!(Value::Object(config), wanted);
    }
}
