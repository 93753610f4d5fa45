//! Values of the configuration, as its two forms write them: text in the ConfigMap, JSON in the OperatorConfiguration.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

/// The name of a label: `name` or `domain/name`.
pub(super) fn label(name: &str) -> Result<String, String> {
    let (domain, bare) = name.split_once('/').unwrap_or(("a", name));
    let is_domain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let fits =
        !domain.is_empty() && domain.chars().all(is_domain) && !bare.is_empty() && is_label_value(bare);
    if fits {
        Ok(name.to_owned())
    } else {
        Err(format!("'{name}' cannot be the name of a label"))
    }
}

pub(super) fn is_label_value(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    text.len() <= 63 && text.chars().all(inner) && ends(text.chars().next()) && ends(text.chars().last())
}

/// A word of a few, in any case.
pub(super) fn one_of(value: &Value, words: &[&'static str]) -> Result<&'static str, String> {
    let given = text(value)?;
    let found = words.iter().find(|word| word.eq_ignore_ascii_case(&given));
    found
        .copied()
        .ok_or_else(|| format!("it is one of {}", words.join(", ")))
}

/// The name of a container beside PostgreSQL's.
pub(super) fn container_name(name: &str) -> Result<(), String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = !name.is_empty() && name.len() <= 63 && name.chars().all(inner);
    if fits && !name.starts_with('-') && !name.ends_with('-') && name != howdah_manifest::POSTGRES_CONTAINER {
        Ok(())
    } else {
        Err(format!(
            "'{name}' cannot be the name of a container: a-z, 0-9 and -, and not {}",
            howdah_manifest::POSTGRES_CONTAINER
        ))
    }
}

/// Containers in Kubernetes' own form; only the OperatorConfiguration can hold them.
pub(super) fn containers(value: &Value) -> Result<Vec<Value>, String> {
    let all = value.as_array().ok_or("it must be a list of containers")?;
    for container in all {
        let read = serde_json::from_value::<k8s_openapi::api::core::v1::Container>(container.clone())
            .map_err(|error| format!("it is not a Kubernetes Container: {error}"))?;
        container_name(&read.name)?;
        if read.image.as_deref().unwrap_or_default().is_empty() {
            return Err(format!("container '{}' needs an image", read.name));
        }
    }
    Ok(all.clone())
}

/// The form of a load balancer's DNS name.
pub(super) fn dns_format(value: &Value) -> Result<String, String> {
    let format = text(value)?;
    let mut rest = format.clone();
    for known in ["{cluster}", "{namespace}", "{team}", "{hostedzone}"] {
        rest = rest.replace(known, "");
    }
    let is_dns = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if !format.contains("{cluster}") || !rest.chars().all(is_dns) {
        return Err(
            "it is a DNS name with {cluster}, and {namespace}, {team} and {hostedzone} as needed".to_owned(),
        );
    }
    Ok(format)
}

/// The name of an object.
pub(super) fn object_name(name: String) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.len() <= 253 && name.chars().all(inner) {
        Ok(name)
    } else {
        Err(format!("'{name}' cannot be the name of an object"))
    }
}

/// `NAMESPACE/NAME`, or a name.
pub(super) fn object_reference(text: String) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').collect();
    if parts.len() > 2 || parts.iter().any(|part| part.is_empty()) {
        return Err(format!("'{text}' is neither NAME nor NAMESPACE/NAME"));
    }
    parts
        .iter()
        .try_for_each(|part| object_name((*part).to_owned()).map(drop))?;
    Ok(text)
}

/// The name of a role: part of the names of Secrets.
pub(super) fn role(name: String) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.len() <= 63 && name.chars().all(inner) {
        Ok(name)
    } else {
        Err(format!(
            "'{name}' cannot be a role: a-z, 0-9, '-' and '_' can be part of a Secret's name"
        ))
    }
}

