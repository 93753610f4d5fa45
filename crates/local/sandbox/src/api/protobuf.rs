//! Bodies in Kubernetes' protobuf encoding, which kubectl and helm send for built-in kinds, as the JSON that they stand for.
//!
//! The numbers of the fields are those of `generated.proto` in k8s.io/api and k8s.io/apimachinery. Answers stay JSON: every
//! client reads both.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use crate::ApiError;

/// The four bytes before `runtime.Unknown`.
const MAGIC: &[u8] = b"k8s\0";
/// Messages lie in one another this deep at most.
const DEEPEST: usize = 16;

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// Base64 in JSON.
    Bytes,
    Number,
    /// A number of which zero means that it is not set.
    Count,
    Flag,
    Message(&'static [Field]),
    /// From text to text.
    Map,
    /// From text to bytes.
    BytesMap,
    /// Seconds and nanoseconds.
    Time,
    /// Likewise; clients demand six decimals.
    MicroTime,
    IntOrText,
    /// Likewise, and zero means that it is not set.
    Target,
    /// Read and dropped.
    Ignored,
}

/// A field: its number, its name in JSON, what it holds, and whether it is a list.
struct Field(u64, &'static str, Kind, bool);

const fn one(number: u64, name: &'static str, kind: Kind) -> Field {
    Field(number, name, kind, false)
}

const fn list(number: u64, name: &'static str, kind: Kind) -> Field {
    Field(number, name, kind, true)
}

use Kind::{
    Bytes, BytesMap, Count, Flag, Ignored, IntOrText, Map as TextMap, Message, MicroTime, Number, Target,
    Text, Time,
};

const OWNER: &[Field] = &[
    one(1, "kind", Text),
    one(3, "name", Text),
    one(4, "uid", Text),
    one(5, "apiVersion", Text),
    one(6, "controller", Flag),
    one(7, "blockOwnerDeletion", Flag),
];

const META: &[Field] = &[
    one(1, "name", Text),
    one(2, "generateName", Text),
    one(3, "namespace", Text),
    one(4, "selfLink", Text),
    one(5, "uid", Text),
    one(6, "resourceVersion", Text),
    one(7, "generation", Count),
    one(8, "creationTimestamp", Time),
    one(9, "deletionTimestamp", Time),
    one(10, "deletionGracePeriodSeconds", Number),
    one(11, "labels", TextMap),
    one(12, "annotations", TextMap),
    list(13, "ownerReferences", Message(OWNER)),
    list(14, "finalizers", Text),
    // clusterName, which clients of Kubernetes 1.24 and earlier write.
    one(15, "clusterName", Ignored),
    one(16, "initializers", Ignored),
    list(17, "managedFields", Ignored),
];

const REFERENCE: &[Field] = &[
    one(1, "kind", Text),
    one(2, "namespace", Text),
    one(3, "name", Text),
    one(4, "uid", Text),
    one(5, "apiVersion", Text),
    one(6, "resourceVersion", Text),
    one(7, "fieldPath", Text),
];

const SECRET: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(2, "data", BytesMap),
    one(3, "type", Text),
    one(4, "stringData", TextMap),
    one(5, "immutable", Flag),
];

const CONFIG_MAP: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(2, "data", TextMap),
    one(3, "binaryData", BytesMap),
    one(4, "immutable", Flag),
];

const NAMESPACE: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(2, "spec", Message(&[list(1, "finalizers", Text)])),
    one(
        3,
        "status",
        Message(&[one(1, "phase", Text), list(2, "conditions", Ignored)]),
    ),
];

const SERVICE_ACCOUNT: &[Field] = &[
    one(1, "metadata", Message(META)),
    list(2, "secrets", Message(REFERENCE)),
    list(3, "imagePullSecrets", Message(&[one(1, "name", Text)])),
    one(4, "automountServiceAccountToken", Flag),
];

const PORT: &[Field] = &[
    one(1, "name", Text),
    one(2, "protocol", Text),
    one(3, "port", Number),
    one(4, "targetPort", Target),
    one(5, "nodePort", Count),
    one(6, "appProtocol", Text),
];

