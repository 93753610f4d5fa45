use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use howdah_manifest::{
    KIND, asks_for_missing_data,
    lint::{Finding, Severity, lint},
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    core::{GroupVersionKind, TypeMeta},
    discovery::{ApiCapabilities, ApiResource, Scope, pinned_kind},
};
use serde_json::Value;

use crate::{
    cli::ApplyArgs,
    context::Context,
    failure::Failure,
    lint::shown,
    progress,
    source::{Source, sources},
};

/// Under this name the command owns fields.
const MANAGER: &str = "howdah";

/// What a server has written into an object: a backup that is applied again must not ask for it.
const OF_THE_SERVER: &[&str] = &[
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "selfLink",
];

/// Applies manifests: all files are checked, and all kinds are found, before anything is changed.
pub(crate) async fn apply(args: &ApplyArgs) -> anyhow::Result<u8> {
    let mut files = Vec::new();
    for source in sources(&args.file).await? {
        files.push(Manifests::read(source)?);
    }
    let context = Context::open().await?;
    for file in &files {
        file.refuse_empty_clones(&context, args.namespace.as_deref())
            .await?;
    }
    let objects: Vec<DynamicObject> = files.into_iter().flat_map(|file| file.objects).collect();
    if objects.is_empty() {
        return Err(Failure::Manifest("the files hold no object; nothing was changed".into()).into());
    }
    let planned = planned(&context.client, objects, args.namespace.as_deref()).await?;
    refuse_unknown_namespaces(&context.client, &planned).await?;
    eprintln!("Applying to the {}.", context.described());
    let mut clusters = Vec::new();
    for object in planned {
        let is_cluster = object.kind == KIND;
        let began = howdah_clock::now();
        let applied = object.apply(&context.client).await?;
        if is_cluster {
            clusters.push((applied, began));
        }
    }
    if !args.wait {
        if let [(cluster, _)] = clusters.as_slice() {
            println!("  {}", progress::next_command("get", cluster));
        } else if !clusters.is_empty() {
            println!("  howdah list");
        }
        return Ok(0);
    }
    for (cluster, began) in clusters {
        progress::follow(&context, &cluster, began, args.timeout).await?;
    }
    Ok(0)
}

/// The objects of a file without errors.
struct Manifests {
    name: String,
    objects: Vec<DynamicObject>,
    /// What is an error for a cluster that does not exist yet.
    about_new: Vec<Finding>,
}

impl Manifests {
    fn read(source: Source) -> anyhow::Result<Self> {
        let Source { name, text } = source;
        let (about_new, findings): (Vec<Finding>, Vec<Finding>) =
            lint(&text).into_iter().partition(|finding| finding.about_new);
        eprint!("{}", shown(&name, &findings));
        if findings.iter().any(|finding| finding.severity == Severity::Error) {
            eprint!("{}", shown(&name, &about_new));
            return Err(Failure::Manifest(format!("{name} has errors; nothing was changed")).into());
        }
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text)?;
        let mut objects = Vec::new();
        for document in documents.into_iter().filter(|document| !document.is_null()) {
            for object in items(document) {
                let object = serde_json::from_value(object).with_context(|| format!("{name}: an object"))?;
                objects.push(object);
            }
        }
        Ok(Manifests {
            name,
            objects,
            about_new,
        })
    }

    /// A clone section is often left in the manifest of a cluster that was cloned long ago. One that would make a new cluster is
    /// refused.
    async fn refuse_empty_clones(&self, context: &Context, given: Option<&str>) -> anyhow::Result<()> {
        if self.about_new.is_empty() {
            return Ok(());
        }
        for object in self.objects.iter().filter(|object| kind_of(object) == KIND) {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            let asks = asks_for_missing_data(name, &object.data["spec"]);
            let namespace = object
                .metadata
                .namespace
                .as_deref()
                .or(given)
                .unwrap_or("default");
            let exists = context.clusters(namespace).get_opt(name).await?.is_some();
            if asks && !exists {
                eprint!("{}", shown(&self.name, &self.about_new));
                let message = format!("{} has errors; nothing was changed", self.name);
                return Err(Failure::Manifest(message).into());
            }
        }
        Ok(())
    }
}

fn kind_of(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
}

