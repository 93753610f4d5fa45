use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Api,
    metadata::metadata_only,
    reply::Reply,
    request::{Form, Request},
    route::Target,
    table,
};
use crate::{ApiError, meta, resources::Resource, store::Stored};

impl Api {
    /// One object.
    pub(super) fn get(&self, request: &Request, target: &Target) -> Result<Reply, ApiError> {
        let found = self.version(target)?;
        let object = &*found.object;
        Ok(match request.form() {
            Form::Plain => Reply::object(&found),
            Form::MetadataOnly => Reply::json(&metadata_only(object)),
            Form::Table => Reply::json(&table::table(
                &target.resource,
                &[object],
                "",
                request.query("includeObject"),
            )),
        })
    }

    pub(super) fn fetch(&self, target: &Target) -> Result<Arc<Value>, ApiError> {
        Ok(self.version(target)?.object)
    }

    fn version(&self, target: &Target) -> Result<Stored, ApiError> {
        let name = target.name.as_deref().unwrap_or_default();
        self.store
            .version(&target.resource.id(), &target.namespace, name)
            .ok_or_else(|| ApiError::not_found(&target.resource.full_name(), name))
    }

    /// A list, or a page of it. A `continue` token is the name after which to go on, and the revision of the first
    /// page; the store keeps no old revisions, so a page shows what is there when it is asked for.
    pub(super) fn list(&self, request: &Request, target: &Target) -> Result<Reply, ApiError> {
        let selector = request.selector()?;
        let namespace = Some(target.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let (revision, objects) = self.store.list(&target.resource.id(), namespace);
        let mut revision = revision.to_string();
        let token = request.query("continue");
        let place = |object: &Value| format!("{}/{}", meta::namespace(object), meta::name(object));
        let after = match token.split_once(' ') {
            Some((first, after)) => {
                revision = first.to_owned();
                after.to_owned()
            }
            None if token.is_empty() => String::new(),
            None => return Err(ApiError::bad_request("the continue token is not valid")),
        };
        let limit = number(request, "limit")?.and_then(|limit| usize::try_from(limit).ok());
        let limit = limit.filter(|limit| *limit > 0);
        number(request, "resourceVersion")?;
        let mut found = objects
            .iter()
            .filter(|version| selector.matches(&version.face))
            .filter(|version| after.is_empty() || place(&version.object) > after);
        let page: Vec<&Stored> = found.by_ref().take(limit.unwrap_or(usize::MAX)).collect();
        let remaining = found.count();
        let mut metadata = json!({ "resourceVersion": revision });
        if remaining > 0
            && let Some(last) = page.last()
        {
            metadata["continue"] = json!(format!("{revision} {}", place(&last.object)));
            metadata["remainingItemCount"] = json!(remaining);
        }
        let resource = &target.resource;
        let objects = page.iter().map(|version| &*version.object);
        Ok(match request.form() {
            Form::Plain => Reply::json_text(list_of(resource, &page, &metadata)),
            Form::MetadataOnly => {
                let items: Vec<Value> = objects.map(metadata_only).collect();
                Reply::json(&json!({
                    "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items,
                }))
            }
            Form::Table => {
                let objects: Vec<&Value> = objects.collect();
                let mut table = table::table(resource, &objects, &revision, request.query("includeObject"));
                table["metadata"] = metadata;
                Reply::json(&table)
            }
        })
    }
}

/// A parameter of a request that is a number.
fn number(request: &Request, name: &str) -> Result<Option<u64>, ApiError> {
    let text = request.query(name);
    if text.is_empty() {
        return Ok(None);
    }
    let number = text.parse();
    number
        .map(Some)
        .map_err(|_| ApiError::bad_request(format!("{name}: \"{text}\" is not a number")))
}

/// A list in JSON, of the texts that the store has.
fn list_of(resource: &Resource, items: &[&Stored], metadata: &Value) -> String {
    let (kind, version) = (json!(resource.list_kind), json!(resource.api_version()));
    let texts: Vec<&str> = items.iter().map(|item| &*item.text).collect();
    let items = texts.join(",");
    format!("{{\"kind\":{kind},\"apiVersion\":{version},\"metadata\":{metadata},\"items\":[{items}]}}")
}
