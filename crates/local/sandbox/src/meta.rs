//! Reading and writing an object's metadata.

use serde_json::{Map, Value, json};

/// A label with its value.
pub(crate) type Label = (String, String);

/// The time as Kubernetes writes it, to the second.
pub(crate) fn timestamp() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Random lower-case letters and digits, as `generateName` appends them.
pub(crate) fn suffix(length: usize) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut bytes = vec![0u8; length];
    // Without random numbers a name repeats, and its creation is refused: nothing worse.
    let _ = getrandom::fill(&mut bytes);
    bytes
        .iter()
        .map(|b| char::from(LETTERS[usize::from(*b) % LETTERS.len()]))
        .collect()
}

/// A random number.
pub(crate) fn random() -> u32 {
    let mut bytes = [0u8; 4];
    let _ = getrandom::fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

/// A random UUID.
pub(crate) fn uuid() -> String {
    let mut b = [0u8; 16];
    let _ = getrandom::fill(&mut b);
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let hex: String = b.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

pub(crate) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"][key].as_str().unwrap_or_default()
}

pub(crate) fn name(object: &Value) -> &str {
    text(object, "name")
}

pub(crate) fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

pub(crate) fn uid(object: &Value) -> &str {
    text(object, "uid")
}

pub(crate) fn revision(object: &Value) -> u64 {
    text(object, "resourceVersion").parse().unwrap_or(0)
}

pub(crate) fn is_ending(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// Whether a pod is ready for connections.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

pub(crate) fn labels(object: &Value) -> Option<&Map<String, Value>> {
    object["metadata"]["labels"].as_object()
}

/// Whether two mappings are the same but for these keys.
pub(crate) fn same_but(a: &Value, b: &Value, but: &[&str]) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else {
        return a == b;
    };
    let covers = |a: &Map<String, Value>, b: &Map<String, Value>| {
        a.iter()
            .filter(|(name, _)| !but.contains(&name.as_str()))
            .all(|(name, value)| b.get(name) == Some(value))
    };
    covers(a, b) && covers(b, a)
}

/// Whether two versions of an object differ in no more than these parts of their metadata.
pub(crate) fn same_but_in_metadata(a: &Value, b: &Value, but: &[&str]) -> bool {
    same_but(a, b, &["metadata"]) && same_but(&a["metadata"], &b["metadata"], but)
}

/// Sets a value at a path of keys; mappings on the way are made.
pub(crate) fn set(object: &mut Value, path: &[&str], value: Value) {
    let mut at = object;
    for key in path {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[*key];
    }
    *at = value;
}

/// Takes empty lists and mappings out of the metadata, as Kubernetes does: clients test for their absence.
pub(crate) fn tidy(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for name in ["finalizers", "ownerReferences", "labels", "annotations"] {
            let empty = match metadata.get(name) {
                Some(Value::Array(items)) => items.is_empty(),
                Some(Value::Object(map)) => map.is_empty(),
                Some(Value::Null) => true,
                _ => false,
            };
            if empty {
                metadata.shift_remove(name);
            }
        }
    }
}

/// Whether all these labels are on the object.
pub(crate) fn has_labels(object: &Value, wanted: &Map<String, Value>) -> bool {
    let have = labels(object);
    wanted
        .iter()
        .all(|(name, value)| have.and_then(|have| have.get(name)) == Some(value))
}

/// A reference to `owner` as its controller.
pub(crate) fn controller_reference(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": name(owner), "uid": uid(owner),
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// Whether `owner` controls the object.
pub(crate) fn is_controlled_by(object: &Value, owner: &Value) -> bool {
    object["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|reference| reference["controller"] == true && reference["uid"] == owner["metadata"]["uid"])
}
