//! Where a new cluster's data comes from, where names of Services are not resolved: the sandbox has no DNS.

use howdah_blueprint::Names;
use howdah_manifest::Manifest;

use crate::{context::Context, objects::ClusterKey};

/// A cluster that runs by itself does not begin to follow an archive: the section is named, and counts for nothing else.
pub(crate) fn forget_archive(context: &Context, key: &ClusterKey, manifest: &mut Manifest) {
    let is_fed = |standby: &howdah_manifest::StandbyOf| standby.standby_host.is_empty();
    if !manifest.spec.standby.as_ref().is_some_and(is_fed) {
        return;
    }
    let seen = context.seen(key);
    let runs_alone = seen.view.config.value.as_ref().is_some_and(|config| {
        !config
            .get("standby_cluster")
            .is_some_and(serde_json::Value::is_object)
    });
    if runs_alone {
        manifest.spec.standby = None;
        manifest.notes.push(
            "spec.standby: a running cluster does not begin to follow an archive; name 'standby_host', or delete the cluster and make it \
             again as a follower"
                .to_owned(),
        );
    }
}

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
