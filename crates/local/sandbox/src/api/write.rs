use serde_json::{Value, json};

use super::{Api, reply::Reply, request::Request, route::Target};
use crate::{
    ApiError, builtin, defaults, fields,
    fields::Lists,
    labelled, meta, patch,
    resources::Resource,
    schema,
    store::{Stored, Write},
};

/// How a change is to be carried out.
pub(super) struct Change {
    manager: String,
    /// Server-side apply has noted the owners itself.
    tracked: bool,
    status: bool,
    dry_run: bool,
    strict: bool,
}

impl Change {
    pub(super) fn of(request: &Request, target: &Target) -> Result<Self, ApiError> {
        Ok(Change {
            manager: request.manager(),
            tracked: false,
            status: target.sub.as_deref() == Some("status"),
            dry_run: request.dry_run()?,
            strict: request.query("fieldValidation") == "Strict",
        })
    }

    fn subresource(&self) -> &'static str {
        if self.status { "status" } else { "" }
    }
}

fn lists(resource: &Resource) -> Lists<'_> {
    match &resource.custom {
        Some(version) => Lists::Custom(&version["schema"]["openAPIV3Schema"]),
        None => Lists::BuiltIn,
    }
}

impl Api {
    /// `POST`
    pub(super) fn create(&self, request: &Request, target: &Target) -> Result<Reply, ApiError> {
        let mut object = request.object()?;
        complete(&target.resource, &mut object);
        let change = Change::of(request, target)?;
        let (object, warnings) = self.add(target, object, &change)?;
        Ok(Reply::object(&object).created().warn(warnings))
    }

    /// `PUT`
    pub(super) fn update(&self, request: &Request, target: &Target) -> Result<Reply, ApiError> {
        let mut body = request.object()?;
        complete(&target.resource, &mut body);
        expect_kind(&target.resource, &body)?;
        let change = Change::of(request, target)?;
        let warnings = std::cell::RefCell::new(Vec::new());
        let object = self.change(target, &change, |_| {
            let mut after = body.clone();
            *warnings.borrow_mut() = conform(&target.resource, &mut after, change.strict)?;
            Ok(after)
        })?;
        Ok(Reply::object(&object).warn(warnings.into_inner()))
    }

    /// `PATCH`
    pub(super) fn patch(&self, request: &Request, target: &Target) -> Result<Reply, ApiError> {
        let body = request.object()?;
        let mut change = Change::of(request, target)?;
        let kind = request.content_type().to_owned();
        let builtin = target.resource.custom.is_none();
        match kind.as_str() {
            "application/apply-patch+yaml" => return self.apply(request, target, change, &body),
            "application/merge-patch+json" | "application/json-patch+json" => {}
            "application/strategic-merge-patch+json" if builtin => {}
            other => {
                let mut offered =
                    "application/merge-patch+json, application/json-patch+json, application/apply-patch+yaml"
                        .to_owned();
                if builtin {
                    offered.push_str(", application/strategic-merge-patch+json");
                }
                return Err(ApiError::media_type(other, &offered));
            }
        }
        change.tracked = false;
        let warnings = std::cell::RefCell::new(Vec::new());
        let object = self.change(target, &change, |before| {
            let mut after = before.clone();
            match kind.as_str() {
                "application/json-patch+json" => patch::json(&mut after, &body)?,
                "application/strategic-merge-patch+json" => patch::strategic(&mut after, &body),
                _ => patch::merge(&mut after, &body),
            }
            if !differs_by_annotations(before, &after) {
                *warnings.borrow_mut() = conform(&target.resource, &mut after, change.strict)?;
            }
            Ok(after)
        })?;
        Ok(Reply::object(&object).warn(warnings.into_inner()))
    }

