//! Labels, annotations and owners as Kubernetes checks them: what the sandbox takes, a real one must not refuse.

use serde_json::Value;

use crate::{ApiError, meta};

/// Bytes of all annotations of an object.
const ANNOTATIONS: usize = 256 << 10;

/// Checks what is new in an object's metadata. What was there before stays, so that an older sandbox's objects go on.
///
/// # Errors
/// 422 with every place.
pub(crate) fn check(kind: &str, before: &Value, after: &Value) -> Result<(), ApiError> {
    let mut wrong = Vec::new();
    let (was, is) = (&before["metadata"], &after["metadata"]);
    if was["labels"] != is["labels"] {
        for (name, value) in is["labels"].as_object().into_iter().flatten() {
            let text = value.as_str().unwrap_or_default();
            if !is_qualified(name) {
                wrong.push(("metadata.labels".to_owned(), bad_name(name)));
            } else if !is_value(text) {
                let reason = format!(
                    "Invalid value: \"{text}\": at most 63 letters, digits, '-', '_' and '.', and it begins and ends with a letter \
                     or digit"
                );
                wrong.push((format!("metadata.labels.{name}"), reason));
            }
        }
    }
    if was["annotations"] != is["annotations"] {
        let mut bytes = 0;
        for (name, value) in is["annotations"].as_object().into_iter().flatten() {
            bytes += name.len() + value.as_str().unwrap_or_default().len();
            // Annotations may have capitals in the prefix too.
            if !is_qualified(&name.to_ascii_lowercase()) {
                wrong.push(("metadata.annotations".to_owned(), bad_name(name)));
            }
        }
        if bytes > ANNOTATIONS {
            let reason = format!("Too long: may not be more than {ANNOTATIONS} bytes");
            wrong.push(("metadata.annotations".to_owned(), reason));
        }
    }
    if was["ownerReferences"] != is["ownerReferences"] {
        let owners = is["ownerReferences"].as_array().into_iter().flatten();
        for (index, owner) in owners.enumerate() {
            for key in ["apiVersion", "kind", "name", "uid"] {
                if owner[key].as_str().is_none_or(str::is_empty) {
                    let place = format!("metadata.ownerReferences[{index}].{key}");
                    wrong.push((place, "Required value".to_owned()));
                }
            }
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(kind, meta::name(after), &wrong))
    }
}

fn bad_name(name: &str) -> String {
    format!(
        "Invalid value: \"{name}\": a name has at most 63 letters, digits, '-', '_' and '.', begins and ends with a letter or digit, \
         and may have a DNS name and '/' before it"
    )
}

/// Whether a text is the name of a label: `[prefix/]name`.
pub(crate) fn is_qualified(name: &str) -> bool {
    let (prefix, name) = match name.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, name),
    };
    let is_domain = |prefix: &str| {
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let label = |part: &str| {
            !part.is_empty() && part.bytes().all(letters) && !part.starts_with('-') && !part.ends_with('-')
        };
        prefix.len() <= 253 && prefix.split('.').all(label)
    };
    !name.is_empty() && is_value(name) && prefix.is_none_or(is_domain)
}

/// Whether a text can be the value of a label.
pub(crate) fn is_value(text: &str) -> bool {
    let at_edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    text.len() <= 63
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && at_edge(bytes.first())
        && at_edge(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_values_are_those_that_kubernetes_takes() {
        for name in [
            "a",
            "acid.zalan.do/controller",
            "spilo-role",
            "A_b.c",
            "kubectl.kubernetes.io/last-applied-configuration",
        ] {
            assert!(is_qualified(name), "{name}");
        }
        for name in ["", "a b", "/a", "a/", "a/b/c", "-a", "a-", "A.b/c", "bad key!"] {
            assert!(!is_qualified(name), "{name}");
        }
        assert!(is_value("") && is_value("x.y_z-1") && !is_value("x y") && !is_value("-"));
    }

    #[test]
    fn only_what_is_new_is_refused_and_every_place_is_named() {
        let with = |metadata: Value| json!({"metadata": metadata});
        let bad = with(
            json!({"name": "x", "labels": {"a b": "c", "d": "e f"}, "annotations": {"": "g"}, "ownerReferences": [{"a": 1}]}),
        );
        let error = check("ConfigMap", &Value::Null, &bad).unwrap_err();
        assert_eq!(error.code, 422);
        for place in [
            "\"a b\"",
            "metadata.labels.d",
            "metadata.annotations",
            "ownerReferences[0].uid",
        ] {
            assert!(error.message.contains(place), "{place} in {}", error.message);
        }
        let mut more = bad.clone();
        more["data"] = json!({});
        assert!(check("ConfigMap", &bad, &more).is_ok());
    }
}
