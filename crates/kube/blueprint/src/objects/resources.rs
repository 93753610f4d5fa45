use std::collections::BTreeMap;

use howdah_manifest::{Manifest, Quantity as Amount};
use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity};

use crate::Settings;

/// Requests and limits; empty and "0" mean the operator's default, and a limit below the request is raised to it.
pub(super) fn resources(manifest: &Manifest, settings: &Settings) -> Option<ResourceRequirements> {
    let given = manifest.spec.resources.clone().unwrap_or_default();
    let requests = with_defaults(&given.requests, &settings.default_requests);
    let mut limits = with_defaults(&given.limits, &settings.default_limits);
    for (name, limit) in &mut limits {
        let amount = |text: &str| text.parse::<Amount>().ok();
        if let Some(request) = requests.get(name)
            && amount(request) > amount(limit)
        {
            limit.clone_from(request);
        }
    }
    if requests.is_empty() && limits.is_empty() {
        return None;
    }
    let quantities = |map: BTreeMap<String, String>| {
        (!map.is_empty()).then(|| {
            map.into_iter()
                .map(|(name, value)| (name, Quantity(value)))
                .collect()
        })
    };
    Some(ResourceRequirements {
        requests: quantities(requests),
        limits: quantities(limits),
        ..ResourceRequirements::default()
    })
}

fn with_defaults(
    given: &BTreeMap<String, String>,
    defaults: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut out = defaults.clone();
    let set = |value: &&String| !value.is_empty() && value.as_str() != "0";
    out.extend(
        given
            .iter()
            .filter(|(_, v)| set(v))
            .map(|(n, v)| (n.clone(), v.clone())),
    );
    out
}
