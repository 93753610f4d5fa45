//! Manifests of any content are read or refused; the lint names what is wrong with them and never stops.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    missing_docs,
    reason = "a test fails by panicking, and not every test uses every helper"
)]

#[path = "../../../../tests/any/mod.rs"]
mod any;

use howdah_manifest::{Manifest, Quantity, Status, lint, role_flags, unsupported};
use proptest::prelude::*;
use serde_json::{Value, json};

const MANIFEST: &str = include_str!("../../../../examples/minimal-postgres-manifest.yaml");

fn manifest() -> Value {
    json!({
        "apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
        "metadata": {"name": "acid-c", "namespace": "default", "uid": "u", "generation": 3},
        "spec": {
            "teamId": "acid", "volume": {"size": "1Gi"}, "numberOfInstances": 2,
            "users": {"app": ["createdb", "nologin"], "other": []}, "databases": {"app": "app"},
            "preparedDatabases": {"bar": {"defaultUsers": true, "extensions": {"pg_trgm": "public"},
                "schemas": {"data": {"defaultRoles": false}}}},
            "postgresql": {"version": "17", "parameters": {"max_connections": "100"}},
            "patroni": {"ttl": 30, "synchronous_mode": true, "pg_hba": ["local all all trust"]},
            "resources": {"requests": {"cpu": "10m", "memory": "100Mi"}, "limits": {"cpu": 1, "memory": "1Gi"}},
            "tolerations": [{"key": "a", "operator": "Exists"}], "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}},
            "allowedSourceRanges": ["10.0.0.0/8"], "env": [{"name": "A", "value": "b"}],
        },
    })
}

proptest! {
    #[test]
    fn objects(object in any::damaged(manifest())) {
        if let Err(error) = Manifest::read(&object) {
            prop_assert!(!error.to_string().is_empty());
        }
        let _ = (Status::read(&object), unsupported(&any::object(&object["spec"])));
    }

    #[test]
    fn texts(text in any::damaged_text(MANIFEST), words in prop::collection::vec(any::<String>(), 0..4)) {
        let _ = (lint::lint(&text), role_flags(&words), text.parse::<Quantity>());
    }
}
