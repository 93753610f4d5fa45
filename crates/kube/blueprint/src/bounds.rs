use std::collections::BTreeMap;

use howdah_manifest::Manifest;

use crate::Settings;

/// Keeps the number of members within the operator's bounds. Returns what was changed, for the status.
pub fn bound_instances(manifest: &mut Manifest, settings: &Settings) -> Option<String> {
    let of = &settings.objects;
    if escapes(manifest, &of.ignore_instance_limits_annotation_key) {
        return None;
    }
    let asked = manifest.spec.number_of_instances;
    // A copy of another cluster's data may be alone.
    let least = of
        .min_instances
        .filter(|_| manifest.spec.standby.is_none() || asked != 1);
    let (mut count, mut key) = (asked, "");
    if let Some(most) = of.max_instances.filter(|most| count > *most) {
        (count, key) = (most, "max_instances");
    }
    if let Some(least) = least.filter(|least| count < *least) {
        (count, key) = (least, "min_instances");
    }
    manifest.spec.number_of_instances = count;
    (count != asked).then(|| {
        format!("spec.numberOfInstances: {asked} are asked for, and the operator's {key} makes it {count}")
    })
}

/// Whether a manifest's annotation of this name says `true`.
pub(crate) fn escapes(manifest: &Manifest, key: &str) -> bool {
    !key.is_empty() && manifest.annotations.get(key).is_some_and(|value| value == "true")
}

/// Why a cluster is not deleted although it was asked for; `today`: the date in UTC, such as `2026-11-28`.
#[must_use]
pub fn keeps_from_deletion(
    name: &str,
    annotations: &BTreeMap<String, String>,
    settings: &Settings,
    today: &str,
) -> Option<String> {
    let of = &settings.objects;
    let wanted = [
        (&of.delete_annotation_date_key, today),
        (&of.delete_annotation_name_key, name),
    ];
    let is_missing = |key: &str, value: &str| annotations.get(key).is_none_or(|have| have != value);
    let missing: Vec<String> = wanted
        .iter()
        .filter(|(key, value)| !key.is_empty() && is_missing(key, value))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "the cluster is protected and stays until it has the annotation {}",
            missing.join(" and ")
        )
    })
}

/// Why a cluster's name is refused, where names must begin with the team.
#[must_use]
pub fn refused_name(manifest: &Manifest, settings: &Settings) -> Option<String> {
    let team = manifest.spec.team_id.to_lowercase();
    let has_it = manifest
        .name
        .strip_prefix(&team)
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|rest| !rest.is_empty());
    (settings.objects.enable_team_id_clustername_prefix && !has_it).then(|| {
        format!(
            "'{}' must begin with its team, as in '{team}-{}' (enable_team_id_clustername_prefix)",
            manifest.name, manifest.name
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(instances: u32, annotations: serde_json::Value, standby: serde_json::Value) -> Manifest {
        let object = json!({
            "metadata": {"name": "acid-a", "annotations": annotations},
            "spec": {
                "teamId": "ACID", "numberOfInstances": instances, "volume": {"size": "1Gi"},
                "postgresql": {"version": "18"}, "standby": standby,
            },
        });
        Manifest::read(&object).unwrap()
    }

    fn settings() -> Settings {
        let mut settings = Settings::default();
        settings.objects.min_instances = Some(2);
        settings.objects.max_instances = Some(3);
        settings.objects.ignore_instance_limits_annotation_key = "free".into();
        settings
    }

    #[test]
    fn members_are_within_bounds_unless_an_annotation_says_otherwise() {
        for (asked, annotations, standby, wanted) in [
            (1, json!({}), json!(null), 2),
            (2, json!({}), json!(null), 2),
            (9, json!({}), json!(null), 3),
            (9, json!({"free": "true"}), json!(null), 9),
            (9, json!({"free": "yes"}), json!(null), 3),
            (1, json!({}), json!({"standby_host": "b"}), 1),
        ] {
            let mut manifest = manifest(asked, annotations, standby);
            let note = bound_instances(&mut manifest, &settings());
            assert_eq!(manifest.spec.number_of_instances, wanted);
            assert_eq!(note.is_some(), asked != wanted);
        }
    }

    #[test]
    fn a_protected_cluster_goes_only_when_both_annotations_are_right() {
        let mut settings = Settings::default();
        let keeps = |annotations, settings: &Settings| {
            let manifest = manifest(1, annotations, json!(null));
            keeps_from_deletion(&manifest.name, &manifest.annotations, settings, "2026-11-28")
        };
        assert!(keeps(json!({}), &settings).is_none());
        settings.objects.delete_annotation_date_key = "delete-date".into();
        settings.objects.delete_annotation_name_key = "delete-clustername".into();
        let why = keeps(json!({"delete-date": "2026-11-27"}), &settings).unwrap();
        assert!(
            why.contains("delete-date=2026-11-28 and delete-clustername=acid-a"),
            "{why}"
        );
        let right = json!({"delete-date": "2026-11-28", "delete-clustername": "acid-a"});
        assert!(keeps(right, &settings).is_none());
    }

    #[test]
    fn a_name_begins_with_the_team_where_that_is_asked_for() {
        let mut settings = Settings::default();
        let manifest = manifest(1, json!({}), json!(null));
        settings.objects.enable_team_id_clustername_prefix = true;
        assert!(refused_name(&manifest, &settings).is_none());
        let mut other = manifest;
        other.name = "acid".into();
        assert!(refused_name(&other, &settings).is_some());
    }
}
