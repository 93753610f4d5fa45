use serde_json::{Value, json};

use super::{Api, reply::Reply, request::Request, route::Target};
use crate::{
    ApiError,
    meta::{self, is_ready},
    selector::matches_label_selector,
};

impl Api {
    /// `POST /pods/NAME/eviction`: a deletion that budgets may forbid.
    pub(super) fn evict(&self, request: &Request, target: &Target) -> Result<Reply, ApiError> {
        let eviction = request.object()?;
        // Budgets are counted and a pod is ended in one step: evictions come several at a time.
        let _one_at_a_time = self.evictions.lock();
        let pod = self.fetch(target)?;
        if !meta::is_ending(&pod) && is_ready(&pod) {
            self.within_budgets(&pod)?;
        }
        let options = &eviction["deleteOptions"];
        let delete = Request {
            method: hyper::Method::DELETE,
            path: request.path.clone(),
            query: request.query.clone(),
            headers: hyper::HeaderMap::new(),
            body: if options.is_object() {
                options.to_string().into_bytes()
            } else {
                Vec::new()
            },
        };
        self.delete(
            &delete,
            &Target {
                resource: target.resource.clone(),
                namespace: target.namespace.clone(),
                name: target.name.clone(),
                sub: None,
            },
        )?;
        let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
        Ok(Reply::json(&done).created())
    }

    /// Whether every budget that covers a pod allows one ready pod less.
    fn within_budgets(&self, pod: &Value) -> Result<(), ApiError> {
        let namespace = meta::namespace(pod);
        let pods = self.store.all("/pods", Some(namespace));
        for budget in self.store.all("policy/poddisruptionbudgets", Some(namespace)) {
            let selector = &budget["spec"]["selector"];
            if !matches_label_selector(selector, pod) {
                continue;
            }
            let covered: Vec<_> = pods
                .iter()
                .filter(|other| matches_label_selector(selector, other))
                .collect();
            let healthy = covered
                .iter()
                .filter(|other| is_ready(other) && !meta::is_ending(other))
                .count();
            let must = match (&budget["spec"]["minAvailable"], &budget["spec"]["maxUnavailable"]) {
                (Value::Null, Value::Null) => covered.len().saturating_sub(1),
                (Value::Null, most) => covered.len().saturating_sub(share(most, covered.len())),
                (least, _) => share(least, covered.len()),
            };
            if healthy <= must {
                return Err(ApiError::disrupts(meta::name(&budget), must, healthy));
            }
        }
        Ok(())
    }
}

/// A number, or a percentage of all, rounded up.
fn share(value: &Value, all: usize) -> usize {
    match value {
        Value::String(text) => {
            let percent: usize = text.trim_end_matches('%').parse().unwrap_or(0);
            (all * percent).div_ceil(100)
        }
        other => usize::try_from(other.as_u64().unwrap_or(0)).unwrap_or(usize::MAX),
    }
}
