use serde_json::{Value, json};

use super::{Api, reply::Reply, request::Request, route::Target};
use crate::{ApiError, meta, resources::Resource, store::Write};

/// What a client says about a deletion.
#[derive(Clone, Default)]
struct Options {
    grace: Option<u64>,
    propagation: String,
    uid: Option<String>,
    version: Option<String>,
    dry_run: bool,
}

impl Options {
    fn of(request: &Request) -> Result<Self, ApiError> {
        let body = if request.body.is_empty() {
            json!({})
        } else {
            request.object()?
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let from_query = |name: &str| {
            Some(request.query(name))
                .filter(|v| !v.is_empty())
                .map(str::to_owned)
        };
        let told = body["dryRun"].as_array().into_iter().flatten();
        if let Some(wrong) = told.into_iter().find(|value| **value != "All") {
            return Err(ApiError::bad_request(format!(
                "invalid dryRun {wrong}: only \"All\" is known"
            )));
        }
        Ok(Options {
            grace: body["gracePeriodSeconds"]
                .as_u64()
                .or_else(|| request.query("gracePeriodSeconds").parse().ok()),
            propagation: text(&body["propagationPolicy"])
                .or_else(|| from_query("propagationPolicy"))
                .unwrap_or_else(|| "Background".into()),
            uid: text(&body["preconditions"]["uid"]),
            version: text(&body["preconditions"]["resourceVersion"]),
            dry_run: request.dry_run()? || body["dryRun"][0] == "All",
        })
    }
}

impl Api {
    /// `DELETE` of one object.
    pub(super) fn delete(&self, request: &Request, target: &Target) -> Result<Reply, ApiError> {
        let options = Options::of(request)?;
        let name = target.name.as_deref().unwrap_or_default();
        let (gone, object) = self.end(&target.resource, &target.namespace, name, &options)?;
        if !gone {
            return Ok(Reply::json(&object));
        }
        Ok(Reply::json(&json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {"name": name, "group": target.resource.group, "kind": target.resource.plural, "uid": meta::uid(&object)},
        })))
    }

    /// `DELETE` of all objects that a selector matches.
    pub(super) fn delete_all(&self, request: &Request, target: &Target) -> Result<Reply, ApiError> {
        let options = Options::of(request)?;
        let selector = request.selector()?;
        let namespace = Some(target.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let mut items = Vec::new();
        for object in self.store.all(&target.resource.id(), namespace) {
            if !selector.matches(&object) {
                continue;
            }
            match self.end(
                &target.resource,
                meta::namespace(&object),
                meta::name(&object),
                &options,
            ) {
                Ok((_, object)) => items.push(object),
                Err(error) if error.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Reply::json(&json!({
            "kind": target.resource.list_kind, "apiVersion": target.resource.api_version(), "metadata": {}, "items": items,
        })))
    }

    /// Ends an object: at once, or as soon as those who hold it let go.
    fn end(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        options: &Options,
    ) -> Result<(bool, Value), ApiError> {
        if resource.kind == "Namespace" && KEPT.contains(&name) {
            return Err(ApiError::forbidden(format!(
                "namespaces \"{name}\" is forbidden: this namespace may not be deleted"
            )));
        }
        let mut gone = false;
        let mut shown = Value::Null;
        self.store.write(&resource.id(), namespace, name, |before| {
            let before = before.ok_or_else(|| ApiError::not_found(&resource.full_name(), name))?;
            shown = before.clone();
            let differs =
                |wanted: &Option<String>, have: &str| wanted.as_ref().is_some_and(|wanted| wanted != have);
            if differs(&options.uid, meta::uid(before))
                || differs(&options.version, meta::text(before, "resourceVersion"))
            {
                return Err(ApiError::conflict(
                    &resource.full_name(),
                    name,
                    "the precondition of the deletion does not hold",
                ));
            }
            if options.dry_run {
                return Ok(Write::Nothing);
            }
            let mut after = before.clone();
            let waits = match resource.kind.as_str() {
                "Pod" | "Namespace" => true,
                // As Kubernetes does: a claim goes when no pod uses it any more.
                "PersistentVolumeClaim" => {
                    protect(&mut after);
                    true
                }
                _ => held(&mut after, &options.propagation),
            };
            if !waits {
                gone = true;
                return Ok(Write::Delete);
            }
            let default = before["spec"]["terminationGracePeriodSeconds"]
                .as_u64()
                .unwrap_or(30);
            let grace = if resource.kind == "Pod" {
                options.grace.unwrap_or(default)
            } else {
                0
            };
            let earlier = before["metadata"]["deletionGracePeriodSeconds"].as_u64();
            if !meta::is_ending(before) {
                meta::set(
                    &mut after,
                    &["metadata", "deletionTimestamp"],
                    json!(meta::timestamp()),
                );
            }
            // A second deletion can only shorten the first.
            let grace = earlier.map_or(grace, |earlier| earlier.min(grace));
            meta::set(
                &mut after,
                &["metadata", "deletionGracePeriodSeconds"],
                json!(grace),
            );
            shown = after.clone();
            Ok(Write::Put(after))
        })?;
        Ok((gone, shown))
    }
}

/// Namespaces that are always there.
const KEPT: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// The finalizer of claims.
pub(crate) const IN_USE: &str = "kubernetes.io/pvc-protection";

/// Keeps a claim until no pod uses it.
pub(crate) fn protect(claim: &mut Value) {
    let mut finalizers = claim["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer == IN_USE) {
        finalizers.push(json!(IN_USE));
        meta::set(claim, &["metadata", "finalizers"], json!(finalizers));
    }
}

/// What holds the object: its finalizers, or what depends on it where the client wants that to go first.
fn held(object: &mut Value, propagation: &str) -> bool {
    let mut finalizers = object["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let own = match propagation {
        "Foreground" => Some("foregroundDeletion"),
        "Orphan" => Some("orphan"),
        _ => None,
    };
    if let Some(own) = own
        && !finalizers.iter().any(|f| f == own)
    {
        finalizers.push(json!(own));
        meta::set(object, &["metadata", "finalizers"], json!(finalizers));
    }
    !finalizers.is_empty()
}