/// An object, or those of a List, without what a server wrote into them.
fn items(mut document: Value) -> Vec<Value> {
    let is_list = document["kind"]
        .as_str()
        .is_some_and(|kind| kind.ends_with("List"));
    if let Some(listed) = document["items"].as_array().filter(|_| is_list) {
        return listed.iter().cloned().flat_map(items).collect();
    }
    if let Some(object) = document.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| !OF_THE_SERVER.contains(&key.as_str()));
    }
    vec![document]
}

/// An object whose kind the server knows.
struct Planned {
    object: DynamicObject,
    kind: String,
    name: String,
    namespace: Option<String>,
    resource: Resource,
}

enum Resource {
    Known(ApiResource),
    /// Its definition is among the objects that are applied first.
    Later(GroupVersionKind),
}

/// Finds the kinds of all objects, so that an unknown one changes nothing. Definitions of kinds come first.
async fn planned(
    client: &Client,
    objects: Vec<DynamicObject>,
    given: Option<&str>,
) -> anyhow::Result<Vec<Planned>> {
    let mut kinds: BTreeMap<(String, String), Option<(ApiResource, ApiCapabilities)>> = BTreeMap::new();
    let defined: Vec<(String, String, bool)> = objects.iter().filter_map(definition).collect();
    let mut planned = Vec::new();
    let mut unknown: Vec<String> = Vec::new();
    for mut object in objects {
        let TypeMeta { api_version, kind } = object.types.clone().context("an object has no kind")?;
        let name = object
            .metadata
            .name
            .clone()
            .with_context(|| format!("an object of kind {kind} has no name"))?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let gvk = GroupVersionKind::gvk(group, version, &kind);
        let key = (api_version.clone(), kind.clone());
        if !kinds.contains_key(&key) {
            kinds.insert(key.clone(), find(client, &gvk).await?);
        }
        let of_files = defined
            .iter()
            .find(|(defined_group, defined_kind, _)| defined_group == group && *defined_kind == kind);
        let (resource, namespaced) = match (kinds.get(&key).and_then(Option::as_ref), of_files) {
            (Some((resource, capabilities)), _) => (
                Resource::Known(resource.clone()),
                capabilities.scope == Scope::Namespaced,
            ),
            (None, Some((_, _, namespaced))) => (Resource::Later(gvk), *namespaced),
            (None, None) => {
                let text = format!("{kind} of {api_version}");
                if !unknown.contains(&text) {
                    unknown.push(text);
                }
                continue;
            }
        };
        let namespace = namespaced.then(|| {
            object
                .metadata
                .namespace
                .get_or_insert_with(|| given.unwrap_or("default").to_owned())
                .clone()
        });
        if let (Some(given), Some(namespace)) = (given, &namespace)
            && given != namespace
        {
            bail!(
                "{kind}/{name} is of namespace {namespace}, and --namespace says {given}: leave one of them out"
            );
        }
        planned.push(Planned {
            object,
            kind,
            name,
            namespace,
            resource,
        });
    }
    if !unknown.is_empty() {
        let text = unknown.join(", ");
        return Err(Failure::Manifest(format!(
            "the sandbox does not know {text}; nothing was changed: leave those objects out, or apply the \
             CustomResourceDefinition of the kind first"
        ))
        .into());
    }
    planned.sort_by_key(|object| !matches!(object.kind.as_str(), "CustomResourceDefinition" | "Namespace"));
    Ok(planned)
}

/// An object whose namespace does not exist would end the work half-way.
async fn refuse_unknown_namespaces(client: &Client, planned: &[Planned]) -> anyhow::Result<()> {
    let api = Api::<Namespace>::all(client.clone());
    let made = |name: &str| {
        planned
            .iter()
            .any(|object| object.kind == "Namespace" && object.name == name)
    };
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for object in planned {
        let Some(namespace) = object.namespace.as_deref().filter(|namespace| !made(namespace)) else {
            continue;
        };
        if !known.insert(namespace) {
            continue;
        }
        let found = api.get_opt(namespace).await.context("asking for a namespace")?;
        if found.is_none() {
            return Err(Failure::Manifest(format!(
                "there is no namespace {namespace}, which {}/{} is for; nothing was changed: 'kubectl create namespace \
                 {namespace}' makes it",
                object.kind, object.name
            ))
            .into());
        }
    }
    Ok(())
}