const SERVICE: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(
        2,
        "spec",
        Message(&[
            list(1, "ports", Message(PORT)),
            one(2, "selector", TextMap),
            one(3, "clusterIP", Text),
            one(4, "type", Text),
            list(5, "externalIPs", Text),
            one(7, "sessionAffinity", Text),
            one(8, "loadBalancerIP", Text),
            list(9, "loadBalancerSourceRanges", Text),
            one(10, "externalName", Text),
            one(11, "externalTrafficPolicy", Text),
            one(12, "healthCheckNodePort", Count),
            one(13, "publishNotReadyAddresses", Flag),
            one(14, "sessionAffinityConfig", Ignored),
            one(17, "ipFamilyPolicy", Text),
            list(18, "clusterIPs", Text),
            list(19, "ipFamilies", Text),
            one(20, "allocateLoadBalancerNodePorts", Flag),
            one(21, "loadBalancerClass", Text),
            one(22, "internalTrafficPolicy", Text),
            one(23, "trafficDistribution", Text),
        ]),
    ),
    one(3, "status", Ignored),
];

const RULE: &[Field] = &[
    list(1, "verbs", Text),
    list(2, "apiGroups", Text),
    list(3, "resources", Text),
    list(4, "resourceNames", Text),
    list(5, "nonResourceURLs", Text),
];

const ROLE: &[Field] = &[
    one(1, "metadata", Message(META)),
    list(2, "rules", Message(RULE)),
    one(3, "aggregationRule", Ignored),
];

const BINDING: &[Field] = &[
    one(1, "metadata", Message(META)),
    list(
        2,
        "subjects",
        Message(&[
            one(1, "kind", Text),
            one(2, "apiGroup", Text),
            one(3, "name", Text),
            one(4, "namespace", Text),
        ]),
    ),
    one(
        3,
        "roleRef",
        Message(&[
            one(1, "apiGroup", Text),
            one(2, "kind", Text),
            one(3, "name", Text),
        ]),
    ),
];

const BUDGET: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(
        2,
        "spec",
        Message(&[
            one(1, "minAvailable", IntOrText),
            one(
                2,
                "selector",
                Message(&[
                    one(1, "matchLabels", TextMap),
                    list(
                        2,
                        "matchExpressions",
                        Message(&[
                            one(1, "key", Text),
                            one(2, "operator", Text),
                            list(3, "values", Text),
                        ]),
                    ),
                ]),
            ),
            one(3, "maxUnavailable", IntOrText),
            one(4, "unhealthyPodEvictionPolicy", Text),
        ]),
    ),
    one(3, "status", Ignored),
];

const LEASE: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(
        2,
        "spec",
        Message(&[
            one(1, "holderIdentity", Text),
            one(2, "leaseDurationSeconds", Number),
            one(3, "acquireTime", MicroTime),
            one(4, "renewTime", MicroTime),
            one(5, "leaseTransitions", Number),
            one(6, "strategy", Text),
            one(7, "preferredHolder", Text),
        ]),
    ),
];

const DELETE_OPTIONS: &[Field] = &[
    one(1, "gracePeriodSeconds", Number),
    one(
        2,
        "preconditions",
        Message(&[one(1, "uid", Text), one(2, "resourceVersion", Text)]),
    ),
    one(3, "orphanDependents", Flag),
    one(4, "propagationPolicy", Text),
    list(5, "dryRun", Text),
    one(6, "ignoreStoreReadErrorWithClusterBreakingPotential", Flag),
];

const ACCESS_REVIEW: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(
        2,
        "spec",
        Message(&[
            one(
                1,
                "resourceAttributes",
                Message(&[
                    one(1, "namespace", Text),
                    one(2, "verb", Text),
                    one(3, "group", Text),
                    one(4, "version", Text),
                    one(5, "resource", Text),
                    one(6, "subresource", Text),
                    one(7, "name", Text),
                    one(8, "fieldSelector", Ignored),
                    one(9, "labelSelector", Ignored),
                ]),
            ),
            one(
                2,
                "nonResourceAttributes",
                Message(&[one(1, "path", Text), one(2, "verb", Text)]),
            ),
        ]),
    ),
    one(3, "status", Ignored),
];

const RULES_REVIEW: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(2, "spec", Message(&[one(1, "namespace", Text)])),
    one(3, "status", Ignored),
];

const SELF_REVIEW: &[Field] = &[one(1, "metadata", Message(META)), one(2, "status", Ignored)];

const EVICTION: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(2, "deleteOptions", Message(DELETE_OPTIONS)),
];

