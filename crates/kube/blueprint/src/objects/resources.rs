use std::collections::BTreeMap;

use howdah_manifest::{Quantity as Amount, Resources};
use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity};

use crate::{PodSettings, Settings};

fn amount(text: &str) -> Option<Amount> {
    text.parse().ok()
}

/// Requests and limits; empty and "0" mean the operator's default, and a limit below the request is raised to it. `bounded`: the
/// operator's least limits and highest requests hold, as they do for members.
pub(super) fn resources(
    given: Option<&Resources>,
    settings: &Settings,
    bounded: bool,
) -> Option<ResourceRequirements> {
    let given = given.cloned().unwrap_or_default();
    let mut requests = with_defaults(&given.requests, &settings.default_requests);
    let mut limits = with_defaults(&given.limits, &settings.default_limits);
    let PodSettings {
        min_limits,
        max_requests,
        set_memory_request_to_limit,
        ..
    } = &settings.pods;
    if bounded {
        bound(&mut limits, min_limits, |have, least| have < least);
    }
    raise(&mut limits, &requests);
    // It lifts the request, and never lowers it.
    if let Some(limit) = limits.get("memory").filter(|_| *set_memory_request_to_limit) {
        requests.insert("memory".into(), limit.clone());
    }
    if bounded {
        bound(&mut requests, max_requests, |have, most| have > most);
    }
    requirements(requests, limits)
}

/// Requests and limits with these defaults.
pub(super) fn with_defaults_of(
    given: Option<&Resources>,
    requests: &BTreeMap<String, String>,
    limits: &BTreeMap<String, String>,
) -> Option<ResourceRequirements> {
    let given = given.cloned().unwrap_or_default();
    requirements(
        with_defaults(&given.requests, requests),
        with_defaults(&given.limits, limits),
    )
}

fn requirements(
    requests: BTreeMap<String, String>,
    mut limits: BTreeMap<String, String>,
) -> Option<ResourceRequirements> {
    raise(&mut limits, &requests);
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

/// Raises limits that are below what is asked for.
fn raise(limits: &mut BTreeMap<String, String>, requests: &BTreeMap<String, String>) {
    for (name, limit) in limits {
        if let Some(request) = requests.get(name)
            && amount(request) > amount(limit)
        {
            limit.clone_from(request);
        }
    }
}

fn bound(
    amounts: &mut BTreeMap<String, String>,
    bounds: &BTreeMap<String, String>,
    is_beyond: impl Fn(Option<Amount>, Option<Amount>) -> bool,
) {
    for (name, have) in amounts {
        if let Some(bound) = bounds.get(name)
            && is_beyond(amount(have), amount(bound))
        {
            have.clone_from(bound);
        }
    }
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
