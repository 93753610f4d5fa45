//! Where pods may run: affinities and tolerations, of the manifest and of the operator's configuration.

use std::collections::BTreeMap;

use howdah_manifest::Manifest;
use k8s_openapi::{
    api::core::v1::{
        Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm,
        PodAntiAffinity, Toleration, WeightedPodAffinityTerm,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::{full_labels, typed, typed_list};
use crate::Settings;

pub(super) fn affinity(manifest: &Manifest, settings: &Settings) -> Option<Affinity> {
    let affinity = Affinity {
        node_affinity: nodes(manifest, settings),
        pod_anti_affinity: apart(&full_labels(manifest, settings), settings),
        ..Affinity::default()
    };
    (affinity != Affinity::default()).then_some(affinity)
}

/// The manifest's node affinity, with the labels that ready nodes have.
fn nodes(manifest: &Manifest, settings: &Settings) -> Option<NodeAffinity> {
    let own: Option<NodeAffinity> = manifest.spec.node_affinity.as_ref().and_then(typed);
    let labels = &settings.pods.node_readiness_label;
    if labels.is_empty() {
        return own;
    }
    let expressions: Vec<NodeSelectorRequirement> = labels
        .iter()
        .map(|(name, value)| NodeSelectorRequirement {
            key: name.clone(),
            operator: "In".into(),
            values: Some(vec![value.clone()]),
        })
        .collect();
    let mut affinity = own.unwrap_or_default();
    let required = &mut affinity.required_during_scheduling_ignored_during_execution;
    match required {
        Some(selector) if settings.pods.node_readiness_label_merge_and => {
            for term in &mut selector.node_selector_terms {
                let own = term.match_expressions.get_or_insert_default();
                own.extend(expressions.iter().cloned());
            }
        }
        _ => {
            let selector = required.get_or_insert_with(NodeSelector::default);
            selector.node_selector_terms.push(NodeSelectorTerm {
                match_expressions: Some(expressions),
                ..NodeSelectorTerm::default()
            });
        }
    }
    Some(affinity)
}

/// Pods with these labels apart from each other.
pub(super) fn apart(labels: &BTreeMap<String, String>, settings: &Settings) -> Option<PodAntiAffinity> {
    if !settings.pods.enable_pod_antiaffinity {
        return None;
    }
    let term = PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: Some(labels.clone()),
            ..LabelSelector::default()
        }),
        topology_key: settings.pods.pod_antiaffinity_topology_key.clone(),
        ..PodAffinityTerm::default()
    };
    Some(if settings.pods.pod_antiaffinity_preferred_during_scheduling {
        PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                pod_affinity_term: term,
                weight: 1,
            }]),
            ..PodAntiAffinity::default()
        }
    } else {
        PodAntiAffinity {
            required_during_scheduling_ignored_during_execution: Some(vec![term]),
            ..PodAntiAffinity::default()
        }
    })
}

/// The manifest's tolerations, or the configuration's one.
pub(super) fn tolerations(manifest: &Manifest, settings: &Settings) -> Option<Vec<Toleration>> {
    typed_list(&manifest.spec.tolerations).or_else(|| {
        let words = &settings.pods.toleration;
        let word = |name: &str| words.get(name).cloned();
        (!words.is_empty()).then(|| {
            vec![Toleration {
                key: word("key"),
                operator: word("operator"),
                value: word("value"),
                effect: word("effect"),
                ..Toleration::default()
            }]
        })
    })
}