fn fields_of(kind: &str) -> Option<&'static [Field]> {
    Some(match kind {
        "Secret" => SECRET,
        "ConfigMap" => CONFIG_MAP,
        "Namespace" => NAMESPACE,
        "ServiceAccount" => SERVICE_ACCOUNT,
        "Service" => SERVICE,
        "Role" | "ClusterRole" => ROLE,
        "RoleBinding" | "ClusterRoleBinding" => BINDING,
        "PodDisruptionBudget" => BUDGET,
        "Lease" => LEASE,
        "DeleteOptions" => DELETE_OPTIONS,
        "Eviction" => EVICTION,
        "SelfSubjectAccessReview" => ACCESS_REVIEW,
        "SelfSubjectRulesReview" => RULES_REVIEW,
        "SelfSubjectReview" => SELF_REVIEW,
        _ => return None,
    })
}

/// Reads a body.
///
/// # Errors
/// It is malformed, or of a kind or with a field that is not known here.
pub(super) fn object(body: &[u8]) -> Result<Value, ApiError> {
    let envelope = body
        .strip_prefix(MAGIC)
        .ok_or_else(|| bad("does not begin as Kubernetes' protobuf does"))?;
    // runtime.Unknown: the type, and the object as bytes.
    const TYPE: &[Field] = &[one(1, "apiVersion", Text), one(2, "kind", Text)];
    const UNKNOWN: &[Field] = &[
        one(1, "type", Message(TYPE)),
        one(2, "raw", Bytes),
        one(3, "contentEncoding", Text),
        one(4, "contentType", Text),
    ];
    let mut unknown = message(envelope, UNKNOWN, "", 0)?;
    let kind = unknown["type"]["kind"].as_str().unwrap_or_default().to_owned();
    let fields = fields_of(&kind).ok_or_else(|| {
        ApiError::media_type(
            &format!("application/vnd.kubernetes.protobuf for {kind}"),
            "application/json: write 'kubectl create … --dry-run=client -o yaml | kubectl apply -f -' instead",
        )
    })?;
    let raw = unknown["raw"].as_str().unwrap_or_default();
    let raw = STANDARD.decode(raw).map_err(|_| bad("is cut off"))?;
    let mut object = message(&raw, fields, &kind, 0)?;
    object["apiVersion"] = unknown["type"]["apiVersion"].take();
    object["kind"] = json!(kind);
    Ok(object)
}

fn bad(what: &str) -> ApiError {
    ApiError::bad_request(format!("the protobuf body {what}"))
}

/// A value on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Takes bytes from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64, ApiError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or_else(|| bad("is cut off"))?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(bad("holds a number of more than 64 bits"))
    }

    fn bytes(&mut self, length: u64) -> Result<&'a [u8], ApiError> {
        let length = usize::try_from(length).map_err(|_| bad("is cut off"))?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(|| bad("is cut off"))?;
        self.0 = rest;
        Ok(bytes)
    }

    /// The number of the next field, and its value.
    fn field(&mut self) -> Result<Option<(u64, Wire<'a>)>, ApiError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Bytes(self.bytes(8)?),
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.bytes(length)?)
            }
            5 => Wire::Bytes(self.bytes(4)?),
            _ => return Err(bad("has a field of an unknown form")),
        };
        Ok(Some((tag >> 3, wire)))
    }
}

fn message(bytes: &[u8], fields: &[Field], place: &str, depth: usize) -> Result<Value, ApiError> {
    if depth > DEEPEST {
        return Err(bad("is nested too deeply"));
    }
    let mut out = Map::new();
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.field()? {
        let Some(Field(_, name, kind, many)) = fields.iter().find(|field| field.0 == number) else {
            return Err(bad(&format!(
                "has field {number} in {place}, which is not known here"
            )));
        };
        if let Kind::Map | Kind::BytesMap = kind {
            let (key, value) = entry(&wire, matches!(kind, Kind::BytesMap))?;
            let map = out.entry(*name).or_insert_with(|| json!({}));
            map[key] = value;
            continue;
        }
        let Some(value) = value(&wire, *kind, &format!("{place}.{name}"), depth)? else {
            continue;
        };
        if *many {
            match out.entry(*name).or_insert_with(|| json!([])) {
                Value::Array(items) => items.push(value),
                other => *other = value,
            }
        } else if !is_default(*kind, &value) {
            // Go writes fields that are not set as empty ones.
            out.insert((*name).to_owned(), value);
        }
    }
    Ok(Value::Object(out))
}

fn is_default(kind: Kind, value: &Value) -> bool {
    match (kind, value) {
        (Kind::Text, Value::String(text)) => text.is_empty(),
        (Kind::Message(_), Value::Object(map)) => map.is_empty(),
        (Kind::Count | Kind::Target, value) => *value == 0,
        _ => false,
    }
}

