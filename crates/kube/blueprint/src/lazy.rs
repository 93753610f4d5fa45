//! Lazy updates of the image: the template has the newer one, and pods take it when they start for another reason.

use k8s_openapi::api::apps::v1::StatefulSet;

use crate::objects::POSTGRES_CONTAINER;

/// The revisions of the pod template that differ from the newest one in the image alone, with commas between them.
pub const LAZY_ANNOTATION: &str = "howdah.dev/lazy-revisions";

/// So many are remembered: pods that are older than these updates are replaced.
const MOST: usize = 20;

/// The revisions whose pods stay as they are, the oldest first.
#[must_use]
pub fn lazy_revisions(set: &StatefulSet) -> Vec<String> {
    let annotations = set.metadata.annotations.as_ref();
    let text = annotations.and_then(|all| all.get(LAZY_ANNOTATION));
    let parts = text.map(String::as_str).unwrap_or_default().split(',');
    parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The image of PostgreSQL's container.
#[must_use]
pub fn image_of(set: &StatefulSet) -> Option<&str> {
    let pod = set.spec.as_ref()?.template.spec.as_ref()?;
    let container = pod
        .containers
        .iter()
        .find(|container| container.name == POSTGRES_CONTAINER)?;
    container.image.as_deref()
}

/// Notes in a StatefulSet that is about to be applied which pods stay: those of the newest revision of the live one, and those that
/// stayed before. `None`: the revision is not known yet.
#[must_use]
pub fn keep_pods(mut wanted: StatefulSet, live: &StatefulSet) -> Option<StatefulSet> {
    let status = live.status.as_ref()?;
    if status.observed_generation != live.metadata.generation {
        return None;
    }
    let newest = status.update_revision.clone()?;
    let mut kept: Vec<String> = lazy_revisions(live)
        .into_iter()
        .filter(|revision| *revision != newest)
        .collect();
    kept.push(newest);
    kept.drain(..kept.len().saturating_sub(MOST));
    note(&mut wanted, &kept);
    Some(wanted)
}

/// Hands the note on to a StatefulSet that changes nothing else.
pub fn keep_note(wanted: &mut StatefulSet, live: &StatefulSet) {
    let kept = lazy_revisions(live);
    if !kept.is_empty() {
        note(wanted, &kept);
    }
}

fn note(wanted: &mut StatefulSet, revisions: &[String]) {
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    annotations.insert(LAZY_ANNOTATION.to_owned(), revisions.join(","));
}

/// The same StatefulSet with another image of PostgreSQL's container.
#[must_use]
pub fn with_image(mut set: StatefulSet, image: &str) -> StatefulSet {
    let pod = set.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
    let containers = pod.into_iter().flat_map(|pod| &mut pod.containers);
    for container in containers.filter(|container| container.name == POSTGRES_CONTAINER) {
        container.image = Some(image.to_owned());
    }
    set
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(image: &str, note: &str, revision: &str, observed: i64) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "a", "generation": 3, "annotations": {LAZY_ANNOTATION: note}},
            "spec": {"selector": {}, "serviceName": "a", "template": {"spec": {"containers": [
                {"name": "sidecar", "image": "s:1"}, {"name": "postgres", "image": image},
            ]}}},
            "status": {"replicas": 1, "updateRevision": revision, "observedGeneration": observed},
        }))
        .unwrap()
    }

    #[test]
    fn pods_of_the_revisions_before_an_update_stay() {
        let live = set("a:1", "a-1,a-2", "a-3", 3);
        let wanted = keep_pods(set("a:2", "", "", 0), &live).unwrap();
        assert_eq!(lazy_revisions(&wanted), ["a-1", "a-2", "a-3"]);
        assert!(
            keep_pods(set("a:2", "", "", 0), &set("a:1", "", "a-3", 2)).is_none(),
            "not observed"
        );
        assert_eq!(image_of(&with_image(wanted, "a:9")), Some("a:9"));
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let many: Vec<String> = (0..40).map(|n| format!("a-{n}")).collect();
        let wanted = keep_pods(set("a:2", "", "", 0), &set("a:1", &many.join(","), "a-new", 3)).unwrap();
        let kept = lazy_revisions(&wanted);
        assert_eq!(kept.len(), MOST);
        assert_eq!(
            (kept.first().unwrap().as_str(), kept.last().unwrap().as_str()),
            ("a-21", "a-new")
        );
    }
}
