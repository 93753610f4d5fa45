use std::collections::BTreeMap;

use howdah_manifest::Manifest;
use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{base_labels, metadata};
use crate::{Names, Settings};

/// The annotation of budgets that the operator has made.
pub const BUDGET_ANNOTATION: &str = "howdah.dev/budget";

/// Keeps the primary from being evicted: an eviction waits until leadership has moved.
pub(super) fn primary(manifest: &Manifest, settings: &Settings) -> PodDisruptionBudget {
    let mut selector = base_labels(&manifest.name, settings);
    let patroni = &manifest.spec.patroni;
    let mut min = 1;
    if settings.pdb_master_label_selector {
        selector.insert(settings.pod_role_label.clone(), "master".into());
    } else if patroni.synchronous_mode_strict == Some(true) {
        min = i32::try_from(patroni.synchronous_node_count.unwrap_or(1)).unwrap_or(1) + 1;
    }
    if !active(manifest, settings) {
        min = 0;
    }
    let spec = PodDisruptionBudgetSpec {
        min_available: Some(IntOrString::Int(min)),
        selector: Some(matching(selector)),
        ..PodDisruptionBudgetSpec::default()
    };
    budget(manifest, settings, &settings.primary_budget(&manifest.name), spec)
}

/// Keeps members that bootstrap or are upgraded.
pub(super) fn critical(manifest: &Manifest, settings: &Settings) -> PodDisruptionBudget {
    let mut selector = base_labels(&manifest.name, settings);
    selector.insert("critical-operation".into(), "true".into());
    let max = if active(manifest, settings) {
        IntOrString::Int(0)
    } else {
        IntOrString::String("100%".into())
    };
    let spec = PodDisruptionBudgetSpec {
        max_unavailable: Some(max),
        selector: Some(matching(selector)),
        ..PodDisruptionBudgetSpec::default()
    };
    budget(manifest, settings, &Names(&manifest.name).critical_budget(), spec)
}

fn active(manifest: &Manifest, settings: &Settings) -> bool {
    settings.enable_pod_disruption_budget && manifest.spec.number_of_instances > 0
}

fn matching(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels),
        ..LabelSelector::default()
    }
}

fn budget(
    manifest: &Manifest,
    settings: &Settings,
    name: &str,
    spec: PodDisruptionBudgetSpec,
) -> PodDisruptionBudget {
    let mut metadata = metadata(manifest, settings, name);
    // By it a budget of an earlier name is known to be the operator's.
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(BUDGET_ANNOTATION.to_owned(), "true".to_owned());
    PodDisruptionBudget {
        metadata,
        spec: Some(spec),
        status: None,
    }
}