fn value(wire: &Wire<'_>, kind: Kind, place: &str, depth: usize) -> Result<Option<Value>, ApiError> {
    let wrong = || bad(&format!("has a value of another type at {place}"));
    Ok(Some(match (kind, wire) {
        (Kind::Ignored, _) => return Ok(None),
        (Kind::Text, Wire::Bytes(bytes)) => json!(text(bytes)?),
        (Kind::Bytes, Wire::Bytes(bytes)) => json!(STANDARD.encode(bytes)),
        // Numbers are signed, in two's complement.
        (Kind::Number | Kind::Count, Wire::Number(number)) => json!(number.cast_signed()),
        (Kind::Flag, Wire::Number(number)) => json!(*number != 0),
        (Kind::Message(fields), Wire::Bytes(bytes)) => message(bytes, fields, place, depth + 1)?,
        (Kind::Time | Kind::MicroTime, Wire::Bytes(bytes)) => {
            let (mut seconds, mut nanos) = (0, 0);
            let mut reader = Reader(bytes);
            while let Some((number, wire)) = reader.field()? {
                match (number, wire) {
                    (1, Wire::Number(number)) => seconds = number.cast_signed(),
                    (2, Wire::Number(number)) => nanos = i32::try_from(number.cast_signed()).unwrap_or(0),
                    _ => {}
                }
            }
            // An empty time is none.
            if seconds == 0 && nanos == 0 {
                return Ok(None);
            }
            let time = jiff::Timestamp::new(seconds, nanos).map_err(|_| wrong())?;
            json!(match kind {
                Kind::MicroTime => format!("{time:.6}"),
                _ => format!("{time:.0}"),
            })
        }
        (Kind::IntOrText | Kind::Target, Wire::Bytes(bytes)) => {
            let (mut is_text, mut number, mut word) = (false, 0, String::new());
            let mut reader = Reader(bytes);
            while let Some((field, wire)) = reader.field()? {
                match (field, wire) {
                    (1, Wire::Number(kind)) => is_text = kind == 1,
                    (2, Wire::Number(value)) => number = value.cast_signed(),
                    (3, Wire::Bytes(bytes)) => word = text(bytes)?,
                    _ => {}
                }
            }
            if is_text { json!(word) } else { json!(number) }
        }
        _ => return Err(wrong()),
    }))
}

fn text(bytes: &[u8]) -> Result<String, ApiError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| bad("holds text that is not UTF-8"))
}

/// One entry of a map: field 1 is the key, field 2 the value.
fn entry(wire: &Wire<'_>, of_bytes: bool) -> Result<(String, Value), ApiError> {
    let Wire::Bytes(bytes) = wire else {
        return Err(bad("has a map of another form"));
    };
    let (mut key, mut value) = (String::new(), &b""[..]);
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    let value = if of_bytes {
        json!(STANDARD.encode(value))
    } else {
        json!(text(value)?)
    };
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend(bytes);
        out
    }

    fn body(kind: &str, object: &[u8]) -> Vec<u8> {
        let of = [part(1, b"v1"), part(2, kind.as_bytes())].concat();
        [MAGIC, &part(1, &of), &part(2, object)].concat()
    }

    #[test]
    fn a_secret_is_read() {
        let meta = [
            part(1, b"a"),
            part(3, b""),
            part(8, b""),
            part(11, &[part(1, b"k"), part(2, b"v")].concat()),
        ]
        .concat();
        let secret = [
            part(1, &meta),
            part(2, &[part(1, b"password"), part(2, b"\x00x")].concat()),
            part(3, b"Opaque"),
        ]
        .concat();
        assert_eq!(
            object(&body("Secret", &secret)).unwrap(),
            json!({
                "metadata": {"name": "a", "labels": {"k": "v"}}, "data": {"password": "AHg="}, "type": "Opaque",
                "apiVersion": "v1", "kind": "Secret",
            })
        );
    }

    #[test]
    fn what_is_broken_or_not_known_is_an_error() {
        let secret = part(1, &part(1, b"a"));
        let whole = body("Secret", &secret);
        for end in 0..whole.len() {
            // Shorter bodies may be right ones; none may panic.
            let _ = object(&whole[..end]);
        }
        assert!(object(b"{}").is_err());
        assert!(
            object(&body("Deployment", b""))
                .unwrap_err()
                .message
                .contains("for Deployment")
        );
        let error = object(&body("Secret", &part(15, b"x"))).unwrap_err();
        assert!(error.message.contains("field 15 in Secret"), "{error}");
    }
}
