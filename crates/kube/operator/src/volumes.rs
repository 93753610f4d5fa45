//! Volumes that grow: their claims ask for more, and Kubernetes does the rest.

use howdah_blueprint::Names;
use howdah_clock::now;
use howdah_manifest::{Manifest, Quantity};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    OperatorError,
    apply::AGAIN,
    context::{Context, Memory},
    observe::Seen,
    report,
};

/// What becomes of the volumes of a cluster.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Growth {
    /// They are as large as asked for, or there are none.
    Nothing,
    /// These claims are to ask for more.
    Grow(Vec<String>),
    /// They stay as they are, for this reason.
    Stay(String),
}

/// Compares the claims with the manifest.
pub(crate) fn growth(manifest: &Manifest, seen: &Seen, grows: bool) -> Growth {
    let size = &manifest.spec.volume.size;
    let amount = |text: &str| text.parse::<Quantity>().ok();
    let names = Names(&manifest.name);
    let of_members = || seen.claims.iter().filter(|(name, _)| names.is_claim(name));
    let wanted = amount(size);
    let small: Vec<(&String, &String)> = of_members().filter(|(_, have)| amount(have) < wanted).collect();
    match small.first() {
        None => match of_members().find(|(_, have)| amount(have) > wanted) {
            Some((_, have)) => Growth::Stay(format!(
                "volume.size ({size} is asked for, the volumes have {have}: they cannot shrink)"
            )),
            None => Growth::Nothing,
        },
        Some((_, have)) if !grows => Growth::Stay(format!(
            "volume.size ({size} is asked for, the volumes have {have}: the operator's storage_resize_mode leaves volumes alone)"
        )),
        Some(_) => Growth::Grow(small.into_iter().map(|(name, _)| name.clone()).collect()),
    }
}

/// Makes claims ask for what the manifest says. Returns why it cannot be, if Kubernetes refuses it: its storage class does not
/// let volumes grow, or a quota is reached.
pub(crate) async fn grow(
    context: &Context,
    manifest: &Manifest,
    claims: &[String],
    memory: &mut Memory,
) -> Result<Option<String>, OperatorError> {
    let size = &manifest.spec.volume.size;
    // A refusal holds for a while: the same request again would be answered in the same way.
    if let Some((refused, why, at)) = &memory.resize_refused
        && refused == size
        && now() < *at + AGAIN
    {
        return Ok(Some(why.clone()));
    }
    let api = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), &manifest.namespace);
    let change = json!({"spec": {"resources": {"requests": {"storage": size}}}});
    for name in claims {
        match api
            .patch(name, &PatchParams::default(), &Patch::Merge(&change))
            .await
        {
            Ok(claim) => {
                context.wrote(&claim);
                let message = format!("volume claim {name} asks for {size}");
                report::event(context, manifest, false, "Resize", &message).await;
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(kube::Error::Api(status)) if [400, 403, 422].contains(&status.code) => {
                let why = format!(
                    "volume.size ({size} is asked for; Kubernetes refuses it: {})",
                    status.message
                );
                memory.resize_refused = Some((size.clone(), why.clone(), now()));
                return Ok(Some(why));
            }
            Err(error) => return Err(OperatorError::kube(format!("resizing claim {name}"))(error)),
        }
    }
    Ok(None)
}