    fn apply(
        &self,
        request: &Request,
        target: &Target,
        mut change: Change,
        body: &Value,
    ) -> Result<Reply, ApiError> {
        if request.query("fieldManager").is_empty() {
            return Err(ApiError::bad_request("fieldManager is required for an apply"));
        }
        expect_kind(&target.resource, body)?;
        if !body["metadata"]["managedFields"].is_null() {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        let mut applied = body.clone();
        let warnings = prune(&target.resource, &mut applied, change.strict)?;
        // Keys of lists, such as a port's protocol, must be there before items are compared.
        defaults_of_keys(&target.resource, &mut applied);
        let force = request.is_set("force");
        let (manager, sub) = (change.manager.clone(), change.subresource());
        let lists = lists(&target.resource);
        change.tracked = true;
        let name = target.name.as_deref().unwrap_or_default();
        if self
            .store
            .get(&target.resource.id(), &target.namespace, name)
            .is_none()
            && sub.is_empty()
        {
            meta::set(&mut applied, &["metadata", "name"], json!(name));
            let mut object = fields::apply(None, &applied, &manager, sub, force, lists)?;
            conform(&target.resource, &mut object, change.strict)?;
            match self.add(target, object, &change) {
                Ok((object, _)) => return Ok(Reply::object(&object).created().warn(warnings)),
                // Another client was faster: apply on top.
                Err(error) if error.reason == "AlreadyExists" => {}
                Err(error) => return Err(error),
            }
        }
        let object = self.change(target, &change, |before| {
            let mut after = fields::apply(Some(before), &applied, &manager, sub, force, lists)?;
            conform(&target.resource, &mut after, change.strict)?;
            if let Some(version) = applied["metadata"]["resourceVersion"].as_str() {
                meta::set(&mut after, &["metadata", "resourceVersion"], json!(version));
            }
            Ok(after)
        })?;
        Ok(Reply::object(&object).warn(warnings))
    }

    /// Adds an object.
    fn add(
        &self,
        target: &Target,
        object: Value,
        change: &Change,
    ) -> Result<(Stored, Vec<String>), ApiError> {
        let resource = &target.resource;
        expect_kind(resource, &object)?;
        let mut object = object;
        let name = new_name(resource, target, &mut object)?;
        labelled::check(&resource.kind, &Value::Null, &object)?;
        self.place(target, &mut object)?;
        let warnings = if change.tracked {
            Vec::new()
        } else {
            conform(resource, &mut object, change.strict)?
        };
        if resource.status
            && let Some(map) = object.as_object_mut()
        {
            map.shift_remove("status");
        }
        defaults::fill(&resource.kind, &mut object);
        self.admit(resource, &mut object)?;
        for gone in [
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
        ] {
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.shift_remove(gone);
            }
        }
        meta::set(&mut object, &["metadata", "uid"], json!(meta::uuid()));
        meta::set(
            &mut object,
            &["metadata", "creationTimestamp"],
            json!(meta::timestamp()),
        );
        meta::set(&mut object, &["metadata", "generation"], json!(1));
        if !change.tracked {
            fields::track(None, &mut object, &change.manager, "", lists(resource));
        }
        let exists = || ApiError::exists(&resource.full_name(), &name);
        if change.dry_run {
            return match self.store.get(&resource.id(), &target.namespace, &name) {
                Some(_) => Err(exists()),
                None => Ok((Stored::new(object), warnings)),
            };
        }
        let written = self
            .store
            .write(&resource.id(), &target.namespace, &name, |before| match before {
                Some(_) => Err(exists()),
                None => Ok(Write::Put(object)),
            })?;
        let written = written.ok_or_else(|| ApiError::internal("a written object is not there"))?;
        Ok((written, warnings))
    }

    /// Puts an object into the namespace of the path, which must exist.
    fn place(&self, target: &Target, object: &mut Value) -> Result<(), ApiError> {
        if !target.resource.namespaced {
            return Ok(());
        }
        let own = meta::namespace(object);
        if !own.is_empty() && own != target.namespace {
            return Err(ApiError::bad_request(format!(
                "the namespace of the object ({own}) does not match the namespace of the request ({})",
                target.namespace
            )));
        }
        if self.store.get("/namespaces", "", &target.namespace).is_none() {
            return Err(ApiError::not_found("namespaces", &target.namespace));
        }
        meta::set(object, &["metadata", "namespace"], json!(target.namespace));
        Ok(())
    }

