use std::path::Path;

use anyhow::{Context as _, bail};
use howdah_manifest::{
    KIND,
    lint::{Severity, lint},
};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    core::{GroupVersionKind, TypeMeta},
    discovery::{Scope, pinned_kind},
};
use serde_json::Value;

use crate::{
    cli::ApplyArgs,
    context::Context,
    failure::Failure,
    lint::{read, shown},
    progress,
};

/// Under this name the command owns fields.
const MANAGER: &str = "howdah";

/// Applies manifests: all files are checked before anything is changed.
pub(crate) async fn apply(args: &ApplyArgs) -> anyhow::Result<u8> {
    let mut objects = Vec::new();
    for path in &args.file {
        objects.extend(checked(path)?);
    }
    let context = Context::open().await?;
    eprintln!("Applying to the {}.", context.described());
    let mut clusters = Vec::new();
    for object in objects {
        let is_cluster = object.types.as_ref().is_some_and(|types| types.kind == KIND);
        let began = howdah_clock::now();
        let applied = one(&context.client, object, args.namespace.as_deref()).await?;
        if is_cluster {
            clusters.push((applied, began));
        }
    }
    if !args.wait {
        return Ok(0);
    }
    for (cluster, began) in clusters {
        progress::follow(&context, &cluster, began, args.timeout).await?;
    }
    Ok(0)
}

/// The objects of a file, if it has no errors.
fn checked(path: &Path) -> anyhow::Result<Vec<DynamicObject>> {
    let text = read(path)?;
    let findings = lint(&text);
    eprint!("{}", shown(path, &findings));
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(Failure::Manifest(format!("{} has errors; nothing was changed", path.display())).into());
    }
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    documents
        .into_iter()
        .filter(|document| !document.is_null())
        .map(|document| {
            serde_json::from_value(document).with_context(|| format!("{}: an object", path.display()))
        })
        .collect()
}

async fn one(
    client: &Client,
    mut object: DynamicObject,
    given: Option<&str>,
) -> anyhow::Result<DynamicObject> {
    let TypeMeta { api_version, kind } = object.types.clone().context("an object has no kind")?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let gvk = GroupVersionKind::gvk(group, version, &kind);
    let (resource, capabilities) = pinned_kind(client, &gvk)
        .await
        .with_context(|| format!("{kind} of {api_version} is not known here"))?;
    let name = object.metadata.name.clone().context("an object has no name")?;
    let api: Api<DynamicObject> = if capabilities.scope == Scope::Namespaced {
        let namespace = object
            .metadata
            .namespace
            .get_or_insert_with(|| given.unwrap_or("default").to_owned())
            .clone();
        if let Some(given) = given.filter(|given| *given != namespace) {
            bail!(
                "{kind}/{name} is of namespace {namespace}, and --namespace says {given}: leave one of them out"
            );
        }
        Api::namespaced_with(client.clone(), &namespace, &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    };
    let before = api.get_opt(&name).await.context("reading what is there")?;
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
    let applied = match api.patch(&name, &params, &Patch::Apply(&object)).await {
        Ok(applied) => applied,
        Err(kube::Error::Api(status)) => bail!("{}/{name} was refused: {}", kind, status.message),
        Err(error) => return Err(error).with_context(|| format!("applying {kind}/{name}")),
    };
    let what = match before.and_then(|before| before.metadata.generation) {
        None => "created",
        Some(generation) if Some(generation) == applied.metadata.generation => "unchanged",
        Some(_) => "configured",
    };
    println!("{}/{name} {what}", kind.to_lowercase());
    Ok(applied)
}
