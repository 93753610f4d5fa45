use serde_json::{Value, json};

use super::{
    Api,
    metadata::metadata_only,
    reply::Reply,
    request::{Form, Request},
    route::Target,
    table,
};
use crate::{ApiError, meta, resources::Resource};

impl Api {
    /// One object.
    pub(super) fn get(&self, request: &Request, target: &Target) -> Result<Reply, ApiError> {
        let object = self.fetch(target)?;
        Ok(Reply::json(&match request.form() {
            Form::Plain => object,
            Form::MetadataOnly => metadata_only(&object),
            Form::Table => table::table(&target.resource, &[object], "", request.query("includeObject")),
        }))
    }

    pub(super) fn fetch(&self, target: &Target) -> Result<Value, ApiError> {
        let name = target.name.as_deref().unwrap_or_default();
        self.store
            .get(&target.resource.id(), &target.namespace, name)
            .map(|object| (*object).clone())
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
            None => String::new(),
        };
        let limit = request
            .query("limit")
            .parse::<usize>()
            .ok()
            .filter(|limit| *limit > 0);
        let mut found = objects
            .iter()
            .filter(|object| selector.matches(object))
            .filter(|object| after.is_empty() || place(object) > after);
        let page: Vec<Value> = match limit {
            Some(limit) => found
                .by_ref()
                .take(limit)
                .map(|object| (**object).clone())
                .collect(),
            None => found.by_ref().map(|object| (**object).clone()).collect(),
        };
        let remaining = found.count();
        let mut metadata = json!({ "resourceVersion": revision });
        if remaining > 0
            && let Some(last) = page.last()
        {
            metadata["continue"] = json!(format!("{revision} {}", place(last)));
            metadata["remainingItemCount"] = json!(remaining);
        }
        let resource = &target.resource;
        Ok(Reply::json(&match request.form() {
            Form::Plain => list_of(resource, page, &metadata),
            Form::MetadataOnly => {
                let items: Vec<Value> = page.iter().map(metadata_only).collect();
                json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items})
            }
            Form::Table => {
                let mut table = table::table(resource, &page, &revision, request.query("includeObject"));
                table["metadata"] = metadata;
                table
            }
        }))
    }
}

fn list_of(resource: &Resource, items: Vec<Value>, metadata: &Value) -> Value {
    json!({
        "kind": resource.list_kind, "apiVersion": resource.api_version(), "metadata": metadata, "items": items,
    })
}
