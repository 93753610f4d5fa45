use std::collections::BTreeMap;

use howdah_manifest::Manifest;
use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{base_labels, metadata};
use crate::{Names, Settings};

const PORT: i32 = 5432;

/// What tells the two Services apart.
struct Side<'a> {
    role: &'a str,
    annotations: &'a BTreeMap<String, String>,
    load_balancer: bool,
    node_port: Option<Option<i32>>,
    host: String,
}

/// The primary's Service.
pub(super) fn primary(manifest: &Manifest, settings: &Settings) -> Service {
    let spec = &manifest.spec;
    let side = Side {
        role: "master",
        annotations: &spec.master_service_annotations,
        load_balancer: spec
            .enable_master_load_balancer
            .unwrap_or(settings.enable_master_load_balancer),
        node_port: (spec.enable_master_node_port == Some(true)).then_some(spec.master_node_port),
        host: hosts(manifest, settings, ""),
    };
    service(manifest, settings, &Names(&manifest.name).cluster(), &side)
}

/// The replicas' Service.
pub(super) fn replica(manifest: &Manifest, settings: &Settings) -> Service {
    let spec = &manifest.spec;
    let side = Side {
        role: "replica",
        annotations: &spec.replica_service_annotations,
        load_balancer: spec
            .enable_replica_load_balancer
            .unwrap_or(settings.enable_replica_load_balancer),
        node_port: (spec.enable_replica_node_port == Some(true)).then_some(spec.replica_node_port),
        host: hosts(manifest, settings, "-repl"),
    };
    service(
        manifest,
        settings,
        &Names(&manifest.name).replica_service(),
        &side,
    )
}

/// The DNS names for a load balancer; the second has the team in it, for clusters named after their team.
fn hosts(manifest: &Manifest, settings: &Settings, suffix: &str) -> String {
    let (name, zone) = (&manifest.name, &settings.db_hosted_zone);
    let host = format!("{name}{suffix}.{}.{zone}", manifest.namespace);
    match name.strip_prefix(&format!("{}-", manifest.spec.team_id.to_lowercase())) {
        Some(rest) => format!(
            "{host},{rest}{suffix}.{}.{zone}",
            manifest.spec.team_id.to_lowercase()
        ),
        None => host,
    }
}

fn service(manifest: &Manifest, settings: &Settings, name: &str, side: &Side<'_>) -> Service {
    let mut annotations = manifest.spec.service_annotations.clone();
    annotations.extend(side.annotations.clone());
    let mut selector = base_labels(&manifest.name, settings);
    selector.insert(settings.pod_role_label.clone(), side.role.into());
    let mut spec = ServiceSpec {
        ports: Some(vec![ServicePort {
            name: Some("postgresql".into()),
            port: PORT,
            target_port: Some(IntOrString::Int(PORT)),
            protocol: Some("TCP".into()),
            ..ServicePort::default()
        }]),
        selector: Some(selector),
        type_: Some("ClusterIP".into()),
        ..ServiceSpec::default()
    };
    if let Some(node_port) = side.node_port {
        spec.type_ = Some("NodePort".into());
        if let Some(ports) = &mut spec.ports {
            ports[0].node_port = node_port.filter(|port| *port != 0);
        }
    } else if side.load_balancer {
        spec.type_ = Some("LoadBalancer".into());
        let ranges = manifest.spec.allowed_source_ranges.clone().unwrap_or_default();
        spec.load_balancer_source_ranges = Some(if ranges.is_empty() {
            vec!["127.0.0.1/32".into()]
        } else {
            ranges
        });
        spec.external_traffic_policy = Some(settings.external_traffic_policy.clone());
        annotations.insert(
            "external-dns.alpha.kubernetes.io/hostname".into(),
            side.host.clone(),
        );
    }
    let mut metadata = metadata(manifest, settings, name);
    // The role tells which Service it is; the selector says it as well, but labels can be searched for.
    if let Some(labels) = &mut metadata.labels {
        labels.insert(settings.pod_role_label.clone(), side.role.into());
    }
    metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    Service {
        metadata,
        spec: Some(spec),
        status: None,
    }
}
