//! Where a new cluster's data comes from, where names of Services are not resolved: the sandbox has no DNS.

use howdah_blueprint::Names;
use howdah_manifest::Manifest;

use crate::{context::Context, objects::ClusterKey};

/// Writes the addresses of Services in the place of their names. A name that is no Service's may be a host's, and stays.
pub(crate) fn resolve(context: &Context, manifest: &mut Manifest) {
    let namespace = manifest.namespace.clone();
    if let Some(clone) = &mut manifest.spec.clone {
        clone.address = address(context, &namespace, &clone.cluster);
    }
    if let Some(standby) = &mut manifest.spec.standby
        && let Some(address) = address(context, &namespace, &standby.standby_host)
    {
        standby.standby_host = address;
    }
}

/// The address of a Service of a cluster: `NAME`, `NAME.NAMESPACE`, or that with `.svc` and the domain behind it.
fn address(context: &Context, own: &str, host: &str) -> Option<String> {
    let mut parts = host.split('.');
    let service = parts.next()?;
    let namespace = parts.next().unwrap_or(own);
    if parts.next().is_some_and(|part| part != "svc") {
        return None;
    }
    let of = |cluster: &str| {
        let key = ClusterKey {
            namespace: namespace.to_owned(),
            name: cluster.to_owned(),
        };
        let seen = context.seen(&key);
        seen.services.get(service).filter(|ip| !ip.is_empty()).cloned()
    };
    of(service).or_else(|| {
        let cluster = service.strip_suffix("-repl")?;
        (Names(cluster).replica_service() == service).then(|| of(cluster))?
    })
}