/// How the server serves a kind; `None` when it does not.
async fn find(
    client: &Client,
    gvk: &GroupVersionKind,
) -> anyhow::Result<Option<(ApiResource, ApiCapabilities)>> {
    match pinned_kind(client, gvk).await {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Discovery(_)) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error).with_context(|| format!("asking for the kind {}", gvk.kind)),
    }
}

/// Group and kind that a CustomResourceDefinition brings, and whether its objects live in namespaces.
fn definition(object: &DynamicObject) -> Option<(String, String, bool)> {
    let spec = object
        .data
        .get("spec")
        .filter(|_| kind_of(object) == "CustomResourceDefinition")?;
    Some((
        spec["group"].as_str()?.to_owned(),
        spec["names"]["kind"].as_str()?.to_owned(),
        spec["scope"] == "Namespaced",
    ))
}

impl Planned {
    async fn apply(self, client: &Client) -> anyhow::Result<DynamicObject> {
        let (kind, name) = (&self.kind, &self.name);
        let resource = match self.resource {
            Resource::Known(resource) => resource,
            Resource::Later(gvk) => {
                let found = find(client, &gvk).await?;
                found
                    .with_context(|| format!("{kind} is not served yet: apply {kind}/{name} once more"))?
                    .0
            }
        };
        let api: Api<DynamicObject> = match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let before = api.get_opt(name).await.context("reading what is there")?;
        if before
            .as_ref()
            .is_some_and(|before| before.metadata.deletion_timestamp.is_some())
        {
            bail!(
                "{}/{name} is being deleted: apply it again when it is gone",
                kind.to_lowercase()
            );
        }
        let params = PatchParams::apply(MANAGER).force();
        let applied = match api.patch(name, &params, &Patch::Apply(&self.object)).await {
            Ok(applied) => applied,
            Err(kube::Error::Api(status)) => bail!("{}/{name} was refused: {}", kind, status.message),
            Err(error) => return Err(error).with_context(|| format!("applying {kind}/{name}")),
        };
        let what = match before.map(|before| before.metadata) {
            None => "created",
            Some(before) if before.generation.is_none() => {
                if before.resource_version == applied.metadata.resource_version {
                    "unchanged"
                } else {
                    "configured"
                }
            }
            Some(before) if before.generation == applied.metadata.generation => "unchanged",
            Some(_) => "configured",
        };
        println!("{}/{name} {what}", kind.to_lowercase());
        if kind == KIND {
            for field in kept(&self.object.data["spec"], &applied.data["spec"]) {
                println!(
                    "  note: spec.{field} is not in the file and stays, since another client has set it: \
                     take it out with 'kubectl edit pg {name}'"
                );
            }
        }
        Ok(applied)
    }
}

/// Fields of a stored spec that the applied one does not have: they belong to another client.
fn kept(applied: &Value, stored: &Value) -> Vec<String> {
    let fields = stored.as_object().into_iter().flatten();
    fields
        .filter(|(name, value)| applied.get(name).is_none() && !value.is_null())
        .map(|(name, _)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_of_other_clients_are_found() {
        let stored = json!({"teamId": "a", "standby": {"standby_host": "h"}, "clone": null});
        assert_eq!(kept(&json!({"teamId": "a"}), &stored), ["standby"]);
        assert_eq!(kept(&stored, &stored), Vec::<String>::new());
    }

    #[test]
    fn a_list_is_its_items_without_the_servers_fields() {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"kind": "postgresql", "metadata": {"name": "a", "uid": "u", "resourceVersion": "5", "labels": {"x": "y"}},
             "status": {"PostgresClusterStatus": "Running"}, "spec": {}},
        ]});
        assert_eq!(
            items(list),
            [json!({"kind": "postgresql", "metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {}})]
        );
        let one = json!({"kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": "7"}, "data": {"a": "b"}});
        let bare = json!({"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "b"}});
        assert_eq!(items(one.clone()), std::slice::from_ref(&bare));
        let nested = json!({"kind": "List", "items": [{"kind": "List", "items": [one]}]});
        assert_eq!(items(nested), [bare]);
    }
}
