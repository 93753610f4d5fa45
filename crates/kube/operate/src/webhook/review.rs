use std::collections::BTreeMap;

use howdah_blueprint::{Settings, bound_instances, keeps_from_deletion, refused_name};
use howdah_manifest::{Manifest, Quantity};
use serde_json::{Value, json};

use crate::configuration::Configuration;

/// Which operator a cluster belongs to.
const CONTROLLER: &str = "acid.zalan.do/controller";

/// The API server cuts off longer warnings.
const LONGEST: usize = 240;
const MOST: usize = 12;

/// Answers an AdmissionReview. `today`: the date in UTC.
///
/// A manifest that is deleted, or whose spec stays the same, is let through: labels, finalizers and annotations of an older,
/// broken one can be changed.
pub(super) fn review(review: &Value, configuration: &Configuration, today: &str) -> Value {
    let request = at(review, "/request");
    let (settings, controller_id) = (&configuration.settings, &configuration.controller_id);
    let place = at(request, "/namespace").as_str();
    let is_watched = configuration
        .namespace
        .as_deref()
        .is_none_or(|watched| place == Some(watched));
    let mut warnings = Vec::new();
    let verdict = match at(request, "/operation").as_str() {
        // The clusters of another operator, maybe.
        _ if !is_watched => Ok(()),
        Some("DELETE") => deletion(at(request, "/oldObject"), settings, controller_id, today),
        Some("CREATE" | "UPDATE") => change(request, settings, controller_id, &mut warnings),
        _ => Ok(()),
    };
    let warnings: Vec<String> = warnings.into_iter().take(MOST).map(shortened).collect();
    let mut response = json!({"uid": at(request, "/uid"), "allowed": verdict.is_ok(), "warnings": warnings});
    if let (Err(reason), Some(response)) = (verdict, response.as_object_mut()) {
        let status = json!({"code": 422, "reason": "Invalid", "message": reason});
        response.insert("status".to_owned(), status);
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

/// What is at a JSON pointer; `null`, if there is nothing.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

fn shortened(text: String) -> String {
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}

fn annotations(object: &Value) -> BTreeMap<String, String> {
    let all = at(object, "/metadata/annotations").as_object();
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    all.into_iter().flatten().filter_map(text).collect()
}

fn is_ours(object: &Value, controller_id: &str) -> bool {
    let owner = annotations(object).remove(CONTROLLER);
    owner.unwrap_or_default() == controller_id
}

fn deletion(object: &Value, settings: &Settings, controller_id: &str, today: &str) -> Result<(), String> {
    if !is_ours(object, controller_id) {
        return Ok(());
    }
    let name = at(object, "/metadata/name").as_str().unwrap_or_default();
    keeps_from_deletion(name, &annotations(object), settings, today).map_or(Ok(()), Err)
}

fn change(
    request: &Value,
    settings: &Settings,
    controller_id: &str,
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    let (new, old) = (at(request, "/object"), at(request, "/oldObject"));
    let is_going = !at(new, "/metadata/deletionTimestamp").is_null();
    if is_going || !is_ours(new, controller_id) || (!old.is_null() && new.get("spec") == old.get("spec")) {
        return Ok(());
    }
    let mut manifest = Manifest::read(new).map_err(|error| error.to_string())?;
    if let Some(reason) = refused_name(&manifest, settings).filter(|_| old.is_null()) {
        return Err(format!("metadata.name: {reason}"));
    }
    if !manifest.unsupported.is_empty() {
        warnings.push(format!("not acted on: {}", manifest.unsupported.join(", ")));
    }
    for (name, why) in &manifest.wrong_parameters {
        warnings.push(format!(
            "spec.postgresql.parameters.{name}: {why}; what the cluster has stays"
        ));
    }
    let skipped = manifest.skipped.iter();
    warnings.extend(skipped.map(|path| format!("spec.{path} is no identifier and is skipped")));
    warnings.extend(manifest.notes.iter().cloned());
    warnings.extend(bound_instances(&mut manifest, settings));
    match Manifest::read(old) {
        Ok(before) => cannot_be(&before, &manifest, warnings),
        Err(_) if old.is_null() => {
            let missing = manifest.needs_other_data();
            warnings.extend(missing.map(|error| format!("no cluster is made: {error}")));
        }
        Err(_) => {}
    }
    Ok(())
}

/// Changes that a living cluster does not take.
fn cannot_be(before: &Manifest, after: &Manifest, warnings: &mut Vec<String>) {
    let size = |manifest: &Manifest| manifest.spec.volume.size.parse::<Quantity>().ok();
    if size(after) < size(before) {
        warnings.push("spec.volume.size: volumes do not shrink: they stay as they are".to_owned());
    }
    let (old, new) = (&before.spec.postgresql.version, &after.spec.postgresql.version);
    if old != new {
        warnings.push(format!(
            "spec.postgresql.version: the cluster stays on {old}: major upgrades are not supported yet"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(settings: &Settings, namespace: Option<&str>) -> Configuration {
        Configuration {
            settings: settings.clone(),
            namespace: namespace.map(str::to_owned),
            home: "own".into(),
            asks_teams: true,
            controller_id: String::new(),
            register_definition: true,
            workers: 1,
            listen: ([127, 0, 0, 1], 1).into(),
            notes: Vec::new(),
            said: Value::Null,
        }
    }

    #[test]
    fn a_namespace_that_is_not_watched_is_anothers() {
        let broken = object("acid-a", &json!({"users": {"Bad Name": []}}));
        let asked =
            json!({"request": {"uid": "u", "operation": "CREATE", "namespace": "other", "object": broken}});
        let allowed = |namespace| {
            let answer = review(&asked, &configured(&Settings::default(), namespace), "2026-11-28");
            answer["response"]["allowed"] == true
        };
        assert!(allowed(Some("own")) && !allowed(Some("other")) && !allowed(None));
    }

    fn object(name: &str, more: &Value) -> Value {
        let mut spec = json!({
            "teamId": "acid", "numberOfInstances": 2, "volume": {"size": "2Gi"}, "postgresql": {"version": "17"},
        });
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
    }

    fn ask(operation: &str, new: &Value, old: &Value, settings: &Settings) -> (bool, String) {
        let asked = json!({"request": {"uid": "u", "operation": operation, "object": new, "oldObject": old}});
        let answer = review(&asked, &configured(settings, None), "2026-11-28");
        assert_eq!(
            (&answer["response"]["uid"], &answer["kind"]),
            (&json!("u"), &json!("AdmissionReview"))
        );
        let allowed = answer["response"]["allowed"].as_bool().unwrap();
        (allowed, answer["response"].to_string())
    }

    #[test]
    fn what_cannot_be_acted_on_is_refused_with_its_place() {
        let settings = Settings::default();
        let (allowed, text) = ask(
            "CREATE",
            &object("acid-a", &json!({"users": {"Bad Name": []}})),
            &json!(null),
            &settings,
        );
        assert!(
            !allowed && text.contains("spec.users.Bad Name") && text.contains("422"),
            "{text}"
        );
        let (allowed, text) = ask(
            "CREATE",
            &object("acid-a", &json!({"maintenanceWindows": ["Sat:02:00-01:00"]})),
            &json!(null),
            &settings,
        );
        assert!(!allowed && text.contains("ends before it begins"), "{text}");
        assert!(ask("CREATE", &object("acid-a", &json!({})), &json!(null), &settings).0);
    }

    #[test]
    fn what_is_left_out_is_a_warning() {
        let mut settings = Settings::default();
        settings.objects.max_instances = Some(1);
        let new = object(
            "acid-a",
            &json!({
                "streams": [{"applicationId": "a", "database": "d", "tables": {}}], "postgresql": {"version": "18", "parameters": {"work_mem": "lots"}},
                "volume": {"size": "1Gi"},
            }),
        );
        let (allowed, text) = ask("UPDATE", &new, &object("acid-a", &json!({})), &settings);
        assert!(allowed);
        for part in [
            "not acted on: streams",
            "parameters.work_mem",
            "do not shrink",
            "stays on 17",
            "max_instances",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let long = object(
            "acid-a",
            &json!({"clone": {"cluster": "b", "timestamp": "2026-01-01T00:00:00+00:00"}}),
        );
        let (allowed, text) = ask("CREATE", &long, &json!(null), &settings);
        assert!(allowed && text.contains("no cluster is made"), "{text}");
    }

    #[test]
    fn a_broken_manifest_can_be_deleted_labelled_and_mended() {
        let settings = Settings::default();
        let broken = object("acid-a", &json!({"users": {"Bad Name": []}}));
        let mut labelled = broken.clone();
        labelled["metadata"]["labels"] = json!({"a": "b"});
        assert!(ask("UPDATE", &labelled, &broken, &settings).0);
        let mut going = object("acid-a", &json!({"users": {"Worse Name": []}}));
        going["metadata"]["deletionTimestamp"] = json!("2026-11-28T00:00:00Z");
        assert!(ask("UPDATE", &going, &broken, &settings).0);
        assert!(ask("UPDATE", &object("acid-a", &json!({})), &broken, &settings).0);
        assert!(ask("DELETE", &json!(null), &broken, &settings).0);
    }

    #[test]
    fn a_protected_cluster_is_not_deleted_and_anothers_is_not_looked_at() {
        let mut settings = Settings::default();
        settings.objects.delete_annotation_name_key = "delete-me".into();
        let mut cluster = object("acid-a", &json!({}));
        assert!(!ask("DELETE", &json!(null), &cluster, &settings).0);
        cluster["metadata"]["annotations"] = json!({"delete-me": "acid-a"});
        assert!(ask("DELETE", &json!(null), &cluster, &settings).0);
        cluster["metadata"]["annotations"] = json!({CONTROLLER: "other"});
        assert!(ask("DELETE", &json!(null), &cluster, &settings).0);
        cluster["spec"]["users"] = json!({"Bad Name": []});
        assert!(ask("CREATE", &cluster, &json!(null), &settings).0);
    }

    #[test]
    fn what_is_no_review_is_answered_all_the_same() {
        for asked in [json!({}), json!(null), json!([1]), json!({"request": "x"})] {
            let answer = review(&asked, &configured(&Settings::default(), None), "2026-11-28");
            assert_eq!(answer["response"]["allowed"], true);
        }
    }
}
