use std::collections::BTreeMap;

use howdah_yaml::{Node, Value};
use serde_json::Map;

use crate::{Place, Source, source::options};

/// The places of all values, by their paths with dots. The source that is merged last counts, as it does for the value.
#[derive(Clone, Debug, Default)]
pub struct Places(BTreeMap<String, Place>);

/// For mappings that stand in no file.
pub(crate) static NOWHERE: Places = Places(BTreeMap::new());

impl Places {
    /// Of files in the order in which they are merged, and of the environment over them.
    #[must_use]
    pub fn of(sources: &[Source], environment: &Map<String, serde_json::Value>) -> Self {
        let mut places = BTreeMap::new();
        for source in sources {
            let place = |line| match sources {
                [_] => Place::Line(line),
                _ => Place::File(source.file.clone(), line),
            };
            if let Some(root) = howdah_yaml::document(&source.text, options()) {
                note(&root, "", &place, &mut places);
            }
        }
        note_variables(environment, "", &mut places);
        Places(places)
    }

    /// The place of a key, or of the section that it is missing from.
    #[must_use]
    pub fn nearest(&self, path: &str) -> Option<&Place> {
        let mut path = path;
        loop {
            if let Some(place) = self.0.get(path) {
                return Some(place);
            }
            path = path.rsplit_once('.')?.0;
        }
    }
}

fn join(above: &str, key: &str) -> String {
    if above.is_empty() {
        key.to_owned()
    } else {
        format!("{above}.{key}")
    }
}

fn note(node: &Node, above: &str, place: &impl Fn(u64) -> Place, places: &mut BTreeMap<String, Place>) {
    for (key, line, value) in node.entries() {
        let path = join(above, key);
        if matches!(value.value, Value::Map(_)) {
            note(value, &path, place, places);
        }
        places.insert(path, place(*line));
    }
}

fn note_variables(map: &Map<String, serde_json::Value>, above: &str, places: &mut BTreeMap<String, Place>) {
    for (key, value) in map {
        let path = join(above, key);
        match value {
            serde_json::Value::Object(map) => note_variables(map, &path, places),
            _ => {
                places.insert(path, Place::Environment);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn source(file: &str, text: &str) -> Source {
        Source {
            file: file.into(),
            text: text.into(),
        }
    }

    fn shown(places: &Places, path: &str) -> String {
        places.nearest(path).map(ToString::to_string).unwrap_or_default()
    }

    #[test]
    fn keys_are_found_in_block_and_in_flow_style() {
        let text = "name: a\npostgresql:\n  listen: x\n  authentication: {superuser: {username: u,\n    password: p}}\n\
                    restapi:\n  listen: y\n";
        let places = Places::of(&[source("a.yml", text)], &Map::new());
        assert_eq!(
            shown(&places, "postgresql.authentication.superuser.password"),
            "line 5"
        );
        assert_eq!(shown(&places, "restapi.listen"), "line 7");
        // A missing key is reported at the section that it is missing from.
        assert_eq!(shown(&places, "postgresql.data_dir"), "line 2");
        assert_eq!(shown(&places, "etcd3"), "");
    }

    #[test]
    fn of_several_files_the_last_counts_and_the_environment_over_them() {
        let sources = [
            source("a.yml", "name: a\nscope: s\n"),
            source("b.yml", "\nname: b\n"),
        ];
        let environment = serde_json::json!({"scope": "t", "restapi": {"listen": "x"}});
        let places = Places::of(&sources, environment.as_object().unwrap());
        assert_eq!(shown(&places, "name"), "b.yml, line 2");
        assert_eq!(shown(&places, "scope"), "from the environment");
        assert_eq!(shown(&places, "restapi.listen"), "from the environment");
    }
}
