use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use crate::meta::{self, Label};

/// Whom a change wakes: the watches of its resource, and of those with a label only the ones whose label it has. The agents of
/// a hundred clusters watch the same resources, and each renewal concerns one of them.
#[derive(Default)]
pub(super) struct Watched(Mutex<BTreeMap<String, Channels>>);

struct Channels {
    all: watch::Sender<u64>,
    by_label: BTreeMap<Label, watch::Sender<u64>>,
}

impl Default for Channels {
    fn default() -> Self {
        Channels {
            all: watch::channel(0).0,
            by_label: BTreeMap::new(),
        }
    }
}

impl Watched {
    /// A receiver of the changes of a resource; of objects that have all of `labels`, if there are any. It may be woken for
    /// others too.
    pub(super) fn subscribe(&self, resource: &str, labels: &[Label]) -> watch::Receiver<u64> {
        let mut resources = self.0.lock();
        let channels = resources.entry(resource.to_owned()).or_default();
        channels
            .by_label
            .retain(|_, channel| channel.receiver_count() > 0);
        // The label that is watched least is the most selective one, as far as can be known; of equals, the last.
        let receivers = |label: &&Label| {
            let channel = channels.by_label.get(*label);
            channel.map_or(0, watch::Sender::receiver_count)
        };
        match labels.iter().rev().min_by_key(receivers) {
            Some(label) => {
                let new = || watch::channel(0).0;
                let channel = channels.by_label.entry(label.clone()).or_insert_with(new);
                channel.subscribe()
            }
            None => channels.all.subscribe(),
        }
    }

    /// An object of the resource has changed; `versions` are what it was and what it is.
    pub(super) fn changed(&self, resource: &str, revision: u64, versions: [Option<&Value>; 2]) {
        let resources = self.0.lock();
        let Some(channels) = resources.get(resource) else {
            return;
        };
        channels.all.send_replace(revision);
        if channels.by_label.is_empty() {
            return;
        }
        let labels = versions.into_iter().flatten().filter_map(meta::labels).flatten();
        for (name, value) in labels {
            let label = (name.clone(), value.as_str().unwrap_or_default().to_owned());
            if let Some(channel) = channels.by_label.get(&label) {
                channel.send_replace(revision);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    fn label(name: &str, value: &str) -> Label {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_change_wakes_the_watches_of_its_cluster_only() {
        let watched = Watched::default();
        let of = |cluster: &str| [label("application", "spilo"), label("cluster-name", cluster)];
        let mut all = watched.subscribe("/x", &[]);
        let mut a = watched.subscribe("/x", &of("a"));
        let mut b = watched.subscribe("/x", &of("b"));
        let object = |cluster: &str| json!({"metadata": {"labels": {"application": "spilo", "cluster-name": cluster}}});
        let mut woken = || {
            [&mut all, &mut a, &mut b].map(|receiver| {
                let changed = receiver.has_changed().unwrap();
                receiver.mark_unchanged();
                changed
            })
        };
        watched.changed("/x", 1, [Some(&object("a")), Some(&object("a"))]);
        assert_eq!(woken(), [true, true, false]);
        // One that moves from a cluster to another concerns both.
        watched.changed("/x", 2, [Some(&object("a")), Some(&object("b"))]);
        assert_eq!(woken(), [true, true, true]);
        watched.changed("/y", 3, [None, Some(&object("a"))]);
        assert_eq!(woken(), [false, false, false]);
        watched.changed("/x", 4, [Some(&object("b")), None]);
        assert_eq!(woken(), [true, false, true]);
    }
}