    /// What the API server itself decides about new objects.
    fn admit(&self, resource: &Resource, object: &mut Value) -> Result<(), ApiError> {
        match resource.kind.as_str() {
            "Service"
                if object["spec"]["clusterIP"].is_null() && object["spec"]["type"] != "ExternalName" =>
            {
                let address = self.node.addresses.service().map_err(ApiError::internal)?;
                object["spec"]["clusterIP"] = json!(address);
                object["spec"]["clusterIPs"] = json!([address]);
            }
            "Namespace" => object["status"] = json!({"phase": "Active"}),
            "Pod" => object["status"] = json!({"phase": "Pending"}),
            "CustomResourceDefinition" => {
                let names = object["spec"]["names"].clone();
                let condition = |kind: &str| {
                    json!({"type": kind, "status": "True", "reason": "InitialNamesAccepted", "message": "",
                        "lastTransitionTime": meta::timestamp()})
                };
                object["status"] = json!({
                    "acceptedNames": names,
                    "conditions": [condition("NamesAccepted"), condition("Established")],
                    "storedVersions": [object["spec"]["versions"][0]["name"]],
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Changes an object in one step: `edit` makes the new one from the old.
    pub(super) fn change(
        &self,
        target: &Target,
        change: &Change,
        edit: impl FnOnce(&Value) -> Result<Value, ApiError>,
    ) -> Result<Stored, ApiError> {
        let resource = &target.resource;
        let name = target.name.as_deref().unwrap_or_default();
        // What a dry run would have made.
        let mut tried = None;
        let written = self
            .store
            .write(&resource.id(), &target.namespace, name, |before| {
                let before = before.ok_or_else(|| ApiError::not_found(&resource.full_name(), name))?;
                let mut after = edit(before)?;
                well_formed(&after)?;
                same_place(before, &after)?;
                labelled::check(&resource.kind, before, &after)?;
                let wanted = meta::text(&after, "resourceVersion");
                if !wanted.is_empty() && wanted != meta::text(before, "resourceVersion") {
                    return Err(ApiError::modified(&resource.full_name(), name));
                }
                let wanted = meta::uid(&after);
                if !wanted.is_empty() && wanted != meta::uid(before) {
                    return Err(ApiError::conflict(
                        &resource.full_name(),
                        name,
                        "the UID is that of another object",
                    ));
                }
                keep_fixed(before, &mut after);
                if resource.kind == "Service" {
                    keep_allocated(before, &mut after);
                }
                isolate_status(resource, change.status, before, &mut after);
                defaults::fill(&resource.kind, &mut after);
                allowed(resource, before, &after)?;
                if !meta::same_but(before, &after, &["metadata", "status"]) {
                    let generation = before["metadata"]["generation"].as_u64().unwrap_or(1) + 1;
                    meta::set(&mut after, &["metadata", "generation"], json!(generation));
                }
                if !change.tracked {
                    // A client may rewrite who owns what (kubectl does, when it moves from one kind of apply to the other);
                    // one that says nothing about it changes nothing.
                    if !after["metadata"]["managedFields"].is_array() {
                        after["metadata"]["managedFields"] = before["metadata"]["managedFields"].clone();
                    }
                    fields::track(
                        Some(before),
                        &mut after,
                        &change.manager,
                        change.subresource(),
                        lists(resource),
                    );
                }
                if same_but_times(before, &after) {
                    return Ok(Write::Nothing);
                }
                if change.dry_run {
                    tried = Some(Stored::new(after));
                    return Ok(Write::Nothing);
                }
                let free = after["metadata"]["finalizers"]
                    .as_array()
                    .is_none_or(Vec::is_empty);
                // A pod goes when its node has ended it.
                if meta::is_ending(&after) && free && resource.kind != "Pod" {
                    return Ok(Write::Delete);
                }
                Ok(Write::Put(after))
            })?;
        let found = tried.or(written);
        found.ok_or_else(|| ApiError::not_found(&resource.full_name(), name))
    }
}

/// Whether the parts of an object are mappings, which everything after this counts on.
fn well_formed(object: &Value) -> Result<(), ApiError> {
    let fits = |part: &Value| part.is_null() || part.is_object();
    let metadata = &object["metadata"];
    if object.is_object()
        && metadata.is_object()
        && fits(&metadata["labels"])
        && fits(&metadata["annotations"])
        && fits(&object["spec"])
        && fits(&object["status"])
    {
        return Ok(());
    }
    Err(ApiError::bad_request(
        "metadata, its labels and annotations, spec and status must be mappings",
    ))
}

/// A name or namespace in the body is that of the path.
fn same_place(before: &Value, after: &Value) -> Result<(), ApiError> {
    for (key, what) in [("name", "name"), ("namespace", "namespace")] {
        let (have, told) = (meta::text(before, key), meta::text(after, key));
        if !told.is_empty() && told != have {
            return Err(ApiError::bad_request(format!(
                "the {what} of the object ({told}) does not match the {what} on the URL ({have})"
            )));
        }
    }
    Ok(())
}

/// A body without them has the kind and version of its path, as clients in Python send it.
fn complete(resource: &Resource, object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        for (key, value) in [
            ("apiVersion", resource.api_version()),
            ("kind", resource.kind.clone()),
        ] {
            if map.get(key).is_none_or(|have| have.is_null() || have == "") {
                map.insert(key.into(), json!(value));
            }
        }
    }
}

fn expect_kind(resource: &Resource, object: &Value) -> Result<(), ApiError> {
    well_formed(object)?;
    let (version, kind) = (resource.api_version(), &resource.kind);
    if object["kind"] != kind.as_str() || object["apiVersion"] != version.as_str() {
        return Err(ApiError::bad_request(format!(
            "the object is {} of {}, and this path is for {kind} of {version}",
            object["kind"], object["apiVersion"]
        )));
    }
    Ok(())
}

fn new_name(resource: &Resource, target: &Target, object: &mut Value) -> Result<String, ApiError> {
    let mut name = target
        .name
        .clone()
        .unwrap_or_else(|| meta::name(object).to_owned());
    if name.is_empty() {
        let prefix = meta::text(object, "generateName");
        if prefix.is_empty() {
            let causes = [(
                "metadata.name".to_owned(),
                "Required value: name or generateName is required".to_owned(),
            )];
            return Err(ApiError::invalid(&resource.kind, "", &causes));
        }
        name = format!("{prefix}{}", meta::suffix(5));
    }
    let fits = name.len() <= 253
        && name.split('.').all(|part| {
            !part.is_empty()
                && !part.starts_with('-')
                && !part.ends_with('-')
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        });
    // Roles and the like may have colons in their names.
    if !fits && resource.group != "rbac.authorization.k8s.io" {
        let reason = format!(
            "Invalid value: \"{name}\": must consist of lower case letters, digits, '-' and '.', and begin and end with a letter or digit"
        );
        return Err(ApiError::invalid(
            &resource.kind,
            &name,
            &[("metadata.name".into(), reason)],
        ));
    }
    meta::set(object, &["metadata", "name"], json!(name));
    Ok(name)
}

/// Takes unknown fields out of what is applied, which need not be a whole object: that is checked when it is put together.
fn prune(resource: &Resource, applied: &mut Value, strict: bool) -> Result<Vec<String>, ApiError> {
    let Some(version) = &resource.custom else {
        // A part of an object need not fit its type; the whole is checked when it is put together.
        let told = builtin::check(&resource.kind, applied).unwrap_or_default();
        return unknown(&told, strict);
    };
    let report = schema::conform(applied, &version["schema"]["openAPIV3Schema"]);
    unknown(&report.unknown, strict)
}

fn unknown(paths: &[String], strict: bool) -> Result<Vec<String>, ApiError> {
    let told: Vec<String> = paths
        .iter()
        .map(|path| format!("unknown field \"{path}\""))
        .collect();
    if strict && !told.is_empty() {
        return Err(ApiError::bad_request(format!(
            "strict decoding error: {}",
            told.join(", ")
        )));
    }
    Ok(told)
}

/// Checks an object against its schema or its type. Unknown fields are refused, or reported and taken out.
fn conform(resource: &Resource, object: &mut Value, strict: bool) -> Result<Vec<String>, ApiError> {
    let Some(version) = &resource.custom else {
        return unknown(&builtin::check(&resource.kind, object)?, strict);
    };
    let report = schema::conform(object, &version["schema"]["openAPIV3Schema"]);
    if !report.wrong.is_empty() {
        return Err(ApiError::invalid(
            &resource.kind,
            meta::name(object),
            &report.wrong,
        ));
    }
    unknown(&report.unknown, strict)
}

fn defaults_of_keys(resource: &Resource, applied: &mut Value) {
    let mut full = applied.clone();
    defaults::fill(&resource.kind, &mut full);
    let ports = |object: &mut Value| {
        for port in object.as_array_mut().into_iter().flatten() {
            if port.is_object() && port["protocol"].is_null() {
                port["protocol"] = json!("TCP");
            }
        }
    };
    match resource.kind.as_str() {
        "Service" => {
            if let Some(list) = applied.pointer_mut("/spec/ports") {
                ports(list);
            }
        }
        "StatefulSet" | "Deployment" | "Pod" => {
            let place = if resource.kind == "Pod" {
                "/spec/containers"
            } else {
                "/spec/template/spec/containers"
            };
            let containers = applied.pointer_mut(place).and_then(Value::as_array_mut);
            for list in containers
                .into_iter()
                .flatten()
                .filter_map(|container| container.get_mut("ports"))
            {
                ports(list);
            }
        }
        "Secret" => *applied = full,
        _ => {}
    }
}

/// Metadata that no client changes.
fn keep_fixed(before: &Value, after: &mut Value) {
    for fixed in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ] {
        let value = &before["metadata"][fixed];
        if after["metadata"].get(fixed) == Some(value) {
            continue;
        }
        if value.is_null() {
            if let Some(metadata) = after["metadata"].as_object_mut() {
                metadata.shift_remove(fixed);
            }
        } else {
            meta::set(after, &["metadata", fixed], value.clone());
        }
    }
}

/// A replacement that does not name the addresses and node ports that a Service got keeps them.
fn keep_allocated(before: &Value, after: &mut Value) {
    if after["spec"]["type"] == "ExternalName" || !after["spec"].is_object() {
        return;
    }
    for key in ["clusterIP", "clusterIPs"] {
        if after["spec"][key].is_null() && !before["spec"][key].is_null() {
            after["spec"][key] = before["spec"][key].clone();
        }
    }
    let ports = after["spec"].get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter(|port| port.is_object()) {
        let mut earlier = before["spec"]["ports"].as_array().into_iter().flatten();
        let same = earlier.find(|earlier| earlier["port"] == port["port"]);
        if let Some(node) = same.map(|same| &same["nodePort"]).filter(|node| !node.is_null())
            && port["nodePort"].is_null()
        {
            port["nodePort"] = node.clone();
        }
    }
}

/// `/status` changes the status alone, and the object's own path everything but the status.
fn isolate_status(resource: &Resource, to_status: bool, before: &Value, after: &mut Value) {
    if !resource.status {
        return;
    }
    if to_status {
        let (status, fields) = (
            after["status"].clone(),
            after["metadata"]["managedFields"].clone(),
        );
        *after = before.clone();
        after["status"] = status;
        if !fields.is_null() {
            after["metadata"]["managedFields"] = fields;
        }
    } else if before["status"].is_null() {
        if let Some(map) = after.as_object_mut() {
            map.shift_remove("status");
        }
    } else {
        after["status"] = before["status"].clone();
    }
}

/// Fields that are fixed when an object is made.
fn allowed(resource: &Resource, before: &Value, after: &Value) -> Result<(), ApiError> {
    let fixed: &[&str] = match resource.kind.as_str() {
        "StatefulSet" => &[
            "serviceName",
            "selector",
            "podManagementPolicy",
            "volumeClaimTemplates",
        ],
        "Deployment" => &["selector"],
        "Service" if !after["spec"]["clusterIP"].is_null() => &["clusterIP"],
        "PersistentVolumeClaim" => &["accessModes", "storageClassName", "volumeMode"],
        _ => &[],
    };
    let immutable = before["immutable"] == true && matches!(&*resource.kind, "ConfigMap" | "Secret");
    let own: &[&str] = if immutable {
        &["data", "binaryData", "immutable"]
    } else {
        &[]
    };
    let kind_of_secret: &[&str] = if resource.kind == "Secret" { &["type"] } else { &[] };
    for field in own.iter().chain(kind_of_secret) {
        if before[field] != after[field] && !(before[field].is_null() && after[field] == json!({})) {
            let reason = "Forbidden: this field is immutable".to_owned();
            return Err(ApiError::invalid(
                &resource.kind,
                meta::name(before),
                &[((*field).to_owned(), reason)],
            ));
        }
    }
    for field in fixed {
        if before["spec"][field] != after["spec"][field] {
            let reason = "Forbidden: this field cannot be changed after the object is made".to_owned();
            return Err(ApiError::invalid(
                &resource.kind,
                meta::name(before),
                &[(format!("spec.{field}"), reason)],
            ));
        }
    }
    Ok(())
}

/// Whether two objects differ in no more than the times of their managers.
fn same_but_times(a: &Value, b: &Value) -> bool {
    let (of_a, of_b) = (managers_of(a), managers_of(b));
    let same = |(a, b): (&Value, &Value)| meta::same_but(a, b, &["time"]);
    meta::same_but_in_metadata(a, b, &["managedFields"])
        && of_a.len() == of_b.len()
        && of_a.iter().zip(of_b).all(same)
}

fn managers_of(object: &Value) -> &[Value] {
    let managers = object["metadata"]["managedFields"].as_array();
    managers.map_or(&[], Vec::as_slice)
}

/// Whether an object that is there differs from a patched one in annotations alone, which are texts: agents renew leases so,
/// and nothing else needs to be checked.
fn differs_by_annotations(before: &Value, after: &Value) -> bool {
    let annotations = after["metadata"]["annotations"].as_object();
    annotations.is_some_and(|annotations| annotations.values().all(Value::is_string))
        && meta::same_but_in_metadata(before, after, &["annotations"])
}