/// A user's or group's number.
pub(super) fn id(value: &Value) -> Result<i64, String> {
    let id = number(value)?;
    if id >= 0 {
        Ok(id)
    } else {
        Err("it must not be negative".to_owned())
    }
}

pub(super) fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) if text.is_empty() => Err("it is empty".to_owned()),
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err("it must be a text".to_owned()),
    }
}

pub(super) fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(value) => Ok(*value),
        // What Go's ParseBool takes.
        Value::String(text) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err("it must be true or false".to_owned()),
        },
        _ => Err("it must be true or false".to_owned()),
    }
}

pub(super) fn number(value: &Value) -> Result<i64, String> {
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| "it must be a whole number".to_owned())
}

/// A list, or texts with commas between them.
pub(super) fn list(value: &Value) -> Result<Vec<String>, String> {
    let words = |text: &str| {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    match value {
        Value::String(text) => Ok(words(text)),
        Value::Array(values) => values.iter().map(text).collect(),
        _ => Err("it must be a list".to_owned()),
    }
}

/// A map, or `key:value` pairs with commas between them.
pub(super) fn map(value: &Value) -> Result<BTreeMap<String, String>, String> {
    match value {
        Value::Object(pairs) => pairs
            .iter()
            .map(|(name, value)| {
                let text = text(value).map_err(|reason| format!("{name}: {reason}"))?;
                Ok((name.clone(), text))
            })
            .collect(),
        Value::String(_) => list(value)?
            .iter()
            .map(|pair| {
                let (name, value) = pair
                    .split_once(':')
                    .ok_or_else(|| format!("'{pair}' is not of the form key:value"))?;
                let bare = |text: &str| text.trim().trim_matches('"').to_owned();
                Ok((bare(name), bare(value)))
            })
            .collect(),
        _ => Err("it must be a map".to_owned()),
    }
}

/// An amount of a resource; an empty one takes the default away.
pub(super) fn amount(
    amounts: &mut BTreeMap<String, String>,
    resource: &str,
    value: &Value,
) -> Result<(), String> {
    if value.as_str() == Some("") {
        amounts.remove(resource);
        return Ok(());
    }
    let text = text(value)?;
    if text.parse::<howdah_manifest::Quantity>().is_err() {
        return Err("it must be an amount like 100m or 500Mi".to_owned());
    }
    amounts.insert(resource.to_owned(), text);
    Ok(())
}

/// Go's durations: `5m`, `1h30m`, `90s`; a number without a unit is not one, except 0.
pub(super) fn duration(value: &Value) -> Result<Duration, String> {
    let wrong = || "it must be a duration like 5m or 90s".to_owned();
    let text = text(value)?;
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut sum) = (text.as_str(), 0.0);
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (count, more) = rest.split_at(digits);
        let units = more.find(|c: char| c.is_ascii_digit()).unwrap_or(more.len());
        let (unit, more) = more.split_at(units);
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return Err(wrong()),
        };
        sum += count.parse::<f64>().map_err(|_| wrong())? * factor;
        rest = more;
    }
    Duration::try_from_secs_f64(sum).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_both_forms_are_read() {
        assert_eq!(boolean(&json!("True")), Ok(true));
        assert!(boolean(&json!("yes")).is_err());
        assert_eq!(duration(&json!("1h30m")), Ok(Duration::from_secs(5400)));
        assert_eq!(duration(&json!("1.5s")), Ok(Duration::from_millis(1500)));
        for wrong in ["5", "m", "5d", "5m5", ""] {
            assert!(duration(&json!(wrong)).is_err(), "{wrong}");
        }
        let pairs = map(&json!("application:spilo, \"a\":\"b\"")).unwrap();
        assert_eq!(pairs, map(&json!({"application": "spilo", "a": "b"})).unwrap());
        assert_eq!(list(&json!("a, b")), list(&json!(["a", "b"])));
        assert_eq!(number(&json!("42")), Ok(42));
        assert!(number(&json!(1.5)).is_err());
    }
}
