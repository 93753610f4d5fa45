use howdah_blueprint::{image_of, keep_note, keep_pods, lazy_revisions, with_image};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::{
    Api,
    api::{Patch, PatchParams},
};

use crate::{
    OperatorError,
    context::{Context, MANAGER},
};

/// The StatefulSet to apply where pods take a newer image only when they start for another reason: it notes which pods stay.
///
/// The API is asked what the StatefulSet would be with the image that it has. If its template stays the same, the image is all that
/// changes. Otherwise pods are replaced anyway, and take the image with them. False: the image waits for the next pass.
pub(crate) async fn statefulset(
    context: &Context,
    wanted: StatefulSet,
    live: &StatefulSet,
) -> Result<(StatefulSet, bool), OperatorError> {
    let (Some(old), Some(new)) = (image_of(live), image_of(&wanted)) else {
        return Ok((wanted, true));
    };
    let is_newer = old != new;
    let is_lazy = context.settings.objects.enable_lazy_spilo_upgrade;
    if !is_lazy || (!is_newer && lazy_revisions(live).is_empty()) {
        return Ok((wanted, true));
    }
    let mut same = with_image(wanted.clone(), old);
    keep_note(&mut same, live);
    let name = wanted.metadata.name.clone().unwrap_or_default();
    let namespace = wanted.metadata.namespace.clone().unwrap_or_default();
    let api = Api::<StatefulSet>::namespaced(context.client.clone(), &namespace);
    let mut params = PatchParams::apply(MANAGER).force();
    params.dry_run = true;
    let tried = api.patch(&name, &params, &Patch::Apply(&same)).await;
    let tried = tried.map_err(OperatorError::kube(format!("trying StatefulSet {name}")))?;
    let template = |set: &StatefulSet| set.spec.as_ref().map(|spec| spec.template.clone());
    if template(&tried) != template(live) {
        return Ok((wanted, true));
    }
    if !is_newer {
        return Ok((same, true));
    }
    // Until the controller has seen the newest template, its revision is not known: the image waits for the next pass.
    Ok(match keep_pods(wanted, live) {
        Some(wanted) => (wanted, true),
        None => (same, false),
    })
}
