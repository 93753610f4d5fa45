use std::sync::Arc;

use super::Api;
use crate::{
    ApiError, meta,
    resources::{DEFINITIONS, Resource, built_in},
};

impl Api {
    /// All resources, built-in and custom. Read again when a definition has changed.
    pub(crate) fn resources(&self) -> Arc<Vec<Resource>> {
        let definitions = self.store.all(DEFINITIONS, None);
        // Revisions only grow, and a deletion leaves fewer: together they tell one state from another.
        let newest = definitions.iter().map(|d| meta::revision(d)).max().unwrap_or(0);
        let state = newest * 1000 + definitions.len() as u64;
        let mut cached = self.catalogue.lock();
        if let Some((known, resources)) = cached.as_ref()
            && *known == state
        {
            return Arc::clone(resources);
        }
        let mut resources = built_in();
        for definition in &definitions {
            if !meta::is_ending(definition) {
                resources.extend(Resource::of_definition(definition));
            }
        }
        let resources = Arc::new(resources);
        *cached = Some((state, Arc::clone(&resources)));
        resources
    }

    pub(crate) fn resource(&self, group: &str, version: &str, plural: &str) -> Result<Resource, ApiError> {
        let all = self.resources();
        let found = all
            .iter()
            .find(|r| r.group == group && r.version == version && r.plural == plural);
        found.cloned().ok_or_else(|| {
            let mut error = ApiError::no_such_path(&format!("{group}/{version}/{plural}"));
            error.message = "the server could not find the requested resource".into();
            error
        })
    }
}
